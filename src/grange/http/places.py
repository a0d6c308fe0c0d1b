"""Where the server's files lie is not told: what goes to clients names places as they lie in the project.

    /srv/shop/data/spend.parquet      data/spend.parquet        in the project's folder, or that of one of its stores
    /usr/lib/python3.12/json.py       …/json.py                 anywhere else on the server

What the server is asked for in its own places (definitions, rows) is told as it is; this is for what it says itself:
errors, and records of its work. Its log and its registry keep the whole.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from grange.config import Config

_ROOTS: list[str] = []
"""The folders of the projects that this process serves, and of their stores, the longest first. They are the
process's: errors are told where nobody knows yet which project a request is for."""
_OWN: Final = frozenset({"api", "docs", "health", "metrics"})
"""Where the server's own routes begin."""
_BEFORE: Final = (
    r"(?:(?P<scheme>(?:(?:file|sqlite)(?:\+\w+)?:/{0,3}|(?:\x1b|\\x1b)\[[\d;]*m))(?=/)"
    r"|(?<![\w.~/\\*:])/(?=/)"
    r"|(?<=://)|(?<=:///)|(?<=\\[nrt])|(?<=[\s'\"=,(\[]-[A-Za-z])"
    r"|(?<![\w.~/\\*]))"
)
"""What stands before a path from the top of this machine: nothing of another path or URL, but a scheme that no host
follows, a slash too many, the letter of an option, a terminal's colour, or a line's end as `repr` writes it."""


def serve_from(config: Config) -> None:
    """Take note of where a project and its stores lie, from when it is served on."""
    stores = (config.offline, config.online, config.registry)
    named = [config.root / value for store in stores for value in store.options.values() if _is_absolute(value)]
    found = {str(form) for place in (config.root, *named) for form in (place, place.resolve()) if place != Path("/")}
    _ROOTS[:] = sorted({*_ROOTS, *found}, key=len, reverse=True)


def told(data: Any, text: Callable[[str], str] | None = None) -> Any:
    """Plain data, with no place of the server in any of its texts: `relative`, through lists and mappings.

    Args:
        data: what is to be told.
        text: what is done with each text, instead of `relative`.
    """
    if isinstance(data, str):
        return (text or relative)(data)
    if isinstance(data, Mapping):
        return {told(name, text): told(value, text) for name, value in data.items()}
    if isinstance(data, list | tuple):
        return [told(value, text) for value in data]
    return data


def job_as_told(record: Mapping[str, Any]) -> dict[str, Any]:
    """The record of a job: its request, which is its caller's own words, as it is; its result, which has definitions
    and values of theirs, with nothing but the projects' own folders taken off."""
    kept = {name: record[name] for name in ("request", "result") if name in record}
    said: dict[str, Any] = told({name: value for name, value in record.items() if name not in kept})
    if "result" in kept:
        kept["result"] = told(kept["result"], in_its_project)
    return {name: (said | kept)[name] for name in record}


def relative(text: str) -> str:
    """A text with the server's places as clients are told them."""
    if "/" not in text and "\\" not in text:
        return text
    return _elsewhere().sub(_shortened, in_its_project(text))


def in_its_project(text: str) -> str:
    """A text with the places in a project, or in one of its stores, as they lie there; others stay as they are."""
    for root in _ROOTS:
        if root in text:
            place = _BEFORE + re.escape(root)
            text = re.sub(rf"{place}[/\\]+(?=[\w.*?\[{{])", r"\g<scheme>", text)
            text = re.sub(rf"{place}[/\\]*(?![\w.-])", r"\g<scheme>.", text)
    return text


def inspected(data: Mapping[str, Any]) -> dict[str, Any]:
    """What `FeatureStore.inspect` gives, with what it says of damage as clients are told it."""
    return {**data, "damage": relative(data["damage"])} if "damage" in data else dict(data)


@functools.cache
def _elsewhere() -> re.Pattern[str]:
    """A path from the top of this machine, alone, in quotes, or behind the scheme of a file."""
    try:
        tops = [re.escape(path.name) for path in Path("/").iterdir() if path.name not in _OWN]
    except OSError:
        tops = []
    top = "/(?:" + ("|".join(tops) or "(?!)") + r")(?![\w.-])"
    quoted = rf"(?P<quote>['\"])(?P<inside>{top}(?:(?!(?P=quote))[^\n])*)(?P=quote)"
    return re.compile(rf"{quoted}|{_BEFORE}(?P<plain>{top}[^\s'\"`<>|,;:)\]}}]*)")


def _shortened(found: re.Match[str]) -> str:
    quote = found["quote"] or ""
    last = (found["inside"] or found["plain"]).rstrip("/").rpartition("/")[2]
    return f"{quote}…/{last}{quote}"


def _is_absolute(value: object) -> bool:
    return isinstance(value, str | os.PathLike) and Path(value).is_absolute()


__all__ = ["in_its_project", "inspected", "job_as_told", "relative", "serve_from", "told"]
