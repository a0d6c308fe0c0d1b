"""Feature views in full: which rows joins and filters leave, when labels are known, what columns are for."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.shop import at

import grange as gr
from grange.errors import (
    DefinitionError,
    MissingColumnError,
    NameCollisionError,
    RequestError,
    SchemaError,
)

ENGINES = ["polars", "duckdb", "reference"]
Row = dict[str, Any]

user = gr.Entity("user", join_keys={"user_id": "string"})
shop = gr.Entity("shop", join_keys={"shop_id": "int64"})

VISITS: list[Row] = [
    {"user_id": "u1", "at": at(2), "pages": 3, "device": "phone"},
    {"user_id": "u1", "at": at(6), "pages": None, "device": None},
    {"user_id": "u2", "at": at(4), "pages": 7, "device": "desk"},
    {"user_id": "u3", "at": at(9), "pages": 1, "device": "phone"},
]
ORDERS: list[Row] = [
    {"user_id": "u1", "at": at(1), "known": at(1, 6), "amount": 10.0, "late": False},
    {"user_id": "u1", "at": at(5), "known": at(8), "amount": 20.0, "late": True},
    {"user_id": "u1", "at": at(9), "known": at(9), "amount": 5.0, "late": None},
    {"user_id": "u2", "at": at(5), "known": at(5), "amount": 7.5, "late": False},
    {"user_id": "u2", "at": at(20), "known": at(20), "amount": 2.5, "late": True},
]
SHOPS: list[Row] = [{"shop_id": 1, "country": "FR"}, {"shop_id": 2, "country": None}]


def frame(rows: Sequence[Row], **types: Any) -> pl.DataFrame:
    return pl.DataFrame(list(rows), schema_overrides=types or None)


def visits(**options: Any) -> gr.FeatureGroup:
    source = gr.TableSource(frame(VISITS), name="visits", event_time="at")
    return gr.FeatureGroup("visits", entities=user, source=source, **options)


def orders(**options: Any) -> gr.FeatureGroup:
    source = gr.TableSource(frame(ORDERS), name="orders", event_time="at", created_time="known")
    return gr.FeatureGroup("orders", entities=user, source=source, **options)


def spending(**options: Any) -> gr.FeatureGroup:
    """The same orders as events."""
    source = gr.TableSource(frame(ORDERS), name="orders", event_time="at", created_time="known")
    windows = [gr.Rolling({"amount": ["sum", "count"]}, windows=["2d", "7d"])]
    return gr.FeatureGroup("spending", entities=user, source=source, aggregations=windows, **options)


def shops(**options: Any) -> gr.FeatureGroup:
    return gr.FeatureGroup("shops", entities=shop, source=gr.TableSource(frame(SHOPS), name="shops"), **options)


SPINE: list[Row] = [
    {"user_id": "u1", "shop_id": 1, "event_time": at(1), "note": "before any visit"},
    {"user_id": "u1", "shop_id": 2, "event_time": at(2), "note": "at the visit"},
    {"user_id": "u1", "shop_id": 9, "event_time": at(7), "note": "pages are null"},
    {"user_id": "u2", "shop_id": 1, "event_time": at(7), "note": None},
    {"user_id": "u4", "shop_id": 1, "event_time": at(7), "note": "nobody"},
    {"user_id": None, "shop_id": 1, "event_time": at(7), "note": "no key"},
    {"user_id": "u2", "shop_id": 1, "event_time": None, "note": "no time"},
]


def spine(rows: Sequence[Row] = SPINE, **more: list[Any]) -> pl.DataFrame:
    columns = pl.DataFrame(list(rows), schema_overrides={"shop_id": pl.Int64})
    return columns.with_columns(**{name: pl.Series(values) for name, values in more.items()})


Opened = Callable[..., gr.FeatureStore]


@pytest.fixture(params=["lmdb", "memory"])
def opened(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Opened]:
    """A store with definitions, applied and materialized."""
    (tmp_path / "grange.toml").write_text('project = "views"\n')
    stores = []

    def opened(*definitions: Any, materialize: bool = True) -> gr.FeatureStore:
        store = gr.FeatureStore(tmp_path, online=request.param)
        stores.append(store)
        store.apply(list(definitions))
        if materialize:
            store.materialize()
        return store

    yield opened
    for store in stores:
        store.close()


def visible(
    rows: Sequence[Row], user_id: str | None, moment: dt.datetime | None, *, strict: bool = False
) -> Row | None:
    """The newest row of a user at a moment, in plain Python."""
    if user_id is None or moment is None:
        return None
    seen = [r for r in rows if r["user_id"] == user_id and (r["at"] < moment if strict else r["at"] <= moment)]
    return max(seen, key=lambda r: r["at"]) if seen else None


def total(user_id: str, moment: dt.datetime, days: int) -> float | None:
    """The sum of a user's orders of so many days up to a moment."""
    low = moment - dt.timedelta(days=days)
    amounts = [r["amount"] for r in ORDERS if r["user_id"] == user_id and low < r["at"] <= moment]
    return sum(amounts) if amounts else None


