"""What one request, and one caller, may ask of the server: bytes, nesting, and requests a second."""

from __future__ import annotations

import asyncio
import re
from collections import OrderedDict
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

from grange.errors import OverloadedError, TooLargeError

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]

MAX_NESTING: Final = 64
"""Arrays and objects in one another in a JSON body. Every engine's recursion ends far later."""
MAX_FEATURES: Final = 10_000
"""Features that one request may name."""
_TEXTS: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)', re.DOTALL)
"""Texts, one that is not closed among them. Nothing in it is tried twice, so it takes as long as the body is."""
_BRACKETS: Final = re.compile(rb"[\[{]+|[\]}]+")
_CALLERS: Final = 10_000
"""Callers whose rate is remembered; a caller that is forgotten starts anew with a full bucket."""


class ClientGoneError(Exception):
    """Whoever asked hung up before the request was whole: there is nobody to answer."""


def too_large(found: str, limit: int) -> TooLargeError:
    """The error for a body beyond the limit."""
    return TooLargeError(
        f"a request's body may have {limit:,} bytes",
        found=found,
        try_="send fewer rows at a time, or raise server.max_body",
        details={"limit": limit},
    )


def check_length(headers: MutableMapping[bytes, bytes] | dict[bytes, bytes], limit: int) -> None:
    """Refuse a body that says itself that it is too large, before a byte of it is read.

    Raises:
        TooLargeError: it is.
    """
    said = headers.get(b"content-length")
    if said is not None and limit and said.isdigit() and int(said[:19]) > limit:
        raise too_large(f"{said.decode()} bytes", limit)


async def read_body(receive: Receive, limit: int, timeout: float) -> bytes:
    """The whole body of a request.

    Args:
        receive: of the ASGI application.
        limit: bytes at most; 0 is no limit.
        timeout: seconds for all of it.

    Raises:
        TooLargeError: it goes on beyond the limit.
        OverloadedError: it came too slowly.
        ClientGoneError: it broke off.
    """
    message = await receive()
    body: bytes = message.get("body", b"")
    if message["type"] == "http.disconnect":
        raise ClientGoneError
    if not message.get("more_body", False):
        if limit and len(body) > limit:
            raise too_large(f"{len(body):,} bytes", limit)
        return body
    try:
        async with asyncio.timeout(timeout):
            return await _rest(receive, body, limit)
    except TimeoutError as error:
        raise OverloadedError(
            f"a request's body has {timeout:g} seconds to arrive", found="more of it to come"
        ) from error


async def _rest(receive: Receive, first: bytes, limit: int) -> bytes:
    parts, size, more = [first], len(first), True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGoneError
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if limit and size > limit:
            raise too_large(f"more than {limit:,} bytes", limit)
        more = message.get("more_body", False)
    return b"".join(parts)


def check_features(count: int) -> None:
    """Refuse a request that names more features than any model has.

    Raises:
        TooLargeError: it does.
    """
    if count > MAX_FEATURES:
        raise TooLargeError(
            f"one request may name {MAX_FEATURES:,} features",
            found=f"{count:,}",
            try_="define a feature view, and name that",
            details={"limit": MAX_FEATURES},
        )


def check_nesting(body: bytes, limit: int = MAX_NESTING) -> None:
    """Refuse JSON that is nested deeper than anything that Grange takes. Costs two counts where there is little of it.

    Raises:
        TooLargeError: it is.
    """
    if body.count(b"[") + body.count(b"{") <= limit:
        return
    depth = 0
    for run in _BRACKETS.finditer(_TEXTS.sub(b"", body)):
        count = run.end() - run.start()
        depth += count if run[0][:1] in b"[{" else -count
        if depth > limit:
            raise too_nested(limit)


def too_nested(limit: int = MAX_NESTING) -> TooLargeError:
    """The error for a body that is nested too deeply."""
    return TooLargeError(
        f"a request's body may be nested {limit} deep", found="deeper than that", details={"limit": limit}
    )


class Rates:
    """Requests a second of each caller: a bucket each, which holds as many as a second brings, at least one.

    Args:
        rate: requests a second; 0 is no limit.
    """

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._size = max(1.0, rate)
        self._buckets: OrderedDict[tuple[str, str], tuple[float, float]] = OrderedDict()
        """By caller, how full the bucket was and when."""

    def take(self, caller: tuple[str, str], now: float) -> None:
        """Count one request.

        Args:
            caller: project and id.
            now: seconds of a clock that never goes back.

        Raises:
            OverloadedError: the bucket is empty; says when there is room again.
        """
        if not self._rate:
            return
        level, since = self._buckets.pop(caller, (self._size, now))
        level = min(self._size, level + (now - since) * self._rate)
        allowed = level >= 1
        self._buckets[caller] = (level - 1 if allowed else level), now
        if len(self._buckets) > _CALLERS:
            self._buckets.popitem(last=False)
        if not allowed:
            wait = (1 - level) / self._rate
            raise OverloadedError(
                f"more than {self._rate:g} requests a second",
                try_=f"come again in {wait:.3g} seconds",
                details={"retry_after": wait},
            )
