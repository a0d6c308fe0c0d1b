"""Splits as values: what can be said, what is refused and how, JSON and back."""

from __future__ import annotations

import datetime as dt
import json
import math
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from grange.definitions.splits import (
    BEFORE,
    Fold,
    GroupedSplit,
    KFold,
    RandomSplit,
    Split,
    StratifiedSplit,
    TimeSplit,
    format_parts,
    parse_parts,
    split_from_data,
)
from grange.errors import DefinitionError, DurationError, RequestError
from grange.kernels.splitting import LEFT_OUT, assign
from grange.types.cuts import HashCut, MomentCut, StrataCut, TimeCut

THREE = {"train": 0.7, "validation": 0.15, "test": 0.15}
DAY = 86_400_000_000
SPLITS: list[Split] = [
    RandomSplit(THREE, seed=7),
    GroupedSplit({"train": 0.5, "test": 0.5}, by=("user_id", "country")),
    StratifiedSplit(THREE, by="churned", seed=2**64 - 1),
    TimeSplit(THREE, gap="7d"),
    TimeSplit(until={"train": "2026-01-01", "validation": dt.date(2026, 2, 1), "test": None}, gap="12h"),
    TimeSplit(until={"train": "2026-01-01", "test": "2026-02-01T10:00+01:00"}),
    KFold(),
    KFold(3, by="user_id", seed=1),
    KFold(4, time=True, gap=dt.timedelta(days=1)),
]


@pytest.mark.parametrize("split", SPLITS)
def test_a_split_survives_json(split: Split) -> None:
    """Equal, equally hashed, whatever the order of keys in objects: parts keep theirs."""
    again = split_from_data(json.loads(json.dumps(split.to_data(), sort_keys=True)))
    assert (again, hash(again), again.names) == (split, hash(split), split.names)


def test_what_a_split_says() -> None:
    """Names, the part to fit on, the columns that decide, the kernel's work."""
    random, grouped, stratified, shares, moments, ended, folds, keyed, forward = SPLITS
    assert random.cut == HashCut((0.7, 0.15, 0.15), 7)
    assert (grouped.cut, grouped.by) == (HashCut((0.5, 0.5), 0), ("user_id", "country"))
    assert (stratified.cut, stratified.by) == (StrataCut((0.7, 0.15, 0.15), 2**64 - 1), ("churned",))
    assert shares.cut == TimeCut((0.7, 0.15, 0.15), 7 * DAY)
    january, february = (int(dt.datetime(2026, month, 1, tzinfo=dt.UTC).timestamp()) * 10**6 for month in (1, 2))
    assert moments.cut == MomentCut((january, february), None, DAY // 2)
    assert ended.cut == MomentCut((january,), february + 9 * 3_600_000_000)
    assert folds.cut == HashCut((0.2,) * 5, 0, mixed=True)
    assert (keyed.cut, keyed.by) == (HashCut((1 / 3,) * 3, 1, mixed=True), ("user_id",))
    assert (forward.cut, forward.names) == (TimeCut((0.2,) * 5), (BEFORE, "fold_0", "fold_1", "fold_2", "fold_3"))
    assert [split.in_time for split in SPLITS] == [False] * 3 + [True] * 3 + [False, False, True]
    assert [split.by for split in (random, shares, moments, folds)] == [()] * 4
    assert [split.fit_part for split in SPLITS] == ["train"] * 6 + [None] * 3


def test_the_part_to_fit_on() -> None:
    """The one called train, wherever it is; the first without."""
    assert RandomSplit({"test": 0.2, "train": 0.8}).fit_part == "train"
    assert TimeSplit(until={"old": "2026-01-01", "new": None}).fit_part == "old"


@pytest.mark.parametrize(
    "text",
    [
        "train:0.7,validation:0.15,test:0.15",
        " train : 0.7 , validation:0.15,test: 0.15 ",
        "train:0.7 validation:0.15 test:0.15",
        "train:.7,validation:15e-2,test:0.15,",
    ],
)
def test_parts_as_text(text: str) -> None:
    """As on the command line; a split takes the same text."""
    assert parse_parts(text) == THREE
    assert RandomSplit(text) == RandomSplit(THREE) == RandomSplit(list(THREE.items()))


@given(st.lists(st.floats(0.001, 1), min_size=2, max_size=6))
def test_parts_print_as_they_are_read(weights: list[float]) -> None:
    """To the last digit."""
    total = math.fsum(weights)
    parts = {f"p{number}": weight / total for number, weight in enumerate(weights)}
    assert parse_parts(format_parts(parts)) == parts
    assert format_parts(RandomSplit(parts).parts) == format_parts(parts)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("train=0.8,test=0.2", "train=0.8,test=0.2"),
        ("train:0.8,test", "test"),
        ("train:0.8,,test:0.2", ",test:0.2"),
        ("train:0.8,test:much", "test:much"),
        ("train:0.8;test:0.2", "train:0.8;test:0.2"),
    ],
)
def test_text_that_is_no_parts(text: str, found: str) -> None:
    """Says from where on it cannot be read, and how it is written."""
    with pytest.raises(DefinitionError, match="name:share") as error:
        parse_parts(text)
    assert (error.value.found, error.value.try_) == (found, "train:0.7,validation:0.15,test:0.15")


