"""The right to write where no operating system keeps a lock: an object that says who holds it, and until when.

A lease is created if there is none, and taken over by replacing the very object that was read, when it was given back
or has run out. While it is held a thread of its own renews it every third of its length. A holder whose lease was
taken over is told so before it commits anything; what it had sent already is refused by the conditions of the puts.

The clocks of machines may differ by `SKEW` seconds: a lease that ran out by one's own clock is left alone for so long.
Of a process on the same machine it is known whether it lives, so that what it held is free as soon as it is dead.
"""

from __future__ import annotations

import json
import os
import random
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from grange.errors import ConflictError, GrangeError, StoreUnavailableError
from grange.offline.parquet.objects.bucket import Bucket, Tag

SECONDS: Final = 60.0
"""How long a lease lasts that is not renewed."""
SKEW: Final = 15.0
"""By how many seconds the clocks of machines may differ."""
_FIRST_PAUSE: Final = 0.05
_LONGEST_PAUSE: Final = 1.0
"""Seconds between two looks at a lease that another holds."""


@dataclass(slots=True)
class _Held:
    """A lease as its holder knows it."""

    tag: Tag
    token: int
    """Grows with every holder."""
    expires: float
    """By the clock."""
    runs_out: float
    """The same by the machine's monotonic time, which nobody sets."""


