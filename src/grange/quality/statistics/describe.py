"""One column at hand: everything that is known of it, exactly. It is sorted once, and all else follows from that."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from grange.errors import SchemaError
from grange.quality.statistics.column import PERCENTS, ColumnStatistics, ElementStatistics, Histogram
from grange.quality.statistics.moments import Floats, Moments, moments
from grange.quality.statistics.sketches import (
    FREQUENT,
    Distinct,
    Frequent,
    Hashes,
    Ints,
    Quantiles,
    between,
    binned,
    hashed_numbers,
    hashed_texts,
)
from grange.quality.statistics.summary import Summary
from grange.quality.statistics.values import TIMES, Kind, kind_of, shown
from grange.types.arrow import from_arrow_type

if TYPE_CHECKING:
    import polars as pl

Described = tuple[ColumnStatistics, Summary | None]


@dataclass(frozen=True, slots=True)
class Wanted:
    """How much is to be said of each column."""

    bins: int
    """Of a histogram."""
    top: int
    """How many of the most frequent values are named."""
    mergeable: bool
    """Whether summaries are made as well."""


def describe(column: pl.Series, wanted: Wanted) -> Described:
    """A column's statistics, and its summary if that is wanted."""
    dtype = _dtype(column)
    kind = kind_of(dtype)
    common: dict[str, Any] = {"name": column.name, "dtype": dtype, "count": len(column), "nulls": column.null_count()}
    values = column.drop_nulls()
    match kind:
        case "number":
            ordered = _sorted(values)
            found, summary = _ordered(kind, ordered, wanted)
            found |= _floating(values, ordered)
        case "date" | "datetime" | "duration" | "time":
            found, summary = _ordered(kind, _Sorted.of(_micros(values)), wanted)
        case "boolean":
            found, summary = _booleans(values), Summary()
        case "text" | "binary":
            found, summary = _texts(values, wanted)
        case "list":
            found, summary = _lists(values), Summary()
        case "other":
            found, summary = {}, Summary()
    return ColumnStatistics(**common, **found), summary if wanted.mergeable else None


def spread(
    kind: Kind, found: Moments, at: Callable[[Floats], Floats], count: Callable[[Floats], tuple[int, ...]], bins: int
) -> dict[str, Any]:
    """The statistics of numbers and times that follow from their moments and their order.

    Args:
        kind: what they are shown as.
        found: their moments.
        at: the finite values at ranks from 0, in ascending order.
        count: how many finite values lie between edges.
        bins: of the histogram.
    """
    if not found.total:
        return {}
    smallest, largest = -math.inf if found.below else found.low, math.inf if found.above else found.high
    std = math.nan if found.infinite else found.std
    return {
        "min": shown(kind, math.inf if smallest is None else smallest, whole=True),
        "max": shown(kind, -math.inf if largest is None else largest, whole=True),
        "mean": shown(kind, _mean(found)),
        "std": None if found.total < 2 else shown("duration" if kind in TIMES else kind, std),
        "percentiles": tuple(shown(kind, value) for value in _percentiles(found, at)),
        "histogram": _histogram(kind, found, count, bins) if found.count else None,
    }


def tops(
    entries: Sequence[tuple[Any, int]], most: int, show: Callable[[Any], Any]
) -> tuple[tuple[Any, int], ...] | None:
    """The most frequent values, of entries with the most frequent first; None where they would say nothing."""
    if not (entries and most) or (entries[0][1] == 1 and len(entries) > most):
        return None
    return tuple((show(value), count) for value, count in entries[:most])


def _dtype(column: pl.Series) -> str:
    import polars as pl

    if column.dtype in (pl.Object, pl.Int128, pl.UInt128):  # which Arrow does not have
        return str(column.dtype).lower()
    try:
        dtype = from_arrow_type(column.head(0).to_arrow().type)
    except SchemaError:
        return str(column.dtype).lower()  # a time of day, say: describable, though no feature can have it
    return "null" if dtype is None else str(dtype)


