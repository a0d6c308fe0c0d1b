"""The hash of a row: a promise that never changes.

A row that was in the test is in the test of every later training dataset, and another language can say so too. All
arithmetic is on unsigned 64-bit words and wraps around.

    G      = 9e3779b97f4a7c15
    mix(x) = x ^= x >> 30;  x *= bf58476d1ce4e5b9;  x ^= x >> 27;  x *= 94d049bb133111eb;  x ^= x >> 31

    the digest of a value
      null                               mix(mix(0))
      integer, at most 2**63 - 1         mix(mix(1) ^ two's complement)         of whatever width and sign it is stored
      integer, from 2**63                mix(mix(2) ^ value)
      boolean                            mix(mix(3) ^ 0 or 1)
      date                               mix(mix(4) ^ days since 1970-01-01)
      time                               mix(mix(5) ^ microseconds since 1970-01-01 UTC)
      duration                           mix(mix(6) ^ microseconds)
      float                              mix(mix(7) ^ bits as a double)         -0.0 as 0.0, NaN as 7ff8000000000000
      text                               of bytes(8), its UTF-8 bytes           a uuid is its lower-case text
      binary                             of bytes(9)
      decimal                            of bytes(10), value * 10**38 as 32 bytes, two's complement, low byte first

      list                               mix((mix(11) ^ number of items) + sum of mix(di + i * G)), di their digests
      struct                             h = mix(mix(12)), then for each field in order h = mix((h + G) ^ digest)

    of bytes(kind): cut into words of 8 bytes, low byte first, zeros after the end; the words w1, w2 ...
      mix((mix(kind) ^ number of bytes) + sum of mix(wi + i * G))

    the hash of a row: h = mix(seed), then for each column in order h = mix((h + G) ^ digest)

Columns are absorbed one by one, each with its type and length, so ("a", "bc") and ("ab", "c") differ.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from grange.errors import ColumnTypeError, KeyTypeError
from grange.kernels.arrays import integers, validity
from grange.kernels.mixing import GOLDEN, Words, mix, mixed
from grange.kernels.text_sums import TextSums, numbered_sums
from grange.types import Column, DataType
from grange.types.arrow import conform_column

Values: TypeAlias = pa.Array | pa.ChunkedArray
"""A column of a table."""

_NAN: Final = np.uint64(0x7FF8000000000000)
_WIDEST: Final = pa.decimal256(76, 38)
_BLOCK: Final = 32 * 1024
"""Rows hashed at a time, so that what is made of them meanwhile stays in the processor's cache."""

_NULL, _INTEGER, _LARGE, _BOOLEAN, _DATE, _TIME, _DURATION, _FLOAT, _TEXT, _BINARY, _DECIMAL, _LIST, _STRUCT = range(13)


def row_hash(columns: Sequence[Values], seed: int = 0) -> Words:
    """The hash of each row over some columns, in their order; see the top of this module.

    Args:
        columns: one or more of equal length, of any type that Grange has.
        seed: from 0, below 2**64.

    Raises:
        KeyTypeError: a column of another type.
        ColumnTypeError: decimals of more than 38 digits before or after the point.
    """
    assert columns, "a row is some columns"
    plain = [_plain(column) for column in columns]
    hashes = np.full(len(plain[0]), mixed(seed), np.uint64)
    _absorb(hashes, plain)
    return hashes


def _absorb(hashes: Words, columns: Sequence[pa.ChunkedArray]) -> None:
    """Go on with columns, one after the other, in place."""
    texts = TextSums(min(len(hashes), _BLOCK))
    for start in range(0, len(hashes), _BLOCK):
        block = hashes[start : start + _BLOCK]
        for column in columns:
            block += np.uint64(GOLDEN)
            block ^= _digests(column.slice(start, len(block)), texts)
            mix(block)


_KINDS: Final = [np.uint64(mixed(kind)) for kind in range(13)]
_NULL_DIGEST: Final = np.uint64(mixed(mixed(_NULL)))


def _plain(column: Values) -> pa.ChunkedArray:
    """The column in one of the types that `_digest` takes; items and fields of others follow when they are met."""
    chunked = column if isinstance(column, pa.ChunkedArray) else pa.chunked_array([column])
    kind, t = chunked.type, pa.types
    if t.is_dictionary(kind):
        return _plain(chunked.cast(kind.value_type))
    if isinstance(kind, pa.BaseExtensionType) and kind.extension_name == "arrow.uuid":
        return conform_column(chunked, Column("uuid", DataType("uuid")), what="rows")
    if t.is_duration(kind):
        return chunked.cast(pa.duration("us"), safe=False)
    if t.is_decimal(kind):
        return _exact(chunked)
    if t.is_fixed_size_list(kind) or t.is_list_view(kind) or t.is_large_list_view(kind):
        return chunked.cast(pa.large_list(kind.value_type))
    for is_, target in _CASTS:
        if is_(kind):
            return chunked.cast(target)
    if any(is_(kind) for is_ in _TAKEN):
        return chunked
    raise KeyTypeError(
        f"rows cannot be told apart by a column of type {kind}",
        try_="integers, floats, text, dates, times, durations, booleans, binaries, decimals, lists or structs of these",
    )


