"""Documents and sequences, counters of uses, and the search index (which is filled after the migrations)."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

CODE_POINTS = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
SEARCH_WORDS = {
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


def upgrade() -> None:
    """Make the tables. Written out, not taken from `tables.py`, which goes on changing."""
    _documents()
    _uses()
    _search()


def _documents() -> None:
    op.create_table(
        "documents",
        sa.Column("collection", CODE_POINTS, nullable=False),
        sa.Column("key", CODE_POINTS, nullable=False),
        sa.Column("data", sa.Text, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("updated_at", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("collection", "key", name="pk_documents"),
    )
    op.create_index("ix_documents_collection_updated_at", "documents", ["collection", "updated_at"])
    op.create_table(
        "document_fields",
        sa.Column("collection", CODE_POINTS, nullable=False),
        sa.Column("key", CODE_POINTS, nullable=False),
        sa.Column("mark", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("collection", "key", "mark", name="pk_document_fields"),
        sa.ForeignKeyConstraint(
            ["collection", "key"],
            ["documents.collection", "documents.key"],
            name="fk_document_fields_collection_documents",
            ondelete="CASCADE",
        ),
    )
    op.create_index("ix_document_fields_mark", "document_fields", ["mark"])
    op.create_table(
        "sequences",
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("last", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_sequences"),
    )


def _uses() -> None:
    op.create_table(
        "uses",
        sa.Column("mark", sa.Text, nullable=False),
        sa.Column("day", sa.Integer, autoincrement=False, nullable=False),
        sa.Column("kind", CODE_POINTS, nullable=False),
        sa.Column("name", CODE_POINTS, nullable=False),
        sa.Column("feature", CODE_POINTS, nullable=False),
        sa.Column("verb", CODE_POINTS, nullable=False),
        sa.Column("count", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("mark", "day", name="pk_uses"),
    )
    op.create_index("ix_uses_name_day", "uses", ["name", "day"])
    op.create_index("ix_uses_day", "uses", ["day"])


def _search() -> None:
    number = sa.BigInteger().with_variant(sa.Integer, "sqlite")
    op.create_table(
        "search_entries",
        sa.Column("id", number, autoincrement=False, nullable=False),
        sa.Column("kind", CODE_POINTS, nullable=False),
        sa.Column("name", CODE_POINTS, nullable=False),
        sa.Column("position", sa.Integer, nullable=False),
        sa.Column("entry", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_search_entries"),
    )
    op.create_index("ix_search_entries_kind_name_position", "search_entries", ["kind", "name", "position"])
    op.create_table(
        "search_marks",
        sa.Column("entry", sa.BigInteger, nullable=False),
        sa.Column("mark", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("entry", "mark", name="pk_search_marks"),
        sa.ForeignKeyConstraint(
            ["entry"], ["search_entries.id"], name="fk_search_marks_entry_search_entries", ondelete="CASCADE"
        ),
    )
    op.create_index("ix_search_marks_mark", "search_marks", ["mark"])
    for statement in SEARCH_WORDS[op.get_context().dialect.name]:
        op.execute(statement)
