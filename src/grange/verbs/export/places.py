"""Places: how the files of an export appear, whole or not at all, on disk and in an object store."""

from __future__ import annotations

import errno
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, Protocol

from grange.errors import ConflictError, RefusedError, RequestError, StorageFullError, StoreUnavailableError
from grange.frames import require
from grange.verbs.export.destinations import Destination, redacted, secrets_of
from grange.verbs.export.files import ExportedFile

_FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_PART: Final = re.compile(r"part-\d{5}\.(parquet|csv|csv\.gz|arrow)")
_TIMEOUT: Final = "30s"
_RETRIES: Final = {"max_retries": 3, "retry_timeout": timedelta(seconds=60)}
_WHOLE: Final = 5 << 20
"""Bytes up to which an object is put in one request, which can be told not to replace another."""


class Place(Protocol):
    """Where files go."""

    def check(self, *, overwrite: bool) -> None:
        """Refuse to go on where something is that must not be replaced.

        Raises:
            RefusedError: says what.
        """
        ...

    def staging(self, id: str) -> AbstractContextManager[Path]:
        """A folder on disk to write the files into; gone afterwards, with what is still in it."""
        ...

    def publish(self, staged: Path, files: tuple[ExportedFile, ...], *, overwrite: bool) -> None:
        """Let the files appear.

        Raises:
            ConflictError: somebody else put something there meanwhile.
            StoreUnavailableError: the place cannot be reached.
        """
        ...


def part_name(destination: Destination) -> Callable[[int], str]:
    """From a file's number to its name."""
    if not destination.folder:
        return lambda number: destination.name
    return lambda number: f"part-{number:05d}{destination.ending}"


def place_of(
    destination: Destination, options: Mapping[str, str], *, is_running: Callable[[str], bool]
) -> LocalPlace | ObjectPlace:
    """The place of a destination.

    Args:
        destination: where.
        options: of an object store: `endpoint`, `region`, credentials ...
        is_running: whether an export, by its id, is still written; leftovers of others are cleared.

    Raises:
        RequestError: options for the disk, or some that the object store does not have.
        MissingDependencyError: object stores are not installed.
    """
    if destination.path is None:
        return ObjectPlace(destination, options)
    if options:
        raise RequestError("options are for object stores", found=destination.text, try_="leave options out")
    return LocalPlace(destination, destination.path, is_running)


