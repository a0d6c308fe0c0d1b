"""The project's verbs: init, demo, plan, apply, materialize, versions, inspect, config."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from grange.cli.describing import group_details
from grange.cli.output import ProgressReport, Table, count, details_parts, moment, plural
from grange.cli.session import Session, VersionOption, YesOption, command

if TYPE_CHECKING:
    from grange.quality.leaks import Leak
    from grange.verbs.apply import ApplyPlan

config_app = typer.Typer(help="The project's settings.", no_args_is_help=True, rich_markup_mode=None)

StartOption = Annotated[str | None, typer.Option("--start", metavar="TIME", help="From this time on, included.")]
EndOption = Annotated[str | None, typer.Option("--end", metavar="TIME", help="Up to this time, not included.")]
EngineOption = Annotated[
    str | None, typer.Option("--engine", metavar="NAME", help="The engine to run on, instead of the project's.")
]
PruneOption = Annotated[
    bool, typer.Option("--prune", help="Also delete what is applied and no definition module mentions.")
]


def register(app: typer.Typer) -> None:
    """Put the verbs on the command line, in the order in which a project meets them."""
    command(app, "init")(init)
    command(app, "demo")(demo)
    command(app, "plan")(plan)
    command(app, "apply")(apply)
    command(app, "materialize")(materialize)
    command(app, "build", help="The same as materialize.")(materialize)
    command(app, "versions")(versions)
    command(app, "inspect")(inspect)
    command(app, "verify")(verify)
    command(config_app, "show")(config_show)
    app.add_typer(config_app, name="config")


def init(
    session: Session,
    directory: Annotated[Path, typer.Argument(metavar="[DIR]", help="Where; made if it is not there.")] = Path(),
) -> None:
    """Start a project that runs.

    Writes settings, definitions and a little data, and shows the commands to run next. Files that are already
    there are never changed.
    """
    from grange.cli.starter import write_project

    started = write_project(directory)
    cd = "" if directory.absolute() == Path.cwd() else f"cd {shlex.quote(str(directory))}\n"
    session.out.show(
        {"project": str(started.project), "files": list(started.files), "next": list(started.commands)},
        f"a project in {started.project}: {', '.join(started.files)}",
        "",
        "next:",
        cd + "\n".join(started.commands),
    )


def demo(
    session: Session,
    directory: Annotated[Path, typer.Argument(metavar="[DIR]", help="Where its project is made.")] = Path(
        "grange-demo"
    ),
) -> None:
    """See it work on real data.

    New York's flights of 2013, from raw rows to training data to served vectors.
    """
    from grange.demo.flights import run_demo

    session.out.show(run_demo(directory, echo=session.out.note))


def plan(session: Session, prune: PruneOption = False) -> None:
    """Show what apply would change.

    Changes nothing.
    """
    with session.store() as store:
        planned = store.plan(prune=prune)
    session.out.show(planned.to_dict(), *_changes(planned), *_kept(planned), *tell_leaks(session, planned.leaks))


def apply(session: Session, prune: PruneOption = False, yes: YesOption = False) -> None:
    """Make the definitions known.

    All of the project's definition modules, in one transaction. Asks before --prune deletes something.
    """
    with session.store() as store:
        if prune and not yes:
            doomed = [change for change in store.plan(prune=True).changes if change.action == "delete"]
            if doomed:
                session.confirm(f"delete {', '.join(change.name for change in doomed)}", yes=False)
        done = store.apply(prune=prune)
    applied = [f"applied as revision {done.revision}"] if done else []
    session.out.show(done.to_dict(), *_changes(done), *applied, *tell_leaks(session, done.leaks))


def tell_leaks(session: Session, leaks: Iterable[Leak]) -> list[str]:
    """Warn of leaks on standard error. Returns the line that counts the notices, which only JSON tells one by one."""
    notices = 0
    for leak in leaks:
        if leak.severity == "warning":
            session.out.warn(f"{leak.code}: {leak.message}\n  {'fix:':<10} {leak.fix}")
        else:
            notices += 1
    return [f"{plural(notices, 'notice')} of possible leaks: --json shows them"] if notices else []


def _changes(planned: ApplyPlan) -> list[str]:
    return [str(planned)]


def _kept(planned: ApplyPlan) -> list[str]:
    if not planned.kept:
        return []
    return [f"applied and not mentioned here: {', '.join(planned.kept)} (--prune deletes them)"]


def materialize(
    session: Session,
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAMES]...", help="Feature groups; all without.")
    ] = None,
    version: Annotated[
        str | None, typer.Option("--version", metavar="X.Y.Z", help="Number it so, instead of by what changed.")
    ] = None,
    start: StartOption = None,
    end: EndOption = None,
    engine: EngineOption = None,
    online: Annotated[
        bool | None,
        typer.Option("--online/--no-online", help="Load the online store or not, instead of each group's own setting."),
    ] = None,
) -> None:
    """Compute feature groups and load the stores.

    Each group is computed from its source, published as a version, and its latest values are loaded online.
    With --start or --end only rows of that time are computed anew; all others stay.
    """
    with session.store() as store, ProgressReport() as progress:
        done = store.materialize(
            names or None, version=version, start=start, end=end, engine=engine, online=online, progress=progress
        )
    rows = [
        (
            item.group,
            item.version if item.new_version else f"{item.version} (unchanged)",
            count(item.rows),
            count(item.online_rows),
            count(item.quarantined),
            f"{item.seconds:.2f}",
        )
        for item in done
    ]
    headers = ("group", "version", "rows", "online", "quarantined", "seconds")
    for item in done:
        for warning in item.warnings:
            session.out.warn(f"{item.group}: {warning}")
    session.out.show([item.to_dict() for item in done], Table(headers, rows, right=frozenset(headers[2:])))


def versions(session: Session, group: Annotated[str, typer.Argument(metavar="GROUP")]) -> None:
    """A feature group's versions, newest first."""
    with session.store() as store:
        found = store.versions(group)
    rows = []
    for meta in reversed(found):
        summary = dict(meta.change_summary)
        why = ", ".join(str(summary[key]) for key in ("bump_type", "reason") if summary.get(key))
        features = count(meta.feature_rows if meta.aggregates else None)
        rows.append((meta.version, moment(meta.created_at)[:19], count(meta.row_count), features, why or "-"))
    data = [meta.to_dict() for meta in reversed(found)]
    windowed = any(meta.aggregates for meta in found)
    stored = "events" if windowed else "rows"
    table = Table(
        ("version", "created (UTC)", stored, "feature rows", "why"),
        rows,
        right=frozenset({stored, "feature rows"}),
        empty=f"no versions yet: grange materialize {group}",
    )
    session.out.show(data, table if windowed else table.without("feature rows"))


