"""Statistics of columns, of every type, and of next to nothing."""

from __future__ import annotations

import datetime as dt
import json
import math
from collections import Counter
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from grange.errors import RequestError, UnknownFeatureError
from grange.frames import Rows
from grange.quality import ColumnStatistics, statistics
from grange.quality.statistics import ElementStatistics, Histogram


def describe(values: Any, dtype: Any = None, **options: Any) -> ColumnStatistics:
    """One column's statistics, which JSON gives back as they were."""
    (found,) = statistics(Rows.of(pl.DataFrame({"x": pl.Series(values, dtype=dtype)})), **options)
    again = ColumnStatistics.from_dict(json.loads(json.dumps(found.to_dict(), allow_nan=False)))
    assert repr(again) == repr(found)  # as text, since NaN equals nothing
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
    assert (found.count, found.nulls, found.values) == (len(values), len(values), 0)
    assert found.distinct in (0, None)
    assert (found.min, found.max, found.mean, found.std, found.p50, found.min_length) == (None,) * 6
    assert (found.histogram, found.top, found.errors) == (None,) * 3
    assert not (found.nans or found.infinities or found.zeros or found.negatives or found.true or found.false)


def test_text() -> None:
    found = describe(["b", "äöü", "a", "b", "a", None, "", "c", "d", "e"])
    assert (found.dtype, found.distinct, found.min_length, found.max_length) == ("string", 7, 0, 3)
    assert found.top == (("a", 2), ("b", 2), ("", 1), ("c", 1), ("d", 1), ("e", 1), ("äöü", 1))
    assert found.mean_length == 10 / 9
    assert found.min is None


def test_times_booleans_binary_decimals_and_nested() -> None:
    noon = dt.datetime(2026, 1, 1, 12, tzinfo=dt.UTC)
    when = describe([noon, noon - dt.timedelta(1), None])
    assert (when.dtype, when.min, when.to_dict()["max"]) == ("datetime", noon - dt.timedelta(1), "2026-01-01T12:00:00Z")
    assert (when.mean, when.p50) == (noon - dt.timedelta(0.5),) * 2
    assert when.std == dt.timedelta(seconds=61094, microseconds=25895)  # a day over the root of two
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
    assert describe([{"a": 1}]).to_dict() == {"name": "x", "dtype": "struct{a:int64}", "count": 1, "nulls": 0}
    assert describe([None], pl.Null).dtype == "null"


def test_dates_have_their_mean_and_quantiles_among_moments() -> None:
    found = describe([dt.date(2026, 1, 1), dt.date(2026, 1, 2)], bins=2)
    assert (found.min, found.max) == (dt.date(2026, 1, 1), dt.date(2026, 1, 2))
    noon = dt.datetime(2026, 1, 1, 12, tzinfo=dt.UTC)
    assert (found.mean, found.p50) == (noon, noon)
    assert found.histogram is not None
    assert found.histogram.edges == (noon - dt.timedelta(0.5), noon, noon + dt.timedelta(0.5))
    assert found.top == ((dt.date(2026, 1, 1), 1), (dt.date(2026, 1, 2), 1))


def test_durations_and_times_of_day() -> None:
    found = describe([dt.timedelta(days=-1.5), dt.timedelta(microseconds=1), None])
    assert (found.min, found.max, found.distinct) == (dt.timedelta(days=-1.5), dt.timedelta(microseconds=1), 2)
    assert describe([dt.time(1), dt.time(2)]).mean == dt.time(1, 30)


def test_moments_that_datetime_does_not_have_are_text() -> None:
    found = describe(pl.Series([2**62, 0]).cast(pl.Datetime("us")))
    assert (found.min, found.max) == (dt.datetime(1970, 1, 1, tzinfo=dt.UTC), "148108-07-06T14:00:27.387904Z")


def test_nanoseconds_are_cut_to_microseconds() -> None:
    """TIME-1."""
    found = describe(pl.Series([1_000, 1_999]).cast(pl.Datetime("ns")))
    assert (found.distinct, found.min) == (1, dt.datetime(1970, 1, 1, microsecond=1, tzinfo=dt.UTC))


def test_lists() -> None:
    found = describe([[1.5, None], [], None, [math.nan, -2.0, 7.0]])
    assert (found.min_length, found.max_length, found.mean_length) == (0, 3, 5 / 3)
    assert found.elements == ElementStatistics(5, 1, -2.0, 7.0)
    assert describe([[1, 2]], pl.Array(pl.Int8, 2)).elements == ElementStatistics(2, 0, 1, 2)
    assert describe([[[1]]]).elements == ElementStatistics(1, 0)
    assert describe([[Decimal("1.5")]]).elements == ElementStatistics(1, 0, Decimal("1.5"), Decimal("1.5"))


