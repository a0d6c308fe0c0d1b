"""What a windowed feature is, as data: a function of the events in a window, one output column each.

These values are the whole language between definitions, plan, kernels and serving. They compute nothing.

A window is a contiguous run of one entity key's events in PIT-3 order, because every kind of window (a length of
time, a number of rows, a session, everything there is) ends at the moment that is asked for and starts somewhere
before it. A function then only ever sees such a run.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

from grange.errors import DefinitionError, DurationError, closest_names
from grange.types.dtypes import DataType, parse_dtype
from grange.types.durations import format_duration, parse_duration, timedelta_of, to_micros

ROWS: Final = "*"
"""The column of functions that look at rows, not at values: `count("*")`, `time_since_last("*")`."""

MOST_ROWS: Final = 1_000_000_000
"""The largest window by number of rows."""

Closed = Literal["right", "left", "both", "none"]
"""Which ends of `(t-w, t]` belong to a window (WIN-1)."""
WindowKind = Literal["time", "rows", "lifetime", "session"]
Tally = Literal["run", "point", "time"]


@dataclass(frozen=True, slots=True)
class Window:
    """Which events a function sees at a moment `t`, all of one entity key and visible at `t`."""

    kind: WindowKind
    size: int = 0
    """`time`: its length in microseconds. `rows`: how many of the newest events. `session`: the gap in microseconds
    that ends a session; a gap of exactly this length does not. A session that ended is over: once more than the gap has
    passed since its newest event, the window is empty. `lifetime`: 0."""

    def __str__(self) -> str:
        match self.kind:
            case "time":
                return _length(self.size)
            case "rows":
                return f"{self.size}rows"
            case "lifetime":
                return "lifetime"
            case "session":
                return f"session_{_length(self.size)}"


def _length(micros: int) -> str:
    """A length with days as its largest unit: `7d`, not `1w` (WIN-5)."""
    text = format_duration(timedelta_of(micros))
    return f"{int(text[:-1]) * 7}d" if text.endswith("w") else text


LIFETIME: Final = Window("lifetime")


@dataclass(frozen=True, slots=True)
class Function:
    """A function and its parameters: `quantile(0.95)`. Compare with `==`; reads back from what it prints."""

    name: str
    """A key of `FUNCTIONS`."""
    parameters: tuple[Any, ...] = ()
    """In the order of the function's own: numbers, text, or a half-life in microseconds."""

    def __str__(self) -> str:
        shown = []
        for kind, value in zip(FUNCTIONS[self.name].parameters, self.parameters, strict=True):
            shown.append(_length(value) if kind == "duration" else str(value))
        return f"{self.name}({', '.join(shown)})" if shown else self.name

    @property
    def label(self) -> str:
        """What stands for it in a feature's name (WIN-5): `last_n(5)` is `last_5`, `quantile(0.95)` `quantile_0_95`."""
        about = FUNCTIONS[self.name]
        shown = str(self).partition("(")[2].rstrip(")")
        stem = about.stem or self.name
        return f"{stem}_{re.sub(r'[^0-9A-Za-z]+', '_', shown).strip('_')}" if shown else stem

    @property
    def about(self) -> About:
        """What the catalogue says of it."""
        return FUNCTIONS[self.name]


