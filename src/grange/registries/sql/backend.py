"""The registry in relational tables: every commit is one transaction and one revision."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, assert_never, cast

from sqlalchemy import Connection, and_, delete, insert, select
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from grange.errors import ConfigError, ConflictError, RequestError
from grange.ports.journal import Entry
from grange.ports.registry import (
    Change,
    Document,
    Expected,
    Hit,
    Kind,
    Record,
    RegistryState,
    Revision,
    Run,
    Use,
    UseCount,
)
from grange.registries.sql import documents, journals, searching
from grange.registries.sql import uses as counting
from grange.registries.sql.data import check_limit, json_text, parsed
from grange.registries.sql.database import Database, newest_revision
from grange.registries.sql.tables import CHANGES, DEFINITIONS, REVISIONS, RUNS
from grange.types.time import from_micros, to_micros

_Key = tuple[str, str]
"""(kind, name) of a definition."""


class SqlRegistry:
    """`grange.ports.Registry` over one database, opened (and its tables made or migrated) at first use.

    Args:
        url: `sqlite:///relative.db`, `sqlite:////absolute.db` or `postgresql://user@host/database`.
        root: the project's folder, where a relative SQLite path lies.
        options: of PostgreSQL alone, as `PostgresqlOptions` has them.

    Raises:
        ConfigError: not the url of a database that it can use; an option that is wrong or of another database.
    """

    name = "sql"

    def __init__(self, url: str, *, root: str | Path = ".", **options: Any) -> None:
        self._database = _database_of(url, Path(root), options)

    def __repr__(self) -> str:
        return f"SqlRegistry({self._database.shown!r})"

    def revision(self) -> int:
        """As `Registry.revision`: on SQLite a few microseconds, on PostgreSQL one round trip."""
        return self._database.newest_revision()

    def state(self) -> RegistryState:
        """As `Registry.state`: the revision and the definitions are of the same moment."""
        columns = DEFINITIONS.c
        with self._database.reading() as connection:
            number = newest_revision(connection)
            rows = connection.execute(select(columns.kind, columns.name, columns.definition, columns.fingerprint)).all()
        records = [
            Record(cast(Kind, kind), name, self._parsed(definition, f"{kind} {name!r}"), fingerprint)
            for kind, name, definition, fingerprint in rows
        ]
        # sorted here: databases order text by their own locale
        return RegistryState(number, tuple(sorted(records, key=lambda record: (record.kind, record.name))))

    def commit(self, changes: Sequence[Change], *, expected_revision: int, now: dt.datetime) -> int:
        """As `Registry.commit`.

        Raises:
            RequestError: a change that does not fit what is applied (it creates what is there, updates or deletes
                what is not), or a definition that is not JSON-able; nothing changed.
        """
        texts = [_checked_text(change) for change in changes]
        with self._database.writing() as connection:
            found = newest_revision(connection)
            if found != expected_revision:
                raise ConflictError(
                    "somebody else changed the registry since it was read; nothing was applied",
                    found=f"revision {found}, not {expected_revision}",
                    try_="read the state again and retry",
                    details={"revision": found, "expected_revision": expected_revision},
                )
            if not changes:
                return found
            touched = _replay(changes, _applied_keys(connection))
            number = found + 1
            connection.execute(insert(REVISIONS), {"number": number, "at": to_micros(now)})
            connection.execute(
                insert(CHANGES),
                [
                    _change_row(number, position, change, text)
                    for position, (change, text) in enumerate(zip(changes, texts, strict=True))
                ],
            )
            _replace_definitions(connection, touched, changes, texts, number)
            return number

    def revisions(self, limit: int = 100) -> tuple[Revision, ...]:
        """As `Registry.revisions`."""
        check_limit(limit)
        columns = CHANGES.c
        with self._database.reading() as connection:
            newest = connection.execute(select(REVISIONS).order_by(REVISIONS.c.number.desc()).limit(limit)).all()
            if not newest:
                return ()
            steps = connection.execute(
                select(columns.revision, columns.action, columns.kind, columns.name)
                .where(columns.revision >= newest[-1].number)
                .order_by(columns.revision, columns.position)
            ).all()
        by_revision: dict[int, list[tuple[str, str, str]]] = {row.number: [] for row in newest}
        for revision, action, kind, name in steps:
            by_revision[revision].append((action, kind, name))
        return tuple(Revision(row.number, from_micros(row.at), tuple(by_revision[row.number])) for row in newest)

    def record_run(self, run: Run) -> None:
        """As `Registry.record_run`.

        Raises:
            RequestError: details that are not JSON-able.
        """
        row = {
            "group_name": run.group,
            "version": run.version,
            "verb": run.verb,
            "started_at": to_micros(run.started_at),
            "ended_at": to_micros(run.ended_at),
            "rows": run.rows,
            "details": json_text(run.details, f"details of the run of {run.group!r}"),
        }
        with self._database.writing() as connection:
            connection.execute(insert(RUNS), row)

    def runs(self, group: str | None = None, limit: int = 100) -> tuple[Run, ...]:
        """As `Registry.runs`: by when they ended; of equal times the one recorded last comes first."""
        check_limit(limit)
        query = select(RUNS).order_by(RUNS.c.ended_at.desc(), RUNS.c.id.desc()).limit(limit)
        if group is not None:
            query = query.where(RUNS.c.group_name == group)
        with self._database.reading() as connection:
            rows = connection.execute(query).all()
        return tuple(
            Run(
                group=row.group_name,
                version=row.version,
                verb=row.verb,
                started_at=from_micros(row.started_at),
                ended_at=from_micros(row.ended_at),
                rows=row.rows,
                details=self._parsed(row.details, f"run {row.id}"),
            )
            for row in rows
        )

    def search(
        self,
        query: str,
        *,
        kinds: Sequence[Kind] = (),
        tags: Mapping[str, str] | None = None,
        owner: str = "",
        limit: int = 20,
    ) -> tuple[Hit, ...]:
        """As `Registry.search`: FTS5 on SQLite, tsvectors on PostgreSQL, over the same words."""
        with self._database.reading() as connection:
            return searching.search(
                connection, query, kinds=kinds, tags=tags or {}, owner=owner, limit=limit, shown=self._database.shown
            )

    def put(
        self, collection: str, key: str, data: Mapping[str, Any], *, now: dt.datetime, expected: Expected = "any"
    ) -> None:
        """As `Registry.put`."""
        row = documents.prepared(collection, key, data, now)
        with self._database.writing() as connection:
            documents.put(connection, row, data, expected)

    def get(self, collection: str, key: str) -> Document | None:
        """As `Registry.get`."""
        with self._database.reading() as connection:
            return documents.get(connection, collection, key, self._database.shown)

    def documents(
        self,
        collection: str,
        *,
        prefix: str = "",
        where: Mapping[str, str | int | bool] | None = None,
        limit: int | None = 1000,
        newest_first: bool = False,
    ) -> tuple[Document, ...]:
        """As `Registry.documents`."""
        with self._database.reading() as connection:
            return documents.documents(
                connection,
                collection,
                prefix=prefix,
                where=where or {},
                limit=limit,
                newest_first=newest_first,
                shown=self._database.shown,
            )

    def remove(self, collection: str, key: str) -> bool:
        """As `Registry.remove`."""
        with self._database.writing() as connection:
            return documents.remove(connection, collection, key)

    def next_number(self, sequence: str) -> int:
        """As `Registry.next_number`."""
        with self._database.writing() as connection:
            return documents.next_number(connection, sequence)

    def count_uses(self, uses: Sequence[Use], *, now: dt.datetime) -> None:
        """As `Registry.count_uses`."""
        rows = counting.added(uses, now)
        if rows:
            with self._database.writing() as connection:
                counting.count_uses(connection, rows)

    def uses(self, name: str | None = None, since: dt.date | None = None) -> tuple[UseCount, ...]:
        """As `Registry.uses`."""
        with self._database.reading() as connection:
            return counting.uses(connection, name, since)

    def append(self, journal: str, facts: Sequence[Mapping[str, Any]], *, now: dt.datetime) -> tuple[Entry, ...]:
        """As `Registry.append`."""
        if not facts:
            journals.check_journal(journal)
            return ()
        with self._database.writing() as connection:
            return journals.append(connection, journal, facts, now)

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
        """As `Registry.entries`."""
        with self._database.reading() as connection:
            return journals.entries(
                connection,
                journal,
                after=after,
                before=before,
                limit=limit,
                where=where or {},
                newest_first=newest_first,
                shown=self._database.shown,
            )

    def head(self, journal: str) -> Entry | None:
        """As `Registry.head`."""
        return next(iter(self.entries(journal, limit=1, newest_first=True)), None)

    def close(self) -> None:
        """As `Registry.close`; a later use opens the database again."""
        self._database.close()

    def _parsed(self, text: str, what: str) -> dict[str, Any]:
        return parsed(text, what, self._database.shown)


def _database_of(url: str, root: Path, options: Mapping[str, Any]) -> Database:
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError) as error:
        # the text itself may hold a password
        raise ConfigError("the registry's url is not a database url", try_="sqlite:///.grange/registry.db") from error
    match parsed.get_backend_name(), parsed.drivername:
        case "sqlite", "sqlite" | "sqlite+pysqlite":
            from grange.registries.sql.sqlite import SqliteDatabase

            if options:
                raise ConfigError(
                    f"{next(iter(options))} is an option of a registry in PostgreSQL",
                    found="a SQLite file",
                    try_="leave it out, or url = 'postgresql://user@host/database'",
                )
            return SqliteDatabase(parsed, root)
        case "postgresql", "postgresql" | "postgresql+psycopg":
            from grange.registries.sql.postgresql import PostgresqlDatabase, PostgresqlOptions

            return PostgresqlDatabase(_with_psycopg(parsed), PostgresqlOptions(**options))
        case _:
            raise ConfigError(
                "the registry lives in SQLite or in PostgreSQL (with psycopg)",
                found=parsed.drivername,
                try_="sqlite:///.grange/registry.db or postgresql://user@host/database",
            )


def _with_psycopg(url: URL) -> URL:
    return url.set(drivername="postgresql+psycopg")  # older SQLAlchemy would take another driver


def _checked_text(change: Change) -> str | None:
    """The JSON text of what a change writes; None for a delete.

    Raises:
        RequestError: the change contradicts itself.
    """
    what = f"{change.action} of {change.kind} {change.name!r}"
    match change.action:
        case "create" | "update":
            if change.record is None or (change.record.kind, change.record.name) != (change.kind, change.name):
                raise RequestError(
                    f"{what} needs the record of that definition",
                    found="none" if change.record is None else f"{change.record.kind} {change.record.name!r}",
                )
            return json_text(change.record.definition, what)
        case "delete":
            if change.record is not None:
                raise RequestError(f"{what} takes no record")
            return None
        case _:
            assert_never(change.action)


def _applied_keys(connection: Connection) -> set[_Key]:
    return {(kind, name) for kind, name in connection.execute(select(DEFINITIONS.c.kind, DEFINITIONS.c.name))}


def _replay(changes: Sequence[Change], applied: set[_Key]) -> dict[_Key, int]:
    """By touched definition, the position of the change that has the last word.

    Raises:
        RequestError: a change that does not fit what is applied when its turn comes.
    """
    touched: dict[_Key, int] = {}
    for position, change in enumerate(changes):
        key = (change.kind, change.name)
        if (key in applied) == (change.action == "create"):
            raise RequestError(
                f"cannot {change.action} {change.kind} {change.name!r}; nothing was applied",
                found="it is applied already" if key in applied else "it is not applied",
            )
        (applied.discard if change.action == "delete" else applied.add)(key)
        touched[key] = position
    return touched


def _change_row(number: int, position: int, change: Change, text: str | None) -> dict[str, Any]:
    return {
        "revision": number,
        "position": position,
        "action": change.action,
        "kind": change.kind,
        "name": change.name,
        "fingerprint": None if change.record is None else change.record.fingerprint,
        "definition": text,
    }


def _replace_definitions(
    connection: Connection,
    touched: Mapping[_Key, int],
    changes: Sequence[Change],
    texts: Sequence[str | None],
    number: int,
) -> None:
    """Make `definitions` what it is after the changes: the touched ones out, then those that remain in again.

    The search index goes with them.
    """
    for kind, name in touched:
        connection.execute(delete(DEFINITIONS).where(and_(DEFINITIONS.c.kind == kind, DEFINITIONS.c.name == name)))
        searching.unindex(connection, kind, name)
    rows, records = [], []
    for position in touched.values():
        row, record = _change_row(number, position, changes[position], texts[position]), changes[position].record
        if record is not None:
            rows.append({column: row[column] for column in ("kind", "name", "definition", "fingerprint", "revision")})
            records.append(record)
    if rows:
        connection.execute(insert(DEFINITIONS), rows)
        searching.index(connection, records)
