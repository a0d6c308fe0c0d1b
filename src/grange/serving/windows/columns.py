"""Columns of a cell as bytes that can be looked into and edited without decoding them.

A column's first byte says how the rest is to be read:

    0   no nulls: the values, packed
    1   a byte per value, 1 where there is one, then the values, packed, 0 where there is none
    2   a MessagePack list

Packed values have the width of their code: `q` int64, `Q` uint64, `d` float64, `?` a byte, all little-endian. Code `i`
is integers of any size, none of them null, packed as int64 while they fit, else as a list of texts; code `o` is always
a list.
"""

from __future__ import annotations

import itertools
import operator
import struct
import sys
from array import array
from collections.abc import Sequence
from typing import Any, Final, Literal

import msgspec

from grange.types.dtypes import DataType

Code = Literal["q", "Q", "d", "?", "i", "o"]

_DENSE, _VALID, _LIST = b"\x00", b"\x01", b"\x02"
_SWAP: Final = sys.byteorder == "big"
_FORMAT: Final[dict[str, Any]] = {"q": "q", "Q": "Q", "d": "d", "?": "?", "i": "q"}
_ONE: Final = {code: struct.Struct("<" + form).pack for code, form in _FORMAT.items()}
_WIDTH: Final = {"q": 8, "Q": 8, "d": 8, "?": 1, "i": 8, "o": 0}

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder().decode


def code_of(dtype: DataType) -> Code:
    """How a column of a type is packed."""
    match dtype.kind:
        case "uint64":
            return "Q"
        case "boolean":
            return "?"
        case "date" | "datetime" | "duration":
            return "q"
    return "q" if dtype.is_integer else "d" if dtype.is_float else "o"


def pack(code: Code, values: Sequence[Any]) -> bytes:
    """A column of values, nulls as None.

    Raises:
        TypeError, OverflowError: a value is not of the code.
    """
    if code == "o":
        return _LIST + _encode(values)
    if None not in values:
        try:
            return _DENSE + _packed(code, values)
        except OverflowError:
            if code != "i":
                raise
            return _LIST + _encode([str(value) for value in values])
    valid = bytes([value is not None for value in values])
    return _VALID + valid + _packed(code, [0 if value is None else value for value in values])


def _packed(code: Code, values: Sequence[Any]) -> bytes:
    if len(values) == 1:
        try:
            return _ONE[code](values[0])
        except struct.error as error:
            raise (OverflowError if isinstance(values[0], int) else TypeError)(str(error)) from error
    if code == "?":
        return bytes(values)
    numbers = array(_FORMAT[code], values)
    if _SWAP:
        numbers.byteswap()
    return numbers.tobytes()


def view(code: Code, column: bytes) -> Sequence[Any]:
    """The values of a column without nulls, by position; a memoryview where they are packed."""
    if column[0] == 0:
        return _cast(code, memoryview(column)[1:])
    return unpack(code, column)


def int_view(column: bytes) -> Sequence[int]:
    """`view` of a column that always is packed int64."""
    return _cast("q", memoryview(column)[1:])


def _cast(code: Code, packed: memoryview) -> Sequence[Any]:
    if _SWAP and code != "?":
        numbers = array(_FORMAT[code], packed.tobytes())
        numbers.byteswap()
        return memoryview(numbers)
    return packed.cast(_FORMAT[code])


def _parts(code: Code, column: bytes) -> tuple[bytes, Sequence[Any]]:
    """Validity and values of a column of form 1."""
    count = (len(column) - 1) // (_WIDTH[code] + 1)
    return column[1 : 1 + count], _cast(code, memoryview(column)[1 + count :])


def unpack(code: Code, column: bytes) -> list[Any]:
    """All values, nulls as None."""
    if column[0] == 0:
        return list(_cast(code, memoryview(column)[1:]))
    if column[0] == 1:
        valid, values = _parts(code, column)
        return [value if there else None for there, value in zip(valid, values, strict=True)]
    listed: list[Any] = _decode(memoryview(column)[1:])
    return [int(text) for text in listed] if code == "i" else listed


def splice(code: Code, column: bytes, start: int, stop: int, values: Sequence[Any]) -> bytes:
    """The column with the values from `start` up to `stop` replaced by others."""
    width = _WIDTH[code]
    if column[0] == 0 and None not in values:
        try:
            packed = _packed(code, values) if values else b""
        except OverflowError:
            if code != "i":
                raise
        else:
            return column[: 1 + start * width] + packed + column[1 + stop * width :]
    elif column[0] == 1:
        count = (len(column) - 1) // (width + 1)
        valid = bytes([value is not None for value in values])
        packed = _packed(code, [0 if value is None else value for value in values]) if values else b""
        body = 1 + count
        return b"".join((
            column[: 1 + start], valid, column[1 + stop : body],
            column[body : body + start * width], packed, column[body + stop * width :],
        ))  # fmt: skip
    every = unpack(code, column)
    every[start:stop] = values
    return pack(code, every)


def at(code: Code, column: bytes, position: int) -> Any:
    """One value; None where it is null."""
    if column[0] == 0:
        return _cast(code, memoryview(column)[1:])[position]
    if column[0] == 1:
        valid, values = _parts(code, column)
        return values[position] if valid[position] else None
    return unpack(code, column)[position]


def between(code: Code, column: bytes, start: int, stop: int) -> tuple[list[Any], bytes | None]:
    """The values from `start` up to `stop`, and a byte for each that says whether there is one; None when all are.

    Where there is none the value is arbitrary.
    """
    if column[0] == 0:
        return _listed(_cast(code, memoryview(column)[1:])[start:stop]), None
    if column[0] == 1:
        valid, values = _parts(code, column)
        valid = valid[start:stop]
        return _listed(values[start:stop]), None if 0 not in valid else valid
    listed = unpack(code, column)[start:stop]
    return listed, bytes([value is not None for value in listed]) if None in listed else None


def _listed(values: Sequence[Any]) -> list[Any]:
    """As a list, which is several times faster to go through than a memoryview."""
    return values.tolist() if isinstance(values, memoryview) else list(values)


def present(code: Code, column: bytes, start: int, stop: int) -> Sequence[Any]:
    """The values from `start` up to `stop` that are not null."""
    values, valid = between(code, column, start, stop)
    return values if valid is None else list(itertools.compress(values, valid))


def both(one: bytes | None, other: bytes | None) -> bytes | None:
    """Where both masks are 1; None is 1 everywhere."""
    if one is None or other is None:
        return other if one is None else one
    return bytes(map(operator.and_, one, other))
