"""TIME-1 and TIME-2: UTC microseconds, fixed lengths."""

from __future__ import annotations

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grange.errors import DurationError, RequestError
from grange.types import format_duration, parse_duration
from grange.types.time import from_micros, isoformat, to_micros, to_utc


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("90d", dt.timedelta(days=90)),
        ("1d12h", dt.timedelta(days=1, hours=12)),
        ("2w", dt.timedelta(weeks=2)),
        ("1.5h", dt.timedelta(minutes=90)),
        ("250ms", dt.timedelta(milliseconds=250)),
        ("1us", dt.timedelta(microseconds=1)),
        ("5 m", dt.timedelta(minutes=5)),
    ],
)
def test_durations(text: str, length: dt.timedelta) -> None:
    assert parse_duration(text) == length


@pytest.mark.parametrize("text", ["1mo", "1y", "2 months", "1q", "1M"])
def test_calendar_lengths_are_refused_with_the_reason(text: str) -> None:
    with pytest.raises(DurationError, match="no fixed length"):
        parse_duration(text)


@pytest.mark.parametrize("value", ["0d", "0", "", "d", "-1d", "1d x", dt.timedelta(0), dt.timedelta(-1), "0.1us", 7])
def test_what_is_no_positive_length_is_refused(value: object) -> None:
    with pytest.raises(DurationError):
        parse_duration(value)  # type: ignore[arg-type]


def test_the_hint_for_a_length_of_zero_names_nothing_twice() -> None:
    with pytest.raises(DurationError) as caught:
        parse_duration("0d", what="ttl of feature group 'spend'")
    assert caught.value.try_ == "leave it out for no limit"


@given(st.timedeltas(min_value=dt.timedelta(microseconds=1), max_value=dt.timedelta(days=100_000)))
def test_a_duration_reads_back_from_its_text(length: dt.timedelta) -> None:
    assert parse_duration(format_duration(length)) == length


def test_naive_is_utc_zones_are_converted_dates_are_midnight() -> None:
    noon = dt.datetime(2026, 7, 1, 12, tzinfo=dt.UTC)

    assert to_utc(dt.datetime(2026, 7, 1, 12)) == noon
    assert to_utc("2026-07-01T14:00:00+02:00") == noon
    assert to_utc("2026-07-01T12:00:00Z") == noon
    assert to_utc(dt.date(2026, 7, 1)) == noon.replace(hour=0)


def test_text_that_is_no_time_is_refused() -> None:
    with pytest.raises(RequestError, match="ISO 8601"):
        to_utc("yesterday")


@given(st.datetimes(timezones=st.just(dt.UTC)))
def test_micros_are_exact(moment: dt.datetime) -> None:
    assert from_micros(to_micros(moment)) == moment
    assert to_utc(isoformat(moment)) == moment
