"""The demo's project in a folder of its own: settings, definitions and data, to go on with from the command line."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Final

from grange.errors import RefusedError

SETTINGS: Final = """\
# The settings of the demo. `grange config show` lists them all, and where each value comes from.
project = "flights"
definitions = ["features.py"]
"""
DATA: Final = ("flights.parquet", "weather.parquet", "planes.parquet", "airports.parquet", "carriers.parquet")
NOTICE: Final = "SOURCE.md"
"""Travels with the data: the airports' licence asks that their source be named."""
STORED: Final = ".grange"


@dataclass(frozen=True, slots=True)
class Project:
    """The project that was written."""

    folder: Path
    data_bytes: int
    moved: Path | None
    """Where what an earlier demo stored has gone."""

    def data(self, name: str) -> Path:
        """A file of its data."""
        return self.folder / "data" / name


def write_project(directory: Path) -> Project:
    """Write the demo's project. A demo that is there already starts over; what it had stored is moved aside.

    Raises:
        RefusedError: the folder holds something else, or a demo whose files were changed; nothing was written.
    """
    folder = directory.expanduser().absolute()
    contents = _contents()
    try:
        changed = [name for name, content in contents.items() if _differs(folder / name, content)]
        if changed or (folder.exists() and not folder.is_dir()) or _is_foreign(folder, contents):
            raise RefusedError(
                f"there is something in {str(folder)!r} already",
                found=", ".join(changed) or "no demo",
                try_="grange demo <another folder>",
            )
        (folder / "data").mkdir(parents=True, exist_ok=True)
        moved = _move_aside(folder / STORED)
        for name, content in contents.items():
            (folder / name).write_bytes(content)
    except OSError as error:
        raise RefusedError(f"cannot write to {str(folder)!r}: {error.strerror or error}") from error
    return Project(folder, sum(len(contents[f"data/{name}"]) for name in DATA), moved)


def command_name(folder: Path) -> str:
    """How to call Grange from a folder, so that a printed command runs as it stands.

    `grange` where that is this installation's on the PATH; else the way to its script.
    """
    script = Path(sys.executable).with_name("grange")
    found = shutil.which("grange")
    if found is not None and Path(found).absolute() == script.absolute():
        return "grange"
    if not script.exists():
        return f"{shlex.quote(sys.executable)} -m grange"
    near = os.path.relpath(script, folder)
    return shlex.quote(near if near.count("..") <= 2 else str(script))


def _contents() -> dict[str, bytes]:
    package = files("grange.demo")
    contents = {"grange.toml": SETTINGS.encode(), "features.py": (package / "definitions.py").read_bytes()}
    for name in (*DATA, NOTICE):
        contents[f"data/{name}"] = (package / "data" / name).read_bytes()
    return contents


def _differs(path: Path, content: bytes) -> bool:
    return path.exists() and (not path.is_file() or path.read_bytes() != content)


def _is_foreign(folder: Path, contents: dict[str, bytes]) -> bool:
    """Whether a store is there that no demo made."""
    return (folder / STORED).exists() and not all((folder / name).is_file() for name in contents)


def _move_aside(stored: Path) -> Path | None:
    """Rename what an earlier run stored: it may hold what somebody added since."""
    if not stored.exists():
        return None
    number = 1
    while (aside := stored.with_name(f"{stored.name}-{number}")).exists():
        number += 1
    return stored.rename(aside)
