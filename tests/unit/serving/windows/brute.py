"""The oracle: every aggregate worked out of the list of all events, in plain Python, sharing no code with the state."""

from __future__ import annotations

import decimal
import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from grange.serving.windows import Event
from grange.types import DataType
from grange.types.aggregates import Aggregate


def counting(events: Sequence[Event]) -> list[Event]:
    """The events that count, in PIT-3 order (WIN-6)."""
    last: dict[Any, tuple[Any, Event]] = {}
    for number, event in enumerate(events):
        name = ("alone", number) if event.id is None else ("id", event.id)
        written = (event.created is not None, event.created or 0, event.sequence, number)
        if name not in last or written > last[name][0]:
            last[name] = written, event
    current = [pair for pair in last.values() if not pair[1].retracted]

    def place(pair: tuple[Any, Event]) -> Any:
        written, event = pair
        return event.event_time, *written

    return [event for _, event in sorted(current, key=place)]


def value(
    aggregate: Aggregate,
    events: Sequence[Event],
    columns: Sequence[str],
    filters: Sequence[str],
    *,
    now: int,
    exact_matches: bool,
    ttl: int | None,
) -> Any:
    """The aggregate at `now`, the five steps of its docstring one after another. `events` are those that count."""
    t = now
    if aggregate.every is not None:
        while (t - aggregate.offset) % aggregate.every:
            t -= 1
    end = t - aggregate.shift
    lag = aggregate.function.name == "lag"
    seen = [event for event in events if (event.event_time <= t if exact_matches else event.event_time < t)]
    if ttl is not None:
        seen = [event for event in seen if (end if lag else t) - event.event_time <= ttl]
    if aggregate.filter is not None:
        bit = list(filters).index(aggregate.filter)
        seen = [event for event in seen if event.filters >> bit & 1]
    at_end = aggregate.closed in ("right", "both")
    seen = [event for event in seen if event.event_time < end or (at_end and event.event_time == end)]
    window = aggregate.window
    match window.kind:
        case "time":
            at_start = lag or aggregate.closed in ("left", "both")
            begin = end - window.size
            seen = [event for event in seen if event.event_time > begin or (at_start and event.event_time == begin)]
        case "rows":
            seen = seen[-window.size :]
        case "session":
            session: list[Event] = []
            until = end
            for event in reversed(seen):
                if until - event.event_time > window.size:
                    break
                session.append(event)
                until = event.event_time
            seen = session[::-1]
    get = {name: place for place, name in enumerate(columns)}
    if lag:
        return seen[-1].values[get[aggregate.column]] if seen else None
    if aggregate.column != "*":
        seen = [event for event in seen if event.values[get[aggregate.column]] is not None]
    if aggregate.by is not None:
        seen = [event for event in seen if event.values[get[aggregate.by]] is not None]
    return computed(aggregate, seen, get, t)


def computed(aggregate: Aggregate, seen: Sequence[Event], get: dict[str, int], t: int) -> Any:
    """Step five. OverflowError when an integer result has more than 64 bits."""
    name, parameters = aggregate.function.name, aggregate.function.parameters
    if name == "count":
        return len(seen)
    values = seen if aggregate.column == "*" else [event.values[get[aggregate.column]] for event in seen]
    if name == "count_distinct":
        return len({comparable(each, aggregate) for each in values})
    if not seen:
        return None
    if name == "time_since_last":
        return (t - seen[-1].event_time) / 1e6
    if name in ("first", "last", "first_n", "last_n"):
        count = parameters[0] if parameters else 1
        ends = values[-count:] if name.startswith("last") else values[:count]
        return list(ends) if parameters else ends[0]
    if name in ("min_by", "max_by"):
        best = seen[0]
        for event in seen[1:]:
            mine, other = (ordered(each.values[get[aggregate.by]], aggregate.by_input) for each in (event, best))
            if mine >= other if name == "max_by" else mine <= other:
                best = event
        return best.values[get[aggregate.column]]
    if name in ("min", "max"):
        pick = min if name == "min" else max
        return pick(values, key=lambda each: comparable(each, aggregate))
    if name in ("mode", "top_n"):
        keys = [comparable(each, aggregate) for each in values]
        ranked = sorted(set(keys), key=lambda key: (-keys.count(key), key))
        shown = [values[keys.index(key)] for key in ranked[: parameters[0] if parameters else 1]]
        return shown if parameters else shown[0]
    return of_numbers(name, parameters, values, [t - event.event_time for event in seen])


def comparable(each: Any, aggregate: Aggregate) -> Any:
    return ordered(each, aggregate.input)


def ordered(each: Any, dtype: DataType | None) -> Any:
    assert dtype is not None
    return decimal.Decimal(each) if dtype.kind == "decimal" else by_order(each)


def by_order(each: Any) -> Any:
    if isinstance(each, float):
        return (True, 0.0) if math.isnan(each) else (False, each)
    return each


def of_numbers(name: str, parameters: Sequence[Any], values: Sequence[Any], ages: Sequence[int]) -> Any:
    floating = isinstance(values[0], float)
    if any(each != each for each in values):
        return None if name in ("std", "var") and len(values) < 2 else math.nan
    count = len(values)
    if name == "range":
        return max(values) - min(values) if floating else fits(max(values) - min(values))
    if name in ("median", "quantile"):
        ordered = sorted(values)
        position = (parameters[0] if parameters else 0.5) * (count - 1)
        below = int(position)
        low, high = float(ordered[below]), float(ordered[min(below + 1, count - 1)])
        part = position - below
        return low if low == high or not part else low * (1 - part) + high * part
    if any(math.isinf(each) for each in values):
        return of_infinities(name, values)
    exact = [Fraction(each) for each in values]
    total = sum(exact, Fraction(0))
    match name:
        case "sum":
            return rounded(total) if floating else fits(int(total))
        case "mean":
            return rounded(total / count)
        case "var" | "std":
            if count < 2:
                return None
            middle = total / count
            variance = rounded(sum(((each - middle) ** 2 for each in exact), Fraction(0)) / (count - 1))
            return math.sqrt(variance) if name == "std" else variance
        case "decayed_sum":
            return math.fsum(each * 2.0 ** (-age / parameters[0]) for each, age in zip(values, ages, strict=True))
        case "ewma":
            weights = [2.0 ** (-(age - min(ages)) / parameters[0]) for age in ages]
            return math.fsum(w * each for w, each in zip(weights, values, strict=True)) / math.fsum(weights)
    raise AssertionError(name)


def of_infinities(name: str, values: Sequence[float]) -> float | None:
    if name in ("var", "std"):
        return None if len(values) < 2 else math.nan
    return sum(each for each in values if math.isinf(each))


def rounded(number: Fraction) -> float:
    try:
        return float(number)
    except OverflowError:
        return math.inf if number > 0 else -math.inf


def fits(number: int) -> int:
    if not -(2**63) <= number < 2**63:
        raise OverflowError
    return int(number)
