"""Sources: where raw rows come from. Values only; connectors read them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from grange.definitions.references import FeatureSelection, as_selection
from grange.errors import DefinitionError
from grange.types import DataType, Schema
from grange.types.names import check_column, check_name

FileFormat = Literal["parquet", "csv", "jsonl"]
_SUFFIXES: dict[str, FileFormat] = {
    ".parquet": "parquet", ".pq": "parquet", ".csv": "csv", ".tsv": "csv",
    ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl",
}  # fmt: skip


@dataclass(frozen=True, slots=True, init=False)
class FileSource:
    """Rows in files: Parquet, CSV or JSON Lines; one file, a glob, or a directory of them.

    A relative path is relative to the project (the folder of `grange.toml`). Files are read in the order of
    their sorted paths; that and the order of rows in a file decide ties that times leave open (PIT-3).

    Args:
        path: a file, a glob such as `data/*.parquet`, or a directory (read with all folders under it).
        event_time: the column that says when a row was true. Leave it out for rows that are always true
            (a table of airports); such a group has no ttl.
        created_time: the column that says when a row became known.
        event_id: the column that identifies an event within an entity key: of several rows of one event the last
            written counts (WIN-6). For groups with aggregations.
        retracted: a boolean column that is true in a row that takes its event back. Needs an event_id.
        format: `parquet`, `csv` or `jsonl`; by the path's ending when left out.
        schema: types of raw columns, for formats that carry none: `{"user_id": "string"}` keeps `007` text.
        separator: of a CSV file; one character.

    Raises:
        DefinitionError: a format that cannot be told from the path, or a column name that is none.
    """

    path: str
    event_time: str | None
    created_time: str | None
    format: FileFormat
    schema: Schema
    separator: str
    name: str
    event_id: str | None
    retracted: str | None

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        event_time: str | None = None,
        created_time: str | None = None,
        event_id: str | None = None,
        retracted: str | None = None,
        format: FileFormat | None = None,
        schema: Schema | Mapping[str, Any] | None = None,
        separator: str | None = None,
        name: str | None = None,
    ) -> None:
        if not isinstance(path, str | os.PathLike):
            raise DefinitionError(
                "a file source needs a path",
                found=f"{path!r:.80} ({type(path).__name__})",
                try_="gr.FileSource('data/rows.parquet'); a frame is gr.TableSource(frame, name='...')",
            )
        text = os.fspath(path)
        what = f"source {text!r}"
        if not text or "\x00" in text:
            raise DefinitionError("a file source needs a path")
        found = format or _format_of(text)
        if found not in get_args(FileFormat):
            raise DefinitionError(
                f"{what}: cannot tell the format from the path",
                found=format or text,
                try_="say it: FileSource(..., format='parquet'), one of parquet, csv, jsonl",
            )
        separator = separator or ("\t" if text.lower().endswith(".tsv") else ",")
        if len(separator) != 1:
            raise DefinitionError(f"{what}: separator must be one character, got {separator!r}")
        set_ = object.__setattr__
        set_(self, "path", text)
        set_(self, "event_time", None if event_time is None else check_column(event_time, what=what))
        set_(self, "created_time", None if created_time is None else check_column(created_time, what=what))
        set_(self, "format", found)
        set_(self, "schema", Schema.of(schema or {}))
        set_(self, "separator", separator)
        set_(self, "name", name or text)
        _check_times(self.event_time, self.created_time, what)
        _set_event(self, event_id, retracted, what)


@dataclass(frozen=True, slots=True, init=False, eq=False)
class TableSource:
    """Rows in a frame that this process holds: Polars, pandas, Arrow, Narwhals or a list of dicts.

    The frame is not stored in the registry: another process can read what was materialized from it, and
    cannot materialize it again. `name` says what it is in listings. The other arguments are those of `FileSource`.
    """

    name: str
    frame: Any = field(repr=False)
    event_time: str | None
    created_time: str | None
    event_id: str | None
    retracted: str | None

    def __init__(
        self,
        frame: Any,
        *,
        name: str,
        event_time: str | None = None,
        created_time: str | None = None,
        event_id: str | None = None,
        retracted: str | None = None,
    ) -> None:
        what = f"source {name!r}"
        set_ = object.__setattr__
        set_(self, "name", check_name(name, what="source"))
        set_(self, "frame", frame)
        set_(self, "event_time", None if event_time is None else check_column(event_time, what=what))
        set_(self, "created_time", None if created_time is None else check_column(created_time, what=what))
        _check_times(event_time, created_time, what)
        _set_event(self, event_id, retracted, what)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, TableSource):
            return NotImplemented
        return self._identity() == other._identity() and (
            self.frame is other.frame or self.frame is None or other.frame is None
        )

    def __hash__(self) -> int:
        return hash(self._identity())

    def _identity(self) -> tuple[str | None, ...]:
        return self.name, self.event_time, self.created_time, self.event_id, self.retracted


@dataclass(frozen=True, slots=True, init=False)
class PushSource:
    """Rows that are pushed by the application with `store.push(name, rows)`.

    Args:
        name: what to push to; every group that reads this source gets the rows.
        schema: the pushed columns and their types; needed, since there is nothing to infer them from,
            unless a batch source gives them.
        event_time: the column that says when a row was true. Needed.
        created_time: the column that says when a row became known.
        event_id: the column that identifies an event within an entity key: of several rows of one event the last
            written counts (WIN-6). For groups with aggregations.
        retracted: a boolean column that is true in a row that takes its event back. Needs an event_id.
        batch_source: the same rows' older history in files; materialize reads it, then the pushed rows.
    """

    name: str
    schema: Schema
    event_time: str | None
    created_time: str | None
    batch_source: FileSource | None
    event_id: str | None
    retracted: str | None

    def __init__(
        self,
        name: str,
        *,
        event_time: str,
        schema: Schema | Mapping[str, Any] | None = None,
        created_time: str | None = None,
        event_id: str | None = None,
        retracted: str | None = None,
        batch_source: FileSource | None = None,
    ) -> None:
        what = f"source {name!r}"
        set_ = object.__setattr__
        set_(self, "name", check_name(name, what="source"))
        set_(self, "schema", Schema.of(schema or {}))
        set_(self, "event_time", check_column(event_time, what=what))
        set_(self, "created_time", None if created_time is None else check_column(created_time, what=what))
        set_(self, "batch_source", batch_source)
        _check_times(event_time, created_time, what)
        _set_event(self, event_id, retracted, what)
        if not self.schema and batch_source is None:
            raise DefinitionError(f"{what} needs a schema", try_="PushSource(..., schema={'user_id': 'string', ...})")
        for column in (event_time, created_time, event_id, retracted):
            if self.schema and column and column not in self.schema:
                raise DefinitionError(f"{what}: its schema lacks the column {column!r}")
        if batch_source and (batch_source.event_time, batch_source.created_time) != (
            event_time,
            created_time,
        ):
            raise DefinitionError(
                f"{what}: its batch source has other time columns",
                found=f"event_time={batch_source.event_time!r}, created_time={batch_source.created_time!r}",
            )
        if batch_source and (batch_source.event_id, batch_source.retracted) != (event_id, retracted):
            raise DefinitionError(
                f"{what}: its batch source identifies events by other columns",
                found=f"event_id={batch_source.event_id!r}, retracted={batch_source.retracted!r}",
            )


@dataclass(frozen=True, slots=True, init=False)
class RequestSource:
    """Columns that come with each request (and, for training, with the spine): the basket, the device, the query.

    A feature view that lists one demands its columns, with their types, of every spine and request.
    """

    name: str
    schema: Schema

    def __init__(self, name: str, *, schema: Schema | Mapping[str, Any]) -> None:
        object.__setattr__(self, "name", check_name(name, what="source"))
        object.__setattr__(self, "schema", Schema.of(schema))
        if not self.schema:
            raise DefinitionError(f"request source {name!r} needs a schema")


@dataclass(frozen=True, slots=True, init=False)
class DerivedSource:
    """Rows made of other feature groups: the first one's rows, with features of others joined beside them.

    Each row of the base group is a row, those of equal key and time too (WIN-6); its own features are those of the row,
    and those of the others what a point-in-time join finds at its entity key and time. Where joins say which rows there
    are (`gr.select(..., join="right")` or `"full"`), and where the base group has aggregations, there is one row per
    distinct entity key and time instead (PIT-8), and all features are joined.

    The groups are its parents: when one of them has a new version, or rows were pushed to it, the derived group is
    stale, and materialized after it. A parent whose version is pinned never makes it stale.

    >>> DerivedSource(["orders", "users:age"]).parents
    ('orders', 'users')

    Args:
        features: what is taken, the base group first: as in a feature view.
        event_time: what the event-time column is called in the derived rows; the base group's times. No feature may
            have the same name.
        filter: a SQL condition on the columns of the derived rows; other rows are left out.
        name: what listings call it.

    Raises:
        DefinitionError: nothing is taken.
        RequestError: something that is no reference.
    """

    features: tuple[FeatureSelection, ...]
    event_time: str | None
    filter: str
    name: str
    created_time: str | None
    event_id: str | None
    retracted: str | None

    def __init__(
        self,
        features: Sequence[Any],
        *,
        event_time: str = "event_time",
        filter: str = "",
        name: str = "",
    ) -> None:
        set_ = object.__setattr__
        items = [features] if isinstance(features, str | FeatureSelection) else list(features)
        if not items:
            raise DefinitionError("a derived source takes features of at least one group")
        set_(self, "features", tuple(as_selection(item) for item in items))
        set_(self, "event_time", check_column(event_time, what="derived source"))
        set_(self, "filter", filter.strip())
        set_(self, "name", name or " + ".join(self.parents))
        set_(self, "created_time", None)
        set_(self, "event_id", None)
        set_(self, "retracted", None)

    @property
    def description(self) -> str:
        """What it is made of, for people."""
        first, *others = map(str, self.features)
        joined = f", with {'; '.join(others)}" if others else ""
        return f"Derived from {first}{joined}{f', where {self.filter}' if self.filter else ''}."

    @property
    def parents(self) -> tuple[str, ...]:
        """The groups that it is made of, in order, each once."""
        return tuple(dict.fromkeys(item.source for item in self.features))


Source = FileSource | TableSource | PushSource | DerivedSource
"""What a feature group is computed from."""


def raw_schema(source: Source) -> dict[str, DataType]:
    """Declared types of the source's raw columns; empty when the source says none."""
    match source:
        case FileSource() | PushSource():
            return {column.name: column.dtype for column in source.schema}
        case TableSource() | DerivedSource():
            return {}


