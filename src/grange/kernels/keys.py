"""Entity keys as small integers that two tables share (PIT-4).

Keys compare column by column, by type and value: every column gets its own codes, and a composite key is the
number that its columns' codes make as digits. Nothing is ever concatenated, so `("a", "bc")` and `("ab", "c")`
differ.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from grange.errors import KeyTypeError
from grange.kernels.arrays import Ints, Mask, integers, room, single, tiles

Columns = Mapping[str, pa.Array | pa.ChunkedArray]
"""Key columns by name, in the order of the join keys. Lookups go by position; names are for messages."""

ABSENT: Final = -1
"""The code of a key that has a null in it, or that the other table does not have. It matches nothing."""

_LARGEST: Final = 1 << 31
"""Codes stay below this, so that a code and a row position fit into one int64."""


@dataclass(frozen=True, slots=True)
class KeyIndex:
    """The entity keys of one table, ready to find another table's keys among them. Immutable.

    Shape:
        `codes` has one int64 per row of the table: equal keys have equal codes in `[0, size)`; a key with a
        null in any column has `ABSENT`.
    """

    codes: Ints
    size: int
    _columns: tuple[_Column, ...]
    _names: tuple[str, ...]
    _digits: tuple[_Digit, ...]

    @classmethod
    def of(cls, columns: Columns) -> KeyIndex:
        """Encode the keys of a table.

        Args:
            columns: one or more columns of equal length: integers, strings, binaries, booleans, dates, UTC
                times or decimals.

        Raises:
            KeyTypeError: a column of a type that is no key (floats, lists, structs).
        """
        assert columns, "a key has at least one column"
        encoders: list[_Column] = []
        digits: list[_Digit] = []
        codes, size = np.zeros(0, np.int64), 0
        for name, column in columns.items():
            encoder, own = _encode(_Values.of(column, name))
            if not encoders:
                codes, size = own, encoder.size
            else:
                digit = _Digit(encoder.size, None)
                codes, size = digit.append(codes, own), size * encoder.size
                if size >= _LARGEST:
                    dense, codes = _Hashed.of(pa.array(codes, mask=codes < 0))
                    digit, size = _Digit(encoder.size, dense), dense.size
                digits.append(digit)
            encoders.append(encoder)
        return cls(codes, size, tuple(encoders), tuple(columns), tuple(digits))

    def lookup(self, columns: Columns) -> Ints:
        """The codes of another table's keys, one int64 per row of it; `ABSENT` for keys that this index lacks.

        Of a composite key, a combination that this index lacks may have a code that no row of the index has.

        Args:
            columns: as many as the index has, in the same order; names may differ, integer widths too.

        Raises:
            KeyTypeError: a column is of another family than the index's; names both.
        """
        assert len(columns) == len(self._columns), "as many key columns as the index has"
        codes = np.zeros(0, np.int64)
        for position, (name, column) in enumerate(columns.items()):
            values, encoder = _Values.of(column, name), self._columns[position]
            if values.family != encoder.family:
                raise KeyTypeError(
                    f"join key {self._names[position]!r} is {encoder.family} and {name!r} is {values.family}",
                    found=f"{encoder.family} against {column.type}",
                    try_="declare both with one type; keys compare by type and value",
                )
            own = encoder.lookup(values)
            codes = own if position == 0 else self._digits[position - 1].append(codes, own)
        return codes


@dataclass(frozen=True, slots=True)
class _Values:
    """A key column in one of two forms: int64 numbers, or an Arrow array to hash."""

    family: str
    array: pa.Array
    numbers: Ints | None = None
    valid: Mask | None = None
    unsigned: bool = False
    """Whether numbers from 2**63 on have wrapped around to negative ones."""

    @classmethod
    def of(cls, column: pa.Array | pa.ChunkedArray, name: str) -> _Values:
        array, t = single(column), pa.types
        if t.is_dictionary(array.type):
            array = array.cast(array.type.value_type)
        kind = array.type
        if t.is_integer(kind):
            return cls("integer", array, *integers(array), unsigned=kind == pa.uint64())
        if t.is_boolean(kind):
            return cls("boolean", array, *integers(array))
        if t.is_date32(kind):
            return cls("date", array, *integers(array))
        if t.is_timestamp(kind):
            return cls("datetime", array, *integers(array))
        if t.is_string(kind) or t.is_large_string(kind) or t.is_string_view(kind):
            return cls("string", array.cast(pa.large_string()))
        if t.is_binary(kind) or t.is_large_binary(kind) or t.is_binary_view(kind) or t.is_fixed_size_binary(kind):
            return cls("binary", array.cast(pa.large_binary()))
        if t.is_decimal(kind):
            return cls("decimal", array)
        raise KeyTypeError(
            f"join key {name!r} is {kind}, which has no dependable equality",
            try_="use integers, strings, dates, times, booleans, binaries or decimals as keys",
        )


def _encode(values: _Values) -> tuple[_Column, Ints]:
    """An encoder of a column's values, and the codes of its rows."""
    if values.numbers is None:
        return _Hashed.of(values.array, family=values.family)
    present = values.numbers if values.valid is None else values.numbers[values.valid]
    if not len(present):
        return _Dense(values.family, 0, np.zeros(0, np.int32), 0, values.unsigned), _all_absent(len(values.array))
    low, high = int(present.min()), int(present.max())
    # a table over the whole range costs less than hashing, as long as it stays about as small as the rows
    if high - low < max(1 << 16, 8 * len(present)):
        seen = np.zeros(high - low + 1, np.bool_)
        for tile in tiles(len(present)):
            seen[present[tile] - low] = True
        table = np.cumsum(seen, dtype=np.int32) - np.int32(1)
        size = int(table[-1]) + 1
        table[~seen] = ABSENT
        dense = _Dense(values.family, low, table, size, values.unsigned)
        return dense, dense.lookup(values)
    plain = pa.Array.from_buffers(
        pa.int64(), len(values.array), [_bitmap(values.valid), pa.py_buffer(np.ascontiguousarray(values.numbers))]
    )
    return _Hashed.of(plain, family=values.family, unsigned=values.unsigned)


