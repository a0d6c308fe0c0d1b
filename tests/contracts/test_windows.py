"""Windows against a second opinion: every engine, many random cases, and the weak points of others by name.

The oracle (`tests/oracle.py`) shares no code with any engine. A case is one cell: the value of one aggregate for one
spine row. `GRANGE_WINDOW_CASES` says how many of them each engine answers, 50 000 when unset; before a release run

    GRANGE_WINDOW_CASES=1000000 pytest tests/contracts/test_windows.py -n 2

A failure prints the seed of its round and the smallest case that still fails.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import pyarrow as pa
import pytest
from tests.oracle import CONDITIONS, Oracle, agree, rows_of

from grange.errors import DataError
from grange.frames import Rows
from grange.plan.nodes import Input, Node, Output, PointInTimeJoin, WindowJoin
from grange.ports.engine import Engine
from grange.testing.engines import engine_or_skip
from grange.testing.windows import COLUMNS, SeededChoices, Sizes, WindowExample, draw_windows, functions_offered
from grange.types import parse_dtype
from grange.types.aggregates import Aggregate, output_dtype, parse_function, parse_window
from grange.types.arrow import TIMESTAMP, arrow_type
from grange.types.names import SEQUENCE

CASES: Final = int(os.environ.get("GRANGE_WINDOW_CASES", "50000"))
BLOCKS: Final = 4
"""Parts of the run, each a test of its own, so that several processes share it."""
SIZES: Final = Sizes(events=(8, 40), spine=(10, 30), aggregates=(20, 40))


@dataclass(frozen=True)
class Cell:
    """One case: what an engine says of one aggregate for one spine row, and what is true."""

    row: int
    output: int
    found: Any
    expected: Any
    traits: frozenset[str]


def cells(engine: Engine, example: WindowExample) -> Iterator[Cell]:
    """Every case of an example, answered by an engine and by the oracle."""
    answered = engine.run(example.node, example.inputs).arrow
    types = [(output.name, arrow_type(output.dtype)) for output in example.join.outputs]
    assert list(zip(answered.column_names, answered.schema.types, strict=True)) == types
    found = rows_of(answered)
    oracle = Oracle.of(example.node, example.inputs["events"].arrow)
    aggregates = {aggregate.name: aggregate for aggregate in example.join.aggregates}
    for number, asked in enumerate(rows_of(example.inputs["spine"].arrow)):
        key = tuple(asked[of_spine] for of_spine, _ in example.join.keys)
        for place, output in enumerate(example.join.outputs):
            answer = oracle.answer(aggregates[output.column], key, asked["t"])
            expected = output.default if answer.value is None else answer.value
            yield Cell(number, place, found[number][output.name], expected, answer.traits)


def first_mismatch(engine: Engine, example: WindowExample) -> Cell | None:
    return next((cell for cell in cells(engine, example) if not agree(cell.found, cell.expected)), None)


@pytest.fixture
def engine(engine_name: str) -> Engine:
    return engine_or_skip(engine_name)


@pytest.mark.parametrize("block", range(BLOCKS))
def test_every_engine_agrees_with_the_oracle(engine: Engine, block: int) -> None:
    """No mismatch in `GRANGE_WINDOW_CASES` cases (50 000; 10^6 before a release), and every kind among them."""
    counts: Counter[str] = Counter()
    seed = block * 1_000_000
    while counts["cases"] < CASES / BLOCKS:
        example = draw_windows(SeededChoices(seed), SIZES)
        try:
            for cell in cells(engine, example):
                if not agree(cell.found, cell.expected):
                    pytest.fail(report(engine, example, cell, seed), pytrace=False)
                counts.update(labels(example, cell))
        except Exception as error:
            error.add_note(f"seed {seed}")
            raise
        seed += 1
    short = {label: counts[label] for label in EXPECTED if counts[label] < CASES / BLOCKS / 500}
    assert not short, f"hardly any cases of {short}"


EXPECTED: Final = (
    *functions_offered(),
    *(f"window {kind}" for kind in ("time", "rows", "lifetime", "session")),
    *(f"closed {closed}" for closed in ("right", "left", "both", "none")),
    *(f"filter {condition}" for condition in CONDITIONS),
    *("every", "offset", "shift", "ttl", "as_known", "before only", "default"),
    *("late", "duplicate", "retracted", "tied", "empty", "value"),
)
"""Of each of these there must be some cases."""


def labels(example: WindowExample, cell: Cell) -> Iterator[str]:
    """What a case is a case of."""
    join = example.join
    aggregate = next(each for each in join.aggregates if each.name == join.outputs[cell.output].column)
    yield "cases"
    yield aggregate.function.name
    if aggregate.function.about.tally == "time":
        return
    yield f"window {aggregate.window.kind}"
    yield f"closed {aggregate.closed}"
    yield f"filter {aggregate.filter}"
    yield from cell.traits
    settings = {
        "every": aggregate.every is not None,
        "offset": aggregate.offset > 0,
        "shift": aggregate.shift > 0,
        "ttl": join.ttl is not None,
        "as_known": example.node.as_known,
        "before only": not join.exact_matches,
        "default": join.outputs[cell.output].default is not None,
        "value": "empty" not in cell.traits and cell.expected is not None,
    }
    yield from (label for label, holds in settings.items() if holds)


# Seven weak points that are found in others' windows, as an engine meets them


DAY: Final = 86_400_000_000
HOUR: Final = DAY // 24
START: Final = 20_000 * DAY
"""A midnight."""


def ask(
    engine: Engine,
    events: Mapping[str, Sequence[Any]],
    asked: Sequence[int],
    *aggregates: Aggregate,
    as_known: bool = False,
    **settings: Any,
) -> list[tuple[Any, ...]]:
    """What an engine says of windows of key 1 at some times, one tuple of aggregates per time.

    `events` are columns: `f` and perhaps `c`, times in microseconds, and values by name.
    """
    count = len(events["f"])
    columns = {name: times(values) if name in ("f", "c") else values for name, values in events.items()}
    table = pa.table({"k": [1] * count, **columns, SEQUENCE: pa.array(range(count), pa.int64())})
    names = [f"v{number}" for number in range(len(aggregates))]
    join = WindowJoin(
        group="events",
        version="1.0.0",
        rows=Input("events"),
        keys=(("k", "k"),),
        event_time="f",
        created_time="c" if "c" in events else None,
        event_id="id" if "id" in events else None,
        retracted="gone" if "gone" in events else None,
        ttl=None,
        exact_matches=True,
        aggregates=tuple(replace(each, name=name) for each, name in zip(aggregates, names, strict=True)),
        outputs=tuple(Output(name, name, each.dtype) for each, name in zip(aggregates, names, strict=True)),
    )
    spine = pa.table({"k": [1] * len(asked), "t": times(asked)})
    node = PointInTimeJoin(Input("spine"), "t", (replace(join, **settings),), as_known)
    found = engine.run(node, {"spine": Rows(arrow=spine), "events": Rows(arrow=table)}).arrow
    return list(zip(*(found.column(name).to_pylist() for name in names), strict=True))


def times(values: Sequence[int | None]) -> pa.Array:
    return pa.array(values, pa.int64()).cast(TIMESTAMP)


def over(function: str, column: str = "v", window: str = "7d", dtype: str = "int64", **settings: Any) -> Aggregate:
    """An aggregate of a column, which is an int64 unless said otherwise."""
    parsed = parse_function(function, what="test")
    given = None if column == "*" else parse_dtype(dtype)
    size = parse_window(window, what="test")
    return Aggregate(function, parsed, column, size, output_dtype(parsed, given), given, **settings)


def test_weak_point_1_an_event_on_the_tail_is_in_for_everybody_or_for_nobody(engine: Engine) -> None:
    """Dates as times put events exactly on both ends: what a batch at midnight says is what a question then says."""
    events = {"f": [START + day * DAY for day in range(10)], "v": [1 << day for day in range(10)]}
    at = START + 8 * DAY
    for closed, days in {"right": range(2, 9), "left": range(1, 8), "both": range(1, 9), "none": range(2, 8)}.items():
        exact, batch = over("sum", closed=closed), over("sum", closed=closed, every=DAY)
        expected = sum(1 << day for day in days)
        assert ask(engine, events, [at], exact, batch) == [(expected, expected)]
        assert ask(engine, events, [at + HOUR], batch) == [(expected,)]


def test_weak_point_2_a_window_that_is_no_multiple_of_its_hop_has_its_whole_length(engine: Engine) -> None:
    """300 hours as of midnight begin at noon, and no hop cuts them to whole days or rounds them up."""
    at = START + 20 * DAY
    events = {"f": [at - 300 * HOUR, at - 300 * HOUR + 1, at - 288 * HOUR, at], "v": [1, 2, 4, 8]}
    window = over("sum", window="300h", every=DAY)
    assert ask(engine, events, [at, at + 23 * HOUR], window, over("sum", window="300h")) == [(14, 14), (14, 8)]


def test_weak_point_3_a_question_about_the_past_sees_nothing_later(engine: Engine) -> None:
    """Within an hour, a day, whatever a tile may be: later events of it are invisible, and so is what they correct."""
    events = {
        "f": [START + HOUR, START + HOUR + 2, START + 2 * HOUR, START + 3 * HOUR],
        "v": [1, 2, 4, 8],
        "id": ["a", "b", "c", "c"],
        "gone": [False, False, False, True],
    }
    asked = [START + HOUR + 1, START + 2 * HOUR - 1, START + 2 * HOUR]
    assert ask(engine, events, asked, over("sum"), over("count", "*")) == [(1, 1), (3, 2), (3, 2)]


def test_weak_point_4_late_events_count_however_late(engine: Engine) -> None:
    """An event that arrives a month after its time is in every window of its time, and order of arrival is nothing."""
    events = {
        "f": [START + 3 * HOUR, START + HOUR, START + 2 * HOUR],
        "c": [START + 3 * HOUR, START + 30 * DAY, START + 30 * DAY],
        "v": [1, 2, 4],
    }
    asked = [START + 2 * HOUR, START + DAY]
    windows = over("sum"), over("last"), over("first_n(2)")
    assert ask(engine, events, asked, *windows) == [(6, 4, [2, 4]), (7, 1, [2, 4])]


def test_weak_point_5_what_was_known_then_can_be_asked(engine: Engine) -> None:
    """Events have a time of arrival: as known, a late event or correction counts only from then on (PIT-5, WIN-6)."""
    events = {
        "f": [START, START, START + HOUR],
        "c": [START, START + 2 * DAY, START + DAY],
        "v": [1, 10, 100],
        "id": ["a", "a", "b"],
    }
    asked = [START + HOUR, START + DAY, START + 2 * DAY]
    assert ask(engine, events, asked, over("sum"), as_known=True) == [(1,), (101,), (110,)]
    assert ask(engine, events, asked, over("sum"), as_known=False) == [(110,), (110,), (110,)]
    # with `every` events are those up to the boundary, as they were known at the time that is asked for
    daily = over("sum", every=DAY, offset=HOUR)
    assert ask(engine, events, [START + DAY - 1, START + DAY], daily, as_known=True) == [(1,), (101,)]


def test_weak_point_6_no_events_count_zero_and_the_time_before_all_data_is_no_error(engine: Engine) -> None:
    """Counts of an empty window are 0 and everything else is null, before the first event too (WIN-4)."""
    counts = [over("count", "*"), over("count"), over("count_distinct")]
    others = [over(name) for name in ("sum", "mean", "min", "last", "std", "last_n(3)", "mode", "ewma(1d)")]
    asked = [START - 1, START + 8 * DAY]
    answers = ask(engine, {"f": [START], "v": [5]}, asked, *counts, *others)
    assert answers == [(0, 0, 0, *[None] * len(others))] * 2


def test_weak_point_7_numbers_keep_their_width_bytes_their_value_and_ties_their_order(engine: Engine) -> None:
    """No 32 bits anywhere, binary compares by content, ties are decided, and no key or spine row is left out."""
    large = (1 << 53) + 1
    events = {
        "f": [START] * 5,
        "c": [START + 2, START + 3, None, START + 3, START + 1],
        "v": [large, 16_777_217, 16_777_217, 3, large],
        "blob": [b"x", b"x", b"y", b"y", b"z"],
    }
    windows = [
        over("max"),
        over("quantile(0.5)"),
        over("count_distinct", "blob", dtype="binary"),
        over("last"),
        over("first"),
        over("top_n(2)"),
        over("mode"),
    ]
    expected = (large, 16_777_217.0, 3, 3, 16_777_217, [16_777_217, large], 16_777_217)
    assert ask(engine, events, [START, START + HOUR, START], *windows) == [expected] * 3
    many = {"f": [START + number for number in range(3_000)], "v": [(1 << 31) + number for number in range(3_000)]}
    mean, count = ask(engine, many, [START + HOUR], over("mean"), over("count"))[0]
    assert (mean, count) == ((1 << 31) + 2_999 / 2, 3_000)


def test_a_correction_that_moves_an_event_counts_it_once_where_it_is_now(engine: Engine) -> None:
    """The time of an event and the time of its correction are not mixed up: nothing counts twice, or never."""
    events = {
        "f": [START, START + 2 * DAY],
        "c": [START, START + 3 * DAY],
        "v": [1, 1],
        "id": ["a", "a"],
    }
    asked = [START, START + DAY, START + 2 * DAY, START + 3 * DAY]
    assert ask(engine, events, asked, over("sum")) == [(None,), (None,), (1,), (1,)]
    assert ask(engine, events, asked, over("count"), as_known=True) == [(1,), (1,), (1,), (1,)]
    assert ask(engine, events, asked, over("sum", window="1d"), as_known=True) == [(1,), (None,), (None,), (None,)]


def test_what_has_left_a_window_leaves_nothing_behind(engine: Engine) -> None:
    """After a giant, an infinity or a NaN has left, sums are those of what is there (WIN-2)."""
    giants = [1e300, float("inf"), float("-inf"), float("nan"), -1e16]
    events = {"f": [START + number for number in range(6)], "v": [*giants, 0.1]}
    names = ("sum", "mean", "min", "max", "median")
    windows = [over(name, window="1us", dtype="float64") for name in names]
    assert ask(engine, events, [START + 5], *windows) == [(0.1,) * len(names)]
    both = over("sum", window="2us", dtype="float64"), over("var", window="2us", dtype="float64")
    small = {"f": [START + number for number in range(4)], "v": [1e16, 1e16 + 2, 0.25, 0.75]}
    assert ask(engine, small, [START + 1, START + 3], *both) == [(2e16 + 2, 2.0), (1.0, 0.125)]


def test_the_weight_of_the_far_past_is_small_not_undefined(engine: Engine) -> None:
    """A thousand half-lives after the only event its average is still its value."""
    events = {"f": [START], "v": [3.0]}
    windows = [over(name, window="lifetime", dtype="float64") for name in ("ewma(1h)", "decayed_sum(1h)")]
    assert ask(engine, events, [START + 10_000 * DAY], *windows) == [(3.0, 0.0)]


def test_the_future_weighs_nothing(engine: Engine) -> None:
    """Before the first value, by however many half-lives, there is no weighted sum, and no warning about one."""
    windows = [over(name, window="lifetime", dtype="float64") for name in ("ewma(1us)", "decayed_sum(1us)")]
    for values in ([None, 3.0], [3.0, None], [3.0, 3.0]):
        events = {"f": [START + DAY, START + 2 * DAY], "v": values}
        assert ask(engine, events, [START, START + DAY - 1], *windows) == [(None, None)] * 2


def test_a_sum_beyond_64_bits_is_an_error_that_names_the_column(engine: Engine) -> None:
    """Never a silent wrap; sums on the way there may be as large as they like (WIN-4)."""
    events = {"f": [START, START + 1, START + 2], "v": [(1 << 63) - 1, 1, -2]}
    assert ask(engine, events, [START + 2], over("sum")) == [((1 << 63) - 2,)]
    with pytest.raises(DataError, match="'v'"):
        ask(engine, events, [START + 1], over("sum"))


@pytest.mark.skipif("approx_count_distinct" not in functions_offered(), reason="pip install 'grange[sketches]'")
@pytest.mark.parametrize(
    ("dtype", "values"),
    [
        ("string", ["", "a", "", "0"]),
        ("binary", [b"", b"\x00", b"", b"\x00\x00"]),
        ("float64", [0.0, -0.0, float("nan"), 1.0]),
        ("boolean", [True, False, True, None]),
    ],
)
def test_sketches_of_few_values_count_them(engine: Engine, dtype: str, values: list[Any]) -> None:
    """An empty text is a value like any other, zeros of both signs are one, and so is NaN."""
    exact, sketched = (over(name, dtype=dtype) for name in ("count_distinct", "approx_count_distinct"))
    events = {"f": [START + number for number in range(4)], "v": values}
    ((counted, estimated),) = ask(engine, events, [START + DAY], exact, sketched)
    assert estimated == counted == (2 if dtype == "boolean" else 3)


@pytest.mark.skipif("approx_quantile" not in functions_offered(), reason="pip install 'grange[sketches]'")
def test_sketches_are_within_their_bounds(engine: Engine) -> None:
    """HyperLogLog within three of its standard errors, KLL within twice its rank error at 99 % confidence."""
    count = 20_000
    events = {
        "f": [START + number for number in range(count)],
        "v": [number * 7_919 % count for number in range(count)],
    }
    distinct, quantile = ask(
        engine, events, [START + DAY], over("approx_count_distinct"), over("approx_quantile(0.25)")
    )[0]
    assert abs(distinct - count) <= 3 * 0.0163 * count
    assert abs(quantile - 0.25 * count) <= 2 * 0.0133 * count


# Making a failure small


def report(engine: Engine, example: WindowExample, cell: Cell, seed: int) -> str:
    """What differs, in the smallest example that still does."""
    small = shrunk(only(example, cell.row, cell.output), lambda each: first_mismatch(engine, each) is not None)
    left = first_mismatch(engine, small)
    assert left is not None, "what was shrunk still fails"
    (aggregate,) = small.join.aggregates
    unused = {*COLUMNS} - {*aggregate.columns} - ({"number", "flag", "kind"} if aggregate.filter else set())
    events = [{name: row[name] for name in row if name not in unused} for row in rows_of(small.inputs["events"].arrow)]
    settings = ", ".join(
        f"{name}={getattr(small.join, name)!r}" for name in ("ttl", "exact_matches", "created_time", "event_id")
    )
    lines = [
        f"engine {engine.name} found {left.found!r}, the oracle {left.expected!r} (seed {seed})",
        f"aggregate: {aggregate}",
        f"join: {settings}, as_known={small.node.as_known}, default={small.join.outputs[0].default!r}",
        f"asked: {rows_of(small.inputs['spine'].arrow)[0]}",
        *(f"event: {row}" for row in events),
    ]
    return "\n".join(lines)


def only(example: WindowExample, row: int, output: int) -> WindowExample:
    """The example with one spine row and one output."""
    (kept,) = example.join.outputs[output : output + 1]
    aggregates = tuple(each for each in example.join.aggregates if each.name == kept.column)
    spine = Rows(arrow=example.inputs["spine"].arrow.slice(row, 1))
    return rejoined(replace(example, inputs={**example.inputs, "spine": spine}), aggregates=aggregates, outputs=(kept,))


def rejoined(example: WindowExample, **changes: Any) -> WindowExample:
    return replace(example, node=replace(example.node, joins=(replace(example.join, **changes),)))


def shrunk(example: WindowExample, fails: Callable[[WindowExample], bool]) -> WindowExample:
    """An example without what its failure does not need: events first, then settings."""
    for number in reversed(range(len(example.inputs["events"]))):
        events = example.inputs["events"].arrow
        rest = pa.concat_tables([events.slice(0, number), events.slice(number + 1)])
        fewer = replace(example, inputs={**example.inputs, "events": Rows(arrow=rest)})
        example = fewer if fails(fewer) else example
    for simpler in SIMPLER:
        other = simpler(example)
        example = other if fails(other) else example
    return example


def reaggregated(example: WindowExample, **changes: Any) -> WindowExample:
    aggregates = tuple(replace(each, **changes) for each in example.join.aggregates)
    return rejoined(example, aggregates=aggregates)


SIMPLER: Final[tuple[Callable[[WindowExample], WindowExample], ...]] = (
    lambda example: reaggregated(example, filter=None),
    lambda example: reaggregated(example, every=None, offset=0),
    lambda example: reaggregated(example, shift=0),
    lambda example: reaggregated(example, closed="right"),
    lambda example: rejoined(example, ttl=None),
    lambda example: rejoined(example, exact_matches=True),
    lambda example: rejoined(example, event_id=None, retracted=None),
    lambda example: rejoined(example, outputs=tuple(replace(each, default=None) for each in example.join.outputs)),
    lambda example: replace(example, node=replace(example.node, as_known=False)),
    lambda example: rejoined(example, created_time=None),
)


class Mistaken:
    """The reference engine, to which every window is closed at both ends."""

    name = "mistaken"

    def run(self, node: Node, inputs: Mapping[str, Rows]) -> Rows:
        assert isinstance(node, PointInTimeJoin)
        bent = reaggregated(WindowExample(node, inputs), closed="both")
        return engine_or_skip("reference").run(bent.node, inputs)


def test_a_mismatch_is_reported_small_and_with_its_seed() -> None:
    """Of dozens of events a report keeps those that matter: here the one on the end that does not belong."""
    engine = Mistaken()
    example = draw_windows(SeededChoices(1), SIZES)
    cell = first_mismatch(engine, example)
    assert cell is not None
    text = report(engine, example, cell, seed=1)
    assert "engine mistaken found" in text and "(seed 1)" in text
    assert len(example.inputs["events"]) > 8
    assert text.count("event: ") <= 2
