"""Calls of a user's function: on all rows of a table, on one row; what it gives is checked against its declaration."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from grange.errors import TransformError
from grange.transforming.arrays import Hand, is_in_order, length_of, part_of, take_back, take_back_single, value_at
from grange.transforming.failures import Blame, counted, first_failing
from grange.transforming.values import Converter, python_values, writer
from grange.types.arrow import arrow_type, conform_column
from grange.types.dtypes import DataType
from grange.types.schema import Column, Schema

RowFunction = Callable[[Sequence[Any]], tuple[Any, ...]]
"""From one row's inputs, in order, to its outputs, in order; None is null."""

_RESULT = "its result"


@dataclass(frozen=True, slots=True)
class Shown:
    """The rows that a function is shown."""

    columns: tuple[pa.ChunkedArray, ...]
    """A column per input, in the canonical Arrow types."""
    types: tuple[DataType, ...]
    rows: np.ndarray[Any, Any] | None
    """Where in the table each stands; None when they are all of it."""

    def __len__(self) -> int:
        return len(self.columns[0])

    def row(self, place: int) -> int:
        """Where in the table the row at a place stands."""
        return place if self.rows is None else int(self.rows[place])

    def inputs(self, place: int) -> list[Any]:
        """The inputs of the row at a place."""
        pairs = zip(self.columns, self.types, strict=True)
        return [python_values(column.slice(place, 1), dtype)[0] for column, dtype in pairs]


def on_arrays(
    function: Callable[..., Any], hands: Sequence[Hand], shown: Shown, outputs: Schema, blame: Blame
) -> list[pa.ChunkedArray]:
    """The outputs of a function on arrays, for at least one row."""

    def run(low: int, high: int) -> Any:
        parts = [column.slice(low, high - low) for column in shown.columns]
        return function(*(hand.column(part) for hand, part in zip(hands, parts, strict=True)))

    try:
        result = run(0, len(shown))
    except Exception as error:
        raise _raised(run, error, shown, blame) from error
    made = unpacked(result, outputs, blame)
    return [_taken(values, column, shown, blame) for values, column in zip(made, outputs, strict=True)]


def on_rows(function: Callable[..., Any], shown: Shown, outputs: Schema, blame: Blame) -> list[pa.ChunkedArray]:
    """The outputs of a function on values, for at least one row."""
    pairs = zip(shown.columns, shown.types, strict=True)
    results: list[Sequence[Any]] = []
    for values in zip(*(python_values(column, dtype) for column, dtype in pairs), strict=True):
        try:
            result = function(*values)
        except Exception as error:
            place = len(results)
            raise blame.raised(error, shown.row(place), shown.inputs(place)) from error
        results.append(unpacked(result, outputs, blame))
    return [
        _written(values, column, shown, blame)
        for values, column in zip(zip(*results, strict=True), outputs, strict=True)
    ]


def on_one_row(
    function: Callable[..., Any], readers: Sequence[Converter | None], outputs: Schema, blame: Blame
) -> RowFunction:
    """A function on values as one of a row."""
    skip = blame.item.nulls == "skip"
    nothing = (None,) * len(outputs)
    converts = tuple((place, convert) for place, convert in enumerate(readers) if convert is not None)
    writers = tuple((column, writer(column.dtype)) for column in outputs)
    ((only, write), *others) = writers

    def run(row: Sequence[Any]) -> tuple[Any, ...]:
        values = list(row)
        if skip:
            for value in values:
                if value is None:
                    return nothing
        for place, convert in converts:
            if values[place] is not None:
                values[place] = convert(values[place])
        try:
            result = function(*values)
        except Exception as error:
            raise blame.raised(error, None, row) from error
        made = unpacked(result, outputs, blame)
        if not others:
            return (blame.written(write, only, made[0], row),)
        return tuple(
            [blame.written(write, column, value, row) for (column, write), value in zip(writers, made, strict=True)]
        )

    return run


def on_one_array_row(
    function: Callable[..., Any],
    readers: Sequence[Converter | None],
    hands: Sequence[Hand],
    outputs: Schema,
    blame: Blame,
) -> RowFunction:
    """A function on arrays as one of a row: it is handed arrays of one."""
    skip = blame.item.nulls == "skip"
    nothing = (None,) * len(outputs)
    steps = tuple((convert, hand.single) for convert, hand in zip(readers, hands, strict=True))
    takes = tuple((take_back_single(column, what=_RESULT), column) for column in outputs)

    def run(row: Sequence[Any]) -> tuple[Any, ...]:
        handed = []
        for value, (convert, single) in zip(row, steps, strict=True):
            if value is None and skip:
                return nothing
            handed.append(single(value if value is None or convert is None else convert(value)))
        try:
            result = function(*handed)
        except Exception as error:
            raise blame.raised(error, None, row) from error
        made = unpacked(result, outputs, blame)
        return tuple(
            [_only(take, values, column, row, blame) for (take, column), values in zip(takes, made, strict=True)]
        )

    return run


