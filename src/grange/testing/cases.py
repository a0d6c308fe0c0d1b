"""The laws' cases: small tables with the answer beside them, as JSON, so that any language can run them.

Files lie in `cases/<theme>/*.json`, each `{"cases": [...]}`. Every case has

    name          unique in the corpus, of lower-case words with dashes
    laws          the laws that it pins down: ["PIT-2"]
    description   what is promised, in one sentence
    level         what runs it, below
    expected      a table, or {"error": "ColumnTypeError", "mentions": ["amount"]}: an error of `grange.errors`
                  whose text holds every one of the words

A table is `{"columns": {name: type}, "rows": [[...]]}`. A type is one of Grange's as it prints (`int64`,
`decimal(12,2)`), in its canonical Arrow form; or `arrow:...`, any Arrow type as it prints (`arrow:timestamp[ns]`,
`arrow:timestamp[s, tz=Europe/Paris]`, `arrow:dictionary<int32, string>`). Values are JSON's, except: times and dates
are ISO 8601 text (times to the nanosecond; without a zone they are the column's wall clock where the type has none,
else UTC), decimals and uuids are text, binary is hexadecimal text, durations are integers in the type's unit, and
the floats JSON lacks are "NaN", "Infinity" and "-Infinity".

The levels, and the fields that each adds:

    join          an engine runs `PointInTimeJoin`.
                  spine, time, as_known, groups: [{name, keys: {spine column: group column}, event_time, created_time,
                  ttl, exact_matches, rows, outputs: [{column, name, default}]}]. `rows` are as stored, in the order
                  they were written (`__sequence` is their position). Expected: the feature columns alone.
    window        an engine runs `PointInTimeJoin` of one `WindowJoin`.
                  spine, time, as_known, group: {name, keys, event_time, created_time, event_id, retracted, ttl,
                  exact_matches, rows, aggregates: [{name, function, parameters, column, window, closed, every, offset,
                  shift, filter, default}]}. `function` is text such as `last_n(2)`, or a name with its `parameters`;
                  `window` is `7d`, `3rows`, `lifetime` or `session_30m`; `column` is `*` when left out. Expected: the
                  feature columns alone.
    current_events an engine runs `CurrentEvents`. rows, keys, created_time, event_id, retracted.
    grid          an engine runs `Grid`. rows, keys, event_time, interval, closed, fill, start, end.
    name          what a windowed feature is called. column, function, window. Expected: {"name": text}.
    entity_times  an engine runs `EntityTimes`. rows, keys, event_time, start, end.
    conform       `grange.types.arrow.conform`. table, schema: {column: type}.
    duration      `grange.types.parse_duration`. text. Expected: {"micros": n}, or an error.
    store         the public verbs: apply, materialize each group, get_historical_features.
                  entities: {name: {join key: type or null}}, groups: [{name, entities, event_time, created_time, ttl,
                  schema, defaults, source}], features: ["group:feature" or {source, features, on, prefix, rename,
                  exact_matches}], as_known, and spine with time, or start and end. Expected: the whole answer, the
                  spine's own columns as they were handed in, then the features; or the error that one of the three
                  verbs raises. `StoreCase` makes the definitions, so a runner is three calls.
"""

from __future__ import annotations

import datetime as dt
import functools
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

import pyarrow as pa

from grange import errors
from grange.definitions.entity import Entity
from grange.definitions.feature_group import FeatureGroup
from grange.definitions.references import FeatureSelection, select
from grange.definitions.sources import TableSource
from grange.plan.nodes import (
    CurrentEvents,
    EntityTimes,
    Grid,
    GroupJoin,
    Input,
    Node,
    Output,
    PointInTimeJoin,
    WindowJoin,
)
from grange.types import Schema, parse_dtype, parse_duration
from grange.types.aggregates import (
    FUNCTIONS,
    LIFETIME,
    ROWS,
    Aggregate,
    Function,
    Window,
    output_dtype,
    parse_function,
    parse_window,
)
from grange.types.arrow import arrow_type, from_arrow_type
from grange.types.durations import to_micros as length_in_micros
from grange.types.names import SEQUENCE
from grange.types.time import to_micros

