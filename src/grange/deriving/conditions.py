"""Filters: which rows match a condition. The same for a table of history and for the few events of a push."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final

from grange.definitions.expressions import Expression, parse_condition
from grange.frames import Rows
from grange.types.arrow import conform_column, from_arrow_type
from grange.types.schema import Column, Schema

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

FEW: Final = 5_000
"""So many rows are looked at one by one sooner than a table of them is set up."""


def conditions(rows: Rows, filters: Sequence[str]) -> dict[str, NDArray[np.bool_]]:
    """Which rows match each of some SQL conditions; a row for which a condition is null does not match.

    Args:
        rows: what the conditions are about; a condition names their columns.
        filters: the conditions' text; one that comes twice is evaluated once.

    Returns:
        By the condition's text, one truth value per row, in the rows' order.

    Raises:
        DefinitionError: a text is no single condition on one row, or not for columns of these types.
        SchemaError: a condition names a column that the rows lack.
    """
    if not filters:
        return {}
    import numpy as np

    parsed = {text: parse_condition(text, what="filter") for text in filters}
    table, schema = _columns(rows, parsed.values())
    if table.num_rows <= FEW:
        return {text: _one_by_one(item, table, schema) for text, item in parsed.items()}
    from grange.deriving.tables import evaluate_table

    named = {f"condition {place}": item for place, item in enumerate(parsed.values())}
    found = evaluate_table(named, table, schema)
    masks = (found.column(name).combine_chunks().fill_null(False) for name in named)
    return {text: np.asarray(mask) for text, mask in zip(parsed, masks, strict=True)}


def _one_by_one(condition: Expression, table: pa.Table, schema: Schema) -> NDArray[np.bool_]:
    import numpy as np

    from grange.deriving.rows import compile_row

    matches = compile_row(condition, schema)
    columns = [table.column(name).to_pylist() for name in schema.names]
    rows = zip(*columns, strict=True) if columns else ((),) * table.num_rows
    return np.fromiter((matches(row) is True for row in rows), np.bool_, table.num_rows)


def _columns(rows: Rows, parsed: Iterable[Expression]) -> tuple[pa.Table, Schema]:
    """The columns that conditions name, in their canonical types. Those that are not there are left to the conditions,
    which say what there is."""
    import pyarrow as pa

    table = rows.arrow
    wanted = dict.fromkeys(column for item in parsed for column in item.columns)
    lacking = any(name not in table.column_names for name in wanted)
    columns, types = {}, {}
    for name in table.column_names if lacking else wanted:
        dtype = from_arrow_type(table.column(name).type)
        if dtype is not None:
            types[name] = dtype
            columns[name] = conform_column(table.column(name), Column(name, dtype), what="rows to filter")
    chosen = pa.table(columns) if columns else table.select([])
    return chosen, Schema.of(types)


__all__ = ["conditions"]
