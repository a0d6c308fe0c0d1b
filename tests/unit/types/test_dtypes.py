"""Types print as they are written and read back as what they were."""

from __future__ import annotations

import datetime as dt
import uuid

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from grange.errors import SchemaError
from grange.types import DataType, Schema, as_dtype, parse_dtype
from grange.types.dtypes import SIMPLE

simple = st.sampled_from(SIMPLE).map(DataType)
decimals = st.tuples(st.integers(1, 38), st.integers(0, 38)).map(
    lambda digits: DataType("decimal", precision=digits[0], scale=min(digits))
)
names = st.text("abcdefghij_", min_size=1, max_size=6)
dtypes = st.recursive(
    simple | decimals,
    lambda inner: (
        inner.map(lambda item: DataType("list", item=item))
        | st.lists(st.tuples(names, inner), min_size=1, max_size=3, unique_by=lambda pair: pair[0]).map(
            lambda fields: DataType("struct", fields=tuple(fields))
        )
    ),
    max_leaves=6,
)


@given(dtypes)
def test_a_type_reads_back_from_its_text(dtype: DataType) -> None:
    assert parse_dtype(str(dtype)) == dtype


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (int, "int64"),
        (float, "float64"),
        (bool, "boolean"),
        (str, "string"),
        (bytes, "binary"),
        (dt.datetime, "datetime"),
        (dt.date, "date"),
        (dt.timedelta, "duration"),
        (uuid.UUID, "uuid"),
        (list[float], "list[float64]"),
        (int | None, "int64"),
        ("double", "float64"),
        ("List[Float32]", "list[float32]"),
        (pa.int16(), "int16"),
        (pa.timestamp("ns", tz="Europe/Paris"), "datetime"),
        (pa.dictionary(pa.int8(), pa.string()), "string"),
        (pl.UInt8, "uint8"),
        (pl.List(pl.Float32), "list[float32]"),
        (pl.Datetime("ms"), "datetime"),
        (pl.Categorical(), "string"),
    ],
)
def test_types_are_understood_as_people_write_them(written: object, expected: str) -> None:
    assert str(as_dtype(written)) == expected


@pytest.mark.parametrize(
    "text", ["", "in64", "list[int64", "decimal", "decimal(3,5)", "decimal(40,2)", "int64 x", "map"]
)
def test_what_is_no_type_is_refused_with_the_closest(text: str) -> None:
    with pytest.raises(SchemaError) as caught:
        parse_dtype(text)
    if text == "in64":
        assert "int64" in caught.value.closest


def test_a_schema_names_each_column_once() -> None:
    with pytest.raises(SchemaError, match="named twice: a"):
        Schema.of([("a", "int64"), ("a", "string")])


def test_a_schema_survives_its_list() -> None:
    schema = Schema.of({"a": int, "b": list[str], "c": "decimal(10,2)"})

    assert Schema.from_list(schema.to_list()) == schema


@pytest.mark.parametrize(
    ("kind", "family"),
    [("int8", "integer"), ("uint64", "integer"), ("string", "string"), ("float64", None), ("uuid", "uuid")],
)
def test_key_families(kind: str, family: str | None) -> None:
    """PIT-4: integer widths unify; floats are no keys."""
    assert DataType(kind).key_family == family
