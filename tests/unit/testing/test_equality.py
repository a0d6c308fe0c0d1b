"""The rule of equality sees what a sorting, de-duplicating, type-blind comparator would not."""

from __future__ import annotations

import math

import pyarrow as pa
import pytest

from grange.frames import Rows
from grange.testing.equality import COMPUTED, assert_rows_equal, difference, same

ROWS = pa.table({"k": ["a", "b", "b"], "v": pa.array([1, None, 2], pa.int64())})


def test_equal_tables_are_equal_whatever_holds_them():
    large = ROWS.cast(pa.schema([("k", pa.large_string()), ("v", pa.int64())]))
    assert difference(ROWS, ROWS) is None
    assert difference(Rows(polars=Rows(arrow=large).polars), large) is None
    assert difference(pa.concat_tables([ROWS.slice(0, 1), ROWS.slice(1)]), ROWS) is None


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (ROWS.select(["v", "k"]), r"columns are \['v', 'k'\]"),
        (ROWS.drop_columns(["v"]), "columns are"),
        (ROWS.set_column(1, "v", pa.array([1, None, 2], pa.int32())), "'v' is of type int32, expected int64"),
        (ROWS.set_column(1, "v", pa.array([1.0, None, 2.0])), "'v' is of type double, expected int64"),
        (ROWS.slice(0, 2), "2 rows, expected 3"),
        (pa.concat_tables([ROWS, ROWS.slice(2)]), "4 rows, expected 3"),
        (ROWS.take([0, 2, 1]), r"row 1, column 'v' is 2, expected None \(the rest of the row: \{'k': 'b'\}\)"),
        (ROWS.set_column(1, "v", pa.array([1, 0, 2])), "row 1, column 'v' is 0, expected None"),
    ],
)
def test_every_difference_is_found_and_said(other, message):
    with pytest.raises(AssertionError, match=message):
        assert_rows_equal(other, ROWS)


def test_rows_are_sorted_only_by_named_keys():
    turned = pa.table({"k": ["b", "a"], "v": [2, 1]})
    straight = pa.table({"k": ["a", "b"], "v": [1, 2]})
    assert difference(turned, straight) is not None
    assert difference(turned, straight, by=["k"]) is None


@pytest.mark.parametrize(
    ("left", "right", "equal"),
    [
        (None, None, True),
        (None, 0, False),
        (None, math.nan, False),
        (math.nan, math.nan, True),
        (math.nan, 0.0, False),
        (0.0, -0.0, False),
        (0.1 + 0.2, 0.3, False),
        (1, True, False),
        (1, 1.0, False),
        ("1", 1, False),
        ([None], [], False),
        ([math.nan, -0.0], [math.nan, -0.0], True),
        ([math.nan, -0.0], [math.nan, 0.0], False),
        ({"a": [1]}, {"a": [1]}, True),
        ({"a": None}, None, False),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, False),
    ],
)
def test_values_are_equal_by_type_and_bits(left, right, equal):
    assert same(left, right) is equal


def test_times_beyond_python_are_compared():
    far = pa.table({"t": pa.array([1 << 60, None], pa.int64()).cast(pa.timestamp("us", tz="UTC"))})
    near = pa.table({"t": pa.array([0, None], pa.int64()).cast(pa.timestamp("us", tz="UTC"))})
    assert difference(far, far) is None
    assert difference(far, near) is not None


@pytest.mark.parametrize(
    ("left", "right", "equal"),
    [
        (0.1 + 0.2, 0.3, True),
        (1e9, 1e9 + 0.5, True),
        (1e9, 1e9 + 1.5, False),
        (0.0, -0.0, True),
        (0.0, 1e-300, False),
        (1e-300, 1.1e-300, False),
        (math.inf, math.inf, True),
        (math.inf, 1e308, False),
        (math.nan, math.nan, True),
        (math.nan, 0.0, False),
        (None, 0.0, False),
        ([0.1 + 0.2, None], [0.3, None], True),
        ({"a": 0.1 + 0.2}, {"a": 0.3}, True),
        (1_000_000_000_000, 1_000_000_000_001, False),
        ("1.0", "1.00", False),
    ],
)
def test_computed_floats_are_equal_within_a_part_of_the_larger(left, right, equal):
    assert same(left, right, tolerance=COMPUTED) is equal


def test_a_tolerance_is_asked_for():
    found, expected = pa.table({"v": [0.1 + 0.2]}), pa.table({"v": [0.3]})
    assert difference(found, expected) is not None
    assert difference(found, expected, tolerance=COMPUTED) is None
    with pytest.raises(AssertionError, match="row 0, column 'v'"):
        assert_rows_equal(found, expected)
    assert_rows_equal(found, expected, tolerance=COMPUTED)
