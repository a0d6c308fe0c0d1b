"""`verify`: what is wrong in the store, and what crashes left behind (VER-3)."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator
from contextlib import ExitStack

import pyarrow as pa

from grange.definitions.versioning import schema_hash
from grange.errors import ConflictError, CorruptStoreError
from grange.offline.parquet import layout, manifest, pushed, tables
from grange.offline.parquet.files import FilePath, Files, LocalFile
from grange.offline.parquet.hashing import content_hash
from grange.offline.parquet.layout import Layout
from grange.offline.parquet.publishing import Publisher
from grange.offline.parquet.versions import Versions
from grange.ports.offline import PUSHED_FROM, Finding, VersionMeta
from grange.types import Schema
from grange.types.arrow import arrow_type
from grange.types.names import SEQUENCE


class Verifier:
    """Looks at every file of a store; removes leftovers alone, and only when asked."""

    def __init__(self, files: Files, layout_: Layout, versions: Versions, publisher: Publisher) -> None:
        self._files = files
        self._layout = layout_
        self._versions = versions
        self._publisher = publisher

    def verify(self, group: str | None, *, repair: bool) -> Iterator[Finding]:
        """The findings of one group, or of the whole store. See `OfflineStore.verify`."""
        groups = self._versions.groups() if group is None else [group]
        trashed = {name: layout.trash_of(name) for name in self._files.names(self._layout.root)}
        for name in sorted({*groups, *(owner for owner in trashed.values() if owner and group is None)}):
            removed = [self._layout.root / trash for trash, owner in trashed.items() if owner == name]
            yield from self._leftovers(name, removed, repair=repair)
            for stray in self._versions.strays(name):
                yield Finding(str(stray), "is named as a version and is no folder; readers leave it alone")
            for version in self._versions.folders(name):
                yield from self._version(name, version)
            yield from self._pushed(name)
            yield from self._quarantine(name)
        yield from self._metadata(repair=repair)

    def _leftovers(self, group: str, trash: list[FilePath], *, repair: bool) -> Iterator[Finding]:
        """What crashes left of a group. While another writes the group, what is unfinished is no leftover."""
        folder = self._layout.group(group)
        if not trash and not self._files.is_folder(folder):
            return
        lock = self._files.lock(self._layout.lock(group), guards=folder, what=f"feature group {group!r}")
        with ExitStack() as held:
            try:
                held.enter_context(lock.hold(timeout=0))
            except ConflictError:
                return
            if self._versions.is_removed(group):
                if repair:
                    self._publisher.end_removal(group)
                yield Finding(str(folder), "left behind by a removal that did not end", repair)
                return
            places = [folder, self._layout.pushed(group), self._layout.quarantine(group)]
            yield from self._unfinished(places, trash, repair=repair)
            yield from self._pointer(group, repair=repair)

    def _pointer(self, group: str, *, repair: bool) -> Iterator[Finding]:
        """A pointer that is missing, or points nowhere: readers take the highest version."""
        highest = self._versions.highest(group)
        named = self._versions.pointer(group)
        if highest is None or (named is not None and self._files.has_appeared(self._layout.version(group, named))):
            return
        if repair:
            self._publisher.point(highest)  # says what readers do already
        problem = f"names no version that is there; readers take {highest.version}"
        yield Finding(str(self._layout.latest(group)), problem, repair)

    def _version(self, group: str, version: str) -> Iterator[Finding]:
        try:
            stored = self._versions.stored(group, version)
            meta, files = stored.meta, self._versions.files(stored, fresh=True)
            for path in self._versions.changed_files(meta, files):
                yield Finding(str(path), "its bytes are not those that were written")
            problems = [*_contradictions(meta, _table(files.rows))]
            if files.features:
                problems += _feature_contradictions(meta, _table(files.features))
        except (CorruptStoreError, pa.ArrowException) as error:  # Arrow's: the files are of different columns
            yield Finding(str(self._layout.version(group, version)), _text(error))
            return
        for problem in problems:
            yield Finding(str(self._layout.version(group, version)), problem)

    def _pushed(self, group: str) -> Iterator[Finding]:
        if self._versions.is_removed(group):
            return
        after, reached = PUSHED_FROM, self._reached(group)
        try:
            pushed.read_reached(self._files, self._layout.reached(group))
        except ValueError as error:
            yield Finding(str(self._layout.reached(group)), f"cannot be read, and the next push mends it: {error}")
        for segment in pushed.segments(self._files, self._layout.pushed(group)):
            if segment.first != after:
                yield Finding(str(segment.path), f"pushed rows {after} to {segment.first - 1} are not there just once")
            after = segment.last + 1
            try:
                (opened,) = pushed.opened(self._files, [segment], fresh=True)
                pushed.check_bytes(segment, opened.path)
                pushed.note(opened)
                numbers = tables.read_parquet(opened.path).column(SEQUENCE).to_pylist()
            except (CorruptStoreError, KeyError) as error:
                yield Finding(str(segment.path), _text(error))
                continue
            if numbers != list(range(segment.first, segment.last + 1)):
                yield Finding(str(segment.path), "its sequence numbers are not those of its name")
        if after < reached:
            yield Finding(str(self._layout.pushed(group)), f"pushed rows {after} to {reached - 1} are not there")

    def _reached(self, group: str) -> int:
        """The number after the last row that was ever pushed, as far as anything says it."""
        contained = (meta.pushed_through for meta in self._versions.metas(group))
        return max([pushed.reached(self._files, self._layout.reached(group)), *contained])

    def _quarantine(self, group: str) -> Iterator[Finding]:
        folder = self._layout.quarantine(group)
        for name in self._files.names(folder):
            if layout.is_unfinished(name):
                continue
            try:
                (local,) = self._files.local([(folder / name, "")], fresh=True)
                tables.read_parquet(local.path)
            except (CorruptStoreError, FileNotFoundError) as error:
                yield Finding(str(folder / name), _text(error))

    def _metadata(self, *, repair: bool) -> Iterator[Finding]:
        if not self._files.is_folder(self._layout.root):
            return
        with ExitStack() as held:
            try:
                held.enter_context(manifest.changing(self._files, self._layout, timeout=0))
            except ConflictError:
                return
            yield from self._unfinished([self._layout.metadata], [], repair=repair)
            # twice: where nothing can be locked, a version may appear between looking at one and at the other
            if self._is_listed() or self._is_listed():
                return
            if repair:
                self._publisher.rebuild_manifest()
            yield Finding(str(self._layout.manifest), "does not list what the folders hold", repair)

    def _is_listed(self) -> bool:
        """Whether the manifest says what the folders hold; when they hold nothing, there need be none."""
        listed, there = manifest.read(self._files, self._layout), self._publisher.survey()
        if listed == there:
            return True
        return not there and self._layout.manifest.name not in self._files.names(self._layout.metadata)

    def _unfinished(self, folders: Iterable[FilePath], more: Iterable[FilePath], *, repair: bool) -> Iterator[Finding]:
        left = [path for folder in folders for path in self._files.unfinished(folder)]
        for path in [*left, *more]:
            if repair:
                with self._files.writing(str(path)):
                    self._files.remove(path)
            yield Finding(str(path), "left behind by a write that did not end", repair)


def _table(files: Iterable[LocalFile]) -> pa.Table:
    """The rows of files that are there, every page checked."""
    return pa.concat_tables([tables.read_parquet(file.path) for file in files])


def _contradictions(meta: VersionMeta, table: pa.Table) -> Iterator[str]:
    """What a version's rows say against its metadata."""
    wrong_columns = _wrong_columns(table, meta.schema, [*meta.schema.names, SEQUENCE])
    if wrong_columns:
        yield wrong_columns
        return
    if table.num_rows != meta.row_count:
        yield f"{table.num_rows} rows where {meta.row_count} are expected"
    if schema_hash(meta.outputs) != meta.schema_hash:
        yield "its schema hash is not that of its columns"
    found = content_hash(table, meta.schema, meta.aggregates, event_id=meta.event_id)
    if found != meta.content_hash:
        yield f"content hash {found[:12]}… where {meta.content_hash[:12]}… is expected"
    elif _times(table, meta) != (meta.min_event_time, meta.max_event_time):
        yield "its rows are of other times than its metadata says"
    wrong = tables.first_disorder(table, meta.event_time, meta.created_time)
    if wrong is not None:
        yield f"row {wrong} does not come after the row before it (PIT-3)"


