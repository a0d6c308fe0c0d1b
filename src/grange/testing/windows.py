"""Random windows: events of every kind, aggregates of every function, spines, small and unkind.

One description of what is drawn, for two who draw: a seeded generator, for many cases, and Hypothesis, which shrinks
(`grange.testing.strategies.window_joins`). Times come from a few steps, so that events lie exactly on the ends of
windows, tie, come late, are corrected and taken back often rather than by luck.

What no law decides is never drawn: rows of equal sequence. Nor is what no two orders of summation agree on within
the tolerance of computed floats: the columns of statistics hold multiples of 1/4, and those of decayed sums one sign.
"""

from __future__ import annotations

import datetime as dt
import math
import random
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from importlib.util import find_spec
from typing import Any, Final, Protocol, TypeVar, get_args

import pyarrow as pa

from grange.frames import Rows
from grange.plan.nodes import Input, Output, PointInTimeJoin, WindowJoin
from grange.types import DataType, parse_dtype
from grange.types.aggregates import FUNCTIONS, LIFETIME, ROWS, Aggregate, Closed, Function, Window, output_dtype
from grange.types.arrow import TIMESTAMP, arrow_type
from grange.types.names import SEQUENCE

T = TypeVar("T")

_NAN: Final = math.nan

COLUMNS: Final[Mapping[str, tuple[str, tuple[Any, ...]]]] = {
    "amount": ("float64", (1.0, 0.25, -2.5, 3.0, 0.0, -0.0, 100.75, _NAN)),
    "number": ("int64", (1, 2, 3, -3, 0, 100)),
    "weight": ("float64", (1.0, 0.25, 2.5, 3.0, 40.75)),
    "wild": ("float64", (0.1, 1e300, -1e300, 1e-300, math.inf, -math.inf, _NAN, -0.0, 0.0)),
    "small": ("float32", (0.5, -0.25, 3.0, _NAN)),
    "byte": ("uint8", (0, 1, 255)),
    "large": ("int64", ((1 << 53) + 1, 1 << 53, -(1 << 61), 7)),
    "flag": ("boolean", (True, False)),
    "kind": ("string", ("a", "b", "", "é", "B")),
    "day": ("date", (dt.date(2026, 1, 1), dt.date(1969, 12, 31), dt.date(2026, 1, 2))),
    "moment": ("datetime", (0, 1, -1, 1_767_225_600_000_000)),
    "took": ("duration", (dt.timedelta(0), dt.timedelta(microseconds=1), dt.timedelta(days=-1))),
    "price": ("decimal(12,2)", (Decimal("0.10"), Decimal("-0.10"), Decimal("9999999999.99"))),
    "ticket": ("uuid", tuple(str(uuid.UUID(int=number)) for number in (0, 1, (1 << 128) - 1))),
    "blob": ("binary", (b"", b"\x00", b"a")),
    "tags": ("list[string]", (["x"], [], ["y", None])),
    "place": ("struct{a:int64,b:string}", ({"a": 1, "b": "x"}, {"a": None, "b": ""})),
}
"""By base column its type, and the values that are drawn; nulls come besides."""

FILTERS: Final = ("number > 0", "flag", "flag IS NULL OR kind = 'a'", "kind IN ('a', 'b') AND number % 2 = 0")
"""The conditions that are drawn; for some rows each of them is null."""

ZONES: Final = ("UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata")
COUNTRIES: Final = ("DE", "US-CA", "JP")

_STATISTICS: Final = ("amount", "number", "small", "byte", "flag")
_ORDERED: Final = tuple(name for name in COLUMNS if name not in ("blob", "tags", "place"))
_SINGLE: Final = tuple(name for name in COLUMNS if name not in ("tags", "place"))
_POSITIVE: Final = ("weight", "byte", "flag")

