"""`grange import`: definitions of other systems."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from grange.cli.output import plural
from grange.cli.session import Session, command

app = typer.Typer(help="Definitions of other systems.", no_args_is_help=True, rich_markup_mode=None)


@command(app, "feast")
def feast(
    session: Session,
    repository: Annotated[Path, typer.Argument(metavar="REPO", help="The folder with feature_store.yaml.")],
    out: Annotated[
        Path, typer.Option("--out", metavar="FILE", help="The definition module; grange.toml is written beside it.")
    ] = Path("features.py"),
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the files if they are there.")] = False,
) -> None:
    """Make a project of a Feast repository.

    Reads its Python files without running them, writes a definition module and grange.toml, and says what could not be
    taken over, where it stands, and what to do about it.
    """
    from grange.compat.feast import import_repository, write

    imported = import_repository(repository, out)
    written = [str(path) for path in write(imported, out, overwrite=overwrite)]
    counts = imported.counts
    entities = "1 entity" if counts["entity"] == 1 else f"{counts['entity']:,} entities"
    kinds = (("feature group", "group"), ("transformation", "transformation"), ("feature view", "view"))
    counted = ", ".join([entities, *(plural(counts[key], name) for name, key in kinds)])
    lines = [f"wrote {', '.join(written)}: {counted}"]
    if imported.notes:
        lines += ["", f"{plural(len(imported.notes), 'note')}:", *map(str, imported.notes)]
    lines += ["", f"next: grange plan --project {out.parent}"]
    session.out.show({"written": written, **imported.to_dict()}, *lines)
