"""The manifest: every group's versions in one file, for people and for listings. Derived: the folders are the truth."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any, Final

from grange.offline.parquet.files import CHANGE_PATIENCE, Files, Staged
from grange.offline.parquet.layout import Layout
from grange.ports.offline import ManifestEntry

_FORMAT: Final = 1

Entries = dict[str, ManifestEntry]
"""By group."""


def read(files: Files, layout: Layout) -> Entries | None:
    """The entries by group; None when the manifest is missing or cannot be read as one."""
    try:
        return _parsed(files.read_json(layout.manifest))
    except ValueError:
        return None


def changing(files: Files, layout: Layout, *, timeout: float = CHANGE_PATIENCE) -> AbstractContextManager[object]:
    """Keep other writers from the manifest for the block."""
    return files.changing(layout.manifest, what="the manifest", timeout=timeout)


def stage(files: Files, layout: Layout, change: Callable[[Entries | None], Entries]) -> Staged:
    """Prepare a change of the manifest; `change` is given None when it is missing or cannot be read."""

    def changed(value: dict[str, Any] | None) -> Mapping[str, Any]:
        entries = {group: entry.to_dict() for group, entry in sorted(change(_parsed(value)).items())}
        return {"format": _FORMAT, "groups": entries}

    return files.stage_change(layout.manifest, changed)


def _parsed(value: dict[str, Any] | None) -> Entries | None:
    try:
        if value is None or value["format"] != _FORMAT:
            return None
        return {group: ManifestEntry.from_dict(entry) for group, entry in value["groups"].items()}
    except (AttributeError, KeyError, TypeError, ValueError):
        return None
