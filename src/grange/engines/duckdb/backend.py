"""The `duckdb` engine: a plan as one query of an in-memory DuckDB that spills to disk."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import assert_never

import pyarrow as pa

from grange.definitions.transforms import SqlTransform
from grange.engines.duckdb.compile import compile_node, is_canonical
from grange.engines.duckdb.session import Databases
from grange.errors import ConfigError
from grange.frames import Rows
from grange.plan.nodes import (
    Align,
    Apply,
    Between,
    Concat,
    Conform,
    CurrentEvents,
    EntityTimes,
    Grid,
    Input,
    Latest,
    Limit,
    Node,
    Number,
    Order,
    PointInTimeJoin,
    Scan,
    Timeless,
)
from grange.types.arrow import arrow_type, conform_column, from_arrow_type
from grange.types.schema import Column


class DuckDBEngine:
    """Runs plans in DuckDB. See `grange.ports.engine.Engine`.

    All runs share one in-memory database and what its options allow it; one with a SQL transform has its own.

    Args:
        memory_limit: memory before rows spill to disk, such as `4GB`; None is DuckDB's default, 80 % of the machine's.
        threads: how many threads are used; None is all cores.
        temp_directory: folder to spill to, made when it is absent; None is the system's own.

    Raises:
        ConfigError: fewer threads than one.
    """

    name = "duckdb"

    def __init__(
        self, *, memory_limit: str | None = None, threads: int | None = None, temp_directory: str | None = None
    ) -> None:
        if threads is not None and threads < 1:
            raise ConfigError(f"the duckdb engine needs a thread, got threads={threads}", try_="threads = 1, or none")
        self._databases = Databases(memory_limit=memory_limit, threads=threads, temp_directory=temp_directory)

    def run(self, node: Node, inputs: Mapping[str, Rows]) -> Rows:
        """The rows of a node. See `grange.ports.engine.Engine.run`."""
        parts = list(_walk(node))
        files = dict.fromkeys(file for part in parts if isinstance(part, Scan) for file in part.files)
        foreign = any(isinstance(part, Apply) and isinstance(part.transform, SqlTransform) for part in parts)
        with self._databases.session(files, shut=foreign) as session:
            table = session.fetch(compile_node(session, node, inputs))
        return Rows(arrow=_canonical(table) if is_canonical(node) else table)


def _walk(node: Node) -> Iterator[Node]:
    """A node and everything below it."""
    yield node
    for below in _inputs(node):
        yield from _walk(below)


def _inputs(node: Node) -> tuple[Node, ...]:
    match node:
        case Scan() | Input():
            return ()
        case Concat():
            return node.inputs
        case Limit() | Apply() | Timeless() | Conform() | Align() | Number() | Between() | Order():
            return (node.input,)
        case Latest() | EntityTimes() | CurrentEvents() | Grid():
            return (node.input,)
        case PointInTimeJoin():
            return (node.spine, *(join.rows for join in node.joins))
        case _:
            assert_never(node)


def _canonical(table: pa.Table) -> pa.Table:
    """The table in canonical types; a column of nulls only has none and stays as it is."""
    columns = {}
    for own in table.column_names:
        column = table.column(own)
        dtype = from_arrow_type(column.type)
        # DuckDB names a list's items otherwise, which Arrow does not count as another type
        columns[own] = (
            column if dtype is None else conform_column(column, Column(own, dtype), what="rows").cast(arrow_type(dtype))
        )
    return pa.table(columns)
