"""What a plan prints of definitions: what they hold, and what differs, in words."""

from __future__ import annotations

from typing import Any

import pytest

import grange as gr
from grange.definitions.diff import compare, describe
from grange.definitions.serialize import to_data
from grange.types.names import EVENT_TIME

user = gr.Entity("user", join_keys=["user_id"])
source = gr.FileSource("spend.parquet", event_time="at")


def group(entities: Any = user, **schema: str) -> gr.FeatureGroup:
    columns = {"user_id": "string", "at": "datetime", "amount": "float64", **schema}
    return gr.FeatureGroup("spend", entities=entities, source=source, schema=columns)


def test_a_view_is_described_with_everything_that_it_has() -> None:
    older = gr.Transformation("older", sql={"older": "age + 1"})
    view = gr.FeatureView(
        "churn",
        features=["spend:amount", "profile"],
        labels=["churned", gr.Label("spend:amount__sum__7d", after="3d")],
        filter="country = 'FR'",
        on_demand=[older],
        derived={"rate": "amount / older", "twice": "rate * 2"},
        transformations=[gr.standard_scaler("amount"), gr.one_hot_encoder("country")],
        training_helpers=["note"],
        inference_helpers=["age"],
    )
    assert describe("feature_view", to_data(view)) == (
        "features: spend:amount, profile",
        "labels: churned, spend:amount__sum__7d after 3d",
        "filter: country = 'FR'",
        "on-demand: older(age)",
        "derived: rate = amount / older, twice = rate * 2",
        "transformations: standard_scaler(amount), one_hot_encoder(country)",
        "training helpers: note",
        "inference helpers: age",
    )


def test_a_view_of_features_alone_is_one_line() -> None:
    assert describe("feature_view", to_data(gr.FeatureView("v", features=["spend"]))) == ("features: spend",)


@pytest.mark.parametrize(
    "then, now, lines",
    [
        ([user], [gr.Entity("account", join_keys={"account_id": "int64"})],
         ("- entity user (user_id)", "+ entity account (account_id int64)")),
        ([user], [gr.Entity("user", join_keys={"user_id": "string"})],
         ("~ entity user (user_id) -> user (user_id string)",)),
        ([user], [gr.Entity("user", join_keys=["user_id"], description="who pays")],
         ("entity user: other description",)),
    ],
)  # fmt: skip
def test_entities_differ_in_words(then: list[gr.Entity], now: list[gr.Entity], lines: tuple[str, ...]) -> None:
    old, new = (to_data(group(entities)) for entities in (then, now))
    assert compare(old, new) == lines


def test_the_order_of_entities_is_a_difference() -> None:
    shop = gr.Entity("shop", join_keys=["shop_id"])
    old, new = (to_data(group(entities, shop_id="string")) for entities in ([user, shop], [shop, user]))
    assert "entities: other order" in compare(old, new)


def test_grange_s_own_column_of_times_is_not_shown() -> None:
    timeless = {"user_id": "string", "amount": "float64", EVENT_TIME: "datetime"}
    data = to_data(group()) | {"schema": [{"name": name, "dtype": dtype} for name, dtype in timeless.items()]}
    assert describe("feature_group", data) == ("keys: user_id", "columns: amount float64")
    assert compare(data, to_data(group())) == ("+ column at datetime",)
