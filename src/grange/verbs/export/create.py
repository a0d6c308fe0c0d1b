"""export: write the rows of a group or a view to files, as a job that leaves a record."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from grange.definitions.catalog import Catalog
from grange.errors import (
    ConflictError,
    GrangeError,
    NotFoundError,
    RequestError,
    StoreUnavailableError,
    UnknownFeatureError,
    closest_names,
)
from grange.ports.offline import NEVER_MATERIALIZED
from grange.verbs.batches import StoredRows
from grange.verbs.export.destinations import Destination, destination_of, redacted, secrets_of
from grange.verbs.export.files import ROWS_PER_FILE, TimeRange, digest_of, write_files
from grange.verbs.export.places import Place, part_name, place_of
from grange.verbs.export.records import COLLECTION, Export, ExportPin, Process, export_info, new_id
from grange.verbs.parts import Parts
from grange.verbs.progress import Progress, Report

if TYPE_CHECKING:
    import pyarrow as pa

    from grange.verbs.history import HistoricalFeatures

Clock = Callable[[], dt.datetime]


@dataclass(frozen=True, slots=True)
class ExportRequest:
    """What to write, and how."""

    name: str
    """Of a group or a view."""
    destination: str
    format: str | None
    compression: str | None
    columns: Sequence[str] | None
    overwrite: bool
    options: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Of an object store; credentials may be among them."""
    version: str | None = None
    """Of a group."""
    start: int | None = None
    """Microseconds UTC, inclusive; of a group."""
    end: int | None = None
    """Exclusive."""
    events: bool = False
    training_dataset: int | None = None
    """Of a view: what prepares it."""
    of_views: tuple[str, ...] = ()
    """Names of the options that were given and say how a view is joined."""


@dataclass(slots=True)
class _Source:
    """Rows to write."""

    what: Literal["group", "view"]
    version: str | int | None
    event_time: str | None
    """The column of event times among the tables'; None for rows without a time of their own."""
    tables: Callable[[], Iterator[pa.Table]]
    """Tables with the columns that were asked for, and perhaps the event time besides."""
    columns: tuple[str, ...]
    """Those that were asked for; of a view all, until it was joined."""
    pins: tuple[ExportPin, ...]


def export(
    parts: Parts,
    catalog: Catalog,
    request: ExportRequest,
    *,
    join: Callable[[], HistoricalFeatures],
    clock: Clock,
    report: Report,
) -> Export:
    """Write a group or a view to files. See `FeatureStore.export`.

    What can be told to be wrong beforehand is raised, and leaves no record. From then on there is one, which says how
    it ended.

    Args:
        parts: the opened backends.
        catalog: the applied definitions.
        request: what to write.
        join: the joined rows of the view, when it is one.
        clock: the time.
        report: is told each step.
    """
    source = _source(parts, catalog, request, join)
    destination = destination_of(
        request.destination, project=parts.project, format=request.format, compression=request.compression
    )
    place = place_of(destination, request.options, is_running=lambda id: _is_running(parts, id))
    place.check(overwrite=request.overwrite)
    running = Export(
        id=new_id(parts.registry),
        what=source.what,
        name=request.name,
        version=source.version,
        destination=destination.text,
        format=destination.format,
        compression=destination.compression,
        status="running",
        started_at=clock(),
        process=Process.current(),
        columns=source.columns,
        pins=source.pins,
    )
    parts.registry.put(COLLECTION, running.id, running.to_dict(), now=running.started_at, expected="absent")
    try:
        done = _written(running, source, destination, place, request, report)
    except BaseException as error:
        _record_failure(parts, running, error, request, now=clock())
        raise
    ended = done.with_(status="succeeded", ended_at=clock())
    parts.registry.put(COLLECTION, ended.id, ended.to_dict(), now=clock())
    report(Progress(request.name, "done", ended.rows, 1, 1))
    return ended


def _written(
    running: Export,
    source: _Source,
    destination: Destination,
    place: Place,
    request: ExportRequest,
    report: Report,
) -> Export:
    """Write all files and let them appear."""
    report(Progress(request.name, "read", None, 1, 1))
    seen = TimeRange(source.event_time)
    written = 0

    def passing() -> Iterator[pa.Table]:
        nonlocal written
        for table in source.tables():
            seen.column = source.event_time  # which a view says once it is joined
            seen.watch(table)
            written += table.num_rows
            report(Progress(request.name, "write", written, 1, 1))
            yield table.select(list(source.columns))

    with place.staging(running.id) as folder:
        files = write_files(
            passing(),
            folder,
            part_name(destination),
            format=destination.format,
            compression=destination.compression,
            rows_per_file=ROWS_PER_FILE if destination.folder else None,
        )
        place.publish(folder, files, overwrite=request.overwrite)
    first, last = seen.ends
    return running.with_(
        columns=source.columns,
        pins=source.pins,
        rows=sum(file.rows for file in files),
        bytes=sum(file.bytes for file in files),
        files=files,
        sha256=digest_of(files),
        min_event_time=first,
        max_event_time=last,
    )


