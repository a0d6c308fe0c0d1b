"""What hot routes are given and give back: a request's body and its answer, as bytes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs

import msgspec

from grange.http.errors import envelope, headers_of, status_of

if TYPE_CHECKING:
    from grange.errors import GrangeError
    from grange.http.context import Caller

JSON: Final = "application/json"
MSGPACK: Final = "application/msgpack"
ARROW: Final = "application/vnd.apache.arrow.stream"
TEXT: Final = "text/plain; charset=utf-8"

Headers = Mapping[bytes, bytes]
"""Of a request: lower-case names; of several with one name the last."""


@dataclass(slots=True)
class Call:
    """One request to a hot route, body and all."""

    body: bytes
    headers: Headers
    caller: Caller
    query: bytes = b""
    """As it stands behind the `?`, without it."""

    @property
    def content_type(self) -> str:
        """What the body is, without parameters, in lower case; empty when the request does not say."""
        return self.headers.get(b"content-type", b"").partition(b";")[0].strip().lower().decode("latin-1")

    @property
    def accept(self) -> str:
        """What answers are taken, as the header has it; empty when the request does not say."""
        return self.headers.get(b"accept", b"").decode("latin-1")

    def parameters(self) -> dict[str, list[str]]:
        """The query's parameters, each with its values."""
        return parse_qs(self.query.decode("latin-1"), keep_blank_values=True, max_num_fields=200)


@dataclass(slots=True)
class Reply:
    """One answer of a hot route."""

    status: int
    body: bytes
    content_type: str = JSON
    headers: tuple[tuple[str, str], ...] = ()
    view: str = ""
    """The feature view that was read, for metrics; empty when it was none."""
    chunks: Iterable[bytes] | None = None
    """What follows `body`, for answers that are sent piece by piece."""


Handler = Callable[[Call], Reply | Awaitable[Reply]]
"""Answers one hot route. It runs on the event loop: what waits for anything awaits it."""

_ENCODER: Final = msgspec.json.Encoder()


def json_reply(body: Any, status: int = 200, headers: tuple[tuple[str, str], ...] = ()) -> Reply:
    """An answer in JSON. NaN and the infinities become null; times are ISO 8601, bytes base64, decimals text."""
    return Reply(status, _ENCODER.encode(body), JSON, headers)


def error_reply(error: GrangeError, request_id: str) -> Reply:
    """An error's answer, in the one envelope."""
    return Reply(
        status_of(error),
        _ENCODER.encode(msgspec.to_builtins(envelope(error, request_id), enc_hook=str)),
        JSON,
        tuple(headers_of(error).items()),
    )