def inspect(
    session: Session,
    name: Annotated[str, typer.Argument(metavar="NAME", help="A feature group, feature view or entity.")],
    version: VersionOption = None,
) -> None:
    """Everything known of a definition."""
    with session.store() as store:
        data = store.inspect(name, version=version)
    session.out.show(data, *details_parts(group_details(data) if data["kind"] == "feature_group" else data))


def verify(
    session: Session,
    group: Annotated[str | None, typer.Argument(metavar="[GROUP]", help="Only this feature group.")] = None,
    repair: Annotated[bool, typer.Option("--repair", help="Clear what crashes left behind.")] = False,
) -> None:
    """Read all of history and say what is wrong with it.

    Hashes of files and rows, metadata, leftovers of crashes. Published versions are never changed. Ends with 1 when
    something is wrong and was not cleared.
    """
    with session.store() as store:
        findings = store.verify(group, repair=repair)
    rows = [(finding.path, finding.problem, "cleared" if finding.removed else "found") for finding in findings]
    data = [{"path": path, "problem": problem, "state": state} for path, problem, state in rows]
    session.out.show(
        {"findings": data}, Table(("path", "problem", "state"), rows, empty="everything is as it was written")
    )
    if any(not finding.removed for finding in findings):
        raise typer.Exit(1)


def config_show(session: Session) -> None:
    """The settings, and where each came from."""
    config = session.config()
    items = list(config.items())
    session.out.show(
        {
            "project": str(config.root),
            "file": None if config.file is None else str(config.file),
            "settings": [{"key": key, "value": value, "origin": origin} for key, value, origin in items],
        },
        f"project {config.root}",
        Table(("setting", "value", "from"), [(key, _setting(value), origin) for key, value, origin in items]),
    )


def _setting(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
