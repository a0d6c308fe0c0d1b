"""Journals: entries that are only added, the marks by which they are found, and what refuses to change them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

CODE_POINTS = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
REFUSE = "BEGIN SELECT RAISE(ABORT, 'a journal is only added to'); END"
GUARDS = {
    "sqlite": (
        f"CREATE TRIGGER journal_entries_refuse_update BEFORE UPDATE ON journal_entries {REFUSE}",
        f"CREATE TRIGGER journal_entries_refuse_delete BEFORE DELETE ON journal_entries {REFUSE}",
        "CREATE TRIGGER journal_entries_refuse_replace BEFORE INSERT ON journal_entries WHEN EXISTS (SELECT 1 FROM "  # noqa: S608
        f"journal_entries WHERE journal = NEW.journal AND number = NEW.number) {REFUSE}",
        f"CREATE TRIGGER journal_fields_refuse_update BEFORE UPDATE ON journal_fields {REFUSE}",
        f"CREATE TRIGGER journal_fields_refuse_delete BEFORE DELETE ON journal_fields {REFUSE}",
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


def upgrade() -> None:
    """Make the tables. Written out, not taken from `tables.py`, which goes on changing."""
    op.create_table(
        "journal_entries",
        sa.Column("journal", CODE_POINTS, nullable=False),
        sa.Column("number", sa.BigInteger, autoincrement=False, nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("data", sa.Text, nullable=False),
        sa.Column("previous_hash", sa.Text, nullable=False),
        sa.Column("hash", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("journal", "number", name="pk_journal_entries"),
    )
    op.create_table(
        "journal_fields",
        sa.Column("mark", sa.Text, nullable=False),
        sa.Column("number", sa.BigInteger, autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("mark", "number", name="pk_journal_fields"),
        sqlite_with_rowid=False,
    )
    for statement in GUARDS[op.get_context().dialect.name]:
        op.execute(statement)