class Lease:
    """A lock over machines. One thread of a process holds it, and may take it again while it does.

    Args:
        bucket: where the lease lies.
        key: its object; never removed.
        what: what may be written, for messages.
        seconds: how long it lasts when it is not renewed.
        clock: seconds since 1970, UTC.
    """

    def __init__(
        self, bucket: Bucket, key: str, *, what: str, seconds: float = SECONDS, clock: Callable[[], float] = time.time
    ) -> None:
        self._bucket = bucket
        self._key = key
        self._what = what
        self._seconds = seconds
        self._clock = clock
        self._thread = threading.RLock()
        self._depth = 0
        self._guard = threading.Lock()
        self._held: _Held | None = None
        self._lost = False

    @contextmanager
    def hold(self, *, timeout: float) -> Iterator[None]:
        """Hold it for the block.

        Raises:
            ConflictError: another thread, process or machine holds it for longer than `timeout` seconds.
            StoreUnavailableError: the object store cannot be reached.
        """
        deadline = time.monotonic() + max(timeout, 0.0)
        if not self._thread.acquire(timeout=max(timeout, 0.0)):
            raise self._conflict("this process, in another thread", timeout)
        try:
            if self._depth:
                yield from self._deeper()
                return
            self._take(deadline, timeout)
            with self._renewing():
                yield from self._deeper()
        finally:
            self._thread.release()

    def _deeper(self) -> Iterator[None]:
        self._depth += 1
        try:
            yield
        finally:
            self._depth -= 1

    def check(self) -> None:
        """Make sure that it is still held, if it was taken: before anything is committed.

        Raises:
            ConflictError: it ran out, and another took it.
            StoreUnavailableError: it ran out, and cannot be renewed.
        """
        with self._guard:
            if self._held is None:
                return
            if not self._lost and not self._is_over(self._held):
                return
            if not self._lost:
                self._renew(self._held)
            if self._lost:
                raise ConflictError(
                    f"the right to write {self._what} was lost: another took it over",
                    found=f"lease {self._bucket.shown(self._key)} was not renewed for {self._seconds:g} s",
                    try_="run this again",
                )

    # taking it

    def _take(self, deadline: float, timeout: float) -> None:
        pause = _FIRST_PAUSE
        while (holder := self._try()) is not None:
            left = deadline - time.monotonic()
            if left <= 0:
                raise self._conflict(holder, timeout)
            time.sleep(min(pause * random.uniform(0.5, 1.0), left))
            pause = min(pause * 2, _LONGEST_PAUSE)

    def _try(self) -> str | None:
        """Take it if it is free; else says who has it."""
        found = self._bucket.get(self._key)
        note = {} if found is None else _read(found.body)
        if found is not None and not self._is_free(note):
            return _named(note)
        token, began = int(note.get("token", 0)) + 1, time.monotonic()
        expires = self._clock() + self._seconds
        key, body = self._key, self._note(token, expires)
        tag = self._bucket.create(key, body) if found is None else self._bucket.replace(key, body, found.tag)
        if tag is None:
            return "another process"
        self._bucket.prove_conditions(self._key, self._note(token, 0.0))
        with self._guard:
            self._held, self._lost = _Held(tag, token, expires, began + self._seconds), False
        return None

    def _is_free(self, note: dict[str, Any]) -> bool:
        expires = note.get("expires_at")
        if not isinstance(expires, int | float) or isinstance(expires, bool):
            return True  # given back, or nothing that can be read
        return self._clock() > expires + SKEW or _is_dead(note.get("holder"))

    def _note(self, token: int, expires: float | None) -> bytes:
        """The content of the lease; None says that it was given back."""
        note = {"token": token, "expires_at": expires, "holder": _process(), "id": uuid.uuid4().hex}
        return json.dumps(note).encode()

    # keeping it

    @contextmanager
    def _renewing(self) -> Iterator[None]:
        done = threading.Event()
        thread = threading.Thread(target=self._keep, args=(done,), name="grange-lease", daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()
            self._give_back()

    def _keep(self, done: threading.Event) -> None:
        while not done.wait(self._seconds / 3):
            with self._guard, suppress(GrangeError):  # tried again; whoever commits is told if it is too late
                if self._held is not None and not self._lost:
                    self._renew(self._held)

    def _renew(self, held: _Held) -> None:
        began, expires = time.monotonic(), self._clock() + self._seconds
        tag = self._bucket.replace(self._key, self._note(held.token, expires), held.tag)
        if tag is None:
            self._lost = True
        else:
            self._held = _Held(tag, held.token, expires, began + self._seconds)

    def _is_over(self, held: _Held) -> bool:
        return time.monotonic() >= held.runs_out or self._clock() >= held.expires

    def _give_back(self) -> None:
        with self._guard:
            held, self._held = self._held, None
            if held is not None and not self._lost:
                with suppress(StoreUnavailableError):  # then it runs out
                    self._bucket.replace(self._key, self._note(held.token, None), held.tag)

    def _conflict(self, holder: str, timeout: float) -> ConflictError:
        return ConflictError(
            f"{self._what} is being written by {holder}; waited {timeout:g} s",
            found=f"lease {self._bucket.shown(self._key)}",
            try_="wait until it has ended, or stop it, and run this again",
        )


def _read(body: bytes) -> dict[str, Any]:
    try:
        note = json.loads(body)
    except ValueError:
        return {}
    return note if isinstance(note, dict) and isinstance(note.get("token", 0), int) else {}


def _named(note: dict[str, Any]) -> str:
    holder = note.get("holder")
    if not isinstance(holder, dict) or "pid" not in holder:
        return "another process"
    if holder == _process():
        return "this process, in another thread"
    return f"process {holder['pid']} on {holder.get('host')}"


def _process() -> dict[str, Any]:
    """Which process this is, among all of all machines."""
    pid = os.getpid()
    return {"pid": pid, "host": socket.gethostname(), "machine": _machine(), "started": _started(pid)}


def _machine() -> str | None:
    """What tells this machine, since it started, and the processes that this one sees, from all others."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {Path('/proc/self/ns/pid').stat().st_ino}"
    except OSError:
        return None  # no Linux


def _started(pid: int) -> str | None:
    """When a process of this machine was started, in a unit of the system's; None when it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else fields[19]


def _is_dead(holder: Any) -> bool:
    """Whether a process is known to be gone."""
    if not isinstance(holder, dict) or holder.get("machine") is None or holder["machine"] != _machine():
        return False
    return isinstance(holder.get("pid"), int) and _started(holder["pid"]) != holder.get("started")
