"""Where the values of a column lie, as a curve or as shares of categories, from its statistics alone."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from grange.quality.statistics.column import PERCENTS, ColumnStatistics
from grange.quality.statistics.moments import Floats
from grange.quality.statistics.values import TIMES, number_of

Shares = tuple[Floats, Floats]
"""How the values of two columns fall to the same parts; each sums to 1."""


@dataclass(frozen=True, slots=True)
class Curve:
    """The cumulative distribution of numbers or times: the share of values up to each of some points.

    The points are the extremes, the percentiles and the edges of the histogram, where the share is known; between them
    it rises linearly, so that it is nowhere off by more than 0.01, and `1 / n` for few values.
    """

    points: Floats
    """In ascending order; equal ones where the share jumps."""
    shares: Floats

    @classmethod
    def of(cls, column: ColumnStatistics) -> Curve | None:
        """A column's curve; None of one without numbers or times."""
        if column.percentiles is None:
            return None
        known = [(number_of(column.min), 0.0), (number_of(column.max), 1.0)]
        known += [
            (number_of(value), percent / 100) for value, percent in zip(column.percentiles, PERCENTS, strict=True)
        ]
        if column.histogram is not None and not column.infinities:
            below = np.cumsum(column.histogram.counts) / sum(column.histogram.counts)
            known += zip(map(number_of, column.histogram.edges[1:-1]), below[:-1].tolist(), strict=True)
        known = sorted(pair for pair in known if not math.isnan(pair[0]))
        points, shares = (np.array(part) for part in zip(*known, strict=True))
        return cls(points, np.maximum.accumulate(shares))

    def __call__(self, at: Floats) -> Floats:
        """The share of values up to and with each of some points."""
        return self._read(at, "right")

    def before(self, at: Floats) -> Floats:
        """The share of values before each of some points."""
        return self._read(at, "left")

    def inverse(self, shares: Floats) -> Floats:
        """The points up to which given shares of the values lie."""
        return self.points[np.minimum(np.searchsorted(self.shares, shares, side="left"), len(self.points) - 1)]

    def _read(self, at: Floats, side: Any) -> Floats:
        after = np.searchsorted(self.points, at, side=side)
        lower, upper = np.maximum(after - 1, 0), np.minimum(after, len(self.points) - 1)
        start, end = self.points[lower], self.points[upper]
        with np.errstate(all="ignore"):  # between equal points there is nothing, between infinite ones no telling
            share = (at - start) / (end - start)
            share = np.where(np.isfinite(end - start) & (end > start), share, 0.0)
        between = self.shares[lower] + share * (self.shares[upper] - self.shares[lower])
        return np.where(after == 0, 0.0, np.where(after == len(self.points), 1.0, between))


def comparable(one: ColumnStatistics, other: ColumnStatistics) -> bool:
    """Whether two columns hold values of one kind: numbers of any type, moments (dates or datetimes), text …"""
    return _FAMILIES.get(one.kind, one.kind) == _FAMILIES.get(other.kind, other.kind)


def categories(one: ColumnStatistics, other: ColumnStatistics) -> Shares | None:
    """The shares of single values, by top values; the last part is all values that are not told apart.

    Told apart is a value whose count is known of both columns: it is among both's top values, or among one's, while the
    other's are all that it has. None without values; and of numbers and times, unless top values are all that both
    have.
    """
    if not (one.top and other.top):
        return None
    whole = _whole(one), _whole(other)
    if one.kind in ("number", *TIMES) and not all(whole):
        return None
    mine, others = _counts(one), _counts(other)
    known = [value for value in mine if value in others or whole[1]]
    known += [value for value in others if value not in mine and whole[0]]
    parts = [
        np.array([named.get(value, 0) for value in known]) / _named_values(column)
        for column, named in ((one, mine), (other, others))
    ]
    first, second = (np.append(part, max(0.0, 1.0 - float(part.sum()))) for part in parts)
    return first, second


def binned(one: Curve, other: Curve, edges: Floats) -> Shares:
    """The shares of values up to the first edge, between edges, and after the last."""
    first, second = (np.diff(np.concatenate([[0.0], curve(edges), [1.0]])) for curve in (one, other))
    return first, second


def _whole(column: ColumnStatistics) -> bool:
    """Whether the top values are all that a column has."""
    exact = column.errors is None or not column.errors.top
    return exact and sum(count for _, count in column.top or ()) == _named_values(column)


def _counts(column: ColumnStatistics) -> dict[Any, int]:
    """The top values with their counts; times by their microseconds, so that a date is its midnight."""
    named = dict(column.top or ())
    return {number_of(value): count for value, count in named.items()} if column.kind in TIMES else named


def _named_values(column: ColumnStatistics) -> int:
    return column.values - (column.nans or 0)


_FAMILIES: Final = {"date": "datetime"}

__all__ = ["Curve", "Shares", "binned", "categories", "comparable"]
