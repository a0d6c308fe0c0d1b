"""Random columns of every type, with everything that is awkward in them."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any, Final

import pyarrow as pa
from hypothesis import strategies as st

from grange.transforming.values import python_values
from grange.types import DataType, as_dtype
from grange.types.arrow import arrow_type

_FLOATS: Final = st.one_of(st.floats(), st.sampled_from([0.0, -0.0, float("nan"), float("inf"), 5e-324, 2.0**53, 3.0]))
_TEXT: Final = st.one_of(st.sampled_from(["", "a", "FR", "é", "日本語", "a\0b", "nan", "1"]), st.text(max_size=5))
_TIMES: Final = st.datetimes(dt.datetime(1, 1, 2), dt.datetime(9999, 12, 30), timezones=st.just(dt.UTC))
_INT64: Final = st.one_of(st.integers(-3, 3), st.integers(-(2**63), 2**63 - 1))
_UUID: Final = st.uuids().map(str)

VALUES: Final[dict[str, st.SearchStrategy[Any]]] = {
    "float64": _FLOATS,
    "float32": st.floats(width=32),
    "int64": _INT64,
    "int8": st.integers(-128, 127),
    "uint64": st.integers(0, 2**64 - 1),
    "boolean": st.booleans(),
    "string": _TEXT,
    "binary": st.binary(max_size=4),
    "uuid": _UUID,
    "date": st.dates(),
    "datetime": _TIMES,
    "duration": st.timedeltas(dt.timedelta(-1000), dt.timedelta(1000)),
    "decimal(12,2)": st.integers(-(10**12) + 1, 10**12 - 1).map(lambda cents: Decimal(cents).scaleb(-2)),
    "list[float64]": st.lists(st.none() | _FLOATS, max_size=3),
    "list[int32]": st.lists(st.none() | st.integers(-5, 5), max_size=3),
    "list[string]": st.lists(st.none() | _TEXT, max_size=2),
    "list[datetime]": st.lists(st.none() | _TIMES, max_size=2),
    "struct{a:int64,b:datetime}": st.fixed_dictionaries({"a": st.none() | st.integers(0, 9), "b": st.none() | _TIMES}),
}
"""By type, values as rows have them."""


def dtypes() -> st.SearchStrategy[DataType]:
    """A type that a column can have."""
    return st.sampled_from(sorted(VALUES)).map(as_dtype)


def values_of(dtype: DataType, *, nulls: bool = True) -> st.SearchStrategy[Any]:
    """A value of a type, and now and then a null."""
    values = VALUES[str(dtype)]
    return st.one_of(values, values, values, st.none()) if nulls else values


def column_of(values: list[Any], dtype: DataType) -> pa.ChunkedArray:
    """A column in two chunks, as columns of large tables are."""
    arrow, middle = arrow_type(dtype), len(values) // 2
    return pa.chunked_array([pa.array(values[:middle], arrow), pa.array(values[middle:], arrow)])


def exactly(column: pa.ChunkedArray, dtype: DataType) -> list[str]:
    """A column's values as text that tells them apart to the last bit: NaN, -0.0, Decimal('1.0')."""
    return [repr(value) for value in python_values(column, dtype)]
