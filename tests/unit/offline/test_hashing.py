"""The content hash: equal rows, equal hash, whatever holds them (VER-2)."""

from __future__ import annotations

import io
import itertools
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from grange.offline.parquet.hashing import content_hash
from grange.testing.offline import COUNTED, EVERYTHING, RECENT, SCHEMA, SPENT, history, numbered, one_of_everything
from grange.types import Schema
from grange.types.aggregates import Window
from grange.types.arrow import arrow_schema
from grange.types.names import SEQUENCE

KINDS = Schema.of(
    {
        "s": "string", "b": "boolean", "i": "int16", "f": "float64", "l": "list[string]", "d": "decimal(5,1)",
        "p": "struct{x:float32,y:list[int64]}", "t": "datetime", "r": "binary",
    }
)  # fmt: skip
ROW = st.fixed_dictionaries(
    {
        "s": st.none() | st.text(max_size=3),
        "b": st.none() | st.booleans(),
        "i": st.none() | st.integers(-(2**15), 2**15 - 1),
        "f": st.none() | st.floats(allow_nan=False),
        "l": st.none() | st.lists(st.none() | st.text(max_size=2), max_size=3),
        "d": st.none() | st.decimals(-9999, 9999, places=1),
        "p": st.none()
        | st.fixed_dictionaries(
            {"x": st.none() | st.floats(width=32, allow_nan=False), "y": st.none() | st.lists(st.integers(0, 9))}
        ),
        "t": st.none() | st.integers(0, 2**50),
        "r": st.none() | st.binary(max_size=3),
    }
)


def table(rows: list[dict[str, object]]) -> pa.Table:
    """Rows as a table of `KINDS`."""
    columns = {name: [row[name] for row in rows] for name in KINDS.names}
    return pa.table(columns, schema=arrow_schema(KINDS))


def digest(rows: pa.Table) -> str:
    """Their hash."""
    return content_hash(rows, KINDS)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(ROW, max_size=12), st.data())
def test_how_rows_are_held_does_not_count(rows: list[dict[str, object]], data: st.DataObject) -> None:
    """Chunks, offsets into larger buffers, files, row groups, compression."""
    whole = table(rows)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(rows)), max_size=3)))
    edges = [0, *cuts, len(rows)]
    chunks = [whole.slice(start, end - start) for start, end in itertools.pairwise(edges)]
    inside = pa.concat_tables([whole, whole, whole]).combine_chunks().slice(len(rows), len(rows))
    file = io.BytesIO()
    pq.write_table(whole, file, row_group_size=2, compression="zstd")
    held = [pa.concat_tables(chunks), inside, pq.read_table(file), whole.select(list(reversed(KINDS.names)))]
    assert {digest(each) for each in held} == {digest(whole)}


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(ROW, min_size=1, max_size=4), ROW, st.data())
def test_every_value_counts(rows: list[dict[str, object]], other: dict[str, object], data: st.DataObject) -> None:
    """Another value anywhere, a row more or less, and another order are other rows."""
    place = data.draw(st.integers(0, len(rows) - 1))
    column = data.draw(st.sampled_from(KINDS.names))
    changed = [*rows[:place], {**rows[place], column: other[column]}, *rows[place + 1 :]]
    bits, changed_bits = repr(table(rows).to_pylist()), repr(table(changed).to_pylist())
    assert (digest(table(rows)) == digest(table(changed))) == (bits == changed_bits)
    assert (digest(table(rows)) == digest(table(rows[::-1]))) == (bits == repr(table(rows[::-1]).to_pylist()))
    assert digest(table(rows)) != digest(table([*rows, other]))