class TestJoins:
    @pytest.mark.parametrize("engine", ENGINES)
    def test_an_inner_join_leaves_out_rows_without_a_visible_row(self, opened: Opened, engine: str) -> None:
        """A row that is there and all null is a row."""
        view = gr.FeatureView("v", features=["orders:amount", gr.select("visits", join="inner")])
        store = opened(visits(), orders(), view)
        found = store.get_historical_features("v", spine(), engine=engine)
        expected = [
            {
                **row,
                "amount": (visible(ORDERS, row["user_id"], row["event_time"]) or {}).get("amount"),
                "pages": seen["pages"],
                "device": seen["device"],
            }
            for row in SPINE
            if (seen := visible(VISITS, row["user_id"], row["event_time"])) is not None
        ]
        assert found.to_polars().to_dicts() == expected
        assert [row["note"] for row in expected] == ["at the visit", "pages are null", None]
        assert (len(found), found.rows_left_out) == (3, 4)
        assert "only rows with a visible row of visits" in found.explain()

    @pytest.mark.parametrize("engine", ENGINES)
    def test_found_is_what_the_join_can_see(self, opened: Opened, engine: str) -> None:
        """Strict time, a ttl, what was known then, and rows that are always true."""
        strict = gr.FeatureView("strict", features=[gr.select("visits", join="inner", exact_matches=False)])
        timeless = gr.FeatureView("timeless", features=[gr.select("shops", join="inner")])
        known = gr.FeatureView("known", features=[gr.select("orders", join="inner")])
        store = opened(visits(ttl="2d"), shops(), orders(), strict, timeless, known)

        def notes(view: str, **how: Any) -> list[str | None]:
            return store.get_historical_features(view, spine(), engine=engine, **how).to_polars()["note"].to_list()

        assert notes("strict") == ["pages are null"]  # of two days' age at most, and not of the very moment
        assert notes("timeless") == [row["note"] for row in SPINE[:2] + SPINE[3:6]]  # shop 9 is none, nor is null time
        ages = spine([{"user_id": "u1", "shop_id": 1, "event_time": at(1, hour), "note": str(hour)} for hour in (5, 6)])
        found = store.get_historical_features("known", ages, engine=engine, as_known=True)
        assert found.to_polars()["note"].to_list() == ["6"]

    @pytest.mark.parametrize("engine", ENGINES)
    def test_windows_are_found_where_any_event_is_in_reach(self, opened: Opened, engine: str) -> None:
        """Whether the window that is asked for is empty does not matter; a ttl is the end of any reach."""
        view = gr.FeatureView("v", features=[gr.select("spending", "amount__sum__2d", join="inner")])
        rows = [("u1", at(1)), ("u1", at(8)), ("u1", at(28)), ("u2", at(4)), ("u2", at(6)), ("u4", at(6))]
        asked = pl.DataFrame(rows, schema=["user_id", "event_time"], orient="row")
        store = opened(spending(), view)
        found = store.get_historical_features("v", asked, engine=engine).to_polars()
        seen = [row for row in rows if visible(ORDERS, *row) is not None]
        assert found.rows() == [(*row, total(*row, 2)) for row in seen]
        assert found["amount__sum__2d"].null_count() == 2, "an empty window is no reason to leave a row out"
        store.apply([spending(ttl="15d")])
        found = store.get_historical_features("v", asked, engine=engine).to_polars()
        assert found.rows() == [(*row, total(*row, 2)) for row in seen if row != ("u1", at(28))]

    def test_several_inner_joins_and_the_same_group_twice(self, opened: Opened) -> None:
        view = gr.FeatureView(
            "v",
            features=[
                gr.select("visits", "pages"),
                gr.select("visits", "device", join="inner"),
                gr.select("shops", join="inner"),
                gr.select("visits", "pages", on={"user_id": "friend"}, prefix="friend_", join="inner"),
            ],
        )
        store = opened(visits(), shops(), view)
        friends = spine(friend=["u1", "u2", "u2", "u2", "u2", "u2", "u2"])
        found = store.get_historical_features("v", friends)
        assert found.to_polars()["note"].to_list() == [None]
        assert found.to_polars()["friend_pages"].to_list() == [7]

    def test_a_pandas_spine_keeps_its_index_and_types(self, opened: Opened) -> None:
        view = gr.FeatureView("v", features=[gr.select("visits", join="inner")])
        store = opened(visits(), view)
        given = spine().to_pandas().set_index(pd.Index([10, 11, 12, 13, 14, 15, 16], name="row"))
        given["odd"] = [1, "a", None, 2.5, object, (), {}]  # of no one type, and so not looked at
        found = store.get_historical_features("v", given)
        result = found.to_pandas()
        assert list(result.index) == [11, 12, 13] and result.index.name == "row"
        assert list(result["odd"]) == ["a", None, 2.5]
        assert (result.dtypes[list(given.columns)] == given.dtypes).all()
        assert result["pages"].tolist() == [3, pd.NA, 7]

    def test_arrow_and_row_spines(self, opened: Opened) -> None:
        store = opened(visits(), gr.FeatureView("v", features=[gr.select("visits", join="inner")]))
        for asked in (spine().to_arrow(), SPINE):
            table = store.get_historical_features("v", asked).to_arrow()
            assert table.column("note").to_pylist() == ["at the visit", "pages are null", None]

    def test_right_and_full_of_a_given_spine(self, opened: Opened) -> None:
        """The spine says which rows are asked for: right is inner, and full is left."""
        views = [gr.FeatureView(join, features=["orders", gr.select("visits", join=join)]) for join in JOINS]
        store = opened(visits(), orders(), *views)

        def notes(view: str) -> list[str | None]:
            return store.get_historical_features(view, spine()).to_polars()["note"].to_list()

        assert notes("right") == notes("inner") == ["at the visit", "pages are null", None]
        assert notes("full") == notes("left") == notes("asof") == [row["note"] for row in SPINE]

    @pytest.mark.parametrize("engine", ENGINES)
    def test_a_made_spine_is_of_the_groups_that_joins_say(self, opened: Opened, engine: str) -> None:
        views = [gr.FeatureView(join, features=["orders:amount", gr.select("visits", join=join)]) for join in JOINS]
        store = opened(visits(), orders(), *views)
        of_orders = {(r["user_id"], r["at"]) for r in ORDERS}
        of_visits = {(r["user_id"], r["at"]) for r in VISITS}
        expected = {
            "left": of_orders,
            "asof": of_orders,
            "inner": {(who, when) for who, when in of_orders if visible(VISITS, who, when) is not None},
            "right": of_visits,
            "full": of_orders | of_visits,
        }
        for join in JOINS:
            found = store.get_historical_features(join, engine=engine).to_polars()
            rows = [
                (
                    who,
                    when,
                    (visible(ORDERS, who, when) or {}).get("amount"),
                    (visible(VISITS, who, when) or {}).get("pages"),
                )
                for who, when in expected[join]
            ]
            assert sorted(found.select("user_id", "at", "amount", "pages").rows(), key=repr) == sorted(rows, key=repr)
        bounded = store.get_historical_features("full", start=at(4), end=at(9), engine=engine).to_polars()
        assert set(bounded.select("user_id", "at").iter_rows()) == {
            pair for pair in expected["full"] if at(4) <= pair[1] < at(9)
        }

    def test_a_spine_of_groups_that_share_no_key_is_refused(self, opened: Opened) -> None:
        other = gr.FeatureGroup(
            "stays",
            entities=shop,
            source=gr.TableSource(frame([{"shop_id": 1, "at": at(1), "n": 1}]), name="stays", event_time="at"),
        )
        store = opened(orders(), shops(), other)
        both = ["orders", gr.select("stays", join="full")]
        with pytest.raises(RequestError, match="'orders' and 'stays' has no columns that both have"):
            store.get_historical_features(both)
        with pytest.raises(RequestError, match="'shops' has no event times"):
            store.get_historical_features(["orders", gr.select("shops", join="right")])
        with pytest.raises(RequestError, match="one made of feature group 'stays' is not enough"):
            store.get_historical_features(["orders", gr.select("stays", join="right")])

    def test_a_full_spine_under_other_column_names(self, opened: Opened) -> None:
        features = [
            gr.select("orders", on={"user_id": "buyer"}),
            gr.select("visits", on={"user_id": "buyer"}, join="full"),
        ]
        store = opened(visits(), orders())
        found = store.get_historical_features(features).to_polars()
        assert set(found["buyer"]) == {"u1", "u2", "u3"} and found.height == 9

    def test_every_requested_row_is_answered_online(self, opened: Opened) -> None:
        """ONL-4, whatever the join and the filter."""
        view = gr.FeatureView("v", features=["orders:amount", gr.select("visits", join="inner")], filter="pages > 100")
        store = opened(visits(), orders(), view)
        found = store.get_online_features("v", [{"user_id": who} for who in ("u1", "u3", "nobody")], now=at(25))
        assert [row["pages"] for row in found.to_dicts()] == [None, 1, None]


