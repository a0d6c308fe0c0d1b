"""The `grange` command. `run` is the one place where errors become text and exit codes."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final, cast

import typer

from grange.cli import (
    audit,
    build,
    deriving,
    export,
    fg,
    fv,
    importing,
    job,
    key,
    lineage,
    policy,
    sealing,
    search,
    serve,
    td,
    transformation,
    verbs,
    versions,
)
from grange.cli.output import (
    FAILED,
    INTERRUPTED,
    OK,
    PIPE_CLOSED,
    REFUSED,
    Output,
    OutputClosedError,
    WrongUsageError,
    exit_code,
)
from grange.cli.session import DebugOption, JsonOption, ProjectOption, Shared
from grange.errors import GrangeError, RefusedError, UsageError

_USAGE_ERROR: Final = cast(type[Exception], typer.BadParameter.__bases__[0])
"""The argument parser's error for a command line that it cannot read; Typer does not export it by name."""

app = typer.Typer(
    name="grange",
    help="A feature store: point-in-time correct training data and the same values served online.",
    epilog="Start with `grange init my_store`, or see it work: `grange demo`.",
    no_args_is_help=True,
    rich_markup_mode=None,  # Rich doubles the time that --help takes
    pretty_exceptions_enable=False,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"grange {version('grange')}")
        raise typer.Exit


@app.callback()
def root(
    ctx: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
    json_: JsonOption = False,
    project_: ProjectOption = None,
    debug_: DebugOption = False,
) -> None:
    """A feature store: point-in-time correct training data and the same values served online."""
    ctx.obj = Shared(json_, project_)


verbs.register(app)
build.register(app)
versions.register(app)
lineage.register(app)
search.register(app)
serve.register(app)
app.add_typer(fg.app, name="fg")
deriving.register(fg.app)
app.add_typer(fv.app, name="fv")
app.add_typer(td.app, name="td")
app.add_typer(transformation.app, name="transformation")
app.add_typer(export.app, name="export")
app.add_typer(importing.app, name="import")
app.add_typer(job.app, name="job")
app.add_typer(key.app, name="key")
app.add_typer(policy.app, name="policy")
audit.register(app)
sealing.register(app)


def run(arguments: Sequence[str]) -> int:
    """Run one command line; returns its exit code.

    0 fine, 1 the thing failed, 2 wrong usage, 3 not found, 4 refused, 130 interrupted, 141 when whoever read
    standard output has gone. Errors are text on standard error, or one JSON document on standard output.
    """
    given = list(arguments)
    flags = given[: given.index("--")] if "--" in given else given
    out = Output("--json" in flags)
    debug = "--debug" in flags or os.environ.get("GRANGE_DEBUG", "") not in ("", "0")
    try:
        return _invoke(given, out)
    except KeyboardInterrupt:
        return INTERRUPTED
    except OutputClosedError:
        _discard_output()
        return PIPE_CLOSED
    except typer.Abort as error:
        if isinstance(error.__cause__, KeyboardInterrupt):
            return INTERRUPTED
        out.error(RefusedError("nothing was changed", found="no answer"), debug=debug)
        return REFUSED
    except (GrangeError, WrongUsageError) as error:
        out.error(error, debug=debug)
        return exit_code(error)
    except Exception as error:  # noqa: BLE001 - the process boundary: told in full with --debug, never swallowed
        out.error(error, debug=debug)
        return FAILED


def _invoke(given: list[str], out: Output) -> int:
    command = typer.main.get_command(app)
    try:
        code = command.main(args=given, prog_name="grange", standalone_mode=False)
    except _USAGE_ERROR as error:
        if type(error).__name__ == "NoArgsIsHelpError" and not out.json:
            typer.echo(str(error).rstrip())
            return OK
        raise _as_usage_error(error) from error
    return code if isinstance(code, int) else OK


def _as_usage_error(error: Exception) -> UsageError:
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "grange"
    message = error.format_message() if hasattr(error, "format_message") else str(error)
    if type(error).__name__ == "NoArgsIsHelpError":
        message = "a command is missing"
    return UsageError(message.rstrip("."), try_=f"{path} --help")


def _discard_output() -> None:
    """Let the interpreter flush into nothing at exit, instead of failing once more."""
    sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115 - open until the process ends


def main() -> None:
    """The entry point of the `grange` command."""
    sys.exit(run(sys.argv[1:]))
