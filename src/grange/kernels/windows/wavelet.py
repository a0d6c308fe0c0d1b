"""A wavelet matrix: order statistics of ranges in one step per bit."""

from __future__ import annotations

import numpy as np

from grange.kernels.arrays import Ints, Mask
from grange.kernels.windows.spans import Spans


class WaveletMatrix:
    """An array of small integers, bit by bit from the highest, each level with its zeros moved before its ones.

    A range of the array stays a range in every level, so that a question about it costs two look-ups per bit,
    however long it is. Memory is four bytes per position and bit.
    """

    def __init__(self, numbers: Ints) -> None:
        """`numbers` are not negative."""
        bits = int(numbers.max()).bit_length() if len(numbers) else 0
        self._levels: list[tuple[int, np.ndarray[tuple[int], np.dtype[np.int32]], int]] = []
        for bit in range(bits - 1, -1, -1):
            zero: Mask = (numbers >> bit) & 1 == 0
            before = np.zeros(len(numbers) + 1, np.int32)
            np.cumsum(zero, out=before[1:], dtype=np.int32)
            self._levels.append((bit, before, int(before[-1])))
            if bit:
                numbers = np.concatenate([numbers[zero], numbers[~zero]])

    def smallest(self, spans: Spans, place: Ints) -> Ints:
        """The number at `place`, counted from 0, among the sorted numbers of each range, which has more than that."""
        first, last, place = spans.first, spans.last, place.copy()
        found = np.zeros(len(spans), np.int64)
        for bit, zeros, border in self._levels:
            zeros_first, zeros_last = zeros.take(first).astype(np.int64), zeros.take(last).astype(np.int64)
            inside = zeros_last - zeros_first
            one = place >= inside
            first = np.where(one, first - zeros_first + border, zeros_first)
            last = np.where(one, last - zeros_last + border, zeros_last)
            place -= np.where(one, inside, 0)
            found |= one.astype(np.int64) << bit
        return found

    def below(self, spans: Spans, limit: Ints) -> Ints:
        """How many numbers of each range are less than its limit."""
        first, last = spans.first, spans.last
        count = np.zeros(len(spans), np.int64)
        for bit, zeros, border in self._levels:
            zeros_first, zeros_last = zeros.take(first).astype(np.int64), zeros.take(last).astype(np.int64)
            one: Mask = (limit >> bit) & 1 == 1
            count += np.where(one, zeros_last - zeros_first, 0)
            first = np.where(one, first - zeros_first + border, zeros_first)
            last = np.where(one, last - zeros_last + border, zeros_last)
        above: Mask = limit >= 1 << len(self._levels)
        return np.where(above, spans.counts, count)
