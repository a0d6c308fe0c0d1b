"""Grange's types as Arrow's, and `conform`: the one place where values meet their declaration (PIT-7).

Arrow is the interchange between engines and stores. Canonical forms are the large ones
(`large_string`, `large_list`), times are `timestamp[us, tz=UTC]`, and a uuid is its canonical lower-case text.
"""

from __future__ import annotations

import sys
import uuid
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from grange.errors import ColumnTypeError, SchemaError
from grange.types.dtypes import DataType
from grange.types.iso8601 import parse_times
from grange.types.schema import Column, Schema

TIMESTAMP = pa.timestamp("us", tz="UTC")

_UUID_BYTES: Final = 16
_UUID_LETTERS: Final = 36
_UUID_DASHES: Final = (8, 13, 18, 23)
_UUID_TEXT: Final = "^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"
_HEX: Final = np.frombuffer(b"0123456789abcdef", np.uint8)

_SIMPLE: dict[str, pa.DataType] = {
    "int8": pa.int8(),
    "int16": pa.int16(),
    "int32": pa.int32(),
    "int64": pa.int64(),
    "uint8": pa.uint8(),
    "uint16": pa.uint16(),
    "uint32": pa.uint32(),
    "uint64": pa.uint64(),
    "float32": pa.float32(),
    "float64": pa.float64(),
    "boolean": pa.bool_(),
    "string": pa.large_string(),
    "binary": pa.large_binary(),
    "uuid": pa.large_string(),
    "date": pa.date32(),
    "datetime": TIMESTAMP,
    "duration": pa.duration("us"),
}


def arrow_type(dtype: DataType) -> pa.DataType:
    """The canonical Arrow type of a Grange type."""
    match dtype.kind:
        case "list":
            assert dtype.item is not None
            return pa.large_list(arrow_type(dtype.item))
        case "struct":
            return pa.struct([pa.field(name, arrow_type(inner)) for name, inner in dtype.fields])
        case "decimal":
            return pa.decimal128(dtype.precision, dtype.scale)
        case kind:
            return _SIMPLE[kind]


def arrow_schema(schema: Schema) -> pa.Schema:
    """The canonical Arrow schema; every column may hold nulls."""
    return pa.schema([pa.field(column.name, arrow_type(column.dtype)) for column in schema])


def from_arrow_type(arrow: pa.DataType) -> DataType | None:
    """The Grange type that holds an Arrow type's values; None for a column of nulls only.

    Raises:
        SchemaError: Grange has no such type (maps, unions, times of day).
    """
    t = pa.types
    if t.is_null(arrow):
        return None
    if t.is_dictionary(arrow) or t.is_run_end_encoded(arrow):
        return from_arrow_type(arrow.value_type)
    if isinstance(arrow, pa.BaseExtensionType):
        return DataType("uuid") if arrow.extension_name == "arrow.uuid" else from_arrow_type(arrow.storage_type)
    if t.is_integer(arrow):
        return DataType(str(arrow))
    if t.is_floating(arrow):
        return DataType("float64" if t.is_float64(arrow) else "float32")
    if t.is_boolean(arrow):
        return DataType("boolean")
    if t.is_string(arrow) or t.is_large_string(arrow) or t.is_string_view(arrow):
        return DataType("string")
    if t.is_binary(arrow) or t.is_large_binary(arrow) or t.is_fixed_size_binary(arrow) or t.is_binary_view(arrow):
        return DataType("binary")
    if t.is_date(arrow):
        return DataType("date")
    if t.is_timestamp(arrow):
        return DataType("datetime")
    if t.is_duration(arrow):
        return DataType("duration")
    if t.is_decimal(arrow):
        return DataType("decimal", precision=min(arrow.precision, 38), scale=arrow.scale)
    if t.is_list(arrow) or t.is_large_list(arrow) or t.is_fixed_size_list(arrow) or _is_list_view(arrow):
        return DataType("list", item=from_arrow_type(arrow.value_type) or DataType("string"))
    if t.is_struct(arrow):
        inner = [(field.name, from_arrow_type(field.type) or DataType("string")) for field in arrow]
        return DataType("struct", fields=tuple(inner))
    raise SchemaError(f"Arrow type {arrow} has no counterpart here", try_="cast the column in the transform")


def from_arrow_schema(schema: pa.Schema, *, what: str) -> Schema:
    """The Grange schema of an Arrow schema.

    Raises:
        SchemaError: a type without counterpart, or a column of nulls only, whose type must be declared.
    """
    columns = []
    for field in schema:
        dtype = from_arrow_type(field.type)
        if dtype is None:
            raise SchemaError(
                f"{what}: column {field.name!r} holds only nulls, so its type cannot be inferred",
                try_=f"declare it: schema={{{field.name!r}: 'float64', ...}}",
            )
        columns.append(Column(field.name, dtype))
    return Schema(tuple(columns))


