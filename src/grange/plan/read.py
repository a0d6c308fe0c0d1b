"""The plan of `get_online_features`: which rows to read and what to take of them. Pure; made once, run often."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from grange.plan.bind import Request
from grange.plan.bound import Bound, BoundFeature, Layout
from grange.plan.nodes import ReadColumn, ReadGroup, ReadPlan, ReadWindows
from grange.types.durations import to_micros


def plan_read(request: Request, bound: Bound, *, store: str) -> ReadPlan:
    """Read features of the latest stored rows, one vector per requested row (ONL-1 to ONL-6).

    Args:
        request: its request columns and outage policy.
        bound: what it comes to; labels and training helpers are not among it.
        store: name of the online store.
    """
    groups: dict[tuple[object, ...], list[BoundFeature]] = {}
    for feature in bound.features:
        groups.setdefault((feature.group.name, feature.keys, feature.selection.exact_matches), []).append(feature)
    on_error: Literal["raise", "default"] = "default" if request.on_error == "default" else "raise"
    read = tuple(_read_group(items) for items in groups.values())
    made = (*bound.features, *bound.computed)
    hidden = tuple(name for item in made for name, _ in item.outputs if name not in bound.columns)
    helpers = tuple(name for name, role in bound.columns.items() if role == "inference_helper")
    return ReadPlan(read, request.requests, on_error, store, bound.computed, hidden, helpers)


def _read_group(features: Sequence[BoundFeature]) -> ReadGroup:
    first = features[0]
    group = first.group
    return ReadGroup(
        group=group.name,
        key_space=group.key_space,
        keys=tuple((column, key, first.layout.schema[key]) for column, key in first.keys),
        ttl=first.layout.ttl if first.layout.aggregates else None if group.ttl is None else to_micros(group.ttl),
        exact_matches=first.selection.exact_matches,
        columns=tuple(ReadColumn(item.column, item.name, item.dtype, item.default) for item in features),
        windows=windows_of(first.layout),
    )


def windows_of(layout: Layout) -> ReadWindows | None:
    """What the online state of a group with aggregations is made by; None for any other group."""
    if not layout.aggregates:
        return None
    return ReadWindows(layout.schema, layout.created_time, layout.event_id, layout.retracted, layout.aggregates)
