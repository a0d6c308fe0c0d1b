"""Defaults: what stands in when a feature has no value (ONL-5)."""

from __future__ import annotations

from typing import Any, Final

from grange.errors import ColumnTypeError
from grange.plan.nodes import ReadColumn
from grange.serving.values import encoder, from_wire

MISFITS: Final = (TypeError, ValueError, ArithmeticError, AttributeError)
"""What an encoder raises for a value that is not of its type."""


def default_of(column: ReadColumn) -> Any:
    """A column's default as the column's own values are: 0 for a float is 0.0, text for a datetime is a datetime.

    Raises:
        ColumnTypeError: the default is not of the column's type.
    """
    if column.default is None:
        return None
    try:
        return from_wire(encoder(column.dtype)(column.default), column.dtype)
    except MISFITS as error:
        raise ColumnTypeError(
            f"the default of {column.name!r} is not of its type {column.dtype}", found=repr(column.default)
        ) from error
