"""Connections: HTTP/1.1 as uvicorn speaks it, in strict order, with bounded heads, and a short way for hot requests.

A request to a hot route that is there whole when it is read, and that no more than memory is needed to let in, is
answered where it was read, in one write: no task, no scope, no messages in between. Everything else, and everything
that is odd about a request, goes the long way, by ASGI; both end in `grange.http.shell`.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any, Final, cast
from weakref import WeakKeyDictionary

import httptools
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from grange.http.answers import as_json
from grange.http.errors import enveloped
from grange.http.messages import Reply
from grange.http.shell import Shell, cut_off, head_of

if TYPE_CHECKING:
    from grange.http.shell import Request

HEADERS_S: Final = 15.0
"""How long a new connection has for the headers of its first request, and any for those of a further one."""
MAX_HEAD: Final = 64 * 1024
"""Bytes that the line and headers of a request may have, and whatever else of it is no body."""

AT_ONCE_S: Final = 60e-6
"""A request that is answered so soon after another one lay there already when that one was read."""
LONGEST_WAIT_S: Final = 1e-3
"""How long an answer may wait for others."""


class OrderlyProtocol(HttpToolsProtocol):
    """HTTP/1.1 that answers in the order of the requests, whatever comes behind them: what is no request is refused
    after all before it were answered, and what asks for another protocol is answered in this one. While requests wait
    their turn no more is read, so that what a client can make the server keep is what one read gives."""

    _writer: Writer
    _running: RequestResponseCycle | None = None
    """The request that is being answered, or was last, of those that take a task; `cycle` is the one that came last."""
    _refusal: str | None = None
    """What is said of the end of what came, which was no request, when its turn comes."""
    _asks_for_another = False
    """Whether the request that is read asks for another protocol: it is read once more, without that."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.flow = _Flow(transport, self.pipeline)
        self._writer = Writer.of(self.loop)

    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError:
            self._was_no_request()
        except httptools.HttpParserUpgrade as found:
            self._stay(memoryview(data)[found.args[0] :])

    def eof_received(self) -> None:
        self._writer.flush()  # it closes after this

    def connection_lost(self, exc: Exception | None) -> None:
        self._writer.forget(self.transport)
        if self._running is not None and not self._running.response_complete:
            self._running.disconnected = True
            self._running.message_event.set()
        super().connection_lost(exc)

    def shutdown(self) -> None:
        """Close when there is nothing left to answer; what is answered goes out first."""
        self._writer.flush()
        super().shutdown()

    def on_headers_complete(self) -> None:
        if not self.parser.should_upgrade():
            super().on_headers_complete()
        elif self.parser.get_method() == b"CONNECT":
            raise ValueError("a tunnel")  # the parser stops, and says that this is no request
        else:
            self._asks_for_another = True

    def on_message_complete(self) -> None:
        if not self._asks_for_another:
            super().on_message_complete()

    def on_response_complete(self) -> None:
        is_last = not self.pipeline
        super().on_response_complete()
        if is_last and self._refusal is not None and not self.transport.is_closing():
            self._refuse(self._refusal)

    def send_400_response(self, msg: str) -> None:
        """Answer what is no request, after what was asked before it. Nothing that comes after it is looked at."""
        if self._refusal is not None:
            return
        is_broken = self.cycle is not None and self.cycle.more_body and not self.cycle.response_complete
        if is_broken and self.pipeline:
            self.pipeline.popleft()  # the one that broke off; those before it are answered
        elif is_broken or not self._is_answering():
            self._refuse(msg)
            return
        self._refusal = msg
        self.flow.pause_reading()
        cast(_Flow, self.flow).is_over = True

    def _refuse(self, msg: str) -> None:
        self._writer.flush()
        if self._running is not None and self._running.response_started and not self._running.response_complete:
            self.transport.close()  # in the middle of an answer there is nothing else to say
        else:
            self._write_refusal(msg)

    def _write_refusal(self, msg: str) -> None:
        super().send_400_response(msg)

    def _is_answering(self) -> bool:
        return self._running is not None and not self._running.response_complete

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._running = cycle
        self._unset_keepalive_if_required()  # an answer may have set it since this was read
        super()._start_asgi_task(cycle, app)

    def _was_no_request(self) -> None:
        self.logger.warning("Invalid HTTP request received.")
        self.send_400_response("Invalid HTTP request received.")

    def _stay(self, rest: memoryview) -> None:
        """Read requests that ask for another protocol as if they did not: the parser takes them to have no body, and
        what comes behind their heads to be no HTTP.

        Args:
            rest: what came behind the head of the first one.
        """
        while self._asks_for_another:
            self._asks_for_another = False
            head = self._plain_head()
            self.parser = _parser(self)
            try:
                self.parser.feed_data(head)
                self.parser.feed_data(rest)
            except httptools.HttpParserError:
                self._was_no_request()
            except httptools.HttpParserUpgrade as found:
                rest = rest[found.args[0] :]

    def _plain_head(self) -> bytes:
        """The head that was read, without what asks for another protocol."""
        line = b"%b %b HTTP/%b" % (self.parser.get_method(), self.url, self.parser.get_http_version().encode())
        headers = (b"%b: %b" % header for header in self.headers if header[0] != b"upgrade")
        return b"\r\n".join((line, *headers, b"", b""))


