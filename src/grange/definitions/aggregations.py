"""Aggregations: windowed features declared as data. Each stands for several features, one `Aggregate` each.

    Rolling({"amount": ["sum", "mean"]}, windows=["7d", "30d"])      amount__sum__7d, amount__mean__7d, ...
    Lag("load", ["1h", "24h"])                                       load__lag__1h, load__lag__24h
    Rollup({"load": ["mean", "max"]}, every="1h")                    load__mean__rollup_1h, load__max__rollup_1h
    Session({"amount": ["sum"]}, gap="30m")                          amount__sum__session_30m
    Calendar(["hour", "holiday"], timezone="Europe/Berlin", country="DE")                     hour, holiday

What a feature's value is at a moment is said by `grange.types.aggregates.Aggregate`, once.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, get_args

from grange.errors import DefinitionError, DurationError, closest_names
from grange.types import DataType, Schema
from grange.types.aggregates import (
    FUNCTIONS,
    LIFETIME,
    ROWS,
    Aggregate,
    Closed,
    Function,
    Window,
    check_input,
    check_ordered,
    output_dtype,
    parse_function,
    parse_window,
)
from grange.types.durations import format_duration, parse_duration, timedelta_of, to_micros

Duration = str | dt.timedelta
Functions = str | Function | Sequence[str | Function]


@dataclass(frozen=True, slots=True)
class Declared:
    """The part of a schema that a definition declares; the rest is inferred when it is applied."""

    columns: Schema


@dataclass(frozen=True, slots=True)
class Labelled:
    """A length or window and how it reads in names: `24h` stays `24h`."""

    label: str
    window: Window


@dataclass(frozen=True, slots=True, init=False)
class Rolling:
    """Functions of the events in windows that end at the moment asked for (WIN-1, WIN-2).

    Args:
        columns: by column, one function or several: `{"amount": ["sum", "quantile(0.95)"], "*": "count"}`.
        windows: lengths such as `"7d"` or `"250ms"`, numbers of rows such as `"10rows"`, or `"lifetime"`.
        closed: which ends of the window belong to it: `right` is `(t-w, t]`; `left` leaves out the event at `t`.
        every: the value is that of the last boundary at or before `t` (WIN-3); boundaries are multiples of this
            length since 1970-01-01 UTC.
        offset: moves the boundaries; at least zero and shorter than `every`.
        filter: a SQL condition on the group's rows; only events that match count.
        name: stands for the column in the features' names, or a template with `{column}`, `{function}` and `{window}`.

    Raises:
        DefinitionError: an unknown function (with the closest), a window shorter than its `every`, nothing named.
        DurationError: a calendar length, or one that is none (TIME-2).
    """

    columns: tuple[tuple[str, tuple[Function, ...]], ...]
    windows: tuple[Labelled, ...]
    closed: Closed
    every: int | None
    offset: int
    filter: str | None
    name: str | None

    def __init__(
        self,
        columns: Mapping[str, Functions],
        windows: Duration | Window | Sequence[Duration | Window],
        *,
        closed: Closed = "right",
        every: Duration | None = None,
        offset: Duration | None = None,
        filter: str | None = None,
        name: str | None = None,
    ) -> None:
        what = "Rolling"
        set_ = object.__setattr__
        set_(self, "columns", _columns(columns, what))
        set_(self, "windows", _windows(windows, what))
        set_(self, "closed", _closed(closed, what))
        set_(self, "every", None if every is None else to_micros(parse_duration(every, what=f"{what}: every")))
        set_(self, "offset", _offset(offset, self.every, what))
        set_(self, "filter", _filter(filter, what))
        set_(self, "name", _template(name, self.columns, what))
        for item in self.windows:
            if self.every is not None and item.window.kind == "time" and item.window.size < self.every:
                raise DefinitionError(
                    f"{what}: a window of {item.label} is shorter than its every="
                    f"{format_duration(timedelta_of(self.every))}, so that some events would never be in one",
                    try_=f"windows of at least {format_duration(timedelta_of(self.every))}, or a shorter every",
                )

    def aggregates(self, schema: Schema | Declared, *, what: str) -> Iterator[Aggregate]:
        """Its features over rows of a schema."""
        for column, functions in self.columns:
            for function in functions:
                for item in self.windows:
                    name = _name(self.name, column, function.label, item.label, self.filter)
                    yield _aggregate(
                        name, function, column, item.window, schema, what=what,
                        closed=self.closed, every=self.every, offset=self.offset, filter_=self.filter,
                    )  # fmt: skip

    def to_data(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "type": "rolling",
            "columns": _columns_data(self.columns),
            "windows": [item.label for item in self.windows],
            "closed": self.closed,
            "every": _length_data(self.every),
            "offset": _length_data(self.offset or None),
            "filter": self.filter,
            "name": self.name,
        }


@dataclass(frozen=True, slots=True, init=False)
class Lag:
    """The point-in-time value of columns some time ago (LAG-1): at `t`, that of the newest row at or before `t - lag`.

    The whole row counts: where its value is null, so is the lag.

    Args:
        columns: a column or several.
        lags: how long ago, such as `["1h", "24h", "168h"]`.
        tolerance: how much older than `t - lag` that row may be, this length included; None is any age.
        filter: a SQL condition on the group's rows; only events that match are looked at.
        name: as of `Rolling`; `{function}` is `lag`.

    Raises:
        DefinitionError: nothing named.
        DurationError: a lag that is negative, zero, or a calendar length.
    """

    columns: tuple[str, ...]
    lags: tuple[Labelled, ...]
    tolerance: int | None
    filter: str | None
    name: str | None

    def __init__(
        self,
        columns: str | Sequence[str],
        lags: Duration | Sequence[Duration],
        *,
        tolerance: Duration | None = None,
        filter: str | None = None,
        name: str | None = None,
    ) -> None:
        what = "Lag"
        named = (columns,) if isinstance(columns, str) else tuple(columns)
        if not named or not all(isinstance(column, str) and column != ROWS for column in named):
            raise DefinitionError(f"{what} needs columns", found=repr(columns), try_='gr.Lag("load", ["1h", "24h"])')
        set_ = object.__setattr__
        set_(self, "columns", named)
        set_(self, "lags", _lags(lags, what))
        length = None if tolerance is None else to_micros(parse_duration(tolerance, what=f"{what}: tolerance"))
        set_(self, "tolerance", length)
        set_(self, "filter", _filter(filter, what))
        set_(self, "name", _template(name, tuple((column, ()) for column in named), what))

    def aggregates(self, schema: Schema | Declared, *, what: str) -> Iterator[Aggregate]:
        """Its features over rows of a schema."""
        window = LIFETIME if self.tolerance is None else Window("time", self.tolerance)
        for column in self.columns:
            for item in self.lags:
                name = _name(self.name, column, "lag", item.label, self.filter)
                yield _aggregate(
                    name, Function("lag"), column, window, schema, what=what,
                    shift=item.window.size, filter_=self.filter,
                )  # fmt: skip

    def to_data(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "type": "lag",
            "columns": list(self.columns),
            "lags": [item.label for item in self.lags],
            "tolerance": _length_data(self.tolerance),
            "filter": self.filter,
            "name": self.name,
        }


@dataclass(frozen=True, slots=True, init=False)
class Rollup:
    """Functions of the events of whole intervals: hourly or daily figures, known once the interval is over.

    At `t` the value is that of the last interval that is complete: `[b - every, b)` for the last boundary `b <= t`.

    Args:
        columns: as of `Rolling`.
        every: the interval; boundaries are multiples of it since 1970-01-01 UTC.
        offset: moves the boundaries: `every="1d", offset="6h"` is days that begin at 06:00 UTC.
        filter: as of `Rolling`.
        name: as of `Rolling`; `{window}` is `rollup_1h`.
    """

    columns: tuple[tuple[str, tuple[Function, ...]], ...]
    every: Labelled
    offset: int
    filter: str | None
    name: str | None

    def __init__(
        self,
        columns: Mapping[str, Functions],
        every: Duration,
        *,
        offset: Duration | None = None,
        filter: str | None = None,
        name: str | None = None,
    ) -> None:
        what = "Rollup"
        set_ = object.__setattr__
        set_(self, "columns", _columns(columns, what))
        [length] = _lags(every, what)
        set_(self, "every", length)
        set_(self, "offset", _offset(offset, length.window.size, what))
        set_(self, "filter", _filter(filter, what))
        set_(self, "name", _template(name, self.columns, what))

    def aggregates(self, schema: Schema | Declared, *, what: str) -> Iterator[Aggregate]:
        """Its features over rows of a schema."""
        for column, functions in self.columns:
            for function in functions:
                name = _name(self.name, column, function.label, f"rollup_{self.every.label}", self.filter)
                yield _aggregate(
                    name, function, column, self.every.window, schema, what=what,
                    closed="left", every=self.every.window.size, offset=self.offset, filter_=self.filter,
                )  # fmt: skip

    def to_data(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "type": "rollup",
            "columns": _columns_data(self.columns),
            "every": self.every.label,
            "offset": _length_data(self.offset or None),
            "filter": self.filter,
            "name": self.name,
        }


@dataclass(frozen=True, slots=True, init=False)
class Session:
    """Functions of the session that is going on: the events up to now between which no gap is longer than `gap`.

    At `t` a session is the longest run of events, the newest visible one at its end, whose neighbours lie at most `gap`
    apart; when more than `gap` has passed since the newest, there is none, and the window is empty (WIN-4).

    Args:
        columns: as of `Rolling`.
        gap: the silence that ends a session; a silence of exactly this length does not.
        closed: `left` leaves out the events at `t` itself.
        filter: as of `Rolling`; gaps are between the events that match.
        name: as of `Rolling`; `{window}` is `session_30m`.
    """

    columns: tuple[tuple[str, tuple[Function, ...]], ...]
    gap: Labelled
    closed: Closed
    filter: str | None
    name: str | None

    def __init__(
        self,
        columns: Mapping[str, Functions],
        gap: Duration,
        *,
        closed: Closed = "right",
        filter: str | None = None,
        name: str | None = None,
    ) -> None:
        what = "Session"
        set_ = object.__setattr__
        set_(self, "columns", _columns(columns, what))
        [length] = _lags(gap, what)
        set_(self, "gap", length)
        set_(self, "closed", _closed(closed, what))
        set_(self, "filter", _filter(filter, what))
        set_(self, "name", _template(name, self.columns, what))

    def aggregates(self, schema: Schema | Declared, *, what: str) -> Iterator[Aggregate]:
        """Its features over rows of a schema."""
        window = Window("session", self.gap.window.size)
        for column, functions in self.columns:
            for function in functions:
                name = _name(self.name, column, function.label, f"session_{self.gap.label}", self.filter)
                yield _aggregate(
                    name, function, column, window, schema, what=what, closed=self.closed, filter_=self.filter
                )

    def to_data(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "type": "session",
            "columns": _columns_data(self.columns),
            "gap": self.gap.label,
            "closed": self.closed,
            "filter": self.filter,
            "name": self.name,
        }


_CALENDAR: Final = tuple(name for name, about in FUNCTIONS.items() if about.tally == "time")


@dataclass(frozen=True, slots=True, init=False)
class Calendar:
    """Features of the moment itself: what hour, weekday or month it is, and whether it is a holiday.

    Args:
        fields: of `hour` (0-23), `weekday` (Monday is 0), `day` (of the month), `month` (1-12), `weekend`, `holiday`,
            `holiday_name`.
        timezone: where the clock hangs; an IANA name.
        country: whose holidays: a code such as `DE`, or with a subdivision `US-CA`.
        prefix: put before the features' names.

    Raises:
        DefinitionError: an unknown field or time zone, with the closest; holidays without a country. Whether the
            country is known is looked at when the group is applied.
    """

    fields: tuple[str, ...]
    timezone: str
    country: str | None
    prefix: str

    def __init__(
        self,
        fields: str | Sequence[str],
        *,
        timezone: str = "UTC",
        country: str | None = None,
        prefix: str = "",
    ) -> None:
        named = (fields,) if isinstance(fields, str) else tuple(fields)
        what = "Calendar"
        for field in named:
            if field not in _CALENDAR:
                raise DefinitionError(
                    f"{what} has no field {field!r}", closest=closest_names(str(field), _CALENDAR),
                    try_=f"one of {', '.join(_CALENDAR)}",
                )  # fmt: skip
        if not named:
            raise DefinitionError(f"{what} needs fields", try_='gr.Calendar(["hour", "weekday"])')
        if country is None and any(field.startswith("holiday") for field in named):
            raise DefinitionError(f"{what}: holidays are of a country", try_='country="DE"')
        set_ = object.__setattr__
        set_(self, "fields", tuple(dict.fromkeys(named)))
        set_(self, "timezone", _timezone(timezone, what))
        set_(self, "country", country)
        set_(self, "prefix", prefix)

    def aggregates(self, schema: Schema | Declared, *, what: str) -> Iterator[Aggregate]:
        """Its features."""
        for field in self.fields:
            parameters = (self.timezone, self.country)[: len(FUNCTIONS[field].parameters)]
            function = Function(field, parameters)
            yield Aggregate(self.prefix + field, function, ROWS, LIFETIME, output_dtype(function, None))

    def to_data(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "type": "calendar",
            "fields": list(self.fields),
            "timezone": self.timezone,
            "country": self.country,
            "prefix": self.prefix,
        }


Aggregation = Rolling | Lag | Rollup | Session | Calendar
"""What `FeatureGroup(aggregations=[...])` takes."""


def aggregation_from_data(data: Mapping[str, Any]) -> Aggregation:
    """The inverse of `to_data`. KeyError or ValueError for anything else."""
    fields = {key: value for key, value in data.items() if key not in ("type", "columns")}
    match data["type"]:
        case "rolling":
            return Rolling(dict(data["columns"]), **fields)
        case "lag":
            return Lag(data["columns"], **fields)
        case "rollup":
            return Rollup(dict(data["columns"]), **fields)
        case "session":
            return Session(dict(data["columns"]), **fields)
        case "calendar":
            return Calendar(**fields)
        case other:
            raise ValueError(f"no aggregation {other!r}")


def expand(aggregations: Sequence[Aggregation], schema: Schema | Declared, *, what: str) -> tuple[Aggregate, ...]:
    """The features of aggregations over rows of a schema, in order.

    Args:
        aggregations: of one feature group.
        schema: of its rows; or what is declared of it so far, when the types of other columns are not known yet.
        what: the group, for messages.

    Raises:
        DefinitionError: a column that is not there (with the closest), or of a type that a function does not take; two
            features of one name.
    """
    found: dict[str, Aggregate] = {}
    for aggregation in aggregations:
        for aggregate in aggregation.aggregates(schema, what=what):
            if aggregate.name in found:
                same = found[aggregate.name] == aggregate
                raise DefinitionError(
                    f"{what}: two aggregations make a feature {aggregate.name!r}",
                    found="the same one twice" if same else "two that differ",
                    try_="leave one out" if same else 'name one: Rolling(..., name="amount_before")',
                )
            found[aggregate.name] = aggregate
    return tuple(found.values())


def feature_names(data: Mapping[str, Any]) -> tuple[str, ...]:
    """The names of the features that an aggregation's plain data stands for."""
    return tuple(item.name for item in aggregation_from_data(data).aggregates(Schema(), what=""))


