"""Grange's types as Polars', and values of one made to fit the other."""

from __future__ import annotations

import functools

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from grange.types import DataType
from grange.types.arrow import arrow_type, conform_column, constant, from_arrow_type
from grange.types.schema import Column

TIME = pl.Datetime("us", "UTC")
"""The canonical type of times (TIME-1)."""

_UUID_TEXT = r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"


@functools.cache
def polars_type(dtype: DataType) -> pl.DataType:
    """The canonical Polars type of a Grange type: what its canonical Arrow type becomes."""
    return from_arrow("", pa.chunked_array([], arrow_type(dtype))).dtype


def is_canonical(found: pl.DataType, dtype: DataType) -> bool:
    """Whether a column of a Polars type holds values in the canonical form of a Grange type already.

    A uuid's canonical form is lower-case text, which its type cannot tell.
    """
    return found == polars_type(dtype) and dtype.kind != "uuid"


def conformed(series: pl.Series, column: Column, *, what: str) -> pl.Series:
    """A column in the canonical type of its declaration. See `grange.types.arrow.conform_column`.

    Raises:
        ColumnTypeError: a value does not fit.
    """
    if is_canonical(series.dtype, column.dtype):
        return series.alias(column.name)
    if column.dtype.kind == "uuid" and series.dtype == pl.String and series.str.contains(_UUID_TEXT).all():
        return series.alias(column.name)
    values = pa.chunked_array([series.to_arrow()])
    return from_arrow(column.name, conform_column(values, column, what=what))


def canonical(frame: pl.DataFrame) -> pl.DataFrame:
    """Every column in the canonical form of the type that it has; a column of nulls only stays as it is."""
    columns = []
    for series in frame.get_columns():
        dtype = from_arrow_type(series.clear().to_arrow().type)
        columns.append(series if dtype is None else conformed(series, Column(series.name, dtype), what="rows"))
    return pl.DataFrame(columns)


def from_arrow(name: str, values: pa.ChunkedArray) -> pl.Series:
    """An Arrow column as Polars."""
    series = pl.from_arrow(values)
    assert isinstance(series, pl.Series)
    return series.alias(name)


def from_numpy(values: NDArray[np.generic]) -> pl.Series:
    """Numbers without a name, not copied. Polars' own way loads NumPy's masked arrays first, which takes a while."""
    plain = np.ascontiguousarray(values)
    kind = pa.from_numpy_dtype(plain.dtype)
    return from_arrow("", pa.chunked_array([pa.Array.from_buffers(kind, len(plain), [None, pa.py_buffer(plain)])]))


def literal(value: object, dtype: DataType, *, what: str) -> pl.Expr:
    """A value as a constant of a Grange type.

    Raises:
        ColumnTypeError: it does not fit the type.
    """
    single = constant(value, dtype, what=what)
    return pl.lit(from_arrow("", pa.chunked_array([pa.array([single], single.type)]))).first()
