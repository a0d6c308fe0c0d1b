"""The as-of kernel against the laws said as a loop, and against pandas (PIT-1 to PIT-5)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from grange.kernels.arrays import argsort
from grange.kernels.asof import History, Instants, Spine, as_of, latest
from grange.kernels.keys import KeyIndex

TIMES = pa.timestamp("us", tz="UTC")
Stored = tuple[Any, int | None, int | None, int]
"""Key, event time, created time, sequence."""


def run(spine: list[tuple[Any, int | None]], stored: list[Stored], kind: pa.DataType, **how: Any) -> list[int]:
    ordered = how.pop("ordered", False)
    index = KeyIndex.of({"k": pa.array([key for key, _ in spine], kind)})
    history = History.of(
        index.lookup({"k": pa.array([row[0] for row in stored], kind)}),
        pa.array([row[1] for row in stored], TIMES),
        created_time=pa.array([row[2] for row in stored], TIMES),
        sequence=pa.array([row[3] for row in stored], pa.int64()),
        ordered=ordered,
    )
    rows = as_of(Spine.of(index, Instants.of(pa.array([time for _, time in spine], TIMES))), history, **how)
    assert len(rows) == len(spine)
    return list(rows.tolist())


def age(row: Stored) -> tuple[Any, ...]:
    _, event, created, sequence = row
    return event, created is not None, created or 0, sequence


def by_the_laws(
    spine: list[tuple[Any, int | None]],
    stored: list[Stored],
    *,
    ttl: int | None = None,
    exact_matches: bool = True,
    as_known: bool = False,
) -> list[int]:
    answers = []
    for key, time in spine:
        best = -1
        for row, (other, event, created, _) in enumerate(stored):
            if key is None or other != key or time is None or event is None:
                continue
            if event > time or (event == time and not exact_matches):
                continue
            if ttl is not None and time - event > ttl:
                continue
            if as_known and created is not None and created > time:
                continue
            if best < 0 or age(stored[row]) > age(stored[best]):
                best = row
        answers.append(best)
    return answers


KEYS: dict[str, tuple[pa.DataType, st.SearchStrategy[Any]]] = {
    "integer": (pa.int64(), st.none() | st.integers(0, 3)),
    "wide": (pa.int64(), st.none() | st.sampled_from([-(2**62), 5, 2**62])),
    "string": (pa.large_string(), st.none() | st.sampled_from(["", "a", "b"])),
}
MOMENT = st.none() | st.integers(-3, 12)


@st.composite
def questions(draw: st.DrawFn, kind: str) -> tuple[list[tuple[Any, int | None]], list[Stored]]:
    keys = KEYS[kind][1]
    spine = draw(st.lists(st.tuples(keys, MOMENT), max_size=15))
    rows = draw(st.lists(st.tuples(keys, MOMENT, MOMENT), max_size=40))
    sequence = draw(st.permutations(range(len(rows))))
    return spine, [(*row, number) for row, number in zip(rows, sequence, strict=True)]


@pytest.mark.parametrize("kind", KEYS)
@settings(max_examples=150)
@given(data=st.data(), ttl=st.none() | st.integers(1, 6), exact=st.booleans(), known=st.booleans())
def test_every_row_sees_what_the_laws_say(
    kind: str, data: st.DataObject, ttl: int | None, exact: bool, known: bool
) -> None:
    """Ties, null keys and times, late rows, both ends of the ttl: the loop and the kernel agree."""
    spine, stored = data.draw(questions(kind))
    how = {"ttl": ttl, "exact_matches": exact, "as_known": known}
    expected = by_the_laws(spine, stored, **how)
    assert run(spine, stored, KEYS[kind][0], **how) == expected
    # the same rows standing in PIT-3 order, as stores keep them
    order = sorted((row for row in range(len(stored)) if stored[row][1] is not None), key=lambda row: age(stored[row]))
    found = run(spine, [stored[row] for row in order], KEYS[kind][0], ordered=True, **how)
    assert [order[row] if row >= 0 else -1 for row in found] == expected


@given(created=st.lists(st.none() | st.integers(0, 40), min_size=1, max_size=70), keys=st.integers(1, 4))
@example(created=[99] * 64, keys=1)
@example(created=[0] + [99] * 64, keys=1)
@example(created=[99] * 31 + [0] + [99] * 33, keys=2)
def test_as_known_finds_the_last_known_row_however_far_back(created: list[int | None], keys: int) -> None:
    """A backfill that became known at once hides long runs of rows, and other keys' rows are no answer (PIT-5)."""
    stored: list[Stored] = [(row % keys, row, known, row) for row, known in enumerate(created)]
    spine = [(key, time) for key in range(keys) for time in range(0, 80, 3)]
    assert run(spine, stored, pa.int64(), as_known=True) == by_the_laws(spine, stored, as_known=True)


