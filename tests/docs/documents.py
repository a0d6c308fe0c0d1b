"""Documents that run: every block of a page is executed, and what it prints is what the page says.

- A `python` block runs in the page's namespace. A `text` block right after it is what it printed.
- A `console` block holds `$ command` lines, each followed by what the command printed.
- A block under `<!-- file: NAME -->` is written to that file.

`...` in an expected output stands for anything, on one line or over several.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_BLOCK = re.compile(r"^(?:<!-- (?P<note>[^\n]*?) -->\n+)?```(?P<language>\w+)\n(?P<body>.*?)^```$", re.M | re.S)


@dataclass(frozen=True)
class Block:
    """One fenced block of a page."""

    language: str
    body: str
    note: str
    line: int


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page, in order."""
    text = page.read_text(encoding="utf-8")
    return [
        Block(match["language"], match["body"], match["note"] or "", text[: match.start()].count("\n") + 1)
        for match in _BLOCK.finditer(text)
    ]


def run_page(page: Path, folder: Path) -> int:
    """Run a page's blocks in a folder; returns how many outputs were compared."""
    found = blocks(page)
    namespace: dict[str, Any] = {"__name__": "__page__"}
    compared = 0
    with contextlib.chdir(folder):
        for position, block in enumerate(found):
            where = f"{page.name}:{block.line}"
            if block.note.startswith("file: "):
                target = folder / block.note.removeprefix("file: ")
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_text(block.body, encoding="utf-8")
            elif block.note.startswith("not run"):
                continue
            elif block.language == "python":
                printed = _run_python(block, namespace, where)
                after = found[position + 1] if position + 1 < len(found) else None
                if after is not None and after.language == "text":
                    compare(printed, after.body, where)
                    compared += 1
            elif block.language == "console":
                for command, expected in _commands(block.body):
                    compare(_run_command(command, folder, where), expected, f"{where}: $ {command}")
                    compared += 1
    return compared


def compare(printed: str, expected: str, where: str) -> None:
    """Fail unless the output is the expected one; `...` stands for anything."""
    pattern = ".*?".join(re.escape(part) for part in _tidy(expected).split("..."))
    if not re.fullmatch(pattern, _tidy(printed), re.S):
        raise AssertionError(f"{where} prints something else\n--- the page says\n{expected}\n--- it prints\n{printed}")


def _tidy(text: str) -> str:
    return "\n".join(line.rstrip() for line in text.strip().splitlines())


def _run_python(block: Block, namespace: dict[str, Any], where: str) -> str:
    printed = io.StringIO()
    code = compile("\n" * (block.line - 1) + block.body, where, "exec")
    with contextlib.redirect_stdout(printed):
        exec(code, namespace)
    return printed.getvalue()


def _commands(body: str) -> Iterator[tuple[str, str]]:
    for part in re.split(r"^\$ ", body, flags=re.M)[1:]:
        lines = part.splitlines()
        command = lines.pop(0)
        while command.endswith("\\"):
            command = command[:-1] + lines.pop(0).strip().removeprefix("> ")
        yield command, "\n".join(lines)


def _run_command(command: str, folder: Path, where: str) -> str:
    scripts = str(Path(sys.executable).parent)
    environment = os.environ | {"PATH": scripts + os.pathsep + os.environ["PATH"], "COLUMNS": "88", "NO_COLOR": "1"}
    done = subprocess.run(
        command, shell=True, cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    if done.returncode:
        raise AssertionError(f"{where}: {command!r} ended with {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done.stdout
