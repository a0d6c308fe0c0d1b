"""What is computed of vectors: on-demand and derived features, row by row, exactly as history has them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, assert_never

from grange.definitions.on_demand import function_of
from grange.errors import TransformError
from grange.plan.nodes import Computed, Derived, OnDemand, ReadPlan
from grange.serving.values import encoder, from_wire
from grange.types import DataType, Schema

Vector = dict[str, Any]
Step = Callable[[Vector, Vector], None]
"""Adds what it computes to a vector; the second has the request columns in the values that functions are given."""


def computer(plan: ReadPlan) -> Callable[[list[Vector]], None]:
    """A function that adds to vectors what a plan computes, and takes out what only that was read for.

    Everything is resolved once. The function raises TransformError, which names the row, when one of a user's does.
    """
    brought = {column.name: column.dtype for column in plan.requests}
    wanted = {name for item in plan.computed for _, name, _ in item.inputs if name in brought}
    readers = tuple((name, _reader(brought[name])) for name in brought if name in wanted)
    steps = tuple(_step(item, wanted) for item in plan.computed)
    hidden = plan.hidden

    def compute(vectors: list[Vector]) -> None:
        for place, vector in enumerate(vectors):
            request = {name: read(vector[name]) for name, read in readers}
            try:
                for step in steps:
                    step(vector, request)
            except TransformError as error:
                raise _in_row(error, place, plan, vector) from error
            for name in hidden:
                del vector[name]

    return compute


def _step(item: Computed, brought: set[str]) -> Step:
    match item:
        case Derived():
            return _derived(item, brought)
        case OnDemand():
            return _on_demand(item, brought)
        case _:
            assert_never(item)


def _derived(item: Derived, brought: set[str]) -> Step:
    from grange.deriving.rows import compile_row

    evaluate = compile_row(item.expression, Schema.of((own, dtype) for own, _, dtype in item.inputs), by_name=True)
    names = tuple((own, name) for own, name, _ in item.inputs)
    name = item.name

    def step(vector: Vector, request: Vector) -> None:
        vector[name] = evaluate({own: (request if of in brought else vector)[of] for own, of in names})

    return step


def _on_demand(item: OnDemand, brought: set[str]) -> Step:
    from grange.transforming.columns import compile_row

    evaluate = compile_row(function_of(item.step), [dtype for _, _, dtype in item.inputs], asked_by=item.asked_by)
    names = tuple((name, name in brought) for _, name, _ in item.inputs)
    kept = tuple((place, name) for place, (name, _) in enumerate(item.results) if name is not None)

    def step(vector: Vector, request: Vector) -> None:
        made = evaluate([(request if of_request else vector)[name] for name, of_request in names])
        for place, name in kept:
            vector[name] = made[place]

    return step


def _reader(dtype: DataType) -> Callable[[Any], Any]:
    """From what a request brings to the value of its type that it stands for: text of a time, an int for a float."""
    convert = encoder(dtype)
    return lambda value: None if value is None else from_wire(convert(value), dtype)


def _in_row(error: TransformError, place: int, plan: ReadPlan, vector: Mapping[str, Any]) -> TransformError:
    """The error of a function, with the row of the request that it failed in."""
    keys = ", ".join(_shown(plan, vector))
    return TransformError(
        f"{error.message}, in row {place} of the request ({keys})",
        asked_by=error.asked_by,
        found=error.found,
        closest=error.closest,
        try_=error.try_,
        details=error.details | {"row": place},
    )


def _shown(plan: ReadPlan, vector: Mapping[str, Any]) -> Iterator[str]:
    columns = dict.fromkeys(column for group in plan.groups for column, _, _ in group.keys)
    for name in columns or plan.requests.names:
        yield f"{name}={vector[name]!r:.80}"


__all__ = ["computer"]
