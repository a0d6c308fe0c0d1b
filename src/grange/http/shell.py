"""The outermost layer: everything that is true of every request, whatever it asks for.

In the order of a request: its id; room for it; who asks, and how often; its body's size; then a hot route, or the
application for all others. Whatever goes wrong on the way is answered in the one envelope, counted and logged.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import re
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from grange.errors import GrangeError, OverloadedError
from grange.http.context import Caller, Projects
from grange.http.errors import enveloped
from grange.http.limits import (
    ClientGoneError,
    Rates,
    Receive,
    check_length,
    check_nesting,
    read_body,
    too_nested,
)
from grange.http.logs import log_failure, log_request
from grange.http.messages import ARROW, JSON, MSGPACK, Call, Handler, Reply, error_reply, json_reply

if TYPE_CHECKING:
    from grange.http.authentication import Gate
    from grange.http.consumers import Consumers
    from grange.http.context import Project
    from grange.http.live import LiveProjects
    from grange.http.metrics import Metrics
    from grange.http.tracing import Tracing
    from grange.security.principals import Principal

Scope = MutableMapping[str, Any]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]
Lifespan = Callable[[], Awaitable[None]]

_SANE_ID: Final = re.compile(rb"[A-Za-z0-9._:/+=-]{1,128}")
_NOT_OF_HEADERS: Final = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_CONTENT_TYPES: Final = {name: name.encode() for name in (JSON, MSGPACK, ARROW)}
_NOSNIFF: Final = (b"x-content-type-options", b"nosniff")
_SECURITY: Final = ("/api/v1/keys", "/api/v1/policies")
"""What changes who may do what: this process goes by it at once."""
FAILURE: Final = "failure"
"""In the state of a request: the exception that ended the application's answer before it began."""
UNKNOWN_ROUTE: Final = "(unknown)"
"""The route of requests to paths that there are none of, so that they cannot make labels of their own."""


@dataclass(slots=True)
class Request:
    """What is known of one request while it is answered."""

    id: str
    method: str
    path: str
    started: float
    route: str = UNKNOWN_ROUTE
    view: str = ""
    status: int = 0
    project: str = ""
    principal: str = ""
    is_hot: bool = False
    refused: str = ""
    """Why it was not answered as asked, in a word, for metrics; empty when it was."""


