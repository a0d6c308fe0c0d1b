"""What functions on whole columns are handed, and what they give back: NumPy arrays, Polars or pandas Series.

A table's column and one row's value are handed out as the same kind of array, so that a function cannot tell them
apart but by their length. What is handed out cannot be written to, or is a copy.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, assert_never

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from grange.definitions.transformations import Nulls, check_shown_nulls
from grange.frames import require
from grange.transforming.values import micros_of, python_values, writer
from grange.types.arrow import arrow_type, conform_column
from grange.types.dtypes import DataType
from grange.types.schema import Column

ArrayMode = Literal["numpy", "polars", "pandas"]

_SINGLE_BYTES: Final = 4
_DOUBLE_BYTES: Final = 8
_PLAIN_SERIES: Final = frozenset(("Float64", "Float32", "Int64", "Int32", "UInt32", "Int8", "Boolean", "String"))
"""Types of Polars Series whose `to_list` gives their values as Python's own."""
_PLAIN_ARROW: Final = frozenset(
    (
        pa.float64(), pa.float32(), pa.int64(), pa.int32(), pa.int16(), pa.int8(), pa.uint64(), pa.uint32(),
        pa.uint16(), pa.uint8(), pa.bool_(), pa.string(), pa.large_string(),
    )
)  # fmt: skip
"""Arrow types whose `to_pylist` gives their values as Python's own."""
_TIME_UNITS: Final = ("s", "ms", "us", "ns")
"""Units of NumPy's times that Arrow has too."""


@dataclass(frozen=True, slots=True)
class Hand:
    """How an input is handed out."""

    column: Callable[[pa.ChunkedArray], Any]
    """A whole column, in the canonical Arrow type."""
    single: Callable[[Any], Any]
    """One canonical value (`grange.transforming.values`), as an array of one."""


def hand_out(mode: ArrayMode, nulls: Nulls, name: str, dtype: DataType, *, what: str) -> Hand:
    """How functions of a mode are handed an input.

    NumPy has numbers and booleans in the type's own width, datetimes as `datetime64[us]`, dates as `datetime64[D]`,
    durations as `timedelta64[us]`; text, decimals and structs as objects; lists as an object array of arrays. With
    nulls passed on, integers and float64 are float64 with NaN for null. Pandas has Arrow-backed types.

    Raises:
        DefinitionError: NumPy arrays with nulls, of a type whose arrays have no room for them.
        MissingDependencyError: pandas is not installed.
    """
    match mode:
        case "numpy" if nulls == "pass":
            return _numpy_with_nan(name, dtype, what)
        case "numpy":
            return _numpy(dtype)
        case "polars":
            return _polars(name, dtype)
        case "pandas":
            return _pandas(name, dtype)
        case _:
            assert_never(mode)


def length_of(values: Any) -> int | None:
    """How many rows an output has; None of what is no array or Series."""
    if isinstance(values, np.ndarray):
        return len(values) if values.ndim else None
    known = (
        isinstance(values, pa.Array | pa.ChunkedArray) or _is_series(values, "polars") or _is_series(values, "pandas")
    )
    return len(values) if known else None


def is_in_order(values: Any) -> bool:
    """Whether an output's rows are those of the inputs, in their order: of a Series of pandas, by its index."""
    if not _is_series(values, "pandas"):
        return True
    index, pandas = values.index, sys.modules["pandas"]
    if type(index) is pandas.RangeIndex:
        return bool(index.start == 0 and (index.step == 1 or len(index) == 1))
    return bool(index.equals(pandas.RangeIndex(len(index))))


def part_of(values: Any, low: int, high: int) -> Any:
    """The rows `low <= row < high` of an output."""
    return values.iloc[low:high] if _is_series(values, "pandas") else values[low:high]


def value_at(values: Any, place: int) -> Any:
    """One value of an output, as Python shows it."""
    part = part_of(values, place, place + 1)
    if isinstance(part, pa.Array | pa.ChunkedArray):
        return part.to_pylist()[0]
    return (part.to_list() if _is_series(part, "polars") else part.tolist())[0]


