"""From a table to what an online store takes."""

from __future__ import annotations

import datetime as dt
from typing import Any

import polars as pl
import pyarrow as pa
import pytest

from grange.errors import ColumnTypeError
from grange.frames import Rows
from grange.serving.keys import encode_key
from grange.serving.load import batches, push_batch
from grange.types import Schema, parse_dtype

SCHEMA = Schema.of({"v": "float64", "day": "date"})


def table(keys: list[Any], **changes: Any) -> pa.Table:
    count = len(keys)
    columns = {
        "k": keys,
        "t": pa.array([dt.datetime(2026, 1, 1) + dt.timedelta(seconds=n) for n in range(count)], pa.timestamp("us")),
        "c": pa.array([None] * count, pa.timestamp("us", tz="UTC")),
        "day": pa.array([dt.date(1970, 1, 2)] * count),
        "v": [float(n) for n in range(count)],
    }
    return pa.table(columns | changes)


def arguments(dtype: str, created_time: str | None = None) -> dict[str, Any]:
    return {
        "keys": [("k", parse_dtype(dtype))],
        "event_time": "t",
        "created_time": created_time,
        "columns": SCHEMA,
    }


@pytest.mark.parametrize(
    ("dtype", "keys"),
    [("int64", [3, -1, 2**62, 0, -5]), ("string", ["b", "", "a\0", "a", "aa"]), ("int64", [1, 2, 3, 4, 5])],
)
def test_batches_ascend(dtype: str, keys: list[Any]) -> None:
    """Over all batches, each row with its own values, whatever the table's order."""
    made = list(batches(Rows.of(table(keys)), **arguments(dtype), batch_rows=2))
    assert [len(batch) for batch in made] == [2, 2, 1]
    found = [key for batch in made for key in batch.keys]
    expected = {encode_key([key], [parse_dtype(dtype)]): float(n) for n, key in enumerate(keys)}
    assert found == sorted(expected, key=lambda key: key or b"")
    assert [row for batch in made for row in batch.rows] == [(expected[key], 1) for key in found]
    first = 1_767_225_600_000_000
    times = [time for batch in made for time in batch.event_times]
    assert times == [first + int(expected[key]) * 1_000_000 for key in found]
    assert all(batch.created_times is None for batch in made)


def test_rows_that_nobody_could_find_are_left_out() -> None:
    """A null in the key, or no event time."""
    times = pa.array([1, 2, None, 4], pa.int64()).cast(pa.timestamp("us"))
    rows = Rows.of(table([1, None, 3, 4], t=times))
    (batch,) = batches(rows, **arguments("int64"))
    assert batch.keys == [encode_key([1], [parse_dtype("int64")]), encode_key([4], [parse_dtype("int64")])]
    assert push_batch(rows, **arguments("int64")) == batch


def test_composite_keys_ascend() -> None:
    """By their bytes."""
    rows = Rows.of(table(["b", "a", "a"]).append_column("n", pa.array([1, 2, -2])))
    dtypes = [parse_dtype("string"), parse_dtype("int64")]
    options = arguments("string") | {"keys": list(zip(("k", "n"), dtypes, strict=True))}
    (batch,) = batches(rows, **options)
    assert batch.keys == [encode_key(key, dtypes) for key in (("a", -2), ("a", 2), ("b", 1))]


def test_pushes_keep_their_order() -> None:
    """So that of equal times the last one wins; created times ride along, nulls too."""
    created = pa.array([5, None, 7], pa.int64()).cast(pa.timestamp("us", tz="UTC"))
    batch = push_batch(Rows.of(table([2, 1, 2], c=created)), **arguments("int64", "c"))
    assert batch.keys == [encode_key([key], [parse_dtype("int64")]) for key in (2, 1, 2)]
    assert batch.created_times == [5, None, 7]
    assert batch.rows == [(0.0, 1), (1.0, 1), (2.0, 1)]


def test_polars_and_arrow_are_stored_alike() -> None:
    """Whatever encodings the frame has."""
    arrow = table(["b", "a", "c"])
    frame = pl.from_arrow(arrow)
    assert isinstance(frame, pl.DataFrame)
    categories = frame.with_columns(pl.col("k").cast(pl.Categorical))
    expected = list(batches(Rows.of(arrow), **arguments("string")))
    assert list(batches(Rows.of(frame), **arguments("string"))) == expected
    assert list(batches(Rows.of(categories), **arguments("string"))) == expected


def test_an_empty_table_has_no_batches() -> None:
    """And an empty push is an empty batch."""
    rows = Rows.of(table([1]).slice(0, 0))
    assert list(batches(rows, **arguments("int64"))) == []
    assert len(push_batch(rows, **arguments("int64"))) == 0


def test_a_key_column_of_another_type_is_an_error() -> None:
    """Text for an integer key fails here, not silently at the read (PIT-4, PIT-7)."""
    with pytest.raises(ColumnTypeError, match="'k'"):
        list(batches(Rows.of(table(["1"])), **arguments("int64")))
