"""Entity keys as bytes: what online stores look rows up by.

A key is the encodings of its values, one after another, each of them a tag byte and a payload:

    integer    0x10, 8 bytes big-endian of v + 2**63; from 2**63 on 0x11, 8 bytes big-endian of v
    boolean    0x18, one byte, 0 or 1
    date       0x20, like an integer, of days since 1970-01-01
    datetime   0x21, like an integer, of microseconds since 1970-01-01 UTC
    decimal    0x28, 32 bytes big-endian of v * 10**38 + 2**255, so that 1.5 and 1.50 are one key
    uuid       0x30, its 16 bytes
    string     0x38, UTF-8 with 0x00 written as 0x00 0xFF, then 0x00
    binary     0x39, the bytes likewise

No tag is 0xFF, so every encoding says where it ends: different tuples have different keys, whatever they contain
(PIT-4). All integer widths encode alike, and the type is part of the key. Bytes compare as the tuples do. A tuple
with a null has no key: it matches nothing.

What is stored depends on this page: a change of it makes stored rows unreachable.
"""

from __future__ import annotations

import datetime as dt
import decimal
import operator
import struct
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from grange.errors import KeyTypeError, MissingColumnError, RequestError, SchemaError, closest_names
from grange.types import DataType
from grange.types.time import to_micros

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

INTEGER, UNSIGNED, BOOLEAN, DATE, DATETIME = 0x10, 0x11, 0x18, 0x20, 0x21
DECIMAL, UUID, STRING, BINARY = 0x28, 0x30, 0x38, 0x39

_BIAS: Final = 1 << 63
_DECIMAL_BIAS: Final = 1 << 255
_DECIMAL_SCALE: Final = 38
_EPOCH_DAY: Final = dt.date(1970, 1, 1).toordinal()
_EXACT: Final = decimal.Context(prec=120, Emax=1000, Emin=-1000, traps=[decimal.Inexact, decimal.InvalidOperation])
_pack: Final = struct.Struct(">BQ").pack

ValueEncoder = Callable[[Any], bytes]
"""Bytes of one value that is not None; raises TypeError or ValueError for a value of another type."""
RowEncoder = Callable[[Mapping[str, Any]], bytes | None]
"""The key of one row; None when a value is None."""


# -- one value ---------------------------------------------------------------------------------------------------


def _integer(value: Any) -> bytes:
    if type(value) is not int:
        if isinstance(value, bool) or not hasattr(value, "__index__"):
            raise TypeError
        value = operator.index(value)
    if value < _BIAS:
        if value < -_BIAS:
            raise ValueError("integers have 64 bits")
        return _pack(INTEGER, value + _BIAS)
    if value >= 1 << 64:
        raise ValueError("integers have 64 bits")
    return _pack(UNSIGNED, value)


def _string(value: Any) -> bytes:
    if not isinstance(value, str):
        raise TypeError
    data = value.encode()
    if b"\0" in data:
        data = data.replace(b"\0", b"\0\xff")
    return b"\x38" + data + b"\0"


def _binary(value: Any) -> bytes:
    if not isinstance(value, bytes | bytearray | memoryview):
        raise TypeError
    return b"\x39" + bytes(value).replace(b"\0", b"\0\xff") + b"\0"


def _boolean(value: Any) -> bytes:
    if value is True:
        return b"\x18\x01"
    if value is False:
        return b"\x18\x00"
    if type(value).__module__ == "numpy" and type(value).__name__ in ("bool", "bool_"):
        return _boolean(bool(value))
    raise TypeError


def _uuid(value: Any) -> bytes:
    if isinstance(value, str):
        value = uuid.UUID(value)
    if not isinstance(value, uuid.UUID):
        raise TypeError
    return b"\x30" + value.bytes


def _date(value: Any) -> bytes:
    if isinstance(value, str):
        value = dt.date.fromisoformat(value)
    if isinstance(value, dt.datetime):
        if value.timetz() != dt.time(0, tzinfo=value.tzinfo):
            raise ValueError("a time of day would be lost")
        value = value.date()
    if not isinstance(value, dt.date):
        raise TypeError
    return _pack(DATE, value.toordinal() - _EPOCH_DAY + _BIAS)


def _datetime(value: Any) -> bytes:
    if not isinstance(value, dt.date | str):
        raise TypeError
    return _pack(DATETIME, to_micros(value) + _BIAS)


