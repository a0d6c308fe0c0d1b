"""Spines of training datasets: what identifies their rows, their hash, and how to ask for them again."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from grange.errors import ColumnTypeError, SchemaError
from grange.types import DataType, Schema
from grange.types.arrow import conform_column, from_arrow_type
from grange.types.schema import Column
from grange.types.time import from_micros, isoformat
from grange.verbs.history import HistoricalFeatures, is_query
from grange.verbs.parts import Parts
from grange.verbs.training.request import TrainingRequest

if TYPE_CHECKING:
    import pyarrow as pa

_OF_SPINE = ("key", "event_time", "spine", "request")


def identity_of(found: HistoricalFeatures) -> list[str]:
    """The columns that identify a row: its entity keys and its event time."""
    keys = [name for name, role in found.roles.items() if role == "key"]
    return [*keys, found.event_time]


def spine_hash(found: HistoricalFeatures) -> str:
    """SHA-256 of the rows that were asked for: names, types and values of their columns, in order.

    Values count by their hash in `grange.kernels.splitting`, which no version of a library changes.
    """
    from grange.kernels.splitting import row_hash

    table = typed_time(found.to_arrow(), found.event_time)
    digest = hashlib.sha256()
    for name, role in found.roles.items():
        if role not in _OF_SPINE and not (role == "label" and name in found.spine_names):
            continue
        column = table.column(name)
        digest.update(repr((name, str(_dtype(name, column.type)))).encode())
        digest.update(row_hash([column], 0).tobytes())
    return digest.hexdigest()


def schema_of(table: pa.Table) -> Schema:
    """The columns of joined rows, in types as Grange names them; a column of nulls alone is text."""
    columns = []
    for field in table.schema:
        dtype = _dtype(field.name, field.type)
        columns.append(Column(field.name, dtype if dtype is not None else DataType("string")))
    return Schema(tuple(columns))


def typed_time(table: pa.Table, event_time: str) -> pa.Table:
    """Joined rows with their times as times, whatever the spine had them as: texts of a CSV file, dates (TIME-1)."""
    place = table.column_names.index(event_time)
    column = Column(event_time, DataType("datetime"))
    times = conform_column(table.column(place), column, what="the spine")
    return table.set_column(place, event_time, times)


def _dtype(name: str, arrow: pa.DataType) -> DataType | None:
    """The type of a column of joined rows.

    Raises:
        ColumnTypeError: one that cannot be kept.
    """
    try:
        return from_arrow_type(arrow)
    except SchemaError as error:
        raise ColumnTypeError(
            f"column {name!r} of the spine is {arrow}, which a training dataset cannot keep",
            try_=f"leave {name!r} out of the spine, or cast it",
        ) from error


def recipe_of(parts: Parts, request: TrainingRequest) -> dict[str, Any]:
    """How the spine can be had again, JSON-able."""
    spine = request.spine
    if spine is None:
        return {"type": "made", "start": _moment(request.start), "end": _moment(request.end)}
    time = {"event_time": request.event_time}
    if isinstance(spine, str) and is_query(spine):
        return {"type": "query", "query": spine, **time}
    if isinstance(spine, str | os.PathLike):
        path = Path(spine)
        inside = path.is_relative_to(parts.project) if path.is_absolute() else False
        return {"type": "file", "path": str(path.relative_to(parts.project) if inside else path), **time}
    return {"type": "frame", "frame": type(spine).__module__.partition(".")[0], **time}


def _moment(micros: int | None) -> str | None:
    return None if micros is None else isoformat(from_micros(micros))
