"""Categories: the values of a column whose type can be a join key (PIT-4), as data and by number."""

from __future__ import annotations

import datetime as dt
import decimal
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from grange.preparing.subject import Subject
from grange.transforming.values import python_values, writer
from grange.types.arrow import arrow_type
from grange.types.dtypes import DataType


def check_category(subject: Subject) -> None:
    """Refuse floats, lists and structs: their equality is no dependable one."""
    if subject.dtype.key_family is None:
        numbers = subject.dtype.is_float
        raise subject.wrong_type("categories", f"gr.bin({subject.column!r}) numbers ranges" if numbers else None)


def counted(column: pa.ChunkedArray, subject: Subject) -> dict[Any, int]:
    """How often each category occurs, sorted by category.

    Raises:
        TransformError: there is none.
    """
    check_category(subject)
    found = column.value_counts()
    values = python_values(pa.chunked_array([found.field("values")]), subject.dtype)
    pairs = zip(values, found.field("counts").to_pylist(), strict=True)
    counts = dict(sorted((value, count) for value, count in pairs if value is not None))
    if not counts:
        raise subject.cannot_learn("it has no values there", try_="categories=[...], or train on more rows")
    return counts


def to_data(value: Any) -> Any:
    """A category as JSON has it."""
    match value:
        case dt.date():
            return value.isoformat()
        case decimal.Decimal():
            return str(value)
        case bytes():
            return value.hex()
        case _:
            return value


def of_data(value: Any, dtype: DataType) -> Any:
    """The inverse of `to_data`; takes what people write, ISO 8601 text for times.

    Raises:
        ValueError: it is none of the type's.
    """
    if dtype.kind == "decimal" and isinstance(value, str):
        try:
            value = decimal.Decimal(value)
        except decimal.InvalidOperation as error:
            raise ValueError(f"{value!r} is no decimal") from error
    if dtype.kind == "binary" and isinstance(value, str):
        value = bytes.fromhex(value)
    return writer(dtype)(value)


def told(values: Sequence[Any], subject: Subject) -> list[Any]:
    """Categories that a user wrote, as values of the column.

    Raises:
        DefinitionError: one is of another type, or two are the same.
    """
    check_category(subject)
    known: list[Any] = []
    for value in values:
        try:
            category = of_data(value, subject.dtype)
        except ValueError as error:
            raise subject.wrong_setting("category", value) from error
        if category in known:
            raise subject.wrong_setting("category", value, "it is there twice")
        known.append(category)
    return known


def kept(values: Sequence[Any], subject: Subject) -> list[Any]:
    """Categories that were learned, as values of the column."""
    check_category(subject)
    return [of_data(value, subject.dtype) for value in values]


def numbers_of(column: pa.ChunkedArray, known: pa.Array) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """The place of each value among known ones, -1 where it is none of them; and where it is null."""
    places = pc.fill_null(pc.index_in(column, value_set=known), -1).to_numpy()
    return places.astype(np.int64), pc.is_null(column).to_numpy()


def as_array(known: Sequence[Any], dtype: DataType) -> pa.Array:
    """Categories as a column of their type has them."""
    return pa.array(known, arrow_type(dtype))


def refuse_unknown(
    column: pa.ChunkedArray,
    unknown: np.ndarray[Any, Any],
    known: Sequence[Any],
    subject: Subject,
) -> None:
    """Refuse the first value that is none of the known ones."""
    rows = np.flatnonzero(unknown)
    if len(rows):
        row = int(rows[0])
        (value,) = python_values(column.slice(row, 1), subject.dtype)
        raise subject.never_seen(value, known, row)
