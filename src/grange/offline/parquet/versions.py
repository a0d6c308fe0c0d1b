"""Reading versions: which there are, what is known of them, which is the latest. Needs no lock (VER-3)."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from grange.errors import CorruptStoreError, DefinitionError, UnknownVersionError, closest_names
from grange.offline.parquet import disk, layout
from grange.offline.parquet.layout import Layout
from grange.ports.offline import VersionMeta
from grange.types.names import parse_version

_AT_ONCE: Final = 2


@dataclass(frozen=True, slots=True)
class Files:
    """Where a version's files are, each table's in row order."""

    rows: tuple[Path, ...]
    features: tuple[Path, ...]
    """Of the feature rows; none without aggregations."""

    @property
    def all(self) -> tuple[Path, ...]:
        """Those of the rows, then those of the feature rows."""
        return (*self.rows, *self.features)


class Versions:
    """The versions of every group of one store."""

    def __init__(self, layout_: Layout) -> None:
        self._layout = layout_

    def groups(self) -> list[str]:
        """The groups that have a folder, by name."""
        return [name for name in disk.names(self._layout.root) if self._is_group(name)]

    def _is_group(self, name: str) -> bool:
        try:
            return self._layout.group(name).is_dir()
        except DefinitionError:
            return False

    def folders(self, group: str) -> list[str]:
        """Every folder named as a version, lowest first, also those that cannot be read."""
        return [name for name in self._named_as_versions(group) if self._layout.version(group, name).is_dir()]

    def strays(self, group: str) -> list[Path]:
        """What is named as a version and is no folder: a file, or a link to nowhere."""
        paths = (self._layout.version(group, name) for name in self._named_as_versions(group))
        return [path for path in paths if not path.is_dir()]

    def _named_as_versions(self, group: str) -> list[str]:
        found = [(parsed, name) for name in disk.names(self._layout.group(group)) if (parsed := parse_version(name))]
        return [name for _, name in sorted(found)]

    def published(self, group: str) -> tuple[str, ...]:
        """The versions that can be read, lowest first."""
        return tuple(meta.version for meta in self.metas(group))

    def metas(self, group: str) -> Iterator[VersionMeta]:
        """What is known of each version that can be read, lowest first."""
        for version in self.folders(group):
            try:
                yield self.read(group, version)
            except (CorruptStoreError, UnknownVersionError):
                continue  # invisible (VER-3); `verify` names it

    def read(self, group: str, version: str) -> VersionMeta:
        """What is known of a version. See `OfflineStore.meta`."""
        folder = self._layout.version(group, version)
        try:
            value = disk.read_json(folder / layout.META)
            meta = None if value is None else VersionMeta.from_dict(value)
        except (KeyError, TypeError, ValueError) as error:
            raise _corrupt(group, version, folder, repr(error)) from error
        if meta is None and not folder.is_dir():
            there = self.published(group)
            raise UnknownVersionError(
                f"feature group {group!r} has no version {version}",
                found=", ".join(there) or "no version at all",
                closest=closest_names(version, there),
                try_=f"grange versions {group}",
            )
        if meta is None:
            raise _corrupt(group, version, folder, "no such file")
        if (meta.name, meta.version) != (group, version):
            raise _corrupt(group, version, folder, f"it is of {meta.name} {meta.version}")
        return meta

    def latest(self, group: str) -> VersionMeta | None:
        """What is known of the latest version; None when there is none.

        It is the one that `_latest.json` names, else the highest.

        Raises:
            CorruptStoreError: the version that is named is there and cannot be read. Falling back to an older one
                would answer with old values and say nothing.
        """
        named = self.pointer(group)
        if named is not None:
            try:
                return self.read(group, named)
            except UnknownVersionError:
                named = None  # removed since, or a pointer to nowhere
        return self.highest(group)

    def pointer(self, group: str) -> str | None:
        """The version that `_latest.json` names; None when it is missing or says nothing that can be read."""
        try:
            value = disk.read_json(self._layout.latest(group))
        except ValueError:
            return None
        named = None if value is None else value.get("version")
        return named if isinstance(named, str) and parse_version(named) else None

    def highest(self, group: str) -> VersionMeta | None:
        """What is known of the highest version that can be read; None when there is none."""
        return next(iter(reversed(list(self.metas(group)))), None)

    def files(self, meta: VersionMeta) -> Files:
        """A version's files of rows and feature rows.

        Raises:
            CorruptStoreError: one is gone, or they are not as large together as they were.
        """
        folder = self._layout.version(meta.name, meta.version)
        rows = tuple(layout.stored_file(folder, relative) for relative in meta.files)
        files = Files(rows, tuple(layout.stored_file(folder, relative) for relative in meta.feature_files))
        try:
            size = sum(file.stat().st_size for file in files.all)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise CorruptStoreError(
                f"feature group {meta.name!r} {meta.version}: a data file is gone", found=str(error)
            ) from error
        except OSError as error:
            raise disk.unavailable(str(folder), error) from error
        if size != meta.size_bytes or not files.rows or bool(files.features) != bool(meta.aggregates):
            raise CorruptStoreError(
                f"feature group {meta.name!r} {meta.version}: its data files have another size than when written",
                found=f"{size} bytes in {len(files.all)} files, {meta.size_bytes} expected",
                try_=f"grange verify {meta.name}",
            )
        return files

    def check_files(self, meta: VersionMeta, files: Files) -> None:
        """Check the bytes of a version's files, once per process, before engines take them for history.

        Raises:
            CorruptStoreError: some are not those that were written.
        """
        changed = self._changed(meta, files, _sha256s_once)
        if changed:
            raise CorruptStoreError(
                f"feature group {meta.name!r} {meta.version} is damaged: a file has other bytes than were written",
                found=", ".join(map(str, changed)),
                try_=f"grange verify {meta.name}; grange materialize {meta.name} builds a new version",
                details={"group": meta.name, "version": meta.version, "files": [str(path) for path in changed]},
            )

    def changed_files(self, meta: VersionMeta, files: Files) -> list[Path]:
        """The files of a version whose bytes changed since they were written, also where no value is: statistics,
        say, that let readers skip rows."""
        return self._changed(meta, files, _sha256s)

    def _changed(
        self, meta: VersionMeta, files: Files, digests: Callable[[tuple[Path, ...]], tuple[str, ...]]
    ) -> list[Path]:
        stored = disk.read_json(self._layout.version(meta.name, meta.version) / layout.META) or {}
        expected = stored.get(layout.FILE_HASHES)
        try:
            found = digests(files.all)
        except OSError as error:
            raise disk.unavailable(
                str(error.filename or self._layout.version(meta.name, meta.version)), error
            ) from error
        relatives = (*meta.files, *meta.feature_files)
        return [
            path
            for relative, path, hashed in zip(relatives, files.all, found, strict=True)
            if not isinstance(expected, dict) or hashed != expected.get(relative)
        ]

    def is_intact(self, meta: VersionMeta) -> bool:
        """Whether a version's files are there, with the bytes that were written."""
        try:
            return not self.changed_files(meta, self.files(meta))
        except CorruptStoreError:
            return False


def _sha256s(paths: tuple[Path, ...]) -> tuple[str, ...]:
    """The hash of each file's bytes; two files at a time, as most versions have no more."""
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="grange-hash") as pool:
        return tuple(pool.map(disk.sha256, paths))


def _sha256s_once(paths: tuple[Path, ...]) -> tuple[str, ...]:
    stats = [path.stat() for path in paths]
    return _sha256s_of(paths, tuple((stat.st_size, stat.st_mtime_ns) for stat in stats))


@functools.lru_cache(maxsize=4096)
def _sha256s_of(paths: tuple[Path, ...], seen: tuple[tuple[int, int], ...]) -> tuple[str, ...]:
    """`_sha256s`, once per files: `seen`, sizes and times of change, tells files from others of the same names."""
    return _sha256s(paths)


def _corrupt(group: str, version: str, folder: Path, found: str) -> CorruptStoreError:
    return CorruptStoreError(
        f"feature group {group!r} {version}: {folder / layout.META} cannot be read",
        found=found,
        try_=f"grange verify {group}",
        details={"group": group, "version": version},
    )
