"""Profiles: of rows, of batches, of parts put together, and as JSON."""

from __future__ import annotations

import datetime as dt
import json
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import fields
from decimal import Decimal
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grange.errors import RequestError, UnknownFeatureError
from grange.frames import Rows
from grange.quality.statistics import ColumnStatistics, Profile, profile, profiling
from grange.quality.statistics.values import number_of

TYPES: dict[str, tuple[Any, st.SearchStrategy[Any]]] = {
    "integer": (pl.Int64, st.integers(-(2**63), 2**63 - 1) | st.integers(-3, 3)),
    "unsigned": (pl.UInt64, st.integers(0, 2**64 - 1)),
    "small": (pl.Int8, st.integers(-128, 127)),
    "float": (pl.Float64, st.floats() | st.sampled_from([0.0, -0.0, 0.1, math.nan, math.inf, -math.inf])),
    "single": (pl.Float32, st.floats(width=32)),
    "decimal": (pl.Decimal(10, 2), st.decimals(-1000, 1000, places=2)),
    "datetime": (pl.Datetime("us", "UTC"), st.datetimes(timezones=st.just(dt.UTC))),
    "date": (pl.Date, st.dates()),
    "duration": (pl.Duration("us"), st.timedeltas(dt.timedelta(-10_000), dt.timedelta(10_000))),
    "time": (pl.Time, st.times()),
    "boolean": (pl.Boolean, st.booleans()),
    "text": (pl.String, st.text(max_size=2)),
    "binary": (pl.Binary, st.binary(max_size=2)),
    "list": (pl.List(pl.Float64), st.lists(st.none() | st.floats(allow_infinity=False), max_size=3)),
    "struct": (pl.Struct({"a": pl.Int8}), st.fixed_dictionaries({"a": st.integers(0, 3)})),
    "null": (pl.Null, st.none()),
}
COMPUTED = ("mean", "std", "mean_length")
"""Statistics that rounding may tell apart."""


@st.composite
def frames(draw: st.DrawFn) -> pl.DataFrame:
    """Rows with a column of every type."""
    count = draw(st.integers(0, 12))
    columns = {
        name: pl.Series(draw(st.lists(st.none() | values, min_size=count, max_size=count)), dtype=dtype)
        for name, (dtype, values) in TYPES.items()
    }
    return pl.DataFrame(columns)


def stored(found: Profile) -> Profile:
    """A profile that was written and read."""
    again = Profile.from_data(json.loads(json.dumps(found.to_data(), allow_nan=False)))
    assert again.to_data() == found.to_data()
    return again


def assert_equal(found: ColumnStatistics, expected: ColumnStatistics) -> None:
    """The same statistics: computed ones but for rounding, to a microsecond for times, all else exactly."""
    for each in fields(ColumnStatistics):
        one, other = getattr(found, each.name), getattr(expected, each.name)
        if each.name in COMPUTED and one is not None and other is not None:
            ends = [number_of(end) for end in (expected.min, expected.max) if end is not None]
            largest = max([abs(end) for end in ends if math.isfinite(end)], default=0.0)
            if each.name == "std":
                largest = 0.0  # its terms have one sign: nothing cancels
            micro = 2.0 if found.kind in ("date", "datetime", "duration", "time") else 0.0
            near = pytest.approx(number_of(other), rel=1e-9, abs=micro + 1e-9 * largest, nan_ok=True)
            assert number_of(one) == near, each.name
        else:
            assert repr(one) == repr(other), each.name  # as text, since NaN equals nothing


@settings(deadline=None)
@given(st.lists(frames(), min_size=1, max_size=4))
def test_parts_that_are_small_make_exactly_the_whole(parts: list[pl.DataFrame]) -> None:
    """Of every type, whatever of it is null, in memory and from JSON."""
    merged = profile(Rows(polars=parts[0]), mergeable=True, bins=4, top=3)
    for part in parts[1:]:
        merged = stored(merged).merge(stored(profile(Rows(polars=part), mergeable=True, bins=4, top=3)))
    whole = profile(Rows(polars=pl.concat(parts)), bins=4, top=3)
    assert merged.rows == whole.rows and not any(column.approximate for column in merged.columns)
    for found, expected in zip(merged.columns, whole.columns, strict=True):
        assert_equal(found, expected)


