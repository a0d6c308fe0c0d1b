"""A second opinion on windows: what a windowed feature is, worked out from its definition by brute force.

It shares no code with any engine or kernel, and goes other ways: an event is in a window when a sentence about it is
true, not because of where it lies in a list. Rows are dicts, times microseconds. Ask `Oracle.answer`.
"""

from __future__ import annotations

import datetime as dt
import math
import statistics
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cmp_to_key
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa

from grange.plan.nodes import PointInTimeJoin, WindowJoin
from grange.types.aggregates import Aggregate

Row = Mapping[str, Any]
Condition = Callable[[Row], bool | None]

CONDITIONS: dict[str, Condition] = {
    "number > 0": lambda row: None if row["number"] is None else row["number"] > 0,
    "flag": lambda row: row["flag"],
    "flag IS NULL OR kind = 'a'": lambda row: (
        True if row["flag"] is None else None if row["kind"] is None else row["kind"] == "a"
    ),
    "kind IN ('a', 'b') AND number % 2 = 0": lambda row: conjunction(
        None if row["kind"] is None else row["kind"] in ("a", "b"),
        None if row["number"] is None else row["number"] % 2 == 0,
    ),
}
"""What the filters mean that are asked for in SQL, in the logic of three values."""


def conjunction(left: bool | None, right: bool | None) -> bool | None:
    if left is False or right is False:
        return False
    return None if left is None or right is None else True


@dataclass(frozen=True)
class AnyOf:
    """An answer for which several values would do."""

    values: tuple[Any, ...]


@dataclass(frozen=True)
class Answer:
    """A value, and what happened on the way to it."""

    value: Any
    traits: frozenset[str]
    """`late`: an event of the time that became known only after the moment asked for; `duplicate`: an event with
    several versions; `retracted`: an event that is taken back; `tied`: events of one time in the window; `empty`."""


@dataclass(frozen=True)
class Oracle:
    """The windows of one group."""

    join: WindowJoin
    as_known: bool
    rows: Sequence[Row]

    @classmethod
    def of(cls, node: PointInTimeJoin, events: pa.Table) -> Oracle:
        """The oracle of a node with a single join of windows, over the rows of its group."""
        (join,) = node.joins
        assert isinstance(join, WindowJoin)
        return cls(join, node.as_known, rows_of(events))

    def answer(self, aggregate: Aggregate, key: tuple[Any, ...], time: int | None) -> Answer:
        """The value of an aggregate for one entity key at one time."""
        if time is None:
            return Answer(None, frozenset())
        moment = time
        if aggregate.every is not None:
            passed = math.floor(Fraction(time - aggregate.offset, aggregate.every))
            moment = aggregate.offset + passed * aggregate.every
        if aggregate.function.name in CALENDAR:
            return Answer(CALENDAR[aggregate.function.name](moment, *aggregate.function.parameters), frozenset())
        traits: set[str] = set()
        mine = [row for row in self.rows if self.is_of(row, key)]
        seen = [row for row in mine if self.counts(row, mine, time, traits)]
        seen = [row for row in seen if self.is_visible(row, aggregate, moment)]
        if aggregate.filter is not None:
            seen = [row for row in seen if CONDITIONS[aggregate.filter](row) is True]
        window = [row for row in seen if self.is_inside(row, seen, aggregate, moment - aggregate.shift)]
        window.sort(key=cmp_to_key(self.compare_ages))
        times = [row[self.join.event_time] for row in window]
        traits |= {"tied"} if len(set(times)) < len(times) else set()
        traits |= {"empty"} if not window else set()
        value = value_of(aggregate, window, [moment - time for time in times])
        return Answer(value, frozenset(traits))

    def is_of(self, row: Row, key: tuple[Any, ...]) -> bool:
        own = [row[of_group] for _, of_group in self.join.keys]
        return all(a is not None and b is not None and a == b for a, b in zip(own, key, strict=True))

    def is_known(self, row: Row, moment: int) -> bool:
        created = None if self.join.created_time is None else row[self.join.created_time]
        return not self.as_known or created is None or created <= moment

    def counts(self, row: Row, mine: Sequence[Row], moment: int, traits: set[str]) -> bool:
        """Whether this is the version of its event that counts, as far as is known."""
        created = None if self.join.created_time is None else row[self.join.created_time]
        event_time = row[self.join.event_time]
        if created is not None and event_time is not None and event_time <= moment < created:
            traits.add("late")
        if not self.is_known(row, moment):
            return False
        if self.join.event_id is not None and row[self.join.event_id] is not None:
            for other in mine:
                if other is row or other[self.join.event_id] != row[self.join.event_id]:
                    continue
                if self.is_known(other, moment):
                    traits.add("duplicate")
                    if self.written_after(other, row):
                        return False
        if self.join.retracted is not None and row[self.join.retracted]:
            traits.add("retracted")
            return False
        return True

    def written_after(self, left: Row, right: Row) -> bool:
        if self.join.created_time is not None:
            a, b = left[self.join.created_time], right[self.join.created_time]
            if a != b:
                return b is None or (a is not None and a > b)
        return left["__sequence"] > right["__sequence"]

    def compare_ages(self, left: Row, right: Row) -> int:
        if left is right:
            return 0
        a, b = left[self.join.event_time], right[self.join.event_time]
        if a != b:
            return -1 if a < b else 1
        return 1 if self.written_after(left, right) else -1

    def is_visible(self, row: Row, aggregate: Aggregate, moment: int) -> bool:
        time = row[self.join.event_time]
        if time is None or time > moment or (time == moment and not self.join.exact_matches):
            return False
        age = moment - time - (aggregate.shift if aggregate.function.name == "lag" else 0)
        return self.join.ttl is None or age <= self.join.ttl

    def is_inside(self, row: Row, seen: Sequence[Row], aggregate: Aggregate, end: int) -> bool:
        """Whether an event is in the window that ends at `end`, among those that are visible and match."""
        window, name = aggregate.window, self.join.event_time
        until = {"right": int.__le__, "both": int.__le__, "left": int.__lt__, "none": int.__lt__}[aggregate.closed]
        if not until(row[name], end):
            return False
        age = end - row[name]
        if window.kind == "time":
            inclusive = aggregate.closed in ("left", "both") or aggregate.function.name == "lag"
            return age < window.size or (inclusive and age == window.size)
        if window.kind == "lifetime":
            return True
        after = [other for other in seen if until(other[name], end) and self.compare_ages(row, other) < 0]
        if window.kind == "rows":
            return len(after) < window.size
        moments = sorted([row[name], *(other[name] for other in after), end])
        return all(later - earlier <= window.size for earlier, later in pairwise(moments))


