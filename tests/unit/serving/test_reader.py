"""The reader beyond the cases: one round trip per key space, forms of the answer, partial outages."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import msgspec
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from grange.errors import ColumnTypeError, KeyTypeError, StoreUnavailableError
from grange.online.memory.backend import MemoryOnlineStore
from grange.plan.nodes import ReadColumn, ReadGroup, ReadPlan
from grange.ports.online import OnlineBatch, StoredRow
from grange.serving.keys import encode_key
from grange.serving.layouts import layout_of
from grange.serving.reader import OnlineReader, Status
from grange.types import Schema, parse_dtype

INT = parse_dtype("int64")


class Counting(MemoryOnlineStore):
    """Remembers its reads, and fails for the key spaces it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.reads: list[tuple[str, int, tuple[str, ...]]] = []
        self.down: set[str] = set()

    def read(self, key_space: str, keys: Sequence[bytes], groups: Sequence[str]) -> list[tuple[StoredRow | None, ...]]:
        self.reads.append((key_space, len(keys), tuple(groups)))
        if key_space in self.down:
            raise StoreUnavailableError(f"{key_space} cannot be reached")
        return super().read(key_space, keys, groups)


def put(store: MemoryOnlineStore, space: str, group: str, number: int, **values: Any) -> None:
    """Store values under the types that they are of in these tests."""
    key = encode_key([number], [INT])
    assert key is not None
    kinds = {"d": "date", "m": "decimal(12,2)", "s": "struct{a:list[int64]}", "n": "int8"}
    types = {
        name: kinds.get(name, "float64" if isinstance(value, float) else "int64") for name, value in values.items()
    }
    columns = layout_of(Schema.of(types))
    store.write(space, group, columns, OnlineBatch([key], [10], None, [tuple(values.values())]))


def group(
    name: str, space: str, column: str, features: dict[str, str], *, prefix: str = "", **defaults: Any
) -> ReadGroup:
    columns = tuple(
        ReadColumn(feature, prefix + feature, parse_dtype(dtype), defaults.get(feature))
        for feature, dtype in features.items()
    )
    return ReadGroup(name, space, ((column, "id", INT),), None, True, columns)


def plan(*groups: ReadGroup, on_error: Literal["raise", "default"] = "raise", **requests: str) -> ReadPlan:
    return ReadPlan(groups, Schema.of(requests), on_error, "memory")


def test_one_store_read_per_key_space() -> None:
    """However many groups and ways of naming the key; the same group under two names too (PIT-6)."""
    store = Counting()
    put(store, "airport", "weather", 1, temp=10.0, wind=1.0)
    put(store, "airport", "weather", 2, temp=20.0, wind=2.0)
    put(store, "airport", "traffic", 2, flights=7)
    put(store, "plane", "age", 5, years=3)
    reader = OnlineReader(
        plan(
            group("weather", "airport", "origin", {"temp": "float64"}, prefix="origin_"),
            group("weather", "airport", "destination", {"temp": "float64"}, prefix="destination_"),
            group("traffic", "airport", "destination", {"flights": "int64"}),
            group("age", "plane", "plane", {"years": "int64"}),
        ),
        store,
    )

    answer = reader.read(
        [{"origin": 1, "destination": 2, "plane": 5}, {"origin": 2, "destination": None, "plane": 6}], 10
    )

    assert store.reads == [("airport", 3, ("weather", "traffic")), ("plane", 2, ("age",))]
    names = ("origin", "destination", "plane", "origin_temp", "destination_temp", "flights", "years")
    assert answer.to_dicts() == [
        dict(zip(names, values, strict=True))
        for values in [(1, 2, 5, 10.0, 20.0, 7, 3), (2, None, 6, 20.0, None, None, None)]
    ]


def test_nothing_to_look_up_is_no_read() -> None:
    """No rows, or rows whose keys are None."""
    store = Counting()
    reader = OnlineReader(plan(group("a", "user", "id", {"v": "int64"})), store)
    assert reader.read([], 10).to_dicts() == []
    assert reader.read([{"id": None}], 10).to_dicts() == [{"id": None, "v": None}]
    assert store.reads == []


def test_columns_in_any_order() -> None:
    """Some of a group's columns, in the view's order and under the view's names."""
    store = Counting()
    put(store, "user", "a", 1, x=1, y=2, z=3)
    for names in (["z", "x"], ["y"], ["y", "z"], ["x", "y", "z"], ["z", "none", "x"]):
        reader = OnlineReader(plan(group("a", "user", "id", dict.fromkeys(names, "int64"), prefix="f_")), store)
        stored = {"x": 1, "y": 2, "z": 3}
        assert reader.read([{"id": 1}], 10).to_dicts() == [
            {"id": 1} | {f"f_{name}": stored.get(name) for name in names}
        ]


