"""Python text of definitions, laid out."""

from __future__ import annotations

import keyword
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

WIDTH: Final = 110
INDENT: Final = "    "


def call(function: str, arguments: Sequence[str], named: Mapping[str, str] | None = None) -> str:
    """A call, on one line where it fits, else an argument a line."""
    parts = [*arguments, *(f"{name}={value}" for name, value in (named or {}).items())]
    line = f"{function}({', '.join(parts)})"
    if len(line) <= WIDTH and "\n" not in line:
        return line
    return f"{function}(\n" + "".join(f"{indented(part)},\n" for part in parts) + ")"


def listed(items: Iterable[str]) -> str:
    """A list, an item a line where it is long."""
    parts = list(items)
    line = f"[{', '.join(parts)}]"
    if len(line) <= WIDTH - 20 and "\n" not in line:
        return line
    return "[\n" + "".join(f"{indented(part)},\n" for part in parts) + "]"


def mapped(items: Mapping[str, str]) -> str:
    """A dict of texts to expressions."""
    parts = [f"{literal(key)}: {value}" for key, value in items.items()]
    line = "{" + ", ".join(parts) + "}"
    if len(line) <= WIDTH - 20 and "\n" not in line:
        return line
    return "{\n" + "".join(f"{indented(part)},\n" for part in parts) + "}"


def literal(value: Any) -> str:
    """A value, text in double quotes."""
    if isinstance(value, str):
        shown = repr(value)
        return '"' + shown[1:-1] + '"' if shown[0] == "'" and '"' not in shown else shown
    if isinstance(value, dict):
        return mapped({str(key): literal(item) for key, item in value.items()})
    if isinstance(value, list | tuple):
        return listed(literal(item) for item in value)
    return repr(value)


def query(text: str) -> str:
    """SQL as a text, over several lines where it is long."""
    return literal(text) if len(text) <= WIDTH - 20 and "\n" not in text else f'"""\n{text}\n"""'


def indented(text: str) -> str:
    """Text moved in by one step; what stands between triple quotes may be moved too: it is SQL."""
    return "\n".join(f"{INDENT}{line}" if line else line for line in text.split("\n"))


def name_of(text: str) -> str:
    """A name that Grange takes: letters, digits and underscores, beginning with a letter."""
    plain = re.sub(r"\W+", "_", text, flags=re.ASCII).strip("_")[:128] or "unnamed"
    return plain if plain[0].isalpha() else f"x_{plain}"[:128]


class Names:
    """Names of variables, each once."""

    def __init__(self) -> None:
        self._taken: set[str] = {"gr"}

    def take(self, name: str, suffix: str) -> str:
        """The name itself, or with a suffix, or with a number behind that."""
        plain = name_of(name)
        tries = [plain, f"{plain}_{suffix}", *(f"{plain}_{suffix}_{number}" for number in range(2, 1000))]
        chosen = next(each for each in tries if each not in self._taken and not keyword.iskeyword(each))
        self._taken.add(chosen)
        return chosen
