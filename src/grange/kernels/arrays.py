"""Arrow columns as NumPy integers, without copies where there are no nulls."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from grange.types.arrow import TIMESTAMP, utc_micros

Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]

KNOWN_ALWAYS = int(np.iinfo(np.int64).min)
"""What a null created time reads as: before every time, so first among ties and visible to every spine row."""


TILE: Final = 1 << 16
"""Elements that are worked on together, where a step would make an array of all that is not kept."""


def room(count: int, kind: type[np.generic] = np.int64) -> NDArray[Any]:
    """An array to be written, of arbitrary contents.

    NumPy asks for memory in pages of the largest size. Where a host takes back what a machine does not use, fetching
    such a page costs several times what fetching the small ones does that it stands for.
    """
    buffer = pa.allocate_buffer(count * np.dtype(kind).itemsize, memory_pool=pa.system_memory_pool())
    return np.frombuffer(buffer, kind)


def tiles(count: int) -> Iterator[slice]:
    """Positions, tile by tile."""
    for start in range(0, count, TILE):
        yield slice(start, min(start + TILE, count))


def borders(values: Ints, *, shift: int = 0) -> Mask:
    """Which values differ from the one before, their lowest `shift` bits aside; the first does."""
    new: Mask = room(len(values), np.bool_)
    new[:1] = True
    for before in tiles(len(new) - 1):
        mine = slice(before.start + 1, before.stop + 1)
        np.greater_equal(
            (values[mine] ^ values[before]).view(np.uint64), np.uint64(1) << np.uint64(shift), out=new[mine]
        )
    return new


def ascends(values: Ints) -> bool:
    """Whether no value is less than the one before."""
    return all(bool((values[t.start + 1 : t.stop + 1] >= values[t]).all()) for t in tiles(len(values) - 1))


def repeated(values: Ints, counts: Ints) -> NDArray[np.uint32]:
    """Each value so many times, one after another. None is negative or needs more than 32 bits."""
    ends = np.cumsum(counts)
    whole = room(int(ends[-1]) if len(ends) else 0, np.uint32)
    step = max(1, len(values) * TILE // max(len(whole), 1))
    for start in range(0, len(values), step):
        stop = min(start + step, len(values))
        whole[ends[start] - counts[start] : ends[stop - 1]] = np.repeat(values[start:stop], counts[start:stop])
    return whole


def single(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    """The column as one array; copies only when it lies in several chunks."""
    if not isinstance(column, pa.ChunkedArray):
        return column
    if column.num_chunks == 1:
        return column.chunk(0)
    if column.num_chunks == 0:
        return pa.array([], column.type)
    # not `combine_chunks`, which takes a pool and asks another: one that keeps what it is given back
    return pa.concat_arrays(column.chunks, memory_pool=pa.system_memory_pool())


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
    if ascends(values):  # as histories and made spines are
        return np.arange(count, dtype=np.int64)
    low, high = int(values.min()), int(values.max())
    bits = count.bit_length()
    if (high - low).bit_length() + bits > 63:
        return np.argsort(values, kind="stable")
    packed: Ints = np.subtract(values, low, out=room(count))
    packed <<= bits
    for tile in tiles(count):
        packed[tile] |= np.arange(tile.start, tile.stop)
    packed.sort()
    packed &= (1 << bits) - 1
    return packed