@dataclass(frozen=True, slots=True)
class _Dense:
    """Codes by position in a table over the range of the values."""

    family: str
    low: int
    table: np.ndarray[tuple[int], np.dtype[np.int32]]
    size: int
    unsigned: bool

    def lookup(self, values: _Values) -> Ints:
        assert values.numbers is not None
        if not len(self.table):
            return _all_absent(len(values.numbers))
        codes = room(len(values.numbers))
        for tile in tiles(len(codes)):
            codes[tile] = self._lookup(values, tile)
        return codes

    def _lookup(self, values: _Values, tile: slice) -> Ints | np.ndarray[tuple[Any, ...], np.dtype[np.int32]]:
        assert values.numbers is not None
        numbers = values.numbers[tile]
        inside = (numbers >= self.low) & (numbers <= self.low + len(self.table) - 1)
        if values.unsigned != self.unsigned:
            inside &= numbers >= 0
        if values.valid is not None:
            inside &= values.valid[tile]
        if inside.all():
            return self.table.take(numbers - self.low)
        codes = _all_absent(len(numbers))
        codes[inside] = self.table[numbers[inside] - self.low]
        return codes


@dataclass(frozen=True, slots=True)
class _Hashed:
    """Codes by position in an Arrow array of distinct values."""

    family: str
    distinct: pa.Array
    size: int
    unsigned: bool = False

    @classmethod
    def of(cls, array: pa.Array, *, family: str = "integer", unsigned: bool = False) -> tuple[_Hashed, Ints]:
        encoded = pc.dictionary_encode(array)
        hashed = cls(family, encoded.dictionary, len(encoded.dictionary), unsigned)
        return hashed, _or_absent(encoded.indices)

    def lookup(self, values: _Values) -> Ints:
        if values.numbers is None:
            array, distinct = _same_digits(values.array, self.distinct)
            return _or_absent(pc.index_in(array, value_set=distinct, skip_nulls=True))
        known = np.ones(len(values.numbers), np.bool_) if values.valid is None else values.valid.copy()
        _forget_wrapped(known, values, self.unsigned)
        return self.find(values.numbers, known)

    def find(self, numbers: Ints, known: Mask) -> Ints:
        """The codes of int64 numbers; `ABSENT` where they are not known."""
        array = pa.Array.from_buffers(
            pa.int64(), len(numbers), [_bitmap(known), pa.py_buffer(np.ascontiguousarray(numbers))]
        )
        return _or_absent(pc.index_in(array, value_set=self.distinct, skip_nulls=True))


_Column = _Dense | _Hashed


@dataclass(frozen=True, slots=True)
class _Digit:
    """How one more column's codes join the codes of the columns before it."""

    radix: int
    dense: _Hashed | None
    """Makes the combined numbers small again, where they would not fit beside a row position."""

    def append(self, codes: Ints, own: Ints) -> Ints:
        """The combined codes. Both factors are below 2**31, so the product fits."""
        combined = codes * self.radix
        combined += own
        absent = (codes < 0) | (own < 0)
        if self.dense is not None:
            return self.dense.find(combined, ~absent)
        combined[absent] = ABSENT
        return combined


def _forget_wrapped(known: Mask, values: _Values, unsigned: bool) -> None:
    """Between signed and unsigned 64-bit keys, negative numbers here are values that the other cannot hold."""
    if values.unsigned != unsigned:
        assert values.numbers is not None
        known &= values.numbers >= 0


def _same_digits(left: pa.Array, right: pa.Array) -> tuple[pa.Array, pa.Array]:
    """Decimals of different precision or scale in one type that holds both exactly; all else as it is."""
    if left.type == right.type or not pa.types.is_decimal(left.type):
        return left, right
    scale = max(left.type.scale, right.type.scale)
    common = pa.decimal256(76, scale)
    return left.cast(common), right.cast(common)


def _or_absent(indices: pa.Array) -> Ints:
    numbers, valid = integers(indices)
    codes = numbers.astype(np.int64, copy=False)
    if valid is None:
        return codes
    codes = codes.copy() if not codes.flags.writeable else codes
    codes[~valid] = ABSENT
    return codes


def _all_absent(count: int) -> Ints:
    return np.full(count, ABSENT, np.int64)


def _bitmap(valid: Mask | None) -> pa.Buffer | None:
    return None if valid is None else pa.py_buffer(np.packbits(valid, bitorder="little"))