_INPUTS: Final[Mapping[str, Sequence[str]]] = {
    "count": (*COLUMNS, *[ROWS] * 4),
    "sum": (*_STATISTICS, "wild"),
    "mean": (*_STATISTICS, "wild"),
    "range": (*_STATISTICS, "weight"),
    **dict.fromkeys(("std", "var", "median", "quantile"), (*_STATISTICS, "weight")),
    **dict.fromkeys(("min", "max", "mode", "top_n"), _ORDERED),
    **dict.fromkeys(("count_distinct", "approx_count_distinct"), _SINGLE),
    **dict.fromkeys(("first", "last", "first_n", "last_n", "min_by", "max_by", "lag"), tuple(COLUMNS)),
    **dict.fromkeys(("decayed_sum", "ewma"), _POSITIVE),
    "time_since_last": (*COLUMNS, *[ROWS] * 4),
    "approx_quantile": ("weight", "number", "byte"),
}
"""By function, the columns that it is drawn over."""

_STARTS: Final = (0, -7_000_003, 1_774_656_000_000_000)
"""Where a history's time begins, in microseconds; the last one the day before clocks change in Europe."""
_STEPS: Final = (1, 1_000_000, 3_600_000_000)
_SPAN: Final = 16
"""The steps over which events are spread."""
_FRACTIONS: Final = (0.0, 0.25, 0.5, 0.75, 0.9375, 1.0)
"""Exact in binary, so that a quantile that is zero is zero for everybody."""


class Choices(Protocol):
    """Who draws."""

    def of(self, options: Sequence[T]) -> T:
        """One of some options; the first is the simplest."""
        ...

    def between(self, low: int, high: int) -> int:
        """A whole number, both ends included."""
        ...

    def several(self, make: Callable[[Choices], T], low: int, high: int) -> list[T]:
        """From `low` to `high` things, each drawn anew."""
        ...


class SeededChoices:
    """Draws from a generator: the same seed gives the same choices, everywhere."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)  # nothing secret

    def of(self, options: Sequence[T]) -> T:
        """See `Choices.of`."""
        return options[self._random.randrange(len(options))]

    def between(self, low: int, high: int) -> int:
        """See `Choices.between`."""
        return self._random.randint(low, high)

    def several(self, make: Callable[[Choices], T], low: int, high: int) -> list[T]:
        """See `Choices.several`."""
        return [make(self) for _ in range(self.between(low, high))]


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is drawn: the least and the most of each."""

    events: tuple[int, int] = (0, 24)
    spine: tuple[int, int] = (0, 8)
    aggregates: tuple[int, int] = (1, 4)


@dataclass(frozen=True, slots=True)
class WindowExample:
    """A join of one group's windows, and the rows that its inputs name: `spine`, and `events`."""

    node: PointInTimeJoin
    inputs: Mapping[str, Rows]

    @property
    def join(self) -> WindowJoin:
        """The node's only join."""
        (join,) = self.node.joins
        assert isinstance(join, WindowJoin)
        return join


def functions_offered() -> tuple[str, ...]:
    """The functions that can be drawn: those whose optional package is installed."""
    missing = {"approx_": find_spec("datasketches") is None, "holiday": find_spec("holidays") is None}
    return tuple(
        name for name in FUNCTIONS if not any(name.startswith(stem) and gone for stem, gone in missing.items())
    )


def draw_windows(choices: Choices, sizes: Sizes) -> WindowExample:
    """A join of random aggregates over a random history onto a random spine."""
    step = choices.of(_STEPS)
    drawn = choices.several(lambda each: draw_aggregate(each, step), *sizes.aggregates)
    aggregates = tuple(replace(aggregate, name=f"feature{number}") for number, aggregate in enumerate(drawn))
    traits = _draw_traits(choices, step, _used(aggregates))
    rows = choices.several(lambda each: _draw_event(each, traits), *sizes.events)
    asked = choices.several(lambda each: _draw_asked(each, traits), *sizes.spine)
    join = WindowJoin(
        group="events",
        version="1.0.0",
        rows=Input("events"),
        keys=tuple((f"asked_{name}", name) for name in traits.keys),
        event_time="f",
        created_time="c" if traits.created else None,
        event_id="id" if traits.identified else None,
        retracted="gone" if traits.identified and choices.of([True, True, False]) else None,
        ttl=choices.of([None, None, 3 * traits.step, 9 * traits.step, 9 * traits.step + 1]),
        exact_matches=choices.of([True, True, False]),
        aggregates=aggregates,
        outputs=tuple(_draw_output(choices, aggregate) for aggregate in aggregates),
    )
    node = PointInTimeJoin(Input("spine"), "t", (join,), as_known=choices.of([False, True]))
    events = _events_table(rows, traits, stride=choices.of(_STRIDES))
    return WindowExample(node, {"spine": Rows(arrow=_spine_table(asked, traits)), "events": Rows(arrow=events)})