@dataclass(slots=True)
class Shell:
    """The server, as an ASGI application."""

    projects: Projects
    live: LiveProjects
    gate: Gate
    app: Application
    """Answers what no hot route does."""
    routes: Mapping[tuple[str, str], Handler]
    """Hot routes, by method and path."""
    open_routes: Mapping[tuple[str, str], Callable[[], Awaitable[Reply]]]
    """Routes that everybody may ask, by method and path: health."""
    metrics: Metrics
    tracing: Tracing | None = None
    consumers: Consumers | None = None
    """Counts who reads which view."""
    brief: frozenset[bytes] = frozenset()
    """Paths of hot routes for POST whose answers come whole, as they stand in a request: see `briefly`."""
    open_paths: frozenset[str] = frozenset()
    """Paths of `app` that everybody may ask."""
    starting: tuple[Lifespan, ...] = ()
    """What is done before the first request."""
    stopping: tuple[Lifespan, ...] = ()
    """What is done after the last one, in order."""
    draining: bool = False
    """Whether the server was told to stop: requests in flight are answered, and probes say that it is not ready."""
    told_to_stop_at: float | None = None
    """When that was, on a clock that never goes back."""
    in_flight: int = 0
    _rates: Rates = field(init=False)
    _ids: itertools.count[int] = field(default_factory=itertools.count)
    _id_prefix: str = field(default_factory=lambda: secrets.token_hex(6))

    def __post_init__(self) -> None:
        self._rates = Rates(self.projects.config.server.rate_limit)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, one connection of another kind, or the life of the server."""
        match scope["type"]:
            case "http":
                await self._answer(scope, receive, send)
            case "lifespan":
                await self._live(receive, send)
            case _:
                await send({"type": "websocket.close", "code": 1000})

    def stop(self) -> None:
        """Take note that the server was told to stop; also from a handler of signals."""
        self.draining = True
        if self.told_to_stop_at is None:
            self.told_to_stop_at = time.monotonic()

    def grace_left(self) -> float:
        """Seconds that what still goes on has left."""
        grace = self.projects.config.server.grace.total_seconds()
        return grace if self.told_to_stop_at is None else max(0.0, grace - (time.monotonic() - self.told_to_stop_at))

    # -- one request -------------------------------------------------------------------------------------------------

    def briefly(
        self, path: str, headers: dict[bytes, bytes], body: bytes
    ) -> tuple[Request, Reply | Awaitable[Reply]] | None:
        """The answer to a POST request to a hot route, with no more around it than there has to be; None for requests
        that need more: a look at a store to be let in, a refusal, a span. Whoever calls it hands the request to `ended`
        when it is answered."""
        settings = self.projects.config.server
        if (
            self.tracing is not None
            or (settings.max_in_flight and self.in_flight >= settings.max_in_flight)
            or (settings.max_body and len(body) > settings.max_body)
        ):
            return None
        try:
            found = self.gate.at_once(headers)
        except GrangeError:
            return None  # refused on the long way, where all that belongs to that is done
        if found is None:
            return None
        request = Request(self._id_of(headers), "POST", path, time.perf_counter(), path, is_hot=True)
        self.in_flight += 1
        try:
            answered = self.routes["POST", path](Call(body, headers, self._caller(request, *found)))
        except Exception as error:  # noqa: BLE001 - the boundary of a request
            return request, self._failed(request, error)
        return request, (answered if isinstance(answered, Reply) else self._coming(request, answered))

    async def _coming(self, request: Request, answered: Awaitable[Reply]) -> Reply:
        try:
            return await answered
        except Exception as error:  # noqa: BLE001 - the boundary of a request
            return self._failed(request, error)

    def ended(self, request: Request) -> None:
        """Count a request that was answered, or whose client is gone, and note it in the log."""
        self.in_flight -= 1
        took = time.perf_counter() - request.started
        self.metrics.observe(request, took)
        if request.view and request.status < 400 and self.consumers is not None:
            self.consumers.count(request.project, request.principal, request.view)
        log_request(request, took)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers: dict[bytes, bytes] = dict(scope["headers"])
        scope.setdefault("state", {})
        request = Request(self._id_of(headers), scope["method"], scope["path"], time.perf_counter())
        self.in_flight += 1
        try:
            if self.tracing is None:
                await self._dispatch(request, headers, scope, receive, send)
            else:
                with self.tracing.request(request, headers):
                    await self._dispatch(request, headers, scope, receive, send)
        except ClientGoneError:
            request.status, request.refused = 499, "client_gone"
        except asyncio.CancelledError:
            cut_off(request)
            raise
        finally:
            self.ended(request)

    async def _dispatch(
        self, request: Request, headers: dict[bytes, bytes], scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Answer, whatever happens; what fails once an answer has begun can only break it off."""
        started = _Started(send, request)
        reply: Reply | None
        try:
            reply = await self._reply(request, headers, scope, receive, started)
        except ClientGoneError:
            raise
        except Exception as error:  # noqa: BLE001 - the boundary of a request
            reply = self._failed(request, error)
        if reply is None:
            return
        if started.done:
            raise RuntimeError("an answer failed after it had begun")  # the server closes the connection
        request.view = reply.view
        await _send(reply, request, send)

    def _failed(self, request: Request, error: Exception) -> Reply:
        """The answer to a request that came to an error. One that nobody foresaw is told in the log, and a 500."""
        if isinstance(error, RecursionError) and request.is_hot:
            error = too_nested()
        if isinstance(error, GrangeError):
            request.refused = type(error).__name__
            return error_reply(error, request.id)
        log_failure(request, error)
        request.refused = "failure"
        return json_reply(enveloped("internal", "the server failed; its log says how", {}, request.id), 500)

    async def _reply(
        self, request: Request, headers: dict[bytes, bytes], scope: Scope, receive: Receive, send: _Started
    ) -> Reply | None:
        """The answer; None when the application gave it."""
        where = request.method, request.path
        opened = self.open_routes.get(where)
        if opened is not None:
            request.route = request.path
            return await opened()
        handler = self.routes.get(where)
        if handler is not None:
            request.route, request.is_hot = request.path, True
        settings = self.projects.config.server
        if settings.max_in_flight and self.in_flight > settings.max_in_flight:
            raise _too_many(settings.max_in_flight)
        if request.path not in self.open_paths:
            found = self.gate.at_once(headers) or await self.gate.after_a_look(headers)
            scope["state"]["caller"] = self._caller(request, *found)
        check_length(headers, settings.max_body)
        if handler is None:
            await self._forward(request, headers, scope, receive, send)
            return None
        body = await read_body(receive, settings.max_body, settings.request_timeout.total_seconds())
        answered = handler(Call(body, headers, scope["state"]["caller"], scope["query_string"]))
        return answered if isinstance(answered, Reply) else await answered

    def _caller(self, request: Request, project: Project, principal: Principal) -> Caller:
        request.project, request.principal = project.name, principal.name
        self._rates.take((project.name, principal.id), request.started)
        return Caller(principal, project, self.live.of(project).gate.access(principal, request.id), request.id)

    async def _forward(
        self, request: Request, headers: dict[bytes, bytes], scope: Scope, receive: Receive, send: _Started
    ) -> None:
        """Let the application answer. The body is read before it sees any of it: what is too large or nested too
        deeply never reaches it."""
        settings = self.projects.config.server
        scope["state"]["request_id"] = request.id
        # what everybody may ask takes no body, so that nobody without a key makes the server read one
        body = b""
        if request.path not in self.open_paths:
            body = await read_body(receive, settings.max_body, settings.request_timeout.total_seconds())
        if _is_json(headers):
            check_nesting(body)
        receive = _replayed(body, receive)
        try:
            async with asyncio.timeout(settings.request_timeout.total_seconds()):
                await self.app(scope, receive, send)
        except TimeoutError as error:
            raise OverloadedError(
                f"a request may take {settings.request_timeout.total_seconds():g} seconds",
                found="one that takes longer; what it changes may still be done",
                try_="run it as a job",
            ) from error
        finally:
            request.route = getattr(scope.get("route"), "path_format", UNKNOWN_ROUTE)
        if request.method != "GET" and request.path.startswith(_SECURITY):
            self.gate.forget()
            await self.live.look()
        failure: Exception | None = scope["state"].get(FAILURE)
        if failure is not None:
            raise failure

    def _id_of(self, headers: Mapping[bytes, bytes]) -> str:
        """The request's own id if it has a sane one, else a new one."""
        said = headers.get(b"x-request-id")
        if said is not None and _SANE_ID.fullmatch(said):
            return said.decode()
        return f"{self._id_prefix}{next(self._ids):08x}"

    # -- the life of the server --------------------------------------------------------------------------------------

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()  # lifespan.startup
        try:
            for start in self.starting:
                await start()
        except GrangeError as error:
            logging.getLogger("grange.http").error("%s", error)
            await send({"type": "lifespan.startup.failed", "message": error.message})
            return
        await send({"type": "lifespan.startup.complete"})
        await receive()  # lifespan.shutdown
        self.stop()
        for stop in self.stopping:
            await stop()
        await send({"type": "lifespan.shutdown.complete"})


