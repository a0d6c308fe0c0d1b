"""Uuids are canonical text, from whatever they came; a constant has the type of its declaration."""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grange.errors import ColumnTypeError
from grange.types import Schema, parse_dtype
from grange.types.arrow import arrow_type, conform, constant

_FORMS = [str, lambda value: str(value).upper(), lambda value: value.hex, lambda value: "{" + str(value) + "}",
          lambda value: value.urn, lambda value: str(value)[:7] + str(value)[7].upper() + str(value)[8:]]  # fmt: skip


def _conformed(values: pa.Array) -> list[str | None]:
    return list(conform(pa.table({"x": values}), Schema.of({"x": "uuid"}), what="t").column("x").to_pylist())


@settings(max_examples=100, deadline=None, derandomize=True, database=None)
@given(
    drawn=st.lists(st.tuples(st.one_of(st.none(), st.uuids()), st.sampled_from(_FORMS)), max_size=8),
    cut=st.integers(0, 8),
)
def test_every_form_of_a_uuid_is_its_canonical_text(drawn: list[tuple[uuid.UUID | None, Any]], cut: int) -> None:
    expected = [None if value is None else str(value) for value, _ in drawn]
    texts = [None if value is None else form(value) for value, form in drawn]
    raw = [None if value is None else value.bytes for value, _ in drawn]
    for values in (
        pa.array(texts, pa.string()),
        pa.array(texts, pa.large_string()),
        pa.array(raw, pa.binary(16)),
        pa.array(raw, pa.binary()),
        pa.array(raw, pa.large_binary()),
    ):
        assert _conformed(values) == expected
        assert _conformed(values.slice(cut)) == expected[cut:]


@pytest.mark.parametrize(
    ("values", "bad"),
    [
        (pa.array([str(uuid.UUID(int=1)), "1234"]), "'1234' in row 1"),
        (pa.array([bytes(16), bytes(15)]), "row 1"),
        (pa.array([b"", None], pa.large_binary()), "row 0"),
        (pa.array([bytes(15)], pa.binary(15)), "row 0"),
    ],
)
def test_what_is_no_uuid_is_named(values: pa.Array, bad: str) -> None:
    with pytest.raises(ColumnTypeError) as caught:
        _conformed(values)
    assert bad in (caught.value.found or "")


@pytest.mark.parametrize(
    ("value", "dtype", "expected"),
    [
        (0, "float64", 0.0),
        (7, "int8", 7),
        ((1 << 64) - 1, "uint64", (1 << 64) - 1),
        ([(1 << 64) - 1], "list[uint64]", [(1 << 64) - 1]),
        ([], "list[string]", []),
        ("2026-01-01T01:00:00+01:00", "datetime", dt.datetime(2026, 1, 1, tzinfo=dt.UTC)),
        ({"a": 1}, "struct{a:int64}", {"a": 1}),
        (None, "int64", None),
    ],
)
def test_a_constant_has_the_declared_type(value: object, dtype: str, expected: object) -> None:
    found = constant(value, parse_dtype(dtype), what="a default")
    assert found.type == arrow_type(parse_dtype(dtype))
    assert found.as_py() == expected


@pytest.mark.parametrize(
    ("value", "dtype"),
    [("many", "int64"), (1 << 70, "int64"), (300, "int8"), (object(), "string"), ([1, "a"], "list[int64]")],
)
def test_a_constant_that_does_not_fit_is_an_error(value: object, dtype: str) -> None:
    with pytest.raises(ColumnTypeError, match="a default"):
        constant(value, parse_dtype(dtype), what="a default")