def _aggregate(
    name: str, function: Function, column: str, window: Window, schema: Schema | Declared, *,
    what: str, closed: Closed = "right", every: int | None = None, offset: int = 0, shift: int = 0,
    filter_: str | None = None,
) -> Aggregate:  # fmt: skip
    dtype = _dtype(column, schema, f"{what}: {function} of {column!r}")
    check_input(function, column, dtype, what=what)
    by = function.parameters[0] if function.name in ("min_by", "max_by") else None
    by_dtype = None if by is None else _dtype(by, schema, f"{what}: {function}")
    if by is not None and by_dtype is not None:
        check_ordered(function, by, by_dtype, what=what)
    return Aggregate(
        name=name,
        function=function,
        column=column,
        window=window,
        dtype=output_dtype(function, dtype),
        input=dtype,
        by_input=by_dtype,
        closed=closed,
        every=every,
        offset=offset,
        shift=shift,
        filter=None if filter_ is None else _normal(filter_),
    )


def _dtype(column: str, schema: Schema | Declared, what: str) -> DataType | None:
    """The type of a base column; None of `*`, and as long as it is not known."""
    if column == ROWS or not schema:
        return None
    if isinstance(schema, Declared):
        return schema.columns.get(column)
    if column not in schema:
        raise DefinitionError(
            f"{what}: its rows have no such column",
            found=", ".join(schema.names),
            closest=closest_names(column, schema.names),
            try_=f"a column that is new in the source: schema={{{column!r}: 'float64'}}",
        )
    return schema[column]


