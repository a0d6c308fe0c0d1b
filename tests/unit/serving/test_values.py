"""Feature values on the wire and back, for every type."""

from __future__ import annotations

import datetime as dt
import decimal
import math
import struct
from typing import Any

import msgspec
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grange.serving.values import from_wire, from_wire_list, rows_of, to_wire, wire_list
from grange.types import parse_dtype
from grange.types.arrow import arrow_type

SAMPLES: dict[str, list[Any]] = {
    "int8": [-128, 127],
    "int64": [-(2**63), 2**63 - 1],
    "uint64": [0, 2**64 - 1],
    "float32": [0.5, math.inf, struct.unpack("f", struct.pack("f", 0.1))[0]],
    "float64": [0.1, -math.inf, 5e-324, -0.0],
    "boolean": [True, False],
    "string": ["", "\0", "é" * 100],
    "binary": [b"", b"\0\xff"],
    "uuid": ["00000000-0000-0000-0000-00000000000a"],
    "date": [dt.date(1, 1, 1), dt.date(1969, 12, 31), dt.date(9999, 12, 31)],
    "datetime": [dt.datetime(1, 1, 1, tzinfo=dt.UTC), dt.datetime(2026, 1, 1, 0, 0, 0, 1, tzinfo=dt.UTC)],
    "duration": [dt.timedelta(microseconds=-1), dt.timedelta(days=400, microseconds=1)],
    "decimal(12,2)": [decimal.Decimal("-1.50"), decimal.Decimal("9999999999.99"), decimal.Decimal("0.00")],
    "decimal(38,38)": [decimal.Decimal("0." + "9" * 38), decimal.Decimal("1E-38")],
    "list[int64]": [[], [1, None, 3]],
    "list[datetime]": [[dt.datetime(2026, 1, 1, tzinfo=dt.UTC), None], []],
    "list[list[decimal(4,1)]]": [[[decimal.Decimal("1.5")], None, []]],
    "struct{a:int64,b:string}": [{"a": 1, "b": None}],
    "struct{d:date,n:list[struct{t:duration}]}": [
        {"d": None, "n": [{"t": dt.timedelta(1)}, None]}, {"d": dt.date(2026, 1, 1), "n": None},
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(SAMPLES))
def test_values_survive_the_wire(name: str) -> None:
    """From a column over MessagePack to Python and back to a column: the same values, nulls included."""
    dtype = parse_dtype(name)
    values = [*SAMPLES[name], None]
    column = pa.chunked_array([values[:1], values[1:]], arrow_type(dtype))

    wire = msgspec.msgpack.decode(msgspec.msgpack.encode(wire_list(column, dtype)))

    assert [from_wire(value, dtype) for value in wire] == column.to_pylist() == values
    assert wire == [to_wire(value, dtype) for value in values]
    assert from_wire_list(wire, dtype).equals(column.combine_chunks())
    assert from_wire_list(wire, dtype).type == arrow_type(dtype)


def test_nan_is_a_value() -> None:
    """Neither null nor an error, in either width."""
    for name in ("float32", "float64"):
        dtype = parse_dtype(name)
        (wire,) = wire_list(pa.chunked_array([pa.array([math.nan], arrow_type(dtype))]), dtype)
        assert math.isnan(from_wire(msgspec.msgpack.decode(msgspec.msgpack.encode(wire)), dtype))


@settings(deadline=None, database=None)
@given(st.lists(st.floats(width=32, allow_nan=False)))
def test_float32_is_exact(values: list[float]) -> None:
    """The float64 on the wire is the float32's value."""
    dtype = parse_dtype("float32")
    assert wire_list(pa.chunked_array([pa.array(values, pa.float32())]), dtype) == values


def test_rows_of_a_table() -> None:
    """Tuples, in order; rows without columns too."""
    table = pa.table({"x": [1, None], "d": pa.array([dt.date(1970, 1, 2), None])})
    assert rows_of(table, [parse_dtype("int64"), parse_dtype("date")]) == [(1, 1), (None, None)]
    assert rows_of(table.select([]), []) == [(), ()]


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("float64", 1, 1.0), ("datetime", "1970-01-01T00:00:01Z", 1_000_000), ("date", "1970-01-02", 1),
        ("decimal(12,2)", "1.5", "1.50"), ("decimal(12,2)", 3, "3.00"), ("list[float64]", [1, None], [1.0, None]),
    ],
)  # fmt: skip
def test_what_people_write(name: str, value: Any, expected: Any) -> None:
    """Defaults and request values in the forms that JSON has."""
    found = to_wire(value, parse_dtype(name))
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("float64", "1"), ("float64", True), ("int64", 1.5), ("int64", True), ("int64", "1"), ("boolean", 1),
        ("string", 1), ("binary", "a"), ("uuid", "x"), ("date", "noon"), ("datetime", "noon"),
    ],
)  # fmt: skip
def test_values_of_another_type_are_refused(name: str, value: Any) -> None:
    """Nothing is guessed."""
    with pytest.raises((TypeError, ValueError)):
        to_wire(value, parse_dtype(name))
