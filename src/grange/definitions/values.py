"""Frozen forms of the small mappings that definitions take."""

from __future__ import annotations

from collections.abc import Mapping

from grange.errors import DefinitionError


def freeze_tags(tags: Mapping[str, str] | None, *, what: str) -> tuple[tuple[str, str], ...]:
    """Tags as sorted pairs of text, so that equal tags are equal values."""
    pairs = tuple(sorted((tags or {}).items()))
    for key, value in pairs:
        if not isinstance(key, str) or not isinstance(value, str):
            raise DefinitionError(f"{what}: tags are text to text, got {key!r}: {value!r}")
    return pairs