def foreign_dtype(value: Any) -> DataType:
    """The Grange type of a PyArrow type or a Polars type (class or instance)."""
    if isinstance(value, pa.DataType):
        dtype = from_arrow_type(value)
        if dtype is None:
            raise SchemaError("a null type holds no values; declare another")
        return dtype
    polars = sys.modules["polars"]  # a Polars type has been made, so Polars is loaded; this module never loads it
    return foreign_dtype(polars.Series([], dtype=value).to_arrow().type)


def conform(table: pa.Table, schema: Schema, *, what: str) -> pa.Table:
    """The table with exactly the columns of `schema`, in order, in their canonical Arrow types.

    A value that its declared type cannot hold exactly is an error, never a silent change: integers do not
    wrap, floats with a fraction do not become integers, text does not become a number. Widening is free;
    ISO 8601 text becomes a datetime or date, sixteen bytes become a uuid; naive times are UTC, finer ones are cut
    to microseconds (TIME-1).

    Raises:
        SchemaError: a declared column is missing.
        ColumnTypeError: a column does not fit; names the column, both types, the first bad value and its row.
    """
    missing = [name for name in schema.names if name not in table.column_names]
    if missing:
        raise SchemaError(
            f"{what}: declared column{'s' if len(missing) > 1 else ''} {', '.join(map(repr, missing))} missing",
            found=", ".join(table.column_names) or "no columns at all",
        )
    arrays = [conform_column(table.column(column.name), column, what=what) for column in schema]
    return pa.Table.from_arrays(arrays, schema=arrow_schema(schema))


def conform_column(values: pa.ChunkedArray, column: Column, *, what: str) -> pa.ChunkedArray:
    """One column in the canonical Arrow type of its declaration. See `conform`."""
    target = arrow_type(column.dtype)
    if values.type == target and column.dtype.kind != "uuid":
        return values
    values = _plain(values)
    if pa.types.is_null(values.type):
        return pa.chunked_array([pa.nulls(len(values), target)], type=target)
    try:
        if not _may_cast(values.type, column.dtype):
            raise pa.ArrowInvalid(f"{values.type} is not {column.dtype}")
        return _cast(values, column.dtype, target)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, ValueError, OverflowError) as error:
        row, bad = _first_misfit(values, column.dtype, target)
        raise ColumnTypeError(
            f"{what}: column {column.name!r} is declared {column.dtype} and holds {values.type}",
            found=f"{bad!r} in row {row}" if row is not None else str(error).splitlines()[0],
            try_=f"declare the type it has, or convert it: schema={{{column.name!r}: ...}}",
            details={"column": column.name, "declared": str(column.dtype), "found_type": str(values.type)},
        ) from error


def constant(value: object, dtype: DataType, *, what: str) -> pa.Scalar:
    """A value of Python's in the canonical Arrow type of its declaration: a feature's default (ONL-5).

    Raises:
        ColumnTypeError: the type cannot hold it exactly.
    """
    try:
        try:
            single = pa.array([value])
        except OverflowError:  # an integer that needs all 64 bits: Arrow takes it only when told so
            single = pa.array([value], arrow_type(dtype))
    except (pa.ArrowException, OverflowError, TypeError) as error:
        raise ColumnTypeError(
            f"{what} is declared {dtype} and cannot be {value!r}",
            found=str(error).splitlines()[0],
            details={"declared": str(dtype), "found_type": type(value).__name__},
        ) from error
    return conform_column(pa.chunked_array([single]), Column("default", dtype), what=what)[0]


def plain(values: pa.ChunkedArray, name: str) -> pa.ChunkedArray:
    """The same values in a type that Polars and DuckDB read too; most columns as they are.

    Raises:
        ColumnTypeError: decimals of more than 38 digits, which only Arrow holds.
    """
    arrow = values.type
    if pa.types.is_run_end_encoded(arrow) or _is_list_view(arrow):
        return _plain(values)
    if not pa.types.is_decimal256(arrow):
        return values
    try:
        return values.cast(pa.decimal128(38, arrow.scale))
    except pa.ArrowInvalid as error:
        raise ColumnTypeError(
            f"column {name!r} holds decimals of more than 38 digits",
            found=str(error).splitlines()[0],
            details={"column": name, "found_type": str(arrow)},
        ) from error


