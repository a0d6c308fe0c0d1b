"""One LMDB environment per real path and process: opening, sharing, growing, forking, and LMDB's errors as ours.

LMDB forbids opening one environment twice in a process, replacing its map under an open transaction, and using it
after a fork. This module keeps those three rules so that nothing above it needs to know them:

- Stores of one path share one `Environment`, counted.
- Every transaction passes a gate; whoever replaces or closes the map first closes the gate and waits.
- A fork waits at the same gate, and the child opens the environment anew when it first needs it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import lmdb
import msgspec

from grange.errors import CorruptStoreError, GrangeError, RequestError, StorageFullError, StoreUnavailableError

T = TypeVar("T")

META = b"meta"
FORMAT_KEY = b"format"
FORMAT = b"grange-online-1"
MARKER = "format"
"""A file that says that an environment was made here: `data.mdb` may then not be missing or empty."""
MAX_DATABASES = 1024
MAX_READERS = 1024
SMALLEST_MAP = 64 << 20
REBUILD = "move the folder away and load again: grange materialize"

_CORRUPT = tuple(
    getattr(lmdb, name)
    for name in (
        "CorruptedError",
        "PageNotFoundError",
        "PanicError",
        "InvalidError",
        "VersionMismatchError",
        "IncompatibleError",
        "BadChecksumError",
    )
    if hasattr(lmdb, name)
)
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_READ_ONLY = {errno.EACCES, errno.EPERM, errno.EROFS}


class Environment:
    """An environment that is open, or opens when it is first used. Made by `acquire`, let go of by `release`."""

    def __init__(self, path: Path, *, map_size: int, max_size: int | None) -> None:
        self.path = path
        self.read_only = False
        self.layouts: dict[int, tuple[str, ...]] = {}
        """Layouts that were read; they never change, so nobody needs to forget them."""
        self._map_size = map_size if max_size is None else min(map_size, max_size)
        self._max_size = max_size
        self.users = 0
        """Stores that hold it."""
        self._env: Any = None
        self._databases: dict[bytes, Any] = {}
        self._write_lock = threading.RLock()
        self._inside: set[int] = set()
        """Threads that hold a transaction. Adding to a set is atomic, so entering takes no lock."""
        self._closed_gate = False

    # -- transactions ------------------------------------------------------------------------------------------

    def read(self, body: Callable[[Any], T]) -> T:
        """Run `body` in a read transaction: one state of the store, whatever others write meanwhile.

        Raises:
            StoreUnavailableError: the store is closed, or the environment cannot be read.
            CorruptStoreError: what is stored cannot be read.
            RequestError: this thread is within a transaction already.
        """
        me = threading.get_ident()
        if me in self._inside:
            raise _nested()
        patience = 3
        while True:
            self._inside.add(me)
            try:
                env = self._env
                if env is not None and not self._closed_gate:
                    with env.begin() as txn:
                        return body(txn)
            except lmdb.MapResizedError:
                self._inside.discard(me)
                self._remap(0)
                continue
            except lmdb.ReadersFullError as error:
                if patience == 0:
                    raise self.translate(error) from error
                patience -= 1
                self.env.reader_check()
                time.sleep(0.01)
                continue
            except (lmdb.Error, msgspec.MsgspecError) as error:
                raise self.translate(error) from error
            finally:
                self._inside.discard(me)
            with self._write_lock:  # whoever closed the gate holds it
                self._open()

    def write(self, body: Callable[[Any], T]) -> T:
        """Run `body` in a write transaction, committed at the end; again from its start when the map had to grow.

        Raises:
            StorageFullError: there is no room; nothing changed.
            StoreUnavailableError: the environment cannot be written here.
            CorruptStoreError: what is stored cannot be read.
            RequestError: this thread is within a transaction already.
        """
        me = threading.get_ident()
        if me in self._inside:
            raise _nested()
        while True:
            with self._write_lock:
                env = self.env
                if self.read_only:
                    raise StoreUnavailableError(
                        f"online store {self.path} can only be read here",
                        found="a read-only file system, or no permission to write",
                        try_="write from a process that may, or set another path",
                    )
                try:
                    self._inside.add(me)
                    with env.begin(write=True) as txn:
                        return body(txn)
                except lmdb.MapFullError as error:
                    self._grow(error)
                except lmdb.MapResizedError:
                    self._remap(0)
                except (lmdb.Error, msgspec.MsgspecError, OSError) as error:
                    if isinstance(error, GrangeError):
                        raise
                    raise self.translate(error) from error
                finally:
                    self._inside.discard(me)

    def database(self, name: bytes, *, create: bool) -> Any:
        """The handle of a named database, which lives as long as the environment; None when there is none."""
        handle = self._databases.get(name)
        if handle is not None:
            return handle
        with self._write_lock:
            env = self.env
            try:
                handle = env.open_db(name, create=create and not self.read_only)
            except lmdb.NotFoundError:
                return None
            except lmdb.MapResizedError:
                self._remap(0)
                return self.database(name, create=create)
            except lmdb.MapFullError as error:
                self._grow(error)
                return self.database(name, create=create)
            except lmdb.DbsFullError as error:
                raise StoreUnavailableError(
                    f"online store {self.path} holds its limit of {MAX_DATABASES // 2 - 1} key spaces",
                    try_="spread the entities over several stores",
                ) from error
            except lmdb.Error as error:
                raise self.translate(error) from error
            self._databases[name] = handle
            return handle

    @property
    def meta(self) -> Any:
        """The handle of the database that holds pointers, counters and layouts; None in an empty read-only store."""
        return self._databases.get(META) or self.database(META, create=True)

    @property
    def env(self) -> Any:
        """The open environment."""
        env = self._env
        return self._open() if env is None else env

    # -- opening and closing -----------------------------------------------------------------------------------

    def _open(self) -> Any:
        with self._write_lock:
            if self._env is not None:
                return self._env
            if self.users == 0:
                raise StoreUnavailableError(f"online store {self.path} is closed", try_="open the store again")
            try:
                self._check_emptied()
                self._env = self._open_files()
                self._heal_truncation()
                self._check_format()
                self._mark()
                self._env.reader_check()
            except (lmdb.Error, OSError) as error:
                self.reopen_later()
                raise self.translate(error) from error
            except GrangeError:
                self.reopen_later()
                raise
            return self._env

    def _check_emptied(self) -> None:
        """Refuse a store whose data is gone: LMDB would begin a new one, where nobody has any feature.

        Raises:
            CorruptStoreError: the file is missing or has no bytes, and the store was made before.
        """
        data = self.path / "data.mdb"
        if (self.path / MARKER).exists() and (not data.exists() or data.stat().st_size == 0):
            raise CorruptStoreError(
                f"online store {self.path} has lost its data",
                found=f"{data.name} is {'empty' if data.exists() else 'gone'}, and the store was in use",
                try_=REBUILD,
                details={"path": str(self.path)},
            )

    def _mark(self) -> None:
        """Remember beside the data that it was made; the data is complete when the mark is there."""
        marker = self.path / MARKER
        if not self.read_only and not marker.exists():
            marker.write_bytes(FORMAT)

    def _open_files(self) -> Any:
        self.read_only = False
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            return self._open_sized()
        except (lmdb.Error, OSError) as error:
            if _number(error) not in _READ_ONLY:
                raise
            self.read_only = True
            try:
                return self._open_sized(readonly=True)
            except (lmdb.Error, OSError) as second:
                if _number(second) not in _READ_ONLY:
                    raise
                # no lock file can be made either: nobody writes here, so nothing needs locking
                return self._open_sized(readonly=True, lock=False)

    def _open_sized(self, **options: Any) -> Any:
        """Open with as much address space as can be had, from what was asked for down."""
        size = self._map_size
        while True:
            try:
                return lmdb.open(
                    str(self.path),
                    map_size=size,
                    max_dbs=MAX_DATABASES,
                    max_readers=MAX_READERS,
                    # a cached transaction would keep its reader slot over a fork
                    max_spare_txns=0,
                    readahead=False,
                    **options,
                )
            except (lmdb.Error, OSError) as error:
                if _number(error) != errno.ENOMEM or size <= SMALLEST_MAP:
                    raise
                size = max(size // 4, SMALLEST_MAP)

    def _heal_truncation(self) -> None:
        """Make pages that a cut-off file lost readable as zeros, which LMDB reports, instead of a fault on access.

        A sound file may be short of trailing pages too, if they are free.
        """
        if self.read_only:
            return
        data = self.path / "data.mdb"
        if data.stat().st_size >= (self._env.info()["last_pgno"] + 1) * self._env.stat()["psize"]:
            return
        with self._env.begin(write=True):  # keeps other processes from writing the file meanwhile
            needed = (self._env.info()["last_pgno"] + 1) * self._env.stat()["psize"]
            if data.stat().st_size < needed:
                os.truncate(data, needed)

    def _check_format(self) -> None:
        meta = self.database(META, create=True)
        if meta is None:
            return
        with self._env.begin() as txn:
            found = txn.get(FORMAT_KEY, None, meta)
            strangers = txn.stat()["entries"] > 1
        if found is None and not strangers and not self.read_only:
            with self._env.begin(write=True) as txn:
                txn.put(FORMAT_KEY, FORMAT, db=meta)
        elif found != FORMAT and not (found is None and self.read_only):
            raise CorruptStoreError(
                f"{self.path} is no online store that this version can read",
                found="another program's LMDB data" if found is None else repr(bytes(found)),
                try_=f"set another path, or {REBUILD}",
                details={"path": str(self.path)},
            )

    def reopen_later(self) -> None:
        """Close the environment; while it has users, its next use opens it again."""
        self._databases.clear()
        env, self._env = self._env, None
        if env is not None:
            env.close()

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Without any transaction of this process."""
        with self._write_lock:
            self._closed_gate = True
            try:
                me = threading.get_ident()
                while self._inside - {me}:
                    time.sleep(0.0002)
                yield
            finally:
                self._closed_gate = False

    def _remap(self, size: int) -> None:
        with self.alone():
            if self._env is not None:
                self._env.set_mapsize(size)

    def _grow(self, error: Exception) -> None:
        """Double the map, up to the limit."""
        size = self.env.info()["map_size"]
        wanted = size * 2 if self._max_size is None else min(size * 2, self._max_size)
        if wanted <= size:
            raise StorageFullError(
                f"online store {self.path} has reached its max_size of {self._max_size} bytes",
                try_="raise max_size, or drop feature groups that are no longer served",
                details={"path": str(self.path), "max_size": self._max_size},
            ) from error
        try:
            self._remap(wanted)
        except lmdb.Error as failed:
            raise StorageFullError(
                f"online store {self.path} cannot grow to {wanted} bytes of address space", found=str(failed)
            ) from failed

    # -- errors ------------------------------------------------------------------------------------------------

    def translate(self, error: Exception) -> GrangeError:
        """An error of LMDB, of the file system or of decoding, as one of ours."""
        details = {"path": str(self.path)}
        number = _number(error)
        if isinstance(error, (*_CORRUPT, msgspec.MsgspecError)):
            return CorruptStoreError(
                f"online store {self.path} cannot be read back", found=str(error), try_=REBUILD, details=details
            )
        if number in _FULL or (number == errno.EIO and "commit" in str(error)):
            # LMDB reports a write that was cut short as an input/output error
            return StorageFullError(
                f"no space left for online store {self.path}; nothing changed",
                found=str(error),
                try_="free disk space and run the same command again",
                details=details,
            )
        if isinstance(error, lmdb.ReadersFullError):
            return StoreUnavailableError(
                f"online store {self.path} has {MAX_READERS} readers at once, its limit", found=str(error)
            )
        return StoreUnavailableError(
            f"online store {self.path} cannot be used", found=str(error) or type(error).__name__, details=details
        )


