"""Two columns' statistics as those of both columns' rows together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from grange.errors import RequestError
from grange.quality.statistics.column import ColumnStatistics, ElementStatistics, ErrorBounds, Histogram
from grange.quality.statistics.describe import Wanted, either, spread, tops
from grange.quality.statistics.moments import Floats, Moments
from grange.quality.statistics.sketches import Quantiles
from grange.quality.statistics.summary import Summary
from grange.quality.statistics.values import shown

Column = tuple[ColumnStatistics, Summary]


def merge_columns(one: Column, other: Column, wanted: Wanted) -> Column:
    """One column of two, of one name and one type; a column of nulls only goes with any.

    Counts, extremes, mean, std and lengths are exact. Percentiles, distinct and top come from the summaries, and
    `errors` says how far off they may be; a histogram is the sum of both where their edges are the same, else
    it comes from the summaries too.

    Raises:
        RequestError: the columns have different types.
    """
    (left, kept), (right, added) = one, other
    count, nulls = left.count + right.count, left.nulls + right.nulls
    untyped = "null" in (left.dtype, right.dtype)
    if untyped or (left.dtype == right.dtype and not (left.values and right.values)):  # nothing to add to the values
        all_, summary = one if left.values or right.dtype == "null" else other
        return replace(all_, name=left.name, count=count, nulls=nulls), summary
    if left.dtype != right.dtype:
        raise RequestError(
            f"column {left.name!r} has two types, which have no statistics together",
            found=f"{left.dtype} and {right.dtype}",
            try_="profile both after a cast to one type",
        )
    summary = kept.merge(added)
    found = _of_kind(left, right, summary, wanted)
    return ColumnStatistics(left.name, left.dtype, count, nulls, **found), summary


def _of_kind(left: ColumnStatistics, right: ColumnStatistics, summary: Summary, wanted: Wanted) -> dict[str, Any]:
    match left.kind:
        case "boolean":
            true, false = _sum(left.true, right.true) or 0, _sum(left.false, right.false) or 0
            return {"true": true, "false": false, **either(true, false)}
        case "list":
            return {**_lengths(left, right), "elements": _elements(left.elements, right.elements)}
        case "text" | "binary":
            return {**_lengths(left, right), **_compared(left, right, summary, wanted)}
        case "other":
            return {}
        case _:
            return _numbers(left, right, summary, wanted)


def _numbers(left: ColumnStatistics, right: ColumnStatistics, summary: Summary, wanted: Wanted) -> dict[str, Any]:
    """Numbers and times."""
    moments, quantiles = summary.moments, summary.quantiles
    assert moments is not None and quantiles is not None, "numbers and times have them"
    found = spread(left.kind, moments, partial(_at, moments, quantiles), quantiles.binned, wanted.bins)
    off = round(2 * quantiles.error * quantiles.count)
    added = _added(left.histogram, right.histogram)
    if added is not None and added.edges == found["histogram"].edges:
        found["histogram"] = added
        off = sum(column.errors.histogram for column in (left, right) if column.errors)
    for name in ("nans", "infinities", "zeros", "negatives"):
        found[name] = _sum(getattr(left, name), getattr(right, name))
    return found | _compared(left, right, summary, wanted, quantiles.error, off)


def _at(moments: Moments, quantiles: Quantiles, ranks: Floats) -> Floats:
    return quantiles.at(ranks, float(moments.low), float(moments.high))


def _compared(
    left: ColumnStatistics,
    right: ColumnStatistics,
    summary: Summary,
    wanted: Wanted,
    percentiles: float = 0.0,
    histogram: int = 0,
) -> dict[str, Any]:
    """Distinct and top values, and how far all estimates may be off."""
    distinct, frequent = summary.distinct, summary.frequent
    assert distinct is not None and frequent is not None, "what can be compared has them"
    show: Callable[[Any], Any] = partial(shown, left.kind, whole=True)
    errors = ErrorBounds(percentiles, histogram, distinct.error, frequent.error)
    return {
        "distinct": distinct.count + bool(left.nans or right.nans),
        "top": tops(frequent.top(len(frequent.entries)), wanted.top, show),
        "errors": errors if errors != ErrorBounds(0.0, 0, 0.0, 0) else None,
    }


def _added(one: Histogram | None, other: Histogram | None) -> Histogram | None:
    """Both histograms as one, where they have the same edges, or one is empty."""
    if one is None or other is None:
        return one or other
    if one.edges != other.edges:
        return None
    return Histogram(one.edges, tuple(map(sum, zip(one.counts, other.counts, strict=True))))


def _lengths(left: ColumnStatistics, right: ColumnStatistics) -> dict[str, Any]:
    """Of two columns that have values."""
    # a mean length times its count is a whole number: the total, which floats hold
    total = sum(round((column.mean_length or 0.0) * column.values) for column in (left, right))
    return {
        "min_length": min(left.min_length or 0, right.min_length or 0),
        "max_length": max(left.max_length or 0, right.max_length or 0),
        "mean_length": total / (left.values + right.values),
    }


def _elements(left: ElementStatistics | None, right: ElementStatistics | None) -> ElementStatistics:
    assert left is not None and right is not None, "lists have them"
    smallest = [part.min for part in (left, right) if part.min is not None]
    largest = [part.max for part in (left, right) if part.max is not None]
    return ElementStatistics(
        left.count + right.count, left.nulls + right.nulls, min(smallest, default=None), max(largest, default=None)
    )


def _sum(one: int | None, other: int | None) -> int | None:
    return None if one is None or other is None else one + other


__all__ = ["Column", "merge_columns"]