@pytest.mark.parametrize(
    ("parts", "total", "fix"),
    [
        ("train:0.7,test:0.2", "0.9", "train:0.7,test:0.3"),
        ("train:0.5,test:0.2", "0.7", "train:0.5,test:0.5"),
        ("train:0.8,validation:0.2,test:0.2", "1.2", "train:0.6667,validation:0.1667,test:0.1666"),
        ({"train": 70, "validation": 15, "test": 15}, "100", "train:0.7,validation:0.15,test:0.15"),
        ({"train": 0.8, "test": 0.2000001}, "1.0000001", "train:0.8,test:0.2"),
    ],
)
def test_shares_that_do_not_sum_to_one(parts: Any, total: str, fix: str) -> None:
    """The sum is said, and shares that would do."""
    with pytest.raises(DefinitionError, match=f"shares sum to {total}, not to 1") as error:
        RandomSplit(parts)
    assert error.value.try_ == fix
    assert RandomSplit(fix).names == tuple(parse_parts(fix))


def test_shares_may_be_rounded() -> None:
    """Thirds, tenths and what a billionth is off."""
    for parts in (
        {"a": 1 / 3, "b": 1 / 3, "c": 1 / 3},
        {f"p{n}": 0.1 for n in range(10)},
        {"a": 0.5, "b": 0.5 + 9e-10},
    ):
        assert len(RandomSplit(parts).names) == len(parts)