def test_what_lies_under_a_null_does_not_count() -> None:
    """Null slots of numbers, text, lists and structs may hold anything."""
    valid = pa.py_buffer(np.packbits([1, 0, 1], bitorder="little").tobytes())
    schema = Schema.of({"i": "int64", "s": "string", "l": "list[int64]", "p": "struct{x:int64}"})

    def held(garbage: int, text: str) -> pa.Table:
        numbers = pa.py_buffer(np.array([1, garbage, 3]).tobytes())
        ints = pa.Array.from_buffers(pa.int64(), 3, [valid, numbers])
        offsets = pa.py_buffer(np.array([0, 1, 1 + len(text), 2 + len(text)]).tobytes())
        strings = pa.Array.from_buffers(pa.large_string(), 3, [valid, offsets, pa.py_buffer(f"a{text}b".encode())])
        items = pa.array([7, *[garbage] * len(text), 8])
        lists = pa.Array.from_buffers(pa.large_list(pa.int64()), 3, [valid, offsets], children=[items])
        child = pa.array([1, garbage, 3])
        structs = pa.Array.from_buffers(pa.struct([("x", pa.int64())]), 3, [valid], children=[child])
        return pa.table({"i": ints, "s": strings, "l": lists, "p": structs})

    assert held(5, "xx").equals(held(9, ""))
    assert content_hash(held(5, "xx"), schema) == content_hash(held(9, ""), schema)


def test_values_do_not_run_together() -> None:
    """`ab`, `c` is not `a`, `bc`; null is neither empty nor zero; names and types count."""
    hashes = [
        content_hash(pa.table({"s": pa.array(values, pa.large_string())}), Schema.of({"s": "string"}))
        for values in (["ab", "c"], ["a", "bc"], ["abc", ""], ["abc", None], ["abc"], [None, "abc"], [])
    ]
    hashes.append(content_hash(pa.table({"r": pa.array([], pa.large_string())}), Schema.of({"r": "string"})))
    for kind in ("int64", "float64"):
        schema = Schema.of({"s": kind})
        for values in ([0], [None]):
            hashes.append(content_hash(pa.table({"s": values}, schema=arrow_schema(schema)), schema))
    assert len(set(hashes)) == len(hashes)


def test_floats_are_equal_when_their_bits_are() -> None:
    """Minus zero is not zero."""
    schema = Schema.of({"x": "float64"})
    zero, minus = (content_hash(pa.table({"x": [value]}), schema) for value in (0.0, -0.0))
    assert zero != minus


def test_the_sequence_does_not_count() -> None:
    """It says where a row lies among its equals, which their order says already."""
    rows = one_of_everything()
    hashes = {content_hash(each, EVERYTHING) for each in (rows, numbered(rows), numbered(rows, 9))}
    assert len(hashes) == 1


def test_aggregates_count() -> None:
    """They decide the feature rows: each of them, everything of them, in any order; and no two run together."""
    rows = history(1.0, 2.0)
    variants = [
        (), (SPENT,), (COUNTED,), (SPENT, COUNTED), (replace(SPENT, window=Window("time", 1)),),
        (replace(SPENT, closed="left"),), (replace(SPENT, every=9),), (replace(SPENT, every=9, offset=1),),
        (replace(SPENT, shift=1),), (replace(SPENT, filter="amount > 1"),), (replace(SPENT, name="spent"),), (RECENT,),
    ]  # fmt: skip
    hashes = [content_hash(rows, SCHEMA, aggregates) for aggregates in variants]
    assert len(set(hashes)) == len(variants)
    assert content_hash(rows, SCHEMA, (COUNTED, SPENT)) == content_hash(rows, SCHEMA, (SPENT, COUNTED))


@settings(deadline=None)
@given(st.permutations(range(4)), st.permutations(range(4)), st.integers(0, 2**40))
def test_with_event_ids_the_order_of_writing_counts(one: list[int], other: list[int], first: int) -> None:
    """WIN-6: which version of an event was written last, whatever their times; the numbers themselves do not count."""

    def written(order: list[int], step: int = 1, start: int = 0) -> str:
        numbers = pa.array([start + step * number for number in order], pa.int64())
        rows = history(1.0, 2.0, 3.0, 4.0).append_column(SEQUENCE, numbers)
        return content_hash(rows, SCHEMA, (SPENT,), event_id="user_id")

    assert (written(one) == written(other)) == (one == other)
    assert written(one) == written(one, step=3, start=first)


def test_stored_hashes_stay_valid() -> None:
    """Rows without aggregations have the hash that versions of earlier releases have: they make no new version."""
    stored = "6d13473ee53fa7c2dbe7c174ebd03fa8fd51fea5a26d5bccec4ab8a236304c11"
    assert content_hash(history(1.0, 2.0), SCHEMA) == stored
