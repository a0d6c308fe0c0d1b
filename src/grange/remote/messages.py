"""What goes out and comes back, as values."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeVar

Method = Literal["GET", "POST", "PUT", "DELETE"]
Query = Mapping[str, "str | float | bool | list[str] | None"]

JSON: Final = "application/json"
MSGPACK: Final = "application/msgpack"
ARROW: Final = "application/vnd.apache.arrow.stream"

QUICK: Final = 10.0
NORMAL: Final = 60.0
LONG: Final = 600.0


@dataclass(frozen=True, slots=True)
class Request:
    """One question to the server, relative to its address."""

    method: Method
    path: str
    """From the root: `/api/v1/search`; its parts are quoted."""
    query: Query = field(default_factory=dict)
    """Parameters that are None are left out, lists are repeated."""
    body: bytes = b""
    content_type: str = JSON
    accept: str = JSON
    headers: Mapping[str, str] = field(default_factory=dict)
    patience: float = NORMAL
    """Seconds that the whole exchange may take, retries included, unless the store says otherwise."""
    repeatable: bool = True
    """Whether it may be sent again when nobody knows what became of it: it changes nothing, or has an
    Idempotency-Key."""
    changes: bool = False
    """Whether it is a write. One that a server answers by telling of an outage is not sent again: a part of it may be
    done, as of a push whose rows are in history and not online yet."""


@dataclass(frozen=True, slots=True)
class Response:
    """What the server said."""

    status: int
    headers: Mapping[str, str]
    """By lower-case name."""
    body: bytes = b""

    @property
    def content_type(self) -> str:
        """Without its parameters, in lower case."""
        return self.headers.get("content-type", "").split(";")[0].strip().lower()


@dataclass(frozen=True, slots=True)
class Failure:
    """No answer came."""

    reason: str
    """In words, without anything secret."""
    unsent: bool = False
    """Whether the server certainly saw nothing of the request."""
    permanent: bool = False
    """Whether trying again is of no use: a certificate that is not trusted."""


@dataclass(frozen=True, slots=True)
class Send:
    """To a driver: send a request, and hand back a `Response` or a `Failure`."""

    request: Request
    timeout: float
    """Seconds until a `Failure` is to come back."""


@dataclass(frozen=True, slots=True)
class Pause:
    """To a driver: wait, and hand back None."""

    seconds: float


Answered = TypeVar("Answered")
Step = Send | Pause
"""What is asked of whoever runs a call."""
Exchange = Generator[Step, Any, Answered]
"""A conversation with the server as its driver sees it: steps out, what came of them in, an answer at the end."""
Call = Generator[Request | Pause, Any, Answered]
"""A verb: requests out, responses that are no errors in."""
