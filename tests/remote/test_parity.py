"""What a remote store answers is what the embedded one does: verb by verb, over a real server."""

from __future__ import annotations

import asyncio
import datetime as dt
import decimal
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from tests.remote.conftest import Both
from tests.shop import at, user

import grange as gr
from grange.errors import GrangeError, RefusedError, RequestError, UnknownFeatureGroupError, UnsupportedError
from grange.verbs.progress import Progress

SPINE = pl.DataFrame(
    {
        "user_id": ["u1", "u2", "u9", None, "u1"],
        "shop_id": [1, 2, 1, 2, None],
        "event_time": [at(11), at(6), at(6), at(6), None],
        "note": ["a", "b", None, "d", "e"],
    }
)
ROWS = [{"user_id": "u1", "shop_id": 1}, {"user_id": "u9", "shop_id": 2}, {"user_id": None, "shop_id": 1}]

SAME: dict[str, Callable[[Any], Any]] = {
    "plan": lambda store: store.plan(),
    "plan of a change": lambda store: store.plan([gr.Entity("courier", join_keys=["courier_id"])]),
    "plan_materialize": lambda store: store.plan_materialize(),
    "plan_materialize of one": lambda store: store.plan_materialize("spend", version="3.0.0"),
    "versions": lambda store: store.versions("spend"),
    "versions of a pin": lambda store: store.versions("spend@1.0.0"),
    "version": lambda store: store.version("spend"),
    "manifest": lambda store: store.manifest(),
    "inspect a group": lambda store: {**store.inspect("spend"), "uses": None},
    "inspect a view": lambda store: {**store.inspect("careful"), "uses": None},
    "inspect an entity": lambda store: store.inspect("user"),
    "search": lambda store: store.search("spend"),
    "search everything": lambda store: store.search("", kinds=["feature_group"], owner="payments"),
    "search nothing": lambda store: store.search("nowhere", tags={"tier": "gold"}, limit=1),
    "keywords": lambda store: store.keywords(),
    "similar": lambda store: store.similar("spend:amount", limit=3, compute=True),
    "statistics": lambda store: store.statistics("spend", columns=["amount", "visits"]).to_dict(),
    "impact": lambda store: store.impact("spend"),
    "impact of a file": lambda store: store.impact("data/spend.parquet"),
    "verify": lambda store: store.verify("spend"),
    "explain_online": lambda store: store.explain_online("shopping"),
    "explain_online of a list": lambda store: store.explain_online(["spend:amount"], full_feature_names=True),
    "exports": lambda store: store.exports(),
    "training_datasets": lambda store: store.training_datasets(),
}
FAILS: dict[str, Callable[[Any], Any]] = {
    "version that is none": lambda store: store.version("spend", "9.0.0"),
    "group that is none": lambda store: store.versions("spent"),
    "diff of one version": lambda store: store.diff("spend"),
    "rollback to nothing": lambda store: store.plan_rollback("spend", previous=True),
    "export that is none": lambda store: store.export_info("export-000009"),
    "dataset that is none": lambda store: store.training_dataset("shopping"),
    "feature that is none": lambda store: store.get_online_features(["spend:amout"], ROWS),
    "view that is none": lambda store: store.get_online_features("shoping", ROWS),
    "selection of nothing": lambda store: store.get_online_features([gr.select("spend", "amout")], ROWS),
    "selection with a wrong key": lambda store: store.get_online_features([gr.select("spend", on={"u": "v"})], ROWS),
    "selections under one name": lambda store: store.get_historical_features(
        [gr.select("spend", rename={"amount": "visits"})], SPINE
    ),
    "what names no features": lambda store: store.get_online_features([1], ROWS),
    "row without its key": lambda store: store.get_online_features("shopping", [{"user_id": "u1"}]),
    "key of another type": lambda store: store.get_online_features("shopping", [{"user_id": 1, "shop_id": 1}]),
    "rows that are one row": lambda store: store.get_online_features("shopping", ROWS[0]),
    "spine without its key": lambda store: store.get_historical_features("shopping", SPINE.drop("user_id")),
    "spine and a range": lambda store: store.get_historical_features("shopping", SPINE, start="2026-03-01"),
    "no time to see": lambda store: store.get_historical_features("shopping", SPINE.drop("event_time")),
    "time that is none": lambda store: store.read("spend", start="yesterday"),
    "no names": lambda store: store.materialize([]),
    "a pinned group": lambda store: store.materialize("spend@1.0.0"),
    "push to nothing": lambda store: store.push("spent", [{"a": 1}]),
    "push of a wrong type": lambda store: store.push("clicks", [{"user_id": 1, "at": "x", "page": 1, "n": 1}]),
    "column that is none": lambda store: store.read("spend", columns=["amout"]),
    "statistics of no column": lambda store: store.statistics("spend", columns=["amout"]),
    "node that is none": lambda store: store.lineage("nothing"),
    "delete what is used": lambda store: store.delete("spend"),
    "definition that is none": lambda store: store.apply(["spend"]),
}


