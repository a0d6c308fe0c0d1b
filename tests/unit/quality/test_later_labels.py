"""Labels that are looked at later share no events with windows that end before theirs begin."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.quality.test_leaks import DAY, MICROS, events_of, use, windowed

from grange.quality.leaks.definitions import _overlap
from grange.types.aggregates import Aggregate, Function, Window


@settings(max_examples=200, deadline=None)
@given(windowed(), windowed(), st.booleans(), st.sampled_from([2, 4, 6, 8, 16]))
def test_windows_overlap_when_an_event_can_be_in_both(
    feature: Aggregate, label: Aggregate, exact: bool, after: int
) -> None:
    """As without a delay: never missed, and exact where both have the same boundaries and keep them."""
    shared = any(
        events_of(feature, exact, moment) & events_of(label, True, moment + after) for moment in range(1000, 1000 + 16)
    )
    found = _overlap(use(feature, exact), use(label), after)

    assert found or not shared
    boundaries = {(item.every, item.offset) for item in (feature, label)}
    if len(boundaries) == 1 and (feature.every is None or after % feature.every == 0):
        assert found == shared


@pytest.mark.parametrize(("after", "overlap"), [(0, True), (DAY, True), (7 * DAY - 1, True), (7 * DAY, False)])
def test_a_window_that_is_over_when_it_is_looked_at(after: int, overlap: bool) -> None:
    week = Aggregate("x", Function("sum"), "amount", Window("time", 7 * DAY), MICROS)
    assert _overlap(use(week), use(week), after) is overlap


def test_the_value_of_one_event() -> None:
    """The newest event at a later moment is as far as is known none that was there before."""
    last = use(None)
    week = use(Aggregate("x", Function("sum"), "amount", Window("time", 7 * DAY), MICROS))
    assert _overlap(week, last) and not _overlap(week, last, DAY)
