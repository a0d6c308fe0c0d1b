"""The functions of windowed features in the `reference` engine, as `grange.types.aggregates.FUNCTIONS` says them.

Statistics are fractions until the very end, so that what is returned is the true value, rounded once. A function
that gives one of the window's own values says in which row it lies; Arrow fetches it, so that it stays as it was.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any, Final

import pyarrow as pa

from grange.engines.reference.tables import Micros, column_of, row_numbers
from grange.errors import ColumnTypeError
from grange.frames import require
from grange.types import DataType
from grange.types.aggregates import ROWS, Aggregate, Function
from grange.types.arrow import arrow_type, conform_column
from grange.types.schema import Column

Number = int | float

_COUNTS: Final = ("count", "count_distinct", "approx_count_distinct")
_LARGEST: Final = (1 << 63) - 1
_REGISTERS: Final = 12
"""Of a HyperLogLog sketch, as the exponent of two."""
_KLL: Final = 200
_MICROS: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class _Entry:
    """An event of a window, with what a function looks at. Times and lengths of time are their microseconds."""

    row: int
    time: Micros
    value: Any
    by: Any
    """What `min_by` and `max_by` compare; None for the other functions."""


def function_column(
    aggregate: Aggregate,
    history: pa.Table,
    times: Sequence[Micros | None],
    windows: Sequence[Sequence[int] | None],
    moments: Sequence[Micros | None],
    *,
    group: str,
) -> pa.ChunkedArray:
    """An aggregate's function of every window.

    Args:
        aggregate: what is computed.
        history: the group's rows.
        times: their event times.
        windows: per spine row the numbers of the rows in its window, in PIT-3 order; None where it has no time.
        moments: per spine row the moment that is looked from.
        group: the feature group, for messages.

    Raises:
        ColumnTypeError: an integer result that 64 bits cannot hold, or a column that is not of its declared type.
        MissingDependencyError: an approximate function, and the package `datasketches` is not installed.
    """
    column = _column(aggregate.column, aggregate.input, history, group)
    values = _comparable(column)
    by = None if aggregate.by is None else _comparable(_column(aggregate.by, aggregate.by_input, history, group))
    entries = [
        [_Entry(row, _known(times[row]), values[row], None if by is None else by[row]) for row in window or ()]
        for window in windows
    ]
    name = aggregate.function.name
    if name in _PICKS:
        picked = [_PICKS[name](each) for each in entries]
        return column.take(row_numbers(None if entry is None else entry.row for entry in picked))
    present = [[entry for entry in each if entry.value is not None] for each in entries]
    if name in _LISTS:
        (count,) = aggregate.function.parameters
        return _lists(column, [[entry.row for entry in _LISTS[name](each, count)] for each in present])
    numbers = [
        None if moment is None or not (each or name in _COUNTS) else _number(aggregate, each, moment, group)
        for each, moment in zip(present, moments, strict=True)
    ]
    return pa.chunked_array([pa.array(numbers, arrow_type(aggregate.dtype))])


def _column(name: str, dtype: DataType | None, history: pa.Table, group: str) -> pa.ChunkedArray:
    """The column that a function is of; of `*` one without nulls."""
    if name == ROWS:
        return pa.chunked_array([pa.array([True] * history.num_rows, pa.bool_())])
    column = column_of(history, name)
    return column if dtype is None else conform_column(column, Column(name, dtype), what=f"feature group {group!r}")


def _comparable(column: pa.ChunkedArray) -> list[Any]:
    """A column's values for Python to compare. What has no order, and is never compared, only says that it is."""
    if pa.types.is_timestamp(column.type) or pa.types.is_duration(column.type):
        return list(column.cast(pa.int64()).to_pylist())
    if pa.types.is_nested(column.type):
        return [True if value.is_valid else None for value in column]
    return list(column.to_pylist())


def _known(time: Micros | None) -> Micros:
    assert time is not None, "an event without time is in no window"
    return time


def _lists(column: pa.ChunkedArray, lists: Sequence[Sequence[int]]) -> pa.ChunkedArray:
    """Lists of a column's values, by the numbers of their rows; none is null (WIN-4)."""
    offsets: list[int | None] = []
    rows: list[int] = []
    for each in lists:
        offsets.append(len(rows) if each else None)
        rows.extend(each)
    items = column.take(row_numbers(rows)).combine_chunks()
    made = pa.LargeListArray.from_arrays(pa.array([*offsets, len(rows)], pa.int64()), items)
    return pa.chunked_array([made])


