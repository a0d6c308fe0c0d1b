"""Derived features of many rows, in DuckDB: the standard of what expressions mean.

Each distinct operation becomes one column of a SELECT over the operations that it needs, so nothing is computed
twice and a template may name its arguments as often as it likes. Nothing that a user wrote is in the statement but
constants, as literals; columns go by their place.

The optimizer is off: it may rewrite arithmetic of floats, and there is nothing else here for it to do.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final, assert_never

import numpy as np
import pyarrow as pa

from grange.definitions.expression_nodes import write_literal
from grange.definitions.expression_parsing import DIFFERENCE_UNITS, EXTRACT_UNITS, TIME_PATTERN, TRUNCATE_UNITS
from grange.definitions.expression_types import Constant, Kind, Operation, Slot, Term
from grange.definitions.expressions import Expression, derived_schema
from grange.deriving.functions import INTEGER_PATTERN, NUMBER_PATTERN, REACH
from grange.types.arrow import TIMESTAMP, arrow_schema
from grange.types.dtypes import DataType
from grange.types.schema import Column, Schema

_SQL_TYPES: Final[dict[Kind, str]] = {
    "boolean": "BOOLEAN", "int64": "BIGINT", "float64": "DOUBLE", "string": "VARCHAR",
    "date": "DATE", "datetime": "TIMESTAMP",
}  # fmt: skip
_NAN: Final = "CAST('NaN' AS DOUBLE)"
_FIRST, _LAST = "TIMESTAMP '0001-01-01 00:00:00'", "TIMESTAMP '9999-12-31 23:59:59.999999'"


def _substring(*, with_length: bool) -> str:
    """Letters by place: from 1, or from the end when negative; the place may lie outside.

    As DuckDB 2 has it; written out, because earlier versions cut places that lie before the text.
    """
    start = f"greatest(least($1, {REACH}), {-REACH})"
    first = f"CASE WHEN {start} > 0 THEN {start} - 1 WHEN {start} < 0 THEN length($0) + {start} ELSE -1 END"
    last = f"({first}) + greatest(least($2, {REACH}), {-REACH})" if with_length else str(2 * REACH)
    low = f"greatest(least({first}, {last}), 0)"
    high = f"least(greatest({first}, {last}), length($0))"
    given = "$0 IS NOT NULL AND $1 IS NOT NULL" + (" AND $2 IS NOT NULL" if with_length else "")
    # the greatest and the least leave nulls out, so they are let in only where there are none
    return (
        f"CASE WHEN {given} THEN CASE WHEN {high} > {low} THEN substring($0, {low} + 1, {high} - {low}) ELSE '' END END"
    )


_ARGUMENT: Final = re.compile(r"[$]([0-9])")
"""Where an argument goes in a template."""

_TEMPLATES: Final[dict[str, str]] = {
    # by way of 128 bits: no operation fails, and one that leaves 64 bits is null
    "add_integer": "TRY_CAST(CAST($0 AS HUGEINT) + $1 AS BIGINT)",
    "subtract_integer": "TRY_CAST(CAST($0 AS HUGEINT) - $1 AS BIGINT)",
    "multiply_integer": "TRY_CAST(CAST($0 AS HUGEINT) * $1 AS BIGINT)",
    "quotient_integer": "TRY_CAST(CAST($0 AS HUGEINT) // NULLIF($1, 0) AS BIGINT)",
    "remainder_integer": "CAST(CAST($0 AS HUGEINT) % NULLIF($1, 0) AS BIGINT)",
    "negate_integer": "TRY_CAST(- CAST($0 AS HUGEINT) AS BIGINT)",
    "abs_integer": "TRY_CAST(abs(CAST($0 AS HUGEINT)) AS BIGINT)",
    "sign_integer": "CAST(sign($0) AS BIGINT)",
    "round_integer_tens": (
        "TRY_CAST(CAST(sign($0) AS HUGEINT)"
        " * ((abs(CAST($0 AS HUGEINT)) + CAST($1 AS HUGEINT) // 2) // $1 * $1) AS BIGINT)"
    ),
    "add_float": "$0 + $1",
    "subtract_float": "$0 - $1",
    "multiply_float": "$0 * $1",
    "divide_float": "$0 / $1",
    "remainder_float": "$0 % $1",
    "negate_float": "- $0",
    "abs_float": "abs($0)",
    "sign_float": "CAST(sign($0) AS BIGINT)",
    "floor": "floor($0)",
    "ceil": "ceil($0)",
    "round": "round($0)",
    "round_digits": "CASE WHEN isfinite($0 * $1) THEN round($0 * $1) / $1 ELSE $0 END",
    "round_tens": "round($0 / $1) * $1",
    # guarded: some versions raise where the others follow IEEE 754
    "sqrt": f"CASE WHEN $0 < 0 THEN {_NAN} ELSE sqrt($0) END",
    "ln": f"CASE WHEN $0 < 0 THEN {_NAN} WHEN $0 = 0 THEN CAST('-Infinity' AS DOUBLE) ELSE ln($0) END",
    "log10": f"CASE WHEN $0 < 0 THEN {_NAN} WHEN $0 = 0 THEN CAST('-Infinity' AS DOUBLE) ELSE log10($0) END",
    "exp": "exp($0)",
    "power": "pow($0, $1)",
    "and": "$0 AND $1",
    "or": "$0 OR $1",
    "not": "NOT $0",
    "is_null": "$0 IS NULL",
    **{name + kind: f"$0 {name} $1" for name in ("=", "<>", "<", "<=", ">", ">=") for kind in ("", "_float")},
    **{"is_distinct" + kind: "$0 IS DISTINCT FROM $1" for kind in ("", "_float")},
    "lower": "lower($0)",
    "upper": "upper($0)",
    "length": "length($0)",
    "trim": "trim($0, $1)",
    "ltrim": "ltrim($0, $1)",
    "rtrim": "rtrim($0, $1)",
    "join": "$0 || $1",
    "like": "$0 LIKE $1",
    "starts_with": "starts_with($0, $1)",
    "ends_with": "suffix($0, $1)",
    "contains": "contains($0, $1)",
    "replace": "replace($0, $1, $2)",
    "substring": _substring(with_length=True),
    "substring_from": _substring(with_length=False),
    **{f"extract_{unit}": f"date_part('{unit}', $0)" for unit in EXTRACT_UNITS},
    "extract_epoch": "CAST(epoch_us($0) AS DOUBLE) / 1e6",
    **{f"truncate_{unit}": f"CAST(date_trunc('{unit}', $0) AS TIMESTAMP)" for unit in TRUNCATE_UNITS},
    **{f"difference_{unit}": f"date_diff('{unit}', $0, $1)" for unit in DIFFERENCE_UNITS},
    "subtract_date": "CAST($0 - $1 AS BIGINT)",
    "boolean_to_int64": "CAST($0 AS BIGINT)",
    "boolean_to_float64": "CAST($0 AS DOUBLE)",
    "boolean_to_string": "CAST($0 AS VARCHAR)",
    "int64_to_boolean": "$0 <> 0",
    "int64_to_float64": "CAST($0 AS DOUBLE)",
    "int64_to_string": "CAST($0 AS VARCHAR)",
    "float64_to_boolean": "$0 <> 0",
    "float64_to_int64": "TRY_CAST($0 AS BIGINT)",
    "float64_to_string": "CASE WHEN isnan($0) THEN 'nan' ELSE CAST($0 AS VARCHAR) END",
    "string_to_boolean": (
        "CASE WHEN lower($0) IN ('true', 't', 'yes', 'y', '1') THEN TRUE"
        " WHEN lower($0) IN ('false', 'f', 'no', 'n', '0') THEN FALSE END"
    ),
    "string_to_int64": f"CASE WHEN regexp_full_match($0, '{INTEGER_PATTERN}') THEN TRY_CAST($0 AS BIGINT) END",
    "string_to_float64": (f"CASE WHEN regexp_full_match($0, '{NUMBER_PATTERN}') THEN TRY_CAST($0 AS DOUBLE) END"),
    "string_to_datetime": (
        f"CASE WHEN regexp_full_match($0, '{TIME_PATTERN}')"
        f" AND make_timestamp(epoch_us(TRY_CAST($0 AS TIMESTAMPTZ))) BETWEEN {_FIRST} AND {_LAST}"
        " THEN make_timestamp(epoch_us(TRY_CAST($0 AS TIMESTAMPTZ))) END"
    ),
    "date_to_string": "CAST($0 AS VARCHAR)",
    "date_to_datetime": "CAST($0 AS TIMESTAMP)",
    "datetime_to_string": "CAST($0 AS VARCHAR)",
    "datetime_to_date": "CAST($0 AS DATE)",
    **{
        f"narrow_int{bits}": f"CASE WHEN $0 BETWEEN {-(2 ** (bits - 1))} AND {2 ** (bits - 1) - 1} THEN $0 END"
        for bits in (8, 16, 32)
    },
    "narrow_float32": "CAST(TRY_CAST($0 AS FLOAT) AS DOUBLE)",
}
_TEMPLATES["string_to_date"] = f"CAST({_TEMPLATES['string_to_datetime']} AS DATE)"

_VARIADIC: Final = frozenset(
    ("in", "in_float", "coalesce", "greatest", "greatest_float", "least", "least_float", "concat", "case")
)

SQL_OPERATIONS: Final = _VARIADIC | _TEMPLATES.keys()
"""The operations that DuckDB is told of here: all of the catalogue."""


def evaluate_table(expressions: Mapping[str, Expression], table: pa.Table, schema: Schema) -> pa.Table:
    """The values of some expressions for every row of a table.

    Args:
        expressions: by the name of the result; each may use the columns and the results before it.
        table: the rows, with at least the columns that the expressions use, in the canonical Arrow types of `schema`
            (`grange.types.arrow.conform`). Times are of the years 1 to 9999.
        schema: the types of the columns.

    Shape:
        One column per expression, in order, of its canonical Arrow type; one row per row of the table, in its order.

    Raises:
        SchemaError, DefinitionError: as `grange.definitions.expressions.derived_schema`.
    """
    results = derived_schema(expressions, schema)
    if not expressions:
        return table.select([])
    known = schema
    statement = _Statement(schema)
    outputs = []
    for name, expression in expressions.items():
        outputs.append(statement.result(name, expression.bind(known)))
        known = Schema((*known.columns, Column(name, results[name])))
    found = _run(statement.sql(outputs), _source(table, statement.columns))
    arrays = [_canonical(column) for column in found.columns]
    return pa.Table.from_arrays(arrays, schema=arrow_schema(results))


class _Statement:
    """One SELECT over `source`, put together operation by operation."""

    def __init__(self, schema: Schema) -> None:
        self._schema = schema
        self._places: dict[str, str] = {}  # a column, to its name in DuckDB
        self._levels: list[list[str]] = [[]]  # per level, the columns that it adds to those below
        self._known: dict[Term, tuple[str, int]] = {}  # a term, to its reference and its level

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of the rows that it reads, in the order of their places."""
        return tuple(self._places)

    def result(self, name: str, term: Term) -> str:
        """The reference of a term's value, under which later expressions find it too."""
        reference, level = self._reference(term)
        self._known[Slot(name, DataType(term.kind), term.kind)] = reference, level
        return reference

    def sql(self, outputs: list[str]) -> str:
        """The whole statement; its columns are the outputs, in order."""
        query = "source"
        for level in self._levels:
            query = _select(["*", *level], f"({query})" if query != "source" else query)
        return _select([f"{reference} AS o{place}" for place, reference in enumerate(outputs)], f"({query})")

    def _reference(self, term: Term) -> tuple[str, int]:
        """What stands for a term in the levels above its own."""
        if term in self._known:
            return self._known[term]
        match term:
            case Slot(name, _, kind):
                place = self._places.setdefault(name, f"c{len(self._places)}")
                found = self._add(0, f"CAST({place} AS {_SQL_TYPES[kind]})")
            case Constant(literal, kind):
                text = write_literal(literal.value)
                exact = literal.value is not None and kind != "int64"  # a small integer would be an INTEGER
                found = text if exact else f"CAST({text} AS {_SQL_TYPES[kind]})", 0
            case Operation(name, arguments, kind):
                references = [self._reference(argument) for argument in arguments]
                level = 1 + max((below for _, below in references), default=0)
                value = _expression(name, [reference for reference, _ in references])
                # DuckDB may have a type of its own, of DATE_PART of a null, say; a CAST to the same type is nothing
                found = self._add(level, f"CAST({value} AS {_SQL_TYPES[kind]})")
            case _:
                assert_never(term)
        self._known[term] = found
        return found

    def _add(self, level: int, expression: str) -> tuple[str, int]:
        while len(self._levels) <= level:
            self._levels.append([])
        reference = f"t{sum(map(len, self._levels))}"
        self._levels[level].append(f"{expression} AS {reference}")
        return reference, level


