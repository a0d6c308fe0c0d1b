"""The port of a store of training datasets: immutable rows in parts, and everything that is known of them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Final, Protocol, runtime_checkable

from grange.errors import SchemaError, UnknownTrainingDatasetError, closest_names
from grange.frames import Rows
from grange.ports.offline import Finding
from grange.types import Schema
from grange.types.time import isoformat, to_utc

if TYPE_CHECKING:
    import pyarrow as pa

COLLECTION: Final = "training_datasets"
"""Where the registry has a document per training dataset, as `DatasetMeta.to_dict` has it."""
FORMATS: Final = ("parquet", "csv", "arrow")
STATUSES: Final = ("written", "declared")
ROLES: Final = (
    "key",
    "event_time",
    "feature",
    "label",
    "training_helper",
    "inference_helper",
    "request",
    "spine",
)


@dataclass(frozen=True, slots=True)
class FileMeta:
    """One file of a part."""

    name: str
    """In the folder of the training dataset."""
    size_bytes: int
    sha256: str
    """Of its bytes, in hexadecimal."""


@dataclass(frozen=True, slots=True)
class PartMeta:
    """One part of a training dataset, such as `train`."""

    name: str
    rows: int
    files: tuple[FileMeta, ...] = ()
    """In row order; none when it is only declared."""
    content_hash: str = ""
    """SHA-256 of the rows' canonical form: equal rows in equal order, equal hash, whatever the format."""

    @property
    def size_bytes(self) -> int:
        """Of its files together."""
        return sum(file.size_bytes for file in self.files)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "name": self.name,
            "rows": self.rows,
            "size_bytes": self.size_bytes,
            "content_hash": self.content_hash,
            "files": [{"name": f.name, "size_bytes": f.size_bytes, "sha256": f.sha256} for f in self.files],
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> PartMeta:
        """The inverse of `to_dict`. KeyError or TypeError for anything else."""
        files = tuple(FileMeta(**item) for item in data["files"])
        return cls(data["name"], data["rows"], files, data["content_hash"])


@dataclass(frozen=True, slots=True)
class Pin:
    """The rows of a feature group that a training dataset was made of (VER-4)."""

    group: str
    version: str
    """`0.0.0` when it had no version yet, only pushed rows."""
    pushed_until: int | None = None
    """Pushed rows that the version does not contain were read up to this sequence number, which is not included; None
    when the version alone was read."""


