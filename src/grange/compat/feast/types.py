"""Feast's types as Grange's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from grange.compat.feast.values import FeastType

SIMPLE: Final[Mapping[str, str]] = {
    "Bytes": "binary", "PdfBytes": "binary", "ImageBytes": "binary", "String": "string", "Int32": "int32",
    "Int64": "int64", "Float32": "float32", "Float64": "float64", "Bool": "boolean", "UnixTimestamp": "datetime",
    "Uuid": "uuid", "TimeUuid": "uuid", "Json": "string",
}  # fmt: skip
KEYS: Final[Mapping[str, str]] = {
    "BYTES": "binary", "STRING": "string", "INT32": "int32", "INT64": "int64", "BOOL": "boolean",
    "UNIX_TIMESTAMP": "datetime", "UUID": "uuid", "TIME_UUID": "uuid",
}  # fmt: skip
"""By `ValueType`, the types that keys have."""
CASTS: Final[Mapping[str, str]] = {"float32": "FLOAT", "float64": "DOUBLE"}
"""What columns are cast to: files often have the wider, or whole numbers, where a definition says these."""


def dtype_of(given: Any) -> str | None:
    """Grange's type; None where it has none."""
    if not isinstance(given, FeastType):
        return None
    if given.name in ("Array", "Set"):
        item = dtype_of(given.item)
        return None if item is None else f"list[{item}]"
    return SIMPLE.get(given.name)
