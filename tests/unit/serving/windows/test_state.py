"""What the state promises, case by case."""

from __future__ import annotations

import dataclasses
import math
import random
from typing import Any

import pytest
from tests.unit.serving.windows.catalogue import SCHEMA, aggregate, same
from tests.unit.serving.windows.cells import DictCells

from grange.errors import (
    ColumnTypeError,
    CorruptStoreError,
    DefinitionError,
    IncompleteStateError,
    SchemaError,
    StateLayoutError,
)
from grange.serving.windows import (
    Event,
    Reader,
    StateSpec,
    apply,
    build,
    describe,
    read,
)
from grange.types import DataType
from grange.types.aggregates import LIFETIME, Aggregate, Function, Window, parse_function

KEY = b"\x38u1\x00"
HEAD = b"\xff"


def of(function: str, column: str = "amount", window: Window = LIFETIME, **rest: Any) -> Aggregate:
    parsed = Function("lag") if function == "lag" else parse_function(function, what="test")
    return aggregate(parsed, column, window, **rest)


def spec_of(*aggregates: Aggregate, **rest: Any) -> StateSpec:
    sizes = {name: rest.pop(name) for name in ("leaf_size", "fan_out") if name in rest}
    options: dict[str, Any] = {"event_id": "event", "retracted": "gone", "created": True, "ttl": None, **rest}
    return dataclasses.replace(StateSpec.of(aggregates, schema=SCHEMA, **options), **sizes)


def event(time: int, *values: Any, id: Any = None, created: int | None = None, **rest: Any) -> Event:
    fields = {"sequence": 0, "retracted": False, "filters": 0, **rest}
    return Event(event_time=time, created=created, id=id, values=values, **fields)


def values_of(spec: StateSpec, aggregates: list[Aggregate], events: list[Event], now: int, **rest: Any) -> list[Any]:
    """What is read after the events were written one by one, and after they were loaded: the same."""
    cells = DictCells()
    for each in events:
        apply(cells, spec, KEY, [each], now=rest.get("written", now))
    loaded = DictCells(dict(build(spec, [(KEY, events)], now=rest.get("written", now))))
    exact = rest.get("exact_matches", True)
    one = read(cells, spec, KEY, aggregates, now=now, exact_matches=exact)
    other = read(loaded, spec, KEY, aggregates, now=now, exact_matches=exact)
    assert one.found == other.found
    assert one.newest == other.newest
    assert all(map(same, one.values, other.values))
    return one.values


# -- versions of events (WIN-6) ----------------------------------------------------------------------------------

TOTAL = of("sum", "items")


@pytest.mark.parametrize(
    ("versions", "total"),
    [
        pytest.param([event(1, 5, id="a"), event(1, 7, id="a")], 7, id="the one applied later of equal ones"),
        pytest.param([event(1, 5, id="a", created=9), event(1, 7, id="a", created=8)], 5, id="the newest created"),
        pytest.param([event(1, 5, id="a", created=0), event(1, 7, id="a")], 5, id="a null created time is oldest"),
        pytest.param([event(1, 5, id="a", sequence=2), event(1, 7, id="a", sequence=1)], 5, id="the larger sequence"),
        pytest.param([event(1, 5, id="a"), event(9, 7, id="a")], 7, id="a version may be of another time"),
        pytest.param([event(1, 5, id="a"), event(1, 5, id="b")], 10, id="other events stay"),
        pytest.param([event(1, 5), event(1, 7)], 12, id="events without an id all count"),
        pytest.param([event(1, 5, id="a"), event(1, 0, id="a", retracted=True)], None, id="taken back"),
        pytest.param(
            [event(1, 0, id="a", created=5, retracted=True), event(1, 5, id="a", created=4)],
            None,
            id="taken back before an older version arrives",
        ),
        pytest.param(
            [event(1, 0, id="a", created=5, retracted=True), event(1, 5, id="a", created=6)], 5, id="and given again"
        ),
        pytest.param([event(1, 5, retracted=True)], None, id="nothing says what is taken back"),
    ],
)
@pytest.mark.parametrize("padding", [0, 50])
def test_the_last_written_version_counts(versions: list[Event], total: int | None, padding: int) -> None:
    """In one cell, and in a tree whose event ids lie in buckets."""
    spec = spec_of(TOTAL, leaf_size=4, fan_out=4)
    others = [event(time, 0, id=f"x{time}") for time in range(padding)]
    want = (total or 0) if padding else total
    assert values_of(spec, [TOTAL], [*others, *versions], 100) == [want]


