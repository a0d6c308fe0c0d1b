"""`grange transformation`: functions on features."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from grange.cli.output import Table, details_parts
from grange.cli.session import Session, YesOption, command, from_command_line
from grange.errors import RefusedError, SourceError, UsageError

if TYPE_CHECKING:
    from grange.definitions.transformations import Transformation
    from grange.types import DataType

app = typer.Typer(help="Transformations: functions on features.", no_args_is_help=True, rich_markup_mode=None)


@command(app, "list")
def list_transformations(
    session: Session,
    own: Annotated[bool, typer.Option("--own", help="Only what was applied here, not the ready ones.")] = False,
) -> None:
    """Grange's own functions, and those that were applied."""
    from grange.definitions.preparing import FUNCTIONS

    with session.store() as store:
        applied = list(store.catalog.transformations.values())
    ready = () if own else tuple(FUNCTIONS.values())
    data: list[dict[str, Any]] = [_record(item) for item in applied]
    data += [
        {
            "name": item.name,
            "kind": "ready",
            "learns": item.learns,
            "parameters": {parameter.name: parameter.default for parameter in item.parameters},
            "description": item.description,
        }
        for item in ready
    ]
    rows = [
        (
            item["name"],
            item["kind"],
            "yes" if item["learns"] else "no",
            ", ".join(f"{name}={value}" for name, value in item["parameters"].items())
            if item["kind"] == "ready"
            else f"{', '.join(item['inputs'])} -> {', '.join(item['outputs'])}",
            item["description"].split("\n")[0],
        )
        for item in data
    ]
    headers = ("name", "kind", "learns", "takes", "description")
    session.out.show(data, Table(headers, rows, empty="no transformations", spare=("description", "takes")))


def _record(item: Transformation) -> dict[str, Any]:
    return {
        "name": item.name,
        "kind": "sql" if item.mode == "sql" else "python",
        "mode": item.mode,
        "learns": item.is_fitted,
        "inputs": list(item.inputs),
        "outputs": list(item.output_names),
        "parameters": {},
        "requests": item.requests.to_list(),
        "description": item.description,
        "code": item.code.source_text
        if item.code is not None
        else "\n".join(f"{name} = {sql}" for name, sql in item.sql),
    }


@command(app, "info")
def info(session: Session, name: Annotated[str, typer.Argument(metavar="NAME", help="The transformation.")]) -> None:
    """What an applied transformation takes, gives and does."""
    with session.store() as store:
        data = _record(store.catalog.transformation(name))
    session.out.show(
        data, *details_parts({key: value for key, value in data.items() if key != "code"}), "", data["code"]
    )


@command(app, "create")
def create(
    session: Session,
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="The function; that of the code without.")
    ] = None,
    file: Annotated[
        Path | None, typer.Option("--file", metavar="FILE", help="A Python file with the function.")
    ] = None,
    code: Annotated[str | None, typer.Option("--code", metavar="TEXT", help="The function itself.")] = None,
    sql: Annotated[
        list[str] | None, typer.Option("--sql", metavar="OUTPUT=EXPRESSION", help="SQL over the inputs. Repeatable.")
    ] = None,
    output: Annotated[
        list[str] | None, typer.Option("--output", metavar="NAME:TYPE", help="An output and its type. Repeatable.")
    ] = None,
    description: Annotated[str, typer.Option("--description")] = "",
) -> None:
    """Apply a transformation from Python code or SQL.

    Code that comes this way is stored as text. It is not run by this command, and runs later only where grange.toml
    says `allow_stored = true` under `[code]`. Transformations in definition modules need no such permission.
    """
    if sum(given is not None for given in (file, code, sql or None)) != 1:
        raise UsageError("a transformation comes from --file, --code or --sql: one of them")
    text = code if file is None else _text(file)
    with session.store() as store:
        with from_command_line():
            made = (
                _from_sql(name, sql or [], output, description)
                if text is None
                else _from_code(name, text, output, description)
            )
        if made.name in store.catalog.transformations:
            raise RefusedError(
                f"transformation {made.name!r} exists already", try_=f"grange transformation delete {made.name}"
            )
        done = store.apply([made])
        allowed = store.config.allow_stored_code
    if made.code is not None and not allowed:
        session.out.warn("stored code does not run here: set allow_stored = true under [code] in grange.toml")
    session.out.show(done.to_dict(), str(done), f"applied as revision {done.revision}")


@command(app, "delete")
def delete(
    session: Session,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The transformation.")],
    yes: YesOption = False,
) -> None:
    """Remove a transformation that no group or view uses."""
    with session.store() as store:
        store.catalog.transformation(name)
        session.confirm(f"delete transformation {name}", yes=yes)
        removed = store.delete(name)
    session.out.show({"removed": list(removed)}, *(f"removed {item}" for item in removed))


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(f"{str(file)!r} cannot be read", found=str(error)) from error


def _from_code(name: str | None, text: str, outputs: list[str] | None, description: str) -> Transformation:
    from grange.definitions.stored_code import transformation_from_code

    return transformation_from_code(text, name=name, outputs=_types(outputs), description=description)


def _types(outputs: list[str] | None) -> dict[str, DataType] | None:
    """The types of `--output`; None without."""
    from grange.cli.grammars import parse_features

    return {column.name: column.dtype for item in outputs or () for column in parse_features(item)} or None


def _from_sql(name: str | None, sql: list[str], types: list[str] | None, description: str) -> Transformation:
    from grange.definitions.transformations import Transformation

    pairs = [item.partition("=") for item in sql]
    wrong = [text for text, (left, mark, right) in zip(sql, pairs, strict=True) if not (left and mark and right)]
    if wrong:
        raise UsageError(f"{wrong[0]!r} is not OUTPUT=EXPRESSION", try_="--sql 'ratio=amount / NULLIF(total, 0)'")
    outputs = {left.strip(): right.strip() for left, _, right in pairs}
    return Transformation(name or next(iter(outputs)), sql=outputs, outputs=_types(types), description=description)
