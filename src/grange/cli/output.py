"""What a command says, and how: tables or JSON on standard output, the rest on standard error, one exit code.

With `--json` standard output is one JSON document and nothing else, errors too. Progress, warnings and questions
go to standard error in either mode. Rich is loaded when the first table or bar is drawn.
"""

from __future__ import annotations

import base64
import datetime as dt
import decimal
import json
import math
import os
import re
import shutil
import sys
import traceback
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol, Self, TextIO

from grange.errors import (
    ConfigError,
    GrangeError,
    NotFoundError,
    RefusedError,
    RequestError,
)

if TYPE_CHECKING:
    from rich.progress import TaskID

    from grange.frames import Rows

OK: Final = 0
FAILED: Final = 1
USAGE: Final = 2
NOT_FOUND: Final = 3
REFUSED: Final = 4
INTERRUPTED: Final = 130
PIPE_CLOSED: Final = 141

_EXIT_CODES: Final[tuple[tuple[type[GrangeError], int], ...]] = (
    (NotFoundError, NOT_FOUND),
    (RefusedError, REFUSED),
    (RequestError, USAGE),
    (ConfigError, USAGE),
    (GrangeError, FAILED),
)
"""The error tree's branches, first match wins."""

LEAST: Final = 12
"""Characters that a column of a table keeps, however little room there is."""
CELL: Final = 32
"""Characters of a data value that a table shows."""


class WrongUsageError(Exception):
    """Carries an error that the command line itself caused, whatever its class: it exits with 2."""

    def __init__(self, error: GrangeError) -> None:
        super().__init__(error.message)
        self.error = error


class OutputClosedError(Exception):
    """Whoever read standard output has gone (`grange fg list | head -1`)."""


def exit_code(error: BaseException) -> int:
    """The exit code of an error: 1 failed, 2 wrong usage, 3 not found, 4 refused."""
    if isinstance(error, WrongUsageError):
        return USAGE
    return next((code for branch, code in _EXIT_CODES if isinstance(error, branch)), FAILED)


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of text under headers. `right` are the headers of columns of numbers."""

    headers: Sequence[str]
    rows: Sequence[Sequence[str]]
    right: frozenset[str] = frozenset()
    empty: str = "(none)"
    """What stands there when there are no rows."""
    spare: Sequence[str] = ()
    """Headers of columns that are left out, in this order, where the first column, the rows' names, would not fit
    otherwise."""

    def without(self, header: str) -> Table:
        """The same table less one column."""
        kept = [index for index, name in enumerate(self.headers) if name != header]
        rows = [[row[index] for index in kept] for row in self.rows]
        spare = [name for name in self.spare if name != header]
        return Table([self.headers[index] for index in kept], rows, self.right, self.empty, spare)


Part = str | Table
"""What people are shown: a paragraph or a table."""


@dataclass(frozen=True, slots=True)
class Output:
    """Standard output and standard error of one command."""

    json: bool = False

    def show(self, data: Any, *parts: Part) -> None:
        """The command's result: `data` as JSON, or `parts` for people.

        Raises:
            OutputClosedError: nobody reads standard output any more.
        """
        try:
            if self.json:
                sys.stdout.write(as_json(data) + "\n")
            else:
                for part in parts:
                    _print(part)
            sys.stdout.flush()
        except BrokenPipeError as error:
            raise OutputClosedError from error

    def note(self, text: str) -> None:
        """A line of prose beside the result: standard output for people, standard error beside JSON."""
        stream = sys.stderr if self.json else sys.stdout
        try:
            print(visible(text), file=stream, flush=True)
        except BrokenPipeError as error:
            raise OutputClosedError from error

    def warn(self, text: str) -> None:
        """A warning, on standard error."""
        print(f"warning: {visible(text)}", file=sys.stderr, flush=True)

    def error(self, error: BaseException, *, debug: bool = False) -> None:
        """An error: what was asked, what was found, what to try; JSON on standard output with `--json`.

        Errors that Grange does not raise on purpose are one line that says how to see the rest.
        """
        shown = error.error if isinstance(error, WrongUsageError) else error
        if debug:
            traceback.print_exception(shown, file=sys.stderr)
        if self.json:
            print(as_json({"error": error_data(shown)}), flush=True)
        elif not debug or isinstance(shown, GrangeError):
            print(visible(error_text(shown)), file=sys.stderr, flush=True)


def error_text(error: BaseException) -> str:
    """An error for people: `UnknownFeatureError [GRANGE-204]: no feature ...` and its hints."""
    if isinstance(error, GrangeError):
        return f"{type(error).__name__} [{error.code}]: {error}"
    return f"unexpected {type(error).__name__}: {error}\n  {'try:':<10} the same command with --debug shows where"


def error_data(error: BaseException) -> dict[str, Any]:
    """An error for machines: `GrangeError.to_dict()`, whatever the error."""
    if isinstance(error, GrangeError):
        return error.to_dict()
    return {
        "code": GrangeError.code,
        "type": type(error).__name__,
        "message": str(error),
        "details": {"try": "the same command with --debug shows where"},
        "retry": False,
    }


def as_json(data: Any) -> str:
    """JSON text of any value a command shows. See `plain` for what JSON has no word for."""
    text = json.dumps(plain(data), indent=2, ensure_ascii=False, allow_nan=False)
    return _HIDDEN.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


_HIDDEN: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters but line break and tab, overrides of the writing direction, and halves of characters."""


