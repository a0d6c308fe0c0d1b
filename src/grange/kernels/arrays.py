"""Arrow columns as NumPy integers, without copies where there are no nulls."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from grange.types.arrow import TIMESTAMP, utc_micros

Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]

KNOWN_ALWAYS = int(np.iinfo(np.int64).min)
"""What a null created time reads as: before every time, so first among ties and visible to every spine row."""


def single(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    """The column as one array; copies only when it lies in several chunks."""
    if not isinstance(column, pa.ChunkedArray):
        return column
    if column.num_chunks == 1:
        return column.chunk(0)
    return column.combine_chunks()


def validity(array: pa.Array) -> Mask | None:
    """Which rows have a value; None when all have."""
    if array.null_count == 0:
        return None
    mask: Mask = array.is_valid().to_numpy(zero_copy_only=False)
    return mask


def integers(array: pa.Array) -> tuple[Ints, Mask | None]:
    """An integer, boolean, date or time array as int64, and which rows have a value (None: all).

    Rows without one hold an arbitrary number. Times count microseconds, dates days, since 1970-01-01 UTC.
    Unsigned 64-bit values from 2**63 on wrap around to negative numbers: see `grange.kernels.keys`.
    """
    kind = array.type
    if pa.types.is_boolean(kind):
        array = pc.cast(array, pa.uint8())
    elif pa.types.is_timestamp(kind) and kind != TIMESTAMP:
        array = single(utc_micros(pa.chunked_array([array])))
    return _fixed_width(array), validity(array)


def micros(column: pa.Array | pa.ChunkedArray) -> tuple[Ints, Mask | None]:
    """A time column as microseconds since 1970-01-01 UTC, and which rows have one (None: all).

    A date is its midnight (TIME-1).
    """
    array = single(column)
    return integers(array.cast(pa.timestamp("us")) if pa.types.is_date(array.type) else array)


def _fixed_width(array: pa.Array) -> Ints:
    """The numbers in an array's buffer; where it has nulls, whatever lies under them."""
    width: Any = np.dtype(_dtype_of(array.type))
    buffer = array.buffers()[1]
    if buffer is None or len(array) == 0:
        return np.zeros(len(array), np.int64)
    raw = np.frombuffer(buffer, width, count=len(array), offset=array.offset * width.itemsize)
    return raw.view(np.int64) if width.itemsize == 8 else raw.astype(np.int64)


def _dtype_of(kind: pa.DataType) -> str:
    if pa.types.is_timestamp(kind):
        return "int64"
    return "int32" if pa.types.is_date32(kind) else str(kind)


def argsort(values: Ints) -> Ints:
    """The rows of `values` in ascending order; equal values keep their order.

    Value and row are packed into one integer where both fit, because sorting integers is several times faster
    than sorting through an index.
    """
    count = len(values)
    if count == 0:
        return np.zeros(0, np.int64)
    if bool((values[1:] >= values[:-1]).all()):  # as histories and made spines are
        return np.arange(count, dtype=np.int64)
    low, high = int(values.min()), int(values.max())
    bits = count.bit_length()
    if (high - low).bit_length() + bits > 63:
        return np.argsort(values, kind="stable")
    packed = values - low
    packed <<= bits
    packed |= np.arange(count, dtype=np.int64)
    packed.sort()
    packed &= (1 << bits) - 1
    return packed
