"""Groups with aggregations: their feature rows and their online state."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from grange.definitions.feature_group import FeatureGroup
from grange.deriving.conditions import conditions
from grange.errors import RequestError, StateLayoutError, StateLostError, UnknownVersionError
from grange.frames import Rows
from grange.plan.bind import Layout
from grange.plan.history import SPINE, SPINE_TIME, plan_feature_rows, spine_column
from grange.plan.materialize import STORED
from grange.plan.nodes import Input, Order
from grange.plan.read import windows_of
from grange.ports.engine import Engine
from grange.ports.offline import PUSHED_FROM
from grange.ports.online import WritableCells
from grange.types import format_duration
from grange.types.durations import to_micros as to_length
from grange.types.names import SEQUENCE
from grange.types.time import to_micros
from grange.verbs.parts import Parts

if TYPE_CHECKING:
    from grange.serving.windows import Event, StateSpec

MOST_BOUNDARIES: Final = 200_000_000
"""Rows of a grid with its gaps filled, at most."""


def feature_rows(group: FeatureGroup, events: Rows, engine: Engine) -> Rows:
    """A group's aggregates as of each of its events, or on its grid.

    Shape:
        Entity key, event time, features; one row per entity key and moment, by moment then key.

    Args:
        group: the group, its schema fixed.
        events: its events in PIT-3 order, with `__sequence`.
        engine: what computes them.
    """
    layout = Layout.of(group)
    spine_node, join = plan_feature_rows(
        layout,
        Input(STORED),
        group=group.name,
        interval=None if group.interval is None else to_length(group.interval),
        fill=group.fill_gaps,
    )
    if group.fill_gaps:
        _check_grid(group, events)
    made = engine.run(spine_node, {STORED: events})
    # keys ascend within a moment already; a grid comes by moment
    spine = Rows(polars=made.polars.sort(group.event_time, maintain_order=True)).arrow
    asked = {spine_column(key, group.schema[key]): spine.column(key) for key in group.join_keys}
    import pyarrow as pa

    handed = Rows(arrow=pa.table({**asked, SPINE_TIME: spine.column(group.event_time)}))
    found = engine.run(join, {STORED: events, SPINE: handed}).arrow
    columns = {name: spine.column(name) for name in (*group.join_keys, group.event_time)}
    return Rows(arrow=pa.table({**columns, **{name: found.column(name) for name in found.column_names}}))


def _check_grid(group: FeatureGroup, events: Rows) -> None:
    """Refuse a filled grid that one stray event makes endless.

    Raises:
        RequestError: says how many boundaries there would be, and of which time range.
    """
    import polars as pl

    assert group.interval is not None, "a grid that is filled has an interval"
    at = pl.col(group.event_time)
    ends = events.polars.group_by(group.join_keys).agg(first=at.min(), last=at.max())
    steps = (ends["last"] - ends["first"]).dt.total_microseconds().sum() // to_length(group.interval) + len(ends)
    if steps > MOST_BOUNDARIES:
        first, last = ends.select(pl.col("first").min(), pl.col("last").max()).row(0)
        raise RequestError(
            f"feature group {group.name!r}: its grid of {format_duration(group.interval)} with gaps filled would have "
            f"{steps} rows, more than {MOST_BOUNDARIES}",
            found=f"events from {first} to {last}",
            try_="a longer interval, fill_gaps=False, or an expectation that keeps stray times out",
        )


def load_windows(parts: Parts, group: FeatureGroup, events: Rows, *, now: dt.datetime) -> int:
    """Replace a group's online window state by what its history makes of it; returns the entity keys loaded.

    Args:
        parts: the opened backends.
        group: the group, its schema fixed.
        events: all its events in PIT-3 order, with `__sequence`.
        now: the clock; events that no read can reach any more are left out, counted back from the newest event that
            is not ahead of it, so that a history that ended long ago is served as of its end.
    """
    from grange.serving.windows import build

    spec = state_spec(group)
    keys = 0

    reference = _newest(group, events, now)

    def counted() -> Iterator[tuple[bytes, list[Event]]]:
        nonlocal keys
        for item in _keyed(group, spec, events, reference):
            keys += 1
            yield item

    cells = build(
        spec,
        counted(),
        now=reference,
        version=_latest(parts, group.name),
        next_pushed=parts.offline.next_pushed(group.name),
    )
    parts.online.load_cells(group.key_space, group.name, cells)
    return keys


def write_windows(parts: Parts, group: FeatureGroup, events: Rows, first: int, *, now: dt.datetime) -> int:
    """Add pushed events to a group's online window state, in one transaction; returns how many changed it.

    A state that was made for other aggregations, that the store lost, or that lacks a part of history (nothing was
    loaded, or a write was cut off), is built anew from history, which has the pushed events already.

    Args:
        parts: the opened backends.
        group: the group, its schema fixed; the caller holds its lock.
        events: the pushed events, typed.
        first: the sequence number that the first of them has in history.
        now: the clock.
    """
    if not len(events):
        return 0
    import pyarrow as pa

    from grange.serving.windows import apply, cover, describe

    spec = state_spec(group)
    numbers = pa.array(range(first, first + len(events)), pa.int64())
    keyed = list(_keyed(group, spec, Rows(arrow=events.arrow.append_column(SEQUENCE, numbers))))
    latest = to_micros(now)

    version = _latest(parts, group.name)

    def write(cells: WritableCells) -> int | None:
        head = describe(cells)
        covered = ("", PUSHED_FROM) if head is None else (head.version, head.next_pushed)
        if covered != (version, first):
            return None
        changed = sum(
            apply(cells, spec, key, run, now=min(latest, max(event.event_time for event in run))) for key, run in keyed
        )
        cover(cells, spec, version=version, next_pushed=first + len(events))
        return changed

    try:
        changed = parts.online.write_cells(group.key_space, group.name, write)
    except (StateLayoutError, StateLostError):
        changed = None
    if changed is None:
        stored = parts.offline.snapshot(group.name)
        everything = parts.engine().run(Order(stored.rows, group.event_time, group.created_time), {})
        load_windows(parts, group, everything, now=now)
        return len(events)
    return changed


def is_behind(parts: Parts, group: FeatureGroup) -> bool:
    """Whether history holds pushed events that the group's online state lacks."""
    from grange.serving.windows import describe

    head = parts.online.read_cells(group.key_space, group.name, describe)
    return head is not None and head.next_pushed < parts.offline.next_pushed(group.name)


