"""The manifest: every group's versions in one file, for people and for listings. Derived: the folders are the truth."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from grange.offline.parquet import disk
from grange.offline.parquet.layout import Layout
from grange.offline.parquet.locks import Locks
from grange.ports.offline import ManifestEntry

_FORMAT: Final = 1
_PATIENCE: Final = 60.0
"""Seconds to wait for another process that rewrites the manifest, which takes milliseconds."""


def read(layout: Layout) -> dict[str, ManifestEntry] | None:
    """The entries by group; None when the manifest is missing or cannot be read as one."""
    try:
        value = disk.read_json(layout.manifest)
        if value is None or value["format"] != _FORMAT:
            return None
        return {group: ManifestEntry.from_dict(entry) for group, entry in value["groups"].items()}
    except (AttributeError, KeyError, TypeError, ValueError):
        return None


@contextmanager
def changing(layout: Layout, locks: Locks) -> Iterator[None]:
    """Keep other writers from the manifest for the block."""
    with locks.get(layout.manifest_lock, what="the manifest").hold(timeout=_PATIENCE):
        yield


def stage(layout: Layout, groups: Mapping[str, ManifestEntry]) -> disk.Staged:
    """Write a new manifest, to be committed later."""
    disk.make_folder(layout.metadata)
    entries = {group: entry.to_dict() for group, entry in sorted(groups.items())}
    return disk.stage_json(layout.manifest, {"format": _FORMAT, "groups": entries})