def test_versions_count_as_changes_when_they_change_something() -> None:
    """An older version changes nothing, and nothing is written for it."""
    cells, spec = DictCells(), spec_of(TOTAL)
    assert apply(cells, spec, KEY, [event(1, 5, id="a", created=9), event(2, 5)], now=9) == 2
    cells.forget()
    assert apply(cells, spec, KEY, [event(1, 6, id="a", created=3), event(2, 0, retracted=True)], now=9) == 0
    assert apply(cells, spec, KEY, [], now=9) == 0
    assert not cells.written


def test_the_order_of_arrival_does_not_matter() -> None:
    """The same versions in any order give the same answers (ONL-2)."""
    rng = random.Random(7)
    aggregates = [of("sum"), of("last_n(5)"), of("count", "*"), of("max_by(items)", "city")]
    spec = spec_of(*aggregates, leaf_size=4, fan_out=4)
    columns = [name for name, _ in spec.columns]
    versions = []
    for number in range(120):
        row = {"amount": rng.gauss(0, 1e8), "items": rng.randrange(5), "city": rng.choice("abc")}
        name, back = f"e{rng.randrange(40)}", rng.random() < 0.2
        row_values = [row[column] for column in columns]
        made = rng.choice([None, rng.randrange(9)])
        versions.append(event(rng.randrange(50), *row_values, id=name, created=made, sequence=number, retracted=back))
    want = values_of(spec, aggregates, versions, 60)
    for _ in range(5):
        rng.shuffle(versions)
        assert values_of(spec, aggregates, versions, 60) == want


# -- windows -----------------------------------------------------------------------------------------------------


def test_closed_ends() -> None:
    """WIN-1: each end is in the window or not, event by event."""
    events = [event(time, 1) for time in (10, 20)]
    counts = [of("count", "items", Window("time", 10), closed=closed) for closed in ("right", "left", "both", "none")]
    assert values_of(spec_of(*counts), counts, events, 20) == [1, 1, 2, 0]
    assert values_of(spec_of(*counts), counts, events, 20, exact_matches=False) == [0, 1, 1, 0]


def test_a_lag_reaches_its_tolerance_and_takes_nulls() -> None:
    """LAG-1: the tolerance is included, and a null value is a value."""
    lags = [of("lag", "items", Window("time", 5), shift=10), of("lag", "items", LIFETIME, shift=10)]
    spec = spec_of(*lags)
    assert values_of(spec, lags, [event(5, 7)], 20) == [7, 7]
    assert values_of(spec, lags, [event(4, 7)], 20) == [None, 7]
    assert values_of(spec, lags, [event(5, 7), event(10, None), event(11, 8)], 20) == [None, None]


def test_a_lags_ttl_counts_from_its_own_moment() -> None:
    """LAG-1: it is the point-in-time value at `t - lag`, and so is its age."""
    lag = of("lag", "items", LIFETIME, shift=10)
    spec = spec_of(lag, ttl=5)
    assert values_of(spec, [lag], [event(5, 7)], 20) == [7]
    assert values_of(spec, [lag], [event(4, 7)], 20) == [None]


@pytest.mark.parametrize("leaf_size", [2, 256])
def test_a_session_ends_after_a_longer_silence_than_its_gap(leaf_size: int) -> None:
    """A silence of exactly the gap is none; neither between events nor up to now."""
    count = of("count", "*", Window("session", 5))
    spec = spec_of(count, leaf_size=leaf_size, fan_out=4)
    events = [event(time) for time in (0, 6, 11, 16, 21, 21, 26)]
    assert values_of(spec, [count], events, 31) == [6]
    assert values_of(spec, [count], events, 32) == [0]
    assert values_of(spec, [count], events, 5) == [1]


def test_boundaries_move_everything() -> None:
    """WIN-3: with `every` the value is as of the last boundary, the visibility of events too."""
    total = of("sum", "items", Window("time", 100), every=10, offset=3)
    spec = spec_of(total)
    events = [event(12, 1), event(13, 10), event(14, 100)]
    assert values_of(spec, [total], events, 22) == [11]
    assert values_of(spec, [total], events, 22, exact_matches=False) == [1]
    assert values_of(spec, [total], events, 23) == [111]
    assert values_of(spec, [total], [event(-8, 5)], -7) == [5]