@dataclass(frozen=True, slots=True)
class _Sorted:
    """Values in ascending order, without NaN."""

    floats: Floats
    nans: int
    zeros: int
    negatives: int
    moments: Moments
    distinct: int
    """NaN left out."""
    runs: Callable[[], _Runs]
    """Made when asked for: rarely needed where all values differ."""

    @classmethod
    def of(cls, values: NDArray[Any]) -> _Sorted:
        """Of integers or floats in any order."""
        # of small integers NumPy sorts quickly only when told to keep equal ones in order
        small = values.dtype.kind != "f" and values.dtype.itemsize <= 2
        ordered = np.sort(values, kind="stable" if small else None)
        if ordered.dtype.kind != "f":
            return cls._of(ordered, _floats(ordered), 0, _of_integers(ordered))
        ordered = _floats(ordered)
        ordered[slice(*np.searchsorted(ordered, [0.0, np.nextafter(0.0, 1.0)]))] = 0.0  # whose signs come in any order
        end = int(np.searchsorted(ordered, np.inf, side="right"))  # NaN comes last
        return cls._of(ordered[:end], ordered[:end], len(ordered) - end, _of_floats(ordered[:end]))

    @classmethod
    def _of(cls, ordered: NDArray[Any], floats: Floats, nans: int, found: Moments) -> _Sorted:
        zero = ordered.dtype.type(0)
        negatives, to_zero = (int(np.searchsorted(ordered, zero, side=side)) for side in ("left", "right"))
        distinct = int(np.count_nonzero(ordered[1:] != ordered[:-1])) + (len(ordered) > 0)
        return cls(floats, nans, to_zero - negatives, negatives, found, distinct, lambda: _Runs.of(ordered, distinct))


@dataclass(frozen=True, slots=True)
class _Runs:
    """Distinct values in ascending order, and how often each occurs."""

    values: NDArray[Any] | pl.Series
    counts: Ints

    @classmethod
    def of(cls, ordered: NDArray[Any], distinct: int) -> _Runs:
        """Of values in ascending order, so many of them distinct."""
        if distinct == len(ordered):
            return cls(ordered, np.ones(len(ordered), np.int64))
        starts = np.flatnonzero(np.concatenate([[len(ordered) > 0], ordered[1:] != ordered[:-1]]))
        return cls(ordered[starts], np.diff(starts, append=len(ordered)))

    def top(self, most: int) -> list[tuple[Any, int]]:
        """The most frequent ones, equally frequent ones in their own order."""
        chosen = np.arange(len(self.counts))
        if not most:
            return []
        if len(chosen) > most:
            least = np.partition(self.counts, -most)[-most]
            more, equal = np.flatnonzero(self.counts > least), np.flatnonzero(self.counts == least)
            chosen = np.sort(np.concatenate([more, equal[: most - len(more)]]))
        chosen = chosen[np.argsort(-self.counts[chosen], kind="stable")]
        return list(zip(_python(self.values[chosen]), self.counts[chosen].tolist(), strict=True))

    def hashes(self) -> Hashes:
        """One for each value."""
        return hashed_numbers(self.values) if isinstance(self.values, np.ndarray) else _hashed(self.values)


def _sorted(values: pl.Series) -> _Sorted:
    """Numbers of any type."""
    import polars as pl

    if values.dtype.is_decimal() or values.dtype in (pl.Int128, pl.UInt128):
        return _sorted_wide(values)
    return _Sorted.of(values.to_numpy())


def _sorted_wide(values: pl.Series) -> _Sorted:
    """Numbers that NumPy does not have: decimals, and integers of 128 bits."""
    import polars as pl

    ordered = values.sort()
    runs = ordered.rle().struct.unnest()
    floats = ordered.cast(pl.Float64).to_numpy()
    found = Moments(0)
    if len(ordered):
        mean, std = moments(floats)
        found = Moments(len(ordered), ordered[0], ordered[-1], mean, std)
    held = _Runs(runs["value"], runs["len"].cast(pl.Int64).to_numpy())
    zeros, negatives = int((ordered == 0).sum()), int((ordered < 0).sum())
    return _Sorted(floats, 0, zeros, negatives, found, len(runs), lambda: held)


