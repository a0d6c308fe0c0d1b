"""Lists a page at a time, by cursor.

A cursor says behind which item to go on, by the value that the list is ordered by: what is inserted or removed
meanwhile moves nothing. It is checked when it comes back, and is of one list alone.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final, TypeVar

import msgspec
from fastapi import Query

from grange.errors import RequestError

MOST: Final = 1000
USUAL: Final = 100

T = TypeVar("T")

Limit = Annotated[int, Query(ge=1, le=MOST, description="At most so many items.")]
Cursor = Annotated[str | None, Query(max_length=2048, description="Where to go on: `next` of the page before.")]


@dataclass(frozen=True, slots=True)
class Page:
    """Which part of a list is asked for."""

    limit: int = USUAL
    cursor: str | None = None


def paged(
    items: Iterable[T],
    page: Page,
    *,
    key: Callable[[T], Any],
    of: str,
    show: Callable[[T], Any],
    descending: bool = False,
) -> dict[str, Any]:
    """One page of a list: `{"items": [...], "next": cursor}`; the cursor is null behind the last item.

    Args:
        items: all of the list, in any order.
        page: which part.
        key: what orders it: text, numbers or a tuple of them; of each item another.
        of: what list this is, with its filters: a cursor of another one is refused.
        show: an item as the answer has it.
        descending: whether it goes from the greatest to the least.

    Raises:
        RequestError: a cursor that is none, or of another list.
    """
    ordered = sorted(items, key=key, reverse=descending)
    if page.cursor is not None:
        after = _opened(page.cursor, of)
        try:
            ordered = [item for item in ordered if (key(item) < after if descending else key(item) > after)]
        except TypeError as error:
            raise _no_cursor(page.cursor) from error
    shown = ordered[: page.limit]
    more = len(ordered) > page.limit
    return {"items": [show(item) for item in shown], "next": _sealed(key(shown[-1]), of) if more else None}


def _sealed(place: Any, of: str) -> str:
    body = msgspec.json.encode(place)
    return base64.urlsafe_b64encode(_check(body, of) + body).decode().rstrip("=")


def _opened(cursor: str, of: str) -> Any:
    try:
        raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        check, body = raw[:_CHECK], raw[_CHECK:]
        if check != _check(body, of):
            raise _no_cursor(cursor)
        place = msgspec.json.decode(body)
    except (binascii.Error, ValueError) as error:
        if isinstance(error, RequestError):
            raise
        raise _no_cursor(cursor) from error
    return tuple(place) if isinstance(place, list) else place


_CHECK: Final = 8


def _check(body: bytes, of: str) -> bytes:
    """Bytes that tell a cursor that was altered, or is of another list. A cursor holds no secret and gives no right."""
    return hashlib.blake2b(body, key=of.encode()[:64], digest_size=_CHECK).digest()


def _no_cursor(cursor: str) -> RequestError:
    return RequestError(
        "this cursor is not of this list", found=f"{cursor:.40}",
        try_="next of the page before, with the same filters; or none, from the beginning",
    )  # fmt: skip


def chosen(data: Mapping[str, Any], fields: str | None) -> dict[str, Any]:
    """Only some fields of an item, in the order of the item.

    Args:
        data: the item.
        fields: their names, with commas between them; None is all.

    Raises:
        RequestError: a field that it does not have.
    """
    if fields is None:
        return dict(data)
    wanted = [name.strip() for name in fields.split(",") if name.strip()]
    unknown = [name for name in wanted if name not in data]
    if unknown or not wanted:
        raise RequestError(f"no field {unknown[0]!r}" if unknown else "no field is named", found=", ".join(data))
    return {name: value for name, value in data.items() if name in wanted}