@pytest.mark.parametrize("name", SAME)
def test_a_verb_answers_the_same(shared: Both, name: str) -> None:
    ask = SAME[name]

    expected = ask(shared.embedded)
    while True:
        found, again = ask(shared.remote), ask(shared.embedded)
        if again == expected:
            break
        expected = again  # how often something was used is written now and then: then both are asked once more
    assert found == expected
    assert shown(found) == shown(expected)


def test_explaining_materialize_is_the_same_and_names_files_in_the_project(shared: Both) -> None:
    expected, found = (
        store.explain_materialize("spend", start=at(1), end="2026-03-09") for store in (shared.embedded, shared.remote)
    )
    assert str(shared.folder) in expected
    assert found == as_told(shared, expected)


def as_told(both: Both, text: str) -> str:
    """A text about the project's files as a server tells it (SEC-11)."""
    return text.replace(f"{both.folder}/", "")


def shown(answer: Any) -> list[str]:
    """An answer as people read it."""
    return [str(item) for item in answer] if isinstance(answer, tuple) else [str(answer)]


@pytest.mark.parametrize("name", FAILS)
def test_a_verb_fails_the_same(shared: Both, name: str) -> None:
    ask = FAILS[name]
    with pytest.raises(GrangeError) as expected:
        ask(shared.embedded)
    with pytest.raises(GrangeError) as found:
        ask(shared.remote)

    assert type(found.value) is type(expected.value)
    assert str(found.value) == str(expected.value)
    assert found.value.retry == expected.value.retry


def test_the_catalog_is_the_same(shared: Both) -> None:
    expected, found = shared.embedded.catalog, shared.remote.catalog

    assert (found.entities, found.groups, found.views) == (expected.entities, expected.groups, expected.views)
    assert shared.remote.catalog is found


@pytest.mark.parametrize("options", [{}, {"direction": "upstream"}, {"columns": True}, {"depth": 1}])
@pytest.mark.parametrize("name", ["shopping", "spend", "data/spend.parquet"])
def test_lineage_is_the_same_in_every_form(shared: Both, name: str, options: dict[str, Any]) -> None:
    expected = shared.embedded.lineage(name, **options)
    found = shared.remote.lineage(name, **options)

    assert found.to_dict() == expected.to_dict()
    assert found.to_tree() == expected.to_tree()
    assert found.to_dot() == expected.to_dot()
    assert len(found.to_openlineage()) == len(expected.to_openlineage())
    assert (found.upstream, found.downstream) == (expected.upstream, expected.downstream)


@pytest.mark.parametrize(
    "options", [{}, {"columns": ["visits", "user_id"]}, {"start": at(2), "end": at(9)}, {"limit": 2}]
)
def test_rows_are_the_same(shared: Both, options: dict[str, Any]) -> None:
    assert shared.remote.read("spend", **options).arrow.equals(shared.embedded.read("spend", **options).arrow)


# features


