"""What Alembic runs: the migrations, on the connection and in the transaction that `upgrade` hands over."""

from __future__ import annotations

from alembic import context

from grange.registries.sql.migrations import VERSION_TABLE
from grange.registries.sql.tables import METADATA, is_described

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
    include_name=is_described,
    version_table=VERSION_TABLE,
)
with context.begin_transaction():
    context.run_migrations()