_CASTS: Final = (
    (pa.types.is_string_view, pa.large_string()),
    (pa.types.is_binary_view, pa.large_binary()),
    (pa.types.is_fixed_size_binary, pa.large_binary()),
    (pa.types.is_date64, pa.date32()),
    (pa.types.is_floating, pa.float64()),
)
_TEXTS: Final = (pa.types.is_string, pa.types.is_large_string)
_BINARIES: Final = (pa.types.is_binary, pa.types.is_large_binary)
_LISTS: Final = (pa.types.is_list, pa.types.is_large_list)
_NUMBERS: Final = (pa.types.is_integer, pa.types.is_boolean, pa.types.is_date, pa.types.is_timestamp)
_TAKEN: Final = (*_TEXTS, *_BINARIES, *_LISTS, *_NUMBERS, pa.types.is_struct, pa.types.is_null)


def _exact(column: pa.ChunkedArray) -> pa.ChunkedArray:
    try:
        return column.cast(_WIDEST)
    except pa.ArrowInvalid as error:
        raise ColumnTypeError(
            "rows cannot be told apart by decimals of more than 38 digits before or after the point",
            found=str(column.type),
        ) from error


def _digests(column: pa.ChunkedArray, texts: TextSums) -> Words:
    """The digest of each value of a block."""
    found = [_digest(chunk, texts) for chunk in column.chunks if len(chunk)]
    return found[0] if len(found) == 1 else np.concatenate(found)


def _digest(array: pa.Array, texts: TextSums) -> Words:
    kind, t = array.type, pa.types
    if t.is_null(kind):
        return np.full(len(array), _NULL_DIGEST)
    if any(is_(kind) for is_ in _TEXTS):
        digests = _of_bytes(array, _KINDS[_TEXT], texts)
    elif any(is_(kind) for is_ in _BINARIES):
        digests = _of_bytes(array, _KINDS[_BINARY], texts)
    elif t.is_decimal(kind):
        digests = _of_decimals(array)
    elif any(is_(kind) for is_ in _LISTS):
        digests = _of_lists(array)
    elif t.is_struct(kind):
        digests = np.full(len(array), mixed(mixed(_STRUCT)), np.uint64)
        _absorb(digests, [_plain(child) for child in array.flatten()])
    else:
        digests = _words(array)
        mix(digests)
    valid = validity(array)
    if valid is not None:
        digests[~valid] = _NULL_DIGEST
    return digests


def _words(array: pa.Array) -> Words:
    """One word a value, with its kind in it; whatever where there is none."""
    kind, t = array.type, pa.types
    if t.is_floating(kind):
        bits = _float_bits(array)
        return bits ^ _KINDS[_FLOAT]
    if t.is_duration(kind):
        return _bits(array.view(pa.int64())) ^ _KINDS[_DURATION]
    words = _bits(array)
    if t.is_boolean(kind):
        return words ^ _KINDS[_BOOLEAN]
    if t.is_date(kind):
        return words ^ _KINDS[_DATE]
    if t.is_timestamp(kind):
        return words ^ _KINDS[_TIME]
    if kind == pa.uint64():
        return words ^ np.where(words >> np.uint64(63), _KINDS[_LARGE], _KINDS[_INTEGER])
    return words ^ _KINDS[_INTEGER]


def _bits(array: pa.Array) -> Words:
    numbers, _ = integers(array)
    return numbers.view(np.uint64)


def _float_bits(array: pa.Array) -> Words:
    bits = _bits(array.view(pa.int64())).copy()
    values = bits.view(np.float64)
    bits[values == 0] = 0
    bits[np.isnan(values)] = _NAN
    return bits


def _of_bytes(array: pa.Array, kind: np.uint64, texts: TextSums) -> Words:
    """The digests of texts or binaries."""
    large = pa.types.is_large_string(array.type) or pa.types.is_large_binary(array.type)
    width: Any = np.int64 if large else np.int32
    _, offsets_buffer, data_buffer = array.buffers()
    offsets = np.frombuffer(offsets_buffer, width, len(array) + 1, array.offset * np.dtype(width).itemsize)
    offsets = offsets.astype(np.int64, copy=False)
    data = np.frombuffer(data_buffer if data_buffer is not None else b"", np.uint8)
    digests = np.diff(offsets).view(np.uint64)
    digests ^= kind
    digests += texts.of(offsets, data)
    mix(digests)
    return digests


def _of_lists(array: pa.Array) -> Words:
    lengths, _ = integers(pc.fill_null(pc.list_value_length(array), 0))
    items = _all_digests(_plain(array.flatten()))  # leaves out what lies in null slots
    digests = lengths.view(np.uint64) ^ _KINDS[_LIST]
    filled, firsts = lengths > 0, np.cumsum(lengths) - lengths
    if len(items):
        numbers = np.arange(len(items)) - np.repeat(firsts, lengths)
        digests[filled] += numbered_sums(items, numbers, firsts[filled])
    mix(digests)
    return digests


def _all_digests(column: pa.ChunkedArray) -> Words:
    """The digest of each value, of however many."""
    texts = TextSums(min(len(column), _BLOCK))
    blocks = [_digests(column.slice(start, _BLOCK), texts) for start in range(0, len(column), _BLOCK)]
    return np.concatenate(blocks) if blocks else np.empty(0, np.uint64)


def _of_decimals(array: pa.Array) -> Words:
    buffer = array.buffers()[1]
    words: Any = np.frombuffer(buffer, "<u8", 4 * len(array), array.offset * 32).reshape(-1, 4).astype(np.uint64)
    words += np.arange(1, 5, dtype=np.uint64) * np.uint64(GOLDEN)
    flat = words.reshape(-1)
    mix(flat)
    digests: Words = words.sum(axis=1, dtype=np.uint64)
    digests += np.uint64(32) ^ _KINDS[_DECIMAL]
    mix(digests)
    return digests
