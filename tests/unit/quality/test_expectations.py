"""Expectations: nulls pass all but not_null, NaN passes no comparison, policies decide what becomes of rows."""

from __future__ import annotations

import datetime as dt
from typing import Any

import polars as pl
import pytest

import grange as gr
from grange.errors import ColumnTypeError, ExpectationError, SchemaError
from grange.frames import Rows
from grange.quality.expectations import evaluate

NAN = float("nan")


@pytest.mark.parametrize(
    ("check", "values", "failing"),
    [
        (gr.not_null(), [1, None, 3], [1]),
        (gr.unique(), [1, 2, 1, None, None, 2], [2, 5]),
        (gr.between(1, 3), [0, 1, 3, 4, None], [0, 3]),
        (gr.greater_than(0), [0.0, 0.5, NAN, None, -1.0], [0, 2, 4]),
        (gr.greater_than_or_equal(0), [0, -1], [1]),
        (gr.less_than(5), [5.0, 4.9, NAN], [0, 2]),
        (gr.less_than_or_equal(5), [5, 6], [1]),
        (gr.one_of(["a", "b"]), ["a", "c", None], [1]),
        (gr.matches("[a-z]+"), ["abc", "ab1", "", None, "abc\n"], [1, 2, 4]),
        (gr.length_between(1, 2), ["", "é", "abc", None], [0, 2]),
        (gr.length_between(1, 1), [[1], [], None, [1, 2]], [1, 3]),
        (gr.finite(), [1.0, NAN, float("inf"), None], [1, 2]),
        (gr.less_than(dt.date(2026, 1, 2)), [dt.date(2026, 1, 1), dt.date(2026, 1, 2)], [1]),
    ],
)
def test_which_rows_fail(check: Any, values: list[Any], failing: list[int]) -> None:
    outcome = evaluate(Rows(polars=pl.DataFrame({"x": values})), (("x", (check,)),))

    assert [failure.count for failure in outcome.failures] == ([len(failing)] if failing else [])
    assert [row for failure in outcome.failures for row in failure.rows] == failing[:3]


def test_drop_splits_rows_and_says_why() -> None:
    rows = Rows(polars=pl.DataFrame({"x": [1, -1, None, -2], "y": ["a", "b", None, "b"], "__sequence": [0, 1, 2, 3]}))
    checks = (
        ("x", (gr.greater_than(0, policy="drop"), gr.not_null(policy="drop"))),
        ("y", (gr.unique(policy="drop"),)),
    )

    outcome = evaluate(rows, checks)

    assert outcome.dropped == 3
    assert outcome.kept(rows).polars["x"].to_list() == [1]
    gone = outcome.quarantine(rows).polars
    assert gone.columns == ["x", "y", "__reasons"]
    assert gone["__reasons"].to_list() == [["x: greater_than(0)"], ["x: not_null"], ["x: greater_than(0)", "y: unique"]]


def test_fail_raises_and_warn_reports() -> None:
    rows = Rows(polars=pl.DataFrame({"x": [-1, 2]}))

    warned = evaluate(rows, (("x", (gr.greater_than(0, policy="warn"),)),))
    failed = evaluate(rows, (("x", (gr.greater_than(0),)),))

    warned.raise_failures("group")
    assert warned.warnings() == ("x: 1 row fails greater_than(0) (-1 in row 0)",)
    assert warned.dropped == 0
    with pytest.raises(ExpectationError, match=r"group: x: 1 row fails greater_than\(0\)") as caught:
        failed.raise_failures("group")
    assert caught.value.details["failures"][0]["count"] == 1


def test_no_rows_and_no_checks() -> None:
    empty = Rows(polars=pl.DataFrame({"x": []}, schema={"x": pl.Int64}))

    assert evaluate(empty, (("x", (gr.not_null(), gr.unique(policy="drop"))),)).failures == ()
    assert evaluate(empty, ()).kept(empty) is empty


@pytest.mark.parametrize(
    "check", [gr.matches("a"), gr.length_between(1, 2), gr.finite(), gr.greater_than("a"), gr.one_of([True])]
)
def test_a_check_that_a_type_cannot_have_is_refused(check: Any) -> None:
    with pytest.raises(ColumnTypeError, match="cannot be asked of column 'x'"):
        evaluate(Rows(polars=pl.DataFrame({"x": [1]})), (("x", (check,)),))


def test_a_check_on_no_column_names_the_closest() -> None:
    with pytest.raises(SchemaError) as caught:
        evaluate(Rows(polars=pl.DataFrame({"amount": [1]})), (("amuont", (gr.not_null(),)),))
    assert caught.value.closest == ("amount",)
