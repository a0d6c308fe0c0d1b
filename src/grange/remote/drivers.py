"""What runs exchanges: the two places that touch the network and wait, one for threads and one for asyncio."""

from __future__ import annotations

import asyncio
import os
import ssl
import time
import weakref
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlencode

import httpx

from grange.remote.address import Address, is_loopback
from grange.remote.messages import Answered, Call, Exchange, Failure, Pause, Request, Response, Send
from grange.remote.retrying import Policy, exchange

CONNECT_SECONDS: Final = 5.0
GRACE_SECONDS: Final = 0.5
"""A coroutine is cut off so much after its time: where a single step takes too long the client ends it first and closes
what it opened, which it does not of a connection in the making that is cut off."""
IDLE_SECONDS: Final = 30.0
"""How long a connection is kept that is not used: less than servers keep it, so that none is used as it is closed."""
CONNECTIONS: Final = 20
"""At once; further requests wait for one. The client looks at each of them for every request: many cost more than they
bring."""


def conversation(call: Call[Answered], policy: Policy, url: str) -> Exchange[Answered]:
    """A verb, each of its requests with its retries. What the server refuses is raised inside the verb."""
    try:
        step = next(call)
        while True:
            if isinstance(step, Pause):
                yield step
                step = call.send(None)
                continue
            try:
                response = yield from exchange(step, policy, url)
            except Exception as error:  # noqa: BLE001 - not handled here: handed to the verb, which may
                step = call.throw(error)
            else:
                step = call.send(response)
    except StopIteration as done:
        answer: Answered = done.value
        return answer


@dataclass(slots=True)
class Blocking:
    """Runs verbs in the calling thread. Safe for several threads and after a fork: a child opens its own."""

    address: Address
    policy: Policy
    transport: httpx.BaseTransport | None = None
    """Instead of the network."""
    _clients: dict[int, httpx.Client] = field(default_factory=dict)
    """By process."""

    def run(self, call: Call[Answered]) -> Answered:
        """The answer of a verb.

        Raises:
            GrangeError: what the server answers, or that it does not.
        """
        steps = conversation(call, self.policy, self.address.url)
        try:
            step = next(steps)
            while True:
                if isinstance(step, Pause):
                    time.sleep(step.seconds)
                    step = steps.send(None)
                else:
                    step = steps.send(self._sent(step))
        except StopIteration as done:
            answer: Answered = done.value
            return answer
        finally:
            steps.close()

    def close(self) -> None:
        """Let go of the connections. What comes after opens others."""
        client = self._clients.pop(os.getpid(), None)
        if client is not None:
            client.close()

    def _client(self) -> httpx.Client:
        client = self._clients.get(os.getpid())
        if client is None:
            made = httpx.Client(transport=self.transport, **_settings(self.address))
            client = self._clients.setdefault(os.getpid(), made)
            if client is not made:  # another thread was first
                made.close()
        return client

    def _sent(self, send: Send) -> Response | Failure:
        client = self._client()
        until = time.monotonic() + send.timeout
        try:
            response = client.send(client.build_request(**_asked(self.address, send)), stream=True)
            try:
                chunks = []
                for chunk in response.iter_bytes():
                    chunks.append(chunk)
                    if time.monotonic() > until:
                        return _too_long(send)
            finally:
                response.close()
        except (httpx.TransportError, httpx.DecodingError) as error:
            return _failure(error)
        return Response(response.status_code, _lowered(response), b"".join(chunks))


@dataclass(slots=True)
class Awaiting:
    """Runs verbs as coroutines of asyncio. Each event loop has connections of its own."""

    address: Address
    policy: Policy
    transport: httpx.AsyncBaseTransport | None = None
    """Instead of the network."""
    _clients: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, httpx.AsyncClient] = field(
        default_factory=weakref.WeakKeyDictionary
    )

    async def run(self, call: Call[Answered]) -> Answered:
        """The answer of a verb.

        Raises:
            GrangeError: what the server answers, or that it does not.
        """
        steps = conversation(call, self.policy, self.address.url)
        try:
            step = next(steps)
            while True:
                if isinstance(step, Pause):
                    await asyncio.sleep(step.seconds)
                    step = steps.send(None)
                else:
                    step = steps.send(await self._sent(step))
        except StopIteration as done:
            answer: Answered = done.value
            return answer
        finally:
            steps.close()

    async def close(self) -> None:
        """Let go of this event loop's connections. What comes after opens others."""
        client = self._clients.pop(asyncio.get_running_loop(), None)
        if client is not None:
            await client.aclose()

    def _client(self) -> httpx.AsyncClient:
        loop = asyncio.get_running_loop()
        if loop not in self._clients:
            self._clients[loop] = httpx.AsyncClient(transport=self.transport, **_settings(self.address))
        return self._clients[loop]

    async def _sent(self, send: Send) -> Response | Failure:
        client = self._client()
        try:
            async with asyncio.timeout(send.timeout + GRACE_SECONDS):
                response = await client.send(client.build_request(**_asked(self.address, send)))
        except TimeoutError:
            return _too_long(send)
        except (httpx.TransportError, httpx.DecodingError) as error:
            return _failure(error)
        return Response(response.status_code, _lowered(response), response.content)


def _settings(address: Address) -> dict[str, Any]:
    """Of a client: who asks, whom to trust, how many connections."""
    return {
        "headers": {"User-Agent": "grange", **address.headers()},
        "verify": address.trust(),
        "limits": httpx.Limits(
            max_connections=CONNECTIONS, max_keepalive_connections=CONNECTIONS, keepalive_expiry=IDLE_SECONDS
        ),
        # a proxy of the environment is never asked for this machine itself
        "trust_env": not is_loopback(address.host),
    }


def _asked(address: Address, send: Send) -> dict[str, Any]:
    """A request as the client takes it."""
    request = send.request
    headers = {"Accept": request.accept, **request.headers}
    if request.body:
        headers["Content-Type"] = request.content_type
    connect = min(CONNECT_SECONDS, send.timeout)
    return {
        "method": request.method,
        "url": address.url + request.path + _query(request),
        "content": request.body or None,
        "headers": headers,
        "timeout": httpx.Timeout(send.timeout, connect=connect),
    }


def _query(request: Request) -> str:
    pairs = [
        (name, _said(item))
        for name, value in request.query.items()
        if value is not None
        for item in (value if isinstance(value, list) else [value])
    ]
    return f"?{urlencode(pairs)}" if pairs else ""


def _said(value: str | float | bool) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _lowered(response: httpx.Response) -> Mapping[str, str]:
    return {name.lower(): value for name, value in response.headers.items()}


_UNSENT: Final = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError)
"""What goes wrong before anything is sent."""
_WORDS: Final[Mapping[type[Exception], str]] = {
    httpx.ConnectTimeout: "no connection in time",
    httpx.ReadTimeout: "no answer in time",
    httpx.WriteTimeout: "the request could not be sent in time",
    httpx.PoolTimeout: "all connections were in use",
}


def _failure(error: httpx.TransportError | httpx.DecodingError) -> Failure:
    """What went wrong between here and the server, as a value."""
    reason = _WORDS.get(type(error)) or str(error) or type(error).__name__
    return Failure(reason, unsent=isinstance(error, _UNSENT), permanent=_of_certificate(error))


def _too_long(send: Send) -> Failure:
    return Failure(f"the answer did not end within {send.timeout:.1f} s")


def _of_certificate(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError) or "CERTIFICATE_VERIFY_FAILED" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False