def _decimal(value: Any) -> bytes:
    if isinstance(value, bool) or not isinstance(value, decimal.Decimal | int):
        raise TypeError
    try:
        scaled = _EXACT.to_integral_exact(_EXACT.scaleb(_EXACT.create_decimal(value), _DECIMAL_SCALE))
    except decimal.DecimalException as error:
        raise ValueError("decimals have at most 38 digits after the point") from error
    number = int(scaled) + _DECIMAL_BIAS
    if not 0 <= number < 1 << 256:
        raise ValueError("decimals have at most 38 digits before the point")
    return b"\x28" + number.to_bytes(32, "big")


_ENCODERS: Final[Mapping[str, ValueEncoder]] = {
    "integer": _integer,
    "string": _string,
    "binary": _binary,
    "boolean": _boolean,
    "uuid": _uuid,
    "date": _date,
    "datetime": _datetime,
    "decimal": _decimal,
}


def value_encoder(dtype: DataType) -> ValueEncoder:
    """The encoder of one key column.

    Raises:
        SchemaError: values of this type cannot be a key.
    """
    family = dtype.key_family
    if family is None:
        raise SchemaError(f"a column of type {dtype} cannot be a join key, it has no dependable equality")
    return _ENCODERS[family]


# -- one row -----------------------------------------------------------------------------------------------------


def encode_key(values: Sequence[Any], dtypes: Sequence[DataType]) -> bytes | None:
    """The key of a tuple of values; None when one of them is None.

    Raises:
        KeyTypeError: a value is of another type than its column.
    """
    names = [f"key {position}" for position in range(len(values))]
    encode = row_encoder(tuple(zip(names, dtypes, strict=True)))
    return encode(dict(zip(names, values, strict=True)))


def row_encoder(columns: Sequence[tuple[str, DataType]]) -> RowEncoder:
    """A function from a row to its key, made once and called often.

    Args:
        columns: (column of the row, type) per join key, in the order the stored key has.

    Returns:
        The function; it raises MissingColumnError, KeyTypeError or RequestError as its row deserves.
    """
    parts = tuple((name, value_encoder(dtype)) for name, dtype in columns)

    def blame(row: Any, error: Exception) -> Exception:
        if not isinstance(row, Mapping):
            return not_a_row(row)
        for (name, encode), (_, dtype) in zip(parts, columns, strict=True):
            if name not in row:
                return _missing(name, row)
            if row[name] is None:
                continue
            try:
                encode(row[name])
            except (TypeError, ValueError) as reason:
                return _mistyped(name, dtype, row[name], reason)
        return error

    def encode_one(row: Mapping[str, Any]) -> bytes | None:
        try:
            value = row[name]
            return None if value is None else encode(value)
        except (KeyError, TypeError, ValueError) as error:
            raise blame(row, error) from error

    def encode_several(row: Mapping[str, Any]) -> bytes | None:
        try:
            values = [(encode, row[name]) for name, encode in parts]
            key = b"".join([b"" if value is None else encode(value) for encode, value in values])
        except (KeyError, TypeError, ValueError) as error:
            raise blame(row, error) from error
        return None if any(value is None for _, value in values) else key

    if len(parts) == 1:
        name, encode = parts[0]
        return encode_one
    return encode_several


def not_a_row(row: object) -> RequestError:
    """The error for a requested row that is no mapping."""
    return RequestError(
        "a requested row is a mapping of column to value",
        found=f"{row!r} ({type(row).__name__})",
        try_='a dict per row: {"user_id": 1}',
    )


def _missing(name: str, row: Mapping[str, Any]) -> MissingColumnError:
    return MissingColumnError(
        f"a requested row has no join key {name!r}",
        found=", ".join(map(str, row)) or "an empty row",
        closest=closest_names(name, map(str, row)),
        try_=f"bring it in every row; {name!r}: None matches nothing",
        details={"column": name},
    )


def _mistyped(name: str, dtype: DataType, value: Any, reason: Exception) -> KeyTypeError:
    kind = type(value).__name__
    found = f"{value!r} ({kind})"
    text = reason.message if isinstance(reason, RequestError) else str(reason)
    return KeyTypeError(
        f"join key {name!r} is of type {dtype}, and the row has {kind}",
        found=f"{found}: {text}" if text else found,
        try_=f"send {_EXAMPLES[dtype.key_family or 'string']}",
        details={"column": name, "expected": str(dtype), "found_type": kind},
    )