def test_rows_reach_beyond_the_horizon() -> None:
    """The newest rows count at any age, so they stay when nothing else needs them."""
    rows, recent = of("sum", "items", Window("rows", 3)), of("sum", "items", Window("time", 10))
    spec = spec_of(rows, recent, event_id=None, retracted=None, grace=5, leaf_size=2, fan_out=4)
    assert (spec.horizon, spec.rows) == (10, 3)
    events = [event(time, time) for time in range(40)]
    assert values_of(spec, [rows, recent], events, 10_000) == [37 + 38 + 39, None]
    cells = DictCells(dict(build(spec, [(KEY, events)], now=10_000)))
    with pytest.raises(IncompleteStateError):
        read(cells, spec, KEY, [rows], now=38)


def test_the_moment_alone() -> None:
    """Calendar functions need no events, and are null for nobody."""
    hour = Aggregate("hour", Function("hour", ("Europe/Berlin",)), "*", LIFETIME, DataType("int64"))
    count = of("count", "*")
    spec = spec_of(count, hour)
    assert read(DictCells(), spec, KEY, [hour, count], now=1_767_225_600_000_000) == (False, None, [1, 0])
    assert StateSpec.of([hour], schema=SCHEMA, event_id=None, retracted=None, created=False, ttl=None).horizon == 0


# -- what is found -----------------------------------------------------------------------------------------------


def test_what_is_found_of_a_key() -> None:
    """Whether there is a visible event of any age, and when the newest was; an empty window of none (WIN-4)."""
    functions = ["count", "sum", "last_n(2)", "std", "median"]
    aggregates = [of(function, "items", Window("time", 5)) for function in functions]
    spec = spec_of(*aggregates, grace=1000)
    reader = Reader(spec, aggregates)
    empty = [0, None, None, None, None]
    cells = DictCells()
    apply(cells, spec, KEY, [event(10, 1), event(20, 2)], now=20)
    assert reader.read(cells, b"nobody", now=20) == (False, None, empty)
    assert reader.read(cells, KEY, now=9) == (False, None, empty)
    assert reader.read(cells, KEY, now=10) == (True, 10, [1, 1, [1], None, 1.0])
    assert reader.read(cells, KEY, now=10, exact_matches=False) == (False, None, empty)
    assert reader.read(cells, KEY, now=500) == (True, 20, empty)


def test_a_key_whose_events_are_all_evicted_is_still_known() -> None:
    """Its newest event was when it was."""
    count = of("count", "*", Window("time", 5))
    spec = spec_of(count, grace=0)
    cells = DictCells(dict(build(spec, [(KEY, [event(10), event(20)])], now=1000)))
    assert read(cells, spec, KEY, [count], now=1000) == (True, 20, [0])
    with pytest.raises(IncompleteStateError):
        read(cells, spec, KEY, [count], now=19)
    with pytest.raises(IncompleteStateError):
        read(cells, spec, KEY, [count], now=-(10**18))


def test_a_lag_is_whole_while_its_row_is_held() -> None:
    """It needs one row, however many before it were evicted; without that row it is refused."""
    lag = of("lag", "items", LIFETIME, shift=10)
    spec = spec_of(lag, event_id=None, retracted=None, grace=0)
    cells = DictCells(dict(build(spec, [(KEY, [event(n, n) for n in range(0, 100, 10)])], now=85)))
    assert spec.rows == 1
    assert read(cells, spec, KEY, [lag], now=85).values == [70]
    assert read(cells, spec, KEY, [lag], now=200).values == [90]
    with pytest.raises(IncompleteStateError) as caught:
        read(cells, spec, KEY, [lag], now=79)
    assert caught.value.details == {"complete_from": 61, "needed_from": None}


# -- values ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("leaf_size", [2, 64])
def test_a_spread_survives_a_large_mean(leaf_size: int) -> None:
    """var and std of values whose mean is 1e8 times as large; sums of both signs; extremes of the range."""
    rng = random.Random(3)
    aggregates = [of("var"), of("sum")]
    spec = spec_of(*aggregates, leaf_size=leaf_size, fan_out=4)
    values = [1e8 + rng.random() for _ in range(500)]
    middle = math.fsum(values) / 500
    variance = math.fsum((value - middle) ** 2 for value in values) / 499
    found, total = values_of(spec, aggregates, [event(n, value) for n, value in enumerate(values)], 999)
    assert found == pytest.approx(variance, rel=1e-6)  # of the two-pass formula in floats, which is the worse
    assert total == math.fsum(values)
    wild = [1e300, 1.0, -1e300, 1e-300] * 20
    assert values_of(spec, aggregates, [event(n, value) for n, value in enumerate(wild)], 999)[1] == 20.0


