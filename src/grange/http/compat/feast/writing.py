"""Rows as Feast's clients send them, as the rows of a feature group.

A table is lists by column, or, as pandas writes it, values by row label by column. Feast's own online store calls the
times `event_timestamp` and `created`, whatever they are called where they come from, and writes the times among
features as seconds since 1970.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any

from grange.definitions.feature_group import FeatureGroup
from grange.definitions.sources import raw_schema
from grange.errors import RequestError
from grange.types import DataType
from grange.types.time import EPOCH

Columns = dict[str, list[Any]]

EVENT_TIMESTAMP = "event_timestamp"
CREATED = "created"


def columns_of(df: Mapping[str, Any]) -> Columns:
    """A table of a request as lists by column.

    Raises:
        RequestError: a column that is neither a list nor values by row label; columns of unequal length.
    """
    columns: Columns = {}
    for name, values in df.items():
        if isinstance(values, Mapping):
            values = list(values.values())
        if not isinstance(values, list):
            raise RequestError(f"column {name!r} of df is no list", found=type(values).__name__)
        columns[name] = values
    if len({len(values) for values in columns.values()}) > 1:
        raise RequestError(
            "the columns of df are of equal length",
            found=", ".join(f"{name}: {len(values)}" for name, values in columns.items()),
        )
    return columns


def rows_for(group: FeatureGroup, columns: Columns, *, now: dt.datetime) -> Columns:
    """Columns as a group takes them: times under its names, in its types.

    Args:
        group: what they are pushed to.
        columns: as they were sent.
        now: when rows became known that do not say so.
    """
    named = dict(columns)
    _rename(named, EVENT_TIMESTAMP, group.source.event_time)
    _rename(named, CREATED, group.created_time)
    if group.created_time is not None:
        count = len(next(iter(named.values()), []))
        known = named.get(group.created_time) or [None] * count
        named[group.created_time] = [now if value is None else value for value in known]
    types = {column.name: column.dtype for column in group.schema} | dict(raw_schema(group.source))
    return {name: _typed(values, types.get(name)) for name, values in named.items()}


def _rename(columns: Columns, sent: str, own: str | None) -> None:
    """Give a time column the group's name for it; drop it where the group has none."""
    if sent == own or sent not in columns or (own is not None and own in columns):
        return
    values = columns.pop(sent)
    if own is not None:
        columns[own] = values


def _typed(values: Sequence[Any], dtype: DataType | None) -> list[Any]:
    if dtype is not None and dtype.kind == "datetime":
        return [_moment(value) for value in values]
    return list(values)


def _moment(value: Any) -> Any:
    """Seconds since 1970 as a time; anything else stays as it is."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    try:
        return EPOCH + dt.timedelta(seconds=value)
    except OverflowError as error:
        raise RequestError(f"{value!r} seconds since 1970 is no time that can be stored") from error


__all__ = ["columns_of", "rows_for"]
