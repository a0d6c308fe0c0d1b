"""Windows against the laws said as a loop: every function, window, interval, version and null (WIN-1 to WIN-6)."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.kernels.windows import brute
from tests.unit.kernels.windows.brute import Row

from grange.errors import ColumnTypeError
from grange.kernels.asof import Instants, Spine
from grange.kernels.keys import KeyIndex
from grange.kernels.windows import Events, evaluate, evaluation, frequent, track
from grange.types import DataType
from grange.types.aggregates import FUNCTIONS, LIFETIME, Aggregate, Function, Window, output_dtype
from grange.types.arrow import arrow_type

TIMES = pa.timestamp("us", tz="UTC")
HUGE = 1.7976931348623157e308

FLOATS = st.sampled_from([0.1, 0.2, 0.3, 1.0, 2.5, 0.0, -0.0, 1e9 + 0.1, 1e9 + 0.3, 7.0]) | st.floats(width=64)
INTEGERS = st.integers(-5, 5) | st.sampled_from([2**63 - 1, -(2**63), 2**53 + 1, -(2**62)])
COLUMNS: dict[str, tuple[DataType, st.SearchStrategy[Any]]] = {
    "f": (DataType("float64"), FLOATS),
    "g": (DataType("float32"), st.floats(width=32)),
    "i": (DataType("int64"), INTEGERS),
    "u": (DataType("uint64"), st.integers(0, 5) | st.sampled_from([2**64 - 1, 2**63, 2**62])),
    "b": (DataType("boolean"), st.booleans()),
    "s": (DataType("string"), st.sampled_from(["", "a", "ab", "b", "é"])),
    "d": (DataType("date"), st.integers(-3, 3).map(lambda day: dt.date(1970, 1, 1) + dt.timedelta(day))),
    "x": (DataType("binary"), st.sampled_from([b"", b"a", b"b"])),
}
NUMBERS = ("f", "g", "i", "u", "b")
EXACT = [name for name, about in FUNCTIONS.items() if about.tally != "time" and not name.startswith("approx_")]
PARAMETERS: dict[str, st.SearchStrategy[tuple[Any, ...]]] = {
    "quantile": st.sampled_from([(0.0,), (1.0,), (0.25,), (0.9,), (0.333,)]),
    "top_n": st.integers(1, 4).map(lambda count: (count,)),
    "first_n": st.integers(1, 4).map(lambda count: (count,)),
    "last_n": st.integers(1, 4).map(lambda count: (count,)),
    "decayed_sum": st.sampled_from([(1,), (3,), (10,)]),
    "ewma": st.sampled_from([(1,), (3,), (10,)]),
    "min_by": st.sampled_from([(column,) for column in COLUMNS if column != "x"]),
    "max_by": st.sampled_from([(column,) for column in COLUMNS if column != "x"]),
}


@pytest.fixture(autouse=True)
def small_steps(request: pytest.FixtureRequest) -> Iterator[None]:
    """Tables of a few rows take every turn that large ones take: parts, blocks, chunks of pairs, histograms."""
    sizes = {(evaluation, "_PART"): 7, (evaluation, "_BLOCK"): 5, (track, "_PAIRS"): 9, (frequent, "_PAIRS"): 9}
    sizes[frequent, "_LONG"] = 4
    with pytest.MonkeyPatch.context() as patch:
        for (module, name), size in sizes.items():
            patch.setattr(module, name, size)
        yield


@st.composite
def aggregates(draw: st.DrawFn, function: str) -> Aggregate:
    about = FUNCTIONS[function]
    offered = {"numbers": NUMBERS, "ordered": [*COLUMNS][:-1], "values": [*COLUMNS], "rows": ["*", *COLUMNS]}
    column = draw(st.sampled_from(offered[about.accepts]))
    how = Function(function, draw(PARAMETERS.get(function, st.just(()))))
    dtype = None if column == "*" else COLUMNS[column][0]
    windows = [st.integers(1, 12).map(lambda size: Window("time", size)), st.just(LIFETIME)]
    if function != "lag":
        windows += [st.builds(Window, st.just("rows"), st.integers(1, 6))]
        windows += [st.builds(Window, st.just("session"), st.integers(1, 4))]
    every = draw(st.none() | st.integers(1, 5))
    return Aggregate(
        name="out",
        function=how,
        column=column,
        window=draw(st.one_of(windows)),
        dtype=output_dtype(how, dtype),
        input=dtype,
        by_input=COLUMNS[how.parameters[0]][0] if function in ("min_by", "max_by") else None,
        closed="right" if function == "lag" else draw(st.sampled_from(["right", "left", "both", "none"])),
        every=every,
        offset=draw(st.integers(0, every - 1)) if every else 0,
        shift=draw(st.sampled_from([0, 0, 1, 4])),
        filter=draw(st.sampled_from([None, "f"])),
    )


@st.composite
def tables(draw: st.DrawFn, columns: Sequence[str]) -> list[Row]:
    """Late, tied, duplicated and retracted rows, with nulls everywhere that a table can have them."""
    nulls = draw(st.booleans())
    values = {name: st.none() | COLUMNS[name][1] if nulls else COLUMNS[name][1] for name in columns}
    bare = st.builds(
        Row,
        key=st.sampled_from([0, 1, 1, 2, None]),
        time=st.integers(-5, draw(st.sampled_from([5, 40]))) | st.none(),
        created=draw(st.sampled_from([st.none(), st.none() | st.integers(-5, 45)])),
        event_id=draw(st.sampled_from([st.none(), st.none() | st.integers(0, 8)])),
        retracted=draw(st.sampled_from([st.none(), st.sampled_from([None, False, False, True])])),
        values=st.fixed_dictionaries(values),
        matches=st.booleans(),
    )
    rows = draw(st.lists(bare, max_size=30))
    order = draw(st.permutations(range(len(rows))))
    return [replaced(row, number) for row, number in zip(rows, order, strict=True)]


def replaced(row: Row, sequence: int) -> Row:
    return Row(row.key, row.time, row.created, sequence, row.event_id, row.retracted, row.values, row.matches)


SPINES = st.one_of(
    st.lists(st.tuples(st.sampled_from([0, 1, 2, 3, None]), st.integers(-6, 50) | st.none()), max_size=20),
    # in order of key and time, as made spines are
    st.lists(st.tuples(st.integers(0, 3), st.integers(-6, 50)), max_size=20).map(sorted),
)


def run(
    spine: list[tuple[Any, int | None]],
    rows: list[Row],
    asked: Sequence[Aggregate],
    *,
    ttl: int | None = None,
    exact: bool = True,
    as_known: bool = False,
    ordered: bool = False,
) -> dict[str, list[Any]]:
    index = KeyIndex.of({"key": pa.array([key for key, _ in spine], pa.int64())})
    times = pa.array([time for _, time in spine], TIMES)
    events = Events.of(
        index.lookup({"key": pa.array([row.key for row in rows], pa.int64())}),
        pa.array([row.time for row in rows], TIMES),
        created_time=pa.array([row.created for row in rows], TIMES),
        sequence=pa.array([row.sequence for row in rows], pa.int64()),
        event_id=pa.array([row.event_id for row in rows], pa.int64()),
        retracted=pa.array([row.retracted for row in rows], pa.bool_()),
        ordered=ordered,
    )
    columns = {column for each in asked for column in each.columns}
    values = {
        name: pa.array([row.values[name] for row in rows], arrow_type(COLUMNS[name][0])) for name in sorted(columns)
    }
    found = evaluate(
        Spine.of(index, Instants.of(times)),
        events,
        asked,
        values,
        {"f": np.array([row.matches for row in rows], np.bool_)},
        ttl=ttl,
        exact_matches=exact,
        as_known=as_known,
    )
    assert list(found) == [each.name for each in asked]
    for each in asked:
        found[each.name].validate(full=True)
        assert found[each.name].type == arrow_type(each.dtype)
        assert len(found[each.name]) == len(spine)
    return {name: column.to_pylist() for name, column in found.items()}


def same(found: Any, expected: Any, slack: float) -> bool:
    """Equal in value and type; floats that are computed within 1e-9, or within what their terms cancel."""
    if isinstance(found, list) and isinstance(expected, list):
        return len(found) == len(expected) and all(map(same, found, expected, [slack] * len(found)))
    if isinstance(found, float) and isinstance(expected, float):
        if found != found or expected != expected or math.isinf(found) or math.isinf(expected):
            return found == expected or (found != found and expected != expected)
        return abs(found - expected) <= max(1e-9 * abs(expected), slack)
    return type(found) is type(expected) and found == expected


def slack_of(aggregate: Aggregate, rows: list[Row]) -> float:
    """What rounding may leave where large terms cancel; sums, means and variances get none."""
    if aggregate.function.name not in ("decayed_sum", "ewma", "quantile", "median"):
        return 0.0
    values = [row.values[aggregate.column] for row in rows]
    return 1e-12 * sum(min(abs(float(value)), HUGE / 100) for value in values if value is not None and value == value)


@pytest.mark.parametrize("function", EXACT)
@settings(max_examples=120, deadline=None)
@given(
    data=st.data(),
    spine=SPINES,
    ttl=st.none() | st.integers(1, 12),
    exact=st.booleans(),
    known=st.booleans(),
    ordered=st.booleans(),
)
def test_every_value_is_what_the_laws_say(
    function: str,
    data: st.DataObject,
    spine: list[tuple[Any, int | None]],
    ttl: int | None,
    exact: bool,
    known: bool,
    ordered: bool,
) -> None:
    """The loop and the kernel agree cell by cell: values, types, nulls, and what is an error."""
    aggregate = data.draw(aggregates(function))
    rows = data.draw(tables(aggregate.columns))
    if ordered:
        rows = [row for row in rows if row.time is not None]
        rows.sort(key=lambda row: (row.time, *brute.written(row)))
    if data.draw(st.booleans(), label="as of every event"):
        spine = sorted({(row.key, row.time) for row in rows if row.key is not None and row.time is not None})
    how = {"ttl": ttl, "exact": exact, "as_known": known}
    try:
        expected = [brute.answer(rows, key, time, aggregate, **how) for key, time in spine]
    except brute.Overflow:
        with pytest.raises(ColumnTypeError, match="'out'"):
            run(spine, rows, [aggregate], ordered=ordered, **how)
        return
    found = run(spine, rows, [aggregate], ordered=ordered, **how)["out"]
    slack = slack_of(aggregate, rows)
    for asked, one, other in zip(spine, found, expected, strict=True):
        assert one == other or same(one, other, slack), (asked, one, other)


def windowed(function: str, column: str = "f", window: Window = LIFETIME, **how: Any) -> Aggregate:
    name, _, given = function.partition(" ")
    written = tuple(int(part) if part.isdigit() else part for part in given.split())
    parameters = how.pop("parameters", written)
    dtype = None if column == "*" else COLUMNS[column][0]
    called = Function(name, parameters)
    return Aggregate(how.pop("name", "out"), called, column, window, output_dtype(called, dtype), dtype, **how)


def of(rows: list[tuple[int, Any]], column: str = "f") -> list[Row]:
    """Rows of the key 1: (event time, value)."""
    return [Row(1, time, None, number, values={column: value}) for number, (time, value) in enumerate(rows)]


def answers(rows: list[Row], times: list[int], aggregate: Aggregate, **how: Any) -> list[Any]:
    return run([(1, time) for time in times], rows, [aggregate], **how)["out"]


@pytest.mark.parametrize(
    ("closed", "counts"),
    [("right", [1, 1, 1, 0]), ("left", [0, 1, 1, 1]), ("both", [1, 1, 1, 1]), ("none", [0, 1, 1, 0])],
)
def test_each_end_is_open_or_closed_as_said(closed: Any, counts: list[int]) -> None:
    """One event at 10 and a window of 3, at 10, 11, 12 and 13 (WIN-1)."""
    aggregate = windowed("count", "*", Window("time", 3), closed=closed)
    assert answers(of([(10, 1.0)]), [10, 11, 12, 13], aggregate) == counts


def test_an_empty_window_counts_zero_and_all_else_is_null() -> None:
    """Unknown keys, null keys and moments before the first event are empty windows; no time is none (WIN-4)."""
    asked = [windowed(name, name=name) for name in ("count", "sum", "count_distinct")]
    spine = [(1, 0), (7, 9), (None, 9), (1, None), (1, 9)]
    found = run(spine, of([(5, 2.0)]), asked)
    assert found == {
        "count": [0, 0, 0, None, 1],
        "sum": [None, None, None, None, 2.0],
        "count_distinct": [0, 0, 0, None, 1],
    }


def test_a_spine_without_rows_and_a_table_without_rows_work() -> None:
    asked = [windowed(name, name=name) for name in ("count", "sum", "median", "mode", "std")]
    assert run([], of([(5, 2.0)]), asked) == {each.name: [] for each in asked}
    assert run([(1, 5)], [], asked) == {each.name: [0 if each.name == "count" else None] for each in asked}


def test_what_lies_outside_the_window_leaves_no_trace() -> None:
    """Prefix sums over 1e300 and infinity still give exact sums of what comes after (WIN-2)."""
    rows = of([(0, 1e300), (1, 1e-300), (2, 3e-300), (3, math.inf), (10, 0.1), (11, 0.2), (12, -0.3), (13, 5e-324)])
    expected = [1e-300 + 3e-300, math.fsum([0.2, -0.3]), math.fsum([-0.3, 5e-324])]
    assert answers(rows, [2, 12, 13], windowed("sum", window=Window("time", 2))) == expected


def test_sums_that_cancel_are_exact() -> None:
    rows = of([(0, 1e300), (1, 1.0), (2, -1e300), (3, 1e-300)])
    assert answers(rows, [2, 3], windowed("sum")) == [1.0, 1.0]
    assert answers(rows, [3], windowed("sum", window=Window("rows", 1))) == [1e-300]


def test_a_mean_is_finite_where_the_sum_is_not() -> None:
    rows = of([(0, HUGE), (1, HUGE)])
    assert answers(rows, [0, 1], windowed("mean")) == [HUGE, HUGE]
    assert answers(rows, [0, 1], windowed("sum")) == [HUGE, math.inf]


@pytest.mark.parametrize("mean", [0.0, 1e3, 1e8, 1e12, -1e15])
def test_a_deviation_is_right_beside_a_mean_that_is_larger_by_any_order(mean: float) -> None:
    values = [mean + part for part in (0.0, 1.0, 2.5, -1.0, 0.25)]
    expected = brute.number("std", (), values, [])
    assert answers(of(list(enumerate(values))), [4], windowed("std")) == [pytest.approx(expected, rel=1e-12)]


def test_equal_values_have_no_variance_at_all() -> None:
    rows = of([(time, 0.1) for time in range(9)])
    assert answers(rows, [0, 1, 8], windowed("var")) == [None, 0.0, 0.0]
    assert answers(rows, [0, 1, 8], windowed("std")) == [None, 0.0, 0.0]


def test_variances_of_the_largest_and_smallest_floats() -> None:
    rows = of([(0, 1e200), (1, 3e200), (10, 1e-200), (11, 3e-200)])
    deviations = answers(rows, [1, 11], windowed("std", window=Window("time", 5)))
    assert deviations == [pytest.approx(math.sqrt(2) * 1e200), pytest.approx(math.sqrt(2) * 1e-200)]
    assert answers(rows, [1, 11], windowed("var", window=Window("time", 5))) == [math.inf, 0.0]


def test_nan_is_a_value_greater_than_any_number() -> None:
    rows = of([(0, 1.0), (1, math.nan), (2, math.inf), (3, math.nan), (4, -0.0), (5, 0.0)])
    at = [5]
    assert answers(rows, at, windowed("min")) == [0.0]
    assert answers(rows, at, windowed("count_distinct")) == [4]
    assert answers(rows, at, windowed("top_n 2"))[0][0] == 0.0
    for name in ("max", "sum", "mean", "std", "var", "range", "median", "ewma 5", "decayed_sum 5"):
        assert math.isnan(answers(rows, at, windowed(name))[0]), name
    assert answers(rows, at, windowed("median", window=Window("rows", 2))) == [0.0]


def test_a_sum_that_needs_more_than_64_bits_is_an_error_that_names_the_feature() -> None:
    rows = of([(0, 2**63 - 1), (1, 1), (2, -1)], "i")
    with pytest.raises(ColumnTypeError, match=r"aggregation 'out': a sum of column 'i'"):
        answers(rows, [1], windowed("sum", "i"))
    assert answers(rows, [0, 2], windowed("sum", "i")) == [2**63 - 1, 2**63 - 1]
    assert answers(rows, [1], windowed("mean", "i")) == [2.0**62]


def test_a_lag_is_the_whole_row_with_its_nulls_within_the_tolerance() -> None:
    """The value at t - lag, null where that row has none; both ends of the tolerance are inside (LAG-1)."""
    rows = of([(0, 1.0), (5, None), (6, 2.0)])
    assert answers(rows, [4, 9, 10, 99], windowed("lag", shift=4)) == [1.0, None, 2.0, 2.0]
    assert answers(rows, [7, 8, 12, 13], windowed("lag", window=Window("time", 3), shift=4)) == [1.0, None, 2.0, 2.0]
    assert answers(rows, [14], windowed("lag", window=Window("time", 3), shift=4)) == [None]


def test_the_ttl_of_a_lag_counts_from_the_lagged_time() -> None:
    rows = of([(0, 1.0)])
    assert answers(rows, [9, 10, 11], windowed("lag", shift=5), ttl=5) == [1.0, 1.0, None]
    assert answers(rows, [5, 6], windowed("sum"), ttl=5) == [1.0, None]


def test_a_session_ends_with_a_gap_and_holds_as_long_as_the_gap() -> None:
    rows = of([(0, 1.0), (3, 2.0), (7, 4.0), (10, 8.0)])
    aggregate = windowed("sum", window=Window("session", 3))
    assert answers(rows, [0, 3, 6, 7, 10, 13, 14], aggregate) == [1.0, 3.0, 3.0, 4.0, 12.0, 12.0, None]


def test_values_are_those_of_the_last_boundary() -> None:
    """With an interval nothing between two boundaries shows, whatever is visible by then (WIN-3)."""
    rows = of([(9, 1.0), (10, 2.0), (11, 4.0)])
    aggregate = windowed("sum", every=10, offset=0)
    assert answers(rows, [9, 10, 19, 20], aggregate) == [None, 3.0, 3.0, 7.0]
    assert answers(rows, [10, 19, 20], aggregate, exact=False) == [1.0, 1.0, 7.0]
    assert answers(rows, [10, 11, 21], windowed("sum", every=10, offset=1)) == [None, 7.0, 7.0]


def test_a_late_event_counts_from_when_it_was_known_not_from_the_next_boundary() -> None:
    """What is known is judged at the moment asked for, what is in the window at the boundary (PIT-5, WIN-3)."""
    rows = [Row(1, 9, 15, 0, values={"f": 1.0}), Row(1, 11, 11, 1, values={"f": 2.0})]
    aggregate = windowed("sum", every=10)
    assert answers(rows, [10, 14, 15, 19, 20], aggregate, as_known=True) == [None, None, 1.0, 1.0, 3.0]


@pytest.mark.parametrize("function", ["sum", "std", "min", "last", "ewma 5", "median", "last_n 3", "count_distinct"])
def test_windows_with_gaps_where_some_events_were_not_known(function: str) -> None:
    """Every third event became known late: at most moments a window has holes near its end (PIT-5)."""
    values = [None if time % 11 == 0 else time * 7 % 13 / 10 for time in range(60)]
    rows = [Row(1, time, time + 9 * (time % 3 == 0), time, values={"f": value}) for time, value in enumerate(values)]
    aggregate = windowed(function, window=Window("time", 25))
    expected = [brute.answer(rows, 1, time, aggregate, as_known=True) for time in range(70)]
    found = answers(rows, list(range(70)), aggregate, as_known=True)
    assert all(same(one, other, 1e-12) for one, other in zip(found, expected, strict=True))


def test_only_the_last_written_version_of_an_event_counts() -> None:
    """A correction replaces, also when it moves the event; a retraction removes; null ids are events (WIN-6)."""
    rows = [
        Row(1, 5, 5, 0, 77, values={"f": 1.0}),
        Row(1, 5, 9, 1, 77, values={"f": 10.0}),
        Row(1, 6, 6, 2, 78, values={"f": 100.0}),
        Row(1, 6, 8, 3, 78, retracted=True, values={"f": 100.0}),
        Row(1, 7, 7, 4, None, values={"f": 1000.0}),
        Row(2, 7, 9, 5, 77, values={"f": 7.0}),
        Row(1, 30, 50, 6, 79, values={"f": 1.0}),
        Row(1, 32, 51, 7, 79, values={"f": 5.0}),
    ]
    assert answers(rows, [5, 20, 31, 32], windowed("sum")) == [10.0, 1010.0, 1010.0, 1015.0]
    assert answers(rows, [5, 6, 7, 8, 9], windowed("sum"), as_known=True) == [1.0, 101.0, 1101.0, 1001.0, 1010.0]


def test_a_retraction_without_a_time_still_removes() -> None:
    rows = [Row(1, 5, 5, 0, 3, values={"f": 1.0}), Row(1, None, 9, 1, 3, True, values={"f": None})]
    assert answers(rows, [8, 9], windowed("count")) == [0, 0]
    assert answers(rows, [8, 9], windowed("count"), as_known=True) == [1, 0]


def test_a_backfill_is_invisible_until_it_was_loaded() -> None:
    rows = [Row(1, time, 100, time, values={"f": 1.0}) for time in range(50)]
    rows += [Row(1, 100 + time, 100 + time, 50 + time, values={"f": 1.0}) for time in range(5)]
    assert answers(rows, [49, 99, 100, 104], windowed("count", "*"), as_known=True) == [0, 0, 51, 55]


def test_the_newest_row_wins_among_equally_extreme_ones() -> None:
    rows = [
        Row(1, number, None, number, values={"s": text, "f": value})
        for number, (text, value) in enumerate([("a", 1.0), ("b", -0.0), ("ab", 0.0), ("", None), ("é", math.nan)])
    ]
    assert answers(rows, [9], windowed("min_by f", "s", by_input=DataType("float64"))) == ["ab"]
    assert answers(rows, [9], windowed("max_by f", "s", by_input=DataType("float64"))) == ["é"]


def test_many_half_lives_neither_cancel_nor_overflow() -> None:
    """Weights of 2**-100000 are zeros, and an average does not know how long ago it was."""
    rows = of([(0, 1e300), (100_000, 3.0), (100_001, 1.0)])
    assert answers(rows, [0, 100_001, 10**6], windowed("ewma 1")) == [1e300, pytest.approx(5 / 3), pytest.approx(5 / 3)]
    assert answers(rows, [100_001, 10**6], windowed("decayed_sum 1")) == [2.5, 0.0]


def test_times_too_far_apart_to_pack_are_found_all_the_same() -> None:
    low, high = -(2**62), 2**62
    rows = [Row(key, time, None, n, values={"f": 1.0}) for n, (key, time) in enumerate([(1, low), (2, 5), (1, high)])]
    spine = [(1, low), (1, high - 1), (1, high), (2, 4), (2, 5), (2, high)]
    assert run(spine, rows, [windowed("count", "*")])["out"] == [1, 1, 2, 0, 1, 1]
    within = run(spine, rows, [windowed("count", "*", Window("time", 2**61))])["out"]
    assert within == [1, 0, 1, 0, 1, 0]


def test_calendar_functions_are_of_the_moment_whatever_the_key() -> None:
    hour = Aggregate("out", Function("hour", ("UTC",)), "*", LIFETIME, DataType("int64"), every=2 * 3_600_000_000)
    spine = [(1, 3 * 3_600_000_000 + 1), (None, 0), (1, None)]
    assert run(spine, [], [hour])["out"] == [2, 0, None]


def test_aggregates_together_are_the_same_as_alone() -> None:
    """What functions share, they share without changing it."""
    rows = [
        Row(
            n % 3, n // 3, n // 3 + (n * 7 % 5 == 0), n, values={"f": None if n % 7 == 0 else n * 0.1, "s": "ab"[n % 2]}
        )
        for n in range(60)
    ]
    windows = [Window("time", 5), Window("rows", 3), LIFETIME, Window("session", 1)]
    asked = [
        windowed(name, column, window, name=f"{name}{column}{window}{closed}", closed=closed, filter=condition)
        for name in ("sum", "count", "first", "min", "max", "std", "var", "mean", "median", "mode", "count_distinct")
        for column in ("f", "s")
        for window in windows
        for closed, condition in (("right", None), ("left", "f"))
        if column == "f" or FUNCTIONS[name].accepts != "numbers"
    ]
    spine = [(key, time) for key in range(4) for time in range(0, 25, 2)]
    together = run(spine, rows, asked, as_known=True)
    for each in asked:
        assert run(spine, rows, [each], as_known=True)[each.name] == together[each.name], each.name
