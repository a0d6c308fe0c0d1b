"""Windows in the `reference` engine: which events a window holds, law by law, one question at a time.

Every spine row looks at every event. What the events of a window amount to is `functions.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from grange.deriving.conditions import conditions
from grange.engines.reference.calendar import calendar_values
from grange.engines.reference.functions import function_column
from grange.engines.reference.tables import (
    Key,
    Micros,
    ages_of,
    canonical,
    column_of,
    keys_of,
    nulls_first,
    row_numbers,
    same_key,
    select,
    times_of,
    with_default,
)
from grange.frames import Rows
from grange.plan.nodes import CurrentEvents, Grid, WindowJoin
from grange.types import DataType
from grange.types.aggregates import Aggregate
from grange.types.arrow import TIMESTAMP, arrow_type, conform_column
from grange.types.names import SEQUENCE
from grange.types.schema import Column

Asked = tuple[Key, Micros | None]
"""One spine row: its entity key, and its time."""


@dataclass(frozen=True, slots=True)
class _Version:
    """A stored row as one version of an event (WIN-6)."""

    row: int
    """Its number in the group's table."""
    key: Key
    identity: Any
    """The event's id; None is an event of its own."""
    written: tuple[Any, ...]
    """Its place among versions: created time, nulls first, then sequence; the last written is the largest."""
    retracted: bool


@dataclass(frozen=True, slots=True)
class _Event:
    """A stored row, as far as the laws of windows look at it."""

    version: _Version
    event: Micros | None
    created: Micros | None
    """None where the group has no created time, too."""
    age: tuple[Any, ...]
    """Its place in PIT-3 order; the newest is the largest."""

    @property
    def row(self) -> int:
        """Its number in the group's table."""
        return self.version.row


def window_features(
    join: WindowJoin, history: pa.Table, asked: Sequence[Asked], *, as_known: bool
) -> dict[str, pa.ChunkedArray]:
    """The feature columns of a group's windows, one value per spine row, in the spine's order (WIN-1 to WIN-6)."""
    events = _events(join, history)
    by_name = {aggregate.name: aggregate for aggregate in join.aggregates}
    matches = _matches([aggregate.filter for aggregate in join.aggregates], history)
    columns = {}
    for output in join.outputs:
        aggregate = by_name[output.column]
        values = _values(join, aggregate, history, events, matches[aggregate.filter], asked, as_known=as_known)
        declared = Column(output.column, output.dtype)
        typed = conform_column(values, declared, what=f"feature group {join.group!r}")
        columns[output.name] = with_default(typed, output, group=join.group)
    return columns


def current_events(node: CurrentEvents, table: pa.Table) -> pa.Table:
    """The last written version of every event, without retracted ones, in the rows' order (WIN-6)."""
    versions = _versions(table, node.keys, node.created_time, node.event_id, node.retracted)
    return table.take(row_numbers(sorted(_that_count(versions))))


def grid(node: Grid, table: pa.Table) -> pa.Table:
    """Every entity key at the boundaries that follow its events, by boundary then key (WIN-3)."""
    boundaries: dict[Key, set[Micros]] = {}
    holders: dict[Key, int] = {}
    times = times_of(table, node.event_time)
    for row, (key, time) in enumerate(zip(keys_of(table, node.keys), times, strict=True)):
        if None in key or time is None:
            continue
        holders.setdefault(key, row)
        boundaries.setdefault(key, set()).add(_boundary_after(node, time))
    if node.fill:
        for key, reached in boundaries.items():
            boundaries[key] = set(range(min(reached), max(reached) + 1, node.interval))
    points = sorted(
        (boundary, key)
        for key, reached in boundaries.items()
        for boundary in reached
        if (node.start is None or node.start <= boundary) and (node.end is None or boundary < node.end)
    )
    keys = canonical(select(table, node.keys)).take(row_numbers(holders[key] for _, key in points))
    moments = pa.array([boundary for boundary, _ in points], pa.int64()).cast(TIMESTAMP)
    return keys.append_column(node.event_time, moments)


def _boundary_after(node: Grid, time: Micros) -> Micros:
    """The first boundary `b` with `time <= b`; closed left, with `time < b`."""
    before = time - time % node.interval
    if before == time and node.closed == "right":
        return time
    return before + node.interval


# One aggregate


def _values(
    join: WindowJoin,
    aggregate: Aggregate,
    history: pa.Table,
    events: Sequence[_Event],
    matches: Sequence[bool],
    asked: Sequence[Asked],
    *,
    as_known: bool,
) -> pa.ChunkedArray:
    """An aggregate's value for every spine row; without a time there is none (TIME-1)."""
    moments = [None if time is None else _moment(aggregate, time) for _, time in asked]
    if aggregate.function.about.tally == "time":
        values = calendar_values(aggregate.function, moments)
        return pa.chunked_array([pa.array(values, arrow_type(aggregate.dtype))])
    windows: list[list[_Event] | None] = []
    for (key, time), moment in zip(asked, moments, strict=True):
        if moment is None or time is None:
            windows.append(None)
            continue
        visible = _visible(join, aggregate, events, key, moment, known_at=time if as_known else None)
        matching = [event for event in visible if matches[event.row]]
        windows.append(_window(aggregate, sorted(matching, key=lambda event: event.age), moment - aggregate.shift))
    rows = [None if window is None else [event.row for event in window] for window in windows]
    times = [event.event for event in events]
    return function_column(aggregate, history, times, rows, moments, group=join.group)