def visible(text: str) -> str:
    """Text that a terminal shows and does not obey: stored data may hold what would move, hide or forge lines."""
    return _HIDDEN.sub(
        lambda found: f"\\x{ord(found[0]):02x}" if found[0] <= "\xff" else f"\\u{ord(found[0]):04x}", text
    )


def plain(value: Any) -> Any:
    """A value in JSON's own types.

    Times are ISO 8601 in UTC, durations such as `1d12h`, bytes base64, decimals and uuids text. JSON has no NaN
    and no infinity: they are the texts `NaN`, `Infinity` and `-Infinity`, as in Protocol Buffers' JSON.
    """
    from grange.types.time import isoformat, to_utc

    match value:
        case None | bool() | int() | str():
            return value
        case float():
            if math.isfinite(value):
                return value
            return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
        case Mapping():
            return {str(key): plain(item) for key, item in value.items()}
        case dt.datetime():
            return isoformat(to_utc(value))
        case dt.date():
            return value.isoformat()
        case dt.timedelta():
            return _duration(value)
        case bytes():
            return base64.b64encode(value).decode("ascii")
        case decimal.Decimal() | uuid.UUID() | Path():
            return str(value)
        case Iterable():
            return [plain(item) for item in value]
        case _:
            raise TypeError(f"{type(value).__qualname__} has no JSON form")


def _duration(value: dt.timedelta) -> str:
    from grange.types import format_duration

    return f"-{format_duration(-value)}" if value < dt.timedelta(0) else format_duration(value)


def cell(value: Any, *, limit: int | None = None) -> str:
    """A value as a table shows it: null in words, numbers as they are, text on one line.

    Args:
        limit: characters at most; a longer value ends in `…`.
    """
    match value:
        case None:
            text = "null"
        case bool():
            text = "true" if value else "false"
        case float():
            text = f"{value:.6g}" if abs(value) < 1e15 else str(value)
        case Mapping() | list() | tuple():
            text = json.dumps(plain(value), ensure_ascii=False)
        case _:
            text = str(plain(value))
    text = visible(" ".join(text.split()) if "\n" in text or "\r" in text or "\t" in text else text)
    return text if limit is None or len(text) <= limit else text[: limit - 1] + "…"


def count(number: int | None) -> str:
    """A number of rows: `1,234`; `-` when there is none to tell."""
    return "-" if number is None else f"{number:,}"


def plural(number: int, what: str) -> str:
    """`1 row`, `1,234 rows`."""
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"