def _too_many(limit: int) -> OverloadedError:
    return OverloadedError(
        f"more than {limit} requests at once", try_="come again in a second", details={"retry_after": 1, "limit": limit}
    )


def cut_off(request: Request) -> None:
    """Note that a request was given up before it was answered: the time that the server has to stop was up."""
    request.status, request.refused = 503, "cut_off"


class _Started:
    """Sends what the application says, with what every answer has, and remembers that it has begun."""

    __slots__ = ("_request", "_send", "done")

    def __init__(self, send: Send, request: Request) -> None:
        self._send = send
        self._request = request
        self.done = False

    async def __call__(self, message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self.done = True
            self._request.status = message["status"]
            message["headers"] = [
                *((name, value) for name, value in message.get("headers", ()) if name != b"server"),
                (b"x-request-id", self._request.id.encode()),
                _NOSNIFF,
            ]
        await self._send(message)


def head_of(reply: Reply, request_id: str) -> list[tuple[bytes, bytes]]:
    """The headers of an answer; the length of its body among them where it comes whole."""
    content_type = _CONTENT_TYPES.get(reply.content_type) or reply.content_type.encode("latin-1")
    headers = [(b"content-type", content_type), (b"x-request-id", request_id.encode()), _NOSNIFF]
    if reply.headers:
        headers += [(name.lower().encode("ascii"), _of_a_header(value)) for name, value in reply.headers]
    if reply.chunks is None:
        headers.append((b"content-length", b"%d" % len(reply.body)))
    return headers


def _of_a_header(value: str) -> bytes:
    """A value as it may stand in a header; what may not is a question mark, so that an answer never fails for it."""
    return _NOT_OF_HEADERS.sub(b"?", value.encode("latin-1", "replace"))


async def _send(reply: Reply, request: Request, send: Send) -> None:
    request.status = reply.status
    headers = head_of(reply, request.id)
    if reply.chunks is None:
        await send({"type": "http.response.start", "status": reply.status, "headers": headers})
        await send({"type": "http.response.body", "body": reply.body})
        return
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": reply.body, "more_body": True})
    loop = asyncio.get_running_loop()
    chunks = iter(reply.chunks)
    while (chunk := await loop.run_in_executor(None, next, chunks, None)) is not None:
        await send({"type": "http.response.body", "body": chunk, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


def _replayed(body: bytes, receive: Receive) -> Receive:
    """A body that was read, for an application that reads it itself."""
    waiting = [body]

    async def again() -> MutableMapping[str, Any]:
        if waiting:
            return {"type": "http.request", "body": waiting.pop(), "more_body": False}
        return await receive()

    return again


def _is_json(headers: Mapping[bytes, bytes]) -> bool:
    said = headers.get(b"content-type", b"application/json")
    return b"json" in said.lower()