class LocalPlace:
    """A file or folder on disk: written beside, flushed, renamed."""

    def __init__(self, destination: Destination, final: Path, is_running: Callable[[str], bool]) -> None:
        self._destination = destination
        self._final = final
        self._is_running = is_running

    def check(self, *, overwrite: bool) -> None:
        """As `Place.check`. Of a folder, only what an export wrote is ever replaced."""
        final, text = self._final, self._destination.text
        if not os.path.lexists(final):
            return
        if self._destination.folder:
            if not final.is_dir():
                raise RefusedError(f"{text!r} is a file, and a folder is to be written", try_="another destination")
            others = [entry.name for entry in final.iterdir() if not _PART.fullmatch(entry.name)]
            if others:
                raise RefusedError(
                    f"folder {text!r} holds what no export wrote, and is not replaced",
                    found=", ".join(sorted(others)[:5]),
                    try_=f"{text.rstrip('/')}/NAME{self._destination.ending}",
                )
            if not any(final.iterdir()):
                return
        if not overwrite:
            raise _taken(text)

    @contextmanager
    def staging(self, id: str) -> Iterator[Path]:
        """As `Place.staging`: beside the destination, so that renaming is one step."""
        parent = self._final.parent
        with self._writing():
            parent.mkdir(parents=True, exist_ok=True)
            self._clear_leftovers(parent)
            staged = parent / f".{self._final.name}.{id}.tmp"
            staged.mkdir()
        try:
            with self._writing():
                yield staged
        finally:
            shutil.rmtree(staged, ignore_errors=True)

    def publish(self, staged: Path, files: tuple[ExportedFile, ...], *, overwrite: bool) -> None:
        """As `Place.publish`."""
        if self._destination.folder:
            _sync(staged)
            self._publish_folder(staged, overwrite=overwrite)
        else:
            self._publish_file(staged / files[0].name, overwrite=overwrite)
        _sync(self._final.parent)

    def _publish_file(self, written: Path, *, overwrite: bool) -> None:
        if overwrite:
            written.replace(self._final)
            return
        try:
            os.link(written, self._final)  # which, unlike renaming, never replaces
        except FileExistsError as error:
            raise _appeared(self._destination.text) from error
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.EMLINK):
                raise
            self.check(overwrite=False)  # a file system without links
            written.replace(self._final)

    def _publish_folder(self, staged: Path, *, overwrite: bool) -> None:
        old = staged.with_name(f"{staged.name}.old")
        if overwrite and self._final.is_dir():
            self.check(overwrite=True)  # nobody put anything else there meanwhile
            self._final.rename(old)
        try:
            staged.rename(self._final)  # over an empty folder at most
        except OSError as error:
            if old.is_dir():
                old.rename(self._final)
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
                raise _appeared(self._destination.text) from error
            raise
        shutil.rmtree(old, ignore_errors=True)

    def _clear_leftovers(self, parent: Path) -> None:
        """Remove what exports to the same destination left behind when their processes were killed."""
        for entry in parent.iterdir():
            found = re.fullmatch(rf"\.{re.escape(self._final.name)}\.(export-\d+)\.tmp(\.old)?", entry.name)
            if found is None or self._is_running(found[1]):
                continue
            if found[2] and not self._final.exists():
                entry.rename(self._final)  # it was to be replaced, and was not
            else:
                shutil.rmtree(entry, ignore_errors=True)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Turns the system's errors into Grange's.

        Raises:
            StorageFullError: no space, quota or file size left.
            StoreUnavailableError: any other error of the disk or its permissions.
        """
        try:
            yield
        except OSError as error:
            if isinstance(error, StoreUnavailableError):
                raise
            if error.errno in _FULL:
                raise StorageFullError(
                    f"no space left to export to {self._destination.text!r}", try_="free some space and export again"
                ) from error
            raise StoreUnavailableError(
                f"cannot write to {self._destination.text!r}",
                found=error.strerror or str(error),
                try_="look at the folder and its permissions",
            ) from error


def _sync(folder: Path) -> None:
    """Flush a folder's entries, so that a rename in it survives a crash."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _taken(text: str) -> RefusedError:
    return RefusedError(f"{text!r} is there already", try_="overwrite=True (--overwrite), or another destination")


def _appeared(text: str) -> ConflictError:
    return ConflictError(f"somebody else wrote {text!r} meanwhile; nothing was replaced", try_="another destination")


