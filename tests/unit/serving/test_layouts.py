"""What a stored row says of its columns: names with types."""

from __future__ import annotations

import pytest

from grange.serving.layouts import layout_of, place_of
from grange.types import Schema, parse_dtype


def test_a_column_is_its_name_and_its_type() -> None:
    columns = Schema.of({"a": "int64", "b": "struct{x:int64,y:string}", "a:int64": "decimal(12,2)"})
    layout = layout_of(columns)
    assert layout == ("a:int64", "b:struct{x:int64,y:string}", "a:int64:decimal(12,2)")
    assert [place_of(layout, column.name, column.dtype) for column in columns] == [0, 1, 2]
    assert place_of(layout, "c", parse_dtype("int64")) is None


@pytest.mark.parametrize(
    ("stored", "wanted", "found"),
    [
        ("int32", "int64", True),
        ("int64", "int32", False),
        ("uint32", "int64", True),
        ("uint64", "int64", False),
        ("int8", "uint8", False),
        ("uint8", "uint64", True),
        ("float32", "float64", True),
        ("float64", "float32", False),
        ("int64", "float64", False),
        ("decimal(10,2)", "decimal(12,2)", True),
        ("decimal(10,2)", "decimal(12,4)", False),
        ("string", "int64", False),
        ("datetime", "int64", False),
        ("list[int32]", "list[int64]", False),
        ("struct{a:int32}", "struct{a:int64}", False),
        ("struct{a:int32}", "int64", False),
    ],
)
@pytest.mark.parametrize("name", ["x", "x:y"])
def test_a_value_of_another_type_is_taken_only_when_it_is_the_same_value(
    name: str, stored: str, wanted: str, found: bool
) -> None:
    layout = layout_of(Schema.of({"first": "string", name: stored}))
    assert place_of(layout, name, parse_dtype(wanted)) == (1 if found else None)


def test_names_with_colons_are_not_taken_for_each_other() -> None:
    layout = layout_of(Schema.of({"x:y": "int32"}))
    assert place_of(layout, "x", parse_dtype("int64")) is None
