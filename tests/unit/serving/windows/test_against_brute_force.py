"""Every aggregate read from the state is what plain Python works out of the list of all events."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.unit.serving.windows import brute, catalogue
from tests.unit.serving.windows.catalogue import SCHEMA, for_spec, same
from tests.unit.serving.windows.cells import DictCells

from grange.errors import ColumnTypeError, IncompleteStateError
from grange.serving.windows import Event, Reader, StateSpec, apply, build
from grange.types.aggregates import Aggregate

OVERFLOW = "does not fit 64 bits"
KEY = b"\x38u1\x00"
thorough = settings(deadline=None, max_examples=100, suppress_health_check=list(HealthCheck))


def spec_of(
    aggregates: Sequence[Aggregate], data: Any, *, ids: bool, created: bool, ttl: int | None, grace: int
) -> StateSpec:
    spec = StateSpec.of(
        aggregates,
        schema=SCHEMA,
        event_id="event" if ids else None,
        retracted="gone" if ids else None,
        created=created,
        ttl=ttl,
        grace=grace,
    )
    return dataclasses.replace(
        spec, leaf_size=data.draw(st.sampled_from([2, 5, 16, 256])), fan_out=data.draw(st.sampled_from([4, 5, 8]))
    )


def wanted(aggregate: Aggregate, counting: Sequence[Event], spec: StateSpec, now: int, exact_matches: bool) -> Any:
    names = [name for name, _ in spec.columns]
    try:
        return brute.value(aggregate, counting, names, spec.filters, now=now, exact_matches=exact_matches, ttl=spec.ttl)
    except OverflowError:
        return OVERFLOW


def got(cells: DictCells, spec: StateSpec, aggregate: Aggregate, now: int, exact_matches: bool) -> Any:
    try:
        [value] = Reader(spec, [aggregate]).read(cells, KEY, now=now, exact_matches=exact_matches).values
    except ColumnTypeError:
        return OVERFLOW
    return value


def agree(aggregate: Aggregate, left: Any, right: Any) -> bool:
    """Equal; sums that decay only to within what rounding each term costs."""
    match aggregate.function.name:
        case "decayed_sum" | "ewma":
            return same(left, right, relative=1e-9, absolute=1e-9)
        case "var" | "std" | "mean":
            return same(left, right, relative=1e-15)
        case "median" | "quantile":  # between neighbours of both signs digits cancel
            return same(left, right, relative=1e-9, absolute=1e-9)
    return same(left, right)


def written(batches: Sequence[Sequence[Event]], spec: StateSpec, now: int) -> DictCells:
    cells = DictCells()
    for batch in batches:
        apply(cells, spec, KEY, batch, now=now)
    return cells


def batched(events: Sequence[Event], size: int) -> list[list[Event]]:
    return [list(events[start : start + size]) for start in range(0, len(events), size)]


@thorough
@given(st.data())
def test_every_function_over_every_window_at_any_moment(data: st.DataObject) -> None:
    """Late events, several versions, retractions, ties and nulls, in any order and any batches, in trees of any shape,
    as of moments before and after; bulk-loaded or written one by one."""
    longest = data.draw(st.sampled_from([10, 200, 3000]))
    ids, created = data.draw(st.booleans()), data.draw(st.booleans())
    ttl = data.draw(st.none() | st.integers(1, longest))
    aggregates = data.draw(st.lists(catalogue.aggregates(longest), min_size=1, max_size=6))
    spec = spec_of(aggregates, data, ids=ids, created=created, ttl=ttl, grace=10**9)
    decays = any(aggregate.function.name in ("decayed_sum", "ewma") for aggregate in aggregates)
    history = data.draw(catalogue.histories(longest, most=120, ids=ids, created=created, wild=not decays))
    events = for_spec(history, spec)
    loaded = DictCells(dict(build(spec, [(KEY, events)], now=longest)))
    applied = written(batched(events, data.draw(st.integers(1, 40))), spec, longest)
    counting = brute.counting(events)
    for now in data.draw(st.lists(st.integers(-2, 2 * longest), min_size=1, max_size=3)):
        exact_matches = data.draw(st.booleans())
        for aggregate in aggregates:
            want = wanted(aggregate, counting, spec, now, exact_matches)
            for cells in (applied, loaded):
                value = got(cells, spec, aggregate, now, exact_matches)

                assert agree(aggregate, value, want), (aggregate, value, want)


@thorough
@given(st.data())
def test_what_is_read_together_is_what_is_read_alone(data: st.DataObject) -> None:
    """Sharing windows, runs and tiles among aggregates changes nothing, nor does reading many keys at once; what was
    loaded and what was applied give the same bits."""
    aggregates = data.draw(st.lists(catalogue.aggregates(300), min_size=2, max_size=12))
    spec = spec_of(aggregates, data, ids=True, created=True, ttl=None, grace=10**9)
    history = data.draw(catalogue.histories(300, most=150, ids=True, created=True, wild=False))
    events = [event for event in for_spec(history, spec) if not any(is_large(value) for value in event.values)]
    keys = [KEY, b"\x38u2\x00", b"\x38u3\x00"]
    cells = DictCells(dict(build(spec, [(keys[0], events), (keys[2], events[::-1])], now=300)))
    now = data.draw(st.integers(0, 600))
    together = Reader(spec, aggregates).read_many(cells, keys, now=now)

    alone = [
        [Reader(spec, [aggregate]).read(cells, key, now=now).values[0] for aggregate in aggregates] for key in keys
    ]
    assert all(same(reading.values, values) for reading, values in zip(together, alone, strict=True))
    assert not together[1].found


def is_large(value: Any) -> bool:
    """Whether a few of them overflow 64 bits."""
    return type(value) is int and abs(value) >= 2**62


@thorough
@given(st.data())
def test_reads_stay_exact_while_events_are_evicted(data: st.DataObject) -> None:
    """From `grace` before the last write on nothing is missing; earlier a read is right or refused."""
    longest = 400
    grace = data.draw(st.sampled_from([0, 1, 60]))
    ttl = data.draw(st.none() | st.integers(1, longest // 4))
    kinds = ("time", "rows") if ttl is None else ()
    aggregates = data.draw(st.lists(catalogue.aggregates(longest // 4, kinds), min_size=1, max_size=4))
    ids = data.draw(st.booleans())
    spec = spec_of(aggregates, data, ids=ids, created=False, ttl=ttl, grace=grace)
    decays = any(aggregate.function.name in ("decayed_sum", "ewma") for aggregate in aggregates)
    history = data.draw(catalogue.histories(longest * 3, most=160, ids=ids, created=False, wild=not decays))
    # versions of one event are of one time here: what a version of another time would replace may be forgotten
    events = [
        event if event.id is None else event._replace(event_time=hash_of(event.id, longest * 3)) for event in history
    ]
    if data.draw(st.booleans()):
        events.sort(key=lambda event: event.event_time)
    events = for_spec(events, spec)
    cells = DictCells()
    now = 0
    done: list[Event] = []
    for batch in batched(events, data.draw(st.integers(1, 30))):
        now += data.draw(st.sampled_from([0, 1, 20, 200]))
        apply(cells, spec, KEY, batch, now=now)
        done += batch
        counting = brute.counting(done)
        for moment in (now - grace, now, now + 7, now - grace - 1, now - grace - data.draw(st.integers(2, 200))):
            for aggregate in aggregates:
                try:
                    value = got(cells, spec, aggregate, moment, True)
                except IncompleteStateError:
                    assert moment < now - grace or (aggregate.window.kind == "rows" and ids)
                    continue
                want = wanted(aggregate, counting, spec, moment, True)

                assert agree(aggregate, value, want), (aggregate, moment, value, want)


def hash_of(name: str, below: int) -> int:
    return sum(name.encode()) * 7919 % below


@pytest.mark.parametrize("leaf_size", [2, 4, 16])
def test_a_window_that_slides_over_a_long_stream_keeps_few_cells(leaf_size: int) -> None:
    """Expired leaves go as new ones come, and the answer is that of all events throughout."""
    total = catalogue.aggregate(catalogue.Function("sum"), "items", catalogue.Window("time", 50))
    spec = dataclasses.replace(
        StateSpec.of([total], schema=SCHEMA, event_id="event", retracted=None, created=False, ttl=None, grace=10),
        leaf_size=leaf_size,
        fan_out=4,
    )
    cells = DictCells()
    for time in range(3000):
        apply(cells, spec, KEY, [Event(time, None, time, f"e{time}", False, 0, (1,))], now=time)
        assert got(cells, spec, total, time, True) == min(time + 1, 50)
    assert len(cells.held) < 60 + 3 * 64 // leaf_size
    with pytest.raises(IncompleteStateError) as caught:
        got(cells, spec, total, 1000, True)
    assert 1000 < caught.value.details["complete_from"] <= 2999 - 60