# Functions that give values of the window


def _order(value: Any) -> tuple[int, Any]:
    """A value's place among values: a NaN equals itself and is greater than any number."""
    return (1, 0.0) if isinstance(value, float) and math.isnan(value) else (0, value)


def _present(pick: Callable[[Sequence[_Entry]], _Entry]) -> Callable[[Sequence[_Entry]], _Entry | None]:
    """A pick among the entries whose value is not null, if there are any."""

    def picked(entries: Sequence[_Entry]) -> _Entry | None:
        present = [entry for entry in entries if entry.value is not None]
        return pick(present) if present else None

    return picked


def _extreme_by(choose: Callable[..., Any]) -> Callable[[Sequence[_Entry]], _Entry | None]:
    """The entry whose `by` is least or greatest; of equal ones the newest."""

    def picked(entries: Sequence[_Entry]) -> _Entry | None:
        present = [entry for entry in entries if entry.value is not None and entry.by is not None]
        if not present:
            return None
        extreme = choose(_order(entry.by) for entry in present)
        return [entry for entry in present if _order(entry.by) == extreme][-1]

    return picked


def _by_frequency(entries: Sequence[_Entry]) -> list[_Entry]:
    """One entry per distinct value: the most frequent first, of equally frequent ones the smaller first."""
    counts: dict[tuple[int, Any], int] = {}
    holders: dict[tuple[int, Any], _Entry] = {}
    for entry in entries:
        place = _order(entry.value)
        counts[place] = counts.get(place, 0) + 1
        holders.setdefault(place, entry)
    return [holders[place] for place in sorted(counts, key=lambda place: (-counts[place], place))]


_PICKS: Final[dict[str, Callable[[Sequence[_Entry]], _Entry | None]]] = {
    "lag": lambda entries: entries[-1] if entries else None,  # whatever its value is, null too (LAG-1)
    "first": _present(lambda entries: entries[0]),
    "last": _present(lambda entries: entries[-1]),
    "min": _present(lambda entries: min(entries, key=lambda entry: _order(entry.value))),
    "max": _present(lambda entries: max(entries, key=lambda entry: _order(entry.value))),
    "mode": _present(lambda entries: _by_frequency(entries)[0]),
    "min_by": _extreme_by(min),
    "max_by": _extreme_by(max),
}
_LISTS: Final[dict[str, Callable[[Sequence[_Entry], int], Sequence[_Entry]]]] = {
    "first_n": lambda entries, count: entries[:count],
    "last_n": lambda entries, count: entries[-count:],
    "top_n": lambda entries, count: _by_frequency(entries)[:count],
}


# Functions that compute numbers


def _number(aggregate: Aggregate, entries: Sequence[_Entry], moment: Micros, group: str) -> Number | None:
    """The number that a function makes of a window's values; there are some, unless it counts them."""
    function = aggregate.function
    values = [entry.value for entry in entries]
    match function.name:
        case "count":
            return len(values)
        case "count_distinct":
            return len({_order(value) for value in values})
        case "approx_count_distinct":
            return _sketched_distinct(values)
        case "approx_quantile":
            return _sketched_quantile(values, function.parameters[0])
        case "sum":
            return _checked(_sum(values), aggregate, group)
        case "range":
            return _checked(_range(values), aggregate, group)
        case "mean":
            return _mean(values)
        case "var":
            return _variance(values)
        case "std":
            return _deviation(values)
        case "median":
            return _quantile(values, Fraction(1, 2))
        case "quantile":
            return _quantile(values, Fraction(str(function.parameters[0])))
        case "time_since_last":
            return (moment - entries[-1].time) / _MICROS
        case "decayed_sum":
            return _weighted(values, _weights(entries, function, moment))
        case "ewma":
            # as of the newest event, since only the ratio counts and far in the past every weight would be zero
            weights = _weights(entries, function, entries[-1].time)
            return _weighted(values, weights) / math.fsum(weights)
        case name:
            raise AssertionError(f"{name} computes no number of a window")


