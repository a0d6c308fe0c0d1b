"""delete: a definition with everything stored of it, or one version of a group."""

from __future__ import annotations

import datetime as dt

from grange.definitions.catalog import Catalog
from grange.definitions.feature_group import FeatureGroup
from grange.errors import CorruptStoreError, InUseError, NotFoundError, UnknownVersionError, closest_names
from grange.plan.nodes import Order
from grange.ports.registry import Run
from grange.verbs.apply import refuse_if_used, remove, remove_rows, users_of
from grange.verbs.materialize import load_online
from grange.verbs.parts import Parts


def delete(
    parts: Parts, catalog: Catalog, name: str, *, version: str | None, cascade: bool, now: dt.datetime
) -> tuple[str, ...]:
    """Remove a group, view, entity, or a group's version; returns what was removed, for people.

    A group's definition goes first, then its online state, then its history: a crash in between leaves rows that
    nothing refers to, never a definition whose rows are half gone.

    Raises:
        NotFoundError: nothing has this name, or the group has no such version.
        InUseError: feature views still use it, and `cascade` was not asked for; or groups use the entity.
    """
    if name in catalog.groups:
        if version is not None:
            with parts.offline.lock(name, timeout=parts.lock_timeout):
                was_latest = _latest(parts, name) in (None, version)
                parts.offline.delete(name, version)
                if was_latest:
                    _serve_what_is_left(parts, catalog.groups[name], now)
            return (f"version {version} of feature group {name}",)
        return _delete_group(parts, catalog, name, cascade=cascade, now=now)
    if name in catalog.views:
        if not cascade:
            refuse_if_used(catalog, name)
        return _delete_views(parts, catalog, name, cascade=cascade, now=now)
    if name in catalog.entities:
        users = [group.name for group in catalog.groups.values() if name in {e.name for e in group.entities}]
        if users:
            raise InUseError(
                f"entity {name!r} is used by feature group{'s' if len(users) > 1 else ''} {', '.join(users)}",
                try_=f"grange fg delete {users[0]}",
            )
        remove(parts, "entity", name, now=now)
        return (f"entity {name}",)
    everything = [*catalog.groups, *catalog.views, *catalog.entities]
    raise NotFoundError(f"nothing is called {name!r}", closest=closest_names(name, everything), try_="grange fg list")


def _latest(parts: Parts, name: str) -> str | None:
    try:
        return parts.offline.meta(name).version
    except (UnknownVersionError, CorruptStoreError):
        return None


def _serve_what_is_left(parts: Parts, group: FeatureGroup, now: dt.datetime) -> None:
    """Load online what is the latest now, so that both sides go on giving one answer (ONL-1)."""
    if not group.online:
        return
    try:
        snapshot = parts.offline.snapshot(group.name)
    except UnknownVersionError:
        parts.online.drop(group.key_space, group.name)
        return
    meta = snapshot.meta
    stored = group.with_(schema=meta.schema)
    needs = {column for item in group.aggregates() for column in item.columns}
    if (meta.entity_keys, meta.event_time) != (group.join_keys, group.event_time) or needs - {*meta.schema.names}:
        parts.online.drop(group.key_space, group.name)  # of another key, time or columns: not what this group serves
        return
    rows = parts.engine().run(Order(snapshot.rows, meta.event_time, meta.created_time), {})
    loaded = load_online(parts, stored, rows, engine=None, now=now)
    parts.record(Run(group.name, meta.version, "load", now, now, meta.row_count, {"online_rows": loaded}))


def _delete_group(parts: Parts, catalog: Catalog, name: str, *, cascade: bool, now: dt.datetime) -> tuple[str, ...]:
    if not cascade:
        refuse_if_used(catalog, name)
    group = catalog.groups[name]
    removed: list[str] = []
    for view in users_of(catalog, name):
        removed += _delete_views(parts, catalog, view, cascade=True, now=now)
    with parts.offline.lock(name, timeout=parts.lock_timeout):
        versions = parts.offline.versions(name)
        remove(parts, "feature_group", name, now=now)
        remove_rows(parts, group)
    parts.local.pop(name, None)
    return (*removed, f"feature group {name}", *(f"version {version} of feature group {name}" for version in versions))


def _delete_views(parts: Parts, catalog: Catalog, name: str, *, cascade: bool, now: dt.datetime) -> tuple[str, ...]:
    removed: list[str] = []
    if cascade:
        for user in users_of(catalog, name):
            removed += _delete_views(parts, catalog, user, cascade=True, now=now)
    remove(parts, "feature_view", name, now=now)
    return (*removed, f"feature view {name}")
