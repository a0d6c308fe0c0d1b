"""materialize: compute groups' rows from their sources, publish them as versions, load the online store."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, assert_never

from grange.definitions.catalog import Catalog
from grange.definitions.feature_group import FeatureGroup
from grange.definitions.sources import DerivedSource, PushSource
from grange.definitions.transforms import PythonTransform, SqlTransform
from grange.definitions.versioning import config_hash, schema_hash
from grange.errors import (
    ColumnTypeError,
    CorruptStoreError,
    ExpectationError,
    GrangeError,
    NameCollisionError,
    RequestError,
    SchemaError,
    SourceError,
    StoreUnavailableError,
    UnknownFeatureError,
    UnknownVersionError,
)
from grange.frames import Rows
from grange.plan.materialize import STORED, plan_latest, plan_materialize
from grange.plan.nodes import Input, Node, Plan
from grange.ports.offline import NO_FEATURES, PUSHED_FROM, VersionMeta
from grange.ports.registry import Run
from grange.quality.expectations import Outcome, evaluate
from grange.serving.layouts import layout_of
from grange.serving.load import batches
from grange.types.durations import to_micros as to_length
from grange.types.names import SEQUENCE, parse_version
from grange.types.time import to_micros
from grange.verbs.derive import Pins, mark_checked, stale_parents, with_children
from grange.verbs.derived_rows import Span, derived_rows
from grange.verbs.parts import SOURCE, Parts
from grange.verbs.progress import Progress, Report
from grange.verbs.runs import REACHED, STATE
from grange.verbs.states import OnlineState
from grange.verbs.windows import feature_rows, load_windows


@dataclass(frozen=True, slots=True)
class Materialized:
    """What became of one group."""

    group: str
    version: str
    rows: int
    """Rows of the version."""
    new_version: bool
    """False when the rows, schema, configuration and code are those of the latest version."""
    online_rows: int | None
    """Entity keys loaded online; None when the online store was left alone."""
    quarantined: int
    warnings: tuple[str, ...]
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "group": self.group,
            "version": self.version,
            "rows": self.rows,
            "new_version": self.new_version,
            "online_rows": self.online_rows,
            "quarantined": self.quarantined,
            "warnings": list(self.warnings),
            "seconds": round(self.seconds, 3),
        }


@dataclass(frozen=True, slots=True)
class MaterializeRequest:
    """What to materialize, and how."""

    start: int | None
    """Inclusive, microseconds UTC."""
    end: int | None
    """Exclusive, microseconds UTC."""
    engine: str | None
    online: bool | None
    """None follows each group's own setting."""
    version: str | None = None
    """The number asked for (VER-2); None lets the store number it (VER-1)."""


Current = Callable[[str], FeatureGroup]
"""A group as it is applied at this moment, with its code; raises when it is gone."""


def materialize(
    parts: Parts,
    groups: Sequence[str],
    request: MaterializeRequest,
    *,
    current: Current,
    now: dt.datetime,
    report: Report,
) -> tuple[Materialized, ...]:
    """Materialize groups, one after another; the ones before a failing one stay done.

    Each definition is read once its group is locked, so that nothing is stored of a group that was deleted or
    changed in between.

    Raises:
        SourceError, TransformError, ColumnTypeError, SchemaError, ExpectationError: nothing of that group changed.
        RequestError: a range that holds nothing, or a version that is none or not above the highest (VER-2).
        ConflictError: another process holds the group for longer than the lock timeout.
        StorageFullError: nothing of that group changed.
    """
    _check_version(request.version)
    if request.version is not None and len(groups) != 1:
        raise RequestError("a version is asked for one feature group at a time", found=f"{len(groups)} groups")
    if request.start is not None and request.end is not None and request.start >= request.end:
        raise RequestError("start must be before end (start is included, end is not)")
    done = []
    for position, group in enumerate(groups, 1):

        def tell(stage: Any, rows: int | None, group: str = group, position: int = position) -> None:
            report(Progress(group, stage, rows, position, len(groups)))

        with parts.offline.lock(group, timeout=parts.lock_timeout):
            definition = current(group)
            done.append(_materialize(parts, definition, for_group(request, definition), now, tell))
    return tuple(done)


