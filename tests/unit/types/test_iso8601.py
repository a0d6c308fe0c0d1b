"""Columns of ISO 8601 text mean what `to_micros` says of each of their texts, however fast they are read."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from grange.errors import ColumnTypeError, RequestError
from grange.types import Schema
from grange.types.arrow import conform
from grange.types.iso8601 import parse_times
from grange.types.time import to_micros

_ZONES = ["", "", "Z", "z", "+00:00", "-00:00", "+05:30", "-23:59", "+24:00", "+14", "+0530", "+05:30:15", " +01:00"]
_CLOCKS = ["", "", "10", "10:00", "23:59", "24:00", "10:60", "00:00:00", "23:59:59", "23:59:60", "100000", "1:2:3"]
_FRACTIONS = ["", "", ".5", ",5", ".", ".000001", ".123456", ".1234567", ".123456789", ".1234567891", ".12x"]


def _single(text: str) -> int | str:
    try:
        return to_micros(text)
    except RequestError:
        return "not a time"
    except OverflowError:
        return "beyond all years"


def _column(texts: list[str | None], arrow: pa.DataType | None = None) -> list[int | None]:
    return list(parse_times(pa.array(texts, arrow or pa.large_string())).to_pylist())


def _alone(text: str) -> int | str | None:
    try:
        return _column([text])[0]
    except ValueError:
        return "not a time"
    except OverflowError:
        return "beyond all years"


@st.composite
def _nearly_times(draw: st.DrawFn) -> str:
    """Text put together of parts of times, most of them right, and sometimes one character of it replaced."""
    year = draw(
        st.sampled_from(["2026", "1969", "1970", "2000", "1900", "2024", "0001", "9999", "0000", "9998", "0002"])
    )
    day = draw(
        st.sampled_from(["-01-01", "-12-31", "-02-28", "-02-29", "-02-30", "-13-01", "-00-10", "-06-31", "0401"])
    )
    clock = draw(st.sampled_from(_CLOCKS))
    separator = draw(st.sampled_from("TTT  t_é")) if clock else ""
    fraction = draw(st.sampled_from(_FRACTIONS)) if clock else ""
    text = year + day + separator + clock + fraction + draw(st.sampled_from(_ZONES))
    if draw(st.integers(0, 3)) == 0:
        place = draw(st.integers(0, len(text) - 1))
        text = text[:place] + draw(st.sampled_from("0123456789-+:.,TZ / ü٣")) + text[place + 1 :]
    return draw(st.sampled_from(["", "", "", " ", "\n"])) + text


@settings(max_examples=400, deadline=None, derandomize=True, database=None)
@given(text=_nearly_times())
@example(text="2026-01-01+01:00")
@example(text="2026-W01-1")
@example(text="0001-01-01T00:00+01:00")
@example(text="9999-12-31T23:59:59-01:00")
def test_a_text_means_what_to_micros_says(text: str) -> None:
    assert _alone(text) == _single(text)


_MOMENTS = st.datetimes(dt.datetime(1, 1, 1), dt.datetime(9999, 12, 31, 23, 59, 59, 999_999))
_OFFSETS = st.one_of(st.none(), st.integers(-1439, 1439))


def _written(moment: dt.datetime, offset: int | None, separator: str, spec: str) -> str:
    zone = None if offset is None else dt.timezone(dt.timedelta(minutes=offset))
    return moment.replace(tzinfo=zone).isoformat(separator, spec)


@settings(max_examples=200, deadline=None, derandomize=True, database=None)
@given(
    texts=st.lists(
        st.one_of(
            st.none(),
            st.dates().map(dt.date.isoformat),
            st.builds(
                _written,
                _MOMENTS,
                _OFFSETS,
                st.sampled_from("T "),
                st.sampled_from(["minutes", "seconds", "milliseconds", "microseconds", "auto"]),
            ),
        ).filter(lambda text: text is None or isinstance(_single(text), int)),
        max_size=12,
    ),
    cut=st.integers(0, 12),
    arrow=st.sampled_from([pa.string(), pa.large_string()]),
)
def test_a_column_of_times_is_read_row_by_row(texts: list[str | None], cut: int, arrow: pa.DataType) -> None:
    """Times of every form beside each other, with nulls, and in a part of an array too."""
    expected = [None if text is None else _single(text) for text in texts]
    assert _column(texts, arrow) == expected
    part = pa.array(texts, arrow).slice(cut)
    assert parse_times(part).to_pylist() == expected[cut:]


def test_longer_columns_than_are_read_at_once() -> None:
    texts: list[Any] = [f"2026-01-01T00:{second // 60 % 60:02}:{second % 60:02}Z" for second in range(70_000)]
    texts[66_000], texts[69_000] = " 20260102T000000Z", None
    found = _column(texts)
    start = to_micros("2026-01-01")
    assert found[65_535:65_538] == [start + second % 3600 * 1_000_000 for second in range(65_535, 65_538)]
    assert (found[66_000], found[69_000]) == (to_micros("2026-01-02"), None)


@pytest.mark.parametrize("bad", ["soon", "2026-02-30", "2026-01-01T25:00", "", "0001-01-01T00:00+01:00"])
def test_the_first_text_that_is_no_time_is_named(bad: str) -> None:
    table = pa.table({"x": ["2026-01-01T10:00:00Z"] * 500 + [bad, "worse"]})
    with pytest.raises(ColumnTypeError) as caught:
        conform(table, Schema.of({"x": "datetime"}), what="test")
    assert caught.value.found == f"{bad!r} in row 500"
