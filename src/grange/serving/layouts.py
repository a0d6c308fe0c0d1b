"""Layouts: what a stored row says of its columns, `"name:type"` each.

The type is part of it, so that a value that was stored under another type is never read as one of the declared type.
"""

from __future__ import annotations

from collections.abc import Sequence

from grange.errors import CorruptStoreError
from grange.types import DataType, Schema, parse_dtype

_SEALED = "sealed:["
"""How the one column of a sealed row begins (`grange.security.encryption.online`). No type begins with a bracket."""


def layout_of(columns: Schema) -> tuple[str, ...]:
    """What an online store is told of the columns to store, in their order."""
    return tuple(f"{column.name}:{column.dtype}" for column in columns)


def place_of(layout: Sequence[str], name: str, dtype: DataType) -> int | None:
    """Where a layout has a column whose stored values are values of a type as they are; None when nowhere.

    Raises:
        CorruptStoreError: the values are sealed.
    """
    if len(layout) == 1 and layout[0].startswith(_SEALED):
        raise CorruptStoreError(
            "the online store's values are sealed, and this process has no key",
            try_="set encryption_key in [security], as for whoever wrote them",
        )
    wanted = f"{name}:{dtype}"
    if wanted in layout:
        return layout.index(wanted)
    prefix = f"{name}:"
    for place, item in enumerate(layout):
        # a column name may have colons of its own; of types only structs have any, and they must be equal
        if item.startswith(prefix) and item.rpartition(":")[0] == name:
            return place if _widens(parse_dtype(item[len(prefix) :]), dtype) else None
    return None


def _widens(stored: DataType, wanted: DataType) -> bool:
    """Whether every value of the stored type is, as it lies there, that value of the wanted type."""
    if stored.is_integer and wanted.is_integer:
        (low, high), (least, greatest) = _range(stored), _range(wanted)
        return least <= low and high <= greatest
    if stored.kind == wanted.kind == "decimal":
        return stored.scale == wanted.scale and stored.precision <= wanted.precision
    return (stored.kind, wanted.kind) == ("float32", "float64")


def _range(dtype: DataType) -> tuple[int, int]:
    """The least and the greatest integer of a type."""
    bits = int(dtype.kind.lstrip("uint"))
    return (0, 2**bits - 1) if dtype.kind.startswith("u") else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