@pytest.mark.parametrize("features", ["shopping", "careful", "spend", ["spend:amount", "shops"], [("spend", "1.0.0")]])
@pytest.mark.parametrize("rows", [ROWS, [], pl.DataFrame(ROWS), iter(ROWS)], ids=["rows", "none", "frame", "iterator"])
def test_vectors_are_the_same(shared: Both, features: Any, rows: Any) -> None:
    rows = list(rows) if hasattr(rows, "__next__") else rows
    expected = shared.embedded.get_online_features(features, rows, now=at(20))
    found = shared.remote.get_online_features(features, rows, now=at(20))

    assert found.to_dicts() == expected.to_dicts()
    assert found.to_arrow().equals(expected.to_arrow())
    assert (found.column_names, found.roles) == (expected.column_names, expected.roles)
    assert (found.statuses, found.event_times) == (expected.statuses, expected.event_times)
    assert (len(found), found.degraded, repr(found)) == (len(expected), expected.degraded, repr(expected))
    assert found.to_polars().equals(expected.to_polars())
    assert found.to_pandas().equals(expected.to_pandas())


SELECTIONS: dict[str, Any] = {
    "alone": gr.select("spend", "amount", "visits"),
    "another name": [gr.select("spend", "visits", rename={"visits": "times"}), "shops"],
    "the old name too": ["spend:visits", gr.select("spend", "visits", rename={"visits": "times"})],
    "another key": ["spend", gr.select("spend:visits", on={"user_id": "buyer"}, rename={"visits": "bought"})],
    "strictly before": (
        gr.select("spend:visits", exact_matches=False, rename={"visits": "before"}),
        gr.select("careful"),
    ),
    "versions": [("spend", "1.0.0"), gr.select("shops", version="1.0.0", prefix="own_")],
    "a version": ("spend", "1.0.0"),
    "two references": ("spend:amount", "shops"),
    "a join": [gr.select("spend", join="inner"), "shops"],
}
BUYERS = [{"user_id": "u1", "shop_id": 1, "buyer": "u2"}, {"user_id": "u9", "shop_id": 2, "buyer": None}]


@pytest.mark.parametrize("options", [{}, {"full_feature_names": True}], ids=["short", "full"])
@pytest.mark.parametrize("name", SELECTIONS)
def test_selections_travel(shared: Both, name: str, options: dict[str, Any]) -> None:
    features = SELECTIONS[name]
    expected = shared.embedded.get_online_features(features, BUYERS, now=at(20), **options)
    found = shared.remote.get_online_features(features, BUYERS, now=at(20), **options)

    assert found.to_dicts() == expected.to_dicts()
    assert found.to_arrow().equals(expected.to_arrow())
    assert (found.roles, found.statuses, found.event_times) == (expected.roles, expected.statuses, expected.event_times)
    assert shared.remote.explain_online(features, **options) == shared.embedded.explain_online(features, **options)

    spine = SPINE.with_columns(buyer=pl.Series(["u2", "u1", None, "u1", "u2"]))
    past = shared.embedded.get_historical_features(features, spine, **options)
    remote = shared.remote.get_historical_features(features, spine, **options)
    assert remote.to_arrow().equals(past.to_arrow())
    assert (remote.roles, remote.pins) == (past.roles, past.pins)
    assert remote.explain() == as_told(shared, past.explain())


def test_definitions_that_are_applied_are_references(shared: Both) -> None:
    catalog = shared.embedded.catalog
    features = [catalog.views["careful"], catalog.groups["shops"]]
    expected = shared.embedded.get_online_features(features, ROWS, now=at(20))

    assert shared.remote.get_online_features(features, ROWS, now=at(20)).to_dicts() == expected.to_dicts()
    mine = gr.FeatureView("careful", features=["spend:amount"])
    with pytest.raises(UnsupportedError, match="not applied on the server as it is here"):
        shared.remote.get_online_features([mine, "shops"], ROWS)