def _ordered(kind: Kind, ordered: _Sorted, wanted: Wanted) -> tuple[dict[str, Any], Summary]:
    """Numbers and times."""
    found = ordered.moments
    finite = ordered.floats[found.below : len(ordered.floats) - found.above]
    statistics = spread(kind, found, partial(between, finite), partial(binned, finite), wanted.bins)
    statistics["distinct"] = ordered.distinct + (ordered.nans > 0)
    if kind == "number":
        statistics |= {"zeros": ordered.zeros, "negatives": ordered.negatives}
    most = max(wanted.top, FREQUENT + 1) if wanted.mergeable else wanted.top
    telling = ordered.distinct < found.total or ordered.distinct <= most
    runs = ordered.runs() if telling or wanted.mergeable else None
    entries = runs.top(most) if telling and runs is not None else []
    statistics["top"] = tops(entries, wanted.top, lambda value: shown(kind, value, whole=True))
    if runs is None or not wanted.mergeable:
        return statistics, Summary()
    frequent = Frequent.of(entries, 0 if telling else 1)
    return statistics, Summary(found, Quantiles.of(finite), Distinct.of(runs.hashes()), frequent)


def _floating(values: pl.Series, ordered: _Sorted) -> dict[str, Any]:
    """What only floats have."""
    if not values.dtype.is_float():
        return {}
    return {"nans": ordered.nans, "infinities": ordered.moments.infinite}


def _mean(found: Moments) -> float:
    """Among infinite values that of IEEE 754."""
    if not found.infinite:
        return found.mean
    return math.nan if found.below and found.above else -math.inf if found.below else math.inf


def _percentiles(found: Moments, at: Callable[[Floats], Floats]) -> list[float]:
    """Of all values in order, minus infinity first; where two infinities are neighbours, nothing lies between."""
    ranks = np.array(PERCENTS) * (found.total - 1) / 100 - found.below
    values = np.where(ranks < 0, -np.inf, np.inf)
    inside = (ranks >= 0) & (ranks <= found.count - 1)
    if inside.any():
        values[inside] = at(ranks[inside])
    if not found.count and found.below and found.above:
        values[(ranks > -1) & (ranks < 0)] = np.nan
    numbers: list[float] = values.tolist()
    return numbers


def _histogram(kind: Kind, found: Moments, count: Callable[[Floats], tuple[int, ...]], bins: int) -> Histogram:
    low, high = float(found.low), float(found.high)
    if low == high:
        edges = np.array([low, high])
    elif math.isfinite(2 * (high - low)):
        edges = np.linspace(low, high, bins + 1)
    else:
        parts = np.arange(bins + 1) / bins
        edges = low * (1 - parts) + high * parts
    if kind in TIMES:
        edges = np.rint(edges)
    return Histogram(tuple(shown(kind, edge) for edge in edges.tolist()), count(edges))