def test_answers_as_frames() -> None:
    """Arrow, Polars and pandas hold the same columns in the declared types, integers with nulls too."""
    store = Counting()
    put(store, "user", "a", 1, n=1, d=1, m="1.50", s={"a": [1]})
    features = {"n": "int8", "d": "date", "m": "decimal(12,2)", "s": "struct{a:list[int64]}"}
    reader = OnlineReader(plan(group("a", "user", "id", features), amount="float64", when="datetime"), store)

    answer = reader.read([{"id": 1, "amount": 2, "when": "2026-01-01"}, {"id": None, "amount": None, "when": None}], 10)

    table = answer.to_arrow()
    assert table.column_names == list(answer.column_names) == ["id", "amount", "when", "n", "d", "m", "s"]
    assert [str(field.type) for field in table.schema][:6] == [
        "int64", "double", "timestamp[us, tz=UTC]", "int8", "date32[day]", "decimal128(12, 2)",
    ]  # fmt: skip
    assert table.column("n").to_pylist() == [1, None]
    assert table.column("amount").to_pylist() == [2.0, None]
    assert table.column("m").to_pylist() == [answer.to_dicts()[0]["m"], None]
    assert isinstance(answer.to_polars(), pl.DataFrame)
    assert answer.to_polars().to_dicts() == table.to_pylist()
    assert str(answer.to_pandas()["n"].dtype) == "int8[pyarrow]"
    empty = reader.read([], 10).to_arrow()
    assert empty.schema == table.schema
    assert empty.num_rows == 0
    assert isinstance(table, pa.Table)


def test_a_partial_outage_keeps_what_was_read() -> None:
    """Key spaces that answer are served; the others default, and the answer is degraded (ONL-6)."""
    store = Counting()
    put(store, "user", "a", 1, v=1)
    put(store, "seller", "b", 1, w=2)
    store.down = {"seller"}
    groups = (group("a", "user", "id", {"v": "int64"}), group("b", "seller", "id", {"w": "int64"}, w=-1))
    answer = OnlineReader(plan(*groups, on_error="default"), store).read([{"id": 1}], 10)
    assert answer.to_dicts() == [{"id": 1, "v": 1, "w": -1}]
    assert answer.statuses == [{"v": Status.PRESENT, "w": Status.NOT_FOUND}]
    assert answer.degraded
    assert "degraded" in repr(answer)
    with pytest.raises(StoreUnavailableError):
        OnlineReader(plan(*groups), store).read([{"id": 1}], 10)


def test_a_reader_learns_new_layouts() -> None:
    """A reader that was made before a column was stored serves it afterwards."""
    store = Counting()
    reader = OnlineReader(plan(group("a", "user", "id", {"v": "int64", "w": "int64"})), store)
    put(store, "user", "a", 1, v=1)
    assert reader.read([{"id": 1}], 10).to_dicts() == [{"id": 1, "v": 1, "w": None}]
    put(store, "user", "a", 1, w=3, v=2)
    assert reader.read([{"id": 1}], 10).to_dicts() == [{"id": 1, "v": 2, "w": 3}]


def test_an_answer_does_not_change() -> None:
    """What was read stays what it was, in whatever order it is asked for."""
    store = Counting()
    put(store, "user", "a", 1, v=1)
    answer = OnlineReader(plan(group("a", "user", "id", {"v": "int64"})), store).read([{"id": 1}], 10)
    put(store, "user", "a", 1, v=2)
    assert answer.to_dicts() == answer.to_dicts() == [{"id": 1, "v": 1}]


def test_request_columns_have_types() -> None:
    """A request value of another type is an error that names both."""
    reader = OnlineReader(plan(group("a", "user", "id", {"v": "int64"}), amount="float64"), Counting())
    with pytest.raises(ColumnTypeError, match="amount") as caught:
        reader.read([{"id": 1, "amount": "2"}], 10)
    assert "float64" in str(caught.value)
    assert "str" in str(caught.value)
    with pytest.raises(KeyTypeError):
        reader.read([{"id": "1", "amount": 2.0}], 10)


def test_a_default_of_another_type_is_refused() -> None:
    """When the plan is resolved, not at the first missing value."""
    with pytest.raises(ColumnTypeError, match="default"):
        OnlineReader(plan(group("a", "user", "id", {"v": "int64"}, v="none")), Counting())


@given(
    rows=st.lists(st.sampled_from([1, 2, 3, 9, None]), max_size=4),
    now=st.integers(5, 30),
    ttl=st.sampled_from([None, 1, 10]),
    exact=st.booleans(),
    default=st.sampled_from([None, 7.5]),
    groups=st.integers(1, 3),
    prefix=st.sampled_from(["größe ", 'size 5" ', "back\\slash ", "class", "0"]),
)
def test_records_are_written_as_the_dicts_are(
    rows: list[int | None], now: int, ttl: int | None, exact: bool, default: float | None, groups: int, prefix: str
) -> None:
    """Seen, expired, not there yet, unknown, null, of types that travel as others; under names that are no Python."""
    store = Counting()
    for number in range(groups):
        put(store, "user", f"g{number}", 1, v=1.5, d=19_000, m="12.50")
        put(store, "user", f"g{number}", 2, v=math.nan, d=None, m=None)
    put(store, "user", "g0", 3, v=2.5)  # a layout with fewer columns
    features = {"v": "float64", "d": "date", "m": "decimal(12,2)"}
    every = [
        replace(
            group(f"g{number}", "user", "id", features, prefix=f"{prefix}{number}.", v=default),
            ttl=ttl,
            exact_matches=exact,
        )
        for number in range(groups)
    ]
    found = OnlineReader(plan(*every), store).read([{"id": row} for row in rows], now)

    for encode in (msgspec.json.encode, msgspec.msgpack.encode):
        assert encode(found.to_records()) == encode(found.to_dicts())
