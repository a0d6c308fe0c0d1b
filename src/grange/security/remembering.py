"""What was proven a moment ago and need not be proven again: bounded in number and in age."""

from __future__ import annotations

import datetime as dt
import threading
from dataclasses import dataclass, replace
from typing import Final

from grange.security.principals import Principal

FRESH: Final = dt.timedelta(seconds=5)
"""How long what was read of the registry is taken for true: a revoked key or a new policy works within that time
(SEC-3)."""
_MOST: Final = 4096


@dataclass(frozen=True, slots=True)
class Proven:
    """A principal that was proven."""

    principal: Principal
    since: dt.datetime
    """It counts from here on, inclusive."""
    until: dt.datetime
    """Until here it counts without asking again; exclusive."""
    expires_at: dt.datetime | None
    """From here on it does not count, whatever else. None: never."""
    confirmed_at: dt.datetime
    """When whoever keeps it last said so."""

    @classmethod
    def now(cls, principal: Principal, expires_at: dt.datetime | None, now: dt.datetime) -> Proven:
        """It was confirmed at this moment."""
        return cls(principal, now, _earlier(now + FRESH, expires_at), expires_at, now)

    def again(self, now: dt.datetime) -> Proven:
        """It counts for a while longer, though it could not be confirmed."""
        return replace(self, since=now, until=_earlier(now + FRESH, self.expires_at))

    def counts(self, now: dt.datetime) -> bool:
        """Whether it need not be proven again."""
        return self.since <= now < self.until

    def limit(self, outage: dt.timedelta) -> dt.datetime:
        """Until when it may go on unconfirmed; exclusive."""
        return _earlier(self.confirmed_at + outage, self.expires_at)


def _earlier(moment: dt.datetime, end: dt.datetime | None) -> dt.datetime:
    return moment if end is None else min(moment, end)


class Remembered:
    """Principals by the hash of what proved them. Safe for several threads.

    Only hashes are kept, so that no secret stays in memory, and comparing keys of a dict tells nothing of one.
    """

    def __init__(self, most: int = _MOST) -> None:
        self._most = most
        self._proven: dict[bytes, Proven] = {}
        self._lock = threading.Lock()

    def get(self, digest: bytes) -> Proven | None:
        """What is remembered, whether it still counts or not."""
        return self._proven.get(digest)

    def put(self, digest: bytes, proven: Proven) -> None:
        """Remember; what was remembered first is forgotten when there is too much."""
        with self._lock:
            self._proven.pop(digest, None)
            while len(self._proven) >= self._most:
                del self._proven[next(iter(self._proven))]
            self._proven[digest] = proven

    def forget(self, digest: bytes) -> None:
        """It is no longer true."""
        with self._lock:
            self._proven.pop(digest, None)

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._proven.clear()
