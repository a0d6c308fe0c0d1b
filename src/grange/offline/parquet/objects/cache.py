"""Copies of objects on the local disk, so that every engine reads them as files.

    <folder>/
      objects/<hash>.parquet      a copy, named by the hash of the object's URL
      users/<id>/                 a process's own: pins, which are empty files with the names of copies that it reads,
                                  and files on their way (`.temp-…`)
      users/<id>.lock             held while that process lives
      lock                        held for the moment of pinning, and of choosing what to remove

What is copied has the attempt that wrote it, or the hash of its bytes, in its name: what lies under a name never
changes, so a copy is never stale. When all copies are larger than they may be, those that were used longest ago go,
except pinned ones.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import threading
import time
import uuid
import weakref
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

import filelock

from grange.errors import CorruptStoreError
from grange.offline.parquet import disk
from grange.offline.parquet.files import LocalFile

_LOCK_PATIENCE: Final = 60.0
"""Seconds to wait for another process that chooses what to remove, which takes milliseconds."""
_AT_ONCE: Final = 4
"""Objects that are downloaded side by side, each in pieces side by side."""


class Cache:
    """A bounded folder of copies, shared by threads and processes.

    Args:
        folder: made when something is first read or written.
        most: bytes that all copies may have together; pinned ones may have more.
        check_bytes: a copy of at most so many bytes is compared with its hash when a process first uses it.
    """

    def __init__(self, folder: Path, *, most: int, check_bytes: int) -> None:
        self._folder = folder
        self._most = most
        self._check_bytes = check_bytes
        self._guard = threading.Lock()
        self._choosing = threading.Lock()
        self._lock = filelock.FileLock(folder / "lock", thread_local=False)
        self._making = [threading.Lock() for _ in range(64)]
        self._own: _User | None = None

    def get(
        self, wanted: Sequence[tuple[str, str]], download: Callable[[str, Path], None], *, fresh: bool = False
    ) -> list[LocalFile]:
        """The copies of objects, made where there are none, some side by side.

        Args:
            wanted: where each object is, and how the SHA-256 of its bytes begins.
            download: given a URL, fills a file with the object's bytes.
            fresh: make new copies in any case.

        Raises:
            CorruptStoreError: an object has other bytes.
        """
        user = self._user()
        with self._locked():  # whoever makes room removes a copy before, or sees the pin
            pins = [user.pin(copy_name(url)) for url, _ in wanted]
        missing = [(url, digest) for url, digest in wanted if fresh or not self._is_sound(url, digest)]
        if len(missing) > 1:
            with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="grange-copy") as pool:
                list(pool.map(lambda each: self._make(each, download, fresh=fresh), missing))
        elif missing:
            self._make(missing[0], download, fresh=fresh)
        return [LocalFile(self._path(pin.name), pin) for pin in pins]

    def _make(self, wanted: tuple[str, str], download: Callable[[str, Path], None], *, fresh: bool) -> None:
        url, digest = wanted
        with self._alone(copy_name(url)):
            if not fresh and self._is_sound(url, digest):
                return  # another thread was faster
            staged = self.staging()
            try:
                download(url, staged)
                _check(url, staged, digest)
                self._put(staged, copy_name(url))
            finally:
                staged.unlink(missing_ok=True)

    def staging(self) -> Path:
        """The path of a new file, which is removed when this process is gone, if it is not adopted."""
        return self._user().folder / f".temp-{uuid.uuid4().hex}"

    def adopt(self, staged: Path, url: str) -> None:
        """Take a file that was put into the store for the copy of that object; where somebody emptied the folder
        meanwhile, there is none until it is asked for."""
        with self._alone(copy_name(url)):
            if staged.exists():
                self._put(staged, copy_name(url))

    def _put(self, staged: Path, name: str) -> None:
        with self._locked():
            self._path(name).parent.mkdir(parents=True, exist_ok=True)
            staged.replace(self._path(name))
            self._make_room(name)

    def _is_sound(self, url: str, digest: str) -> bool:
        """Whether a copy is there, with the bytes that it had; notes that it is used."""
        path = self._path(copy_name(url))
        try:
            stat = path.stat()
            os.utime(path, ns=(time.time_ns(), stat.st_mtime_ns))  # the time of change tells whether it was checked
            return stat.st_size > self._check_bytes or disk.sha256_once(path).startswith(digest)
        except FileNotFoundError:
            return False

    def _make_room(self, newest: str) -> None:
        """Remove copies that were used longest ago until the others are small enough together."""
        copies = [(entry.name, entry.stat()) for entry in os.scandir(self._folder / "objects")]
        size = sum(stat.st_size for _, stat in copies)
        if size <= self._most:
            return
        kept = {newest, *self._pinned()}
        for name, stat in sorted(copies, key=lambda copy: copy[1].st_atime_ns):
            if size <= self._most:
                return
            if name not in kept:
                self._path(name).unlink(missing_ok=True)
                size -= stat.st_size

    def _pinned(self) -> Iterator[str]:
        """The names of copies that living processes read; what dead ones left is removed."""
        for entry in list(os.scandir(self._folder / "users")):
            if not entry.is_dir():
                continue
            if self._is_own(entry.name) or _lives(Path(entry.path)):
                yield from os.listdir(entry.path)  # noqa: PTH208 - names alone
            else:
                shutil.rmtree(entry.path, ignore_errors=True)
                Path(f"{entry.path}.lock").unlink(missing_ok=True)

    def _is_own(self, name: str) -> bool:
        return self._own is not None and self._own.folder.name == name

    def _path(self, name: str) -> Path:
        return self._folder / "objects" / name

    def _user(self) -> _User:
        """What is this process's own; another's after a fork. Made anew where somebody emptied the folder."""
        with self._guard:
            if self._own is None or self._own.process != os.getpid():
                self._own = _User(self._folder / "users" / uuid.uuid4().hex)
                with self._locked():
                    list(self._pinned())  # removes what dead processes left
            elif not self._own.is_there():
                with self._locked():
                    self._own.settle()
            return self._own

    @contextmanager
    def _alone(self, name: str) -> Iterator[None]:
        """Keep the other threads of this process from making the same copy."""
        with self._making[hash(name) % len(self._making)]:
            yield

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with self._choosing, disk.writing(str(self._folder)):  # threads wait for each other, and one of them for others
            self._folder.mkdir(parents=True, exist_ok=True)
            with self._lock.acquire(timeout=_LOCK_PATIENCE, poll_interval=0.001):
                yield


class _User:
    """A process that reads copies: what it pins is counted here, and noted on the disk for the others."""

    def __init__(self, folder: Path) -> None:
        self.process = os.getpid()
        self.folder = folder
        self._guard = threading.RLock()  # a pin may die in the middle of anything
        self._pins: Counter[str] = Counter()
        self._lives = filelock.FileLock(f"{folder}.lock", thread_local=False)
        self.settle()

    def is_there(self) -> bool:
        """Whether its folder and its lock are on the disk."""
        return self.folder.is_dir() and Path(self._lives.lock_file).exists()

    def settle(self) -> None:
        """Make what of its folder and its lock is not there, and note its pins."""
        with self._guard:
            self.folder.parent.mkdir(parents=True, exist_ok=True)
            if not Path(self._lives.lock_file).exists():
                self._lives.release(force=True)  # what it holds has no name any more, and tells nobody
                self._lives.acquire(timeout=_LOCK_PATIENCE)
            self.folder.mkdir(exist_ok=True)
            for name in self._pins:
                (self.folder / name).touch()

    def pin(self, name: str) -> Pin:
        """Keep a copy as long as what is returned lives, or anything that refers to it."""
        with self._guard:
            if not self._pins[name]:
                (self.folder / name).touch()
            self._pins[name] += 1
        pin = Pin(name)
        weakref.finalize(pin, self._unpin, name)
        return pin

    def _unpin(self, name: str) -> None:
        with self._guard:
            self._pins[name] -= 1
            if self._pins[name] or self.process != os.getpid():
                return
            del self._pins[name]
            with suppress(OSError):  # then the copy is kept until this process ends
                (self.folder / name).unlink(missing_ok=True)


@dataclass(frozen=True, eq=False)
class Pin:
    """Keeps a copy from being removed while it lives."""

    name: str


def copy_name(url: str) -> str:
    """The name of the copy of an object."""
    return f"{hashlib.sha256(url.encode()).hexdigest()[:40]}{PurePosixPath(url).suffix}"


def _check(url: str, path: Path, digest: str) -> None:
    found = disk.sha256(path)
    if not found.startswith(digest):
        raise CorruptStoreError(
            f"stored object {url} has other bytes than were written",
            found=f"{path.stat().st_size} bytes with SHA-256 {found[:16]}…, {digest[:16]}… expected",
        )


def _lives(user: Path) -> bool:
    """Whether the process that a folder belongs to is there."""
    lock = filelock.FileLock(f"{user}.lock")
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        return True
    lock.release()
    return False