def _plain(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """Without dictionary, run-end, extension or view encoding."""
    arrow = values.type
    if pa.types.is_dictionary(arrow):
        return values.cast(arrow.value_type)
    if pa.types.is_run_end_encoded(arrow):
        return pa.chunked_array([pc.run_end_decode(chunk) for chunk in values.chunks], type=arrow.value_type)
    if isinstance(arrow, pa.BaseExtensionType):
        return pa.chunked_array([chunk.storage for chunk in values.chunks], type=arrow.storage_type)
    if pa.types.is_string_view(arrow):
        return values.cast(pa.large_string())
    if pa.types.is_binary_view(arrow):
        return values.cast(pa.large_binary())
    if _is_list_view(arrow):
        lists = [_list_of_view(chunk) for chunk in values.chunks]
        return pa.chunked_array(lists, type=pa.large_list(arrow.value_type))
    return values


def _list_of_view(chunk: pa.Array) -> pa.LargeListArray:
    """Views of lists as lists. Arrow's own cast makes offsets that descend where a list is null."""
    valid = chunk.is_valid().to_numpy(zero_copy_only=False)
    ends = np.cumsum(np.where(valid, chunk.sizes.to_numpy(zero_copy_only=False), 0), dtype=np.int64)
    return pa.LargeListArray.from_arrays(np.concatenate([[0], ends]), chunk.flatten(), mask=pa.array(~valid))


def _is_list_view(arrow: pa.DataType) -> bool:
    return bool(pa.types.is_list_view(arrow) or pa.types.is_large_list_view(arrow))


def _may_cast(arrow: pa.DataType, dtype: DataType) -> bool:
    """Whether values of an Arrow type may be read as a Grange type at all; the values decide the rest."""
    t = pa.types
    number = t.is_integer(arrow) or t.is_floating(arrow) or t.is_decimal(arrow)
    text = _is_text(arrow)
    binary = bool(t.is_binary(arrow) or t.is_large_binary(arrow) or t.is_fixed_size_binary(arrow))
    match dtype.kind:
        case "boolean":
            return bool(t.is_boolean(arrow))
        case "string":
            return text
        case "uuid":
            return text or (binary and not (t.is_fixed_size_binary(arrow) and arrow.byte_width != _UUID_BYTES))
        case "binary":
            return binary
        case "date" | "datetime":
            return bool(t.is_date(arrow) or t.is_timestamp(arrow) or text)
        case "duration":
            return bool(t.is_duration(arrow))
        case "list":
            return bool(t.is_list(arrow) or t.is_large_list(arrow) or t.is_fixed_size_list(arrow))
        case "struct":
            return bool(t.is_struct(arrow))
        case _:
            return bool(number)


def _is_text(arrow: pa.DataType) -> bool:
    return bool(pa.types.is_string(arrow) or pa.types.is_large_string(arrow))


def _cast(values: pa.ChunkedArray, dtype: DataType, target: pa.DataType) -> pa.ChunkedArray:
    arrow = values.type
    if dtype.kind == "uuid":
        return pa.chunked_array([_canonical_uuids(chunk) for chunk in values.chunks], type=target)
    if dtype.kind == "datetime" and pa.types.is_timestamp(arrow):
        return utc_micros(values)
    if dtype.kind == "datetime" and _is_text(arrow):
        return pa.chunked_array([parse_times(chunk).cast(target) for chunk in values.chunks], type=target)
    if dtype.kind == "datetime":
        return values.cast(pa.timestamp("us")).cast(target)
    if dtype.kind == "date" and pa.types.is_timestamp(arrow):
        days = utc_micros(values)
        if pc.any(pc.not_equal(pc.floor_temporal(days, unit="day"), days)).as_py():
            raise pa.ArrowInvalid("a time of day would be lost")
        return days.cast(pa.timestamp("us")).cast(target)
    if dtype.kind == "duration":
        return values.cast(target, safe=False)
    if dtype.kind == "decimal" and pa.types.is_integer(arrow):
        # by way of a decimal that has room for every integer: Arrow looks at the types, what matters is the values
        return values.cast(pa.decimal256(76, dtype.scale)).cast(target)
    if dtype.kind == "float32" and pa.types.is_floating(arrow):
        return values.cast(target, safe=False)  # rounding to the declared precision is what float32 means
    return values.cast(target)


def utc_micros(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """Timestamps of any unit and zone as `timestamp[us, tz=UTC]`; naive is UTC, nanoseconds are cut (TIME-1)."""
    arrow = values.type
    if arrow == TIMESTAMP:
        return values
    if arrow.unit == "ns":
        # floor, not truncation towards zero: before 1970 the two differ
        nanos = values.cast(pa.int64())
        micros = pc.floor_temporal(nanos.cast(pa.timestamp("ns")), unit="microsecond")
        return micros.cast(pa.timestamp("us")).cast(pa.int64()).cast(TIMESTAMP)
    if arrow.tz is not None:
        return values.cast(pa.timestamp("us", tz=arrow.tz)).cast(TIMESTAMP)
    return values.cast(pa.timestamp("us")).cast(pa.int64()).cast(TIMESTAMP)


def _canonical_uuids(values: pa.Array) -> pa.Array:
    """Uuids as their canonical text: of text in any form that `uuid.UUID` reads, or of sixteen bytes each."""
    if pa.types.is_fixed_size_binary(values.type):
        return _uuid_text(values)
    if not _is_text(values.type):
        if pc.any(pc.not_equal(pc.binary_length(values), _UUID_BYTES)).as_py():
            raise pa.ArrowInvalid("a uuid has 16 bytes")
        return _uuid_text(values.cast(pa.binary(_UUID_BYTES)))
    lower = pc.ascii_lower(values.cast(pa.large_string()))
    other = pc.invert(pc.fill_null(pc.match_substring_regex(lower, _UUID_TEXT), True))
    if not pc.any(other).as_py():
        return lower
    texts = [str(uuid.UUID(text)) for text in values.filter(other).to_pylist()]
    return pc.replace_with_mask(lower, other, pa.array(texts, pa.large_string()))


def _uuid_text(values: pa.FixedSizeBinaryArray) -> pa.Array:
    count = len(values)
    raw = np.frombuffer(values.buffers()[1] or b"", np.uint8, count * _UUID_BYTES, values.offset * _UUID_BYTES)
    digits = np.empty((count, 2 * _UUID_BYTES), np.uint8)
    pairs = raw.reshape(count, _UUID_BYTES)
    digits[:, 0::2], digits[:, 1::2] = pairs >> 4, pairs & 15
    text = np.full((count, _UUID_LETTERS), ord("-"), np.uint8)
    text[:, [place for place in range(_UUID_LETTERS) if place not in _UUID_DASHES]] = _HEX[digits]
    valid = np.packbits(values.is_valid().to_numpy(zero_copy_only=False), bitorder="little")
    ends = np.arange(count + 1, dtype=np.int64) * _UUID_LETTERS
    return pa.LargeStringArray.from_buffers(count, pa.py_buffer(ends), pa.py_buffer(text), pa.py_buffer(valid))


def _first_misfit(values: pa.ChunkedArray, dtype: DataType, target: pa.DataType) -> tuple[int | None, Any]:
    """The first row whose value does not fit, by halving; (None, None) when no single row is to blame."""

    def fits(part: pa.ChunkedArray) -> bool:
        try:
            _cast(part, dtype, target)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, ValueError, OverflowError):
            return False
        return True

    if not _may_cast(values.type, dtype):
        for row, value in enumerate(values):
            if value.is_valid:
                return row, value.as_py()
        return None, None
    low, high = 0, len(values)
    if fits(values):
        return None, None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if not fits(values.slice(low, middle - low)) else (middle, high)
    return low, values[low].as_py()


def cast_text(values: pa.ChunkedArray, target: pa.DataType) -> pa.ChunkedArray | None:
    """Text as another type; None when some of it is none."""
    try:
        return values.cast(target)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return None


def parse_text(values: pa.ChunkedArray, column: Column, *, what: str) -> pa.ChunkedArray:
    """The text of a file without types as its declared type (PIT-7).

    Raises:
        ColumnTypeError: a value is not of the type; names it and its row.
    """
    target = arrow_type(column.dtype)
    parsed = cast_text(values, target)
    if parsed is not None:
        return parsed
    row = next(row for row in range(len(values)) if cast_text(values.slice(row, 1), target) is None)
    raise ColumnTypeError(
        f"{what}: column {column.name!r} is declared {column.dtype} and holds text",
        found=f"{values[row].as_py()!r} in row {row}",
        try_=f"declare the type it has: schema={{{column.name!r}: 'string'}}",
        details={"column": column.name, "declared": str(column.dtype), "found_type": "string"},
    )


def empty(schema: Schema) -> pa.Table:
    """A table of no rows."""
    return arrow_schema(schema).empty_table()


__all__ = [
    "TIMESTAMP",
    "arrow_schema",
    "arrow_type",
    "conform",
    "cast_text",
    "conform_column",
    "constant",
    "empty",
    "foreign_dtype",
    "from_arrow_schema",
    "from_arrow_type",
    "plain",
    "parse_text",
    "utc_micros",
]
