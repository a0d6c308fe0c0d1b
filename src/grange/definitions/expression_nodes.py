"""The syntax of derived features: three kinds of nodes, and the one text that each tree has.

    Column("purchases_30d")                          a feature or a request column
    Literal(0)                                       a constant
    Call("/", (Column("a"), Literal(2)))             an operator or function of the closed catalogue

A tree says nothing of types; `grange.definitions.expression_types` binds it to a schema.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, assert_never

from grange.types.time import isoformat

Value = bool | int | float | str | dt.date | dt.datetime | None
"""What a constant may be; None is null. Times are aware and in UTC (TIME-1)."""


@dataclass(frozen=True, slots=True)
class Column:
    """The value of a column in the row at hand. Names are those of the schema, case included."""

    name: str


@dataclass(frozen=True, slots=True)
class Literal:
    """A constant."""

    value: Value

    def __eq__(self, other: object) -> bool:
        # 1, 1.0 and True are equal in Python and three constants here; 0.0 and -0.0 too
        return isinstance(other, Literal) and self._identity == other._identity

    def __hash__(self) -> int:
        return hash(self._identity)

    @property
    def _identity(self) -> tuple[str, str]:
        return type(self.value).__name__, repr(self.value)


@dataclass(frozen=True, slots=True)
class Call:
    """An operator or a function, over its arguments in order.

    `case` has its branches as pairs of condition and result, and what holds otherwise as the last one.
    """

    function: str
    arguments: tuple[Node, ...]


Node = Column | Literal | Call

INFIX: Final = {
    "+": "+", "-": "-", "*": "*", "/": "/", "//": "//", "%": "%", "||": "||",
    "=": "=", "<>": "<>", "<": "<", "<=": "<=", ">": ">", ">=": ">=",
    "and": "AND", "or": "OR", "is_distinct": "IS DISTINCT FROM", "like": "LIKE",
}  # fmt: skip
"""Functions of two arguments that are written between them."""

CAST_TARGETS: Final = {
    "int8": "TINYINT", "int16": "SMALLINT", "int32": "INTEGER", "int64": "BIGINT",
    "float32": "FLOAT", "float64": "DOUBLE",
    "string": "VARCHAR", "boolean": "BOOLEAN", "date": "DATE", "datetime": "TIMESTAMP",
}  # fmt: skip
"""By Grange's type, the SQL name of what CAST may be to; the function is `cast_` and the type."""


def columns_of(node: Node) -> tuple[str, ...]:
    """The columns that a tree looks at, each once, in the order of their first appearance."""
    return tuple(dict.fromkeys(part.name for part in walk(node) if isinstance(part, Column)))


def walk(node: Node) -> Iterator[Node]:
    """A node and everything below it, parents first, arguments from left to right."""
    yield node
    if isinstance(node, Call):
        for argument in node.arguments:
            yield from walk(argument)


def write(node: Node) -> str:
    """The normal text of a tree, in DuckDB's dialect: equal trees have equal texts, and the text parses back to it."""
    match node:
        case Column(name):
            return _write_name(name)
        case Literal(value):
            return write_literal(value)
        case Call(function, arguments):
            return _write_call(function, tuple(map(write, arguments)))
        case _:
            assert_never(node)


def write_literal(value: Value) -> str:
    """A constant in DuckDB's dialect."""
    match value:
        case None:
            return "NULL"
        case bool():
            return "TRUE" if value else "FALSE"
        case int():
            return str(value) if value >= 0 else f"({value})"
        case float():
            text = repr(value)
            text = text if "e" in text else text + "e0"  # without an exponent it would be a DECIMAL
            return text if not text.startswith("-") else f"({text})"
        case str():
            return "'" + value.replace("'", "''") + "'"
        case dt.datetime():
            return f"TIMESTAMP '{isoformat(value)}'"
        case dt.date():
            return f"DATE '{value.isoformat()}'"
        case _:
            assert_never(value)


def _write_name(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _write_call(function: str, arguments: tuple[str, ...]) -> str:
    if function in INFIX:
        return f"({arguments[0]} {INFIX[function]} {arguments[1]})"
    family, _, variant = function.partition("_")
    match function, family:
        case "negate", _:
            return f"(- {arguments[0]})"
        case "not", _:
            return f"(NOT {arguments[0]})"
        case "is_null", _:
            return f"({arguments[0]} IS NULL)"
        case "in", _:
            return f"({arguments[0]} IN ({', '.join(arguments[1:])}))"
        case "case", _:
            return _write_case(arguments)
        case _, "cast":
            return f"CAST({arguments[0]} AS {CAST_TARGETS[variant]})"
        case _, "extract":
            return f"EXTRACT({variant} FROM {arguments[0]})"
        case _, "truncate":
            return f"DATE_TRUNC('{variant}', {arguments[0]})"
        case _, "difference":
            return f"DATE_DIFF('{variant}', {arguments[0]}, {arguments[1]})"
        case _:
            return f"{function.upper()}({', '.join(arguments)})"


def _write_case(arguments: tuple[str, ...]) -> str:
    branches = zip(arguments[:-1:2], arguments[1::2], strict=True)
    whens = " ".join(f"WHEN {condition} THEN {result}" for condition, result in branches)
    return f"CASE {whens} ELSE {arguments[-1]} END"
