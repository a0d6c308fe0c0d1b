"""What a version's metadata says, to JSON and back, and what was written of it before there were aggregations."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grange.errors import SchemaError
from grange.ports.offline import PUSHED_FROM, VersionMeta
from grange.testing.offline import COUNTED, DAY, RECENT, SCHEMA, SPENT, draft, windowed
from grange.types import Schema
from grange.types.aggregates import LIFETIME, Aggregate, Function, Window
from grange.types.dtypes import DataType
from grange.types.schema import Column

BEFORE: dict[str, Any] = {
    "name": "spend", "version": "1.0.0", "content_hash": "a", "schema_hash": "b", "config_hash": "c", "code_hash": "d",
    "created_at": "2026-03-01T00:00:00Z", "updated_at": "2026-03-01T00:00:00Z", "row_count": 2,
    "entity_keys": ["user_id"], "timestamp": "event_time", "created_time": "loaded_at", "interval": None,
    "columns": SCHEMA.to_list(), "min_event_time": "2026-01-01T00:00:00Z", "max_event_time": None, "source_rows": 2,
    "pushed_through": PUSHED_FROM, "files": ["data.parquet"], "size_bytes": 1637,
    "change_summary": {"bump_type": "initial", "reason": "first_build", "details": []}, "source": "files",
    "quarantined": 0, "file_hashes": {"data.parquet": "e"},
}  # fmt: skip
"""`.meta.json` as it was before there were aggregations."""

_FLOAT = DataType("float64")
_NAMES = st.text("abc_", min_size=1, max_size=8)
_WINDOWS = st.builds(Window, st.sampled_from(["time", "rows", "session"]), st.integers(1, 2**50)) | st.just(LIFETIME)
_FUNCTIONS = st.sampled_from(
    [Function("sum"), Function("quantile", (0.95,)), Function("last_n", (3,)), Function("decayed_sum", (DAY,)),
     Function("min_by", ("loaded_at",)), Function("holiday", ("Europe/Berlin", "DE-BE"))]
)  # fmt: skip
_AGGREGATES = st.lists(
    st.builds(
        Aggregate, _NAMES, _FUNCTIONS, st.sampled_from(["amount", "*"]), _WINDOWS,
        st.sampled_from([_FLOAT, DataType("list", item=_FLOAT)]), st.sampled_from([None, _FLOAT]),
        st.sampled_from([None, _FLOAT]),
        st.sampled_from(["right", "left", "both", "none"]), st.none() | st.integers(1, 2**50), st.integers(0, 9),
        st.integers(0, 2**50), st.none() | st.text(),
    ),
    min_size=1, max_size=4, unique_by=lambda aggregate: aggregate.name,
)  # fmt: skip


def described(*aggregates: Aggregate, words: str = "") -> Schema:
    """Their output columns."""
    return Schema(tuple(Column(aggregate.name, aggregate.dtype, words) for aggregate in aggregates))


@settings(deadline=None)
@given(_AGGREGATES, st.none() | st.integers(1, 2**52), st.text(max_size=3), st.integers(0, 9))
def test_metadata_comes_back_from_json(
    aggregates: list[Aggregate], interval: int | None, words: str, rows: int
) -> None:
    """Every field, descriptions and any interval too."""
    files = tuple(f"data/month=2026-0{number}/part-0.parquet" for number in range(rows))
    meta = windowed(*aggregates).with_(
        features=described(*aggregates, words=words),
        interval=interval,
        event_id="user_id",
        retracted=words or None,
        feature_rows=rows,
        feature_files=files,
        files=("events.parquet",),
        created_at=dt.datetime(2026, 3, 1, tzinfo=dt.UTC),
    )
    assert VersionMeta.from_dict(json.loads(json.dumps(meta.to_dict()))) == meta
    assert VersionMeta.from_dict(draft(source=words).to_dict()) == draft(source=words)


def test_metadata_written_before_still_reads() -> None:
    """As of a group without aggregations; written again it says the same of what it knew."""
    meta = VersionMeta.from_dict(BEFORE)
    assert (meta.schema, meta.outputs, meta.files, meta.row_count) == (SCHEMA, SCHEMA, ("data.parquet",), 2)
    assert (meta.features, meta.aggregates, meta.interval) == (Schema(), (), None)
    assert (meta.event_id, meta.retracted, meta.feature_rows, meta.feature_files) == (None, None, 0, ())
    assert BEFORE.items() <= {**meta.to_dict(), "file_hashes": BEFORE["file_hashes"]}.items()


def test_columns_are_those_that_people_read() -> None:
    """The seed's: entity key, event time and aggregates with function and window; the events' are beside them."""
    data = windowed(SPENT, RECENT, interval=DAY).to_dict()
    assert data["interval"] == "1d"
    assert data["columns"] == [
        {"name": "user_id", "dtype": "string"},
        {"name": "event_time", "dtype": "datetime"},
        {"name": SPENT.name, "dtype": "float64", "aggregation": "sum", "window": "7d"},
        {"name": RECENT.name, "dtype": "list[float64]", "aggregation": "last_n(2)", "window": "lifetime"},
    ]
    assert data["event_columns"] == SCHEMA.to_list()
    plain = draft().to_dict()
    assert (plain["columns"], plain["event_columns"], plain["aggregates"]) == (SCHEMA.to_list(), None, [])


def test_outputs_are_key_times_and_features() -> None:
    """VER-1; the feature rows lack the created time, which a value as of a moment does not have."""
    meta = windowed(SPENT)
    assert meta.outputs.names == ("user_id", "event_time", "loaded_at", SPENT.name)
    assert meta.feature_schema.names == ("user_id", "event_time", SPENT.name)
    assert meta.with_(created_time=None).outputs == meta.feature_schema
    assert draft().outputs == SCHEMA


@pytest.mark.parametrize(
    "changes",
    [
        {"features": Schema()},
        {"aggregates": ()},
        {"aggregates": (SPENT, COUNTED)},
        {"aggregates": (COUNTED,)},
        {"aggregates": (replace(SPENT, dtype=DataType("int64")),)},
        {"interval": 0},
        {"aggregates": (), "features": Schema(), "interval": DAY},
        {"aggregates": (), "features": Schema(), "event_id": "user_id"},
        {"aggregates": (), "features": Schema(), "retracted": "user_id"},
    ],
    ids=str,
)
def test_metadata_does_not_contradict_itself(changes: dict[str, Any]) -> None:
    """Features are the aggregates' outputs; what describes events needs aggregates."""
    meta = windowed(SPENT)
    with pytest.raises(SchemaError, match="spend"):
        meta.with_(**changes)


