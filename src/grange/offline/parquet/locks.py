"""The right to write: one writer per group over threads and processes."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import filelock

from grange.errors import ConflictError
from grange.offline.parquet.disk import make_folder, writing


class Lock:
    """A lock file. One thread may take it again while it holds it; the operating system frees it when a process dies.

    Beside it lies a note of who holds it, for the message to whoever waits in vain.
    """

    def __init__(self, path: Path, *, what: str) -> None:
        self._path = path
        self._owner = path.with_suffix(".owner")
        self._what = what
        self._thread = threading.RLock()
        self._file = filelock.FileLock(path)

    @contextmanager
    def hold(self, *, timeout: float) -> Iterator[None]:
        """Hold it for the block.

        Raises:
            ConflictError: another thread or process holds it for longer than `timeout` seconds.
        """
        deadline = time.monotonic() + max(timeout, 0.0)
        if not self._thread.acquire(timeout=max(timeout, 0.0)):
            raise self._conflict(timeout)
        try:
            with self._held_file(timeout, max(deadline - time.monotonic(), 0.0)):
                yield
        finally:
            self._thread.release()

    @contextmanager
    def _held_file(self, timeout: float, left: float) -> Iterator[None]:
        with writing(str(self._path)):
            make_folder(self._path.parent)
            try:
                self._file.acquire(timeout=left, poll_interval=0.02)
            except filelock.Timeout:
                raise self._conflict(timeout) from None
        try:
            if self._file.lock_counter == 1:
                self._note_owner()
            yield
        finally:
            self._file.release()

    def _note_owner(self) -> None:
        with suppress(OSError):  # a full disk must not keep anybody from taking the lock: only the note is lost
            self._owner.write_text(json.dumps({"pid": os.getpid(), "host": socket.gethostname()}))

    def _conflict(self, timeout: float) -> ConflictError:
        return ConflictError(
            f"{self._what} is being written by {self._holder()}; waited {timeout:g} s",
            found=f"lock {self._path}",
            try_="wait until it has ended, or stop it, and run this again",
        )

    def _holder(self) -> str:
        try:
            owner = json.loads(self._owner.read_text())
            pid, host = int(owner["pid"]), str(owner["host"])
        except (OSError, ValueError, KeyError, TypeError):
            return "another process"
        if (pid, host) == (os.getpid(), socket.gethostname()):
            return "this process, in another thread"
        return f"process {pid} on {host}"


class Locks:
    """The locks of a store, each made once."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._made: dict[Path, Lock] = {}

    def get(self, path: Path, *, what: str) -> Lock:
        """The lock at a path."""
        with self._guard:
            if path not in self._made:
                self._made[path] = Lock(path, what=what)
            return self._made[path]