def unpacked(result: Any, outputs: Schema, blame: Blame) -> Sequence[Any]:
    """What a function returned, one item per output: a tuple or list where there are several.

    A single output is the result itself; a tuple of one is unpacked, unless the output is a list of values.

    Raises:
        TransformError: another number of outputs.
    """
    count = len(outputs)
    if count == 1:
        if type(result) is not tuple or (blame.item.mode == "row" and outputs.columns[0].dtype.kind == "list"):
            return (result,)
    elif not isinstance(result, tuple | list):
        raise blame.error(
            f"returned one {type(result).__name__} for {count} outputs",
            found=f"outputs: {', '.join(outputs.names)}",
            try_=f"return a tuple of {count}",
        )
    if len(result) != count:
        raise blame.error(
            f"returned {counted(len(result), 'output')} instead of {count}",
            found=f"outputs: {', '.join(outputs.names)}",
        )
    made: Sequence[Any] = result
    return made


def write_column(values: pa.ChunkedArray, column: Column, shown: Shown, blame: Blame) -> pa.ChunkedArray:
    """A column of results in its declared type.

    Raises:
        TransformError: a value does not fit.
    """
    try:
        return conform_column(values, column, what=_RESULT)
    except ValueError as error:
        raise _misfit(values, column, shown, blame, error) from error


def _raised(run: Callable[[int, int], Any], error: Exception, shown: Shown, blame: Blame) -> TransformError:
    """The error of a call, with the row whose fault it is."""

    def fails(low: int, high: int) -> Exception | None:
        try:
            run(low, high)
        except Exception as other:  # noqa: BLE001  # raised by the caller, with the row
            return other
        return None

    single = first_failing(len(shown), fails)
    if single is None:
        return blame.raised_at_once(error, len(shown))
    place, own = single
    return blame.raised(own, shown.row(place), shown.inputs(place))


def _taken(values: Any, column: Column, shown: Shown, blame: Blame) -> pa.ChunkedArray:
    count = length_of(values)
    if count is None:
        raise blame.no_array(column.name, values)
    if count != len(shown):
        raise blame.wrong_rows(column.name, count, len(shown))
    if not is_in_order(values):
        raise blame.other_index(column.name, values.index)
    try:
        return take_back(values, column, what=_RESULT)
    except ValueError as error:
        raise _misfit(values, column, shown, blame, error) from error


def _written(values: Sequence[Any], column: Column, shown: Shown, blame: Blame) -> pa.ChunkedArray:
    write, written = writer(column.dtype), []
    for value in values:
        try:
            written.append(write(value))
        except ValueError as error:
            place = len(written)
            raise blame.misfit(column, value, shown.row(place), shown.inputs(place)) from error
    return pa.chunked_array([pa.array(written, arrow_type(column.dtype))])


def _misfit(values: Any, column: Column, shown: Shown, blame: Blame, error: ValueError) -> TransformError:
    """The error of values that their declared type cannot hold, with the first of them."""

    def fails(low: int, high: int) -> Exception | None:
        try:
            take_back(part_of(values, low, high), column, what=_RESULT)
        except ValueError as misfit:
            return misfit
        return None

    single = first_failing(len(shown), fails)
    if single is None:
        return blame.misfit_at_once(column, error)
    place = single[0]
    return blame.misfit(column, value_at(values, place), shown.row(place), shown.inputs(place))


def _only(
    take: Callable[[Any], list[Any] | None], values: Any, column: Column, row: Sequence[Any], blame: Blame
) -> Any:
    """The single value of an output for a row."""
    try:
        found = take(values)
    except ValueError as error:
        raise blame.misfit(column, value_at(values, 0) if length_of(values) else values, None, row) from error
    if found is None:
        raise blame.no_array(column.name, values)
    if len(found) != 1:
        raise blame.wrong_rows(column.name, len(found), 1)
    if not is_in_order(values):
        raise blame.other_index(column.name, values.index)
    return found[0]
