"""Changing versions: how one appears, becomes the latest, or goes away, all at once (VER-3).

The caller holds the group's lock. A version is built beside the others and appears; then the pointer to the latest is
replaced, then the manifest. On a disk pointer and manifest are written before anything appears: from then on there
are only renames, so a full disk is found out while nothing has changed.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import pyarrow as pa

from grange.errors import ConflictError, CorruptStoreError
from grange.offline.parquet import layout, manifest, tables
from grange.offline.parquet.files import Build, Files, Staged, Written
from grange.offline.parquet.layout import Layout
from grange.offline.parquet.manifest import Entries
from grange.offline.parquet.versions import Versions
from grange.ports.offline import ManifestEntry, VersionMeta
from grange.types import Schema
from grange.types.names import parse_version


class Publisher:
    """Writes the versions of every group of one store."""

    def __init__(
        self, files: Files, layout_: Layout, versions: Versions, *, compression: str, partition_rows: int
    ) -> None:
        self._files = files
        self._layout = layout_
        self._versions = versions
        self._compression = compression
        self._partition_rows = partition_rows

    def publish(self, meta: VersionMeta, table: pa.Table, features: pa.Table | None = None) -> VersionMeta:
        """Write a version beside the others, then let it appear and be the latest.

        Args:
            features: the feature rows of a group with aggregations, by event time.

        Raises:
            StorageFullError, StoreUnavailableError: nothing changed.
            ConflictError: another writes the group, as the right to was lost; nothing changed. Of object stores.
        """
        folder = self._layout.version(meta.name, meta.version)
        with self._files.writing(f"feature group {meta.name!r} {meta.version}"):
            self.end_removal(meta.name)
            with self._files.build(folder) as build:
                complete = self._fill(build, meta, table, features)
                self._appear(build, complete)
        return complete

    def _fill(self, build: Build, meta: VersionMeta, table: pa.Table, features: pa.Table | None) -> VersionMeta:
        """Write a version's folder, its metadata last; returns the metadata."""
        rows = self._cut(layout.DATA if features is None else layout.EVENTS, table, meta.event_time)
        written = self._write(build, rows, meta.schema)
        made: list[Written] = []
        if features is not None:
            made = self._write(build, self._cut(layout.DATA, features, meta.event_time), meta.feature_schema)
        complete = meta.with_(
            files=tuple(file.relative for file in written),
            feature_files=tuple(file.relative for file in made),
            feature_rows=0 if features is None else features.num_rows,
            size_bytes=sum(file.size for file in (*written, *made)),
        )
        hashes = {file.relative: file.digest for file in (*written, *made)}
        build.describe({**complete.to_dict(), layout.FILE_HASHES: hashes})
        return complete

    def _cut(self, name: str, table: pa.Table, event_time: str) -> dict[str, pa.Table]:
        """A table's rows by file: one, or one a month when there are many."""
        if table.num_rows <= self._partition_rows:
            return {layout.whole_file(name): table}
        months = tables.months(table, event_time)
        return {layout.month_file(name, month.label): table.slice(month.start, month.rows) for month in months}

    def _write(self, build: Build, parts: Mapping[str, pa.Table], schema: Schema) -> list[Written]:
        """Write files, each on the device when the next begins."""
        write = functools.partial(tables.write_parquet, schema=schema, compression=self._compression)
        return [build.write(relative, functools.partial(write, table=rows)) for relative, rows in parts.items()]

    def _appear(self, build: Build, meta: VersionMeta) -> None:
        with self._switching(meta.name, meta, added=meta.version) as switch:
            try:
                build.appear()
                switch()
            except (OSError, ConflictError):
                if self._versions.pointer(meta.name) != meta.version:
                    build.withdraw()  # nobody was told of it
                raise

    def point(self, meta: VersionMeta) -> None:
        """Make a version that is there the latest."""
        with self._files.writing(f"feature group {meta.name!r}"), self._switching(meta.name, meta) as switch:
            switch()

    def delete(self, group: str, version: str) -> None:
        """Remove a version; if it is the latest, the one before it becomes that, first of all.

        Raises:
            UnknownVersionError: there is no such version.
        """
        folder = self._layout.version(group, version)
        if not self._files.has_appeared(folder):
            self._versions.read(group, version)  # says which there are
        removal = self._files.removal(folder, trash=self._layout.group(group) / layout.unfinished("deleting"))
        with self._files.writing(f"feature group {group!r}"):
            with self._switching(group, self._latest_without(group, version), removed=version) as switch:
                switch()
                removal.hide()
            removal.finish()

    def _latest_without(self, group: str, version: str) -> VersionMeta | None:
        others = [meta for meta in self._versions.metas(group) if meta.version != version]
        named = self._versions.pointer(group)
        if named is None or not self._files.has_appeared(self._layout.version(group, named)):
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
        if not self._files.is_folder(folder):
            return
        removal = self._files.removal(folder, trash=self._layout.trash(group), mark=self._layout.latest(group))
        with self._files.writing(f"feature group {group!r}"):
            with manifest.changing(self._files, self._layout):
                staged = manifest.stage(self._files, self._layout, functools.partial(self._listing, group, None))
                try:
                    removal.hide()
                    staged.commit()
                finally:
                    staged.discard()
            removal.finish()

    def end_removal(self, group: str) -> None:
        """Remove what is left of a group that was removed by a process that died; nothing happens otherwise."""
        if self._versions.is_removed(group):
            self.delete_group(group)

    def entries(self) -> Entries:
        """The manifest's entries by group, made from the folders when it is missing or cannot be read."""
        groups = manifest.read(self._files, self._layout)
        return self.survey() if groups is None else groups

    def _listing(self, group: str, entry: ManifestEntry | None, groups: Entries | None) -> Entries:
        """The manifest's entries with this one for a group."""
        others = {name: each for name, each in (self.survey() if groups is None else groups).items() if name != group}
        return others if entry is None else {**others, group: entry}

    def survey(self) -> Entries:
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
        with self._files.writing(str(self._layout.manifest)), manifest.changing(self._files, self._layout):
            staged = manifest.stage(self._files, self._layout, lambda _: self.survey())
            try:
                staged.commit()
            finally:
                staged.discard()

    @contextmanager
    def _switching(
        self, group: str, latest: VersionMeta | None, *, added: str | None = None, removed: str | None = None
    ) -> Iterator[Callable[[], None]]:
        """Prepare the new pointer and the new manifest; hands out the function that puts them in place."""
        pointing = None if latest is None else {"version": latest.version}
        versions = {version for version in self._versions.published(group) if version != removed}
        versions |= {added} if added else set()
        entry = None if latest is None else ManifestEntry.of(tuple(sorted(versions, key=_by_number)), latest)
        with manifest.changing(self._files, self._layout):
            staged: list[Staged] = []

            def switch() -> None:
                for file in staged:
                    file.commit()

            try:
                staged.append(self._files.stage(self._layout.latest(group), pointing))
                listing = functools.partial(self._listing, group, entry)
                staged.append(manifest.stage(self._files, self._layout, listing))
                yield switch
            finally:
                for file in staged:
                    file.discard()


def _by_number(version: str) -> tuple[int, ...]:
    return parse_version(version) or ()
