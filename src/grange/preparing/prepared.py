"""What a view's transformations learned from a training split, and applying it to tables and to rows.

prepared = fit(view.transformations, train, schema, asked_by="feature view 'churn'")
prepared.apply_table(test)                  # training data, batch inference
prepare = prepared.compile_row()            # serving: once
prepare({"amount": 12.5, "country": "FR"})  # one row, with the same values
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import pyarrow as pa

from grange.definitions.ready_functions import function_of, learns
from grange.definitions.transformations import Step
from grange.errors import ColumnTypeError, MissingColumnError, RequestError, closest_names
from grange.preparing.parts import Part, Place
from grange.transforming.values import Converter, reader
from grange.types.arrow import arrow_schema, conform_column
from grange.types.schema import Column, Schema

_LAYOUT: Final = 1
"""Of `Prepared.to_data`."""

RowPreparation = Callable[[Mapping[str, Any]], dict[str, Any]]
"""From one row's values by column, None for null, to those after all steps, in the order of `Prepared.outputs`."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """Steps, and what each of them learned. Make it with `fit`, read it back with `from_data`."""

    steps: tuple[Step, ...]
    schema: Schema
    """The columns before the first step."""
    states: tuple[tuple[Any, ...], ...]
    """By step, what each of its parts learned, JSON-able; None where there is nothing to learn."""
    outputs: Schema
    """All columns after the last step: what steps made stands where the first of its inputs stood."""
    parts: tuple[Part, ...] = field(compare=False, repr=False)
    """The functions, in order."""
    asked_by: str = field(compare=False, repr=False)
    """Whose steps they are, for messages."""

    @classmethod
    def of(cls, steps: Sequence[Step], schema: Schema, states: Sequence[Sequence[Any]], *, asked_by: str) -> Prepared:
        """Steps with what they learned.

        Raises:
            RequestError: a step learns, and there is nothing that it learned.
            SchemaError, DefinitionError, NameCollisionError: the steps do not go with the columns.
        """
        chain = _Chain(schema, asked_by)
        for step, learned in zip(steps, states, strict=True):
            place = chain.place(step)
            chain.add([place.bind(names, state) for names, state in zip(place.groups(), learned, strict=True)], place)
        return cls(tuple(steps), schema, tuple(map(tuple, states)), chain.schema, tuple(chain.parts), asked_by)

    @classmethod
    def unfitted(cls, steps: Sequence[Step], schema: Schema, *, asked_by: str) -> Prepared:
        """Steps that learn nothing.

        Raises:
            RequestError: one does, and has not been fitted.
            SchemaError, DefinitionError, NameCollisionError: the steps do not go with the columns.
        """
        return cls.of(steps, schema, [(None,) * _parts_of(step) for step in steps], asked_by=asked_by)

    @property
    def inputs(self) -> Schema:
        """The columns that the steps look at."""
        made: set[str] = set()
        wanted: set[str] = set()
        for part in self.parts:
            wanted |= {name for name in part.inputs if name not in made}
            made |= set(part.outputs.names)
        return Schema(tuple(column for column in self.schema if column.name in wanted))

    def apply_table(self, table: pa.Table) -> pa.Table:
        """The rows of a table after all steps.

        Args:
            table: has at least the columns of `schema`; others are left out.

        Shape:
            The columns of `outputs`, in their canonical Arrow types; one row per row, in the table's order.

        Raises:
            MissingColumnError: a column is missing.
            ColumnTypeError, TransformError: values that are not of the column's type, or that a step refuses.
        """
        columns = {column.name: _column_of(table, column, self.schema, self.asked_by) for column in self.schema}
        for part in self.parts:
            made = part.columns([columns[name] for name in part.inputs])
            columns |= dict(zip(part.outputs.names, made, strict=True))
        return pa.Table.from_arrays([columns[name] for name in self.outputs.names], schema=arrow_schema(self.outputs))

    def compile_row(self) -> RowPreparation:
        """A function that does to one row what `apply_table` does to a table, with equal results, bit for bit.

        The row has at least the columns of `schema`; others are left out. It raises what `apply_table` raises.
        """
        names, wanted = self.schema.names, self.inputs
        converts = [(place, reader(column.dtype)) for place, column in enumerate(self.schema) if column.name in wanted]
        readers = [(place, convert) for place, convert in converts if convert is not None]
        slots, count = {name: place for place, name in enumerate(names)}, len(names)
        calls: list[tuple[Part, tuple[int, ...]]] = []
        for part in self.parts:
            calls.append((part, tuple(slots[name] for name in part.inputs)))
            slots |= {name: count + place for place, name in enumerate(part.outputs.names)}
            count += len(part.outputs)
        return _row_function(names, readers, calls, [(name, slots[name]) for name in self.outputs.names], self.asked_by)

    def to_data(self) -> dict[str, Any]:
        """As JSON-able data, numbers exactly."""
        return {
            "layout": _LAYOUT,
            "schema": self.schema.to_list(),
            "steps": [
                {"step": _identity(step), "learned": list(learned)}
                for step, learned in zip(self.steps, self.states, strict=True)
            ],
        }

    @classmethod
    def from_data(
        cls, steps: Sequence[Step], data: Mapping[str, Any], *, asked_by: str = "transformations"
    ) -> Prepared:
        """The inverse of `to_data`.

        Args:
            steps: those that were fitted, with their functions.
            data: what `to_data` gave.
            asked_by: whose steps they are, for messages.

        Raises:
            RequestError: other steps were fitted.
            SchemaError, DefinitionError, RefusedError: they cannot be put together here any more.
        """
        kept = data["steps"]
        fitted, given = [item["step"] for item in kept], [_identity(step) for step in steps]
        if data["layout"] != _LAYOUT or fitted != given:
            raise RequestError(
                "other transformations were fitted: compute a training dataset",
                asked_by=asked_by,
                found=", ".join(fitted) or "none",
            )
        return cls.of(steps, Schema.from_list(data["schema"]), [item["learned"] for item in kept], asked_by=asked_by)


