"""Reading versions: which there are, what is known of them, which is the latest. Needs no lock (VER-3)."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from grange.errors import CorruptStoreError, DefinitionError, UnknownVersionError, closest_names
from grange.offline.parquet import disk, layout
from grange.offline.parquet.files import REMOVED, FilePath, Files, LocalFile
from grange.offline.parquet.layout import Layout
from grange.ports.offline import VersionMeta
from grange.types.names import parse_version

_AT_ONCE: Final = 2


@dataclass(frozen=True, slots=True)
class Stored:
    """What a version's `.meta.json` says."""

    meta: VersionMeta
    hashes: Mapping[str, str]
    """SHA-256 of the bytes of each file, by its name relative to the version's folder."""


@dataclass(frozen=True, slots=True)
class VersionFiles:
    """A version's files, each table's in row order."""

    rows: tuple[LocalFile, ...]
    features: tuple[LocalFile, ...]
    """Of the feature rows; none without aggregations."""
    hashes: tuple[str | None, ...]
    """SHA-256 of the bytes of `all`, as they were written; None where it is not known."""

    @property
    def all(self) -> tuple[LocalFile, ...]:
        """Those of the rows, then those of the feature rows."""
        return (*self.rows, *self.features)


class Versions:
    """The versions of every group of one store."""

    def __init__(self, files: Files, layout_: Layout) -> None:
        self._files = files
        self._layout = layout_

    def groups(self) -> list[str]:
        """The groups that have a folder, by name."""
        return [name for name in self._files.folders(self._layout.root) if self._is_group(name)]

    def _is_group(self, name: str) -> bool:
        try:
            self._layout.group(name)
        except DefinitionError:
            return False
        return True

    def is_removed(self, group: str) -> bool:
        """Whether a group was removed, and what it held may still lie there. Never so on a disk."""
        try:
            value = self._files.read_json(self._layout.latest(group))
        except ValueError:
            return False
        return value is not None and bool(value.get(REMOVED))

    def folders(self, group: str) -> list[str]:
        """Every folder named as a version, lowest first, also those that cannot be read."""
        named = _as_versions(self._files.appeared(self._layout.group(group)))
        return [] if not named or self.is_removed(group) else named

    def strays(self, group: str) -> list[FilePath]:
        """What is named as a version and is no folder: a file, or a link to nowhere."""
        folder = self._layout.group(group)
        folders = set(self._files.folders(folder))
        names = _as_versions(name for name in self._files.names(folder) if name not in folders)
        return [self._layout.version(group, name) for name in names]

    def published(self, group: str) -> tuple[str, ...]:
        """The versions that can be read, lowest first."""
        return tuple(meta.version for meta in self.metas(group))

    def metas(self, group: str) -> Iterator[VersionMeta]:
        """What is known of each version that can be read, lowest first."""
        read = functools.partial(self._readable, group)
        versions = self.folders(group)
        if self._files.at_once == 1 or len(versions) < 2:
            found: list[VersionMeta | None] = [read(version) for version in versions]
        else:
            with ThreadPoolExecutor(self._files.at_once, thread_name_prefix="grange-meta") as pool:
                found = list(pool.map(read, versions))
        yield from (meta for meta in found if meta is not None)

    def _readable(self, group: str, version: str) -> VersionMeta | None:
        try:
            return self.read(group, version)
        except (CorruptStoreError, UnknownVersionError):
            return None  # invisible (VER-3); `verify` names it

    def read(self, group: str, version: str) -> VersionMeta:
        """What is known of a version. See `OfflineStore.meta`."""
        return self.stored(group, version).meta

    def stored(self, group: str, version: str) -> Stored:
        """What a version's `.meta.json` says. See `OfflineStore.meta`."""
        folder = self._layout.version(group, version)
        try:
            value = self._files.read_json(folder / layout.META)
            meta = None if value is None else VersionMeta.from_dict(value)
        except (KeyError, TypeError, ValueError) as error:
            raise _corrupt(group, version, folder, repr(error)) from error
        if value is None and not self._files.has_appeared(folder):
            there = self.published(group)
            raise UnknownVersionError(
                f"feature group {group!r} has no version {version}",
                found=", ".join(there) or "no version at all",
                closest=closest_names(version, there),
                try_=f"grange versions {group}",
            )
        if value is None or meta is None:
            raise _corrupt(group, version, folder, "no such file")
        if (meta.name, meta.version) != (group, version):
            raise _corrupt(group, version, folder, f"it is of {meta.name} {meta.version}")
        hashes = value.get(layout.FILE_HASHES)
        return Stored(meta, hashes if isinstance(hashes, dict) else {})

    def latest(self, group: str) -> VersionMeta | None:
        """What is known of the latest version; None when there is none. See `latest_stored`."""
        stored = self.latest_stored(group)
        return None if stored is None else stored.meta

    def latest_stored(self, group: str) -> Stored | None:
        """What the latest version's `.meta.json` says; None when there is none.

        It is the one that `_latest.json` names, else the highest.

        Raises:
            CorruptStoreError: the version that is named is there and cannot be read. Falling back to an older one
                would answer with old values and say nothing.
        """
        named = self.pointer(group)
        if named is not None:
            try:
                return self.stored(group, named)
            except UnknownVersionError:
                named = None  # removed since, or a pointer to nowhere
        highest = self.highest(group)
        return None if highest is None else self.stored(group, highest.version)

    def pointer(self, group: str) -> str | None:
        """The version that `_latest.json` names; None when it is missing or says nothing that can be read."""
        try:
            value = self._files.read_json(self._layout.latest(group))
        except ValueError:
            return None
        named = None if value is None else value.get("version")
        return named if isinstance(named, str) and parse_version(named) else None

    def highest(self, group: str) -> VersionMeta | None:
        """What is known of the highest version that can be read; None when there is none."""
        found = (self._readable(group, version) for version in reversed(self.folders(group)))
        return next((meta for meta in found if meta is not None), None)

    def files(self, stored: Stored, *, fresh: bool = False) -> VersionFiles:
        """A version's files of rows and feature rows.

        Args:
            stored: the version.
            fresh: look at what is stored now, and at no older copy.

        Raises:
            CorruptStoreError: one is gone, or they are not as large together as they were.
        """
        meta = stored.meta
        folder = self._layout.version(meta.name, meta.version)
        relatives = (*meta.files, *meta.feature_files)
        hashes = tuple(stored.hashes.get(relative) for relative in relatives)
        try:
            wanted = [layout.stored_file(folder, relative) for relative in relatives]
            digests = [digest or "" for digest in hashes]
            opened = self._files.local(list(zip(wanted, digests, strict=True)), fresh=fresh)
            files = VersionFiles(tuple(opened[: len(meta.files)]), tuple(opened[len(meta.files) :]), hashes)
            size = sum(file.path.stat().st_size for file in files.all)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise CorruptStoreError(
                f"feature group {meta.name!r} {meta.version}: a data file is gone", found=str(error)
            ) from error
        except OSError as error:
            raise disk.unavailable(str(folder), error) from error
        if size != meta.size_bytes and not fresh:
            return self.files(stored, fresh=True)  # a copy may be cut off, and what is stored whole
        if size != meta.size_bytes or not files.rows or bool(files.features) != bool(meta.aggregates):
            raise CorruptStoreError(
                f"feature group {meta.name!r} {meta.version}: its data files have another size than when written",
                found=f"{size} bytes in {len(files.all)} files, {meta.size_bytes} expected",
                try_=f"grange verify {meta.name}",
            )
        return files

    def check_files(self, meta: VersionMeta, files: VersionFiles) -> None:
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

    def changed_files(self, meta: VersionMeta, files: VersionFiles) -> list[Path]:
        """The files of a version whose bytes changed since they were written, also where no value is: statistics,
        say, that let readers skip rows."""
        return self._changed(meta, files, _sha256s)

    def _changed(
        self, meta: VersionMeta, files: VersionFiles, digests: Callable[[tuple[Path, ...]], tuple[str, ...]]
    ) -> list[Path]:
        try:
            found = digests(tuple(file.path for file in files.all))
        except OSError as error:
            raise disk.unavailable(
                str(error.filename or self._layout.version(meta.name, meta.version)), error
            ) from error
        return [
            file.path
            for file, hashed, expected in zip(files.all, found, files.hashes, strict=True)
            if hashed != expected
        ]

    def is_intact(self, meta: VersionMeta) -> bool:
        """Whether a version's files are there, with the bytes that were written."""
        try:
            return not self.changed_files(meta, self.files(self.stored(meta.name, meta.version)))
        except CorruptStoreError:
            return False


