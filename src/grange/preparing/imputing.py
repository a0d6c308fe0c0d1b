"""impute: nulls and NaN are filled in, by the mean, the median or the most frequent value, or by a constant."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from grange.preparing.bound import FLAG, FLOAT, Bound, Ready, Settings
from grange.preparing.categories import check_category, counted, of_data, to_data
from grange.preparing.numbers import check_number, floats, sample
from grange.preparing.subject import Subject
from grange.types.arrow import arrow_type
from grange.types.dtypes import DataType


def fit(column: pa.ChunkedArray, given: Settings, subject: Subject) -> dict[str, Any]:
    """What to fill in; of several most frequent values the least."""
    if given["strategy"] == "most_frequent":
        return {"value": _most_frequent(column, subject)}
    values = sample(column, subject)
    with np.errstate(over="ignore"):
        return subject.finite({"value": float(values.mean() if given["strategy"] == "mean" else np.median(values))})


def bind(learned: Any, given: Settings, subject: Subject) -> Bound:
    """A value, or what is filled in for it; and whether that was so."""
    strategy, dtype = given["strategy"], subject.dtype
    if strategy in ("mean", "median"):
        check_number(subject)
        fill, made = learned["value"], FLOAT
    elif strategy == "most_frequent":
        _check_countable(subject)
        fill, made = (learned["value"] if dtype.is_float else of_data(learned["value"], dtype)), dtype
    else:
        fill, made = _constant(given["value"], subject), dtype
    columns, value = _filling(dtype, made, fill)
    if not given["indicator"]:
        return Bound((("", made),), columns, value)
    return Bound(
        (("", made), ("__missing", FLAG)),
        lambda column: [*columns(column), _flags(column)],
        lambda given: (value(given), int(_is_missing(given))),
    )


def _filling(
    dtype: DataType, made: DataType, fill: Any
) -> tuple[Callable[[pa.ChunkedArray], list[pa.ChunkedArray]], Callable[[Any], Any]]:
    """How a column and a value are filled in."""
    if made == FLOAT:

        def number_columns(column: pa.ChunkedArray) -> list[pa.ChunkedArray]:
            values = floats(column, dtype)
            return [pa.chunked_array([pa.array(np.where(np.isnan(values), fill, values))])]

        return number_columns, lambda given: fill if _is_missing(given) else float(given)

    scalar = pa.scalar(fill, arrow_type(made))

    def columns(column: pa.ChunkedArray) -> list[pa.ChunkedArray]:
        return [pc.if_else(_missing(column), scalar, column)]

    return columns, lambda given: fill if _is_missing(given) else given


def _missing(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.is_null(column, nan_is_null=True)


def _flags(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return _missing(column).cast(pa.int8())


def _is_missing(given: Any) -> bool:
    return given is None or (type(given) is float and given != given)


def _check_countable(subject: Subject) -> None:
    if not subject.dtype.is_float:
        check_category(subject)


def _most_frequent(column: pa.ChunkedArray, subject: Subject) -> Any:
    if not subject.dtype.is_float:
        counts = counted(column, subject)
        return to_data(max(counts, key=lambda value: counts[value]))  # the first of equals, and they are sorted
    values, often = np.unique(sample(column, subject), return_counts=True)
    return float(values[often.argmax()])


def _constant(value: Any, subject: Subject) -> Any:
    try:
        fill = of_data(value, subject.dtype)
    except ValueError as error:
        raise subject.wrong_setting("value", value) from error
    if isinstance(fill, float) and math.isnan(fill):
        raise subject.wrong_setting("value", value, "NaN is what is filled in")
    return fill


IMPUTE = Ready(fit, bind)
