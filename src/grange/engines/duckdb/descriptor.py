"""What is known of the `duckdb` engine before it is loaded."""

from __future__ import annotations

from grange.ports.engine import Engine
from grange.ports.plugins import Descriptor


def _make(*, memory_limit: str | None = None, threads: int | None = None, temp_directory: str | None = None) -> Engine:
    from grange.engines.duckdb.backend import DuckDBEngine

    return DuckDBEngine(memory_limit=memory_limit, threads=threads, temp_directory=temp_directory)


DESCRIPTOR = Descriptor(
    name="duckdb",
    factory=_make,
    summary="SQL in DuckDB: rows larger than memory spill to disk",
    options={
        "memory_limit": "memory before rows spill to disk, such as '4GB'; when left out, 80 % of the machine's",
        "threads": "how many threads a run uses; all cores when left out",
        "temp_directory": "folder to spill to; the system's own when left out",
    },
)
