"""Expectations: which rows fail, and what is said of them."""

from __future__ import annotations

import datetime as dt
import math
from decimal import Decimal
from typing import Any

import polars as pl
import pyarrow as pa
import pytest

from grange.definitions import expectations as expect
from grange.definitions.expectations import Expectation
from grange.errors import DefinitionError, ExpectationError, SchemaError
from grange.frames import Rows
from grange.quality import Outcome, evaluate

NOON = dt.datetime(2026, 1, 1, 12)
nan, inf = math.nan, math.inf


def check(values: Any, *checks: Expectation, dtype: Any = None) -> Outcome:
    return evaluate(Rows.of(pl.DataFrame({"x": pl.Series(values, dtype=dtype)})), (("x", checks),))


def failing(values: Any, expectation: Expectation, dtype: Any = None) -> list[int]:
    """Rows that fail; found by dropping them."""
    dropping = Expectation(expectation.kind, expectation.arguments, "drop")
    return list(check(values, dropping, dtype=dtype).drop.arg_true())


@pytest.mark.parametrize(
    ("values", "expectation", "rows"),
    [
        ([1, None, 2], expect.not_null(), [1]),
        ([nan, None], expect.not_null(), [1]),
        ([1, 1, None, None, 2, 1], expect.unique(), [1, 5]),
        ([nan, nan, 0.0], expect.unique(), [1]),
        ([0, 1, None, 5, 6], expect.between(1, 5), [0, 4]),
        ([0.5, nan, None, -inf], expect.between(0, 1), [1, 3]),
        ([0, 1, None], expect.greater_than(0), [0]),
        ([nan, inf, None], expect.greater_than(0), [0]),
        ([0, 1, 2], expect.greater_than_or_equal(1), [0]),
        ([0, 1, 2], expect.less_than(1), [1, 2]),
        ([nan, 1.0], expect.less_than(5), [0]),
        ([0, 1, 2], expect.less_than_or_equal(1), [2]),
        ([1.0, None], expect.greater_than(nan), [0]),
        ([1, None], expect.less_than(nan), [0]),
        ([1, None], expect.less_than(inf), []),
        (["a", "b", None], expect.one_of(["a"]), [1]),
        ([1, 2, None, 3], expect.one_of([1, 2.5, 3.0]), [1]),
        ([nan, 1.0], expect.one_of([nan, 1]), [0]),
        ([True, False, None], expect.one_of([True]), [1]),
        ([b"a", b"b"], expect.one_of([b"b"]), [0]),
        (["ab", "abc", "xab", "ab\n", None, ""], expect.matches("a|ab"), [1, 2, 3, 5]),
        (["ab", "", "äöü", None, "abcd"], expect.length_between(1, 3), [1, 4]),
        ([[1], [], None, [1, 2]], expect.length_between(1, 1), [1, 3]),
        ([1.0, nan, inf, -inf, None], expect.finite(), [1, 2, 3]),
        ([1, None], expect.finite(), []),
        ([Decimal("1.10"), Decimal("1.11"), None], expect.less_than(1.105), [1]),
        ([Decimal("1.10"), Decimal("1.11")], expect.one_of([Decimal("1.1")]), [1]),
        ([Decimal("1.10")], expect.less_than(10**50), []),
        ([Decimal("1.10")], expect.one_of([1.105]), [0]),
        (["a", "B", None], expect.greater_than("a"), [0, 1]),
        ([dt.date(2026, 1, 1), dt.date(2026, 1, 2)], expect.less_than(dt.date(2026, 1, 2)), [1]),
        ([NOON, NOON - dt.timedelta(hours=1)], expect.less_than(NOON.replace(tzinfo=dt.UTC)), [0]),
        ([NOON], expect.greater_than(dt.date(2026, 1, 1)), []),
        ([dt.date(2026, 1, 1)], expect.greater_than_or_equal(NOON), [0]),
        ([dt.timedelta(1), dt.timedelta(2)], expect.between(dt.timedelta(0), dt.timedelta(1)), [1]),
    ],
)
def test_which_rows_fail(values: Any, expectation: Expectation, rows: list[int]) -> None:
    """Nulls pass all but not_null; NaN fails comparisons; the first of equals is unique."""
    assert failing(values, expectation) == rows


@pytest.mark.parametrize(
    ("values", "dtype", "expectation", "rows"),
    [
        ([2**63, 2**63 + 1], pl.UInt64, expect.greater_than(2**63), [0]),
        ([0, 5], pl.UInt8, expect.greater_than(-1), []),
        ([0, 5], pl.UInt8, expect.less_than(1000), []),
        ([2**53, 2**53 + 1], pl.Int64, expect.less_than_or_equal(float(2**53)), [1]),
        ([-3, -2], pl.Int64, expect.greater_than(-2.5), [0]),
        ([-3, -2], pl.Int64, expect.less_than_or_equal(-2.5), [1]),
        ([-3, -2], pl.Int64, expect.between(-2.5, 0), [0]),
        ([-3, -2], pl.Int64, expect.less_than(-2.5), [1]),
        ([-3], pl.Int64, expect.less_than(2**80), []),
        ([0.1], pl.Float32, expect.less_than_or_equal(0.1), []),
        ([NOON.replace(tzinfo=dt.UTC)], pl.Datetime("ns", "Asia/Tokyo"), expect.less_than(NOON), [0]),
        ([NOON.replace(tzinfo=dt.UTC)], pl.Datetime("ns", "Asia/Tokyo"), expect.between(NOON, NOON), []),
        (["a", "b"], pl.Categorical, expect.matches("a"), [1]),
        ([None, None], pl.Null, expect.greater_than(1), []),
        ([None, None], pl.Null, expect.not_null(), [0, 1]),
        ([None, None], pl.String, expect.matches("x"), []),
        ([], pl.Int64, expect.unique(), []),
        ([], pl.Null, expect.matches("x"), []),
    ],
)
def test_types_at_their_edges(values: Any, dtype: Any, expectation: Expectation, rows: list[int]) -> None:
    """Bounds beyond a type, between two integers, or of another precision decide as mathematics does."""
    assert failing(values, expectation, dtype) == rows


