"""Steps taken apart: each part makes columns of columns, with what it learned from them.

A step that treats columns one by one has a part per column; a user's function, and scikit-learn's, are one part.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from grange.definitions.ready_functions import function_of, learns, parameters_of
from grange.definitions.transformations import Step, Transformation
from grange.errors import NameCollisionError, RequestError, SchemaError, closest_names
from grange.preparing import estimator
from grange.preparing.functions import READY
from grange.preparing.subject import Subject
from grange.transforming.columns import compile_row, fit_state, output_schema, transform_columns
from grange.types.schema import Column, Schema


@dataclass(frozen=True, slots=True)
class Part:
    """What a step does to some columns."""

    inputs: tuple[str, ...]
    outputs: Schema
    columns: Callable[[Sequence[pa.ChunkedArray]], list[pa.ChunkedArray]]
    """The outputs of whole columns, all in their canonical Arrow types."""
    row: Callable[[Sequence[Any]], Sequence[Any]]
    """The outputs of one row's canonical values."""
    value: Callable[[Any], Any] | None = None
    """The same from one value to one, where there is one input and one output."""


@dataclass(frozen=True, slots=True)
class Place:
    """A step where it stands: among the columns that there are then."""

    step: Step
    schema: Schema
    dropped: frozenset[str]
    """Columns that earlier steps dropped."""
    asked_by: str

    def __post_init__(self) -> None:
        for name in self.step.inputs:
            if name not in self.schema:
                raise self._no_column(name)

    def groups(self) -> tuple[tuple[str, ...], ...]:
        """The columns of each part."""
        step = self.step
        if step.transformation is not None or function_of(step).together:
            return (step.inputs,)
        return tuple((name,) for name in step.inputs)

    def learn(self, names: Sequence[str], columns: Sequence[pa.ChunkedArray]) -> Any:
        """What a part learns from columns of training data; None of one that learns nothing."""
        own = self.step.transformation
        if not learns(self.step):
            return None
        if own is not None:
            return fit_state(own, columns, self._types(names), asked_by=self.asked_by)
        if function_of(self.step).together:
            return estimator.fit(columns, self._together())
        return READY[self.step.function].fit(columns[0], parameters_of(self.step), self._subject(names[0]))

    def bind(self, names: tuple[str, ...], learned: Any) -> Part:
        """A part with what it learned.

        Raises:
            RequestError: it learns, and there is nothing.
            SchemaError, DefinitionError: its columns are of types that it does not take.
        """
        step = self.step
        if learned is None and learns(step):
            raise RequestError(
                f"step {step} has not been fitted: compute a training dataset",
                asked_by=self.asked_by,
                try_="store.create_training_dataset(...)",
            )
        if step.transformation is not None:
            return self._transformation(step.transformation, learned)
        return self._sklearn(learned) if function_of(step).together else self._ready(names[0], learned)

    def after(self, parts: Sequence[Part]) -> Schema:
        """The columns after some parts: outputs stand where the first of their inputs stood.

        Raises:
            NameCollisionError: an output has the name of a column that is none of its inputs.
        """
        schema = self.schema
        for part in parts:
            self._check_names(part, schema)
            made, columns, placed = part.outputs.names, list[Column](), False
            for column in schema:
                taken = column.name in part.inputs
                if not taken or (self.step.keep and column.name not in made):
                    columns.append(column)
                if taken and not placed:
                    columns += part.outputs.columns
                    placed = True
            schema = Schema(tuple(columns))
        return schema

    def _ready(self, name: str, learned: Any) -> Part:
        step, subject = self.step, self._subject(name)
        bound = READY[step.function].bind(learned, parameters_of(step), subject)
        start = step.outputs[step.inputs.index(name)] if step.outputs else name
        outputs = Schema(tuple(Column(f"{start}{added}", dtype) for added, dtype in bound.outputs))
        single = len(outputs) == 1
        return Part(
            (name,),
            outputs,
            lambda given: bound.columns(given[0]),
            (lambda given: (bound.value(given[0]),)) if single else (lambda given: bound.value(given[0])),
            bound.value if single else None,
        )

    def _transformation(self, own: Transformation, learned: Any) -> Part:
        types, asked_by = self._types(self.step.inputs), self.asked_by
        made = output_schema(own, types)
        named = zip(self.step.output_names, made, strict=True)
        return Part(
            self.step.inputs,
            Schema(tuple(Column(name, column.dtype) for name, column in named)),
            lambda given: transform_columns(own, given, types, state=learned, asked_by=asked_by),
            compile_row(own, types, state=learned, asked_by=asked_by),
        )

    def _sklearn(self, learned: Any) -> Part:
        together = self._together()
        outputs, transformer = estimator.outputs(learned, together), estimator.load(learned, together)
        return Part(
            self.step.inputs,
            outputs,
            estimator.on_columns(transformer, len(outputs), together),
            estimator.on_row(transformer, len(outputs), together),
        )

    def _types(self, names: Sequence[str]) -> list[Any]:
        return [self.schema[name] for name in names]

    def _subject(self, name: str) -> Subject:
        return Subject(self.step.function, name, self.schema[name], self.asked_by)

    def _together(self) -> estimator.Together:
        return estimator.Together(self.step, self.schema.select(self.step.inputs), self.asked_by)

    def _check_names(self, part: Part, schema: Schema) -> None:
        for name in part.outputs.names:
            if name in schema and name not in part.inputs:
                raise NameCollisionError(
                    f"step {self.step.function!r} makes a column {name!r}, and there is one already",
                    asked_by=self.asked_by,
                    found=", ".join(schema.names),
                    try_="outputs= with other names",
                )

    def _no_column(self, name: str) -> SchemaError:
        gone = name in self.dropped
        return SchemaError(
            f"step {self.step.function!r} takes column {name!r}, which "
            + ("an earlier step replaced" if gone else "is not there"),
            asked_by=self.asked_by,
            found=", ".join(self.schema.names),
            closest=() if gone else closest_names(name, self.schema.names),
            try_="keep=True in the earlier step" if gone else None,
        )
