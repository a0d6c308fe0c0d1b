"""How alike the values of two columns are."""

from __future__ import annotations

from typing import Final

import numpy as np

from grange.quality.statistics.column import ColumnStatistics
from grange.quality.statistics.distribution import Curve, binned, categories, comparable

_PARTS: Final = 20


def similarity(one: ColumnStatistics, other: ColumnStatistics) -> float:
    """The overlap of two columns' value distributions: 1 where they are the same, 0 where they have nothing in common.

    `sum(min(p_i, q_i))` over common parts, which is 1 less the total variation distance. Of numbers and times the parts
    are 20 ranges that hold a 20th of both columns' values taken together, half from each. Where the top values are all
    that both columns have, and of text, binary and booleans, the parts are single values: then the overlap over the
    values named of both, divided by the smaller of the shares that the top values make up in either column, since
    nothing is known of the rest. Nulls and NaN play no part. Columns of different kinds, and lists, structs and columns
    without values, have nothing in common.
    """
    if not comparable(one, other):
        return 0.0
    single = categories(one, other)
    if single is not None:
        overlap = float(np.minimum(single[0][:-1], single[1][:-1]).sum())
        covered = min(_covered(one), _covered(other))
        return min(1.0, overlap / covered)
    mine, others = Curve.of(one), Curve.of(other)
    if mine is None or others is None:
        return 0.0
    return min(1.0, float(np.minimum(*binned(mine, others, _pooled(mine, others))).sum()))


def _pooled(one: Curve, other: Curve) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """The points that part the values of both, taken together, into equal shares."""
    points = np.unique(np.concatenate([one.points, other.points]))
    together = Curve(points, (one(points) + other(points)) / 2)
    return np.unique(together.inverse(np.arange(1, _PARTS) / _PARTS))


def _covered(column: ColumnStatistics) -> float:
    """The share of the values that the top values make up."""
    return sum(count for _, count in column.top or ()) / (column.values - (column.nans or 0))


__all__ = ["similarity"]
