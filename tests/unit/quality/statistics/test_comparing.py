"""What changed between profiles, how far, and how alike columns are."""

from __future__ import annotations

import datetime as dt
import json
import math
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from grange.frames import Rows
from grange.quality.statistics import (
    ColumnStatistics,
    compare,
    kolmogorov_smirnov,
    population_stability,
    profile,
    quantile_shift,
    similarity,
)


def column(values: Any, dtype: Any = None) -> ColumnStatistics:
    return profile(Rows(polars=pl.DataFrame({"x": pl.Series(values, dtype=dtype)}))).columns[0]


def normal(mean: float, std: float = 1.0, count: int = 20_000, seed: int = 0) -> np.ndarray[Any, Any]:
    return np.random.default_rng([seed, int(mean * 10) + 100]).standard_normal(count) * std + mean


def test_every_column_says_what_changed() -> None:
    before = profile(Rows.of({"same": [1, 2], "grew": [1, 2], "text": ["a", "b"], "gone": [1, 1]}))
    after = profile(Rows.of({"new": [None, 1], "text": ["a", "cc"], "grew": [1, 4], "same": [1, 2]}))
    found = compare(before, after)
    assert [(each.name, each.status) for each in found.columns] == [
        ("new", "added"), ("text", "changed"), ("grew", "changed"), ("same", "same"), ("gone", "removed"),
    ]  # fmt: skip
    assert found.changed and not compare(before, before).changed
    grew = {change.statistic: change for change in found.columns[2].changes}
    assert set(grew) == {"max", "mean", "std", "p1", "p5", "p25", "p50", "p75", "p95", "p99"}
    assert (grew["max"].before, grew["max"].after, grew["max"].difference) == (2, 4, 2)
    assert [change.statistic for change in found.columns[1].changes] == ["max_length", "mean_length"]
    assert found.columns[3].psi == found.columns[3].ks == found.columns[3].shift == 0.0
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False))["columns"][4]["status"] == "removed"


def test_nulls_types_and_times() -> None:
    when = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    before = profile(Rows.of({"nulls": [1.0, None], "type": [1, 2], "when": [when, when], "truth": [True, True]}))
    day = dt.timedelta(1)
    after = profile(
        Rows.of({"nulls": [1.0, 1.0], "type": ["a", "b"], "when": [when + day] * 2, "truth": [True, False]})
    )
    found = {each.name: each for each in compare(before, after).columns}
    assert found["nulls"].changes[0].to_dict() == {
        "statistic": "null_share", "before": 0.5, "after": 0.0, "difference": -0.5,
    }  # fmt: skip
    assert found["type"].changes[0].before == "int64" and (found["type"].psi, found["type"].ks) == (None, None)
    moved = {change.statistic: change for change in found["when"].changes}
    assert moved["mean"].difference == day and moved["mean"].to_dict()["difference"] == "1 day, 0:00:00"
    shares = {change.statistic: (change.before, change.after) for change in found["truth"].changes}
    assert shares["true_share"] == (1.0, 0.5)


def test_not_a_number_is_no_change() -> None:
    both = profile(Rows.of({"x": [math.inf, -math.inf, math.nan]}))
    assert not compare(both, both).changed


def test_dates_beside_datetimes() -> None:
    before = column([dt.date(2026, 1, 1), dt.date(2026, 1, 3)])
    after = column([dt.datetime(2026, 1, 1, tzinfo=dt.UTC), dt.datetime(2026, 1, 3, tzinfo=dt.UTC)])
    assert (population_stability(before, after), kolmogorov_smirnov(before, after)) == (0.0, 0.0)


def test_population_stability_of_single_values_is_its_formula() -> None:
    before, after = column(["a"] * 8 + ["b"] * 2), column(["a"] * 5 + ["c"] * 5)
    # shares of a, b, c and the rest; those below 0.0001 count as that
    shares = [(0.8, 0.5), (0.2, 1e-4), (1e-4, 0.5), (1e-4, 1e-4)]
    assert population_stability(before, after) == pytest.approx(sum((q - p) * math.log(q / p) for p, q in shares))
    assert population_stability(column([0, 1, 1, 1]), column([0, 0, 0, 1])) == pytest.approx(math.log(3))
    assert population_stability(column([True, False]), column([True, True])) == pytest.approx(
        0.5 * math.log(2) + (0.5 - 1e-4) * math.log(0.5 / 1e-4)
    )


def test_population_stability_of_numbers_is_over_tenths() -> None:
    """Near that of the values themselves, cut at the tenths before."""
    before, after = normal(0), normal(0.5)
    cuts = np.percentile(before, range(10, 100, 10))
    p, q = (np.bincount(np.searchsorted(cuts, values), minlength=10) / len(values) for values in (before, after))
    expected = float(((q - p) * np.log(q / p)).sum())
    assert population_stability(column(before), column(after)) == pytest.approx(expected, rel=0.03)
    assert population_stability(column(before), column(normal(0, seed=9))) == pytest.approx(0, abs=0.003)