@pytest.mark.parametrize(
    "change",
    [
        {"aggregates": 3}, {"aggregates": ["sum"]}, {"aggregates": [{"name": "a"}]}, {"interval": "1mo"},
        {"interval": 7}, {"interval": "-1d"}, {"event_columns": None}, {"columns": SCHEMA.to_list()},
        {"aggregates": [SPENT.to_data() | {"function": "guess"}]}, {"aggregates": [SPENT.to_data() | {"window": "7d"}]},
        {"feature_files": 3},
    ],
    ids=str,
)  # fmt: skip
def test_what_is_no_metadata_is_an_error(change: dict[str, Any]) -> None:
    """KeyError, TypeError or ValueError, which stores take for damage."""
    good = windowed(SPENT).to_dict()
    assert VersionMeta.from_dict(good) == windowed(SPENT)
    with pytest.raises((KeyError, TypeError, ValueError)):
        VersionMeta.from_dict(good | change)


def _places(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Where JSON data has values, at any depth."""
    if path:
        yield path
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in pairs:
        yield from _places(inner, (*path, key))


_FULL = windowed(SPENT, RECENT, COUNTED, interval=DAY).with_(
    created_at=dt.datetime(2026, 3, 1, tzinfo=dt.UTC),
    min_event_time=dt.datetime(2026, 1, 1, tzinfo=dt.UTC),
    ttl=DAY,
    files=("events.parquet",),
    feature_files=("data.parquet",),
    parents=(("clicks", "1.0.0"),),
    change_summary=(("bump_type", "major"), ("reason", "removed_columns"), ("details", ["amount"])),
)


@pytest.mark.parametrize("meta", [_FULL, draft()], ids=["windows", "rows"])
def test_another_shape_anywhere_is_an_error_or_can_be_used(meta: VersionMeta) -> None:
    """No other error than those that stores take for damage, neither at once nor when it is used."""
    strange: list[Any] = [
        None, True, 5, -1, 1.5, 10**30, "many", "", "1d", "9999-12-31T23:59:59-12:00", "999999999999d",
        [], [1], ["a"], [[]], {}, {"a": 1},
    ]  # fmt: skip
    refused = set()
    for path in _places(meta.to_dict()):
        for value in strange:
            data = json.loads(json.dumps(meta.to_dict()))
            place = data
            for key in path[:-1]:
                place = place[key]
            place[path[-1]] = value
            try:
                read = VersionMeta.from_dict(data)
            except (KeyError, TypeError, ValueError):
                refused.add(path[0])
                continue
            assert VersionMeta.from_dict(json.loads(json.dumps(read.to_dict()))) == read
            assert read.outputs.names
    assert refused >= {*meta.to_dict()} - {"updated_at"} - (set() if meta.aggregates else {"event_columns"})


def test_a_number_is_no_truth_value_and_not_negative() -> None:
    for wrong in ({"row_count": True}, {"row_count": "many"}, {"size_bytes": -1}, {"pushed_through": 10}):
        with pytest.raises((TypeError, ValueError)):
            VersionMeta.from_dict(BEFORE | wrong)