JOINS = ["left", "inner", "right", "full", "asof"]


class TestFilter:
    @pytest.mark.parametrize("engine", ENGINES)
    @pytest.mark.parametrize(
        ("condition", "matches"),
        [
            ("pages > 2", lambda r: r["pages"] is not None and r["pages"] > 2),
            ("pages IS NULL", lambda r: r["pages"] is None),
            ("NOT (pages > 2)", lambda r: r["pages"] is not None and r["pages"] <= 2),
            ("note LIKE '%visit%' OR shop_id = 9", lambda r: "visit" in (r["note"] or "") or r["shop_id"] == 9),
            (
                "event_time >= TIMESTAMP '2026-03-07'",
                lambda r: r["event_time"] is not None and r["event_time"] >= at(7),
            ),
            ("twice = 14 AND country = 'FR'", lambda r: r["pages"] == 7 and r["shop_id"] == 1),
            ("churned", lambda r: r["churned"] is True),
            ("true", lambda r: True),
            ("pages > 1000", lambda r: False),
        ],
    )
    def test_rows_for_which_it_is_not_true_are_left_out(
        self, opened: Opened, engine: str, condition: str, matches: Callable[[Row], bool]
    ) -> None:
        view = gr.FeatureView(
            "v",
            features=["visits", "shops"],
            labels=["churned"],
            derived={"twice": "pages * 2"},
            filter=condition,
        )
        store = opened(visits(), shops(), view)
        churned = [True, False, None, True, False, True, None]
        found = store.get_historical_features("v", spine(churned=churned), engine=engine)
        rows = [
            {**row, "churned": told, "pages": (visible(VISITS, row["user_id"], row["event_time"]) or {}).get("pages")}
            for row, told in zip(SPINE, churned, strict=True)
        ]
        kept = [row["note"] for row in rows if matches(row)]
        assert found.to_polars()["note"].to_list() == kept
        assert found.rows_left_out == len(SPINE) - len(kept)
        assert f"only rows where {condition}" in found.explain()

    def test_it_takes_labels_that_are_features_and_names_of_the_view(self, opened: Opened) -> None:
        view = gr.FeatureView(
            "v",
            features=[gr.select("visits", prefix="v_")],
            labels=["orders:amount"],
            filter="amount > 8 AND v_pages IS NULL",
        )
        store = opened(visits(), orders(), view)
        for full in (False, True):
            found = store.get_historical_features("v", spine(), full_feature_names=full)
            assert found.to_polars()["note"].to_list() == ["before any visit", "pages are null"]

    def test_a_pandas_spine_and_joins_beside_it(self, opened: Opened) -> None:
        view = gr.FeatureView(
            "v", features=[gr.select("visits", join="inner")], filter="note IS NOT NULL AND shop_id < 9"
        )
        store = opened(visits(), view)
        given = spine().to_pandas().set_index(pd.Index(list("abcdefg")))
        found = store.get_historical_features("v", given)
        assert list(found.to_pandas().index) == ["b"]
        assert found.rows_left_out == 6

    def test_a_made_spine(self, opened: Opened) -> None:
        store = opened(orders(), gr.FeatureView("v", features=["orders"], filter="NOT late"))
        found = store.get_historical_features("v")
        assert sorted(found.to_polars()["amount"]) == [7.5, 10.0]
        assert found.rows_left_out == 3

    def test_all_rows_or_none(self, opened: Opened) -> None:
        store = opened(visits(), gr.FeatureView("v", features=["visits"], filter="pages > 1000"))
        found = store.get_historical_features("v", spine())
        assert len(found) == 0 and found.rows_left_out == 7
        assert found.to_polars().columns == [*SPINE[0], "pages", "device"]

    def test_a_column_that_is_not_there(self, opened: Opened) -> None:
        """A column of the spine is known when there is a spine."""
        store = opened(visits(), gr.FeatureView("v", features=["visits"], filter="pgaes > 1"))
        with pytest.raises(MissingColumnError, match="'pgaes', which is no column") as caught:
            store.get_historical_features("v", spine())
        assert "pages" in caught.value.closest

    @pytest.mark.parametrize("condition", ["pages > 'many'", "pages", "device + 1 > 2", "user_id > 3"])
    def test_a_condition_that_does_not_fit_is_refused_when_it_is_applied(self, opened: Opened, condition: str) -> None:
        store = opened(visits(), materialize=False)
        with pytest.raises(DefinitionError):
            store.apply([gr.FeatureView("v", features=["visits"], filter=condition)])

    @settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(
        pages=st.lists(st.none() | st.integers(-3, 3), min_size=1, max_size=8),
        low=st.integers(-3, 3),
        engine=st.sampled_from(ENGINES),
    )
    def test_it_is_what_python_says(self, tmp_path: Path, pages: list[int | None], low: int, engine: str) -> None:
        users = [f"u{number}" for number in range(len(pages))]
        rows = frame([{"user_id": who, "at": at(1), "n": n} for who, n in zip(users, pages, strict=True)], n=pl.Int64)
        source = gr.TableSource(rows, name="rows", event_time="at")
        group = gr.FeatureGroup("g", entities=user, source=source)
        asked = pl.DataFrame({"user_id": [*users, "nobody"], "event_time": [at(2)] * (len(users) + 1)})
        with gr.FeatureStore(
            tmp_path, online="memory", offline={"type": "parquet", "path": str(tmp_path / f"o{low}")}
        ) as store:
            store.apply(
                [group, gr.FeatureView("v", features=["g"], filter=f"n >= {low} OR n IS NULL AND user_id <> 'u0'")]
            )
            store.materialize()
            found = store.get_historical_features("v", asked, engine=engine)
        values = [*zip(users, pages, strict=True), ("nobody", None)]
        kept = [(who, n) for who, n in values if (n is not None and n >= low) or (n is None and who != "u0")]
        assert found.to_polars().select("user_id", "n").rows() == kept


