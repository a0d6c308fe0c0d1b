"""A Feast repository as a Grange project: a definition module, its settings, and what could not be taken over."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from grange.compat.feast.reading import Repository
from grange.compat.feast.settings import FILE, read_settings
from grange.compat.feast.translating import Translation
from grange.compat.feast.values import Note
from grange.errors import RefusedError, SourceError

SETTINGS = "grange.toml"


@dataclass(frozen=True, slots=True)
class Imported:
    """What a Feast repository comes to in Grange."""

    project: str
    definitions: str
    """The text of the definition module."""
    settings: str
    """The text of `grange.toml`."""
    notes: tuple[Note, ...]
    """What was not taken over, or not as it stands; in the order of files and lines."""
    counts: Mapping[str, int]
    """How many entities, sources, transformations, groups and views there are."""

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "project": self.project,
            "counts": dict(self.counts),
            "notes": [note.to_dict() for note in self.notes],
        }


def import_repository(folder: Path, out: Path) -> Imported:
    """Read a Feast repository. Its code is not run, and nothing is written.

    Args:
        folder: where `feature_store.yaml` lies.
        out: where the definition module will be: paths are told from its folder.

    Raises:
        SourceError: there is no repository, it cannot be read, or it defines nothing.
        MissingDependencyError: the YAML parser is not installed.
    """
    folder = folder.expanduser().absolute()
    file = folder / FILE
    if not file.is_file():
        nested = sorted(each.parent for each in folder.glob(f"*/{FILE}"))
        raise SourceError(
            f"no {FILE} in {str(folder)!r}",
            found="no such folder" if not folder.is_dir() else f"it is in {nested[0]}" if nested else "no repository",
            try_=f"grange import feast {nested[0] if nested else '<repository>'}",
        )
    settings = read_settings(file, definitions=out.name)
    repository = Repository(folder)
    definitions = repository.definitions()
    if not definitions:
        raise SourceError(
            f"no Python file in {str(folder)!r} defines anything of Feast's",
            found=f"a registry: {settings.registry}" if settings.registry else "no definitions",
            try_="import needs the Python definitions: Feast's registry has functions as pickles, which are not read",
        )
    translated = Translation(folder, out.expanduser().absolute().parent).of(definitions)
    notes = (*settings.notes, *repository.notes, *translated.notes)
    ordered = tuple(sorted(notes, key=lambda note: (note.place.file, note.place.line)))
    return Imported(settings.project, translated.text, settings.text, ordered, translated.counts)


def write(imported: Imported, out: Path, *, overwrite: bool = False) -> list[Path]:
    """Write the definition module, and `grange.toml` beside it; returns what was written.

    Raises:
        RefusedError: one of the files is there already, and `overwrite` is not set; nothing was written. Or the folder
            cannot be written.
    """
    settings = out.parent / SETTINGS
    there = [file for file in (out, settings) if file.exists()]
    if there and not overwrite:
        raise RefusedError(
            f"{', '.join(map(str, there))} {'is' if len(there) == 1 else 'are'} there already",
            try_="--out another/features.py, or --overwrite",
        )
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(imported.definitions, encoding="utf-8")
        settings.write_text(imported.settings, encoding="utf-8")
    except OSError as error:
        raise RefusedError(f"cannot write to {str(out.parent)!r}", found=error.strerror or str(error)) from error
    return [out, settings]


__all__ = ["Imported", "import_repository", "write"]