def materialize_children(
    parts: Parts,
    catalog: Catalog,
    done: Sequence[Materialized],
    request: MaterializeRequest,
    *,
    current: Current,
    now: dt.datetime,
    report: Report,
) -> tuple[Materialized, ...]:
    """Materialize what is derived of groups that were, whole and where it is stale, parents first.

    One that fails keeps no other back; its error is raised once the others are done.

    Raises:
        GrangeError: the first that a derived group met. Its details say what is `done` and what `failed`.
    """
    whole = replace(request, start=None, end=None, version=None)
    groups = tuple(item.group for item in done)
    made: list[Materialized] = []
    errors: dict[str, GrangeError] = {}
    for name in with_children(catalog, groups):
        if name in groups or not any(stale_parents(parts, catalog.group(name))):
            continue
        try:
            made += materialize(parts, [name], whole, current=current, now=now, report=report)
        except GrangeError as error:
            errors[name] = error
    if errors:
        raise _of_children(errors, [f"{item.group}@{item.version}" for item in (*done, *made)])
    return tuple(made)


def _of_children(errors: Mapping[str, GrangeError], done: Sequence[str]) -> GrangeError:
    """The first error of derived groups, with what is done in spite of it."""
    name, first = next(iter(errors.items()))
    first.details |= {"done": list(done), "failed": list(errors)}
    first.try_ = f"{', '.join(done)} done; {first.try_ or f'mend {name!r}'}; then: grange materialize {name}"
    return first


def _check_version(version: object) -> None:
    """Refuse a version that is none before anything is computed.

    Raises:
        RequestError: it is not MAJOR.MINOR.PATCH.
    """
    if version is not None and (not isinstance(version, str) or parse_version(version) is None):
        raise RequestError(f"version {version!r} is not MAJOR.MINOR.PATCH", try_="for example 1.0.0")


@dataclass(frozen=True, slots=True, eq=False)
class Raw:
    """A group's raw rows, and what they were made of."""

    node: Node | None
    """None when it has only pushed rows."""
    inputs: dict[str, Rows]
    """What is handed in to the engine."""
    pins: Pins = ()
    """What was read of the parents of a derived group."""

    @property
    def parents(self) -> tuple[tuple[str, str], ...]:
        """(feature group, version) of what a derived group is made of."""
        return tuple(dict.fromkeys((group, version) for group, version, _ in self.pins))


def raw_node(parts: Parts, group: FeatureGroup) -> Node | None:
    """The node of a group's raw rows, without making any: those of a derived group are handed in."""
    return Input(group.source.name) if isinstance(group.source, DerivedSource) else parts.raw_rows(group)[0]


def raw_of(parts: Parts, group: FeatureGroup, request: MaterializeRequest, *, now: dt.datetime) -> Raw:
    """A group's raw rows: from its source, or joined from its parents.

    Raises:
        SourceError: there is nothing to read.
    """
    if not isinstance(group.source, DerivedSource):
        return Raw(*parts.raw_rows(group))
    span = Span(request.start, request.end, request.engine, now)
    rows, pins = derived_rows(parts, parts.catalog(), group, span)
    return Raw(Input(SOURCE), {SOURCE: rows}, pins)


