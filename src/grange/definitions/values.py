"""Frozen and plain forms of the small values that definitions hold."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Mapping
from typing import Any

from grange.errors import DefinitionError
from grange.types import format_duration, parse_duration
from grange.types.time import isoformat, to_utc


def freeze_tags(tags: Mapping[str, str] | None, *, what: str) -> tuple[tuple[str, str], ...]:
    """Tags as sorted pairs of text, so that equal tags are equal values."""
    pairs = tuple(sorted((tags or {}).items()))
    for key, value in pairs:
        if not isinstance(key, str) or not isinstance(value, str):
            raise DefinitionError(f"{what}: tags are text to text, got {key!r}: {value!r}")
    return pairs


def to_plain(value: Any) -> Any:
    """A default, bound or allowed value as JSON has it; what JSON lacks is a mapping of its kind to its text."""
    match value:
        case dt.datetime():
            return {"datetime": isoformat(to_utc(value))}
        case dt.date():
            return {"date": value.isoformat()}
        case dt.timedelta():
            return {"duration": format_duration(value)}
        case float() if not math.isfinite(value):
            return {"float": str(value)}
        case bytes():
            return {"binary": value.hex()}
        case list() | tuple():
            return [to_plain(item) for item in value]
        case _:
            return value


def from_plain(value: Any) -> Any:
    """The inverse of `to_plain`."""
    match value:
        case {"datetime": text}:
            return to_utc(text)
        case {"date": text}:
            return dt.date.fromisoformat(text)
        case {"duration": text}:
            return parse_duration(text)
        case {"float": text}:
            return float(text)
        case {"binary": text}:
            return bytes.fromhex(text)
        case list():
            return [from_plain(item) for item in value]
        case _:
            return value
