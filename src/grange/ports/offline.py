"""The port of an offline store: immutable versions of a group's history, and the rows pushed since."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar, get_args, runtime_checkable

from grange.definitions.versioning import Build, VersionForecast
from grange.errors import SchemaError
from grange.frames import Rows
from grange.plan.nodes import Node
from grange.types import Schema
from grange.types.aggregates import Aggregate, Closed
from grange.types.dtypes import parse_dtype
from grange.types.durations import format_duration, parse_duration, timedelta_of, to_micros
from grange.types.names import parse_version
from grange.types.schema import Column
from grange.types.time import isoformat, to_utc

if TYPE_CHECKING:
    from grange.ports.datasets import DatasetStore

PUSHED_FROM = 1 << 40
"""Rows that came by push have sequence numbers from here on, so they come after every source row (PIT-3)."""
NEVER_MATERIALIZED: Final = "0.0.0"
"""Stands where a version is named, and is none: pushed rows alone."""
NO_FEATURES: Final = Schema()

FeatureRows = Rows | Callable[[], Rows]
"""Feature rows, or what computes them."""


@dataclass(frozen=True, slots=True)
class VersionMeta:
    """What is known of one version; `.meta.json` holds it.

    A version of a group with aggregations has two tables: its events, which are the group's rows (WIN-6), and its
    feature rows, which are the aggregates as of every event or on the grid of `interval`. Without aggregations the
    rows are the features, and there is no second table.

    Raises:
        SchemaError: `features` are not the outputs of `aggregates`, or what describes events stands without any.
    """

    name: str
    """The feature group."""
    version: str
    """MAJOR.MINOR.PATCH; empty in a draft, which the store numbers."""
    schema: Schema
    """The stored columns of the group's rows, without the sequence: entity key, times, features; with aggregations
    entity key, times and whatever the events have besides."""
    entity_keys: tuple[str, ...]
    event_time: str
    created_time: str | None
    content_hash: str = ""
    """SHA-256 of the rows' canonical form and of the aggregates, which together decide the feature rows; with an event
    id also of the order in which rows were written. Set by the store: equal rows, equal hash."""
    schema_hash: str = ""
    """Of `outputs` (VER-2)."""
    config_hash: str = ""
    code_hash: str = ""
    created_at: dt.datetime | None = None
    row_count: int = 0
    min_event_time: dt.datetime | None = None
    max_event_time: dt.datetime | None = None
    source_rows: int = 0
    """Source rows have a sequence below this, so that later ones can go on from here."""
    pushed_through: int = PUSHED_FROM
    """Pushed rows with a sequence below this are inside the version."""
    files: tuple[str, ...] = ()
    """Files of the rows, relative to the version's folder, in row order."""
    size_bytes: int = 0
    """Of all its files, those of the feature rows included."""
    change_summary: tuple[tuple[str, Any], ...] = ()
    """bump_type, reason, details: why the version has its number."""
    source: str = ""
    """Where the rows came from, for people."""
    quarantined: int = 0
    """Rows that an expectation with policy `drop` kept out."""
    features: Schema = NO_FEATURES
    """The output columns of `aggregates`, in their order; empty without aggregations."""
    aggregates: tuple[Aggregate, ...] = ()
    event_id: str | None = None
    """The column that identifies an event within an entity key (WIN-6)."""
    retracted: str | None = None
    """The boolean column that is true in a row that takes its event back."""
    interval: int | None = None
    """Microseconds between the boundaries at which feature rows lie; None is as of every event."""
    ttl: int | None = None
    """How old an event may be to be seen, in microseconds; of a group with aggregations."""
    feature_rows: int = 0
    feature_files: tuple[str, ...] = ()
    """Files of the feature rows, relative to the version's folder, in row order."""
    fill_gaps: bool = False
    """Whether the grid of `interval` has every boundary between a key's first and last."""
    code: str = ""
    """The transform as it was written: a function's source text, or SQL. Empty without a transform, where the text
    could not be had, and in metadata of releases that did not keep it."""
    parents: tuple[tuple[str, str], ...] = ()
    """(feature group, version) of what a derived group was made from."""

    def __post_init__(self) -> None:
        made = [(aggregate.name, aggregate.dtype) for aggregate in self.aggregates]
        if made != [(column.name, column.dtype) for column in self.features]:
            raise SchemaError(
                f"feature group {self.name!r}: its features are not the outputs of its aggregations",
                found=_listed(self.features) or "no features",
                try_=", ".join(f"{name}: {dtype}" for name, dtype in made) or "no features",
            )
        if not self.aggregates and (self.event_id, self.retracted, self.interval) != (None, None, None):
            raise SchemaError(
                f"feature group {self.name!r}: event_id, retracted and interval are of groups with aggregations",
                found=f"{self.event_id!r}, {self.retracted!r}, {self.interval!r} and no aggregations",
            )
        if self.interval is not None and self.interval < 1:
            raise SchemaError(f"feature group {self.name!r}: an interval of {self.interval} microseconds is none")

    @property
    def feature_schema(self) -> Schema:
        """The columns of the feature rows: entity key, event time, features. Of groups with aggregations."""
        return Schema((*self.schema.select((*self.entity_keys, self.event_time)), *self.features))

    @property
    def outputs(self) -> Schema:
        """What decides between MAJOR and MINOR (VER-1): entity key, times and features; columns that only the events
        of a group with aggregations have are no outputs."""
        if not self.aggregates:
            return self.schema
        times = (self.event_time,) if self.created_time is None else (self.event_time, self.created_time)
        return Schema((*self.schema.select((*self.entity_keys, *times)), *self.features))

    @property
    def build(self) -> Build:
        """What decides the number of the next version, or of this one."""
        return Build(self.outputs, self.content_hash, self.config_hash, self.code_hash, self.pushed_through)

    def to_dict(self) -> dict[str, Any]:
        """As `.meta.json` has it."""
        when = None if self.created_at is None else isoformat(self.created_at)
        return {
            "name": self.name,
            "version": self.version,
            "content_hash": self.content_hash,
            "schema_hash": self.schema_hash,
            "config_hash": self.config_hash,
            "code_hash": self.code_hash,
            "created_at": when,
            "updated_at": when,
            "row_count": self.row_count,
            "entity_keys": list(self.entity_keys),
            "timestamp": self.event_time,
            "created_time": self.created_time,
            "interval": None if self.interval is None else format_duration(timedelta_of(self.interval)),
            "columns": self._columns(),
            "event_columns": self.schema.to_list() if self.aggregates else None,
            "aggregates": [aggregate.to_data() for aggregate in self.aggregates],
            "event_id": self.event_id,
            "ttl": None if self.ttl is None else format_duration(timedelta_of(self.ttl)),
            "fill_gaps": self.fill_gaps,
            "retracted": self.retracted,
            "min_event_time": None if self.min_event_time is None else isoformat(self.min_event_time),
            "max_event_time": None if self.max_event_time is None else isoformat(self.max_event_time),
            "source_rows": self.source_rows,
            "pushed_through": self.pushed_through,
            "files": list(self.files),
            "feature_rows": self.feature_rows,
            "feature_files": list(self.feature_files),
            "size_bytes": self.size_bytes,
            "change_summary": dict(self.change_summary),
            "source": self.source,
            "quarantined": self.quarantined,
            "code": self.code,
            "parents": [{"group": group, "version": version} for group, version in self.parents],
        }

    def _columns(self) -> list[dict[str, str]]:
        """The columns that `data.parquet` has; those of an aggregate say which function and window."""
        if not self.aggregates:
            return self.schema.to_list()
        about = {
            aggregate.name: {"aggregation": str(aggregate.function), "window": str(aggregate.window)}
            for aggregate in self.aggregates
        }
        return [column | about.get(column["name"], {}) for column in self.feature_schema.to_list()]

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> VersionMeta:
        """The inverse of `to_dict`. KeyError, TypeError or ValueError for anything else.

        Metadata of older releases lacks what there was not yet: what describes aggregations, so it reads as of a group
        without; the code; the parents.
        """

        fields = _Fields(data)
        columns = fields.schema("columns")
        aggregates = tuple(map(_aggregate, fields.items("aggregates", ())))
        stored = fields.schema("event_columns") if aggregates else columns
        fields.check_columns(stored)
        return cls(
            name=fields.text("name"),
            version=fields.text("version"),
            schema=stored,
            entity_keys=fields.texts("entity_keys"),
            event_time=fields.text("timestamp"),
            created_time=fields.text_or_none("created_time"),
            content_hash=fields.text("content_hash"),
            schema_hash=fields.text("schema_hash"),
            config_hash=fields.text("config_hash"),
            code_hash=fields.text("code_hash"),
            created_at=fields.moment("created_at"),
            row_count=fields.number("row_count"),
            min_event_time=fields.moment("min_event_time"),
            max_event_time=fields.moment("max_event_time"),
            source_rows=fields.number("source_rows"),
            pushed_through=fields.sequence("pushed_through"),
            files=fields.texts("files"),
            size_bytes=fields.number("size_bytes"),
            change_summary=fields.summary("change_summary"),
            source=fields.text("source"),
            quarantined=fields.number("quarantined"),
            features=columns.select([aggregate.name for aggregate in aggregates]),
            aggregates=aggregates,
            event_id=fields.text_or_none("event_id", None),
            ttl=fields.length("ttl"),
            retracted=fields.text_or_none("retracted", None),
            interval=fields.length("interval"),
            feature_rows=fields.number("feature_rows", 0),
            feature_files=fields.texts("feature_files", ()),
            fill_gaps=fields.of("fill_gaps", bool, False),
            code=fields.text("code", ""),
            parents=tuple(map(_parent, fields.items("parents", ()))),
        )

    def with_(self, **changes: Any) -> VersionMeta:
        """A copy with some fields changed."""
        return replace(self, **changes)


