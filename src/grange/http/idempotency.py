"""Writes that may be sent twice: the same `Idempotency-Key` with the same request gets the first one's answer.

An answer is kept for a day, per caller. Three things are said rather than guessed at: the same key with another request
is refused; a request that is still being worked on is answered with `Retry-After`; and when the server ended in the
middle of one, whether it happened is not known, and that is the answer.
"""

from __future__ import annotations

import asyncio
import base64
import datetime as dt
import functools
import hashlib
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

import msgspec
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from grange.errors import ConflictError, RefusedError, RequestError, StoreUnavailableError
from grange.http.etags import IF_MATCH, IF_NONE_MATCH
from grange.http.rows import OPTIONS
from grange.jobs import Process, documents_of

if TYPE_CHECKING:
    from starlette.requests import Request

    from grange.http.context import Caller
    from grange.ports.registry import Documents

HEADER: Final = "idempotency-key"
REPLAYED: Final = "Idempotency-Replayed"
UNKEPT: Final = "Idempotency-Unkept"
"""Of an answer that could not be kept: the same key again is told that it is being worked on."""
COLLECTION: Final = "idempotency"
KEPT: Final = dt.timedelta(hours=24)
MOST_BYTES: Final = 256 * 1024
"""Of an answer that is kept; of a larger one only that it was given."""
_MOST_CHARACTERS: Final = 255
_HEADERS: Final = ("content-type", "location", "etag")
_ASKING: Final = ("content-type", OPTIONS, IF_MATCH, IF_NONE_MATCH)
"""Headers that say what is asked for; another one makes another request."""
_NOT_RUN: Final = frozenset({401, 403, 429})
"""Answers before anything was done: the same request may be tried again."""
LONGEST: Final = dt.timedelta(hours=1)
"""How long a request can be worked on; of a server on another machine it cannot be told that it ended."""


@dataclass(frozen=True, slots=True)
class _Begun:
    """A request that carries a key, and where its answer is kept."""

    documents: Documents
    key: str
    digest: str


async def once(request: Request, caller: Caller, answer: Callable[[], Awaitable[Response]]) -> Response:
    """Answer a request, or repeat the answer that it had.

    Args:
        request: with the key among its headers.
        caller: whose key it is.
        answer: does what is asked. It raises `RequestValidationError` or `HTTPException` where it did nothing.

    Raises:
        RequestError: a key that is none.
        RefusedError: the key was used for another request; or what came of the first cannot be told or shown.
        ConflictError: the first is being worked on.
        StoreUnavailableError: the registry cannot be reached; nothing was done.
    """
    begun = _begun(request, caller, await request.body())
    kept = await asyncio.to_thread(_take, begun, dt.datetime.now(dt.UTC))
    if kept is not None:
        return kept
    settle = _unknown
    try:
        response = await answer()
        settle = functools.partial(_keep, response=response)
    except (RequestValidationError, HTTPException):
        settle = _forget
        raise
    finally:
        # the write may have happened however this ended, so that this is settled even while the client goes away
        settled = await asyncio.shield(asyncio.to_thread(_settled, settle, begun))
    if not settled:
        response.headers[UNKEPT] = "true"
    return response


def _begun(request: Request, caller: Caller, body: bytes) -> _Begun:
    given = request.headers[HEADER]
    if not given.strip() or len(given) > _MOST_CHARACTERS or not given.isprintable():
        raise RequestError(
            f"an Idempotency-Key is 1 to {_MOST_CHARACTERS} printable characters",
            try_="a new UUID for each write, and the same one when it is sent again",
        )
    told = [request.method, request.url.path, request.url.query, *(request.headers.get(name) for name in _ASKING)]
    return _Begun(
        documents_of(caller.project.store),
        hashlib.sha256(f"{caller.principal.kind}:{caller.principal.id}\n{given}".encode()).hexdigest(),
        hashlib.sha256(msgspec.json.encode(told) + b"\n" + body).hexdigest(),
    )


