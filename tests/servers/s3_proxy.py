"""An unreliable network before an S3 server: answers of 503, late ones, ones cut off, ones that get lost."""

from __future__ import annotations

import http.client
import itertools
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal
from urllib.parse import urlsplit

Fault = Literal["none", "busy", "late", "cut", "lost"]
"""What happens to a request: nothing; 503 instead of being done; done, and answered after `SECONDS`; done, and answered
up to the middle; done, and never answered."""
SECONDS = 1.0
_SENT = ("transfer-encoding", "connection", "content-length")


@dataclass
class Network:
    """What the proxy does. `choose` is given the number of the request, its method and its path."""

    endpoint: str
    choose: Callable[[int, str, str], Fault] = lambda number, method, path: "none"
    suffered: list[tuple[Fault, str, str]] = field(default_factory=list)
    """The faults that there were, with method and path."""
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def fault(self, method: str, path: str) -> Fault:
        """What happens to the next request."""
        chosen = self.choose(next(self._numbers), method, path)
        if chosen != "none":
            self.suffered.append((chosen, method, path))
        return chosen


def every(number: int, fault: Fault, *methods: str) -> Callable[[int, str, str], Fault]:
    """A fault for every so many requests of some methods, or of all."""
    counted = itertools.count(1)

    def choose(_: int, method: str, path: str) -> Fault:
        del path
        if methods and method not in methods:
            return "none"
        return fault if next(counted) % number == 0 else "none"

    return choose


@contextmanager
def s3_proxy(endpoint: str) -> Iterator[Network]:
    """A proxy of its own port before a server."""
    target = urlsplit(endpoint)
    assert target.hostname is not None

    class Handler(_Handler):
        network: Network
        server_at = (target.hostname, target.port)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    Handler.network = Network(f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield Handler.network
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    network: Network
    server_at: tuple[str, int]

    def log_message(self, format: str, *args: object) -> None:
        """Nothing is printed."""

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        fault = self.network.fault(self.command, self.path)
        if fault == "busy":
            self._answer(503, [], b"<Error><Code>SlowDown</Code><Message>later</Message></Error>")
            return
        status, headers, answer = self._forward(body)
        if fault == "late":
            time.sleep(SECONDS)
        if fault == "lost":
            self._hang_up()
            return
        with suppress(ConnectionError):  # the client did not wait
            self._answer(status, headers, answer, cut=fault == "cut" and len(answer) > 1)

    def _forward(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        connection = http.client.HTTPConnection(*self.server_at, timeout=30)
        try:
            connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                connection.putheader(name, value)
            connection.endheaders(body)
            answer = connection.getresponse()
            headers = [(name, value) for name, value in answer.getheaders() if name.lower() not in _SENT]
            if self.command == "HEAD":
                headers.append(("Content-Length", answer.getheader("Content-Length") or "0"))
            return answer.status, headers, answer.read()
        finally:
            connection.close()

    def _answer(self, status: int, headers: list[tuple[str, str]], body: bytes, *, cut: bool = False) -> None:
        self.send_response_only(status)
        for name, value in headers:
            self.send_header(name, value)
        if self.command != "HEAD":
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if cut else body)
        if cut:
            self._hang_up()

    def _hang_up(self) -> None:
        self.close_connection = True
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _serve  # noqa: N815 - what the base class calls
