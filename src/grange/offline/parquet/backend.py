"""The `parquet` offline store: versions in folders of Parquet files, pushed rows beside them. See its README."""

from __future__ import annotations

import datetime as dt
import functools
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from grange.definitions import versioning
from grange.definitions.versioning import Stored, VersionForecast
from grange.errors import CorruptStoreError, DataError, RequestError, SchemaError, UnknownVersionError
from grange.frames import Rows
from grange.offline.parquet import layout, pushed, tables
from grange.offline.parquet.datasets import FileDatasets
from grange.offline.parquet.disk_files import DiskFiles
from grange.offline.parquet.files import FilePath, Files
from grange.offline.parquet.hashing import content_hash
from grange.offline.parquet.layout import Layout
from grange.offline.parquet.publishing import Publisher
from grange.offline.parquet.verifying import Verifier
from grange.offline.parquet.versions import Stored as StoredVersion
from grange.offline.parquet.versions import Versions
from grange.plan.nodes import Node
from grange.ports.offline import (
    NEVER_MATERIALIZED,
    PUSHED_FROM,
    FeatureRows,
    Finding,
    ManifestEntry,
    Snapshot,
    VersionMeta,
)
from grange.types.durations import timedelta_of
from grange.types.time import to_utc

_ATTEMPTS = 3
"""How often to look for the latest version when it is removed between finding its name and reading it."""


