"""The reference page of the command line, made of the commands themselves.

python -m grange.cli.reference > docs/reference/cli.md
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from typing import Any, Final, get_args

import typer

from grange.cli import grammars, windows
from grange.cli.creating import CreateCommand, recipe_lines
from grange.cli.main import app
from grange.definitions.expectations import Kind
from grange.errors import GrangeError, NotFoundError, RefusedError, RequestError

SHARED: Final = ("--json", "--project", "--debug", "--help")
"""Options that every command has; said once."""

_HEAD: Final = """# Command line

Nouns then verbs: `grange fg list`. `grange COMMAND --help` says what is here.

Every command takes `--json`, `--project DIR|URL`, `--debug` and `--help`; the first three may also stand before the
command (`grange --json fg list`).

- `--json`: standard output is one JSON document and nothing else, errors too: `{{"error": {{"code", "type", "message",
  "details", "retry"}}}}`. Progress, warnings and questions go to standard error in either mode. It never answers a
  question: what asks needs `--yes` as well. Times are ISO 8601 in UTC, durations such as `1d12h`, bytes base64,
  decimals text; not-a-number and infinities are the texts `NaN`, `Infinity`, `-Infinity`.
- `--project DIR|URL`: the project's folder, or its `grange.toml`; or a server, whose key is in `GRANGE_KEY`. Without
  it, `grange.toml` is looked for here and above.
- `--debug`, or `GRANGE_DEBUG=1`: also show where an error came from.

Tables fit the terminal (80 columns without one, or what `COLUMNS` says). Values longer than 32 characters are cut in
tables, never in JSON or files.

## Exit codes

| code | meaning | errors |
|---|---|---|
| 0 | fine | |
| 1 | the thing failed: data, an expectation, a definition, a store | every other `{root}` |
| 2 | wrong usage: command line, request or settings | `{request}`, `ConfigError`, definitions made of options |
| 3 | not found | `{not_found}` |
| 4 | refused: in use, held by somebody else, unsupported, or not confirmed | `{refused}` |
| 130 | interrupted (Ctrl-C) | |
| 141 | whoever read standard output has gone | |

## Grammars

| what | grammar |
|---|---|
| keys | `{keys}` |
| features (`fg create`) | `{features}` |
| join | `{join}` |
| label | `{label}` |
| derived feature | `name=SQL` |
| entry | `{entry}`: typed by the schema, `id=007` of a string key stays `007`; \
a value with a comma stands in double quotes |
| expectation, of `{checks}` | `{expect}` |
{windows}

In the grammars of windowed features a function is written as in Python (`sum`, `quantile(0.95)`, `min_by(price)`), the
column `*` stands for the rows themselves, and a window is a length (`7d`), a number of rows (`10rows`) or `lifetime`.
Commas and colons in parentheses or quotes do not separate: `"amount:sum:7d:filter=country = 'a:b'"`.

Every join finds, for each row, what was true at its time. `LEFT` and `ASOF` keep every row; `INNER` those for which the
group has a visible row. Without a spine, `RIGHT` asks at that group's entity keys and times, and `FULL` at these and
those of the groups before it. A given spine says itself which rows are asked for: there `RIGHT` is `INNER`, and `FULL`
is `LEFT`. Online every requested row is answered (ONL-4).
"""


def reference() -> str:
    """The page, as Markdown."""
    head = _HEAD.format(
        root=GrangeError.__name__,
        request=RequestError.__name__,
        not_found=NotFoundError.__name__,
        refused=RefusedError.__name__,
        keys=grammars.KEYS_GRAMMAR,
        features=_escaped(grammars.FEATURES_GRAMMAR),
        join=_escaped(grammars.JOIN_GRAMMAR),
        label=_escaped(grammars.LABEL_GRAMMAR),
        entry=_escaped(grammars.ENTRY_GRAMMAR.split(", a value")[0]),
        expect=_escaped(grammars.EXPECT_GRAMMAR.split(", for example")[0]),
        checks="`, `".join(get_args(Kind)),
        windows="\n".join(f"| {item.option} | `{_escaped(item.text)}` |" for item in windows.GRAMMARS),
    )
    sections = [_section(path, command) for path, command in commands()]
    return "\n".join([head, "## Commands\n", *sections])


def commands() -> Iterator[tuple[str, Any]]:
    """Every command with its path: `grange fg list`."""
    yield from _commands("grange", typer.main.get_command(app))


def _commands(path: str, command: Any) -> Iterator[tuple[str, Any]]:
    inner = getattr(command, "commands", None)
    if inner is None:
        yield path, command
        return
    for name, child in inner.items():
        yield from _commands(f"{path} {name}", child)


def _section(path: str, command: Any) -> str:
    parameters = [item for item in command.params if not set(item.opts) & set(SHARED)]
    arguments = [item for item in parameters if item.param_type_name == "argument"]
    options = [item for item in parameters if item.param_type_name == "option"]
    usage = " ".join([path, *(_usage(item) for item in arguments), *(["[OPTIONS]"] if options else [])])
    lines = [f"### `{path}`", "", inspect.cleandoc(command.help or ""), "", "```", usage, "```", ""]
    described = [(item.metavar or item.name.upper(), item) for item in arguments if item.help]
    described += [(_option(item), item) for item in options]
    if described:
        lines += ["| argument, option | meaning |", "|---|---|"]
        lines += [f"| `{_escaped(shown)}` | {_meaning(item)} |" for shown, item in described]
        lines.append("")
    if isinstance(command, CreateCommand):
        lines += ["| recipe | features |", "|---|---|"]
        lines += [f"| `{name}` | {_escaped(text)} |" for name, text in recipe_lines()]
        lines.append("")
    return "\n".join(lines)


def _usage(argument: Any) -> str:
    return str(argument.metavar or argument.name.upper())


def _option(option: Any) -> str:
    names = ", ".join(option.opts) + "".join(f" / {name}" for name in option.secondary_opts)
    return names if option.is_flag or not option.metavar else f"{names} {option.metavar}"


def _meaning(item: Any) -> str:
    text = _escaped(item.help or item.name.replace("_", " ").capitalize() + ".")
    if item.required and item.param_type_name == "option":
        text += " Required."
    if item.multiple and "epeat" not in text:
        text += " Repeatable."
    if item.default not in (None, False, True, "", [], ()) and not callable(item.default):
        text += f" Default: `{item.default}`."
    return text


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    sys.stdout.write(reference())