def _columns(columns: object, what: str) -> tuple[tuple[str, tuple[Function, ...]], ...]:
    if not isinstance(columns, Mapping) or not columns:
        raise DefinitionError(
            f"{what} needs functions by column",
            found=repr(columns),
            try_=f'gr.{what}({{"amount": ["sum", "mean"]}}, ...)',
        )
    parsed = []
    for column, functions in columns.items():
        if not isinstance(functions, str | Function | Sequence):
            raise DefinitionError(
                f"{what}: functions of {column!r} must be named", found=repr(functions), try_=f'{{{column!r}: ["sum"]}}'
            )
        listed = [functions] if isinstance(functions, str | Function) else list(functions)
        if not listed:
            raise DefinitionError(f"{what}: no function of {column!r}", try_=f'{{{column!r}: ["sum"]}}')
        named = tuple(parse_function(function, what=f"{what} of {column!r}") for function in listed)
        parsed.append((str(column), tuple(dict.fromkeys(named))))
    return tuple(parsed)


def _windows(windows: Any, what: str) -> tuple[Labelled, ...]:
    if windows is not None and not isinstance(windows, str | dt.timedelta | Window | Sequence):
        raise DefinitionError(f"{what}: windows are lengths", found=repr(windows), try_='windows=["7d", "30d"]')
    listed = [windows] if isinstance(windows, str | dt.timedelta | Window) else list(windows or ())
    if not listed:
        raise DefinitionError(f"{what} needs windows", try_='windows=["7d", "30d"], or windows="lifetime"')
    parsed = (parse_window(item, what=what) for item in listed)
    labelled = [Labelled(_label(given, window), window) for given, window in zip(listed, parsed, strict=True)]
    return tuple(dict.fromkeys(labelled))


