"""SQLite: one file, WAL, one writer at a time across threads and processes."""

from __future__ import annotations

import errno
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL
from sqlalchemy.pool import QueuePool

from grange.errors import (
    ConfigError,
    ConflictError,
    CorruptStoreError,
    GrangeError,
    StorageFullError,
    StoreUnavailableError,
    UnsupportedError,
)
from grange.registries.sql.database import _INHERITED, WRITE, Database

BUSY_TIMEOUT_S: Final = 30.0
_NEWEST: Final = "SELECT coalesce(max(number), 0) FROM revisions"
_PRIMARY: Final = 0xFF
"""The low byte of an extended result code is its kind."""


class SqliteDatabase(Database):
    """A registry in one SQLite file. Its folder is made; a relative path lies in the project.

    A file of no bytes is a new registry, as `touch` leaves it: nothing tells it from one that was emptied, unless
    its write-ahead log still lies beside it; then it is corrupt.
    """

    def __init__(self, url: URL, root: Path) -> None:
        self.path = _path_of(url, root)
        self._timeout_s = _timeout_of(url)
        self._identity: tuple[int, int] | None = None
        self._reader: sqlite3.Connection | None = None
        super().__init__(str(self.path))

    def newest_revision(self) -> int:
        """As `Database.newest_revision`, on one kept connection: readers ask on every request."""
        try:
            with self._lock:
                if self._reader is None or not self._same_file():
                    self._reader = self._open_reader()
                (number,) = self._reader.execute(_NEWEST).fetchone()
                return int(number)
        except (sqlite3.Error, OSError) as error:
            meant = self._explain(error)
            if meant is None:
                raise
            raise meant from error

    def engine(self) -> Engine:
        """As `Database.engine`; opens anew when another file was put in the place of the old one."""
        with self._lock:
            if self._engine is not None and not self._same_file():
                self.close()
            return super().engine()

    def close(self) -> None:
        """As `Database.close`."""
        with self._lock:
            super().close()
            reader, self._reader = self._reader, None
            if reader is not None:
                reader.close()

    def forget(self) -> None:
        """As `Database.forget`."""
        super().forget()
        if self._reader is not None:
            _INHERITED.append(self._reader)
            self._reader = None

    def _open_reader(self) -> sqlite3.Connection:
        with self.explained():
            self.engine()  # migrates, or opens the new file
            return self._connect()

    def _make_engine(self) -> Engine:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._refuse_emptied()
        self._ensure_wal()
        status = self.path.stat()
        self._identity = (status.st_dev, status.st_ino)
        # no limit: a thread must never wait for another thread's connection, only for the file's lock
        engine = create_engine("sqlite://", creator=self._connect, pool_size=5, max_overflow=-1, poolclass=QueuePool)
        event.listen(engine, "begin", _begin)
        return engine

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self.path,
            timeout=self._timeout_s,
            isolation_level=None,  # transactions are begun in words, so that a writer locks before it reads
            check_same_thread=False,
        )
        try:
            connection.execute("PRAGMA foreign_keys=ON")
            connection.execute("PRAGMA synchronous=FULL")  # a commit that was reported survives a power cut
        except BaseException:
            connection.close()
            raise
        return connection

    def _ensure_wal(self) -> None:
        """Readers do not wait for a writer. A file remembers it; the change itself needs the file alone.

        Where the file system cannot (a network share), SQLite keeps its old mode, which is as safe.
        """
        give_up = time.monotonic() + self._timeout_s
        connection = self._connect()
        try:
            while True:
                try:
                    if connection.execute("PRAGMA journal_mode").fetchone() != ("wal",):
                        connection.execute("PRAGMA journal_mode=WAL").fetchone()
                    return
                except sqlite3.OperationalError as error:
                    # this change does not wait as long as the busy timeout says
                    if error.sqlite_errorcode & _PRIMARY != sqlite3.SQLITE_BUSY or time.monotonic() >= give_up:
                        raise
                    time.sleep(0.01)
        finally:
            connection.close()

    def _refuse_emptied(self) -> None:
        """SQLite would throw away the log of an emptied file, and with it what a repair could start from.

        Raises:
            CorruptStoreError: the file has no bytes and its log has some.
        """
        log = self.path.with_name(f"{self.path.name}-wal")
        try:
            if self.path.stat().st_size == 0 and log.stat().st_size > 0:
                raise self._corrupt(f"a file of 0 bytes beside its log of {log.stat().st_size:,}")
        except FileNotFoundError:
            return  # a new registry, or one whose log was folded into it

    def _same_file(self) -> bool:
        """Whether the file at the path is the one that was opened.

        Raises:
            StoreUnavailableError: there is none any more.
        """
        try:
            status = self.path.stat()
        except FileNotFoundError as error:
            raise StoreUnavailableError(
                f"the registry {self.shown} is gone",
                found="no file where it was opened",
                try_="restore the file, or open the store again for an empty registry",
            ) from error
        return (status.st_dev, status.st_ino) == self._identity

    @contextmanager
    def _snapshot(self, engine: Engine) -> Iterator[Connection]:
        with engine.connect() as connection:
            yield connection

    def _lock_schema(self, connection: Connection) -> None:
        """Nothing to do: BEGIN IMMEDIATE lets in one writer."""

    def _explain(self, error: BaseException) -> GrangeError | None:
        if isinstance(error, OSError) and not isinstance(error, GrangeError):
            return self._explain_os(error)
        if not isinstance(error, sqlite3.Error):
            return None
        code = getattr(error, "sqlite_errorcode", None)
        text = str(error)
        match None if code is None else code & _PRIMARY:
            case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
                return ConflictError(
                    f"the registry {self.shown} is locked by somebody else",
                    found=f"still locked after {self._timeout_s:g} s",
                    try_="try again; ?timeout=60 in the registry's url waits longer",
                )
            case sqlite3.SQLITE_CONSTRAINT if code in _TAKEN:
                return ConflictError(f"somebody else committed to {self.shown}", try_="read the state again and retry")
            case sqlite3.SQLITE_FULL:
                return StorageFullError(
                    f"no space left for the registry {self.shown}", found=text, try_="free some space; nothing changed"
                )
            case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB:
                return self._corrupt(text)
            case sqlite3.SQLITE_ERROR if text.startswith("no such module: fts5"):
                return UnsupportedError(
                    "this Python's SQLite has no full-text search (FTS5), which a registry needs",
                    found=f"SQLite {sqlite3.sqlite_version}, {text}",
                    try_="a Python whose SQLite has FTS5, as python.org's have; or url = 'postgresql://user@host/db'",
                )
            case sqlite3.SQLITE_ERROR if text.endswith("already exists"):
                return self._foreign(text)
            case sqlite3.SQLITE_ERROR if text.startswith(("no such table", "no such column")):
                return self._corrupt(text)
            case None if text.startswith("Could not decode"):
                return self._corrupt(text)
            case (
                sqlite3.SQLITE_CANTOPEN
                | sqlite3.SQLITE_READONLY
                | sqlite3.SQLITE_PERM
                | sqlite3.SQLITE_IOERR
                | sqlite3.SQLITE_PROTOCOL
                | sqlite3.SQLITE_NOLFS
            ):
                return StoreUnavailableError(
                    f"the registry {self.shown} cannot be used", found=text, try_="check the path and who may write it"
                )
            case _:
                return None

    def _corrupt(self, text: str) -> CorruptStoreError:
        return CorruptStoreError(
            f"the registry {self.shown} cannot be read",
            found=text,
            try_=f"restore a backup, or move {self.path.name} (with its -wal and -shm) away and apply again; "
            "stored features are not in it",
            details={"path": self.shown},
        )

    def _explain_os(self, error: OSError) -> GrangeError:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return StorageFullError(f"no space left for the registry {self.shown}", found=error.strerror)
        return StoreUnavailableError(
            f"the registry {self.shown} cannot be used",
            found=f"{error.strerror}: {error.filename}",
            try_="check the path and who may write it",
        )


_TAKEN: Final = (sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY, sqlite3.SQLITE_CONSTRAINT_UNIQUE)


def _begin(connection: Connection) -> None:
    # a write that starts as a read can lose to another writer in the middle; IMMEDIATE waits at the start instead
    connection.exec_driver_sql("BEGIN IMMEDIATE" if connection.get_execution_options().get(WRITE) else "BEGIN")


def _path_of(url: URL, root: Path) -> Path:
    database = url.database or ":memory:"
    if database == ":memory:" or database.startswith("file:"):
        raise ConfigError(
            "the registry needs a file: what was applied must outlive the process",
            found=url.render_as_string(),
            try_="sqlite:///.grange/registry.db",
        )
    return (root / Path(database).expanduser()).absolute()


def _timeout_of(url: URL) -> float:
    unknown = sorted(set(url.query) - {"timeout"})
    if unknown:
        raise ConfigError(
            f"a SQLite registry's url has no parameter {unknown[0]!r}", try_="its only one is ?timeout=30"
        )
    text = str(url.query.get("timeout", BUSY_TIMEOUT_S))
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= 86_400:
        raise ConfigError("the timeout in the registry's url must be seconds, from 0 to 86400", found=text)
    return seconds