def _take(begun: _Begun, now: dt.datetime) -> Response | None:
    """Say that the request is being worked on; or the answer that it had."""
    running = {"request": begun.digest, "status": "running", "process": asdict(Process.current())}
    for _ in range(2):
        try:
            begun.documents.put(COLLECTION, begun.key, running, now=now, expected="absent")
        except ConflictError:
            found = begun.documents.get(COLLECTION, begun.key)
            if found is None:
                continue
            if now - found.created_at < KEPT:
                return _repeated(found.data, begun.digest, now - found.created_at)
            begun.documents.remove(COLLECTION, begun.key)
        else:
            _clear(begun.documents, now)
            return None
    raise _working()


def _repeated(kept: dict[str, Any], digest: str, age: dt.timedelta) -> Response:
    if kept["request"] != digest:
        raise RefusedError(
            "this Idempotency-Key was used for another request",
            found="another method, path, query, body, content type, options or condition",
            try_="a new key for a new write",
        )
    if kept["status"] == "running" and not Process(**kept["process"]).is_gone and age < LONGEST:
        raise _working()
    if kept["status"] != "done":
        raise RefusedError(
            "a request with this Idempotency-Key was begun, and was never answered: whether it happened is not known",
            try_="look at what it was to change, and send it with a new key if it did not happen",
            details={"outcome": "unknown"},
        )
    if kept["body"] is None:
        raise RefusedError(
            "the request with this Idempotency-Key was done, and its answer is not kept",
            found=f"status {kept['code']}",
            try_="look at what it changed",
            details={"outcome": "done", "status": kept["code"]},
        )
    return Response(base64.b64decode(kept["body"]), kept["code"], {**kept["headers"], REPLAYED: "true"})


def _working() -> ConflictError:
    return ConflictError(
        "a request with this Idempotency-Key is being worked on", try_="the same again in a second",
        details={"retry_after": 1},
    )  # fmt: skip


def _settled(settle: Callable[[_Begun], None], begun: _Begun) -> bool:
    """Whether what came of a request could be written down; the request itself is done either way."""
    try:
        settle(begun)
    except StoreUnavailableError:
        return False
    return True


def _unknown(begun: _Begun) -> None:
    """It failed in a way that nobody foresaw: what it changed is not known."""
    data = {"request": begun.digest, "status": "unknown"}
    begun.documents.put(COLLECTION, begun.key, data, now=dt.datetime.now(dt.UTC))


def _forget(begun: _Begun) -> None:
    """Nothing was done: the key is free."""
    begun.documents.remove(COLLECTION, begun.key)


def _keep(begun: _Begun, *, response: Response) -> None:
    """Keep the answer, unless it says that the same request may be tried again."""
    body = bytes(response.body) if isinstance(getattr(response, "body", None), bytes | memoryview) else None
    if response.status_code in _NOT_RUN or (response.status_code >= 400 and _may_be_retried(body or b"")):
        _forget(begun)
        return
    secret = "no-store" in response.headers.get("cache-control", "")
    shown = body is not None and len(body) <= MOST_BYTES and not secret
    data = {
        "request": begun.digest,
        "status": "done",
        "code": response.status_code,
        "headers": {name: value for name, value in response.headers.items() if name in _HEADERS},
        "body": base64.b64encode(body).decode() if shown and body is not None else None,
    }
    begun.documents.put(COLLECTION, begun.key, data, now=dt.datetime.now(dt.UTC))


def _may_be_retried(body: bytes) -> bool:
    """Whether an error says of itself that the same call may succeed later."""
    try:
        return bool(msgspec.json.decode(body)["error"]["details"]["retry"])
    except (msgspec.DecodeError, KeyError, TypeError):
        return False


def _clear(documents: Documents, now: dt.datetime) -> None:
    """Remove some answers that are too old to be asked for: of one in 256 keys, each time others."""
    for item in documents.documents(COLLECTION, prefix=secrets.token_hex(1), limit=None):
        if now - item.updated_at >= KEPT:
            documents.remove(COLLECTION, item.key)