def test_text_with_more_values_than_are_named_is_told_apart_only_where_both_are_known() -> None:
    """Nothing is made of a value that may be among the rest."""
    many = [f"v{number}" for number in range(50)]
    before, after = column(many + ["a"] * 50), column(many[25:] + ["b"] * 75)
    found = population_stability(before, after)
    assert found is not None and 0 <= found < 20
    assert population_stability(before, before) == 0.0


@given(
    st.lists(st.integers(-5, 5).map(float), min_size=1, max_size=50),
    st.lists(st.integers(-5, 5).map(float) | st.floats(-5, 5), min_size=1, max_size=50),
)
def test_kolmogorov_smirnov_is_within_its_bound(one: list[float], other: list[float]) -> None:
    def share(values: list[float], at: float) -> float:
        return sum(value <= at for value in values) / len(values)

    exact = max(abs(share(one, at) - share(other, at)) for at in one + other)
    found = kolmogorov_smirnov(column(one), column(other))
    assert found == pytest.approx(exact, abs=0.02 + 1 / len(one) + 1 / len(other))
    assert kolmogorov_smirnov(column(one), column(one)) == 0.0


def test_kolmogorov_smirnov_of_many_values() -> None:
    found = kolmogorov_smirnov(column(normal(0)), column(normal(1)))
    assert found == pytest.approx(math.erf(0.5 / math.sqrt(2)), abs=0.015)  # of two normals one std apart
    assert kolmogorov_smirnov(column([0.0] * 5), column([1.0] * 5)) == 1.0
    assert kolmogorov_smirnov(column(["a"]), column(["a"])) is None


def test_quantiles_shift_in_standard_deviations() -> None:
    assert quantile_shift(column(normal(0)), column(normal(0) + 2)) == pytest.approx(2, rel=0.03)
    assert quantile_shift(column([1.0, 1.0]), column([1.0])) == 0.0
    assert quantile_shift(column([1.0, 1.0]), column([2.0])) is None
    assert quantile_shift(column([1.0]), column(["a"])) is None


def test_similarity_by_hand() -> None:
    assert similarity(column(["a", "a", "b", "c"]), column(["a", "b", "b", "d"])) == pytest.approx(0.5)
    assert similarity(column([1, 1, 2, 2]), column([1.0, 2.0, 2.0, 2.0])) == pytest.approx(0.75)
    assert similarity(column([True, False]), column([True, True, True, False])) == pytest.approx(0.75)
    assert similarity(column(["a"]), column([1])) == 0.0
    assert similarity(column([], pl.Float64), column([1.0])) == 0.0
    assert similarity(column([[1]]), column([[1]])) == 0.0


def test_similarity_of_numbers_is_the_overlap_of_their_distributions() -> None:
    assert similarity(column(normal(0)), column(normal(0, seed=3))) > 0.97
    # of two normals two std apart: 2 * Phi(-1)
    assert similarity(column(normal(0)), column(normal(2))) == pytest.approx(1 - math.erf(1 / math.sqrt(2)), abs=0.03)
    assert similarity(column(normal(0)), column(normal(100))) == pytest.approx(0, abs=0.01)
    assert similarity(column(normal(0)), column(normal(0, 20))) < 0.2


def test_similarity_of_text_with_many_values_is_over_what_is_named() -> None:
    words = [f"w{number}" for number in range(100) for _ in range(100 - number)]
    assert similarity(column(words), column(words * 2)) == pytest.approx(1.0)
    assert similarity(column(words), column([f"x{word}" for word in words])) == 0.0


@given(
    st.lists(st.floats(-10, 10) | st.sampled_from([math.inf, -math.inf, math.nan, 0.0]), max_size=30),
    st.lists(st.floats(-10, 10) | st.sampled_from([math.inf, math.nan, 0.0]), max_size=30),
)
def test_distances_are_symmetrical_and_in_their_range(one: list[float], other: list[float]) -> None:
    first, second = column(one, pl.Float64), column(other, pl.Float64)
    alike = similarity(first, second)
    assert 0.0 <= alike <= 1.0 and alike == pytest.approx(similarity(second, first))
    ks = kolmogorov_smirnov(first, second)
    assert ks is None or 0.0 <= ks <= 1.0
    psi = population_stability(first, second)
    assert psi is None or (psi >= 0.0 and math.isfinite(psi))
    if first.mean is not None:
        assert similarity(first, first) == pytest.approx(1.0)
