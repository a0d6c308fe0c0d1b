"""The `reference` engine: the laws, said once in plain Python.

Which row answers a question is decided here with lists, ints and loops, rule by rule, and nothing clever.
Arrow reads the files, holds the columns and fetches rows by their number, so that no value changes on its way.
A join looks at every candidate row for every spine row: right by reading, quadratic by design.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, assert_never

import pyarrow as pa

from grange.engines.reference.files import scan
from grange.engines.reference.tables import (
    Key,
    Micros,
    ages_of,
    canonical,
    column_of,
    keys_of,
    row_numbers,
    rows_inside,
    same_key,
    select,
    times_of,
    with_default,
)
from grange.engines.reference.windows import current_events, grid, window_features
from grange.errors import RequestError, SchemaError
from grange.frames import Rows
from grange.plan.checks import check_align, check_concat
from grange.plan.nodes import (
    Align,
    Apply,
    Between,
    Concat,
    Conform,
    CurrentEvents,
    EntityTimes,
    Grid,
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
    WindowJoin,
)
from grange.transforming import run_transform
from grange.types import DataType
from grange.types.arrow import TIMESTAMP, conform, conform_column
from grange.types.names import EVENT_TIME, SEQUENCE
from grange.types.schema import Column
from grange.types.time import ALWAYS_MICROS


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
        case CurrentEvents():
            return current_events(node, _run(node.input, inputs))
        case Grid():
            return grid(node, _run(node.input, inputs))
        case PointInTimeJoin():
            return _point_in_time_join(node, inputs)
        case _:
            assert_never(node)


def _input(node: Input, inputs: Mapping[str, Rows]) -> pa.Table:
    if node.name not in inputs:
        raise RequestError(f"no input {node.name!r} was handed to the engine", found=", ".join(inputs) or "none")
    table = inputs[node.name].arrow
    return table if node.columns is None else select(table, node.columns)


def _concat(parts: Sequence[pa.Table]) -> pa.Table:
    check_concat([part.column_names for part in parts])
    names = parts[0].column_names
    try:
        return pa.concat_tables([select(part, names) for part in parts], promote_options="permissive")
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
    column = column_of(table, node.column)
    numbers = column.to_pylist() if pa.types.is_integer(column.type) else times_of(table, node.column)
    return table.take(row_numbers(rows_inside(numbers, node.start, node.end)))


def _order(node: Order, table: pa.Table) -> pa.Table:
    ages = ages_of(table, node.event_time, node.created_time)
    in_order: list[int] = sorted(range(table.num_rows), key=ages.__getitem__)
    return table.take(row_numbers(in_order))


def _latest(node: Latest, table: pa.Table) -> pa.Table:
    keys = keys_of(table, node.keys)
    times = times_of(table, node.event_time)
    ages = ages_of(table, node.event_time, node.created_time)
    newest: dict[Key, int] = {}
    for row, (key, time) in enumerate(zip(keys, times, strict=True)):
        if None in key:  # a null key is nobody's (PIT-4)
            continue
        if time is None:  # true at no time, so no join would ever see it (ONL-1)
            continue
        if key not in newest or ages[row] > ages[newest[key]]:
            newest[key] = row
    return canonical(table).take(row_numbers(newest.values()))


def _entity_times(node: EntityTimes, table: pa.Table) -> pa.Table:
    keys = keys_of(table, node.keys)
    times = times_of(table, node.event_time)
    first: dict[tuple[Key, Micros], int] = {}
    for row in rows_inside(times, node.start, node.end):
        time = times[row]
        assert time is not None, "a null time is outside"
        if None not in keys[row]:
            first.setdefault((keys[row], time), row)
    chosen = canonical(select(table, [*node.keys, node.event_time]))
    place = chosen.schema.get_field_index(node.event_time)
    moments = conform_column(chosen.column(place), Column(node.event_time, DataType("datetime")), what="event time")
    return chosen.set_column(place, node.event_time, moments).take(row_numbers(first[pair] for pair in sorted(first)))


# The point-in-time join


def _point_in_time_join(node: PointInTimeJoin, inputs: Mapping[str, Rows]) -> pa.Table:
    spine = _run(node.spine, inputs)
    times = times_of(spine, node.time)
    columns: dict[str, pa.ChunkedArray] = {}
    for join in node.joins:  # groups join independently of each other (PIT-6)
        history = _run(join.rows, inputs)
        wanted = keys_of(spine, [of_spine for of_spine, _ in join.keys])
        asked = list(zip(wanted, times, strict=True))
        match join:
            case GroupJoin():
                columns |= _group_features(join, history, asked, as_known=node.as_known)
            case WindowJoin():
                columns |= window_features(join, history, asked, as_known=node.as_known)
            case _:
                assert_never(join)
    return pa.table(columns)


def _group_features(
    join: GroupJoin, history: pa.Table, asked: Sequence[tuple[Key, Micros | None]], *, as_known: bool
) -> dict[str, pa.ChunkedArray]:
    candidates = _candidates(join, history)
    # one answer per spine row, in the spine's order (PIT-1)
    found = [_newest(_visible(join, candidates, key, time, as_known=as_known)) for key, time in asked]
    return {output.name: _feature(join, output, history, found) for output in join.outputs}


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
    keys = keys_of(history, [of_group for _, of_group in join.keys])
    events = times_of(history, join.event_time)
    created = [None] * history.num_rows if join.created_time is None else times_of(history, join.created_time)
    ages = ages_of(history, join.event_time, join.created_time)
    return [_Candidate(row, keys[row], events[row], created[row], ages[row]) for row in range(history.num_rows)]


def _visible(
    join: GroupJoin, candidates: Iterable[_Candidate], key: Key, time: Micros | None, *, as_known: bool
) -> list[_Candidate]:
    """The rows of one entity key that are visible at one spine time."""
    seen = []
    for candidate in candidates:
        if time is None or candidate.event is None:  # a null time is at no place in time (TIME-1)
            continue
        if not same_key(key, candidate.key):
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


def _newest(visible: Sequence[_Candidate]) -> int | None:
    """The number of the row that wins, or None (PIT-3)."""
    return max(visible, key=lambda candidate: candidate.age).row if visible else None


def _feature(join: GroupJoin, output: Output, history: pa.Table, found: Sequence[int | None]) -> pa.ChunkedArray:
    """One column of the answer: the chosen rows' values, their nulls included, or the default (PIT-3, ONL-5)."""
    declared = Column(output.column, output.dtype)
    what = f"feature group {join.group!r}"
    values = conform_column(column_of(history, output.column), declared, what=what)
    return with_default(values.take(row_numbers(found)), output, group=join.group)


__all__ = ["ReferenceEngine"]
