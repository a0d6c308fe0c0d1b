"""The catalogue of ready functions that prepare features for a model: what there is, and how it may be called.

`grange.definitions.preparing` makes steps of them, `grange.preparing` computes them.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from grange.definitions.transformations import Step
from grange.errors import DefinitionError, closest_names

Takes = Literal["numbers", "categories", "any"]
"""Types of columns: numbers (booleans are 0 and 1); what can be a join key (PIT-4); every simple type."""

_WORDS: Final[dict[str, str]] = {
    "boolean": "true or false",
    "integer": "an integer",
    "number": "a number",
    "value": "a value",
    "values": "a list of values",
    "numbers": "a list of numbers",
    "text": "text",
    "none": "none",
}


@dataclass(frozen=True, slots=True)
class Parameter:
    """A setting of a function."""

    name: str
    kinds: tuple[str, ...]
    """What it may be: boolean, integer, number, value, values, numbers, text, none."""
    default: Any
    description: str
    choices: tuple[Any, ...] = ()
    """Words that it may be, besides `kinds`."""

    @property
    def type(self) -> str:
        """What it may be, in words: `'uniform' or 'normal'`."""
        return " or ".join([*map(repr, self.choices), *(_WORDS[kind] for kind in self.kinds)])

    def accepts(self, value: Any) -> bool:
        """Whether it may be this."""
        worded = any(type(value) is type(choice) and value == choice for choice in self.choices)
        return worded or any(_KINDS[kind](value) for kind in self.kinds)


@dataclass(frozen=True, slots=True)
class Function:
    """A ready function: its name, what it does, and how it may be called."""

    name: str
    description: str
    takes: Takes
    gives: str
    """Type and name of its outputs, in words."""
    parameters: tuple[Parameter, ...] = ()
    check: Callable[[Mapping[str, Any]], str | None] = lambda given: None
    """What is wrong with parameters that are fine one by one."""
    learns_with: Callable[[Mapping[str, Any]], bool] = lambda given: True
    """Whether it learns something from training data, with such parameters."""
    together: bool = False
    """Whether it takes its columns together, instead of each by itself."""

    @property
    def learns(self) -> bool:
        """Whether it learns something from training data, unless it is told."""
        return self.learns_with({item.name: item.default for item in self.parameters})


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _is_value(value: Any) -> bool:
    return isinstance(value, str | bool) or _is_number(value)


_KINDS: Final[dict[str, Callable[[Any], bool]]] = {
    "boolean": lambda value: isinstance(value, bool),
    "integer": lambda value: type(value) is int,
    "number": _is_number,
    "value": _is_value,
    "values": lambda value: isinstance(value, tuple) and bool(value) and all(map(_is_value, value)),
    "numbers": lambda value: isinstance(value, tuple) and all(map(_is_number, value)),
    "text": lambda value: isinstance(value, str),
    "none": lambda value: value is None,
}


_Check = Callable[[Mapping[str, Any]], str | None]
"""What is wrong with some parameters together; None when nothing is."""


def _ordered(low: str, high: str, least: float = -math.inf, most: float = math.inf) -> _Check:
    """A check that one parameter lies below another, both within bounds."""

    def check(given: Mapping[str, Any]) -> str | None:
        if least <= given[low] < given[high] <= most:
            return None
        within = "" if math.isinf(least) else f" between {least:g} and {most:g}"
        return f"{low} must be less than {high}{within}"

    return check


def _at_least(name: str, least: int) -> _Check:
    return lambda given: f"{name} must be at least {least}" if given[name] < least else None


def _check_categories(given: Mapping[str, Any]) -> str | None:
    known = given["categories"]
    return "categories names one twice" if known is not None and len(set(known)) < len(known) else None


def _check_one_hot(given: Mapping[str, Any]) -> str | None:
    if given["max_categories"] is not None and given["max_categories"] < 2:
        return "max_categories must be at least 2: one category and the others"
    if given["max_categories"] is not None and given["categories"] is not None:
        return "max_categories cuts what is learned, and categories are told"
    return _check_categories(given)


def _check_impute(given: Mapping[str, Any]) -> str | None:
    if (given["strategy"] == "constant") == (given["value"] is None):
        return "value goes with strategy 'constant', which needs one"
    return None


def _check_bin(given: Mapping[str, Any]) -> str | None:
    edges = given["edges"]
    if edges is None:
        return "bins must be at least 2" if given["bins"] < 2 else None
    rising = all(low < high for low, high in itertools.pairwise(edges))
    return None if len(edges) > 2 and rising else "edges must be at least three rising numbers: two bins"


_CATEGORIES: Final = Parameter(
    "categories", ("values", "none"), None, "the categories in order, instead of learned ones"
)

FUNCTIONS: Final[Mapping[str, Function]] = {
    item.name: item
    for item in (
        Function(
            "standard_scaler",
            "scale to mean 0 and standard deviation 1",
            "numbers",
            "float64, the column's name",
            (
                Parameter("with_mean", ("boolean",), True, "subtract the mean"),
                Parameter("with_std", ("boolean",), True, "divide by the standard deviation (ddof 0)"),
            ),
        ),
        Function(
            "min_max_scaler",
            "scale so that the least value is `low` and the greatest `high`",
            "numbers",
            "float64, the column's name",
            (
                Parameter("low", ("number",), 0, "what the least value becomes"),
                Parameter("high", ("number",), 1, "what the greatest value becomes"),
                Parameter("clip", ("boolean",), False, "keep later values within low and high"),
            ),
            _ordered("low", "high"),
        ),
        Function(
            "robust_scaler",
            "subtract the median and divide by the distance of two percentiles",
            "numbers",
            "float64, the column's name",
            (
                Parameter("low", ("number",), 25, "the lower percentile"),
                Parameter("high", ("number",), 75, "the upper percentile"),
            ),
            _ordered("low", "high", 0, 100),
        ),
        Function(
            "quantile_scaler",
            "replace by the rank among the training values, spread evenly or normally",
            "numbers",
            "float64, the column's name",
            (
                Parameter("quantiles", ("integer",), 1000, "how many quantiles are learned, at most one per value"),
                Parameter("distribution", (), "uniform", "of the outputs", ("uniform", "normal")),
            ),
            _at_least("quantiles", 2),
        ),
        Function(
            "label_encoder",
            "number the categories from 0, sorted; one that was never seen is an error",
            "categories",
            "int64, the column's name",
        ),
        Function(
            "ordinal_encoder",
            "number the categories from 0, in their order",
            "categories",
            "int64, the column's name",
            (
                _CATEGORIES,
                Parameter(
                    "unknown", ("integer",), "error", "what a category that was never seen becomes", ("error", "null")
                ),
            ),
            _check_categories,
            lambda given: given["categories"] is None,
        ),
        Function(
            "one_hot_encoder",
            "a column of 0 and 1 per category",
            "categories",
            "int8, {column}__{category} each",
            (
                _CATEGORIES,
                Parameter(
                    "max_categories", ("integer", "none"), None, "columns at most: the most frequent and `other`"
                ),
                Parameter(
                    "unknown",
                    (),
                    "ignore",
                    "a category that was never seen gives 0 in all columns, or is an error",
                    ("ignore", "error"),
                ),
            ),
            _check_one_hot,
            lambda given: given["categories"] is None,
        ),
        Function(
            "impute",
            "fill nulls and NaN in",
            "any",
            "the column's name; float64 with mean and median, else the column's type",
            (
                Parameter("strategy", (), "mean", "what fills in", ("mean", "median", "most_frequent", "constant")),
                Parameter("value", ("value", "none"), None, "what fills in, with strategy 'constant'"),
                Parameter(
                    "indicator", ("boolean",), False, "add {column}__missing, int8: 1 where something was filled in"
                ),
            ),
            _check_impute,
            lambda given: given["strategy"] != "constant",
        ),
        Function(
            "bin",
            "number of the bin from 0; what lies outside is in the first or last bin",
            "numbers",
            "int64, the column's name; NaN is null",
            (
                Parameter("bins", ("integer",), 10, "how many"),
                Parameter(
                    "strategy", (), "quantile", "bins of equally many values, or equally wide", ("quantile", "uniform")
                ),
                Parameter("edges", ("numbers", "none"), None, "where bins begin and end, instead of learned edges"),
            ),
            _check_bin,
            lambda given: given["edges"] is None,
        ),
        Function(
            "winsorize",
            "pull values beyond two quantiles back to them",
            "numbers",
            "float64, the column's name",
            (
                Parameter("low", ("number",), 0.01, "the lower quantile"),
                Parameter("high", ("number",), 0.99, "the upper quantile"),
            ),
            _ordered("low", "high", 0, 1),
        ),
        Function(
            "log",
            "logarithm; of zero -inf, of less NaN",
            "numbers",
            "float64, the column's name",
            (
                Parameter("offset", (), 0, "added first", (0, 1)),
                Parameter("base", (), "e", "of the logarithm", ("e", "2", "10")),
            ),
            learns_with=lambda given: False,
        ),
        Function(
            "hash_buckets",
            "a bucket from 0, by a hash that is the same in every process",
            "categories",
            "int64, the column's name",
            (
                Parameter("buckets", ("integer",), 1000, "how many"),
                Parameter("seed", ("integer",), 0, "another seed gives other buckets"),
            ),
            _at_least("buckets", 1),
            lambda given: False,
        ),
        Function(
            "sklearn",
            "a scikit-learn transformer on all columns together",
            "any",
            "float64, the transformer's names",
            (
                Parameter(
                    "transformer", ("text",), "", "the transformer as JSON: gr.sklearn(transformer, columns) writes it"
                ),
            ),
            lambda given: None if given["transformer"] else "only Python can say which transformer: gr.sklearn(...)",
            together=True,
        ),
    )
}
"""By name. Defaults never change: a step keeps only what differs from them."""


def function_of(step: Step) -> Function:
    """The ready function of a step.

    Raises:
        DefinitionError: there is none of this name; carries the closest.
    """
    return _function(step.function)


def parameters_of(step: Step) -> dict[str, Any]:
    """All settings of a step of a ready function, checked, with defaults.

    Raises:
        DefinitionError: no such function or setting (carries the closest), or a value that it cannot have.
    """
    function = function_of(step)
    known = {item.name: item for item in function.parameters}
    for name, value in step.parameters:
        if name not in known:
            raise DefinitionError(
                f"{step.function} has no parameter {name!r}",
                found=", ".join(known) or "no parameters",
                closest=closest_names(name, known),
            )
        if not known[name].accepts(value):
            raise DefinitionError(f"{step.function}: {name} must be {known[name].type}", found=repr(value))
    given = {name: item.default for name, item in known.items()} | dict(step.parameters)
    wrong = function.check(given)
    if wrong is not None:
        raise DefinitionError(f"{step.function}: {wrong}", found=", ".join(f"{k}={v!r}" for k, v in step.parameters))
    return given


def learns(step: Step) -> bool:
    """Whether a step learns something from training data."""
    if step.transformation is not None:
        return step.transformation.is_fitted
    return function_of(step).learns_with(parameters_of(step))


def check_step(step: Step) -> Step:
    """A step of a ready function, checked as far as it can be before its columns are known.

    Raises:
        DefinitionError: as `parameters_of`; no columns, one twice, or not one output per column.
    """
    function = function_of(step)
    parameters_of(step)
    if not step.inputs:
        raise DefinitionError(f"{step.function} needs columns", try_=f"{step.function}('amount')")
    if len(set(step.inputs)) < len(step.inputs):
        raise DefinitionError(f"{step.function} names a column twice", found=", ".join(step.inputs))
    if step.outputs and not function.together and len(step.outputs) != len(step.inputs):
        raise DefinitionError(
            f"{step.function} needs a name per column: {', '.join(step.inputs)}", found=", ".join(step.outputs)
        )
    return step


def _function(name: str) -> Function:
    found = FUNCTIONS.get(name)
    if found is None:
        raise DefinitionError(
            f"no function is called {name!r}",
            found=", ".join(FUNCTIONS),
            closest=closest_names(name, FUNCTIONS),
            try_="grange transformation list",
        )
    return found