@dataclass(frozen=True, slots=True)
class Aggregate:
    """One windowed feature: the function of a column's values in the window that ends at a moment.

    Its value at `t`:

    1. the events of the entity key; with `as_known` those that were known at `t`, whatever follows; where the source
       has an event id, the last written version of each, without those retracted (WIN-6);
    2. with `every`, `t` is now moved back to the last boundary `b <= t` with `b = offset` modulo `every`, counted from
       1970-01-01 UTC (WIN-3); what follows is as of `b`. Of the events, those that are visible: at or before `t`
       (before it when the reference says `exact_matches=False`), at most the group's ttl old (a `lag` counts its ttl
       from `t - shift`);
    3. of these, those that match `filter` (a row for which it is null does not);
    4. of these, those in the window, which ends at `t - shift` and is closed as `closed` says; rows, lifetimes and
       sessions have one end, where `left` and `none` leave out the events at `t - shift`; the window of a `lag` is its
       tolerance, both ends included;
    5. the function of their values in `column`; null values are ignored, but by `lag` (WIN-4, LAG-1).
    """

    name: str
    """The output column."""
    function: Function
    column: str
    """A column of the group's rows, or `*`."""
    window: Window
    dtype: DataType
    """Of the output."""
    input: DataType | None = None
    """Type of the column; None for `*`."""
    by_input: DataType | None = None
    """Type of the `by` column of `min_by` and `max_by`."""
    closed: Closed = "right"
    every: int | None = None
    """Microseconds."""
    offset: int = 0
    """Microseconds, `0 <= offset < every`."""
    shift: int = 0
    """Microseconds that the window ends before `t`: the lag."""
    filter: str | None = None
    """A SQL condition on the group's rows."""

    @property
    def by(self) -> str | None:
        """The column that `min_by` and `max_by` compare."""
        return self.function.parameters[0] if self.function.name in ("min_by", "max_by") else None

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns whose values it needs; those of the filter not among them."""
        return tuple(name for name in (self.column, self.by) if name is not None and name != ROWS)

    @property
    def reach(self) -> int | None:
        """How far before `t` an event can lie and still count, in microseconds; None is without limit."""
        if self.function.about.tally == "time":
            return 0
        if self.window.kind != "time":
            return None
        return self.window.size + self.shift + (self.every or 0)

    def to_data(self) -> dict[str, Any]:
        """For JSON; `from_data` reads it back as an equal value."""
        return {
            "name": self.name,
            "function": self.function.name,
            "parameters": list(self.function.parameters),
            "column": self.column,
            "window": [self.window.kind, self.window.size],
            "dtype": str(self.dtype),
            "input": None if self.input is None else str(self.input),
            "by_input": None if self.by_input is None else str(self.by_input),
            "closed": self.closed,
            "every": self.every,
            "offset": self.offset,
            "shift": self.shift,
            "filter": self.filter,
        }

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Aggregate:
        """The inverse of `to_data`. KeyError, TypeError or ValueError for anything else."""
        kind, size = data["window"]
        if kind not in get_args(WindowKind) or data["function"] not in FUNCTIONS:
            raise ValueError(f"no window {kind!r} or no function {data['function']!r}")
        return cls(
            name=data["name"],
            function=Function(data["function"], tuple(data["parameters"])),
            column=data["column"],
            window=Window(kind, size),
            dtype=parse_dtype(data["dtype"]),
            input=None if data["input"] is None else parse_dtype(data["input"]),
            by_input=None if data["by_input"] is None else parse_dtype(data["by_input"]),
            closed=data["closed"],
            every=data["every"],
            offset=data["offset"],
            shift=data["shift"],
            filter=data["filter"],
        )


Parameter = Literal["fraction", "count", "column", "duration", "text"]


@dataclass(frozen=True, slots=True)
class About:
    """What the catalogue says of a function."""

    accepts: Literal["numbers", "ordered", "values", "rows"]
    """Which columns: numbers (integers, floats, booleans), anything with an order, anything, or `*` too."""
    result: Callable[[DataType], DataType]
    """The output's type by the input's."""
    parameters: tuple[Parameter, ...] = ()
    stem: str = ""
    """What stands for it in names, if not its own name."""
    tally: Tally = "run"
    """`run`: of the run of events. `point`: of one row, nulls included (the lag). `time`: of the moment alone."""
    tiles: bool = True
    """Whether a state of fixed size can be merged: then the online store keeps tiles for it. The others read every
    event of the window."""
    example: str = ""


_INTEGER: Final = DataType("int64")
_FLOAT: Final = DataType("float64")
_FLAG: Final = DataType("boolean")


def _same(dtype: DataType) -> DataType:
    return dtype


def _number(dtype: DataType) -> DataType:
    return _FLOAT if dtype.is_float else _INTEGER


def _float(dtype: DataType) -> DataType:
    return _FLOAT


def _integer(dtype: DataType) -> DataType:
    return _INTEGER


def _flag(dtype: DataType) -> DataType:
    return _FLAG


def _listed(dtype: DataType) -> DataType:
    return DataType("list", item=dtype)


def _text(dtype: DataType) -> DataType:
    return DataType("string")


FUNCTIONS: Final[Mapping[str, About]] = {
    "count": About("rows", _integer),
    "sum": About("numbers", _number),
    "mean": About("numbers", _float),
    "min": About("ordered", _same),
    "max": About("ordered", _same),
    "std": About("numbers", _float),
    "var": About("numbers", _float),
    "range": About("numbers", _number),
    "median": About("numbers", _float, tiles=False),
    "quantile": About("numbers", _float, ("fraction",), tiles=False, example="quantile(0.95)"),
    "count_distinct": About("values", _integer, tiles=False),
    "mode": About("ordered", _same, tiles=False),
    "top_n": About("ordered", _listed, ("count",), stem="top", tiles=False, example="top_n(3)"),
    "first": About("values", _same),
    "last": About("values", _same),
    "first_n": About("values", _listed, ("count",), stem="first", example="first_n(5)"),
    "last_n": About("values", _listed, ("count",), stem="last", example="last_n(5)"),
    "min_by": About("values", _same, ("column",), example="min_by(price)"),
    "max_by": About("values", _same, ("column",), example="max_by(price)"),
    "decayed_sum": About("numbers", _float, ("duration",), example="decayed_sum(7d)"),
    "ewma": About("numbers", _float, ("duration",), example="ewma(7d)"),
    "time_since_last": About("rows", _float),
    "approx_count_distinct": About("values", _integer, tiles=False),
    "approx_quantile": About("numbers", _float, ("fraction",), tiles=False, example="approx_quantile(0.95)"),
    "lag": About("values", _same, tally="point"),
    # of the moment itself; parameters: the time zone, and for `holiday` the country (or country-subdivision)
    "hour": About("rows", _integer, ("text",), tally="time"),
    "weekday": About("rows", _integer, ("text",), tally="time"),
    "day": About("rows", _integer, ("text",), tally="time"),
    "month": About("rows", _integer, ("text",), tally="time"),
    "weekend": About("rows", _flag, ("text",), tally="time"),
    "holiday": About("rows", _flag, ("text", "text"), tally="time"),
    "holiday_name": About("rows", _text, ("text", "text"), tally="time"),
}
"""Every function, by name. What each is, said once:

