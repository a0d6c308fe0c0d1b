"""The windows of a spine by the docstrings alone: a loop per row, whole numbers and fractions, and no NumPy."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from grange.types.aggregates import Aggregate


@dataclass(frozen=True)
class Row:
    """A row of the events' table. Times are microseconds."""

    key: Any
    time: int | None
    created: int | None = None
    sequence: int = 0
    event_id: Any = None
    retracted: bool | None = None
    values: dict[str, Any] = field(default_factory=dict)
    matches: bool = True


def written(row: Row) -> tuple[bool, int, int]:
    return row.created is not None, row.created or 0, row.sequence


def visible(rows: list[Row], key: Any, moment: int, *, as_known: bool) -> list[Row]:
    """The rows of a key that count at a moment, in PIT-3 order, whatever their event time."""
    mine = [row for row in rows if row.key == key and key is not None]
    if as_known:
        mine = [row for row in mine if row.created is None or row.created <= moment]
    last: dict[Any, Row] = {}
    for row in mine:
        if row.event_id is not None and (row.event_id not in last or written(row) > written(last[row.event_id])):
            last[row.event_id] = row
    counting = [row for row in mine if row.event_id is None or last[row.event_id] is row]
    counting = [row for row in counting if not row.retracted and row.time is not None]
    return sorted(counting, key=lambda row: (row.time, *written(row)))


def window(
    rows: list[Row], key: Any, at: int, aggregate: Aggregate, *, ttl: int | None, exact: bool, as_known: bool
) -> tuple[int, list[Row]]:
    """The moment that a value is as of, and the rows that its window holds, oldest first."""
    moment = at if aggregate.every is None else at - (at - aggregate.offset) % aggregate.every
    end = moment - aggregate.shift
    lag = aggregate.function.name == "lag"
    held = []
    for row in visible(rows, key, at, as_known=as_known):
        assert row.time is not None
        if row.time > moment or (row.time == moment and not exact):
            continue
        if ttl is not None and (end if lag else moment) - row.time > ttl:
            continue
        if row.time > end or (row.time == end and aggregate.closed in ("left", "none")):
            continue
        if row.matches or aggregate.filter is None:
            held.append(row)
    size = aggregate.window.size
    if aggregate.window.kind == "rows":
        held = held[-size:]
    if aggregate.window.kind == "time":
        both = lag or aggregate.closed in ("left", "both")
        held = [row for row in held if end - row.time < size or (both and end - row.time == size)]
    if aggregate.window.kind == "session":
        session: list[Row] = []
        edge = end
        for row in reversed(held):
            if edge - row.time > size:
                break
            session.insert(0, row)
            edge = row.time
        held = session
    return moment, held


class Overflow(Exception):
    """A whole number that needs more than 64 bits."""


def order(value: Any) -> Any:
    """A key by which values sort, NaN behind all."""
    if isinstance(value, float):
        return (value != value, 0.0 if value != value else value)
    return (False, value)


def answer(
    rows: list[Row],
    key: Any,
    at: int | None,
    aggregate: Aggregate,
    *,
    ttl: int | None = None,
    exact: bool = True,
    as_known: bool = False,
) -> Any:
    """The value of an aggregate for one spine row."""
    if at is None:
        return None
    moment, held = window(rows, key, at, aggregate, ttl=ttl, exact=exact, as_known=as_known)
    name, parameters = aggregate.function.name, aggregate.function.parameters
    if name == "lag":
        return held[-1].values[aggregate.column] if held else None
    if aggregate.column != "*":
        held = [row for row in held if all(row.values[column] is not None for column in aggregate.columns)]
    if name == "count":
        return len(held)
    if name == "time_since_last":
        return (moment - held[-1].time) / 1e6 if held else None
    values = [row.values[aggregate.column] for row in held]
    if name in ("count_distinct", "approx_count_distinct"):
        return len({order(value) for value in values})
    if not values:
        return None
    match name:
        case "first":
            return values[0]
        case "last":
            return values[-1]
        case "first_n":
            return values[: parameters[0]]
        case "last_n":
            return values[-parameters[0] :]
        case "min":
            return min(values, key=order)
        case "max":
            return max(values, key=order)
        case "mode" | "top_n":
            tally = Counter(order(value) for value in values)
            best = sorted(tally, key=lambda value: (-tally[value], value))
            shown = {order(value): value for value in values}
            return shown[best[0]] if name == "mode" else [shown[value] for value in best[: parameters[0]]]
        case "min_by" | "max_by":
            by = [order(row.values[parameters[0]]) for row in held]
            wanted = min(by) if name == "min_by" else max(by)
            return [value for value, compared in zip(values, by, strict=True) if compared == wanted][-1]
    return number(name, parameters, values, [(moment - row.time) for row in held])


