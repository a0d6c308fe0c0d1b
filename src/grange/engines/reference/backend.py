"""The `reference` engine: the laws, said once in plain Python.

Which row answers a question is decided here with lists, ints and loops, rule by rule, and nothing clever.
Arrow reads the files, holds the columns and fetches rows by their number, so that no value changes on its way.
A join looks at every candidate row for every spine row: right by reading, quadratic by design.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, assert_never

import pyarrow as pa

from grange.engines.reference.files import scan
from grange.errors import RequestError, SchemaError
from grange.frames import Rows
from grange.plan.checks import check_align, check_concat
from grange.plan.nodes import (
    Align,
    Apply,
    Between,
    Concat,
    Conform,
    EntityTimes,
    GroupJoin,
    Input,
    Latest,
    Limit,
    Node,
    Number,
    Order,
    Output,
    PointInTimeJoin,
    Scan,
    Timeless,
)
from grange.transforming import run_transform
from grange.types import DataType
from grange.types.arrow import TIMESTAMP, conform, conform_column, constant, from_arrow_type
from grange.types.names import EVENT_TIME, SEQUENCE
from grange.types.schema import Column
from grange.types.time import ALWAYS_MICROS

Micros = int
"""A time: microseconds since 1970-01-01 UTC."""
Key = tuple[Any, ...]
"""An entity key: one value per join key, as Python has it."""

_UNKNOWN: Final = (0, 0)
"""The place of a null created time among created times: before any other (PIT-3)."""


class ReferenceEngine:
    """Runs plans in plain Python. See `grange.ports.engine.Engine`."""

    name = "reference"

    def run(self, node: Node, inputs: Mapping[str, Rows]) -> Rows:
        """The rows of a node. See `grange.ports.engine.Engine.run`."""
        return Rows(arrow=_run(node, inputs))


def _run(node: Node, inputs: Mapping[str, Rows]) -> pa.Table:
    match node:
        case Scan():
            return scan(node)
        case Input():
            return _input(node, inputs)
        case Concat():
            return _concat([_run(part, inputs) for part in node.inputs])
        case Limit():
            return _run(node.input, inputs).slice(0, node.rows)
        case Apply():
            return run_transform(node.transform, Rows(arrow=_run(node.input, inputs)), group=node.group).arrow
        case Timeless():
            return _timeless(_run(node.input, inputs))
        case Conform():
            return conform(_run(node.input, inputs), node.schema, what=node.what)
        case Align():
            return _align(node, _run(node.input, inputs))
        case Number():
            return _number(_run(node.input, inputs), node.start)
        case Between():
            return _between(node, _run(node.input, inputs))
        case Order():
            return _order(node, _run(node.input, inputs))
        case Latest():
            return _latest(node, _run(node.input, inputs))
        case EntityTimes():
            return _entity_times(node, _run(node.input, inputs))
        case PointInTimeJoin():
            return _point_in_time_join(node, inputs)
        case _:
            assert_never(node)


def _input(node: Input, inputs: Mapping[str, Rows]) -> pa.Table:
    if node.name not in inputs:
        raise RequestError(f"no input {node.name!r} was handed to the engine", found=", ".join(inputs) or "none")
    table = inputs[node.name].arrow
    return table if node.columns is None else _select(table, node.columns)


def _concat(parts: Sequence[pa.Table]) -> pa.Table:
    check_concat([part.column_names for part in parts])
    names = parts[0].column_names
    try:
        return pa.concat_tables([_select(part, names) for part in parts], promote_options="permissive")
    except pa.ArrowException as error:
        raise SchemaError("rows to put together have other types", found=str(error).splitlines()[0]) from error


def _align(node: Align, table: pa.Table) -> pa.Table:
    check_align(node, table.column_names)
    columns = {
        column.name: table.column(column.name) if column.name in table.column_names else pa.nulls(table.num_rows)
        for column in node.schema
    }
    aligned = conform(pa.table(columns), node.schema, what=node.what)
    return aligned.append_column(SEQUENCE, table.column(SEQUENCE)) if SEQUENCE in table.column_names else aligned


def _number(table: pa.Table, start: int) -> pa.Table:
    return table.append_column(SEQUENCE, pa.array(range(start, start + table.num_rows), pa.int64()))


def _timeless(table: pa.Table) -> pa.Table:
    always = pa.array([ALWAYS_MICROS] * table.num_rows, pa.int64())
    return table.append_column(EVENT_TIME, always.cast(TIMESTAMP))


def _between(node: Between, table: pa.Table) -> pa.Table:
    column = _column(table, node.column)
    numbers = column.to_pylist() if pa.types.is_integer(column.type) else _times(table, node.column)
    return table.take(_row_numbers(_inside(numbers, node.start, node.end)))


def _order(node: Order, table: pa.Table) -> pa.Table:
    ages = _ages(table, node.event_time, node.created_time)
    in_order: list[int] = sorted(range(table.num_rows), key=ages.__getitem__)
    return table.take(_row_numbers(in_order))


def _latest(node: Latest, table: pa.Table) -> pa.Table:
    keys = _keys(table, node.keys)
    times = _times(table, node.event_time)
    ages = _ages(table, node.event_time, node.created_time)
    newest: dict[Key, int] = {}
    for row, (key, time) in enumerate(zip(keys, times, strict=True)):
        if None in key:  # a null key is nobody's (PIT-4)
            continue
        if time is None:  # true at no time, so no join would ever see it (ONL-1)
            continue
        if key not in newest or ages[row] > ages[newest[key]]:
            newest[key] = row
    return _canonical(table).take(_row_numbers(newest.values()))


def _entity_times(node: EntityTimes, table: pa.Table) -> pa.Table:
    keys = _keys(table, node.keys)
    times = _times(table, node.event_time)
    first: dict[tuple[Micros, Key], int] = {}
    for row in _inside(times, node.start, node.end):
        time = times[row]
        assert time is not None, "a null time is outside"
        if None not in keys[row]:
            first.setdefault((time, keys[row]), row)
    chosen = _canonical(_select(table, [*node.keys, node.event_time]))
    place = chosen.schema.get_field_index(node.event_time)
    moments = conform_column(chosen.column(place), Column(node.event_time, DataType("datetime")), what="event time")
    return chosen.set_column(place, node.event_time, moments).take(_row_numbers(first[pair] for pair in sorted(first)))


# The point-in-time join


def _point_in_time_join(node: PointInTimeJoin, inputs: Mapping[str, Rows]) -> pa.Table:
    spine = _run(node.spine, inputs)
    times = _times(spine, node.time)
    columns: dict[str, pa.ChunkedArray] = {}
    for join in node.joins:  # groups join independently of each other (PIT-6)
        history = _run(join.rows, inputs)
        wanted = _keys(spine, [of_spine for of_spine, _ in join.keys])
        candidates = _candidates(join, history)
        # one answer per spine row, in the spine's order (PIT-1)
        found = [
            _newest(_visible(join, candidates, key, time, as_known=node.as_known))
            for key, time in zip(wanted, times, strict=True)
        ]
        for output in join.outputs:
            columns[output.name] = _feature(join, output, history, found)
    return pa.table(columns)


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A stored row, as far as the laws look at it."""

    row: int
    """Its number in the group's table."""
    key: Key
    event: Micros | None
    created: Micros | None
    """None where the group has no created time, too."""
    age: tuple[Any, ...]
    """Its place in PIT-3 order; the newest is the largest."""