def draw_aggregate(choices: Choices, step: int) -> Aggregate:
    """One aggregate of a random function of a random column, called `feature`; windows are a few steps long."""
    name = choices.of(functions_offered())
    if FUNCTIONS[name].tally == "time":
        parameters = (choices.of(ZONES), *([choices.of(COUNTRIES)] if name.startswith("holiday") else []))
        function = Function(name, parameters)
        every = choices.of([None, None, 5 * step])
        return Aggregate("feature", function, ROWS, LIFETIME, output_dtype(function, None), every=every)
    column = choices.of(_INPUTS[name])
    function = Function(name, tuple(_draw_parameter(choices, kind, step) for kind in FUNCTIONS[name].parameters))
    dtype = None if column == ROWS else parse_dtype(COLUMNS[column][0])
    every = choices.of([None, None, 2 * step, 5 * step, 7 * step])
    lag = name == "lag"
    closed: Closed = "right" if lag else choices.of(get_args(Closed))
    return Aggregate(
        name="feature",
        function=function,
        column=column,
        window=choices.of(_lags(step) if lag else _windows(step)),
        dtype=output_dtype(function, dtype),
        input=dtype,
        by_input=parse_dtype(COLUMNS[function.parameters[0]][0]) if name in ("min_by", "max_by") else None,
        closed=closed,
        every=every,
        offset=0 if every is None else choices.of([0, step, every - 1]),
        shift=choices.of([0, 0, 0, step, 4 * step]),
        filter=choices.of([None, None, None, *FILTERS]),
    )


def _used(aggregates: Iterable[Aggregate]) -> tuple[str, ...]:
    """The base columns that aggregates and their filters look at, in the order of `COLUMNS`; at least one."""
    names = {name for aggregate in aggregates for name in aggregate.columns}
    if any(aggregate.filter is not None for aggregate in aggregates):
        names |= {"number", "flag", "kind"}
    return tuple(name for name in COLUMNS if name in names) or ("number",)


def _windows(step: int) -> list[Window]:
    lengths = [Window("time", size) for size in (step, 2 * step, 5 * step, 12 * step, 12 * step + 1)]
    rows = [Window("rows", size) for size in (1, 2, 4)]
    sessions = [Window("session", size) for size in (step, 2 * step)]
    return [*lengths, *rows, *sessions, LIFETIME, LIFETIME]


def _lags(step: int) -> list[Window]:
    """Without a tolerance, and with one."""
    return [LIFETIME, Window("time", step), Window("time", 5 * step)]


def _draw_parameter(choices: Choices, kind: str, step: int) -> Any:
    match kind:
        case "fraction":
            return choices.of(_FRACTIONS)
        case "count":
            return choices.of((1, 2, 5))
        case "duration":
            return choices.of((step, 3 * step, 10 * step))
        case _:
            return choices.of(_ORDERED)


def _draw_output(choices: Choices, aggregate: Aggregate) -> Output:
    default = 7 if aggregate.dtype == _INTEGER and choices.of([False, False, True]) else None
    return Output(aggregate.name, f"out_{aggregate.name}", aggregate.dtype, default)


_INTEGER: Final = DataType("int64")
_STRIDES: Final = (1, 5, 100)
"""What one row's sequence is more than the row's before it, modulo `_SEQUENCES`; the last one counts down."""
_SEQUENCES: Final = 101


