"""Records of jobs: a document per job in the registry, written while it runs, read by whoever asks."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

from grange.errors import CorruptStoreError, RefusedError, RequestError, UnknownJobError, closest_names
from grange.ports.registry import Document, Documents
from grange.types.time import isoformat, to_utc
from grange.verbs.export.records import Process

if TYPE_CHECKING:
    from grange.store import FeatureStore

Status = Literal["queued", "running", "succeeded", "failed", "cancelled", "interrupted"]
STATUSES: Final[tuple[Status, ...]] = get_args(Status)
COLLECTION: Final = "jobs"
"""Where the registry has a document per job."""
STOPS: Final = "job_stops"
"""Where it has one per job that is to stop; its own collection, since the job's process alone writes the record."""
LOST_AFTER: Final = dt.timedelta(seconds=60)
"""A job whose process has not told that it is alive for so long is taken to have ended with it."""
KEPT: Final = dt.timedelta(days=30)
"""How long a record stays after its job ended."""
MOST_LINES: Final = 500
"""Of a job's log; of more, the first stay out."""


@dataclass(frozen=True, slots=True)
class LogLine:
    """A line of a job's log."""

    at: dt.datetime
    text: str

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"at": isoformat(self.at), "text": self.text}


@dataclass(frozen=True, slots=True)
class Job:
    """What is known of one job."""

    id: str
    kind: str
    """`materialize`, `training-dataset`, `reproduce`, `export`, `historical`."""
    what: str
    """What it works on, as resources are named: `feature_group:spend`."""
    status: Status
    created_at: dt.datetime
    created_by: str
    """The name of who asked for it."""
    owner: str
    """Their id: they alone may read the rows that it leaves behind."""
    process: Process
    heartbeat_at: dt.datetime
    """When its process last told that it is alive."""
    request: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """What was asked for, without rows and secrets."""
    request_id: str = ""
    started_at: dt.datetime | None = None
    ended_at: dt.datetime | None = None
    progress: Mapping[str, Any] | None = field(default=None, hash=False)
    """The last step: `group`, `stage`, `rows`, `position` of `total`."""
    result: Mapping[str, Any] | None = field(default=None, hash=False)
    """Of one that succeeded."""
    has_rows: bool = False
    """Whether it left rows behind, which expire."""
    expires_at: dt.datetime | None = None
    """When those rows go."""
    error: Mapping[str, Any] | None = field(default=None, hash=False)
    """Of one that failed, as `GrangeError.to_dict` has it."""
    lines: tuple[LogLine, ...] = ()
    read: Mapping[str, Any] | None = field(default=None, hash=False)
    """What it read, as `grange.access.reading.Reading.to_dict` has it: who asks for what came of it must be allowed
    that, then too. None where nothing that it leaves behind tells of values."""

    @property
    def is_over(self) -> bool:
        """Whether it will not change any more."""
        return self.status not in ("queued", "running")

    def with_(self, **changes: Any) -> Job:
        """A copy with some fields changed."""
        return replace(self, **changes)

    def with_line(self, text: str, *, now: dt.datetime) -> Job:
        """With one more line in its log."""
        return replace(self, lines=(*self.lines, LogLine(now, text))[-MOST_LINES:])

    def to_dict(self, *, lines: bool = True) -> dict[str, Any]:
        """For JSON, and with its lines as the registry has it."""
        data: dict[str, Any] = {
            "id": self.id,
            "kind": self.kind,
            "what": self.what,
            "status": self.status,
            "created_at": isoformat(self.created_at),
            "created_by": self.created_by,
            "owner": self.owner,
            "request": dict(self.request),
            "request_id": self.request_id,
            "started_at": _text(self.started_at),
            "ended_at": _text(self.ended_at),
            "heartbeat_at": isoformat(self.heartbeat_at),
            "progress": None if self.progress is None else dict(self.progress),
            "result": None if self.result is None else dict(self.result),
            "has_rows": self.has_rows,
            "expires_at": _text(self.expires_at),
            "error": None if self.error is None else dict(self.error),
            "process": asdict(self.process),
            "read": None if self.read is None else dict(self.read),
        }
        return data | ({"lines": [line.to_dict() for line in self.lines]} if lines else {})

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Job:
        """The inverse of `to_dict`. KeyError, TypeError or ValueError for anything else."""
        times = ("created_at", "started_at", "ended_at", "heartbeat_at", "expires_at")
        return cls(
            **{
                **data,
                **{name: None if data[name] is None else to_utc(data[name]) for name in times},
                "process": Process(**data["process"]),
                "lines": tuple(LogLine(to_utc(line["at"]), line["text"]) for line in data["lines"]),
            }
        )


