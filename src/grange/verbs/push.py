"""push: rows to history and to the online store together."""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from grange.definitions.catalog import Catalog
from grange.definitions.feature_group import FeatureGroup
from grange.definitions.sources import raw_schema
from grange.errors import (
    ColumnTypeError,
    CorruptStoreError,
    GrangeError,
    RequestError,
    SchemaError,
    StateLostError,
    TamperedError,
    UnknownFeatureGroupError,
    UnknownVersionError,
    closest_names,
)
from grange.frames import Rows
from grange.plan.materialize import feature_rows
from grange.plan.nodes import Align, Between, Input
from grange.ports.offline import PUSHED_FROM
from grange.ports.registry import Run
from grange.quality.expectations import Outcome
from grange.serving.layouts import layout_of
from grange.serving.load import push_batch
from grange.types import DataType, Schema
from grange.types.time import to_micros
from grange.verbs.materialize import check, draft_of, warnings_of
from grange.verbs.parts import SOURCE, Parts
from grange.verbs.poison import Screened, readable, screen
from grange.verbs.runs import DUE, REACHED, STATE, reached_online
from grange.verbs.states import OnlineState
from grange.verbs.versions import serve_latest
from grange.verbs.windows import write_windows

CLOCK_TOLERANCE: Final = dt.timedelta(seconds=5)
"""How far a pushed row may be dated after this machine's clock and still be written online at once."""


@dataclass(frozen=True, slots=True)
class Pushed:
    """What a push stored."""

    groups: tuple[tuple[str, int, int | None], ...]
    """(group, rows added to its history, rows that were news to the online store or None)."""
    quarantined: int = 0
    warnings: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "groups": [{"group": g, "rows": rows, "online_rows": online} for g, rows, online in self.groups],
            "quarantined": self.quarantined,
            "warnings": list(self.warnings),
        }


def targets(catalog: Catalog, name: str) -> tuple[FeatureGroup, ...]:
    """The groups that rows pushed to a name go to: the group of that name, and all that read that push source.

    Raises:
        UnknownFeatureGroupError: neither a group nor a push source.
    """
    named = (catalog.groups[name],) if name in catalog.groups else ()
    others = [group.name for group in catalog.readers(name) if group not in named]
    if named and others and named[0] not in catalog.readers(name):
        raise RequestError(
            f"{name!r} is a feature group and, besides, the push source of {', '.join(map(repr, others))}",
            try_="rename the push source; or push to the groups by name",
        )
    readers = tuple({group.name: group for group in (*named, *catalog.readers(name))}.values())
    if not readers:
        sources = {group.source.name for group in catalog.groups.values() if catalog.readers(group.source.name)}
        raise UnknownFeatureGroupError(
            f"no feature group or push source {name!r}",
            closest=closest_names(name, [*catalog.groups, *sources]),
            try_="grange fg list" if catalog.groups else "grange apply",
        )
    return readers


@dataclass(frozen=True, slots=True)
class Given:
    """Rows as they were pushed."""

    rows: Rows
    aside: Rows | None = None
    """Those that no table could take in, as text with `__reasons`."""


def given(groups: Sequence[FeatureGroup], rows: Any, *, what: str) -> Given:
    """Pushed rows as a table. Where all groups have aggregations, rows that are of other types are set aside.

    Raises:
        RequestError, ColumnTypeError: the rows are no table.
    """
    if all(group.aggregations for group in groups):
        return Given(*readable(rows, _raw_types(groups), what=what))
    return Given(Rows.of(rows, what=what))


def _raw_types(groups: Sequence[FeatureGroup]) -> Schema:
    """What is known of the types of pushed columns: what the source says, else a group that takes them as they are."""
    found: dict[str, DataType] = {}
    for group in groups:
        if group.transform is None:
            found |= {column.name: column.dtype for column in group.schema}
        found |= raw_schema(group.source)
    return Schema.of(found)