_EXAMPLES: Final[Mapping[str, str]] = {
    "integer": "an integer of 64 bits, 1 and not '1'",
    "string": "text, '1' and not 1",
    "binary": "bytes",
    "boolean": "True or False",
    "uuid": "a uuid, or its text",
    "date": "a date, or text such as 2026-11-21",
    "datetime": "a datetime, or text such as 2026-11-21T10:00:00Z",
    "decimal": "a Decimal",
}


# -- whole columns -----------------------------------------------------------------------------------------------


def encode_columns(columns: Sequence[pa.ChunkedArray], dtypes: Sequence[DataType]) -> pa.LargeBinaryArray:
    """The keys of many rows at once, the same bytes as row by row; null where a value is null.

    Args:
        columns: per join key its values, in the canonical Arrow type of its declaration.
        dtypes: the declarations.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    parts = [_encode_column(_one(column), dtype) for column, dtype in zip(columns, dtypes, strict=True)]
    if len(parts) == 1:
        return parts[0]
    return pc.binary_join_element_wise(*parts, pa.scalar(b"", pa.large_binary()), null_handling="emit_null")


def _one(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    import pyarrow as pa

    if isinstance(column, pa.Array):
        return column
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _encode_column(values: pa.Array, dtype: DataType) -> pa.LargeBinaryArray:
    import pyarrow as pa

    match dtype.key_family:
        case "integer":
            return _encode_integers(values)
        case "date":
            return _encode_biased(values.cast(pa.int32()).cast(pa.int64()), DATE)
        case "datetime":
            return _encode_biased(values.cast(pa.int64()), DATETIME)
        case "string":
            return _encode_bytes(values.cast(pa.large_string()).cast(pa.large_binary()), STRING)
        case "binary":
            return _encode_bytes(values.cast(pa.large_binary()), BINARY)
        case _:
            encode = value_encoder(dtype)
            keys = [None if value is None else encode(value) for value in values.to_pylist()]
            return pa.array(keys, pa.large_binary())


def _encode_integers(values: pa.Array) -> pa.LargeBinaryArray:
    import numpy as np
    import pyarrow as pa

    from grange.kernels.arrays import integers

    if not pa.types.is_uint64(values.type):
        return _encode_biased(values.cast(pa.int64()), INTEGER)
    numbers = integers(values)[0].view(np.uint64)
    large = numbers >= np.uint64(_BIAS)
    tags = np.where(large, UNSIGNED, INTEGER).astype(np.uint8)
    payload = np.where(large, numbers, numbers ^ np.uint64(_BIAS))
    return _fixed(tags, payload, values)


def _encode_biased(values: pa.Array, tag: int) -> pa.LargeBinaryArray:
    import numpy as np

    from grange.kernels.arrays import integers

    numbers = integers(values)[0]
    return _fixed(tag, numbers.view(np.uint64) ^ np.uint64(_BIAS), values)


def _fixed(tags: Any, payload: np.ndarray[Any, Any], values: pa.Array) -> pa.LargeBinaryArray:
    """Keys of a tag and eight bytes each, null where `values` is."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    count = len(payload)
    matrix = np.empty((count, 9), np.uint8)
    matrix[:, 0] = tags
    matrix[:, 1:] = payload.astype(">u8").view(np.uint8).reshape(count, 8)
    offsets = np.arange(0, 9 * count + 1, 9, dtype=np.int64)
    keys = pa.LargeBinaryArray.from_buffers(
        pa.large_binary(), count, [None, pa.py_buffer(offsets), pa.py_buffer(matrix)]
    )
    if values.null_count:
        return pc.if_else(values.is_valid(), keys, pa.scalar(None, pa.large_binary()))
    return keys


def _encode_bytes(values: pa.Array, tag: int) -> pa.LargeBinaryArray:
    import pyarrow as pa
    import pyarrow.compute as pc

    if pc.any(pc.match_substring(values, b"\0")).as_py():
        values = pc.replace_substring(values, b"\0", b"\0\xff")
    scalar = [pa.scalar(part, pa.large_binary()) for part in (bytes([tag]), b"\0", b"")]
    return pc.binary_join_element_wise(scalar[0], values, scalar[1], scalar[2], null_handling="emit_null")
