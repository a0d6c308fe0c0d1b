"""Hypothesis strategies: random histories, spines and joins, small and unkind.

Values come from small pools, so that ties, duplicates, expired rows, colliding composite keys and exact boundaries
are common rather than lucky. Everything that is drawn is lawful: what no law decides (rows of equal sequence) is
never drawn.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final, TypeVar

import pyarrow as pa
import pyarrow.compute as pc
from hypothesis import strategies as st

from grange.frames import Rows
from grange.plan.nodes import Concat, Conform, GroupJoin, Input, Node, Order, Output, PointInTimeJoin
from grange.testing.windows import Choices, Sizes, WindowExample, draw_windows
from grange.types import DataType, Schema, parse_dtype
from grange.types.arrow import TIMESTAMP, arrow_type, from_arrow_type
from grange.types.names import SEQUENCE

T = TypeVar("T")

_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)

KEY_POOLS: Final[Mapping[str, tuple[Any, ...]]] = {
    "int8": (1, 12, 23, 3, -128, 127, 0),
    "int16": (1, 12, 23, 3, -32768, 32767),
    "int32": (1, 12, 23, 3, -(1 << 31), (1 << 31) - 1),
    "int64": (1, 12, 23, 3, 123, -(1 << 63), (1 << 63) - 1, (1 << 53) + 1, 1 << 53),
    "uint8": (1, 12, 23, 3, 0, 255),
    "uint16": (1, 12, 23, 3, 65535),
    "uint32": (1, 12, 23, 3, (1 << 32) - 1),
    "uint64": (1, 12, 23, 3, (1 << 64) - 1, 1 << 63, (1 << 63) - 1),
    "string": ("", "a", "b", "a_", "_b", "a_b", "a|", "|b", "1", "12", "23", "3", "é", "e\u0301", "北", "\x00", "A"),
    "uuid": tuple(str(uuid.UUID(int=number)) for number in (0, 1, 2, (1 << 128) - 1)),
    "boolean": (True, False),
    "date": (dt.date(1970, 1, 1), dt.date(1969, 12, 31), dt.date(2026, 1, 1), dt.date(1, 1, 1)),
    "datetime": tuple(_EPOCH + dt.timedelta(microseconds=number) for number in (0, 1, -1, 1_767_225_600_000_000)),
    "binary": (b"", b"\x00", b"\x00\x00", b"a", b"\xff"),
    "decimal(12,2)": (Decimal("0.00"), Decimal("0.10"), Decimal("0.01"), Decimal("-0.10"), Decimal("9999999999.99")),
}
"""By key type, the values that its keys are drawn from."""

VALUE_POOLS: Final[Mapping[str, tuple[Any, ...]]] = {
    **KEY_POOLS,
    "float64": (0.0, -0.0, 0.1, float("nan"), float("inf"), -1.5),
    "float32": (0.0, -0.0, 0.5, float("nan")),
    "duration": (dt.timedelta(0), dt.timedelta(microseconds=1), dt.timedelta(days=-1)),
    "list[float64]": ([], [None], [0.5, -0.0], [float("nan")]),
    "list[string]": ([], [""], ["a", None]),
    "struct{a:int64,b:string}": ({"a": 1, "b": "x"}, {"a": None, "b": None}, {"a": None, "b": ""}),
}
"""By feature type, the values that its features are drawn from."""

_STEPS: Final = {"s": 1_000_000, "ms": 1_000, "us": 1, "ns": 1}
"""The microseconds between neighbouring times that a unit can hold exactly."""
_ZONES: Final = (None, "UTC", "Europe/Paris", "Asia/Kolkata", "America/New_York")


@dataclass(frozen=True, slots=True)
class JoinExample:
    """A join, and the rows that its inputs name."""

    node: PointInTimeJoin
    inputs: Mapping[str, Rows]


@dataclass(frozen=True, slots=True)
class History:
    """Stored rows of one group, in any order: keys, `f`, perhaps `c`, features, `__sequence`."""

    rows: pa.Table
    keys: tuple[str, ...]
    event_time: str
    created_time: str | None
    features: tuple[tuple[str, DataType], ...]


@dataclass(frozen=True, slots=True)
class PlainJoin:
    """A join without ties, nulls or duplicates in its history: what any as-of join on earth must agree on."""

    history: pa.Table
    """Columns `k`, `f`, `v`, `__sequence`; no (k, f) occurs twice."""
    spine: pa.Table
    """Columns `k`, `t`."""
    ttl: int | None
    exact_matches: bool

    @property
    def node(self) -> PointInTimeJoin:
        """The join of inputs `spine` and `history`."""
        output = Output("v", "v", DataType("int64"))
        join = GroupJoin(
            "g", "1.0.0", Input("history"), (("k", "k"),), "f", None, self.ttl, self.exact_matches, (output,)
        )
        return PointInTimeJoin(Input("spine"), "t", (join,), as_known=False)


def key_types() -> st.SearchStrategy[str]:
    """A type that can be a key (PIT-4)."""
    return st.sampled_from(sorted(KEY_POOLS))


def _mostly(pool: tuple[T, ...]) -> st.SearchStrategy[T | None]:
    """A value of a pool, and now and then a null."""
    return st.sampled_from([*pool] * (8 // len(pool) + 1) + [None])


def _times(last: int = 3) -> st.SearchStrategy[int]:
    """A time, in steps around 1970; few enough that ties are common."""
    return st.integers(-2, last)


def _now_and_then_null(values: st.SearchStrategy[T]) -> st.SearchStrategy[T | None]:
    return st.integers(0, 9).flatmap(lambda die: st.none() if die == 9 else values)


@st.composite
def _key_pools(draw: st.DrawFn, dtypes: tuple[str, ...]) -> tuple[tuple[Any, ...], ...]:
    """Per key column one to three values, so that a group has few entities and each has many rows."""
    return tuple(
        tuple(draw(st.lists(st.sampled_from(KEY_POOLS[dtype]), min_size=1, max_size=3 - len(dtypes) // 2, unique=True)))
        for dtype in dtypes
    )


@st.composite
def histories(
    draw: st.DrawFn,
    *,
    keys: tuple[str, ...] | None = None,
    pools: tuple[tuple[Any, ...], ...] | None = None,
    step: int = 1,
) -> History:
    """A group's stored rows, canonical.

    Args:
        draw: by Hypothesis.
        keys: types of the key columns; drawn when left out.
        pools: per key column, the values that keys are drawn from; drawn when left out.
        step: microseconds between neighbouring times.
    """
    key_dtypes = keys or tuple(draw(st.lists(key_types(), min_size=1, max_size=2)))
    key_pools = pools or draw(_key_pools(key_dtypes))
    names = tuple(f"key{number}" for number in range(len(key_dtypes)))
    feature_dtypes = tuple(draw(st.lists(st.sampled_from(sorted(VALUE_POOLS)), min_size=1, max_size=2)))
    with_created = draw(st.booleans())
    row = st.tuples(
        st.tuples(*(_mostly(pool) for pool in key_pools)),
        _now_and_then_null(_times()),
        _now_and_then_null(_times(6)),
        st.tuples(*(_mostly(VALUE_POOLS[dtype]) for dtype in feature_dtypes)),
    )
    rows = draw(st.lists(row, max_size=16) if draw(st.integers(0, 4)) == 0 else st.lists(row, min_size=8, max_size=16))
    columns: dict[str, pa.Array] = {}
    for place, (name, dtype) in enumerate(zip(names, key_dtypes, strict=True)):
        columns[name] = _array([item[0][place] for item in rows], dtype)
    columns["f"] = _moments([item[1] for item in rows], step)
    if with_created:
        columns["c"] = _moments([item[2] for item in rows], step)
    columns["number"] = pa.array([None if number % 5 == 4 else number for number in range(len(rows))], pa.int64())
    for place, dtype in enumerate(feature_dtypes):
        columns[f"feature{place}"] = _array([item[3][place] for item in rows], dtype)
    columns[SEQUENCE] = pa.array(draw(st.permutations(range(len(rows)))), pa.int64())
    features = [("number", DataType("int64"))]
    features += [(f"feature{place}", parse_dtype(dtype)) for place, dtype in enumerate(feature_dtypes)]
    return History(pa.table(columns), names, "f", "c" if with_created else None, tuple(features))


@st.composite
def joins(draw: st.DrawFn) -> JoinExample:
    """A point-in-time join of one to three groups, their rows lying in frames of every kind."""
    step = draw(st.sampled_from([1, 1_000, 1_000_000, 3_600_000_000]))
    count = draw(st.integers(0, 8).map(lambda number: 0 if number == 0 else number + 4))
    columns: dict[str, pa.Array] = {}
    inputs: dict[str, Rows] = {}
    built: list[GroupJoin] = []
    for number in range(draw(st.integers(1, 3))):
        dtypes = tuple(draw(st.lists(key_types(), min_size=1, max_size=2)))
        pools = draw(_key_pools(dtypes))
        history = draw(histories(keys=dtypes, pools=pools, step=step))
        pairs = []
        for place, dtype in enumerate(dtypes):
            asked = draw(st.lists(_mostly(pools[place]), min_size=count, max_size=count))
            columns[f"asked{number}_{place}"] = _array(asked, dtype)
            pairs.append((f"asked{number}_{place}", history.keys[place]))
        rows = draw(_homes(history, f"group{number}", inputs))
        ttl = draw(st.sampled_from([None, 1, step, 2 * step, 3 * step]))
        exact = draw(st.booleans())
        outputs = tuple(
            Output(name, f"group{number}_{name}", dtype, 7 if name == "number" and draw(st.booleans()) else None)
            for name, dtype in history.features
        )
        built.append(
            GroupJoin(f"group{number}", "1.0.0", rows, tuple(pairs), "f", history.created_time, ttl, exact, outputs)
        )
    times = draw(st.lists(_now_and_then_null(_times(6)), min_size=count, max_size=count))
    spine, node = draw(_raw(pa.table({**columns, "time": _moments(times, step)}), ("time",), "spine"))
    inputs["spine"] = Rows(arrow=spine)
    return JoinExample(PointInTimeJoin(node, "time", tuple(built), draw(st.booleans())), inputs)


@st.composite
def _homes(draw: st.DrawFn, history: History, name: str, inputs: dict[str, Rows]) -> Node:
    """Where a group's rows lie: one frame, a frame yet to be conformed, two frames, an ordered one."""
    home = draw(st.sampled_from(["frame", "raw", "parts", "ordered"]))
    if home == "raw":
        times = tuple(filter(None, (history.event_time, history.created_time)))
        table, node = draw(_raw(history.rows, times, name))
        inputs[name] = Rows(arrow=table)
        return node
    if home == "parts":
        cut = draw(st.integers(0, history.rows.num_rows))
        inputs[f"{name}_a"] = Rows(arrow=history.rows.slice(0, cut))
        inputs[f"{name}_b"] = Rows(arrow=history.rows.slice(cut))
        return Concat((Input(f"{name}_a"), Input(f"{name}_b")))
    inputs[name] = Rows(arrow=history.rows)
    if home == "ordered":
        return Order(Input(name), history.event_time, history.created_time)
    return Input(name)


