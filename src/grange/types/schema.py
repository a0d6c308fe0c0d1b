"""A schema: the columns of a table, in order, each with its type."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from grange.errors import SchemaError
from grange.types.dtypes import DataType, as_dtype, parse_dtype
from grange.types.remembering import Remembering


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a schema."""

    name: str
    dtype: DataType
    description: str = ""


@dataclass(frozen=True, slots=True)
class Schema(Remembering):
    """Columns in order; names are unique."""

    columns: tuple[Column, ...] = ()

    def __post_init__(self) -> None:
        if len(self._by_name) != len(self.columns):
            counts = Counter(column.name for column in self.columns)
            twice = sorted(name for name, count in counts.items() if count > 1)
            raise SchemaError(f"columns named twice: {', '.join(twice)}")

    @classmethod
    def of(cls, columns: Schema | Mapping[str, Any] | Iterable[tuple[str, Any]]) -> Schema:
        """A schema from a mapping or pairs of name and type, types as people write them."""
        if isinstance(columns, Schema):
            return columns
        pairs = columns.items() if isinstance(columns, Mapping) else columns
        return cls(tuple(Column(name, as_dtype(dtype)) for name, dtype in pairs))

    def __hash__(self) -> int:
        return self.remembered("hash", lambda: hash(self.columns))

    @property
    def _by_name(self) -> dict[str, Column]:
        return self.remembered("by name", lambda: {column.name: column for column in self.columns})

    @property
    def names(self) -> tuple[str, ...]:
        """The columns' names, in order."""
        return tuple(self._by_name)

    def __iter__(self) -> Iterator[Column]:
        return iter(self.columns)

    def __len__(self) -> int:
        return len(self.columns)

    def __contains__(self, name: object) -> bool:
        return name in self._by_name

    def __getitem__(self, name: str) -> DataType:
        found = self._by_name.get(name)
        if found is None:
            raise SchemaError(f"no column {name!r}", found=", ".join(self.names))
        return found.dtype

    def get(self, name: str) -> DataType | None:
        """The type of a column, or None when there is no such column."""
        found = self._by_name.get(name)
        return None if found is None else found.dtype

    def select(self, names: Iterable[str]) -> Schema:
        """The named columns, in the order asked for."""
        names, by_name = list(names), self._by_name
        missing = [name for name in names if name not in by_name]
        if missing:
            raise SchemaError(f"no column {missing[0]!r}", found=", ".join(self.names))
        return Schema(tuple(by_name[name] for name in names))

    def without(self, names: Iterable[str]) -> Schema:
        """All columns but the named ones."""
        gone = set(names)
        return Schema(tuple(column for column in self.columns if column.name not in gone))

    def to_list(self) -> list[dict[str, str]]:
        """For JSON: `[{"name": ..., "dtype": ...}, ...]`."""
        return [
            {"name": column.name, "dtype": str(column.dtype)}
            | ({"description": column.description} if column.description else {})
            for column in self.columns
        ]

    @classmethod
    def from_list(cls, columns: Iterable[Mapping[str, str]]) -> Schema:
        """The inverse of `to_list`."""
        return cls(
            tuple(Column(item["name"], parse_dtype(item["dtype"]), item.get("description", "")) for item in columns)
        )
