"""The least or greatest value of ranges, in a few look-ups each."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from grange.kernels.arrays import Ints, Mask
from grange.kernels.windows.spans import Runs, Spans

_LEVELS: Final = 5
_BLOCK: Final = 1 << (_LEVELS - 1)


class Extremes:
    """The result of a commutative, idempotent function (`np.fmin`, `np.maximum`) over ranges of an array.

    Two overlapping runs of 2**k neighbours cover a range of up to 31. A longer one is covered by the first and the
    last 16 of its positions and by the whole blocks of 16 between them, for which there is a table of their own:
    memory stays at five numbers per position, whatever the length.
    """

    def __init__(self, values: np.ndarray[Any, Any], choose: np.ufunc, longest: int) -> None:
        """No range that is asked for is longer than `longest`."""
        self._choose = choose
        self._runs = _table(values, choose, min(_LEVELS, max(longest, 1).bit_length()))
        self._width = self._runs.shape[1]
        self._blocks: np.ndarray[Any, Any] | None = None
        if longest >= 2 * _BLOCK:
            blocks = np.ascontiguousarray(self._runs[-1, :-1:_BLOCK])
            self._blocks = _table(blocks, choose, (longest // _BLOCK).bit_length())

    def of(self, spans: Spans) -> np.ndarray[Any, Any]:
        """One value per range; arbitrary where it is empty."""
        if isinstance(spans, Runs):
            return spans.joined(self._choose, self.of(spans.pieces))
        look = spans.keep(("runs", self._width), lambda: _run_lookups(spans, self._width))
        flat = self._runs.reshape(-1)
        found: np.ndarray[Any, Any] = self._choose(flat.take(look[0]), flat.take(look[1]))
        if self._blocks is None:
            return found
        width = self._blocks.shape[1]
        long, first, second = spans.keep(("blocks", width), lambda: _block_lookups(spans, width))
        if len(long):
            flat = self._blocks.reshape(-1)
            middle = self._choose(flat.take(first), flat.take(second))
            found[long] = self._choose(found[long], middle)
        return found


def _table(values: np.ndarray[Any, Any], choose: np.ufunc, levels: int) -> np.ndarray[Any, Any]:
    """Row `k` holds the choice among the 2**k neighbours that start at each position; fewer at the end.

    Behind the last position there is one more, for ranges that are empty.
    """
    table = np.empty((levels, len(values) + 1), values.dtype)
    table[0, :-1] = values
    table[:, -1] = 0
    for level in range(1, levels):
        step = min(1 << (level - 1), len(values))
        above, row = table[level - 1], table[level]
        choose(above[: len(values) - step], above[step:-1], out=row[: len(values) - step])
        row[len(values) - step : -1] = above[len(values) - step : -1]
    return table


def _floor_log2(numbers: Ints) -> Ints:
    """Of positive numbers below 2**53."""
    exponents: Ints = (numbers.astype(np.float64).view(np.int64) >> 52) - 1023
    return exponents


_RUN: Final = np.array([0, *(1 << (count.bit_length() - 1) for count in range(1, 2 * _BLOCK))], np.int64)
"""By count, up to twice the longest run: how long the two runs are that cover a range of so many."""


def _run_lookups(spans: Spans, width: int) -> tuple[Ints, Ints]:
    """Where in the table of runs, of that width, the first and the last run of each range lie."""
    counts = np.minimum(spans.counts, 2 * _BLOCK - 1)
    rows = (_floor_log2(np.maximum(_RUN, 1)) * width).take(counts)
    last = spans.last - _RUN.take(counts)
    last += rows
    rows += spans.first
    return rows, last


def _block_lookups(spans: Spans, width: int) -> tuple[Ints, Ints, Ints]:
    """The ranges that no two runs cover, and where in the table of blocks their middles lie."""
    long: Mask = spans.counts >= 2 * _BLOCK
    which = np.flatnonzero(long)
    first = (spans.first[which] + (_BLOCK - 1)) // _BLOCK
    last = spans.last[which] // _BLOCK
    level = _floor_log2(last - first)
    return which, level * width + first, level * width + last - (np.int64(1) << level)
