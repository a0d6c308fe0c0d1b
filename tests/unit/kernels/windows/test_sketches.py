"""Approximate functions: within the error that the catalogue promises, of the window's values only."""

from __future__ import annotations

import math
import sys

import pytest
from tests.unit.kernels.windows.brute import Row
from tests.unit.kernels.windows.test_windows import answers, of, windowed

from grange.errors import MissingDependencyError
from grange.types.aggregates import Window


@pytest.fixture
def datasketches() -> None:
    pytest.importorskip("datasketches", reason="pip install 'grange[sketches]'")


@pytest.mark.usefixtures("datasketches")
@pytest.mark.parametrize(("column", "values"), [("i", range(5000)), ("f", [n / 7 for n in range(5000)])])
def test_distinct_values_are_counted_within_the_error(column: str, values: list[float]) -> None:
    """Four standard errors of 1.6 % (2**12 registers); repetitions change nothing."""
    rows = of([(time, value) for time, value in enumerate([*values, *values])], column)
    found = answers(rows, [4999, 9999], windowed("approx_count_distinct", column))
    assert all(abs(count - 5000) <= 4 * 0.016 * 5000 for count in found)
    assert found[0] == found[1]


@pytest.mark.usefixtures("datasketches")
def test_few_values_are_counted_exactly() -> None:
    rows = of([(0, "a"), (1, "b"), (2, "a"), (3, None), (4, "")], "s")
    assert answers(rows, [0, 1, 4], windowed("approx_count_distinct", "s")) == [1, 2, 3]
    assert answers(rows, [4, 99], windowed("approx_count_distinct", "s", Window("time", 2))) == [1, 0]
    zeros = of([(0, 0.0), (1, -0.0), (2, math.nan), (3, -math.nan)])
    assert answers(zeros, [3], windowed("approx_count_distinct")) == [2]


@pytest.mark.usefixtures("datasketches")
def test_quantiles_are_within_the_rank_error() -> None:
    """Three times the rank error of 1.33 % (k = 200)."""
    rows = of([(time, float(time * 7919 % 10007)) for time in range(10007)])
    for fraction in (0.05, 0.5, 0.95):
        (found,) = answers(rows, [10007], windowed("approx_quantile", parameters=(fraction,)))
        assert abs(found / 10007 - fraction) <= 3 * 0.0133


@pytest.mark.usefixtures("datasketches")
def test_a_nan_in_the_window_makes_the_quantile_nan() -> None:
    rows = of([(0, 1.0), (1, math.nan), (2, 3.0)])
    found = answers(rows, [0, 1, 2], windowed("approx_quantile 1"))
    assert found[0] == 1.0 and math.isnan(found[1]) and math.isnan(found[2])


def test_without_the_package_the_error_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasketches", None)
    rows = [Row(1, 0, None, 0, values={"f": 1.0})]
    for function in ("approx_count_distinct", "approx_quantile 1"):
        with pytest.raises(MissingDependencyError, match=r"pip install 'grange\[sketches\]'"):
            answers(rows, [1], windowed(function))
