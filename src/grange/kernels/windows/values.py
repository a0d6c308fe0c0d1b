"""A column of the events as what functions compute with: numbers, or keys that say which values are equal or less."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from grange.kernels.arrays import Ints, Mask, argsort, integers, micros, single, validity
from grange.kernels.windows.answers import Floats

SIGN = np.int64(np.iinfo(np.int64).min)
_NAN = np.int64(0x7FF8_0000_0000_0000)
"""The bits of the NaN that stands for all: as a number it lies above those of infinity."""


class Values:
    """One column, row by row of the events' table. Nothing is computed before it is asked for.

    `kind` is what its values are: `integer` (also booleans, dates, times and durations), `float`, or `coded`
    (everything else), which has keys only.
    """

    def __init__(self, column: pa.Array | pa.ChunkedArray) -> None:
        array = single(column)
        self.array = array.cast(array.type.value_type) if pa.types.is_dictionary(array.type) else array
        self.kind: Literal["integer", "float", "coded"] = _kind(self.array.type)

    @cached_property
    def valid(self) -> Mask | None:
        """Which rows have a value; None when all have."""
        return validity(self.array)

    @cached_property
    def integers(self) -> Ints:
        """The values of an `integer` column; where `wraps`, their bits. Arbitrary where null."""
        if pa.types.is_duration(self.array.type):
            return integers(self.array.cast(pa.int64()))[0]
        if pa.types.is_timestamp(self.array.type):
            return micros(self.array)[0]
        return integers(self.array)[0]

    @cached_property
    def wraps(self) -> bool:
        """Whether unsigned values from 2**63 on have wrapped around to negative ones."""
        if self.array.type != pa.uint64():
            return False
        negative = self.integers < 0
        return bool((negative if self.valid is None else negative & self.valid).any())

    @cached_property
    def floats(self) -> Floats:
        """The values of a `float` or `integer` column as float64. Arbitrary where null."""
        if self.kind == "integer":
            whole: Any = self.integers.view(np.uint64) if self.wraps else self.integers
            floats: Floats = whole.astype(np.float64)
            return floats
        array = self.array if self.array.type == pa.float64() else self.array.cast(pa.float64())
        buffer = array.buffers()[1]
        if buffer is None:
            return np.zeros(len(array), np.float64)
        return np.frombuffer(buffer, np.float64, len(array), array.offset * 8)

    @cached_property
    def keys(self) -> Keys:
        """The values as integers of the same order and equality."""
        if self.kind == "integer":
            return Keys(self.integers ^ SIGN if self.wraps else self.integers, None)
        if self.kind == "float":
            return Keys(sortable(self.floats), None)
        return _coded(self.array)


@dataclass(frozen=True, slots=True)
class Keys:
    """Integers that stand for the values of a column, row by row."""

    keys: Ints
    """Equal for equal values, less for lesser ones. Arbitrary where null."""
    example: Ints | None
    """By key, a row that has it; None when a key cannot be looked up."""


def sortable(floats: Floats) -> Ints:
    """Floats as integers of the same order: `-0.0` equals `0.0`, a NaN equals every NaN and is above all."""
    bits = (floats + 0.0).view(np.int64)
    below: Ints = bits >> np.int64(63)
    below &= np.int64(np.iinfo(np.int64).max)
    below ^= bits
    below[np.isnan(floats)] = _NAN
    return below


def _kind(kind: pa.DataType) -> Literal["integer", "float", "coded"]:
    t = pa.types
    if t.is_floating(kind):
        return "float"
    whole = t.is_integer(kind) or t.is_boolean(kind) or t.is_date32(kind) or t.is_timestamp(kind)
    return "integer" if whole or t.is_duration(kind) else "coded"


def _coded(array: pa.Array) -> Keys:
    """Ranks among the distinct values; of types without an order, in any order."""
    encoded, valid = pc.dictionary_encode(array), validity(array)
    present = np.arange(len(array)) if valid is None else np.flatnonzero(valid)
    order = integers(pc.array_sort_indices(encoded.dictionary))[0]
    ranks = np.empty(len(order), np.int64)
    ranks[order] = np.arange(len(order))
    keys, example = np.zeros(len(array), np.int64), np.zeros(len(order), np.int64)
    keys[present] = ranks[integers(encoded.indices)[0][present]]
    example[keys[present]] = present
    return Keys(keys, example)


def ranked(segments: Ints, keys: Ints) -> Ranks:
    """The ranks of keys within segments. `segments` ascends."""
    order = argsort(keys)
    in_order = keys[order]
    new = np.ones(len(keys), np.bool_)
    np.not_equal(in_order[1:], in_order[:-1], out=new[1:])
    dense = np.empty(len(keys), np.int64)
    dense[order] = np.cumsum(new) - 1
    if len(segments) and segments[0] != segments[-1]:
        bits = len(keys).bit_length()
        border = np.cumsum(np.concatenate([np.zeros(1, np.bool_), segments[1:] != segments[:-1]]))
        order = argsort(border << bits | dense)
        in_order, owner = dense[order], border[order]
        new[1:] = (in_order[1:] != in_order[:-1]) | (owner[1:] != owner[:-1])
    ids = np.empty(len(keys), np.int64)
    ids[order] = np.cumsum(new) - 1
    starts = np.flatnonzero(new)
    earlier = np.empty(len(keys), np.int64)
    earlier[order[1:]] = order[:-1]
    earlier[order[starts]] = -1
    return Ranks(ids, order[starts], earlier)


@dataclass(frozen=True, slots=True)
class Ranks:
    """The distinct (segment, value) pairs, numbered by segment and then by value."""

    ids: Ints
    """By position: the number of its pair."""
    example: Ints
    """By number: a position that has it, the first."""
    earlier: Ints
    """By position: the position before it with the same number; -1 when it is the first."""