class ParquetStore:
    """History on a disk or in an object store. See `grange.ports.offline.OfflineStore`.

    Args:
        root: the store's folder; made when something is first written.
        files: how the root is reached; None is the disk.
        partition_rows: a version of more rows has a data file per month.
        compression: of Parquet pages: snappy, zstd, lz4 or none.
        check_bytes: files of a version, or pushed rows, of at most so many bytes together are checked for damage when
            a process first reads them; larger ones by `verify`.
    """

    name = "parquet"

    def __init__(
        self,
        root: str | os.PathLike[str] | FilePath,
        *,
        files: Files | None = None,
        partition_rows: int = 20_000_000,
        compression: str = "snappy",
        check_bytes: int = 64 * 1024 * 1024,
    ) -> None:
        self._files = files or DiskFiles()
        self._layout = Layout(Path(root).absolute() if isinstance(root, str | os.PathLike) else root)
        self._compression = compression
        self._check_bytes = check_bytes
        self._versions = Versions(self._files, self._layout)
        self._publisher = Publisher(
            self._files, self._layout, self._versions, compression=compression, partition_rows=partition_rows
        )

    @functools.cached_property
    def datasets(self) -> FileDatasets:
        """See `OfflineStore.datasets`."""
        return FileDatasets(self._layout.root, files=self._files, compression=self._compression)

    # reading

    def versions(self, group: str) -> tuple[str, ...]:
        """See `OfflineStore.versions`."""
        return self._versions.published(group)

    def meta(self, group: str, version: str | None = None) -> VersionMeta:
        """See `OfflineStore.meta`."""
        found = self._versions.read(group, version) if version is not None else self._versions.latest(group)
        if found is None:
            raise UnknownVersionError(f"feature group {group!r} has no version", try_=f"grange materialize {group}")
        return found

    def snapshot(self, group: str, version: str | None = None, *, pushed_until: int | None = None) -> Snapshot:
        """See `OfflineStore.snapshot`.

        Pushed rows of other columns than the version's, after a change of the definition, join it in the columns
        of both: what one side lacks is null there, and the newest push decides a column's type. Of pushed rows alone
        that end inside a push, the metadata has the time range of the whole push.
        """
        if version is None:
            if pushed_until is not None:
                raise RequestError(
                    f"feature group {group!r}: pushed_until={pushed_until} goes with a named version",
                    try_=f"snapshot({group!r}, version, pushed_until=...), both as a snapshot of the latest has them",
                )
            return self._latest_snapshot(group)
        if pushed_until is None:
            stored = self._versions.stored(group, version)
            rows, features = self._open(stored)
            return Snapshot(stored.meta, rows.node, stored.meta.pushed_through, features=features)
        pinned = None if version == NEVER_MATERIALIZED else self._versions.stored(group, version)
        return self._with_pushed(group, pinned, pushed_until)

    def _latest_snapshot(self, group: str) -> Snapshot:
        for attempt in range(_ATTEMPTS):
            try:
                return self._with_pushed(group, self._versions.latest_stored(group), None)
            except CorruptStoreError:
                # a file is missing: damage, or the version was removed in this moment
                if attempt == _ATTEMPTS - 1 or self._versions.latest(group) is None:
                    raise
        raise AssertionError("unreachable")

    def _with_pushed(self, group: str, version: StoredVersion | None, until: int | None) -> Snapshot:
        """The rows of a version, or of none, and those pushed since, up to a sequence or to the last one."""
        meta = None if version is None else version.meta
        since = PUSHED_FROM if meta is None else meta.pushed_through
        gone = meta is None and self._versions.is_removed(group)
        # first: a push in between is beyond it, and no gap
        reached = PUSHED_FROM if gone else pushed.reached(self._files, self._layout.reached(group))
        segments = () if gone else pushed.segments(self._files, self._layout.pushed(group), since=since, until=until)
        pushed.check_whole(segments, group=group, since=since, until=until, reached=reached)
        if meta is None and not segments:
            raise UnknownVersionError(
                f"feature group {group!r} has neither a version nor pushed rows", try_=f"grange materialize {group}"
            )
        rows, features = (None, None) if version is None else self._open(version)
        listed = pushed.opened(self._files, segments)
        parts = [
            *([] if rows is None else [rows]),
            *pushed.pieces(listed, group=group, since=since, until=until),
        ]
        pushed.check(listed, group=group, most=self._check_bytes)
        end = (segments[-1].last + 1 if segments else since) if until is None else until
        if meta is None:
            meta = pushed.alone(listed, until=end)
        for each in listed:
            _check_same_key(meta, pushed.note(each))
        schema = pushed.union(part.schema for part in parts)
        together = pushed.together(parts, schema, group=group)
        return Snapshot(meta.with_(schema=schema), together, end, pending=end - since, features=features)

    def _open(self, version: StoredVersion) -> tuple[pushed.Piece, Node | None]:
        """A version's rows, and its feature rows where it has aggregations."""
        meta, files = version.meta, self._versions.files(version)
        if meta.size_bytes <= self._check_bytes:
            self._versions.check_files(meta, files)
        rows = pushed.scan(files.rows, meta.schema, group=meta.name, ordered=True)
        features = None
        if meta.aggregates:
            features = pushed.scan(files.features, meta.feature_schema, group=meta.name, ordered=True, sequence=False)
        return pushed.Piece(meta.schema, rows), features

    def _segments(self, group: str) -> tuple[pushed.Segment, ...]:
        """All pushed rows of a group."""
        return () if self._versions.is_removed(group) else pushed.segments(self._files, self._layout.pushed(group))

    def pushed(self, group: str) -> Node | None:
        """See `OfflineStore.pushed`. Columns as in `snapshot`."""
        listed = pushed.opened(self._files, self._segments(group))
        if not listed:
            return None
        pushed.check(listed, group=group, most=self._check_bytes)
        parts = pushed.pieces(listed, group=group)
        return pushed.together(parts, pushed.union(part.schema for part in parts), group=group)

    def next_pushed(self, group: str) -> int:
        """See `OfflineStore.next_pushed`."""
        if self._versions.is_removed(group):
            return PUSHED_FROM
        contained = (meta.pushed_through for meta in self._versions.metas(group))
        pushed_to = (segment.last + 1 for segment in pushed.segments(self._files, self._layout.pushed(group)))
        return max([pushed.reached(self._files, self._layout.reached(group)), *contained, *pushed_to])

    def newest_push(self, group: str) -> VersionMeta | None:
        """See `OfflineStore.newest_push`."""
        newest = pushed.opened(self._files, self._segments(group)[-1:])
        return pushed.note(newest[0]).with_(pushed_through=newest[0].segment.last + 1) if newest else None

    def manifest(self, *, regenerate: bool = False) -> dict[str, ManifestEntry]:
        """See `OfflineStore.manifest`. It is `_metadata/manifest.json`; the folders are the truth."""
        if regenerate:
            self._publisher.rebuild_manifest()
        return self._publisher.entries()

    def forecast(self, draft: VersionMeta) -> VersionForecast:
        """See `OfflineStore.forecast`."""
        hashed = _hashed(draft)
        latest, highest = self._compared_meta(draft.name), self._versions.highest(draft.name)
        return versioning.forecast(
            draft.name,
            self._versions.folders(draft.name),
            None if latest is None else Stored(latest.version, latest.build),
            None if highest is None else Stored(highest.version, highest.build),
            hashed.build,
            explicit=draft.version,
        )

    # writing

    def publish(
        self, draft: VersionMeta, rows: Rows, *, now: dt.datetime, feature_rows: FeatureRows | None = None
    ) -> VersionMeta:
        """See `OfflineStore.publish`.

        A draft's `version` asks for that number; its schema and config hashes are made here when it has none.

        Raises:
            SchemaError, ColumnTypeError: the rows, or feature rows, are not of the draft's columns.
            DataError: they are not in PIT-3 order, or an event time is out of range; feature rows are not by event
                time, are missing, or are of a group without aggregations.
            RequestError: the version asked for is not above the existing ones (VER-2).
            StorageFullError, StoreUnavailableError: nothing changed.
        """
        what = f"feature group {draft.name!r}"
        _check_windows(draft, feature_rows, what=what)
        table = tables.stored(rows, draft.schema, sequence=True, what=what)
        tables.check_order(table, draft.event_time, draft.created_time, what=what)
        self._check_reach(draft)
        start, end = tables.event_range(table, draft.event_time, what=what)
        meta = _hashed(draft).with_(
            content_hash=content_hash(table, draft.schema, draft.aggregates, event_id=draft.event_id),
            created_at=to_utc(now),
            row_count=table.num_rows,
            min_event_time=start,
            max_event_time=end,
        )
        folders = self._versions.folders(draft.name)
        same = None if draft.version else self._identical(meta)
        if same is not None and self._versions.is_intact(same):
            return same
        if same is not None:
            version, change = versioning.repaired_version(folders, same.version)
        else:
            latest = self._compared_meta(draft.name)
            compared = None if latest is None else latest.build
            numbered = versioning.next_version(folders, compared, meta.build, explicit=draft.version)
            assert numbered is not None, "identical builds were told above"
            version, change = numbered
        made = None if feature_rows is None else _feature_table(draft, feature_rows, what=what)
        return self._publisher.publish(meta.with_(version=version, change_summary=change.to_summary()), table, made)

    def _identical(self, meta: VersionMeta) -> VersionMeta | None:
        """The version that a build repeats; it is the latest afterwards.

        That may be the highest version without being the latest: a process died between publishing it and
        pointing to it, or it was rolled back and is now built again.
        """
        latest = self._compared_meta(meta.name)
        if latest is not None and versioning.is_same(latest.build, meta.build):
            return latest
        highest = self._versions.highest(meta.name)
        if highest is not None and versioning.is_same(highest.build, meta.build):
            self._publisher.point(highest)
            return highest
        return None

    def _compared_meta(self, group: str) -> VersionMeta | None:
        """The version that a new one is compared with; a damaged latest must not keep a new one from being built."""
        try:
            return self._versions.latest(group)
        except CorruptStoreError:
            return self._versions.highest(group)

    def _check_reach(self, draft: VersionMeta) -> None:
        """A version cannot contain rows that were not pushed yet: the next push would be taken for one of them."""
        end = self.next_pushed(draft.name)
        if not PUSHED_FROM <= draft.pushed_through <= end:
            raise DataError(
                f"feature group {draft.name!r}: pushed_through is not between {PUSHED_FROM} and {end}",
                found=str(draft.pushed_through),
            )

    def append(self, draft: VersionMeta, rows: Rows) -> int:
        """See `OfflineStore.append`.

        Raises:
            SchemaError, ColumnTypeError: the rows are not of the draft's columns.
            StorageFullError, StoreUnavailableError: nothing changed.
        """
        self._publisher.end_removal(draft.name)
        first = self.next_pushed(draft.name)
        table = tables.stored(rows, draft.schema, sequence=False, what=f"feature group {draft.name!r}")
        if table.num_rows:
            folder = self._layout.pushed(draft.name)
            note = self._layout.reached(draft.name)
            about = _hashed(draft)
            pushed.write(self._files, folder, about, table, first, note=note, compression=self._compression)
        return first

    def quarantine(self, group: str, rows: Rows, *, now: dt.datetime) -> str:
        """See `OfflineStore.quarantine`. Returns the path of a new Parquet file."""
        path = self._layout.quarantine(group) / layout.quarantine_name(to_utc(now))
        self._put_quarantined(path, rows)
        return str(path)

    def quarantined(self, group: str) -> tuple[Rows, ...]:
        """See `OfflineStore.quarantined`."""
        return tuple(map(self._quarantined, self._quarantine_files(group)))

    def rewrite_quarantine(self, group: str, change: Callable[[Rows], Rows | None]) -> int:
        """See `OfflineStore.rewrite_quarantine`. A file of a call keeps its name, and is replaced whole."""
        count = 0
        for path in self._quarantine_files(group):
            rows = change(self._quarantined(path))
            if rows is not None:
                self._put_quarantined(path, rows)
                count += 1
        return count

    def _put_quarantined(self, path: FilePath, rows: Rows) -> None:
        with self._files.writing(str(path)):
            self._files.put(path, functools.partial(pq.write_table, rows.arrow, compression=self._compression))

    def _quarantine_files(self, group: str) -> list[FilePath]:
        """The files of rows kept apart, oldest first."""
        folder = self._layout.quarantine(group)
        return [folder / name for name in sorted(self._files.names(folder)) if not layout.is_unfinished(name)]

    def _quarantined(self, path: FilePath) -> Rows:
        (local,) = self._files.local([(path, "")], fresh=True)
        try:
            return Rows(arrow=pq.read_table(local.path))
        except (pa.ArrowInvalid, OSError) as error:
            raise CorruptStoreError(
                f"{path}: quarantined rows cannot be read", found=str(error), try_="grange verify"
            ) from error

    def point(self, group: str, version: str) -> VersionMeta:
        """See `OfflineStore.point`. Its files are checked whatever their size."""
        stored = self._versions.stored(group, version)
        self._versions.check_files(stored.meta, self._versions.files(stored))
        self._publisher.point(stored.meta)
        return stored.meta

    def delete(self, group: str, version: str | None = None) -> None:
        """See `OfflineStore.delete`. A version's pushed rows stay; a group that is not there is no error.

        Raises:
            UnknownVersionError: there is no such version.
        """
        if version is None:
            self._publisher.delete_group(group)
        else:
            self._publisher.delete(group, version)

    def verify(self, group: str | None = None, *, repair: bool = False) -> tuple[Finding, ...]:
        """See `OfflineStore.verify`. Reads every row. Leftovers of a group that is being written are left alone."""
        verifier = Verifier(self._files, self._layout, self._versions, self._publisher)
        return tuple(verifier.verify(group, repair=repair))

    def lock(self, group: str, *, timeout: float) -> AbstractContextManager[object]:
        """See `OfflineStore.lock`. The thread that holds it may take it again."""
        lock = self._files.lock(
            self._layout.lock(group), guards=self._layout.group(group), what=f"feature group {group!r}"
        )
        return lock.hold(timeout=timeout)