def _checked(number: Number, aggregate: Aggregate, group: str) -> Number:
    if isinstance(number, int) and not -_LARGEST - 1 <= number <= _LARGEST:
        raise ColumnTypeError(
            f"feature group {group!r}: {aggregate.function} of column {aggregate.column!r} is beyond 64 bits",
            found=str(number),
            try_=f"make {aggregate.column!r} a float64 in the group's transform",
            details={"column": aggregate.name, "declared": str(aggregate.dtype), "found_type": "integer"},
        )
    return number


def _special(values: Iterable[Number]) -> float | None:
    """What a sum is when not all of its terms are finite; None when they are."""
    odd = [value for value in values if isinstance(value, float) and not math.isfinite(value)]
    return sum(odd) if odd else None  # infinities of both signs are NaN


def _float(exact: Fraction) -> float:
    try:
        return float(exact)
    except OverflowError:
        return math.inf if exact > 0 else -math.inf


def _exact(values: Iterable[Number]) -> Fraction:
    return sum((Fraction(value) for value in values), Fraction(0))


def _sum(values: Sequence[Number]) -> Number:
    if not isinstance(values[0], float):
        return int(sum(values))
    special = _special(values)
    return _float(_exact(values)) if special is None else special


def _range(values: Sequence[Number]) -> Number:
    if any(math.isnan(value) for value in values):
        return math.nan
    return max(values) - min(values)


def _mean(values: Sequence[Number]) -> float:
    special = _special(values)
    return _float(_exact(values) / len(values)) if special is None else special


def _squares(values: Sequence[Number]) -> Fraction | None:
    """The variance of a sample, exactly; None when not all values are finite."""
    if _special(values) is not None:
        return None
    mean = _exact(values) / len(values)
    return sum(((Fraction(value) - mean) ** 2 for value in values), Fraction(0)) / (len(values) - 1)


def _variance(values: Sequence[Number]) -> float | None:
    if len(values) < 2:
        return None
    exact = _squares(values)
    return math.nan if exact is None else _float(exact)


def _deviation(values: Sequence[Number]) -> float | None:
    if len(values) < 2:
        return None
    exact = _squares(values)
    # by way of decimals, which have exponents to spare: the square of a small float is none
    return math.nan if exact is None else float((Decimal(exact.numerator) / Decimal(exact.denominator)).sqrt())


def _quantile(values: Sequence[Number], fraction: Fraction) -> float:
    """At position `fraction * (n - 1)` of the sorted values, between neighbours linearly (WIN-4)."""
    if any(math.isnan(value) for value in values):
        return math.nan
    in_order = sorted(values)
    position = fraction * (len(values) - 1)
    below, beyond = math.floor(position), position - math.floor(position)
    low = in_order[below]
    if not beyond or low == in_order[below + 1]:
        return float(low)
    high = in_order[below + 1]
    special = _special([low, high])
    return _float(Fraction(low) * (1 - beyond) + Fraction(high) * beyond) if special is None else special


def _weights(entries: Sequence[_Entry], function: Function, moment: Micros) -> list[float]:
    """`2**(-age / half-life)` of each event, seen from a moment."""
    (half_life,) = function.parameters
    return [2.0 ** -((moment - entry.time) / half_life) for entry in entries]


def _weighted(values: Sequence[Number], weights: Sequence[float]) -> float:
    special = _special(values)
    return math.fsum(map(math.prod, zip(values, weights, strict=True))) if special is None else special


def _sketched_distinct(values: Sequence[Any]) -> int:
    """HyperLogLog's estimate of how many values are distinct."""
    sketch = require("datasketches", extra="sketches").hll_sketch(_REGISTERS)
    for value in values:
        # distinct values have distinct texts; zeros of both signs are one; of an empty text a sketch takes no notice
        sketch.update("=0.0" if isinstance(value, float) and value == 0 else f"={value}")
    estimate: float = sketch.get_estimate()
    return round(estimate)


def _sketched_quantile(values: Sequence[Number], fraction: float) -> float:
    """KLL's estimate of a quantile: one of the values."""
    if any(math.isnan(value) for value in values):  # as for the exact quantile; a sketch would leave them out
        return math.nan
    sketch = require("datasketches", extra="sketches").kll_doubles_sketch(_KLL)
    for value in values:
        sketch.update(float(value))
    return float(sketch.get_quantile(fraction))


__all__ = ["function_column"]
