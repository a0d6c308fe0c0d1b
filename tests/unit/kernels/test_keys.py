"""Key codes: equal keys have equal codes, within a table and across two (PIT-4)."""

from __future__ import annotations

import datetime as dt
import decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from grange.errors import KeyTypeError
from grange.kernels.keys import ABSENT, KeyIndex

FAMILIES: dict[str, tuple[pa.DataType, st.SearchStrategy[Any]]] = {
    "small integers": (pa.int64(), st.integers(-3, 3)),
    "wide integers": (pa.int64(), st.sampled_from([-(2**63), -1, 0, 1, 2**40, 2**63 - 1])),
    "unsigned": (pa.uint64(), st.sampled_from([0, 1, 2**63 - 1, 2**63, 2**64 - 1])),
    "bytes": (pa.int8(), st.integers(-128, 127)),
    "strings": (pa.large_string(), st.sampled_from(["", "a", "A", "ab", "a\x00", "é", "é", "007", "7"])),
    "binaries": (pa.large_binary(), st.sampled_from([b"", b"\x00", b"\x00\x00", b"a"])),
    "booleans": (pa.bool_(), st.booleans()),
    "dates": (pa.date32(), st.dates()),
    "times": (pa.timestamp("us", tz="UTC"), st.datetimes(timezones=st.just(dt.UTC))),
    "decimals": (pa.decimal128(12, 2), st.sampled_from([decimal.Decimal(x) for x in ("0", "-1.50", "1.50", "150")])),
}


def check(index: KeyIndex, own: list[tuple[Any, ...]], found: list[int], others: list[tuple[Any, ...]]) -> None:
    """Codes agree exactly where keys do."""
    mine = list(zip(own, index.codes.tolist(), strict=True))
    assert all(code < index.size for _, code in mine)
    for key, code in mine:
        assert (code == ABSENT) == (None in key)
    for key, code in mine:
        if code == ABSENT:
            continue
        for other, other_code in [*mine, *zip(others, found, strict=True)]:
            assert (code == other_code) == (key == other), (key, other)
    for other, code in zip(others, found, strict=True):
        if None in other:
            assert code == ABSENT


@pytest.mark.parametrize("family", FAMILIES)
@given(data=st.data())
def test_equal_keys_have_equal_codes(family: str, data: st.DataObject) -> None:
    kind, values = FAMILIES[family]
    rows = st.lists(st.none() | values, max_size=12)
    own, others = data.draw(rows), data.draw(rows)
    index = KeyIndex.of({"k": pa.array(own, kind)})
    found = index.lookup({"k": pa.array(others, kind)})
    check(index, [(v,) for v in own], found.tolist(), [(v,) for v in others])


@given(data=st.data())
def test_composite_keys_compare_column_by_column(data: st.DataObject) -> None:
    """Parts that would collide when joined end to end do not."""
    part = st.none() | st.sampled_from(["", "a", "b", "ab", "a|", "|", "|b"])
    rows = st.lists(st.tuples(part, part, st.none() | st.integers(0, 2)), max_size=12)
    own, others = data.draw(rows), data.draw(rows)

    def columns(keys: list[tuple[Any, ...]]) -> dict[str, pa.Array]:
        kinds = (pa.large_string(), pa.large_string(), pa.int64())
        return {str(at): pa.array([key[at] for key in keys], kind) for at, kind in enumerate(kinds)}

    index = KeyIndex.of(columns(own))
    check(index, own, index.lookup(columns(others)).tolist(), others)


@given(
    own=st.lists(st.none() | st.integers(-(2**63), 2**63 - 1) | st.sampled_from([-1, 0, 1]), max_size=8),
    others=st.lists(st.none() | st.integers(0, 2**64 - 1) | st.sampled_from([0, 1, 2**64 - 1]), max_size=8),
)
@example(own=[-1, 0], others=[2**64 - 1, 0])
@example(own=[-1, 2**62], others=[2**64 - 1, 2**62])
def test_signed_and_unsigned_keys_compare_by_value(own: list[int | None], others: list[int | None]) -> None:
    """-1 is not 2**64 - 1, though their bits are the same, whichever side is the index."""
    signed, unsigned = {"k": pa.array(own, pa.int64())}, {"k": pa.array(others, pa.uint64())}
    a, b = KeyIndex.of(signed), KeyIndex.of(unsigned)
    check(a, [(v,) for v in own], a.lookup(unsigned).tolist(), [(v,) for v in others])
    check(b, [(v,) for v in others], b.lookup(signed).tolist(), [(v,) for v in own])


def test_integer_widths_and_text_forms_unify() -> None:
    index = KeyIndex.of({"a": pa.array([1, 2], pa.int64()), "b": pa.array(["x", "y"], pa.string())})
    same = {"a": pa.array([2, 1], pa.int16()), "c": pa.array(["y", "x"], pa.large_string()).dictionary_encode()}
    assert index.lookup(same).tolist() == index.codes[::-1].tolist()


def test_decimals_of_other_digits_compare_by_value() -> None:
    index = KeyIndex.of({"k": pa.array([decimal.Decimal("1.50"), decimal.Decimal("2.00")], pa.decimal128(12, 2))})
    other = pa.array([decimal.Decimal("2"), decimal.Decimal("1")], pa.decimal128(38, 0))
    assert index.lookup({"k": other}).tolist() == [index.codes[1], ABSENT]


def test_many_columns_of_many_values_stay_exact() -> None:
    """Codes of four columns would need more than 63 bits as plain digits."""
    count = 70_000
    columns = {
        str(at): pa.array([(row * step) % count for row in range(count)]) for at, step in enumerate((1, 3, 9, 11))
    }
    index = KeyIndex.of(columns)
    assert index.size < 1 << 31
    assert len(set(index.codes.tolist())) == count
    turned = {name: pa.chunked_array([column[5:], column[:5]]) for name, column in columns.items()}
    assert index.lookup(turned).tolist() == [*index.codes[5:].tolist(), *index.codes[:5].tolist()]


def test_slices_and_chunks_are_read_where_they_stand() -> None:
    column = pa.chunked_array([pa.array([9, None, 7, 8])[1:], pa.array([7, None])[:1]])
    assert KeyIndex.of({"k": column}).codes.tolist() == [ABSENT, 0, 1, 0]


def test_keys_of_two_families_are_an_error_that_names_both() -> None:
    index = KeyIndex.of({"user_id": pa.array(["1"])})
    with pytest.raises(KeyTypeError, match="'user_id' is string and 'uid' is integer"):
        index.lookup({"uid": pa.array([1])})


@pytest.mark.parametrize("kind", [pa.float64(), pa.list_(pa.int64()), pa.duration("us")])
def test_a_type_without_dependable_equality_is_no_key(kind: pa.DataType) -> None:
    with pytest.raises(KeyTypeError, match="'k'"):
        KeyIndex.of({"k": pa.array([], kind)})
