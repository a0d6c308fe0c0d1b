"""The port over a local or mounted disk: a folder appears by being renamed, a file by being renamed over another."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from grange.offline.parquet import disk
from grange.offline.parquet.files import (
    CHANGE_PATIENCE,
    Build,
    Change,
    FilePath,
    Fill,
    Holdable,
    LocalFile,
    Removal,
    Staged,
    Written,
)
from grange.offline.parquet.layout import META, is_unfinished, unfinished
from grange.offline.parquet.locks import Locks


class DiskFiles:
    """The port over a local or mounted disk. See `files.Files`."""

    at_once = 1

    def __init__(self) -> None:
        self._locks = Locks()

    # looking

    def names(self, folder: FilePath) -> list[str]:
        """See `Files.names`. A file where the folder should be is an error too."""
        return disk.names(_path(folder))

    def folders(self, folder: FilePath) -> list[str]:
        """See `Files.folders`."""
        return [name for name in disk.names(_path(folder)) if (_path(folder) / name).is_dir()]

    def appeared(self, folder: FilePath) -> list[str]:
        """See `Files.appeared`. What is being built has another name."""
        return self.folders(folder)

    def has_appeared(self, folder: FilePath) -> bool:
        """See `Files.has_appeared`."""
        return _path(folder).is_dir()

    def is_folder(self, folder: FilePath) -> bool:
        """See `Files.is_folder`."""
        return _path(folder).is_dir()

    def added(self, folder: FilePath) -> list[str]:
        """See `Files.added`."""
        return disk.names(_path(folder))

    def unfinished(self, folder: FilePath) -> list[FilePath]:
        """See `Files.unfinished`."""
        return [folder / name for name in disk.names(_path(folder)) if is_unfinished(name)]

    # reading

    def read_json(self, path: FilePath) -> dict[str, Any] | None:
        """See `Files.read_json`."""
        return disk.read_json(_path(path))

    def local(self, wanted: Sequence[tuple[FilePath, str]], *, fresh: bool = False) -> list[LocalFile]:
        """See `Files.local`. The files themselves, which the caller checks."""
        del fresh
        return [LocalFile(_path(path)) for path, _ in wanted]

    # writing

    def writing(self, what: str) -> AbstractContextManager[None]:
        """See `Files.writing`."""
        return disk.writing(what)

    @contextmanager
    def build(self, folder: FilePath) -> Iterator[Build]:
        """See `Files.build`. Under another name in the same parent."""
        final = _path(folder)
        disk.make_folder(final.parent)
        building = final.parent / unfinished("building")
        try:
            building.mkdir()
            yield _DiskBuild(building, final)
        finally:
            disk.discard_folder(building)

    def put(self, path: FilePath, fill: Fill) -> None:
        """See `Files.put`."""
        final = _path(path)
        disk.make_folder(final.parent)
        disk.put_file(final, fill)

    def add(self, folder: FilePath, fill: Fill, name: Callable[[str], str], *, slot: str) -> None:
        """See `Files.add`."""
        del slot  # its folder is locked
        disk.make_folder(_path(folder))
        disk.put_hashed(_path(folder), fill, name)

    def stage(self, path: FilePath, value: Mapping[str, Any] | None) -> Staged:
        """See `Files.stage`."""
        return _StagedRemoval(_path(path)) if value is None else disk.stage_json(_path(path), value)

    def stage_change(self, path: FilePath, change: Change, *, flush: bool = True) -> Staged:
        """See `Files.stage_change`. Who may change it has locked it."""
        final = _path(path)
        disk.make_folder(final.parent)
        try:
            found = disk.read_json(final)
        except ValueError:
            found = None
        return disk.stage_json(final, change(found), flush=flush)

    def removal(self, folder: FilePath, *, trash: FilePath, mark: FilePath | None = None) -> Removal:
        """See `Files.removal`."""
        del mark  # a rename hides all at once
        return _DiskRemoval(_path(folder), _path(trash))

    def remove(self, path: FilePath) -> None:
        """See `Files.remove`."""
        disk.remove(_path(path))

    # the right to write

    def lock(self, path: FilePath, *, guards: FilePath, what: str) -> Holdable:
        """See `Files.lock`. A file that the operating system locks."""
        del guards  # nobody can lose it while the process lives
        return self._locks.get(_path(path), what=what)

    def changing(
        self, path: FilePath, *, what: str, timeout: float = CHANGE_PATIENCE
    ) -> AbstractContextManager[object]:
        """See `Files.changing`."""
        return self._locks.get(_path(path).with_suffix(".lock"), what=what).hold(timeout=timeout)


@dataclass(frozen=True, slots=True)
class _DiskBuild:
    """See `files.Build`."""

    building: Path
    final: Path

    def write(self, relative: str, fill: Fill) -> Written:
        path = self.building / relative
        disk.make_folder(path.parent)
        size = disk.write_file(path, fill)
        written = Written(relative, size, disk.sha256(path))
        disk.sync_folder(path.parent)
        return written

    def describe(self, meta: Mapping[str, Any]) -> None:
        disk.write_file(self.building / META, lambda file: disk.put_json(file, meta))
        disk.sync_folder(self.building)

    def appear(self) -> None:
        disk.rename(self.building, self.final)

    def withdraw(self) -> None:
        if self.final.is_dir() and not self.building.exists():
            disk.rename(self.final, self.building)


@dataclass(frozen=True, slots=True)
class _DiskRemoval:
    """See `files.Removal`."""

    folder: Path
    trash: Path

    def hide(self) -> None:
        disk.rename(self.folder, self.trash)

    def finish(self) -> None:
        disk.remove(self.trash)


@dataclass(frozen=True, slots=True)
class _StagedRemoval:
    """A file that is to be removed. See `files.Staged`."""

    path: Path

    def commit(self) -> None:
        disk.remove(self.path)
        disk.sync_folder(self.path.parent)

    def discard(self) -> None:
        pass


def _path(path: FilePath) -> Path:
    assert isinstance(path, Path), "a path of the disk"
    return path
