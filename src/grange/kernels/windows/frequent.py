"""The most frequent values of ranges, counted exactly."""

from __future__ import annotations

from typing import Final

import numpy as np

from grange.kernels.arrays import Ints
from grange.kernels.windows.answers import NO_ROW, Lists, Picks
from grange.kernels.windows.spans import Spans, parts
from grange.kernels.windows.values import Ranks

_PAIRS: Final = 1 << 21
"""How many (range, position) pairs are counted at a time."""
_LONG: Final = 1 << 12
"""From this length on, neighbouring ranges are counted by what distinguishes them."""


def most_frequent(ranks: Ranks, spans: Spans, count: int) -> Lists:
    """Positions with the `count` most frequent values of each range, of equally frequent ones the lesser first."""
    lengths = np.zeros(len(spans), np.int64)
    found: list[Ints] = []
    owners: list[Ints] = []
    short = np.flatnonzero(spans.counts < _LONG)
    for part in parts(spans.counts[short], _PAIRS):
        asked = short[part]
        numbers, each = _by_pairs(ranks.ids, spans.some(asked), count)
        lengths[asked] = each
        found.append(numbers)
        owners.append(np.repeat(asked, each))
    for one, numbers in _by_sliding(ranks.ids, spans, np.flatnonzero(spans.counts >= _LONG), count):
        lengths[one] = len(numbers)
        found.append(numbers)
        owners.append(np.full(len(numbers), one))
    if not found:
        return Lists(lengths, np.zeros(0, np.int64))
    numbers, owner = np.concatenate(found), np.concatenate(owners)
    return Lists(lengths, ranks.example[numbers[np.argsort(owner, kind="stable")]])


def modes(ranks: Ranks, spans: Spans) -> Picks:
    """A position with the most frequent value of each range, of equally frequent ones the least."""
    best = most_frequent(ranks, spans, 1)
    rows = np.full(len(spans), NO_ROW, np.int64)
    rows[best.lengths > 0] = best.rows
    return Picks(rows)


def _by_pairs(ids: Ints, spans: Spans, count: int) -> tuple[Ints, Ints]:
    """The best numbers, range after range, and how many each range has."""
    size = len(ids) + 1
    pairs = np.repeat(np.arange(len(spans)), spans.counts) * size + ids[spans.positions()]
    pairs.sort()
    starts = np.flatnonzero(np.concatenate([np.ones(min(len(pairs), 1), np.bool_), pairs[1:] != pairs[:-1]]))
    times = np.diff(starts, append=len(pairs))
    owners, numbers = np.divmod(pairs[starts], size)
    order = np.lexsort((numbers, -times, owners))
    owners, numbers = owners[order], numbers[order]
    distinct = np.bincount(owners, minlength=len(spans))
    place = np.arange(len(owners)) - np.repeat(np.cumsum(distinct) - distinct, distinct)
    return numbers[place < count], np.minimum(distinct, count)


def _by_sliding(ids: Ints, spans: Spans, asked: Ints, count: int) -> list[tuple[int, Ints]]:
    """The best numbers of long ranges: a histogram follows them, and only what enters and leaves is counted."""
    found = []
    low = high = base = 0
    histogram = np.zeros(0, np.int64)
    for each in asked.tolist():
        first, last = int(spans.first[each]), int(spans.last[each])
        if not low <= first < high or last < high:
            # another entity key, or one too far away: its numbers lie in a run of their own
            base, top = int(ids[first:last].min()), int(ids[first:last].max())
            histogram, low, high = np.zeros(top - base + 1, np.int64), first, first
        if last > high:
            new = ids[high:last]
            lowest, highest = min(int(new.min()), base), max(int(new.max()), base + len(histogram) - 1)
            if (lowest, highest) != (base, base + len(histogram) - 1):
                histogram = np.pad(histogram, (base - lowest, highest - base - len(histogram) + 1))
                base = lowest
            histogram += np.bincount(new - base, minlength=len(histogram))
        if first > low:
            histogram -= np.bincount(ids[low:first] - base, minlength=len(histogram))
        low, high = first, last
        found.append((each, base + _best(histogram, count)))
    return found


def _best(histogram: Ints, count: int) -> Ints:
    if count == 1:
        return np.array([histogram.argmax()])
    numbers = np.flatnonzero(histogram)
    return numbers[np.lexsort((numbers, -histogram[numbers]))[:count]]
