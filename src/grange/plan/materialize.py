"""The plan of `materialize`: source rows through the transform into a version, and into the online store. Pure."""

from __future__ import annotations

from grange.definitions.feature_group import FeatureGroup
from grange.plan.nodes import (
    Align,
    Apply,
    Between,
    Concat,
    Conform,
    Input,
    Latest,
    Limit,
    LoadOnline,
    Node,
    Number,
    Order,
    Plan,
    Sink,
    Timeless,
    WriteVersion,
)
from grange.types import format_duration
from grange.types.names import SEQUENCE

STORED = "stored"
"""The name under which the caller hands in the rows of the version that was written."""


def feature_rows(group: FeatureGroup, raw: Node) -> Node:
    """A group's rows from raw rows: transformed, typed. What push and materialize share."""
    node = raw if group.transform is None else Apply(raw, group.transform, group.name)
    if group.is_timeless:
        node = Timeless(node)
    return Conform(node, group.schema, what=f"feature group {group.name!r}")


def sample_rows(group: FeatureGroup, raw: Node, *, rows: int) -> Node:
    """What schema inference looks at: the transform of the first raw rows, not yet typed."""
    node: Node = Limit(raw, rows)
    if group.transform is not None:
        node = Apply(node, group.transform, group.name)
    return Timeless(node) if group.is_timeless else node


def plan_materialize(
    group: FeatureGroup,
    raw: Node | None,
    *,
    previous: Node | None,
    pushed: Node | None,
    first_sequence: int,
    pushed_from: int,
    start: int | None,
    end: int | None,
    offline: str,
    online: str | None,
) -> Plan:
    """Compute a group's rows for the next version.

    Shape:
        The stored columns and `__sequence`, in PIT-3 order.
    Time:
        With `start` or `end`, source rows in `start <= event time < end` replace the previous version's source
        rows of that range; the others stay. Pushed rows are always kept.

    Args:
        group: the group, its schema fixed.
        raw: its raw rows; None when it has only pushed ones.
        previous: the rows of the latest version, needed with a range. It may have other columns than the group has
            now, as pushed rows may.
        pushed: all rows ever pushed.
        first_sequence: the sequence that new source rows begin with.
        pushed_from: pushed rows have a sequence from here on.
        start: inclusive, microseconds UTC; None is open.
        end: exclusive, microseconds UTC; None is open.
        offline: name of the offline store.
        online: name of the online store, or None when it is not loaded.
    """
    parts: list[Node] = []
    ranged = start is not None or end is not None
    if previous is not None and ranged:
        kept = Between(_aligned(group, previous), SEQUENCE, None, pushed_from)
        parts += [Between(kept, group.event_time, None, start)] if start is not None else []
        parts += [Between(kept, group.event_time, end, None)] if end is not None else []
    if raw is not None:
        rows = feature_rows(group, raw)
        parts.append(Number(Between(rows, group.event_time, start, end) if ranged else rows, first_sequence))
    if pushed is not None:
        parts.append(_aligned(group, pushed))
    node = parts[0] if len(parts) == 1 else Concat(tuple(parts))
    sinks: list[Sink] = [WriteVersion(group.name, offline, _grid(group))]
    if online is not None:
        sinks.append(LoadOnline(group.name, group.key_space, online, windows=bool(group.aggregations)))
    return Plan("materialize", Order(node, group.event_time, group.created_time), tuple(sinks))


def _grid(group: FeatureGroup) -> str | None:
    """Where the feature rows of a group with aggregations lie, in words."""
    if not group.aggregations:
        return None
    return "as of each event" if group.interval is None else f"every {format_duration(group.interval)}"


def _aligned(group: FeatureGroup, stored: Node) -> Node:
    """Stored rows in the columns that the group has now."""
    return Align(stored, group.schema, group.name, required=(*group.join_keys, group.event_time))


def plan_latest(group: FeatureGroup, rows: Node | None = None, *, now: int) -> Node:
    """The newest row per entity key that is true at `now`: what the online store is loaded with (ONL-1)."""
    source = Input(STORED) if rows is None else rows
    due = Between(source, group.event_time, None, now + 1)
    return Latest(due, group.join_keys, group.event_time, group.created_time)
