"""`grange serve`: the server."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from grange.cli.output import Table
from grange.cli.session import Session, command

if TYPE_CHECKING:
    from grange.config import Config

HostOption = Annotated[str | None, typer.Option("--host", metavar="ADDRESS", help="Listen here; server.host without.")]
PortOption = Annotated[int | None, typer.Option("--port", metavar="NUMBER", help="Listen here; server.port without.")]
WorkersOption = Annotated[int | None, typer.Option("--workers", metavar="COUNT", help="Processes that serve.")]
ReloadOption = Annotated[bool, typer.Option("--reload", help="Start anew when a file of the project changes.")]
LevelOption = Annotated[
    str, typer.Option("--log-level", metavar="LEVEL", help="debug, info, warning or error; debug has every request.")
]
AlsoOption = Annotated[
    list[Path] | None, typer.Option("--also", metavar="DIR", help="Serve this project too. Repeatable.")
]


def register(app: typer.Typer) -> None:
    """Put the verb on the command line."""
    command(app, "serve")(serve)


def serve(
    session: Session,
    host: HostOption = None,
    port: PortOption = None,
    workers: WorkersOption = None,
    reload: ReloadOption = False,
    also: AlsoOption = None,
    log_level: LevelOption = "info",
) -> None:
    """Serve features over HTTP, until Ctrl+C or SIGTERM.

    Without keys it answers this machine alone: make one with `grange key create` before listening elsewhere.
    """
    from grange.http.serve import Listening
    from grange.http.serve import serve as run

    given: dict[str, Any] = {"server.host": host, "server.port": port, "server.workers": workers}
    if also:
        given["server.projects"] = [str(folder.absolute()) for folder in also]
    config = session.config()
    listening = Listening(
        config.file or config.root,
        tuple((key, value) for key, value in given.items() if value is not None),
        reload=reload,
        log_level=log_level,
    )
    run(listening, lambda settings, facts: session.out.show(facts, *_described(settings, facts)))


def _described(config: Config, facts: Mapping[str, Any]) -> list[str | Table]:
    """What is served, and where."""
    security = "keys" if all(facts["keys"].values()) else "open: this machine only, no keys"
    if facts["tokens"]:
        security = f"keys, and tokens of {config.security.issuer}"
    rows = [
        ["url", facts["url"]],
        ["docs", f"{facts['url']}/docs"],
        ["projects", ", ".join(facts["projects"])],
        ["views", ", ".join(facts["views"]) or "(none yet)"],
        *([f"{part} store" if part != "registry" else part, name] for part, name in facts["stores"].items()),
        ["security", security],
        ["workers", str(facts["workers"])],
    ]
    return [Table(["serving", "what"], rows), "Ctrl+C stops it"]
