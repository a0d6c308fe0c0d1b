"""Values between rows, functions and columns: one canonical Python value per type.

    integers, floats, boolean, string, binary, date, duration   Python's own; a float32 is the float of the same value
    uuid                                                        its canonical text
    datetime                                                    in UTC
    decimal                                                     with the declared digits after the point
    list, struct                                                list, dict, of canonical values
    null                                                        None

A function sees these values and gives them back, whether a table or one row is asked for.
"""

from __future__ import annotations

import ctypes
import datetime as dt
import decimal
import uuid
from collections.abc import Callable
from typing import Any, Final

import numpy as np
import pyarrow as pa

from grange.types.arrow import constant
from grange.types.dtypes import DataType
from grange.types.time import EPOCH, from_micros, to_utc

Converter = Callable[[Any], Any]

_WIDE: Final = decimal.Context(prec=80)
_EXACT_INTEGERS: Final = 2**53
"""Up to here a float holds every integer."""
_DOUBLE_BYTES: Final = 8
_MICROSECOND: Final = dt.timedelta(microseconds=1)


def reader(dtype: DataType) -> Converter | None:
    """From a row's value that is not null to the canonical one; None when there is nothing to do."""
    match dtype.kind:
        case "float64":
            return float
        case "float32":
            return _single_precision
        case "uuid":
            return str
        case "datetime":
            return _utc
        case "decimal":
            digits = decimal.Decimal(1).scaleb(-dtype.scale)
            return lambda value: _WIDE.quantize(value, digits)
        case "list":
            assert dtype.item is not None
            return _list_of(nullable(reader(dtype.item)))
        case "struct":
            return _struct_of({name: nullable(reader(inner)) for name, inner in dtype.fields})
        case _:
            return None


def nullable(convert: Converter | None) -> Converter | None:
    """The same for values that may be null."""
    if convert is None:
        return None
    return lambda value: None if value is None else convert(value)


def python_values(column: pa.ChunkedArray, dtype: DataType) -> list[Any]:
    """A column's values, which are of the canonical Arrow type, as canonical Python values."""
    if dtype.kind == "datetime":
        return [None if value is None else from_micros(value) for value in column.cast(pa.int64()).to_pylist()]
    values: list[Any] = column.to_pylist()
    convert = nullable(reader(dtype)) if dtype.kind in ("list", "struct") else None  # times may be inside
    return values if convert is None else [convert(value) for value in values]


def writer(dtype: DataType) -> Converter:
    """From what a function returned for one row to the canonical value; None, NaT and pandas.NA are null.

    As `grange.types.arrow.conform` has it for columns: nothing is lost, wraps, or is guessed. The converter raises
    ValueError for a value that the type cannot hold exactly.
    """
    return _WRITERS.get(dtype.kind, _integer_writer)(dtype)


def _float_writer(dtype: DataType) -> Converter:
    def write(value: Any) -> Any:
        if type(value) is float:
            return value
        if type(value) is int and -_EXACT_INTEGERS <= value <= _EXACT_INTEGERS:
            return float(value)
        return _unusual(value, dtype, write)

    return write


def _float32_writer(dtype: DataType) -> Converter:
    def write(value: Any) -> Any:
        return _single_precision(value) if type(value) is float else _unusual(value, dtype, write)

    return write


def _integer_writer(dtype: DataType) -> Converter:
    assert dtype.is_integer, f"no writer for {dtype}"
    bits = int(dtype.kind.lstrip("uint"))
    low, high = (0, 2**bits) if dtype.kind.startswith("u") else (-(2 ** (bits - 1)), 2 ** (bits - 1))

    def write(value: Any) -> Any:
        return value if type(value) is int and low <= value < high else _unusual(value, dtype, write)

    return write


def _string_writer(dtype: DataType) -> Converter:
    def write(value: Any) -> Any:
        if type(value) is str:
            if not value.isascii():
                value.encode()  # half a surrogate pair is no text
            return value
        return _unusual(value, dtype, write)

    return write


