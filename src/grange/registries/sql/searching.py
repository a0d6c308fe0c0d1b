"""The search index: kept with the definitions in each commit's transaction, and asked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, cast, get_args

from sqlalchemy import Connection, Select, delete, func, insert, select

from grange.errors import RequestError, closest_names
from grange.ports.registry import Hit, Kind, Record
from grange.registries.sql.data import check_limit, json_text, mark, parsed
from grange.registries.sql.entries import Entry, index_entries
from grange.registries.sql.fulltext import FULL_TEXT, FullText
from grange.registries.sql.scoring import hit, rank
from grange.registries.sql.tables import DEFINITIONS, SEARCH_ENTRIES, SEARCH_MARKS, having_all
from grange.registries.sql.words import parse_query

CANDIDATES: Final = 150
"""Whole definitions, and as many features, that the database ranks first and that are put in order here. More where
more hits are asked for. The two are asked for apart: bm25 compares texts of similar length alone."""


def index(connection: Connection, records: Iterable[Record]) -> None:
    """Add definitions to the index."""
    entries = [(position, entry) for record in records for position, entry in enumerate(index_entries(record))]
    if not entries:
        return
    first = connection.execute(select(func.coalesce(func.max(SEARCH_ENTRIES.c.id), 0))).scalar_one() + 1
    numbered = [(number, position, entry) for number, (position, entry) in enumerate(entries, start=first)]
    connection.execute(insert(SEARCH_ENTRIES), [_row(*item) for item in numbered])
    marks = [
        {"entry": number, "mark": text} for number, _, entry in numbered for text in _marks(entry.owner, entry.tags)
    ]
    if marks:
        connection.execute(insert(SEARCH_MARKS), marks)
    _full_text(connection).add(connection, [(number, entry) for number, _, entry in numbered])


def unindex(connection: Connection, kind: str, name: str) -> None:
    """Take a definition out of the index."""
    is_of_it = (SEARCH_ENTRIES.c.kind == kind, SEARCH_ENTRIES.c.name == name)
    _full_text(connection).remove(connection, select(SEARCH_ENTRIES.c.id).where(*is_of_it))
    connection.execute(delete(SEARCH_ENTRIES).where(*is_of_it))


def index_everything(connection: Connection, shown: str) -> None:
    """Make the index anew from what is applied: after migrations, which may have brought it or changed its words.

    Args:
        connection: in the migrations' transaction.
        shown: the registry, for messages.

    Raises:
        CorruptStoreError: a definition cannot be read.
    """
    _full_text(connection).remove(connection, select(SEARCH_ENTRIES.c.id))
    connection.execute(delete(SEARCH_ENTRIES))
    rows = connection.execute(select(DEFINITIONS)).all()
    index(
        connection,
        (
            Record(row.kind, row.name, parsed(row.definition, f"{row.kind} {row.name!r}", shown), row.fingerprint)
            for row in rows
        ),
    )


def search(
    connection: Connection,
    query: str,
    *,
    kinds: Sequence[Kind],
    tags: Mapping[str, str],
    owner: str,
    limit: int,
    shown: str,
) -> tuple[Hit, ...]:
    """As `Registry.search`."""
    check_limit(limit)
    _check_kinds(kinds)
    terms = parse_query(query)
    if query.strip() and not terms:
        return ()  # nothing that a word could be
    columns = SEARCH_ENTRIES.c
    order = (columns.kind, columns.name, columns.position)
    filtered = _filtered(kinds, tags, owner)
    if not terms:
        listed = filtered.order_by(columns.position > 0, *order).limit(limit)
        return tuple(hit(entry, terms) for entry in _entries(connection, listed, shown))
    found = _full_text(connection).narrowed(filtered, terms).order_by(*order).limit(max(CANDIDATES, limit))
    likely = (found.where(columns.position == 0), found.where(columns.position > 0))
    hits = (hit(entry, terms) for some in likely for entry in _entries(connection, some, shown))
    return tuple(sorted(hits, key=rank)[:limit])


def _entries(connection: Connection, query: Select[str, str, str], shown: str) -> list[Entry]:
    return [
        Entry.from_data(cast(Kind, kind), name, parsed(text, f"the search entry of {name!r}", shown))
        for kind, name, text in connection.execute(query)
    ]


def _full_text(connection: Connection) -> FullText:
    return FULL_TEXT[connection.dialect.name]


def _row(number: int, position: int, entry: Entry) -> dict[str, object]:
    return {
        "id": number,
        "kind": entry.kind,
        "name": entry.name,
        "position": position,
        "entry": json_text(entry.to_data(), f"{entry.kind} {entry.name!r}"),
    }


def _marks(owner: str, tags: Iterable[tuple[str, str]]) -> set[str]:
    marks = {mark("tag", key, value) for key, value in tags}
    return marks | {mark("owner", owner)} if owner else marks


def _filtered(kinds: Sequence[Kind], tags: Mapping[str, str], owner: str) -> Select[str, str, str]:
    columns = SEARCH_ENTRIES.c
    found = select(columns.kind, columns.name, columns.entry)
    if kinds:
        found = found.where(columns.kind.in_(list(kinds)))
    wanted = _marks(owner, tags.items())
    return (
        found.where(columns.id.in_(having_all(SEARCH_MARKS.c.entry, SEARCH_MARKS.c.mark, wanted))) if wanted else found
    )


def _check_kinds(kinds: Sequence[Kind]) -> None:
    for kind in kinds:
        if kind not in get_args(Kind):
            raise RequestError(
                f"kind {kind!r} is none", closest=closest_names(kind, get_args(Kind)), try_=", ".join(get_args(Kind))
            )