def _moment(aggregate: Aggregate, time: Micros) -> Micros:
    """The moment that is looked from: the time itself, or the last boundary at or before it (WIN-3)."""
    if aggregate.every is None:
        return time
    return time - (time - aggregate.offset) % aggregate.every


def _matches(filters: Iterable[str | None], history: pa.Table) -> dict[str | None, list[bool]]:
    """By filter, which rows match it, by their number; a null is no match, and without a filter all do."""
    asked = [condition for condition in filters if condition is not None]
    found = conditions(Rows(arrow=history), asked)
    return {None: [True] * history.num_rows} | {condition: mask.tolist() for condition, mask in found.items()}


def _visible(
    join: WindowJoin,
    aggregate: Aggregate,
    events: Iterable[_Event],
    key: Key,
    moment: Micros,
    *,
    known_at: Micros | None,
) -> list[_Event]:
    """The events of one entity key that are visible at one moment, in no order. With `known_at`, only what was known
    then: the time that is asked for, whatever boundary of `every` the moment is."""
    known = []
    for event in events:
        if not same_key(key, event.version.key):
            continue
        if known_at is not None and event.created is not None and event.created > known_at:  # not known yet (PIT-5)
            continue
        known.append(event)
    counting = _that_count(event.version for event in known)
    # how old an event may be is asked of the moment whose point-in-time value a lag is (LAG-1)
    aged_at = moment - aggregate.shift if aggregate.function.name == "lag" else moment
    seen = []
    for event in known:
        if event.row not in counting:
            continue
        if event.event is None:  # a null time is at no place in time (TIME-1)
            continue
        if event.event > moment:  # from the future (PIT-2)
            continue
        if event.event == moment and not join.exact_matches:
            continue
        if join.ttl is not None and aged_at - event.event > join.ttl:  # expired (PIT-2)
            continue
        seen.append(event)
    return seen


def _window(aggregate: Aggregate, events: Sequence[_Event], end: Micros) -> list[_Event]:
    """Those of an entity's visible events, in PIT-3 order, that lie in the window that ends at `end` (WIN-1)."""
    with_start = aggregate.closed in ("left", "both")
    with_end = aggregate.closed in ("right", "both")
    past = [event for event in events if _time(event) < end or (with_end and _time(event) == end)]
    size = aggregate.window.size
    match aggregate.window.kind:
        case "lifetime":
            return past
        case "rows":
            return past[-size:]
        case "session":
            return _session(past, end, size)
        case "time":
            start = end - size
            if aggregate.function.name == "lag":  # a tolerance: both its ends belong to it (LAG-1)
                with_start = True
            return [event for event in past if _time(event) > start or (with_start and _time(event) == start)]


def _session(past: Sequence[_Event], end: Micros, gap: int) -> list[_Event]:
    """The newest events, each at most `gap` before the next, the newest of all at most `gap` before the end."""
    session: list[_Event] = []
    following = end
    for event in reversed(past):
        if following - _time(event) > gap:
            break
        session.append(event)
        following = _time(event)
    return session[::-1]


def _time(event: _Event) -> Micros:
    assert event.event is not None, "an event without time is never visible"
    return event.event


# Events and their versions


def _events(join: WindowJoin, history: pa.Table) -> list[_Event]:
    versions = _versions(
        history, [of_group for _, of_group in join.keys], join.created_time, join.event_id, join.retracted
    )
    times = times_of(history, join.event_time)
    created = [None] * history.num_rows if join.created_time is None else times_of(history, join.created_time)
    ages = ages_of(history, join.event_time, join.created_time)
    return [_Event(version, times[row], created[row], ages[row]) for row, version in enumerate(versions)]


def _versions(
    table: pa.Table, keys: Sequence[str], created_time: str | None, event_id: str | None, retracted: str | None
) -> list[_Version]:
    nothing = [None] * table.num_rows
    created = nothing if created_time is None else times_of(table, created_time)
    written = column_of(table, SEQUENCE).to_pylist()
    identities = [(None,)] * table.num_rows if event_id is None else keys_of(table, [event_id])
    taken_back = nothing if retracted is None else _flags(table, retracted)
    return [
        _Version(row, key, identities[row][0], (nulls_first(created[row]), written[row]), taken_back[row] is True)
        for row, key in enumerate(keys_of(table, keys))
    ]


def _flags(table: pa.Table, name: str) -> list[bool | None]:
    declared = Column(name, DataType("boolean"))
    return list(conform_column(column_of(table, name), declared, what=f"column {name!r}").to_pylist())


def _that_count(versions: Iterable[_Version]) -> set[int]:
    """The rows that count: of each event the last written version, unless that one takes it back (WIN-6).

    Without an id a row is an event of its own; so is one with a null in its key, which is nobody's (PIT-4).
    """
    alone: list[_Version] = []
    last: dict[tuple[Key, Any], _Version] = {}
    for version in versions:
        event = (version.key, version.identity)
        if version.identity is None or None in version.key:
            alone.append(version)
        elif event not in last or version.written > last[event].written:
            last[event] = version
    return {version.row for version in [*alone, *last.values()] if not version.retracted}


__all__ = ["current_events", "grid", "window_features"]
