"""Data types: what a column holds, in one vocabulary for every engine, store and wire.

A type prints as it is written, and reads back from what it prints: `int64`, `list[float32]`,
`decimal(12,2)`, `struct{lat:float64,lon:float64}`. Times are always UTC microseconds (TIME-1), so
`datetime` has no parameters.
"""

from __future__ import annotations

import datetime as dt
import re
import types as pytypes
import typing
import uuid
from dataclasses import dataclass
from typing import Any, Final

from grange.errors import SchemaError, closest_names

INTEGERS: Final = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
FLOATS: Final = ("float32", "float64")
SIMPLE: Final = (*INTEGERS, *FLOATS, "boolean", "string", "binary", "uuid", "date", "datetime", "duration")

_ALIASES: Final = {
    "int": "int64", "integer": "int64", "long": "int64", "bigint": "int64", "smallint": "int16",
    "tinyint": "int8", "float": "float64", "double": "float64", "real": "float32",
    "bool": "boolean", "str": "string", "text": "string", "varchar": "string", "utf8": "string",
    "bytes": "binary", "timestamp": "datetime",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class DataType:
    """The type of a column. Compare with `==`; print with `str`."""

    kind: str
    """One of the simple names, or `list`, `struct`, `decimal`."""
    item: DataType | None = None
    """The type of a list's items."""
    fields: tuple[tuple[str, DataType], ...] = ()
    """A struct's fields, in order."""
    precision: int = 0
    """Digits of a decimal, 1 to 38."""
    scale: int = 0
    """Digits after a decimal's point."""

    def __str__(self) -> str:
        match self.kind:
            case "list":
                return f"list[{self.item}]"
            case "struct":
                return "struct{" + ",".join(f"{name}:{dtype}" for name, dtype in self.fields) + "}"
            case "decimal":
                return f"decimal({self.precision},{self.scale})"
            case _:
                return self.kind

    def __repr__(self) -> str:
        return f"DataType({str(self)!r})"

    @property
    def is_integer(self) -> bool:
        """Whether this is a signed or unsigned integer of any width."""
        return self.kind in INTEGERS

    @property
    def is_float(self) -> bool:
        """Whether this is a binary floating-point type."""
        return self.kind in FLOATS

    @property
    def key_family(self) -> str | None:
        """What this type is as a join key (PIT-4); None when it cannot be one.

        Integer widths are one family. Floats, lists and structs have no dependable equality and are no keys.
        """
        if self.is_integer:
            return "integer"
        if self.kind in ("string", "uuid", "boolean", "date", "datetime", "binary", "decimal"):
            return self.kind
        return None


def parse_dtype(text: str) -> DataType:
    """Read a type as it prints.

    Raises:
        SchemaError: no such type; carries the closest names.
    """
    dtype, rest = _parse(text.strip())
    if rest.strip():
        raise SchemaError(f"type {text!r} has something after its end: {rest!r}")
    return dtype


def as_dtype(value: Any) -> DataType:
    """A type from what people write: a `DataType`, its text, a Python type, or a PyArrow or Polars type.

    Raises:
        SchemaError: the value names no type that Grange has.
    """
    if isinstance(value, DataType):
        return value
    if isinstance(value, str):
        return parse_dtype(value)
    simple = _PYTHON.get(value) if isinstance(value, type) else None
    if simple is not None:
        return DataType(simple)
    origin, args = typing.get_origin(value), typing.get_args(value)
    if origin is list and len(args) == 1:
        return DataType("list", item=as_dtype(args[0]))
    if origin in (typing.Union, pytypes.UnionType):
        present = [arg for arg in args if arg is not type(None)]
        if len(present) == 1:
            return as_dtype(present[0])
    module = type(value).__module__ if not isinstance(value, type) else value.__module__
    if module.startswith(("pyarrow", "polars")):
        from grange.types import arrow

        return arrow.foreign_dtype(value)
    raise SchemaError(f"{value!r} is not a type", try_=f"use one of: {', '.join(SIMPLE)}, list[...]")


_PYTHON: Final[dict[type, str]] = {
    int: "int64",
    float: "float64",
    bool: "boolean",
    str: "string",
    bytes: "binary",
    uuid.UUID: "uuid",
    dt.datetime: "datetime",
    dt.date: "date",
    dt.timedelta: "duration",
}  # Decimal is not here: a decimal needs its digits said, decimal(12,2)


def _parse(text: str) -> tuple[DataType, str]:
    match = re.match(r"[A-Za-z_0-9]+", text)
    if match is None:
        raise SchemaError(f"expected the name of a type, found {text!r}")
    name, rest = match.group().lower(), text[match.end() :]
    if name in ("list", "array") and rest[:1] in ("[", "<"):
        item, rest = _parse(rest[1:].lstrip())
        return DataType("list", item=item), _expect(rest, "]>", text)
    if name == "struct" and rest[:1] == "{":
        fields: list[tuple[str, DataType]] = []
        rest = rest[1:]
        while not rest.startswith("}"):
            field, separator, rest = rest.partition(":")
            if not separator:
                raise SchemaError(f"struct type {text!r} has a field without a type")
            dtype, rest = _parse(rest.lstrip())
            fields.append((field.strip(" ,"), dtype))
            rest = rest.lstrip(" ,")
        return DataType("struct", fields=tuple(fields)), rest[1:]
    if name in ("decimal", "numeric"):
        digits = re.match(r"[(\[]\s*(\d+)\s*,\s*(\d+)\s*[)\]]", rest)
        if digits is None or not 1 <= int(digits[1]) <= 38 or int(digits[2]) > int(digits[1]):
            raise SchemaError(f"type {text!r} needs its digits", try_="decimal(12,2): 12 digits, 2 after the point")
        return DataType("decimal", precision=int(digits[1]), scale=int(digits[2])), rest[digits.end() :]
    name = _ALIASES.get(name, name)
    if name not in SIMPLE:
        raise SchemaError(
            f"no type {match.group()!r}",
            closest=closest_names(name, [*SIMPLE, *_ALIASES]),
            try_=f"use one of: {', '.join(SIMPLE)}, list[...], struct{{...}}, decimal(p,s)",
        )
    return DataType(name), rest


def _expect(rest: str, closers: str, text: str) -> str:
    rest = rest.lstrip()
    if rest[:1] not in tuple(closers):
        raise SchemaError(f"type {text!r} is not closed")
    return rest[1:]
