"""Exports: files that the server writes, where the server writes them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from grange.errors import UnsupportedError
from grange.remote import answers, bodies
from grange.remote.calls.asked import given_spine
from grange.remote.calls.jobs import done_by_job_of_rows
from grange.remote.calls.session import Session, every, fetched
from grange.remote.messages import Call
from grange.types.time import Moment
from grange.verbs.names import pinned
from grange.verbs.progress import Report, silent

if TYPE_CHECKING:
    from grange.verbs.export.records import Export


def export(
    session: Session,
    what: str,
    destination: str | os.PathLike[str],
    *,
    format: str | None = None,
    version: str | None = None,
    start: Moment | None = None,
    end: Moment | None = None,
    columns: Sequence[str] | None = None,
    compression: str | None = None,
    events: bool = False,
    spine: Any = None,
    event_time: str | None = None,
    as_known: bool = False,
    training_dataset: int | None = None,
    transform: bool = True,
    engine: str | None = None,
    overwrite: bool = False,
    options: Mapping[str, str] | None = None,
    progress: Report = silent,
) -> Call[Export]:
    """Write rows of a feature group or view to files: in an object store, or in the server's folder for exports."""
    if options:
        raise UnsupportedError(
            "options of an object store are credentials, and none travel to a server",
            found=", ".join(options),
            try_="set them where the server runs: AWS_ACCESS_KEY_ID and its kin",
        )
    name, version = pinned(what, version)
    said = {
        "what": name,
        "destination": os.fspath(destination),
        "format": format,
        "version": version,
        "start": bodies.moment(start, "start"),
        "end": bodies.moment(end, "end"),
        "columns": None if columns is None else list(columns),
        "compression": compression,
        "events": events or None,
        "event_time": event_time,
        "as_known": as_known or None,
        "training_dataset": training_dataset,
        "transform": None if transform else False,
        "engine": engine,
        "overwrite": overwrite or None,
    }
    rows = None if spine is None else (yield from given_spine(session, spine, name)).rows
    job = yield from done_by_job_of_rows(session, "/exports", bodies.without_none(said), rows, progress)
    return answers.export(job["result"])


def exports(
    session: Session, what: str | None = None, status: str | None = None, limit: int | None = None
) -> Call[tuple[Export, ...]]:
    """What is known of exports, newest first."""
    items = yield from every("/exports", what=what, status=status)
    return tuple(map(answers.export, items[:limit]))


def export_info(session: Session, id: str) -> Call[Export]:
    """What is known of one export."""
    return answers.export((yield from fetched(f"/exports/{bodies.quoted(id)}")))
