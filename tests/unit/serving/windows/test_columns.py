"""Columns as bytes behave as lists do."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grange.serving.windows import columns
from grange.serving.windows.columns import Code
from grange.types import as_dtype

VALUES: dict[Code, st.SearchStrategy[Any]] = {
    "q": st.integers(-(2**63), 2**63 - 1),
    "Q": st.integers(0, 2**64 - 1),
    "d": st.floats(allow_nan=False),
    "?": st.booleans(),
    "i": st.one_of(st.integers(-9, 9), st.integers()),
    "o": st.one_of(st.text(), st.integers(0, 9), st.lists(st.integers(0, 9)), st.binary()),
}


@st.composite
def filled(draw: st.DrawFn) -> tuple[Code, list[Any]]:
    code = draw(st.sampled_from(sorted(VALUES)))
    nulls = code != "i" and draw(st.booleans())
    return code, draw(st.lists(VALUES[code] | st.none() if nulls else VALUES[code], max_size=20))


@given(filled())
def test_what_is_packed_comes_back(column: tuple[Code, list[Any]]) -> None:
    """Values, their types and nulls, at every place."""
    code, values = column
    packed = columns.pack(code, values)
    assert columns.unpack(code, packed) == values
    assert [type(value) for value in columns.unpack(code, packed)] == [type(value) for value in values]
    assert [columns.at(code, packed, place) for place in range(len(values))] == values
    if None not in values:
        assert list(columns.view(code, packed)) == values


@given(filled(), st.data())
def test_edits_are_those_of_a_list(column: tuple[Code, list[Any]], data: st.DataObject) -> None:
    """Replace, insert, remove; and look at a part."""
    code, values = column
    start = data.draw(st.integers(0, len(values)))
    stop = data.draw(st.integers(start, len(values)))
    new = data.draw(st.lists(VALUES[code] if code == "i" else VALUES[code] | st.none(), max_size=3))
    packed = columns.pack(code, values)
    spliced = columns.splice(code, packed, start, stop, new)
    assert columns.unpack(code, spliced) == [*values[:start], *new, *values[stop:]]
    part = values[start:stop]
    assert list(columns.present(code, packed, start, stop)) == [value for value in part if value is not None]
    listed, valid = columns.between(code, packed, start, stop)
    there = [True] * len(part) if valid is None else list(map(bool, valid))
    assert there == [value is not None for value in part]
    assert [value for value, is_there in zip(listed, there, strict=True) if is_there] == [
        value for value in part if value is not None
    ]


def test_numbers_are_stored_little_endian() -> None:
    """Wherever they were written."""
    assert columns.pack("q", [1, -2]) == b"\x00" + struct.pack("<qq", 1, -2)
    assert columns.pack("d", [0.5]) == b"\x00" + struct.pack("<d", 0.5)
    assert columns.pack("?", [True, None]) == b"\x01" + b"\x01\x00" + b"\x01\x00"


@pytest.mark.parametrize(("code", "value"), [("q", 2**63), ("Q", -1), ("d", "1"), ("q", 1.5)])
def test_what_is_not_of_the_code_is_refused(code: Code, value: Any) -> None:
    for values in ([value], [0, value]):
        with pytest.raises((TypeError, OverflowError)):
            columns.pack(code, values)


@pytest.mark.parametrize(
    ("dtype", "code"),
    [
        ("int8", "q"), ("uint32", "q"), ("uint64", "Q"), ("float32", "d"), ("boolean", "?"), ("date", "q"),
        ("datetime", "q"), ("duration", "q"), ("string", "o"), ("decimal(9,2)", "o"), ("list[int64]", "o"),
    ],
)  # fmt: skip
def test_how_types_are_packed(dtype: str, code: Code) -> None:
    assert columns.code_of(as_dtype(dtype)) == code


def test_masks_meet() -> None:
    assert columns.both(None, None) is None
    assert columns.both(b"\x01\x00", None) == b"\x01\x00"
    assert columns.both(b"\x01\x00\x01", b"\x01\x01\x00") == b"\x01\x00\x00"