_REQUIRED: Final = object()
_Field = TypeVar("_Field")


@dataclass(frozen=True, slots=True)
class _Fields:
    """The fields of a JSON object, each checked to be what it should be: KeyError when one is missing, TypeError or
    ValueError when it is something else."""

    data: Mapping[str, Any]

    def of(self, key: str, kind: type[_Field], default: Any = _REQUIRED) -> _Field:
        """A value of one type. `True` is no number."""
        value = self.data[key] if default is _REQUIRED else self.data.get(key, default)
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise TypeError(f"{key} is {value!r}, not {kind.__name__}")
        return value

    def text(self, key: str, default: Any = _REQUIRED) -> str:
        """A text."""
        return self.of(key, str, default)

    def text_or_none(self, key: str, default: Any = _REQUIRED) -> str | None:
        """A text, or null."""
        value = self.data[key] if default is _REQUIRED else self.data.get(key, default)
        return None if value is None else self.of(key, str)

    def number(self, key: str, default: Any = _REQUIRED) -> int:
        """Zero or more, in 64 bits."""
        value = self.of(key, int, default)
        if not 0 <= value < 1 << 63:
            raise ValueError(f"{key} is {value}")
        return value

    def sequence(self, key: str) -> int:
        """A number that a pushed row may have."""
        value = self.number(key)
        if value < PUSHED_FROM:
            raise ValueError(f"{key} is {value}, less than {PUSHED_FROM}")
        return value

    def items(self, key: str, default: Any = _REQUIRED) -> list[Any]:
        """A list of anything."""
        return list(default) if default is not _REQUIRED and key not in self.data else self.of(key, list)

    def texts(self, key: str, default: Any = _REQUIRED) -> tuple[str, ...]:
        """A list of texts."""
        return tuple(_checked(item, str, key) for item in self.items(key, default))

    def schema(self, key: str) -> Schema:
        """A list of columns."""
        columns = [_Fields(_checked(item, dict, key)) for item in self.items(key)]
        return Schema(
            tuple(
                Column(column.text("name"), parse_dtype(column.text("dtype")), column.text("description", ""))
                for column in columns
            )
        )

    def moment(self, key: str) -> dt.datetime | None:
        """A time, or null."""
        text = self.text_or_none(key)
        try:
            return None if text is None else to_utc(text)
        except OverflowError as error:
            raise ValueError(f"{key} is {text}, which is no time in UTC") from error

    def summary(self, key: str) -> tuple[tuple[str, Any], ...]:
        """Why a version has its number; empty in metadata of pushed rows."""
        found = self.of(key, dict)
        fields = _Fields(found)
        for text in ("bump_type", "reason"):
            fields.text(text, "")
        fields.texts("details", ())
        return tuple(found.items())

    def check_columns(self, stored: Schema) -> None:
        """That the entity key and the times are stored columns."""
        created = self.text_or_none("created_time")
        needed = (*self.texts("entity_keys"), self.text("timestamp"), *([] if created is None else [created]))
        missing = [name for name in needed if name not in stored]
        if missing:
            raise ValueError(f"{', '.join(missing)} is no stored column")

    def length(self, key: str) -> int | None:
        """A duration in microseconds; None when it is null or missing."""
        text = self.text_or_none(key, None)
        return None if text is None else to_micros(parse_duration(text, what=key))


