"""From a table of feature rows to what an online store takes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

from grange.frames import Rows
from grange.ports.online import OnlineBatch
from grange.serving.keys import encode_columns
from grange.serving.values import rows_of, wire_list
from grange.types import Column, DataType, Schema

if TYPE_CHECKING:
    import pyarrow as pa

BATCH_ROWS: Final = 16_384
"""Small enough that a batch's Python objects die young, large enough that the columns' overhead does not show."""

_TIME: Final = DataType("datetime")


def batches(
    rows: Rows,
    *,
    keys: Sequence[tuple[str, DataType]],
    event_time: str,
    created_time: str | None,
    columns: Schema,
    batch_rows: int = BATCH_ROWS,
) -> Iterator[OnlineBatch]:
    """What `OnlineStore.load` takes: rows by ascending encoded key.

    Args:
        rows: one row per entity key, as a `Latest` node gives.
        keys: (column, type) per join key, in the order the stored key has.
        event_time: the event-time column; a row without one is never visible, so it is left out.
        created_time: the created-time column, if there is one.
        columns: the feature columns to store, in the order of the layout.
        batch_rows: rows per batch.

    Raises:
        ColumnTypeError: a column does not fit its type.
    """
    if len(keys) == 1 and keys[0][1].is_integer:
        rows = Rows(polars=rows.polars.sort(keys[0][0]))  # integers ascend as their keys do, and sort much faster
    table, encoded = _storable(rows, keys, event_time, created_time, columns)
    order = _order(encoded)
    if order is not None:
        table, encoded = table.take(order), encoded.take(order)
    for start in range(0, table.num_rows, batch_rows):
        part = slice(start, start + batch_rows)
        yield _batch(table.slice(start, batch_rows), encoded[part], event_time, created_time, columns)


def push_batch(
    rows: Rows,
    *,
    keys: Sequence[tuple[str, DataType]],
    event_time: str,
    created_time: str | None,
    columns: Schema,
) -> OnlineBatch:
    """What `OnlineStore.write` takes: rows in the table's order, so that of equal times the last one wins (PIT-3).

    Rows with a null in the key or without event time match nothing and are left out. Takes the arguments of `batches`.
    """
    table, encoded = _storable(rows, keys, event_time, created_time, columns)
    return _batch(table, encoded, event_time, created_time, columns)


def _storable(
    rows: Rows,
    keys: Sequence[tuple[str, DataType]],
    event_time: str,
    created_time: str | None,
    columns: Schema,
) -> tuple[pa.Table, pa.LargeBinaryArray]:
    """The columns in canonical types and each row's key, without rows that nobody could find."""
    import pyarrow.compute as pc

    from grange.types.arrow import conform

    times = [event_time, *filter(None, [created_time])]
    schema = Schema(
        (*(Column(name, dtype) for name, dtype in keys), *(Column(name, _TIME) for name in times), *columns)
    )
    table = conform(rows.arrow.select(list(schema.names)), schema, what="rows for the online store").combine_chunks()
    encoded = encode_columns([table.column(name) for name, _ in keys], [dtype for _, dtype in keys])
    if encoded.null_count or table.column(event_time).null_count:
        found = pc.and_(encoded.is_valid(), table.column(event_time).is_valid().combine_chunks())
        table, encoded = table.filter(found), encoded.filter(found)
    return table, encoded


def _order(encoded: pa.LargeBinaryArray) -> Any:
    """The order in which keys ascend; None when they do already."""
    import pyarrow.compute as pc

    if len(encoded) < 2 or pc.all(pc.less(encoded[:-1], encoded[1:])).as_py():
        return None
    return pc.sort_indices(encoded)


def _batch(
    table: pa.Table, encoded: pa.LargeBinaryArray, event_time: str, created_time: str | None, columns: Schema
) -> OnlineBatch:
    return OnlineBatch(
        keys=encoded.to_pylist(),
        event_times=wire_list(table.column(event_time), _TIME),
        created_times=None if created_time is None else wire_list(table.column(created_time), _TIME),
        rows=rows_of(table.select(list(columns.names)), [column.dtype for column in columns]),
    )
