"""Steps over large arrays, tile by tile, against the same in one step."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from grange.kernels.arrays import argsort, ascends, borders, repeated, room, single
from grange.kernels.asof import Instants, Spine, in_order_of_code
from grange.kernels.keys import KeyIndex

NUMBERS = st.lists(st.integers(-2, 2), max_size=20)


@pytest.fixture(autouse=True, scope="module")
def small_tiles() -> Iterator[None]:
    """Arrays of a few elements have several tiles."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("grange.kernels.arrays.TILE", 3)
        yield


@given(numbers=st.lists(st.integers(-9, 9), max_size=20), shift=st.integers(0, 3))
def test_borders_are_where_the_bits_looked_at_change(numbers: list[int], shift: int) -> None:
    seen = [number >> shift for number in numbers]
    expected = [row == 0 or seen[row] != seen[row - 1] for row in range(len(seen))]
    assert borders(np.array(numbers, np.int64), shift=shift).tolist() == expected


@given(numbers=NUMBERS)
def test_ascending_is_told_across_tiles(numbers: list[int]) -> None:
    assert ascends(np.array(numbers, np.int64)) == (numbers == sorted(numbers))


@given(numbers=NUMBERS)
def test_a_sort_keeps_the_order_of_equal_values(numbers: list[int]) -> None:
    expected = sorted(range(len(numbers)), key=numbers.__getitem__)
    assert argsort(np.array(numbers, np.int64)).tolist() == expected


@given(counts=st.lists(st.integers(0, 7), max_size=20))
def test_repeated_is_each_value_so_many_times(counts: list[int]) -> None:
    values = np.arange(len(counts))
    assert repeated(values, np.array(counts, np.int64)).tolist() == np.repeat(values, counts).tolist()


@given(codes=st.lists(st.integers(-1, 3), max_size=20), spent=st.booleans())
def test_codes_in_order_leave_absent_keys_out(codes: list[int], spent: bool) -> None:
    given_codes = np.array(codes, np.int64)
    packed, bits = in_order_of_code(given_codes, spent=spent)
    assert spent or given_codes.tolist() == codes
    found = [(number >> bits, number & ((1 << bits) - 1)) for number in packed.tolist()]
    assert found == sorted((code, place) for place, code in enumerate(codes) if code >= 0)


def test_room_is_for_writing() -> None:
    for kind in (np.int64, np.float64, np.bool_, np.uint32):
        array = room(5, kind)
        array.fill(1)
        assert array.dtype == kind and array.sum() == 5
    assert not len(room(0))


def test_chunks_become_one_array() -> None:
    assert single(pa.chunked_array([[1], [], [2, None]], pa.int64())).to_pylist() == [1, 2, None]
    assert single(pa.chunked_array([], pa.int64())).to_pylist() == []


@given(rows=st.lists(st.tuples(st.integers(0, 2) | st.none(), st.integers(0, 5) | st.none()), max_size=12))
def test_a_spine_in_order_is_not_sorted_and_reads_the_same(rows: list[tuple[int | None, int | None]]) -> None:
    """By position: code, time and spine row, whether the rows came in that order or not."""
    index = KeyIndex.of({"k": pa.array([key for key, _ in rows], pa.int64())})
    spine = Spine.of(index, Instants.of(pa.array([time for _, time in rows], pa.timestamp("us", "UTC"))))
    present = [(key, time, row) for row, (key, time) in enumerate(rows) if key is not None and time is not None]
    whole = slice(0, len(spine.codes))
    places = np.arange(len(rows))[spine.rows(whole)].tolist()
    assert [(rows[place][0], time, place) for place, time in zip(places, spine.times(whole).tolist(), strict=True)] == (
        sorted(present)
    )
    assert spine.instants.micros[spine.ranks].tolist() == spine.times(whole).tolist()
    if rows and len(present) == len(rows) and present == sorted(present):
        assert spine.rows(whole) == whole