def plan_of(parts: Parts, group: FeatureGroup, request: MaterializeRequest, raw: Node | None) -> Plan:
    """The plan of materializing a group now from its raw rows."""
    pushed = parts.offline.pushed(group.name)
    if raw is None and pushed is None:
        raise SourceError(
            f"feature group {group.name!r} has nothing to materialize: its source is pushed to, and nothing was",
            try_=f"store.push({group.source.name!r}, rows)",
        )
    ranged = _is_ranged(request)
    # a range builds on the latest version, so that one must be readable; rebuilding everything does not need it
    latest = _readable_latest(parts, group) if ranged else None
    previous = parts.offline.snapshot(group.name, latest.version).rows if latest else None
    return plan_materialize(
        group,
        raw,
        previous=previous,
        pushed=pushed,
        first_sequence=latest.source_rows if latest else 0,
        pushed_from=PUSHED_FROM,
        start=request.start,
        end=request.end,
        offline=parts.offline_name,
        online=parts.online_name if _loads_online(group, request) else None,
    )


def _feature_rows(
    parts: Parts, group: FeatureGroup, events: Rows, request: MaterializeRequest
) -> Callable[[], Rows] | None:
    """What computes the feature rows of a group with aggregations; None for any other."""
    if not group.aggregations:
        return None
    return lambda: feature_rows(group, events, parts.engine(request.engine))


def load_online(parts: Parts, group: FeatureGroup, stored: Rows, *, engine: str | None, now: dt.datetime) -> int:
    """Replace a group's online state by its newest rows that are true at `now`; returns the entity keys loaded.

    The caller holds the group's lock, so that no push comes in between.
    """
    if group.aggregations:
        return load_windows(parts, group, stored, now=now)
    latest = parts.engine(engine).run(plan_latest(group, now=to_micros(now)), {STORED: stored})
    columns = group.features()
    loaded = batches(
        latest,
        keys=tuple((key, group.schema[key]) for key in group.join_keys),
        event_time=group.event_time,
        created_time=group.created_time,
        columns=columns,
    )
    return parts.online.load(group.key_space, group.name, layout_of(columns), loaded)


def draft_of(group: FeatureGroup, *, source: str) -> VersionMeta:
    """The metadata of a group's next version, still without number and content."""
    aggregates = group.aggregates()
    draft = VersionMeta(
        name=group.name,
        version="",
        schema=group.schema,
        entity_keys=group.join_keys,
        event_time=group.event_time,
        created_time=group.created_time,
        config_hash=config_hash(
            entity_keys=group.join_keys,
            event_time=group.event_time,
            created_time=group.created_time,
            interval=group.interval,
            aggregates=aggregates,
            event_id=group.event_id,
            retracted=group.retracted,
            ttl=group.ttl if aggregates else None,
            fill_gaps=group.fill_gaps,
        ),
        code_hash="" if group.transform is None else group.transform.code_hash,
        source=source,
        features=group.features() if aggregates else NO_FEATURES,
        aggregates=aggregates,
        event_id=group.event_id,
        retracted=group.retracted,
        interval=None if group.interval is None else to_length(group.interval),
        ttl=None if group.ttl is None or not aggregates else to_length(group.ttl),
        fill_gaps=group.fill_gaps,
        code=code_of(group),
    )
    return draft.with_(schema_hash=schema_hash(draft.outputs))


def code_of(group: FeatureGroup) -> str:
    """A group's transform as it was written; empty when it has none, or one that was defined at a prompt."""
    match group.transform:
        case None:
            return ""
        case PythonTransform():
            return group.transform.source_text
        case SqlTransform():
            return group.transform.query
        case _:
            assert_never(group.transform)


def check(group: FeatureGroup, rows: Rows) -> Outcome:
    """Evaluate a group's expectations; policy `fail` raises.

    Raises:
        ExpectationError: names the checks that failed, how often, and the first values.
    """
    outcome = evaluate(rows, group.expectations)
    outcome.demand(what=f"feature group {group.name!r}")
    return outcome


def warnings_of(outcome: Outcome) -> tuple[str, ...]:
    """What failed and stays, in words."""
    return tuple(f"{item} does not hold for {item.failed} of {outcome.rows} rows" for item in outcome.warnings)


