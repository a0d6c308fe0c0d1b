"""The port of an offline store: immutable versions of a group's history, and the rows pushed since."""

from __future__ import annotations

import datetime as dt
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, runtime_checkable

from grange.frames import Rows
from grange.plan.nodes import Node
from grange.types import Schema
from grange.types.time import isoformat, to_utc

PUSHED_FROM = 1 << 40
"""Rows that came by push have sequence numbers from here on, so they come after every source row (PIT-3)."""


@dataclass(frozen=True, slots=True)
class VersionMeta:
    """What is known of one version; `.meta.json` holds it."""

    name: str
    """The feature group."""
    version: str
    """MAJOR.MINOR.PATCH; empty in a draft, which the store numbers."""
    schema: Schema
    """The stored columns: entity key, times, features (without the sequence)."""
    entity_keys: tuple[str, ...]
    event_time: str
    created_time: str | None
    content_hash: str = ""
    """SHA-256 of the rows' canonical form, set by the store: equal rows, equal hash."""
    schema_hash: str = ""
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
    """Data files, relative to the version's folder, in row order."""
    size_bytes: int = 0
    change_summary: tuple[tuple[str, Any], ...] = ()
    """bump_type, reason, details: why the version has its number."""
    source: str = ""
    """Where the rows came from, for people."""
    quarantined: int = 0
    """Rows that an expectation with policy `drop` kept out."""

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
            "interval": None,
            "columns": self.schema.to_list(),
            "min_event_time": None if self.min_event_time is None else isoformat(self.min_event_time),
            "max_event_time": None if self.max_event_time is None else isoformat(self.max_event_time),
            "source_rows": self.source_rows,
            "pushed_through": self.pushed_through,
            "files": list(self.files),
            "size_bytes": self.size_bytes,
            "change_summary": dict(self.change_summary),
            "source": self.source,
            "quarantined": self.quarantined,
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> VersionMeta:
        """The inverse of `to_dict`. KeyError, TypeError or ValueError for anything else."""

        def moment(key: str) -> dt.datetime | None:
            return None if data[key] is None else to_utc(data[key])

        return cls(
            name=data["name"],
            version=data["version"],
            schema=Schema.from_list(data["columns"]),
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
        )

    def with_(self, **changes: Any) -> VersionMeta:
        """A copy with some fields changed."""
        return replace(self, **changes)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A group's rows at one moment: a node that any engine can run, and what is known of them."""

    meta: VersionMeta
    rows: Node
    """Stored columns and `__sequence`. With pushed rows since the version, a `Concat` of both."""
    pending: int = 0
    """How many pushed rows since the version are in `rows`."""


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

    def publish(self, draft: VersionMeta, rows: Rows, *, now: dt.datetime) -> VersionMeta:
        """Store rows as the next version and make it the latest; returns its metadata.

        `rows` have the draft's columns and `__sequence`, in PIT-3 order. The number follows VER-1; rows,
        schema, config and code identical to the latest make no new version, and the latest is returned.

        Raises:
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