@dataclass(frozen=True, slots=True)
class DatasetMeta:
    """What is known of one training dataset; its `.meta.json` holds it.

    Raises:
        SchemaError: roles that are not those of the columns; an unknown role, format or status.
    """

    view: str
    """The feature view."""
    version: int
    """Counted per view from 1; numbers are never used again."""
    created_at: dt.datetime
    as_of: dt.datetime
    """The moment of knowledge: labels that were not known then are left out."""
    format: str
    """`parquet`, `csv` or `arrow`."""
    schema: Schema
    roles: dict[str, str]
    """What each column is for: one of `ROLES`."""
    parts: tuple[PartMeta, ...] = ()
    """In order; set by the store."""
    pins: tuple[Pin, ...] = ()
    spine_hash: str = ""
    spine: dict[str, Any] = field(default_factory=dict)
    """How the rows asked for can be had again."""
    view_definition: dict[str, Any] = field(default_factory=dict)
    view_fingerprint: str = ""
    split: dict[str, Any] | None = None
    """As `grange.definitions.splits` has it; None when there is one part."""
    filter: str = ""
    transformations: dict[str, Any] = field(default_factory=dict)
    """What they learned from the part that they were fitted on."""
    code_hashes: dict[str, str] = field(default_factory=dict)
    libraries: dict[str, str] = field(default_factory=dict)
    """Versions by name."""
    left_out: int = 0
    """Rows asked for that are in no part."""
    statistics: Mapping[str, Any] | None = None
    description: str = ""
    tags: dict[str, str] = field(default_factory=dict)
    status: str = "written"
    """`written`; or `declared`: it was handed over in memory, and has no files."""
    extra: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        what = f"training dataset {self.view}#{self.version}"
        _check_one_of(self.format, FORMATS, f"{what}: format")
        _check_one_of(self.status, STATUSES, f"{what}: status")
        if set(self.roles) != set(self.schema.names):
            raise SchemaError(
                f"{what}: its roles are not those of its columns",
                found=", ".join(self.roles) or "none",
                try_=", ".join(self.schema.names),
            )
        for column, role in self.roles.items():
            _check_one_of(role, ROLES, f"{what}: the role of column {column!r}")

    @property
    def rows(self) -> int:
        """Of all parts together."""
        return sum(part.rows for part in self.parts)

    @property
    def size_bytes(self) -> int:
        """Of all files together."""
        return sum(part.size_bytes for part in self.parts)

    def part(self, name: str) -> PartMeta:
        """One of its parts.

        Raises:
            UnknownTrainingDatasetError: there is no such part.
        """
        names = [part.name for part in self.parts]
        if name not in names:
            raise UnknownTrainingDatasetError(
                f"training dataset {self.view}#{self.version} has no part {name!r}",
                found=", ".join(names) or "no parts",
                closest=closest_names(name, names),
            )
        return self.parts[names.index(name)]

    def to_dict(self) -> dict[str, Any]:
        """For JSON; `from_dict` reads it back."""
        plain = {item.name: getattr(self, item.name) for item in fields(self)}
        return plain | {
            "created_at": isoformat(self.created_at),
            "as_of": isoformat(self.as_of),
            "schema": self.schema.to_list(),
            "parts": [part.to_dict() for part in self.parts],
            "pins": [{"group": p.group, "version": p.version, "pushed_until": p.pushed_until} for p in self.pins],
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> DatasetMeta:
        """The inverse of `to_dict`. KeyError, TypeError or ValueError for anything else."""
        return cls(
            **{
                **data,
                "created_at": to_utc(data["created_at"]),
                "as_of": to_utc(data["as_of"]),
                "schema": Schema.from_list(data["schema"]),
                "parts": tuple(PartMeta.from_dict(item) for item in data["parts"]),
                "pins": tuple(Pin(**item) for item in data["pins"]),
            }
        )

    def with_(self, **changes: Any) -> DatasetMeta:
        """A copy with some fields changed."""
        return replace(self, **changes)


def _check_one_of(value: object, allowed: Sequence[str], what: str) -> None:
    if value not in allowed:
        raise SchemaError(
            f"{what} {value!r} is not one of {', '.join(allowed)}", closest=closest_names(str(value), allowed)
        )


@runtime_checkable
class DatasetStore(Protocol):
    """Training datasets appear all at once and never change (VER-3, VER-4).

    `publish` and `delete` take the lock of the view themselves; hold it to do several things at once.
    """

    def publish(self, draft: DatasetMeta, parts: Mapping[str, Rows], *, now: dt.datetime) -> DatasetMeta:
        """Store a training dataset under the draft's number; returns what is then known of it.

        The draft says the number, and what is known before; `parts` and `created_at` (now) are set here. Of one whose
        status is `declared`, rows are counted and hashed, and only what is known is kept.

        Args:
            draft: its `parts` are not looked at.
            parts: rows by part, in order, each with the columns of the schema in any order.
            now: when it is made.

        Raises:
            ConflictError: the number is taken; or another writes the view's training datasets for too long.
            SchemaError, ColumnTypeError: rows of other columns or types than the schema's; no columns, or no parts.
            UnsupportedError: a column of a type that the format does not have.
            DefinitionError, RequestError: the view, a part or the number is none.
            StorageFullError: no space; nothing changed.
        """
        ...

    def meta(self, view: str, version: int) -> DatasetMeta:
        """What is known of a training dataset.

        Raises:
            UnknownTrainingDatasetError: there is none of this number.
            CorruptStoreError: what is known of it cannot be read.
        """
        ...

    def versions(self, view: str) -> tuple[int, ...]:
        """The numbers of the training datasets of a view that can be opened, ascending."""
        ...

    def views(self) -> tuple[str, ...]:
        """The views that have any, by name."""
        ...

    def read(self, view: str, version: int, part: str | None = None, columns: Sequence[str] | None = None) -> Rows:
        """The rows of a part as they were published; of all parts, one after the other, without.

        The first time in a process that a file is read its bytes are compared with those that were written.

        Args:
            view: the feature view.
            version: the number.
            part: one of its parts.
            columns: only these, in this order.

        Raises:
            UnknownTrainingDatasetError: there is none of this number, or no such part.
            MissingColumnError: no such column.
            CorruptStoreError: a file is gone, or has other bytes than were written.
            UnsupportedError: it is only declared.
        """
        ...

    def batches(
        self,
        view: str,
        version: int,
        part: str | None = None,
        columns: Sequence[str] | None = None,
        size: int = 65_536,
    ) -> Iterator[pa.RecordBatch]:
        """The same rows, `size` at a time; the last batch has what is left. Memory does not grow with the rows.

        What is wrong with the arguments is said when the first batch is asked for.

        Raises:
            RequestError: a size below 1. The rest as of `read`.
        """
        ...

    def files(self, view: str, version: int, part: str | None = None) -> tuple[str, ...]:
        """Where the files of a part are, in row order: absolute paths or URLs; none when it is only declared.

        Raises:
            UnknownTrainingDatasetError, CorruptStoreError: as of `meta`; no such part.
        """
        ...

    def content_hash(self, rows: Rows, schema: Schema) -> str:
        """What the `content_hash` of a part of these rows is.

        Raises:
            SchemaError, ColumnTypeError: the rows are not of the schema.
        """
        ...

    def delete(self, view: str, version: int) -> None:
        """Remove a training dataset, at once for readers. One that is damaged can be removed too.

        Raises:
            UnknownTrainingDatasetError: there is none of this number.
        """
        ...

    def verify(self, view: str | None = None, *, repair: bool = False) -> tuple[Finding, ...]:
        """What is wrong: leftovers of crashes (removed with `repair`), files that are not those that were written,
        rows that are not those that were published. Training datasets are never removed."""
        ...

    def lock(self, view: str, *, timeout: float) -> AbstractContextManager[object]:
        """Hold the right to write a view's training datasets, against other threads and processes, for a `with` block.

        Raises:
            ConflictError: another holds it for longer than `timeout` seconds.
        """
        ...