def _materialize(
    parts: Parts, group: FeatureGroup, request: MaterializeRequest, now: dt.datetime, tell: Any
) -> Materialized:
    began = time.perf_counter()
    if request.version is not None:  # refused before the work, not after
        parts.offline.forecast(draft_of(group, source=group.source.name).with_(version=request.version))
    request, widened = _whole_if_stale(parts, group, request)
    tell("read", None)
    raw, rows = _computed(parts, group, request, now)
    before = _latest(parts, group)
    _refuse_to_empty(parts, group, rows, before, request)
    tell("check", len(rows))
    outcome = check(group, rows)
    kept = outcome.kept(rows)
    if len(rows) and not len(kept):
        raise ExpectationError(
            f"feature group {group.name!r}: its expectations drop every one of {len(rows)} rows",
            found="; ".join(str(item) for item in outcome.drops),
            try_="check the source and the expectations; what was stored stays as it is",
        )
    tell("write", len(kept))
    draft = _filled(parts, group, kept, outcome).with_(version=request.version or "", parents=raw.parents)
    known = parts.offline.versions(group.name)
    meta = parts.offline.publish(draft, kept, now=now, feature_rows=_feature_rows(parts, group, kept, request))
    new = meta.version not in known  # after a rollback, identical rows make a version that is there the latest again
    dropped = len(outcome.quarantine)
    if new and dropped:  # the same rows again would be the same quarantine again
        parts.quarantine(group.name, outcome.quarantine, now=now)
    online_rows = None
    if _loads_online(group, request):
        tell("load", meta.row_count)
        online_rows = _load_published(parts, group, kept, meta, request, now)
    tell("done", meta.row_count)
    seconds = time.perf_counter() - began
    warnings = (*widened, *warnings_of(outcome), *mark_checked(parts, group, meta.version, raw.pins, now=now))
    result = Materialized(group.name, meta.version, meta.row_count, new, online_rows, dropped, warnings, seconds)
    ended = now + dt.timedelta(seconds=seconds)
    run = Run(
        group.name,
        meta.version,
        "materialize",
        now,
        ended,
        meta.row_count,
        _details(parts, group, result) | _made_of(raw),
    )
    return replace(result, warnings=(*result.warnings, *parts.record(run)))


def _details(parts: Parts, group: FeatureGroup, result: Materialized) -> dict[str, Any]:
    """What is remembered of a run; the caller holds the group's lock."""
    if result.online_rows is None:
        return result.to_dict()
    return result.to_dict() | {
        REACHED: parts.offline.next_pushed(group.name),
        STATE: OnlineState.of(group, parts.online_name).label,
    }


def _computed(parts: Parts, group: FeatureGroup, request: MaterializeRequest, now: dt.datetime) -> tuple[Raw, Rows]:
    """A group's raw rows, and the rows of its next version.

    Raises:
        SchemaError, ColumnTypeError, UnknownFeatureError, NameCollisionError: of a derived group, its parents may have
            changed since it was applied.
    """
    try:
        raw = raw_of(parts, group, request, now=now)
        return raw, parts.engine(request.engine).run(plan_of(parts, group, request, raw.node).root, raw.inputs)
    except (SchemaError, ColumnTypeError, UnknownFeatureError, NameCollisionError) as error:
        if isinstance(group.source, DerivedSource):
            error.details["parents"] = list(group.source.parents)
            again = f"where a parent of {group.name!r} changed since it was applied, apply it again: grange apply"
            error.try_ = f"{error.try_}; {again}" if error.try_ else again
        raise


def _whole_if_stale(
    parts: Parts, group: FeatureGroup, request: MaterializeRequest
) -> tuple[MaterializeRequest, tuple[str, ...]]:
    """The request without its range where a derived group's parents changed: rows outside it would be those of other
    parents than the version says."""
    if not isinstance(group.source, DerivedSource) or not _is_ranged(request):
        return request, ()
    changed = [f"{parent} ({seen or 'nothing'} -> {there})" for parent, seen, there in stale_parents(parts, group)]
    if not changed:
        return request, ()
    told = f"feature group {group.name!r} was made whole, not only the range: parents changed: {', '.join(changed)}"
    return replace(request, start=None, end=None), (told,)


