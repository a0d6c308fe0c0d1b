"""The port of an offline store: immutable versions of a group's history, and the rows pushed since."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import Any, Final, Protocol, runtime_checkable

from grange.errors import SchemaError
from grange.frames import Rows
from grange.plan.nodes import Node
from grange.types import Schema
from grange.types.aggregates import Aggregate
from grange.types.durations import format_duration, parse_duration, timedelta_of, to_micros
from grange.types.time import isoformat, to_utc

PUSHED_FROM = 1 << 40
"""Rows that came by push have sequence numbers from here on, so they come after every source row (PIT-3)."""
NO_FEATURES: Final = Schema()

FeatureRows = Rows | Callable[[], Rows]
"""Feature rows, or what computes them."""


@dataclass(frozen=True, slots=True)
class VersionMeta:
    """What is known of one version; `.meta.json` holds it.

    A version of a group with aggregations has two tables: its events, which are the group's rows (WIN-6), and its
    feature rows, which are the aggregates as of every event or on the grid of `interval`. Without aggregations the
    rows are the features, and there is no second table.

    Raises:
        SchemaError: `features` are not the outputs of `aggregates`, or what describes events stands without any.
    """

    name: str
    """The feature group."""
    version: str
    """MAJOR.MINOR.PATCH; empty in a draft, which the store numbers."""
    schema: Schema
    """The stored columns of the group's rows, without the sequence: entity key, times, features; with aggregations
    entity key, times and whatever the events have besides."""
    entity_keys: tuple[str, ...]
    event_time: str
    created_time: str | None
    content_hash: str = ""
    """SHA-256 of the rows' canonical form and of the aggregates, which together decide the feature rows; with an event
    id also of the order in which rows were written. Set by the store: equal rows, equal hash."""
    schema_hash: str = ""
    """Of `outputs` (VER-2)."""
    config_hash: str = ""
    code_hash: str = ""
    created_at: dt.datetime | None = None
    row_count: int = 0
    min_event_time: dt.datetime | None = None
    max_event_time: dt.datetime | None = None
    source_rows: int = 0
    """Source rows have a sequence below this, so that later ones can go on from here."""
    pushed_through: int = PUSHED_FROM
    """Pushed rows with a sequence below this are inside the version."""
    files: tuple[str, ...] = ()
    """Files of the rows, relative to the version's folder, in row order."""
    size_bytes: int = 0
    """Of all its files, those of the feature rows included."""
    change_summary: tuple[tuple[str, Any], ...] = ()
    """bump_type, reason, details: why the version has its number."""
    source: str = ""
    """Where the rows came from, for people."""
    quarantined: int = 0
    """Rows that an expectation with policy `drop` kept out."""
    features: Schema = NO_FEATURES
    """The output columns of `aggregates`, in their order; empty without aggregations."""
    aggregates: tuple[Aggregate, ...] = ()
    event_id: str | None = None
    """The column that identifies an event within an entity key (WIN-6)."""
    retracted: str | None = None
    """The boolean column that is true in a row that takes its event back."""
    interval: int | None = None
    """Microseconds between the boundaries at which feature rows lie; None is as of every event."""
    ttl: int | None = None
    """How old an event may be to be seen, in microseconds; of a group with aggregations."""
    feature_rows: int = 0
    feature_files: tuple[str, ...] = ()
    """Files of the feature rows, relative to the version's folder, in row order."""

    def __post_init__(self) -> None:
        made = [(aggregate.name, aggregate.dtype) for aggregate in self.aggregates]
        if made != [(column.name, column.dtype) for column in self.features]:
            raise SchemaError(
                f"feature group {self.name!r}: its features are not the outputs of its aggregations",
                found=_listed(self.features) or "no features",
                try_=", ".join(f"{name}: {dtype}" for name, dtype in made) or "no features",
            )
        if not self.aggregates and (self.event_id, self.retracted, self.interval) != (None, None, None):
            raise SchemaError(
                f"feature group {self.name!r}: event_id, retracted and interval are of groups with aggregations",
                found=f"{self.event_id!r}, {self.retracted!r}, {self.interval!r} and no aggregations",
            )
        if self.interval is not None and self.interval < 1:
            raise SchemaError(f"feature group {self.name!r}: an interval of {self.interval} microseconds is none")

    @property
    def feature_schema(self) -> Schema:
        """The columns of the feature rows: entity key, event time, features. Of groups with aggregations."""
        return Schema((*self.schema.select((*self.entity_keys, self.event_time)), *self.features))

    @property
    def outputs(self) -> Schema:
        """What decides between MAJOR and MINOR (VER-1): entity key, times and features; columns that only the events
        of a group with aggregations have are no outputs."""
        if not self.aggregates:
            return self.schema
        times = (self.event_time,) if self.created_time is None else (self.event_time, self.created_time)
        return Schema((*self.schema.select((*self.entity_keys, *times)), *self.features))

    def to_dict(self) -> dict[str, Any]:
        """As `.meta.json` has it."""
        when = None if self.created_at is None else isoformat(self.created_at)
        return {
            "name": self.name,
            "version": self.version,
            "content_hash": self.content_hash,
            "schema_hash": self.schema_hash,
            "config_hash": self.config_hash,
            "code_hash": self.code_hash,
            "created_at": when,
            "updated_at": when,
            "row_count": self.row_count,
            "entity_keys": list(self.entity_keys),
            "timestamp": self.event_time,
            "created_time": self.created_time,
            "interval": None if self.interval is None else format_duration(timedelta_of(self.interval)),
            "columns": self._columns(),
            "event_columns": self.schema.to_list() if self.aggregates else None,
            "aggregates": [aggregate.to_data() for aggregate in self.aggregates],
            "event_id": self.event_id,
            "ttl": None if self.ttl is None else format_duration(timedelta_of(self.ttl)),
            "retracted": self.retracted,
            "min_event_time": None if self.min_event_time is None else isoformat(self.min_event_time),
            "max_event_time": None if self.max_event_time is None else isoformat(self.max_event_time),
            "source_rows": self.source_rows,
            "pushed_through": self.pushed_through,
            "files": list(self.files),
            "feature_rows": self.feature_rows,
            "feature_files": list(self.feature_files),
            "size_bytes": self.size_bytes,
            "change_summary": dict(self.change_summary),
            "source": self.source,
            "quarantined": self.quarantined,
        }

    def _columns(self) -> list[dict[str, str]]:
        """The columns that `data.parquet` has; those of an aggregate say which function and window."""
        if not self.aggregates:
            return self.schema.to_list()
        about = {
            aggregate.name: {"aggregation": str(aggregate.function), "window": str(aggregate.window)}
            for aggregate in self.aggregates
        }
        return [column | about.get(column["name"], {}) for column in self.feature_schema.to_list()]

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> VersionMeta:
        """The inverse of `to_dict`. KeyError, TypeError or ValueError for anything else.

        Metadata written before there were aggregations lacks what describes them, and reads as of a group without.
        """

        def moment(key: str) -> dt.datetime | None:
            return None if data[key] is None else to_utc(data[key])

        columns = Schema.from_list(data["columns"])
        aggregates = tuple(Aggregate.from_data(item) for item in data.get("aggregates", ()))
        interval = data.get("interval")
        return cls(
            name=data["name"],
            version=data["version"],
            schema=Schema.from_list(data["event_columns"]) if aggregates else columns,
            entity_keys=tuple(data["entity_keys"]),
            event_time=data["timestamp"],
            created_time=data["created_time"],
            content_hash=data["content_hash"],
            schema_hash=data["schema_hash"],
            config_hash=data["config_hash"],
            code_hash=data["code_hash"],
            created_at=moment("created_at"),
            row_count=data["row_count"],
            min_event_time=moment("min_event_time"),
            max_event_time=moment("max_event_time"),
            source_rows=data["source_rows"],
            pushed_through=data["pushed_through"],
            files=tuple(data["files"]),
            size_bytes=data["size_bytes"],
            change_summary=tuple(data["change_summary"].items()),
            source=data["source"],
            quarantined=data["quarantined"],
            features=columns.select([aggregate.name for aggregate in aggregates]),
            aggregates=aggregates,
            event_id=data.get("event_id"),
            ttl=None if data.get("ttl") is None else to_micros(parse_duration(data["ttl"], what="ttl")),
            retracted=data.get("retracted"),
            interval=None if interval is None else to_micros(parse_duration(interval, what="interval")),
            feature_rows=data.get("feature_rows", 0),
            feature_files=tuple(data.get("feature_files", ())),
        )

    def with_(self, **changes: Any) -> VersionMeta:
        """A copy with some fields changed."""
        return replace(self, **changes)


