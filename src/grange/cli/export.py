"""`grange export`: copies of feature groups and feature views in files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from grange.cli.output import ProgressReport, Table, count, details_parts, moment, plural, size
from grange.cli.session import Session, VersionOption, command
from grange.cli.verbs import EndOption, EngineOption, StartOption
from grange.errors import UsageError

if TYPE_CHECKING:
    from grange.verbs.export.records import Export

app = typer.Typer(
    help="Exports: copies of feature groups and feature views in files.", no_args_is_help=True, rich_markup_mode=None
)


@command(app, "create")
def create(
    session: Session,
    what: Annotated[str, typer.Argument(metavar="WHAT", help="A feature group, GROUP@X.Y.Z, or a feature view.")],
    destination: Annotated[
        str,
        typer.Argument(
            metavar="DEST",
            help="A file, or a folder (no ending, or /), relative to the project; or s3://, gs://, az://.",
        ),
    ],
    file_format: Annotated[
        str | None,
        typer.Option("--format", metavar="parquet|csv|arrow", help="By the ending when left out, else Parquet."),
    ] = None,
    version: VersionOption = None,
    start: StartOption = None,
    end: EndOption = None,
    columns: Annotated[str | None, typer.Option("--columns", metavar="A,B", help="Only these columns.")] = None,
    compression: Annotated[
        str | None,
        typer.Option("--compression", metavar="NAME", help="Parquet: snappy, zstd, gzip, brotli, lz4, none."),
    ] = None,
    events: Annotated[
        bool, typer.Option("--events", help="The events of a group with aggregations, instead of its feature rows.")
    ] = False,
    spine: Annotated[
        str | None,
        typer.Option("--spine", metavar="FILE|QUERY", help="Of a view, the rows asked for: a file, or a SELECT."),
    ] = None,
    event_time: Annotated[
        str | None, typer.Option("--event-time", metavar="COL", help="The spine's time column.")
    ] = None,
    as_known: Annotated[
        bool, typer.Option("--as-known", help="Hide rows that became known only after the spine's time (PIT-5).")
    ] = False,
    training_dataset: Annotated[
        int | None,
        typer.Option("--training-dataset", metavar="N", help="Prepare a view's features by what this one learned."),
    ] = None,
    raw: Annotated[bool, typer.Option("--raw", help="A view's features before its transformations.")] = False,
    engine: EngineOption = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what an export wrote there.")] = False,
) -> None:
    """Write a feature group's rows, or a feature view's joined rows, to files.

    They appear whole or not at all, and a record says what was written, where, and from which versions. Credentials of
    object stores come from the environment (AWS_ACCESS_KEY_ID, ...) and are never stored.
    """
    with session.store() as store, ProgressReport() as progress:
        done = store.export(
            what,
            destination,
            format=file_format,
            version=version,
            start=start,
            end=end,
            columns=_names(columns),
            compression=compression,
            events=events,
            spine=_spine(spine),
            event_time=event_time,
            as_known=as_known,
            training_dataset=training_dataset,
            transform=not raw,
            engine=engine,
            overwrite=overwrite,
            progress=progress,
        )
    where = f"{plural(len(done.files), 'file')} in {done.destination}" if len(done.files) > 1 else done.destination
    told = f"{done.id}: {plural(done.rows or 0, 'row')} of {done.name} in {where}, {size(done.bytes or 0)}"
    session.out.show(done.to_dict(), told)


@command(app, "list")
def list_exports(
    session: Session,
    what: Annotated[str | None, typer.Argument(metavar="[WHAT]", help="Only of this group or view.")] = None,
    status: Annotated[
        str | None, typer.Option("--status", metavar="STATUS", help="running, succeeded, failed or interrupted.")
    ] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=0, help="At most so many.")] = None,
) -> None:
    """The exports, newest first."""
    with session.store() as store:
        found = store.exports(what, status, limit)
    rows = [
        (
            item.id,
            _made_of(item),
            item.destination,
            item.status,
            count(item.rows),
            "-" if item.bytes is None else size(item.bytes),
            moment(item.started_at)[:19],
        )
        for item in found
    ]
    headers = ("id", "what", "destination", "status", "rows", "size", "started (UTC)")
    table = Table(
        headers,
        rows,
        right=frozenset({"rows", "size"}),
        empty="no exports yet: grange export create WHAT DEST",
        spare=("started (UTC)", "size"),
    )
    session.out.show([item.to_dict() for item in found], table)


@command(app, "info")
def info(session: Session, id: Annotated[str, typer.Argument(metavar="ID", help="export-000001, say.")]) -> None:
    """Everything that is known of an export."""
    with session.store() as store:
        found = store.export_info(id)
    session.out.show(found.to_dict(), *details_parts(_summary(found)))


def _made_of(item: Export) -> str:
    if item.version is None:
        return item.name
    return f"{item.name}@{item.version}" if item.what == "group" else f"{item.name}#{item.version}"


def _summary(item: Export) -> dict[str, Any]:
    failed = {} if item.error is None else {"error": f"{item.error['type']}: {item.error['message']}"}
    return {
        "id": item.id,
        "status": item.status,
        **failed,
        item.what: _made_of(item),
        "destination": item.destination,
        "format": item.format if item.compression == "none" else f"{item.format}, {item.compression}",
        "rows": count(item.rows),
        "size": "-" if item.bytes is None else size(item.bytes),
        "from": moment(item.min_event_time),
        "to": moment(item.max_event_time),
        "columns": list(item.columns),
        "sha256": item.sha256,
        "started": moment(item.started_at),
        "ended": moment(item.ended_at),
        "process": f"{item.process.pid} on {item.process.host}",
        "made of": [
            {"group": pin.group, "version": pin.version, "pushed rows below": pin.pushed_until or ""}
            for pin in item.pins
        ],
        "files": [{"name": file.name, "rows": file.rows, "size": size(file.bytes)} for file in item.files],
    }


def _spine(text: str | None) -> str | None:
    """A spine file, relative to where the command runs; a query as it is."""
    if text is None or (text.split()[:1] and text.split()[0].lower() in ("select", "with", "from")):
        return text
    return str(Path(text).absolute())


def _names(text: str | None) -> list[str] | None:
    """`a,b` as a list; None stays None."""
    if text is None:
        return None
    names = [name.strip() for name in text.split(",")]
    if not all(names):
        raise UsageError(f"{text!r} has an empty name")
    return names