def _made_of(raw: Raw) -> dict[str, Any]:
    """What a run says of the parents of a derived group: how far pushed rows were read, too."""
    if not raw.pins:
        return {}
    return {"parents": [{"group": group, "version": at, "pushed_until": until} for group, at, until in raw.pins]}


def _load_published(
    parts: Parts, group: FeatureGroup, rows: Rows, meta: VersionMeta, request: MaterializeRequest, now: dt.datetime
) -> int:
    try:
        return load_online(parts, group, rows, engine=request.engine, now=now)
    except StoreUnavailableError as error:
        error.details["version"] = meta.version
        error.try_ = f"version {meta.version} is stored; load it: grange materialize {group.name}"
        raise


def _refuse_to_empty(
    parts: Parts, group: FeatureGroup, rows: Rows, before: VersionMeta | None, request: MaterializeRequest
) -> None:
    """An empty source is a mistake far more often than it is the truth: it must not take history along.

    Raises:
        SourceError: the source has no rows (in the range), and there is nothing stored yet, or rows would go.
    """
    if isinstance(group.source, PushSource) and group.source.batch_source is None:
        return  # it has no source but what was pushed
    first = before.source_rows if before is not None and _is_ranged(request) else 0
    numbers = rows.select([SEQUENCE]).polars.to_series()
    if numbers.is_between(first, PUSHED_FROM, closed="left").any():
        return
    stored = 0 if before is None else before.row_count
    if _is_ranged(request) and len(rows) >= stored + _pending(parts, group, before):
        return  # nothing new in the range, and nothing that goes
    where = " in this range" if _is_ranged(request) else ""
    raise SourceError(
        f"feature group {group.name!r}: its source {group.source.name!r} has no rows{where}",
        found=f"version {before.version} holds {stored} rows, which stay as they are" if before else "no rows",
        try_=f"check the source; to start over: grange fg delete {group.name}",
    )


def _pending(parts: Parts, group: FeatureGroup, before: VersionMeta | None) -> int:
    """How many pushed rows the latest version does not hold yet."""
    return 0 if before is None else max(0, parts.offline.next_pushed(group.name) - before.pushed_through)


def for_group(request: MaterializeRequest, group: FeatureGroup) -> MaterializeRequest:
    """The request as it applies to a group: rows without event time are always true, so they lie in every range."""
    return replace(request, start=None, end=None) if group.is_timeless else request


def _is_ranged(request: MaterializeRequest) -> bool:
    return request.start is not None or request.end is not None


def _filled(parts: Parts, group: FeatureGroup, rows: Rows, outcome: Outcome) -> VersionMeta:
    """The draft with what only the rows know: how far the sequences of source rows and pushed rows go.

    Pushed rows that went to quarantine are not pending any more, so `pushed_through` is the store's count.
    """
    numbers = rows.select([SEQUENCE]).polars.to_series()
    newest: Any = numbers.filter(numbers < PUSHED_FROM).max()
    return draft_of(group, source=group.source.name).with_(
        source_rows=0 if newest is None else newest + 1,
        pushed_through=parts.offline.next_pushed(group.name),
        quarantined=len(outcome.quarantine),
    )


def _latest(parts: Parts, group: FeatureGroup) -> VersionMeta | None:
    """The latest version's metadata; None when there is none, or none that can be read: a rebuild gets past it."""
    try:
        return parts.offline.meta(group.name)
    except (UnknownVersionError, CorruptStoreError):
        return None


def _readable_latest(parts: Parts, group: FeatureGroup) -> VersionMeta | None:
    try:
        return parts.offline.meta(group.name)
    except UnknownVersionError:
        return None


def _loads_online(group: FeatureGroup, request: MaterializeRequest) -> bool:
    return group.online if request.online is None else request.online
