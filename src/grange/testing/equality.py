"""The one rule of equality, by which every engine and store is judged.

Two tables are equal when they have the same columns in the same order, of the same Arrow types, and the same rows
in the same order, duplicates included. A null equals a null and nothing else, NaN equals NaN and nothing else,
and any other float is equal when its bits are: `0.0` is not `-0.0`. Values compare by type and value, also inside
lists and structs. There is no tolerance where engines move values.

Where they compute them, in windows, the caller names a tolerance, `COMPUTED`: floats are then equal within that
much of the larger one, and zeros of both signs are (ONL-1). Everything else stays exact.

Rows are never sorted, except that the caller may name keys for the one node whose rows come in no particular
order (`Latest`), and are never de-duplicated.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from typing import Any, Final

import pyarrow as pa

from grange.frames import Rows

COMPUTED: Final = 1e-9
"""The relative tolerance of floats that were computed (ONL-1)."""


def assert_rows_equal(
    actual: Rows | pa.Table,
    expected: Rows | pa.Table,
    *,
    what: str = "rows",
    by: Sequence[str] = (),
    tolerance: float = 0.0,
) -> None:
    """Fail unless two tables are equal by the rule of this module.

    Args:
        actual: what was found.
        expected: what should have been found.
        what: names the rows in the message.
        by: key columns that order both sides first, for rows that come in no particular order; they hold no nulls.
        tolerance: of floats, relative to the larger one; 0 compares their bits.

    Raises:
        AssertionError: they differ; says the first column or cell where.
    """
    problem = difference(actual, expected, by=by, tolerance=tolerance)
    if problem is not None:
        raise AssertionError(f"{what}: {problem}")


def difference(
    actual: Rows | pa.Table, expected: Rows | pa.Table, *, by: Sequence[str] = (), tolerance: float = 0.0
) -> str | None:
    """What makes two tables differ first, in one sentence; None when they are equal. See `assert_rows_equal`."""
    left, right = _table(actual), _table(expected)
    if left.column_names != right.column_names:
        return f"columns are {left.column_names}, expected {right.column_names}"
    for name in right.column_names:
        found, wanted = left.schema.field(name).type, right.schema.field(name).type
        if found != wanted:
            return f"column {name!r} is of type {found}, expected {wanted}"
    if left.num_rows != right.num_rows:
        return f"{left.num_rows} rows, expected {right.num_rows}"
    found_columns, wanted_columns = _columns(left), _columns(right)
    if by:
        found_columns, wanted_columns = _ordered(found_columns, by), _ordered(wanted_columns, by)
    for row in range(right.num_rows):
        for name in right.column_names:
            found_value = found_columns[name][row]
            if not same(found_value, wanted_columns[name][row], tolerance=tolerance):
                return f"row {row}, column {name!r} is {found_value!r}, expected {_show(row, wanted_columns, name)}"
    return None


def same(left: Any, right: Any, *, tolerance: float = 0.0) -> bool:
    """Whether two Python values are equal by the rule of this module."""
    if type(left) is not type(right):
        return False
    if isinstance(left, float):
        return _same_float(left, right, tolerance)
    if isinstance(left, list):
        return len(left) == len(right) and all(
            same(a, b, tolerance=tolerance) for a, b in zip(left, right, strict=True)
        )
    if isinstance(left, dict):
        return list(left) == list(right) and all(same(left[name], right[name], tolerance=tolerance) for name in left)
    return bool(left == right)


def _same_float(left: float, right: float, tolerance: float) -> bool:
    if math.isnan(left) or math.isnan(right):
        return math.isnan(left) and math.isnan(right)
    if tolerance:
        return math.isclose(left, right, rel_tol=tolerance, abs_tol=0.0)
    return struct.pack("<d", left) == struct.pack("<d", right)


def _show(row: int, columns: dict[str, list[Any]], name: str) -> str:
    others = {other: values[row] for other, values in columns.items() if other != name}
    return f"{columns[name][row]!r}" + (f" (the rest of the row: {others!r})" if others else "")


def _table(rows: Rows | pa.Table) -> pa.Table:
    return rows.arrow if isinstance(rows, Rows) else rows


def _columns(table: pa.Table) -> dict[str, list[Any]]:
    return {name: _values(table.column(name)) for name in table.column_names}


def _values(column: pa.ChunkedArray) -> list[Any]:
    arrow = column.type
    if pa.types.is_timestamp(arrow) or pa.types.is_duration(arrow):
        # as the integers that they are: Python's own end at the year 9999 and know no nanoseconds
        return list(column.cast(pa.int64()).to_pylist())
    return list(column.to_pylist())


def _ordered(columns: dict[str, list[Any]], by: Sequence[str]) -> dict[str, list[Any]]:
    count = len(next(iter(columns.values())))
    order = sorted(range(count), key=lambda row: tuple(columns[name][row] for name in by))
    return {name: [values[row] for row in order] for name, values in columns.items()}


__all__ = ["COMPUTED", "assert_rows_equal", "difference", "same"]
