"""What changed from one profile to another: two versions of a group, training data and what is served."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final, Literal

import numpy as np

from grange.quality.plain import plain
from grange.quality.statistics.column import PERCENTS, ColumnStatistics
from grange.quality.statistics.distribution import Curve, binned, categories, comparable
from grange.quality.statistics.profiling import Profile
from grange.quality.statistics.values import number_of

_LEAST: Final = 1e-4
"""Shares below count as this in the population stability index, which has no value for none."""
_NAMED: Final = (1, 5, 25, 50, 75, 95, 99)
"""Percentiles that are listed when they change."""


@dataclass(frozen=True, slots=True)
class Change:
    """One statistic of a column, before and after."""

    statistic: str
    """As `ColumnStatistics` names it; `null_share` and `true_share` are shares of rows and of values."""
    before: Any
    """None where the column has no such statistic."""
    after: Any
    difference: Any = None
    """After less before: a number, of times a timedelta; None where there is none."""

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {name: plain(getattr(self, name)) for name in ("statistic", "before", "after", "difference")}


@dataclass(frozen=True, slots=True)
class ColumnChange:
    """What changed in one column."""

    name: str
    status: Literal["same", "changed", "added", "removed"]
    changes: tuple[Change, ...] = ()
    """Only statistics that differ."""
    psi: float | None = None
    """See `population_stability`; None where it has no values of one kind to compare."""
    ks: float | None = None
    """See `kolmogorov_smirnov`; of numbers and times."""
    shift: float | None = None
    """See `quantile_shift`; of numbers and times."""

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        distances = {name: plain(getattr(self, name)) for name in ("psi", "ks", "shift")}
        changes = [change.to_dict() for change in self.changes]
        return {"name": self.name, "status": self.status, "changes": changes, **distances}


@dataclass(frozen=True, slots=True)
class Comparison:
    """What changed from one profile to another."""

    rows_before: int
    rows_after: int
    columns: tuple[ColumnChange, ...]
    """All of the profile after, in its order, then those that were removed."""

    @property
    def changed(self) -> bool:
        """Whether anything did."""
        return self.rows_before != self.rows_after or any(column.status != "same" for column in self.columns)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "rows": {"before": self.rows_before, "after": self.rows_after},
            "columns": [column.to_dict() for column in self.columns],
        }


def compare(before: Profile, after: Profile) -> Comparison:
    """What changed, column by column, and how far the distributions of their values lie apart."""
    was, is_ = ({column.name: column for column in profile.columns} for profile in (before, after))
    columns = [
        _compared(was[name], column) if name in was else ColumnChange(name, "added") for name, column in is_.items()
    ]
    columns += [ColumnChange(name, "removed") for name in was if name not in is_]
    return Comparison(before.rows, after.rows, tuple(columns))


def population_stability(before: ColumnStatistics, after: ColumnStatistics) -> float | None:
    """The population stability index, `sum((q_i - p_i) ln(q_i / p_i))` for shares `p` before and `q` after.

    It is the Kullback-Leibler divergence both ways (Jeffreys, 1946). By custom less than 0.1 is no change to speak of,
    0.25 and more a large one. The parts are single values where the top values tell them apart (`categories`), else the
    ranges between the tenths of the values before, read off both columns' percentiles and histograms. Shares below
    0.0001 count as that. Nulls and NaN play no part.

    Returns:
        None of columns of different kinds, and of those without values.
    """
    if not comparable(before, after):
        return None
    parts = categories(before, after)
    if parts is None:
        was, is_ = Curve.of(before), Curve.of(after)
        if was is None or is_ is None:
            return None
        tenths = np.array([number_of(before.percentile(percent)) for percent in range(10, 100, 10)])
        parts = binned(was, is_, np.unique(tenths[np.isfinite(tenths)]))
    shares, others = (np.maximum(part, _LEAST) for part in parts)
    return float(((others - shares) * np.log(others / shares)).sum())


def kolmogorov_smirnov(before: ColumnStatistics, after: ColumnStatistics) -> float | None:
    """The two-sample statistic of Kolmogorov and Smirnov, `max |F(x) - G(x)|` of the shares of values up to `x`.

    From percentiles and histograms, so within 0.01 of that of the values themselves, and of `1 / n` for few values.

    Returns:
        None of columns that are not both numbers, or both times, with values.
    """
    was, is_ = _curves(before, after)
    if was is None or is_ is None:
        return None
    points = np.concatenate([was.points, is_.points])
    apart = np.maximum(np.abs(was(points) - is_(points)), np.abs(was.before(points) - is_.before(points)))
    return float(apart.max())


def quantile_shift(before: ColumnStatistics, after: ColumnStatistics) -> float | None:
    """How far percentiles moved, in standard deviations: `mean(|q_i - p_i|) / std` for percentiles before and after.

    The mean over all 99, which is about the distance of Wasserstein, in units of the std before.

    Returns:
        None of columns that are not both numbers, or both times, with values; without a finite std before; and among
        infinite percentiles. 0 where none moved.
    """
    if None in _curves(before, after):
        return None
    was, is_ = (np.array([number_of(column.percentile(p)) for p in PERCENTS]) for column in (before, after))
    if np.array_equal(was, is_):
        return 0.0
    with np.errstate(over="ignore", invalid="ignore"):
        moved = float(np.abs(is_ - was).mean())
    std = None if before.std is None else number_of(before.std)
    if not std or not math.isfinite(std) or not math.isfinite(moved):
        return None
    return moved / std


def _curves(before: ColumnStatistics, after: ColumnStatistics) -> tuple[Curve | None, Curve | None]:
    return (Curve.of(before), Curve.of(after)) if comparable(before, after) else (None, None)


def _compared(before: ColumnStatistics, after: ColumnStatistics) -> ColumnChange:
    pairs = [(name, read(before), read(after)) for name, read in _STATISTICS.items()]
    changes = tuple(Change(name, was, is_, _difference(was, is_)) for name, was, is_ in pairs if not _same(was, is_))
    distances = (measure(before, after) for measure in (population_stability, kolmogorov_smirnov, quantile_shift))
    return ColumnChange(before.name, "same" if _alike(before, after) else "changed", changes, *distances)


def _alike(before: ColumnStatistics, after: ColumnStatistics) -> bool:
    """Whether every statistic is the same, those that are not listed too; NaN is the same as NaN."""
    return before.to_dict() == after.to_dict()


def _same(one: Any, other: Any) -> bool:
    return bool(plain(one) == plain(other))


def _difference(before: Any, after: Any) -> Any:
    numbers = isinstance(before, int | float) and isinstance(after, int | float)
    if numbers or (type(before) is type(after) and isinstance(before, Decimal | dt.date | dt.timedelta)):
        return after - before
    return None


def _share(part: int | None, whole: int) -> float | None:
    return part / whole if part is not None and whole else None


def _percentile(percent: int) -> Callable[[ColumnStatistics], Any]:
    return lambda column: column.percentile(percent)


_STATISTICS: Final[dict[str, Callable[[ColumnStatistics], Any]]] = {
    "dtype": lambda column: column.dtype,
    "count": lambda column: column.count,
    "null_share": lambda column: column.null_share,
    "nans": lambda column: column.nans,
    "infinities": lambda column: column.infinities,
    "distinct": lambda column: column.distinct,
    "min": lambda column: column.min,
    "max": lambda column: column.max,
    "mean": lambda column: column.mean,
    "std": lambda column: column.std,
    **{f"p{percent}": _percentile(percent) for percent in _NAMED},
    "min_length": lambda column: column.min_length,
    "max_length": lambda column: column.max_length,
    "mean_length": lambda column: column.mean_length,
    "true_share": lambda column: _share(column.true, column.values),
}
"""What `changes` lists, in this order."""

__all__ = [
    "Change", "ColumnChange", "Comparison", "compare", "kolmogorov_smirnov", "population_stability", "quantile_shift",
]  # fmt: skip
