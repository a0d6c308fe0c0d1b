"""Entity keys as clients of other systems write them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from grange.definitions.feature_group import FeatureGroup
    from grange.types import DataType


def key_types(groups: Iterable[FeatureGroup]) -> dict[str, DataType]:
    """What is known of the types of some groups' join keys."""
    types: dict[str, DataType] = {}
    for group in groups:
        for key in group.join_keys:
            dtype = group.schema.get(key)
            if dtype is not None:
                types.setdefault(key, dtype)
    return types


def as_key(value: Any, dtype: DataType | None) -> Any:
    """A value as its key has it: where the key is an integer, one that is written as text is that integer.

    Names in JSON are text, so a client that reads ids out of an answer has text. Anything else stays as it is, and is
    an error where its type is not the key's (PIT-4).
    """
    if dtype is not None and dtype.is_integer and isinstance(value, str):
        digits = value.removeprefix("-")
        if digits.isascii() and digits.isdecimal() and len(digits) < 20:
            return int(value)
    return value
