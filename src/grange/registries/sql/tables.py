"""The registry's tables. `changes` is the whole history; `definitions` is what is applied now; `documents` are facts
beside them; `uses` are counters; `journal_entries` only grows; the `search_` tables are made from the definitions and
can be made again.

Times are microseconds since 1970-01-01 UTC (TIME-1), days are days since then. Definitions, details, documents and
entries are JSON text. Marks are hashes by which values are found (`data.mark`).
A change here needs a migration in `migrations/versions`; a test compares the two.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    Select,
    Table,
    Text,
    event,
    func,
    select,
)

METADATA = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    }
)

REVISIONS = Table(
    "revisions",
    METADATA,
    # the next number is part of the compare-and-swap: two commits on one revision collide on this key
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("at", BigInteger, nullable=False),
)

CHANGES = Table(
    "changes",
    METADATA,
    Column("revision", BigInteger, ForeignKey("revisions.number"), primary_key=True, autoincrement=False),
    Column("position", Integer, primary_key=True, autoincrement=False),
    Column("action", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("fingerprint", Text),
    Column("definition", Text),
)

DEFINITIONS = Table(
    "definitions",
    METADATA,
    Column("kind", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("definition", Text, nullable=False),
    Column("fingerprint", Text, nullable=False),
    Column("revision", BigInteger, ForeignKey("revisions.number"), nullable=False),
)

RUNS = Table(
    "runs",
    METADATA,
    # only INTEGER PRIMARY KEY counts up by itself in SQLite
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("group_name", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("verb", Text, nullable=False),
    Column("started_at", BigInteger, nullable=False),
    Column("ended_at", BigInteger, nullable=False),
    Column("rows", BigInteger, nullable=False),
    Column("details", Text, nullable=False),
)
Index(None, RUNS.c.ended_at, RUNS.c.id)
Index(None, RUNS.c.group_name, RUNS.c.ended_at, RUNS.c.id)

CODE_POINTS = Text().with_variant(Text(collation="C"), "postgresql")
"""Text in code-point order, as SQLite has it anyway."""

DOCUMENTS = Table(
    "documents",
    METADATA,
    Column("collection", CODE_POINTS, primary_key=True),
    Column("key", CODE_POINTS, primary_key=True),
    Column("data", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
)
Index(None, DOCUMENTS.c.collection, DOCUMENTS.c.updated_at)

DOCUMENT_FIELDS = Table(
    "document_fields",
    METADATA,
    Column("collection", CODE_POINTS, primary_key=True),
    Column("key", CODE_POINTS, primary_key=True),
    # of the collection, a top-level field and its value
    Column("mark", Text, primary_key=True),
    ForeignKeyConstraint(["collection", "key"], ["documents.collection", "documents.key"], ondelete="CASCADE"),
)
Index(None, DOCUMENT_FIELDS.c.mark)

SEQUENCES = Table(
    "sequences",
    METADATA,
    Column("name", Text, primary_key=True),
    Column("last", BigInteger, nullable=False),
)

USES = Table(
    "uses",
    METADATA,
    # of kind, name, feature and verb: a feature's name may be longer than an index holds
    Column("mark", Text, primary_key=True),
    Column("day", Integer, primary_key=True, autoincrement=False),
    Column("kind", CODE_POINTS, nullable=False),
    Column("name", CODE_POINTS, nullable=False),
    Column("feature", CODE_POINTS, nullable=False),
    Column("verb", CODE_POINTS, nullable=False),
    Column("count", BigInteger, nullable=False),
)
Index(None, USES.c.day)
Index(None, USES.c.name, USES.c.day)

JOURNAL_ENTRIES = Table(
    "journal_entries",
    METADATA,
    Column("journal", CODE_POINTS, primary_key=True),
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("at", BigInteger, nullable=False),
    Column("data", Text, nullable=False),
    Column("previous_hash", Text, nullable=False),
    Column("hash", Text, nullable=False),
)

JOURNAL_FIELDS = Table(
    "journal_fields",
    METADATA,
    # of the journal, a top-level field and its value
    Column("mark", Text, primary_key=True),
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    sqlite_with_rowid=False,  # the key is all there is
)

_ONLY_ADDED: Final = "BEGIN SELECT RAISE(ABORT, 'a journal is only added to'); END"
JOURNAL_GUARDS: Final = {
    "sqlite": (
        f"CREATE TRIGGER journal_entries_refuse_update BEFORE UPDATE ON journal_entries {_ONLY_ADDED}",
        f"CREATE TRIGGER journal_entries_refuse_delete BEFORE DELETE ON journal_entries {_ONLY_ADDED}",
        # REPLACE deletes without asking the trigger above
        "CREATE TRIGGER journal_entries_refuse_replace BEFORE INSERT ON journal_entries WHEN EXISTS (SELECT 1 FROM "  # noqa: S608
        f"journal_entries WHERE journal = NEW.journal AND number = NEW.number) {_ONLY_ADDED}",
        f"CREATE TRIGGER journal_fields_refuse_update BEFORE UPDATE ON journal_fields {_ONLY_ADDED}",
        f"CREATE TRIGGER journal_fields_refuse_delete BEFORE DELETE ON journal_fields {_ONLY_ADDED}",
    ),
    "postgresql": (
        "CREATE FUNCTION journal_refuse() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION 'a journal is only added to'; END $$",
        "CREATE TRIGGER journal_entries_refuse BEFORE UPDATE OR DELETE OR TRUNCATE ON journal_entries "
        "FOR EACH STATEMENT EXECUTE FUNCTION journal_refuse()",
        "CREATE TRIGGER journal_fields_refuse BEFORE UPDATE OR DELETE OR TRUNCATE ON journal_fields "
        "FOR EACH STATEMENT EXECUTE FUNCTION journal_refuse()",
    ),
}
"""Triggers that refuse to change what is in a journal. Who owns the tables can drop them; the chain then tells."""

SEARCH_ENTRIES = Table(
    "search_entries",
    METADATA,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=False),
    Column("kind", CODE_POINTS, nullable=False),
    Column("name", CODE_POINTS, nullable=False),
    # 0 for the whole definition, then its features as they come
    Column("position", Integer, nullable=False),
    Column("entry", Text, nullable=False),
)
Index(None, SEARCH_ENTRIES.c.kind, SEARCH_ENTRIES.c.name, SEARCH_ENTRIES.c.position)

SEARCH_MARKS = Table(
    "search_marks",
    METADATA,
    Column("entry", BigInteger, ForeignKey("search_entries.id", ondelete="CASCADE"), primary_key=True),
    # of a tag or the owner
    Column("mark", Text, primary_key=True),
)
Index(None, SEARCH_MARKS.c.mark)

SEARCH_WORDS: Final = "search_words"
"""Words of entries: what each database's own full-text search needs. Not a table that SQLAlchemy can describe."""
SEARCH_WORDS_DDL: Final = {
    # words are tokens already (`words.py`); ASCII letters, digits and underscores are what they are made of
    "sqlite": (
        "CREATE VIRTUAL TABLE search_words USING fts5("
        "title, members, about, description, context, tokenize = \"ascii tokenchars '_'\")",
    ),
    "postgresql": (
        "CREATE TABLE search_words (entry BIGINT NOT NULL, own TSVECTOR NOT NULL, context TSVECTOR NOT NULL, "
        "CONSTRAINT pk_search_words PRIMARY KEY (entry), CONSTRAINT fk_search_words_entry_search_entries "
        "FOREIGN KEY(entry) REFERENCES search_entries (id) ON DELETE CASCADE)",
        "CREATE INDEX ix_search_words_own ON search_words USING gin (own)",
    ),
}


@event.listens_for(METADATA, "after_create")
def _make_the_rest(_: MetaData, connection: Connection, **__: object) -> None:
    for statement in (*SEARCH_WORDS_DDL[connection.dialect.name], *JOURNAL_GUARDS[connection.dialect.name]):
        connection.exec_driver_sql(statement)


def having_all(of: Column[Any], mark: Column[str], wanted: Collection[str]) -> Select[Any]:
    """What has all of some marks, at least one; a mark's text is different for each collection and use."""
    return select(of).where(mark.in_(sorted(wanted))).group_by(of).having(func.count() == len(wanted))


def is_described(name: str | None, kind: str, _: object) -> bool:
    """Whether Alembic finds a table in `METADATA`: its `include_name`. The others are `SEARCH_WORDS` and its parts."""
    return kind != "table" or name is None or not name.startswith(SEARCH_WORDS)
