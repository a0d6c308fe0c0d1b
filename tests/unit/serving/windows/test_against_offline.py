"""ONL-1: what the online state answers is what the offline kernel answers, of the same events at the same moments."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.unit.serving.windows import catalogue
from tests.unit.serving.windows.catalogue import COLUMNS, SCHEMA, for_spec, same
from tests.unit.serving.windows.cells import DictCells

from grange.kernels.asof import Instants, Spine
from grange.kernels.keys import KeyIndex
from grange.kernels.windows import Events, evaluate
from grange.serving.values import from_wire_list, wire_list
from grange.serving.windows import Event, Reader, StateSpec, apply
from grange.types.aggregates import Aggregate

KEY = b"\x38u1\x00"
TIME = pa.timestamp("us", "UTC")


def offline(
    history: Sequence[Event], aggregates: Sequence[Aggregate], times: Sequence[int], spec: StateSpec, exact: bool
) -> dict[str, pa.Array]:
    """The aggregates by the offline kernel, one value per time."""
    index = KeyIndex.of({"key": pa.chunked_array([pa.array([1] * len(times))])})
    with_ids = spec.event_id is not None
    events = Events.of(
        index.lookup({"key": pa.chunked_array([pa.array([1] * len(history))])}),
        pa.array([event.event_time for event in history], TIME),
        created_time=pa.array([event.created for event in history], TIME) if spec.created else None,
        sequence=pa.array([event.sequence for event in history], pa.int64()),
        event_id=pa.array([event.id for event in history], pa.large_string()) if with_ids else None,
        retracted=pa.array([event.retracted for event in history]) if with_ids else None,
    )
    return evaluate(
        Spine.of(index, Instants.of(pa.chunked_array([pa.array(times, TIME)]))),
        events,
        aggregates,
        {
            name: from_wire_list([event.values[place] for event in history], SCHEMA[name])
            for place, name in enumerate(COLUMNS)
        },
        {
            name: np.array([bool(event.filters >> bit & 1) for event in history])
            for bit, name in enumerate(("big", "odd"))
        },
        ttl=spec.ttl,
        exact_matches=exact,
        as_known=False,
    )


@settings(deadline=None, max_examples=60, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_online_is_offline(data: st.DataObject) -> None:
    """Exactly; sums of floats within 1e-9."""
    longest = data.draw(st.sampled_from([10, 200, 3000]))
    ids, created, exact = (data.draw(st.booleans()) for _ in range(3))
    drawn = data.draw(st.lists(catalogue.aggregates(longest), min_size=1, max_size=6))
    aggregates = [dataclasses.replace(each, name=f"feature_{place}") for place, each in enumerate(drawn)]
    spec = StateSpec.of(
        aggregates,
        schema=SCHEMA,
        event_id="event" if ids else None,
        retracted="gone" if ids else None,
        created=created,
        ttl=data.draw(st.none() | st.integers(1, longest)),
        grace=10**9,
    )
    spec = dataclasses.replace(spec, leaf_size=data.draw(st.sampled_from([2, 5, 16])), fan_out=4)
    drawn_events = data.draw(catalogue.histories(longest, most=100, ids=ids, created=created, wild=False, least=1))
    history = [
        event._replace(sequence=sequence, values=(event.values[0], small(event.values[1]), *event.values[2:]))
        for sequence, event in enumerate(drawn_events)
    ]
    cells = DictCells()
    for event in for_spec(history, spec):
        apply(cells, spec, KEY, [event], now=longest)
    times = data.draw(st.lists(st.integers(-2, longest * 2), min_size=1, max_size=8))
    want = offline(history, aggregates, times, spec, exact)
    reader = Reader(spec, aggregates)
    for place, time in enumerate(times):
        values = reader.read(cells, KEY, now=time, exact_matches=exact).values
        for aggregate, value in zip(aggregates, values, strict=True):
            expected = wire_list(pa.chunked_array([want[aggregate.name]]), aggregate.dtype)[place]
            # a decayed sum is only as exact as the largest of its terms allows
            slack = 1e-9 if aggregate.function.name in ("decayed_sum", "ewma") else 0.0

            assert same(value, expected, relative=1e-9, absolute=slack), (aggregate, time, value, expected)


def small(value: int | None) -> int | None:
    """Without those of which a few overflow 64 bits."""
    return value if value is None or abs(value) < 2**62 else 1