def test_the_async_store_takes_selections(shared: Both) -> None:
    features = SELECTIONS["another key"]
    spine = SPINE.with_columns(buyer=pl.lit("u2"))

    async def ask() -> tuple[Any, Any]:
        async with gr.AsyncFeatureStore(shared.url) as store:
            vectors = await store.get_online_features(features, BUYERS, now=at(20))
            history = await store.get_historical_features(features, spine)
            return vectors, history

    vectors, history = asyncio.run(ask())
    expected = shared.embedded.get_online_features(features, BUYERS, now=at(20))
    assert (vectors.to_dicts(), vectors.roles) == (expected.to_dicts(), expected.roles)
    assert history.to_arrow().equals(shared.embedded.get_historical_features(features, spine).to_arrow())


def test_selections_travel_beside_keys_that_are_decimals(both: Both) -> None:
    """Whose rows are sent as Arrow, with the features in the query."""
    priced = gr.FeatureGroup(
        "priced",
        entities=gr.Entity("price", join_keys={"price": "decimal(6,2)"}),
        source=gr.PushSource(
            "prices", schema={"price": "decimal(6,2)", "at": "datetime", "n": "int64"}, event_time="at"
        ),
    )
    pricing = gr.FeatureView("pricing", features=["priced"], transformations=[gr.log("n")])
    both.remote.apply([priced, pricing])
    both.remote.push("priced", {"price": [decimal.Decimal("1.50")], "at": [at(1)], "n": [5]})
    rows = [{"price": decimal.Decimal("1.50")}, {"price": decimal.Decimal("2.00")}]

    for features in (
        ["pricing"],
        ["priced"],
        [gr.select("priced", "n", rename={"n": "é, {n}"})],
        ["priced:n", gr.select("priced", prefix="own_")],
    ):
        found = both.remote.get_online_features(features, rows, now=at(2))
        expected = both.embedded.get_online_features(features, rows, now=at(2))
        assert found.to_dicts() == expected.to_dicts()
        assert found.to_arrow().equals(expected.to_arrow())


def test_request_columns_of_what_a_list_takes_come_back_as_they_were_sent(both: Both) -> None:
    sized = gr.FeatureView(
        "sized", features=["spend:visits"], requests=gr.RequestSource("basket", schema={"size": "int64"})
    )
    pace = gr.Transformation(
        "pace",
        sql={"pace": "visits / hours"},
        inputs=["visits", "hours"],
        outputs={"pace": "float64"},
        requests={"hours": "float64"},
    )
    paced = gr.FeatureGroup(
        "paced", entities=user, source=gr.FileSource("data/spend.parquet", event_time="at"), on_demand=[pace]
    )
    both.remote.apply([sized, paced])
    both.remote.materialize("paced")
    rows = [{"user_id": "u1", "size": 3, "hours": 2.0}]
    for features in (["sized"], [gr.select("paced", "pace", rename={"pace": "speed"})], ["sized", "paced:pace"]):
        found = both.remote.get_online_features(features, rows, now=at(20))
        expected = both.embedded.get_online_features(features, rows, now=at(20))
        assert (found.to_dicts(), found.roles) == (expected.to_dicts(), expected.roles)


EVERY_TYPE = {
    "i": "int64", "u8": "uint8", "f": "float64", "t": "boolean", "s": "string", "b": "binary", "d": "date",
    "m": "datetime", "l": "duration", "n": "decimal(12,2)", "u": "uuid", "x": "list[date]",
    "y": "struct{a:int64,d:date,n:decimal(5,1)}",
}  # fmt: skip
VALUES: list[dict[str, Any]] = [
    {"i": -(2**63), "u8": 255, "f": float("inf"), "t": True, "s": "a\x00\U0001f600", "b": b"\x00\xff",
     "d": dt.date(1, 1, 1), "m": dt.datetime(1960, 1, 1, microsecond=1), "l": dt.timedelta(days=-3, microseconds=7),
     "n": decimal.Decimal("-1234567890.12"), "u": "6ba7b810-9dad-11d1-80b4-00c04fd430c8",
     "x": [dt.date(2026, 3, 1), None], "y": {"a": 1, "d": dt.date(2026, 3, 1), "n": decimal.Decimal("0.5")}},
    {"i": 2**63 - 1, "f": -0.0, "t": False, "s": "", "b": b"", "x": [], "y": {"a": None, "d": None, "n": None},
     "l": dt.timedelta(0), "n": decimal.Decimal("0.00"), "d": dt.date(9999, 12, 31)},
    dict.fromkeys(EVERY_TYPE),
]  # fmt: skip


