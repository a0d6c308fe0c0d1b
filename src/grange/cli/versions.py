"""Versions of feature groups: diff, rollback, manifest; and forecasts as people read them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from grange.cli.output import Part, Table, cell, count, moment, plural, size
from grange.cli.session import Session, YesOption, command

if TYPE_CHECKING:
    from grange.definitions.versioning import VersionForecast
    from grange.verbs.diffs import StatisticChange
    from grange.verbs.versions import Rollback

GroupArgument = Annotated[
    str, typer.Argument(metavar="GROUP", help="The feature group; GROUP@X.Y.Z names a version too.")
]


def register(app: typer.Typer) -> None:
    """Put the commands on the command line."""
    command(app, "diff")(diff)
    command(app, "rollback")(rollback)
    command(app, "manifest")(manifest)


def forecast_parts(forecasts: Sequence[VersionForecast]) -> tuple[Part, ...]:
    """What the next materialize makes of groups' versions, as a table; nothing when there are none."""
    if not forecasts:
        return ()
    rows = [(each.group, each.current or "-", *_forecast(each)) for each in forecasts]
    return (Table(("next materialize", "now", "then", "why"), rows),)


def _forecast(told: VersionForecast) -> tuple[str, str]:
    """The number or numbers, and why."""
    if told.next is not None:
        return told.next, told.why
    why = f"{told.bump} if its rows changed" if told.reason == "changed_data" else f"{told.why}, if its rows changed"
    return " or ".join((*told.if_same, str(told.if_changed))), why


def diff(
    session: Session,
    group: GroupArgument,
    before: Annotated[
        str | None,
        typer.Argument(metavar="[A]", help="A version; the one below the other when left out. GROUP@A is it too."),
    ] = None,
    after: Annotated[str | None, typer.Argument(metavar="[B]", help="A version; the latest when left out.")] = None,
    statistics: Annotated[
        bool, typer.Option("--statistics", help="Read the rows of both, and compare the statistics of their columns.")
    ] = False,
    exit_code: Annotated[bool, typer.Option("--exit-code", help="End with 1 when they differ.")] = False,
) -> None:
    """What is different between two versions.

    Columns, configuration, code, data: how one version became the other. Ends with 0 unless --exit-code asks.
    """
    with session.store() as store:
        found = store.diff(group, before, after, statistics=statistics)
    session.out.show(found.to_dict(), *found.lines(statistics=False), *_statistics_parts(found.statistics))
    if exit_code and found:
        raise typer.Exit(1)


def _statistics_parts(changes: Sequence[StatisticChange] | None) -> tuple[Part, ...]:
    if changes is None:
        return ()
    rows = [(item.column, item.statistic, _statistic(item.before), _statistic(item.after)) for item in changes]
    table = Table(
        ("column", "statistic", "before", "after"),
        rows,
        right=frozenset({"before", "after"}),
        empty="the statistics of their columns are the same",
    )
    return "statistics:", table


def _statistic(value: object) -> str:
    return "-" if value is None else cell(value)


def rollback(
    session: Session,
    group: GroupArgument,
    version: Annotated[str | None, typer.Argument(metavar="[VERSION]", help="The version to go back to.")] = None,
    previous: Annotated[bool, typer.Option("--previous", help="Go back to the one below the latest.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would happen, and change nothing.")] = False,
    yes: YesOption = False,
) -> None:
    """Make an older version the latest.

    In history and online. Later versions stay; the next materialize is numbered above them all. Asks first.
    """
    with session.store() as store:
        done = store.plan_rollback(group, version, previous=previous)
        if not dry_run:
            session.confirm(_question(done), yes=yes)
            done = store.rollback(group, version, previous=previous)
    for warning in done.warnings:
        session.out.warn(warning)
    session.out.show(done.to_dict(), *_rollback_lines(done, "would become" if dry_run else "is now"))


def _question(planned: Rollback) -> str:
    instead = f" instead of {planned.replaced}" if planned.replaced else ""
    return f"make {planned.version} the latest version of {planned.group}{instead}"


def _rollback_lines(done: Rollback, verb: str) -> list[str]:
    instead = f", instead of {done.replaced}" if done.replaced not in (None, done.version) else ""
    lines = [f"{done.group}: {done.version} {verb} the latest{instead}; {plural(done.rows, 'row')}"]
    if done.online_rows is not None:
        lines.append(f"{count(done.online_rows)} entity keys loaded online")
    if done.pending:
        lines.append(f"{plural(done.pending, 'row')} pushed since stay visible beside it")
    return lines


def manifest(
    session: Session,
    regenerate: Annotated[
        bool, typer.Option("--regenerate", help="Make the store's own summary anew from the versions that are there.")
    ] = False,
) -> None:
    """Every feature group's versions, in short."""
    with session.store() as store:
        entries = store.manifest(regenerate=regenerate)
    rows = [
        (
            group,
            entry.latest,
            str(len(entry.versions)),
            count(entry.row_count),
            size(entry.size_bytes),
            moment(entry.updated_at)[:19],
            entry.content_hash[:12],
        )
        for group, entry in entries.items()
    ]
    headers = ("group", "latest", "versions", "rows", "size", "updated (UTC)", "content")
    table = Table(
        headers,
        rows,
        right=frozenset({"versions", "rows", "size"}),
        empty="no versions yet: grange materialize",
        spare=("content",),
    )
    session.out.show({group: entry.to_dict() for group, entry in entries.items()}, table)