def _candidates(join: GroupJoin, history: pa.Table) -> list[_Candidate]:
    keys = _keys(history, [of_group for _, of_group in join.keys])
    events = _times(history, join.event_time)
    created = [None] * history.num_rows if join.created_time is None else _times(history, join.created_time)
    ages = _ages(history, join.event_time, join.created_time)
    return [_Candidate(row, keys[row], events[row], created[row], ages[row]) for row in range(history.num_rows)]


def _visible(
    join: GroupJoin, candidates: Iterable[_Candidate], key: Key, time: Micros | None, *, as_known: bool
) -> list[_Candidate]:
    """The rows of one entity key that are visible at one spine time."""
    seen = []
    for candidate in candidates:
        if time is None or candidate.event is None:  # a null time is at no place in time (TIME-1)
            continue
        if not _same_key(key, candidate.key):
            continue
        if candidate.event > time:  # from the future (PIT-2)
            continue
        if candidate.event == time and not join.exact_matches:
            continue
        if join.ttl is not None and time - candidate.event > join.ttl:  # expired (PIT-2)
            continue
        if as_known and candidate.created is not None and candidate.created > time:  # not known yet (PIT-5)
            continue
        seen.append(candidate)
    return seen


def _same_key(left: Key, right: Key) -> bool:
    """Column by column, by type and value; a null equals nothing, itself included (PIT-4)."""
    for a, b in zip(left, right, strict=True):
        if a is None or b is None:
            return False
        if type(a) is not type(b) or a != b:
            return False
    return True


