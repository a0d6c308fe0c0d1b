"""`grange lineage`: what something is made of, what is made of it, and what deleting it would break."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, get_args

import typer

from grange.cli.output import as_json, terminal_width
from grange.cli.session import Session, command
from grange.errors import UsageError, closest_names

if TYPE_CHECKING:
    from grange.lineage import Lineage
    from grange.lineage.graph import Direction

Format = Literal["tree", "json", "dot", "openlineage"]
FORMATS: Final = get_args(Format)


def register(app: typer.Typer) -> None:
    """Put the command on the command line."""
    command(app, "lineage")(lineage)


def lineage(
    session: Session,
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            help="GROUP, GROUP@X.Y.Z, GROUP:FEATURE, a view, VIEW#N, a source, a transformation, an entity.",
        ),
    ],
    upstream: Annotated[bool, typer.Option("--upstream", help="Only what it is made of.")] = False,
    downstream: Annotated[bool, typer.Option("--downstream", help="Only what is made of it.")] = False,
    columns: Annotated[bool, typer.Option("--columns", help="Column by column.")] = False,
    depth: Annotated[
        int | None, typer.Option("--depth", metavar="N", min=0, help="At most so many steps away.")
    ] = None,
    format_: Annotated[str, typer.Option("--format", metavar="FORMAT", help=f"One of {', '.join(FORMATS)}.")] = "tree",
    kind: Annotated[
        str | None, typer.Option("--kind", metavar="KIND", help="What NAME is, where several things have it: source.")
    ] = None,
    impact: Annotated[bool, typer.Option("--impact", help="Instead, what deleting it would break.")] = False,
) -> None:
    """What it is made of, and what is made of it.

    From sources over feature groups and views to training datasets and exports; with --columns, or for one column, by
    column. `opaque` stands where code decides that is not looked into, `maybe` where only a name says so.
    """
    if format_ not in FORMATS:
        raise UsageError(
            f"--format {format_!r} is none", closest=closest_names(format_, FORMATS), try_=", ".join(FORMATS)
        )
    if impact:
        _show_impact(session, name, kind)
        return
    direction: Direction = "both"
    if upstream != downstream:
        direction = "upstream" if upstream else "downstream"
    with session.store() as store:
        found = store.lineage(
            name,
            direction=direction,
            columns=columns or format_ == "openlineage",
            depth=depth,
            kind=kind,
        )
    data, text = _rendered(found, format_)
    session.out.show(data, text)


def _rendered(found: Lineage, format_: str) -> tuple[Any, str]:
    """What is shown as data and as text."""
    if format_ == "dot":
        text = found.to_dot()
        return {"dot": text}, text.rstrip("\n")
    if format_ == "openlineage":
        events = found.to_openlineage()
        return events, as_json(events)
    data = found.to_dict()
    return data, as_json(data) if format_ == "json" else found.to_tree(width=terminal_width())


def _show_impact(session: Session, name: str, kind: str | None) -> None:
    from grange.lineage import impact_lines

    with session.store() as store:
        found = store.impact(name, kind=kind)
    session.out.show(
        {"name": name, "impact": [item.to_dict() for item in found]},
        "\n".join(impact_lines(found)) or f"nothing is made of {name}",
    )
