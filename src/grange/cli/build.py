"""grange build: materialize under its other name, for groups that are listed after --features or have a tag."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from grange.cli.session import Session, command
from grange.cli.verbs import DryRunOption, EndOption, EngineOption, NumberOption, OnlineOption, StartOption, materialize
from grange.errors import NotFoundError, UsageError, closest_names

if TYPE_CHECKING:
    from grange.definitions import Catalog


def register(app: typer.Typer) -> None:
    """Put the command on the command line."""
    command(app, "build")(build)


def build(
    session: Session,
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAMES]...", help="Feature groups; all without.")
    ] = None,
    features: Annotated[
        str | None, typer.Option("--features", metavar="A,B", help="Feature groups, besides those of NAMES.")
    ] = None,
    tags: Annotated[
        str | None,
        typer.Option("--tags", metavar="A,B", help="Instead, the groups that have one of these tags (A, or A=VALUE)."),
    ] = None,
    version: NumberOption = None,
    start: StartOption = None,
    end: EndOption = None,
    engine: EngineOption = None,
    online: OnlineOption = None,
    dry_run: DryRunOption = False,
) -> None:
    """The same as materialize, for groups by name or tag.

    Groups are built anew whenever it is called; rows, schema, configuration and code that the latest version has
    already make no new version.
    """
    chosen = list(dict.fromkeys([*(names or ()), *_items(features, "--features")]))
    wanted = _items(tags, "--tags")
    if wanted and chosen:
        raise UsageError("groups are named, or chosen by --tags: not both", try_="leave one of them out")
    if wanted:
        with session.store() as store:
            chosen = tagged(store.catalog, wanted)
    materialize(session, chosen, version, start, end, engine, online, dry_run)


def tagged(catalog: Catalog, wanted: list[str]) -> list[str]:
    """The groups that have one of the tags, by name.

    Raises:
        NotFoundError: a tag that no group has; with the closest.
    """
    marks = {
        name: {mark for tag, value in group.tags for mark in (tag, f"{tag}={value}")}
        for name, group in catalog.groups.items()
    }
    known = sorted(set().union(*marks.values()))
    unknown = [tag for tag in wanted if tag not in known]
    if unknown:
        raise NotFoundError(
            f"no feature group has the tag {unknown[0]!r}",
            found=", ".join(tag for tag in known if "=" not in tag) or "no tags",
            closest=closest_names(unknown[0], known),
            try_="grange fg list",
        )
    return [name for name, own in sorted(marks.items()) if not own.isdisjoint(wanted)]


def _items(text: str | None, option: str) -> list[str]:
    items = [] if text is None else [item.strip() for item in text.split(",")]
    if not all(items):
        raise UsageError(f"{option} {text!r} has an empty name", try_=f"{option} a,b")
    return items