FOLDER: Final = Path(__file__).with_name("cases")

LAWS: Final = frozenset(
    f"{family}-{number}"
    for family, count in {"TIME": 3, "PIT": 8, "WIN": 6, "LAG": 1, "ONL": 6, "VER": 4}.items()
    for number in range(1, count + 1)
)
"""Every law that there is."""

SPINE: Final = "spine"
"""The name under which a join case's spine is handed to the engine."""


@dataclass(frozen=True, slots=True)
class ExpectedError:
    """The error that a case expects instead of rows."""

    error: type[errors.GrangeError]
    mentions: tuple[str, ...]
    """Words that its text holds, every one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What every case has."""

    name: str
    laws: tuple[str, ...]
    description: str

    def __str__(self) -> str:
        return f"{self.name} ({', '.join(self.laws)}): {self.description}"


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseGroup:
    """One feature group of a join case."""

    name: str
    keys: tuple[tuple[str, str], ...]
    event_time: str
    created_time: str | None
    ttl: int | None
    exact_matches: bool
    rows: pa.Table
    """Its stored rows in the order they were written, with `__sequence`."""
    outputs: tuple[Output, ...]

    def join(self, rows: Node) -> GroupJoin:
        """The join onto a spine of rows that lie somewhere."""
        return GroupJoin(
            group=self.name,
            version="1.0.0",
            rows=rows,
            keys=self.keys,
            event_time=self.event_time,
            created_time=self.created_time,
            ttl=self.ttl,
            exact_matches=self.exact_matches,
            outputs=self.outputs,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinCase(Case):
    """A point-in-time join by an engine."""

    spine: pa.Table
    time: str
    as_known: bool
    groups: tuple[CaseGroup, ...]
    expected: pa.Table | ExpectedError

    def node(self, rows: Sequence[Node]) -> PointInTimeJoin:
        """The node to run; `rows` says where each group's rows lie. The spine is `Input(SPINE)`."""
        joins = tuple(group.join(where) for group, where in zip(self.groups, rows, strict=True))
        return PointInTimeJoin(Input(SPINE), self.time, joins, self.as_known)


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowGroup:
    """The feature group of a window case."""

    name: str
    keys: tuple[tuple[str, str], ...]
    event_time: str
    created_time: str | None
    event_id: str | None
    retracted: str | None
    ttl: int | None
    exact_matches: bool
    rows: pa.Table
    """Its stored events in the order they were written, with `__sequence`."""
    aggregates: tuple[Aggregate, ...]
    outputs: tuple[Output, ...]

    def join(self, rows: Node) -> WindowJoin:
        """The join onto a spine of events that lie somewhere."""
        return WindowJoin(
            group=self.name,
            version="1.0.0",
            rows=rows,
            keys=self.keys,
            event_time=self.event_time,
            created_time=self.created_time,
            event_id=self.event_id,
            retracted=self.retracted,
            ttl=self.ttl,
            exact_matches=self.exact_matches,
            aggregates=self.aggregates,
            outputs=self.outputs,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowCase(Case):
    """Windowed features by an engine (WIN-1 to WIN-6, LAG-1)."""

    spine: pa.Table
    time: str
    as_known: bool
    group: WindowGroup
    expected: pa.Table | ExpectedError

    def node(self, rows: Node) -> PointInTimeJoin:
        """The node to run; `rows` says where the group's events lie. The spine is `Input(SPINE)`."""
        return PointInTimeJoin(Input(SPINE), self.time, (self.group.join(rows),), self.as_known)


@dataclass(frozen=True, slots=True, kw_only=True)
class CurrentEventsCase(Case):
    """The events of a group as they finally are (WIN-6)."""

    rows: pa.Table
    keys: tuple[str, ...]
    created_time: str | None
    event_id: str
    retracted: str | None
    expected: pa.Table | ExpectedError

    def node(self, rows: Node) -> CurrentEvents:
        """The node to run; `rows` says where the group's events lie."""
        return CurrentEvents(rows, self.keys, self.created_time, self.event_id, self.retracted)


@dataclass(frozen=True, slots=True, kw_only=True)
class GridCase(Case):
    """Entity keys at the boundaries that follow their events (WIN-3)."""

    rows: pa.Table
    keys: tuple[str, ...]
    event_time: str
    interval: int
    closed: Literal["right", "left"]
    fill: bool
    start: int | None
    end: int | None
    expected: pa.Table | ExpectedError

    def node(self, rows: Node) -> Grid:
        """The node to run; `rows` says where the group's events lie."""
        return Grid(rows, self.keys, self.event_time, self.interval, self.closed, self.fill, self.start, self.end)


@dataclass(frozen=True, slots=True, kw_only=True)
class NameCase(Case):
    """What a windowed feature is called (WIN-5)."""

    column: str
    function: Function
    window: Window
    expected: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EntityTimesCase(Case):
    """A spine made of a group's own rows (PIT-8)."""

    rows: pa.Table
    keys: tuple[str, ...]
    event_time: str
    start: int | None
    end: int | None
    expected: pa.Table | ExpectedError

    def node(self, rows: Node) -> EntityTimes:
        """The node to run; `rows` says where the group's rows lie."""
        return EntityTimes(rows, self.keys, self.event_time, self.start, self.end)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConformCase(Case):
    """Raw values against a declaration."""

    table: pa.Table
    schema: Schema
    expected: pa.Table | ExpectedError


@dataclass(frozen=True, slots=True, kw_only=True)
class DurationCase(Case):
    """The text of a length of time."""

    text: str
    expected: int | ExpectedError
    """Microseconds, or the error."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreGroup:
    """One feature group of a store case."""

    name: str
    entities: tuple[str, ...]
    event_time: str | None
    created_time: str | None
    ttl: str | None
    schema: Schema
    defaults: Mapping[str, Any]
    source: pa.Table


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreCase(Case):
    """The public verbs: apply the definitions, materialize every group, get historical features."""

    entities: Mapping[str, Mapping[str, str | None]]
    groups: tuple[StoreGroup, ...]
    features: tuple[FeatureSelection, ...]
    spine: pa.Table | None
    time: str | None
    """The spine's time column."""
    start: str | None
    end: str | None
    as_known: bool
    expected: pa.Table | ExpectedError

    def definitions(self) -> list[FeatureGroup]:
        """The feature groups to apply, each over its rows in memory."""
        entities = {name: _entity(name, keys) for name, keys in self.entities.items()}
        return [
            FeatureGroup(
                group.name,
                entities=[entities[name] for name in group.entities],
                source=TableSource(
                    group.source,
                    name=f"{group.name}_source",
                    event_time=group.event_time,
                    created_time=group.created_time,
                ),
                schema=group.schema,
                ttl=group.ttl,
                defaults=group.defaults,
            )
            for group in self.groups
        ]


AnyCase = (
    JoinCase
    | WindowCase
    | CurrentEventsCase
    | GridCase
    | NameCase
    | EntityTimesCase
    | ConformCase
    | DurationCase
    | StoreCase
)
C = TypeVar("C", bound=Case)


@functools.cache
def load_cases() -> tuple[AnyCase, ...]:
    """Every case, by file and then in the file's order.

    Raises:
        ValueError: there is none at all; or one is malformed, says so twice, or cites no law. Names the file.
    """
    cases: list[AnyCase] = []
    for path in sorted(FOLDER.glob("*/*.json")):
        for data in json.loads(path.read_text(encoding="utf-8"))["cases"]:
            try:
                cases.append(read_case(data))
            except (KeyError, TypeError, ValueError, pa.ArrowException) as error:
                raise ValueError(f"{path}: case {data.get('name')!r}: {error}") from error
    if not cases:
        raise ValueError(f"no cases under {FOLDER}: an empty corpus proves nothing")
    names = [case.name for case in cases]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"cases named twice: {', '.join(twice)}")
    return tuple(cases)


def cases_of(kind: type[C]) -> list[C]:
    """The cases of one level.

    Raises:
        ValueError: there are none.
    """
    found: list[C] = []
    for case in load_cases():
        if isinstance(case, kind):
            found.append(case)
    if not found:
        raise ValueError(f"no {kind.__name__} in the corpus")
    return found


def read_case(data: Mapping[str, Any]) -> AnyCase:
    """One case of its JSON.

    Raises:
        KeyError, ValueError: a field is missing, unknown or malformed, or a law does not exist.
    """
    fields = dict(data)
    level = fields.pop("level")
    unknown = [law for law in fields["laws"] if law not in LAWS]
    if unknown or not fields["laws"]:
        raise ValueError(f"cites no existing law: {unknown}")
    if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", fields["name"]):
        raise ValueError("a name is lower-case words with dashes")
    base = {"name": fields.pop("name"), "laws": tuple(fields.pop("laws")), "description": fields.pop("description")}
    match level:
        case "join":
            return _read_join(base, fields)
        case "window":
            return _read_window(base, fields)
        case "current_events":
            return _read_current_events(base, fields)
        case "grid":
            return _read_grid(base, fields)
        case "name":
            _only(fields, ("column", "function", "window", "expected"))
            function = parse_function(fields["function"], what=base["name"])
            window = _read_length(fields["window"])
            return NameCase(
                **base, column=fields["column"], function=function, window=window, expected=fields["expected"]["name"]
            )
        case "entity_times":
            return _read_entity_times(base, fields)
        case "conform":
            _only(fields, ("table", "schema", "expected"))
            table, expected = read_table(fields["table"]), _expected(fields["expected"])
            return ConformCase(**base, table=table, schema=Schema.of(fields["schema"]), expected=expected)
        case "duration":
            _only(fields, ("text", "expected"))
            micros = fields["expected"].get("micros")
            return DurationCase(
                **base, text=fields["text"], expected=_error(fields["expected"]) if micros is None else micros
            )
        case "store":
            return _read_store(base, fields)
        case _:
            raise ValueError(f"no level {level!r}")


def _read_join(base: Mapping[str, Any], fields: Mapping[str, Any]) -> JoinCase:
    _only(fields, ("spine", "time", "as_known", "groups", "expected"))
    return JoinCase(
        **base,
        spine=read_table(fields["spine"]),
        time=fields.get("time", "t"),
        as_known=fields.get("as_known", False),
        groups=tuple(_read_group(group) for group in fields["groups"]),
        expected=_expected(fields["expected"]),
    )


def _read_group(group: Mapping[str, Any]) -> CaseGroup:
    _only(
        group,
        ("name", "keys", "event_time", "created_time", "ttl", "exact_matches", "rows", "outputs"),
    )
    rows = read_table(group["rows"])
    return CaseGroup(
        name=group["name"],
        keys=tuple(group["keys"].items()),
        event_time=group.get("event_time", "f"),
        created_time=group.get("created_time"),
        ttl=_micros(group.get("ttl")),
        exact_matches=group.get("exact_matches", True),
        rows=numbered(rows),
        outputs=tuple(_read_output(output, rows.schema) for output in group["outputs"]),
    )


def _read_output(output: Mapping[str, Any], schema: pa.Schema) -> Output:
    _only(output, ("column", "name", "dtype", "default"))
    column = output["column"]
    dtype = parse_dtype(output["dtype"]) if "dtype" in output else from_arrow_type(schema.field(column).type)
    if dtype is None:
        raise ValueError(f"column {column!r} holds nulls only: say its dtype")
    return Output(column, output.get("name", column), dtype, output.get("default"))


def _read_window(base: Mapping[str, Any], fields: Mapping[str, Any]) -> WindowCase:
    _only(fields, ("spine", "time", "as_known", "group", "expected"))
    return WindowCase(
        **base,
        spine=read_table(fields["spine"]),
        time=fields.get("time", "t"),
        as_known=fields.get("as_known", False),
        group=_read_window_group(fields["group"]),
        expected=_expected(fields["expected"]),
    )


def _read_window_group(group: Mapping[str, Any]) -> WindowGroup:
    _only(
        group,
        ("name", "keys", "event_time", "created_time", "event_id", "retracted", "ttl", "exact_matches", "rows",
         "aggregates"),
    )  # fmt: skip
    rows = read_table(group["rows"])
    aggregates = tuple(_read_aggregate(item, rows.schema) for item in group["aggregates"])
    defaults = [item.get("default") for item in group["aggregates"]]
    return WindowGroup(
        name=group.get("name", "events"),
        keys=tuple(group["keys"].items()),
        event_time=group.get("event_time", "f"),
        created_time=group.get("created_time"),
        event_id=group.get("event_id"),
        retracted=group.get("retracted"),
        ttl=_micros(group.get("ttl")),
        exact_matches=group.get("exact_matches", True),
        rows=numbered(rows),
        aggregates=aggregates,
        outputs=tuple(
            Output(aggregate.name, aggregate.name, aggregate.dtype, default)
            for aggregate, default in zip(aggregates, defaults, strict=True)
        ),
    )


def _read_aggregate(item: Mapping[str, Any], schema: pa.Schema) -> Aggregate:
    _only(
        item,
        ("name", "function", "parameters", "column", "window", "closed", "every", "offset", "shift", "filter",
         "default"),
    )  # fmt: skip
    if item["function"] in FUNCTIONS and ("parameters" in item or not FUNCTIONS[item["function"]].parameters):
        function = Function(item["function"], tuple(item.get("parameters", ())))
    else:
        function = parse_function(item["function"], what=item["name"])
    column = item.get("column", ROWS)
    dtype = None if column == ROWS else from_arrow_type(schema.field(column).type)
    by = function.parameters[0] if function.name in ("min_by", "max_by") else None
    return Aggregate(
        name=item["name"],
        function=function,
        column=column,
        window=_read_length(item.get("window", str(LIFETIME))),
        dtype=output_dtype(function, dtype),
        input=dtype,
        by_input=None if by is None else from_arrow_type(schema.field(by).type),
        closed=item.get("closed", "right"),
        every=_micros(item.get("every")),
        offset=_micros(item.get("offset")) or 0,
        shift=_micros(item.get("shift")) or 0,
        filter=item.get("filter"),
    )


def _read_length(text: str) -> Window:
    """A window as it prints: a session too."""
    if not text.startswith("session_"):
        return parse_window(text, what="window")
    return Window("session", length_in_micros(parse_duration(text.removeprefix("session_"))))


def _micros(text: str | None) -> int | None:
    return None if text is None else length_in_micros(parse_duration(text))


def _read_current_events(base: Mapping[str, Any], fields: Mapping[str, Any]) -> CurrentEventsCase:
    _only(fields, ("rows", "keys", "created_time", "event_id", "retracted", "expected"))
    return CurrentEventsCase(
        **base,
        rows=numbered(read_table(fields["rows"])),
        keys=tuple(fields["keys"]),
        created_time=fields.get("created_time"),
        event_id=fields.get("event_id", "id"),
        retracted=fields.get("retracted"),
        expected=_expected(fields["expected"]),
    )


def _read_grid(base: Mapping[str, Any], fields: Mapping[str, Any]) -> GridCase:
    _only(fields, ("rows", "keys", "event_time", "interval", "closed", "fill", "start", "end", "expected"))
    start, end = fields.get("start"), fields.get("end")
    return GridCase(
        **base,
        rows=numbered(read_table(fields["rows"])),
        keys=tuple(fields["keys"]),
        event_time=fields.get("event_time", "f"),
        interval=length_in_micros(parse_duration(fields["interval"])),
        closed=fields.get("closed", "right"),
        fill=fields.get("fill", False),
        start=None if start is None else to_micros(start),
        end=None if end is None else to_micros(end),
        expected=_expected(fields["expected"]),
    )


def _read_entity_times(base: Mapping[str, Any], fields: Mapping[str, Any]) -> EntityTimesCase:
    _only(fields, ("rows", "keys", "event_time", "start", "end", "expected"))
    start, end = fields.get("start"), fields.get("end")
    return EntityTimesCase(
        **base,
        rows=numbered(read_table(fields["rows"])),
        keys=tuple(fields["keys"]),
        event_time=fields.get("event_time", "f"),
        start=None if start is None else to_micros(start),
        end=None if end is None else to_micros(end),
        expected=_expected(fields["expected"]),
    )


def _read_store(base: Mapping[str, Any], fields: Mapping[str, Any]) -> StoreCase:
    _only(
        fields,
        ("entities", "groups", "features", "spine", "time", "start", "end", "as_known", "expected"),
    )
    spine = fields.get("spine")
    if (spine is None) == (fields.get("start") is None and fields.get("end") is None):
        raise ValueError("a spine, or start and end, and not both")
    return StoreCase(
        **base,
        entities=fields["entities"],
        groups=tuple(_read_store_group(group) for group in fields["groups"]),
        features=tuple(_read_selection(item) for item in fields["features"]),
        spine=None if spine is None else read_table(spine),
        time=None if spine is None else fields.get("time", "t"),
        start=fields.get("start"),
        end=fields.get("end"),
        as_known=fields.get("as_known", False),
        expected=_expected(fields["expected"]),
    )


def _read_store_group(group: Mapping[str, Any]) -> StoreGroup:
    _only(
        group,
        ("name", "entities", "event_time", "created_time", "ttl", "schema", "defaults", "source"),
    )
    return StoreGroup(
        name=group["name"],
        entities=tuple(group["entities"]),
        event_time=group.get("event_time", "f"),
        created_time=group.get("created_time"),
        ttl=group.get("ttl"),
        schema=Schema.of(group.get("schema", {})),
        defaults=dict(group.get("defaults", {})),
        source=read_table(group["source"]),
    )


def _read_selection(item: str | Mapping[str, Any]) -> FeatureSelection:
    if isinstance(item, str):
        return select(item)
    _only(item, ("source", "features", "on", "prefix", "rename", "exact_matches"))
    options = {name: value for name, value in item.items() if name not in ("source", "features")}
    return select(item["source"], *item.get("features", ()), **options)


def _entity(name: str, keys: Mapping[str, str | None]) -> Entity:
    declared = {key: dtype for key, dtype in keys.items() if dtype is not None}
    return Entity(name, join_keys=declared if len(declared) == len(keys) else list(keys))


def _expected(data: Mapping[str, Any]) -> pa.Table | ExpectedError:
    return _error(data) if "error" in data else read_table(data)


def _error(data: Mapping[str, Any]) -> ExpectedError:
    _only(data, ("error", "mentions"))
    found = getattr(errors, data["error"], None)
    if not (isinstance(found, type) and issubclass(found, errors.GrangeError)):
        raise ValueError(f"no error {data['error']!r}")
    return ExpectedError(found, tuple(data.get("mentions", ())))


def _only(fields: Mapping[str, Any], known: Iterable[str]) -> None:
    unknown = sorted(set(fields) - set(known))
    if unknown:
        raise ValueError(f"unknown field {unknown[0]!r}")


def numbered(rows: pa.Table) -> pa.Table:
    """The rows with `__sequence`, unless they have it: the order in which they were written."""
    if SEQUENCE in rows.column_names:
        return rows
    return rows.append_column(SEQUENCE, pa.array(range(rows.num_rows), pa.int64()))


# Tables


def read_table(data: Mapping[str, Any]) -> pa.Table:
    """A table of its JSON. See the top of this module.

    Raises:
        ValueError: a row of another length than the columns, or a value that its type cannot hold exactly.
    """
    _only(data, ("columns", "rows"))
    types = {name: read_type(text) for name, text in data["columns"].items()}
    for number, row in enumerate(data["rows"]):
        if len(row) != len(types):
            raise ValueError(f"row {number} has {len(row)} values for {len(types)} columns")
    columns = {
        name: _read_column([row[place] for row in data["rows"]], arrow)
        for place, (name, arrow) in enumerate(types.items())
    }
    return pa.table(columns)


def read_type(text: str) -> pa.DataType:
    """The Arrow type of a column of a case: one of Grange's, or `arrow:` and one of Arrow's."""
    if not text.startswith("arrow:"):
        return arrow_type(parse_dtype(text))
    name = text.removeprefix("arrow:")
    if zoned := re.fullmatch(r"timestamp\[(s|ms|us|ns), tz=(.+)\]", name):
        return pa.timestamp(zoned[1], tz=zoned[2])
    if encoded := re.fullmatch(r"dictionary<(\w+), (\w+)>", name):
        return pa.dictionary(read_type(f"arrow:{encoded[1]}"), read_type(f"arrow:{encoded[2]}"))
    if fixed := re.fullmatch(r"fixed_size_binary\[(\d+)\]", name):
        return pa.binary(int(fixed[1]))
    return pa.type_for_alias(name)


def _read_column(values: list[Any], arrow: pa.DataType) -> pa.Array:
    if pa.types.is_dictionary(arrow):
        return pa.array(values, arrow.value_type).dictionary_encode().cast(arrow)
    if pa.types.is_timestamp(arrow):
        return pa.array([_moment(value, arrow.unit) for value in values], pa.int64()).cast(arrow)
    return pa.array([_read_value(value, arrow) for value in values], arrow)


def _read_value(value: Any, arrow: pa.DataType) -> Any:
    t = pa.types
    if value is None:
        return None
    if t.is_timestamp(arrow):
        return dt.datetime.fromisoformat(value).replace(tzinfo=dt.UTC if arrow.tz else None)
    if t.is_floating(arrow):
        return math.nan if value == "NaN" else float(value)
    if t.is_date(arrow):
        return dt.date.fromisoformat(value)
    if t.is_decimal(arrow):
        return Decimal(value)
    if t.is_binary(arrow) or t.is_large_binary(arrow) or t.is_fixed_size_binary(arrow):
        return bytes.fromhex(value)
    if t.is_list(arrow) or t.is_large_list(arrow):
        return [_read_value(item, arrow.value_type) for item in value]
    if t.is_struct(arrow):
        return {field.name: _read_value(value[field.name], field.type) for field in arrow}
    return value


_FRACTION: Final = re.compile(r"(?P<head>.*?T[\d:]+)\.(?P<digits>\d{1,9})(?P<zone>.*)")
_PER_SECOND: Final = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}


def _moment(text: str | None, unit: str) -> int | None:
    """ISO 8601 text, to the nanosecond, as a count of units since 1970."""
    if text is None:
        return None
    match = _FRACTION.fullmatch(text)
    whole, digits = (match["head"] + match["zone"], match["digits"]) if match else (text, "")
    nanos = to_micros(whole) * 1_000 + int(digits.ljust(9, "0"))
    count, rest = divmod(nanos * _PER_SECOND[unit], 1_000_000_000)
    if rest:
        raise ValueError(f"time {text!r} is finer than {unit}")
    return count


__all__ = [
    "LAWS",
    "SPINE",
    "AnyCase",
    "Case",
    "CaseGroup",
    "ConformCase",
    "CurrentEventsCase",
    "DurationCase",
    "EntityTimesCase",
    "ExpectedError",
    "GridCase",
    "JoinCase",
    "NameCase",
    "StoreCase",
    "StoreGroup",
    "WindowCase",
    "WindowGroup",
    "cases_of",
    "load_cases",
    "numbered",
    "read_case",
    "read_table",
    "read_type",
]