def rows_of(table: pa.Table) -> list[Row]:
    """The rows as dicts; times and lengths of time as their microseconds."""
    columns = {name: in_micros(table.column(name).to_pylist()) for name in table.column_names}
    return [{name: values[number] for name, values in columns.items()} for number in range(table.num_rows)]


def in_micros(value: Any) -> Any:
    match value:
        case dt.datetime():
            return (value - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)) // dt.timedelta(microseconds=1)
        case dt.timedelta():
            return value // dt.timedelta(microseconds=1)
        case list():
            return [in_micros(item) for item in value]
        case _:
            return value


# Functions


def value_of(aggregate: Aggregate, window: Sequence[Row], ages: Sequence[int]) -> Any:
    """The function of the rows of a window, oldest first."""
    name, parameters = aggregate.function.name, aggregate.function.parameters
    if name == "lag":
        return window[-1][aggregate.column] if window else None
    if aggregate.column == "*":
        pairs = [(True, age) for age in ages]
    elif name in ("min_by", "max_by"):
        return extreme_by(name, [(row[parameters[0]], row[aggregate.column]) for row in window])
    else:
        found = [(row[aggregate.column], age) for row, age in zip(window, ages, strict=True)]
        pairs = [(value, age) for value, age in found if value is not None]
    values = [value for value, _ in pairs]
    if name in ("count", "count_distinct", "approx_count_distinct"):
        return len(values) if name == "count" else len(distinct(values))
    if not values:
        return None
    if name == "time_since_last":
        return min(age for _, age in pairs) / 1e6
    if name in ("decayed_sum", "ewma"):
        return decayed(name, pairs, parameters[0])
    return FUNCTIONS[name](values, *parameters)


def is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)


def less(left: Any, right: Any) -> bool:
    """The order of values: a NaN is above all others."""
    if is_nan(left) or is_nan(right):
        return not is_nan(left) and is_nan(right)
    return bool(left < right)


def distinct(values: Sequence[Any]) -> list[Any]:
    """The distinct values, in order."""
    found: list[Any] = []
    for value in values:
        if not any(value == other or (is_nan(value) and is_nan(other)) for other in found):
            found.append(value)
    return sorted(found, key=cmp_to_key(lambda a, b: -1 if less(a, b) else 1))


def extreme_by(name: str, pairs: Sequence[tuple[Any, Any]]) -> Any:
    best: tuple[Any, Any] | None = None
    for by, value in pairs:  # oldest first, so that of equal ones the newest stays
        if by is None or value is None:
            continue
        if best is None or not (less(best[0], by) if name == "min_by" else less(by, best[0])):
            best = by, value
    return None if best is None else best[1]


