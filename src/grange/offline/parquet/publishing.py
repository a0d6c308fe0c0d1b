"""Changing versions: how one appears, becomes the latest, or goes away, all at once (VER-3).

The caller holds the group's lock. A version is built under another name, flushed, renamed; then the pointer to
the latest is replaced, then the manifest. Pointer and manifest are written to disk before anything appears: from
then on there are only renames, so a full disk is found out while nothing has changed.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from grange.errors import CorruptStoreError
from grange.offline.parquet import disk, layout, manifest, tables
from grange.offline.parquet.layout import Layout
from grange.offline.parquet.locks import Locks
from grange.offline.parquet.versions import Versions
from grange.ports.offline import ManifestEntry, VersionMeta
from grange.types import Schema
from grange.types.names import parse_version


@dataclass(frozen=True, slots=True)
class _Written:
    """A file of a version that is being built."""

    relative: str
    size: int
    """Bytes."""
    digest: str
    """SHA-256 of its bytes."""


class Publisher:
    """Writes the versions of every group of one store."""

    def __init__(
        self, layout_: Layout, versions: Versions, locks: Locks, *, compression: str, partition_rows: int
    ) -> None:
        self._layout = layout_
        self._versions = versions
        self._locks = locks
        self._compression = compression
        self._partition_rows = partition_rows

    def publish(self, meta: VersionMeta, table: pa.Table, features: pa.Table | None = None) -> VersionMeta:
        """Write a version beside the others, then let it appear and be the latest.

        Args:
            features: the feature rows of a group with aggregations, by event time.

        Raises:
            StorageFullError, StoreUnavailableError: nothing changed.
        """
        group = self._layout.group(meta.name)
        building = group / layout.unfinished("building")
        with disk.writing(f"feature group {meta.name!r} {meta.version}"):
            disk.make_folder(group)
            try:
                complete = self._build(building, meta, table, features)
                self._appear(building, complete)
            except OSError:
                disk.discard_folder(building)
                raise
        return complete

    def _build(self, building: Path, meta: VersionMeta, table: pa.Table, features: pa.Table | None) -> VersionMeta:
        """Write a version's folder, its metadata last; returns the metadata."""
        building.mkdir()
        rows = self._cut(layout.DATA if features is None else layout.EVENTS, table, meta.event_time)
        written = self._write(building, rows, meta.schema)
        made: list[_Written] = []
        if features is not None:
            made = self._write(building, self._cut(layout.DATA, features, meta.event_time), meta.feature_schema)
        complete = meta.with_(
            files=tuple(file.relative for file in written),
            feature_files=tuple(file.relative for file in made),
            feature_rows=0 if features is None else features.num_rows,
            size_bytes=sum(file.size for file in (*written, *made)),
        )
        hashes = {file.relative: file.digest for file in (*written, *made)}
        stored = {**complete.to_dict(), layout.FILE_HASHES: hashes}
        disk.write_file(building / layout.META, lambda file: disk.put_json(file, stored))
        disk.sync_folder(building)
        return complete

    def _cut(self, name: str, table: pa.Table, event_time: str) -> dict[str, pa.Table]:
        """A table's rows by file: one, or one a month when there are many."""
        if table.num_rows <= self._partition_rows:
            return {layout.whole_file(name): table}
        months = tables.months(table, event_time)
        return {layout.month_file(name, month.label): table.slice(month.start, month.rows) for month in months}

    def _write(self, building: Path, parts: Mapping[str, pa.Table], schema: Schema) -> list[_Written]:
        """Write files, each on the device when the next begins."""
        write = functools.partial(tables.write_parquet, schema=schema, compression=self._compression)
        written = []
        for relative, rows in parts.items():
            path = building / relative
            disk.make_folder(path.parent)
            size = disk.write_file(path, functools.partial(write, table=rows))
            written.append(_Written(relative, size, disk.sha256(path)))
            disk.sync_folder(path.parent)
        return written

    def _appear(self, building: Path, meta: VersionMeta) -> None:
        final = self._layout.version(meta.name, meta.version)
        with self._switching(meta.name, meta, added=meta.version) as switch:
            try:
                disk.rename(building, final)
                switch()
            except OSError:
                if final.is_dir() and self._versions.pointer(meta.name) != meta.version:
                    disk.rename(final, building)  # nobody was told of it: take it back
                raise

    def point(self, meta: VersionMeta) -> None:
        """Make a version that is there the latest."""
        with disk.writing(f"feature group {meta.name!r}"), self._switching(meta.name, meta) as switch:
            switch()

    def delete(self, group: str, version: str) -> None:
        """Remove a version; if it is the latest, the one before it becomes that, first of all.

        Raises:
            UnknownVersionError: there is no such version.
        """
        folder = self._layout.version(group, version)
        if not folder.is_dir():
            self._versions.read(group, version)  # says which there are
        trash = self._layout.group(group) / layout.unfinished("deleting")
        with disk.writing(f"feature group {group!r}"):
            with self._switching(group, self._latest_without(group, version), removed=version) as switch:
                switch()
                disk.rename(folder, trash)
            disk.remove(trash)

    def _latest_without(self, group: str, version: str) -> VersionMeta | None:
        others = [meta for meta in self._versions.metas(group) if meta.version != version]
        named = self._versions.pointer(group)
        if named is None or not self._layout.version(group, named).is_dir():
            return others[-1] if others else None
        if named != version:
            return next((meta for meta in others if meta.version == named), others[-1] if others else None)
        gone = parse_version(version)
        assert gone is not None
        before = [meta for meta in others if (parse_version(meta.version) or gone) < gone]
        return next(reversed(before or others), None)

    def delete_group(self, group: str) -> None:
        """Remove a group with everything of it, in one step for readers; nothing happens when there is none."""
        folder = self._layout.group(group)
        if not folder.is_dir():
            return
        trash = self._layout.trash(group)
        with disk.writing(f"feature group {group!r}"):
            with manifest.changing(self._layout, self._locks):
                groups = self.entries()
                groups.pop(group, None)
                staged = manifest.stage(self._layout, groups)
                try:
                    disk.rename(folder, trash)
                    staged.commit()
                finally:
                    staged.discard()
            disk.remove(trash)

    def entries(self) -> dict[str, ManifestEntry]:
        """The manifest's entries by group, made from the folders when it is missing or cannot be read."""
        groups = manifest.read(self._layout)
        return self.survey() if groups is None else groups

    def survey(self) -> dict[str, ManifestEntry]:
        """What the manifest should say, from the folders."""
        entries = {group: self._entry(group) for group in self._versions.groups()}
        return {group: entry for group, entry in entries.items() if entry is not None}

    def _entry(self, group: str) -> ManifestEntry | None:
        try:
            latest = self._versions.latest(group)
        except CorruptStoreError:
            latest = self._versions.highest(group)
        return None if latest is None else ManifestEntry.of(self._versions.published(group), latest)

    def rebuild_manifest(self) -> None:
        """Write the manifest anew from the folders."""
        with disk.writing(str(self._layout.manifest)), manifest.changing(self._layout, self._locks):
            staged = manifest.stage(self._layout, self.survey())
            try:
                staged.commit()
            finally:
                staged.discard()

    @contextmanager
    def _switching(
        self, group: str, latest: VersionMeta | None, *, added: str | None = None, removed: str | None = None
    ) -> Iterator[Callable[[], None]]:
        """Write the new pointer and the new manifest to disk; hands out the function that puts them in place."""
        versions = {version for version in self._versions.published(group) if version != removed}
        versions |= {added} if added else set()
        pointer = self._layout.latest(group)
        with manifest.changing(self._layout, self._locks):
            groups = self.entries()
            groups.pop(group, None)
            if latest is not None:
                groups[group] = ManifestEntry.of(tuple(sorted(versions, key=_by_number)), latest)
            staged: list[disk.Staged] = []

            def switch() -> None:
                if latest is None:
                    disk.remove(pointer)
                    disk.sync_folder(pointer.parent)
                for file in staged:
                    file.commit()

            try:
                if latest is not None:
                    staged.append(disk.stage_json(pointer, {"version": latest.version}))
                staged.append(manifest.stage(self._layout, groups))
                yield switch
            finally:
                for file in staged:
                    file.discard()


def _by_number(version: str) -> tuple[int, ...]:
    return parse_version(version) or ()
