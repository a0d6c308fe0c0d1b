"""One run's DuckDB: a connection of its own, to a database that runs share or, for a user's SQL, to one that is shut.

Opening a database costs more than most small plans. So an engine opens one, whose connections share nothing but
memory, threads and the spill folder: registered rows and temporary tables belong to a connection and go with it.
A plan with a SQL transform gets a database of its own, which may read the plan's files and nothing else.
"""

from __future__ import annotations

import functools
import os
import shutil
import tempfile
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

import duckdb
import pyarrow as pa

from grange.engines.duckdb.sql import Query, cell, listed, name, sql, text
from grange.errors import GrangeError, SourceError
from grange.types.arrow import plain, utc_micros

T = TypeVar("T")

_GLOB = frozenset("*?[]{}")
_NOT_OURS = (duckdb.OutOfMemoryException, duckdb.InterruptException, duckdb.InternalException, duckdb.FatalException)
"""Errors that neither data nor a user's code is to blame for; they leave the engine as they are."""


class Session:
    """A connection, the temporary names in it, and who is to blame when a statement fails. Made by `Databases`."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, links: dict[str, str]) -> None:
        self._connection = connection
        self._links = links
        self._count = 0
        self._suspects: list[tuple[str, Callable[[duckdb.Error], GrangeError]]] = []

    def fresh(self, kind: str) -> str:
        """A name that nothing in this session has."""
        self._count += 1
        return f"__{kind}_{self._count}"

    def path(self, file: str) -> str:
        """The path under which DuckDB reads a file: one without glob characters."""
        return self._links.get(file, file)

    def execute(self, statement: str) -> None:
        """Run a statement that gives no rows."""
        self._blamed(lambda: self._connection.execute(statement))

    def register(self, table: pa.Table) -> Query:
        """Rows of this process as a query; nothing is copied that DuckDB can read as it is."""
        # Arrow cannot hold rows without columns through a scan, so a table of none has one that nobody names
        named = zip(table.column_names, table.columns, strict=True)
        readable = [_readable(plain(column, own)) for own, column in named] or [
            pa.chunked_array([pa.nulls(table.num_rows)])
        ]
        registered = self.fresh("rows")
        self._connection.register(registered, pa.table(readable, names=[cell(i) for i in range(len(readable))]))
        return Query(sql("SELECT * FROM", name(registered)), tuple(table.column_names), arrow=table)

    def spool(self, query: Query) -> Query:
        """The same rows computed once, in a table that spills to disk."""
        if query.arrow is not None:
            return query
        table = self.fresh("spool")
        self.execute(sql("CREATE TEMP TABLE", name(table), "AS", query.sql))
        return Query(sql("SELECT * FROM", name(table)), query.names)

    def columns(self, statement: str) -> list[str]:
        """The names of a SELECT's columns. Raises duckdb.Error when the statement does not bind."""
        return list(self._connection.sql(statement).columns)

    def types(self, query: Query) -> tuple[str, ...]:
        """The columns' types, as DuckDB prints them."""
        return tuple(str(dtype) for dtype in self._blamed(lambda: self._connection.sql(query.sql).types))

    def arrow_types(self, query: Query) -> pa.Schema:
        """The columns' types, as Arrow has them."""
        if query.arrow is not None:
            return query.arrow.schema
        relation = self._blamed(lambda: self._connection.sql(query.sql))
        empty = self._blamed(lambda: relation.limit(0).to_arrow_table())
        # a column of nulls only has a type of its own, which older DuckDBs show to Arrow as an integer
        arrow = [
            pa.null() if str(dtype) == '"NULL"' else field.type
            for dtype, field in zip(relation.types, empty.schema, strict=True)
        ]
        return pa.schema(list(zip(query.names, arrow, strict=False)))

    def numbers(self, statement: str) -> tuple[Any, ...]:
        """The one row of a statement that counts something."""
        return tuple(self._blamed(lambda: self._connection.sql(statement).to_arrow_table()).to_pylist()[0].values())

    def fetch(self, query: Query) -> pa.Table:
        """The rows, in Arrow, under their own names. Lengths of time are `duration[us]`.

        Raises:
            SourceError, TransformError: what a file or a SQL transform made of it cannot be computed.
        """
        if query.arrow is not None:
            return query.arrow
        lengths = [index for index, dtype in enumerate(self.types(query)) if dtype == "INTERVAL"]
        if lengths:
            shown = [_micros(cell(i)) if i in lengths else cell(i) for i in range(len(query.names))]
            query = query.select(list(zip(query.names, shown, strict=True)))
        table = self._blamed(lambda: self._connection.sql(query.sql).to_arrow_table())
        columns = [
            column.cast(pa.duration("us")) if index in lengths else column
            for index, column in enumerate(table.columns[: len(query.names)])
        ]
        return pa.table(columns, names=list(query.names))

    def suspect(self, statement: str, accuse: Callable[[duckdb.Error], GrangeError]) -> None:
        """Remember a part of the plan that can fail while rows flow, and the error to raise when it did."""
        self._suspects.append((statement, accuse))

    def _blamed(self, work: Callable[[], T]) -> T:
        try:
            return work()
        except _NOT_OURS:
            raise
        except duckdb.Error as error:
            for statement, accuse in self._suspects:
                reason = self._failure(statement)
                if reason is not None:
                    raise accuse(reason) from error
            raise

    def _failure(self, statement: str) -> duckdb.Error | None:
        """Why a part fails when it runs alone: parts are tried from the files on, so the first to fail is the cause."""
        try:
            # a digest of whole rows: every value is computed, none is kept
            self._connection.execute(sql("SELECT bit_xor(hash(q)) FROM (", statement, ") AS q")).fetchall()
        except _NOT_OURS:
            raise
        except duckdb.Error as error:
            return error
        return None


