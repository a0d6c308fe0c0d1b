"""Secrets taken out of what is written down. What is left is plain JSON."""

from __future__ import annotations

import datetime as dt
import math
import re
from collections.abc import Mapping
from typing import Any, Final

from grange.security.key_text import PREFIX
from grange.types.time import isoformat

MASK: Final = "***"
_LONGEST: Final = 1000
"""Characters of one text."""
_MOST: Final = 100
"""Items of one list or mapping."""
_DEEPEST: Final = 6
_EXACT: Final = 2**53 - 1
"""Beyond it readers of JSON do not agree on integers."""

_SECRET_NAMES: Final = re.compile(
    r"pass(word|wd|phrase)?|secret|token|credential|authorization|cookie|signature|api_?key|private_?key|"
    r"(access|secret|account|encryption|sas)_?key",
    re.IGNORECASE,
)
_KEY: Final = re.compile(rf"({PREFIX}_[a-z0-9]+_[a-z2-7]+)_[0-9A-Za-z]+", re.ASCII)
_TOKEN: Final = re.compile(r"\beyJ[\w-]{5,}\.[\w-]*\.[\w-]*", re.ASCII)
_BEARER: Final = re.compile(r"\b(bearer|basic)\s+[\w.~+/=-]+", re.IGNORECASE | re.ASCII)
# greedy up to the last @: a password with an unescaped / or @ is masked whole
_URL_PASSWORD: Final = re.compile(r"(?<=://)([^\s:/@]*):\S*@")
_PARAMETER: Final = re.compile(rf"\b(\w*(?:{_SECRET_NAMES.pattern})\w*)(\s*[=:]\s*)[^\s&;,]+", re.IGNORECASE | re.ASCII)


def scrubbed_text(text: str) -> str:
    """A text without the secrets that can be told from it: keys (their ids stay), tokens, passwords in URLs and
    `password=...` of any kind."""
    length = len(text)
    # what comes of a request may be long, and a search in it must not take long: no secret is as long as the rest
    text = text[: 2 * _LONGEST]
    text = _KEY.sub(rf"\1_{MASK}", text)
    text = _TOKEN.sub(MASK, text)
    text = _BEARER.sub(rf"\1 {MASK}", text)
    text = _URL_PASSWORD.sub(rf"\1:{MASK}@", text)
    text = _PARAMETER.sub(rf"\1\2{MASK}", text)
    return text if length <= _LONGEST else text[:_LONGEST] + f"... ({length} characters)"


def scrubbed(details: Mapping[str, Any]) -> dict[str, Any]:
    """Details as strict JSON, without what is named like a secret or looks like one; long ones cut."""
    plain: dict[str, Any] = _scrubbed(details, _DEEPEST)
    return plain


def _scrubbed(value: Any, depth: int) -> Any:
    match value:
        case None | bool():
            return value
        case int():
            return value if abs(value) <= _EXACT else str(value)
        case float():
            return value if math.isfinite(value) else str(value)
        case str():
            return scrubbed_text(value)
        case dt.datetime():
            return isoformat(value if value.tzinfo else value.replace(tzinfo=dt.UTC))
        case bytes() | bytearray() | memoryview():
            return f"({len(value)} bytes)"
        case Mapping() | list() | tuple() | set() | frozenset() if depth == 0:
            return "(too deep)"
        case Mapping():
            items = [(scrubbed_text(str(name)), inner) for name, inner in list(value.items())[:_MOST]]
            return {name: MASK if _is_secret(name, inner) else _scrubbed(inner, depth - 1) for name, inner in items}
        case list() | tuple():
            return [_scrubbed(item, depth - 1) for item in value[:_MOST]]
        case set() | frozenset():
            return [_scrubbed(item, depth - 1) for item in sorted(value, key=str)[:_MOST]]
        case _:
            return scrubbed_text(str(value))


def _is_secret(name: str, value: Any) -> bool:
    return value is not None and not isinstance(value, bool) and _SECRET_NAMES.search(name) is not None