def test_both_ends_of_the_ttl_are_inside() -> None:
    """A row is visible from its own time until exactly its ttl later (PIT-2)."""
    spine = [("a", time) for time in (9, 10, 11, 15, 16)]
    assert run(spine, [("a", 10, None, 0)], pa.string(), ttl=5) == [-1, 0, 0, 0, -1]
    assert run(spine, [("a", 10, None, 0)], pa.string(), ttl=5, exact_matches=False) == [-1, -1, 0, 0, -1]


def test_a_ttl_reaches_before_the_smallest_time_without_wrapping_around() -> None:
    low = -(2**63)
    assert run([("a", low + 3)], [("a", low + 1, None, 0)], pa.string(), ttl=2**62) == [0]


@pytest.mark.parametrize("spine", [[], [(None, 1)], [(1, None)]])
@pytest.mark.parametrize("stored", [[], [(None, 1, None, 0)], [(1, None, None, 0)], [(2, 0, None, 0)]])
def test_nothing_to_find_is_nothing_found(spine: list[Any], stored: list[Stored]) -> None:
    """Empty spines and tables, and those whose keys or times are all null, work."""
    assert run(spine, stored, pa.int64(), as_known=True, ttl=1) == [-1] * len(spine)


def test_without_a_sequence_the_row_that_stands_later_wins() -> None:
    index = KeyIndex.of({"k": pa.array([1])})
    spine = Spine.of(index, Instants.of(pa.array([5], TIMES)))
    for ordered in (True, False):
        history = History.of(index.lookup({"k": pa.array([1, 1, 1])}), pa.array([3, 5, 5], TIMES), ordered=ordered)
        assert as_of(spine, history).tolist() == [2]


@pytest.mark.parametrize("kind", ["integer", "wide", "string"])
@given(data=st.data())
def test_latest_is_the_newest_row_of_every_key(kind: str, data: st.DataObject) -> None:
    _, stored = data.draw(questions(kind))
    history = History.of(
        KeyIndex.of({"k": pa.array([row[0] for row in stored], KEYS[kind][0])}).codes,
        pa.array([row[1] for row in stored], TIMES),
        created_time=pa.array([row[2] for row in stored], TIMES),
        sequence=pa.array([row[3] for row in stored], pa.int64()),
    )
    newest: dict[Any, int] = {}
    for row, (key, event, _, _) in enumerate(stored):
        present = key is not None and event is not None
        if present and (key not in newest or age(stored[row]) > age(stored[newest[key]])):
            newest[key] = row
    assert latest(history).tolist() == sorted(newest.values())


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("exact", [True, False])
def test_large_tables_agree_with_pandas(seed: int, exact: bool) -> None:
    """pandas' merge_asof, an implementation that shares nothing with this one, finds the same rows."""
    random = np.random.default_rng(seed)
    table = pd.DataFrame({"k": random.integers(0, 500, 20_000), "t": np.sort(random.integers(0, 50_000, 20_000))})
    table["row"] = np.arange(len(table))
    asked = pd.DataFrame({"k": random.integers(0, 550, 5_000), "t": random.integers(0, 60_000, 5_000)})
    by_time = asked.sort_values("t", kind="stable")
    merged = pd.merge_asof(by_time, table, on="t", by="k", tolerance=700, allow_exact_matches=exact)
    expected = pd.Series(merged["row"].fillna(-1).to_numpy(np.int64), index=by_time.index).sort_index()
    index = KeyIndex.of({"k": pa.array(asked["k"].to_numpy())})
    spine = Spine.of(index, Instants.of(pa.array(asked["t"].to_numpy()).cast(TIMES)))
    shuffled = random.permutation(len(table))
    for rows, ordered in ((np.arange(len(table)), True), (shuffled, False)):
        history = History.of(
            index.lookup({"k": pa.array(table["k"].to_numpy()[rows])}),
            pa.array(table["t"].to_numpy()[rows]).cast(TIMES),
            sequence=pa.array(table["row"].to_numpy()[rows]),
            ordered=ordered,
        )
        found = as_of(spine, history, ttl=700, exact_matches=exact)
        assert np.array_equal(np.where(found < 0, -1, rows[found]), expected.to_numpy())


@given(st.lists(st.integers(0, 5) | st.integers(-(2**63), 2**63 - 1), max_size=30))
def test_argsort_keeps_the_order_of_equal_values(values: list[int]) -> None:
    """Of narrow ranges, which are packed, and of the widest, which cannot be."""
    expected = sorted(range(len(values)), key=lambda row: (values[row], row))
    assert argsort(np.array(values, np.int64)).tolist() == expected
