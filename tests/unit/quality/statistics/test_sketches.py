"""Summaries that merge: never further off than they say, the same every time, exact while small."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from grange.quality.statistics import sketches
from grange.quality.statistics.sketches import (
    HASHES,
    KEPT,
    Distinct,
    Frequent,
    Quantiles,
    hashed_numbers,
    hashed_texts,
)

PARTS = st.lists(st.tuples(st.integers(0, 5000), st.sampled_from(["normal", "ties", "rising"])), min_size=1, max_size=8)


def part(number: int, size: int, shape: str) -> NDArray[np.float64]:
    """Some values in ascending order; `rising` ones lie beyond those of the parts before."""
    random = np.random.default_rng(number)
    if shape == "rising":
        return np.sort(random.random(size) + number)
    values = random.standard_normal(size) * 3
    return np.sort(values if shape == "normal" else np.rint(values))


@given(PARTS)
def test_quantiles_are_as_near_as_they_say(parts: list[tuple[int, str]]) -> None:
    values = [part(number, size, shape) for number, (size, shape) in enumerate(parts)]
    found = Quantiles.of(values[0])
    for each in values[1:]:
        found = found.merge(Quantiles.of(each))
    ordered = np.sort(np.concatenate(values))
    assert found.count == len(ordered)
    assert Quantiles.from_data(json.loads(json.dumps(found.to_data()))) == found
    if not len(ordered):
        return

    assert found.error < (0.005 if len(parts) == 1 else 0.03)
    ranks = np.arange(1, 100) * (len(ordered) - 1) / 100
    quantiles = found.at(ranks, ordered[0], ordered[-1])
    off = found.error * len(ordered)
    least, most = np.floor(ranks - off), np.ceil(ranks + off)
    assert (quantiles >= ordered[np.maximum(least, 0).astype(int)] - 1e-9).all()
    assert (quantiles <= ordered[np.minimum(most, len(ordered) - 1).astype(int)] + 1e-9).all()
    edges = np.linspace(ordered[0], ordered[-1], 8)
    assert np.abs(np.array(found.binned(edges)) - np.histogram(ordered, edges)[0]).max() <= 2 * off + 1e-6


def test_quantiles_are_exact_while_they_hold_every_value() -> None:
    values = np.sort(np.random.default_rng(1).random(KEPT))
    found = Quantiles.of(values[::2]).merge(Quantiles.of(values[1::2]))
    assert found.exact and found.error == 0
    percentiles = found.at(np.arange(1, 100) * (KEPT - 1) / 100, values[0], values[-1])
    assert percentiles == pytest.approx(np.percentile(values, range(1, 100)), rel=1e-12)
    assert not found.merge(Quantiles.of(values[:1])).exact


def test_quantiles_stay_small_and_near_however_often_they_are_merged() -> None:
    random = np.random.default_rng(2)
    parts = [np.sort(random.standard_normal(1000) + number / 100) for number in range(400)]
    found = Quantiles.of(parts[0])
    for each in parts[1:]:
        found = found.merge(Quantiles.of(each))
    assert found.error < 0.02
    assert len(json.dumps(found.to_data())) < 60_000
    medians = np.median(np.concatenate(parts)), found.at(np.array([found.count / 2]), -9, 9)[0]
    assert medians[0] == pytest.approx(medians[1], abs=0.02)


@given(st.lists(st.integers(0, 1500), min_size=1, max_size=4))
def test_distinct_values_of_parts_are_those_of_the_whole(ends: list[int]) -> None:
    """Whatever the parts have in common."""
    found = Distinct.of(hashed_numbers(np.arange(0)))
    for end in ends:
        found = found.merge(Distinct.of(hashed_numbers(np.arange(end))))
    assert found == Distinct.of(hashed_numbers(np.arange(max(ends))))
    assert Distinct.from_data(json.loads(json.dumps(found.to_data()))) == found
    if max(ends) < HASHES:
        assert (found.count, found.error) == (max(ends), 0)


@pytest.mark.parametrize("count", [3_000, 50_000, 2_000_000])
def test_many_distinct_values_are_estimated(count: int) -> None:
    """Within four standard errors, of integers, floats and text alike."""
    integers = np.arange(count) * 8
    texts = pa.array([f"user-{number}" for number in range(min(count, 50_000))], pa.large_string())
    for hashes in (hashed_numbers(integers), hashed_numbers(np.sqrt(integers)), hashed(texts)):
        found = Distinct.of(hashes)
        assert found.error == pytest.approx(0.0313, abs=1e-4)
        assert found.count == pytest.approx(len(hashes), rel=4 * found.error)


def test_hashes_are_those_of_splitmix() -> None:
    """They are stored, so they must never change: the published finalizer, and of text its sum over bytes."""
    numbers = [0, 1, -1, 2**63 - 1, -(2**63)]
    assert hashed_numbers(np.array(numbers)).tolist() == [splitmix(number) for number in numbers]
    assert splitmix(0) == 0xE220A8397B1DCDAF  # the first number of the generator that is started with 0
    texts = ["", "a", "ab", "ba", "\0", "\0\0", "äöü"]
    sums = [sum(splitmix(place << 8 | byte) for place, byte in enumerate(text.encode())) for text in texts]
    assert hashed(pa.array(texts, pa.large_string())).tolist() == [splitmix(total) for total in sums]
    assert len(set(sums)) == len(texts)


def test_equal_numbers_have_one_hash_and_others_have_others() -> None:
    assert (hashed_numbers(np.array([7], np.int8)) == hashed_numbers(np.array([7], np.uint64))).all()
    assert (hashed_numbers(np.array([0.0])) == hashed_numbers(np.array([-0.0]))).all()
    assert (hashed_numbers(np.array([0.5], np.float32)) == hashed_numbers(np.array([0.5]))).all()
    assert hashed_numbers(np.array([2**64 - 1], np.uint64)) != hashed_numbers(np.array([-1]))


def test_long_texts_are_hashed_as_short_ones_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is hashed at once."""
    texts = pa.array(["x" * 50, "", "", "yz" * 20, "a", ""], pa.large_string())
    at_once = hashed(texts)
    monkeypatch.setattr(sketches, "_BYTES", 8)
    assert (hashed(texts) == at_once).all()
    assert len(set(at_once.tolist())) == 4