def _same_writer(kind: type) -> Callable[[DataType], Converter]:
    def build(dtype: DataType) -> Converter:
        def write(value: Any) -> Any:
            return value if type(value) is kind else _unusual(value, dtype, write)

        return write

    return build


def _uuid_writer(dtype: DataType) -> Converter:
    def write(value: Any) -> Any:
        if type(value) is str:
            return str(uuid.UUID(value))
        return str(value) if type(value) is uuid.UUID else _unusual(value, dtype, write)

    return write


def _datetime_writer(dtype: DataType) -> Converter:
    def write(value: Any) -> Any:
        return _utc(value) if type(value) is dt.datetime else _unusual(value, dtype, write)

    return write


def _decimal_writer(dtype: DataType) -> Converter:
    digits = decimal.Decimal(1).scaleb(-dtype.scale)
    zero, limit = digits * 0, decimal.Decimal(10) ** (dtype.precision - dtype.scale)

    def write(value: Any) -> Any:
        if type(value) is decimal.Decimal and value.is_finite() and abs(value) < limit:
            rounded = _WIDE.quantize(value, digits)
            if rounded == value:
                return rounded or zero  # columns have no negative zero
        return _unusual(value, dtype, write)

    return write


def _list_writer(dtype: DataType) -> Converter:
    assert dtype.item is not None
    item = writer(dtype.item)

    def write(value: Any) -> Any:
        return [item(inner) for inner in value] if type(value) in (list, tuple) else _unusual(value, dtype, write)

    return write


def _struct_writer(dtype: DataType) -> Converter:
    fields = {name: writer(inner) for name, inner in dtype.fields}

    def write(value: Any) -> Any:
        if type(value) is dict and value.keys() <= fields.keys():
            return {name: convert(value.get(name)) for name, convert in fields.items()}
        return _unusual(value, dtype, write)

    return write


_WRITERS: Final[dict[str, Callable[[DataType], Converter]]] = {
    "float64": _float_writer,
    "float32": _float32_writer,
    "boolean": _same_writer(bool),
    "string": _string_writer,
    "binary": _same_writer(bytes),
    "uuid": _uuid_writer,
    "date": _same_writer(dt.date),
    "datetime": _datetime_writer,
    "duration": _same_writer(dt.timedelta),
    "decimal": _decimal_writer,
    "list": _list_writer,
    "struct": _struct_writer,
}
"""By kind of type; what is not here is an integer."""


def _unusual(value: Any, dtype: DataType, write: Converter) -> Any:
    """A value that is not of the type's own Python type: a null, a NumPy scalar, or as a column would take it."""
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return None
    if isinstance(value, np.generic) and value.dtype.kind in "biufSU" and value.itemsize <= _largest(value.dtype.kind):
        return write(value.item())
    scalar = constant(value, dtype, what="the value")
    try:
        (found,) = python_values(pa.chunked_array([pa.repeat(scalar, 1)]), dtype)
    except OverflowError as error:
        raise ValueError("a time before year 1 or after 9999") from error
    return found


def _largest(kind: str) -> int:
    """Bytes up to which a NumPy scalar is a Python value: there are floats that Python does not have."""
    return _DOUBLE_BYTES if kind in "biuf" else 2**31


def _single_precision(value: float) -> float:
    return ctypes.c_float(value).value


def _utc(value: Any) -> dt.datetime:
    if type(value) is dt.datetime and value.tzinfo is dt.UTC and not value.fold:
        return value
    return to_utc(value).replace(fold=0)  # which of two equal wall clock times it was: UTC has no such


def micros_of(value: dt.datetime) -> int:
    """Microseconds since 1970-01-01 of a time in UTC."""
    return (value - EPOCH) // _MICROSECOND


def _list_of(item: Converter | None) -> Converter:
    return list if item is None else lambda values: [item(value) for value in values]


def _struct_of(fields: dict[str, Converter | None]) -> Converter:
    def convert(value: Any) -> dict[str, Any]:
        return {name: value.get(name) if inner is None else inner(value.get(name)) for name, inner in fields.items()}

    return convert
