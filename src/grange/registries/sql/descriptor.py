"""What is known of the SQL registry before it is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from grange.ports.plugins import Descriptor

if TYPE_CHECKING:
    from grange.registries.sql.backend import SqlRegistry


def _create(url: str, root: str | Path = ".") -> SqlRegistry:
    from grange.registries.sql.backend import SqlRegistry

    return SqlRegistry(url, root=root)


DESCRIPTOR = Descriptor(
    name="sql",
    factory=_create,
    summary="relational tables: SQLite in one file, PostgreSQL when shared",
    options={
        "url": "the database: sqlite:///.grange/registry.db (relative to the project; ?timeout=30 is how many "
        "seconds to wait for somebody else's write) or postgresql://user@host/database",
    },
)
