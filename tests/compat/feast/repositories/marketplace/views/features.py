import datetime
import math

import feast
from entities import buyer, place
from feast import types as ft
from sources import buyers, places

RATES = ["crime", "density"]
LIMIT = 100.0
BASE = 10

buyer_stats = feast.FeatureView(
    name="buyer_stats",
    entities=[buyer],
    ttl=datetime.timedelta(hours=36, minutes=30),
    schema=[
        feast.Field(name="buyer_id", dtype=ft.String),
        feast.Field(name="spent", dtype=ft.Float64),
        feast.Field(name="orders", dtype=ft.Int64),
    ],
    source=buyers,
    online=False,
    description="What a buyer spent",
)
place_stats = feast.FeatureView(
    name="place_stats",
    entities=[place],
    ttl=datetime.timedelta(0),
    schema=[feast.Field(name=rate, dtype=ft.Float32) for rate in RATES],
    source=places,
)


def capped(value):
    """Not above the limit."""
    return None if value is None else min(value, LIMIT)


@feast.on_demand_feature_view(
    sources=[buyer_stats],
    schema=[feast.Field(name="spent_log", dtype=ft.Float64), feast.Field(name="spent_capped", dtype=ft.Float64)],
    mode="python",
)
def spending(inputs):
    # base of the logarithm: BASE
    spent = inputs["spent"]
    return {
        "spent_log": [None if each is None else math.log(each, BASE) for each in spent],
        "spent_capped": [capped(each) for each in spent],
    }


@feast.on_demand_feature_view(
    sources=[buyer_stats[["spent"]], place_stats],
    schema=[feast.Field(name="risk", dtype=ft.Float64)],
    mode="python",
    singleton=True,
)
def risk(inputs):
    return {"risk": None if inputs["spent"] is None else inputs["spent"] * inputs["crime"]}


checkout = feast.FeatureService(
    name="checkout", features=[buyer_stats, spending[["spent_log"]], risk], owner="checkout", tags={"tier": "gold"}
)
trip = feast.FeatureService(
    name="trip",
    features=[
        place_stats[["crime"]].with_name("origin").with_join_key_map({"place_id": "origin_id"}),
        place_stats.with_name("destination").with_join_key_map({"place_id": "destination_id"}),
    ],
)
