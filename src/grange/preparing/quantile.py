"""quantile_scaler: the rank of a value among the training values, as scikit-learn's QuantileTransformer.

A value between two learned quantiles has a rank between theirs, by linear interpolation; one that several quantiles
share has the middle of their ranks. Below the least it is 0, above the greatest 1.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable
from statistics import NormalDist
from typing import Any, Final

import numpy as np
import pyarrow as pa

from grange.preparing.bound import Bound, Ready, Settings
from grange.preparing.numbers import Array, over_numbers, sample
from grange.preparing.subject import Subject

_NEAR: Final = 1e-7
"""So near to the least or greatest value, a value counts as beyond it where the outputs are normal; and the least rank
that is told from 0, so that no output is infinite."""
_STANDARD_NORMAL: Final = NormalDist()
_LEAST_RANK: Final = _NEAR - float(np.spacing(1))
_GREATEST_RANK: Final = 1 - _LEAST_RANK
_LEAST: Final = _STANDARD_NORMAL.inv_cdf(_LEAST_RANK)
_GREATEST: Final = _STANDARD_NORMAL.inv_cdf(_GREATEST_RANK)


def fit(column: pa.ChunkedArray, given: Settings, subject: Subject) -> dict[str, list[float]]:
    """The quantiles of evenly spaced ranks, at most one per value."""
    values = sample(column, subject)
    ranks = _ranks(min(given["quantiles"], len(values)))
    with np.errstate(over="ignore", invalid="ignore"):
        quantiles = np.maximum.accumulate(np.quantile(values, ranks))
    subject.finite({"quantiles": float(np.abs(quantiles).max())})
    return {"quantiles": quantiles.tolist()}


def bind(learned: Any, given: Settings, subject: Subject) -> Bound:
    """Ranks, as they are or as values of a standard normal distribution."""
    quantiles: list[float] = learned["quantiles"]
    array, value = _rank_array(quantiles), _rank_value(quantiles)
    if given["distribution"] == "uniform":
        return over_numbers(subject, array, value)
    low, high = quantiles[0], quantiles[-1]

    def normal(x: float) -> float:
        if x - _NEAR < low:
            return _LEAST
        return _GREATEST if x + _NEAR > high else _normal(value(x))

    def normal_array(values: Array) -> Array:
        made = np.fromiter(map(_normal, array(values).tolist()), np.float64, len(values))
        return np.where(values - _NEAR < low, _LEAST, np.where(values + _NEAR > high, _GREATEST, made))

    return over_numbers(subject, normal_array, normal)


def _ranks(count: int) -> Array:
    return np.linspace(0, 1, count)


def _rank_value(quantiles: list[float]) -> Callable[[float], float]:
    ranks: list[float] = _ranks(len(quantiles)).tolist()
    low, high = quantiles[0], quantiles[-1]

    def rank(x: float) -> float:
        if x <= low:
            return 0.0
        if x >= high:
            return 1.0
        if x != x:
            return x
        left, right = bisect_left(quantiles, x), bisect_right(quantiles, x)
        if left < right:
            return 0.5 * (ranks[left] + ranks[right - 1])
        below, above = quantiles[right - 1], quantiles[right]
        return ranks[right - 1] + (x - below) / (above - below) * (ranks[right] - ranks[right - 1])

    return rank


def _rank_array(quantiles: list[float]) -> Callable[[Array], Array]:
    """The same for arrays: the same operations in the same order."""
    knots, ranks = np.array(quantiles), _ranks(len(quantiles))

    def rank(values: Array) -> Array:
        left = np.searchsorted(knots, values, "left")
        right = np.searchsorted(knots, values, "right")
        last = len(knots) - 1
        first, second = np.clip(right - 1, 0, last), np.clip(right, 0, last)
        shared = 0.5 * (ranks[np.clip(left, 0, last)] + ranks[first])
        below, above = knots[first], knots[second]
        between = ranks[first] + (values - below) / (above - below) * (ranks[second] - ranks[first])
        inside = np.where(left < right, shared, between)
        beyond = np.where(values <= knots[0], 0.0, np.where(values >= knots[-1], 1.0, inside))
        return np.where(np.isnan(values), values, beyond)

    return rank


def _normal(rank: float) -> float:
    if rank <= _LEAST_RANK:
        return _LEAST
    if rank >= _GREATEST_RANK:
        return _GREATEST
    return rank if rank != rank else _STANDARD_NORMAL.inv_cdf(rank)


QUANTILE = Ready(fit, bind)