def _parser(protocol: HttpToolsProtocol) -> Any:
    """A parser such as uvicorn makes: what follows the last request of a connection is no error."""
    parser = httptools.HttpRequestParser(protocol)
    parser.set_dangerous_leniencies(lenient_data_after_close=True)
    return parser


class _Flow(FlowControl):
    """Goes on reading only when no request waits its turn, and not behind what is no request.

    Args:
        transport: of the connection.
        waiting: the requests that wait.
    """

    def __init__(self, transport: asyncio.Transport, waiting: deque[Any]) -> None:
        super().__init__(transport)
        self._waiting = waiting
        self.is_over = False

    def resume_reading(self) -> None:
        """Go on reading, if there is room."""
        if self.read_paused and not self._waiting and not self.is_over:
            super().resume_reading()


class HeadProtocol(OrderlyProtocol):
    """HTTP/1.1 that waits only so long for headers, and takes only so many: connections that send a byte now and then,
    or headers without end, hold nothing up."""

    _deadline: asyncio.TimerHandle | None = None
    _head = 0
    """Bytes of the line and headers of a request, trailers among them."""
    _in_head = False
    """Whether a head has begun, and not ended."""
    _waiting = 0
    """Bytes that came without the end of a head or more of a body."""
    _moves = False
    """Whether what came last had one of them."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._deadline = self.loop.call_later(HEADERS_S, self._too_slow)

    def data_received(self, data: bytes) -> None:
        self._moves = False
        super().data_received(data)
        self._waiting = 0 if self._moves else self._waiting + len(data)
        if self._waiting > MAX_HEAD and not self.transport.is_closing():
            self._head = self._waiting
            self.send_400_response("")
        if self._deadline is None:
            if self._in_head:
                self._deadline = self.loop.call_later(HEADERS_S, self._too_slow)
            elif self.timeout_keep_alive_task is None and not self._is_answering():
                # what came is neither a request nor the start of one: it keeps nothing open for longer
                self.timeout_keep_alive_task = self.loop.call_later(
                    self.timeout_keep_alive, self.timeout_keep_alive_handler
                )

    def _write_refusal(self, msg: str) -> None:
        """Answer what is no request; with 431 where its head is too large."""
        if self._head <= MAX_HEAD:
            super()._write_refusal(msg)
            return
        body = as_json(enveloped("headers_too_large", f"the headers of a request may have {MAX_HEAD:,} bytes", {}, ""))
        said = (
            b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-type: application/json\r\n"
            b"content-length: %d\r\nconnection: close\r\n\r\n%b"
        )
        self.transport.write(said % (len(body), body))
        self.transport.close()

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        self._count(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count(len(name) + len(value) + len(": \r\n"))
        if self._in_head:  # what stands behind a body is no header of its request
            super().on_header(name, value)

    def _count(self, size: int) -> None:
        self._head += size
        if self._head > MAX_HEAD:
            raise ValueError("a head that is too large")  # the parser stops, and says that this is no request

    def on_body(self, body: bytes) -> None:
        self._moves = True
        super().on_body(body)

    def on_headers_complete(self) -> None:
        self._moves = True
        self._in_head = False
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        super().on_headers_complete()

    def on_message_begin(self) -> None:
        self._head = 0
        self._in_head = True
        super().on_message_begin()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        super().connection_lost(exc)

    def _too_slow(self) -> None:
        self._deadline = None
        if self._is_answering():  # while that lasts it may be the server that does not read on
            self._deadline = self.loop.call_later(HEADERS_S, self._too_slow)
        elif not self.transport.is_closing():
            self.transport.close()


class BriefProtocol(OrderlyProtocol):
    """HTTP/1.1 with a short way for hot requests (`Shell.briefly`); needs a `Shell` as the application, and takes the
    long way with any other."""

    _parts: list[bytes] | None = None
    """What came of the body of a request that may go the short way; None of all others."""

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._parts is not None and not self.transport.is_closing():
            self._go_the_long_way()  # the rest of it is still to come

    def on_headers_complete(self) -> None:
        if self._may_be_brief():
            self._parts = []
        else:
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        if self._parts is None:
            super().on_body(body)
        else:
            self._parts.append(body)

    def on_message_complete(self) -> None:
        if self._parts is None:
            super().on_message_complete()
        elif self._answer(b"".join(self._parts)):
            self._parts = None
        else:
            self._go_the_long_way()
            super().on_message_complete()

    def _may_be_brief(self) -> bool:
        """Whether the request, of which the head is known, is one to a hot route on a connection with nothing else to
        do. It is if its path is there to the letter: what has a query, or is written otherwise, goes the long way."""
        parser = self.parser
        return (
            type(self.app) is Shell
            and self.url in self.app.brief
            and (self.cycle is None or self.cycle.response_complete)
            and parser.get_method() == b"POST"
            and parser.get_http_version() == "1.1"
            and parser.should_keep_alive()
            and not parser.should_upgrade()
            and not self.expect_100_continue
            and not self.flow.write_paused
        )

    def _go_the_long_way(self) -> None:
        """Do what was left undone for a request that cannot go the short way after all."""
        parts, self._parts = self._parts or (), None
        super().on_headers_complete()
        for part in parts:
            super().on_body(part)

    def _answer(self, body: bytes) -> bool:
        """Answer a request; False when it has to go the long way."""
        shell = cast(Shell, self.app)
        found = shell.briefly(self.url.decode("ascii"), dict(self.headers), body)
        if found is None:
            return False
        request, reply = found
        if isinstance(reply, Reply):
            try:
                self._writer.write(self.transport, self._written(reply, request), since=request.started)
            finally:
                shell.ended(request)
            HttpToolsProtocol.on_response_complete(self)  # what ours has besides is for requests that wait
            return True
        self._unset_keepalive_if_required()
        self._running = self.cycle = waiting = cast(RequestResponseCycle, _Waiting())
        task = self.loop.create_task(self._answer_later(waiting, request, reply))
        task.add_done_callback(self.tasks.discard)
        self.tasks.add(task)
        return True

    async def _answer_later(self, waiting: RequestResponseCycle, request: Request, coming: Awaitable[Reply]) -> None:
        """Answer a request when its answer is there. Whatever comes on the connection before that waits for it."""
        shell = cast(Shell, self.app)
        try:
            reply = await coming
            if waiting.disconnected:
                request.status, request.refused = 499, "client_gone"
            else:
                written = self._written(reply, request, closes=not waiting.keep_alive)
                self._writer.write(self.transport, written, since=time.perf_counter())
        except BaseException:
            cut_off(request)
            waiting.keep_alive = False  # without an answer, the next one would be taken for it
            raise
        finally:
            waiting.response_complete = True
            shell.ended(request)
            if not waiting.keep_alive:
                self._writer.flush()
                self.transport.close()
        self.on_response_complete()

    def _written(self, reply: Reply, request: Request, *, closes: bool = False) -> bytes:
        """An answer, head and all."""
        request.status, request.view = reply.status, reply.view
        parts = [STATUS_LINE[reply.status]]
        for name, value in (*self.server_state.default_headers, *head_of(reply, request.id)):
            parts += (name, b": ", value, b"\r\n")
        if closes:
            parts.append(b"connection: close\r\n")
        parts += (b"\r\n", reply.body)
        return b"".join(parts)


class _Waiting:
    """A request whose answer is on its way: what uvicorn has to know of it, as of those that go the long way."""

    __slots__ = ("disconnected", "keep_alive", "message_event", "more_body", "response_complete", "response_started")

    def __init__(self) -> None:
        self.more_body = False
        self.response_started = False
        self.response_complete = False
        self.keep_alive = True
        self.disconnected = False
        self.message_event = asyncio.Event()


class Writer:
    """Writes answers of one event loop. One that comes alone is written at once. When a request lay there already while
    another one was answered, its answer waits for those of all that lie there: a client that has many connections is
    woken once for them all, and not by each. Redis writes its answers before it sleeps, for the same reason."""

    __slots__ = ("_since", "_waiting", "_written")

    def __init__(self) -> None:
        self._waiting: list[tuple[asyncio.Transport, bytes]] = []
        self._since = 0.0
        """When the first of them was worked on."""
        self._written = 0.0
        """When the last answer was written, or left to wait."""

    @classmethod
    def of(cls, loop: asyncio.AbstractEventLoop) -> Writer:
        """The writer of a loop."""
        found = _WRITERS.get(loop)
        if found is None:
            found = _WRITERS[loop] = cls()
        return found

    def write(self, transport: asyncio.Transport, data: bytes, *, since: float) -> None:
        """Write an answer, now or within a moment.

        Args:
            transport: where to.
            data: what.
            since: when its request was taken up, by `time.perf_counter`.
        """
        if self._waiting:
            self._waiting.append((transport, data))
            if time.perf_counter() - self._since > LONGEST_WAIT_S:
                self.flush()
        elif since - self._written < AT_ONCE_S:
            self._waiting.append((transport, data))
            self._since = since
            asyncio.get_running_loop().call_soon(self.flush)  # kept, it would keep itself known for ever
        else:
            transport.write(data)
        self._written = time.perf_counter()

    def flush(self) -> None:
        """Write what waits."""
        waiting, self._waiting = self._waiting, []
        for transport, data in waiting:
            transport.write(data)

    def forget(self, transport: asyncio.Transport) -> None:
        """Let go of what waits for a connection that is gone: some event loops fail to write to one."""
        if self._waiting:
            self._waiting = [each for each in self._waiting if each[0] is not transport]


_WRITERS: Final[WeakKeyDictionary[asyncio.AbstractEventLoop, Writer]] = WeakKeyDictionary()


class Protocol(HeadProtocol, BriefProtocol):
    """What the server speaks."""


__all__ = ["HEADERS_S", "MAX_HEAD", "Protocol", "Writer"]