def _latest(parts: Parts, group: str) -> str:
    """The latest version's number; empty when there is none."""
    try:
        return parts.offline.meta(group).version
    except UnknownVersionError:
        return ""


def state_spec(group: FeatureGroup) -> StateSpec:
    """What a group's online state keeps."""
    from grange.serving.window_reader import spec_of

    windows = windows_of(Layout.of(group))
    assert windows is not None, "the group has aggregations"
    return spec_of(windows, None if group.ttl is None else to_length(group.ttl))


def _keyed(
    group: FeatureGroup, spec: StateSpec, events: Rows, now: int | None = None
) -> Iterator[tuple[bytes, list[Event]]]:
    from grange.serving.events import keyed_events

    return keyed_events(
        events,
        spec,
        keys=tuple((key, group.schema[key]) for key in group.join_keys),
        event_time=group.event_time,
        created_time=group.created_time,
        event_id=group.event_id,
        retracted=group.retracted,
        masks=conditions(events, spec.filters) if spec.filters else {},
        now=now,
    )


def _newest(group: FeatureGroup, events: Rows, now: dt.datetime) -> int:
    """The newest event time that is not after `now`, in microseconds; `now` when there is none."""
    import pyarrow as pa
    import pyarrow.compute as pc

    limit = to_micros(now)
    times = events.arrow.column(group.event_time).cast(pa.int64())
    newest = pc.max(times.filter(pc.less_equal(times, limit))).as_py()
    return limit if newest is None else int(newest)