class ObjectPlace:
    """Objects in S3, Google Cloud Storage or Azure: written on disk first, then put, each appearing at once.

    Credentials come from the environment or from options, and are in no record and no message.
    """

    def __init__(self, destination: Destination, options: Mapping[str, str]) -> None:
        self._destination = destination
        self._obstore = require("obstore", extra="objectstores")
        self._exceptions = require("obstore.exceptions", extra="objectstores")
        self._secrets = (*secrets_of(options), *_environment_secrets())
        whole = destination.text.rstrip("/")
        base, _, self._name = whole.rpartition("/")
        stores = require("obstore.store", extra="objectstores")
        try:
            self._store: Any = stores.from_url(
                whole if destination.folder else base,
                config=dict(options) or None,
                client_options={"timeout": _TIMEOUT, "connect_timeout": _TIMEOUT, **_plain_http(options)},
                retry_config=_RETRIES,
            )
        except (self._exceptions.BaseError, ValueError) as error:
            raise RequestError(
                f"the object store of {destination.text!r} cannot be opened with these options",
                found=self._told(error),
                try_="see docs/how-to/discovery.md, exports to object stores",
            ) from None

    def check(self, *, overwrite: bool) -> None:
        """As `Place.check`."""
        if overwrite:
            return
        with self._asking():
            if self._destination.folder:
                found = any(self._listed())
            else:
                found = self._is_there(self._name)
        if found:
            raise _taken(self._destination.text)

    @contextmanager
    def staging(self, id: str) -> Iterator[Path]:
        """As `Place.staging`."""
        try:
            with tempfile.TemporaryDirectory(prefix=f"grange-{id}-") as folder:
                yield Path(folder)
        except OSError as error:
            if isinstance(error, StoreUnavailableError):
                raise
            if error.errno in _FULL:
                raise StorageFullError(
                    "no space left for the files of an export before they are put into the object store",
                    found=tempfile.gettempdir(),
                    try_="set TMPDIR to a folder with space",
                ) from error
            raise StoreUnavailableError(
                "the files of an export cannot be written before they are put into the object store",
                found=error.strerror or str(error),
            ) from error

    def publish(self, staged: Path, files: tuple[ExportedFile, ...], *, overwrite: bool) -> None:
        """As `Place.publish`. Of several objects each appears at once; older ones go when all are there."""
        with self._asking():
            for file in files:
                self._put(staged / file.name, overwrite=overwrite)
            if overwrite and self._destination.folder:
                kept = {file.name for file in files}
                for name in self._listed():
                    if name not in kept and _PART.fullmatch(name):
                        self._obstore.delete(self._store, name)

    def _put(self, path: Path, *, overwrite: bool) -> None:
        name = path.name if self._destination.folder else self._name
        if overwrite or path.stat().st_size > _WHOLE:
            self._obstore.put(self._store, name, path, use_multipart=path.stat().st_size > _WHOLE)
            return
        try:
            self._obstore.put(self._store, name, path, mode="create", use_multipart=False)
        except self._exceptions.AlreadyExistsError:
            raise _appeared(self._destination.text) from None

    def _listed(self) -> Iterator[str]:
        for batch in self._obstore.list(self._store):
            for item in batch:
                yield str(item["path"])

    def _is_there(self, name: str) -> bool:
        with suppress(self._exceptions.NotFoundError, FileNotFoundError):
            self._obstore.head(self._store, name)
            return True
        return False

    @contextmanager
    def _asking(self) -> Iterator[None]:
        """Turns the object store's errors into Grange's, without secrets.

        Raises:
            RefusedError: it does not take the credentials, or they may not write there.
            StoreUnavailableError: it cannot be reached, or does not do it.
        """
        known = self._exceptions
        try:
            yield
        except (known.PermissionDeniedError, known.UnauthenticatedError) as error:
            raise RefusedError(
                f"the object store does not let these credentials write {self._destination.text!r}",
                found=self._told(error),
                try_="look at the credentials in the environment, or in options=",
            ) from None
        except (known.BaseError, FileNotFoundError) as error:
            raise StoreUnavailableError(
                f"the object store of {self._destination.text!r} cannot be used", found=self._told(error)
            ) from None

    def _told(self, error: BaseException) -> str:
        """What an error says, on a line and without secrets. Its traceback may hold them, and is not passed on."""
        text = " ".join(str(error).partition("Debug source")[0].split())
        return redacted(text, self._secrets)[:300] or type(error).__name__


def _environment_secrets() -> Iterator[str]:
    """What clouds' credentials in the environment are."""
    telling = ("KEY", "SECRET", "TOKEN", "PASSWORD", "CREDENTIAL", "SAS", "SIGNATURE")
    for name, value in os.environ.items():
        if name.startswith(("AWS_", "AZURE_", "GOOGLE_")) and any(word in name for word in telling):
            yield value


def _plain_http(options: Mapping[str, str]) -> dict[str, bool]:
    """An endpoint that is asked for as `http://` is one: of a server in the same network, or on this machine."""
    named = ("endpoint", "endpoint_url", "aws_endpoint", "aws_endpoint_url", "azure_endpoint")
    given = [str(value) for key, value in options.items() if key.lower() in named]
    given += [os.environ.get(name, "") for name in ("AWS_ENDPOINT", "AWS_ENDPOINT_URL", "AZURE_ENDPOINT")]
    return {"allow_http": True} if any(value.startswith("http://") for value in given) else {}


__all__ = ["LocalPlace", "ObjectPlace", "Place", "part_name", "place_of"]
