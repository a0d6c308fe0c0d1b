"""Versions of feature groups: forecasting the next, going back to an older one, what of them is online, what pins
one."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from grange.definitions.catalog import Catalog
from grange.definitions.feature_group import FeatureGroup
from grange.definitions.feature_view import FeatureView
from grange.definitions.references import FeatureSelection
from grange.definitions.sources import DerivedSource
from grange.definitions.versioning import VersionForecast
from grange.errors import (
    ConflictError,
    CorruptStoreError,
    InUseError,
    RefusedError,
    RequestError,
    StateLostError,
    StoreUnavailableError,
    UnknownVersionError,
)
from grange.plan.nodes import Order
from grange.ports.datasets import COLLECTION as TRAINING_DATASETS
from grange.ports.offline import PUSHED_FROM, Finding, Snapshot, VersionMeta
from grange.ports.registry import Change, Run
from grange.serving.layouts import layout_of, place_of
from grange.types import DataType, Schema
from grange.types.names import parse_version
from grange.verbs.history import current_layout
from grange.verbs.materialize import draft_of, load_online
from grange.verbs.online import lost_groups
from grange.verbs.parts import Parts
from grange.verbs.runs import REACHED, STATE, last_load, reached_online, runs_of, takes_away
from grange.verbs.states import OnlineState, held

PinKind = Literal["feature_view", "feature_group", "training_dataset"]


# what comes next


def forecast(parts: Parts, group: FeatureGroup, *, version: str | None = None) -> VersionForecast:
    """What number the next materialize of a group will give it, and why (VER-1). Changes nothing.

    Raises:
        RequestError: `version` is none, or not above the highest (VER-2).
    """
    draft = draft_of(group, source=group.source.name).with_(
        version=version or "", pushed_through=parts.offline.next_pushed(group.name)
    )
    return parts.offline.forecast(draft)


def forecasts(
    parts: Parts, groups: Iterable[FeatureGroup], *, version: str | None = None
) -> tuple[VersionForecast, ...]:
    """`forecast` of several groups.

    Raises:
        RequestError: a version is asked for several groups at once.
    """
    wanted = list(groups)
    if version is not None and len(wanted) != 1:
        raise RequestError("a version is asked for one feature group at a time", found=f"{len(wanted)} groups")
    return tuple(forecast(parts, group, version=version) for group in wanted)


# what there is


def latest_version(parts: Parts, group: str) -> str | None:
    """The number of the latest version, which may be unreadable; None when there is none."""
    try:
        return parts.offline.meta(group).version
    except UnknownVersionError:
        return None
    except CorruptStoreError as error:
        named = error.details.get("version")
        return named if isinstance(named, str) else None


def before(versions: Sequence[str], version: str) -> str | None:
    """The highest of some versions that is below one; None when none is."""
    limit = parse_version(version) or ()
    return max((each for each in versions if (parse_version(each) or ()) < limit), key=_number, default=None)


def _number(version: str) -> tuple[int, ...]:
    return parse_version(version) or ()


# going back


@dataclass(frozen=True, slots=True)
class Rollback:
    """A version that becomes the latest (or did)."""

    group: str
    replaced: str | None
    """The version that was the latest before; None when no pointer could be read."""
    version: str
    rows: int
    pending: int
    """Pushed rows that the version does not contain: they stay visible beside it."""
    online_rows: int | None = None
    """Entity keys loaded online; None when the group is not served online, or not yet."""
    warnings: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "group": self.group,
            "replaced": self.replaced,
            "version": self.version,
            "rows": self.rows,
            "pending": self.pending,
            "online_rows": self.online_rows,
            "warnings": list(self.warnings),
        }


def plan_rollback(parts: Parts, group: FeatureGroup, *, version: str | None, previous: bool) -> Rollback:
    """What `rollback` would do. Changes nothing; raises what it raises, save for what writing can meet."""
    if (version is None) != previous:
        raise RequestError(
            f"feature group {group.name!r}: to which version?"
            if version is None
            else "a version, or the previous one?",
            found=", ".join(parts.offline.versions(group.name)) or "no version at all",
            try_=f"grange rollback {group.name} --previous, or name one: grange versions {group.name}",
        )
    latest = latest_version(parts, group.name)
    wanted = _previous(parts, group.name, latest) if version is None else version
    meta = parts.offline.meta(group.name, wanted)
    if wanted == latest and _is_served(parts, group, wanted):
        below = before(parts.offline.versions(group.name), wanted)
        raise RefusedError(
            f"version {wanted} is the latest of feature group {group.name!r} already",
            found=", ".join(parts.offline.versions(group.name)),
            try_=f"grange rollback {group.name} {below}" if below else f"grange versions {group.name}",
        )
    left = _with_pushed(parts, meta)
    warnings = tuple(_shortcomings(group, left.meta))
    return Rollback(group.name, latest, wanted, meta.row_count, left.pending, warnings=warnings)


def rollback(parts: Parts, group: FeatureGroup, *, version: str | None, previous: bool, now: dt.datetime) -> Rollback:
    """Make an older version the latest, and serve it: history and the online store go on giving one answer (ONL-1).

    The versions above it stay; the next build is numbered above them all (VER-1). Rows that were pushed since the
    version stay visible beside it. If the online store cannot be reached, history is rolled back already, and the
    same call again finishes.

    Args:
        parts: the opened backends.
        group: the feature group.
        version: the version to go back to.
        previous: go back to the one below the latest instead.
        now: the clock.

    Raises:
        UnknownVersionError: there is no such version, or none below the latest.
        RefusedError: it is the latest already.
        RequestError: both a version and `previous`, or neither.
        CorruptStoreError: its files are damaged; nothing changed.
        SchemaError, ColumnTypeError: rows that were pushed since cannot lie beside it; nothing changed.
        ConflictError: another process holds the group for longer than the lock timeout.
        StoreUnavailableError: the online store cannot be reached.
    """
    with parts.offline.lock(group.name, timeout=parts.lock_timeout):
        planned = plan_rollback(parts, group, version=version, previous=previous)
        parts.offline.point(group.name, planned.version)
        served = serve_latest(parts, group, now=now)
    loaded = None if served is None else served.online_rows
    details = {"replaced": planned.replaced, **({"online_rows": None} if served is None else served.details())}
    unrecorded = parts.record(Run(group.name, planned.version, "rollback", now, now, planned.rows, details))
    if served is None:
        tell_others(parts, group, now=now)
    return replace(planned, online_rows=loaded, warnings=(*planned.warnings, *unrecorded))


def _with_pushed(parts: Parts, meta: VersionMeta) -> Snapshot:
    """What would be read if a version were the latest, tried where rows were pushed in other columns.

    Raises:
        SchemaError, ColumnTypeError: it could not be read.
    """
    until = max(parts.offline.next_pushed(meta.name), meta.pushed_through)
    snapshot = parts.offline.snapshot(meta.name, meta.version, pushed_until=until)
    if snapshot.meta.schema != meta.schema:
        parts.engine().run(snapshot.rows, {})
    return snapshot


def _shortcomings(group: FeatureGroup, meta: VersionMeta) -> Iterator[str]:
    """What a version is otherwise than its group is defined to be by now."""
    until = f"until the definition of then is applied again, or the group materialized: grange materialize {group.name}"
    if not (group.aggregations or meta.aggregates):
        here, there = group.features().names, meta.schema.names
        missing = [name for name in here if name not in there]
        own = (*meta.entity_keys, meta.event_time, meta.created_time)
        surplus = [name for name in there if name not in (*group.schema.names, *own)]
        if missing:
            yield (
                f"version {meta.version} has no {', '.join(missing)}, which the group is defined to have: null online, "
                f"and refused in history, {until}"
            )
        if surplus:
            yield (
                f"version {meta.version} has {', '.join(surplus)}, which the group is not defined to have any more: "
                f"in history with the whole group, and not online, {until}"
            )
    reason = unservable(group, meta) if group.online else None
    if reason is not None:
        yield f"version {meta.version} {reason}: nothing is served online, {until}"


def unservable(group: FeatureGroup, meta: VersionMeta) -> str | None:
    """Why the rows of a version cannot be served online as the group is defined by now, so that online and history
    would have one answer (ONL-1); None when they can."""
    if (meta.entity_keys, meta.event_time) != (group.join_keys, group.event_time):
        return "has another entity key or event time"
    if meta.created_time != group.created_time:
        return f"has {meta.created_time or 'no'} created time, where {group.created_time or 'none'} is defined"
    if bool(meta.aggregates) != bool(group.aggregations):
        return "has aggregations, and the group has none" if meta.aggregates else "has no aggregations"
    if group.aggregations:
        same = current_layout(group, meta).aggregates == group.aggregates()
        return None if same else "lacks columns that the aggregations read, or has them in other types"
    retyped = [
        f"{column.name} as {before} instead of {column.dtype}"
        for column in group.schema
        if (before := meta.schema.get(column.name)) is not None and not _serves(before, column.dtype)
    ]
    return f"has {', '.join(retyped)}" if retyped else None


def _serves(stored: DataType, wanted: DataType) -> bool:
    """Whether values of a stored type are read online as those of the wanted type that they are in history."""
    if stored == wanted:
        return True
    widened = place_of(layout_of(Schema.of({"value": stored})), "value", wanted) is not None
    return widened and stored.is_integer and wanted.is_integer


def _previous(parts: Parts, group: str, latest: str | None) -> str:
    versions = parts.offline.versions(group)
    below = None if latest is None else before(versions, latest)
    if below is None:
        raise UnknownVersionError(
            f"feature group {group!r} has no version below the latest",
            found=f"latest {latest}; {', '.join(versions)}" if versions else "no version at all",
            try_=f"grange versions {group}",
        )
    return below


def _is_served(parts: Parts, group: FeatureGroup, version: str) -> bool:
    """Whether the online store has the rows of a version, as far as it was told: a rollback that could not load them
    is not done yet."""
    if not group.online:
        return True
    last = last_load(parts.registry, group.name)
    return last is None or last.version == version


_ATTEMPTS: Final = 5


@dataclass(frozen=True, slots=True)
class Served:
    """What was loaded online."""

    version: str
    rows: int
    online_rows: int
    """Entity keys."""
    next_pushed: int
    """The sequence number of the first pushed row that is not among them."""
    state: OnlineState
    """Where it was loaded."""

    def details(self) -> dict[str, Any]:
        """What a run remembers of it."""
        return {"online_rows": self.online_rows, REACHED: self.next_pushed, STATE: self.state.label}


def serve_latest(parts: Parts, group: FeatureGroup, *, now: dt.datetime) -> Served | None:
    """Load online what is the latest now, with the rows pushed since, so that both sides give one answer (ONL-1).

    The caller holds the group's lock. None when nothing is served: the group is not online, nothing is left of it, or
    what is left cannot be served as the group is defined by now.
    """
    if not group.online:
        return None
    try:
        snapshot = parts.offline.snapshot(group.name)
    except UnknownVersionError:
        parts.online.drop(group.key_space, group.name)
        return None
    meta = snapshot.meta
    if unservable(group, meta) is not None:
        parts.online.drop(group.key_space, group.name)
        return None
    rows = parts.engine().run(Order(snapshot.rows, meta.event_time, meta.created_time), {})
    loaded = load_online(parts, group.with_(schema=meta.schema), rows, engine=None, now=now)
    next_pushed = parts.offline.next_pushed(group.name)
    return Served(meta.version, meta.row_count, loaded, next_pushed, OnlineState.of(group, parts.online_name))


def tell_others(parts: Parts, group: FeatureGroup, *, now: dt.datetime) -> None:
    """Let other processes know that nothing of a group is online any more: their readers, which would find no entity,
    are looked at again with each revision.

    Raises:
        ConflictError: others kept applying.
    """
    if not group.online:
        return
    for left in reversed(range(_ATTEMPTS)):
        state = parts.registry.state()
        records = [each for each in state.records if (each.kind, each.name) == ("feature_group", group.name)]
        changes = [Change("update", each.kind, each.name, each) for each in records]
        try:
            parts.registry.commit(changes, expected_revision=state.revision, now=now)
            return
        except ConflictError:
            if not left:
                raise


# what is online


def online_version(parts: Parts, group: FeatureGroup) -> str | None:
    """The version that was loaded into the online store last, as far as anything says it; None when none was."""
    if group.aggregations:
        from grange.serving.windows import describe

        head = parts.online.read_cells(group.key_space, group.name, describe)
        return None if head is None else head.version or None
    run = last_load(parts.registry, group.name)
    return None if run is None else run.version


def verify(parts: Parts, name: str | None, version: str | None, *, repair: bool) -> tuple[Finding, ...]:
    """What is wrong in history, and where the online store was loaded from another version than the latest, or lost
    what was loaded.

    Args:
        parts: the opened backends.
        name: of one group only.
        version: a version that it has.
        repair: clear what crashes left behind in history.

    Raises:
        UnknownFeatureGroupError, UnknownVersionError: there is no such one.
    """
    if name is not None:
        parts.catalog().group(name)
        if version is not None:
            with suppress(CorruptStoreError):  # what is damaged is found below
                parts.offline.meta(name, version)
    return (*parts.offline.verify(name, repair=repair), *_online_findings(parts, name))


def _online_findings(parts: Parts, name: str | None) -> Iterator[Finding]:
    try:
        catalog = parts.catalog()
    except CorruptStoreError as error:
        yield Finding("registry", error.message)
        return
    groups = [group for group in catalog.groups.values() if group.online and name in (None, group.name)]
    try:
        there = held(parts.online.info(), parts.online_name) if groups else frozenset()
        for group in groups:
            yield from _online_findings_of(parts, group, is_held=OnlineState.of(group, parts.online_name) in there)
    except StoreUnavailableError as error:
        yield Finding(f"online store {parts.online_name}", error.message)


def _online_findings_of(parts: Parts, group: FeatureGroup, *, is_held: bool) -> Iterator[Finding]:
    try:
        if is_held:
            yield from _behind(parts, group)
            yield from _cut_off(parts, group)
        elif lost_groups(parts, [group]):
            yield _lost(parts, group)
    except StateLostError:
        yield _lost(parts, group)


def _lost(parts: Parts, group: FeatureGroup) -> Finding:
    """That the store let go of what was loaded into it, all or a part."""
    problem = f"rows were loaded, and all or some are gone from the store: grange materialize {group.name}"
    return Finding(f"online store {parts.online_name}, feature group {group.name}", problem)


def _behind(parts: Parts, group: FeatureGroup) -> Iterator[Finding]:
    """That what a group has online was loaded from another version than its latest: a process died in between. One
    that was told to leave the online store alone did no harm."""
    loaded, latest = online_version(parts, group), latest_version(parts, group.name)
    if loaded == latest or latest in _left_alone(parts, group):
        return
    mend = f"grange materialize {group.name}"
    if latest is not None and loaded is not None and _number(loaded) > _number(latest):
        mend = f"grange rollback {group.name} {latest}"  # which did not get so far
    problem = f"online has {loaded or 'no version'}, history {latest or 'none'}: {mend}"
    yield Finding(f"online store {parts.online_name}, feature group {group.name}", problem)


def _cut_off(parts: Parts, group: FeatureGroup) -> Iterator[Finding]:
    """That pushed rows are in history and not online: a process died in between. A push that is under way holds the
    group's lock."""
    if group.aggregations or _is_reached(parts, group.name):
        return
    with parts.offline.lock(group.name, timeout=parts.lock_timeout):
        if _is_reached(parts, group.name):
            return
    yield Finding(
        f"online store {parts.online_name}, feature group {group.name}",
        f"pushed rows are in history and may not be online: grange materialize {group.name}",
    )