class Databases:
    """An engine's databases, as its options want them. Safe to use from several threads, and after a fork.

    Args:
        memory_limit: memory of the shared database before rows spill to disk; None is DuckDB's default.
        threads: how many threads it uses; None is all cores.
        temp_directory: folder to spill to, made when it is absent; None is the system's own.
    """

    def __init__(self, *, memory_limit: str | None, threads: int | None, temp_directory: str | None) -> None:
        self._temp_directory = temp_directory
        self._config: dict[str, str | bool | int | float | list[str]] = {
            "autoinstall_known_extensions": "false",
            "autoload_known_extensions": "false",
            "python_enable_replacements": "false",
            # a file may be written anew between two runs
            "enable_external_file_cache": "false",
        }
        if memory_limit is not None:
            self._config["memory_limit"] = memory_limit
        if threads is not None:
            self._config["threads"] = str(threads)
        self._lock = threading.Lock()
        self._shared: tuple[duckdb.DuckDBPyConnection, Callable[[], object]] | None = None
        """The shared database's own connection, and what closes it."""
        self._running = 0
        """How many runs are at work in it."""
        _ALL.add(self)

    @contextmanager
    def session(self, files: Iterable[str], *, shut: bool) -> Iterator[Session]:
        """A session that may read these files; when it is shut, nothing else.

        A user's SQL runs in a shut one beside the engine's own: no other file, no network, no extension, no Python
        variable, no setting can be reached from inside.
        """
        with ExitStack() as stack:
            links = _links(files, lambda: stack.enter_context(self._passing_folder()))
            if shut:
                connection = stack.enter_context(self._open(stack.enter_context(self._passing_folder())))
            else:
                connection = stack.enter_context(self._cursor())
            connection.execute("SET TimeZone = 'UTC'")
            connection.execute("SET preserve_insertion_order = true")
            connection.execute("SET arrow_large_buffer_size = true")
            # for few rows DuckDB would join by an aggregate, which loses the sign of a float's zero
            connection.execute("SET asof_loop_join_threshold = 0")
            if shut:
                allowed = listed(text(path) for path in dict.fromkeys(links.values()))
                connection.execute(sql("SET allowed_paths = [", allowed, "]"))
                connection.execute("SET enable_external_access = false")
                connection.execute("SET lock_configuration = true")
            yield Session(connection, links)

    @contextmanager
    def _cursor(self) -> Iterator[duckdb.DuckDBPyConnection]:
        with self._lock:
            if self._shared is None:
                folder = self._folder()
                connection = self._open(folder)
                self._shared = connection, weakref.finalize(self, _leave, connection, folder, os.getpid())
            cursor = self._shared[0].cursor()
            self._running += 1
        try:
            with cursor:
                yield cursor
        finally:
            with self._lock:
                self._running = max(0, self._running - 1)  # a fork of this run began at none

    def before_fork(self) -> None:
        """Close the shared database, unless it is at work: a child would have it without its threads."""
        self._lock.acquire()
        if self._shared is not None and not self._running:
            self._shared[1]()
            self._shared = None

    def after_fork(self, *, child: bool) -> None:
        """Let runs go on; a child's in a database of its own."""
        if child:
            self._shared, self._running = None, 0
        self._lock.release()

    def _open(self, folder: Path) -> duckdb.DuckDBPyConnection:
        return duckdb.connect(":memory:", config={**self._config, "temp_directory": str(folder / "spill")})

    def _folder(self) -> Path:
        """A new folder; whoever asks for it removes it."""
        if self._temp_directory is not None:
            Path(self._temp_directory).mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(prefix="grange-duckdb-", dir=self._temp_directory))

    @contextmanager
    def _passing_folder(self) -> Iterator[Path]:
        folder = self._folder()
        try:
            yield folder
        finally:
            shutil.rmtree(folder)