def _micros(values: pl.Series) -> NDArray[np.int64]:
    """Times as whole microseconds (TIME-1)."""
    import polars as pl

    if values.dtype == pl.Time:
        return (values.to_physical() // 1000).to_numpy()
    moments_ = values.cast(pl.Datetime("us")) if values.dtype == pl.Date else values.dt.cast_time_unit("us")
    return moments_.to_physical().to_numpy()


def _floats(values: NDArray[Any]) -> Floats:
    return values.astype(np.float64, copy=False)


def _of_floats(ordered: Floats) -> Moments:
    """The moments of floats in ascending order, infinite ones among them."""
    first = int(np.searchsorted(ordered, -np.inf, side="right"))
    end = int(np.searchsorted(ordered, np.inf, side="left"))
    below, above = first, len(ordered) - end
    if first >= end:
        return Moments(0, below=below, above=above)
    finite = ordered[first:end]
    return Moments(len(finite), float(finite[0]), float(finite[-1]), *moments(finite), below, above)


def _of_integers(ordered: NDArray[Any]) -> Moments:
    """The moments of integers in ascending order: from the smallest on, so that no digit of their spread is lost."""
    if not len(ordered):
        return Moments(0)
    low, high = int(ordered[0]), int(ordered[-1])
    # differences of 64-bit integers are right modulo 2**64, and none is negative
    whole = ordered if ordered.dtype == np.uint64 else ordered.astype(np.int64).view(np.uint64)
    return Moments(len(ordered), low, high, *moments((whole - whole[0]).astype(np.float64), start=float(low)))


def _booleans(values: pl.Series) -> dict[str, Any]:
    true = int(values.sum())
    false = len(values) - true
    return {"true": true, "false": false, **either(true, false)}


def either(true: int, false: int) -> dict[str, Any]:
    """What else is known of booleans."""
    entries = sorted([(value, count) for value, count in ((False, false), (True, true)) if count], key=_rarest_last)
    return {"distinct": len(entries), "top": tuple(entries) or None}


def _rarest_last(entry: tuple[Any, int]) -> int:
    return -entry[1]


def _texts(values: pl.Series, wanted: Wanted) -> tuple[dict[str, Any], Summary]:
    """Text and binary."""
    import polars as pl

    binary = values.dtype == pl.Binary
    counts = (values if binary else values.cast(pl.String)).alias("value").value_counts(name="count")
    distinct, texts = counts.height, counts["value"]
    statistics: dict[str, Any] = {"distinct": distinct}
    if distinct:
        lengths = (texts.bin.size() if binary else texts.str.len_chars()).cast(pl.Int64)
        total = int((lengths * counts["count"]).sum())
        statistics |= {"min_length": lengths.min(), "max_length": lengths.max(), "mean_length": total / len(values)}
    most = max(wanted.top, FREQUENT + 1) if wanted.mergeable else wanted.top
    telling = distinct < len(values) or distinct <= most
    entries = _most_frequent(counts, most) if telling else []
    statistics["top"] = tops(entries, wanted.top, lambda value: value)
    if not wanted.mergeable:
        return statistics, Summary()
    return statistics, Summary(distinct=Distinct.of(_hashed(texts)), frequent=Frequent.of(entries, 0 if telling else 1))


def _most_frequent(counts: pl.DataFrame, most: int) -> list[tuple[Any, int]]:
    by: dict[str, Any] = {"by": ["count", "value"]}
    top = counts.top_k(most, **by, reverse=[False, True]).sort(**by, descending=[True, False])
    return list(top.select("value", "count").iter_rows())


def _hashed(values: pl.Series) -> Hashes:
    """Hashes of text or binary, and of the text of all else."""
    import polars as pl

    array = (values if values.dtype == pl.Binary else values.cast(pl.String)).to_arrow()
    _, offsets, data = array.buffers()
    return hashed_texts(
        np.frombuffer(offsets, np.int64, len(array) + 1, array.offset * 8), np.frombuffer(data or b"", np.uint8)
    )


def _lists(values: pl.Series) -> dict[str, Any]:
    import polars as pl

    lists = values.arr.to_list() if isinstance(values.dtype, pl.Array) else values
    lengths = lists.list.len().cast(pl.Int64)
    held = lists.filter(lengths > 0).explode()
    elements = ElementStatistics(len(held), held.null_count(), *_ends(held.drop_nulls()))
    if not len(lists):
        return {"elements": elements}
    return {
        "min_length": lengths.min(), "max_length": lengths.max(),
        "mean_length": int(lengths.sum()) / len(lengths), "elements": elements,
    }  # fmt: skip


def _ends(values: pl.Series) -> tuple[Any, Any]:
    """The smallest and the largest of numbers that are not NaN."""
    if not values.dtype.is_numeric():
        return None, None
    numbers = values.drop_nans() if values.dtype.is_float() else values
    return numbers.min(), numbers.max()


def _python(values: NDArray[Any] | pl.Series) -> list[Any]:
    return values.tolist() if isinstance(values, np.ndarray) else values.to_list()


__all__ = ["Described", "Wanted", "describe", "either", "spread", "tops"]
