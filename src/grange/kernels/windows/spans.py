"""Ranges of positions, and what is computed about many of them at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import numpy as np

from grange.kernels.arrays import Ints, Mask

T = TypeVar("T")


class Kept:
    """What is computed once for a key and then kept. Of one thread: nothing is locked."""

    def __init__(self) -> None:
        self._kept: dict[Any, Any] = {}

    def keep(self, key: Any, compute: Callable[[], T]) -> T:
        """What `compute` returned the first time for this key."""
        if key not in self._kept:
            self._kept[key] = compute()
        kept: T = self._kept[key]
        return kept


class Spans(Kept):
    """Many ranges `[first, last)` of positions in one array, one per question; `first <= last`.

    What several functions need of the same ranges is computed once and kept here.
    """

    def __init__(self, first: Ints, last: Ints) -> None:
        super().__init__()
        self.first = first
        self.last = last
        self.counts: Ints = last - first
        """How many positions each has."""

    def __len__(self) -> int:
        return len(self.first)

    def at_least(self, count: int) -> Mask:
        """Which have at least so many positions."""
        return self.keep(("at least", count), lambda: self.counts >= count)

    @property
    def filled(self) -> Mask:
        """Which are not empty."""
        return self.at_least(1)

    def some(self, which: Mask | Ints) -> Spans:
        """Some of the ranges; numbers of them ascend."""
        return Spans(self.first[which], self.last[which])

    def through(self, positions: Ints) -> Spans:
        """The same ranges in another array, in which position `i` of this one has become `positions[i]`."""
        return Spans(positions.take(self.first), positions.take(self.last))

    def positions(self) -> Ints:
        """All positions of all ranges, one range after another."""
        return expand(self.first, self.counts)


class Runs(Spans):
    """Several ranges for each question, its runs: apart and ascending. A window with gaps.

    Shape:
        `pieces` are the runs of all questions, one question after another; those of a question begin at `starts`.
        A question has at least one run, and an empty one only when it has no other. `first` and `last` are the ends
        of a question's first and last run, `counts` the positions in all its runs.
    """

    def __init__(self, first: Ints, last: Ints, owners: Ints, count: int) -> None:
        """Runs `[first, last)` of the questions `owners`, which ascend, below `count`; each of them has one."""
        filled = first < last
        lonely = np.ones(count, np.bool_)
        lonely[owners[filled]] = False
        leading = np.ones(len(owners), np.bool_)
        np.not_equal(owners[1:], owners[:-1], out=leading[1:])
        kept = filled | (leading & lonely[owners])
        self.pieces = Spans(first[kept], last[kept])
        self.owners = owners[kept]
        self.starts = np.searchsorted(self.owners, np.arange(count))
        ends = np.append(self.starts[1:], len(self.owners)) - 1
        super().__init__(self.pieces.first[self.starts], self.pieces.last[ends])
        self.counts = np.add.reduceat(self.pieces.counts, self.starts) if count else self.counts

    def some(self, which: Mask | Ints) -> Runs:
        chosen = np.zeros(len(self), np.bool_)
        chosen[which] = True
        mine = chosen[self.owners]
        numbers = np.cumsum(chosen) - 1
        return Runs(
            self.pieces.first[mine], self.pieces.last[mine], numbers[self.owners[mine]], int(np.count_nonzero(chosen))
        )

    def through(self, positions: Ints) -> Runs:
        """The same runs in another array, in which position `i` of this one has become `positions[i]`."""
        return Runs(positions.take(self.pieces.first), positions.take(self.pieces.last), self.owners, len(self))

    def joined(self, choose: np.ufunc, values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """One value per question of one value per run."""
        return choose.reduceat(values, self.starts) if len(self) else values


def expand(starts: Ints, counts: Ints) -> Ints:
    """`start, start + 1, ...` of every range, one range after another."""
    ends = np.cumsum(counts)
    total = int(ends[-1]) if len(ends) else 0
    shifted: Ints = np.repeat(starts - (ends - counts), counts) + np.arange(total, dtype=np.int64)
    return shifted


def prefix(values: np.ndarray[Any, Any]) -> Ints:
    """Sums before every position: one element more than `values`, the first is 0. Wraps around as int64 does."""
    sums = np.empty(len(values) + 1, np.int64)
    sums[0] = 0
    np.cumsum(values, out=sums[1:], dtype=np.int64)
    return sums


def between(sums: Ints, spans: Spans) -> Ints:
    """The sum over each range, of the prefix sums of an array."""
    if isinstance(spans, Runs):
        return spans.joined(np.add, between(sums, spans.pieces))
    difference = sums.take(spans.last)
    difference -= sums.take(spans.first)
    return difference


def parts(sizes: Ints, most: int) -> Iterator[slice]:
    """Runs of neighbours whose sizes sum up to at most `most`; one that is larger stands alone."""
    ends = np.cumsum(sizes)
    start, done = 0, 0
    while start < len(sizes):
        stop = max(int(np.searchsorted(ends, done + most, side="right")), start + 1)
        yield slice(start, stop)
        start, done = stop, int(ends[stop - 1])
