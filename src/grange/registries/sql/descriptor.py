"""What is known of the SQL registry before it is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from grange.ports.plugins import Descriptor

if TYPE_CHECKING:
    from grange.registries.sql.backend import SqlRegistry


def _create(url: str, root: str | Path = ".", **options: Any) -> SqlRegistry:
    from grange.registries.sql.backend import SqlRegistry

    return SqlRegistry(url, root=root, **options)


DESCRIPTOR = Descriptor(
    name="sql",
    factory=_create,
    summary="relational tables: SQLite in one file, PostgreSQL when shared",
    options={
        "url": "the database: sqlite:///.grange/registry.db (relative to the project; ?timeout=30 is how many "
        "seconds to wait for somebody else's write) or postgresql://user@host/database (?sslmode=verify-full and "
        "other parameters of libpq)",
        "schema": "of PostgreSQL: the schema of the tables, made at first use; a schema for each project",
        "pool_size": "of PostgreSQL: connections that are kept open, at most, per process; default 5",
        "max_connections": "of PostgreSQL: connections at once, at most, per process; default: no limit",
        "pool_timeout": "of PostgreSQL: seconds to wait for a connection where all are used; default 10",
        "statement_timeout": "of PostgreSQL: seconds that one statement may take, 0 for no limit; default 60",
    },
)
