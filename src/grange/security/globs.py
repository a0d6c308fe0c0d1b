"""Patterns of names: `*` stands for any characters, none included; every other character is itself."""

from __future__ import annotations

import fnmatch
import functools
import re


@functools.lru_cache(maxsize=4096)
def _compiled(pattern: str) -> re.Pattern[str]:
    # its translation of many stars is refused in linear time; its other wildcards are none here
    return re.compile(fnmatch.translate(pattern.replace("[", "[[]").replace("?", "[?]")))


def matches(pattern: str, text: str) -> bool:
    """Whether a pattern describes the whole text; case counts."""
    if "*" not in pattern:
        return pattern == text
    return pattern == "*" or _compiled(pattern).fullmatch(text) is not None
