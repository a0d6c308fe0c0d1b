"""Derived features: one row in Python and a table in DuckDB give the same values, cell by cell."""

from __future__ import annotations

import datetime as dt
import math
import random
from decimal import Decimal
from typing import Any
from uuid import UUID

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.deriving.generating import FLOATS, INTEGERS, SCHEMA, TEXTS, TIMES, random_node, random_row

from grange.definitions.expression_nodes import write
from grange.definitions.expression_types import OPERATIONS
from grange.definitions.expressions import Expression, expression_dtype, parse_expression
from grange.deriving.casing import lower_function, upper_function
from grange.deriving.rows import ROW_OPERATIONS, compile_row, compile_rows
from grange.deriving.tables import SQL_OPERATIONS, evaluate_table
from grange.errors import DefinitionError
from grange.testing.equality import same
from grange.types.arrow import arrow_schema, arrow_type
from grange.types.schema import Schema

KINDS = ("boolean", "int64", "float64", "string", "date", "datetime")


def expression(text: str) -> Expression:
    return parse_expression(text, what="test")


def table_of(rows: list[dict[str, Any]], schema: Schema = SCHEMA) -> pa.Table:
    return pa.Table.from_pylist(rows, schema=arrow_schema(schema))


def value_of(text: str, **row: Any) -> Any:
    """A value, both ways, which must agree."""
    full = {name: row.get(name) for name in SCHEMA.names}
    compiled = expression(text)
    online = compile_row(compiled, SCHEMA, by_name=True)(full)
    offline = evaluate_table({"value": compiled}, table_of([full]), SCHEMA).column("value")[0].as_py()
    assert same(online, offline), f"{text}: {online!r} online, {offline!r} offline"
    return online


def test_both_evaluators_know_the_whole_catalogue() -> None:
    assert ROW_OPERATIONS == OPERATIONS
    assert SQL_OPERATIONS == OPERATIONS


@settings(max_examples=200, deadline=None)
@given(st.randoms(use_true_random=False))
def test_a_row_and_a_table_give_the_same_values(chance: random.Random) -> None:
    """The proof: random expressions over random rows, exactly equal, floats bit by bit but for NaN."""
    expressions: dict[str, Expression] = {}
    for place in range(4):
        text = write(random_node(chance, chance.choice(KINDS)))
        try:
            expressions[f"e{place}"] = expression(text)
            expression_dtype(expressions[f"e{place}"], SCHEMA)
        except DefinitionError:
            expressions.pop(f"e{place}", None)  # constant text that is no date, say
    rows = [random_row(chance) for _ in range(8)]

    offline = evaluate_table(expressions, table_of(rows), SCHEMA)

    assert offline.num_rows == len(rows) or not expressions
    for name, item in expressions.items():
        online = compile_row(item, SCHEMA, by_name=True)
        for row, expected in zip(rows, offline.column(name).to_pylist(), strict=True):
            found = online(row)
            assert same(found, expected), f"{item.normal}: {found!r} online, {expected!r} offline; {row}"


@pytest.mark.parametrize(
    "text",
    [
        "i + i", "i * u", "i - Small", "i // Small", "i % Small", "-i", "ABS(i)", "ROUND(i, -3)", "f + f32",
        "f % f32", "f / f32", "ROUND(f)", "ROUND(f, 2)", "ROUND(f, -2)", "FLOOR(f)", "CEIL(f)", "SIGN(f)",
        "SQRT(f)", "LN(f)", "LOG10(f)", "EXP(f)", "POWER(f, f32)", "POWER(f32, Small)", "f < f32", "f IN (f32, 0)",
        "GREATEST(f, f32)", "LEAST(f, f32)", "CAST(f AS BIGINT)", "CAST(f AS TINYINT)", "CAST(f AS FLOAT)",
        "CAST(f AS VARCHAR)", "CAST(t AS BIGINT)", "CAST(t AS DOUBLE)", "CAST(t AS BOOLEAN)", "CAST(t AS DATE)",
        "CAST(t AS TIMESTAMP)", "LOWER(t)", "UPPER(t)", "LENGTH(t)", "TRIM(t)", "SUBSTRING(t, Small, i)",
        "SUBSTRING(t, i)", "t < \"T 2\"", "REPLACE(t, \"T 2\", 'x')", "CONTAINS(t, \"T 2\")", "t LIKE '%a_%'",
        "t LIKE 'a%%c'", "t LIKE '_%_'", "CAST(z AS VARCHAR)", "DATE_DIFF('second', z, y)",
        "DATE_DIFF('day', z, y)", "EXTRACT(week FROM z)", "DATE_TRUNC('week', z)", "DATE_TRUNC('quarter', z)",
        "EXTRACT(epoch FROM z)", "d - CAST(z AS DATE)", "z < d",
    ],
)  # fmt: skip
def test_what_is_awkward_is_the_same_both_ways(text: str) -> None:
    chance = random.Random(7)
    rows = [random_row(chance) for _ in range(300)]
    for place, row in enumerate(rows):
        row |= {"i": INTEGERS[place % len(INTEGERS)], "f": FLOATS[place % len(FLOATS)], "t": TEXTS[place % len(TEXTS)]}
        row["z"] = TIMES[place % len(TIMES)].replace(tzinfo=dt.UTC)
    compiled = expression(text)
    online = compile_row(compiled, SCHEMA, by_name=True)

    offline = evaluate_table({"value": compiled}, table_of(rows), SCHEMA).column("value").to_pylist()

    for row, expected in zip(rows, offline, strict=True):
        found = online(row)
        assert same(found, expected), f"{found!r} online, {expected!r} offline; {row}"