def large(seed: int, rows: int = 6_000) -> pl.DataFrame:
    random = np.random.default_rng(seed)
    values = random.standard_normal(rows) + seed
    return pl.DataFrame(
        {
            "normal": pl.Series(values).set(pl.Series(random.random(rows) < 0.1), None),
            "skewed": np.where(random.random(rows) < 0.3, 0.0, np.exp(values)),
            "code": random.integers(0, 2_000, rows) ** 2 // 2_000,
            "when": pl.Series((values * 1e12).astype(np.int64)).cast(pl.Datetime("us", "UTC")),
            "label": pl.Series(random.zipf(1.3, rows)).cast(pl.String),
            "id": [f"{seed}-{row}" for row in range(rows)],
        }
    )


def test_large_parts_make_the_whole_as_nearly_as_they_say() -> None:
    parts = [large(seed) for seed in range(3)]
    frame = pl.concat(parts)
    merged, *others = (profile(Rows(polars=part), mergeable=True, correlations=True) for part in parts)
    for other in others:
        merged = stored(merged).merge(other)
    whole = profile(Rows(polars=frame), correlations=True)
    assert merged.correlations is not None and whole.correlations is not None
    assert np.allclose(np.array(merged.correlations.matrix), np.array(whole.correlations.matrix), rtol=1e-9)

    for found, expected in zip(merged.columns, whole.columns, strict=True):
        assert found.errors is not None and found.approximate
        exact = [each.name for each in fields(ColumnStatistics)]
        estimated = ("errors", "percentiles", "histogram", "distinct", "top")
        assert_equal(*(_with_none(column, estimated) for column in (found, expected)))
        assert set(estimated) < set(exact)
        assert found.distinct == pytest.approx(expected.distinct, rel=4 * found.errors.distinct)
        for value, count in found.top or ():
            truth = int((frame.get_column(found.name) == value).sum())
            assert truth <= count <= truth + found.errors.top
        if expected.percentiles is not None:
            assert_near(found, np.sort([number_of(value) for value in frame.get_column(found.name).drop_nulls()]))

    label = merged.column("label")
    assert label.top is not None and len(label.top) == 10
    exact_top = whole.column("label").top
    assert exact_top is not None and label.top[0][0] == exact_top[0][0] == "1"
    assert merged.column("id").top is None


def assert_near(found: ColumnStatistics, ordered: np.ndarray[Any, Any]) -> None:
    """Percentiles between the true ones of the error bound to both sides; bins with at most so many too many."""
    assert found.percentiles is not None and found.errors is not None and found.histogram is not None
    assert 0 < found.errors.percentiles < 0.02
    count = len(ordered)
    ranks, off = np.arange(1, 100) * (count - 1) / 100, found.errors.percentiles * count
    values = np.array([number_of(value) for value in found.percentiles])
    assert (values >= ordered[np.maximum(np.floor(ranks - off), 0).astype(int)] - 1e-9).all()
    assert (values <= ordered[np.minimum(np.ceil(ranks + off), count - 1).astype(int)] + 1e-9).all()
    edges = np.array([number_of(edge) for edge in found.histogram.edges])
    apart = np.abs(np.array(found.histogram.counts) - np.histogram(ordered, edges)[0])
    assert apart.max() <= found.errors.histogram + 1
    assert sum(found.histogram.counts) == count


def _with_none(column: ColumnStatistics, names: tuple[str, ...]) -> ColumnStatistics:
    values = {each.name: getattr(column, each.name) for each in fields(ColumnStatistics)}
    return ColumnStatistics(**{**values, **dict.fromkeys(names)})


def test_histograms_with_the_same_edges_are_added() -> None:
    """Exactly, however much else is estimated."""
    random = np.random.default_rng(3)
    parts = [np.concatenate([[0.0, 1.0], random.random(5_000)]) for _ in range(2)]
    merged = profile(Rows.of({"x": parts[0]}), mergeable=True).merge(profile(Rows.of({"x": parts[1]}), mergeable=True))
    (column,) = merged.columns
    assert column.histogram is not None and column.errors is not None
    assert column.histogram.counts == tuple(np.histogram(np.concatenate(parts), 20)[0].tolist())
    assert column.errors.histogram == 0 < column.errors.percentiles


def test_parts_without_values_change_nothing_but_counts() -> None:
    full = profile(Rows(polars=large(1)), mergeable=True)
    nothing = large(2, 5).select(pl.lit(None, dtype).alias(name) for name, dtype in large(1, 1).schema.items())
    untyped = pl.DataFrame(dict.fromkeys(nothing.columns, [None] * 5))
    for empty in (nothing, untyped):
        other = profile(Rows(polars=empty), mergeable=True)
        for merged in (full.merge(other), other.merge(full)):
            for found, expected in zip(merged.columns, full.columns, strict=True):
                assert (found.count - 5, found.nulls - 5) == (expected.count, expected.nulls) or len(empty) == 1
                assert (found.percentiles, found.top, found.errors) == (expected.percentiles, expected.top, None)