def test_integers_beyond_what_floats_tell_apart() -> None:
    found = describe([2**64 - 1, 2**64 - 2, 2**64 - 2], pl.UInt64)
    assert (found.min, found.max, found.distinct) == (2**64 - 2, 2**64 - 1, 2)
    assert found.std == pytest.approx(math.sqrt(1 / 3), rel=1e-12)
    assert found.top == ((2**64 - 2, 2), (2**64 - 1, 1))
    wide = describe([2**100, -(2**63), None], pl.Int128)
    assert (wide.min, wide.max, wide.negatives) == (-(2**63), 2**100, 1)


def test_largest_and_smallest_floats_have_a_spread() -> None:
    assert describe([1.7e308, 1.6e308]).mean == pytest.approx(1.65e308, rel=1e-12)
    assert describe([1e200, 3e200]).std == pytest.approx(math.sqrt(2) * 1e200, rel=1e-12)
    assert describe([1e-200, 3e-200]).std == pytest.approx(math.sqrt(2) * 1e-200, rel=1e-12)
    far = describe([-1.7e308, 1.7e308], bins=4)
    assert (far.mean, far.std, far.p50) == (0.0, math.inf, 0.0)
    assert far.histogram is not None and far.histogram.counts == (1, 0, 0, 1)


def test_constants_have_exactly_no_spread() -> None:
    found = describe([0.1] * 1000)
    assert (found.mean, found.std, found.p75, found.distinct) == (0.1, 0.0, 0.1, 1)
    assert found.histogram == Histogram((0.1, 0.1), (1000,))


def test_zeros_of_both_signs_are_one_value() -> None:
    found = describe([-0.0, 0.0, -0.0, -1.0, 5.0])
    assert (found.zeros, found.negatives, found.distinct) == (3, 1, 3)
    assert found.top is not None and [str(value) for value, _ in found.top] == ["0.0", "-1.0", "5.0"]


def test_single_precision_is_reckoned_with_in_double() -> None:
    found = describe([16_777_216.0] * 10_000 + [1.0], pl.Float32)
    assert found.mean == pytest.approx((16_777_216 * 10_000 + 1) / 10_001, rel=1e-14)


def test_infinities_stand_at_the_ends() -> None:
    """Quantiles next to them are infinite; between two of them nothing lies."""
    found = describe([math.inf, 1.0, 2.0, 3.0, -math.inf, math.nan])
    assert (found.infinities, found.nans, found.distinct) == (2, 1, 6)
    assert (found.min, found.p25, found.p50, found.p75, found.max) == (-math.inf, 1.0, 2.0, 3.0, math.inf)
    assert found.percentile(24) == -math.inf and found.percentile(76) == math.inf
    assert found.mean is not None and math.isnan(found.mean) and math.isnan(found.std)
    assert found.histogram is not None and sum(found.histogram.counts) == 3
    assert describe([math.inf, math.inf, 1.0]).mean == math.inf
    assert math.isnan(describe([math.inf, -math.inf]).p50)


def test_top_values_are_left_out_where_they_say_nothing() -> None:
    assert describe(list(range(11))).top is None
    assert describe(list("abcdefghijk")).top is None
    assert describe(list(range(10))).top == tuple((value, 1) for value in range(10))
    assert describe([*range(11), 5], top=2).top == ((5, 2), (0, 1))
    assert describe([1, 1], top=0).top is None


@pytest.mark.parametrize("options", [{"bins": 0}, {"top": -1}])
def test_nonsense_is_refused(options: dict[str, int]) -> None:
    with pytest.raises(RequestError):
        statistics(Rows.of({"x": [1]}), **options)


def test_python_objects_are_counted() -> None:
    assert describe([object(), object()], pl.Object).count == 2


NUMBERS = st.one_of(
    st.lists(st.none() | st.integers(-(2**63), 2**63 - 1)),
    st.lists(st.none() | st.integers(-3, 3)),
    st.lists(st.none() | st.floats(allow_nan=True, allow_infinity=True)),
    st.lists(st.none() | st.sampled_from([0.0, -0.0, 0.1, 0.5, math.nan, math.inf, -math.inf, 1e308])),
)


