"""Names: what a definition may be called, so that a name is safe in a path, a table and a URL."""

from __future__ import annotations

import re

from grange.errors import DefinitionError

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,127}")
_VERSION = re.compile(r"(0|[1-9]\d{0,8})\.(0|[1-9]\d{0,8})\.(0|[1-9]\d{0,8})", re.ASCII)

SEQUENCE = "__sequence"
"""The stored column that orders rows of equal times: the row written last has the largest (PIT-3)."""
EVENT_TIME = "__event_time"
"""The stored event-time column of groups whose source has none."""
RESERVED_PREFIX = "__"


def check_name(name: object, *, what: str) -> str:
    """A name of letters, digits and underscores that starts with a letter, at most 128 long.

    Raises:
        DefinitionError: the name is something else; suggests a valid one.
    """
    if isinstance(name, str) and _NAME.fullmatch(name):
        return name
    suggestion = re.sub(r"\W+", "_", str(name)).strip("_")[:128] or "name"
    raise DefinitionError(
        f"{what} name {name!r} must be letters, digits and underscores, starting with a letter",
        try_=f"call it {suggestion if suggestion[0].isalpha() else 'x_' + suggestion!s}",
    )


def check_column(name: object, *, what: str) -> str:
    """A column name: not empty, not starting with the reserved `__`, no line breaks.

    Raises:
        DefinitionError: the name is something else.
    """
    if isinstance(name, str) and name.strip() and not name.startswith(RESERVED_PREFIX) and name.isprintable():
        return name
    raise DefinitionError(f"{what}: column name {name!r} is empty, not printable, or starts with the reserved '__'")


def parse_version(text: str) -> tuple[int, int, int] | None:
    """`(MAJOR, MINOR, PATCH)` of `"1.0.2"`; None when the text is not a version."""
    match = _VERSION.fullmatch(text)
    return (int(match[1]), int(match[2]), int(match[3])) if match else None
