"""A proxy between a client and a server of a test that misbehaves on demand. Plain sockets and threads."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager


class Proxy:
    """Passes bytes on between its clients and a server, as well as it is told to.

    Args:
        port: of the server, on 127.0.0.1.
    """

    def __init__(self, port: int) -> None:
        self._target = port
        self._lock = threading.Lock()
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.latency = 0.0
        """Seconds that answers come later."""
        self.swallows = False
        """Whether answers never come, while connections stay."""
        self.cut_after: int | None = None
        """Bytes of answers until the next cut of its connection; None is never."""
        self.connections = 0
        self._down = False
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Reset all connections."""
        with self._lock:
            pairs, self._pairs = self._pairs, []
        for pair in pairs:
            _reset(*pair)

    def down(self) -> None:
        """Reset all connections, those to come as well."""
        self._down = True
        self.cut()

    def up(self) -> None:
        """Take connections again."""
        self._down = False

    def close(self) -> None:
        """Stop."""
        self.down()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self._down:
                _reset(client)
                continue
            try:
                server = socket.create_connection(("127.0.0.1", self._target), 5)
            except OSError:
                _reset(client)
                continue
            for one in (client, server):
                one.settimeout(None)
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.connections += 1
            with self._lock:
                self._pairs.append((client, server))
            threading.Thread(target=self._pump, args=(client, server, False), daemon=True).start()
            threading.Thread(target=self._pump, args=(server, client, True), daemon=True).start()

    def _pump(self, source: socket.socket, target: socket.socket, answers: bool) -> None:
        try:
            while data := source.recv(65_536):
                if answers:
                    time.sleep(self.latency)
                    if self.swallows:
                        continue
                    data, cut = self._measured(data)
                    target.sendall(data)
                    if cut:
                        break
                else:
                    target.sendall(data)
        except OSError:
            pass  # cut from the other side
        _reset(source, target)

    def _measured(self, data: bytes) -> tuple[bytes, bool]:
        """What passes of some bytes, and whether the connection is cut then."""
        with self._lock:
            if self.cut_after is None:
                return data, False
            self.cut_after -= len(data)
            if self.cut_after > 0:
                return data, False
            kept, self.cut_after = len(data) + self.cut_after, None
            return data[:kept], True


@contextmanager
def proxy(port: int) -> Iterator[Proxy]:
    """A proxy to a server that listens on 127.0.0.1."""
    made = Proxy(port)
    try:
        yield made
    finally:
        made.close()


def _reset(*sockets: socket.socket) -> None:
    """Close so that the other side sees a reset."""
    for one in sockets:
        with contextlib.suppress(OSError):
            one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        with contextlib.suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)
        one.close()