@st.composite
def _raw(draw: st.DrawFn, table: pa.Table, times: tuple[str, ...], name: str) -> tuple[pa.Table, Node]:
    """The table with its times in other units and zones, and the node that makes it canonical again (TIME-1)."""
    schema = Schema.of({field.name: _dtype(field.type) for field in table.schema})
    for column in times:
        place = table.schema.get_field_index(column)
        table = table.set_column(place, column, draw(_retimed(table.column(column).to_pylist())))
    return table, Conform(Input(name), schema, what=name)


@st.composite
def _retimed(draw: st.DrawFn, moments: list[dt.datetime | None]) -> pa.Array:
    micros = [None if moment is None else (moment - _EPOCH) // dt.timedelta(microseconds=1) for moment in moments]
    fits = [unit for unit, step in _STEPS.items() if all(value is None or value % step == 0 for value in micros)]
    unit = draw(st.sampled_from(fits))
    zone = draw(st.sampled_from(_ZONES))
    if unit == "ns":
        beyond = draw(st.integers(0, 999))  # is cut again
        counts = [None if value is None else value * 1_000 + beyond for value in micros]
    else:
        counts = [None if value is None else value // _STEPS[unit] for value in micros]
    return pa.array(counts, pa.int64()).cast(pa.timestamp(unit, tz=zone))


@st.composite
def raw_tables(draw: st.DrawFn) -> tuple[pa.Table, Schema]:
    """A table and a declaration that it may or may not fit (PIT-7)."""
    count = draw(st.integers(0, 6))
    columns, declared = {}, {}
    for number in range(draw(st.integers(1, 3))):
        dtype = draw(st.sampled_from(sorted(VALUE_POOLS)))
        values = draw(st.lists(_mostly(VALUE_POOLS[dtype]), min_size=count, max_size=count))
        columns[f"column{number}"] = draw(_encoded(_array(values, dtype), dtype))
        declared[f"column{number}"] = draw(st.one_of(st.just(dtype), st.sampled_from(sorted(VALUE_POOLS))))
    order = draw(st.permutations(sorted(declared)))
    return pa.table(columns), Schema.of({name: declared[name] for name in order})


_OTHER_TYPES: Final[Mapping[str, tuple[pa.DataType, ...]]] = {
    "string": (pa.string(), pa.string_view(), pa.dictionary(pa.int32(), pa.large_string())),
    "binary": (pa.binary(), pa.binary_view()),
    "int8": (pa.int16(), pa.dictionary(pa.int8(), pa.int8()), pa.float64(), pa.decimal128(5, 0)),
    "int64": (pa.dictionary(pa.int32(), pa.int64()), pa.decimal128(21, 1), pa.decimal256(40, 0)),
    "float32": (pa.float16(), pa.float64()),
    "date": (pa.timestamp("s"), pa.timestamp("us", tz="UTC")),
    "duration": (pa.duration("ns"),),
    "decimal(12,2)": (pa.decimal256(60, 2), pa.decimal128(38, 4)),
    "list[float64]": (pa.list_(pa.float64()), pa.list_(pa.float32()), pa.large_list_view(pa.float64())),
    "list[string]": (pa.list_(pa.string()), pa.list_view(pa.large_string())),
}
"""By canonical type, others in which people hold such values."""


@st.composite
def _encoded(draw: st.DrawFn, values: pa.Array, dtype: str) -> pa.Array:
    """Values as people may hold them: in another Arrow type, run by run, a uuid as bytes, a time as text."""
    other = draw(st.sampled_from([values.type, values.type, *_OTHER_TYPES.get(dtype, ())]))
    if dtype == "uuid":
        raw = [None if text is None else uuid.UUID(text).bytes for text in values.to_pylist()]
        held = draw(st.sampled_from([values, pa.array(raw, pa.binary(16)), pa.array(raw, pa.binary())]))
    elif dtype == "datetime":
        text = pa.array([None if moment is None else moment.isoformat() for moment in values.to_pylist()])
        held = text if draw(st.integers(0, 3)) == 0 else draw(_retimed(values.to_pylist()))
    elif pa.types.is_dictionary(other):
        held = values.cast(other.value_type).dictionary_encode().cast(other)
    else:
        held = pa.array(values.to_pylist(), other) if pa.types.is_nested(other) else values.cast(other)
    return pc.run_end_encode(values) if dtype == "string" and draw(st.integers(0, 5)) == 0 else held


@st.composite
def plain_joins(draw: st.DrawFn) -> PlainJoin:
    """A join whose history has no ties, no nulls and no created time."""
    dtype = draw(st.sampled_from(["int64", "string"]))
    pool = KEY_POOLS[dtype][:4]
    pairs = draw(st.lists(st.tuples(st.sampled_from(pool), st.integers(-20, 60)), unique=True, max_size=30))
    asked = draw(st.lists(st.tuples(st.sampled_from(KEY_POOLS[dtype][:5]), st.integers(-25, 70)), max_size=20))
    step = draw(st.sampled_from([1, 3_600_000_000]))
    history = {
        "k": _array([key for key, _ in pairs], dtype),
        "f": _moments([time for _, time in pairs], step),
        "v": pa.array(range(len(pairs)), pa.int64()),
        SEQUENCE: pa.array(range(len(pairs)), pa.int64()),
    }
    spine = {"k": _array([key for key, _ in asked], dtype), "t": _moments([time for _, time in asked], step)}
    ttl = draw(st.sampled_from([None, step, 7 * step, 7 * step + 1]))
    return PlainJoin(pa.table(history), pa.table(spine), ttl, draw(st.booleans()))


class _DrawnChoices:
    """Draws by Hypothesis, which shrinks what it drew: fewer things, and the first of their options."""

    def __init__(self, draw: st.DrawFn) -> None:
        self._draw = draw

    def of(self, options: Sequence[T]) -> T:
        """See `Choices.of`."""
        return self._draw(st.sampled_from(options))

    def between(self, low: int, high: int) -> int:
        """See `Choices.between`."""
        return self._draw(st.integers(low, high))

    def several(self, make: Callable[[Choices], T], low: int, high: int) -> list[T]:
        """See `Choices.several`."""

        @st.composite
        def one(draw: st.DrawFn) -> T:
            return make(_DrawnChoices(draw))

        # left to itself a list is short; what is not drawn of it cannot be wrong
        least = self._draw(st.sampled_from([low, (low + high) // 2]))
        return self._draw(st.lists(one(), min_size=least, max_size=high))


@st.composite
def window_joins(draw: st.DrawFn, sizes: Sizes = Sizes()) -> WindowExample:  # noqa: B008  # it is frozen
    """A join of a group's windows: random events, aggregates of every function, a random spine."""
    return draw_windows(_DrawnChoices(draw), sizes)


def _dtype(arrow: pa.DataType) -> DataType:
    dtype = from_arrow_type(arrow)
    assert dtype is not None, "strategies draw typed columns only"
    return dtype


def _array(values: list[Any], dtype: str) -> pa.Array:
    return pa.array(values, arrow_type(parse_dtype(dtype)))


def _moments(steps: list[int | None], step: int) -> pa.Array:
    return pa.array([None if count is None else count * step for count in steps], pa.int64()).cast(TIMESTAMP)


__all__ = [
    "KEY_POOLS",
    "VALUE_POOLS",
    "History",
    "JoinExample",
    "PlainJoin",
    "histories",
    "joins",
    "key_types",
    "plain_joins",
    "raw_tables",
    "window_joins",
]
