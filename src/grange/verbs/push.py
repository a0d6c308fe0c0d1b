"""push: rows to history and to the online store together."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from grange.definitions.catalog import Catalog
from grange.definitions.feature_group import FeatureGroup
from grange.errors import StoreUnavailableError, UnknownFeatureGroupError, closest_names
from grange.frames import Rows
from grange.plan.materialize import feature_rows
from grange.plan.nodes import Input
from grange.ports.registry import Run
from grange.serving.load import push_batch
from grange.verbs.materialize import check, draft_of, warnings_of
from grange.verbs.parts import SOURCE, Parts


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
    """The groups that rows pushed to a name go to: the group of that name, or all that read that push source.

    Raises:
        UnknownFeatureGroupError: neither a group nor a push source.
    """
    if name in catalog.groups:
        return (catalog.groups[name],)
    readers = catalog.readers(name)
    if not readers:
        sources = {group.source.name for group in catalog.groups.values() if catalog.readers(group.source.name)}
        raise UnknownFeatureGroupError(
            f"no feature group or push source {name!r}",
            closest=closest_names(name, [*catalog.groups, *sources]),
            try_="grange fg list" if catalog.groups else "grange apply",
        )
    return readers


def push(parts: Parts, groups: Sequence[FeatureGroup], rows: Rows, *, now: dt.datetime) -> Pushed:
    """Store raw rows: each group's transform is run on them, its types and expectations checked, then both stores
    written under the group's lock, history first: what is online is always in history too.

    Nothing is written anywhere unless the rows fit every group.

    Raises:
        TransformError, SchemaError, ColumnTypeError, ExpectationError: nothing was written.
        StoreUnavailableError: the rows are in history; the online store was not reached.
    """
    prepared = []
    warnings: list[str] = []
    for group in groups:
        typed = parts.engine().run(feature_rows(group, Input(SOURCE)), {SOURCE: rows})
        outcome = check(group, typed)
        warnings += warnings_of(outcome)
        prepared.append((group, typed, outcome))
    stored: list[tuple[str, int, int | None]] = []
    for group, typed, outcome in prepared:
        kept = outcome.kept(typed)
        with parts.offline.lock(group.name, timeout=parts.lock_timeout):
            if len(outcome.quarantine):
                parts.offline.quarantine(group.name, outcome.quarantine, now=now)
            if len(kept):
                parts.offline.append(draft_of(group, source="push"), kept)
            online = _write_online(parts, group, kept) if group.online else None
        stored.append((group.name, len(kept), online))
        parts.registry.record_run(Run(group.name, "", "push", now, now, len(kept)))
    return Pushed(tuple(stored), sum(len(outcome.quarantine) for _, _, outcome in prepared), tuple(warnings))


def _write_online(parts: Parts, group: FeatureGroup, rows: Rows) -> int:
    columns = group.features()
    batch = push_batch(
        rows,
        keys=tuple((key, group.schema[key]) for key in group.join_keys),
        event_time=group.event_time,
        created_time=group.created_time,
        columns=columns,
    )
    try:
        return parts.online.write(group.key_space, group.name, columns.names, batch)
    except StoreUnavailableError as error:
        error.try_ = f"the rows are in history; bring them online: grange materialize {group.name}"
        raise