`count` values that are not null, `count("*")` rows; `sum` (integers stay integers, an overflow of 64 bits is an
error); `mean`; `min`, `max`; `std`, `var` of a sample (n-1; null for fewer than two values); `range` max - min;
`median`, `quantile(q)` between neighbours linearly, position `q*(n-1)`; `count_distinct` (of nothing 0); `mode` the
most frequent value, of equally frequent ones the smallest; `top_n(n)` the n most frequent, most frequent first, then
the smaller; `first`, `last` value in PIT-3 order; `first_n(n)`, `last_n(n)` the values in PIT-3 order, oldest first;
`min_by(c)`, `max_by(c)` the value in the row where `c` is least or greatest, of equal ones the newest row, rows where
either is null left out; `decayed_sum(h)` the sum of `value * 2**(-(t - event time) / h)`; `ewma(h)` the same divided by
the sum of the weights; `time_since_last` seconds from the newest row (with a column: newest row where it is not null)
to `t`; `lag` the value of the newest row at `t - shift`, its null included (LAG-1).

Among floats a NaN is a value like any other: one in the window makes sum, mean, std, var, range, median, quantile,
decayed_sum and ewma NaN; `min`, `max`, `mode`, `top_n`, `min_by`, `max_by` take it for greater than any number and
equal to itself; `count_distinct` counts it once. `-0.0` equals `0.0`. Numbers are aggregated as float64 or int64,
booleans as 0 and 1.

