"""On-demand steps of a group: what they take, what they make, and what must be there for one of them."""

from __future__ import annotations

from typing import Any

import pytest

import grange as gr
from grange.definitions.on_demand import (
    check_group_steps,
    made_of,
    offered,
    output_types,
    outputs_of,
    requested,
    steps_for,
    stored_inputs,
    taken_inputs,
)
from grange.errors import DefinitionError
from grange.types import Schema, parse_dtype

FLOAT = parse_dtype("float64")
double = gr.Transformation("double", sql={"twice": "x * 2"})
add = gr.Transformation("add", sql={"total": "x + y", "half": "total / 2"}, requests={"y": "int64"})


def group(*steps: Any, **options: Any) -> gr.FeatureGroup:
    columns = {"user_id": "string", "at": "datetime", "a": "float64", "b": "int64"}
    source = gr.PushSource("rows", schema=columns, event_time="at")
    user = gr.Entity("user", join_keys=["user_id"])
    return gr.FeatureGroup("g", entities=user, source=source, schema=columns, on_demand=steps, **options)


CHAIN = group(
    double.on("a"),
    add.on("twice", "basket"),
    double.on("half", outputs="again"),
    double.on("b", outputs="alone"),
)


def test_what_the_request_brings_goes_by_the_name_of_the_step() -> None:
    step = add.on("a", "basket", outputs=["t", "h"])
    assert requested(step).to_list() == [{"name": "basket", "dtype": "int64"}]
    assert taken_inputs(step) == ("a",)
    assert outputs_of(step, [FLOAT, FLOAT]).to_list() == [
        {"name": "t", "dtype": "float64"},
        {"name": "h", "dtype": "float64"},
    ]


def test_sql_has_the_type_that_is_declared_or_else_its_own() -> None:
    narrow = gr.Transformation("narrow", sql={"x2": "x * 2", "more": "x2 > 1"}, outputs={"x2": "float32"})
    assert [str(column.dtype) for column in output_types(narrow, [FLOAT])] == ["float32", "boolean"]
    with pytest.raises(DefinitionError, match="double"):
        output_types(double, [parse_dtype("string")])


@pytest.mark.parametrize(
    ("names", "expected"),
    [([], []), (["twice"], [0]), (["half"], [0, 1]), (["again"], [0, 1, 2]), (["alone", "twice"], [0, 3])],
)
def test_what_one_needs_comes_before_it(names: list[str], expected: list[int]) -> None:
    assert steps_for(CHAIN, names) == tuple(CHAIN.on_demand[place] for place in expected)


def test_what_a_feature_is_made_of_in_the_end() -> None:
    assert stored_inputs(CHAIN, "again") == ("a",)
    assert stored_inputs(CHAIN, "alone") == ("b",)
    assert stored_inputs(CHAIN, "a") == ("a",)
    assert made_of(CHAIN, ["a"]) == {"twice", "total", "half", "again"}
    assert made_of(CHAIN, ["b"]) == {"alone"}
    assert made_of(CHAIN, []) == frozenset()


def test_features_as_views_take_them() -> None:
    assert offered(CHAIN).names == ("a", "b", "twice", "total", "half", "again", "alone")
    assert [str(column.dtype) for column in offered(CHAIN)][2:] == ["float64", "float64", "float64", "float64", "int64"]
    assert offered(CHAIN).columns[3].description == "on demand: add(twice, basket)"
    assert offered(group()) == group().features()


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (group(double.on("aa")), "takes 'aa', which is no feature of the group"),
        (group(double.on("user_id")), "takes 'user_id'"),
        (group(double.on("again", outputs="x"), double.on("a", outputs="again")), "takes 'again'"),
        (group(gr.Transformation("t", sql={"x": "upper(a)"})), "upper"),
    ],
)
def test_steps_that_cannot_be(given: gr.FeatureGroup, says: str) -> None:
    with pytest.raises(DefinitionError, match=says):
        check_group_steps(given)


def test_a_name_that_the_schema_turns_out_to_have() -> None:
    taken = group(double.on("a", outputs="c"))
    check_group_steps(taken)
    wider = Schema.of({column.name: column.dtype for column in taken.schema} | {"c": "int64"})
    with pytest.raises(DefinitionError, match="'c' has the name of another column"):
        check_group_steps(taken.with_(schema=wider))