def _hashed(draft: VersionMeta) -> VersionMeta:
    """With the hashes of what it says itself, where the caller gave none."""
    config = versioning.config_hash(
        entity_keys=draft.entity_keys,
        event_time=draft.event_time,
        created_time=draft.created_time,
        interval=None if draft.interval is None else timedelta_of(draft.interval),
        aggregates=draft.aggregates,
        event_id=draft.event_id,
        retracted=draft.retracted,
    )
    return draft.with_(
        schema_hash=draft.schema_hash or versioning.schema_hash(draft.outputs),
        config_hash=draft.config_hash or config,
    )


def _check_windows(draft: VersionMeta, feature_rows: FeatureRows | None, *, what: str) -> None:
    """That feature rows come with aggregations and only with them, and that events have what their windows read."""
    if draft.aggregates and feature_rows is None:
        raise DataError(f"{what} has aggregations: its version needs feature rows", try_="publish(..., feature_rows=)")
    if feature_rows is not None and not draft.aggregates:
        raise DataError(f"{what} has no aggregations, so its rows are its features", found="feature rows besides them")
    read = [column for column in (draft.event_id, draft.retracted) if column is not None]
    read += [column for aggregate in draft.aggregates for column in aggregate.columns]
    missing = [column for column in dict.fromkeys(read) if column not in draft.schema]
    if missing:
        raise SchemaError(
            f"{what}: its events lack columns that its aggregations read: {', '.join(missing)}",
            found=", ".join(draft.schema.names),
            details={"missing": missing},
        )


def _feature_table(draft: VersionMeta, feature_rows: FeatureRows, *, what: str) -> pa.Table:
    """Feature rows as they are stored, computed now if they are not yet."""
    rows = feature_rows() if callable(feature_rows) else feature_rows
    table = tables.stored(rows, draft.feature_schema, sequence=False, what=f"{what}: feature rows")
    tables.check_by_time(table, draft.event_time, what=what)
    tables.event_range(table, draft.event_time, what=what)
    return table


def _check_same_key(meta: VersionMeta, other: VersionMeta) -> None:
    """Pushed rows that are keyed or timed by other columns cannot lie beside a version's rows."""
    ours, theirs = ((m.entity_keys, m.event_time, m.created_time) for m in (meta, other))
    if ours != theirs:
        raise SchemaError(
            f"feature group {meta.name!r}: rows were pushed under another entity key or other time columns",
            found=f"version {meta.version} has {ours}, the pushed rows {theirs}",
            try_=f"grange materialize {meta.name}",
        )
