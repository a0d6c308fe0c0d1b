"""Entity tags: the fingerprint of a definition, so that what has not changed is not sent, and what changed meanwhile is
not overwritten."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from starlette.responses import Response

from grange.errors import PreconditionError

if TYPE_CHECKING:
    from starlette.requests import Request

IF_MATCH: Final = "if-match"
IF_NONE_MATCH: Final = "if-none-match"


def etag(fingerprint: str) -> str:
    """The tag of a definition."""
    return f'"{fingerprint[:32]}"'


def not_modified(request: Request, tag: str) -> Response | None:
    """304 where the client has what there is."""
    given = request.headers.get(IF_NONE_MATCH)
    if given is not None and _names(given, tag):
        return Response(status_code=304, headers={"ETag": tag})
    return None


def check_match(request: Request, tag: str | None, *, what: str) -> None:
    """Check the conditions of a write.

    Args:
        request: with `If-Match` or `If-None-Match`, or neither.
        tag: of what is there; None where nothing is.
        what: what is to be written, for the message.

    Raises:
        PreconditionError: one of them does not hold; nothing was changed.
    """
    match, none_match = request.headers.get(IF_MATCH), request.headers.get(IF_NONE_MATCH)
    if match is not None and (tag is None or not _names(match, tag)):
        raise PreconditionError(
            f"{what} is not what you saw",
            found="nothing" if tag is None else f"ETag {tag}",
            try_="read it again, and send If-Match with its ETag",
        )
    if none_match is not None and tag is not None and _names(none_match, tag):
        raise PreconditionError(
            f"{what} is there already", found=f"ETag {tag}", try_="leave If-None-Match out to replace it"
        )


def _names(header: str, tag: str) -> bool:
    listed = [item.strip().removeprefix("W/") for item in header.split(",")]
    return "*" in listed or tag in listed
