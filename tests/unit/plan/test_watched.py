"""What `watched` adds to the plan of a history: which row each spine row saw, on every engine."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grange.frames import Rows
from grange.plan.explain import explain
from grange.plan.history import SPINE, SPINE_TIME, Sight, watched
from grange.plan.nodes import GroupJoin, Input, Join, Output, Plan, PointInTimeJoin, WindowJoin
from grange.ports.plugins import create
from grange.quality.leaks.history import _event_times
from grange.types import DataType
from grange.types.aggregates import Aggregate, Function, Window
from grange.types.names import EVENT_TIME, SEQUENCE

MICROS = pl.Datetime("us", "UTC")
FLOAT, INTEGER = DataType("float64"), DataType("int64")
GROUP: dict[str, Any] = {
    "group": "g",
    "version": "1.0.0",
    "rows": Input("rows"),
    "keys": (("k as int64", "k"),),
    "event_time": "at",
    "created_time": "known",
    "ttl": None,
    "exact_matches": True,
}
PLAIN = GroupJoin(**GROUP, outputs=(Output("x", "x", FLOAT), Output("y", "label", FLOAT)))


def aggregate(name: str, function: str = "sum", column: str = "x", **options: Any) -> Aggregate:
    window = options.pop("window", Window("time", 5))
    return Aggregate(name, Function(function), column, window, FLOAT, input=None if column == "*" else FLOAT, **options)


def windows(*aggregates: Aggregate, **options: Any) -> WindowJoin:
    outputs = tuple(Output(item.name, item.name, item.dtype) for item in aggregates)
    return WindowJoin(
        **{"event_id": None, "retracted": None, **GROUP, **options}, aggregates=aggregates, outputs=outputs
    )


def plan(*joins: Join, as_known: bool = False) -> Plan:
    return Plan("history", PointInTimeJoin(Input(SPINE), SPINE_TIME, joins, as_known))


def seen(given_plan: Plan, *features: str, created: bool = False) -> tuple[Sight, ...]:
    return watched(given_plan, features, created=created)[1]


def test_a_group_without_wanted_features_stays_as_it_is() -> None:
    asked = plan(PLAIN)

    assert watched(asked, [], created=True) == (asked, ())
    assert watched(asked, ["z"], created=True) == (asked, ())


def test_a_group_has_its_own_times_beside_its_features() -> None:
    wider, sights = watched(plan(PLAIN), ["x"], created=True)

    assert sights == (Sight("g", ("x",), "__seen_0", "__seen_0_created", windowed=False),)
    (join,) = wider.root.joins  # type: ignore[union-attr]
    assert [(item.column, item.name) for item in join.outputs] == [
        ("x", "x"), ("y", "label"), ("at", "__seen_0"), ("known", "__seen_0_created")
    ]  # fmt: skip


def test_created_times_are_read_only_where_they_are_wanted_and_there() -> None:
    without = replace(PLAIN, created_time=None)

    assert [sight.created for sight in seen(plan(PLAIN), "x")] == [None]
    assert [sight.created for sight in seen(plan(without), "x", created=True)] == [None]
    assert seen(plan(without), "x", created=True)[0].columns == ("__seen_0",)


def test_what_sees_no_rows_is_left_out() -> None:
    """Groups that are always true, and functions of the moment alone."""
    hour = Aggregate("hour", Function("hour", ("UTC",)), "*", Window("lifetime"), INTEGER)

    assert seen(plan(replace(PLAIN, event_time=EVENT_TIME)), "x") == ()
    assert seen(plan(windows(hour)), "hour") == ()
    assert [sight.outputs for sight in seen(plan(windows(hour, aggregate("s"))), "hour", "s")] == [("s",)]


def test_windows_see_as_of_their_boundaries() -> None:
    join = windows(
        aggregate("now"), aggregate("daily", every=24), aggregate("later", every=24, offset=6), aggregate("also_now")
    )

    sights = seen(plan(PLAIN, join), "x", "now", "daily", "later", "also_now")

    assert [(sight.event, sight.outputs, sight.every, sight.offset) for sight in sights] == [
        ("__seen_0", ("x",), None, 0),
        ("__seen_1", ("now", "also_now"), None, 0),
        ("__seen_2", ("daily",), 24, 0),
        ("__seen_3", ("later",), 24, 6),
    ]


def test_the_plan_that_was_asked_for_does_not_show_it() -> None:
    asked = plan(PLAIN, windows(aggregate("s")))

    wider, _ = watched(asked, ["x", "s"], created=True)

    assert "__seen" in explain(wider)
    assert "__seen" not in explain(asked)


# --- what was seen ---------------------------------------------------------------------------------------------------

Event = tuple[int, int, int | None]
"""Key, event time, created time."""
EVENTS = st.lists(st.tuples(st.integers(0, 1), st.integers(-20, 20), st.none() | st.integers(-20, 30)), max_size=8)
SPINES = st.lists(st.tuples(st.none() | st.integers(0, 2), st.none() | st.integers(-20, 30)), min_size=1, max_size=8)
BOUNDARIES = st.none() | st.tuples(st.sampled_from([1, 4, 7]), st.integers(0, 3))


def newest(
    events: list[Event],
    key: int | None,
    moment: int | None,
    *,
    as_known: bool,
    exact: bool,
    ttl: int | None,
    boundary: tuple[int, int] | None,
) -> tuple[int | None, int | None]:
    """Event and created time of the newest visible event, by the laws (PIT-2, PIT-3, PIT-5, WIN-3)."""  # fmt: skip
    if key is None or moment is None:
        return None, None
    at = moment if boundary is None else max(b for b in range(-60, moment + 1) if (b - boundary[1]) % boundary[0] == 0)
    visible = [
        (event, -(10**6) if created is None else created, number, created)
        for number, (of, event, created) in enumerate(events)
        if of == key and (event <= at if exact else event < at) and (ttl is None or at - event <= ttl)
        if not as_known or created is None or created <= moment
    ]
    return (max(visible)[0], max(visible)[3]) if visible else (None, None)


@pytest.mark.parametrize("windowed", [False, True])
@settings(max_examples=60, deadline=None)
@given(
    events=EVENTS,
    spine=SPINES,
    as_known=st.booleans(),
    exact=st.booleans(),
    ttl=st.none() | st.integers(1, 9),
    boundary=BOUNDARIES,
)
def test_the_times_are_those_of_the_newest_visible_event(
    engine_name: str, windowed: bool, events: list[Event], spine: list[tuple[int | None, int | None]], as_known: bool,
    exact: bool, ttl: int | None, boundary: tuple[int, int] | None,
) -> None:  # fmt: skip
    boundary = boundary if windowed else None
    if boundary is not None:
        boundary = boundary[0], boundary[1] % boundary[0]
    every, offset = boundary or (None, 0)
    how: dict[str, Any] = {**GROUP, "ttl": ttl, "exact_matches": exact}
    join: Join = (
        windows(aggregate("s", every=every, offset=offset), ttl=ttl, exact_matches=exact)
        if windowed
        else GroupJoin(**how, outputs=(Output("x", "s", FLOAT),))
    )
    rows = pl.DataFrame(
        [(key, event, created, 1.0, number) for number, (key, event, created) in enumerate(events)],
        schema={"k": pl.Int64, "at": pl.Int64, "known": pl.Int64, "x": pl.Float64, SEQUENCE: pl.Int64},
        orient="row",
    ).cast({"at": MICROS, "known": MICROS})
    asked = pl.DataFrame(spine, schema={"k as int64": pl.Int64, SPINE_TIME: pl.Int64}, orient="row")
    asked = asked.cast({SPINE_TIME: MICROS})

    wider, (sight,) = watched(plan(join, as_known=as_known), ["s"], created=True)
    engine = create("engines", engine_name, {})
    found = engine.run(wider.root, {SPINE: Rows(polars=asked), "rows": Rows(polars=rows)}).polars

    event = found.get_column(sight.event)
    times = _event_times(sight, asked.get_column(SPINE_TIME), event) if windowed else event
    assert sight.created is not None
    told = zip(times, found.get_column(sight.created), strict=True)
    expected = [
        newest(events, key, moment, as_known=as_known, exact=exact, ttl=ttl, boundary=boundary) for key, moment in spine
    ]
    assert [tuple(map(micros, pair)) for pair in told] == expected


def micros(time: dt.datetime | None) -> int | None:
    epoch = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
    return None if time is None else (time - epoch) // dt.timedelta(microseconds=1)