def test_an_integer_that_does_not_fit_is_an_error_that_names_the_aggregate() -> None:
    """And one whose parts alone do not fit is none."""
    total = of("sum", "items")
    spec = spec_of(total, leaf_size=2, fan_out=4)
    large = [event(n, 2**62) for n in range(20)]
    cells = DictCells(dict(build(spec, [(KEY, large)], now=99)))
    with pytest.raises(ColumnTypeError, match="sum of items") as caught:
        read(cells, spec, KEY, [total], now=99)
    assert caught.value.found == str(20 * 2**62)
    back = [event(50 + n, -(2**62)) for n in range(19)]
    assert values_of(spec, [total], [*large, *back], 99) == [2**62]


# -- cells -------------------------------------------------------------------------------------------------------


def aggregates_of_a_busy_key() -> list[Aggregate]:
    window = Window("time", 2_000_000)
    return [
        *(of(function, "amount", window) for function in ("sum", "mean", "count", "min", "max", "std", "last")),
        of("sum", "amount", Window("rows", 1000)),
        of("count", "*", Window("rows", 1000), filter="big"),
        of("count", "*", Window("session", 3), filter="big"),
    ]


def busy(count: int, spec: StateSpec) -> DictCells:
    rng = random.Random(1)
    events = [event(n, rng.random(), id=f"e{n}", filters=int(rng.random() < 0.5)) for n in range(count)]
    return DictCells(dict(build(spec, [(KEY, events)], now=count)))


