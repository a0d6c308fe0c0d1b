"""What every command shares: `--json`, `--project`, `--debug`, the store, and asking before destroying.

`command` registers a function as a command. Its first parameter is the `Session`; the others are its arguments
and options; the shared options are added here, so that no command can lack them.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from grange.cli.output import Output, WrongUsageError
from grange.errors import DefinitionError, RefusedError, UnsupportedError
from grange.remote.urls import is_url

if TYPE_CHECKING:
    from grange.config import Config
    from grange.store import FeatureStore

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON alone on standard output, errors too.")]
ProjectOption = Annotated[
    str | None,
    typer.Option(
        "--project",
        metavar="DIR|URL",
        help="The project's folder, or a server (its key is in GRANGE_KEY); found upwards from here when left out.",
    ),
]
DebugOption = Annotated[bool, typer.Option("--debug", help="Show where an error came from (or set GRANGE_DEBUG=1).")]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
VersionOption = Annotated[
    str | None, typer.Option("--version", metavar="X.Y.Z", help="This version; the latest when left out.")
]

F = TypeVar("F", bound=Callable[..., None])


@dataclass(frozen=True, slots=True)
class Shared:
    """The shared options as given before the command (`grange --json fg list`)."""

    json: bool = False
    project: str | None = None


@dataclass(frozen=True, slots=True)
class Session:
    """One run of one command."""

    out: Output
    project: str | None = None
    """A folder, or the URL of a server; None is found upwards from here."""

    @contextmanager
    def store(self) -> Iterator[FeatureStore]:
        """The project's feature store, closed at the end.

        What the project's own code prints meanwhile, in its modules and transforms, goes to standard error:
        standard output is the command's answer alone.
        """
        from grange.store import FeatureStore

        with redirect_stdout(sys.stderr), FeatureStore(self.project) as store:
            yield store

    def config(self) -> Config:
        """The project's configuration, without opening any store.

        Raises:
            UnsupportedError: the project is a server's.
        """
        from grange.config import Config

        if is_url(self.project):
            raise UnsupportedError(
                "this is about a project's folder, and --project names a server",
                found=self.project,
                try_="run it where the folder is",
            )
        return Config.load(None if self.project is None else Path(self.project))

    def confirm(self, question: str, *, yes: bool) -> None:
        """Ask before something is lost. `--json` never answers for the user.

        Raises:
            RefusedError: the answer is no, or there is nobody to ask and no `--yes`.
        """
        if yes:
            return
        if self.out.json or not sys.stdin.isatty():
            raise RefusedError(f"{question}: this needs confirmation", found="no terminal to ask at", try_="add --yes")
        if not typer.confirm(f"{question}?", err=True):
            raise RefusedError("nothing was changed", found="the answer was no")


@contextmanager
def from_command_line() -> Iterator[None]:
    """Definitions made of options here: what is wrong with them is wrong usage (exit code 2)."""
    try:
        yield
    except DefinitionError as error:
        raise WrongUsageError(error) from error


def command(app: typer.Typer, name: str, **options: Any) -> Callable[[F], F]:
    """Register a function as a command, with the shared options."""

    def register(function: F) -> F:
        signature = inspect.signature(function, eval_str=True)
        session, *own = signature.parameters.values()
        assert session.annotation is Session, f"the first parameter of {function.__name__} is the Session"

        def call(ctx: typer.Context, json_: bool, project_: str | None, debug_: bool, **arguments: Any) -> None:
            shared = ctx.find_root().obj or Shared()
            project = project_ or shared.project
            function(Session(Output(json_ or shared.json), project), **arguments)

        keyword = inspect.Parameter.KEYWORD_ONLY
        parameters = [
            inspect.Parameter("ctx", keyword, annotation=typer.Context),
            *(parameter.replace(kind=keyword) for parameter in own),
            inspect.Parameter("json_", keyword, annotation=JsonOption, default=False),
            inspect.Parameter("project_", keyword, annotation=ProjectOption, default=None),
            inspect.Parameter("debug_", keyword, annotation=DebugOption, default=False),
        ]
        call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        call.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        call.__doc__ = function.__doc__
        call.__name__ = function.__name__
        app.command(name, **options)(call)
        return function

    return register