def push(
    parts: Parts, groups: Sequence[str], pushed: Given, *, current: Callable[[str], FeatureGroup], now: dt.datetime
) -> Pushed:
    """Store raw rows: each group's transform is run on them, its types and expectations checked, then both stores
    written while all the groups are locked, history first: what is online is always in history too.

    Of groups with aggregations, rows that are no events go to quarantine with their reason (`grange.verbs.poison`).

    Nothing is written anywhere unless the rows fit every group and can lie beside what is stored of it, and every
    group could be locked.

    Raises:
        TransformError, SchemaError, ColumnTypeError, ExpectationError: nothing was written.
        StoreUnavailableError, ConflictError, StorageFullError, CorruptStoreError: nothing was written, unless
            `details["stored"]` says which groups' rows are in history; pushing them again would store them twice.
    """
    if not len(pushed.rows):
        return Pushed(tuple((group, 0, 0 if current(group).online else None) for group in groups))
    with contextlib.ExitStack() as locks:
        for group in sorted(groups):  # always in the same order, so that two pushes cannot wait for each other
            locks.enter_context(parts.offline.lock(group, timeout=parts.lock_timeout))
        prepared = [_prepare(parts, current(group), pushed, now) for group in groups]
        for item in prepared:
            refuse_unreadable(parts, item.group)
        for item in prepared:
            for rows in item.aside:
                parts.quarantine(item.group.name, rows, now=now)
        stored: list[str] = []
        first: dict[str, int] = {}
        try:
            for item in prepared:
                if len(item.kept):
                    first[item.group.name] = parts.offline.append(draft_of(item.group, source="push"), item.kept)
                stored.append(item.group.name)
            written = [_write_online(parts, item, first.get(item.group.name, 0), now) for item in prepared]
        except GrangeError as error:
            error.retry = error.retry and not stored
            if stored:
                error.details["stored"] = stored
                missing = [item.group.name for item in prepared if item.group.name not in stored]
                again = f"; push them again to {', '.join(missing)} alone" if missing else ""
                error.try_ = (
                    f"the rows are in the history of {', '.join(stored)}; bring them online: grange materialize{again}"
                )
            raise
        # within the locks: whoever pushes next must find that these are online
        unrecorded = [
            line
            for item, online in zip(prepared, written, strict=True)
            for line in parts.record(Run(item.group.name, "", "push", now, now, len(item.kept), online.details))
        ]
    warnings = [line for item in prepared for line in warnings_of(item.outcome)]
    warnings += [
        f"{online.late} rows of {item.group.name} are dated in the future: they are in history, and come online when a "
        "materialize finds them due"
        for item, online in zip(prepared, written, strict=True)
        if online.late
    ]
    warnings += unrecorded
    return Pushed(
        tuple((item.group.name, len(item.kept), online.taken) for item, online in zip(prepared, written, strict=True)),
        sum(len(rows) for item in prepared for rows in item.aside),
        tuple(warnings),
    )


def refuse_unreadable(parts: Parts, group: FeatureGroup) -> None:
    """Refuse rows beside which a group's history could not be read, or would be of another kind than what is online:
    its definition changed since it was materialized, or it was rolled back to before a change.

    Damage of what is stored is no reason to refuse rows: reading tells it, and the next version has them.

    Raises:
        SchemaError: history has another entity key, other times, or aggregations where the definition has none, or
            the reverse.
        ColumnTypeError: history has values that do not fit the type that a column is defined to have.
    """
    try:
        if _lie_as_the_last_did(parts, group):
            return
        snapshot = parts.offline.snapshot(group.name)
    except (UnknownVersionError, CorruptStoreError):
        return
    meta, again = snapshot.meta, f"materialize first: grange materialize {group.name}"
    compared: dict[str, tuple[object, object]] = {
        "another entity key": (meta.entity_keys, group.join_keys),
        "another event time": (meta.event_time, group.event_time),
        "another created time": (meta.created_time, group.created_time),
        "aggregations or none, other": (bool(meta.aggregates), bool(group.aggregations)),
    }
    for what, (stored, defined) in compared.items():
        if stored != defined:
            raise SchemaError(
                f"feature group {group.name!r}: rows cannot be pushed: its definition has {what} than its history",
                found=f"{stored} stored, {defined} defined",
                try_=again,
            )
    types = {column.name: column for column in (*meta.schema, *group.schema)}
    if all(types[column.name].dtype == column.dtype for column in meta.schema):
        return
    try:
        parts.engine().run(Align(snapshot.rows, Schema(tuple(types.values())), group.name), {})
    except ColumnTypeError as error:
        raise ColumnTypeError(
            f"feature group {group.name!r}: rows cannot be pushed: its history does not fit the types that it is "
            "defined to have",
            found=error.message,
            try_=again,
        ) from error


