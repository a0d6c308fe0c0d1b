"""Correlations: pairwise complete, to rounding what NumPy has, and the same from parts."""

from __future__ import annotations

import json
import math
from itertools import combinations
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from grange.quality.statistics import Correlations

VALUES = st.lists(
    st.tuples(*[st.none() | st.integers(-50, 50).map(float) | st.sampled_from([math.nan, math.inf])] * 3), max_size=40
)


def frame(rows: list[tuple[Any, ...]]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema={"a": pl.Float64, "b": pl.Float64, "c": pl.Float64}, orient="row", strict=False)


@given(VALUES, st.integers(0, 40))
def test_they_are_as_numpy_has_them_of_the_whole_and_of_parts(rows: list[tuple[Any, ...]], cut: int) -> None:
    whole = Correlations.of(frame(rows))
    parts = Correlations.of(frame(rows[:cut])).merge(Correlations.of(frame(rows[cut:])))
    array = np.array([[math.nan if value is None else value for value in row] for row in rows]).reshape(-1, 3)
    for found in (whole, parts, Correlations.from_data(json.loads(json.dumps(parts.to_data())))):
        for one in range(3):
            for other in range(3):
                expected = by_numpy(array[:, one], array[:, other])
                near = None if expected is None else pytest.approx(expected, abs=1e-9)
                assert found.matrix[one][other] == near


def by_numpy(one: np.ndarray[Any, Any], other: np.ndarray[Any, Any]) -> float | None:
    both = np.isfinite(one) & np.isfinite(other)
    if both.sum() < 2 or np.ptp(one[both]) == 0 or np.ptp(other[both]) == 0:
        return None
    return float(np.corrcoef(one[both], other[both])[0, 1])


@pytest.mark.parametrize("columns", [3, 70])
def test_many_rows_and_columns(columns: int) -> None:
    """More rows than are reckoned with at once, and more columns than are summed slice by slice."""
    random = np.random.default_rng(5)
    values = random.standard_normal((70_000 if columns < 64 else 3_000, columns))
    values[:, 1] += values[:, 0]
    values[:, 2] *= 1e-3
    found = Correlations.of(pl.DataFrame(values))
    assert np.allclose(np.array(found.matrix, float), np.corrcoef(values.T), atol=1e-10)
    values[::7, 0] = math.nan
    held = Correlations.of(pl.DataFrame(values))
    assert held.between("column_0", "column_1") == pytest.approx(by_numpy(values[:, 0], values[:, 1]), abs=1e-10)
    assert held.between("column_1", "column_2") == pytest.approx(found.between("column_1", "column_2"), abs=1e-10)


def test_large_and_small_values_and_constants() -> None:
    found = Correlations.of(
        pl.DataFrame(
            {
                "plain": [1.0, 2.0, 4.0],
                "large": [1e300, 2e300, 4e300],
                "tiny": [1e-310, 2e-310, 4e-310],
                "far": [1.7e15 + 1, 1.7e15 + 2, 1.7e15 + 4],
                "constant": [0.1, 0.1, 0.1],
                "text": ["a", "b", "c"],
                "truth": [True, False, True],
            }
        )
    )
    assert found.names == ("plain", "large", "tiny", "far", "constant")
    assert all(value == pytest.approx(1.0, abs=1e-12) for row in found.matrix[:4] for value in row[:4])
    assert all(row[4] is None for row in found.matrix) and set(found.matrix[4]) == {None}
    merged = found.merge(found)
    assert merged.between("large", "tiny") == pytest.approx(1.0, abs=1e-12)
    assert merged.between("constant", "constant") is None


def test_a_column_that_is_constant_only_beside_another() -> None:
    found = Correlations.of(pl.DataFrame({"x": [0.1, 0.1, 7.0, 9.0], "y": [1.0, 2.0, None, None]}))
    assert found.between("x", "y") is None
    assert found.between("x", "x") == 1.0


def test_no_numbers_and_other_numbers() -> None:
    none = Correlations.of(pl.DataFrame({"text": ["a"]}))
    assert (none.names, none.matrix, none.merge(none).to_dict()) == ((), (), {"names": [], "matrix": []})


def test_a_column_that_a_part_lacks_is_null_there() -> None:
    """A part in which it holds only nulls does not say that it holds numbers."""
    whole = pl.DataFrame({"a": [1.0, 2.0, 5.0, 7.0], "b": [None, None, 3.0, 4.0], "c": [4.0, 1.0, 0.0, 2.0]})
    parts = [Correlations.of(part) for part in (whole[:2].select("c", "a"), whole[2:])]
    for merged in (parts[0].merge(parts[1]), parts[1].merge(parts[0])):
        for one, other in combinations("abc", 2):
            near = pytest.approx(Correlations.of(whole).between(one, other), abs=1e-12)
            assert merged.between(one, other) == near