def take_back(values: Any, column: Column, *, what: str) -> pa.ChunkedArray:
    """What a function gave as an output, in the canonical Arrow type.

    Args:
        values: something that has a `length_of`.
        column: the output's name and declared type.
        what: whose result it is, for messages.

    NaN of NumPy and Polars stays NaN; None, NaT and pandas.NA are null, and so is what pandas itself calls missing:
    NaN in a Series that NumPy backs.

    Raises:
        ValueError (ColumnTypeError is one): a value that the declared type cannot hold.
    """
    if isinstance(values, np.ndarray):
        return _from_numpy(values, column, what)
    if isinstance(values, pa.Array | pa.ChunkedArray):
        return _conformed(values, column, what)
    if _is_series(values, "polars"):
        if str(values.dtype) in ("Object", "Int128", "UInt128"):  # what Arrow does not have
            return _one_by_one(values.to_list(), column)
        return _conformed(values.to_arrow(), column, what)
    if values.dtype == object:
        return _one_by_one([None if _is_nan(value) else value for value in values.tolist()], column)
    return _conformed(pa.array(values, from_pandas=True), column, what)


def take_back_single(column: Column, *, what: str) -> Callable[[Any], list[Any] | None]:
    """A function from what a user's function gave for one row to the output's values; None when it is no array.

    As `take_back`, and quick where values of the array's type are Python's own.
    """
    write = writer(column.dtype)

    def values_of(values: Any) -> list[Any] | None:
        if type(values) is np.ndarray and values.ndim == 1 and _is_plain(values.dtype):
            return [write(value) for value in values.tolist()]
        if _is_series(values, "polars") and str(values.dtype) in _PLAIN_SERIES:
            return [write(value) for value in values.to_list()]
        if _is_series(values, "pandas"):
            found = _plain_values(values)
            if found is not None:
                return [write(value) for value in found]
        if length_of(values) is None:
            return None
        return python_values(take_back(values, column, what=what), column.dtype)

    return values_of


def _plain_values(values: Any) -> list[Any] | None:
    """The values of a pandas Series as Python's own, where its type has them so; missing ones are None."""
    kept = values.array
    if hasattr(kept, "__arrow_array__"):
        column = kept.__arrow_array__()
        if column.type in _PLAIN_ARROW:
            plain: list[Any] = column.to_pylist()
            return plain
    elif isinstance(values.dtype, np.dtype) and values.dtype.kind in "fiub" and _is_plain(values.dtype):
        return [None if _is_nan(value) else value for value in values.tolist()]
    return None


def _is_plain(dtype: np.dtype[Any]) -> bool:
    """Whether an array's `tolist` gives its values as Python's own, none rounded."""
    kind = dtype.kind
    return kind in "OU" or (kind in "fiub" and dtype.itemsize <= _DOUBLE_BYTES)


def _numpy(dtype: DataType) -> Hand:
    match dtype.kind:
        case "datetime":
            return Hand(_array, lambda value: _sealed(np.array((micros_of(value),), np.int64).view("M8[us]")))
        case "date" | "duration":
            own = "M8[D]" if dtype.kind == "date" else "m8[us]"
            return Hand(_array, lambda value: _sealed(np.array((value,), own)))
        case "list":
            assert dtype.item is not None
            return _numpy_lists(dtype, dtype.item)
        case _ if _number_type(dtype) is not None:
            width = _number_type(dtype)
            return Hand(_array, lambda value: _sealed(np.array((value,), width)))
        case _:
            return Hand(lambda column: _objects(python_values(column, dtype)), lambda value: _objects([value]))


def _numpy_with_nan(name: str, dtype: DataType, what: str) -> Hand:
    check_shown_nulls(name, dtype, what)
    arrow = pa.float32() if dtype.kind == "float32" else pa.float64()
    width, nan = arrow.to_pandas_dtype(), pa.scalar(float("nan"), arrow)
    return Hand(
        lambda column: _array(pc.fill_null(column.cast(arrow, safe=False), nan)),
        lambda value: _sealed(np.array((np.nan if value is None else value,), width)),
    )


