"""Column lineage of transformation steps: which of its inputs each output is made of. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from grange.definitions.ready_functions import FUNCTIONS
from grange.definitions.transformations import Step
from grange.lineage.dependence import Dependence, Dependences, of_expression
from grange.lineage.graph import ANY


def step_outputs(step: Step) -> Mapping[str, Dependences]:
    """By output of a step, in order, what it is made of among the step's inputs.

    SQL says so for each output; of a Python function every declared input counts. Grange's own functions treat each
    column by itself. Outputs whose names are only known once the step was fitted are one: `country__*`, or `*`.
    """
    own = step.transformation
    if own is None:
        return _own_outputs(step)
    if own.mode == "sql":
        return _sql_outputs(step)
    made_of = frozenset(Dependence(column, "transformation") for column in step.inputs)
    return dict.fromkeys(step.output_names, made_of)


def _sql_outputs(step: Step) -> Mapping[str, Dependences]:
    from grange.definitions.expressions import parse_expression  # a parser that others do without

    assert step.transformation is not None
    known: dict[str, Dependences] = {
        name: frozenset({Dependence(column)})
        for name, column in zip(step.transformation.inputs, step.inputs, strict=True)
    }
    for name, text in step.transformation.sql:
        expression = parse_expression(text, what=f"transformation {step.function!r}: {name!r}")
        known[name] = frozenset(
            inner.through(outer.how) for outer in of_expression(expression) for inner in known.get(outer.column, ())
        )
    made = (known[name] for name, _ in step.transformation.sql)
    return dict(zip(step.output_names, made, strict=True))


def _own_outputs(step: Step) -> Mapping[str, Dependences]:
    names = step.outputs or step.inputs
    each = [frozenset({Dependence(column, "transformation")}) for column in step.inputs]
    known = FUNCTIONS.get(step.function)
    if known is not None and known.together:
        return dict.fromkeys(step.outputs or (ANY,), frozenset().union(*each))
    if step.function == "one_hot_encoder":
        names = tuple(f"{name}__{ANY}" for name in names)
    made = dict(zip(names, each, strict=True))
    if step.function == "impute" and dict(step.parameters).get("indicator"):
        made |= {f"{name}__missing": made_of for name, made_of in zip(names, each, strict=True)}
    return made
