"""Expressions over features: SQL text that means the same for a table of a million rows and for one row online.

    parse_expression("purchases_30d / NULLIF(days_since_signup, 0)", what="feature view 'churn'")

The text is read once, into a closed set of nodes; engines evaluate those, never the text (`grange.deriving`).
DuckDB is the standard of what they mean; `grange.definitions.expression_types` says it in one page.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from grange.definitions.expression_nodes import Call, Literal, Node, columns_of, write
from grange.definitions.expression_parsing import parse
from grange.definitions.expression_types import COMPARISONS, FUNCTIONS, Term, bind
from grange.errors import DefinitionError
from grange.types.dtypes import DataType
from grange.types.schema import Column, Schema


@dataclass(frozen=True, slots=True)
class Expression:
    """An expression over the columns of one row. Make it with `parse_expression` or `parse_condition`."""

    text: str
    """As it was written."""
    normal: str = field(repr=False)
    """The same tree as text without choices: spaces, comments, letter case of keywords do not count (VER-2)."""
    root: Node = field(repr=False)
    columns: tuple[str, ...]
    """The columns that it looks at, each once, in the order of their first appearance."""
    condition: bool = False
    """Whether it must be boolean."""
    what: str = field(default="expression", compare=False, repr=False)
    """Whose it is, for errors."""

    def bind(self, schema: Schema) -> Term:
        """The tree with the types of a schema. Raises like `expression_dtype`."""
        what = f"{self.what}: expression {self.text.strip()!r:.200}"
        term = bind(self.root, schema, what=what)
        if self.condition and term.kind != "boolean":
            _refuse_condition(self.what, self.text, term.kind)
        return term


def parse_expression(text: str, *, what: str) -> Expression:
    """An expression from its text.

    Args:
        text: one SQL expression in DuckDB's dialect, at most 10,000 characters. Column names mind their case.
        what: whose it is, for errors: "feature view 'churn': 'spend_per_day'".

    Raises:
        DefinitionError: not one expression, too large, or something that is not in the catalogue (subqueries,
            aggregates, windows, the clock, chance, unknown functions); carries the closest supported functions.
    """
    root = parse(text, what=what)
    return Expression(text=text, normal=write(root), root=root, columns=columns_of(root), what=what)


def parse_condition(text: str, *, what: str) -> Expression:
    """An expression that must be boolean: a filter on rows. A row for which it is null does not match.

    Raises:
        DefinitionError: as `parse_expression`; or it is plainly not boolean. What only its columns' types decide
            is checked by `expression_dtype`.
    """
    root = parse(text, what=what)
    if not _may_be_boolean(root):
        _refuse_condition(what, text, "another type")
    return Expression(text=text, normal=write(root), root=root, columns=columns_of(root), condition=True, what=what)


def expression_dtype(expression: Expression, schema: Schema) -> DataType:
    """The type of what an expression gives: boolean, int64, float64, string, date or datetime.

    Raises:
        SchemaError: it names a column that the schema does not have; carries the closest ones.
        DefinitionError: types that do not go together, a column of a type that expressions do not take (uint64,
            binary, duration, lists, structs, decimals of more than 15 digits), or a condition that is not boolean.
    """
    return DataType(expression.bind(schema).kind)


def derived_schema(expressions: Mapping[str, Expression], schema: Schema) -> Schema:
    """The types of some expressions by name, in order. Each may use the columns and what comes before it.

    Raises:
        SchemaError, DefinitionError: as `expression_dtype`; or a name is that of a column.
    """
    known = schema
    for name, expression in expressions.items():
        if name in known:
            raise DefinitionError(
                f"{expression.what}: {name!r} is a column already", found=", ".join(known.names), try_="another name"
            )
        known = Schema((*known.columns, Column(name, expression_dtype(expression, known))))
    return known.select(expressions)


_BOOLEAN: Final = frozenset((*COMPARISONS, "is_null", "cast_boolean")) | {
    name for name, signatures in FUNCTIONS.items() if all(item.result == "boolean" for item in signatures)
}
_OPEN: Final = frozenset(("coalesce", "greatest", "least"))


def _may_be_boolean(node: Node) -> bool:
    match node:
        case Literal(value):
            return value is None or isinstance(value, bool)
        case Call("case", arguments):
            return all(map(_may_be_boolean, (*arguments[1::2], arguments[-1])))
        case Call(function, arguments) if function in _OPEN:
            return all(map(_may_be_boolean, arguments))
        case Call(function, _):
            return function in _BOOLEAN
        case _:
            return True


def _refuse_condition(what: str, text: str, found: str) -> None:
    raise DefinitionError(
        f"{what}: {text.strip()!r:.200} is no condition",
        found=found,
        try_="amount > 0 AND kind = 'card'",
    )
