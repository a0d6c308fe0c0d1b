"""`grange job`: what servers are working on, and what came of it."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Annotated, Any

import typer

from grange.cli.output import Table, count, details_parts, moment
from grange.cli.session import Session, YesOption, command

if TYPE_CHECKING:
    from grange.jobs import Job

app = typer.Typer(
    help="Jobs: work that servers do: materializing, training datasets, exports.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

IdArgument = Annotated[str, typer.Argument(metavar="ID", help="The job, such as job-00000001.")]


@command(app, "list")
def list_jobs(
    session: Session,
    status: Annotated[
        str | None,
        typer.Option(
            "--status",
            metavar="STATUS",
            help="Only queued, running, succeeded, failed, cancelled or interrupted ones.",
        ),
    ] = None,
    kind: Annotated[str | None, typer.Option("--kind", metavar="KIND", help="Only of this sort: materialize.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=0, help="At most so many.")] = 50,
) -> None:
    """Jobs, newest first.

    One whose process has gone is interrupted.
    """  # fmt: skip
    from grange.jobs import documents_of, jobs

    with session.store() as store:
        found = jobs(documents_of(store), now=_now(), status=status, kind=kind)[:limit]
    rows = [
        (job.id, job.kind, job.what, job.status, _progress(job), moment(job.created_at)[:19], job.created_by)
        for job in found
    ]
    headers = ("id", "kind", "what", "status", "progress", "created (UTC)", "by")
    table = Table(headers, rows, empty="no jobs", spare=("by", "progress"))
    session.out.show([job.to_dict(lines=False) for job in found], table)


@command(app, "info")
def info(session: Session, id: IdArgument) -> None:
    """What is known of a job: what was asked for, how far it is, and how it ended."""
    from grange.jobs import documents_of, job_info

    with session.store() as store:
        job = job_info(documents_of(store), id, now=_now())
    data = job.to_dict(lines=False)
    shown = {key: value for key, value in data.items() if key not in ("process", "owner") and value not in (None, {})}
    session.out.show(data, *details_parts(shown | {"process": f"{job.process.pid} on {job.process.host}"}))


@command(app, "logs")
def logs(session: Session, id: IdArgument) -> None:
    """The lines that a job wrote, oldest first."""
    from grange.jobs import documents_of, job_info

    with session.store() as store:
        job = job_info(documents_of(store), id, now=_now())
    lines = [f"{moment(line.at)[:19]}  {line.text}" for line in job.lines]
    session.out.show([line.to_dict() for line in job.lines], *(lines or ["no lines"]))


@command(app, "stop")
def stop(session: Session, id: IdArgument, yes: YesOption = False) -> None:
    """Ask a job to stop.

    It does between two of its steps, whichever server runs it; what it did until then stays. Asks first.
    """
    from grange.jobs import documents_of, job_info, request_stop

    with session.store() as store:
        documents = documents_of(store)
        job = job_info(documents, id, now=_now())
        session.confirm(f"stop {job.kind} of {job.what} ({id})", yes=yes)
        job = request_stop(documents, id, by="the command line", now=_now())
    session.out.show(job.to_dict(lines=False), f"{id} was asked to stop; see: grange job info {id}")


def _progress(job: Job) -> str:
    """The last step in a few words."""
    step: Any = job.progress
    if step is None:
        return ""
    rows = "" if step["rows"] is None else f", {count(step['rows'])} rows"
    return f"{step['group']}: {step['stage']}{rows}"


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)