def test_policies_counts_samples_and_quarantine() -> None:
    """Drop goes to quarantine with its reasons, warn stays, fail is demanded."""
    rows = Rows.of({"amount": [5, -1, None, -2, 50], "currency": ["EUR", "eur", None, "x", "EUR"]})
    outcome = evaluate(
        rows,
        (
            (
                "amount",
                (expect.greater_than(0, policy="drop"), expect.not_null(policy="warn"), expect.less_than(10)),
            ),
            ("currency", (expect.matches("[A-Z]{3}", policy="drop"),)),
        ),
    )
    assert [(str(check), check.failed, check.values, check.rows) for check in outcome.checks] == [
        ("amount: greater_than(0)", 2, (-1, -2), (1, 3)),
        ("amount: not_null", 1, (None,), (2,)),
        ("amount: less_than(10)", 1, (50,), (4,)),
        ("currency: matches([A-Z]{3})", 2, ("eur", "x"), (1, 3)),
    ]
    assert outcome.quarantine.polars.to_dicts() == [
        {"amount": -1, "currency": "eur", "__reasons": ["amount: greater_than(0)", "currency: matches([A-Z]{3})"]},
        {"amount": -2, "currency": "x", "__reasons": ["amount: greater_than(0)", "currency: matches([A-Z]{3})"]},
    ]
    assert outcome.kept(rows).polars.to_dicts() == [
        {"amount": 5, "currency": "EUR"},
        {"amount": None, "currency": None},
        {"amount": 50, "currency": "EUR"},
    ]
    assert [len(part) for part in (outcome.failures, outcome.drops, outcome.warnings)] == [1, 2, 1]
    with pytest.raises(ExpectationError, match=r"amount: less_than.*1 of 5 rows") as e:
        outcome.demand(what="feature group 'g'")
    assert e.value.found == "50 in row 4"
    assert outcome.to_dict()["dropped"] == 2
    assert outcome.to_dict()["checks"][2] == {
        "column": "amount",
        "expectation": "less_than(10)",
        "policy": "fail",
        "failed": 1,
        "values": [50],
        "rows": [4],
    }


def test_only_the_reasons_of_a_row_are_its_reasons() -> None:
    outcome = check([1, 20, None], expect.less_than(10, policy="drop"), expect.not_null(policy="drop"))
    assert outcome.quarantine.polars["__reasons"].to_list() == [["x: less_than(10)"], ["x: not_null"]]


def test_samples_are_the_first_few() -> None:
    (found,) = check(range(100), expect.less_than(10)).checks
    assert (found.failed, found.values, found.rows) == (90, (10, 11, 12, 13, 14), (10, 11, 12, 13, 14))


def test_rows_that_are_all_fine_or_none_at_all() -> None:
    rows = Rows.of(pa.table({"x": pa.array([], pa.int64())}))
    for expectations in ((), (("x", (expect.greater_than(0, policy="drop"), expect.unique())),)):
        outcome = evaluate(rows, expectations)
        outcome.demand(what="g")
        assert (outcome.rows, len(outcome.quarantine), len(outcome.drop)) == (0, 0, 0)
        assert outcome.quarantine.polars.schema == {"x": pl.Int64, "__reasons": pl.List(pl.String)}
        assert outcome.kept(rows) is rows


@pytest.mark.parametrize(
    ("values", "expectation"),
    [
        ([1], expect.matches("x")),
        ([1], expect.length_between(0, 1)),
        ([1], expect.greater_than("a")),
        ([1], expect.one_of([1, "a"])),
        ([1], expect.greater_than(True)),
        (["a"], expect.greater_than(0)),
        (["a"], expect.finite()),
        ([True], expect.greater_than(False)),
        ([[1]], expect.unique()),
        ([NOON], expect.greater_than("2026-01-01")),
        ([{"a": 1}], expect.one_of([1])),
        (["a"], expect.matches("(?=x)")),
    ],
)
def test_a_check_that_a_type_can_never_meet_is_an_error_before_any_row(values: Any, expectation: Expectation) -> None:
    with pytest.raises(DefinitionError, match=expectation.kind):
        check(values, expectation)
    with pytest.raises(DefinitionError):
        check(values[:0], expectation, dtype=pl.Series(values).dtype)


def test_an_unknown_column_names_the_closest() -> None:
    with pytest.raises(SchemaError) as caught:
        evaluate(Rows.of({"amount": [1]}), (("amuont", (expect.not_null(),)),))
    assert caught.value.closest == ("amount",)
