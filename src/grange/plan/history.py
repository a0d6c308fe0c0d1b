"""The plan of `get_historical_features`: stored rows joined point-in-time onto a spine. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from grange.plan.bind import BoundFeature, Layout
from grange.plan.nodes import EntityTimes, GroupJoin, Input, Node, Output, Plan, PointInTimeJoin
from grange.types import DataType
from grange.types.durations import to_micros

SPINE = "spine"
"""The name under which the caller hands in the spine."""
SPINE_TIME = "__time"
"""The spine's time column, as the engine sees it."""


def spine_column(column: str, dtype: DataType) -> str:
    """The engine's name of a spine column read as a key type; one column may be read as several."""
    return f"{column} as {dtype}"


def plan_history(
    features: Sequence[BoundFeature],
    stored: Mapping[tuple[str, str | None], tuple[str, Node]],
    *,
    as_known: bool,
) -> Plan:
    """Join features onto a spine.

    Shape:
        One row per spine row, in its order; one column per feature, in the order of `features` (PIT-1).
    Time:
        A row at `f` is visible at `t` when `f <= t` and `t - f <= ttl`, both ends inclusive (PIT-2);
        with `as_known` only when it was created at or before `t` (PIT-5).

    Args:
        features: what to join, bound to stored columns.
        stored: by (group, pinned version or None), the version that is read and the node of its rows.
        as_known: see above.
    """
    joins: dict[tuple[object, ...], list[BoundFeature]] = {}
    for feature in features:
        selection = feature.selection
        how = (feature.group.name, selection.version, feature.keys, selection.exact_matches)
        joins.setdefault(how, []).append(feature)
    return Plan(
        verb="history",
        root=PointInTimeJoin(
            spine=Input(SPINE),
            time=SPINE_TIME,
            joins=tuple(_join(together, stored) for together in joins.values()),
            as_known=as_known,
        ),
    )


def plan_spine(layout: Layout, rows: Node, *, start: int | None, end: int | None) -> Plan:
    """The spine that stands in when none is given: the first group's entity keys and event times (PIT-8)."""
    node = EntityTimes(rows, keys=layout.entity_keys, event_time=layout.event_time, start=start, end=end)
    return Plan(verb="history", root=node)


def _join(features: Sequence[BoundFeature], stored: Mapping[tuple[str, str | None], tuple[str, Node]]) -> GroupJoin:
    first = features[0]
    group, layout = first.group, first.layout
    version, rows = stored[group.name, first.selection.version]
    return GroupJoin(
        group=group.name,
        version=version,
        rows=rows,
        keys=tuple((spine_column(column, layout.schema[key]), key) for column, key in first.keys),
        event_time=layout.event_time,
        created_time=layout.created_time,
        ttl=None if group.ttl is None else to_micros(group.ttl),
        exact_matches=first.selection.exact_matches,
        outputs=tuple(Output(item.column, item.name, item.dtype, item.default) for item in features),
    )