def frequencies(values: Sequence[Any], count: int) -> list[Any]:
    counts = Counter("nan" if is_nan(value) else value for value in values)
    in_order = distinct(values)
    ranked = sorted(in_order, key=lambda value: -counts["nan" if is_nan(value) else value])  # stable
    return ranked[:count]


def odd(values: Sequence[Any]) -> float | None:
    """What becomes of a sum that is not finite."""
    if any(is_nan(value) for value in values) or {math.inf, -math.inf} <= {*map(float, values)}:
        return math.nan
    return next((value for value in values if value in (math.inf, -math.inf)), None)


def total(values: Sequence[Any]) -> Any:
    if isinstance(values[0], float):
        special = odd(values)
        return math.fsum(values) if special is None else special
    return sum(map(int, values))


def mean(values: Sequence[Any]) -> float:
    special = odd(values)
    return float(statistics.mean(map(Fraction, values))) if special is None else special


def variance(values: Sequence[Any]) -> float | None:
    if len(values) < 2:
        return None
    return math.nan if odd(values) is not None else float(statistics.variance(list(map(Fraction, values))))


def deviation(values: Sequence[Any]) -> float | None:
    found = variance(values)
    return None if found is None else math.sqrt(found)


def spread(values: Sequence[Any]) -> Any:
    return math.nan if any(map(is_nan, values)) else max(values) - min(values)


def quantile(values: Sequence[Any], fraction: float) -> float:
    if any(map(is_nan, values)):
        return math.nan
    in_order, place = sorted(values), fraction * (len(values) - 1)
    below = int(place)
    above = min(below + 1, len(values) - 1)
    return float(in_order[below] * (1 - (place - below)) + in_order[above] * (place - below))


def near_quantile(values: Sequence[Any], fraction: float) -> AnyOf:
    """The values whose rank is the wanted one, or next to it: a sketch of few values knows them all."""
    in_order, rank = sorted(values), fraction * len(values)
    last = len(values) - 1
    places = {min(max(place, 0), last) for place in (math.floor(rank) - 1, math.floor(rank), math.ceil(rank))}
    return AnyOf(tuple(float(in_order[place]) for place in sorted(places)))


def decayed(name: str, pairs: Sequence[tuple[Any, int]], half_life: int) -> float:
    if any(is_nan(value) for value, _ in pairs):
        return math.nan
    newest = min(age for _, age in pairs) if name == "ewma" else 0
    weights = [math.exp2(-(age - newest) / half_life) for _, age in pairs]
    top = math.fsum(value * weight for (value, _), weight in zip(pairs, weights, strict=True))
    return top / math.fsum(weights) if name == "ewma" else top


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "sum": total,
    "mean": mean,
    "min": lambda values: distinct(values)[0],
    "max": lambda values: distinct(values)[-1],
    "std": deviation,
    "var": variance,
    "range": spread,
    "median": lambda values: quantile(values, 0.5),
    "quantile": quantile,
    "mode": lambda values: frequencies(values, 1)[0],
    "top_n": frequencies,
    "first": lambda values: values[0],
    "last": lambda values: values[-1],
    "first_n": lambda values, count: list(values[:count]),
    "last_n": lambda values, count: list(values[max(0, len(values) - count) :]),
    "approx_quantile": near_quantile,
}


def clock(moment: int, zone: str) -> dt.datetime:
    return dt.datetime.fromtimestamp(moment // 1_000_000, ZoneInfo(zone))


def holiday(moment: int, zone: str, country: str) -> str | None:
    import holidays

    code, _, part = country.partition("-")
    language = holidays.country_holidays(code, subdiv=part or None).default_language
    return holidays.country_holidays(code, subdiv=part or None, language=language).get(clock(moment, zone).date())


CALENDAR: dict[str, Callable[..., Any]] = {
    "hour": lambda moment, zone: clock(moment, zone).hour,
    "weekday": lambda moment, zone: clock(moment, zone).isoweekday() - 1,
    "day": lambda moment, zone: clock(moment, zone).day,
    "month": lambda moment, zone: clock(moment, zone).month,
    "weekend": lambda moment, zone: clock(moment, zone).isoweekday() in (6, 7),
    "holiday": lambda moment, zone, country: holiday(moment, zone, country) is not None,
    "holiday_name": holiday,
}


def agree(found: Any, expected: Any) -> bool:
    """Whether an engine's value is the oracle's: floats within 1e-9 of the larger, everything else exactly."""
    if isinstance(expected, AnyOf):
        return any(agree(found, value) for value in expected.values)
    if isinstance(expected, float) and isinstance(found, float):
        return (is_nan(found) and is_nan(expected)) or math.isclose(found, expected, rel_tol=1e-9, abs_tol=0.0)
    if isinstance(expected, list) and isinstance(found, list):
        return len(found) == len(expected) and all(map(agree, found, expected))
    return type(found) is type(expected) and bool(found == expected)