def _nested() -> RequestError:
    # a second transaction of a thread would wait for the first for ever, or lose its map while it reads
    return RequestError(
        "an online store was called from within a visit to its cells",
        try_="return from the visit what the call needs, and call the store afterwards",
    )


def _number(error: BaseException) -> int | None:
    """The errno of an error of LMDB or of the operating system."""
    if isinstance(error, OSError):
        return error.errno
    if isinstance(error, lmdb.MemoryError):
        return errno.ENOMEM
    if isinstance(error, lmdb.ReadonlyError):
        return errno.EACCES
    code = getattr(error, "code", None)
    return code if isinstance(code, int) and code > 0 else None


# -- one environment per path ------------------------------------------------------------------------------------


class _Registry:
    """The environments of this process, by real path."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.by_path: dict[Path, Environment] = {}
        self.fork = contextlib.ExitStack()

    def before_fork(self) -> None:
        """Wait until no transaction is open here, so that the child inherits none."""
        fork = contextlib.ExitStack()
        fork.enter_context(self.lock)
        for shared in self.by_path.values():
            fork.enter_context(shared.alone())
        self.fork = fork

    def after_fork_in_parent(self) -> None:
        self.fork.close()

    def after_fork_in_child(self) -> None:
        """Close what was inherited, which touches nothing of the parent's; it opens again at its first use."""
        self.fork.close()
        for shared in self.by_path.values():
            shared.reopen_later()


_registry = _Registry()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_registry.before_fork,
        after_in_parent=_registry.after_fork_in_parent,
        after_in_child=_registry.after_fork_in_child,
    )


def acquire(path: Path, *, map_size: int, max_size: int | None) -> Environment:
    """The environment of a path, shared with whoever has it already; options are those of the first."""
    real = Path(os.path.realpath(path))
    with _registry.lock:
        shared = _registry.by_path.get(real)
        if shared is None:
            shared = _registry.by_path[real] = Environment(real, map_size=map_size, max_size=max_size)
        shared.users += 1
        return shared


def release(shared: Environment) -> None:
    """Let go of an environment; the last one to do so closes it."""
    with _registry.lock:
        shared.users -= 1
        if shared.users == 0:
            del _registry.by_path[shared.path]
            with shared.alone():
                shared.reopen_later()
