"""A real PostgreSQL server for tests, of the programs that are installed; gone when the tests end."""

from __future__ import annotations

import importlib.util
import os
import pwd
import random
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PROGRAMS = Path("/usr/lib/postgresql")
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    # the data of a test need not survive a power cut
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "shared_buffers": "16MB",
}
ATTEMPTS = 5


def missing() -> str | None:
    """The command that installs what is not there; None when all is."""
    if importlib.util.find_spec("psycopg") is None:
        return "pip install 'grange[postgres]'"
    return "apt-get install postgresql" if _programs() is None else None


@contextmanager
def postgresql_server() -> Iterator[str]:
    """The URL of a new server's database; its user may do everything."""
    programs = _programs()
    assert programs is not None, missing()
    # short: the path of a Unix socket has about a hundred characters
    folder = Path(tempfile.mkdtemp(prefix="pg-"))
    try:
        as_user = _unprivileged(folder)
        data = folder / "data"
        _run(
            [*as_user, programs / "initdb", "-D", data, "-U", "grange", "-A", "trust", "-E", "UTF8", "--locale=C", "-N"]
        )
        port = _start([*as_user, programs / "pg_ctl", "-D", data], folder)
        try:
            yield f"postgresql://grange@127.0.0.1:{port}/postgres"
        finally:
            _run([*as_user, programs / "pg_ctl", "-D", data, "-m", "immediate", "-w", "stop"])
    finally:
        shutil.rmtree(folder)


def _programs() -> Path | None:
    """The folder of the newest version's programs."""
    found = [folder for folder in PROGRAMS.glob("*/bin") if (folder / "initdb").exists()]
    return max(found, key=lambda folder: float(folder.parent.name), default=None)


def _unprivileged(folder: Path) -> list[str]:
    """What to put before a command: PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return []
    known = {user.pw_name for user in pwd.getpwall()}
    user = "postgres" if "postgres" in known else "nobody"
    shutil.chown(folder, user)
    return ["runuser", "-u", user, "--"]


def _start(control: list[str | Path], folder: Path) -> int:
    """Start on a free port; another process may take it between the look and the start."""
    for attempt in range(ATTEMPTS):
        port = _free_port()
        settings = SETTINGS | {"port": str(port), "unix_socket_directories": str(folder)}
        options = " ".join(f"-c {name}={value}" for name, value in settings.items())
        try:
            _run([*control, "-w", "-t", "60", "-l", folder / "data/server.log", "-o", options, "start"])
        except RuntimeError:
            if attempt == ATTEMPTS - 1:
                raise
        else:
            return port
    raise AssertionError("unreachable")


def _free_port() -> int:
    """A port that nothing listens on, below those that the system gives to outgoing connections."""
    while True:
        port = random.randrange(20_000, 32_768)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def _run(command: list[str | Path]) -> None:
    # into a file: the server inherits the output and would keep a pipe open
    with tempfile.TemporaryFile() as said:
        done = subprocess.run(command, cwd="/", stdin=subprocess.DEVNULL, stdout=said, stderr=said, check=False)
        if done.returncode:
            said.seek(0)
            raise RuntimeError(f"{command} ended with {done.returncode}: {said.read().decode(errors='replace')}")
