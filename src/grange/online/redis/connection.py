"""Connections to one server and their pool. Safe for threads, and over a fork."""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import struct
import sys
import threading
import time
import weakref
from queue import Empty, SimpleQueue
from typing import Any, Final

import hiredis

from grange.errors import ConfigError
from grange.online.redis.failures import DisconnectedError, refused, unavailable
from grange.online.redis.resp import packed
from grange.online.redis.settings import Address, Settings, Tls

PIECE: Final = 1 << 20
"""Bytes that are handed to the system at a time, so that the timeout is about progress and not about size."""
OLDEST: Final = (6, 2)


class Connection:
    """One connection, with whatever it takes before the first command done.

    Args:
        address: of the server.
        settings: timeouts, TLS, credentials, database.
        context: for TLS.
        plain: without credentials and database: a Sentinel has neither.

    Raises:
        DisconnectedError: it cannot be made.
        StoreUnavailableError: the server refuses it.
    """

    def __init__(
        self, address: Address, settings: Settings, context: ssl.SSLContext | None, *, plain: bool = False
    ) -> None:
        self.address = address
        self._timeout = settings.timeout
        self._reader = hiredis.Reader()
        self._socket = _connected(address, settings, context)
        try:
            for reply in self.ask(_greeting(settings, plain=plain)):
                if isinstance(reply, hiredis.ReplyError):
                    raise refused(address, reply)
        except BaseException:
            self.close()
            raise

    def ask(self, commands: list[bytes]) -> list[Any]:
        """The answers to some commands, errors among them."""
        if not commands:
            return []
        self.send(b"".join(commands))
        return self.receive(len(commands))

    def send(self, data: bytes) -> None:
        """Send commands.

        Raises:
            DisconnectedError: the server does not take them.
        """
        try:
            if len(data) <= PIECE:
                self._socket.sendall(data)
            else:
                view = memoryview(data)
                for at in range(0, len(data), PIECE):
                    self._socket.sendall(view[at : at + PIECE])
        except OSError as error:
            raise self._lost(error) from error

    def receive(self, count: int, extra: float = 0.0) -> list[Any]:
        """The next answers, in order; errors that the server answers are among them.

        Args:
            count: how many.
            extra: seconds on top of the timeout, for commands that take long.

        Raises:
            DisconnectedError: the connection ends, or the time is up, before all are there.
        """
        gets = self._reader.gets
        answers: list[Any] = []
        end = 0.0
        try:
            while True:
                answer = gets()
                while answer is not False:
                    answers.append(answer)
                    if len(answers) == count:
                        return answers
                    answer = gets()
                end = end or time.monotonic() + self._timeout + extra
                self._reader.feed(self._take_in(end))
        except hiredis.ProtocolError as error:
            raise DisconnectedError(self.address, f"it does not speak RESP: {error}") from error

    def _take_in(self, end: float) -> bytes:
        """What comes next, before an end by the monotonic clock."""
        while True:
            try:
                data = self._socket.recv(65_536)
            except (TimeoutError, BlockingIOError) as error:
                if time.monotonic() < end:
                    continue
                raise self._lost(error) from error
            except OSError as error:
                raise self._lost(error) from error
            if not data:
                raise DisconnectedError(self.address, "it closed the connection")
            if time.monotonic() > end + self._timeout:  # it drips
                raise self._lost(TimeoutError())
            return data

    def close(self) -> None:
        """Close it; nothing is said to the server, so a fork may do so with what it inherited."""
        with contextlib.suppress(OSError):
            self._socket.close()

    def _lost(self, error: OSError) -> DisconnectedError:
        if isinstance(error, TimeoutError | BlockingIOError):
            return DisconnectedError(self.address, f"no answer in {self._timeout:g} s", timed_out=True)
        return DisconnectedError(self.address, error.strerror or str(error) or type(error).__name__)


def tls_context(tls: Tls | None) -> ssl.SSLContext | None:
    """What makes sockets TLS; None without.

    Raises:
        ConfigError: the files cannot be used.
    """
    if tls is None:
        return None
    try:
        context = ssl.create_default_context(cafile=tls.ca)
        if tls.certificate is not None:
            context.load_cert_chain(tls.certificate, tls.key)
    except (ssl.SSLError, OSError) as error:
        raise ConfigError(
            "the TLS files of the online store 'redis' cannot be used",
            found=str(error),
            try_="tls_ca and tls_certificate are PEM files, tls_key the key of tls_certificate",
        ) from error
    if tls.insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _connected(address: Address, settings: Settings, context: ssl.SSLContext | None) -> socket.socket:
    try:
        if address.path:
            made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            made.settimeout(settings.connect_timeout)
            made.connect(address.path)
        else:
            made = socket.create_connection((address.host, address.port), settings.connect_timeout)
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    except TimeoutError as error:
        reason = f"no connection in {settings.connect_timeout:g} s"
        raise DisconnectedError(address, reason, timed_out=True) from error
    except OSError as error:
        raise DisconnectedError(address, error.strerror or str(error)) from error
    try:
        if context is not None:
            made = context.wrap_socket(made, server_hostname=address.host)
    except (ssl.SSLError, OSError) as error:
        made.close()
        raise DisconnectedError(address, f"TLS: {error}") from error
    _set_timeout(made, settings.timeout)
    return made


