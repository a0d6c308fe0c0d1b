"""A database: opened and migrated at first use, transactions, errors in Grange's words.

What SQLite and PostgreSQL do differently is in `sqlite.py` and `postgresql.py`.
"""

from __future__ import annotations

import os
import threading
import weakref
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from sqlalchemy import Connection, Engine, Table, func, inspect, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError

from grange.errors import GrangeError, UnsupportedError
from grange.registries.sql.migrations import HEAD, KNOWN, VERSION_TABLE, upgrade
from grange.registries.sql.searching import index_everything
from grange.registries.sql.tables import METADATA, REVISIONS

WRITE = "grange_write"
"""Execution option of connections whose transaction will write."""


class Database(ABC):
    """One database of the registry. Safe for several threads; a forked child opens its own connections."""

    def __init__(self, shown: str) -> None:
        self.shown = shown
        """How errors name it: a path, or a URL without its password."""
        self._lock = threading.RLock()
        self._engine: Engine | None = None
        _OPEN.add(self)

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection that sees one state, whatever is committed meanwhile."""
        with self.explained(), self._snapshot(self.engine()) as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A connection in a transaction: all of it, or nothing when the block raises."""
        with self.explained(), self._transaction(self.engine()) as connection:
            yield connection

    def newest_revision(self) -> int:
        """The number of the newest revision; 0 when there is none."""
        with self.reading() as connection:
            return newest_revision(connection)

    def engine(self) -> Engine:
        """The connections, made and the tables migrated when this is the first use."""
        with self._lock:
            if self._engine is None:
                engine = self._make_engine()
                try:
                    self._migrate(engine)
                except BaseException:
                    engine.dispose()
                    raise
                self._engine = engine
            return self._engine

    def close(self) -> None:
        """Close every connection; the next use opens new ones."""
        with self._lock:
            engine, self._engine = self._engine, None
            if engine is not None:
                engine.dispose()

    def forget(self) -> None:
        """Drop what a forked child inherited, without touching the parent's connections."""
        self._lock = threading.RLock()
        if self._engine is not None:
            _INHERITED.append(self._engine)
            self._engine = None

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Raise the driver's errors as Grange's; those that only a bug can cause stay as they are."""
        try:
            yield
        except DBAPIError as error:
            meant = self._explain(error.orig) if error.orig is not None else None
            if meant is None:
                raise
            raise meant from error
        except Exception as error:
            meant = self._explain(error)
            if meant is None:
                raise
            raise meant from error

    @abstractmethod
    def _make_engine(self) -> Engine:
        """Connections to the database, which is there afterwards."""

    @abstractmethod
    def _explain(self, error: BaseException) -> GrangeError | None:
        """What a driver's error means; None for one that is not the world's fault."""

    @abstractmethod
    def _snapshot(self, engine: Engine) -> AbstractContextManager[Connection]:
        """A connection in a transaction that reads one state."""

    @abstractmethod
    def _lock_schema(self, connection: Connection) -> None:
        """Keep every other process from migrating until the transaction ends."""

    def _foreign(self, found: str) -> UnsupportedError:
        return UnsupportedError(
            f"{self.shown} holds tables that are not a Grange registry's",
            found=found,
            try_="give the registry a database of its own",
        )

    @contextmanager
    def _transaction(self, engine: Engine) -> Iterator[Connection]:
        with engine.connect() as plain:
            connection = plain.execution_options(**{WRITE: True})
            with connection.begin():
                yield connection

    def _migrate(self, engine: Engine) -> None:
        """Bring the tables to this code's form; several processes may do so at once.

        Raises:
            UnsupportedError: the tables are of a newer Grange, or somebody else's.
        """
        with self._snapshot(engine) as connection:
            needed = self._needs_migration(connection)
        if needed:
            with self._transaction(engine) as connection:
                self._lock_schema(connection)
                if self._needs_migration(connection):  # nobody else did while this one waited
                    upgrade(connection)
                    index_everything(connection, self.shown)

    def _needs_migration(self, connection: Connection) -> bool:
        look = inspect(connection)
        if not look.has_table(VERSION_TABLE):
            foreign = sorted(set(look.get_table_names()) & set(METADATA.tables))
            if foreign:
                raise self._foreign(", ".join(foreign))
            return True
        stored = connection.exec_driver_sql(f"SELECT version_num FROM {VERSION_TABLE}").scalar()  # noqa: S608 - a constant
        if stored is not None and stored not in KNOWN:
            raise UnsupportedError(
                f"{self.shown} was written by a newer Grange than this one",
                found=f"registry schema {stored}; this Grange knows {KNOWN[0]} to {HEAD}",
                try_="pip install --upgrade grange",
            )
        return bool(stored != HEAD)


def newest_revision(connection: Connection) -> int:
    """The number of the newest revision that the connection sees; 0 when there is none."""
    return int(connection.execute(select(func.coalesce(func.max(REVISIONS.c.number), 0))).scalar_one())


def inserting(connection: Connection, table: Table) -> postgresql.Insert | sqlite.Insert:
    """An insert in the connection's dialect, which can say what happens to a row that is there."""
    return (postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert)(table)


_OPEN: weakref.WeakSet[Database] = weakref.WeakSet()
_INHERITED: list[object] = []
"""Connections that belong to the parent process. Kept, for closing one could release what the parent holds."""


def _forget_inherited() -> None:
    for database in list(_OPEN):
        database.forget()


if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    os.register_at_fork(after_in_child=_forget_inherited)