def _numpy_lists(dtype: DataType, item: DataType) -> Hand:
    width = _number_type(item)

    def element(values: Sequence[Any]) -> np.ndarray[Any, Any]:
        if width is not None and None not in values:
            return _sealed(np.array(values, width))
        if item.is_integer or item.is_float:
            wide = np.float32 if item.kind == "float32" else np.float64
            return _sealed(np.array([np.nan if value is None else value for value in values], wide))
        return _objects(values)

    def elements(column: pa.ChunkedArray) -> np.ndarray[Any, Any]:
        lists = column.combine_chunks()
        if width is None or lists.values.null_count or lists.null_count:
            return _objects([element(values) for values in python_values(column, dtype)])
        flat, ends = _array(lists.values), lists.offsets.to_numpy()
        return _objects([flat[start:end] for start, end in itertools.pairwise(ends)])

    return Hand(elements, lambda value: _objects([element(value)]))


def _number_type(dtype: DataType) -> Any:
    """NumPy's type of the same width; None of what is neither number nor boolean."""
    if dtype.is_integer or dtype.is_float or dtype.kind == "boolean":
        return arrow_type(dtype).to_pandas_dtype()
    return None


def _polars(name: str, dtype: DataType) -> Hand:
    import polars as pl

    arrow = arrow_type(dtype)
    own = pl.Series(pa.array([], arrow)).dtype
    return Hand(
        lambda column: pl.Series(name, column, own),
        lambda value: pl.Series(name, (value,), own),
    )


def _pandas(name: str, dtype: DataType) -> Hand:
    pd = require("pandas", extra="pandas")
    arrow, kept = arrow_type(dtype), pd.arrays.ArrowExtensionArray

    def column(values: pa.Array | pa.ChunkedArray) -> Any:
        return pd.Series(kept(values), name=name)

    return Hand(column, lambda value: column(pa.array((value,), arrow)))


def _from_numpy(values: np.ndarray[Any, Any], column: Column, what: str) -> pa.ChunkedArray:
    if values.ndim > 1:
        if column.dtype.kind != "list":
            raise ValueError(f"an array of {values.ndim} dimensions")
        return _one_by_one(values.tolist(), column)
    if values.dtype.kind == "O":
        return _one_by_one(values.tolist(), column)
    if values.dtype.kind in "mM" and np.datetime_data(values.dtype)[0] not in _TIME_UNITS:
        values = values.astype(f"{values.dtype.kind}8[us]")
    if values.dtype.kind == "f" and values.itemsize < _SINGLE_BYTES:
        values = values.astype(np.float32)  # Arrow casts these to few other types
    if not values.dtype.isnative:
        values = values.astype(values.dtype.newbyteorder("="))
    try:
        return _conformed(pa.array(values), column, what)
    except pa.ArrowNotImplementedError as error:
        raise ValueError(f"an array of {values.dtype}") from error


def _conformed(values: pa.Array | pa.ChunkedArray, column: Column, what: str) -> pa.ChunkedArray:
    chunked = values if isinstance(values, pa.ChunkedArray) else pa.chunked_array([values])
    if chunked.null_count == len(chunked):  # nulls have no type: a row's null is taken whatever its array's is
        chunked = pa.chunked_array([pa.nulls(len(chunked))])
    return conform_column(chunked, column, what=what)


def _one_by_one(values: Iterable[Any], column: Column) -> pa.ChunkedArray:
    """Python objects as a column: each is taken as one row's value would be."""
    write = writer(column.dtype)
    return pa.chunked_array([pa.array([write(value) for value in values], arrow_type(column.dtype))])


def _array(column: pa.Array | pa.ChunkedArray) -> np.ndarray[Any, Any]:
    single = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    return _sealed(single.to_numpy(zero_copy_only=False))


def _objects(values: Sequence[Any]) -> np.ndarray[Any, Any]:
    return _sealed(np.fromiter(values, object, len(values)))


def _sealed(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The array, which nobody can write to any more."""
    array.setflags(write=False)
    return array


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and value != value


def _is_series(value: Any, module: str) -> bool:
    """Whether a value is a Series of a package that may not even be loaded."""
    loaded = sys.modules.get(module)
    return loaded is not None and isinstance(value, loaded.Series)