def _newest(visible: Sequence[_Candidate]) -> int | None:
    """The number of the row that wins, or None (PIT-3)."""
    return max(visible, key=lambda candidate: candidate.age).row if visible else None


def _feature(join: GroupJoin, output: Output, history: pa.Table, found: Sequence[int | None]) -> pa.ChunkedArray:
    """One column of the answer: the chosen rows' values, their nulls included, or the default (PIT-3, ONL-5)."""
    declared = Column(output.column, output.dtype)
    what = f"feature group {join.group!r}"
    values = conform_column(_column(history, output.column), declared, what=what)
    if output.default is None:
        return values.take(_row_numbers(found))
    # the default lies behind the stored values, as one more row that is fetched by its number
    default = constant(output.default, output.dtype, what=f"default of {join.group}:{output.column}")
    valid = [value.is_valid for value in values]
    chosen = [row if row is not None and valid[row] else len(values) for row in found]
    last = pa.array([default], values.type)
    return pa.chunked_array([*values.chunks, last], type=values.type).take(_row_numbers(chosen))


# What the laws look at, as Python values


def _times(table: pa.Table, name: str) -> list[Micros | None]:
    """A time column as microseconds UTC (TIME-1)."""
    column = conform_column(_column(table, name), Column(name, DataType("datetime")), what=f"time column {name!r}")
    return list(column.cast(pa.int64()).to_pylist())


def _keys(table: pa.Table, names: Sequence[str]) -> list[Key]:
    """The entity key of every row."""
    columns = [_key_column(_column(table, name)) for name in names]
    return [tuple(column[row] for column in columns) for row in range(table.num_rows)]


def _key_column(column: pa.ChunkedArray) -> list[Any]:
    # moments are compared as they are stored: Python's datetime ends at the year 9999
    return list((column.cast(pa.int64()) if column.type == TIMESTAMP else column).to_pylist())


def _ages(table: pa.Table, event_time: str, created_time: str | None) -> list[tuple[Any, ...]]:
    """Every row's place in PIT-3 order: event time, then created time, then sequence; a null before any other."""
    events = _times(table, event_time)
    created = [None] * table.num_rows if created_time is None else _times(table, created_time)
    written = _column(table, SEQUENCE).to_pylist()
    return [
        (_nulls_first(event), _nulls_first(known), sequence)
        for event, known, sequence in zip(events, created, written, strict=True)
    ]


def _nulls_first(time: Micros | None) -> tuple[int, Micros]:
    return _UNKNOWN if time is None else (1, time)


def _inside(values: Sequence[int | None], start: int | None, end: int | None) -> list[int]:
    """The numbers of the rows with `start <= value < end`; a null is outside."""
    return [
        row
        for row, value in enumerate(values)
        if value is not None and (start is None or start <= value) and (end is None or value < end)
    ]


# Arrow, to hold and to fetch


def _row_numbers(rows: Iterable[int | None]) -> pa.Array:
    """Row numbers to take; None takes a null."""
    return pa.array(list(rows), pa.int64())


def _column(table: pa.Table, name: str) -> pa.ChunkedArray:
    if name not in table.column_names:
        raise SchemaError(f"no column {name!r} in the rows", found=", ".join(table.column_names) or "no columns at all")
    return table.column(name)


def _select(table: pa.Table, names: Sequence[str]) -> pa.Table:
    return pa.table({name: _column(table, name) for name in names})


def _canonical(table: pa.Table) -> pa.Table:
    """The table in canonical types; a column of nulls only has none and stays as it is."""
    columns = {}
    for name in table.column_names:
        column = table.column(name)
        dtype = from_arrow_type(column.type)
        columns[name] = column if dtype is None else conform_column(column, Column(name, dtype), what="rows")
    return pa.table(columns)


__all__ = ["ReferenceEngine"]