def _is_reached(parts: Parts, group: str) -> bool:
    number = parts.offline.next_pushed(group)
    return number == PUSHED_FROM or number in reached_online(parts.registry, group)


def _left_alone(parts: Parts, group: FeatureGroup) -> set[str]:
    """The versions that were built since the last load without loading them, as it was asked for."""
    versions = set()
    for run in runs_of(parts.registry, group.name, limit=1000):
        if run.details.get("online_rows") is not None or takes_away(run):
            break
        if run.verb == "materialize":
            versions.add(run.version)
    return versions


# what keeps a version


@dataclass(frozen=True, slots=True, order=True)
class Pin:
    """Something that reads one version of a group, and would lose it."""

    kind: PinKind
    name: str

    def __str__(self) -> str:
        return f"{self.kind.replace('_', ' ')} {self.name}"


def pins_of(parts: Parts, catalog: Catalog, group: str, version: str | None = None) -> tuple[Pin, ...]:
    """What pins a version of a group; None is any version.

    Feature views whose features or labels do, directly or through views in them; derived groups; training datasets.
    """
    definitions = _definition_pins(catalog, group, version)
    return (*definitions, *dataset_pins(parts, group, version))


def _definition_pins(catalog: Catalog, group: str, version: str | None = None) -> tuple[Pin, ...]:
    """The feature views and derived groups that pin a version of a group; None is any version."""

    def is_pin(selection: FeatureSelection) -> bool:
        return selection.source == group and selection.version is not None and version in (None, selection.version)

    views = [
        Pin("feature_view", view.name) for view in catalog.views.values() if any(map(is_pin, _taken(catalog, view)))
    ]
    groups = [
        Pin("feature_group", each.name)
        for each in catalog.groups.values()
        if isinstance(each.source, DerivedSource) and any(map(is_pin, each.source.features))
    ]
    return (*views, *groups)


def _taken(catalog: Catalog, view: FeatureView) -> list[FeatureSelection]:
    return [*(item.selection for item in catalog.taken_by(view)), *view.label_features]


def dataset_pins(parts: Parts, group: str, version: str | None = None) -> tuple[Pin, ...]:
    """The training datasets that were made of a version of a group (VER-4); None is any version."""

    def is_pin(pin: Any) -> bool:
        return pin.get("group") == group and version in (None, pin.get("version"))

    found = parts.registry.documents(TRAINING_DATASETS, limit=None)
    return tuple(Pin("training_dataset", item.key) for item in found if any(map(is_pin, item.data.get("pins", ()))))


def refuse_if_pinned(pins: Sequence[Pin], *, what: str) -> None:
    """Refuse to remove what something pins.

    Raises:
        InUseError: names all that do.
    """
    if not pins:
        return
    views = [pin.name for pin in pins if pin.kind == "feature_view"]
    raise InUseError(
        f"{what} is pinned by {', '.join(map(str, pins))}",
        try_=f"take the version out of {views[0]!r} and apply it, or delete with --cascade"
        if len(views) == len(pins)
        else f"delete {pins[-1]} first",
        details={"pins": [{"kind": pin.kind, "name": pin.name} for pin in pins]},
    )
