"""`grange serve`: one process or several behind one socket, from start to graceful end.

On SIGTERM or SIGINT a worker says that it is not ready, takes no more connections, answers what is in flight within
`server.grace`, writes what is still in memory, and ends with 0. With several workers, a parent watches them: it starts
anew what crashed, and passes signals on.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import os
import shutil
import signal
import socket
import ssl
import tempfile
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, Final

import uvicorn
from uvicorn.supervisors import Multiprocess
from uvicorn.supervisors.statreload import StatReload

from grange.config import Config
from grange.errors import ConfigError, RefusedError
from grange.http.logs import configure_logs
from grange.http.metrics import FOLDER, Metrics
from grange.http.protocol import Protocol
from grange.http.shell import Shell
from grange.http.tracing import tracing_of

if TYPE_CHECKING:
    from grange.http.context import Projects

LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1"})
KEEP_ALIVE_S: Final = 65
"""How long a connection may lie idle: longer than the minute that load balancers keep theirs."""
BACKLOG: Final = 1024
"""Connections that the system keeps waiting to be accepted."""


@dataclass(frozen=True, slots=True)
class Listening:
    """How a server was started, as its workers are told."""

    project: Path
    overrides: tuple[tuple[str, Any], ...]
    """Settings of the command line, by dotted key."""
    reload: bool = False
    log_level: str = "info"

    def config(self) -> Config:
        """The configuration, read anew."""
        return Config.load(self.project, dict(self.overrides))


def serve(listening: Listening, told: Callable[[Config, Mapping[str, Any]], None]) -> None:
    """Serve until told to stop.

    Args:
        listening: how.
        told: is handed what is served and where, before the first request.

    Raises:
        ConfigError: the configuration is wrong; the address is taken; TLS files are missing.
        RefusedError: listening beyond this machine without keys or tokens.
    """
    config = listening.config()
    configure_logs(config.server.log_format, listening.log_level)
    settings = _uvicorn(config, listening)
    facts = _facts(config)
    several = config.server.workers > 1
    folder = _metrics_folder() if several else None
    sockets = [bound_socket(config)]
    told(config, {"url": _url(config, sockets[0]), **facts})
    try:
        if listening.reload:
            settings.reload_dirs = [config.root]
            StatReload(settings, target=Server(settings).run, sockets=sockets).run()
        elif several:
            Multiprocess(settings, sockets=sockets).run()
        else:
            Server(settings).run(sockets=sockets)
    finally:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)


def _facts(config: Config) -> dict[str, Any]:
    """What is served, from a look at the projects.

    Raises:
        RefusedError: it may not be served at this address.
    """
    from grange.http.app import open_projects

    projects, tokens = open_projects(config)
    try:
        check_exposure(projects)
        return {
            "projects": list(projects.by_name),
            "views": [view for project in projects.by_name.values() for view in project.store.catalog.views],
            "stores": {
                "online": config.online.type,
                "offline": config.offline.type,
                "registry": config.registry.type,
            },
            "workers": config.server.workers,
            "keys": {name: not project.is_open for name, project in projects.by_name.items()},
            "tokens": tokens is not None,
        }
    finally:
        close_projects(projects)


def _url(config: Config, listener: socket.socket) -> str:
    host = config.server.host
    scheme = "https" if config.server.tls_certificate else "http"
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{listener.getsockname()[1]}"


def check_exposure(projects: Projects) -> None:
    """Refuse to listen beyond this machine while anybody may do everything.

    Raises:
        RefusedError: names the projects without keys, and the command that makes one.
    """
    host = projects.config.server.host
    lacking = [name for name, project in projects.by_name.items() if project.is_open]
    if host in LOOPBACK or not lacking:
        return
    raise RefusedError(
        f"to listen at {host} everybody who asks must be known, and nobody ever made a key",
        found=f"no key of {', '.join(map(repr, lacking))}, and no security.issuer of tokens",
        try_="grange key create admin --role admin",
        details={"projects": lacking},
    )


def close_projects(projects: Projects) -> None:
    """Close the stores of projects."""
    for project in projects.by_name.values():
        project.security.close()
        project.store.close()


def bound_socket(config: Config) -> socket.socket:
    """The socket that the workers share.

    Raises:
        ConfigError: the address is taken, or none of this machine's.
    """
    host, port = config.server.host, config.server.port
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        found = socket.socket(family, socket.SOCK_STREAM)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind(address)
    except OSError as error:
        raise ConfigError(
            f"cannot listen at {host}:{port}: {error.strerror or error}", try_="grange serve --port another"
        ) from error
    found.setblocking(False)
    found.set_inheritable(True)
    return found


def _uvicorn(config: Config, listening: Listening) -> uvicorn.Config:
    server = config.server
    for file in (server.tls_certificate, server.tls_key):
        if file and not (config.root / file).is_file():
            raise ConfigError(f"no file {file!r} for TLS", found=str(config.root / file))
    if bool(server.tls_certificate) != bool(server.tls_key):
        raise ConfigError("HTTPS takes both server.tls_certificate and server.tls_key", found="one of them")
    try:
        return uvicorn.Config(
            functools.partial(worker_app, listening),
            factory=True,
            host=server.host,
            port=server.port,
            workers=server.workers,
            loop="auto",
            http=Protocol,
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            backlog=BACKLOG,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=max(1, round(server.grace.total_seconds())),
            ssl_certfile=str(config.root / server.tls_certificate) if server.tls_certificate else None,
            ssl_keyfile=str(config.root / server.tls_key) if server.tls_key else None,
        )
    except ssl.SSLError as error:
        raise ConfigError(f"TLS: {error}") from error


def worker_app(listening: Listening) -> Shell:
    """The application of one worker, its stores opened: called once in each process that serves."""
    from grange.http.app import create_app, open_projects

    config = listening.config()
    configure_logs(config.server.log_format, listening.log_level)
    in_flight: list[Shell] = []
    metrics = Metrics(lambda: sum(shell.in_flight for shell in in_flight))
    projects, tokens = open_projects(config, metrics)
    shell = create_app(projects, metrics=metrics, tokens=tokens, tracing=tracing_of(config.tracing))
    in_flight.append(shell)

    async def closed() -> None:
        await asyncio.get_running_loop().run_in_executor(None, close_projects, projects)

    shell.starting = (*shell.starting, _watching_signals(shell), _frozen)
    shell.stopping = (*shell.stopping, closed)
    return shell


def _watching_signals(shell: Shell) -> Callable[[], Awaitable[None]]:
    """What makes a shell say that it is stopping from the moment of the signal on, not from the last answer on."""

    async def watch() -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        for number in (signal.SIGTERM, signal.SIGINT):
            before = signal.getsignal(number)
            if callable(before):
                signal.signal(number, functools.partial(_told_to_stop, shell, before))

    return watch


async def _frozen() -> None:
    """What a server holds from its start on is never garbage: collections need not look at it."""
    gc.collect()
    gc.freeze()


def _told_to_stop(
    shell: Shell, before: Callable[[int, FrameType | None], Any], number: int, frame: FrameType | None
) -> None:
    shell.stop()
    before(number, frame)


class Server(uvicorn.Server):
    """A server that ends well when it is told to stop: who asked for it got it, and the exit code is 0."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are for `handle_exit` while it serves, and are not raised once more after it."""
        with super().capture_signals():
            yield
            self._captured_signals.clear()


def _metrics_folder() -> Path:
    """Where the workers' numbers lie; their processes find it by the environment."""
    folder = Path(tempfile.mkdtemp(prefix="grange-metrics-"))
    os.environ[FOLDER] = str(folder)
    return folder


__all__ = ["Listening", "Server", "bound_socket", "check_exposure", "serve"]