def fit(steps: Sequence[Step], table: pa.Table, schema: Schema, *, asked_by: str) -> Prepared:
    """Let steps learn from a training split, one after the other: a later step sees what earlier ones made.

    Args:
        steps: in order.
        table: the training split.
        schema: its columns, in order, which the steps may use.
        asked_by: the view, for messages.

    Raises:
        SchemaError: a step takes a column that is not there; carries the closest.
        DefinitionError, NameCollisionError: a column of a type that a function does not take; two of one name.
        TransformError: there is nothing to learn from, or a user's function failed.
    """
    columns = {column.name: _column_of(table, column, schema, asked_by) for column in schema}
    chain, states = _Chain(schema, asked_by), []
    last = max((number for number, step in enumerate(steps) if learns(step)), default=-1)
    for number, step in enumerate(steps):
        place = chain.place(step)
        parts, learned = [], []
        for names in place.groups():
            learned.append(place.learn(names, [columns[name] for name in names]))
            parts.append(place.bind(names, learned[-1]))
        if number < last:
            for part in parts:
                made = part.columns([columns[name] for name in part.inputs])
                columns |= dict(zip(part.outputs.names, made, strict=True))
        chain.add(parts, place)
        states.append(tuple(learned))
    return Prepared(tuple(steps), schema, tuple(states), chain.schema, tuple(chain.parts), asked_by)


class _Chain:
    """The columns that there are, step after step."""

    def __init__(self, schema: Schema, asked_by: str) -> None:
        self.schema = schema
        self.parts: list[Part] = []
        self._asked_by = asked_by
        self._dropped: frozenset[str] = frozenset()

    def place(self, step: Step) -> Place:
        """The next step, among the columns that there are."""
        return Place(step, self.schema, self._dropped, self._asked_by)

    def add(self, parts: Sequence[Part], place: Place) -> None:
        """Go on behind a step."""
        before, self.schema = self.schema.names, place.after(parts)
        self._dropped |= {name for name in before if name not in self.schema}
        self.parts += parts


def _row_function(
    names: Sequence[str],
    readers: Sequence[tuple[int, Converter]],
    calls: Sequence[tuple[Part, tuple[int, ...]]],
    outputs: Sequence[tuple[str, int]],
    asked_by: str,
) -> RowPreparation:
    """A function on rows: `calls` put what they make behind the values that there are, `outputs` are taken of all."""
    steps = [(part.value, part.row, places, places[0]) for part, places in calls]

    def run(row: Mapping[str, Any]) -> dict[str, Any]:
        try:
            values = [row[name] for name in names]
        except KeyError:
            raise _missing(row, names, asked_by) from None
        for place, convert in readers:
            value = values[place]
            if value is not None:
                try:
                    values[place] = convert(value)
                except (ValueError, TypeError, ArithmeticError) as error:
                    raise _not_of_its_type(names[place], value, asked_by) from error
        for single, several, places, place in steps:
            if single is not None:
                values.append(single(values[place]))
            else:
                values.extend(several([values[number] for number in places]))
        return {name: values[place] for name, place in outputs}

    return run


def _missing(columns: Iterable[str], names: Sequence[str], asked_by: str) -> MissingColumnError:
    found = list(columns)
    name = next(name for name in names if name not in found)
    return MissingColumnError(
        f"column {name!r} is missing, which is to be prepared",
        asked_by=asked_by,
        found=", ".join(found) or "no columns",
        closest=closest_names(name, found),
    )


def _not_of_its_type(name: str, value: Any, asked_by: str) -> ColumnTypeError:
    return ColumnTypeError(
        f"column {name!r} is to be prepared, and its value is not of its type",
        asked_by=asked_by,
        found=f"{value!r:.80} ({type(value).__name__})",
    )


def _column_of(table: pa.Table, column: Column, schema: Schema, asked_by: str) -> pa.ChunkedArray:
    if column.name not in table.column_names:
        raise _missing(table.column_names, schema.names, asked_by)
    return conform_column(table.column(column.name), column, what="what is to be prepared")


def _parts_of(step: Step) -> int:
    """How many parts a step has."""
    return 1 if step.transformation is not None or function_of(step).together else len(step.inputs)


def _identity(step: Step) -> str:
    """What a step is, for telling it from others."""
    code = "" if step.transformation is None else f" [{step.transformation.code_hash}]"
    return f"{step}{', kept' if step.keep else ''}{code}"