def test_values_of_every_type_arrive_as_they_are(both: Both) -> None:
    schema = {"user_id": "string", "at": "datetime", **EVERY_TYPE}
    both.remote.apply(
        gr.FeatureGroup(
            "every",
            entities=user,
            source=gr.PushSource("every_events", schema=schema, event_time="at"),
            defaults={"u8": 7},
        )
    )
    columns: dict[str, list[Any]] = {name: [row.get(name) for row in VALUES] for name in EVERY_TYPE}
    both.remote.push("every", {"user_id": ["a", "b", "c"], "at": [at(1)] * 3, **columns})
    rows = [{"user_id": "a"}, {"user_id": "b"}, {"user_id": "c"}, {"user_id": "d"}]
    expected = both.embedded.get_online_features("every", rows, now=at(2))
    found = both.remote.get_online_features("every", rows, now=at(2))

    assert found.to_dicts() == expected.to_dicts()
    assert [list(map(type, row.values())) for row in found.to_dicts()] == [
        list(map(type, row.values())) for row in expected.to_dicts()
    ]
    assert found.to_arrow().equals(expected.to_arrow())
    assert both.remote.read("every").arrow.equals(both.embedded.read("every").arrow)


@pytest.mark.parametrize("kind", ["date", "datetime", "decimal(6,2)", "uuid", "binary", "boolean", "int16"])
def test_keys_of_every_type_find_their_rows(both: Both, kind: str) -> None:
    key: Any = {
        "date": dt.date(2026, 3, 1),
        "datetime": at(1, 2, 3),
        "decimal(6,2)": decimal.Decimal("12.30"),
        "uuid": uuid.UUID("6ba7b810-9dad-11d1-80b4-00c04fd430c8"),
        "binary": b"\x00k",
        "boolean": True,
        "int16": np.int16(3),
    }[kind]
    kept = str(key) if kind == "uuid" else int(key) if kind == "int16" else key
    group = gr.FeatureGroup(
        "keyed",
        entities=gr.Entity("thing", join_keys={"thing_id": kind}),
        source=gr.PushSource("things", schema={"thing_id": kind, "at": "datetime", "n": "int64"}, event_time="at"),
    )
    both.remote.apply(group)
    both.remote.push("keyed", {"thing_id": [kept], "at": [at(1)], "n": [5]})
    rows = [{"thing_id": key}, {"thing_id": None}]

    found = both.remote.get_online_features("keyed", rows, now=at(2))
    expected = both.embedded.get_online_features("keyed", rows, now=at(2))
    assert [row["n"] for row in found.to_dicts()] == [5, None]
    assert found.to_dicts() == expected.to_dicts()
    assert found.to_arrow().equals(expected.to_arrow())


def test_vectors_can_come_without_statuses(shared: Both) -> None:
    with gr.FeatureStore(shared.url, statuses=False) as store:
        found = store.get_online_features("shopping", ROWS, now=at(20))

    assert found.to_dicts() == shared.embedded.get_online_features("shopping", ROWS, now=at(20)).to_dicts()
    with pytest.raises(UnsupportedError, match="statuses"):
        _ = found.statuses
    with pytest.raises(UnsupportedError, match="event times"):
        _ = found.event_times


def pandas_spine() -> pd.DataFrame:
    frame = SPINE.to_pandas()
    frame["shop_id"] = frame["shop_id"].astype("Int64")
    frame["anything"] = [1, "two", None, 3.0, {}]
    return frame.set_index(pd.Index([9, 7, 5, 3, 1], name="row"))