def _sha256s(paths: tuple[Path, ...]) -> tuple[str, ...]:
    """The hash of each file's bytes; two files at a time, as most versions have no more."""
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="grange-hash") as pool:
        return tuple(pool.map(disk.sha256, paths))


def _sha256s_once(paths: tuple[Path, ...]) -> tuple[str, ...]:
    """`_sha256s`, once per process and files, as long as these do not change."""
    stats = [path.stat() for path in paths]
    return _sha256s_of(paths, tuple((stat.st_size, stat.st_mtime_ns) for stat in stats))


@functools.lru_cache(maxsize=4096)
def _sha256s_of(paths: tuple[Path, ...], seen: tuple[tuple[int, int], ...]) -> tuple[str, ...]:
    """`seen`, sizes and times of change, tells files from others of the same names."""
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="grange-hash") as pool:
        return tuple(pool.map(disk.sha256_once, paths))


def _as_versions(names: Iterable[str]) -> list[str]:
    """The names that are versions, lowest first."""
    found = [(parsed, name) for name in names if (parsed := parse_version(name))]
    return [name for _, name in sorted(found)]


def _corrupt(group: str, version: str, folder: FilePath, found: str) -> CorruptStoreError:
    return CorruptStoreError(
        f"feature group {group!r} {version}: {folder / layout.META} cannot be read",
        found=found,
        try_=f"grange verify {group}",
        details={"group": group, "version": version},
    )