`approx_count_distinct` is HyperLogLog with 2**12 registers (standard error 1.6 %), `approx_quantile` KLL with k = 200
(rank error 1.33 % with 99 % confidence).
"""


def parse_function(value: object, *, what: str) -> Function:
    """A function from what people write: `"sum"`, `"quantile(0.95)"`, `"min_by(price)"`, or a `Function`.

    Raises:
        DefinitionError: no such function, with the closest names; or parameters that it does not take.
    """
    if isinstance(value, Function):
        return value
    match = re.fullmatch(r"\s*([A-Za-z_]\w*)\s*(?:\((.*)\))?\s*", value) if isinstance(value, str) else None
    offered = [name for name, about in FUNCTIONS.items() if about.tally == "run"]
    if match is None or match[1] not in offered:
        name = match[1] if match else str(value)
        raise DefinitionError(
            f"{what}: no function {name!r}",
            closest=closest_names(name, offered),
            try_="one of " + ", ".join(FUNCTIONS[each].example or each for each in offered),
        )
    about, given = FUNCTIONS[match[1]], [part.strip().strip("'\"") for part in (match[2] or "").split(",")]
    given = [part for part in given if part]
    if len(given) != len(about.parameters):
        needs = f"needs {about.example}" if about.parameters else "takes no parameters"
        raise DefinitionError(f"{what}: {match[1]} {needs}", found=str(value))
    kinds = zip(about.parameters, given, strict=True)
    return Function(match[1], tuple(_parameter(kind, text, f"{what}: {value}") for kind, text in kinds))


def _parameter(kind: Parameter, text: str, what: str) -> Any:
    try:
        match kind:
            case "count":
                number = int(text)
                if 1 <= number <= 10_000:
                    return number
            case "fraction":
                fraction = float(text)
                if 0 <= fraction <= 1:
                    return fraction
            case "duration":
                return to_micros(parse_duration(text, what=what))
            case _:
                return text
    except DurationError:
        raise
    except ValueError:
        pass
    wanted = "a whole number from 1 to 10000" if kind == "count" else "a fraction from 0 to 1"
    raise DefinitionError(f"{what}: {text!r} is not {wanted}")


def parse_window(value: object, *, what: str) -> Window:
    """A window from what people write: `"7d"`, a timedelta, `"10rows"`, `"lifetime"`, or a `Window`.

    Raises:
        DefinitionError, DurationError: something else; calendar months and years have no fixed length (TIME-2).
    """
    if isinstance(value, Window):
        return value
    if isinstance(value, str):
        rows = re.fullmatch(r"\s*(\d+)\s*rows?\s*", value)
        if rows is not None:
            count = int(rows[1])
            if not 1 <= count <= MOST_ROWS:
                why = "holds nothing" if count < 1 else f"is of more than {MOST_ROWS} rows"
                raise DefinitionError(f"{what}: a window of {value.strip()} {why}", try_="10rows, or lifetime")
            return Window("rows", count)
        if value.strip().lower() in ("lifetime", "all", "forever", "unbounded"):
            return LIFETIME
    if value is None:
        return LIFETIME
    return Window("time", to_micros(parse_duration(value, what=f"{what}: window")))  # type: ignore[arg-type]


def output_dtype(function: Function, dtype: DataType | None) -> DataType:
    """The type of a function's output; `dtype` is its column's, None for `*`."""
    return function.about.result(_INTEGER if dtype is None else dtype)


def check_input(function: Function, column: str, dtype: DataType | None, *, what: str) -> None:
    """Check that a function can be of a column.

    Raises:
        DefinitionError: says which columns it takes.
    """
    accepts = function.about.accepts
    if column == ROWS:
        if accepts != "rows":
            raise DefinitionError(
                f"{what}: {function} needs a column; only count and time_since_last are of rows ('*')"
            )
        return
    if dtype is None:
        return
    if accepts == "numbers" and not (dtype.is_integer or dtype.is_float or dtype.kind == "boolean"):
        raise DefinitionError(
            f"{what}: {function} needs numbers, and column {column!r} is {dtype}",
            try_="cast it to float64, or to an integer number of its smallest unit, in the group's transform"
            if dtype.kind in ("decimal", "duration")
            else f"count, count_distinct, first, last, mode or last_n(5) of {column!r}",
        )
    check_ordered(function, column, dtype, what=what) if accepts == "ordered" else check_value(
        function, column, dtype, what=what
    )


def check_ordered(function: Function, column: str, dtype: DataType, *, what: str) -> None:
    """Check that a column's values have an order.

    Raises:
        DefinitionError: lists, structs and binary values have none.
    """
    if dtype.kind in ("list", "struct", "binary"):
        raise DefinitionError(f"{what}: {function} needs values with an order, and column {column!r} is {dtype}")


def check_value(function: Function, column: str, dtype: DataType, *, what: str) -> None:
    """Check that a column's values can be told apart, where that matters.

    Raises:
        DefinitionError.
    """
    if function.name in ("count_distinct", "approx_count_distinct") and dtype.kind in ("list", "struct"):
        raise DefinitionError(f"{what}: {function} needs single values, and column {column!r} is {dtype}")