@pytest.mark.parametrize(
    "spine", [SPINE, SPINE.to_arrow(), SPINE.to_dicts(), SPINE.lazy()], ids=["polars", "arrow", "dicts", "lazy"]
)
def test_history_is_the_same(shared: Both, spine: Any) -> None:
    expected = shared.embedded.get_historical_features("shopping", spine)
    found = shared.remote.get_historical_features("shopping", spine)

    assert found.to_arrow().equals(expected.to_arrow())
    assert found.to_polars().equals(expected.to_polars())
    assert (found.roles, found.versions, found.pins) == (expected.roles, expected.versions, expected.pins)
    assert (found.features, found.labels, found.spine_names) == (
        expected.features,
        expected.labels,
        expected.spine_names,
    )
    assert (found.explain(), found.leaks) == (as_told(shared, expected.explain()), expected.leaks)
    assert (found.event_time, found.rows_left_out, repr(found)) == (expected.event_time, 0, repr(expected))
    with pytest.raises(UnsupportedError, match="explain"):
        _ = found.plan


def test_a_pandas_spine_keeps_its_index_its_types_and_columns_of_anything(shared: Both) -> None:
    expected = shared.embedded.get_historical_features("shopping", pandas_spine()).to_pandas()
    found = shared.remote.get_historical_features("shopping", pandas_spine()).to_pandas()

    pd.testing.assert_frame_equal(found, expected)


def test_history_without_a_spine_is_the_same(shared: Both) -> None:
    expected = shared.embedded.get_historical_features(["spend"], start="2026-03-01", end=at(9))
    found = shared.remote.get_historical_features(["spend"], start="2026-03-01", end=at(9))

    assert found.to_arrow().equals(expected.to_arrow())
    assert found.spine_names == expected.spine_names


