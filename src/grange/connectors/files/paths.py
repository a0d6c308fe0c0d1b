"""From a path as people write it to files: one file, a glob, or a directory with all folders under it.

Names that start with `.` or `_` are skipped wherever a directory or a wildcard would take them (temporary
files, markers such as `_SUCCESS`); a path that says such a name itself gets it. Links are followed. A folder
that may not be listed is an error: leaving its files out would be a silent loss of rows.
"""

from __future__ import annotations

import fnmatch
import glob
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from grange.definitions.sources import FileFormat
from grange.errors import SourceError, closest_names

_HIDDEN: Final = (".", "_")
_SUFFIXES: Final[dict[FileFormat, tuple[str, ...]]] = {
    "parquet": (".parquet", ".pq"),
    "csv": (".csv", ".tsv", ".csv.gz", ".tsv.gz"),
    "jsonl": (".jsonl", ".ndjson", ".json", ".jsonl.gz", ".ndjson.gz", ".json.gz"),
}
"""How the data files of a directory end; others in it are left alone."""


def expand(path: str, project: Path, file_format: FileFormat, *, what: str) -> list[Path]:
    """The files of a path, sorted as text; at least one.

    Args:
        path: relative paths are relative to `project`; `~` is the home folder.
        project: an absolute path.

    Raises:
        SourceError: there is none, or one may not be read; says what is near.
    """
    whole = project / Path(path).expanduser()
    try:
        files = _find(whole, file_format, what)
        barred = next((file for file in files if not os.access(file, os.R_OK)), None)
    except PermissionError as error:
        raise _barred(what, str(error.filename)) from error
    except OSError as error:
        raise SourceError(f"{what}: {str(whole)!r} cannot be read", found=str(error)) from error
    if barred is not None:
        raise _barred(what, str(barred))
    return files


def _find(whole: Path, file_format: FileFormat, what: str) -> list[Path]:
    if whole.is_file():
        return [whole]
    suffixes = _SUFFIXES[file_format]
    if whole.is_dir():
        return _some(_under(whole, suffixes), f"{what}: no {file_format} file in {str(whole)!r}", whole, suffixes)
    fixed, pattern = _split(whole)
    if pattern:
        return _some(_matching(fixed, pattern, suffixes), f"{what}: no file matches {str(whole)!r}", fixed, suffixes)
    raise _nowhere(f"{what}: {str(whole)!r} does not exist", whole)


def _some(found: Iterator[Path], message: str, place: Path, suffixes: tuple[str, ...]) -> list[Path]:
    files = sorted(set(found), key=str)
    if files:
        return files
    if not place.is_dir():
        raise _nowhere(message, place)
    there = ", ".join(sorted(entry.name for entry in place.iterdir())[:5])
    raise SourceError(message, found=there or "an empty folder", try_=f"put a file ending in {suffixes[0]} there")


def _nowhere(message: str, path: Path) -> SourceError:
    """The error for a path that is not there: names what is like its first part that is missing."""
    folder = path.parent
    while not folder.is_dir() and folder != folder.parent:
        folder = folder.parent
    missing = path.relative_to(folder).parts[0]
    names = sorted(entry.name for entry in folder.iterdir())
    return SourceError(
        message,
        found=f"{str(folder)!r} has {', '.join(names[:5]) or 'nothing in it'}",
        closest=[str(folder / name) for name in closest_names(missing, names)],
    )


def _under(folder: Path, suffixes: tuple[str, ...]) -> Iterator[Path]:
    """The data files of a folder and of all folders under it."""
    for directory in _folders(folder):
        for entry in _entries(directory):
            if entry.name.lower().endswith(suffixes) and entry.is_file():
                yield Path(entry.path)


def _folders(folder: Path, above: tuple[str, ...] = ()) -> Iterator[Path]:
    """A folder and all folders under it; a link back to one above it is not followed."""
    real = os.path.realpath(folder)
    if real in above:
        return
    yield folder
    for entry in _entries(folder):
        if entry.is_dir():
            yield from _folders(Path(entry.path), (*above, real))


def _entries(folder: Path, hidden: tuple[str, ...] = ()) -> list[os.DirEntry[str]]:
    """What is in a folder; of names that start with a mark of hidden ones, only those with a mark in `hidden`."""
    with os.scandir(folder) as entries:
        return [entry for entry in entries if not entry.name.startswith(_HIDDEN) or entry.name.startswith(hidden)]


def _matching(fixed: Path, pattern: tuple[str, ...], suffixes: tuple[str, ...]) -> Iterator[Path]:
    """The files that a glob matches. A matched folder is read as one, unless a bare `*` or `**` matched it."""
    bare = pattern[-1] in ("*", "**")
    for path in _walk(fixed, pattern):
        if path.is_file():
            if not bare or path.name.lower().endswith(suffixes):
                yield path
        elif not bare and path.is_dir():
            yield from _under(path, suffixes)


def _walk(folder: Path, parts: tuple[str, ...]) -> Iterator[Path]:
    """What matches the parts of a pattern in a folder."""
    if not parts:
        yield folder
        return
    head, *rest = parts
    if not folder.is_dir():
        return
    if head == "**":
        for under in _folders(folder):
            yield from _walk(under, tuple(rest) or ("*",))
    elif glob.has_magic(head):
        for entry in _entries(folder, tuple(mark for mark in _HIDDEN if head.startswith(mark))):
            if fnmatch.fnmatchcase(entry.name, head):
                yield from _walk(Path(entry.path), tuple(rest))
    elif os.path.lexists(folder / head):
        yield from _walk(folder / head, tuple(rest))


def _split(path: Path) -> tuple[Path, tuple[str, ...]]:
    """The part of a glob before its first wildcard, and the rest; a folder that is really called `[x]` is none."""
    fixed = Path(path.anchor)
    parts = path.parts[1:]
    for number, part in enumerate(parts):
        if glob.has_magic(part) and not os.path.lexists(fixed / part):
            return fixed, parts[number:]
        fixed /= part
    return fixed, ()


def _barred(what: str, path: str) -> SourceError:
    return SourceError(
        f"{what}: no permission to read {path!r}", try_=f"let the user of this process read it: ls -l {path}"
    )


__all__ = ["expand"]