def _label(given: Any, window: Window) -> str:
    """How a window reads in names: as it was written, where that is a plain length."""
    text = given.replace(" ", "") if isinstance(given, str) else ""
    return text if window.kind == "time" and re.fullmatch(r"(\d+[a-z]+)+", text) else str(window)


def _lags(lags: Any, what: str) -> tuple[Labelled, ...]:
    listed = [lags] if isinstance(lags, str | dt.timedelta) else list(lags or ())
    for lag in listed:
        if (isinstance(lag, str) and lag.strip().startswith("-")) or (
            isinstance(lag, dt.timedelta) and lag < dt.timedelta(0)
        ):
            raise DurationError(
                f"{what}: {lag!r} is negative, so it would read from the future", try_="a positive length"
            )
    if not listed:
        raise DefinitionError(f"{what} needs a length", try_='["1h", "24h"]')
    windows = [Window("time", to_micros(parse_duration(lag, what=what))) for lag in listed]
    return tuple(Labelled(_label(given, window), window) for given, window in zip(listed, windows, strict=True))


def _closed(closed: object, what: str) -> object:
    if closed not in get_args(Closed):
        raise DefinitionError(
            f"{what}: closed must be one of {', '.join(get_args(Closed))}",
            found=repr(closed),
            closest=closest_names(str(closed), get_args(Closed)),
        )
    return closed


