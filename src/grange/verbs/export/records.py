"""Records of exports: what the registry has of each, and whether its process is still there."""

from __future__ import annotations

import datetime as dt
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Literal, get_args

from grange.errors import CorruptStoreError, NotFoundError, RequestError, closest_names
from grange.ports.registry import Document, Documents
from grange.types.time import isoformat, to_utc
from grange.verbs.export.files import ExportedFile

Status = Literal["running", "succeeded", "failed", "interrupted"]
STATUSES: Final[tuple[Status, ...]] = get_args(Status)
COLLECTION: Final = "exports"
"""Where the registry has a document per export."""


@dataclass(frozen=True, slots=True)
class Process:
    """Who runs an export."""

    host: str
    pid: int
    started: str = ""
    """When the process began, as the system counts it: a number is given to another process later."""

    @classmethod
    def current(cls) -> Process:
        """This one."""
        return cls(socket.gethostname(), os.getpid(), _started(os.getpid()))

    @property
    def is_gone(self) -> bool:
        """Whether it certainly is; of one on another host nothing is known."""
        if self.host != socket.gethostname():
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            return False
        return bool(self.started) and _started(self.pid) != self.started


def _started(pid: int) -> str:
    """When a process began, in ticks since the system did; "" where that cannot be told, or it has ended."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    state, *others = text.rpartition(")")[2].split()  # a name may hold anything, parentheses too
    return "" if state == "Z" else others[18]


@dataclass(frozen=True, slots=True)
class ExportPin:
    """Which rows of a group an export was made of."""

    group: str
    version: str
    pushed_until: int | None = None
    """Pushed rows with a sequence below this were read; None where only the version was."""

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"group": self.group, "version": self.version, "pushed_until": self.pushed_until}


@dataclass(frozen=True, slots=True)
class Export:
    """What is known of one export."""

    id: str
    what: Literal["group", "view"]
    name: str
    version: str | int | None
    """Of a group its version; of a view the number of the training dataset that prepared it; else None."""
    destination: str
    format: str
    compression: str
    status: Status
    started_at: dt.datetime
    process: Process
    columns: tuple[str, ...] = ()
    pins: tuple[ExportPin, ...] = ()
    rows: int | None = None
    bytes: int | None = None
    files: tuple[ExportedFile, ...] = ()
    sha256: str = ""
    """Of the file, or of the hashes of several in order, a line each."""
    min_event_time: dt.datetime | None = None
    max_event_time: dt.datetime | None = None
    """Inclusive; None for rows without a time of their own."""
    ended_at: dt.datetime | None = None
    error: Mapping[str, Any] | None = field(default=None, hash=False)
    """Of one that failed: `code`, `type`, `message`."""

    def with_(self, **changes: Any) -> Export:
        """A copy with some fields changed."""
        return replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """For JSON, and as the registry has it."""
        return {
            "id": self.id,
            "what": self.what,
            "name": self.name,
            "version": self.version,
            "destination": self.destination,
            "format": self.format,
            "compression": self.compression,
            "status": self.status,
            "columns": list(self.columns),
            "pins": [pin.to_dict() for pin in self.pins],
            "rows": self.rows,
            "bytes": self.bytes,
            "files": [file.to_dict() for file in self.files],
            "sha256": self.sha256,
            "min_event_time": _text(self.min_event_time),
            "max_event_time": _text(self.max_event_time),
            "started_at": isoformat(self.started_at),
            "ended_at": _text(self.ended_at),
            "error": None if self.error is None else dict(self.error),
            "host": self.process.host,
            "pid": self.process.pid,
            "process_started": self.process.started,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Export:
        """The inverse of `to_dict`. KeyError, TypeError or ValueError for anything else."""
        return cls(
            id=data["id"],
            what=data["what"],
            name=data["name"],
            version=data["version"],
            destination=data["destination"],
            format=data["format"],
            compression=data["compression"],
            status=data["status"],
            columns=tuple(data["columns"]),
            pins=tuple(ExportPin(pin["group"], pin["version"], pin["pushed_until"]) for pin in data["pins"]),
            rows=data["rows"],
            bytes=data["bytes"],
            files=tuple(ExportedFile.from_dict(file) for file in data["files"]),
            sha256=data["sha256"],
            min_event_time=_moment(data["min_event_time"]),
            max_event_time=_moment(data["max_event_time"]),
            started_at=to_utc(data["started_at"]),
            ended_at=_moment(data["ended_at"]),
            error=data["error"],
            process=Process(data["host"], data["pid"], data["process_started"]),
        )


def _text(value: dt.datetime | None) -> str | None:
    return None if value is None else isoformat(value)


def _moment(value: str | None) -> dt.datetime | None:
    return None if value is None else to_utc(value)


def new_id(documents: Documents) -> str:
    """The next export's: `export-000001`."""
    return f"export-{documents.next_number('export'):06d}"


def exports(
    documents: Documents, name: str | None = None, status: str | None = None, limit: int | None = None
) -> tuple[Export, ...]:
    """What is known of exports, newest first. See `FeatureStore.exports`.

    Raises:
        RequestError: a status that is none; a negative limit.
    """
    if status is not None and status not in STATUSES:
        raise RequestError(
            f"no status {status!r} of exports", found=", ".join(STATUSES), closest=closest_names(status, STATUSES)
        )
    if limit is not None and limit < 0:
        raise RequestError(f"limit must be zero or more, got {limit}", try_="leave it out for all of them")
    where = None if name is None else {"name": name}
    every = (_export(item) for item in documents.documents(COLLECTION, where=where, limit=None))
    found = [item for item in every if status in (None, item.status)]
    found.sort(key=lambda item: (len(item.id), item.id), reverse=True)
    return tuple(found[:limit])


def export_info(documents: Documents, id: str) -> Export:
    """What is known of one export.

    Raises:
        NotFoundError: there is none of this id.
    """
    document = documents.get(COLLECTION, id) if id.strip() else None
    if document is None:
        known = [item.key for item in documents.documents(COLLECTION, limit=None)]
        raise NotFoundError(
            f"there is no export {id!r}", found=f"{len(known)} exports", closest=closest_names(id, known),
            try_="grange export list",
        )  # fmt: skip
    return _export(document)


def _export(document: Document) -> Export:
    """The export, one that runs in a process that is gone as interrupted."""
    try:
        found = Export.from_dict(document.data)
    except (KeyError, TypeError, ValueError) as error:
        raise CorruptStoreError(
            f"what the registry has of export {document.key!r} cannot be read", found=repr(error)
        ) from error
    return found.with_(status="interrupted") if found.status == "running" and found.process.is_gone else found


__all__ = ["COLLECTION", "STATUSES", "Export", "ExportPin", "Process", "Status", "export_info", "exports", "new_id"]