def number(name: str, parameters: tuple[Any, ...], values: list[Any], ages: list[int]) -> Any:
    """Functions of numbers."""
    whole = not isinstance(values[0], float)
    if any(value != value for value in values):
        return math.nan if name not in ("std", "var") or len(values) > 1 else None
    match name:
        case "sum":
            return fits(sum(values)) if whole else float_sum(values)
        case "mean":
            return mean(values)
        case "range":
            return fits(max(values) - min(values)) if whole else max(values) - min(values)
        case "std" | "var":
            if len(values) < 2:
                return None
            if any(math.isinf(value) for value in values):
                return math.nan
            exact = [Fraction(value) for value in values]
            middle = sum(exact) / len(exact)
            variance = sum((value - middle) ** 2 for value in exact) / (len(exact) - 1)
            return root(variance) if name == "std" else rounded(variance)
        case "median":
            return quantile(values, 0.5)
        case "quantile":
            return quantile(values, parameters[0])
        case "decayed_sum":
            return float_sum(
                [
                    float(v) * weight(age, parameters[0]) if math.isfinite(v) else v
                    for v, age in zip(values, ages, strict=True)
                ]
            )
        case "ewma":
            weights = [weight(age - min(ages), parameters[0]) for age in ages]
            terms = [float(v) * w if math.isfinite(v) else v for v, w in zip(values, weights, strict=True)]
            return float_sum(terms) / math.fsum(weights)
        case _:
            raise AssertionError(name)


def weight(age: int, half_life: int) -> float:
    return 2.0 ** (-age / half_life)


def fits(value: int) -> int:
    if not -(2**63) <= value < 2**63:
        raise Overflow
    return int(value)


def rounded(value: Fraction) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def root(value: Fraction) -> float:
    if not value:
        return 0.0
    shift = 2 * (200 - (value.numerator.bit_length() - value.denominator.bit_length()) // 2)
    return rounded(Fraction(math.isqrt(int(value * Fraction(2) ** shift))) / Fraction(2) ** (shift // 2))


def float_sum(values: list[float]) -> float:
    infinite = {value for value in values if math.isinf(value)}
    if infinite:
        return math.nan if len(infinite) == 2 else infinite.pop()
    return rounded(sum((Fraction(value) for value in values), Fraction(0)))


def mean(values: list[Any]) -> float:
    infinite = {value for value in values if math.isinf(value)}
    if infinite:
        return math.nan if len(infinite) == 2 else infinite.pop()
    return rounded(sum((Fraction(value) for value in values), Fraction(0)) / len(values))


def quantile(values: list[Any], fraction: float) -> float:
    ascending = sorted(float(value) for value in values)
    place = fraction * (len(values) - 1)
    below = math.floor(place)
    part = Fraction(place) - below
    lower = ascending[below]
    if not part or ascending[below + 1] == lower:
        return lower
    upper = ascending[below + 1]
    if math.isinf(lower) or math.isinf(upper):
        return math.nan if math.isinf(lower) and math.isinf(upper) else lower + upper
    return float(Fraction(lower) * (1 - part) + Fraction(upper) * part)
