"""On-demand features: what a transformation makes when features are asked for, and what it is made of. Pure.

A step's inputs are columns of its surroundings: of a feature group its features, of a view the view's. Those that the
transformation says are of the request come with each request instead, under the name that the step has for them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace

from grange.definitions.feature_group import FeatureGroup
from grange.definitions.transformations import Step, Transformation
from grange.errors import DefinitionError, closest_names
from grange.types import DataType, Schema
from grange.types.schema import Column


def function_of(step: Step) -> Transformation:
    """The transformation of an on-demand step, which always has one."""
    assert step.transformation is not None, "check_on_demand refuses others"
    return step.transformation


def requested(step: Step) -> Schema:
    """The columns that each request must bring for a step, under the names that they have there."""
    own = function_of(step)
    pairs = zip(own.inputs, step.inputs, strict=True)
    return Schema.of({column: own.requests[name] for name, column in pairs if name in own.requests})


def taken_inputs(step: Step) -> tuple[str, ...]:
    """The columns that a step takes of its surroundings: those that the request does not bring."""
    brought = requested(step)
    return tuple(column for column in step.inputs if column not in brought)


def output_types(item: Transformation, types: Sequence[DataType]) -> Schema:
    """What a transformation makes of inputs of some types. SQL whose type is not declared has that of its expression,
    which may use the outputs before it.

    Raises:
        SchemaError, DefinitionError: SQL that does not go together with inputs of these types.
    """
    if item.mode != "sql":
        return item.outputs
    from grange.definitions.expressions import derived_schema, parse_expression  # a parser that others do without

    what = f"transformation {item.name!r}"
    expressions = {name: parse_expression(text, what=f"{what}: {name!r}") for name, text in item.sql}
    found = derived_schema(expressions, Schema.of(zip(item.inputs, types, strict=True)))
    return Schema.of((column.name, item.outputs.get(column.name) or column.dtype) for column in found)


def outputs_of(step: Step, types: Sequence[DataType]) -> Schema:
    """What a step makes of inputs of some types, under the names that it has there. Raises as `output_types`."""
    made = output_types(function_of(step), types)
    return Schema.of(zip(step.output_names, (column.dtype for column in made), strict=True))


def made_on_demand(group: FeatureGroup) -> Mapping[str, Step]:
    """By name, the on-demand features of a group, each with its step."""
    return {name: step for step in group.on_demand for name in step.output_names}


def offered(group: FeatureGroup) -> Schema:
    """The features of a group as views take them: those that are stored, then those that are made on demand.

    Raises:
        DefinitionError: as `check_group_steps`.
    """
    return group.remembered("offered", lambda: _offered(group))


def _offered(group: FeatureGroup) -> Schema:
    known = group.features()
    return Schema((*known.columns, *on_demand_schema(group, known).columns)) if group.on_demand else known


def on_demand_schema(group: FeatureGroup, stored: Schema) -> Schema:
    """The on-demand features of a group over some of its stored columns.

    Raises:
        DefinitionError: a step takes what is no feature of the group and no request column; SQL over other types.
    """
    known = {column.name: column.dtype for column in stored}
    made: list[Column] = []
    for step in group.on_demand:
        brought = requested(step)
        types = [brought.get(column) or _known(group, step, column, known) for column in step.inputs]
        outputs = outputs_of(step, types)
        known |= {column.name: column.dtype for column in outputs}
        made += [replace(column, description=f"on demand: {step}") for column in outputs]
    return Schema(tuple(made))


def check_group_steps(group: FeatureGroup) -> None:
    """Check the on-demand features of a group whose schema is fixed.

    Raises:
        DefinitionError: one has the name of another column; its step takes what is no feature of the group before it
            and no request column, or SQL does not fit the types of these.
    """
    stored = group.features()
    for name in made_on_demand(group):
        if name in stored or name in group.schema:
            raise DefinitionError(
                f"feature group {group.name!r}: on-demand feature {name!r} has the name of another column",
                try_="outputs=[...] in .on(...) of the transformation, or drop the column in the transform",
            )
    on_demand_schema(group, stored)


def steps_for(group: FeatureGroup, names: Iterable[str]) -> tuple[Step, ...]:
    """The steps that make some on-demand features of a group, with those that these need, in order."""
    made = made_on_demand(group)
    wanted: set[str] = set(names)
    chosen: list[Step] = []
    for step in reversed(group.on_demand):
        if not wanted.isdisjoint(step.output_names):
            chosen.append(step)
            wanted.update(column for column in taken_inputs(step) if column in made)
    return tuple(reversed(chosen))


def stored_inputs(group: FeatureGroup, feature: str) -> tuple[str, ...]:
    """The stored features that a feature of a group is made of; itself, when it is stored."""
    made = made_on_demand(group)
    if feature not in made:
        return (feature,)
    columns = (column for step in steps_for(group, [feature]) for column in taken_inputs(step))
    return tuple(dict.fromkeys(column for column in columns if column not in made))


def made_of(group: FeatureGroup, columns: Collection[str]) -> frozenset[str]:
    """The on-demand features of a group that tell about some of its stored features."""
    if not columns:
        return frozenset()
    return frozenset(name for name in made_on_demand(group) if not set(columns).isdisjoint(stored_inputs(group, name)))


def _known(group: FeatureGroup, step: Step, column: str, known: Mapping[str, DataType]) -> DataType:
    if column in known:
        return known[column]
    raise DefinitionError(
        f"feature group {group.name!r}: on-demand transformation {step.function!r} takes {column!r}, which is no "
        "feature of the group before it and no request column",
        found=", ".join(known),
        closest=closest_names(column, known),
        try_=f"{step.function}.on(...) with other columns, or requests={{{column!r}: ...}} in the transformation",
    )


__all__ = [
    "check_group_steps",
    "function_of",
    "made_of",
    "made_on_demand",
    "offered",
    "on_demand_schema",
    "output_types",
    "outputs_of",
    "requested",
    "steps_for",
    "stored_inputs",
    "taken_inputs",
]
