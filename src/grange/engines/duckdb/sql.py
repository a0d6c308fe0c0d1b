"""Writing SQL: the few forms that the engine's statements are put together from.

Statements are parts joined by `sql`. A part is a keyword, an expression made here, or a value that went through
`name`, `text` or `whole`; nothing a user wrote gets into a statement by any other way, except the body of a SQL
transform, which is a statement of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from grange.errors import SchemaError, closest_names

if TYPE_CHECKING:
    import pyarrow as pa


def sql(*parts: str) -> str:
    """Parts as one piece of SQL."""
    return " ".join(part for part in parts if part)


def name(identifier: str) -> str:
    """An identifier, quoted."""
    return '"' + identifier.replace('"', '""') + '"'


def text(value: str) -> str:
    """A text literal. DuckDB's plain literals have no escapes but the doubled quote."""
    return "'" + value.replace("'", "''") + "'"


def whole(value: int) -> str:
    """An integer literal; in parentheses, so that a sign never meets another."""
    return f"({int(value)})"


def listed(parts: Iterable[str]) -> str:
    """Parts with commas between them."""
    return ", ".join(parts)


def every(conditions: Iterable[str]) -> str:
    """All of some conditions; true when there are none."""
    return " AND ".join(f"({condition})" for condition in conditions) or "true"


def cell(index: int) -> str:
    """The name that a column has inside the engine.

    DuckDB's names ignore case, those of a feature store do not: `Age` and `age` are two columns. So columns go
    by their place, and their own names come back when rows leave the engine.
    """
    return f"c{index}"


@dataclass(frozen=True, slots=True)
class Query:
    """Rows that a SELECT makes, its columns named by `cell`."""

    sql: str
    names: tuple[str, ...]
    """The columns' own names, in order."""
    arrow: pa.Table | None = field(default=None, compare=False, repr=False)
    """The rows, where this process holds them already."""

    def column(self, wanted: str) -> str:
        """The expression of a column.

        Raises:
            SchemaError: there is no such column; carries the closest ones.
        """
        if wanted not in self.names:
            raise SchemaError(
                f"no column {wanted!r} in the rows",
                found=", ".join(self.names) or "no columns at all",
                closest=closest_names(wanted, self.names),
            )
        return cell(self.names.index(wanted))

    def select(self, columns: Sequence[tuple[str, str]], *tail: str) -> Query:
        """Columns as (own name, expression over this query's columns); `tail` is what follows FROM."""
        shown = [sql(expression, "AS", cell(index)) for index, (_, expression) in enumerate(columns)]
        # rows of no columns are still rows, and SQL has no word for them
        body = sql("SELECT", listed(shown) or "1 AS c0", "FROM", self.nested("q"), *tail)
        return Query(body, tuple(own for own, _ in columns))

    def pick(self, wanted: Iterable[str], *tail: str) -> Query:
        """Some of the columns, in the order asked for. Raises like `column`."""
        return self.select([(column, self.column(column)) for column in wanted], *tail)

    def all(self, *tail: str) -> Query:
        """All columns; `tail` is what follows FROM."""
        return self.pick(self.names, *tail)

    def nested(self, alias: str) -> str:
        """As a table in a FROM clause."""
        return sql("(", self.sql, ") AS", alias)
