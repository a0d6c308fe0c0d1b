"""Vectors prepared for a model: online reads, with their features as a view's transformations make them."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

from grange.frames import Rows
from grange.preparing import Prepared
from grange.serving.reader import OnlineFeatures, OnlineReader
from grange.serving.status import Status

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

    from grange.plan.nodes import ReadPlan


class PreparedReader:
    """An online reader whose features a model's transformations prepare. Safe for several threads."""

    __slots__ = ("_names", "_prepare", "_prepared", "_reader")

    def __init__(self, reader: OnlineReader, prepared: Prepared) -> None:
        self._reader = reader
        self._prepared = prepared
        self._prepare = prepared.compile_row()
        self._names: tuple[str, ...] = ()

    @property
    def plan(self) -> ReadPlan:
        """What is read, before it is prepared."""
        return self._reader.plan

    def read(self, rows: Any, now_micros: int) -> PreparedFeatures:
        """The features of each row, prepared. Takes and raises what `OnlineReader.read` does; and what the
        transformations do: ColumnTypeError, DataError, TransformError."""
        return PreparedFeatures(self._reader.read(rows, now_micros), self)

    def names(self, found: OnlineFeatures) -> tuple[str, ...]:
        """The columns of the answer: what is no feature as it stands, the prepared features where the first stood."""
        if not self._names:
            roles = found.roles
            features = [name for name, role in roles.items() if role == "feature"]
            first = list(roles).index(features[0])
            others = [name for name in roles if name not in features]
            before = [name for name in list(roles)[:first] if name in others]
            self._names = (*before, *self._prepared.outputs.names, *(n for n in others if n not in before))
        return self._names


class PreparedFeatures:
    """The answer to a request, prepared: one vector per requested row, in order."""

    __slots__ = ("_found", "_reader")

    def __init__(self, found: OnlineFeatures, reader: PreparedReader) -> None:
        self._found = found
        self._reader = reader

    def __len__(self) -> int:
        return len(self._found)

    def __repr__(self) -> str:
        return f"PreparedFeatures({len(self)} x {list(self.column_names)}{', degraded' if self.degraded else ''})"

    @property
    def degraded(self) -> bool:
        """Whether the store could not be reached and defaults stand in (ONL-6)."""
        return self._found.degraded

    @property
    def raw(self) -> OnlineFeatures:
        """The same vectors before they were prepared."""
        return self._found

    @property
    def column_names(self) -> tuple[str, ...]:
        """The columns, in order."""
        return self._reader.names(self._found)

    @property
    def roles(self) -> dict[str, str]:
        """What each column is for, in order."""
        known = self._found.roles
        made = self._reader._prepared.outputs
        return {name: "feature" if name in made else known[name] for name in self.column_names}

    def to_dicts(self) -> list[dict[str, Any]]:
        """One dict per row.

        Raises:
            ColumnTypeError, DataError, TransformError: a transformation cannot prepare a row.
        """
        prepare, names = self._reader._prepare, self.column_names
        vectors = []
        for raw in self._found.to_dicts():
            values = {**raw, **prepare(raw)}
            vectors.append({name: values[name] for name in names})
        return vectors

    def to_records(self) -> list[dict[str, Any]]:
        """As `OnlineFeatures.to_records`; these are the dicts themselves. Raises what `to_dicts` does."""
        return self.to_dicts()

    def to_arrow(self) -> pa.Table:
        """An Arrow table."""
        import pyarrow as pa

        table = self._found.to_arrow()
        prepared = self._reader._prepared
        done = prepared.apply_table(table)
        return pa.table(
            {name: (done if name in prepared.outputs else table).column(name) for name in self.column_names}
        )

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
    def statuses(self) -> list[dict[str, Status]]:
        """Per row, the status of each feature as it was read, before it was prepared (ONL-3)."""
        return self._found.statuses

    @property
    def event_times(self) -> list[dict[str, dt.datetime | None]]:
        """Per row, the event time of each feature as it was read."""
        return self._found.event_times