def _record_failure(
    parts: Parts, running: Export, error: BaseException, request: ExportRequest, *, now: dt.datetime
) -> None:
    """Say in the record how it ended. Where that cannot be written either, the error itself is what matters."""
    told = {
        "code": error.code if isinstance(error, GrangeError) else GrangeError.code,
        "type": type(error).__name__,
        "message": redacted(_message(error), secrets_of(request.options)),
    }
    stopped = not isinstance(error, Exception)  # by Ctrl-C, or the end of the interpreter
    ended = running.with_(status="interrupted" if stopped else "failed", ended_at=now, error=told)
    with suppress(StoreUnavailableError, ConflictError):
        parts.registry.put(COLLECTION, ended.id, ended.to_dict(), now=now)


def _message(error: BaseException) -> str:
    """What an error says, on a line."""
    if not isinstance(error, GrangeError):
        return " ".join(str(error).split())
    return error.message if error.found is None else f"{error.message}: {error.found}"


def _is_running(parts: Parts, id: str) -> bool:
    try:
        return export_info(parts.registry, id).status == "running"
    except NotFoundError:
        return False


def _source(parts: Parts, catalog: Catalog, request: ExportRequest, join: Callable[[], HistoricalFeatures]) -> _Source:
    """What is written.

    Raises:
        NotFoundError: neither a group nor a view has the name.
        UnknownVersionError, UnknownFeatureError: of a group.
        RequestError: a version or events of a view.
    """
    if request.name in catalog.groups:
        if request.of_views:
            raise RequestError(
                f"{request.name!r} is a feature group, and {', '.join(request.of_views)} say how a view is joined",
                try_=f"leave {request.of_views[0]} out",
            )
        return _of_group(parts, request)
    if request.name not in catalog.views:
        every = [*catalog.groups, *catalog.views]
        raise NotFoundError(
            f"nothing to export is called {request.name!r}: no feature group or view",
            closest=closest_names(request.name, every),
            try_="grange fg list",
        )
    if request.version is not None or request.events:
        raise RequestError(
            f"{request.name!r} is a feature view, and versions and events are of feature groups",
            try_="training_dataset= names what prepares a view" if request.version else "leave events=True out",
        )
    return _of_view(parts, request, join)


def _of_group(parts: Parts, request: ExportRequest) -> _Source:
    from grange.types.arrow import conform

    stored = StoredRows.of(parts.offline.snapshot(request.name, request.version), events=request.events)
    columns = _some(request.columns)
    wanted = tuple(stored.told if columns is None else stored.chosen(columns))
    meta = stored.snapshot.meta
    read = tuple(dict.fromkeys([*wanted, meta.event_time]))
    schema = stored.schema.select([name for name in read if name in stored.schema])

    def tables() -> Iterator[pa.Table]:
        for rows in stored.batches(parts.engine(), schema.names, start=request.start, end=request.end):
            yield conform(rows.arrow, schema, what=f"export of feature group {request.name!r}")

    return _Source(
        "group",
        None if meta.version == NEVER_MATERIALIZED else meta.version,
        meta.event_time if meta.event_time in schema else None,
        tables,
        wanted,
        (ExportPin(request.name, meta.version, stored.snapshot.pushed_until if stored.pending else None),),
    )


def _of_view(parts: Parts, request: ExportRequest, join: Callable[[], HistoricalFeatures]) -> _Source:
    _some(request.columns)

    def tables() -> Iterator[pa.Table]:
        found = join()
        table = found.to_arrow()
        source.columns = _chosen(request, table.column_names)
        source.event_time = found.event_time
        source.pins = tuple(_pin(parts, *pin) for pin in found.pins)
        yield table

    source = _Source("view", request.training_dataset, None, tables, tuple(request.columns or ()), ())
    return source


def _pin(parts: Parts, group: str, version: str, pushed_until: int) -> ExportPin:
    """What was read of a group, with the reach of pushed rows only where that is beyond the version."""
    within = version != NEVER_MATERIALIZED and pushed_until <= parts.offline.meta(group, version).pushed_through
    return ExportPin(group, version, None if within else pushed_until)


def _some(columns: Sequence[str] | None) -> Sequence[str] | None:
    """The columns that were named.

    Raises:
        RequestError: none, or one of them twice.
    """
    if columns is not None and (not columns or len(set(columns)) < len(columns)):
        raise RequestError(
            "an export has one column or more, each once",
            found=", ".join(columns) or "no column",
            try_="leave columns out for all of them",
        )
    return columns


def _chosen(request: ExportRequest, there: Sequence[str]) -> tuple[str, ...]:
    """The columns of a joined view that were asked for.

    Raises:
        UnknownFeatureError: there is no such one.
    """
    for column in request.columns or ():
        if column not in there:
            raise UnknownFeatureError(
                f"feature view {request.name!r}, joined, has no column {column!r}",
                found=", ".join(there),
                closest=closest_names(column, there),
            )
    return tuple(request.columns or there)


__all__ = ["Clock", "ExportRequest", "export"]
