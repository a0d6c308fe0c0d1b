"""Running a transformation: on whole columns, and on one row by the same function with the same results.

    transform_columns(item, columns, types, asked_by=...)       a table: training data, batch inference
    compile_row(item, types, asked_by=...)                      one row: what serving runs
    fit_state(item, columns, types, asked_by=...)               what a function learns from a training split

Nulls: where a function skips them, a row with a null among its inputs gives null and the function never sees the row.
SQL has nulls of its own, so its rules decide alone. A function treats each row by itself: some rows of every table are
run alone and compared (`alone`). What functions are handed is said in `arrays.hand_out`, what they
may give back in `arrays.take_back` and `values.writer`.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from grange.definitions.expressions import Expression, derived_schema, parse_expression
from grange.definitions.on_demand import output_types
from grange.definitions.transformations import Transformation
from grange.deriving.rows import compile_rows
from grange.deriving.tables import evaluate_table
from grange.errors import RequestError
from grange.transforming.alone import check_alone
from grange.transforming.arrays import Hand, hand_out
from grange.transforming.calls import RowFunction, Shown, on_arrays, on_one_array_row, on_one_row, on_rows, write_column
from grange.transforming.failures import Blame, first_line, loaded
from grange.transforming.states import as_json
from grange.transforming.values import python_values, reader, writer
from grange.types.arrow import arrow_schema, arrow_type, conform_column
from grange.types.dtypes import DataType
from grange.types.schema import Column, Schema


def output_schema(item: Transformation, input_types: Sequence[DataType]) -> Schema:
    """The names and types of a transformation's outputs, in order.

    Args:
        item: the transformation. SQL outputs whose type is not declared have that of their expression, which may
            use the outputs before it.
        input_types: of its inputs, in order.

    Raises:
        SchemaError, DefinitionError: expressions that do not go with the types of the inputs; arrays with nulls of
            a type that has no room for them.
    """
    if item.mode != "sql":
        _hands(item, input_types)  # refuses what it cannot be handed
    return output_types(item, input_types)


def transform_columns(
    item: Transformation,
    inputs: Sequence[pa.ChunkedArray],
    input_types: Sequence[DataType],
    *,
    state: Any = None,
    asked_by: str,
) -> list[pa.ChunkedArray]:
    """The outputs of a transformation for every row of a table.

    Args:
        item: the transformation.
        inputs: a column per input, in order, of equal length.
        input_types: their types.
        state: what it learned, where it learns (`fit_state`).
        asked_by: the definition that applies it, for messages.

    Shape:
        A column per output, in order, in the canonical Arrow type of `output_schema`; as many rows, in their order.

    Raises:
        TransformError: the function raised (says in which row, where it is one row's fault), gave another number of
            rows or of outputs, a value that its declared type cannot hold, or one that the row alone does not have.
        RequestError: it learns, and there is no state.
        SchemaError, DefinitionError: as `output_schema`.
    """
    blame = Blame(item, asked_by)
    outputs = output_schema(item, input_types)
    columns = _conformed(inputs, _inputs(item, input_types), blame)
    if item.mode == "sql":
        return _sql_columns(columns, outputs, blame, input_types)
    function = _function(item, state, blame)
    shown, rows = _visible(item, columns)
    seen = Shown(tuple(shown), tuple(input_types), rows)
    if not len(seen):
        made = [pa.chunked_array([], arrow_type(column.dtype)) for column in outputs]
    elif item.mode == "row":
        made = on_rows(function, seen, outputs, blame)
    else:
        hands = _hands(item, input_types)
        made = on_arrays(function, hands, seen, outputs, blame)
        check_alone(function, hands, seen, outputs, made, blame)
    return made if rows is None else [_scattered(column, rows, len(columns[0])) for column in made]


def compile_row(
    item: Transformation, input_types: Sequence[DataType], *, state: Any = None, asked_by: str
) -> RowFunction:
    """A function from one row's inputs to its outputs: what `transform_columns` gives for that row.

    Args:
        item: the transformation.
        input_types: of its inputs, in order.
        state: what it learned, where it learns (`fit_state`).
        asked_by: the definition that applies it, for messages.

    Rows hold values as serving has them, None for null; the outputs are canonical (`grange.transforming.values`).

    Raises:
        TransformError: the code is not loaded here. The function itself raises it as `transform_columns` does.
        RequestError: it learns, and there is no state.
        SchemaError, DefinitionError: as `output_schema`.
    """
    blame = Blame(item, asked_by)
    outputs = output_schema(item, input_types)
    if item.mode == "sql":
        return _sql_row(outputs, blame, input_types)
    function = _function(item, state, blame)
    readers = tuple(map(reader, input_types))
    if item.mode == "row":
        return on_one_row(function, readers, outputs, blame)
    return on_one_array_row(function, readers, _hands(item, input_types), outputs, blame)


def fit_state(
    item: Transformation, inputs: Sequence[pa.ChunkedArray], input_types: Sequence[DataType], *, asked_by: str
) -> Any:
    """What a transformation learns from the columns of a training split, as JSON-able data.

    The fit function is handed whole columns: arrays or Series as the function is, lists of values in mode `row`; rows
    with a null among the inputs are left out where nulls are skipped.

    Raises:
        TransformError: it raised, gave nothing, or something that JSON cannot hold exactly.
        RequestError: the transformation learns nothing.
    """
    blame = Blame(item, asked_by)
    if item.fit is None:
        raise RequestError(f"transformation {item.name!r} learns nothing", asked_by=asked_by)
    function = loaded(item.fit, blame)
    seen, _ = _visible(item, _conformed(inputs, _inputs(item, input_types), blame))
    if item.mode == "row":
        handed: list[Any] = [python_values(column, dtype) for column, dtype in zip(seen, input_types, strict=True)]
    else:
        handed = [hand.column(column) for hand, column in zip(_hands(item, input_types), seen, strict=True)]
    try:
        learned = function(*handed)
    except Exception as error:
        raise blame.error(
            f"could not be fitted: {item.fit.name}() raised {type(error).__name__}: {first_line(error)}",
            found=f"{len(seen[0])} rows{' without nulls' if item.nulls == 'skip' else ''}",
        ) from error
    return as_json(learned, blame)


def _inputs(item: Transformation, types: Sequence[DataType]) -> Schema:
    return Schema(tuple(Column(name, dtype) for name, dtype in zip(item.inputs, types, strict=True)))


def _hands(item: Transformation, types: Sequence[DataType]) -> tuple[Hand, ...]:
    """How the inputs of a function on arrays are handed out; none of a function on values."""
    mode = item.mode
    if mode == "row" or mode == "sql":
        return ()
    what = f"transformation {item.name!r}"
    return tuple(
        hand_out(mode, item.nulls, name, dtype, what=what) for name, dtype in zip(item.inputs, types, strict=True)
    )


def _function(item: Transformation, state: Any, blame: Blame) -> Callable[..., Any]:
    """The function, with what it learned."""
    function = loaded(item.code, blame)
    if not item.is_fitted:
        return function
    if state is None:
        raise RequestError(
            f"transformation {item.name!r} has not been fitted: compute a training dataset", asked_by=blame.asked_by
        )
    return functools.partial(function, state=state)


def _conformed(inputs: Sequence[pa.ChunkedArray], schema: Schema, blame: Blame) -> list[pa.ChunkedArray]:
    what = f"inputs of transformation {blame.item.name!r}"
    return [conform_column(values, column, what=what) for values, column in zip(inputs, schema, strict=True)]


def _visible(
    item: Transformation, columns: Sequence[pa.ChunkedArray]
) -> tuple[Sequence[pa.ChunkedArray], np.ndarray[Any, Any] | None]:
    """What of some columns the function sees, and the places of those rows; None when it sees all."""
    if item.nulls == "pass" or not any(column.null_count for column in columns):
        return columns, None
    valid = functools.reduce(operator.and_, (_valid(column) for column in columns))
    mask = pa.array(valid)
    return [column.filter(mask) for column in columns], np.flatnonzero(valid)


def _valid(column: pa.ChunkedArray) -> np.ndarray[Any, Any]:
    found: np.ndarray[Any, Any] = pc.is_valid(column).to_numpy()
    return found


def _scattered(column: pa.ChunkedArray, rows: np.ndarray[Any, Any], count: int) -> pa.ChunkedArray:
    """The values at their places among so many rows, the others null."""
    places = np.full(count, -1, np.int64)
    places[rows] = np.arange(len(rows))
    return column.take(pa.array(places, mask=places < 0))


def _expressions(item: Transformation) -> dict[str, Expression]:
    return {name: parse_expression(text, what=f"transformation {item.name!r}: {name!r}") for name, text in item.sql}


def _sql_columns(
    columns: Sequence[pa.ChunkedArray], outputs: Schema, blame: Blame, types: Sequence[DataType]
) -> list[pa.ChunkedArray]:
    inputs = _inputs(blame.item, types)
    table = pa.Table.from_arrays(list(columns), schema=arrow_schema(inputs))
    found = evaluate_table(_expressions(blame.item), table, inputs)
    seen = Shown(tuple(columns), tuple(types), None)
    return [write_column(found.column(column.name), column, seen, blame) for column in outputs]


def _sql_row(outputs: Schema, blame: Blame, types: Sequence[DataType]) -> RowFunction:
    inputs, expressions = _inputs(blame.item, types), _expressions(blame.item)
    evaluate = compile_rows(expressions, inputs)
    inferred = derived_schema(expressions, inputs)
    if all(column.dtype == inferred[column.name] for column in outputs):
        return evaluate
    writers = [(column, writer(column.dtype)) for column in outputs]

    def run(values: Sequence[Any]) -> tuple[Any, ...]:
        results = evaluate(values)
        return tuple(
            blame.written(write, column, value, values) for (column, write), value in zip(writers, results, strict=True)
        )

    return run


__all__ = ["RowFunction", "compile_row", "fit_state", "output_schema", "transform_columns"]
