"""Aggregates of every function and window, and histories of events, for the tests of the window state."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st

from grange.serving.windows import Event, StateSpec
from grange.types import Schema
from grange.types.aggregates import FUNCTIONS, LIFETIME, Aggregate, Closed, Function, Window, output_dtype

SCHEMA = Schema.of({
    "amount": "float64", "items": "int64", "flag": "boolean", "city": "string", "price": "decimal(12,2)",
    "size": "uint64", "day": "date", "tags": "list[string]", "event": "string", "number": "int64", "gone": "boolean",
})  # fmt: skip

_PARAMETERS: dict[str, tuple[tuple[Any, ...], ...]] = {
    "quantile": ((0.9,), (0.25,)),
    "top_n": ((2,),),
    "first_n": ((2,), (5,)),
    "last_n": ((2,), (5,)),
    "decayed_sum": ((3,), (40,)),
    "ewma": ((3,), (40,)),
}
_OF: dict[str, tuple[str, ...]] = {
    "numbers": ("amount", "items", "flag"),
    "ordered": ("amount", "items", "flag", "city", "price", "size", "day"),
    "values": ("amount", "items", "flag", "city", "price", "day", "tags"),
    "rows": ("*", "amount", "city"),
}


def aggregate(function: Function, column: str, window: Window, **rest: Any) -> Aggregate:
    """An aggregate of the schema; its name tells it all."""
    by = function.parameters[0] if function.name in ("min_by", "max_by") else None
    dtype = None if column == "*" else SCHEMA[column]
    return Aggregate(
        name=f"{function} of {column} in {window} {rest}",
        function=function,
        column=column,
        window=window,
        dtype=output_dtype(function, dtype),
        input=dtype,
        by_input=None if by is None else SCHEMA[by],
        **rest,
    )


def functions() -> list[tuple[Function, str]]:
    """Every function of the events, over every column it takes."""
    every = []
    for name, about in FUNCTIONS.items():
        if about.tally == "time" or name.startswith("approx"):
            continue
        parameters = _PARAMETERS.get(name, ((),))
        if name in ("min_by", "max_by"):
            parameters = (("amount",), ("price",) if name == "min_by" else ("items",))
        for column in _OF[about.accepts]:
            if column == "tags" and name == "count_distinct":
                continue
            every += [(Function(name, given), column) for given in parameters]
    return every


FUNCTION_COLUMNS = functions()

CLOSED: tuple[Closed, ...] = ("right", "left", "both", "none")


def windows(longest: int) -> st.SearchStrategy[Window]:
    """Windows of all kinds, of lengths that times up to `longest` make interesting."""
    length = st.integers(1, longest)
    return st.one_of(
        length.map(lambda size: Window("time", size)),
        st.integers(1, 40).map(lambda size: Window("rows", size)),
        st.just(LIFETIME),
        st.integers(1, max(longest // 20, 2)).map(lambda size: Window("session", size)),
    )


@st.composite
def aggregates(draw: st.DrawFn, longest: int, kinds: tuple[str, ...] = ()) -> Aggregate:
    """One aggregate of any kind."""
    function, column = draw(st.sampled_from(FUNCTION_COLUMNS))
    window = draw(windows(longest).filter(lambda window: not kinds or window.kind in kinds))
    every = draw(st.none() | st.integers(1, longest // 4 + 1))
    if function.name == "lag" and window.kind in ("rows", "session"):
        window = LIFETIME if not kinds or "lifetime" in kinds else Window("time", longest)
    return aggregate(
        function,
        column,
        window,
        closed=draw(st.sampled_from(CLOSED)),
        every=every,
        offset=0 if every is None else draw(st.integers(0, every - 1)),
        shift=draw(st.just(0) | st.integers(0, longest // 3 + 1)),
        filter=draw(st.sampled_from([None, None, "big", "odd"])),
    )


AMOUNTS = st.one_of(
    st.sampled_from([0.0, -0.0, 1.0, 0.1, 1e16, -1e16, 1e8 + 0.25, 1e8 + 0.5]),
    st.floats(-1e6, 1e6),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([math.nan, math.inf, -math.inf]),
)
PLAIN_AMOUNTS = st.floats(-1e6, 1e6)


@st.composite
def histories(
    draw: st.DrawFn, longest: int, *, most: int, ids: bool, created: bool, wild: bool = True, least: int = 0
) -> list[Event]:
    """Versions of events in the order they are applied: late ones, ties, several of one event, some taken back."""
    count = draw(st.integers(least, most))
    spread = draw(st.sampled_from([3, longest]))
    random = draw(st.randoms(use_true_random=False))
    amounts = draw(st.lists(AMOUNTS if wild else PLAIN_AMOUNTS, min_size=1, max_size=8))
    nulls = draw(st.sampled_from([0.0, 0.3, 0.9]))
    distinct = draw(st.sampled_from([3, 1000]))
    order = list(range(count))
    if draw(st.booleans()):
        random.shuffle(order)
    events = []
    for sequence in order:

        def maybe(value: Any) -> Any:
            return None if random.random() < nulls else value

        values = (
            maybe(random.choice(amounts)),
            maybe(random.randint(-5, 5) if random.random() < 0.9 else random.choice([2**62, -(2**62), 2**63 - 1])),
            maybe(random.random() < 0.5),
            maybe(random.choice(["Oslo", "Bern", "", "Å", "z" * 40])),
            maybe(random.choice(["1.00", "10.00", "9.50", "-3.20", "-12.00"])),
            maybe(random.choice([0, 7, 2**63, 2**64 - 1])),
            maybe(random.randint(-3, 3)),
            maybe(random.choice([[], ["a"], ["b", None]])),
        )
        identified = ids and random.random() < 0.9
        events.append(
            Event(
                event_time=random.randint(0, spread),
                created=random.choice([None, 0, random.randint(0, 30)]) if created else None,
                sequence=sequence if random.random() < 0.9 else 0,
                id=f"e{random.randrange(distinct)}" if identified else None,
                retracted=identified and random.random() < 0.25,
                filters=random.getrandbits(2),
                values=values,
            )
        )
    return events


COLUMNS = ("amount", "items", "flag", "city", "price", "size", "day", "tags")


def for_spec(events: Sequence[Event], spec: StateSpec) -> list[Event]:
    """The events as a spec takes them: only its columns and filters, in its order."""
    places = [COLUMNS.index(name) for name, _ in spec.columns]
    bits = [("big", "odd").index(name) for name in spec.filters]
    return [
        event._replace(
            values=tuple(event.values[place] for place in places),
            filters=sum((event.filters >> bit & 1) << place for place, bit in enumerate(bits)),
        )
        for event in events
    ]


def same(left: Any, right: Any, *, relative: float = 0.0, absolute: float = 0.0) -> bool:
    """Equal, NaN to NaN, lists item by item; floats within a tolerance where there is one."""
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, float) and isinstance(right, float):
        if math.isnan(left) or math.isnan(right):
            return math.isnan(left) and math.isnan(right)
        return left == right or math.isclose(left, right, rel_tol=relative, abs_tol=absolute)
    return type(left) is type(right) and left == right
