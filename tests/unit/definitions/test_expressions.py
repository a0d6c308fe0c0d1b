"""Expressions at definition time: what is read, what is refused, and of which type it is."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.deriving.generating import random_node

from grange.definitions.expression_nodes import CAST_TARGETS, Call, Column, Literal, write
from grange.definitions.expression_parsing import MAX_DEPTH, MAX_NODES, MAX_TEXT
from grange.definitions.expression_types import FUNCTIONS
from grange.definitions.expressions import derived_schema, expression_dtype, parse_condition, parse_expression
from grange.errors import DefinitionError, GrangeError, SchemaError
from grange.types.schema import Schema

SCHEMA = Schema.of(
    {
        "a": "int64", "small": "int16", "x": "float64", "x32": "float32", "money": "decimal(12,2)", "t": "string",
        "id": "uuid", "k": "boolean", "d": "date", "z": "datetime", "huge": "uint64", "raw": "binary",
        "fine": "decimal(38,10)", "tags": "list[string]", "wait": "duration", "Spend 30d": "float64",
    }
)  # fmt: skip


def read(text: str) -> object:
    return parse_expression(text, what="view 'v'").root


def dtype(text: str) -> str:
    return str(expression_dtype(parse_expression(text, what="view 'v'"), SCHEMA))


@pytest.mark.parametrize(
    ("text", "root"),
    [
        ("a + 1", Call("+", (Column("a"), Literal(1)))),
        ('"Spend 30d" / 2', Call("/", (Column("Spend 30d"), Literal(2)))),
        ("-9223372036854775808", Literal(-(2**63))),
        ("- 1.5", Literal(-1.5)),
        (
            "a BETWEEN 1 AND 2",
            Call("and", (Call(">=", (Column("a"), Literal(1))), Call("<=", (Column("a"), Literal(2))))),
        ),
        ("t NOT LIKE 'x%'", Call("not", (Call("like", (Column("t"), Literal("x%"))),))),
        ("a IS NOT NULL", Call("not", (Call("is_null", (Column("a"),)),))),
        ("k IS TRUE", Call("not", (Call("is_distinct", (Column("k"), Literal(True))),))),
        ("IF(k, a, 0)", Call("case", (Column("k"), Column("a"), Literal(0)))),
        ("NULLIF(a, 0)", Call("case", (Call("=", (Column("a"), Literal(0))), Literal(None), Column("a")))),
        ("CASE a WHEN 1 THEN 2 END", Call("case", (Call("=", (Column("a"), Literal(1))), Literal(2), Literal(None)))),
        ("DATE_DIFF('second', z, d)", Call("difference_second", (Column("z"), Column("d")))),
        ("DATE_PART('dow', z)", Call("extract_dow", (Column("z"),))),
        ("LOG(x)", Call("log10", (Column("x"),))),
        ("a::INT", Call("cast_int32", (Column("a"),))),
        ("t IN ('x', NULL)", Call("in", (Column("t"), Literal("x"), Literal(None)))),
    ],
)
def test_a_text_is_read_as_nodes(text: str, root: object) -> None:
    assert read(text) == root


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("a+1", "  a  + 1 "),
        ("coalesce(a, 0) -- why", "COALESCE( a , 0 )"),
        ("(((a)))", "a"),
        ("x ** 2", "POWER(x, 2)"),
        ("a != 1", "a <> 1"),
        ("CAST(a AS DOUBLE)", "TRY_CAST(a AS float8)"),
        ("ceiling(x)", "CEIL(x)"),
    ],
)
def test_what_means_the_same_has_one_normal_text(one: str, other: str) -> None:
    assert parse_expression(one, what="v").normal == parse_expression(other, what="v").normal


@pytest.mark.parametrize(
    ("one", "other"), [("1", "1.0"), ("a", "A"), ("0.0", "-0.0"), ("a - 1", "1 - a"), ("1", "TRUE")]
)
def test_what_means_something_else_has_another_normal_text(one: str, other: str) -> None:
    assert parse_expression(one, what="v") != parse_expression(other, what="v")
    assert parse_expression(one, what="v").normal != parse_expression(other, what="v").normal


@given(
    st.randoms(use_true_random=False), st.sampled_from(["boolean", "int64", "float64", "string", "date", "datetime"])
)
def test_the_normal_text_reads_back_to_the_same_tree(chance: random.Random, kind: str) -> None:
    try:
        expression = parse_expression(write(random_node(chance, kind)), what="v")  # type: ignore[arg-type]
    except DefinitionError:
        return  # constant text that is no date, say
    again = parse_expression(expression.normal, what="v")

    assert again.root == expression.root
    assert again.normal == expression.normal


def test_columns_come_once_in_order() -> None:
    expression = parse_expression("b / a + b * NULLIF(c, a)", what="v")

    assert expression.columns == ("b", "a", "c")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "SQL text"),
        ("a +", "not SQL"),
        ("a; b", "not SQL"),
        ("a, b", "exactly one"),
        ("1), (2", "exactly one"),
        ("1) FROM t WHERE (1", "exactly one"),
        ("a AS b", "not part"),
        ("*", "own row"),
        ("(SELECT 1)", "one expression"),
        ("a + (SELECT max(x) FROM t)", "own row"),
        ("a IN (SELECT 1)", "option"),
        ("EXISTS (SELECT 1)", "own row"),
        ("sum(a)", "aggregates over rows"),
        ("row_number() OVER ()", "aggregates over rows"),
        ("lag(a) OVER (ORDER BY z)", "aggregates over rows"),
        ("random()", "chance"),
        ("now()", "clock"),
        ("current_timestamp", "clock"),
        ("today()", "clock"),
        ("lenght(t)", "no function LENGHT"),
        ("read_csv('/etc/passwd')", "no function"),
        ("getenv('HOME')", "no function"),
        ("a.b", "no table"),
        ("a[1]", "not part"),
        ("z + INTERVAL 1 DAY", "no intervals"),
        ("t LIKE t", "constant"),
        ("t LIKE 'a' ESCAPE '!'", "not part"),
        ("ROUND(x, a)", "constant number"),
        ("ROUND(x, 400)", "constant number"),
        ("DATE_TRUNC('fortnight', z)", "no unit 'fortnight'"),
        ("CAST(a AS DECIMAL(10, 2))", "CAST does not know"),
        ("CAST(a AS HUGEINT)", "CAST does not know"),
        ("DATE '2021-02-29'", "no time"),
        ("9223372036854775808", "64 bits"),
        ("1e400", "too large"),
        ("LOG(2, x)", "base 10"),
        ("'a\0b'", "NUL"),
        ("a + " * MAX_TEXT + "a", f"{MAX_TEXT} characters"),
        ("(" * 3000 + "a" + ")" * 3000, "nested"),
        ("NOT " * (MAX_DEPTH + 1) + "k", "nested"),
        ("a IN (" + ", ".join(["1"] * MAX_NODES) + ")", "parts"),
        ("NULLIF(" * 12 + "a" + ", 0)" * 12, "parts"),
    ],
)  # fmt: skip
def test_what_is_not_in_the_catalogue_is_refused(text: str, reason: str) -> None:
    with pytest.raises(DefinitionError, match=reason):
        parse_expression(text, what="view 'v'")


def test_an_unknown_function_comes_with_the_closest() -> None:
    with pytest.raises(DefinitionError) as caught:
        parse_expression("lenght(t)", what="view 'v'")

    assert caught.value.closest[0] == "LENGTH"
    assert "view 'v'" in caught.value.message


def test_what_is_no_text_is_refused() -> None:
    with pytest.raises(DefinitionError, match="SQL text"):
        parse_expression(7, what="view 'v'")  # type: ignore[arg-type]


@given(st.text(alphabet="ab1.'\"()+-*/%<>=|,; \nNOTnulcasewhd[]{}:$#@!é\0", max_size=40))
def test_whatever_is_written_is_read_or_refused(text: str) -> None:
    try:
        expression = parse_expression(text, what="v")
    except DefinitionError:
        return
    assert parse_expression(expression.normal, what="v").root == expression.root


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a + small", "int64"),
        ("a / small", "float64"),
        ("a + x32", "float64"),
        ("money * 2", "float64"),
        ("a // 2", "int64"),
        ("FLOOR(a)", "float64"),
        ("ROUND(a, -1)", "int64"),
        ("SIGN(x)", "int64"),
        ("id || t", "string"),
        ("d - DATE '2020-01-01'", "int64"),
        ("d < z", "boolean"),
        ("z >= '2020-01-01'", "boolean"),
        ("'2020-01-01' = d", "boolean"),
        ("DATE_TRUNC('month', d)", "datetime"),
        ("EXTRACT(epoch FROM z)", "float64"),
        ("EXTRACT(year FROM d)", "int64"),
        ("CASE WHEN k THEN a ELSE x END", "float64"),
        ("CASE WHEN k THEN NULL ELSE d END", "date"),
        ("COALESCE(d, z)", "datetime"),
        ("GREATEST(a, 2.5)", "float64"),
        ("CAST(x AS FLOAT)", "float64"),
        ("a::TINYINT", "int64"),
        ("CAST(NULL AS VARCHAR)", "string"),
        ("k IS NULL", "boolean"),
    ],
)
def test_the_type_is_known_from_the_schema(text: str, expected: str) -> None:
    assert dtype(text) == expected


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("t + 1", "do not go together"),
        ("a // x", "do not go together"),
        ("z - z", "do not go together"),
        ("d + 1", "do not go together"),
        ("t = 1", "do not go together"),
        ("t = d", "do not go together"),
        ("d > 'soon'", "do not go together"),
        ("k + 1", "do not go together"),
        ("NOT a", "do not go together"),
        ("a AND k", "do not go together"),
        ("CASE WHEN a THEN 1 END", "do not go together"),
        ("COALESCE(a, t)", "do not go together"),
        ("ROUND(t)", "do not go together"),
        ("CAST(k AS DATE)", "do not go together"),
        ("CONCAT(t, 1)", "do not go together"),
        ("NULL", "always null"),
        ("NULL = NULL", "all arguments are null"),
        ("huge + 1", "uint64"),
        ("raw IS NULL", "binary"),
        ("fine * 2", "decimal"),
        ("tags IS NULL", "list"),
        ("wait IS NULL", "duration"),
    ],
)
def test_types_that_do_not_go_together_are_refused(text: str, reason: str) -> None:
    expression = parse_expression(text, what="view 'v'")

    with pytest.raises(DefinitionError, match=reason):
        expression_dtype(expression, SCHEMA)


def test_an_unknown_column_comes_with_the_closest() -> None:
    with pytest.raises(SchemaError) as caught:
        expression_dtype(parse_expression("smal + 1", what="view 'v'"), SCHEMA)

    assert caught.value.closest[0] == "small"
    assert "'smal'" in caught.value.message


def test_the_names_of_columns_mind_their_case() -> None:
    with pytest.raises(SchemaError):
        expression_dtype(parse_expression("A + 1", what="v"), SCHEMA)


@pytest.mark.parametrize(
    "text", ["a + 1", "LENGTH(t)", "'x'", "COALESCE(a, 1)", "CASE WHEN k THEN 1 END", "CAST(a AS DATE)"]
)
def test_what_is_plainly_no_condition_is_refused_when_it_is_read(text: str) -> None:
    with pytest.raises(DefinitionError, match="no condition"):
        parse_condition(text, what="filter")


def test_a_condition_must_be_boolean() -> None:
    assert str(expression_dtype(parse_condition("a > 0 AND t = 'card'", what="filter"), SCHEMA)) == "boolean"
    assert str(expression_dtype(parse_condition("k", what="filter"), SCHEMA)) == "boolean"
    with pytest.raises(DefinitionError, match="no condition"):
        expression_dtype(parse_condition("a", what="filter"), SCHEMA)


def test_a_derived_feature_may_use_those_before_it() -> None:
    ratio = parse_expression("a / 2", what="v")
    twice = parse_expression("ratio * 2 > a", what="v")

    assert derived_schema({"ratio": ratio, "twice": twice}, SCHEMA) == Schema.of(
        {"ratio": "float64", "twice": "boolean"}
    )
    with pytest.raises(SchemaError, match="ratio"):
        derived_schema({"twice": twice, "ratio": ratio}, SCHEMA)
    with pytest.raises(DefinitionError, match="column already"):
        derived_schema({"a": ratio}, SCHEMA)


def test_every_function_of_the_catalogue_has_a_text_that_reads_back() -> None:
    for function, signatures in FUNCTIONS.items():
        names = {"boolean": "k", "int64": "a", "float64": "x", "string": "t", "date": "d", "datetime": "z"}
        for signature in signatures:
            arguments = [Column(names[kind]) for kind in signature.arguments]
            call = Call(function, (arguments[0], Literal("x")) if function == "like" else tuple(arguments))
            assert read(write(call)) == call
            assert dtype(write(call)) == signature.result


def test_every_cast_has_a_text_that_reads_back() -> None:
    for target in CAST_TARGETS:
        expression = parse_expression(f"CAST(t AS {CAST_TARGETS[target]})", what="v")
        assert expression.root == Call(f"cast_{target}", (Column("t"),))


def test_every_error_is_one_of_ours() -> None:
    with pytest.raises(GrangeError):
        parse_expression("\ud800", what="v")
