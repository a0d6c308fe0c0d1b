"""What clients of other systems write, as what it means here: pure functions, without a server."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import grange as gr
from grange.definitions.catalog import Catalog
from grange.errors import (
    DefinitionError,
    DurationError,
    NameCollisionError,
    RequestError,
    UnknownEntityError,
    UnknownFeatureError,
    UnknownFeatureGroupError,
)
from grange.http.compat.entity_keys import as_key
from grange.http.compat.feast.writing import columns_of, rows_for
from grange.http.compat.feature_store_2.definitions import group_of
from grange.http.compat.feature_store_2.expressions import Computed, Windowed, read_feature
from grange.http.compat.feature_store_2.serving import asked_rows, historical_question, wanted
from grange.http.compat.feature_store_2.sets import Feature, FeatureSet, stable_id
from grange.http.compat.feature_store_2.shapes import inclusive_end
from grange.types import parse_dtype

OVER = "OVER (PARTITION BY user_id ORDER BY at"


def read(text: str, *, dtype: str = "int", size: str | None = None, time: str | None = "at") -> Computed | Windowed:
    return read_feature(
        text, what="feature 'f'", dtype=parse_dtype(dtype), keys=["user_id"], event_time=time, window_size=size
    )


@pytest.mark.parametrize(
    ("text", "size", "function", "window", "closed"),
    [
        (f"COUNT(*) {OVER} RANGE BETWEEN INTERVAL '30 days' PRECEDING AND CURRENT ROW)", "30d", "count", "30d", "both"),
        (f"SUM(x) {OVER} RANGE BETWEEN INTERVAL 36 HOUR PRECEDING AND CURRENT ROW)", "1d12h", "sum", "36h", "both"),
        (f"AVG(x) {OVER} ROWS BETWEEN 9 PRECEDING AND CURRENT ROW)", None, "mean", "10rows", "right"),
        (f"MAX(x) {OVER} RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)", None, "max", "lifetime", "right"),
        (f"MIN(x) {OVER})", None, "min", "lifetime", "right"),
        (f"STDDEV(x) {OVER})", "7d", "std", "7d", "right"),
        ("VAR_SAMP(x)", "7d", "var", "7d", "right"),
        ("MEDIAN(x)", "7d", "median", "7d", "right"),
        ("QUANTILE_CONT(x, 0.95)", "7d", "quantile(0.95)", "7d", "right"),
        ("COUNT(DISTINCT shop)", "7d", "count_distinct", "7d", "right"),
    ],
)
def test_windows_of_sql_are_windows(text: str, size: str | None, function: str, window: str, closed: str) -> None:
    found = read(text, size=size)
    assert isinstance(found, Windowed)
    assert (found.function, found.window, found.closed) == (function, window, closed)


def test_a_filter_leaves_rows_uncounted() -> None:
    found = read(f"COUNT(*) FILTER (WHERE amount > 0) {OVER})", size="1d")
    assert found.sql == 'CAST(CASE WHEN "amount" > 0 THEN 1 END AS BIGINT)'
    found = read("SUM(a * b) FILTER (WHERE kind = 'x')", size="1d", dtype="float")
    assert found.sql == 'CAST(CASE WHEN "kind" = \'x\' THEN "a" * "b" END AS DOUBLE)'


def test_the_clock_is_the_event_time_of_the_row() -> None:
    found = read("EXTRACT(YEAR FROM AGE(current_date, born))")
    assert found.sql == 'CAST(EXTRACT(YEAR FROM AGE(CAST("at" AS DATE), "born")) AS BIGINT)'
    assert read("AGE(born)", dtype="duration").sql == 'AGE(CAST("at" AS DATE), "born")'
    assert '"at"' in read("date_diff('day', born, now())").sql
    with pytest.raises(DefinitionError, match="reads the clock"):
        read("current_date", time=None)


@pytest.mark.parametrize(
    "text",
    [
        "SUM(x) + 1", "SUM(x)", "a; b", "a, b", "SELECT 1", "(SELECT 1)", "a FROM other", "COUNT(", "",
        f"FIRST_VALUE(x) {OVER})", "COUNT(*) OVER (PARTITION BY shop ORDER BY at)",
        "COUNT(*) OVER (PARTITION BY user_id ORDER BY other)", f"COUNT(*) {OVER} DESC)",
        f"COUNT(*) {OVER} RANGE BETWEEN CURRENT ROW AND INTERVAL '1 day' FOLLOWING)",
        f"COUNT(*) {OVER} RANGE BETWEEN INTERVAL '2 days' PRECEDING AND INTERVAL '1 day' PRECEDING)",
    ],
)  # fmt: skip
def test_what_no_feature_can_be_is_refused(text: str) -> None:
    with pytest.raises(DefinitionError):
        read(text)


def test_calendar_lengths_and_contradicting_sizes_are_refused() -> None:
    with pytest.raises(DurationError, match="month"):
        read(f"COUNT(*) {OVER} RANGE BETWEEN INTERVAL '1 month' PRECEDING AND CURRENT ROW)")
    with pytest.raises(DefinitionError, match="another"):
        read(f"COUNT(*) {OVER} RANGE BETWEEN INTERVAL '1 day' PRECEDING AND CURRENT ROW)", size="2d")
    with pytest.raises(DefinitionError, match="window_size is of aggregations"):
        read("amount * 2", size="2d")


def set_of(*features: dict[str, Any], **options: Any) -> FeatureSet:
    said = {"name": "s", "entities": ["user"], "source": {"path": "data/s.parquet", "event_time": "at"}} | options
    return FeatureSet.of(said).with_features([Feature.of(feature) for feature in features])


def test_a_set_without_windows_has_its_columns_as_features() -> None:
    group = group_of(
        set_of({"name": "a", "data_type": "int"}, {"name": "b", "data_type": "float", "transformation": "a / 2"}), {}
    )
    assert group.aggregations == ()
    assert group.transform is not None and "FROM source" in group.transform.query  # type: ignore[union-attr]
    assert [(column.name, str(column.dtype)) for column in group.schema] == [("a", "int64"), ("b", "float64")]


def test_composites_come_after_what_they_are_made_of() -> None:
    group = group_of(
        set_of(
            {"name": "c", "data_type": "float", "transformation": "b * 2", "source_features": ["b"]},
            {"name": "b", "data_type": "float", "transformation": "a * 2", "source_features": ["a"],
             "default_value": 0},
            {"name": "a", "data_type": "float"},
        ),
        {},
    )  # fmt: skip
    assert [step.output_names for step in group.on_demand] == [("b",), ("c",)]
    assert dict(group.on_demand[0].transformation.sql) == {"b": "COALESCE(a * 2, 0)"}  # type: ignore[union-attr]
    circle = set_of(
        {"name": "a", "data_type": "float"},
        {"name": "b", "data_type": "float", "transformation": "c", "source_features": ["c"]},
        {"name": "c", "data_type": "float", "transformation": "b", "source_features": ["b"]},
    )
    with pytest.raises(DefinitionError, match="made of each other"):
        group_of(circle, {})


def test_what_a_set_waits_for_is_said() -> None:
    lonely = {"name": "c", "data_type": "float", "transformation": "b", "source_features": ["b"]}
    assert set_of(lonely, source=None).missing == ("source", "features", "feature 'b', of which 'c' is made")
    assert set_of({"name": "b", "data_type": "float"}, lonely).missing == ()


@pytest.mark.parametrize(
    "feature",
    [
        {"name": "n", "data_type": "float", "transformation": "COUNT(*)", "window_size": "1d"},
        {"name": "n", "data_type": "int", "transformation": "AVG(x)", "window_size": "1d"},
        {"name": "n", "data_type": "int", "transformation": "COUNT(*)", "window_size": "1d",
         "validation_rules": {"min_value": 0}},
        {"name": "n", "data_type": "int", "validation_rules": {"at_least": 0}},
        {"name": "n", "data_type": "int", "window_size": "1d"},
        {"name": "at", "data_type": "timestamp"},
        {"name": "n", "data_type": "int", "source_features": ["a"]},
    ],
)  # fmt: skip
def test_what_contradicts_itself_is_refused(feature: dict[str, Any]) -> None:
    with pytest.raises(DefinitionError):
        group_of(set_of({"name": "a", "data_type": "int"}, feature), {})


@pytest.mark.parametrize(
    ("kind", "source", "problem"),
    [
        ("batch", {"event_time": "at"}, "no path"),
        ("batch", {"path": "a.parquet", "evnt_time": "at"}, "event_time"),
        ("stream", {"event_time": "at"}, "needs event_time and schema"),
        ("stream", {"path": "a.parquet"}, "'path'"),
    ],
)
def test_sources_that_cannot_be_are_refused(kind: str, source: dict[str, Any], problem: str) -> None:
    with pytest.raises(DefinitionError) as refused:
        set_of(source=source, source_type=kind)
    assert problem in str(refused.value)


user, shop = gr.Entity("user", ["user_id"]), gr.Entity("shop", {"shop_id": "int64"})
seat = gr.Entity("seat", ["venue", "number"])


def group(name: str, entity: gr.Entity, *features: str) -> gr.FeatureGroup:
    schema = dict.fromkeys(entity.join_keys, "string") | {"at": "datetime"} | dict.fromkeys(features, "float64")
    schema |= {key: str(dtype) for key, dtype in entity.key_types}
    return gr.FeatureGroup(
        name, entities=entity, source=gr.FileSource(f"{name}.parquet", event_time="at"), schema=schema
    )


CATALOG = Catalog.of(
    [group("profile", user, "age", "score"), group("spend", user, "amount", "score"), group("shops", shop, "size"),
     group("seats", seat, "price")]
)  # fmt: skip


def test_features_are_found_by_name() -> None:
    found = wanted(CATALOG, ["profile", "spend"], ["amount", "age", "spend:score"])
    assert found.references == ("spend:amount", "profile:age", "spend:score")
    assert found.columns == (("amount", "spend__amount"), ("age", "profile__age"), ("spend:score", "spend__score"))
    assert wanted(CATALOG, ["profile"], None).references == ("profile:age", "profile:score")
    assert wanted(CATALOG, None, ["amount"]).references == ("spend:amount",)


@pytest.mark.parametrize(
    ("sets", "names", "error"),
    [
        (["profile", "spend"], ["score"], NameCollisionError),
        (["profile", "spend"], None, NameCollisionError),
        (["profile"], ["age", "age"], NameCollisionError),
        (["profile"], ["amount"], UnknownFeatureError),
        (["nothing"], ["age"], UnknownFeatureGroupError),
        (None, None, RequestError),
        ([], [], RequestError),
    ],
)
def test_names_that_mean_nothing_or_two_things_are_refused(
    sets: list[str] | None, names: list[str] | None, error: type[Exception]
) -> None:
    with pytest.raises(error):
        wanted(CATALOG, sets, names)


def test_entities_are_read_side_by_side() -> None:
    groups = list(CATALOG.groups.values())
    asked = asked_rows(CATALOG, {"user": ["u1", "u2"], "shop": ["7", 8]}, groups)
    assert asked.rows == [{"user_id": "u1", "shop_id": 7}, {"user_id": "u2", "shop_id": 8}]
    assert asked.ids == ["u1,7", "u2,8"]
    asked = asked_rows(CATALOG, {"seat": [["hall", "1"], {"venue": "hall", "number": "2"}]}, groups)
    assert asked.rows == [{"venue": "hall", "number": "1"}, {"venue": "hall", "number": "2"}]
    assert asked.ids == ["hall,1", "hall,2"]
    assert asked_rows(CATALOG, {"user_id": []}, groups).rows == []
    for wrong, error in (
        ({"user": ["u1"], "shop": []}, RequestError), ({"usr": ["u1"]}, UnknownEntityError), ({}, RequestError),
        ({"seat": [["hall"]]}, RequestError),
    ):  # fmt: skip
        with pytest.raises(error):
            asked_rows(CATALOG, wrong, groups)  # type: ignore[arg-type]


def test_a_table_of_entities_is_a_spine() -> None:
    table = {"columns": ["shop_id", "at"], "data": [["7", "2026-01-01T00:00:00"]]}
    found = historical_question({"feature_sets": ["shops"], "entity_df": table}, CATALOG)
    assert found.spine == [{"shop_id": 7, "at": "2026-01-01T00:00:00"}]
    assert found.features == ["shops:size"]
    for wrong in (
        {}, {"entity_df": {"columns": ["a"]}}, {"entity_df": {"columns": ["a", "a"], "data": []}},
        {"entity_df": {"columns": ["a"], "data": [[1, 2]]}}, {"entity_df": {"columns": ["a"], "data": [1]}},
    ):  # fmt: skip
        with pytest.raises(RequestError):
            historical_question({"feature_sets": ["shops"], **wrong}, CATALOG)


@given(st.integers(-(2**63), 2**63 - 1))
def test_an_integer_key_is_the_same_as_text(number: int) -> None:
    assert as_key(str(number), parse_dtype("int64")) == number
    assert as_key(number, parse_dtype("int64")) == number
    assert as_key(str(number), parse_dtype("string")) == str(number)


@given(st.text())
def test_text_that_is_no_integer_stays_text(text: str) -> None:
    found = as_key(text, parse_dtype("int64"))
    assert found == text or (isinstance(found, int) and int(text) == found)


@given(st.text(min_size=1), st.text(min_size=1), st.text(min_size=1))
def test_ids_are_of_their_names_alone(project: str, one: str, other: str) -> None:
    assert stable_id(project, one) == stable_id(project, one)
    if one != other and "\n" not in project + one + other:
        assert stable_id(project, one) != stable_id(project, other)


@pytest.mark.parametrize(
    ("text", "end"),
    [
        ("2024-01-31", dt.datetime(2024, 2, 1, tzinfo=dt.UTC)),
        ("2024-01-31T23:59:59", dt.datetime(2024, 2, 1, tzinfo=dt.UTC)),
        ("2024-01-31T23:59:59.5", dt.datetime(2024, 1, 31, 23, 59, 59, 500_001, tzinfo=dt.UTC)),
        ("2024-01-31T23:59:59Z", dt.datetime(2024, 2, 1, tzinfo=dt.UTC)),
    ],
)
def test_an_end_is_included_as_finely_as_it_is_written(text: str, end: dt.datetime) -> None:
    assert inclusive_end(text) == end


@pytest.mark.parametrize("text", ["9999-12-31", "tomorrow", ""])
def test_an_end_that_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(RequestError):
        inclusive_end(text)


def test_columns_of_feast_are_lists_or_pandas_own() -> None:
    assert columns_of({"a": [1, 2], "b": {"0": 3, "1": 4}}) == {"a": [1, 2], "b": [3, 4]}
    for wrong in ({"a": 1}, {"a": [1], "b": []}):
        with pytest.raises(RequestError):
            columns_of(wrong)


def test_rows_of_feast_have_the_groups_times() -> None:
    now = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    source = gr.FileSource("s.parquet", event_time="at", created_time="loaded")
    timed = gr.FeatureGroup("g", entities=user, source=source, schema={"seen": "datetime"})
    sent = {"user_id": ["u"], "event_timestamp": ["2026-01-01T00:00:00"], "created": [None], "seen": [0]}
    assert rows_for(timed, sent, now=now) == {
        "user_id": ["u"], "at": ["2026-01-01T00:00:00"], "loaded": [now],
        "seen": [dt.datetime(1970, 1, 1, tzinfo=dt.UTC)],
    }  # fmt: skip
    plain = gr.FeatureGroup("g", entities=user, source=gr.FileSource("s.parquet", event_time="event_timestamp"))
    assert rows_for(plain, sent, now=now) == {"user_id": ["u"], "event_timestamp": sent["event_timestamp"], "seen": [0]}
    with pytest.raises(RequestError):
        rows_for(timed, sent | {"seen": [1e300]}, now=now)
