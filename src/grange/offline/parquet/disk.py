"""Durable effects on a local file system: what was reported written survives a crash, and appears whole.

A file is written under a temporary name, flushed to the device, then renamed; a rename is flushed through its
folder. `disk_files.py` is the port over it.
"""

from __future__ import annotations

import errno
import functools
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

from grange.errors import StorageFullError, StoreUnavailableError
from grange.offline.parquet.layout import unfinished

_FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def writing(what: str) -> Iterator[None]:
    """Turns the system's errors inside the block into Grange's.

    Raises:
        StorageFullError: no space, quota or file size left.
        StoreUnavailableError: any other error of the disk or its permissions.
    """
    try:
        yield
    except StoreUnavailableError:
        raise
    except OSError as error:
        if error.errno in _FULL:
            raise StorageFullError(
                f"no space left to write {what}", found=str(error), try_="free some space and run it again"
            ) from error
        raise unavailable(what, error) from error


def unavailable(what: str, error: OSError) -> StoreUnavailableError:
    """The error for a disk that does not do what it should; one that says so already stays as it is."""
    if isinstance(error, StoreUnavailableError):
        return error
    return StoreUnavailableError(
        f"the offline store cannot reach {what}", found=str(error), try_="look at the folder and its permissions"
    )


def names(folder: Path) -> list[str]:
    """The names in a folder, sorted; none when there is no such folder.

    Raises:
        StoreUnavailableError: the folder cannot be listed, or is a file, as is one where the store's root should be:
            an empty answer would say that nothing was ever stored.
    """
    try:
        return sorted(os.listdir(folder))  # noqa: PTH208 - names alone, not a Path each
    except FileNotFoundError:
        return []
    except OSError as error:
        raise unavailable(str(folder), error) from error


def read_json(path: Path) -> dict[str, Any] | None:
    """A file's JSON object; None when there is no such file.

    Raises:
        ValueError: it holds anything but a JSON object.
        StoreUnavailableError: the file cannot be read.
    """
    try:
        value = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except IsADirectoryError as error:
        raise ValueError(f"{path} is a folder") from error
    except RecursionError as error:
        raise ValueError(f"{path} is nested too deeply") from error
    except OSError as error:
        raise unavailable(str(path), error) from error
    if not isinstance(value, dict):
        raise ValueError(f"a JSON object expected, not {type(value).__name__}")
    return value


def make_folder(folder: Path) -> None:
    """Create a folder and those above it, durably; fine when it is there."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    with suppress(FileExistsError):  # another process was faster
        folder.mkdir()
    sync_folder(folder.parent)


def write_file(path: Path, fill: Callable[[IO[bytes]], None], *, flush: bool = True) -> int:
    """Write a new file and flush it to the device; returns its size in bytes. Its folder is flushed by the caller."""
    with path.open("xb") as file:
        fill(file)
        file.flush()
        if flush:
            os.fsync(file.fileno())
        return file.tell()


def sha256(path: Path) -> str:
    """The hash of a file's bytes; OSError when it cannot be read."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_once(path: Path) -> str:
    """`sha256`, once per process and file: size and time of change tell one file from another of the same name."""
    stat = path.stat()
    return _sha256_of(path, stat.st_size, stat.st_mtime_ns)


@functools.lru_cache(maxsize=1 << 16)
def _sha256_of(path: Path, size: int, changed: int) -> str:
    return sha256(path)


@dataclass(frozen=True, slots=True)
class Staged:
    """A file that is written and flushed, and has only to be renamed."""

    temporary: Path
    final: Path

    flush: bool = True
    """Whether it must outlive a loss of power from the moment it is committed."""

    def commit(self) -> None:
        """Put it in the place of the old one, at once."""
        self.temporary.replace(self.final)
        if self.flush:
            sync_folder(self.final.parent)

    def discard(self) -> None:
        """Forget it; nothing happens when it was committed."""
        with suppress(OSError):  # `verify` finds what is left behind
            self.temporary.unlink(missing_ok=True)


def stage(final: Path, fill: Callable[[IO[bytes]], None], *, flush: bool = True) -> Staged:
    """Write what is to replace a file, so that replacing it needs no more space."""
    staged = Staged(final.with_name(unfinished("temp")), final, flush)
    try:
        write_file(staged.temporary, fill, flush=flush)
    except OSError:
        staged.discard()
        raise
    return staged


def stage_json(final: Path, value: Mapping[str, Any], *, flush: bool = True) -> Staged:
    """`stage` for a JSON object."""
    return stage(final, lambda file: put_json(file, value), flush=flush)


def put_json(file: IO[bytes], value: Mapping[str, Any]) -> None:
    """Write a JSON object as people can read it."""
    file.write(json.dumps(value, indent=2, ensure_ascii=False).encode() + b"\n")


def put_file(final: Path, fill: Callable[[IO[bytes]], None]) -> None:
    """Write a file that appears whole or not at all."""
    staged = stage(final, fill)
    try:
        staged.commit()
    finally:
        staged.discard()


def put_hashed(folder: Path, fill: Callable[[IO[bytes]], None], name: Callable[[str], str]) -> None:
    """`put_file` for a file that is named by the SHA-256 of its bytes."""
    staged = stage(folder / unfinished("temp"), fill)
    try:
        Staged(staged.temporary, folder / name(sha256(staged.temporary))).commit()
    finally:
        staged.discard()


def rename(source: Path, target: Path) -> None:
    """Rename a folder, durably, in one step."""
    source.rename(target)
    for parent in {source.parent, target.parent}:
        sync_folder(parent)


def discard_folder(folder: Path) -> None:
    """Remove a half-written folder after an error; what cannot be removed now is found by `verify`."""
    shutil.rmtree(folder, ignore_errors=True)


def remove(path: Path) -> None:
    """Remove a file or a folder with everything in it; fine when it is gone."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries to the device, so that a rename in it survives a crash."""
    if os.name == "nt":
        return  # folders cannot be opened there; the file system's journal keeps the order of renames
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
