"""Count, extremes, mean and spread of numbers: exact, and mergeable without having the numbers again."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from grange.quality.plain import plain
from grange.quality.statistics.values import TIMES, kind_of, read

Floats = NDArray[np.float64]

_SMALL: Final = 1e-290
"""Sums of squares below may have lost digits of their terms."""


@dataclass(frozen=True, slots=True)
class Moments:
    """Of the finite values of a column; times are their microseconds. Infinite values are counted beside."""

    count: int
    low: Any = None
    """The smallest and largest, as Python numbers; None without values."""
    high: Any = None
    mean: float = 0.0
    std: float = 0.0
    """Of the sample (ddof 1); 0 for fewer than two values."""
    below: int = 0
    """Values that are minus infinity."""
    above: int = 0

    @property
    def total(self) -> int:
        """Values, finite and infinite."""
        return self.count + self.below + self.above

    @property
    def infinite(self) -> int:
        """Values that are infinite."""
        return self.below + self.above

    def merge(self, other: Moments) -> Moments:
        """Of both together, by the pairwise update of Chan, Golub and LeVeque (1979).

        `mean = m_a + d n_b / n` and `(n-1) s^2 = (n_a-1) s_a^2 + (n_b-1) s_b^2 + d^2 n_a n_b / n` with
        `d = m_b - m_a`. Halved differences and the hypotenuse keep large values from overflowing.
        """
        below, above = self.below + other.below, self.above + other.above
        if not self.count or not other.count:
            one = self if self.count else other
            return Moments(one.count, one.low, one.high, one.mean, one.std, below, above)
        count = self.count + other.count
        half = other.mean / 2 - self.mean / 2
        spread = math.hypot(
            math.sqrt(self.count - 1) * (self.std / 2),
            math.sqrt(other.count - 1) * (other.std / 2),
            math.sqrt(self.count * (other.count / count)) * half,
        )
        return Moments(
            count,
            min(self.low, other.low),
            max(self.high, other.high),
            self.mean + 2 * (half * (other.count / count)),
            2 * (spread / math.sqrt(count - 1)),
            below,
            above,
        )

    def to_data(self) -> dict[str, Any]:
        """For JSON."""
        ends = {"low": plain(self.low), "high": plain(self.high)} if self.count else {}
        infinite = {"below": self.below, "above": self.above} if self.infinite else {}
        return {"count": self.count, **ends, "mean": plain(self.mean), "std": plain(self.std), **infinite}

    @classmethod
    def from_data(cls, dtype: str, data: Mapping[str, Any]) -> Moments:
        """The moments that `to_data` described, of a column of a type."""
        computed = {name: float(data[name]) for name in ("mean", "std")}
        ends = {name: data[name] for name in ("low", "high") if name in data}
        if kind_of(dtype) not in TIMES:  # times are their microseconds
            ends = {name: read(dtype, value) for name, value in ends.items()}
        return cls(**{**data, **computed, **ends})


def moments(ordered: Floats, *, start: float = 0.0) -> tuple[float, float]:
    """Mean and std (ddof 1) of finite numbers in ascending order, at least one.

    Accurate to rounding whatever their size: where squares leave the range of floats, they are computed in other units.

    Args:
        ordered: the numbers, each less `start`.

    Returns:
        The mean, `start` put back, and the std; of one value, or of equal ones, exactly 0.
    """
    if ordered[0] == ordered[-1]:  # whose sum, divided, need not be the value
        return start + float(ordered[0]), 0.0
    with np.errstate(over="ignore", invalid="ignore"):
        mean, squares = _mean_and_squares(ordered)
    if _SMALL < squares < math.inf:
        return start + mean, math.sqrt(squares / (len(ordered) - 1))
    exponent = math.frexp(max(abs(ordered[0]), abs(ordered[-1])))[1]
    mean, squares = _mean_and_squares(np.ldexp(ordered, -exponent))
    std = math.sqrt(squares / (len(ordered) - 1))
    with np.errstate(over="ignore"):  # the std of the largest floats is beyond them
        return start + float(np.ldexp(mean, exponent)), float(np.ldexp(std, exponent))


def _mean_and_squares(values: Floats) -> tuple[float, float]:
    mean = float(values.mean())
    apart = values - mean
    np.square(apart, out=apart)
    return mean, float(apart.sum())


__all__ = ["Floats", "Moments", "moments"]
