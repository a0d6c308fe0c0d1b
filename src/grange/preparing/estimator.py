"""sklearn: a scikit-learn transformer on several columns together.

It is handed a float64 matrix when all columns are numbers, else an object matrix of values. Where it can have NaN (its
`allow_nan` tag) nulls are NaN, and its NaN for a row with a null is null; else rows with a null or NaN are not shown to
it, and its outputs for them are null or NaN. What it learned is kept by `skops`, which stores data and no code; types
that are not scikit-learn's, SciPy's or NumPy's own are not loaded.

Linear algebra rounds the product of a matrix and a vector otherwise than that of two matrices, so it is never handed
one row alone: a row is doubled. Beyond that, results of a row and a table are as equal as its libraries make them.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa

from grange.definitions.estimators import estimator_of
from grange.definitions.preparing import parameters_of
from grange.definitions.transformations import Step
from grange.errors import DefinitionError, RefusedError, TransformError
from grange.frames import require
from grange.preparing.bound import FLOAT
from grange.preparing.numbers import Array, floats, is_number
from grange.transforming.failures import first_line
from grange.transforming.values import python_values
from grange.types.names import RESERVED_PREFIX
from grange.types.schema import Column, Schema

_BLOCK: Final = 65_536
"""Rows that it is handed at once."""
_HARMLESS: Final = frozenset(
    ("numpy.dtype", "scipy.interpolate._bsplines.BSpline", "scipy._lib.array_api_compat.numpy._aliases.asarray")
)
"""Types of NumPy and SciPy that transformers keep, and that `skops` does not know as such."""
_COMPLEX: Final = ("list", "struct")

Columns = Sequence[pa.ChunkedArray]


@dataclass(frozen=True, slots=True)
class Together:
    """A step, the columns that it takes, and who asked for it."""

    step: Step
    inputs: Schema
    asked_by: str

    @property
    def numeric(self) -> bool:
        """Whether all columns are numbers."""
        return all(is_number(column.dtype) for column in self.inputs)

    def failed(self, doing: str, error: Exception) -> TransformError:
        """What scikit-learn refused to do."""
        return TransformError(
            f"{self._name()} could not {doing} columns {', '.join(self.inputs.names)}: {first_line(error)}",
            asked_by=self.asked_by,
            details={"function": "sklearn", "columns": list(self.inputs.names)},
        )

    def new(self) -> Any:
        """The transformer, not yet fitted."""
        return estimator_of(json.loads(parameters_of(self.step)["transformer"]))

    def _name(self) -> str:
        return str(json.loads(parameters_of(self.step)["transformer"])["class"])


def fit(columns: Columns, task: Together) -> dict[str, Any]:
    """Fit the transformer to some columns together."""
    _check_types(task)
    skops = require("skops.io", extra="sklearn")
    transformer = task.new()
    matrix = _matrix(columns, task)
    shown = matrix[_shown(matrix, _allows_nan(transformer))]
    if not len(shown):
        raise task.failed("be fitted to", ValueError("every row has a null or NaN"))
    try:
        transformer.fit(shown)
        width = _dense(transformer.transform(shown[:2])).shape[1]
    except (ValueError, TypeError, ArithmeticError, AttributeError, np.linalg.LinAlgError) as error:
        raise task.failed("be fitted to", error) from error
    return {
        "names": _names(transformer, task, width),
        "library": f"scikit-learn {require('sklearn', extra='sklearn').__version__}",
        "skops": base64.b64encode(skops.dumps(transformer)).decode(),
    }


def load(learned: Any, task: Together) -> Any:
    """The fitted transformer.

    Raises:
        RefusedError: what was kept has types that are not scikit-learn's, SciPy's or NumPy's own.
    """
    skops = require("skops.io", extra="sklearn")
    data = base64.b64decode(learned["skops"])
    foreign = [name for name in skops.get_untrusted_types(data=data) if name not in _HARMLESS]
    if foreign:
        raise RefusedError(
            "what a scikit-learn transformer learned has types that are not loaded: only those of scikit-learn itself",
            asked_by=task.asked_by,
            found=", ".join(foreign),
        )
    transformer = skops.loads(data, trusted=sorted(_HARMLESS))
    if type(transformer) is not type(task.new()):
        raise RefusedError(
            "what a scikit-learn transformer learned is of another transformer",
            asked_by=task.asked_by,
            found=type(transformer).__name__,
        )
    return transformer


def outputs(learned: Any, task: Together) -> Schema:
    """Names and types of the outputs.

    Raises:
        DefinitionError: not one name per output, where they are given.
    """
    names: list[str] = learned["names"]
    own = task.step.outputs
    if own and len(own) != len(names):
        raise DefinitionError(
            f"sklearn gives {len(names)} outputs, and {len(own)} names are given: {', '.join(own)}",
            asked_by=task.asked_by,
            found=", ".join(names),
        )
    return Schema(tuple(Column(name, FLOAT) for name in own or names))


def on_columns(
    transformer: Any, width: int, task: Together
) -> Callable[[Sequence[pa.ChunkedArray]], list[pa.ChunkedArray]]:
    """A function from whole columns to outputs."""
    allow_nan = _allows_nan(transformer)

    def run(columns: Columns) -> list[pa.ChunkedArray]:
        matrix = _matrix(columns, task)
        made = np.full((len(matrix), width), np.nan)
        rows = np.flatnonzero(_shown(matrix, allow_nan))
        for some in np.array_split(rows, -(-len(rows) // _BLOCK)) if len(rows) else ():
            made[some] = _transformed(transformer, matrix[some], task)
        null = np.logical_or.reduce([column.is_null().to_numpy() for column in columns])
        return [pa.chunked_array([pa.array(one, mask=null & np.isnan(one))]) for one in np.ascontiguousarray(made.T)]

    return run


def on_row(transformer: Any, width: int, task: Together) -> Callable[[Sequence[Any]], tuple[Any, ...]]:
    """A function from one row's canonical values to its outputs: what `on_columns` gives for it.

    Its time is scikit-learn's, which checks what it is handed anew for each row.
    """
    kind, allow_nan = np.float64 if task.numeric else object, _allows_nan(transformer)
    fill = np.nan if task.numeric else None
    nothing: tuple[None, ...] = (None,) * width
    missing = (float("nan"),) * width

    def run(values: Sequence[Any]) -> tuple[Any, ...]:
        null = None in values
        if not allow_nan and (null or any(value != value for value in values)):
            return nothing if null else missing
        matrix = np.empty((2, len(values)), kind)
        matrix[:] = [fill if value is None else value for value in values] if null else values
        made = _transformed(transformer, matrix, task)[0].tolist()
        return tuple([None if null and value != value else value for value in made])

    return run


def _transformed(transformer: Any, matrix: Array, task: Together) -> Array:
    rows = len(matrix)
    try:
        made = _dense(transformer.transform(matrix if rows > 1 else np.repeat(matrix, 2, axis=0)))
        return made[:rows].astype(np.float64, copy=False)
    except (ValueError, TypeError, ArithmeticError) as error:
        raise task.failed("transform", error) from error


def _dense(made: Any) -> Array:
    return np.asarray(made.toarray() if hasattr(made, "toarray") else made)


def _matrix(columns: Columns, task: Together) -> Array:
    """Columns side by side."""
    pairs = zip(columns, task.inputs, strict=True)
    if task.numeric:
        return np.column_stack([floats(column, item.dtype) for column, item in pairs])
    matrix = np.empty((len(columns[0]), len(columns)), object)
    for place, (column, item) in enumerate(pairs):
        matrix[:, place] = python_values(column, item.dtype)
    return matrix


def _shown(matrix: Array, allow_nan: bool) -> Array:
    """Which rows the transformer sees."""
    if allow_nan:
        return np.ones(len(matrix), np.bool_)
    if matrix.dtype != object:
        whole_rows: Array = np.logical_not(np.logical_or.reduce(np.isnan(matrix), axis=1))
        return whole_rows
    whole = (not any(value is None or value != value for value in row) for row in matrix.tolist())
    return np.fromiter(whole, np.bool_, len(matrix))


def _allows_nan(transformer: Any) -> bool:
    return bool(transformer.__sklearn_tags__().input_tags.allow_nan)


def _check_types(task: Together) -> None:
    for column in task.inputs:
        if column.dtype.kind in _COMPLEX:
            raise DefinitionError(
                f"sklearn takes numbers and text, and column {column.name!r} is {column.dtype}", asked_by=task.asked_by
            )


def _names(transformer: Any, task: Together, width: int) -> list[str]:
    """Safe names of the outputs, which differ."""
    if hasattr(transformer, "get_feature_names_out"):
        given = [str(name) for name in transformer.get_feature_names_out(np.array(task.inputs.names, object))]
    else:
        given = [f"{type(transformer).__name__.lower()}{place}" for place in range(width)]
    made: dict[str, None] = {}
    for text in given:
        name = start = re.sub(r"[^\w ]", "_", text).removeprefix(RESERVED_PREFIX) or "output"
        number = 1
        while name in made:
            number += 1
            name = f"{start}_{number}"
        made[name] = None
    return list(made)
