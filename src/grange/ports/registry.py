"""The port of a registry: everything that was applied."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

Kind = Literal["entity", "feature_group", "feature_view"]


@dataclass(frozen=True, slots=True)
class Record:
    """One applied definition, as plain data."""

    kind: Kind
    name: str
    definition: dict[str, Any] = field(hash=False)
    """JSON-able; `grange.definitions.serialize` reads it back."""
    fingerprint: str
    """Hash of the definition: equal definitions, equal fingerprints."""


@dataclass(frozen=True, slots=True)
class Change:
    """One step of an apply."""

    action: Literal["create", "update", "delete"]
    kind: Kind
    name: str
    record: Record | None
    """What it becomes; None for a delete."""


@dataclass(frozen=True, slots=True)
class Revision:
    """One apply that happened."""

    number: int
    at: dt.datetime
    changes: tuple[tuple[str, str, str], ...]
    """(action, kind, name) per change."""


@dataclass(frozen=True, slots=True)
class RegistryState:
    """Everything that is applied, at one revision."""

    revision: int
    """0 for an empty registry; grows by one with each commit."""
    records: tuple[Record, ...]
    """By kind, then name."""


@dataclass(frozen=True, slots=True)
class Run:
    """One materialization that happened, for `grange inspect` and lineage."""

    group: str
    version: str
    verb: str
    started_at: dt.datetime
    ended_at: dt.datetime
    rows: int
    details: dict[str, Any] = field(default_factory=dict, hash=False)


@runtime_checkable
class Registry(Protocol):
    """Applied definitions. Every commit is one transaction and one revision. Nothing is pickled."""

    name: str

    def revision(self) -> int:
        """The current revision; cheap, so that readers can ask whether what they hold is current."""
        ...

    def state(self) -> RegistryState:
        """Everything that is applied.

        Raises:
            StoreUnavailableError: the registry cannot be reached.
            CorruptStoreError: what is stored cannot be read.
        """
        ...

    def commit(self, changes: Sequence[Change], *, expected_revision: int, now: dt.datetime) -> int:
        """Make changes on top of a revision; returns the new one. No changes make no revision.

        Raises:
            ConflictError: somebody committed since; nothing changed. Read the state again and retry.
            RequestError: creates what is there, updates or deletes what is not, or a definition that is no strict
                JSON; nothing changed.
        """
        ...

    def revisions(self, limit: int = 100) -> tuple[Revision, ...]:
        """The newest revisions, newest first."""
        ...

    def record_run(self, run: Run) -> None:
        """Remember a run."""
        ...

    def runs(self, group: str | None = None, limit: int = 100) -> tuple[Run, ...]:
        """The newest runs: by their end, then the last recorded first."""
        ...

    def close(self) -> None:
        """Let go of files and connections. Calling it twice is fine."""
        ...
