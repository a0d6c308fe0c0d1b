"""The functions: what each answers for ranges of events. `grange.types.aggregates.FUNCTIONS` says what each is."""

from __future__ import annotations

from typing import Final

import numpy as np

from grange.errors import ColumnTypeError
from grange.kernels.arrays import Ints, Mask
from grange.kernels.windows.answers import NO_ROW, Answer, Floats, Lists, Numbers, Picks
from grange.kernels.windows.extremes import Extremes
from grange.kernels.windows.frequent import modes, most_frequent
from grange.kernels.windows.moments import FloatSums
from grange.kernels.windows.selection import Selection, Series, Table
from grange.kernels.windows.sketches import approximate_distinct, approximate_quantiles
from grange.kernels.windows.spans import Spans, expand
from grange.kernels.windows.values import SIGN, ranked
from grange.types.aggregates import ROWS, Aggregate

_SECOND: Final = 1e6
_SKETCHED: Final = ("approx_count_distinct", "approx_quantile")
_ONE_RANGE: Final = frozenset(
    ("median", "quantile", "count_distinct", "mode", "top_n", "first_n", "last_n", *_SKETCHED)
)
_CARRIED: Final = frozenset(("first", "last", "first_n", "last_n", "min_by", "max_by", "mode", "top_n", "lag"))
_LEAST: Final = {"count": 0, "count_distinct": 0, "approx_count_distinct": 0, "std": 2, "var": 2}


def least_values(function: str) -> int:
    """How many values a function needs for an answer other than null (WIN-4)."""
    return _LEAST.get(function, 1)


def takes_runs(function: str) -> bool:
    """Whether a function can be of windows with gaps (`Runs`), not of single ranges only."""
    return function not in _ONE_RANGE


def is_number(aggregate: Aggregate, table: Table) -> bool:
    """Whether answers are numbers, not rows whose values are the answers."""
    name = aggregate.function.name
    return name not in _CARRIED and not (name in ("min", "max") and table[aggregate.column].kind == "coded")


def answer(aggregate: Aggregate, selection: Selection, spans: Spans, moments: Ints) -> Answer:
    """The answers of an aggregate for ranges of a selection of events, as of the given moments.

    Raises:
        ColumnTypeError: a sum or range of integers does not fit into 64 bits.
        MissingDependencyError: it needs the package of the sketches.
    """
    if aggregate.function.about.tally == "point":
        return Picks(_last_rows(selection, spans))
    if aggregate.column == ROWS:
        events, within = selection, spans
    else:
        series = selection.series(*aggregate.columns)
        events, within = series.events, series.narrow(spans)
    valid = within.at_least(least_values(aggregate.function.name))
    match aggregate.function.name:
        case "count":
            return Numbers(within.counts, valid)
        case "time_since_last":
            return Numbers((moments - events.before(within)) / _SECOND, valid)
        case "first":
            return Picks(_at(events, within.first, within.filled))
        case "last":
            return Picks(_last_rows(events, within))
        case "first_n":
            lengths = np.minimum(within.counts, aggregate.function.parameters[0])
            return Lists(lengths, events.rows[expand(within.first, lengths)])
        case "last_n":
            lengths = np.minimum(within.counts, aggregate.function.parameters[0])
            return Lists(lengths, events.rows[expand(within.last - lengths, lengths)])
        case "min" | "max":
            return _extreme(aggregate, series, within)
        case "min_by" | "max_by":
            return Picks(_extreme_row(aggregate, series, selection, within))
        case "mode":
            best = modes(series.ranks(), within)
            return Picks(_at(events, best.rows, best.rows >= 0))
        case "top_n":
            most = most_frequent(series.ranks(), within, aggregate.function.parameters[0])
            return Lists(most.lengths, events.rows[most.rows])
        case "sum":
            return Numbers(_sum(aggregate, series, within), valid)
        case "range":
            return Numbers(_range(aggregate, series, within), valid)
        case "count_distinct":
            return Numbers(_distinct(series, within), valid)
        case "approx_count_distinct":
            return Numbers(approximate_distinct(series.items(), within), valid)
        case _:
            return Numbers(_number(aggregate, series, within, moments), valid)


def _number(aggregate: Aggregate, series: Series, spans: Spans, moments: Ints) -> Floats:
    """The answers of functions whose result is a float64."""
    parameters = aggregate.function.parameters
    match aggregate.function.name:
        case "mean":
            return series.sums().means(spans)
        case "std":
            return series.variances().deviations(spans)
        case "var":
            return series.variances().variances(spans)
        case "median":
            return series.specials().in_rank(_quantile(series, spans, 0.5), spans)
        case "quantile":
            return series.specials().in_rank(_quantile(series, spans, parameters[0]), spans)
        case "approx_quantile":
            numbers = series.keep("numbers", lambda: np.where(np.isnan(series.floats()), 0.0, series.floats()))
            estimates = approximate_quantiles(numbers, spans, parameters[0])
            return series.specials().in_rank(estimates, spans)
        case "decayed_sum":
            return series.decayed(parameters[0]).sums(spans, moments)
        case "ewma":
            return series.decayed(parameters[0]).means(spans)
        case name:
            raise AssertionError(f"no kernel for {name}")