def _times(table: pa.Table, meta: VersionMeta) -> tuple[dt.datetime | None, dt.datetime | None]:
    """The first and last event time of rows that were stored once, so that they are in range."""
    return tables.event_range(table, meta.event_time, what=f"feature group {meta.name!r}")


def _feature_contradictions(meta: VersionMeta, table: pa.Table) -> Iterator[str]:
    """What a version's feature rows say against its metadata."""
    wrong_columns = _wrong_columns(table, meta.feature_schema, list(meta.feature_schema.names))
    if wrong_columns:
        yield f"feature rows: {wrong_columns}"
        return
    if table.num_rows != meta.feature_rows:
        yield f"{table.num_rows} feature rows where {meta.feature_rows} are expected"
    wrong = tables.first_earlier(table, meta.event_time)
    if wrong is not None:
        yield f"feature row {wrong} is earlier than the one before it"


def _wrong_columns(table: pa.Table, schema: Schema, wanted: list[str]) -> str:
    """What columns a table has instead of those wanted, or in other types than a schema's; empty when it fits."""
    if table.column_names != wanted:
        return f"columns {', '.join(table.column_names)} where {', '.join(wanted)} are expected"
    changed = [column.name for column in schema if table.schema.field(column.name).type != arrow_type(column.dtype)]
    return f"columns of another type than their metadata says: {', '.join(changed)}" if changed else ""


def _text(error: Exception) -> str:
    return " ".join(line.strip() for line in str(error).splitlines())
