"""The rows of each part of a table, gathered column by column."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from grange.kernels.arrays import Ints, Mask, single, validity

_THREADS: Final = 2
"""Gathering lets other threads run; more of them wait for the memory."""
_BLOCK: Final = 1 << 17
"""Rows gathered at a time: some hundred kilobytes of a column. For larger pieces NumPy asks the system for huge pages,
and where memory is in pieces, putting one together costs more than all the copying."""


def partition(table: pa.Table, parts: NDArray[np.int16], count: int) -> tuple[pa.Table, ...]:
    """The rows of each of `count` parts, in their order; rows of negative number are in none.

    Parts that lie in a few pieces, as those by time often do, share the table's memory.
    """
    changes = parts[1:] != parts[:-1]
    if np.count_nonzero(changes) <= 2 * count:
        cuts = np.flatnonzero(changes) + 1
        return _slices(table, parts, [0, *cuts.tolist(), len(parts)], count)
    gathering = _Gathering(parts, count)
    with ThreadPoolExecutor(_THREADS) as pool:
        columns = list(pool.map(gathering.column, table.columns))
    return tuple(pa.table([pieces[part] for pieces in columns], schema=table.schema) for part in range(count))


def _slices(table: pa.Table, parts: NDArray[np.int16], cuts: Sequence[int], count: int) -> tuple[pa.Table, ...]:
    pieces: list[list[pa.Table]] = [[] for _ in range(count)]
    for start, end in itertools.pairwise(cuts):
        if start < end and parts[start] >= 0:
            pieces[parts[start]].append(table.slice(start, end - start))
    return tuple(pa.concat_tables(piece) if piece else table.slice(0, 0) for piece in pieces)


class _Gathering:
    """Which rows go where."""

    def __init__(self, parts: NDArray[np.int16], count: int) -> None:
        self._parts = parts
        self._count = count
        # columns are mostly cut into the same chunks
        self._rows = functools.cache(self._find_rows)
        self._mask = functools.cache(self._find_mask)

    def column(self, column: pa.ChunkedArray) -> list[pa.ChunkedArray]:
        """A column's values of each part."""
        kind = column.type
        if not pa.types.is_primitive(kind) or kind.bit_width < 8:
            table = pa.table([column], names=["x"])
            return [table.filter(self._mask(part)).column(0) for part in range(self._count)]
        pieces: list[list[pa.Array]] = [[] for _ in range(self._count)]
        for first, block in _blocks(column):
            for piece, rows in zip(pieces, self._rows(first, len(block)), strict=True):
                piece.append(_take(block, rows))
        return [pa.chunked_array(piece, kind) for piece in pieces]

    def _find_rows(self, first: int, length: int) -> list[Ints]:
        """The rows of each part among so many, counted from the first of them."""
        parts = self._parts[first : first + length]
        return [np.flatnonzero(parts == part) for part in range(self._count)]

    def _find_mask(self, part: int) -> pa.Array:
        """Whether each row is in a part. `pa.array` makes the same, and imports pandas first where it is installed."""
        return pa.Array.from_buffers(pa.bool_(), len(self._parts), [None, _bits(self._parts == part)])


def _blocks(column: pa.ChunkedArray) -> Iterator[tuple[int, pa.Array]]:
    """A column in pieces of up to a block, each with its first row; one that is in many small ones is joined."""
    chunks = column.chunks if column.num_chunks <= 8 + 4 * len(column) // _BLOCK else [single(column)]
    first = 0
    for chunk in chunks:
        for start in range(0, len(chunk), _BLOCK):
            yield first + start, chunk.slice(start, _BLOCK)
        first += len(chunk)


def _take(array: pa.Array, rows: Ints) -> pa.Array:
    """Some values of an array of whole bytes each."""
    width: Any = np.dtype(f"u{array.type.bit_width // 8}")
    values = np.frombuffer(array.buffers()[1], width, len(array), array.offset * width.itemsize).take(rows)
    valid = validity(array)
    bitmap = None if valid is None else _bits(valid.take(rows))
    return pa.Array.from_buffers(array.type, len(rows), [bitmap, pa.py_buffer(values)])


def _bits(mask: Mask) -> pa.Buffer:
    return pa.py_buffer(np.packbits(mask, bitorder="little"))