@pytest.mark.parametrize(
    "text",
    [
        "2 + 3 * 4", "2 ^ 3 ^ 2", "-2 ^ 2", "7 % 4 // 2", "5 - 2 % 3", "NOT 1 IS NULL",
        "1 + 1 BETWEEN 1 AND 3 AND TRUE", "'a' || 'b' = 'ab'", "TRUE OR NULL AND FALSE", "NOT TRUE = FALSE",
        "'x' || 'y' LIKE 'xy'", "1 IN (2, NULL)", "NULL IS DISTINCT FROM 1", "COALESCE(NULL, 2)",
        "NULLIF(3, 3) IS NULL", "IF(1 > 2, 'a', 'b')", "-7 // 2", "-7 % 3", "1 / 0", "7.5e0 % 2", "ROUND(2.5e0)",
        "ROUND(-15, -1)", "ROUND(1234.5e0, -2)", "CAST(2.5e0 AS BIGINT)", "FLOOR(-0.5e0)", "LOG(1000)",
        "POWER(2, 10)", "SIGN(-3)", "SUBSTRING('hello', -3, 2)", "SUBSTRING('hello', 0, 2)", "TRIM('xax', 'x')",
        "CONCAT('a', NULL, 'b')", "STARTS_WITH('abc', 'ab')", "UPPER('straße')", "LENGTH('日本')",
        "REPLACE('aaa', 'a', 'bb')", "EXTRACT(dow FROM DATE '2024-02-29')",
        "DATE_DIFF('hour', TIMESTAMP '2024-01-01 00:59', TIMESTAMP '2024-01-01 01:01')",
        "DATE '2024-03-01' - DATE '2024-02-28'", "CAST('1.5e3' AS DOUBLE)", "CAST(TRUE AS BIGINT)",
        "CAST(1e22 AS VARCHAR)", "CASE 3 WHEN 1 THEN 'x' WHEN 3 THEN 'y' END", "GREATEST(1, NULL, 3)", "'a' < 'B'",
        "DATE_PART('epoch', TIMESTAMP '2024-01-01')",
    ],
)  # fmt: skip
def test_the_meaning_is_that_of_duckdb(text: str) -> None:
    """The very text, run by DuckDB as it is: precedence and functions are what its users know."""
    with duckdb.connect(":memory:") as connection:
        (expected,) = connection.sql(f"SELECT ({text})").fetchall()[0]

    found = value_of(text)

    assert found == expected


@pytest.mark.parametrize(
    ("text", "row", "expected"),
    [
        ("i + 1", {"i": 2**63 - 1}, None),
        ("COALESCE(i * 2, -1)", {"i": 2**62}, -1),
        ("i // 0", {"i": 5}, None),
        ("i % 0", {"i": 5}, None),
        ("i % -1", {"i": -(2**63)}, 0),
        ("i / 0", {"i": 5}, math.inf),
        ("i / 0", {"i": -5}, -math.inf),
        ("i / NULLIF(0, 0)", {"i": 5}, None),
        ("f = f", {"f": math.nan}, True),
        ("f > 1e308", {"f": math.nan}, True),
        ("f IS DISTINCT FROM NULL", {}, False),
        ("CAST(t AS BIGINT)", {"t": "1.5"}, None),
        ("CAST(t AS TIMESTAMP)", {"t": "2024-01-01T02:00:00+02:00"}, dt.datetime(2024, 1, 1, tzinfo=dt.UTC)),
        ("i::TINYINT", {"i": 128}, None),
        ("money * 100", {"money": Decimal("0.07")}, 7.000000000000001),
        ("UPPER(t)", {"t": "ßa"}, "ẞA"),
        ("UPPER(id)", {"id": "6f9619ff-8b86-d011-b42d-00c04fc964ff"}, "6F9619FF-8B86-D011-B42D-00C04FC964FF"),
        ("k AND NULL", {"k": False}, False),
        ("k OR NULL", {"k": False}, None),
    ],
)
def test_a_value_that_is_documented(text: str, row: dict[str, Any], expected: Any) -> None:
    assert same(value_of(text, **row), expected)


