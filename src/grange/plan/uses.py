"""What a view's filter, helpers and model-dependent transformations use of its columns, as far as definitions say.
Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from grange.definitions.transformations import Step
from grange.errors import DefinitionError, NameCollisionError, closest_names
from grange.plan.bound import Bound
from grange.types import Schema


def check_condition(asked_by: str, condition: str, bound: Bound) -> None:
    """Check a filter whose columns are all known. One that the spine brings is known when there is one.

    Raises:
        DefinitionError: its columns are of other types than it takes.
    """
    if not condition:
        return
    from grange.definitions.expressions import expression_dtype, parse_condition

    parsed = parse_condition(condition, what=f"{asked_by}: filter")
    known = {name: dtype for name, (_, dtype) in bound.names.items()}
    for selection in bound.selections:
        known |= {column: selection.layout.schema[key] for column, key in selection.keys}
    if all(column in known for column in parsed.columns):
        expression_dtype(parsed, Schema.of((column, known[column]) for column in parsed.columns))


def check_steps(asked_by: str, steps: Sequence[Step], bound: Bound) -> None:
    """Check that what prepares features for a model takes features that there are.

    Raises:
        DefinitionError: a step takes a column that is no feature, with the closest; or a label or helper.
    """
    known = [name for name, role in bound.columns.items() if role == "feature"]
    chosen: list[str] = []  # columns whose outputs only the function names: `country` gives `country__FR`
    for step in steps:
        for column in step.inputs:
            if column not in known and not _may_be_made(column, chosen):
                raise DefinitionError(
                    f"transformation {step.function!r} takes {column!r}, which is no feature that a model takes",
                    asked_by=asked_by,
                    found=f"a {bound.columns[column]}".replace("_", " ")
                    if column in bound.columns
                    else ", ".join(known),
                    closest=closest_names(column, known),
                )
        known += step.output_names
        if not step.output_names:
            chosen += step.inputs


def check_outputs(asked_by: str, steps: Sequence[Step], taken: Mapping[str, str]) -> None:
    """Check that what prepares features for a model takes the place of nothing but features.

    Args:
        asked_by: what asks, for messages.
        steps: what prepares the features. Names that only a function gives its outputs are not known here.
        taken: by name of another column, what it is: `a label`.

    Raises:
        NameCollisionError: an output has the name of another column.
    """
    for step in steps:
        for name in step.output_names:
            if name in taken:
                raise NameCollisionError(
                    f"transformation {step.function!r} makes {name!r}, which is the name of {taken[name]}",
                    asked_by=asked_by,
                    found=str(step),
                    try_=f"another name: outputs=['{name}_prepared']",
                )


def check_helpers(asked_by: str, training: Iterable[str], inference: Iterable[str], keys: Iterable[str]) -> None:
    """Check that a helper is nothing else besides.

    Args:
        asked_by: what asks, for messages.
        training: the columns that are helpers of training data.
        inference: those that are helpers of vectors; training data has them too.
        keys: the columns with join keys.

    Raises:
        DefinitionError: a column is both kinds of helper, or a helper and a join key.
    """
    training, inference, keys = (tuple(names) for names in (training, inference, keys))
    for name in training:
        if name in inference:
            raise DefinitionError(
                f"{name!r} is both a training helper and an inference helper",
                asked_by=asked_by,
                try_="inference_helpers alone: training data has these too",
            )
    for name in (*training, *inference):
        if name in keys:
            raise DefinitionError(
                f"{name!r} is both a helper and a join key",
                asked_by=asked_by,
                try_="leave it out of the helpers: join keys are in training data and vectors, and no model takes them",
            )


def _may_be_made(column: str, chosen: Iterable[str]) -> bool:
    """Whether a function that names its outputs itself may have made a column of one of these."""
    return any(column.startswith(name) for name in chosen)


__all__ = ["check_condition", "check_helpers", "check_outputs", "check_steps"]
