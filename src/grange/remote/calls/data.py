"""Data of feature groups: materializing, pushing, reading, versions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from grange.definitions.feature_group import FeatureGroup
from grange.definitions.feature_view import FeatureView
from grange.errors import RequestError
from grange.frames import Rows
from grange.remote import answers, bodies
from grange.remote.calls.jobs import done_by_job
from grange.remote.calls.session import (
    Session,
    asked,
    changed,
    changed_by_rows,
    every,
    fetched,
    fetched_rows,
)
from grange.remote.messages import LONG, Call
from grange.types.time import Moment
from grange.verbs.names import name_of, pinned, pinned_pair, unpinned
from grange.verbs.progress import Report, silent

if TYPE_CHECKING:
    from grange.definitions.versioning import VersionForecast
    from grange.ports.offline import Finding, ManifestEntry, VersionMeta
    from grange.verbs.diffs import VersionDiff
    from grange.verbs.materialize import Materialized
    from grange.verbs.parity import OnlineParity
    from grange.verbs.push import Pushed
    from grange.verbs.versions import Rollback

Groups = str | FeatureGroup | Iterable[str | FeatureGroup] | None


def materialize(
    session: Session,
    groups: Groups = None,
    *,
    version: str | None = None,
    start: Moment | None = None,
    end: Moment | None = None,
    engine: str | None = None,
    online: bool | None = None,
    downstream: bool = True,
    progress: Report = silent,
) -> Call[tuple[Materialized, ...]]:
    """Compute feature groups where the server is, as one of its jobs; returns when that is done."""
    options = {
        "groups": _names(groups),
        "version": version,
        "start": bodies.moment(start, "start"),
        "end": bodies.moment(end, "end"),
        "engine": engine,
        "online": online,
        "downstream": downstream,
    }
    job = yield from done_by_job(session, "/materialize", bodies.without_none(options), report=progress)
    return tuple(map(answers.materialized, job["result"]["groups"]))


def plan_materialize(
    session: Session, groups: Groups = None, *, version: str | None = None
) -> Call[tuple[VersionForecast, ...]]:
    """What number `materialize` would give each group, and why."""
    data = yield from asked(
        "/materialize:plan", bodies.without_none({"groups": _names(groups), "version": version}), patience=LONG
    )
    return tuple(map(answers.forecast, data["items"]))


def _names(groups: Groups) -> list[str] | None:
    if groups is None:
        return None
    items = [groups] if isinstance(groups, str) or not isinstance(groups, Iterable) else list(groups)
    if not items:
        raise RequestError("no feature group was named", try_="leave the names out for all of them")
    return [unpinned(item, what="materialized") for item in items]


def push(session: Session, name: str | FeatureGroup, rows: Any) -> Call[Pushed]:
    """Store rows at once: in history and in the online store. However often they are sent, they are stored once."""
    name = unpinned(name, what="pushed to")
    given = Rows.of(rows, what=f"rows pushed to {name!r}")
    response = yield from changed_by_rows(session, f"/feature-groups/{bodies.quoted(name)}/rows", given)
    return answers.pushed(bodies.from_json(response))


def read(
    session: Session,
    group: str | FeatureGroup,
    *,
    version: str | None = None,
    columns: Sequence[str] | None = None,
    start: Moment | None = None,
    end: Moment | None = None,
    limit: int | None = None,
    events: bool = False,
) -> Call[Rows]:
    """A group's stored rows, in order of event time."""
    group, version = pinned(group, version)
    query = {
        "version": version,
        "columns": None if columns is None else list(columns),
        "start": bodies.moment(start, "start"),
        "end": bodies.moment(end, "end"),
        "limit": limit,
        "events": events,
    }
    return (yield from fetched_rows(f"/feature-groups/{bodies.quoted(group)}/rows", query))


def served(
    session: Session, view: str | FeatureView, *, start: Moment | None = None, end: Moment | None = None
) -> Call[Rows]:
    """The vectors of a view that the server logged, in the order of their time."""
    query = {"start": bodies.moment(start, "start"), "end": bodies.moment(end, "end")}
    return (yield from fetched_rows(f"/feature-views/{bodies.quoted(name_of(view))}/served", query))


def versions(session: Session, group: str | FeatureGroup) -> Call[tuple[VersionMeta, ...]]:
    """A group's versions, oldest first."""
    group, pin = pinned(group)
    if pin is not None:
        return ((yield from version(session, group, pin)),)
    items = yield from every(f"/feature-groups/{bodies.quoted(group)}/versions")
    return tuple(map(answers.version_meta, items))


def version(session: Session, group: str | FeatureGroup, version: str | None = None) -> Call[VersionMeta]:
    """What is known of one version of a group; of the latest when none is named."""
    group, version = pinned(group, version)
    path = f"/feature-groups/{bodies.quoted(group)}/versions/{bodies.quoted(version or 'latest')}"
    return answers.version_meta((yield from fetched(path)))


def diff(
    session: Session,
    group: str | FeatureGroup,
    before: str | None = None,
    after: str | None = None,
    *,
    statistics: bool = False,
) -> Call[VersionDiff]:
    """What is different between two versions of a group."""
    group, before, after = pinned_pair(group, before, after)
    data = yield from fetched(
        f"/feature-groups/{bodies.quoted(group)}/diff", LONG, before=before, after=after, statistics=statistics
    )
    return answers.version_diff(data)


def manifest(session: Session, *, regenerate: bool = False) -> Call[dict[str, ManifestEntry]]:
    """Every feature group that has a version, by name."""
    if not regenerate:
        return answers.manifest((yield from fetched("/manifest", LONG))["items"])
    response = yield from changed(session, "POST", "/manifest:regenerate", patience=LONG)
    return answers.manifest(bodies.from_json(response)["items"])


def plan_rollback(
    session: Session, group: str | FeatureGroup, version: str | None = None, *, previous: bool = False
) -> Call[Rollback]:
    """What `rollback` would do."""
    group, version = pinned(group, version)
    data = yield from asked(
        f"/feature-groups/{bodies.quoted(group)}/rollback:plan",
        bodies.without_none({"version": version, "previous": previous}),
    )
    return answers.rollback(data)


def rollback(
    session: Session, group: str | FeatureGroup, version: str | None = None, *, previous: bool = False
) -> Call[Rollback]:
    """Make an older version of a group the latest, in history and online."""
    group, version = pinned(group, version)
    response = yield from changed(
        session,
        "POST",
        f"/feature-groups/{bodies.quoted(group)}/rollback",
        bodies.without_none({"version": version, "previous": previous}),
        patience=LONG,
    )
    return answers.rollback(bodies.from_json(response))


def verify(
    session: Session, group: str | FeatureGroup | None = None, *, repair: bool = False
) -> Call[tuple[Finding, ...]]:
    """Read all of history where it is, and say what is wrong; paths are relative to the server's project."""
    options = {"group": group if group is None or isinstance(group, str) else group.name, "repair": repair}
    job = yield from done_by_job(session, "/verify", bodies.without_none(options))
    return tuple(map(answers.finding, job["result"]["items"]))


def verify_online(
    session: Session, group: str | FeatureGroup | None = None, *, sample: int | None = 10_000
) -> Call[tuple[OnlineParity, ...]]:
    """Compare what is served with what history says, where both are."""
    name = None if group is None else unpinned(group, what="compared with its history")
    data = yield from asked("/verify/online", {"group": name, "sample": sample}, patience=LONG)
    return tuple(map(answers.online_parity, data["items"]))
