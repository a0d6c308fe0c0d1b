"""Journals: functions over a connection in a transaction."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Row, func, insert, select

from grange.errors import CorruptStoreError
from grange.ports.journal import Anchor, Entry, chained
from grange.registries.sql.data import check_limit, check_name, json_text, mark, parsed, wanted_mark
from grange.registries.sql.tables import JOURNAL_ENTRIES, JOURNAL_FIELDS, having_all
from grange.types.time import from_micros, to_micros


def append(
    connection: Connection, journal: str, facts: Sequence[Mapping[str, Any]], now: dt.datetime
) -> tuple[Entry, ...]:
    """As `Registry.append`, of at least one fact."""
    _wait_for_other_writers(connection, check_journal(journal))
    columns = JOURNAL_ENTRIES.c
    newest = select(columns.number, columns.hash).where(columns.journal == journal)
    row = connection.execute(newest.order_by(columns.number.desc()).limit(1)).one_or_none()
    made = chained(journal, facts, after=None if row is None else Anchor(row.number, row.hash), now=now)
    connection.execute(insert(JOURNAL_ENTRIES), [_row(journal, entry) for entry in made])
    marks = [{"mark": text, "number": entry.number} for entry in made for text in _marks(journal, entry.data)]
    if marks:
        connection.execute(insert(JOURNAL_FIELDS), marks)
    return made


def entries(
    connection: Connection,
    journal: str,
    *,
    after: int,
    before: int | None,
    limit: int,
    where: Mapping[str, str | int | bool],
    newest_first: bool,
    shown: str,
) -> tuple[Entry, ...]:
    """As `Registry.entries`."""
    check_limit(limit)
    columns = JOURNAL_ENTRIES.c
    query = select(JOURNAL_ENTRIES).where(columns.journal == check_journal(journal), columns.number > after)
    if before is not None:
        query = query.where(columns.number < before)
    if where:
        marks = {wanted_mark(journal, name, value, "entries") for name, value in where.items()}
        query = query.where(columns.number.in_(having_all(JOURNAL_FIELDS.c.number, JOURNAL_FIELDS.c.mark, marks)))
    query = query.order_by(columns.number.desc() if newest_first else columns.number).limit(limit)
    return tuple(_entry(row, shown) for row in connection.execute(query))


def check_journal(name: str) -> str:
    """The name of a journal: letters, digits and underscores.

    Raises:
        RequestError: something else.
    """
    return check_name(name, "journal", example="audit")


def _wait_for_other_writers(connection: Connection, journal: str) -> None:
    """Until the transaction ends nobody else appends to this journal. A transaction that writes to SQLite is alone
    anyway; on PostgreSQL those of other schemas are other registries."""
    if connection.dialect.name == "postgresql":
        key = func.concat_ws(" ", "grange", func.current_schema(), "journal", journal)
        connection.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(key, 0))))


def _marks(journal: str, data: Mapping[str, Any]) -> set[str]:
    return {mark(journal, name, value) for name, value in data.items() if isinstance(value, str | int)}


def _row(journal: str, entry: Entry) -> dict[str, Any]:
    return {
        "journal": journal,
        "number": entry.number,
        "at": to_micros(entry.at),
        "data": json_text(entry.data, f"entry {entry.number} of journal {journal!r}"),
        "previous_hash": entry.previous_hash,
        "hash": entry.hash,
    }


def _entry(row: Row[Any], shown: str) -> Entry:
    what = f"entry {row.number} of journal {row.journal!r}"
    try:
        number, at = int(row.number), from_micros(row.at)
    except (TypeError, ValueError, OverflowError) as error:
        raise CorruptStoreError(f"{what} in the registry {shown} cannot be read", found=str(error)) from error
    return Entry(number, at, parsed(row.data, what, shown), row.previous_hash, row.hash)