def _lie_as_the_last_did(parts: Parts, group: FeatureGroup) -> bool:
    """Whether rows have the key, times and columns of the last that were stored: then history is read as before. So
    that pushing does not look at every push there was."""
    newest = parts.offline.newest_push(group.name)
    try:
        latest = parts.offline.meta(group.name)
    except UnknownVersionError:
        if newest is None:
            return True
        latest = newest
    if newest is None or newest.pushed_through <= latest.pushed_through:
        newest = latest
    kind = (group.join_keys, group.event_time, group.created_time, bool(group.aggregations))
    return all(
        (meta.entity_keys, meta.event_time, meta.created_time, bool(meta.aggregates)) == kind
        for meta in (latest, newest)
    ) and all(newest.schema.get(column.name) == column.dtype for column in group.schema)


@dataclass(frozen=True, slots=True)
class _Prepared:
    """One group's share of a push, checked and not yet stored."""

    group: FeatureGroup
    kept: Rows
    outcome: Outcome
    aside: tuple[Rows, ...]
    """Rows for quarantine, with `__reasons`."""
    reached: frozenset[int]
    """The numbers that history had reached when all of it was online."""


@dataclass(frozen=True, slots=True)
class _Written:
    """What a push came to online."""

    taken: int | None
    """Rows that were news; None where the group is not served."""
    late: int = 0
    """Rows that are dated later."""
    details: dict[str, Any] = field(default_factory=dict)
    """What the run remembers."""


def _prepare(parts: Parts, group: FeatureGroup, pushed: Given, now: dt.datetime) -> _Prepared:
    def typed(rows: Rows) -> Rows:
        return parts.engine().run(feature_rows(group, Input(SOURCE)), {SOURCE: rows})

    screened = screen(group, pushed.rows, typed, now=now) if group.aggregations else Screened(typed(pushed.rows))
    outcome = check(group, screened.rows)
    aside = [*screened.poison, outcome.quarantine, *([] if pushed.aside is None else [pushed.aside])]
    reached = reached_online(parts.registry, group.name) if _is_latest(group) else frozenset()
    return _Prepared(group, outcome.kept(screened.rows), outcome, tuple(rows for rows in aside if len(rows)), reached)


def _is_latest(group: FeatureGroup) -> bool:
    """Whether a group's latest rows are served, and no windows over them, whose state knows itself what it lacks."""
    return group.online and not group.aggregations


def _write_online(parts: Parts, item: _Prepared, first: int, now: dt.datetime) -> _Written:
    """Write rows that are true by now, or within the tolerance for clocks that disagree. A later row must not stand in
    the place of the one that is true now (ONL-1); a later event may wait in a window's state, which is read as of a
    moment."""
    group, rows = item.group, item.kept
    if not group.online:
        return _Written(None)
    if group.aggregations:
        taken = write_windows(parts, group, rows, first, now=now)
        return _Written(
            taken, details={DUE: taken, STATE: OnlineState.of(group, parts.online_name).label} if len(rows) else {}
        )
    if not len(rows):
        return _Written(0)
    due = parts.engine().run(
        Between(Input(SOURCE), group.event_time, None, to_micros(now + CLOCK_TOLERANCE) + 1), {SOURCE: rows}
    )
    reached = {REACHED: first + len(rows), STATE: OnlineState.of(group, parts.online_name).label}
    merged = _write_latest(parts, item, due, first)
    if merged is not None:
        return _Written(merged, len(rows) - len(due), {**reached, DUE: merged})
    served = serve_latest(parts, group, now=now)
    if served is None:
        return _Written(None)
    return _Written(len(due), len(rows) - len(due), {**reached, DUE: served.online_rows})


def _write_latest(parts: Parts, item: _Prepared, due: Rows, first: int) -> int | None:
    """Merge due rows into what is online; returns how many were news. None where they are not all that it lacks: an
    earlier push was cut off, nothing was loaded, or the store lost it or cannot read it. Beside such a state they would
    make it look whole (ONL-6)."""
    group, columns = item.group, item.group.features()
    has_older = first != PUSHED_FROM or bool(parts.offline.versions(group.name))
    try:
        if has_older and not (first in item.reached and parts.online.rows(group.key_space, group.name, limit=1)):
            return None
        batch = push_batch(
            due,
            keys=tuple((key, group.schema[key]) for key in group.join_keys),
            event_time=group.event_time,
            created_time=group.created_time,
            columns=columns,
        )
        return parts.online.write(group.key_space, group.name, layout_of(columns), batch)
    except TamperedError:  # is told, and not painted over
        raise
    except (StateLostError, CorruptStoreError):
        return None
