"""Derived features: SQL expressions over features of the same request, the same offline and online."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest
from tests.shop import at, shops_group, spend_group

import grange as gr
from grange.errors import DefinitionError, NameCollisionError

BASKET = gr.RequestSource("basket", schema={"basket": "float64"})


def view(**derived: str) -> gr.FeatureView:
    return gr.FeatureView(
        "model",
        features=["spend", "shops:country"],
        requests=[BASKET],
        derived=derived or {"per_visit": "amount / NULLIF(visits, 0)", "twice": "per_visit * 2 + basket"},
    )


@pytest.fixture
def loaded(store: gr.FeatureStore) -> gr.FeatureStore:
    store.apply([spend_group(defaults={"amount": 0.0}), shops_group(), view()])
    store.materialize()
    return store


def served(store: gr.FeatureStore, features: Any = "model", **how: Any) -> list[dict[str, Any]]:
    rows = [{"user_id": user, "shop_id": 1, "basket": 1.5} for user in ("u1", "u2", "nobody")]
    return store.get_online_features(features, rows, now=at(20), **how).to_dicts()


def trained(store: gr.FeatureStore, features: Any = "model", **how: Any) -> list[dict[str, Any]]:
    spine = pl.DataFrame(
        {"user_id": ["u1", "u2", "nobody"], "shop_id": [1, 1, 1], "basket": [1.5] * 3, "event_time": [at(20)] * 3}
    )
    return store.get_historical_features(features, spine, **how).to_polars().drop("event_time").to_dicts()


def test_they_are_the_same_offline_and_online(loaded: gr.FeatureStore) -> None:
    assert served(loaded) == trained(loaded)
    first, second, nobody = served(loaded)
    assert (first["per_visit"], first["twice"]) == (0.0, 1.5)  # the default of a null amount, divided by 3 visits
    assert (second["per_visit"], second["twice"]) == (None, None)
    assert nobody["twice"] is None


@pytest.mark.parametrize("engine", ["reference", "polars", "duckdb"])
def test_every_engine(loaded: gr.FeatureStore, engine: str) -> None:
    assert trained(loaded, engine=engine) == served(loaded)


def test_full_names_do_not_change_expressions(loaded: gr.FeatureStore) -> None:
    assert served(loaded, full_feature_names=True)[0]["twice"] == 1.5
    assert trained(loaded, full_feature_names=True) == served(loaded, full_feature_names=True)


def test_a_view_takes_over_those_of_the_views_in_it(loaded: gr.FeatureStore) -> None:
    outer = gr.FeatureView("outer", features=["model"], derived={"thrice": "twice * 1.5"})
    loaded.apply([outer])
    assert served(loaded, "outer")[0]["thrice"] == 2.25
    assert trained(loaded, "outer") == served(loaded, "outer")
    assert served(loaded, ["model", "spend:visits"]) == served(loaded)


def test_statuses_and_columns(loaded: gr.FeatureStore) -> None:
    rows = [{"user_id": "u1", "shop_id": 1, "basket": 1.5}, {"user_id": "u2", "shop_id": 1, "basket": None}]
    found = loaded.get_online_features("model", rows, now=at(20))
    assert [row["twice"] for row in found.statuses] == ["PRESENT", "NULL"]
    assert found.column_names[-2:] == ("per_visit", "twice")
    assert found.to_arrow().column("twice").to_pylist() == [1.5, None]
    assert found.event_times[0]["amount"] == at(9)


def test_explain_shows_them(loaded: gr.FeatureStore) -> None:
    shown = "per_visit = amount / NULLIF(visits, 0)"
    assert shown in loaded.explain_online("model")
    spine = pl.DataFrame({"user_id": ["u1"], "shop_id": [1], "basket": [1.5], "event_time": [at(20)]})
    assert shown in loaded.get_historical_features("model", spine).explain()


def test_a_spine_column_of_their_name_is_refused(loaded: gr.FeatureStore) -> None:
    spine = pl.DataFrame({"user_id": ["u1"], "shop_id": [1], "basket": [1.5], "event_time": [at(20)], "twice": [1]})
    with pytest.raises(NameCollisionError, match="twice"):
        loaded.get_historical_features("model", spine)


@pytest.mark.parametrize(
    ("derived", "error", "says"),
    [
        ({"x": "amuont * 2"}, DefinitionError, "amount"),
        ({"x": "amount * country"}, DefinitionError, "country"),
        ({"amount": "visits * 2"}, NameCollisionError, "'amount'"),
        ({"user_id": "visits * 2"}, NameCollisionError, "'user_id'"),
        ({"basket": "visits * 2"}, NameCollisionError, "'basket'"),
        ({"x": "y + 1", "y": "visits"}, DefinitionError, "y"),
    ],
)
def test_what_contradicts_is_refused_when_it_is_applied(
    store: gr.FeatureStore, derived: dict[str, str], error: type[Exception], says: str
) -> None:
    store.apply([spend_group(), shops_group()])
    with pytest.raises(error, match=says):
        store.apply([view(**derived)])


@pytest.mark.parametrize("text", ["now()", "sum(amount)", "(SELECT 1)", "amount +", "random()", "row_number() OVER ()"])
def test_what_is_no_expression_of_one_row_is_refused_at_once(text: str) -> None:
    with pytest.raises(DefinitionError):
        view(x=text)


def test_labels_are_not_for_expressions(store: gr.FeatureStore) -> None:
    store.apply([spend_group()])
    peeking = gr.FeatureView("v", features=["spend:visits"], labels=["spend:amount"], derived={"x": "amount * 2"})
    with pytest.raises(DefinitionError, match="amount"):
        store.apply([peeking])


def test_a_view_that_needs_exactness_refuses_boundaries(store: gr.FeatureStore) -> None:
    hourly = spend_group(aggregations=[gr.Rolling({"amount": "sum"}, "1d", every="1h")])
    with pytest.raises(DefinitionError, match="is exact, and spend:amount__sum__1d is the value of the last boundary"):
        store.apply([hourly, gr.FeatureView("v", features=["spend"], exact=True)])
    store.apply([spend_group(aggregations=[gr.Rolling({"amount": "sum"}, "1d")])])
    store.apply([gr.FeatureView("v", features=["spend"], exact=True)])


def test_they_survive_the_registry(loaded: gr.FeatureStore, tmp_path: Path) -> None:
    with gr.FeatureStore(loaded.project) as again:
        assert dict(again.catalog.view("model").derived)["twice"].text == "per_visit * 2 + basket"