@pytest.mark.parametrize("ending", ["parquet", "csv"])
def test_a_file_and_a_query_are_read_where_the_caller_is(
    shared: Both, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    rows = SPINE.head(2).drop("note")
    getattr(rows, f"write_{ending}")(tmp_path / f"mine.{ending}")
    monkeypatch.chdir(tmp_path)
    expected = shared.embedded.get_historical_features("shopping", rows).to_polars()

    for spine in (f"mine.{ending}", Path(f"mine.{ending}"), f"SELECT * FROM 'mine.{ending}'"):
        found = shared.remote.get_historical_features("shopping", spine).to_polars()
        assert found.select("user_id", "amount", "country").equals(expected.select("user_id", "amount", "country"))


def test_keys_of_a_file_without_types_keep_their_zeros(
    shared: Both, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.csv").write_text("user_id,event_time\n007,2026-03-11T00:00:00Z\n")
    monkeypatch.chdir(tmp_path)

    assert shared.remote.get_historical_features("careful", "mine.csv").to_polars()["user_id"].to_list() == ["007"]


def test_a_view_that_is_another_one_here_is_not_taken_for_the_servers(shared: Both) -> None:
    mine = gr.FeatureView("careful", features=["spend:amount"])
    same = shared.embedded.catalog.views["careful"]

    assert shared.remote.get_online_features(same, ROWS).to_dicts()
    with pytest.raises(UnsupportedError, match="not applied on the server as it is here"):
        shared.remote.get_online_features(mine, ROWS)


def test_the_async_store_answers_the_same(shared: Both) -> None:
    async def ask() -> tuple[Any, ...]:
        async with gr.AsyncFeatureStore(shared.url) as store:
            vectors = await store.get_online_features("shopping", ROWS, now=at(20))
            history = await store.get_historical_features("shopping", SPINE)
            lineage = await store.lineage("shopping")
            return vectors.to_dicts(), history.to_arrow(), len(lineage.to_openlineage()), await store.catalog

    vectors, history, events, catalog = asyncio.run(ask())
    assert vectors == shared.embedded.get_online_features("shopping", ROWS, now=at(20)).to_dicts()
    assert history.equals(shared.embedded.get_historical_features("shopping", SPINE).to_arrow())
    assert events == len(shared.embedded.lineage("shopping").to_openlineage())
    assert catalog.groups == shared.embedded.catalog.groups


def test_a_hundred_vectors_are_read_at_once(shared: Both) -> None:
    expected = shared.embedded.get_online_features("shopping", ROWS, now=at(20)).to_dicts()

    async def ask() -> list[Any]:
        async with gr.AsyncFeatureStore(shared.url) as store:
            reads = (store.get_online_features("shopping", ROWS, now=at(20)) for _ in range(100))
            return [found.to_dicts() for found in await asyncio.gather(*reads)]

    assert asyncio.run(ask()) == [expected] * 100


# changes


def test_materializing_tells_its_steps_and_what_became_of_it(both: Both) -> None:
    steps: list[Progress] = []
    done = both.remote.materialize(["spend", "shops"], version=None, progress=steps.append)

    assert [(item.group, item.version, item.new_version) for item in done] == [
        ("spend", "1.0.0", False),
        ("shops", "1.0.0", False),
    ]
    assert steps[-1] == Progress("shops", "done", 2, 2, 2)


def test_versions_come_go_and_come_back(both: Both) -> None:
    assert both.remote.materialize("spend", version="2.0.0")[0].version == "2.0.0"
    assert both.remote.diff("spend") == both.embedded.diff("spend")
    assert both.remote.compare_statistics("spend") == both.embedded.compare_statistics("spend")
    assert both.remote.plan_rollback("spend", previous=True) == both.embedded.plan_rollback("spend", previous=True)
    assert both.remote.rollback("spend", "1.0.0").version == "1.0.0"
    assert both.remote.version("spend").version == "1.0.0"
    with pytest.raises(RefusedError):
        both.remote.rollback("spend", "1.0.0")
    assert both.remote.delete("spend@2.0.0") == ("version 2.0.0 of feature group spend",) or both.remote.versions(
        "spend"
    )
    assert [meta.version for meta in both.remote.versions("spend")] == ["1.0.0"]
    assert both.remote.manifest(regenerate=True) == both.embedded.manifest()


def test_definitions_are_applied_used_and_deleted(both: Both) -> None:
    visits = gr.FeatureGroup(
        "visits",
        entities=user,
        source=gr.FileSource("data/spend.parquet", event_time="at"),
        ttl="30d",
        owner="web",
        tags={"tier": "gold"},
    )
    view = gr.FeatureView("visiting", features=[gr.select("visits", "visits", rename={"visits": "n_visits"})])
    expected = both.embedded.plan([visits, view])

    assert both.remote.plan([visits, view]) == expected
    assert [str(change) for change in both.remote.apply([visits, view]).changes] == list(map(str, expected.changes))
    assert both.remote.catalog.views["visiting"] == view
    both.remote.materialize("visits")
    assert both.remote.get_online_features("visiting", [{"user_id": "u2"}], now=at(9)).to_dicts() == [
        {"user_id": "u2", "n_visits": None}
    ]
    assert both.remote.delete("visits", cascade=True)
    assert "visits" not in both.remote.catalog.groups
    with pytest.raises(UnknownFeatureGroupError):
        both.remote.versions("visits")


def test_what_only_this_process_has_does_not_travel(both: Both) -> None:
    frame = gr.FeatureGroup(
        "frame",
        entities=user,
        source=gr.TableSource(SPINE, name="mine", event_time="event_time"),
    )

    with pytest.raises(UnsupportedError, match="frame in this process"):
        both.remote.apply(frame)
    with pytest.raises(UnsupportedError, match="write=False"):
        both.remote.create_training_dataset("shopping", SPINE, write=False)
    with pytest.raises(UnsupportedError, match="credentials"):
        both.remote.export("spend", "s3://bucket/key.parquet", options={"access_key_id": "x"})


def test_pushed_rows_are_served_and_kept(both: Both) -> None:
    rows = [{"user_id": "u5", "at": "2026-03-12T00:00:00Z", "page": "help", "n": 4}]

    assert both.remote.push("click_events", rows).groups == (("clicks", 1, 1),)
    assert both.remote.get_online_features(["clicks"], [{"user_id": "u5"}]).to_dicts() == [
        {"user_id": "u5", "page": "help", "n": 4}
    ]
    assert len(both.remote.read("clicks")) == 3


@pytest.mark.parametrize("split", [None, "train:0.5,test:0.5", gr.KFold(2)], ids=["whole", "parts", "folds"])
def test_training_datasets_are_the_same(both: Both, split: Any) -> None:
    spine = SPINE.head(3)
    made = both.remote.create_training_dataset(
        "shopping", spine, split=split, as_of=at(20), description="for tests", tags={"by": "remote"}
    )
    kept = both.embedded.training_dataset("shopping", made.version)

    assert made.meta == kept.meta
    assert made.to_arrow().equals(kept.to_arrow())
    for part in kept.part_names:
        assert made.read(part, ["amount"]).arrow.equals(kept.read(part, ["amount"]).arrow)
        assert [list(batch) for batch in made.batches(part, size=1)] == [
            list(batch) for batch in kept.batches(part, size=1)
        ]
    opened = both.remote.training_dataset("shopping")
    assert (opened.meta, opened.part_names, opened.split) == (kept.meta, kept.part_names, kept.split)
    assert both.remote.training_dataset_info("shopping", 1) == both.embedded.training_dataset_info("shopping", 1)
    assert both.remote.training_dataset_statistics("shopping") == both.embedded.training_dataset_statistics("shopping")
    assert [(meta.view, meta.version) for meta in both.remote.training_datasets("shopping")] == [("shopping", 1)]
    assert both.remote.reproduce_training_dataset("shopping", 1).identical


def test_training_datasets_are_compared_and_deleted(both: Both) -> None:
    both.remote.create_training_dataset("shopping", SPINE.head(3), as_of=at(20))
    both.remote.create_training_dataset("shopping", SPINE.head(2), as_of=at(20))

    assert both.remote.diff_training_datasets("shopping", 1, 2) == both.embedded.diff_training_datasets(
        "shopping", 1, 2
    )
    assert both.remote.delete_training_dataset("shopping", 1) == ("training dataset shopping#1",)
    assert [meta.version for meta in both.embedded.training_datasets()] == [2]


def test_a_training_dataset_is_read_in_an_event_loop(both: Both) -> None:
    async def ask() -> Any:
        async with gr.AsyncFeatureStore(both.url) as store:
            made = await store.create_training_dataset("shopping", SPINE.head(3), split={"train": 0.5, "test": 0.5})
            return made.to_arrow()

    assert asyncio.run(ask()).equals(both.embedded.training_dataset("shopping").to_arrow())


def test_exports_lie_where_the_server_is(both: Both) -> None:
    done = both.remote.export("spend", "spend.parquet", columns=["user_id", "amount"])

    assert (done.status, done.rows) == ("succeeded", 5)
    assert pl.read_parquet(both.folder / done.destination).columns == ["user_id", "amount"]
    assert both.remote.export_info(done.id) == both.embedded.export_info(done.id)
    assert both.remote.exports("spend", limit=1) == both.embedded.exports("spend")
    with pytest.raises(RequestError):
        both.remote.export("spend", "/etc/passwd")


def test_usage_is_counted_by_the_server(both: Both) -> None:
    both.remote.get_historical_features("shopping", SPINE)

    counted = {(use.name, use.verb): use.count for use in both.remote.usage("shopping", since=dt.date(2026, 1, 1))}
    assert counted["shopping", "get_historical_features"] == 1


def test_leaks_that_are_warnings_are_warned_of(both: Both) -> None:
    telling = gr.FeatureView("telling", features=["spend:amount"], labels=["target"])
    both.remote.apply(telling)
    rows = SPINE.head(2).with_columns(target=pl.Series([1, 0]))
    expected = both.embedded.get_historical_features("telling", rows)

    assert both.remote.get_historical_features("telling", rows).leaks == expected.leaks