def _leave(connection: duckdb.DuckDBPyConnection, folder: Path, owner: int) -> None:
    if owner == os.getpid():  # else a fork's parent still uses it
        connection.close()
        shutil.rmtree(folder)


_ALL: Final[weakref.WeakSet[Databases]] = weakref.WeakSet()
_HELD: Final[list[Databases]] = []
"""Those that wait for a fork to be over."""


def _before_fork() -> None:
    for databases in list(_ALL):
        databases.before_fork()
        _HELD.append(databases)


def _after_fork(*, child: bool) -> None:
    while _HELD:
        _HELD.pop().after_fork(child=child)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=functools.partial(_after_fork, child=False),
        after_in_child=functools.partial(_after_fork, child=True),
    )


def _links(files: Iterable[str], make_folder: Callable[[], Path]) -> dict[str, str]:
    """By file, the path to read it under. A path is a pattern to DuckDB: `part[1].csv` would read `part1.csv`."""
    paths: dict[str, str] = {}
    folder: Path | None = None
    for number, file in enumerate(files):
        if not _GLOB.intersection(file):
            paths[file] = file
            continue
        folder = folder or make_folder()
        link = folder / f"{number}{'.gz' if file.lower().endswith('.gz') else ''}"
        try:
            link.symlink_to(os.path.abspath(file))  # noqa: PTH100  # resolve() would follow links
        except OSError as error:
            raise SourceError(
                f"file {file!r} has characters in its path that mean a pattern, and no link to it can be made",
                found=str(error),
                try_="rename the file, or run the plan with another engine",
            ) from error
        paths[file] = str(link)
    return paths


def _micros(expression: str) -> str:
    """A length of time in microseconds; months have no fixed length (TIME-2)."""
    months = sql("datepart('year',", expression, ") <> 0 OR datepart('month',", expression, ") <> 0")
    refusal = "error('an interval of calendar months has no fixed length (TIME-2)')"
    return sql("CASE WHEN", months, "THEN CAST(", refusal, "AS BIGINT) ELSE epoch_us(", expression, ") END")


def _readable(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A column in a type that DuckDB reads without loss: it has no half floats, and cuts nanoseconds with a zone."""
    arrow = column.type
    if pa.types.is_dictionary(arrow):
        return column.cast(arrow.value_type)
    if pa.types.is_float16(arrow):
        return column.cast(pa.float32())
    if pa.types.is_timestamp(arrow) and arrow.tz is not None:
        return utc_micros(column)
    if pa.types.is_duration(arrow) and arrow.unit != "us":
        return column.cast(pa.duration("us"), safe=False)
    return column
