"""What is computed of vectors: in order, with what the request brought, and without what only that was read for."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest

import grange as gr
from grange.definitions.expressions import parse_expression
from grange.errors import TransformError
from grange.online.memory.backend import MemoryOnlineStore
from grange.plan.nodes import Derived, OnDemand, ReadPlan
from grange.serving.computing import computer
from grange.serving.reader import OnlineReader
from grange.types import Schema, parse_dtype

FLOAT, DATE = parse_dtype("float64"), parse_dtype("date")


@gr.transformation(outputs="float64")
def inverse(x: float) -> float:
    return 1 / x


def on_demand(name: str | None, column: str) -> OnDemand:
    return OnDemand(inverse.on("x"), (("x", column, FLOAT),), ((name, FLOAT),), "feature view 'v'")


def derived(name: str, text: str, **inputs: tuple[str, Any]) -> Derived:
    columns = tuple((own, column, dtype) for own, (column, dtype) in inputs.items())
    return Derived(name, parse_expression(text, what="test"), FLOAT, columns)


def plan(*computed: Any, hidden: tuple[str, ...] = (), **requests: str) -> ReadPlan:
    return ReadPlan((), Schema.of(requests), "raise", "memory", computed, hidden)


def run(given: ReadPlan, *vectors: dict[str, Any]) -> list[dict[str, Any]]:
    found = [dict(vector) for vector in vectors]
    computer(given)(found)
    return found


def test_each_may_take_those_before_it() -> None:
    steps = (on_demand("b", "a"), derived("c", "b + 1", b=("b", FLOAT)), on_demand("d", "c"))
    assert run(plan(*steps), {"a": 0.5}, {"a": None}) == [
        {"a": 0.5, "b": 2.0, "c": 3.0, "d": 1 / 3},
        {"a": None, "b": None, "c": None, "d": None},
    ]


def test_what_only_others_are_made_of_is_taken_out() -> None:
    steps = (on_demand("b", "a"), on_demand("c", "b"))
    assert run(plan(*steps, hidden=("a", "b")), {"k": 1, "a": 4.0}) == [{"k": 1, "c": 4.0}]


def test_an_output_that_nobody_takes() -> None:
    assert run(plan(on_demand(None, "a")), {"a": 4.0}) == [{"a": 4.0}]


def test_functions_are_given_values_of_the_declared_type() -> None:
    """The vector keeps what was brought."""
    steps = (on_demand("b", "n"), derived("month", "extract(month FROM day)", day=("day", DATE)))
    (vector,) = run(plan(*steps, n="float64", day="date"), {"n": 4, "day": "2026-03-02"})
    assert vector == {"n": 4, "day": "2026-03-02", "b": 0.25, "month": 3}
    (vector,) = run(plan(*steps, n="float64", day="date"), {"n": 4, "day": dt.date(2026, 4, 1)})
    assert vector["month"] == 4


def test_an_error_names_the_row_of_the_request() -> None:
    with pytest.raises(TransformError, match=r"ZeroDivisionError.* in row 1 of the request \(n=0.0\)") as caught:
        run(plan(on_demand("b", "n"), n="float64"), {"n": 1.0}, {"n": 0.0})
    assert caught.value.details["row"] == 1 and caught.value.asked_by == "feature view 'v'"


def test_vectors_of_a_request_alone() -> None:
    """Nothing is read, and every row has its answer (ONL-4)."""
    reader = OnlineReader(plan(on_demand("b", "n"), n="float64"), MemoryOnlineStore())
    found = reader.read([{"n": 2.0}, {"n": None}, {"n": 2.0}], 0)
    assert found.to_dicts() == [{"n": 2.0, "b": 0.5}, {"n": None, "b": None}, {"n": 2.0, "b": 0.5}]
    assert found.to_arrow().to_pylist() == found.to_dicts()
    assert [row["b"] for row in found.statuses] == ["PRESENT", "NULL", "PRESENT"]
    assert reader.read([], 0).to_dicts() == [] and reader.read([], 0).to_arrow().num_rows == 0