@dataclass(frozen=True, slots=True)
class _Traits:
    """What all rows of an example have in common."""

    keys: tuple[str, ...]
    values: tuple[str, ...]
    """The base columns."""
    created: bool
    identified: bool
    start: int
    step: int

    def moment(self, steps: int | None, beside: int = 0) -> int | None:
        """A time in microseconds."""
        return None if steps is None else self.start + steps * self.step + beside


def _draw_traits(choices: Choices, step: int, values: tuple[str, ...]) -> _Traits:
    return _Traits(
        keys=choices.of([("user",), ("user", "shop")]),
        values=values,
        created=choices.of([False, True, True]),
        identified=choices.of([False, True]),
        start=choices.of(_STARTS),
        step=step,
    )


def _draw_event(choices: Choices, traits: _Traits) -> dict[str, Any]:
    at = choices.of([*range(_SPAN)] * 2 + [None])
    row: dict[str, Any] = {
        "user": choices.of(["a"] * 6 + ["b"] * 3 + [None]),  # one key is hot
        "f": traits.moment(at, _beside(choices, traits)),
    }
    if "shop" in traits.keys:
        row["shop"] = choices.of([1] * 8 + [2, None])
    if traits.created:
        delay = choices.of([0, 0, 0, 1, 2, 6, 15, -1, None])
        row["c"] = None if at is None or delay is None else traits.moment(at + delay)
    if traits.identified:
        row["id"] = choices.of([*range(8), None])
        row["gone"] = choices.of([False, False, False, False, None, True])
    return row | {name: choices.of([*COLUMNS[name][1], None]) for name in traits.values}


def _draw_asked(choices: Choices, traits: _Traits) -> dict[str, Any]:
    return {
        "user": choices.of(["a"] * 6 + ["b"] * 3 + ["zoe", None]),
        "shop": choices.of([1] * 8 + [2, 3]),
        "t": traits.moment(choices.of([*range(-1, _SPAN + 8), None]), _beside(choices, traits)),
    }


def _beside(choices: Choices, traits: _Traits) -> int:
    """A microsecond off, now and then, where a step is longer than that."""
    return 0 if traits.step == 1 else choices.of([0, 0, 0, 0, 1, -1])


def _events_table(rows: Sequence[Mapping[str, Any]], traits: _Traits, *, stride: int) -> pa.Table:
    columns = _key_columns(rows, traits, "")
    columns |= {name: _array("datetime", [row[name] for row in rows]) for name in ("f", "c")[: 1 + traits.created]}
    if traits.identified:
        columns["id"] = _array("int64", [row["id"] for row in rows])
        columns["gone"] = _array("boolean", [row["gone"] for row in rows])
    columns |= {name: _array(COLUMNS[name][0], [row[name] for row in rows]) for name in traits.values}
    columns[SEQUENCE] = _array("int64", [number * stride % _SEQUENCES for number in range(len(rows))])
    return pa.table(columns)


def _spine_table(rows: Sequence[Mapping[str, Any]], traits: _Traits) -> pa.Table:
    return pa.table(_key_columns(rows, traits, "asked_") | {"t": _array("datetime", [row["t"] for row in rows])})


def _key_columns(rows: Sequence[Mapping[str, Any]], traits: _Traits, prefix: str) -> dict[str, pa.Array]:
    dtypes = {"user": "string", "shop": "int64"}
    return {f"{prefix}{name}": _array(dtypes[name], [row[name] for row in rows]) for name in traits.keys}


def _array(dtype: str, values: Iterable[Any]) -> pa.Array:
    arrow = arrow_type(parse_dtype(dtype))
    if arrow == TIMESTAMP:  # drawn as microseconds
        return pa.array(list(values), pa.int64()).cast(arrow)
    return pa.array(list(values), arrow)


__all__ = [
    "COLUMNS",
    "COUNTRIES",
    "FILTERS",
    "ZONES",
    "Choices",
    "SeededChoices",
    "Sizes",
    "WindowExample",
    "draw_aggregate",
    "draw_windows",
    "functions_offered",
]