def _offset(offset: Duration | None, every: int | None, what: str) -> int:
    if offset is None:
        return 0
    if every is None:
        raise DefinitionError(f"{what}: an offset moves the boundaries of every=, and there is none", try_='every="1d"')
    length = to_micros(parse_duration(offset, what=f"{what}: offset"))
    if length >= every:
        raise DefinitionError(
            f"{what}: the offset is as long as its interval", found=format_duration(timedelta_of(length)),
            try_=f"shorter than {format_duration(timedelta_of(every))}",
        )  # fmt: skip
    return length


@lru_cache(maxsize=256)
def _normal(text: str) -> str:
    """A condition as it reads without what does not count: spaces, comments, the case of keywords (VER-2)."""
    import sqlglot

    [column] = sqlglot.parse_one(f"SELECT (\n{text}\n)", dialect="duckdb").expressions
    normal: str = column.unnest().sql(dialect="duckdb", comments=False)
    return normal


def _timezone(name: str, what: str) -> str:
    """A checked IANA name."""
    import zoneinfo

    known = zoneinfo.available_timezones()
    if name not in known:
        raise DefinitionError(
            f"{what}: no time zone {name!r}", closest=closest_names(str(name), known), try_='timezone="Europe/Berlin"'
        )
    return name


def _filter(text: object, what: str) -> str | None:
    if text is None:
        return None
    if not isinstance(text, str) or not text.strip():
        raise DefinitionError(
            f"{what}: filter must be a SQL condition", found=repr(text), try_="filter=\"country = 'FR'\""
        )
    from grange.definitions.expressions import parse_condition  # a parser that most definitions do without

    parse_condition(text, what=f"{what}: filter")
    return text.strip()


