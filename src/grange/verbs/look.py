"""Looking: stored rows, statistics, and everything known of a definition. Changes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from grange.definitions.catalog import Catalog
from grange.definitions.feature_group import FeatureGroup
from grange.definitions.on_demand import offered
from grange.definitions.serialize import to_data
from grange.definitions.sources import DerivedSource
from grange.errors import (
    CorruptStoreError,
    NotFoundError,
    RequestError,
    SchemaError,
    UnknownVersionError,
    closest_names,
)
from grange.frames import Rows
from grange.plan.nodes import Limit
from grange.ports.online import GroupInfo
from grange.types.aggregates import Window
from grange.types.time import isoformat
from grange.verbs.apply import users_of
from grange.verbs.batches import StoredRows
from grange.verbs.derive import stale_parents
from grange.verbs.parts import Parts
from grange.verbs.runs import runs_of
from grange.verbs.search import use_summary
from grange.verbs.versions import latest_version, online_version


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
    stored = StoredRows.of(parts.offline.snapshot(group, version), events=events)
    wanted = stored.chosen(columns)
    node = stored.node(start, end)
    if limit is not None:
        node = Limit(node, limit)
    return parts.engine().run(node, {}).select(wanted)


def quarantined(parts: Parts, group: str) -> Rows:
    """The rows of a group that were kept out, in clear. See `FeatureStore.quarantined`."""
    import polars as pl

    kept = parts.offline.quarantined(group)
    sealer = parts.open_sealer()
    if sealer is None:
        for rows in kept:
            refuse_sealed(rows)
    else:
        from grange.security.encryption import open_rows

        kept = tuple(open_rows(rows, sealer, group=group) for rows in kept)
    if not kept:
        return Rows(polars=pl.DataFrame())
    return Rows(polars=pl.concat([rows.polars for rows in kept], how="diagonal_relaxed"))


def refuse_sealed(rows: Rows) -> None:
    """That rows are not sealed: there is no key here to open them with.

    Raises:
        CorruptStoreError: they are.
    """
    from grange.security.encryption.rows import SEALED

    if rows.column_names == [SEALED]:
        raise CorruptStoreError(
            "quarantined rows are sealed, and this process has no key",
            try_="set encryption_key in [security], as for whoever wrote them",
        )


def inspect(parts: Parts, catalog: Catalog, name: str, *, version: str | None) -> dict[str, Any]:
    """Everything known of a feature group, feature view or entity, JSON-able.

    Raises:
        NotFoundError: no definition has this name.
        UnknownVersionError: the group has no such version.
        RequestError: a version of something that has none.
    """
    if name in catalog.groups:
        return _inspect_group(parts, catalog, name, version)
    if version is not None and name in {*catalog.views, *catalog.entities}:
        raise RequestError(
            f"{name!r} is no feature group, so it has no versions",
            found=f"version {version}",
            try_=f"grange inspect {name}",
        )
    if name in catalog.views:
        view = catalog.views[name]
        selections = [str(item) for item in view.features]
        uses = use_summary(parts.registry.uses(name))
        return {"kind": "feature_view", "name": name, **to_data(view), "selections": selections, "uses": uses}
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
    data["features"] = offered(group).to_list()
    if group.aggregations:
        data["aggregates"] = [item.to_data() for item in group.aggregates()]
    data["feature_views"] = list(users_of(catalog, name))
    data["uses"] = use_summary(parts.registry.uses(name))
    data["versions"] = list(parts.offline.versions(name))
    if isinstance(group.source, DerivedSource):
        data |= _stale(parts, group)
    data["latest"] = latest_version(parts, name)
    data |= _stored(parts, name, version)
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
        for run in runs_of(parts.registry, name, limit=5)
    ]
    return data


def _stored(parts: Parts, name: str, version: str | None) -> dict[str, Any]:
    """What is known of a version, or of the latest with what was pushed since. Of a damaged latest, what can be read
    of it and the damage.

    Raises:
        UnknownVersionError, CorruptStoreError: of a version that is named.
    """
    try:
        snapshot = parts.offline.snapshot(name, version)
        return {"stored": snapshot.meta.to_dict(), "pending_rows": snapshot.pending}
    except UnknownVersionError:
        if version is not None:
            raise
        return {"stored": None, "pending_rows": 0}
    except (CorruptStoreError, SchemaError) as error:
        if version is not None:
            raise
        damage = f"{error.message}; {error.try_}" if error.try_ else error.message
    stored = None
    with suppress(UnknownVersionError, CorruptStoreError):
        stored = parts.offline.meta(name).to_dict()
    return {"stored": stored, "pending_rows": None, "damage": damage}


def _stale(parts: Parts, group: FeatureGroup) -> dict[str, Any]:
    """The parents that a derived group is behind of, as far as they can be read."""
    try:
        changed = [
            {"parent": parent, "made_of": old, "latest": new} for parent, old, new in stale_parents(parts, group)
        ]
    except CorruptStoreError as error:
        return {"stale": [], "damage": error.message}
    return {"stale": changed}


_FOR_EVER = "ever: a lifetime window, a session, or a filtered lag or window of rows, and no ttl"


def _online_state(parts: Parts, group: FeatureGroup, info: GroupInfo) -> dict[str, Any]:
    """What the online store holds of a group; of one with aggregations, how large an entity key's state is."""
    state: dict[str, Any] = {
        "key_space": info.key_space,
        "rows": info.rows,
        "bytes": info.bytes,
        "version": online_version(parts, group) if info.key_space == group.key_space else None,
    }
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
        "events_are_kept_for": bound or _FOR_EVER,
    }
