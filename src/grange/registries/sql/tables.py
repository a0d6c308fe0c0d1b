"""The registry's tables. `changes` is the whole history; `definitions` is what is applied now.

Times are microseconds since 1970-01-01 UTC (TIME-1). Definitions and details are JSON text.
A change here needs a migration in `migrations/versions`; a test compares the two.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, ForeignKey, Index, Integer, MetaData, Table, Text

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