def test_a_read_of_many_events_looks_at_few_cells() -> None:
    """Their number grows with the height of the tree, not with the window; a write touches a path and a bucket."""
    aggregates = aggregates_of_a_busy_key()
    spec = spec_of(*aggregates, leaf_size=64, fan_out=16)
    reader = Reader(spec, aggregates)
    for count, most in ((1000, 12), (30_000, 24)):
        cells = busy(count, spec)
        cells.forget()
        values = reader.read(cells, KEY, now=count + 1).values
        assert values[2] == count
        assert len(cells.read) <= most
        cells.forget()
        apply(cells, spec, KEY, [event(count + 1, 0.5, id="new")], now=count + 1)
        apply(cells, spec, KEY, [event(count // 2, 0.5, id="e7")], now=count + 1)
        assert len(cells.read) <= 2 * most
        assert len(cells.written) <= 2 * most


def test_many_keys_are_read_in_as_many_trips_as_one() -> None:
    """A level of all trees at once."""
    total = of("sum", "items", Window("time", 500))
    spec = spec_of(total, leaf_size=16, fan_out=4)
    keys = [b"\x38%03d\x00" % number for number in range(20)]
    groups = [(key, [event(time, 1) for time in range(1000)]) for key in keys]
    cells = DictCells(dict(build(spec, groups, now=1000)))
    cells.forget()
    readings = Reader(spec, [total]).read_many(cells, keys, now=1000)
    assert [reading.values for reading in readings] == [[499]] * 20
    assert cells.trips <= 6


@pytest.mark.parametrize("leaf_size", [2, 4, 64])
def test_what_is_said_of_the_cells_is_true(leaf_size: int) -> None:
    """The head counts keys, cells and bytes through writes, deletes and loads; nothing is left behind."""
    rng = random.Random(5)
    total = of("sum", "items")
    spec = spec_of(total, leaf_size=leaf_size, fan_out=4)
    cells = DictCells()
    assert describe(cells) is None
    for step in range(150):
        key = rng.choice([KEY, b"\x38u2\x00"])
        batch = [
            event(rng.randrange(99), 1, id=rng.randrange(80), sequence=step, retracted=step > 75 or rng.random() < 0.3)
            for _ in range(rng.randrange(12))
        ]
        batch = [each._replace(id=f"e{each.id}") for each in batch]
        apply(cells, spec, key, batch, now=100)
        check_head(cells, spec)
    names = [f"e{number}" for number in range(80)]
    for key in (KEY, b"\x38u2\x00"):
        apply(cells, spec, key, [event(0, 0, id=name, sequence=999, retracted=True) for name in names], now=100)
    check_head(cells, spec)
    assert read(cells, spec, KEY, [total], now=100).values == [None]
    inner = [key for key in cells.held if key != HEAD and 0 < int.from_bytes(key[-4:], "big") < 2**31]
    assert not inner


def check_head(cells: DictCells, spec: StateSpec) -> None:
    head = describe(cells)
    if head is None:
        assert not cells.held
        return
    held = {key: value for key, value in cells.held.items() if key != HEAD}
    sizes: dict[bytes, int] = {}
    for key, value in held.items():
        sizes[key[:-4]] = sizes.get(key[:-4], 0) + len(key) + len(value)
    assert (head.layout, head.keys, head.cells) == (spec.layout, len(sizes), len(held))
    assert head.size == sum(sizes.values())
    assert head.largest >= max(sizes.values())
    assert head.bytes_per_key == head.size / head.keys


def test_a_load_is_described_too() -> None:
    total = of("sum", "items")
    spec = spec_of(total, leaf_size=4, fan_out=4)
    groups = [(b"\x38%03d\x00" % size, [event(t, 1, id=f"e{t}") for t in range(size)]) for size in range(0, 60, 7)]
    written = list(build(spec, groups, now=99))
    assert [key for key, _ in written] == sorted({key for key, _ in written})
    cells = DictCells(dict(written))
    check_head(cells, spec)
    head = describe(cells)
    assert head is not None
    assert head.keys == 8  # the key without events has no cells


def test_ids_of_a_busy_key_spread_and_come_together_again() -> None:
    """Buckets split as ids come, and join as they go; a version is found all along."""
    count = of("count", "*", Window("time", 1000))
    spec = spec_of(count, created=False, grace=0, leaf_size=8, fan_out=8)
    cells = DictCells()
    for start in range(0, 3000, 50):
        batch = [event(start + n, id=f"e{start + n}") for n in range(50)]
        apply(cells, spec, KEY, [*batch, *batch], now=start + 50)
        assert read(cells, spec, KEY, [count], now=start + 49).values == [min(start + 50, 1000)]
    peak = sum(1 for key in cells.held if key[-4:-3] == b"\x80")
    assert peak > 4
    for start in range(100_000, 200_000, 50):
        apply(cells, spec, KEY, [event(start, id=f"e{start}")], now=start)
    assert read(cells, spec, KEY, [count], now=199_950).values == [20]
    assert sum(1 for key in cells.held if key[-4:-3] == b"\x80") < peak


@pytest.mark.parametrize(("leaf_size", "fan_out"), [(5, 4), (16, 5), (16, 16), (64, 8)])
@pytest.mark.parametrize("newest_first", [True, False, None])
def test_a_tree_shrinks_as_events_are_taken_back(leaf_size: int, fan_out: int, newest_first: bool | None) -> None:
    """In any order; nodes that become small join their neighbours, and the answers stay those of what is left."""
    rng = random.Random(11)
    aggregates = [of("sum"), of("std"), of("max_by(items)", "city"), of("count", "*", filter="big")]
    spec = spec_of(*aggregates, created=False, leaf_size=leaf_size, fan_out=fan_out)
    columns = [name for name, _ in spec.columns]
    rows = [{"amount": rng.gauss(1e8, 1), "items": rng.randrange(1000), "city": f"c{n}"} for n in range(700)]
    events = [event(n, *(row[name] for name in columns), id=f"e{n}", filters=n & 1) for n, row in enumerate(rows)]
    cells = DictCells(dict(build(spec, [(KEY, events)], now=999)))
    left = list(events)
    while left:
        if newest_first is None:
            rng.shuffle(left)
        count = rng.randrange(1, 40)
        gone, left = (left[-count:], left[:-count]) if newest_first else (left[:count], left[count:])
        apply(cells, spec, KEY, [each._replace(sequence=1, retracted=True) for each in gone], now=999)
        check_head(cells, spec)
        fresh = DictCells(dict(build(spec, [(KEY, left)], now=999)))
        want = read(fresh, spec, KEY, aggregates, now=999).values
        assert read(cells, spec, KEY, aggregates, now=999).values == want
        nodes = sum(1 for key in cells.held if key != HEAD and key[-4] < 128)
        assert leaf_size < 16 or nodes <= 4 + 8 * len(left) / leaf_size
    assert cells.held.keys() - {HEAD, KEY + bytes(4)} == {key for key in cells.held if key != HEAD and key[-4] >= 128}


def test_other_aggregations_need_other_cells() -> None:
    """A changed spec is noticed at once, and nothing is read or written."""
    old, new = spec_of(of("sum", "items")), spec_of(of("max", "items"))
    cells = DictCells(dict(build(old, [(KEY, [event(1, 5)])], now=9)))
    before = dict(cells.held)
    with pytest.raises(StateLayoutError) as caught:
        Reader(new, [of("max", "items")]).read(cells, KEY, now=9)
    assert caught.value.found == old.layout
    with pytest.raises(StateLayoutError):
        apply(cells, new, KEY, [event(1, 5)], now=9)
    assert cells.held == before
    same_again = spec_of(of("sum", "items"))
    assert same_again.layout == old.layout
    assert same_again == old


def test_an_aggregate_that_is_not_kept_is_refused() -> None:
    spec = spec_of(of("sum", "items"))
    for other in (of("max", "items"), of("sum", "amount"), of("sum", "items", filter="big"), of("median", "amount")):
        with pytest.raises(DefinitionError, match="does not keep"):
            Reader(spec, [other])
    assert Reader(spec, [of("median", "items"), of("mean", "items", Window("time", 5))])


def test_what_a_spec_refuses() -> None:
    with pytest.raises(SchemaError):
        spec_of(dataclasses.replace(of("sum", "items"), column="nothing"))
    with pytest.raises(DefinitionError, match="which"):
        spec_of(of("sum", "items"), event_id=None)
    with pytest.raises(ValueError, match="no tree"):
        spec_of(of("sum", "items"), leaf_size=1)


def test_created_times_are_kept_or_refused() -> None:
    """They decide the order, so they are not dropped without a word."""
    spec = spec_of(of("sum", "items"), created=False)
    with pytest.raises(ValueError, match="created"):
        apply(DictCells(), spec, KEY, [event(1, 5, created=1)], now=9)
    with pytest.raises(ValueError, match="created"):
        dict(build(spec, [(KEY, [event(1, 5, created=1)])], now=9))


@pytest.mark.parametrize("damage", [b"", b"\x00", b"\xc1", b"\x93\x01\x02\x03"])
def test_damage_is_named(damage: bytes) -> None:
    """A cell that cannot be read back is an error, at the root and below; so is one that is gone."""
    total = of("sum", "items", Window("time", 30))
    spec = spec_of(total, leaf_size=4, fan_out=4)
    whole = dict(build(spec, [(KEY, [event(n, 1) for n in range(100)])], now=99))
    root = DictCells(whole | {KEY + bytes(4): damage})
    with pytest.raises(CorruptStoreError):
        read(root, spec, KEY, [total], now=99)
    below = DictCells({key: damage if key not in (HEAD, KEY + bytes(4)) else value for key, value in whole.items()})
    with pytest.raises(CorruptStoreError):
        read(below, spec, KEY, [total], now=99)
    head = DictCells(whole | {HEAD: damage})
    with pytest.raises(CorruptStoreError):
        read(head, spec, KEY, [total], now=99)
    gone = DictCells({key: value for key, value in whole.items() if key in (HEAD, KEY + bytes(4))})
    with pytest.raises(CorruptStoreError):
        read(gone, spec, KEY, [total], now=99)


@pytest.mark.parametrize(
    ("aggregates", "options", "horizon", "rows"),
    [
        ([of("sum", "items", Window("time", 70))], {}, 70, 0),
        ([of("sum", "items", Window("time", 70), every=10, shift=5)], {}, 85, 0),
        ([of("sum", "items")], {}, None, 0),
        ([of("sum", "items")], {"ttl": 40}, 40, 0),
        ([of("sum", "items", Window("time", 70))], {"ttl": 40}, 40, 0),
        ([of("sum", "items", Window("rows", 7))], {}, 0, 7),
        ([of("sum", "items", Window("rows", 7), filter="big")], {}, None, 0),
        ([of("lag", "items", LIFETIME, shift=9)], {}, 9, 1),
        ([of("lag", "items", Window("time", 3), shift=9)], {"ttl": 100}, 12, 0),
        ([of("sum", "items", Window("session", 9))], {}, None, 0),
        ([of("sum", "items", Window("time", 70)), of("sum", "items")], {}, None, 0),
    ],
)
def test_how_long_events_are_kept(
    aggregates: list[Aggregate], options: dict[str, Any], horizon: int | None, rows: int
) -> None:
    spec = spec_of(*aggregates, **options)
    assert (spec.horizon, spec.rows) == (horizon, rows)
    assert spec.expired_before(10**15) == (None if horizon is None else 10**15 - horizon - 86_400_000_000)
