"""Plain data as the tables keep it: strict JSON text, and marks by which values are found again."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any, Final

from grange.errors import CorruptStoreError, RequestError

MAX_TEXT: Final = 512
"""Characters of a key: in UTF-8 they fit into an index of either database."""
MAX_LIMIT: Final = 2**31 - 1


def json_text(value: Mapping[str, Any], what: str) -> str:
    """JSON text that reads back as the same value (tuples as lists). It is ASCII.

    Raises:
        RequestError: something in it would not; names where.
    """
    _check_json(value, "$", what)
    return json.dumps(value, allow_nan=False, separators=(",", ":"))


def parsed(text: str, what: str, shown: str) -> dict[str, Any]:
    """The inverse of `json_text`.

    Args:
        text: as stored.
        what: whose it is, for messages.
        shown: the registry, for messages.

    Raises:
        CorruptStoreError: it is not the text of a JSON object.
    """
    try:
        value = json.loads(text)
    except (TypeError, ValueError, RecursionError) as error:
        raise _unreadable(what, shown, str(error)) from error
    if not isinstance(value, dict):
        raise _unreadable(what, shown, f"{type(value).__name__} where a mapping was written")
    return value


def mark(*values: str | int | bool) -> str:
    """A short text that equal values, and only they, have. Text, integers and booleans are never equal."""
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()[:32]


def check_text(value: object, what: str, *, shortest: int = 1, longest: int | None = MAX_TEXT) -> str:
    """A text of printable characters.

    Args:
        value: what was given.
        what: what it is, for messages.
        shortest: characters that it has at least.
        longest: characters that it has at most; None is no limit.

    Raises:
        RequestError: something else.
    """
    if not isinstance(value, str) or not value.isprintable():
        raise RequestError(f"{what} must be printable text", found=f"{value!r:.80}")
    if len(value) < shortest or (longest is not None and len(value) > longest):
        raise RequestError(f"{what} must have {shortest} to {longest} characters", found=f"{len(value)} characters")
    return value


def check_name(name: object, what: str, *, example: str) -> str:
    """The name of a list of facts: letters, digits and underscores.

    Raises:
        RequestError: something else.
    """
    checked = check_text(name, f"the name of a {what}")
    if checked.replace("_", "a").isalnum() and checked.isascii():
        return checked
    raise RequestError(f"{what} {name!r} must be letters, digits and underscores", try_=example)


def wanted_mark(of: str, name: str, value: object, what: str) -> str:
    """The mark of a field's value that is asked for.

    Raises:
        RequestError: a value of which there are no marks.
    """
    if isinstance(value, str | int):
        return mark(of, name, value)
    raise RequestError(
        f"{what} can be asked for by text, integers and booleans, and {name!r} is none of them",
        found=f"{value!r} ({type(value).__name__})",
    )


def check_limit(limit: int) -> None:
    """A number of things that may be asked for.

    Raises:
        RequestError: a negative one, or one beyond all databases.
    """
    if not 0 <= limit <= MAX_LIMIT:
        raise RequestError(f"limit must be 0 to {MAX_LIMIT}, got {limit}")


def _unreadable(what: str, shown: str, found: str) -> CorruptStoreError:
    return CorruptStoreError(
        f"{what} in the registry {shown} cannot be read",
        found=found,
        try_="restore a backup of the registry, or apply the definitions to a new one",
    )


def _check_json(value: Any, path: str, what: str) -> None:
    match value:
        case None | bool() | int() | str():
            return
        case float() if math.isfinite(value):
            return
        case list() | tuple():
            for position, item in enumerate(value):
                _check_json(item, f"{path}[{position}]", what)
            return
        case dict() if all(isinstance(key, str) for key in value):
            for key, item in value.items():
                _check_json(item, f"{path}.{key}", what)
            return
        case _:
            raise RequestError(
                f"{what} is not plain JSON data at {path}",
                found=f"{value!r} ({type(value).__name__})",
                details={"path": path},
            )