def _set_timeout(made: socket.socket, seconds: float) -> None:
    """How long each send and each receive may take.

    Linux keeps this itself, where Python would ask it before each of them whether it has to wait: that is a tenth of
    the time of a small request.
    """
    if sys.platform != "linux" or isinstance(made, ssl.SSLSocket):
        made.settimeout(seconds)
        return
    length = struct.pack("ll", int(seconds), int(seconds % 1 * 1e6))
    made.settimeout(None)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, length)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, length)


def _greeting(settings: Settings, *, plain: bool) -> list[bytes]:
    """What a new connection says first."""
    if plain:
        return []
    said = []
    if settings.password is not None:
        names = [] if settings.username is None else [settings.username.encode()]
        said.append(packed([b"AUTH", *names, settings.password.encode()]))
    if settings.database:
        said.append(packed([b"SELECT", b"%d" % settings.database]))
    return said


class Pool:
    """The connections to one server: at most `settings.pool`, made when needed, kept when idle.

    Args:
        address: of the server.
        settings: for its connections.
        context: for TLS.
        primary: whether a server that is a replica is refused.
    """

    def __init__(
        self, address: Address, settings: Settings, context: ssl.SSLContext | None, *, primary: bool = False
    ) -> None:
        self.address = address
        self._settings = settings
        self._context = context
        self._primary = primary
        self._checked = False
        self._reset()
        _pools.add(self)

    def _reset(self) -> None:
        """Begin without connections: at the start, and in a child that must not use its parent's."""
        self._idle: SimpleQueue[Connection | None] = SimpleQueue()
        """None says that there is room for a new one."""
        self._room = threading.Semaphore(self._settings.pool)

    def take(self) -> Connection:
        """A connection for the caller alone, who gives it back by `give` or `discard`.

        Raises:
            DisconnectedError: none can be made.
            StoreUnavailableError: the server refuses it; or all are in use for as long as the timeouts.
        """
        idle, found = self._idle, None
        while found is None:
            try:
                found = idle.get_nowait()
            except Empty:
                if self._room.acquire(blocking=False):
                    return self._connect()
                found = self._wait(idle)
        return found

    def _wait(self, idle: SimpleQueue[Connection | None]) -> Connection | None:
        """The next connection that is given back; None where one was closed."""
        try:
            return idle.get(timeout=self._settings.timeout + self._settings.connect_timeout)
        except Empty as error:
            raise unavailable(
                self.address,
                f"all {self._settings.pool} connections are in use",
                "raise the option pool to the number of threads that use the store",
            ) from error

    def give(self, connection: Connection) -> None:
        """Back to the idle ones: all that was asked has been answered."""
        self._idle.put(connection)

    def discard(self, connection: Connection) -> None:
        """Close a connection that something was left on."""
        connection.close()
        self._closed_one()

    def close(self) -> None:
        """Close the idle connections."""
        for connection in self._drained():
            connection.close()
            self._closed_one()

    def _closed_one(self) -> None:
        self._room.release()
        self._idle.put(None)  # who waits for a connection may make one now

    def _drained(self) -> list[Connection]:
        """Take all idle connections."""
        found = []
        with contextlib.suppress(Empty):
            while True:
                connection = self._idle.get_nowait()
                if connection is not None:
                    found.append(connection)
        return found

    def _connect(self) -> Connection:
        """A new connection, for which there is room."""
        made: Connection | None = None
        checked = False
        try:
            made = Connection(self.address, self._settings, self._context)
            self._check(made)
            checked = True
        finally:
            if not checked:
                if made is not None:
                    made.close()
                self._closed_one()
        return made

    def _check(self, made: Connection) -> None:
        if self._primary:
            (role,) = made.ask([packed([b"ROLE"])])
            if not isinstance(role, list) or role[0] != b"master":
                raise DisconnectedError(self.address, "it is no primary any more")
        if not self._checked:
            (about,) = made.ask([packed([b"INFO", b"server"])])
            if isinstance(about, hiredis.ReplyError):
                raise refused(self.address, about)
            check_version(self.address, about)
            if self._settings.expire is not None:
                self._check_expiry(made)
            self._checked = True

    def _check_expiry(self, made: Connection) -> None:
        (about,) = made.ask([packed([b"COMMAND", b"INFO", b"HPEXPIRE"])])
        if not isinstance(about, list) or about[0] is None:
            raise ConfigError(
                f"the server at {self.address} cannot let single rows expire: it has no HPEXPIRE",
                asked_by="option expire of the online store 'redis'",
                try_="use Redis 7.4 or newer, or Valkey 9 or newer; or leave out expire",
            )


def check_version(address: Address, about: bytes) -> None:
    """Refuse a server that is too old for the commands that are used.

    Raises:
        StoreUnavailableError: with the version found.
    """
    lines = dict(line.split(":", 1) for line in about.decode(errors="replace").splitlines() if ":" in line)
    version = lines.get("redis_version", "")
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdecimal())
    if numbers < OLDEST:
        raise unavailable(
            address,
            f"its version is {version or 'unknown'}",
            "use Redis 6.2 or newer, or any Valkey",
        )


_pools: weakref.WeakSet[Pool] = weakref.WeakSet()


def _forget_inherited() -> None:
    """In a child of a fork: leave the parent's connections alone."""
    for pool in list(_pools):
        for connection in pool._drained():
            connection.close()
        pool._reset()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_inherited)