class TestLabels:
    @pytest.mark.parametrize("engine", ENGINES)
    def test_a_window_seen_after_it_is_over_is_what_happened_after(self, opened: Opened, engine: str) -> None:
        label = gr.Label("spending:amount__sum__7d", after="7d")
        view = gr.FeatureView("v", features=["visits", "spending:amount__sum__2d"], labels=[label])
        store = opened(visits(), spending(), view)
        moments = [("u1", at(day)) for day in (1, 2, 5, 8, 9, 14, 30)] + [("u2", at(5)), ("u4", at(5))]
        asked = pl.DataFrame(moments, schema=["user_id", "event_time"], orient="row")
        now = at(21)
        found = store.get_historical_features("v", asked, engine=engine, now=now)
        week = dt.timedelta(days=7)
        assert found.to_polars()["amount__sum__7d"].to_list() == [
            total(who, when + week, 7) if when + week <= now else None for who, when in moments
        ]
        assert found.to_polars()["amount__sum__2d"].to_list() == [total(who, when, 2) for who, when in moments]
        assert found.immature is not None
        assert found.immature.tolist() == [when + week > now for _, when in moments]
        assert "labels, 1w later" in found.explain()

    @pytest.mark.parametrize("engine", ENGINES)
    def test_labels_of_different_moments(self, opened: Opened, engine: str) -> None:
        """Each is looked at at its own moment; the same feature may be an input at the row's own time."""
        labels = [gr.Label("orders:amount", after="4d"), gr.Label("visits:pages", after="2d"), "orders:late"]
        features = [gr.select("orders", "amount", prefix="now_"), gr.select("visits", "pages", prefix="now_")]
        store = opened(visits(), orders(), gr.FeatureView("v", features=features, labels=labels))
        found = store.get_historical_features("v", spine(), engine=engine, now=at(30)).to_polars()

        def seen(rows: Sequence[Row], row: Row, column: str, days: int) -> Any:
            moment = None if row["event_time"] is None else row["event_time"] + dt.timedelta(days=days)
            return (visible(rows, row["user_id"], moment) or {}).get(column)

        for name, rows, column, days in (
            ("amount", ORDERS, "amount", 4), ("pages", VISITS, "pages", 2), ("late", ORDERS, "late", 0),
            ("now_amount", ORDERS, "amount", 0), ("now_pages", VISITS, "pages", 0),
        ):  # fmt: skip
            assert found[name].to_list() == [seen(rows, row, column, days) for row in SPINE], name

    def test_a_label_becomes_known_at_the_end_of_its_time(self, opened: Opened) -> None:
        view = gr.FeatureView("v", features=["visits"], labels=[gr.Label("orders:amount", after="2d")])
        store = opened(visits(), orders(), view)
        asked = pl.DataFrame({"user_id": ["u1"], "event_time": [at(5)]})
        for now, value in ((at(7), 20.0), (at(7) - dt.timedelta(microseconds=1), None)):
            found = store.get_historical_features("v", asked, now=now)
            assert found.to_polars()["amount"].to_list() == [value]
            assert found.immature is not None and found.immature.tolist() == [value is None]

    def test_a_default_does_not_stand_in_for_what_is_not_known(self, opened: Opened) -> None:
        view = gr.FeatureView("v", features=["visits"], labels=[gr.Label("orders:amount", after="2d")])
        store = opened(visits(), orders(defaults={"amount": 0.0}), view)
        asked = pl.DataFrame({"user_id": ["u9", "u9"], "event_time": [at(5), at(20)]})
        found = store.get_historical_features("v", asked, now=at(10))
        assert found.to_polars()["amount"].to_list() == [0.0, None]

    @pytest.mark.parametrize("engine", ENGINES)
    def test_at_event(self, opened: Opened, engine: str) -> None:
        """Rows at the time of the event that are written later: seen whatever was known by then, once it is time."""
        label = gr.Label("orders:late", after="3d", observed="at_event")
        store = opened(visits(), orders(), gr.FeatureView("v", features=["visits"], labels=[label]))
        asked = pl.DataFrame({"user_id": ["u1", "u1", "u2"], "event_time": [at(5), at(9), at(20)]})
        for as_known in (False, True):
            found = store.get_historical_features("v", asked, engine=engine, now=at(12), as_known=as_known)
            assert found.to_polars()["late"].to_list() == [True, None, None]
            assert found.immature is not None and found.immature.tolist() == [False, False, True]
        assert "as finally known" in found.explain()

    @pytest.mark.parametrize("kind", ["polars", "arrow", "pandas", "rows"])
    def test_what_the_spine_says_of_the_future_is_not_taken(self, opened: Opened, kind: str) -> None:
        """Integers stay integers, and the columns beside it what they are."""
        view = gr.FeatureView("v", features=["visits"], labels=[gr.Label("orders_after", after="5d"), "kind"])
        store = opened(visits(), view)
        given: Any = pl.DataFrame(
            {
                "user_id": ["u1", "u2", "u1"],
                "event_time": [at(4), at(5), at(6)],
                "orders_after": pl.Series([3, 4, 5], dtype=pl.Int32),
                "kind": ["a", "b", "c"],
            }
        )
        given = {
            "polars": given, "arrow": given.to_arrow(), "pandas": given.to_pandas(), "rows": given.to_dicts()
        }[kind]  # fmt: skip
        found = store.get_historical_features("v", given, now=at(10))
        table = found.to_arrow()
        assert table.column("orders_after").to_pylist() == [3, 4, None]
        assert pa.types.is_integer(table.column("orders_after").type)
        assert table.column("kind").to_pylist() == ["a", "b", "c"]
        assert found.immature is not None and found.immature.tolist() == [False, False, True]
        assert found.to_pandas()["orders_after"].isna().tolist() == [False, False, True]
        if kind == "polars":
            assert found.to_polars().schema["orders_after"] == pl.Int32
            assert given["orders_after"].to_list() == [3, 4, 5], "what was given stays as it is"
        if kind == "pandas":
            assert str(found.to_pandas()["orders_after"].dtype) == "Int32"
            assert given["orders_after"].tolist() == [3, 4, 5]

    def test_a_row_without_time_is_never_known(self, opened: Opened) -> None:
        view = gr.FeatureView("v", features=["visits"], labels=[gr.Label("y", after="5d")])
        store = opened(visits(), view)
        found = store.get_historical_features("v", spine(y=[1, 2, 3, 4, 5, 6, 7]), now=at(30))
        assert found.to_polars()["y"].to_list() == [1, 2, 3, 4, 5, 6, None]
        assert found.immature is not None and found.immature.tolist() == [False] * 6 + [True]

    def test_no_label_that_takes_time_no_mask(self, opened: Opened) -> None:
        """Nor where the spine does not bring it: batch inference asks with the same view."""
        plain = gr.FeatureView("plain", features=["visits"], labels=["y"])
        timed = gr.FeatureView("timed", features=["visits"], labels=[gr.Label("y", after="5d")])
        store = opened(visits(), plain, timed)
        assert store.get_historical_features("plain", spine(y=[1] * 7)).immature is None
        assert store.get_historical_features("timed", spine()).immature is None

    def test_the_mask_is_of_the_rows_that_stay(self, opened: Opened) -> None:
        view = gr.FeatureView(
            "v",
            features=[gr.select("visits", join="inner")],
            labels=[gr.Label("y", after="5d")],
            filter="y <> 2 OR y IS NULL",
        )
        store = opened(visits(), view)
        found = store.get_historical_features("v", spine(y=[1, 2, 3, 4, 5, 6, 7]), now=at(11))
        assert found.to_polars()["y"].to_list() == [None, None]
        assert found.immature is not None and found.immature.tolist() == [True, True]
        assert isinstance(found.immature, np.ndarray)

    def test_labels_are_never_served(self, opened: Opened) -> None:
        view = gr.FeatureView("v", features=["visits"], labels=[gr.Label("orders:amount", after="4d")])
        store = opened(visits(), orders(), view)
        found = store.get_online_features("v", [{"user_id": "u1"}], now=at(30))
        assert found.column_names == ("user_id", "pages", "device")

    def test_now_is_the_clock_without_being_said(self, opened: Opened) -> None:
        view = gr.FeatureView("v", features=["visits"], labels=[gr.Label("orders:amount", after="4d")])
        store = opened(visits(), orders(), view)
        soon = dt.datetime.now(dt.UTC) + dt.timedelta(days=1)
        asked = pl.DataFrame({"user_id": ["u1", "u1"], "event_time": [dt.datetime(2020, 1, 1, tzinfo=dt.UTC), soon]})
        found = store.get_historical_features("v", asked)
        assert found.immature is not None and found.immature.tolist() == [False, True]


