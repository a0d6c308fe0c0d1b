"""Columns of numbers as float64 arrays, and functions on them: for a column and for one value by the same arithmetic.

Additions, multiplications and divisions of float64 are rounded alike by NumPy and by Python (IEEE 754), so a formula
of these has equal results for an array and a float. What is more than that says how it makes sure.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from grange.preparing.bound import FLOAT, Bound
from grange.preparing.subject import Subject
from grange.types.dtypes import DataType

Array = np.ndarray[Any, Any]


def is_number(dtype: DataType) -> bool:
    """Whether values of a type can be computed with; booleans are 0 and 1."""
    return dtype.is_integer or dtype.is_float or dtype.kind in ("boolean", "decimal")


def check_number(subject: Subject) -> None:
    """Refuse a column of anything else."""
    if not is_number(subject.dtype):
        raise subject.wrong_type("numbers", "gr.ordinal_encoder or gr.one_hot_encoder make numbers of categories")


def floats(column: pa.ChunkedArray, dtype: DataType) -> Array:
    """A column's numbers, nulls as NaN."""
    if dtype.kind == "decimal":  # Arrow rounds some of them otherwise than Python
        return np.array([math.nan if value is None else float(value) for value in column.to_pylist()], np.float64)
    found: Array = column.cast(pa.float64(), safe=False).to_numpy()
    return found


def sample(column: pa.ChunkedArray, subject: Subject, *, infinite: bool = False) -> Array:
    """The numbers to learn from: neither null nor NaN.

    Args:
        column: of training data.
        subject: what learns from it.
        infinite: leave infinities out too, instead of refusing them.

    Raises:
        TransformError: there are none, or an infinity among them.
    """
    check_number(subject)
    values = floats(column.drop_null(), subject.dtype)
    values = values[np.isfinite(values) if infinite else ~np.isnan(values)]
    if not len(values):
        raise subject.cannot_learn("it has no values there", try_="leave it out of the view, or train on more rows")
    if not infinite and not np.isfinite(values).all():
        raise subject.cannot_learn(
            "it has infinite values", try_=f"gr.winsorize({subject.column!r}) first, which pulls them back"
        )
    return values


def over_numbers(subject: Subject, array: Callable[[Array], Array], value: Callable[[float], float]) -> Bound:
    """A function from numbers to float64; nulls stay null."""
    check_number(subject)
    dtype = subject.dtype

    def columns(column: pa.ChunkedArray) -> list[pa.ChunkedArray]:
        with np.errstate(all="ignore"):
            made = array(floats(column, dtype))
        return [with_nulls(made, column)]

    def of_float(given: Any) -> Any:
        return None if given is None else value(given)

    def of_other(given: Any) -> Any:
        return None if given is None else value(float(given))

    return Bound((("", FLOAT),), columns, of_float if dtype.is_float else of_other)


def same_formula(subject: Subject, formula: Callable[[Any], Any]) -> Bound:
    """A function whose formula is sums, products and quotients alone: it is the same for an array and a float."""
    return over_numbers(subject, formula, formula)


def with_nulls(made: Array, column: pa.ChunkedArray) -> pa.ChunkedArray:
    """An array as a column with the nulls of another."""
    mask = pc.is_null(column).to_numpy() if column.null_count else None
    return pa.chunked_array([pa.array(made, mask=mask)])


def within(low: float, high: float) -> tuple[Callable[[Array], Array], Callable[[float], float]]:
    """Numbers pulled back between two, for arrays and for floats. NaN stays NaN, and -0.0 is not less than 0."""

    def array(values: Array) -> Array:
        return np.where(values < low, low, np.where(values > high, high, values))

    def value(given: float) -> float:
        return low if given < low else high if given > high else given

    return array, value


def scale_of(distance: float) -> float:
    """What to divide by: the distance, or 1 where values are equal but for rounding, as scikit-learn has it."""
    return 1.0 if distance < 10 * np.finfo(np.float64).eps else distance
