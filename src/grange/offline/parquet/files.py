"""What the store needs of a file system, as a small port: `disk.py` is the local one, `objects.py` is S3 and its like.

Everything else in the store is the same code over both. They differ in how something appears at once: on a disk a
folder is renamed, in an object store a small object is put on the condition that there is none, or that nobody
replaced it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final, Protocol, Self

Fill = Callable[[IO[bytes]], None]
"""Writes the content of a new file."""
CHANGE_PATIENCE: Final = 60.0
"""Seconds to wait for another process that changes a JSON file, which takes milliseconds."""
REMOVED: Final = "removed"
"""The key by which a mark says that everything in its folder is gone."""

Change = Callable[[dict[str, Any] | None], Mapping[str, Any]]
"""From a JSON object as it is (None where there is none that can be read) to what it should be."""


class FilePath(Protocol):
    """Where something lies in the store; as text a path of the disk, or a URL."""

    def __truediv__(self, name: str, /) -> Self:
        """What lies below."""
        ...

    @property
    def name(self) -> str:
        """The last part."""
        ...

    @property
    def parent(self) -> Self:
        """The folder it lies in."""
        ...


class LocalFile:
    """A stored file as engines read it: on the disk itself, or a copy of an object.

    A copy stays on the disk as long as this object or its `text` lives.
    """

    __slots__ = ("_pin", "path")

    def __init__(self, path: Path, pin: object = None) -> None:
        self.path = path
        self._pin = pin

    @property
    def text(self) -> str:
        """The path, as scans name it."""
        return str(self.path) if self._pin is None else _PinnedText(self.path, self._pin)


class _PinnedText(str):
    """The text of a path that keeps the file from being removed while the text lives; copies of it are plain text."""

    pin: object

    def __new__(cls, path: Path, pin: object) -> Self:
        made = super().__new__(cls, path)
        made.pin = pin
        return made

    def __reduce__(self) -> tuple[type[str], tuple[str]]:
        return str, (str(self),)


@dataclass(frozen=True, slots=True)
class Written:
    """A file of a folder that is being built."""

    relative: str
    """Its name, relative to the folder. An object store adds the attempt, so that no two attempts share a name."""
    size: int
    """Bytes."""
    digest: str
    """SHA-256 of its bytes."""


class Staged(Protocol):
    """A change that is prepared, and has only to be put in place."""

    def commit(self) -> None:
        """Put it in place, at once.

        Raises:
            ConflictError: somebody else changed it since; nothing changed. Of object stores.
        """
        ...

    def discard(self) -> None:
        """Forget it; nothing happens when it was committed."""
        ...


class Build(Protocol):
    """A folder that is being built, and appears at once (VER-3)."""

    def write(self, relative: str, fill: Fill) -> Written:
        """Write a file of it; on the device, or in the object store, when this returns."""
        ...

    def describe(self, meta: Mapping[str, Any]) -> None:
        """Say what it is, in its `.meta.json`; after all files."""
        ...

    def appear(self) -> None:
        """Let it be seen.

        Raises:
            ConflictError: another is there under its name; nothing changed. Of object stores.
        """
        ...

    def withdraw(self) -> None:
        """Take it back, if it is seen."""
        ...


class Removal(Protocol):
    """A folder that is being removed."""

    def hide(self) -> None:
        """Let it be seen no more, at once."""
        ...

    def finish(self) -> None:
        """Remove what it held."""
        ...


class Holdable(Protocol):
    """A lock. The thread that holds it may take it again."""

    def hold(self, *, timeout: float) -> AbstractContextManager[object]:
        """Hold it for the block.

        Raises:
            ConflictError: another holds it for longer than `timeout` seconds.
        """
        ...


class Files(Protocol):
    """A file system, or an object store."""

    at_once: int
    """How many small reads it serves side by side."""

    # looking

    def names(self, folder: FilePath) -> list[str]:
        """The names in a folder, sorted; none when there is no such folder.

        Raises:
            StoreUnavailableError: the folder cannot be listed.
        """
        ...

    def folders(self, folder: FilePath) -> list[str]:
        """The names of the folders in a folder, sorted."""
        ...

    def appeared(self, folder: FilePath) -> list[str]:
        """The names of the folders in a folder that a `Build` made, as far as they appeared; sorted."""
        ...

    def has_appeared(self, folder: FilePath) -> bool:
        """Whether a folder that a `Build` makes is there."""
        ...

    def is_folder(self, folder: FilePath) -> bool:
        """Whether there is such a folder, with whatever in it."""
        ...

    def added(self, folder: FilePath) -> list[str]:
        """The names of the files that `add` put into a folder, and whatever else lies there; sorted."""
        ...

    def unfinished(self, folder: FilePath) -> list[FilePath]:
        """What writes that did not end left in a folder."""
        ...

    # reading

    def read_json(self, path: FilePath) -> dict[str, Any] | None:
        """A file's JSON object; None when there is no such file.

        Raises:
            ValueError: it holds anything but a JSON object.
            StoreUnavailableError: the file cannot be read.
        """
        ...

    def local(self, wanted: Sequence[tuple[FilePath, str]], *, fresh: bool = False) -> list[LocalFile]:
        """Stored files, to be read from the disk.

        Args:
            wanted: where each is, and how the SHA-256 of its bytes begins. A copy is checked when it is made; on a
                disk, where nothing is copied, the caller checks.
            fresh: look at what is stored now, and at no older copies.

        Raises:
            FileNotFoundError: one is not there. On a disk, whoever opens it finds out.
            CorruptStoreError: a copy has other bytes.
            StoreUnavailableError: one cannot be read.
        """
        ...

    # writing

    def writing(self, what: str) -> AbstractContextManager[None]:
        """Turns the system's errors inside the block into Grange's.

        Raises:
            StorageFullError: no space, quota or file size left.
            StoreUnavailableError: any other error of the disk or its permissions.
        """
        ...

    def build(self, folder: FilePath) -> AbstractContextManager[Build]:
        """A new folder, to be filled within the block; what has not appeared by its end is removed."""
        ...

    def put(self, path: FilePath, fill: Fill) -> None:
        """Write a new file that appears whole or not at all."""
        ...

    def add(self, folder: FilePath, fill: Fill, name: Callable[[str], str], *, slot: str) -> None:
        """Write a new file that is named by the SHA-256 of its bytes, and appears whole or not at all.

        Args:
            folder: where; made when it is not there.
            fill: writes its content.
            name: from the hash to the name.
            slot: what of the name only one file may ever have. On a disk the lock of the folder sees to that.

        Raises:
            ConflictError: the slot is taken. Of object stores.
        """
        ...

    def stage(self, path: FilePath, value: Mapping[str, Any] | None) -> Staged:
        """Prepare to replace a JSON file as it is now; with None, to leave nothing in it that says anything."""
        ...

    def stage_change(self, path: FilePath, change: Change, *, flush: bool = True) -> Staged:
        """Prepare a change of a JSON file that others change too.

        Args:
            path: the file.
            change: may be called again, where somebody else was faster.
            flush: whether it must outlive a loss of power from the moment it is committed.
        """
        ...

    def removal(self, folder: FilePath, *, trash: FilePath, mark: FilePath | None = None) -> Removal:
        """Prepare to remove a folder.

        Args:
            folder: one that a `Build` made, or with `mark` one of such folders.
            trash: where a disk moves it to first.
            mark: the file in which an object store says first that everything in the folder is gone.
        """
        ...

    def remove(self, path: FilePath) -> None:
        """Remove a file, or on a disk a folder with everything in it; fine when it is gone."""
        ...

    # the right to write

    def lock(self, path: FilePath, *, guards: FilePath, what: str) -> Holdable:
        """The lock at a path, of whoever writes below `guards`."""
        ...

    def changing(
        self, path: FilePath, *, what: str, timeout: float = CHANGE_PATIENCE
    ) -> AbstractContextManager[object]:
        """Keep others from a file that `stage_change` changes for the block, where that does not do so itself.

        Raises:
            ConflictError: another keeps it for longer than `timeout` seconds.
        """
        ...


__all__ = [
    "CHANGE_PATIENCE",
    "REMOVED",
    "Build",
    "Change",
    "FilePath",
    "Files",
    "Fill",
    "Holdable",
    "LocalFile",
    "Removal",
    "Staged",
    "Written",
]
