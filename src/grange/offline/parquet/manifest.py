"""The manifest: every group's versions in one file, for people and for listings. Derived: the folders are the truth."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from grange.offline.parquet import disk
from grange.offline.parquet.layout import Layout
from grange.offline.parquet.locks import Locks
from grange.ports.offline import VersionMeta
from grange.types.time import isoformat

_FORMAT: Final = 1
_PATIENCE: Final = 60.0
"""Seconds to wait for another process that rewrites the manifest, which takes milliseconds."""

Entry = dict[str, Any]


def entry(versions: tuple[str, ...], latest: VersionMeta) -> Entry:
    """What the manifest says of one group."""
    return {
        "latest": latest.version,
        "versions": list(versions),
        "updated_at": None if latest.created_at is None else isoformat(latest.created_at),
        "row_count": latest.row_count,
        "size_bytes": latest.size_bytes,
        "content_hash": latest.content_hash,
        "schema_hash": latest.schema_hash,
    }


def read(layout: Layout) -> dict[str, Entry] | None:
    """The entries by group; None when the manifest is missing or cannot be read as one."""
    try:
        value = disk.read_json(layout.manifest)
    except ValueError:
        return None
    if value is None or value.get("format") != _FORMAT:
        return None
    groups = value.get("groups")
    return groups if isinstance(groups, dict) and all(isinstance(e, dict) for e in groups.values()) else None


@contextmanager
def changing(layout: Layout, locks: Locks) -> Iterator[None]:
    """Keep other writers from the manifest for the block."""
    with locks.get(layout.manifest_lock, what="the manifest").hold(timeout=_PATIENCE):
        yield


def stage(layout: Layout, groups: dict[str, Entry]) -> disk.Staged:
    """Write a new manifest, to be committed later."""
    disk.make_folder(layout.metadata)
    return disk.stage_json(layout.manifest, {"format": _FORMAT, "groups": dict(sorted(groups.items()))})
