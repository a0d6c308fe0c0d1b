"""Documents, and numbers that are given out once: functions over a connection in a transaction."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any, assert_never

from sqlalchemy import Connection, Row, delete, insert, select, update

from grange.errors import ConflictError
from grange.ports.registry import Document, Expected
from grange.registries.sql.data import check_limit, check_name, check_text, json_text, mark, parsed, wanted_mark
from grange.registries.sql.database import inserting
from grange.registries.sql.tables import DOCUMENT_FIELDS, DOCUMENTS, SEQUENCES, having_all
from grange.types.time import from_micros, to_micros


def prepared(collection: str, key: str, data: Mapping[str, Any], now: dt.datetime) -> dict[str, Any]:
    """The row of a document.

    Raises:
        RequestError: a collection, key or data that cannot be kept.
    """
    moment = to_micros(now)
    return {
        "collection": check_collection(collection),
        "key": check_text(key, "the key of a document"),
        "data": json_text(dict(data), f"document {key!r} of {collection!r}"),
        "created_at": moment,
        "updated_at": moment,
    }


def put(connection: Connection, row: Mapping[str, Any], data: Mapping[str, Any], expected: Expected) -> None:
    """As `Registry.put`, of a row that was `prepared`."""
    collection, key = row["collection"], row["key"]
    if not _written(connection, row, expected):
        raise ConflictError(
            f"document {key!r} of {collection!r} was expected {expected}, and it is not; nothing changed",
            try_="get it again and decide anew",
            details={"collection": collection, "key": key, "expected": expected},
        )
    fields = DOCUMENT_FIELDS.c
    connection.execute(delete(DOCUMENT_FIELDS).where(fields.collection == collection, fields.key == key))
    marks = {mark(collection, name, value) for name, value in data.items() if isinstance(value, str | int)}
    if marks:
        rows = [{"collection": collection, "key": key, "mark": text} for text in sorted(marks)]
        connection.execute(insert(DOCUMENT_FIELDS), rows)


def get(connection: Connection, collection: str, key: str, shown: str) -> Document | None:
    """As `Registry.get`."""
    columns = DOCUMENTS.c
    of_it = (
        columns.collection == check_collection(collection),
        columns.key == check_text(key, "the key of a document"),
    )
    row = connection.execute(select(DOCUMENTS).where(*of_it)).one_or_none()
    return None if row is None else _document(row, shown)


def documents(
    connection: Connection,
    collection: str,
    *,
    prefix: str,
    where: Mapping[str, str | int | bool],
    limit: int | None,
    newest_first: bool,
    shown: str,
) -> tuple[Document, ...]:
    """As `Registry.documents`."""
    columns = DOCUMENTS.c
    query = select(DOCUMENTS).where(columns.collection == check_collection(collection))
    if prefix:
        query = query.where(columns.key >= check_text(prefix, "the prefix of keys"), columns.key < _after(prefix))
    if where:
        marks = {wanted_mark(collection, name, value, "documents") for name, value in where.items()}
        query = query.where(columns.key.in_(having_all(DOCUMENT_FIELDS.c.key, DOCUMENT_FIELDS.c.mark, marks)))
    if limit is not None:
        check_limit(limit)
        query = query.limit(limit)
    query = query.order_by(columns.updated_at.desc(), columns.key) if newest_first else query.order_by(columns.key)
    return tuple(_document(row, shown) for row in connection.execute(query))


def remove(connection: Connection, collection: str, key: str) -> bool:
    """As `Registry.remove`."""
    columns = DOCUMENTS.c
    of_it = (
        columns.collection == check_collection(collection),
        columns.key == check_text(key, "the key of a document"),
    )
    return connection.execute(delete(DOCUMENTS).where(*of_it)).rowcount > 0


def next_number(connection: Connection, sequence: str) -> int:
    """As `Registry.next_number`."""
    taken = inserting(connection, SEQUENCES).values(name=check_text(sequence, "the name of a sequence"), last=1)
    counted = taken.on_conflict_do_update(index_elements=["name"], set_={"last": SEQUENCES.c.last + 1})
    return int(connection.execute(counted.returning(SEQUENCES.c.last)).scalar_one())


def check_collection(name: str) -> str:
    """The name of a collection: letters, digits and underscores.

    Raises:
        RequestError: something else.
    """
    return check_name(name, "collection", example="training_datasets")


def _written(connection: Connection, row: Mapping[str, Any], expected: Expected) -> bool:
    """Whether the row was written: it was not when something else is there than expected."""
    columns = DOCUMENTS.c
    changed = {"data": row["data"], "updated_at": row["updated_at"]}
    key = [columns.collection, columns.key]
    match expected:
        case "any":
            connection.execute(
                inserting(connection, DOCUMENTS).values(row).on_conflict_do_update(index_elements=key, set_=changed)
            )
            return True
        case "absent":
            new = inserting(connection, DOCUMENTS).values(row).on_conflict_do_nothing(index_elements=key)
            # what was inserted comes back: drivers do not agree on the count of a statement that did nothing
            return connection.execute(new.returning(columns.key)).one_or_none() is not None
        case "present":
            of_it = (columns.collection == row["collection"], columns.key == row["key"])
            return connection.execute(update(DOCUMENTS).where(*of_it).values(changed)).rowcount > 0
        case _:
            assert_never(expected)


def _after(prefix: str) -> str:
    """The first text in code-point order that comes after all that begin with a prefix of printable characters."""
    return prefix[:-1] + chr(ord(prefix[-1]) + 1)


def _document(row: Row[Any], shown: str) -> Document:
    return Document(
        collection=row.collection,
        key=row.key,
        data=parsed(row.data, f"document {row.key!r} of {row.collection!r}", shown),
        created_at=from_micros(row.created_at),
        updated_at=from_micros(row.updated_at),
    )
