"""Entity keys as bytes: by type and value, in order, never glued (PIT-4)."""

from __future__ import annotations

import datetime as dt
import decimal
import itertools
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grange.errors import KeyTypeError, MissingColumnError, SchemaError
from grange.serving.keys import encode_columns, encode_key, row_encoder
from grange.types import DataType, parse_dtype
from grange.types.arrow import arrow_type

VALUES: Mapping[str, st.SearchStrategy[Any]] = {
    "int8": st.integers(-(2**7), 2**7 - 1),
    "int64": st.integers(-(2**63), 2**63 - 1),
    "uint64": st.integers(0, 2**64 - 1),
    "string": st.text(st.characters(codec="utf-8") | st.sampled_from("\0\x01"), max_size=5),
    "binary": st.binary(max_size=5) | st.sampled_from([b"\0", b"\0\0", b"\0\xff", b"\xff"]),
    "boolean": st.booleans(),
    "uuid": st.uuids().map(str),
    "date": st.dates(),
    "datetime": st.datetimes(timezones=st.just(dt.UTC)),
    "decimal(12,2)": st.decimals(-(10**9), 10**9, places=2),
    "decimal(38,0)": st.integers(-(10**38) + 1, 10**38 - 1).map(decimal.Decimal),
}
TYPES = sorted(VALUES)


def types(*names: str) -> list[DataType]:
    return [parse_dtype(name) for name in names]


def columns(rows: Sequence[Sequence[Any]], dtypes: Sequence[DataType]) -> list[pa.ChunkedArray]:
    """Rows as canonical columns, in two chunks."""
    half = len(rows) // 2
    return [
        pa.chunked_array([[row[place] for row in part] for part in (rows[:half], rows[half:])], arrow_type(dtype))
        for place, dtype in enumerate(dtypes)
    ]


@settings(deadline=None, database=None, max_examples=60)
@given(st.data())
def test_columns_encode_as_rows_do(data: st.DataObject) -> None:
    """In bulk and one by one, for every type, alone and together, nulls included."""
    names = data.draw(st.lists(st.sampled_from(TYPES), min_size=1, max_size=3))
    rows = data.draw(st.lists(st.tuples(*(st.none() | VALUES[name] for name in names)), max_size=6))
    dtypes = types(*names)

    found = encode_columns(columns(rows, dtypes), dtypes).to_pylist()

    assert found == [encode_key(row, dtypes) for row in rows]
    assert [key is None for key in found] == [None in row for row in rows]


@settings(deadline=None, database=None, max_examples=60)
@given(st.data())
def test_keys_are_injective_and_ordered(data: st.DataObject) -> None:
    """Different tuples have different keys, equal ones equal keys, and bytes compare as the tuples do."""
    names = data.draw(st.lists(st.sampled_from(TYPES), min_size=1, max_size=3))
    rows = data.draw(st.lists(st.tuples(*(VALUES[name] for name in names)), min_size=2, max_size=6))
    dtypes = types(*names)
    comparable = [
        [v.encode() if isinstance(v, str) and n == "string" else v for v, n in zip(r, names, strict=True)] for r in rows
    ]
    keys = [encode_key(row, dtypes) for row in rows]
    for (left, a), (right, b) in itertools.combinations(zip(comparable, keys, strict=True), 2):
        assert a is not None
        assert b is not None
        assert (left < right, left == right) == (a < b, a == b)


def test_integer_widths_unify() -> None:
    """The same number is the same key in every width, signed or not; and never a text or a boolean."""
    widths = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
    assert len({encode_key([5], types(width)) for width in widths}) == 1
    bulk = {encode_columns([pa.chunked_array([pa.array([5], arrow_type(d))])], [d])[0].as_py() for d in types(*widths)}
    assert bulk == {encode_key([5], types("int64"))}
    others = [
        encode_key(["5"], types("string")),
        encode_key([b"5"], types("binary")),
        encode_key([True], types("boolean")),
    ]
    assert len({*bulk, *others}) == 4


def test_decimals_compare_by_value() -> None:
    """1.5 and 1.50 are one key, whatever the digits of their columns."""
    short = encode_key([decimal.Decimal("1.5")], types("decimal(10,1)"))
    assert short == encode_key([decimal.Decimal("1.50")], types("decimal(38,30)"))
    assert short == encode_key([decimal.Decimal("15E-1")], types("decimal(2,1)"))
    assert encode_key([2], types("decimal(2,1)")) == encode_key([decimal.Decimal("2.0")], types("decimal(2,1)"))


