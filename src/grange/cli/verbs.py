"""The project's verbs: init, demo, plan, apply, materialize, versions, inspect, config."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from grange.cli.describing import group_details
from grange.cli.output import ProgressReport, Table, count, details_parts, moment, plural
from grange.cli.session import Session, VersionOption, YesOption, command
from grange.cli.versions import GroupArgument, forecast_parts
from grange.errors import CorruptStoreError, UsageError

if TYPE_CHECKING:
    from grange.quality.leaks import Leak
    from grange.store import FeatureStore
    from grange.verbs.apply import ApplyPlan
    from grange.verbs.parity import OnlineParity

config_app = typer.Typer(help="The project's settings.", no_args_is_help=True, rich_markup_mode=None)

StartOption = Annotated[str | None, typer.Option("--start", metavar="TIME", help="From this time on, included.")]
EndOption = Annotated[str | None, typer.Option("--end", metavar="TIME", help="Up to this time, not included.")]
EngineOption = Annotated[
    str | None, typer.Option("--engine", metavar="NAME", help="The engine to run on, instead of the project's.")
]
NumberOption = Annotated[
    str | None, typer.Option("--version", metavar="X.Y.Z", help="Number it so, instead of by what changed.")
]
OnlineOption = Annotated[
    bool | None,
    typer.Option("--online/--no-online", help="Load the online store or not, instead of each group's own setting."),
]
DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="Say which versions it would make and why, and read no source.")
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
    parts = (*_changes(planned), *_kept(planned), *tell_leaks(session, planned.leaks))
    session.out.show(planned.to_dict(), *parts, *forecast_parts(planned.versions))


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
    parts = (*_changes(done), *applied, *tell_leaks(session, done.leaks), *forecast_parts(done.versions))
    session.out.show(done.to_dict(), *parts)


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
    version: NumberOption = None,
    start: StartOption = None,
    end: EndOption = None,
    engine: EngineOption = None,
    online: OnlineOption = None,
    dry_run: DryRunOption = False,
) -> None:
    """Compute feature groups and load the stores.

    Each group is computed from its source, published as a version, and its latest values are loaded online.
    With --start or --end only rows of that time are computed anew; all others stay.
    """
    if dry_run:
        _tell_versions(session, names, version)
        return
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


def _tell_versions(session: Session, names: list[str] | None, version: str | None) -> None:
    with session.store() as store:
        forecasts = store.plan_materialize(names or None, version=version)
    session.out.show([each.to_dict() for each in forecasts], *forecast_parts(forecasts))


def versions(session: Session, group: GroupArgument) -> None:
    """A feature group's versions, newest first.

    Says which is the latest, the one that is read when none is named, where that is not the newest.
    """
    with session.store() as store:
        found = store.versions(group)
        latest = _latest(session, store, found[0].name) if found else None
    rows = []
    for meta in reversed(found):
        summary = dict(meta.change_summary)
        why = ", ".join(str(summary[key]) for key in ("bump_type", "reason") if summary.get(key))
        features = count(meta.feature_rows if meta.aggregates else None)
        rows.append((meta.version, moment(meta.created_at)[:19], count(meta.row_count), features, why or "-"))
    data = [{**meta.to_dict(), "latest": meta.version == latest} for meta in reversed(found)]
    windowed = any(meta.aggregates for meta in found)
    stored = "events" if windowed else "rows"
    table = Table(
        ("version", "created (UTC)", stored, "feature rows", "why"),
        rows,
        right=frozenset({stored, "feature rows"}),
        empty=f"no versions yet: grange materialize {group}",
    )
    back = [f"the latest is {latest}"] if latest is not None and latest != found[-1].version else []
    session.out.show(data, table if windowed else table.without("feature rows"), *back)


def _latest(session: Session, store: FeatureStore, group: str) -> str | None:
    try:
        return store.version(group).version
    except CorruptStoreError as error:
        session.out.warn(f"the latest version: {error.message}; {error.try_}")
        return None


def inspect(
    session: Session,
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="A feature group (GROUP@X.Y.Z: a version of it), view or entity.")
    ],
    version: VersionOption = None,
) -> None:
    """Everything known of a definition."""
    with session.store() as store:
        data = store.inspect(name, version=version)
    shown = group_details(_without_repeated_code(data)) if data["kind"] == "feature_group" else data
    if "damage" in data:  # then there may be nothing stored to show them with
        shown["versions"] = data["versions"]
        session.out.warn(data["damage"])
    session.out.show(data, *details_parts(shown))


def _without_repeated_code(data: dict[str, Any]) -> dict[str, Any]:
    """A group without the stored version's code, where that is the code of the definition, which stands there too."""
    stored, transform = data["stored"], data["transform"] or {}
    if stored is None or stored["code"] not in (transform.get("source_text"), transform.get("query"), ""):
        return data
    return {**data, "stored": {key: value for key, value in stored.items() if key != "code"}}


def verify(
    session: Session,
    what: Annotated[
        str | None,
        typer.Argument(metavar="[GROUP | online]", help="Only this feature group; or what is served online."),
    ] = None,
    group: Annotated[
        str | None, typer.Argument(metavar="[GROUP]", help="After `online`: only this feature group.")
    ] = None,
    repair: Annotated[bool, typer.Option("--repair", help="Clear what crashes left behind.")] = False,
    sample: Annotated[
        int, typer.Option("--sample", min=1, metavar="N", help="Of `online`: at most so many entity keys a group.")
    ] = 10_000,
    every: Annotated[bool, typer.Option("--all", help="Of `online`: every entity key.")] = False,
) -> None:
    """Read all of history and say what is wrong with it.

    Hashes of files and rows, metadata, leftovers of crashes; and whether the online store was loaded from the latest
    versions. Published versions are never changed.

    `grange verify online` reads entity keys of each group both ways, from the online store and by a point-in-time join
    as of the same moment, and compares every value.

    Ends with 1 when something is wrong and was not cleared.
    """
    if what == "online":
        _verify_online(session, group, None if every else sample)
        return
    if group is not None:
        raise UsageError(f"verify takes one feature group, and got {what!r} and {group!r}")
    _verify_history(session, what, repair=repair)


def _verify_online(session: Session, group: str | None, sample: int | None) -> None:
    with session.store() as store:
        found = store.verify_online(group, sample=sample)
    rows = [
        (
            each.group,
            *(count(number) for number in (each.keys, each.compared, each.values)),
            _parity_text(each),
        )
        for each in found
    ]
    examples = [
        (each.group, _key_text(one.key), one.feature, str(one.online), str(one.history))
        for each in found
        for one in each.examples
    ]
    tables = [Table(("group", "keys", "compared", "values", "result"), rows, empty="nothing is served online")]
    if examples:
        tables.append(Table(("group", "key", "feature", "online", "history"), examples))
    session.out.show({"groups": [each.to_dict() for each in found]}, *tables)
    if not all(each.holds for each in found):
        session.out.note("load what history has: grange materialize GROUP")
        raise typer.Exit(1)


def _parity_text(found: OnlineParity) -> str:
    if found.lost:
        return "lost: rows were loaded, and all or some are gone"
    parts = [f"{plural(found.different, 'key')} differ"] if found.different else []
    parts += [f"{plural(found.unknown, 'key')} not in history"] if found.unknown else []
    return ", ".join(parts) or "equal"


def _key_text(key: dict[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in key.items())


def _verify_history(session: Session, group: str | None, *, repair: bool) -> None:
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