def _listed(schema: Schema) -> str:
    return ", ".join(f"{column.name}: {column.dtype}" for column in schema)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A group's rows at one moment: nodes that any engine can run, and what is known of them."""

    meta: VersionMeta
    rows: Node
    """Stored columns and `__sequence`. With pushed rows since the version, a `Concat` of both."""
    pending: int = 0
    """How many pushed rows since the version are in `rows`, and in `rows` alone."""
    features: Node | None = None
    """The version's feature rows, in event-time order: entity key, event time, features (`meta.feature_schema`),
    without a sequence. They are those of the version: pending pushed rows are only in `rows`, until a version
    contains them. None for a group without aggregations, and for one that was never materialized."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing `verify` found."""

    path: str
    problem: str
    removed: bool = field(default=False)


@runtime_checkable
class OfflineStore(Protocol):
    """Versions appear all at once and never change (VER-3); pushed rows wait beside the newest one.

    Calls that write (`publish`, `append`, `delete`) are made while holding `lock(group)`; the others need none.
    """

    name: str

    def versions(self, group: str) -> tuple[str, ...]:
        """The published versions, oldest first by MAJOR.MINOR.PATCH; empty when there are none."""
        ...

    def meta(self, group: str, version: str | None = None) -> VersionMeta:
        """What is known of a version; None is the latest.

        Raises:
            UnknownVersionError: there is no such version, or none at all.
            CorruptStoreError: its metadata cannot be read.
        """
        ...

    def snapshot(self, group: str, version: str | None = None) -> Snapshot:
        """The rows of a version. The latest (None) has the rows pushed since; a named one never changes (VER-4).

        Of a group that was pushed to and never materialized, the latest is its pushed rows alone (version `0.0.0`).

        Raises:
            UnknownVersionError: there is no such version, or neither a version nor pushed rows.
            CorruptStoreError: its metadata or files cannot be read.
        """
        ...

    def pushed(self, group: str) -> Node | None:
        """All rows ever pushed to a group, in sequence order, those in versions too; None when there are none."""
        ...

    def next_pushed(self, group: str) -> int:
        """The sequence number that the next pushed row will get."""
        ...

    def publish(
        self, draft: VersionMeta, rows: Rows, *, now: dt.datetime, feature_rows: FeatureRows | None = None
    ) -> VersionMeta:
        """Store rows as the next version and make it the latest; returns its metadata.

        `rows` have the draft's columns and `__sequence`, in PIT-3 order. The number follows VER-1; rows,
        schema, config and code identical to the latest make no new version, and the latest is returned.

        Args:
            feature_rows: of a group with aggregations, and only of one: rows of the columns of
                `draft.feature_schema`, by event time (nulls first, ties in any order). They follow from rows and
                config, so a function is called only when a version is written, before anything of it is; what it
                raises is passed on, and nothing changed.

        Raises:
            DataError: rows or feature rows are out of order; feature rows are missing, or of a group without
                aggregations.
            SchemaError, ColumnTypeError: either are of other columns; or the event id, the retraction or an
                aggregate's input is no column of the draft.
            StorageFullError: no space; nothing changed.
        """
        ...

    def append(self, draft: VersionMeta, rows: Rows) -> int:
        """Store pushed rows durably; they get the next sequence numbers, in order. Returns the first of them.

        `rows` have the draft's columns, without `__sequence`.
        """
        ...

    def quarantine(self, group: str, rows: Rows, *, now: dt.datetime) -> str:
        """Keep rows that an expectation dropped, with their reasons; returns where."""
        ...

    def delete(self, group: str, version: str | None = None) -> None:
        """Remove a version, or a group with everything of it. Removing the latest makes the one before it latest."""
        ...

    def verify(self, group: str | None = None, *, repair: bool = False) -> tuple[Finding, ...]:
        """What is wrong in the store: leftovers of crashes (removed with `repair`), files that do not match
        their hash or cannot be read. Published versions are never removed."""
        ...

    def lock(self, group: str, *, timeout: float) -> AbstractContextManager[object]:
        """Hold the right to write a group, against other threads and processes, for a `with` block.

        Raises:
            ConflictError: another holds it for longer than `timeout` seconds.
        """
        ...