def _template(name: object, columns: Sequence[tuple[str, Any]], what: str) -> str | None:
    """A checked name or template."""
    if name is None:
        return None
    if not isinstance(name, str) or not name:
        raise DefinitionError(f"{what}: name must be text", found=repr(name))
    if "{" in name:
        unknown = [field for field in re.findall(r"{([^}]*)}", name) if field not in ("column", "function", "window")]
        if unknown or name.count("{") != name.count("}"):
            raise DefinitionError(
                f"{what}: name {name!r} may hold {{column}}, {{function}} and {{window}}",
                found=", ".join(unknown) or "unbalanced braces",
            )
        return name
    if len(columns) > 1:
        raise DefinitionError(
            f"{what}: one name stands for {len(columns)} columns",
            found=name,
            try_=f'a template: name="{name}_{{column}}__{{function}}__{{window}}"',
        )
    return name


def _name(template: str | None, column: str, function: str, window: str, filter_: str | None) -> str:
    """A feature's name (WIN-5)."""
    stem = "rows" if column == ROWS else column
    if template is not None and "{" in template:
        return template.format(column=stem, function=function, window=window)
    if template is not None:
        stem = template
    elif filter_ is not None:
        stem = f"{stem}_where_{re.sub(r'[^0-9a-z]+', '_', filter_.lower()).strip('_')}"
    return f"{stem}__{function}__{window}"


def _columns_data(columns: Sequence[tuple[str, tuple[Function, ...]]]) -> list[list[Any]]:
    return [[column, [str(function) for function in functions]] for column, functions in columns]


def _length_data(micros: int | None) -> str | None:
    return None if micros is None else format_duration(timedelta_of(micros))


__all__ = [
    "Aggregation", "Calendar", "Lag", "Rolling", "Rollup", "Session", "aggregation_from_data", "expand",
    "feature_names",
]  # fmt: skip