def size(number: float) -> str:
    """A number of bytes: `512 B`, `13.4 KiB`."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if number < 1024:
            return f"{number:,.0f} B" if unit == "B" else f"{number:,.1f} {unit}"
        number /= 1024
    return f"{number:,.1f} TiB"


def moment(value: dt.datetime | str | None) -> str:
    """A time in a table: `2026-11-21 10:00:00Z`; `always` for rows that have no time of their own; `-` for none."""
    if value is None:
        return "-"
    text = cell(value).replace("T", " ")
    return "always" if text.startswith("0001-01-01 00:00:00") else text


def rows_parts(rows: Rows) -> tuple[Part, ...]:
    """A frame for people: as many columns as fit the terminal, the others by name below it."""
    names = rows.column_names
    records = rows.arrow.to_pylist()
    texts = {name: [cell(record[name], limit=CELL) for record in records] for name in names}
    widths = {name: max([len(name), *map(len, texts[name])]) for name in names}
    shown: list[str] = []
    used = 0
    for name in names:
        used += widths[name] + (2 if shown else 0)
        if shown and used > terminal_width():
            break
        shown.append(name)
    kinds = {field.name: str(field.type) for field in rows.arrow.schema}
    numbers = frozenset(name for name in shown if kinds[name].startswith(("int", "uint", "float", "double", "decimal")))
    table = Table(
        shown,
        [[texts[name][index] for name in shown] for index in range(len(records))],
        right=numbers,
        empty=f"(no rows; columns: {', '.join(names)})",
    )
    hidden = names[len(shown) :] if records else []
    if not hidden:
        return (table,)
    return (table, f"and {plural(len(hidden), 'more column')}: {', '.join(hidden)}")


def details_parts(data: Mapping[str, Any], *, skip: Iterable[str] = ()) -> tuple[Part, ...]:
    """A nested mapping for people: plain values as a list of names and values, lists of records as tables."""
    left_out = set(skip)
    pairs: list[tuple[str, str]] = []
    tables: list[Part] = []
    for key, value in data.items():
        if key in left_out:
            continue
        if isinstance(value, list | tuple) and value and all(isinstance(item, Mapping) for item in value):
            headers = list(dict.fromkeys(name for item in value for name in item))
            tables += ["", f"{_words(key)}:"]
            tables.append(Table(headers, [[_blank(item.get(name)) for name in headers] for item in value]))
        elif isinstance(value, Mapping) and value:
            pairs += [(f"{_words(key)}.{name}", _blank(item)) for name, item in value.items()]
        else:
            pairs.append((_words(key), _blank(value)))
    return (Table(("", ""), pairs), *tables)


def _words(key: str) -> str:
    return str(key).replace("_", " ")


def _blank(value: Any) -> str:
    """Nothing, as details show it."""
    if isinstance(value, list | tuple) and not any(isinstance(item, Mapping | list | tuple) for item in value):
        return ", ".join(cell(item) for item in value) or "-"
    if isinstance(value, str) and "\n" in value:
        return value.strip("\n")  # source code keeps its lines
    return "-" if value is None or value == "" or value == {} else cell(value)


def terminal_width() -> int:
    """Columns of the terminal; 80 when there is none (or what COLUMNS says)."""
    return max(40, shutil.get_terminal_size((80, 24)).columns)


def _print(part: Part) -> None:
    match part:
        case str():
            sys.stdout.write(visible(part) + "\n")
        case Table():
            sys.stdout.write(_rendered(part))


def _rendered(table: Table) -> str:
    """A table as text of at most the terminal's width; long values go on in the next line."""
    if not table.rows:
        return table.empty + "\n"
    import io

    from rich.cells import cell_len
    from rich.console import Console
    from rich.table import Table as RichTable
    from rich.text import Text

    headers = [visible(header) for header in table.headers]
    rows = [[visible(value) for value in row] for row in table.rows]
    needed = [
        max(cell_len(line) for text in column for line in text.split("\n"))
        for column in zip(headers, *rows, strict=True)
    ]
    widths = _widths(needed, terminal_width() - 2 * len(needed))
    if widths[0] < needed[0] and table.spare:
        return _rendered(table.without(table.spare[0]))
    grid = RichTable(
        box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=any(table.headers), header_style="bold"
    )
    for header, text, width in zip(table.headers, headers, widths, strict=True):
        justify: Literal["left", "right"] = "right" if header in table.right else "left"
        grid.add_column(Text(text), justify=justify, overflow="fold", width=width)
    for row in rows:
        grid.add_row(*[Text(value) for value in row])
    on_terminal = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    buffer = io.StringIO()
    console = Console(file=buffer, width=terminal_width(), force_terminal=on_terminal, highlight=False)
    console.print(grid)
    return "".join(line.rstrip() + "\n" for line in buffer.getvalue().splitlines())


def _widths(needed: Sequence[int], room: int) -> list[int]:
    """The columns' widths: the widest give way, and the first, which names the row, after all others."""
    first, *others = needed
    for cap in range(max(LEAST, min(room, max(others, default=0))), LEAST - 1, -1):
        capped = [min(width, cap) for width in others]
        if first + sum(capped) <= room:
            return [first, *capped]
    capped = [min(width, LEAST) for width in others]
    return [min(first, max(LEAST, room - sum(capped))), *capped]


class ProgressEvent(Protocol):
    """One step of long work, as the store reports it."""

    @property
    def group(self) -> str: ...
    @property
    def stage(self) -> str: ...
    @property
    def rows(self) -> int | None: ...
    @property
    def position(self) -> int: ...
    @property
    def total(self) -> int: ...


_STAGES: Final = {"read": "reading", "check": "checking", "write": "writing", "load": "loading online", "done": "done"}


class ProgressReport:
    """Shows the progress of long work on standard error: a bar on a terminal, else a line per step.

    Use it as a context manager and call it with each `ProgressEvent`.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._tasks: dict[str, TaskID] = {}
        self._bar: Any = None

    def __enter__(self) -> Self:
        if self._stream.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

            self._bar = Progress(
                SpinnerColumn(),
                TextColumn("{task.description}", markup=False),
                BarColumn(bar_width=20),
                TextColumn("{task.fields[what]}", markup=False),
                TimeElapsedColumn(),
                console=Console(file=self._stream, highlight=False),
                transient=True,
            )
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, event: ProgressEvent) -> None:
        """Show one step."""
        what = _STAGES.get(event.stage, event.stage)
        if event.rows is not None:
            what += f", {plural(event.rows, 'row')}"
        if self._bar is None:
            print(f"[{event.position}/{event.total}] {event.group}: {what}", file=self._stream, flush=True)
            return
        stages = list(_STAGES)
        done = stages.index(event.stage) + 1 if event.stage in stages else 0
        task = self._tasks.get(event.group)
        if task is None:
            task = self._tasks[event.group] = self._bar.add_task(event.group, total=len(stages), what=what)
        self._bar.update(task, completed=done, what=what)