def _checked(value: Any, kind: type[_Field], what: str) -> _Field:
    if not isinstance(value, kind):
        raise TypeError(f"{what} has {value!r}, which is not {kind.__name__}")
    return value


def _aggregate(item: Any) -> Aggregate:
    fields = _Fields(_checked(item, dict, "aggregates"))
    for key in ("name", "function", "column", "dtype", "closed"):
        fields.text(key)
    for key in ("input", "by_input", "filter"):
        fields.text_or_none(key)
    fields.number("offset")
    fields.number("shift")
    if fields.data["every"] is not None:
        fields.number("every")
    if not all(isinstance(each, str | int | float) for each in fields.items("parameters")):
        raise TypeError(f"parameters has {fields.data['parameters']!r}")
    kind, size = fields.items("window")
    if not isinstance(kind, str) or not isinstance(size, int) or fields.data["closed"] not in get_args(Closed):
        raise TypeError(f"window is {fields.data['window']!r}, closed {fields.data['closed']!r}")
    made = Aggregate.from_data(fields.data)
    try:
        str(made.function), str(made.window)  # what cannot be said is none
    except OverflowError as error:
        raise ValueError(f"window is {fields.data['window']!r}") from error
    return made


def _parent(item: Any) -> tuple[str, str]:
    fields = _Fields(_checked(item, dict, "parents"))
    return fields.text("group"), fields.text("version")