@given(NUMBERS, st.integers(1, 30), st.integers(0, 5))
def test_numbers_are_as_plain_python_has_them(values: list[Any], bins: int, top: int) -> None:
    """Every statistic by its definition, in exact arithmetic rounded once."""
    dtype = pl.Float64 if any(isinstance(value, float) for value in values) else pl.Int64
    found = describe(values, dtype, bins=bins, top=top)
    present = [value for value in values if value is not None]
    numbers = sorted(value for value in present if value == value)
    finite = [value for value in numbers if math.isfinite(value)]

    assert (found.count, found.nulls) == (len(values), len(values) - len(present))
    assert found.nans == (len(present) - len(numbers) if dtype == pl.Float64 else None)
    assert found.infinities == (len(numbers) - len(finite) if dtype == pl.Float64 else None)
    assert (found.zeros, found.negatives) == (sum(v == 0 for v in numbers), sum(v < 0 for v in numbers))
    assert found.distinct == len(set(numbers)) + (len(numbers) < len(present))
    assert (found.min, found.max) == ((numbers[0], numbers[-1]) if numbers else (None, None))
    expected = sorted(Counter(numbers).items(), key=lambda entry: (-entry[1], entry[0]))
    assert found.top == (tuple(expected[:top]) if tells(expected, top) else None)
    if numbers and len(finite) == len(numbers):
        assert found.mean == pytest.approx(float(mean(finite)), rel=1e-9, abs=1e-9 * abs_mean(finite))
        if len(finite) > 1:
            assert found.std == pytest.approx(std(finite), rel=1e-9, abs=1e-300)
        quantiles = [quantile(finite, percent) for percent in range(1, 100)]
        assert found.percentiles == pytest.approx(quantiles, rel=1e-12, abs=1e-15 * max(map(abs, finite)))
    if finite:
        assert found.histogram is not None
        assert found.histogram.counts == by_definition(finite, found.histogram.edges)
        widths = np.diff(np.array(found.histogram.edges) / bins)
        assert np.allclose(widths, widths[0]) and len(widths) == (bins if float(finite[0]) != float(finite[-1]) else 1)


@given(st.lists(st.floats(-1e9, 1e9, width=32), min_size=1), st.sampled_from([pl.Float32, pl.Float64]))
def test_numbers_are_as_numpy_has_them(values: list[float], dtype: Any) -> None:
    found = describe(values, dtype)
    array = np.array(values)
    near = pytest.approx(np.percentile(array, range(1, 100)).tolist(), abs=1e-12 * np.abs(array).max())
    assert found.percentiles == near
    assert found.mean == pytest.approx(array.mean(), rel=1e-9, abs=1e-9 * np.abs(array).max())
    if array.min() < array.max():
        counts, edges = np.histogram(array, 20)
        assert found.histogram is not None
        assert found.histogram.edges == tuple(edges.tolist())
        assert found.histogram.counts == tuple(counts.tolist())


@given(st.lists(st.none() | st.text(max_size=3)))
def test_text_is_as_plain_python_has_it(values: list[str | None]) -> None:
    found = describe(values, pl.String)
    present = [value for value in values if value is not None]
    counts = Counter(present)
    expected = sorted(counts.items(), key=lambda entry: (-entry[1], entry[0].encode()))
    assert found.distinct == len(counts)
    assert found.top == (tuple(expected[:10]) if tells(expected, 10) else None)
    lengths = [len(value) for value in present]
    assert found.min_length == min(lengths, default=None)
    assert found.max_length == max(lengths, default=None)
    assert found.mean_length == (sum(lengths) / len(lengths) if lengths else None)


def tells(counts: list[tuple[Any, int]], top: int) -> bool:
    """Whether top values are given at all."""
    return bool(counts) and top > 0 and (counts[0][1] > 1 or len(counts) <= top)


def mean(values: list[float]) -> Fraction:
    return sum(map(Fraction, values), Fraction(0)) / len(values)


def abs_mean(values: list[float]) -> float:
    """What a sum of values of both signs rounds beside."""
    return float(mean([abs(value) for value in values]))


def std(values: list[float]) -> float:
    middle = mean(values)
    square = sum(((Fraction(value) - middle) ** 2 for value in values), Fraction(0)) / (len(values) - 1)
    exponent = (square.numerator.bit_length() - square.denominator.bit_length()) // 2
    try:
        return math.ldexp(math.sqrt(square / Fraction(4) ** exponent), exponent)
    except OverflowError:
        return math.inf


def quantile(ordered: list[float], percent: int) -> float:
    rank = Fraction(percent * (len(ordered) - 1), 100)
    lower = math.floor(rank)
    one, other = (Fraction(float(ordered[place])) for place in (lower, min(lower + 1, len(ordered) - 1)))
    return float(one + (other - one) * (rank - lower))


def by_definition(values: list[float], edges: tuple[float, ...]) -> tuple[int, ...]:
    counts = [sum(low <= float(v) < high for v in values) for low, high in pairwise(edges)]
    counts[-1] = len(values) - sum(counts[:-1])
    return tuple(counts)


def test_columns_come_in_the_order_asked_for_and_unknown_ones_are_errors() -> None:
    rows = Rows.of({"a": [1], "b": [2], "c": [3]})
    assert [found.name for found in statistics(rows, ["c", "a"])] == ["c", "a"]
    with pytest.raises(UnknownFeatureError) as caught:
        statistics(rows, ["bb"])
    assert "b" in caught.value.closest
