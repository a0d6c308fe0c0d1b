"""On-demand features: made when they are asked for, of features and of what the request brings, the same everywhere."""

from __future__ import annotations

import datetime as dt
import decimal
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.shop import at, shops_group, spend_group

import grange as gr
from grange.errors import (
    DefinitionError,
    MissingColumnError,
    NameCollisionError,
    TransformError,
    UnknownFeatureError,
)

ENGINES = ["polars", "duckdb", "reference"]


@gr.transformation(outputs="float64", requests={"basket": "float64"})
def share(amount: float, basket: float) -> float:
    """How much of the basket the last amount is."""
    return amount / basket if basket else math.nan


@gr.transformation(outputs={"low": "float64", "high": "float64"})
def bounds(amount: np.ndarray, visits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return amount - visits, amount + visits


@gr.transformation(outputs="string", nulls="pass")
def known(visits: int | None) -> str:
    return "unknown" if visits is None else f"{visits} visits"


@gr.transformation(outputs="float64")
def doubled(value: pl.Series) -> pl.Series:
    return value * 2


ratio = gr.Transformation("ratio", sql={"per_visit": "amount / NULLIF(visits, 0)", "cents": "per_visit * 100"})
BASKET = gr.RequestSource("basket", schema={"basket": "float64"})

UNIT = {"user_id": "u1", "basket": 4.0}


def spine(**columns: Any) -> pl.DataFrame:
    users = ["u1", "u1", "u1", "u2", "nobody"]
    times = [at(1), at(5), at(20), at(9), at(9)]
    whole = {"user_id": users, "event_time": times, "basket": [4.0, 8.0, None, 3.0, 2.0], **columns}
    return pl.DataFrame(whole)


def joined(
    store: gr.FeatureStore, features: Any, asked: pl.DataFrame | None = None, **how: Any
) -> list[dict[str, Any]]:
    found = store.get_historical_features(features, spine() if asked is None else asked, **how)
    return found.to_polars().drop("event_time").to_dicts()


def served(store: gr.FeatureStore, features: Any, rows: list[dict[str, Any]], **how: Any) -> list[dict[str, Any]]:
    return store.get_online_features(features, rows, now=at(25), **how).to_dicts()


@pytest.fixture
def loaded(store: gr.FeatureStore) -> gr.FeatureStore:
    store.apply([spend_group(on_demand=[share, bounds, ratio])])
    store.materialize()
    return store


def value(user: str, day: int, column: str) -> Any:
    """What a user's newest row had, in plain Python."""
    rows = {
        "u1": [(1, 10.0, 1), (5, 20.0, 2), (9, None, 3)],
        "u2": [(5, 7.5, 1), (9, 9.0, None)],
    }.get(user, [])
    seen = [row for row in rows if row[0] <= day]
    return None if not seen else seen[-1][1 if column == "amount" else 2]


class TestOfGroups:
    @pytest.mark.parametrize("engine", ENGINES)
    def test_a_whole_group_has_them(self, loaded: gr.FeatureStore, engine: str) -> None:
        found = joined(loaded, "spend", engine=engine)
        asked = spine()
        for row, day in zip(found, [moment.day for moment in asked["event_time"]], strict=True):
            amount, visits = value(row["user_id"], day, "amount"), value(row["user_id"], day, "visits")
            both = amount is not None and visits is not None
            assert row == {
                "user_id": row["user_id"],
                "basket": row["basket"],
                "amount": amount,
                "visits": visits,
                "share": None if amount is None or row["basket"] is None else amount / row["basket"],
                "low": amount - visits if both else None,
                "high": amount + visits if both else None,
                "per_visit": amount / visits if both else None,
                "cents": amount / visits * 100 if both else None,
            }

    def test_the_same_online(self, loaded: gr.FeatureStore) -> None:
        rows = [{"user_id": who, "basket": basket} for who in ("u1", "u2", "nobody") for basket in (2.0, None)]
        asked = pl.DataFrame(rows).with_columns(event_time=pl.lit(at(25)))
        assert served(loaded, "spend", rows) == joined(loaded, "spend", asked)

    def test_one_alone_brings_what_it_is_made_of_and_nothing_more(self, loaded: gr.FeatureStore) -> None:
        assert joined(loaded, ["spend:low"])[1] == {"user_id": "u1", "basket": 8.0, "low": 18.0}
        found = loaded.get_online_features(["spend:share"], [UNIT], now=at(8))
        assert found.column_names == ("user_id", "basket", "share")
        assert found.to_dicts() == [{**UNIT, "share": None}]
        assert found.to_arrow().column_names == ["user_id", "basket", "share"]
        assert found.statuses == [{"share": "NULL"}] and found.event_times == [{}]
        assert served(loaded, ["spend:low"], [{"user_id": "u2"}]) == [{"user_id": "u2", "low": None}]

    def test_the_second_output_alone(self, loaded: gr.FeatureStore) -> None:
        """What it is made of is an output too, which nobody asked for."""
        assert joined(loaded, ["spend:cents"])[1] == {"user_id": "u1", "basket": 8.0, "cents": 1000.0}

    def test_names_and_prefixes(self, loaded: gr.FeatureStore) -> None:
        chosen = gr.select("spend", "low", "cents", "amount", prefix="s_", rename={"low": "least"})
        row = joined(loaded, [chosen, "spend:high"])[1]
        assert row == {"user_id": "u1", "basket": 8.0, "s_amount": 20.0, "least": 18.0, "s_cents": 1000.0, "high": 22.0}
        full = joined(loaded, ["spend:low", "spend:amount"], full_feature_names=True)[1]
        assert {"spend__low": 18.0, "spend__amount": 20.0}.items() <= full.items()
        online = loaded.get_online_features([chosen], [{"user_id": "u2"}], now=at(8))
        assert online.column_names == ("user_id", "s_amount", "least", "s_cents")

    @pytest.mark.parametrize("engine", ENGINES)
    def test_one_group_by_two_keys_and_two_times(self, loaded: gr.FeatureStore, engine: str) -> None:
        features = [
            "spend:low",
            gr.select("spend", "low", prefix="friend_", on={"user_id": "friend"}),
            gr.select("spend", "low", prefix="before_", exact_matches=False),
            gr.select("spend", "low", prefix="again_"),
        ]
        friends = spine(friend=["u2", "u2", "u2", "u1", "u1"])
        rows = joined(loaded, features, friends, engine=engine)
        assert [row["low"] for row in rows] == [9.0, 18.0, None, None, None]
        assert [row["friend_low"] for row in rows] == [None, 6.5, None, None, None]
        assert [row["before_low"] for row in rows] == [None, 9.0, None, 6.5, None]
        assert [row["again_low"] for row in rows] == [row["low"] for row in rows]
        online = served(loaded, features, [{"user_id": "u2", "friend": "u2"}])
        assert online == [
            {"user_id": "u2", "friend": "u2"} | dict.fromkeys(["low", "friend_low", "before_low", "again_low"])
        ]

    def test_one_made_of_another(self, store: gr.FeatureStore) -> None:
        group = spend_group(
            on_demand=[ratio, doubled.on("cents", outputs="twice"), doubled.on("twice", outputs="four")]
        )
        store.apply([group])
        store.materialize()
        assert joined(store, ["spend:four"])[1] == {"user_id": "u1", "basket": 8.0, "four": 4000.0}
        row = joined(store, ["spend:four", "spend:cents"])[1]
        assert (row["four"], row["cents"]) == (4000.0, 1000.0)

    def test_of_windows(self, store: gr.FeatureStore) -> None:
        windows = [gr.Rolling({"amount": ["sum", "count"]}, windows=["5d"])]
        mean = gr.Transformation("mean", sql={"mean": "total / NULLIF(rows, 0)"})
        group = spend_group(aggregations=windows, on_demand=[mean.on("amount__sum__5d", "amount__count__5d")])
        store.apply([group])
        store.materialize()
        rows = joined(store, ["spend:mean"])
        assert [row["mean"] for row in rows] == [10.0, 15.0, None, 8.25, None]
        found = store.get_online_features(["spend:mean"], [{"user_id": "u2"}], now=at(9))
        assert found.to_dicts() == [{"user_id": "u2", "mean": 8.25}]

    def test_an_inner_join_of_what_is_made_of_the_request_alone(self, store: gr.FeatureStore) -> None:
        """Its group must have a visible row, though nothing of it is taken."""
        square = gr.Transformation("square", sql={"square": "basket * basket"}, requests={"basket": "float64"})
        store.apply([spend_group(on_demand=[square])])
        store.materialize()
        assert [row["square"] for row in joined(store, ["spend:square"])] == [16.0, 64.0, None, 9.0, 4.0]
        inner = [gr.select("spend", "square", join="inner")]
        assert [row["square"] for row in joined(store, inner)] == [16.0, 64.0, None, 9.0]
        rows = [{"basket": 3.0}, {"basket": None}]
        assert served(store, ["spend:square"], rows) == [
            {"basket": 3.0, "square": 9.0},
            {"basket": None, "square": None},
        ]

    def test_defaults_are_what_they_are_made_of(self, store: gr.FeatureStore) -> None:
        store.apply([spend_group(on_demand=[share], defaults={"amount": 1.0})])
        store.materialize()
        assert served(store, ["spend:share"], [{"user_id": "nobody", "basket": 4.0}])[0]["share"] == 0.25
        assert joined(store, ["spend:share"])[4]["share"] == 0.5
        with pytest.raises(DefinitionError, match="'share' is made on demand"):
            store.apply([spend_group(on_demand=[share], defaults={"share": 1.0})])

    def test_nothing_of_them_is_stored(self, loaded: gr.FeatureStore) -> None:
        """Neither their values nor their code is part of a version."""
        (meta,) = loaded.versions("spend")
        assert meta.schema.names == ("user_id", "at", "loaded", "amount", "visits")
        assert loaded.read("spend").column_names == list(meta.schema.names)
        loaded.apply([spend_group(on_demand=[share])])
        loaded.materialize()
        assert [item.version for item in loaded.versions("spend")] == ["1.0.0"]
        with pytest.raises(UnknownFeatureError):
            joined(loaded, ["spend:low"])

    def test_they_are_among_the_features(self, loaded: gr.FeatureStore) -> None:
        shown = loaded.inspect("spend")["features"]
        assert [item["name"] for item in shown] == ["amount", "visits", "share", "low", "high", "per_visit", "cents"]
        assert shown[2] == {"name": "share", "dtype": "float64", "description": "on demand: share(amount, basket)"}
        with pytest.raises(UnknownFeatureError) as caught:
            joined(loaded, ["spend:shrae"])
        assert caught.value.closest[0] == "spend:share"
        with pytest.raises(UnknownFeatureError) as caught:
            loaded.apply([gr.FeatureView("v", features=["spend:per_visti"])])
        assert caught.value.closest[0] == "spend:per_visit"

    def test_a_pinned_version_has_them_too(self, loaded: gr.FeatureStore) -> None:
        assert joined(loaded, ["spend@1.0.0:low"])[1]["low"] == 18.0
        assert "low" in joined(loaded, ["spend@1.0.0"])[0]

    @pytest.mark.parametrize(
        ("steps", "says"),
        [
            ([share.on("amuont", "basket")], "takes 'amuont', which is no feature of the group before it"),
            ([doubled.on("cents", outputs="x"), ratio], "takes 'cents'"),
            ([ratio.on("amount", "user_id")], "takes 'user_id'"),
            ([doubled.on("amount", outputs="visits")], "'visits' has the name of another column"),
            (
                [doubled.on("amount", outputs="x"), known.on("visits", outputs="x")],
                "'x' has the name of another column",
            ),
            ([gr.Transformation("bad", sql={"x": "amount || visits"})], "visits"),
        ],
    )
    def test_what_cannot_be_is_refused_when_it_is_applied(self, store: gr.FeatureStore, steps: Any, says: str) -> None:
        with pytest.raises(DefinitionError, match=says):
            store.apply([spend_group(on_demand=steps)])


class TestOfViews:
    def view(self, **options: Any) -> gr.FeatureView:
        given: dict[str, Any] = {
            "features": ["spend:visits", gr.select("spend", "amount", "share", prefix="s_")],
            "on_demand": [
                known,
                doubled.on("s_share", outputs="twice"),
                share.on("twice", "basket", outputs="again"),
            ],
            "derived": {"plus": "again + visits", "text": "upper(known)"},
        }
        return gr.FeatureView("v", **(given | options))

    @pytest.mark.parametrize("engine", ENGINES)
    def test_over_features_requests_and_those_before(self, loaded: gr.FeatureStore, engine: str) -> None:
        loaded.apply([self.view()])
        row = joined(loaded, "v", engine=engine)[1]
        assert row == {
            "user_id": "u1", "basket": 8.0, "visits": 2, "s_amount": 20.0, "s_share": 2.5, "known": "2 visits",
            "twice": 5.0, "again": 0.625, "plus": 2.625, "text": "2 VISITS",
        }  # fmt: skip
        assert joined(loaded, "v", engine=engine)[4]["known"] == "unknown"

    def test_the_same_online(self, loaded: gr.FeatureStore) -> None:
        loaded.apply([self.view()])
        rows = [{"user_id": who, "basket": basket} for who in ("u1", "u2", "nobody") for basket in (2.0, None, 0.0)]
        asked = pl.DataFrame(rows).with_columns(event_time=pl.lit(at(25)))
        assert repr(served(loaded, "v", rows)) == repr(joined(loaded, "v", asked))
        found = loaded.get_online_features("v", rows, now=at(25))
        assert found.statuses[0] | {"known": "PRESENT", "again": "NULL"} == found.statuses[0]
        assert found.to_polars().columns == list(found.column_names)
        assert found.column_names == (
            *rows[0],
            "visits",
            "s_amount",
            "s_share",
            "known",
            "twice",
            "again",
            "plus",
            "text",
        )

    def test_plans_show_them(self, loaded: gr.FeatureStore) -> None:
        loaded.apply([self.view()])
        for plan in (loaded.explain_online("v"), loaded.get_historical_features("v", spine()).explain()):
            for line in (
                "s_share = share(s_amount, basket)",
                "twice = doubled(s_share)",
                "again = share(twice, basket)",
            ):
                assert line in plan
            assert plan.index("twice =") < plan.index("plus =")

    def test_full_names_do_not_change_what_they_take(self, loaded: gr.FeatureStore) -> None:
        loaded.apply([self.view()])
        row = joined(loaded, "v", full_feature_names=True)[1]
        assert (row["spend__share"], row["again"], row["plus"]) == (2.5, 0.625, 2.625)

    def test_those_of_a_view_in_a_view(self, loaded: gr.FeatureStore) -> None:
        """Those of the outer view may take what the inner one derives."""
        outer = gr.FeatureView("outer", features=["v"], on_demand=[doubled.on("plus", outputs="outermost")])
        loaded.apply([self.view(), outer])
        row = joined(loaded, "outer")[1]
        assert row["outermost"] == 5.25 and row["again"] == 0.625
        assert joined(loaded, ["v", "spend:visits"])[1]["plus"] == 2.625
        assert served(loaded, "outer", [UNIT])[0]["known"] == "3 visits"

    def test_helpers_and_filters_take_them(self, loaded: gr.FeatureStore) -> None:
        view = self.view(
            filter="again > 1 AND known <> '1 visits'", training_helpers=["twice"], inference_helpers=["spend:share"]
        )
        loaded.apply([view])
        found = loaded.get_historical_features("v", spine(basket=[1.0, 2.0, 3.0, 4.0, 5.0]))
        assert found.to_polars()["again"].to_list() == [10.0, 1.125]
        assert (found.roles["twice"], found.roles["s_share"]) == ("training_helper", "inference_helper")
        (row,) = served(loaded, "v", [UNIT])
        assert "twice" not in row and {"again", "s_share"} <= set(row)

    @pytest.mark.parametrize(
        ("options", "error", "says"),
        [
            ({"on_demand": [doubled.on("s_shrae")], "derived": {}}, DefinitionError, "takes 's_shrae'"),
            ({"on_demand": [doubled.on("plus")]}, DefinitionError, "takes 'plus'"),
            ({"on_demand": [doubled.on("s_share", outputs="visits")], "derived": {}}, NameCollisionError, "'visits'"),
            ({"on_demand": [doubled.on("s_share", outputs="user_id")], "derived": {}}, NameCollisionError, "'user_id'"),
            ({"on_demand": [doubled.on("s_share", outputs="basket")], "derived": {}}, NameCollisionError, "'basket'"),
            ({"derived": {"x": "agian + 1"}}, DefinitionError, "agian"),
            ({"labels": ["twice"]}, DefinitionError, "'twice' has the name of another column"),
            (
                {"requests": [gr.RequestSource("r", schema={"basket": "string"})]},
                DefinitionError,
                "request column 'basket' has two types",
            ),
        ],
    )
    def test_what_cannot_be_is_refused(
        self, loaded: gr.FeatureStore, options: Any, error: type[Exception], says: str
    ) -> None:
        with pytest.raises(error, match=says):
            loaded.apply([self.view(**options)])

    def test_a_spine_column_of_their_name(self, loaded: gr.FeatureStore) -> None:
        loaded.apply([self.view()])
        with pytest.raises(NameCollisionError, match="'again'"):
            joined(loaded, "v", spine(again=[1, 2, 3, 4, 5]))


class TestRequests:
    def test_every_request_and_spine_must_bring_them(self, loaded: gr.FeatureStore) -> None:
        for features in (["spend:share"], "spend", ["spend"]):
            with pytest.raises(MissingColumnError, match="'basket'"):
                joined(loaded, features, spine().drop("basket"))
            with pytest.raises(MissingColumnError, match="'basket'"):
                served(loaded, features, [{"user_id": "u1"}])
        assert joined(loaded, ["spend:low"], spine().drop("basket"))[1]["low"] == 18.0

    def test_under_the_name_that_the_step_has_for_them(self, store: gr.FeatureStore) -> None:
        store.apply(
            [spend_group(on_demand=[share.on("amount", "cart")]), gr.FeatureView("v", features=["spend:share"])]
        )
        store.materialize()
        assert served(store, "v", [{"user_id": "u2", "cart": 3.0}]) == [{"user_id": "u2", "cart": 3.0, "share": 3.0}]

    def test_what_people_write_for_a_type(self, store: gr.FeatureStore) -> None:
        """A function is given values of the type that was declared; the answer repeats what was brought."""

        @gr.transformation(
            outputs={"said": "string"},
            requests={"when": "datetime", "day": "date", "n": "float64", "price": "decimal(6,2)"},
        )
        def said(amount: float, when: dt.datetime, day: dt.date, n: float, price: decimal.Decimal) -> str:
            assert (type(when), type(day), type(n), type(price)) == (dt.datetime, dt.date, float, decimal.Decimal)
            return f"{when.isoformat()} {day.isoformat()} {n} {price}"

        store.apply([spend_group(on_demand=[said])])
        store.materialize()
        request = {"user_id": "u2", "when": "2026-03-01T12:00:00+02:00", "day": "2026-03-02", "n": 3, "price": 2}
        (row,) = served(store, ["spend:said"], [request])
        assert row == {**request, "said": "2026-03-01T10:00:00+00:00 2026-03-02 3.0 2.00"}

    def test_derived_features_too(self, store: gr.FeatureStore) -> None:
        view = gr.FeatureView(
            "v",
            features=["spend:visits"],
            requests=[gr.RequestSource("r", schema={"day": "date"})],
            derived={"month": "extract(month FROM day)"},
        )
        store.apply([spend_group(), view])
        store.materialize()
        assert served(store, "v", [{"user_id": "u1", "day": "2026-03-02"}])[0]["month"] == 3


class TestLabels:
    def test_what_is_made_of_a_label_tells_it(self, loaded: gr.FeatureStore) -> None:
        """A whole group leaves it out, and it is refused by name."""
        whole = gr.FeatureView("whole", features=["spend"], labels=["spend:amount"])
        loaded.apply([whole])
        asked = spine()
        assert set(joined(loaded, "whole", asked)[0]) == {"user_id", "basket", "visits", "amount"}
        with pytest.raises(DefinitionError, match="spend:low is made of spend:amount, which is a label"):
            loaded.apply([gr.FeatureView("v", features=["spend:low"], labels=["spend:amount"])])
        later = gr.FeatureView("v", features=["spend:low"], labels=[gr.Label("spend:amount", after="2d")])
        loaded.apply([later])
        found = loaded.get_historical_features("v", spine(), now=at(30)).to_polars()
        assert found["low"].to_list() == [9.0, 18.0, None, None, None]
        assert found["amount"].to_list() == [10.0, 20.0, None, 9.0, None]

    @pytest.mark.parametrize("engine", ENGINES)
    def test_a_label_can_be_one(self, loaded: gr.FeatureStore, engine: str) -> None:
        """Looked at later, and null until then."""
        view = gr.FeatureView("v", features=["spend:visits"], labels=[gr.Label("spend:low", after="4d")])
        loaded.apply([view])
        found = loaded.get_historical_features("v", spine(), now=at(10), engine=engine)
        assert found.to_polars()["low"].to_list() == [18.0, None, None, None, None]
        assert found.roles["low"] == "label"
        assert found.immature is not None and found.immature.tolist() == [False, False, True, True, True]
        assert served(loaded, "v", [{"user_id": "u1"}]) == [{"user_id": "u1", "visits": 3}]

    def test_one_that_takes_what_no_request_brings(self, loaded: gr.FeatureStore) -> None:
        with pytest.raises(DefinitionError, match="label spend:share takes the request column 'basket'"):
            loaded.apply([gr.FeatureView("v", features=["spend:visits"], labels=["spend:share"])])
        loaded.apply([gr.FeatureView("v", features=["spend:visits"], requests=[BASKET], labels=["spend:share"])])
        assert joined(loaded, "v")[1]["share"] == 2.5

    def test_leaks_are_told_of_what_they_are_made_of(self, store: gr.FeatureStore) -> None:
        windows = [gr.Rolling({"amount": ["sum"]}, windows=["5d", "30d"])]
        group = spend_group(aggregations=windows, on_demand=[doubled.on("amount__sum__5d", outputs="twice")])
        store.apply([group])
        view = gr.FeatureView("v", features=["spend:twice"], labels=["spend:amount__sum__30d"])
        (leak,) = store.apply([view]).leaks
        assert leak.code == "LEAK-002" and leak.features == ("spend:amount__sum__5d",)

    def test_an_exact_view_looks_at_what_they_are_made_of(self, store: gr.FeatureStore) -> None:
        hourly = spend_group(
            aggregations=[gr.Rolling({"amount": "sum"}, "1d", every="1h")],
            on_demand=[doubled.on("amount__sum__1d", outputs="twice")],
        )
        with pytest.raises(DefinitionError, match="is exact, and spend:amount__sum__1d"):
            store.apply([hourly, gr.FeatureView("v", features=["spend:twice"], exact=True)])


class TestErrors:
    def test_a_function_that_fails_names_the_row(self, store: gr.FeatureStore) -> None:
        @gr.transformation(outputs="float64", requests={"basket": "float64"})
        def inverse(amount: float, basket: float) -> float:
            return amount / basket

        store.apply([spend_group(on_demand=[inverse])])
        store.materialize()
        with pytest.raises(TransformError, match="ZeroDivisionError") as caught:
            joined(store, ["spend:inverse"], spine(basket=[1.0, 2.0, 3.0, 0.0, 0.0]))
        assert caught.value.details["row"] == 3 and caught.value.asked_by == "feature group 'spend'"
        rows = [{"user_id": "nobody", "basket": 0.0}, {"user_id": "u2", "basket": 0.0}]
        with pytest.raises(TransformError, match=r"in row 1 of the request \(user_id='u2'\)") as caught:
            served(store, ["spend:inverse"], rows)
        assert caught.value.details["row"] == 1 and "amount=9.0" in (caught.value.found or "")
        found = store.get_online_features(["spend:inverse"], rows, now=at(25))
        for look in (found.to_arrow, lambda: found.statuses):
            with pytest.raises(TransformError, match="in row 1"):
                look()
        assert found.event_times == [{}, {}]

    def test_what_it_gives_must_fit(self, store: gr.FeatureStore) -> None:
        @gr.transformation(outputs="int8")
        def much(visits: int) -> int:
            return visits * 100

        store.apply([spend_group(on_demand=[much])])
        store.materialize()
        with pytest.raises(TransformError, match="much"):
            joined(store, ["spend:much"])
        with pytest.raises(TransformError, match="much"):
            served(store, ["spend:much"], [{"user_id": "u1"}])

    def test_a_transformation_that_changes_alone(self, loaded: gr.FeatureStore) -> None:
        other = gr.Transformation("ratio", sql={"per_visit": "amount", "cents": "1.0"})
        with pytest.raises(DefinitionError, match="'ratio' is another one than 'spend' was applied with") as caught:
            loaded.apply([other])
        assert "apply 'spend' together" in (caught.value.try_ or "")
        with pytest.raises(DefinitionError, match="'ratio' is another one"):
            loaded.apply([gr.FeatureView("v", features=["spend:visits", "spend:amount"], on_demand=[other])])
        loaded.apply([spend_group(on_demand=[other])])
        assert joined(loaded, ["spend:per_visit"])[1]["per_visit"] == 20.0
        loaded.apply([other])


DEFINITIONS = """
import grange as gr

user = gr.Entity("user", join_keys=["user_id"])

@gr.transformation(outputs="float64")
def tripled(amount: float) -> float:
    return amount * 3

spend = gr.FeatureGroup(
    "spend", entities=user, on_demand=[tripled],
    source=gr.FileSource("data/spend.parquet", event_time="at", created_time="loaded"),
)
nine = tripled.on("tripled", outputs="nine")
view = gr.FeatureView("v", features=["spend:visits", "spend:tripled"], on_demand=[nine])
"""


class TestCode:
    @pytest.fixture
    def applied(self, project: Path) -> Path:
        (project / "features.py").write_text(DEFINITIONS)
        with gr.FeatureStore(project) as store:
            store.apply()
            store.materialize()
        return project

    def test_another_process_loads_it_from_the_definitions(self, applied: Path) -> None:
        with gr.FeatureStore(applied) as store:
            assert served(store, "v", [{"user_id": "u2"}]) == [
                {"user_id": "u2", "visits": None, "tripled": 27.0, "nine": 81.0}
            ]
        with gr.FeatureStore(applied) as store:
            assert joined(store, "v")[1]["nine"] == 180.0
            assert "nine = tripled(tripled)" in store.explain_online("v")

    def test_code_that_is_not_here(self, applied: Path) -> None:
        (applied / "features.py").write_text(DEFINITIONS.replace("* 3", "* 4"))
        with gr.FeatureStore(applied) as store:
            with pytest.raises(TransformError, match="'tripled' is not loaded in this process") as caught:
                served(store, "v", [{"user_id": "u2"}])
            assert caught.value.asked_by in ("feature group 'spend'", "feature view 'v'")
            with pytest.raises(TransformError, match="'tripled' is not loaded"):
                joined(store, "v")
            assert joined(store, ["spend:visits"])[1]["visits"] == 2


def test_the_command_line_lists_them(
    loaded: gr.FeatureStore, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from grange.cli.main import run

    loaded.apply([shops_group(), gr.FeatureView("v", features=["spend"], on_demand=[known])])
    monkeypatch.chdir(loaded.project)
    monkeypatch.setenv("COLUMNS", "160")
    assert run(["fg", "features", "spend"]) == 0
    lines = capsys.readouterr().out.splitlines()
    (line,) = (line for line in lines if line.startswith("per_visit"))
    assert "on-demand feature" in line and "ratio(amount, visits)" in line
    assert run(["fg", "info", "spend"]) == 0
    assert "share(amount, basket)" in capsys.readouterr().out
    assert run(["fv", "info", "v"]) == 0
    shown = capsys.readouterr().out
    assert "known" in shown and "basket" in shown


# --- the same offline and online, whatever the values ---------------------------------------------------------------


@gr.transformation(outputs={"row": "float64"}, nulls="pass", requests={"r": "float64"})
def by_row(f: float | None, n: int | None, r: float | None) -> float | None:
    return None if f is None or r is None else f * r + (n or 0)


@gr.transformation(outputs={"array": "float64"}, requests={"r": "float64"})
def by_array(f: np.ndarray, n: np.ndarray, r: np.ndarray) -> np.ndarray:
    with np.errstate(all="ignore"):
        return np.where(n > 0, f / r, f - n)


@gr.transformation(outputs={"series": "string"}, nulls="pass")
def by_series(s: pl.Series, b: pl.Series) -> pl.Series:
    return pl.select(pl.when(b).then(s.str.to_uppercase()).otherwise(s + "!")).to_series()


@gr.transformation(outputs={"later": "datetime", "day": "date"})
def by_time(t: dt.datetime, n: int) -> tuple[dt.datetime, dt.date]:
    return t + dt.timedelta(hours=n % 100), t.date()


BY_SQL = gr.Transformation(
    "by_sql", sql={"clean": "coalesce(s, 'none')", "large": "f > 1 OR n > 1", "of_row": "array + 1"},
    inputs=["s", "f", "n", "array"],
)  # fmt: skip
KINDS: dict[str, Any] = {
    "f": st.none() | st.floats(width=64),
    "n": st.none() | st.integers(-(2**40), 2**40),
    "s": st.none() | st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=4),
    "b": st.none() | st.booleans(),
    "t": st.none() | st.datetimes(dt.datetime(1990, 1, 1), dt.datetime(2100, 1, 1), timezones=st.just(dt.UTC)),
}
TYPES = {"f": "float64", "n": "int64", "s": "string", "b": "boolean", "t": "datetime"}


@pytest.fixture(scope="module")
def pushed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[list[dict[str, Any]]], gr.FeatureStore]]:
    """A store with rows that are pushed to it, each run's own users."""
    schema = {"user_id": "string", "at": "datetime", **TYPES}
    source = gr.PushSource("rows", schema=schema, event_time="at")
    group = gr.FeatureGroup(
        "g", entities=gr.Entity("user", join_keys={"user_id": "string"}), source=source,
        on_demand=[by_row, by_array, by_series, by_time, BY_SQL],
    )  # fmt: skip
    view = gr.FeatureView(
        "v",
        features=["g"],
        on_demand=[by_row.on("of_row", "n", "r", outputs="again")],
        derived={"sum": "coalesce(again, row, array, 0)", "hours": "extract(hour FROM later)"},
    )
    with gr.FeatureStore(tmp_path_factory.mktemp("pushed"), online="memory") as store:
        store.apply([group, view])

        def push(rows: list[dict[str, Any]]) -> gr.FeatureStore:
            store.push("rows", rows)
            return store

        yield push


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(st.fixed_dictionaries(KINDS), min_size=1, max_size=5),
    requests=st.lists(st.none() | st.floats(width=64), min_size=1, max_size=5),
    run=st.integers(0, 2**60),
)
def test_offline_equals_online(
    pushed: Callable[[list[dict[str, Any]]], gr.FeatureStore],
    rows: list[dict[str, Any]],
    requests: list[float | None],
    run: int,
) -> None:
    schema = {"user_id": pl.String, "at": pl.Datetime("us", "UTC"), "f": pl.Float64, "n": pl.Int64, "s": pl.String,
              "b": pl.Boolean, "t": pl.Datetime("us", "UTC")}  # fmt: skip
    users = [f"{run}-{number}" for number in range(len(rows))]
    frame = pl.DataFrame([{"user_id": u, "at": at(1), **r} for u, r in zip(users, rows, strict=True)], schema=schema)
    store = pushed(frame)  # type: ignore[arg-type]
    asked = [{"user_id": who, "r": r} for who in [*users, "nobody"] for r in requests]
    online = store.get_online_features("v", asked, now=at(2))
    table = pl.DataFrame(asked, schema={"user_id": pl.String, "r": pl.Float64})
    offline = store.get_historical_features("v", table.with_columns(event_time=pl.lit(at(2)))).to_polars()
    offline = offline.drop("event_time")
    assert online.to_polars().schema == offline.schema
    for mine, theirs in zip(online.to_polars().to_dicts(), offline.to_dicts(), strict=True):
        assert repr(mine) == repr(theirs)  # which tells -0.0 from 0.0, and a NaN equals itself
    for vector, row in zip(online.to_dicts(), offline.to_dicts(), strict=True):
        assert repr(vector).replace("datetime.timezone.utc", "UTC") == repr(row).replace(
            "zoneinfo.ZoneInfo(key='UTC')", "UTC"
        )
