"""Sums whose terms halve with every half-life of their age."""

from __future__ import annotations

from typing import Final

import numpy as np

from grange.kernels.arrays import Ints
from grange.kernels.windows.answers import Floats
from grange.kernels.windows.moments import Specials
from grange.kernels.windows.spans import Runs, Spans

_LARGE: Final = 2.0**900
_DOWN: Final = 64

_Nodes = tuple[Floats, Floats, Ints]
"""Sums, sums of weights, and the event time that both are as of."""


class DecayedSums:
    """Decayed sums over ranges of events of one entity key each.

    A tree: every node is the sum of two neighbours as of the event time of the later one. Sums only ever age, so that
    no weight is above one, nothing is subtracted, and many half-lives leave zeros, not infinities.
    """

    def __init__(self, values: Floats, times: Ints, half_life: int, longest: int) -> None:
        """`half_life` in microseconds, as `times`. No range that is asked for is longer than `longest`."""
        self._specials, finite = Specials.of(values)
        self._half_life = half_life
        self._times = times
        self._down = _DOWN if len(finite) and float(np.abs(finite).max()) > _LARGE else 0
        finite = np.ldexp(finite, -self._down)
        self._nodes: list[_Nodes] = [(finite, np.ones(len(finite)), times)]
        while longest > 1:
            self._nodes.append(self._parents(*self._nodes[-1]))
            longest = (longest + 1) // 2

    def sums(self, spans: Spans, moments: Ints) -> Floats:
        """Decayed sums as of the moments, which are not before the events; 0 of an empty range."""
        sums, _, newest = self._newest(spans)
        with np.errstate(over="ignore", invalid="ignore"):  # of an empty range the newest event is none
            sums = np.ldexp(sums * self._weights(moments - newest), self._down)
        return self._specials.in_sum(sums, spans)

    def means(self, spans: Spans) -> Floats:
        """Decayed sums divided by the sums of the weights; NaN of an empty range. Of any moment the same."""
        sums, weights, _ = self._newest(spans)
        with np.errstate(over="ignore", invalid="ignore"):
            means = np.ldexp(sums / weights, self._down)
        return self._specials.in_sum(means, spans)

    def _parents(self, sums: Floats, weights: Floats, times: Ints) -> _Nodes:
        """Nodes of two neighbours each; the last one may have a single child."""
        pairs = len(sums) // 2 * 2
        later = times[1:pairs:2]
        # a node over two entity keys may seem to go back in time; no range contains it
        ages = self._weights(np.maximum(later - times[0:pairs:2], 0))
        with np.errstate(over="ignore", invalid="ignore"):
            joined = [each[0:pairs:2] * ages + each[1:pairs:2] for each in (sums, weights)]
        rest = slice(pairs, None)
        return (
            np.concatenate([joined[0], sums[rest]]),
            np.concatenate([joined[1], weights[rest]]),
            np.concatenate([later, times[rest]]),
        )

    def _newest(self, spans: Spans) -> tuple[Floats, Floats, Ints]:
        """Decayed sums, and sums of weights, as of the newest event of each range; and when that was."""
        return spans.keep(self, lambda: self._of_runs(spans) if isinstance(spans, Runs) else self._climb(spans))

    def _of_runs(self, runs: Runs) -> _Nodes:
        sums, weights, times = self._climb(runs.pieces)
        if not len(times):
            return sums, weights, times
        newest = np.maximum.reduceat(times, runs.starts)
        aged = self._weights(newest[runs.owners] - times)
        return runs.joined(np.add, sums * aged), runs.joined(np.add, weights * aged), newest

    def _climb(self, spans: Spans) -> tuple[Floats, Floats, Ints]:
        count = len(spans)
        sums, weights = np.zeros(count), np.zeros(count)
        if not len(self._times):
            return sums, weights, np.zeros(count, np.int64)
        newest = self._times.take(np.maximum(spans.last - 1, 0))
        # on every level a range loses its odd ends, and what is left is a range of parents
        asked, first, last = np.arange(count), spans.first, spans.last
        for level in self._nodes:
            left = first < last
            asked, first, last = asked[left], first[left], last[left]
            odd = first & 1 == 1
            self._take(level, sums, weights, asked[odd], first[odd], newest)
            first = first + odd
            odd = (last & 1 == 1) & (first < last)
            self._take(level, sums, weights, asked[odd], last[odd] - 1, newest)
            first, last = first >> 1, last >> 1
        return sums, weights, newest

    def _take(self, level: _Nodes, sums: Floats, weights: Floats, asked: Ints, nodes: Ints, newest: Ints) -> None:
        """Add nodes to what they are asked for."""
        node_sums, node_weights, node_times = level
        aged = self._weights(newest[asked] - node_times[nodes])
        sums[asked] += node_sums[nodes] * aged
        weights[asked] += node_weights[nodes] * aged

    def _weights(self, ages: Ints) -> Floats:
        weights: Floats = np.exp2(ages / -float(self._half_life))
        return weights
