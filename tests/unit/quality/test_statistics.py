"""Statistics of columns, of every type, and of next to nothing."""

from __future__ import annotations

import datetime as dt
import json
import math
from decimal import Decimal
from typing import Any

import polars as pl
import pytest

from grange.errors import UnknownFeatureError
from grange.frames import Rows
from grange.quality import ColumnStatistics, statistics


def describe(values: Any, dtype: Any = None) -> ColumnStatistics:
    (found,) = statistics(Rows.of(pl.DataFrame({"x": pl.Series(values, dtype=dtype)})))
    json.dumps(found.to_dict(), allow_nan=False)
    return found


def test_integers() -> None:
    found = describe([1, 2, 2, 10, None])
    assert (found.dtype, found.count, found.nulls, found.distinct) == ("int64", 5, 1, 3)
    assert (found.min, found.max, found.mean) == (1, 10, 3.75)
    assert found.std == pytest.approx(math.sqrt(52.75 / 3), rel=1e-12)
    assert (found.p25, found.p50, found.p75) == (1.75, 2.0, 4.0)
    assert describe([2**64 - 1], pl.UInt64).max == 2**64 - 1


def test_floats_count_nan_and_leave_it_out_of_the_rest() -> None:
    found = describe([1.0, math.nan, 3.0, None, math.nan])
    assert (found.count, found.nulls, found.nans, found.distinct) == (5, 1, 2, 3)
    assert (found.min, found.max, found.mean, found.p50) == (1.0, 3.0, 2.0, 2.0)


def test_infinities_are_text_in_json() -> None:
    found = describe([math.inf, -math.inf])
    assert (found.to_dict()["min"], found.to_dict()["max"], found.to_dict()["mean"]) == ("-Infinity", "Infinity", "NaN")


def test_one_value_has_no_spread() -> None:
    found = describe([4])
    assert (found.mean, found.std, found.p25) == (4.0, None, 4.0)
    assert "std" not in found.to_dict()


@pytest.mark.parametrize("values", [[], [None, None]])
@pytest.mark.parametrize(
    "dtype",
    [pl.Int64, pl.Float64, pl.String, pl.Boolean, pl.Date, pl.Datetime("us", "UTC"), pl.Duration, pl.Binary, pl.Null,
     pl.List(pl.Int64), pl.Struct({"a": pl.Int8}), pl.Decimal(10, 2), pl.Categorical],
)  # fmt: skip
def test_nothing_at_all_of_any_type(values: list[None], dtype: Any) -> None:
    """No rows, or nulls only: counts, and no figure made up."""
    found = describe(values, dtype)
    assert (found.count, found.nulls) == (len(values), len(values))
    assert found.distinct in (0, None)
    assert (found.min, found.max, found.mean, found.std, found.p50, found.min_length) == (None,) * 6


def test_text() -> None:
    found = describe(["b", "äöü", "a", "b", "a", None, "", "c", "d", "e"])
    assert (found.dtype, found.distinct, found.min_length, found.max_length) == ("string", 7, 0, 3)
    assert found.top == (("a", 2), ("b", 2), ("", 1), ("c", 1), ("d", 1))
    assert found.min is None


def test_times_booleans_binary_decimals_and_nested() -> None:
    noon = dt.datetime(2026, 1, 1, 12, tzinfo=dt.UTC)
    when = describe([noon, noon - dt.timedelta(1), None])
    assert (when.dtype, when.min, when.to_dict()["max"]) == ("datetime", noon - dt.timedelta(1), "2026-01-01T12:00:00Z")
    assert describe([dt.date(2026, 1, 1)]).to_dict()["min"] == "2026-01-01"
    assert describe([dt.timedelta(hours=1)]).to_dict()["min"] == "1:00:00"
    assert (describe([True, None, True, False]).true, describe([True]).distinct) == (2, 1)
    assert describe([b"ab", b""]).max_length == 2
    money = describe([Decimal("1.10"), Decimal("2.20")])
    assert (money.dtype.startswith("decimal"), money.to_dict()["min"], money.mean) == (
        True,
        "1.10",
        pytest.approx(1.65),
    )
    assert describe([[1], None]).to_dict() == {"name": "x", "dtype": "list[int64]", "count": 2, "nulls": 1}
    assert describe([{"a": 1}]).dtype == "struct{a:int64}"
    assert describe([None], pl.Null).dtype == "null"


def test_columns_come_in_the_order_asked_for_and_unknown_ones_are_errors() -> None:
    rows = Rows.of({"a": [1], "b": [2], "c": [3]})
    assert [found.name for found in statistics(rows, ["c", "a"])] == ["c", "a"]
    with pytest.raises(UnknownFeatureError) as caught:
        statistics(rows, ["bb"])
    assert "b" in caught.value.closest
