"""Looking: stored rows, statistics, and everything known of a definition. Changes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from grange.definitions.catalog import Catalog
from grange.definitions.feature_group import FeatureGroup
from grange.definitions.serialize import to_data
from grange.errors import NotFoundError, RequestError, UnknownFeatureError, UnknownVersionError, closest_names
from grange.frames import Rows
from grange.plan.nodes import Between, Limit, Node, Order
from grange.ports.online import GroupInfo
from grange.quality.statistics import ColumnStatistics, statistics
from grange.types.aggregates import Window
from grange.types.time import isoformat
from grange.verbs.apply import users_of
from grange.verbs.parts import Parts


def read(
    parts: Parts,
    catalog: Catalog,
    group: str,
    *,
    version: str | None,
    columns: Sequence[str] | None,
    start: int | None,
    end: int | None,
    limit: int | None,
    events: bool = False,
) -> Rows:
    """A group's stored rows in event-time order, without the sequence. See `FeatureStore.read`."""
    if limit is not None and limit < 0:
        raise RequestError(f"limit must be zero or more, got {limit}", try_="leave it out for all rows")
    catalog.group(group)
    snapshot = parts.offline.snapshot(group, version)
    meta = snapshot.meta
    features = snapshot.features if meta.aggregates and not events else None
    if events and not meta.aggregates:
        raise RequestError(
            f"feature group {group!r} has no aggregations, so its rows are its features",
            try_="leave events=True out",
        )
    stored = meta.schema.names if features is None else meta.feature_schema.names
    wanted = list(stored if columns is None else columns)
    for column in wanted:
        if column not in stored:
            raise UnknownFeatureError(
                f"feature group {group!r} version {snapshot.meta.version} has no column {column!r}",
                found=", ".join(stored),
                closest=closest_names(column, stored),
                try_=f"grange fg features {group}",
            )
    node: Node = snapshot.rows if features is None else features
    # times as the version has them, which the definition of today may have elsewhere
    if snapshot.pending and features is None:
        node = Order(node, snapshot.meta.event_time, snapshot.meta.created_time)
    if start is not None or end is not None:
        node = Between(node, snapshot.meta.event_time, start, end)
    if limit is not None:
        node = Limit(node, limit)
    return parts.engine().run(node, {}).select(wanted)


def describe_rows(rows: Rows, columns: Sequence[str] | None) -> tuple[ColumnStatistics, ...]:
    """Statistics of columns."""
    return statistics(rows, columns)


def inspect(parts: Parts, catalog: Catalog, name: str, *, version: str | None) -> dict[str, Any]:
    """Everything known of a feature group, feature view or entity, JSON-able.

    Raises:
        NotFoundError: no definition has this name.
        UnknownVersionError: the group has no such version.
    """
    if name in catalog.groups:
        return _inspect_group(parts, catalog, name, version)
    if name in catalog.views:
        view = catalog.views[name]
        selections = [str(item) for item in view.features]
        return {"kind": "feature_view", "name": name, **to_data(view), "selections": selections}
    if name in catalog.entities:
        users = [group.name for group in catalog.groups.values() if name in {e.name for e in group.entities}]
        return {"kind": "entity", "name": name, **to_data(catalog.entities[name]), "feature_groups": users}
    everything = [*catalog.groups, *catalog.views, *catalog.entities]
    raise NotFoundError(
        f"nothing is called {name!r}: no feature group, feature view or entity",
        closest=closest_names(name, everything),
        try_="grange fg list" if everything else "grange apply",
    )


def _inspect_group(parts: Parts, catalog: Catalog, name: str, version: str | None) -> dict[str, Any]:
    group = catalog.groups[name]
    data: dict[str, Any] = {"kind": "feature_group", "name": name, **to_data(group)}
    data["join_keys"] = list(group.join_keys)
    data["event_time"] = None if group.is_timeless else group.event_time
    data["created_time"] = group.created_time
    data["features"] = group.features().to_list()
    if group.aggregations:
        data["aggregates"] = [item.to_data() for item in group.aggregates()]
    data["feature_views"] = list(users_of(catalog, name))
    data["versions"] = list(parts.offline.versions(name))
    try:
        snapshot = parts.offline.snapshot(name, version)
    except UnknownVersionError:
        if version is not None:
            raise
        data["stored"], data["pending_rows"] = None, 0
    else:
        data["stored"] = snapshot.meta.to_dict()
        data["pending_rows"] = snapshot.pending
    data["online_state"] = [
        _online_state(parts, group, info)
        for info in (parts.online.info() if group.online else ())
        if info.group == name
    ]
    data["runs"] = [
        {
            "verb": run.verb,
            "version": run.version or None,
            "started_at": isoformat(run.started_at),
            "seconds": round((run.ended_at - run.started_at).total_seconds(), 3),
            "rows": run.rows,
        }
        for run in parts.registry.runs(name, limit=5)
    ]
    return data


_FOR_EVER = "ever: a lifetime window, a session, or a filtered lag or window of rows, and no ttl"


def _online_state(parts: Parts, group: FeatureGroup, info: GroupInfo) -> dict[str, Any]:
    """What the online store holds of a group; of one with aggregations, how large an entity key's state is."""
    state: dict[str, Any] = {"key_space": info.key_space, "rows": info.rows, "bytes": info.bytes}
    if not group.aggregations:
        return state
    from grange.serving.windows import describe
    from grange.verbs.windows import state_spec

    head = parts.online.read_cells(info.key_space, info.group, describe)
    if head is None:
        return state
    spec = state_spec(group)
    bound = None if spec.horizon is None else str(Window("time", spec.horizon + spec.grace))
    return state | {
        "rows": head.keys,
        "cells": head.cells,
        "bytes_per_key": round(head.bytes_per_key),
        "largest_key_bytes": head.largest,
        "events_are_kept_for": bound
        or "ever: a lifetime window, a session, or a filtered lag or window of rows, and no ttl",
    }