def test_what_does_not_merge_says_so() -> None:
    one = profile(Rows.of({"x": [1]}), mergeable=True)
    with pytest.raises(RequestError, match="mergeable=True"):
        one.merge(profile(Rows.of({"x": [1]})))
    with pytest.raises(RequestError, match="different columns"):
        one.merge(profile(Rows.of({"y": [1]}), mergeable=True))
    with pytest.raises(RequestError, match="two types"):
        one.merge(profile(Rows.of({"x": ["a"]}), mergeable=True))
    with pytest.raises(RequestError, match="bins"):
        one.merge(profile(Rows.of({"x": [1]}), mergeable=True, bins=3))
    with pytest.raises(RequestError, match="layout"):
        Profile.from_data({**one.to_data(), "layout": 0})


def test_columns_go_by_name() -> None:
    one = profile(Rows.of({"x": [1], "y": ["a"]}), mergeable=True)
    other = profile(Rows.of({"y": ["b"], "x": [2]}), mergeable=True)
    merged = one.merge(other)
    assert [column.name for column in merged.columns] == ["x", "y"]
    assert merged.column("x").max == 2
    with pytest.raises(UnknownFeatureError):
        merged.column("z")


def batches(frame: pl.DataFrame, size: int) -> Iterator[Rows]:
    return (Rows(polars=part) for part in frame.iter_slices(size))


def test_batches_that_fit_are_described_exactly() -> None:
    frame = large(4)
    assert profile(batches(frame, 700), correlations=True).to_dict() == profile(
        Rows(polars=frame), correlations=True
    ).to_dict() | {"correlations": profile(batches(frame, 6_000), correlations=True).to_dict()["correlations"]}
    assert not profile(batches(frame, 700)).mergeable


def test_batches_that_do_not_fit_are_described_part_by_part(monkeypatch: pytest.MonkeyPatch) -> None:
    """No more is held at once than was asked for."""
    frame = large(5)
    memory = int(frame.estimated_size()) // 4
    sizes: list[int] = []
    together = profiling._together

    def watched(frames: list[pl.DataFrame]) -> pl.DataFrame:
        sizes.append(sum(int(each.estimated_size()) for each in frames))
        return together(frames)

    monkeypatch.setattr(profiling, "_together", watched)
    found = profile(batches(frame, 500), memory=memory)
    assert len(sizes) > 3 and max(sizes) <= memory
    assert found.rows == len(frame) and found.mergeable
    assert found.column("normal").approximate and found.column("normal").nulls == frame["normal"].null_count()
    assert found.column("normal").mean == pytest.approx(frame["normal"].mean(), rel=1e-9)


def test_a_batch_of_nulls_only_goes_with_any_type() -> None:
    found = profile([Rows.of({"x": [None]}), Rows.of({"x": [2]}), Rows.of({"x": [None]})])
    assert (found.columns[0].dtype, found.columns[0].nulls, found.columns[0].max) == ("int64", 2, 2)


def test_batches_that_do_not_go_together_say_so() -> None:
    with pytest.raises(RequestError, match="no batch"):
        profile([])
    with pytest.raises(RequestError, match="two types"):
        profile([Rows.of({"x": [1]}), Rows.of({"x": ["a"]})])
    with pytest.raises(RequestError, match="different columns"):
        profile([Rows.of({"x": [1]}), Rows.of({"y": [1]})])
    with pytest.raises(UnknownFeatureError):
        profile([Rows.of({"x": [1]})], ["y"])


def test_many_threads_describe_what_one_does(monkeypatch: pytest.MonkeyPatch) -> None:
    frame = large(6)
    alone = profile(Rows(polars=frame), mergeable=True)
    monkeypatch.setattr(profiling, "_FEW", 0)
    assert profile(Rows(polars=frame), mergeable=True) == alone


def test_profiles_are_the_same_every_time() -> None:
    """Two merged profiles of the same parts are equal to the last hash."""
    made = [
        profile(Rows(polars=large(7)), mergeable=True).merge(profile(Rows(polars=large(8)), mergeable=True))
        for _ in range(2)
    ]
    assert made[0] == made[1]


def test_decimals_are_counted_by_value() -> None:
    (found,) = profile(Rows.of({"x": [Decimal("1.50"), Decimal("1.5"), Decimal("-2")]})).columns
    assert (found.distinct, found.negatives, found.min, found.percentile(99)) == (2, 1, Decimal("-2.00"), 1.5)
    assert found.top == tuple(Counter({Decimal("1.50"): 2, Decimal("-2.00"): 1}).most_common())