def _at(events: Selection, positions: Ints, there: Mask) -> Ints:
    """The table's rows at positions; `NO_ROW` where there is none."""
    if not len(events):
        return np.full(len(positions), NO_ROW, np.int64)
    return np.where(there, events.rows.take(np.where(there, positions, 0)), NO_ROW)


def _last_rows(events: Selection, spans: Spans) -> Ints:
    return _at(events, spans.last - 1, spans.filled)


def _sum(aggregate: Aggregate, series: Series, spans: Spans) -> Floats | Ints:
    sums = series.sums()
    if isinstance(sums, FloatSums):
        return sums.totals(spans)
    totals, over = sums.totals(spans)
    if over is not None:
        _check_fits(aggregate, series, spans, over)
    return totals


def _range(aggregate: Aggregate, series: Series, spans: Spans) -> Floats | Ints:
    least, greatest = series.least().of(spans), series.greatest().of(spans)
    with np.errstate(invalid="ignore", over="ignore"):
        ranges: Floats | Ints = greatest - least
    if series.values.kind != "float":
        _check_fits(aggregate, series, spans, (ranges < 0) & spans.filled)
    return ranges


def _check_fits(aggregate: Aggregate, series: Series, spans: Spans, over: Mask) -> None:
    if over.any():
        raise ColumnTypeError(
            f"aggregation {aggregate.name!r}: a {aggregate.function.name} of column {aggregate.column!r} does not fit"
            " into 64 bits",
            found=f"{int(spans.counts[over][0])} values of {series.values.array.type} in one window",
            try_=f"cast {aggregate.column!r} to float64 in the group's transform",
            details={"aggregation": aggregate.name, "column": aggregate.column},
        )


def _extreme(aggregate: Aggregate, series: Series, spans: Spans) -> Answer:
    extremes: Extremes = series.least() if aggregate.function.name == "min" else series.greatest()
    found = extremes.of(spans)
    example = series.values.keys.example if series.values.kind == "coded" else None
    if example is not None:
        rows = np.full(len(spans), NO_ROW, np.int64)
        rows[spans.filled] = example[found[spans.filled]]
        return Picks(rows)
    return Numbers(found ^ SIGN if series.values.wraps else found, spans.filled)


def _extreme_row(aggregate: Aggregate, series: Series, selection: Selection, spans: Spans) -> Ints:
    """The row in which another column is least or greatest, of equal ones the newest."""
    events, count = series.events, len(series.events)
    bits = np.int64(max(count, 1).bit_length())

    def compared() -> Extremes:
        by = selection.table[aggregate.columns[1]].keys.keys[events.rows]
        ids, positions = ranked(events.codes, by).ids, np.arange(count)
        if aggregate.function.name == "min_by":
            return Extremes(ids << bits | (count - 1 - positions), np.minimum, events.longest)
        return Extremes(ids << bits | positions, np.maximum, events.longest)

    found = series.keep((aggregate.function.name, aggregate.columns), compared).of(spans)
    positions = found & ((np.int64(1) << bits) - 1)
    return _at(events, count - 1 - positions if aggregate.function.name == "min_by" else positions, spans.filled)


def _quantile(series: Series, spans: Spans, fraction: float) -> Floats:
    """Between the two values around position `fraction * (n - 1)`, linearly. NaNs are greater than all else."""
    quantiles = np.full(len(spans), np.nan)
    filled = np.flatnonzero(spans.filled)
    if not len(filled):
        return quantiles
    asked = spans.some(filled)
    place = fraction * (asked.counts - 1)
    below = np.floor(place)
    part = place - below
    quantiles[filled] = lower = _placed(series, asked, below.astype(np.int64))
    between = np.flatnonzero(part > 0)
    if len(between):
        upper = _placed(series, asked.some(between), below[between].astype(np.int64) + 1)
        lower, part = lower[between], part[between]
        with np.errstate(invalid="ignore"):
            mixed = lower * (1.0 - part) + upper * part
        quantiles[filled[between]] = np.where(lower == upper, lower, mixed)
    return quantiles


def _placed(series: Series, spans: Spans, place: Ints) -> Floats:
    """The value at a place of each range's sorted values."""
    matrix, first = series.sorted_values()
    ranks = matrix.smallest(spans, place) + first.take(spans.first)
    values: Floats = series.floats().take(series.ranks().example.take(ranks))
    return values


def _distinct(series: Series, spans: Spans) -> Ints:
    """Values of which none equal stands before them in the range."""
    if not len(series.events):
        return np.zeros(len(spans), np.int64)
    starts = series.events.start_of(np.minimum(spans.first, len(series.events) - 1))
    distinct = series.earlier().below(spans, spans.first - starts + 1)
    return np.where(spans.filled, distinct, 0)
