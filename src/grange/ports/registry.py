"""The port of a registry: everything that was applied, and the facts and counters that are kept beside it.

Four small ports make the one: `Definitions` (what was applied, found again by words), `Documents` (facts, JSON by
collection and key), `Uses` (who used what, how often) and `Journal` (facts that are never changed). Code that needs one
of them asks for that one.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

from grange.ports.journal import Entry

Kind = Literal["entity", "feature_group", "feature_view", "transformation"]
Expected = Literal["any", "absent", "present"]
"""What must be true of a document's key for a `put` to happen."""
HitField = Literal["", "name", "feature", "tag", "owner", "description", "dtype"]
"""Where a search found its words. `feature` is a feature's own name, and for a whole definition the names that it is
made of: join keys, columns, what a view takes, labels, inputs, outputs, transformations."""


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


@dataclass(frozen=True, slots=True)
class Hit:
    """One definition, or one feature of a feature group, that a search found."""

    kind: Kind
    name: str
    feature: str
    """The feature of the group `name`; "" for the whole definition."""
    score: float
    """How well it fits: over 0 to 1, the same on every database; 0 where there was no query to fit."""
    field: HitField
    """The most telling field that a word of the query was found in; "" where there was no query."""
    excerpt: str
    """One line of that field's text, around the word. Where a name fits, the beginning of the description."""


@dataclass(frozen=True, slots=True)
class Document:
    """A fact beside the definitions, as plain data. No part of revisions."""

    collection: str
    key: str
    data: dict[str, Any] = field(hash=False)
    """JSON-able."""
    created_at: dt.datetime
    updated_at: dt.datetime


@dataclass(frozen=True, slots=True)
class Use:
    """Something was used so many times."""

    kind: str
    name: str
    feature: str
    """"" for the whole."""
    verb: str
    count: int = 1


@dataclass(frozen=True, slots=True)
class UseCount:
    """How often something was used on one day."""

    kind: str
    name: str
    feature: str
    """"" for the whole."""
    verb: str
    day: dt.date
    """The day in UTC (TIME-1)."""
    count: int


@runtime_checkable
class Definitions(Protocol):
    """What was applied. Every commit is one transaction and one revision. Nothing is pickled."""

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

        What a search finds changes with them, in the same transaction.

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

    def search(
        self,
        query: str,
        *,
        kinds: Sequence[Kind] = (),
        tags: Mapping[str, str] | None = None,
        owner: str = "",
        limit: int = 20,
    ) -> tuple[Hit, ...]:
        """What is applied now and has all words of the query, best first.

        Words are looked for in names, features and columns (with types and descriptions), tags, owners and
        descriptions. Names are taken apart (`user_spend`, `userSpend`), word endings do not count (`payments` finds
        `payment`), and the last word may be unfinished. Case, accents and every other character mean nothing: there is
        no query language. A feature is found by words of its own, beside which the name, tags and owner of its group
        may stand. Of equal scores whole definitions come first, then by kind, name and feature.

        Args:
            query: plain words; blank lists everything that the filters let through, whole definitions first.
            kinds: only these; none is all. A feature has its group's kind.
            tags: only what has all these tags. A feature has its group's tags and owner.
            owner: only what this owner owns; "" is anybody.
            limit: at most so many hits.

        Raises:
            RequestError: a kind that is none, or a negative limit.
        """
        ...