@pytest.mark.parametrize(
    "make",
    [
        lambda: RandomSplit({"train": 1.0}),
        lambda: RandomSplit({}),
        lambda: RandomSplit(""),
        lambda: RandomSplit(None),  # type: ignore[arg-type]
        lambda: RandomSplit(["train", "test"]),  # type: ignore[list-item]
        lambda: RandomSplit({"train": 1.2, "test": -0.2}),
        lambda: RandomSplit({"train": 1.0, "test": 0.0}),
        lambda: RandomSplit({"train": float("nan"), "test": 0.5}),
        lambda: RandomSplit({"train": float("inf"), "test": 0.5}),
        lambda: RandomSplit({"train": True, "test": 0.5}),
        lambda: RandomSplit({"train": "0.5", "test": 0.5}),  # type: ignore[dict-item]
        lambda: RandomSplit({"train set": 0.5, "test": 0.5}),
        lambda: RandomSplit({"../train": 0.5, "test": 0.5}),
        lambda: RandomSplit({1: 0.5, "test": 0.5}),  # type: ignore[dict-item]
        lambda: RandomSplit([("train", 0.5), ("train", 0.5)]),
        lambda: RandomSplit({"train": 0.5, "Train": 0.5}),
        lambda: RandomSplit(THREE, seed=-1),
        lambda: RandomSplit(THREE, seed=2**64),
        lambda: RandomSplit(THREE, seed=1.0),  # type: ignore[arg-type]
        lambda: RandomSplit(THREE, seed=True),
        lambda: GroupedSplit(THREE, by=()),
        lambda: GroupedSplit(THREE, by=("a", "a")),
        lambda: GroupedSplit(THREE, by=None),  # type: ignore[arg-type]
        lambda: StratifiedSplit(THREE, by=""),
        lambda: StratifiedSplit(THREE, by=[1]),  # type: ignore[list-item]
        lambda: TimeSplit(),
        lambda: TimeSplit(THREE, until={"train": "2026-01-01", "test": None}),
        lambda: TimeSplit(until={"train": "2026-01-01"}),
        lambda: TimeSplit(until={"train": None, "test": None}),
        lambda: TimeSplit(until={"train": "2026-01-02", "test": "2026-01-01"}),
        lambda: TimeSplit(until={"train": "2026-01-01", "test": "2026-01-01T01:00+01:00"}),
        lambda: TimeSplit(until={"train": "yesterday", "test": None}),
        lambda: TimeSplit(until={"train": 5, "test": None}),  # type: ignore[dict-item]
        lambda: KFold(1),
        lambda: KFold(1001),
        lambda: KFold(True),
        lambda: KFold(2.0),  # type: ignore[arg-type]
        lambda: KFold(5, by="user_id", time=True),
        lambda: KFold(5, seed=1, time=True),
        lambda: KFold(5, gap="1d"),
    ],
)
def test_what_contradicts_itself_is_refused(make: Callable[[], Split]) -> None:
    """When it is said, not when it is used."""
    with pytest.raises(DefinitionError):
        make()


@pytest.mark.parametrize("gap", ["1mo", "0d", "-1d", "soon", 7])
def test_a_gap_is_a_fixed_length(gap: Any) -> None:
    """TIME-2, for both that have one."""
    for make in (lambda: TimeSplit(THREE, gap=gap), lambda: KFold(time=True, gap=gap)):
        with pytest.raises(DurationError, match="gap"):
            make()


def test_data_of_something_else() -> None:
    """What is no split is an error of the data, as of other definitions."""
    with pytest.raises(ValueError, match="no split 'magic'"):
        split_from_data({"type": "magic"})
    for data in ({}, {"type": "random"}, {"type": "random", "parts": [["a", 0.5], ["b", 0.5]], "more": 1}):
        with pytest.raises((KeyError, TypeError)):
            split_from_data(data)


def test_the_rounds_of_folds() -> None:
    """Each fold is the validation once; in time it trains on what was before, else on all others."""
    assert [KFold(3).fold(number) for number in range(3)] == [
        Fold(("fold_1", "fold_2"), "fold_0"),
        Fold(("fold_0", "fold_2"), "fold_1"),
        Fold(("fold_0", "fold_1"), "fold_2"),
    ]
    assert [KFold(2, time=True).fold(number) for number in range(2)] == [
        Fold(("before",), "fold_0"),
        Fold(("before", "fold_0"), "fold_1"),
    ]
    for number in (-1, 3, True, "0"):
        with pytest.raises(RequestError, match="no fold"):
            KFold(3).fold(number)  # type: ignore[arg-type]


@pytest.mark.parametrize("split", SPLITS)
def test_parts_are_numbered_as_they_are_named(split: Split) -> None:
    """The kernel gives no number that has no name; with rows enough it gives all."""
    start, rows = dt.datetime(2025, 12, 31, tzinfo=dt.UTC), range(5000)
    moments = pa.array([start + dt.timedelta(minutes=30 * row) for row in rows])
    keys = pa.array([row % 100 for row in rows])
    parts = assign(split.cut, identity=[keys, moments], by=[keys for _ in split.by], event_time=moments)
    assert set(parts.tolist()) - {LEFT_OUT} == set(range(len(split.names)))
