"""conform: the one place where values meet their declaration (PIT-7, TIME-1)."""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Any

import pyarrow as pa
import pytest

from grange.errors import ColumnTypeError, SchemaError
from grange.types import Schema
from grange.types.arrow import arrow_schema, conform, from_arrow_schema

UTC = dt.UTC


def conformed(values: Any, dtype: str, arrow: pa.DataType | None = None) -> list[Any]:
    table = pa.table({"x": pa.array(values, arrow)})
    out = conform(table, Schema.of({"x": dtype}), what="test")
    assert out.schema == arrow_schema(Schema.of({"x": dtype}))
    return out.column("x").to_pylist()


def test_integers_with_nulls_stay_integers() -> None:
    assert conformed([1, None, 3], "int64") == [1, None, 3]


def test_widening_and_exact_narrowing_are_free() -> None:
    assert conformed([1, 2], "int64", pa.int8()) == [1, 2]
    assert conformed([1, 2], "int8", pa.int64()) == [1, 2]
    assert conformed([1.0, None], "int64") == [1, None]
    assert conformed([1, 2], "float64") == [1.0, 2.0]


@pytest.mark.parametrize(
    ("values", "arrow", "dtype", "bad", "row"),
    [
        ([1, 300], pa.int64(), "int8", "300", 1),
        ([1.0, 2.5], pa.float64(), "int64", "2.5", 1),
        ([None, "12"], pa.string(), "int64", "'12'", 1),
        ([7], pa.int64(), "string", "7", 0),
        ([1, 0], pa.int64(), "boolean", "1", 0),
        (["2026-01-01", "soon"], pa.string(), "datetime", "'soon'", 1),
        (["no uuid"], pa.string(), "uuid", "'no uuid'", 0),
        ([-1], pa.int64(), "uint32", "-1", 0),
        ([dt.datetime(2026, 1, 1, 5)], pa.timestamp("us"), "date", "2026", 0),
    ],
)
def test_what_does_not_fit_is_an_error_that_points(
    values: list[Any], arrow: pa.DataType, dtype: str, bad: str, row: int
) -> None:
    with pytest.raises(ColumnTypeError) as caught:
        conformed(values, dtype, arrow)
    assert f"row {row}" in (caught.value.found or "")
    assert bad in (caught.value.found or "")


def test_times_of_every_unit_and_zone_become_utc_microseconds() -> None:
    expected = [dt.datetime(2026, 1, 1, 12, tzinfo=UTC)]
    seconds = int(expected[0].timestamp())
    for unit, factor in (("s", 1), ("ms", 10**3), ("us", 10**6), ("ns", 10**9)):
        for zone in (None, "UTC", "America/New_York"):
            arrow = pa.array([seconds * factor]).cast(pa.timestamp(unit, tz=zone))
            table = pa.table({"x": arrow})
            assert conform(table, Schema.of({"x": "datetime"}), what="t").column("x").to_pylist() == expected


def test_nanoseconds_are_cut_downwards_before_1970_too() -> None:
    arrow = pa.array([-1, 1_999]).cast(pa.timestamp("ns"))
    out = conform(pa.table({"x": arrow}), Schema.of({"x": "datetime"}), what="t").column("x")

    assert out.cast(pa.int64()).to_pylist() == [-1, 1]


def test_dates_and_text_become_times() -> None:
    assert conformed([dt.date(2026, 1, 2)], "datetime") == [dt.datetime(2026, 1, 2, tzinfo=UTC)]
    assert conformed(["2026-01-02T01:00:00+01:00"], "datetime") == [dt.datetime(2026, 1, 2, tzinfo=UTC)]
    assert conformed(["2026-01-02"], "date") == [dt.date(2026, 1, 2)]


def test_uuids_are_their_canonical_text() -> None:
    value = uuid.UUID("12345678-1234-5678-1234-567812345678")

    assert conformed([str(value).upper(), "{" + str(value) + "}", None], "uuid") == [str(value), str(value), None]
    assert conformed([value.bytes], "uuid", pa.binary(16)) == [str(value)]


def test_encoded_columns_are_plain_afterwards() -> None:
    assert conformed(pa.array(["a", "b", "a"]).dictionary_encode(), "string") == ["a", "b", "a"]


def test_a_column_of_nulls_takes_any_type() -> None:
    assert conformed([None, None], "list[float32]", pa.null()) == [None, None]


def test_a_missing_column_is_named() -> None:
    with pytest.raises(SchemaError, match="'y' missing"):
        conform(pa.table({"x": [1]}), Schema.of({"y": "int64"}), what="test")


def test_only_declared_columns_stay_in_declared_order() -> None:
    table = pa.table({"a": [1], "b": [2], "c": [3]})

    assert conform(table, Schema.of({"c": "int64", "a": "int64"}), what="t").column_names == ["c", "a"]


def test_a_column_of_nulls_must_be_declared() -> None:
    with pytest.raises(SchemaError, match="holds only nulls"):
        from_arrow_schema(pa.schema([("x", pa.null())]), what="test")