@runtime_checkable
class Documents(Protocol):
    """Facts, as JSON documents by collection and key; and numbers that are given out once.

    A collection's name is letters, digits and underscores. Keys and sequences are 1 to 512 printable characters.
    Anything else is a RequestError.
    """

    def put(
        self, collection: str, key: str, data: Mapping[str, Any], *, now: dt.datetime, expected: Expected = "any"
    ) -> None:
        """Write a document, whole, in one transaction. The time of its creation stays when it is replaced.

        Raises:
            ConflictError: the key is there and was expected absent, or the reverse; nothing changed. Of several
                writers that expect it absent, one wins.
            RequestError: data that is no strict JSON; nothing changed.
        """
        ...

    def get(self, collection: str, key: str) -> Document | None:
        """The document; None when there is none."""
        ...

    def documents(
        self,
        collection: str,
        *,
        prefix: str = "",
        where: Mapping[str, str | int | bool] | None = None,
        limit: int | None = 1000,
        newest_first: bool = False,
    ) -> tuple[Document, ...]:
        """Documents of one collection: by key in code-point order, or by their last update, newest first.

        Args:
            collection: which one; one that nobody wrote to is empty.
            prefix: how their keys begin, character by character: `%` and `_` are characters too.
            where: top-level fields of the data and their values, equal in type and value (`True` is not `1`).
            limit: at most so many; None is all.
            newest_first: by `updated_at` descending, equal ones by key.

        Raises:
            RequestError: a value in `where` that is no text, integer or boolean; a negative limit.
        """
        ...

    def remove(self, collection: str, key: str) -> bool:
        """Delete a document; whether there was one."""
        ...

    def next_number(self, sequence: str) -> int:
        """1, 2, 3 ... for each sequence: never the same twice, to whoever asks. A number not used is lost."""
        ...


@runtime_checkable
class Uses(Protocol):
    """Counters of what is used."""

    def count_uses(self, uses: Sequence[Use], *, now: dt.datetime) -> None:
        """Add to the counters of the UTC day of `now`, all in one transaction.

        Raises:
            RequestError: a negative count, or a text that is not printable or too long.
        """
        ...

    def uses(self, name: str | None = None, since: dt.date | None = None) -> tuple[UseCount, ...]:
        """What was counted, by day, kind, name, feature and verb.

        Args:
            name: of one thing only.
            since: the first day (UTC), inclusive.
        """
        ...


@runtime_checkable
class Journal(Protocol):
    """Lists of facts that only grow, each chained by hashes; `grange.ports.journal` says how, and verifies them.

    There is no way to change or remove an entry. A journal's name is letters, digits and underscores, at most 512;
    anything else is a RequestError. Journals know nothing of each other.
    """

    def append(self, journal: str, facts: Sequence[Mapping[str, Any]], *, now: dt.datetime) -> tuple[Entry, ...]:
        """Add facts to the end, in one transaction: all or none. Returns their entries; no facts make none.

        Entries are numbered without gaps in the order in which they are appended, whoever appends: several writers come
        one after another.

        Raises:
            RequestError: a fact that has no canonical form (`canonical_json`); nothing was appended.
            ConflictError: others kept appending for longer than a writer waits; nothing was appended.
            StoreUnavailableError: the registry cannot be reached. Whether the facts were appended is known only where
                the connection broke before the end of the transaction.
        """
        ...

    def entries(
        self,
        journal: str,
        *,
        after: int = 0,
        before: int | None = None,
        limit: int = 1000,
        where: Mapping[str, str | int | bool] | None = None,
        newest_first: bool = False,
    ) -> tuple[Entry, ...]:
        """Entries by number; a journal that nobody wrote to is empty.

        Args:
            journal: which one.
            after: only entries with a higher number.
            before: only entries with a lower number.
            limit: at most so many.
            where: top-level fields of the facts and their values, equal in type and value (`True` is not `1`). What is
                found so is found by an index that no hash covers: to prove something, read and verify all entries.
            newest_first: the highest number first.

        Raises:
            RequestError: a value in `where` that is no text, integer or boolean; a negative limit.
            CorruptStoreError: an entry that is none, as only somebody else can have written it.
        """
        ...

    def head(self, journal: str) -> Entry | None:
        """The newest entry; None when there is none."""
        ...


@runtime_checkable
class Registry(Definitions, Documents, Uses, Journal, Protocol):
    """What was applied, facts, counters and journals: all that is shared by those who work on one project."""

    name: str

    def close(self) -> None:
        """Let go of files and connections. Calling it twice is fine."""
        ...
