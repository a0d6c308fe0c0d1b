"""Servers that misbehave as they are told, on a port of this machine: what a client meets on a bad day."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

Connection = socket.socket
Act = Callable[["Played", Connection, bytes], bool]
"""Answers one request on its connection; whether the connection stays open."""


@dataclass
class Played:
    """A server that answers each request by the next of its acts, the last one for ever."""

    acts: list[Act]
    url: str = ""
    requests: list[bytes] = field(default_factory=list)
    """Heads and bodies, as they came."""
    connections: int = 0
    tls: ssl.SSLContext | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)

    def next_act(self, request: bytes) -> Act:
        with self.lock:
            self.requests.append(request)
            return self.acts.pop(0) if len(self.acts) > 1 else self.acts[0]


@contextlib.contextmanager
def playing(*acts: Act, tls: ssl.SSLContext | None = None) -> Iterator[Played]:
    """A server for as long as the block runs."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        scheme = "http" if tls is None else "https"
        played = Played(list(acts), f"{scheme}://127.0.0.1:{listener.getsockname()[1]}", tls=tls)
        open_ones: list[Connection] = []
        accepting = threading.Thread(target=_accept, args=(listener, played, open_ones), daemon=True)
        accepting.start()
        try:
            yield played
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            for connection in open_ones:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
            accepting.join()


def _accept(listener: Connection, played: Played, open_ones: list[Connection]) -> None:
    answering = []
    with contextlib.suppress(OSError):
        while True:
            connection, _ = listener.accept()
            played.connections += 1
            open_ones.append(connection)
            answering.append(threading.Thread(target=_answer, args=(connection, played), daemon=True))
            answering[-1].start()
    for each in answering:
        each.join()


def _answer(connection: Connection, played: Played) -> None:
    with contextlib.suppress(OSError):
        if played.tls is not None:
            connection = played.tls.wrap_socket(connection, server_side=True)
    with connection, contextlib.suppress(OSError):
        while request := _request(connection):
            if not played.next_act(request)(played, connection, request):
                return


def _request(connection: Connection) -> bytes:
    """One request, head and body; empty when the client has gone."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = connection.recv(65_536)
        if not more:
            return b""
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    length = next(
        (int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0
    )
    while len(body) < length:
        body += connection.recv(65_536)
    return head + b"\r\n\r\n" + body


def says(status: int = 200, body: bytes = b"{}", **headers: str) -> Act:
    """An answer."""

    def act(played: Played, connection: Connection, request: bytes) -> bool:
        lines = [f"HTTP/1.1 {status} -", f"content-length: {len(body)}", "content-type: application/json"]
        lines += [f"{name.replace('_', '-')}: {text}" for name, text in headers.items()]
        connection.sendall("\r\n".join([*lines, "", ""]).encode() + body)
        return True

    return act


def cuts(played: Played, connection: Connection, request: bytes) -> bool:
    """The connection ends, and nothing was said."""
    return False


def breaks_off(played: Played, connection: Connection, request: bytes) -> bool:
    """The connection ends in the middle of an answer."""
    connection.sendall(b"HTTP/1.1 200 -\r\ncontent-length: 100\r\n\r\n{")
    return False


def drips(played: Played, connection: Connection, request: bytes) -> bool:
    """An answer that never ends, a byte at a time: no single wait is long."""
    connection.sendall(b"HTTP/1.1 200 -\r\ncontent-length: 100000\r\n\r\n")
    stopped = threading.Event()
    while not stopped.wait(0.02):
        connection.sendall(b" ")
    return False


def hangs(played: Played, connection: Connection, request: bytes) -> bool:
    """Nothing comes until the client gives up."""
    return bool(connection.recv(1))


def says_and_leaves(status: int, body: bytes) -> Act:
    """An answer, after which the connection ends without a word."""
    say = says(status, body)

    def act(played: Played, connection: Connection, request: bytes) -> bool:
        say(played, connection, request)
        return False

    return act


def passes(url: str, *, back: bool = True) -> Act:
    """Hands the request to another server, and the answer back; or, without `back`, lets that get lost."""
    host, _, port = url.removeprefix("http://").partition(":")

    def act(played: Played, connection: Connection, request: bytes) -> bool:
        head, _, body = request.partition(b"\r\n\r\n")
        lines = [line for line in head.split(b"\r\n") if not line.lower().startswith(b"connection:")]
        with socket.create_connection((host, int(port))) as behind:
            behind.sendall(b"\r\n".join([*lines, b"connection: close", b"", body]))
            answer = b"".join(iter(lambda: behind.recv(65_536), b""))
        if back:
            connection.sendall(answer)
        return False

    return act
