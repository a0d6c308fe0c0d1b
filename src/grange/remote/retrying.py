"""One request with its retries, as a generator: it decides, and whoever runs it sends and waits.

What may be sent again: anything that the server certainly did not see; besides, what changes nothing, and what has an
Idempotency-Key, of which the server does the work once. A write that the server itself answers with an outage is not:
a part of it may be done.

Waits are drawn from `[0, min(cap, base * 2^n)]` (full jitter), so that many clients do not come back together, and are
never shorter than `Retry-After` asks.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from grange.errors import GrangeError, StateLostError, StoreUnavailableError
from grange.remote.failures import class_of, envelope_of, error_of, outage
from grange.remote.messages import Exchange, Failure, Pause, Request, Response, Send

BUSY: Final = frozenset({429, 502, 503, 504})
"""Statuses of a server, or of what stands before it, that may answer another time."""
REPLAYED: Final = "idempotency-replayed"
"""The header of an answer that is a kept one: asking again brings it again."""
NOT_MODIFIED: Final = 304
"""An answer to who asked whether there is anything new."""
_LEAST: Final = 0.001


@dataclass(frozen=True, slots=True)
class Policy:
    """How often and how long."""

    retries: int
    timeout: float | None = None
    """Seconds for all tries together; the request's own patience without."""
    base: float = 0.1
    cap: float = 5.0
    clock: Callable[[], float] = time.monotonic
    """Seconds; where they begin does not matter."""
    draw: Callable[[float, float], float] = random.uniform


def exchange(request: Request, policy: Policy, url: str) -> Exchange[Response]:
    """Send a request until it is answered, or until it is of no use.

    Args:
        request: what to send.
        policy: how often and how long.
        url: of the server, for messages.

    Raises:
        GrangeError: what the server answered; or StoreUnavailableError when it did not, or not in time.
    """
    began = policy.clock()
    patience = policy.timeout or request.patience
    tries = 0
    while True:
        left = patience - (policy.clock() - began)
        result: Response | Failure = yield Send(request, max(left, _LEAST))
        tries += 1
        if isinstance(result, Response) and (result.status < 300 or result.status == NOT_MODIFIED):
            return result
        wait = None if tries > policy.retries else _wait(request, result, tries, policy)
        if wait is None or wait >= patience - (policy.clock() - began):
            raise error_of(result, url) if isinstance(result, Response) else outage(result, url, tries=tries)
        yield Pause(wait)


def _wait(request: Request, result: Response | Failure, tries: int, policy: Policy) -> float | None:
    """Seconds until the next try; None when there is to be none."""
    jitter = policy.draw(0.0, min(policy.cap, policy.base * 2 ** (tries - 1)))
    if isinstance(result, Failure):
        may = not result.permanent and (result.unsent or request.repeatable)
        return jitter if may else None
    asked = retry_after(result)
    # a conflict that says when to come again: the same Idempotency-Key is being worked on
    passing = result.status in BUSY or (result.status == 409 and asked is not None)
    kept = result.headers.get(REPLAYED, "").lower() == "true"
    if not passing or not request.repeatable or kept or (request.changes and _tells(result, StoreUnavailableError)):
        return None
    if _tells(result, StateLostError):  # until somebody loads it again there is nothing to wait for
        return None
    return max(asked or 0.0, jitter)


def _tells(response: Response, kind: type[GrangeError]) -> bool:
    """Whether it is Grange that says so, and not what stands before it."""
    said = envelope_of(response)
    return said is not None and issubclass(class_of(said["code"], response.status), kind)


def retry_after(response: Response) -> float | None:
    """Seconds that an answer asks to wait; None when it does not say. A date is not understood: waits are short."""
    text = response.headers.get("retry-after", "").strip()
    if text.isdecimal():
        return float(text)
    said = envelope_of(response) or {}
    told = (said.get("details") or {}).get("retry_after")
    return float(told) if isinstance(told, int | float) else None