@given(st.lists(st.lists(st.integers(0, 12)), min_size=1, max_size=6), st.integers(1, 4))
def test_frequent_values_are_at_most_as_often_as_they_say(parts: list[list[int]], kept: int) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(sketches, "FREQUENT", kept)
        found = Frequent(())
        for values in parts:
            found = found.merge(Frequent.of(sorted(Counter(values).items(), key=lambda entry: (-entry[1], entry[0]))))
    truth = Counter(value for values in parts for value in values)
    assert len(found.entries) <= kept
    assert found.error * (kept + 1) <= truth.total()
    held = dict(found.entries)
    assert all(held.get(value, 0) <= often <= held.get(value, 0) + found.error for value, often in truth.items())
    assert dict(found.top(99)) == {value: least + found.error for value, least in held.items()}
    assert Frequent.from_data(json.loads(json.dumps(found.to_data(int))), int) == found


def hashed(texts: pa.Array) -> NDArray[np.uint64]:
    _, offsets, data = texts.buffers()
    return hashed_texts(np.frombuffer(offsets, np.int64), np.frombuffer(data, np.uint8))


def splitmix(value: int) -> int:
    """SplitMix64 with a state of `value`, in plain Python."""
    mask = 2**64 - 1
    mixed = (value + 0x9E3779B97F4A7C15) & mask
    mixed = (mixed ^ mixed >> 30) * 0xBF58476D1CE4E5B9 & mask
    mixed = (mixed ^ mixed >> 27) * 0x94D049BB133111EB & mask
    return mixed ^ mixed >> 31