def _listed(schema: Schema) -> str:
    return ", ".join(f"{column.name}: {column.dtype}" for column in schema)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A group's rows at one moment: nodes that any engine can run, and what is known of them."""

    meta: VersionMeta
    rows: Node
    """Stored columns and `__sequence`. With pushed rows since the version, a `Concat` of both."""
    pushed_until: int
    """Pushed rows with a sequence below this are in `rows`, none after. With the version's number it says which rows
    these are, for ever: `snapshot(group, meta.version, pushed_until=pushed_until)` gives them again."""
    pending: int = 0
    """How many pushed rows since the version are in `rows`, and in `rows` alone."""
    features: Node | None = None
    """The version's feature rows, in event-time order: entity key, event time, features (`meta.feature_schema`),
    without a sequence. They are those of the version: pending pushed rows are only in `rows`, until a version
    contains them. None for a group without aggregations, and for one that was never materialized."""


@dataclass(frozen=True, slots=True)
class ManifestEntry:
    """What the manifest says of one group."""

    latest: str
    """The version that is read when none is named."""
    versions: tuple[str, ...]
    """All of them, oldest first by MAJOR.MINOR.PATCH."""
    updated_at: dt.datetime | None
    """When the latest was made."""
    row_count: int
    """Of the latest, as are those below."""
    size_bytes: int
    content_hash: str
    schema_hash: str

    @classmethod
    def of(cls, versions: tuple[str, ...], latest: VersionMeta) -> ManifestEntry:
        """The entry of a group with these versions."""
        return cls(
            latest.version,
            versions,
            latest.created_at,
            latest.row_count,
            latest.size_bytes,
            latest.content_hash,
            latest.schema_hash,
        )

    def to_dict(self) -> dict[str, Any]:
        """As `manifest.json` has it."""
        return {
            "latest": self.latest,
            "versions": list(self.versions),
            "updated_at": None if self.updated_at is None else isoformat(self.updated_at),
            "row_count": self.row_count,
            "size_bytes": self.size_bytes,
            "content_hash": self.content_hash,
            "schema_hash": self.schema_hash,
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> ManifestEntry:
        """The inverse of `to_dict`. KeyError, TypeError or ValueError for anything else."""
        when, versions = data["updated_at"], tuple(data["versions"])
        if any(not isinstance(item, str) or parse_version(item) is None for item in (data["latest"], *versions)):
            raise ValueError(f"{data['latest']!r}, {versions!r} are no versions")
        if any(not isinstance(data[key], int) for key in ("row_count", "size_bytes")):
            raise TypeError("row_count and size_bytes are numbers")
        return cls(
            data["latest"],
            versions,
            None if when is None else to_utc(when),
            data["row_count"],
            data["size_bytes"],
            data["content_hash"],
            data["schema_hash"],
        )


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing `verify` found."""

    path: str
    problem: str
    removed: bool = field(default=False)


@runtime_checkable
class OfflineStore(Protocol):
    """Versions appear all at once and never change (VER-3); pushed rows wait beside the newest one.

    Calls that write (`publish`, `append`, `point`, `delete`) are made while holding `lock(group)`; the others need
    none.
    """

    name: str

    @property
    def datasets(self) -> DatasetStore:
        """The training datasets, which lie beside the history that they pin."""
        ...

    def versions(self, group: str) -> tuple[str, ...]:
        """The published versions, oldest first by MAJOR.MINOR.PATCH; empty when there are none."""
        ...

    def meta(self, group: str, version: str | None = None) -> VersionMeta:
        """What is known of a version; None is the latest.

        Raises:
            UnknownVersionError: there is no such version, or none at all.
            CorruptStoreError: its metadata cannot be read; `details["version"]` says which version it is of.
        """
        ...

    def snapshot(self, group: str, version: str | None = None, *, pushed_until: int | None = None) -> Snapshot:
        """The rows of a version. The latest (None) has the rows pushed since; a named one never changes (VER-4).

        Of a group that was pushed to and never materialized, the latest is its pushed rows alone (version `0.0.0`).

        Args:
            group: the feature group.
            version: a version; None is the latest.
            pushed_until: with a named version, its rows and the pushed ones with `meta.pushed_through <= sequence <
                pushed_until`, the same whatever is pushed or materialized later. With version `0.0.0` pushed rows
                alone.

        Raises:
            UnknownVersionError: there is no such version, or neither a version nor pushed rows.
            RequestError: `pushed_until` without a version, before what the version contains, or beyond what was
                pushed.
            CorruptStoreError: its metadata or files cannot be read; a push is missing.
        """
        ...

    def pushed(self, group: str) -> Node | None:
        """All rows ever pushed to a group, in sequence order, those in versions too; None when there are none."""
        ...

    def next_pushed(self, group: str) -> int:
        """The sequence number that the next pushed row will get."""
        ...

    def newest_push(self, group: str) -> VersionMeta | None:
        """What is known of the rows pushed last, without reading them: their columns, entity key and times; its
        `pushed_through` is the sequence number after them. None when nothing was pushed.

        Raises:
            CorruptStoreError: it cannot be read.
        """
        ...

    def publish(
        self, draft: VersionMeta, rows: Rows, *, now: dt.datetime, feature_rows: FeatureRows | None = None
    ) -> VersionMeta:
        """Store rows as the next version and make it the latest; returns its metadata.

        `rows` have the draft's columns and `__sequence`, in PIT-3 order. The number follows VER-1; rows,
        schema, config and code identical to the latest make no new version, and the latest is returned.

        Args:
            feature_rows: of a group with aggregations, and only of one: rows of the columns of
                `draft.feature_schema`, by event time (nulls first, ties in any order). They follow from rows and
                config, so a function is called only when a version is written, before anything of it is; what it
                raises is passed on, and nothing changed.

        Raises:
            DataError: rows or feature rows are out of order; feature rows are missing, or of a group without
                aggregations.
            SchemaError, ColumnTypeError: either are of other columns; or the event id, the retraction or an
                aggregate's input is no column of the draft.
            StorageFullError: no space; nothing changed.
        """
        ...

    def forecast(self, draft: VersionMeta) -> VersionForecast:
        """The number that `publish` would give a draft whose rows are not known yet. Changes nothing, and does not
        look for damage of data files.

        Raises:
            RequestError: the draft asks for a version that is none, or not above the highest (VER-2).
        """
        ...

    def append(self, draft: VersionMeta, rows: Rows) -> int:
        """Store pushed rows durably; they get the next sequence numbers, in order. Returns the first of them.

        `rows` have the draft's columns, without `__sequence`.
        """
        ...

    def quarantine(self, group: str, rows: Rows, *, now: dt.datetime) -> str:
        """Keep rows that an expectation dropped, with their reasons; returns where."""
        ...

    def quarantined(self, group: str) -> tuple[Rows, ...]:
        """What `quarantine` was given, oldest first; calls may differ in their columns.

        Raises:
            CorruptStoreError: a file cannot be read.
            StoreUnavailableError.
        """
        ...

    def rewrite_quarantine(self, group: str, change: Callable[[Rows], Rows | None]) -> int:
        """Put other rows in the place of those that `quarantine` was given; returns of how many calls they are.

        A crash, or an error, leaves the rows of each call as they were or as they are to be, whole. Those that were
        put in place before it stay, so the same again does the rest.

        Args:
            group: the feature group; the caller holds its lock.
            change: from the rows of one call to those that take their place; None leaves them as they are. What it
                raises is passed on.

        Raises:
            CorruptStoreError: a file cannot be read.
            StorageFullError, StoreUnavailableError.
        """
        ...

    def point(self, group: str, version: str) -> VersionMeta:
        """Make a version that is there the latest; returns its metadata. The others stay, and the next build is
        numbered above the highest of them (VER-1).

        Raises:
            UnknownVersionError: there is no such version.
            CorruptStoreError: it cannot be read, or its files are damaged; nothing changed.
            StorageFullError: no space; nothing changed.
        """
        ...

    def delete(self, group: str, version: str | None = None) -> None:
        """Remove a version, or a group with everything of it. Removing the latest makes the one before it latest."""
        ...

    def manifest(self, *, regenerate: bool = False) -> Mapping[str, ManifestEntry]:
        """Every group that has a version, by name: its versions, and what is known of the latest.

        Args:
            regenerate: make the summary that the store keeps anew, from the versions that are there.
        """
        ...

    def verify(self, group: str | None = None, *, repair: bool = False) -> tuple[Finding, ...]:
        """What is wrong in the store: leftovers of crashes (removed with `repair`), files that do not match
        their hash or cannot be read. Published versions are never removed."""
        ...

    def lock(self, group: str, *, timeout: float) -> AbstractContextManager[object]:
        """Hold the right to write a group, against other threads and processes, for a `with` block.

        Raises:
            ConflictError: another holds it for longer than `timeout` seconds.
        """
        ...
