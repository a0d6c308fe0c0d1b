"""What the laws look at, as plain Python values, and Arrow to hold and to fetch rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

import pyarrow as pa

from grange.errors import SchemaError
from grange.plan.nodes import Output
from grange.types import DataType
from grange.types.arrow import TIMESTAMP, conform_column, constant, from_arrow_type
from grange.types.names import SEQUENCE
from grange.types.schema import Column

Micros = int
"""A time: microseconds since 1970-01-01 UTC."""
Key = tuple[Any, ...]
"""An entity key: one value per join key, as Python has it."""

UNKNOWN: Final = (0, 0)
"""The place of a null created time among created times: before any other (PIT-3)."""


def times_of(table: pa.Table, name: str) -> list[Micros | None]:
    """A time column as microseconds UTC (TIME-1)."""
    column = conform_column(column_of(table, name), Column(name, DataType("datetime")), what=f"time column {name!r}")
    return list(column.cast(pa.int64()).to_pylist())


def keys_of(table: pa.Table, names: Sequence[str]) -> list[Key]:
    """The entity key of every row."""
    columns = [_key_column(column_of(table, name)) for name in names]
    return [tuple(column[row] for column in columns) for row in range(table.num_rows)]


def _key_column(column: pa.ChunkedArray) -> list[Any]:
    # moments are compared as they are stored: Python's datetime ends at the year 9999
    return list((column.cast(pa.int64()) if column.type == TIMESTAMP else column).to_pylist())


def ages_of(table: pa.Table, event_time: str, created_time: str | None) -> list[tuple[Any, ...]]:
    """Every row's place in PIT-3 order: event time, then created time, then sequence; a null before any other."""
    events = times_of(table, event_time)
    created = [None] * table.num_rows if created_time is None else times_of(table, created_time)
    written = column_of(table, SEQUENCE).to_pylist()
    return [
        (nulls_first(event), nulls_first(known), sequence)
        for event, known, sequence in zip(events, created, written, strict=True)
    ]


def nulls_first(time: Micros | None) -> tuple[int, Micros]:
    """A time's place among times: a null before any other."""
    return UNKNOWN if time is None else (1, time)


def rows_inside(values: Sequence[int | None], start: int | None, end: int | None) -> list[int]:
    """The numbers of the rows with `start <= value < end`; a null is outside."""
    return [
        row
        for row, value in enumerate(values)
        if value is not None and (start is None or start <= value) and (end is None or value < end)
    ]


def same_key(left: Key, right: Key) -> bool:
    """Column by column, by type and value; a null equals nothing, itself included (PIT-4)."""
    for a, b in zip(left, right, strict=True):
        if a is None or b is None:
            return False
        if type(a) is not type(b) or a != b:
            return False
    return True


# Arrow, to hold and to fetch


def row_numbers(rows: Iterable[int | None]) -> pa.Array:
    """Row numbers to take; None takes a null."""
    return pa.array(list(rows), pa.int64())


def column_of(table: pa.Table, name: str) -> pa.ChunkedArray:
    """A column of a table.

    Raises:
        SchemaError: it has none of this name.
    """
    if name not in table.column_names:
        raise SchemaError(f"no column {name!r} in the rows", found=", ".join(table.column_names) or "no columns at all")
    return table.column(name)


def select(table: pa.Table, names: Sequence[str]) -> pa.Table:
    """Only these columns, in this order."""
    return pa.table({name: column_of(table, name) for name in names})


def canonical(table: pa.Table) -> pa.Table:
    """The table in canonical types; a column of nulls only has none and stays as it is."""
    columns = {}
    for name in table.column_names:
        column = table.column(name)
        dtype = from_arrow_type(column.type)
        columns[name] = column if dtype is None else conform_column(column, Column(name, dtype), what="rows")
    return pa.table(columns)


def with_default(values: pa.ChunkedArray, output: Output, *, group: str) -> pa.ChunkedArray:
    """The values of a feature, with its default wherever there is a null (ONL-5)."""
    if output.default is None:
        return values
    # the default lies behind the values, as one more row that is fetched by its number
    default = constant(output.default, output.dtype, what=f"default of {group}:{output.column}")
    last = pa.array([default], values.type)
    chosen = [row if value.is_valid else len(values) for row, value in enumerate(values)]
    return pa.chunked_array([*values.chunks, last], type=values.type).take(row_numbers(chosen))
