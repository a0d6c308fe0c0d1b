"""delete: a definition with everything stored of it, or one version of a group."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from contextlib import suppress

from grange.definitions.catalog import Catalog
from grange.definitions.transformations import Step
from grange.errors import CorruptStoreError, InUseError, NotFoundError, RequestError, closest_names
from grange.ports.registry import Run
from grange.verbs.apply import refuse_if_used, remove, remove_rows, users_of
from grange.verbs.derive import children_of
from grange.verbs.parts import Parts
from grange.verbs.training.keeping import refuse_if_kept
from grange.verbs.versions import dataset_pins, latest_version, pins_of, refuse_if_pinned, serve_latest, tell_others


def delete(
    parts: Parts, catalog: Catalog, name: str, *, version: str | None, cascade: bool, now: dt.datetime
) -> tuple[str, ...]:
    """Remove a group, view, entity, or a group's version; returns what was removed, for people.

    A group's definition goes first, then its online state, then its history: a crash in between leaves rows that
    nothing refers to, never a definition whose rows are half gone.

    Raises:
        NotFoundError: nothing has this name, or the group has no such version.
        RequestError: a version of what has none; nothing was removed.
        InUseError: feature views still use it, and `cascade` was not asked for; groups use the entity; training
            datasets, or derived groups, pin the version, or a version of the group.
    """
    if version is not None and name not in catalog.groups:
        _refuse_version(catalog, name, version)
    if name in catalog.groups:
        if version is not None:
            return _delete_version(parts, catalog, name, version, cascade=cascade, now=now)
        return _delete_group(parts, catalog, name, cascade=cascade, now=now)
    if name in catalog.views:
        if not cascade:
            refuse_if_used(catalog, name)
        return _delete_views(parts, catalog, [name], now=now)
    if name in catalog.entities:
        users = [group.name for group in catalog.groups.values() if name in {e.name for e in group.entities}]
        if users:
            raise InUseError(
                f"entity {name!r} is used by feature group{'s' if len(users) > 1 else ''} {', '.join(users)}",
                try_=f"grange fg delete {users[0]}",
            )
        remove(parts, "entity", name, now=now)
        return (f"entity {name}",)
    if name in catalog.transformations:
        _refuse_used_transformation(catalog, name)
        remove(parts, "transformation", name, now=now)
        return (f"transformation {name}",)
    everything = [*catalog.groups, *catalog.views, *catalog.entities, *catalog.transformations]
    raise NotFoundError(f"nothing is called {name!r}", closest=closest_names(name, everything), try_="grange fg list")


def _refuse_version(catalog: Catalog, name: str, version: str) -> None:
    """Refuse a version of what has none: removing the whole instead would be a loss.

    Raises:
        RequestError: nothing was removed.
    """
    kinds = {"feature view": catalog.views, "entity": catalog.entities, "transformation": catalog.transformations}
    for kind, known in kinds.items():
        if name in known:
            raise RequestError(
                f"{kind} {name!r} has no versions", found=f"version {version}", try_=f"leave the version out: {name}"
            )


def _refuse_used_transformation(catalog: Catalog, name: str) -> None:
    """Refuse to remove a transformation that a group or view applies.

    Raises:
        InUseError: names them.
    """
    users = [f"feature group {group.name}" for group in catalog.groups.values() if _applies(group.on_demand, name)]
    users += [
        f"feature view {view.name}"
        for view in catalog.views.values()
        if _applies((*view.on_demand, *view.transformations), name)
    ]
    if users:
        raise InUseError(f"transformation {name!r} is used by {', '.join(users)}")


def _applies(steps: Iterable[Step], name: str) -> bool:
    return any(step.transformation is not None and step.transformation.name == name for step in steps)


def _delete_version(
    parts: Parts, catalog: Catalog, name: str, version: str, *, cascade: bool, now: dt.datetime
) -> tuple[str, ...]:
    with parts.offline.lock(name, timeout=parts.lock_timeout):
        with suppress(CorruptStoreError):  # one that cannot be read can be deleted
            parts.offline.meta(name, version)
        views = _unpinned(parts, catalog, name, version, cascade=cascade)
        removed = _delete_views(parts, catalog, views, now=now)
        was_latest = latest_version(parts, name) in (None, version)
        parts.offline.delete(name, version)
        served = serve_latest(parts, catalog.groups[name], now=now) if was_latest else None
    if was_latest and catalog.groups[name].online:
        loaded = Run(name, "", "load", now, now, 0, {"online_rows": None})
        if served is not None:
            loaded = Run(name, served.version, "load", now, now, served.rows, served.details())
        parts.record(loaded)
        if served is None:
            tell_others(parts, catalog.groups[name], now=now)
    return (*removed, f"version {version} of feature group {name}")


def _unpinned(parts: Parts, catalog: Catalog, name: str, version: str, *, cascade: bool) -> tuple[str, ...]:
    """The views to remove with a version.

    Raises:
        InUseError: something pins the version that is not to be removed.
    """
    pins = pins_of(parts, catalog, name, version)
    removed = [pin for pin in pins if cascade and pin.kind == "feature_view"]
    kept = [pin for pin in pins if pin not in removed]
    refuse_if_pinned(kept, what=f"version {version} of feature group {name!r}")
    return tuple(pin.name for pin in removed)


def _delete_group(parts: Parts, catalog: Catalog, name: str, *, cascade: bool, now: dt.datetime) -> tuple[str, ...]:
    if not cascade or children_of(catalog, name):  # what is derived of it holds history of its own
        refuse_if_used(catalog, name)
    refuse_if_pinned(dataset_pins(parts, name), what=f"a version of feature group {name!r}")
    group = catalog.groups[name]
    removed = _delete_views(parts, catalog, users_of(catalog, name), now=now)
    with parts.offline.lock(name, timeout=parts.lock_timeout):
        versions = parts.offline.versions(name)
        remove(parts, "feature_group", name, now=now)
        remove_rows(parts, group)
    parts.local.pop(name, None)
    return (*removed, f"feature group {name}", *(f"version {version} of feature group {name}" for version in versions))


def _delete_views(parts: Parts, catalog: Catalog, names: Iterable[str], *, now: dt.datetime) -> tuple[str, ...]:
    """Remove views, those that take from them first."""
    doomed = tuple(dict.fromkeys(user for name in names for user in (*_users(catalog, name), name)))
    for view in doomed:
        refuse_if_kept(parts, catalog, view)
    for view in doomed:
        remove(parts, "feature_view", view, now=now)
    return tuple(f"feature view {view}" for view in doomed)


def _users(catalog: Catalog, view: str) -> list[str]:
    """The views that take from a view, directly or through others, the outermost first."""
    direct = users_of(catalog, view)
    return [*(outer for user in direct for outer in _users(catalog, user)), *direct]