def _format_of(path: str) -> FileFormat | None:
    stem = path.lower().removesuffix(".gz")
    for suffix, file_format in _SUFFIXES.items():
        if stem.endswith(suffix):
            return file_format
    # a directory, or a glob without an ending: Parquet is what tables are kept in
    return "parquet" if path.endswith(("/", "*")) or "." not in os.path.basename(path) else None  # noqa: PTH119


def _check_times(event_time: str | None, created_time: str | None, what: str) -> None:
    if event_time is not None and event_time == created_time:
        raise DefinitionError(f"{what}: event_time and created_time are the same column {event_time!r}")
    if event_time is None and created_time is not None:
        raise DefinitionError(f"{what} has a created_time and no event_time", try_="name both, or neither")


def _set_event(source: Source, event_id: str | None, retracted: str | None, what: str) -> None:
    """Check and set the columns that identify events and take them back."""
    columns = [source.event_time, source.created_time]
    for column in (event_id, retracted):
        if column is not None and check_column(column, what=what) in columns:
            raise DefinitionError(f"{what}: {column!r} stands for two things")
        columns.append(column)
    if retracted is not None and event_id is None:
        raise DefinitionError(f"{what} has retracted={retracted!r} and no event_id", try_="event_id='...'")
    if event_id is not None and source.event_time is None:
        raise DefinitionError(f"{what} has an event_id and no event_time", try_="event_time='...'")
    object.__setattr__(source, "event_id", event_id)
    object.__setattr__(source, "retracted", retracted)
