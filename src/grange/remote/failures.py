"""Error answers as the errors that the embedded store raises, and no answer at all as an outage (ONL-6)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

from grange import errors
from grange.errors import (
    ConflictError,
    ForbiddenError,
    GrangeError,
    NotFoundError,
    OverloadedError,
    RequestError,
    StorageFullError,
    StoreUnavailableError,
    TooLargeError,
    UnauthenticatedError,
)
from grange.remote.messages import Failure, Response

_HINTS: Final = ("asked_by", "found", "closest", "try", "type", "retry")
"""What an envelope's details have beside the error's own."""
_BY_STATUS: Final[Mapping[int, type[GrangeError]]] = {
    401: UnauthenticatedError,
    403: ForbiddenError,
    404: NotFoundError,
    409: ConflictError,
    412: ConflictError,
    413: TooLargeError,
    422: RequestError,
    429: OverloadedError,
    502: StoreUnavailableError,
    503: StoreUnavailableError,
    504: StoreUnavailableError,
    507: StorageFullError,
}
"""For codes that are not known here: those of newer servers, and of whatever stands between."""
_SHOWN: Final = 120
"""Characters of an answer that is no envelope that a message shows."""


def error_of(response: Response, url: str) -> GrangeError:
    """The error that an answer is.

    Args:
        response: an answer of status 300 or more.
        url: of the server, for people.
    """
    said = envelope_of(response)
    if said is None:
        return _unexpected(response, url)
    error = error_from(said, status=response.status)
    named = said.get("request_id") or response.headers.get("x-request-id")
    if named:
        error.add_note(f"request {named} to {url}")
    return error


def error_from(said: Mapping[str, Any], *, status: int = 0) -> GrangeError:
    """An error as an envelope, or a failed job, tells it.

    Args:
        said: its `code`, `message` and `details`.
        status: of the answer, for a code that is not known here.
    """
    details = dict(said.get("details") or {})
    hints = {name: details.pop(name, None) for name in _HINTS}
    kind = class_of(said["code"], status)
    if kind.code != said["code"]:
        details["code"] = said["code"]
    closest = hints["closest"] or ()
    error = kind(
        said["message"],
        asked_by=_text(hints["asked_by"]),
        found=_text(hints["found"]),
        closest=closest.split(", ") if isinstance(closest, str) else [str(name) for name in closest],
        try_=_text(hints["try"]),
        details=details,
    )
    if hints["retry"] is not None:
        error.retry = bool(hints["retry"])
    return error


def outage(failure: Failure, url: str, *, tries: int) -> StoreUnavailableError:
    """No answer, after some tries, as an error."""
    again = "" if tries == 1 else f" in {tries} tries"
    error = StoreUnavailableError(
        f"the server {url} did not answer{again}",
        found=failure.reason,
        try_="look at its certificate, or verify='ca.pem'" if failure.permanent else f"curl {url}/health/ready",
        details={"tries": tries},
    )
    error.retry = not failure.permanent
    return error


def _unexpected(response: Response, url: str) -> GrangeError:
    """An answer that Grange does not give: of a proxy, or of another program."""
    kind = _BY_STATUS.get(response.status, GrangeError)
    place = response.headers.get("location")
    shown = response.body[:_SHOWN].decode("utf-8", "replace").strip()
    return kind(
        f"{url} answered {response.status}, and not as a Grange server does",
        found=f"a redirect to {place}" if place else shown or "an empty answer",
        try_="give the URL that it redirects to" if place else "look at the URL, and at what stands before the server",
        details={"status": response.status},
    )


def class_of(code: str, status: int) -> type[GrangeError]:
    """The class of an error by its code; of one that is not known here by the answer's status."""
    return _BY_CODE.get(code) or _BY_STATUS.get(status, GrangeError)


def envelope_of(response: Response) -> dict[str, Any] | None:
    """What an error answer says; None when it is none of Grange's."""
    try:
        data = msgspec.json.decode(response.body)
    except msgspec.DecodeError:
        return None
    said = data.get("error") if isinstance(data, dict) else None
    whole = isinstance(said, dict) and isinstance(said.get("code"), str) and isinstance(said.get("message"), str)
    return said if whole else None


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _every(kind: type[GrangeError]) -> Iterator[type[GrangeError]]:
    yield kind
    for child in kind.__subclasses__():
        yield from _every(child)


_BY_CODE: Final[Mapping[str, type[GrangeError]]] = {
    kind.code: kind for kind in _every(GrangeError) if kind.__module__ == errors.__name__
}