def _text(value: dt.datetime | None) -> str | None:
    return None if value is None else isoformat(value)


def documents_of(store: FeatureStore) -> Documents:
    """Where a project keeps facts beside its definitions."""
    return store._parts.registry


def new_id(documents: Documents) -> str:
    """The next job's: `job-00000001`."""
    return f"job-{documents.next_number('job'):08d}"


def save(documents: Documents, job: Job, *, now: dt.datetime) -> None:
    """Write what is known of a job.

    Raises:
        StoreUnavailableError: the registry cannot be reached.
    """
    documents.put(COLLECTION, job.id, job.to_dict(), now=now)


def jobs(
    documents: Documents, *, now: dt.datetime, status: str | None = None, kind: str | None = None
) -> tuple[Job, ...]:
    """What is known of jobs, newest first.

    Raises:
        RequestError: a status that is none.
    """
    if status is not None and status not in STATUSES:
        raise RequestError(
            f"no status {status!r} of jobs", found=", ".join(STATUSES), closest=closest_names(status, STATUSES)
        )
    where = None if kind is None else {"kind": kind}
    every = (_job(item, now) for item in documents.documents(COLLECTION, where=where, limit=None))
    return tuple(sorted((job for job in every if status in (None, job.status)), key=lambda job: job.id, reverse=True))


def job_info(documents: Documents, id: str, *, now: dt.datetime) -> Job:
    """What is known of one job.

    Raises:
        UnknownJobError: there is none of this id.
    """
    document = documents.get(COLLECTION, id) if id.strip() and id.isprintable() and len(id) <= 512 else None
    if document is None:
        raise UnknownJobError(f"there is no job {id!r}", try_="grange job list")
    return _job(document, now)


def request_stop(documents: Documents, id: str, *, by: str, now: dt.datetime) -> Job:
    """Ask a job to stop; it does between two of its steps, whichever server runs it.

    Raises:
        UnknownJobError: there is none of this id.
        RefusedError: it is over.
    """
    job = job_info(documents, id, now=now)
    if job.is_over:
        raise RefusedError(f"job {id} is over: it {_past(job.status)}", try_=f"grange job info {id}")
    documents.put(STOPS, id, {"by": by}, now=now)
    return job


def stop_requested(documents: Documents, id: str) -> str | None:
    """By whom a job is asked to stop; None by nobody."""
    found = documents.get(STOPS, id)
    return None if found is None else str(found.data.get("by", ""))


def _past(status: Status) -> str:
    return status if status in ("succeeded", "failed") else f"was {status}"


def _job(document: Document, now: dt.datetime) -> Job:
    """The job; one whose process is gone as interrupted."""
    try:
        job = Job.from_dict(document.data)
    except (KeyError, TypeError, ValueError) as error:
        raise CorruptStoreError(
            f"what the registry has of job {document.key!r} cannot be read", found=repr(error)
        ) from error
    if job.is_over or not (job.process.is_gone or now - job.heartbeat_at > LOST_AFTER):
        return job
    return job.with_(status="interrupted", ended_at=job.heartbeat_at)


def forget_old(documents: Documents, *, now: dt.datetime) -> None:
    """Remove the records of jobs that ended long ago."""
    for item in documents.documents(COLLECTION, limit=None):
        if now - item.updated_at > KEPT:
            documents.remove(COLLECTION, item.key)
            documents.remove(STOPS, item.key)


__all__ = [
    "COLLECTION", "KEPT", "LOST_AFTER", "MOST_LINES", "STATUSES", "STOPS", "Job", "LogLine", "Process", "Status",
    "documents_of", "forget_old", "job_info", "jobs", "new_id", "request_stop", "save", "stop_requested",
]  # fmt: skip
