"""Vectors that a server read: the same answer as `OnlineFeatures`, over columns that came in one message."""

from __future__ import annotations

import datetime as dt
import decimal
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from grange.errors import UnsupportedError
from grange.frames import Rows
from grange.serving.status import Status
from grange.serving.values import from_wire, over_list, to_wire
from grange.types import DataType
from grange.types.time import to_utc

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

Converter = Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class Shape:
    """What the columns of an answer are, whatever the rows."""

    types: Mapping[str, DataType]
    """In the order of the columns."""
    roles: Mapping[str, str]
    echo: tuple[str, ...]
    """The columns that repeat what was asked for: keys and request columns."""
    decoders: Mapping[str, Converter]
    """Of the others, where their values are something else in a message."""
    known_at: float
    """When it was learned, by the session's clock."""

    @classmethod
    def of(cls, types: Mapping[str, DataType], roles: Mapping[str, str], known_at: float) -> Shape:
        """The shape of columns of some types."""
        echo = tuple(name for name in types if roles[name] in ("key", "request"))
        found = {name: decoder(dtype) for name, dtype in types.items() if name not in echo}
        decoders = {name: convert for name, convert in found.items() if convert is not None}
        return cls(types, roles, echo, decoders, known_at)


class RemoteOnlineFeatures:
    """The answer to a request: one vector per requested row, in order.

    Columns: key columns, then request columns, then features.
    """

    __slots__ = ("_columns", "_event_times", "_length", "_shape", "_statuses", "degraded", "masked")

    def __init__(
        self,
        shape: Shape,
        columns: Mapping[str, Sequence[Any]],
        rows: Sequence[Mapping[str, Any]],
        *,
        statuses: Sequence[Mapping[str, str]] | None,
        event_times: Sequence[Mapping[str, Any]] | None,
        degraded: bool,
        masked: frozenset[str],
    ) -> None:
        self._shape = shape
        read = {
            name: [None if value is None else convert(value) for value in columns[name]]
            for name, convert in shape.decoders.items()
        }
        asked = {name: [row[name] for row in rows] for name in shape.echo}
        self._columns = {name: asked.get(name) or read.get(name) or columns[name] for name in shape.types}
        self._length = len(rows)
        self._statuses = statuses
        self._event_times = event_times
        self.degraded = degraded
        """Whether the store could not be reached and defaults stand in (ONL-6)."""
        self.masked = masked
        """Columns that a policy hides from whoever asks: their values are null."""

    def __len__(self) -> int:
        return self._length

    def __repr__(self) -> str:
        return f"OnlineFeatures({len(self)} x {list(self.column_names)}{', degraded' if self.degraded else ''})"

    @property
    def column_names(self) -> tuple[str, ...]:
        """The columns, in order."""
        return tuple(self._columns)

    @property
    def roles(self) -> dict[str, str]:
        """What each column is for, in order: `key`, `request`, `inference_helper`, or `feature`: what a model takes."""
        return dict(self._shape.roles)

    def to_dicts(self) -> list[dict[str, Any]]:
        """One dict per row. Times are UTC datetimes, decimals are `Decimal`, a uuid is its text."""
        names = tuple(self._columns)
        return [dict(zip(names, values, strict=True)) for values in zip(*self._columns.values(), strict=True)]

    def to_arrow(self) -> pa.Table:
        """An Arrow table; every column in the canonical type of its declaration."""
        import pyarrow as pa

        from grange.types.arrow import arrow_type

        arrays = []
        for name, dtype in self._shape.types.items():
            values = self._columns[name]
            if name in self._shape.echo:  # in the words of whoever asked: ISO 8601 text for a time, say
                values = [_as_declared(value, dtype) for value in values]
            arrays.append(pa.array(values, arrow_type(dtype)))
        return pa.Table.from_arrays(arrays, names=list(self._shape.types))

    def to_polars(self) -> pl.DataFrame:
        """A Polars DataFrame."""
        return Rows(arrow=self.to_arrow()).polars

    def to_pandas(self) -> Any:
        """A pandas DataFrame with Arrow-backed types.

        Raises:
            MissingDependencyError: pandas is not installed.
        """
        return Rows(arrow=self.to_arrow()).pandas

    @property
    def statuses(self) -> list[dict[str, Status | str]]:
        """Per row, the status of each feature (ONL-3), as it was read. `MASKED` is a value that a policy hides.

        Raises:
            UnsupportedError: the store was told to leave them out.
        """
        if self._statuses is None:
            raise _left_out("statuses")
        return [{name: _status(said) for name, said in row.items()} for row in self._statuses]

    @property
    def event_times(self) -> list[dict[str, dt.datetime | None]]:
        """Per row, the event time of each feature's stored row; None where nothing was found.

        Raises:
            UnsupportedError: the store was told to leave them out.
        """
        if self._event_times is None:
            raise _left_out("event times")
        return [
            {name: None if said is None else to_utc(said) for name, said in row.items()} for row in self._event_times
        ]


def _as_declared(value: Any, dtype: DataType) -> Any:
    """A value of a request as its column has it; uuids are text in Arrow."""
    return str(value) if isinstance(value, uuid.UUID) else from_wire(to_wire(value, dtype), dtype)


def decoder(dtype: DataType) -> Converter | None:
    """From a message to Python, of values that are not None; None where the value is itself."""
    match dtype.kind:
        case "date":
            return dt.date.fromisoformat
        case "datetime":
            return to_utc
        case "duration":
            return _duration
        case "decimal":
            return decimal.Decimal
        case "list":
            assert dtype.item is not None
            return over_list(decoder(dtype.item))
        case "struct":
            return _over_struct({name: decoder(inner) for name, inner in dtype.fields})
        case _:
            return None


def _duration(text: str) -> dt.timedelta:
    return msgspec.convert(text, dt.timedelta)


def _over_struct(converters: Mapping[str, Converter | None]) -> Converter | None:
    if all(convert is None for convert in converters.values()):
        return None

    def over_fields(value: Mapping[str, Any]) -> dict[str, Any]:
        return {
            name: convert(item) if item is not None and (convert := converters.get(name)) is not None else item
            for name, item in value.items()
        }

    return over_fields


def _status(said: str) -> Status | str:
    return Status(said) if said in Status.__members__ else said


def _left_out(what: str) -> UnsupportedError:
    return UnsupportedError(
        f"this answer has no {what}: the store was opened to leave them out",
        found="statuses=False",
        try_='FeatureStore("https://...") without statuses=False',
    )
