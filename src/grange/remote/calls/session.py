"""What a client remembers between verbs, and the requests that verbs have in common."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import quote

from grange.errors import GrangeError
from grange.remote import bodies
from grange.remote.messages import ARROW, LONG, MSGPACK, NORMAL, Call, Method, Pause, Query, Request, Response

if TYPE_CHECKING:
    from grange.definitions.catalog import Catalog
    from grange.frames import Rows
    from grange.remote.online import Shape

T = TypeVar("T")

API: Final = "/api/v1"
PAGE: Final = 1000
LOOK: Final = 0.002
"""Seconds between two looks at what somebody else is asking for."""
LOOKS: Final = 500
"""After so many everybody asks for themselves: whoever was asking may be a thread that a fork left behind."""
OPTIONS: Final = "X-Grange-Options"
"""The header that holds a request's options, as quoted JSON, where its body is rows."""
IDEMPOTENCY: Final = "Idempotency-Key"


@dataclass(slots=True)
class Session:
    """What a client remembers between verbs. Safe for several threads: what two of them learn is the same."""

    url: str
    """Of the server, for people."""
    run: Callable[[Call[Any]], Any] | None = None
    """What runs a call for values that are read later; None where reading cannot wait, as in an event loop."""
    catalog: Catalog | None = None
    etag: str = ""
    """Of the definitions."""
    checked: float = float("-inf")
    """When they were last asked for."""
    statuses: bool = True
    """Whether online answers bring statuses and event times."""
    shapes: dict[Any, Shape] = field(default_factory=dict)
    """By what was asked for, what the columns of an online answer are."""
    asking: set[Any] = field(default_factory=set)
    """What somebody is asking for, that others who need it wait for."""
    timeout: float | None = None
    """Seconds that one request may take; by kind of request without."""
    clock: Callable[[], float] = time.monotonic
    new_key: Callable[[], str] = lambda: uuid.uuid4().hex
    """For each write another, and the same one whenever it is sent again."""

    def forget(self) -> None:
        """The definitions may be others now."""
        self.checked = float("-inf")


def shared(session: Session, key: Any, known: Callable[[], T | None], call: Call[T]) -> Call[T]:
    """What is known, or else what a call finds out, which only one of those who need it at a time makes.

    Args:
        session: of the client.
        key: what it is about.
        known: what is remembered of it, if that is still good.
        call: finds it out and remembers it.
    """
    looks = 0
    while (found := known()) is None and key in session.asking and looks < LOOKS:
        looks += 1
        yield Pause(LOOK)
    if found is not None:
        call.close()
        return found
    session.asking.add(key)
    try:
        return (yield from call)
    finally:
        session.asking.discard(key)


def fetched(path: str, patience: float = NORMAL, **query: Any) -> Call[Any]:
    """The data at a path."""
    response = yield Request("GET", API + path, query, patience=patience)
    return bodies.from_json(response)


def every(path: str, **query: Any) -> Call[list[Any]]:
    """All items of a list that comes in pages."""
    found: list[Any] = []
    cursor: str | None = None
    while True:
        page = yield from fetched(path, limit=PAGE, cursor=cursor, **query)
        found += page["items"]
        cursor = page["next"]
        if cursor is None:
            return found


def fetched_rows(path: str, query: Query) -> Call[Rows]:
    """The rows at a path."""
    from grange.frames import Rows

    response = yield Request("GET", API + path, query, accept=ARROW, patience=LONG)
    return Rows(arrow=bodies.from_arrow(response))


def asked(path: str, data: Any, *, patience: float = NORMAL, query: Query | None = None) -> Call[Any]:
    """The answer to a question that has a body, and changes nothing."""
    response = yield Request("POST", API + path, query or {}, bodies.as_json(data), patience=patience)
    return bodies.from_json(response)


def asked_packed(path: str, data: Any, patience: float) -> Call[Any]:
    """The same in MessagePack."""
    response = yield Request(
        "POST", API + path, {}, bodies.as_msgpack(data), content_type=MSGPACK, accept=MSGPACK, patience=patience
    )
    return bodies.from_msgpack(response)


def changed(
    session: Session,
    method: Method,
    path: str,
    data: Any = None,
    *,
    query: Query | None = None,
    patience: float = NORMAL,
) -> Call[Response]:
    """The answer to a write. However often it is sent, it is done once."""
    body = b"" if data is None else bodies.as_json(data)
    response: Response = yield Request(
        method, API + path, query or {}, body, headers=once(session), patience=patience, changes=True
    )
    return response


def changed_by_rows(
    session: Session,
    path: str,
    rows: Rows | None,
    options: Mapping[str, Any] | None = None,
    *,
    query: Query | None = None,
    patience: float = LONG,
) -> Call[Response]:
    """The answer to a write that may have rows."""
    response: Response = yield Request(
        "POST",
        API + path,
        query or {},
        body=b"" if rows is None else bodies.as_arrow(rows.arrow),
        content_type=ARROW,
        headers={**once(session), **told(options)},
        patience=patience,
        changes=True,
    )
    return response


def once(session: Session) -> dict[str, str]:
    """The header that makes a write one, however often it is sent."""
    return {IDEMPOTENCY: session.new_key()}


def told(options: Mapping[str, Any] | None) -> dict[str, str]:
    """The header with the options of a request whose body is rows."""
    return {OPTIONS: quote(bodies.as_json(options), safe="")} if options else {}


def as_error(said: Mapping[str, Any]) -> GrangeError:
    """The error that the server tells of a job."""
    from grange.remote.failures import error_from

    return error_from(said)