class TestLeaksOfLaterLabels:
    def test_what_happens_after_is_no_leak(self, opened: Opened) -> None:
        """Windows of the features end where the label's window begins."""
        store = opened(spending(), orders(), materialize=False)
        label = gr.Label("spending:amount__sum__7d", after="7d")
        done = store.apply([gr.FeatureView("v", features=["spending:amount__sum__2d"], labels=[label])])
        assert done.leaks == ()

    @pytest.mark.parametrize("label", ["spending:amount__sum__7d", gr.Label("spending:amount__sum__7d", after="6d")])
    def test_a_window_that_reaches_before_the_row_still_is(self, opened: Opened, label: Any) -> None:
        store = opened(spending(), materialize=False)
        done = store.apply([gr.FeatureView("v", features=["spending:amount__sum__2d"], labels=[label])])
        assert [leak.code for leak in done.leaks] == ["LEAK-002"]
        assert "events of the window of the label" in str(done.leaks[0])

    def test_the_event_that_a_label_of_its_own_time_comes_from(self, opened: Opened) -> None:
        store = opened(spending(), orders(), materialize=False)
        late = gr.Label("orders:amount", after="3d", observed="at_event")
        done = store.apply([gr.FeatureView("v", features=["spending:amount__sum__2d"], labels=[late])])
        assert "the event that the label orders:amount comes from" in str(done.leaks[0])

    def test_a_value_now_and_the_same_value_later(self, opened: Opened) -> None:
        """Joined rows see events of their very own time, and these tell nothing of a later value."""
        rows = [{"user_id": f"u{n % 7}", "at": at(1 + n // 7, n % 24), "x": float((n * 37) % 11)} for n in range(140)]
        source = gr.TableSource(frame(rows), name="rows", event_time="at")
        group = gr.FeatureGroup("g", entities=user, source=source)
        asked = pl.DataFrame([(r["user_id"], r["at"]) for r in rows], schema=["user_id", "event_time"], orient="row")
        now = gr.select("g", "x", rename={"x": "x_now"})
        store = opened(group)
        later = gr.FeatureView("later", features=[now], labels=[gr.Label("g:x", after="2d")])
        found = store.get_historical_features(later, asked, now=at(31))
        assert [leak for leak in found.leaks if leak.severity == "warning" and leak.code == "LEAK-101"] == []
        with pytest.raises(DefinitionError, match="both a feature and a label"):
            store.get_historical_features(gr.FeatureView("same", features=[now], labels=["g:x"]), asked)


class TestRoles:
    def view(self, **options: Any) -> gr.FeatureView:
        return gr.FeatureView(
            "v",
            features=["visits", gr.select("orders", prefix="o_"), "shops"],
            requests=[gr.RequestSource("basket", schema={"basket": "float64"})],
            labels=["churned", gr.Label("spending:amount__sum__7d", after="7d")],
            derived={"per_page": "basket / pages", "twice": "per_page * 2"},
            **options,
        )

    def trained(self, store: gr.FeatureStore) -> Any:
        return store.get_historical_features("v", spine(churned=[True] * 7, basket=[1.0] * 7), now=at(30))

    def test_what_columns_are_for(self, opened: Opened) -> None:
        view = self.view(
            training_helpers=["note", "visits:device"],
            inference_helpers=["o_late", "per_page", "shops:country"],
        )
        store = opened(visits(), orders(), shops(), spending(), view)
        found = self.trained(store)
        assert found.roles == {
            "user_id": "key",
            "shop_id": "key",
            "event_time": "event_time",
            "note": "training_helper",
            "churned": "label",
            "basket": "request",
            "pages": "feature",
            "device": "training_helper",
            "o_amount": "feature",
            "o_late": "inference_helper",
            "country": "inference_helper",
            "amount__sum__7d": "label",
            "per_page": "inference_helper",
            "twice": "feature",
        }
        assert list(found.roles) == found.to_polars().columns
        assert found.features == ("pages", "o_amount", "twice")
        assert found.labels == ("churned", "amount__sum__7d")
        assert found.spine_names == ("user_id", "shop_id", "event_time", "note", "churned", "basket")

    def test_training_helpers_are_not_read_online(self, opened: Opened) -> None:
        """Unless something that is served is made of one; then it is read, and not served."""
        view = self.view(training_helpers=["visits:pages", "shops:country"], inference_helpers=["per_page"])
        # nothing of shops is served, so it need not be online
        store = opened(visits(), orders(), shops(online=False), spending(online=False), view)
        plan = store.explain_online("v")
        assert "country" not in plan and "pages" in plan
        found = store.get_online_features("v", [{"user_id": "u2", "shop_id": 1, "basket": 3.5}], now=at(25))
        (row,) = found.to_dicts()
        assert row == {
            "user_id": "u2", "basket": 3.5, "device": "desk", "o_amount": 2.5, "o_late": True, "per_page": 0.5,
            "twice": 1.0,
        }  # fmt: skip
        assert found.column_names == tuple(row)
        assert found.to_arrow().to_pylist() == [row]
        assert set(found.statuses[0]) == {"device", "o_amount", "o_late", "per_page", "twice"}
        assert set(found.event_times[0]) == {"device", "o_amount", "o_late"}
        assert found.roles == {
            "user_id": "key", "basket": "request", "device": "feature", "o_amount": "feature", "o_late": "feature",
            "per_page": "inference_helper", "twice": "feature",
        }  # fmt: skip

    def test_both_kinds_are_in_history(self, opened: Opened) -> None:
        view = self.view(training_helpers=["device"], inference_helpers=["o_late"])
        store = opened(visits(), orders(), shops(), spending(), view)
        assert {"device", "o_late"} <= set(self.trained(store).to_polars().columns)

    @pytest.mark.parametrize(
        ("options", "says", "closest"),
        [
            ({"training_helpers": ["visits:pgaes"]}, "'visits:pgaes' is none of the features", "visits:pages"),
            ({"training_helpers": ["nothing:x"]}, "'nothing:x' is none of the features", ""),
            ({"inference_helpers": ["pgaes"]}, "'pgaes' is no column of a vector", "pages"),
            ({"inference_helpers": ["note"]}, "'note' is no column of a vector", ""),
            ({"inference_helpers": ["spending:amount__sum__2d"]}, "none of the features", ""),
        ],
    )
    def test_a_helper_that_is_nothing(self, opened: Opened, options: Any, says: str, closest: str) -> None:
        store = opened(visits(), orders(), shops(), spending(), materialize=False)
        with pytest.raises(DefinitionError, match=says) as caught:
            store.apply([self.view(**options)])
        assert closest in ("", *caught.value.closest)

    def test_request_columns_can_be_helpers(self, opened: Opened) -> None:
        store = opened(visits(), orders(), shops(), spending(), self.view(inference_helpers=["basket"]))
        assert self.trained(store).roles["basket"] == "inference_helper"

    @pytest.mark.parametrize(
        ("options", "says"),
        [
            ({"inference_helpers": ["user_id"]}, "'user_id' is both a helper and a join key"),
            ({"training_helpers": ["shop_id"]}, "'shop_id' is both a helper and a join key"),
            ({"training_helpers": ["pages"], "inference_helpers": ["pages"]}, "'pages' is both a training helper and"),
            (
                {"training_helpers": ["visits:pages"], "inference_helpers": ["pages"]},
                "'pages' is both a training helper and an inference helper",
            ),
        ],
    )
    def test_a_helper_is_nothing_else_besides(self, opened: Opened, options: Any, says: str) -> None:
        store = opened(visits(), orders(), shops(), spending(), materialize=False)
        with pytest.raises(DefinitionError, match=says):
            store.apply([self.view(**options)])

    def test_a_label_of_the_spine_is_not_called_as_a_group_is(self, opened: Opened) -> None:
        store = opened(visits(), orders(), materialize=False)
        with pytest.raises(
            DefinitionError, match="label 'orders' is a column of the spine, and feature group 'orders'"
        ) as caught:
            store.apply([gr.FeatureView("v", features=["visits"], labels=["orders"])])
        assert caught.value.try_ is not None and '"orders:..."' in caught.value.try_

    def test_a_view_takes_over_features_of_another_and_none_of_its_roles(self, opened: Opened) -> None:
        inner = gr.FeatureView(
            "inner", features=["visits"], labels=["y"], filter="pages > 1000", training_helpers=["device"]
        )
        store = opened(visits(), inner, gr.FeatureView("outer", features=["inner"]))
        found = store.get_historical_features("outer", spine())
        assert len(found) == 7 and found.features == ("pages", "device")

    def test_names_of_lists_have_roles_too(self, opened: Opened) -> None:
        store = opened(visits())
        found = store.get_historical_features(["visits:pages"], spine())
        assert found.roles["pages"] == "feature" and found.roles["shop_id"] == "spine"


class TestTransformations:
    """What prepares features for a model is applied to training data, later; a join leaves features as they are."""

    def test_they_do_not_change_what_is_joined_or_served(self, opened: Opened) -> None:
        step = gr.Step("standard_scaler", ("pages",))
        store = opened(visits(), gr.FeatureView("v", features=["visits"], transformations=[step]))
        found = store.get_historical_features("v", spine(), transform=False)
        assert found.to_polars()["pages"].to_list() == [
            None,
            3,
            None,
            7,
            None,
            None,
            None,
        ]
        served = store.get_online_features("v", [{"user_id": "u2"}], now=at(25), transform=False)
        assert served.to_dicts()[0]["pages"] == 7

    @pytest.mark.parametrize(
        ("steps", "says"),
        [
            ([gr.Step("standard_scaler", ("pgaes",))], "takes 'pgaes', which is no feature that a model takes"),
            ([gr.Step("standard_scaler", ("y",))], "takes 'y'"),
            ([gr.Step("standard_scaler", ("device",))], "takes 'device'"),
            ([gr.Step("standard_scaler", ("amount",))], "takes 'amount'"),
            ([gr.Step("one_hot_encoder", ("kind",)), gr.Step("log", ("dvice__phone",))], "takes 'dvice__phone'"),
        ],
    )
    def test_they_take_features_that_there_are(self, opened: Opened, steps: Any, says: str) -> None:
        store = opened(visits(), orders(), materialize=False)
        view = gr.FeatureView(
            "v",
            features=["visits"],
            labels=["y", "orders:amount"],
            derived={"kind": "upper(device)"},
            training_helpers=["device"],
            transformations=steps,
        )
        with pytest.raises(DefinitionError, match=says) as caught:
            store.apply([view])
        assert "pages" in caught.value.closest or "pgaes" not in says

    @pytest.mark.parametrize(
        ("name", "is_"),
        [
            ("y", "a label"),
            ("amount", "a label"),
            ("user_id", "a join key"),
            ("basket", "a request column"),
            ("device", "a helper"),
            ("note", "a helper"),
            ("event_time", "the time of the rows"),
        ],
    )
    def test_they_take_no_other_column_s_place(self, opened: Opened, name: str, is_: str) -> None:
        store = opened(visits(), orders(), materialize=False)
        view = gr.FeatureView(
            "v",
            features=["visits"],
            labels=["y", "orders:amount"],
            requests=[gr.RequestSource("basket", schema={"basket": "float64"})],
            training_helpers=["device", "note"],
            transformations=[gr.Step("standard_scaler", ("pages",), (name,))],
        )
        with pytest.raises(NameCollisionError, match=f"makes '{name}', which is the name of {is_}"):
            store.apply([view])

    def test_they_take_no_label_s_place_beside_a_pinned_version_either(self, opened: Opened) -> None:
        store = opened(visits())
        step = gr.Step("standard_scaler", ("pages",), ("y",))
        with pytest.raises(NameCollisionError, match="makes 'y', which is the name of a label"):
            store.apply([gr.FeatureView("v", features=["visits@1.0.0"], labels=["y"], transformations=[step])])

    def test_they_take_what_earlier_ones_made(self, opened: Opened) -> None:
        steps = [
            gr.Step("one_hot_encoder", ("device",)),
            gr.Step("standard_scaler", ("twice",), ("scaled",)),
            gr.Step("log", ("scaled", "device__phone")),
        ]
        view = gr.FeatureView("v", features=["visits"], derived={"twice": "pages * 2"}, transformations=steps)
        opened(visits(), view, materialize=False)


def test_a_name_that_is_taken(opened: Opened) -> None:
    store = opened(visits(), orders(), materialize=False)
    later = gr.Label("visits:pages", after="2d")
    with pytest.raises(NameCollisionError, match="'pages'"):
        store.apply([gr.FeatureView("v", features=["visits:pages"], labels=[later])])
    with pytest.raises(NameCollisionError, match="'pages'"):
        store.apply([gr.FeatureView("v", features=["visits:pages"], labels=["pages"])])
    with pytest.raises(SchemaError, match="amuont"):
        store.apply([gr.FeatureView("v", features=["visits"], derived={"x": "amuont + 1"})])