def test_one_moment_is_one_key() -> None:
    """Zones are converted, naive is UTC, a date is its midnight, text is ISO 8601 (TIME-1)."""
    same = [
        dt.datetime(2026, 1, 1, tzinfo=dt.UTC),
        dt.datetime(2026, 1, 1),
        dt.datetime(2026, 1, 1, 2, tzinfo=dt.timezone(dt.timedelta(hours=2))),
        dt.date(2026, 1, 1),
        "2026-01-01T01:00:00+01:00",
    ]
    assert len({encode_key([moment], types("datetime")) for moment in same}) == 1


def test_a_uuid_is_its_value() -> None:
    """Object and text, in any case, with or without dashes."""
    one = uuid.UUID("0A000000-0000-0000-0000-00000000000b")
    same = [one, str(one), str(one).upper(), one.hex, f"{{{one}}}"]
    assert len({encode_key([item], types("uuid")) for item in same}) == 1


class Whole:
    """An integer of another library."""

    def __index__(self) -> int:
        return 5


def test_integers_of_other_libraries() -> None:
    """Anything that is an integer by protocol is one."""
    assert encode_key([Whole()], types("int64")) == encode_key([5], types("int64"))
    assert encode_key([pytest.importorskip("numpy").int32(5)], types("int64")) == encode_key([5], types("int64"))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("int64", "1"), ("int64", True), ("int64", 1.0), ("int64", 2**64), ("int64", -(2**63) - 1), ("int64", b"1"),
        ("string", 1), ("string", b"1"), ("string", True), ("string", "\ud800"), ("uuid", "x"), ("uuid", 5),
        ("boolean", 1), ("boolean", "true"), ("date", "tomorrow"), ("date", dt.datetime(2026, 1, 1, 1)), ("date", 5),
        ("datetime", "noon"), ("datetime", 5), ("decimal(4,2)", 1.5), ("decimal(4,2)", "1.5"), ("binary", "a"),
        ("decimal(4,2)", decimal.Decimal("NaN")), ("decimal(4,2)", decimal.Decimal(10) ** 50),
        ("decimal(4,2)", decimal.Decimal("1E-39")),
    ],
)  # fmt: skip
def test_a_key_of_another_type_is_an_error(name: str, value: Any) -> None:
    """Both types are named, and which key it is (PIT-4)."""
    encode = row_encoder([("fine", DataType("int64")), ("k", parse_dtype(name))])
    for encoder, row in ((encode, {"fine": 1, "k": value}), (row_encoder([("k", parse_dtype(name))]), {"k": value})):
        with pytest.raises(KeyTypeError) as caught:
            encoder(row)
        text = str(caught.value)
        assert "'k'" in text
        assert name in text
        assert type(value).__name__ in text


def test_a_missing_key_is_named() -> None:
    """With the nearest column of the row."""
    for names in (["user_id"], ["user_id", "other"]):
        with pytest.raises(MissingColumnError) as caught:
            row_encoder([(name, DataType("int64")) for name in names])({"userid": 1, "other": 1})
        assert "'user_id'" in str(caught.value)
        assert caught.value.closest == ("userid",)


def test_types_without_equality_are_no_keys() -> None:
    """Floats, lists, structs and durations are refused when the encoder is made."""
    for name in ("float64", "list[int64]", "duration", "struct{a:int64}"):
        with pytest.raises(SchemaError):
            row_encoder([("k", parse_dtype(name))])


@pytest.mark.parametrize(
    ("kind", "values"),
    [("uint64", [0, 5, 2**63, 2**64 - 1]), ("int64", [-(2**63), -1, 0, 7, 2**63 - 1]), ("int8", [-128, -1, 0, 127])],
)
def test_integers_ascend_as_their_keys_do(kind: str, values: list[int]) -> None:
    """So that sorting the numbers of one key column sorts the keys."""
    dtype = DataType(kind)
    keys = encode_columns([pa.chunked_array([pa.array(values, getattr(pa, kind)())])], [dtype]).to_pylist()
    assert keys == sorted(keys)
