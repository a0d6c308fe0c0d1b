"""Starting a server of a test, and ending it: nothing outlives the tests, whatever happens to them."""

from __future__ import annotations

import ctypes
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

SECONDS = 30.0
"""How long a server may take to start or to stop."""


def free_ports(number: int) -> list[int]:
    """Ports of 127.0.0.1 that nothing listens on, below those that the system gives to outgoing connections."""
    found: list[int] = []
    while len(found) < number:
        port = random.randrange(20_000, 22_768)  # a cluster's nodes talk at 10,000 above
        with socket.socket() as probe, socket.socket() as bus:
            try:
                probe.bind(("127.0.0.1", port))
                bus.bind(("127.0.0.1", port + 10_000))
            except OSError:
                continue
        if port not in found:
            found.append(port)
    return found


@contextmanager
def folder(prefix: str) -> Iterator[Path]:
    """A new folder with a short path, which sockets may lie in."""
    made = Path(tempfile.mkdtemp(prefix=prefix))
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


@contextmanager
def running(command: Sequence[str | Path], folder: Path, is_ready: Callable[[], bool]) -> Iterator[subprocess.Popen]:  # type: ignore[type-arg]
    """A process, once it is ready; killed in the end. What it prints goes to `log` in its folder.

    Raises:
        RuntimeError: it ends or is not ready in time; with what it printed.
    """
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(
            [str(part) for part in command],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            preexec_fn=_end_with_parent,  # noqa: PLW1509 - one system call, nothing that threads share
        )
    try:
        wait_until(is_ready, lambda: (folder / "log").read_text(errors="replace")[-2000:], process)
        yield process
    finally:
        process.kill()
        process.wait(SECONDS)


def wait_until(
    is_done: Callable[[], bool],
    why: Callable[[], str],
    process: subprocess.Popen | None = None,  # type: ignore[type-arg]
) -> None:
    """Wait for something that comes of itself.

    Raises:
        RuntimeError: it does not, or the process ends before; with what `why` says.
    """
    end = time.monotonic() + SECONDS
    while not is_done():
        if time.monotonic() > end or (process is not None and process.poll() is not None):
            raise RuntimeError(why())
        time.sleep(0.01)


def _end_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL("libc.so.6").prctl(1, signal.SIGKILL)