def test_letter_case_is_duckdbs_for_every_letter() -> None:
    points = [point for point in range(1, 0x110000) if not 0xD800 <= point <= 0xDFFF]
    with duckdb.connect(":memory:") as connection:
        connection.register("points", pa.table({"point": pa.array(points, pa.int32())}))
        found = connection.sql("SELECT lower(chr(point)), upper(chr(point)) FROM points").fetchall()

    lower, upper = lower_function(), upper_function()

    assert [(lower(chr(point)), upper(chr(point))) for point in points] == found


def test_results_come_in_order_and_may_build_on_each_other() -> None:
    schema = Schema.of({"a": "int64", "b": "int64"})
    expressions = {"ratio": expression("a / b"), "twice": expression("ratio * 2"), "big": expression("twice > 1")}
    table = pa.table({"b": [2, 4, None], "a": [1, 4, 1]})

    found = evaluate_table(expressions, table, schema)

    assert found.to_pydict() == {"ratio": [0.5, 1.0, None], "twice": [1.0, 2.0, None], "big": [False, True, None]}
    run = compile_rows(expressions, schema)
    assert [run((1, 2)), run([4, 4]), run((1, None))] == [(0.5, 1.0, False), (1.0, 2.0, True), (None, None, None)]


def test_columns_that_differ_only_in_case_are_two() -> None:
    schema = Schema.of({"Age": "int64", "age": "int64"})

    found = evaluate_table({"value": expression("Age - age")}, pa.table({"Age": [5], "age": [2]}), schema)

    assert found.column("value").to_pylist() == [3]


def test_the_output_has_canonical_types() -> None:
    texts = {"boolean": "k", "int64": "Small", "float64": "f32", "string": "id", "date": "d", "datetime": "z"}

    found = evaluate_table({kind: expression(text) for kind, text in texts.items()}, table_of([{}]), SCHEMA)

    for kind in texts:
        wanted = arrow_type(expression_dtype(expression(texts[kind]), SCHEMA))
        assert found.schema.field(kind).type == wanted


@pytest.mark.parametrize("rows", [0, 1, 3])
def test_a_constant_has_the_tables_rows(rows: int) -> None:
    found = evaluate_table({"value": expression("1 + 1")}, table_of([{}] * rows), SCHEMA)

    assert found.column("value").to_pylist() == [2] * rows


def test_rows_keep_their_order_over_many_threads() -> None:
    count = 500_000
    table = pa.table({"a": pa.array(range(count), pa.int64())})

    found = evaluate_table({"value": expression("a + 1")}, table, Schema.of({"a": "int64"}))

    assert found.column("value").equals(pa.chunked_array([pa.array(range(1, count + 1), pa.int64())]))


def test_no_expressions_are_no_columns() -> None:
    assert evaluate_table({}, table_of([{}]), SCHEMA).num_columns == 0
    assert compile_rows({}, SCHEMA)([None] * len(SCHEMA)) == ()


def test_values_may_be_of_the_kinds_that_stores_hand_out() -> None:
    schema = Schema.of({"id": "uuid", "x": "float64", "z": "datetime", "money": "decimal(5,2)"})
    row = (UUID(int=1), 3, dt.datetime(2024, 1, 1), Decimal("1.50"))

    assert compile_row(expression("LENGTH(id)"), schema)(row) == 36
    assert same(compile_row(expression("x"), schema)(row), 3.0)
    assert same(compile_row(expression("money"), schema)(row), 1.5)
    assert compile_row(expression("z"), schema)(row) == dt.datetime(2024, 1, 1, tzinfo=dt.UTC)


def test_a_pattern_that_would_be_slow_is_not() -> None:
    """A backtracking matcher would take longer than anybody waits."""
    text = "a" * 20_000

    assert value_of(f"t LIKE '{'%a' * 40}%b'", t=text) is False
    assert value_of(f"t LIKE '{'%a' * 40}%'", t=text) is True


def test_text_in_an_expression_stays_text() -> None:
    nasty = "'); DROP TABLE source; -- $0 {0}"

    quoted = nasty.replace("'", "''")

    assert value_of(f"'{quoted}' || t", t="x") == nasty + "x"


def test_the_deepest_expression_runs() -> None:
    assert value_of("i" + " + 1" * 100, i=1) == 101
