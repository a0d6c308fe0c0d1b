"""The steps from an empty database to the registry's tables, run by Alembic inside the package.

Alembic is imported only when there is something to migrate: that a database is current is one SELECT.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from sqlalchemy import Connection

KNOWN: Final = ("0001", "0002", "0003")
"""The revisions in `versions`, oldest first; a test compares them."""
HEAD: Final = KNOWN[-1]
VERSION_TABLE: Final = "grange_schema"
"""Not Alembic's own name: the database may be shared with others who use Alembic."""


def upgrade(connection: Connection) -> None:
    """Bring the tables to `HEAD`, inside the transaction that the connection is in."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", "grange.registries.sql:migrations")
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    command.upgrade(config, HEAD)
