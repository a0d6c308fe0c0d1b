"""A small shop with everything that lineage can meet: SQL and Python, windows, derived groups, views in views."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import polars as pl

import grange as gr
from grange.definitions.catalog import Catalog
from grange.lineage import Facts, Lineage, lineage_of
from grange.ports.registry import Run

NOW = dt.datetime(2026, 3, 1, 12, tzinfo=dt.UTC)
ROOT = Path("/project")

user = gr.Entity("user", join_keys=["user_id"])
payments_source = gr.FileSource("data/payments.parquet", event_time="at", event_id="id", retracted="gone")
events_source = gr.PushSource(
    "events", event_time="at", schema={"user_id": "string", "at": "datetime", "page": "string"}
)

headroom = gr.Transformation(
    "headroom", sql={"headroom": "credit - total", "twice": "headroom * 2"}, requests={"total": "float64"}
)


@gr.transformation(outputs={"older": "float64"})
def older(age: float) -> float:
    return age + 1


def last_page(df: pl.DataFrame) -> pl.DataFrame:
    return df.with_columns(seen=pl.lit(1))


payments = gr.FeatureGroup(
    "payments",
    entities=user,
    source=payments_source,
    transform="""SELECT user_id, "at", id, gone, amount - fee AS net, country FROM source WHERE status = 'paid'""",
    schema={
        "user_id": "string",
        "at": "datetime",
        "id": "string",
        "gone": "boolean",
        "net": "float64",
        "country": "string",
    },
    aggregations=[
        gr.Rolling({"net": "sum"}, windows="7d"),
        gr.Rolling({"*": "count"}, windows="7d", filter="country <> 'FR'", name="abroad"),
        gr.Calendar(["hour"]),
    ],
    owner="payments",
    description="What was paid.",
)
profile = gr.FeatureGroup(
    "profile",
    entities=user,
    source=gr.FileSource("data/profile.csv", event_time="at", name="crm", schema={"age": "int64"}),
    schema={"user_id": "string", "at": "datetime", "age": "int64", "credit": "float64"},
    on_demand=[headroom],
)
pages = gr.FeatureGroup(
    "pages",
    entities=user,
    source=events_source,
    transform=last_page,
    schema={"user_id": "string", "at": "datetime", "page": "string", "seen": "int64"},
)
both = gr.FeatureGroup(
    "both",
    entities=user,
    source=gr.DerivedSource(["payments:net__sum__7d", gr.select("profile", "age", prefix="p_")], filter="p_age > 17"),
    schema={"user_id": "string", "event_time": "datetime", "net__sum__7d": "float64", "p_age": "int64"},
)
people = gr.FeatureView("people", features=["profile:age", "profile:headroom"], derived={"decade": "age // 10"})
churn = gr.FeatureView(
    "churn",
    features=["people", gr.select("payments@1.0.0", prefix="x_"), "pages:page"],
    labels=["both:p_age", "churned"],
    filter="decade > 1",
    on_demand=[older],
    derived={"rate": "x_net__sum__7d / NULLIF(older, 0)"},
    transformations=[
        gr.Step("impute", ("age",)),
        gr.Step("standard_scaler", ("age", "rate")),
        gr.Step("one_hot_encoder", ("page",)),
    ],
)
CATALOG = Catalog.of([payments, profile, pages, both, people, churn])
RUNS = (
    Run("payments", "1.1.0", "materialize", dt.datetime(2026, 2, 1, tzinfo=dt.UTC), NOW, 100, {}),
    Run("pages", "", "push", NOW, NOW, 3, {}),
)
DATASET: dict[str, Any] = {
    "view": "churn",
    "version": 3,
    "pins": [
        {"group": "payments", "version": "1.0.0", "pushed_until": None},
        {"group": "profile", "version": "2.0.1", "pushed_until": 7},
        {"group": "pages", "version": "0.0.0", "pushed_until": 9},
    ],
    "code_hashes": {},
    "spine": {"type": "file", "path": "labels.csv"},
}
EXPORT: dict[str, Any] = {
    "what": "group",
    "name": "profile",
    "version": None,
    "destination": "s3://lake/out/profile.parquet",
    "status": "succeeded",
}
FACTS = Facts(CATALOG, runs=RUNS, training_datasets=(DATASET,), exports=(EXPORT,))


def ask(name: str, facts: Facts = FACTS, **options: Any) -> Lineage:
    return lineage_of(facts, name, project="shop", root=ROOT, now=NOW, **options)
