"""Rows by themselves: a function on arrays must give a row what it gives it among others, for online it is alone.

A mean of the column, a sort or a shift would be computed of the whole history offline and of one row online. Nothing
but running it can tell, so some rows of every table are run alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa

from grange.errors import TransformError
from grange.transforming.arrays import Hand
from grange.transforming.calls import Shown, on_one_array_row
from grange.transforming.failures import Blame
from grange.transforming.values import python_values
from grange.types.schema import Schema

_TRIED: Final = 8
"""Rows that are run alone: the first, the last, and some between, evenly."""
_TOLERANCE: Final = 1e-9
"""Relative difference of floats that are equal: libraries may round a vector otherwise than a number (ONL-1)."""
_SINGLE_TOLERANCE: Final = 1e-6
"""The same where a float32 is computed with."""
_NOTHING: Final = 1e-12
"""What may be left of a difference of equal numbers."""


def check_alone(
    function: Callable[..., Any],
    hands: Sequence[Hand],
    shown: Shown,
    outputs: Schema,
    made: Sequence[pa.ChunkedArray],
    blame: Blame,
) -> None:
    """Compare some rows of a table's outputs with what the function gives for each of them alone (ONL-1).

    Raises:
        TransformError: they differ, or it fails with a row alone.
    """
    if len(shown) == 1:
        return
    alone = on_one_array_row(function, (None,) * len(hands), hands, outputs, blame)
    single = any("float32" in str(dtype) for dtype in (*shown.types, *(column.dtype for column in outputs)))
    tolerance = _SINGLE_TOLERANCE if single else _TOLERANCE
    for place in np.unique(np.linspace(0, len(shown) - 1, _TRIED).astype(np.int64)).tolist():
        inputs = shown.inputs(place)
        try:
            found = alone(inputs)
        except TransformError as error:
            raise blame.fails_alone(error, shown.row(place), inputs) from error
        for column, values, value in zip(outputs, made, found, strict=True):
            (among,) = python_values(values.slice(place, 1), column.dtype)
            if not _are_equal(among, value, tolerance):
                raise blame.differs_alone(column, among, value, shown.row(place), inputs)


def _are_equal(left: Any, right: Any, tolerance: float) -> bool:
    """Whether two canonical values of one type are the same; NaN is itself."""
    if isinstance(left, float) and isinstance(right, float):
        if math.isnan(left) or math.isnan(right):
            return math.isnan(left) and math.isnan(right)
        return math.isclose(left, right, rel_tol=tolerance, abs_tol=_NOTHING)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(
            _are_equal(one, other, tolerance) for one, other in zip(left, right, strict=True)
        )
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(_are_equal(left[name], right[name], tolerance) for name in left)
    return bool(left == right)