def _select(columns: Sequence[str], rows: str) -> str:
    return " ".join(("SELECT", ", ".join(columns), "FROM", rows))


def _expression(name: str, arguments: Sequence[str]) -> str:
    """The SQL of one operation over references."""
    template = _TEMPLATES.get(name)
    if template is not None:
        return _ARGUMENT.sub(lambda found: arguments[int(found[1])], template)
    match name.removesuffix("_float"):
        case "in":
            return f"{arguments[0]} IN ({', '.join(arguments[1:])})"
        case "case":
            branches = zip(arguments[:-1:2], arguments[1::2], strict=True)
            whens = " ".join(f"WHEN {condition} THEN {result}" for condition, result in branches)
            return f"CASE {whens} ELSE {arguments[-1]} END"
        case function:
            return f"{function}({', '.join(arguments)})"


def _source(table: pa.Table, columns: Sequence[str]) -> pa.Table:
    """The columns by their places, times without zone: they are all UTC, and DuckDB's plain timestamps are faster."""
    arrays = {f"c{place}": _plain_time(table.column(name)) for place, name in enumerate(columns)}
    # rows of no columns are still rows, and SQL has no word for them
    return pa.table(arrays or {"c": pa.array(np.zeros(table.num_rows, np.int8))})


def _plain_time(values: pa.ChunkedArray) -> pa.ChunkedArray:
    return values.cast(pa.int64()).cast(pa.timestamp("us")) if values.type == TIMESTAMP else values


def _run(statement: str, source: pa.Table) -> pa.Table:
    import duckdb

    config = {"enable_external_access": "false", "python_enable_replacements": "false"}
    with duckdb.connect(":memory:", config=config) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute("SET preserve_insertion_order = true")
        connection.execute("SET ieee_floating_point_ops = true")
        connection.execute("PRAGMA disable_optimizer")
        connection.execute("SET lock_configuration = true")
        connection.register("source", source)
        return connection.sql(statement).to_arrow_table()


def _canonical(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """DuckDB's columns in the canonical Arrow types."""
    if pa.types.is_timestamp(values.type):
        return values.cast(pa.int64()).cast(TIMESTAMP)
    if pa.types.is_string(values.type) or pa.types.is_string_view(values.type):
        return values.cast(pa.large_string())
    return values
