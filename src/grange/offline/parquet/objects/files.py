"""The port over an object store: a folder appears by its `.meta.json`, put last and only where there is none.

    <group>/1.0.1/data-<attempt>.parquet           put before; no two attempts share a name
    <group>/1.0.1/.meta.json                       lists its files: a version is what this names
    <group>/_pushed/<first>-<last>-<hash>.parquet  put before
    <group>/_pushed/<first>.claim                  names the one file that starts with this number

What no `.meta.json` or claim goes with is unfinished, and nobody reads it. JSON objects have `_write`, which no two
puts share, so that each knows its own.
"""

from __future__ import annotations

import functools
import json
import random
import re
import threading
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Final, Self

from grange.errors import ConflictError, StoreUnavailableError
from grange.offline.parquet import disk
from grange.offline.parquet.files import (
    CHANGE_PATIENCE,
    REMOVED,
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
from grange.offline.parquet.layout import META, parse_segment
from grange.offline.parquet.objects.bucket import Bucket, NoObjectError, Tag
from grange.offline.parquet.objects.cache import Cache
from grange.offline.parquet.objects.leases import SECONDS, Lease

WRITE: Final = "_write"
"""The key in a JSON object that says which put it is of."""
_ATTEMPT: Final = re.compile(r"-([0-9a-f]{32})(?:\.[^/]*)?$")
_CLAIM: Final = ".claim"


@dataclass(frozen=True, slots=True)
class ObjectPath:
    """A key, as a path. As text it is a URL."""

    url: str
    """Of the store."""
    key: str = ""

    def __truediv__(self, name: str) -> Self:
        return type(self)(self.url, f"{self.key}/{name}" if self.key else name)

    @property
    def name(self) -> str:
        """See `FilePath`."""
        return self.key.rpartition("/")[2]

    @property
    def parent(self) -> Self:
        """See `FilePath`."""
        return type(self)(self.url, self.key.rpartition("/")[0])

    def __str__(self) -> str:
        return f"{self.url}/{self.key}" if self.key else self.url


class ObjectFiles:
    """The port over an object store. See `files.Files`.

    Args:
        bucket: the objects.
        cache: copies of them on the disk.
        lease_seconds: how long the right to write lasts when its holder does not renew it.
        clock: seconds since 1970, UTC.
    """

    at_once = 16

    def __init__(
        self,
        bucket: Bucket,
        cache: Cache,
        *,
        lease_seconds: float = SECONDS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._bucket = bucket
        self._cache = cache
        self._lease = functools.partial(Lease, bucket, seconds=lease_seconds, clock=clock)
        self._guard = threading.Lock()
        self._leases: dict[str, Lease] = {}

    @property
    def root(self) -> ObjectPath:
        """Where everything lies."""
        return ObjectPath(self._bucket.url)

    # looking

    def names(self, folder: FilePath) -> list[str]:
        """See `Files.names`."""
        folders, objects = self._bucket.children(_key(folder))
        return sorted([*folders, *objects])

    def folders(self, folder: FilePath) -> list[str]:
        """See `Files.folders`."""
        return self._bucket.children(_key(folder))[0]

    def appeared(self, folder: FilePath) -> list[str]:
        """See `Files.appeared`. What is the store's own starts with `_`, and is none."""
        names = [name for name in self.folders(folder) if not name.startswith("_")]
        there = self._side_by_side(lambda name: self.has_appeared(folder / name), names)
        return [name for name, is_there in zip(names, there, strict=True) if is_there]

    def has_appeared(self, folder: FilePath) -> bool:
        """See `Files.has_appeared`."""
        return self._bucket.exists(_key(folder / META))

    def is_folder(self, folder: FilePath) -> bool:
        """See `Files.is_folder`."""
        return any(self._bucket.children(_key(folder)))

    def added(self, folder: FilePath) -> list[str]:
        """See `Files.added`. What has no claim, or whose claim names another, was never added."""
        return self._claimed(folder, self._bucket.children(_key(folder))[1])

    def _claimed(self, folder: FilePath, names: list[str]) -> list[str]:
        rivals: dict[str, list[str]] = defaultdict(list)
        for name in names:
            if not name.endswith(_CLAIM):
                rivals[_slot(name)].append(name)
        claims = {name.removesuffix(_CLAIM) for name in names if name.endswith(_CLAIM)}
        chosen = []
        for slot in claims & rivals.keys():
            only = rivals[slot][0] if len(rivals[slot]) == 1 else self._claimant(folder, slot)
            chosen += [only] if only in rivals[slot] else []
        return sorted(chosen)

    def _claimant(self, folder: FilePath, slot: str) -> str | None:
        """The file that a claim names."""
        claim = self.read_json(folder / f"{slot}{_CLAIM}") or {}
        name = claim.get("file")
        return name if isinstance(name, str) else None

    def unfinished(self, folder: FilePath) -> list[FilePath]:
        """See `Files.unfinished`: files of builds that did not appear, and files that nobody claimed."""
        prefix = _key(folder)
        relative = [key[len(prefix) + 1 :] if prefix else key for key in self._bucket.keys(prefix)]
        below: dict[str, list[str]] = defaultdict(list)
        for name in relative:
            build, inside, _ = name.partition("/")
            if inside and not build.startswith("_"):
                below[build].append(name)
        left = [name for build, names in below.items() for name in self._stale(folder / build, names)]
        plain = [name for name in relative if "/" not in name]
        pushed = [name for name in plain if parse_segment(name)]
        claimed = set(self._claimed(folder, plain)) if pushed else set()
        left += [name for name in pushed if name not in claimed]
        return [folder / name for name in sorted(left)]

    def _stale(self, build: FilePath, names: list[str]) -> list[str]:
        """Those files of a folder that an attempt wrote that did not appear."""
        attempts = {name: match[1] for name in names if (match := _ATTEMPT.search(name))}
        if not attempts:
            return []
        found = self._bucket.get(_key(build / META))
        appeared = None if found is None else _write_of(found.body)
        return [name for name, attempt in attempts.items() if attempt != appeared]

    def _side_by_side(self, ask: Callable[[str], bool], names: list[str]) -> list[bool]:
        if len(names) < 2:
            return [ask(name) for name in names]
        with ThreadPoolExecutor(self.at_once, thread_name_prefix="grange-look") as pool:
            return list(pool.map(ask, names))

    # reading

    def read_json(self, path: FilePath) -> dict[str, Any] | None:
        """See `Files.read_json`."""
        found = self._bucket.get(_key(path))
        return None if found is None else _parsed(found.body)

    def local(self, wanted: Sequence[tuple[FilePath, str]], *, fresh: bool = False) -> list[LocalFile]:
        """See `Files.local`."""
        keys = {str(path): _key(path) for path, _ in wanted}
        with disk.writing("copies of objects"):
            try:
                asked = [(str(path), digest) for path, digest in wanted]
                return self._cache.get(asked, lambda url, copy: self._bucket.download(keys[url], copy), fresh=fresh)
            except NoObjectError as error:
                missing = error
        raise missing  # which is not the disk's fault

    # writing

    def writing(self, what: str) -> AbstractContextManager[None]:
        """See `Files.writing`. Files are written to the local disk before they are put."""
        return disk.writing(what)

    @contextmanager
    def build(self, folder: FilePath) -> Iterator[Build]:
        """See `Files.build`."""
        build = _ObjectBuild(self, self._bucket, _path(folder))
        try:
            yield build
        finally:
            build.discard()

    def put(self, path: FilePath, fill: Fill) -> None:
        """See `Files.put`."""
        self.upload(path, fill)

    def upload(self, path: FilePath, fill: Fill) -> Written:
        """Write a file beside, then put it; it is in the cache from then on."""
        staged = self._cache.staging()
        try:
            size = disk.write_file(staged, fill, flush=False)
            written = Written(path.name, size, disk.sha256(staged))
            self._bucket.upload(_key(path), staged)
            self._cache.adopt(staged, str(path))
        finally:
            staged.unlink(missing_ok=True)
        return written

    def add(self, folder: FilePath, fill: Fill, name: Callable[[str], str], *, slot: str) -> None:
        """See `Files.add`."""
        self.fence(folder)
        staged = self._cache.staging()
        try:
            disk.write_file(staged, fill, flush=False)
            digest = disk.sha256(staged)
            path = folder / name(digest)
            self._bucket.upload(_key(path), staged)
            claim = {"file": path.name, "sha256": digest, WRITE: uuid.uuid4().hex}
            self.fence(folder)
            if self._bucket.create(_key(folder / f"{slot}{_CLAIM}"), _json(claim)) is None:
                raise _changed(folder / f"{slot}{_CLAIM}")
            try:
                self.fence(folder)
            except ConflictError:
                # it is done: but whoever took over may have cleared the file before it was claimed
                self._bucket.upload(_key(path), staged)
            self._cache.adopt(staged, str(path))
        finally:
            staged.unlink(missing_ok=True)

    def stage(self, path: FilePath, value: Mapping[str, Any] | None) -> Staged:
        """See `Files.stage`."""
        found = self._bucket.get(_key(path))
        self.fence(path)
        return _StagedObject(self, self._bucket, _path(path), None if found is None else found.tag, dict(value or {}))

    def stage_change(self, path: FilePath, change: Change, *, flush: bool = True) -> Staged:
        """See `Files.stage_change`. Nothing is prepared: it may be another object until it is committed."""
        del flush  # what an object store took is kept
        return _StagedChange(self._bucket, _path(path), change)

    def removal(self, folder: FilePath, *, trash: FilePath, mark: FilePath | None = None) -> Removal:
        """See `Files.removal`."""
        del trash  # objects cannot be renamed
        keys = self._bucket.keys(_key(folder))
        return _ObjectRemoval(self, self._bucket, _path(folder), None if mark is None else _path(mark), tuple(keys))

    def remove(self, path: FilePath) -> None:
        """See `Files.remove`."""
        self._bucket.delete([_key(path)])

    # the right to write

    def lock(self, path: FilePath, *, guards: FilePath, what: str) -> Holdable:
        """See `Files.lock`."""
        with self._guard:
            if _key(guards) not in self._leases:
                self._leases[_key(guards)] = self._lease(_key(path), what=what)
            return self._leases[_key(guards)]

    def fence(self, path: FilePath) -> None:
        """Make sure that the right to write a path is still held, if it was taken.

        Raises:
            ConflictError: another has it by now.
        """
        key = _key(path)
        with self._guard:
            concerned = [lease for guards, lease in self._leases.items() if f"{key}/".startswith(f"{guards}/")]
        for lease in concerned:
            lease.check()

    def changing(
        self, path: FilePath, *, what: str, timeout: float = CHANGE_PATIENCE
    ) -> AbstractContextManager[object]:
        """See `Files.changing`. Changes are made on the condition that nobody else made one."""
        del path, what, timeout
        return nullcontext()


class _ObjectBuild:
    """See `files.Build`."""

    def __init__(self, files: ObjectFiles, bucket: Bucket, folder: ObjectPath) -> None:
        self._files = files
        self._bucket = bucket
        self._folder = folder
        self._attempt = uuid.uuid4().hex
        self._keys: list[str] = []
        self._body = b""
        self._may_be_seen = False

    def write(self, relative: str, fill: Fill) -> Written:
        """Under a name of this attempt's own."""
        path = PurePosixPath(relative)
        name = str(path.with_name(f"{path.stem}-{self._attempt}{path.suffix}"))
        self._keys.append(_key(self._folder / name))
        written = self._files.upload(self._folder / name, fill)
        return Written(name, written.size, written.digest)

    def describe(self, meta: Mapping[str, Any]) -> None:
        self._body = _json({**meta, WRITE: self._attempt})

    def appear(self) -> None:
        self._files.fence(self._folder)
        self._may_be_seen = True  # also where the answer gets lost
        if self._bucket.create(self._meta, self._body) is None:
            self._may_be_seen = False
            raise ConflictError(f"{self._folder} is there already, and never changes", try_="run this again")
        try:
            self._files.fence(self._folder)
        except ConflictError:
            self.withdraw()  # whoever took over may have cleared its files, as those of a write that did not end
            raise

    def withdraw(self) -> None:
        found = self._bucket.get(self._meta)
        if found is not None and _write_of(found.body) == self._attempt:
            self._bucket.delete([self._meta])
        self._may_be_seen = False

    def discard(self) -> None:
        """Remove what did not appear; what cannot be removed now is found by `verify`."""
        if not self._may_be_seen and self._keys:
            with suppress(StoreUnavailableError):
                self._bucket.delete(self._keys)

    @property
    def _meta(self) -> str:
        return _key(self._folder / META)


@dataclass(frozen=True, slots=True)
class _StagedObject:
    """See `files.Staged`. On the condition that nobody replaced what was there when it was staged."""

    files: ObjectFiles
    bucket: Bucket
    path: ObjectPath
    tag: Tag | None
    value: dict[str, Any]

    def commit(self) -> None:
        self.files.fence(self.path)
        body = _json({**self.value, WRITE: uuid.uuid4().hex})
        key = self.path.key
        done = self.bucket.create(key, body) if self.tag is None else self.bucket.replace(key, body, self.tag)
        if done is None:
            raise _changed(self.path)

    def discard(self) -> None:
        pass


@dataclass(frozen=True, slots=True)
class _StagedChange:
    """See `files.Staged`. Made again where somebody else was faster."""

    bucket: Bucket
    path: ObjectPath
    change: Change

    def commit(self) -> None:
        deadline = time.monotonic() + CHANGE_PATIENCE
        while not self._try():
            if time.monotonic() > deadline:
                raise _changed(self.path)
            time.sleep(random.uniform(0.0, 0.05))

    def _try(self) -> bool:
        found = self.bucket.get(self.path.key)
        try:
            value = None if found is None else _parsed(found.body)
        except ValueError:
            value = None
        body = _json({**self.change(value), WRITE: uuid.uuid4().hex})
        if found is None:
            return self.bucket.create(self.path.key, body) is not None
        return self.bucket.replace(self.path.key, body, found.tag) is not None

    def discard(self) -> None:
        pass


@dataclass(frozen=True, slots=True)
class _ObjectRemoval:
    """See `files.Removal`."""

    files: ObjectFiles
    bucket: Bucket
    folder: ObjectPath
    mark: ObjectPath | None
    keys: tuple[str, ...]

    def hide(self) -> None:
        if self.mark is not None:
            self.files.stage(self.mark, {REMOVED: True}).commit()
            return
        self.files.fence(self.folder)
        self.bucket.delete([_key(self.folder / META)])

    def finish(self) -> None:
        last = () if self.mark is None else (self.mark.key,)
        metas = [key for key in self.keys if key.endswith(f"/{META}")]
        self.bucket.delete(metas)
        self.bucket.delete([key for key in self.keys if key not in {*metas, *last}])
        self.bucket.delete(last)


def _key(path: FilePath) -> str:
    return _path(path).key


def _path(path: FilePath) -> ObjectPath:
    assert isinstance(path, ObjectPath), "a path of the object store"
    return path


def _slot(name: str) -> str:
    """What of the name of an added file only one file may have."""
    return name.partition("-")[0]


def _json(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, indent=2, ensure_ascii=False).encode() + b"\n"


def _parsed(body: bytes) -> dict[str, Any]:
    """A JSON object as it was handed over. ValueError for anything else."""
    try:
        value = json.loads(body)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if not isinstance(value, dict):
        raise ValueError(f"a JSON object expected, not {type(value).__name__}")
    return {key: item for key, item in value.items() if key != WRITE}


def _write_of(body: bytes) -> Any:
    """Which put a JSON object is of; None when it does not say."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return value.get(WRITE) if isinstance(value, dict) else None


def _changed(path: ObjectPath | FilePath) -> ConflictError:
    return ConflictError(
        f"{path} was changed by another process meanwhile; nothing of this was committed", try_="run this again"
    )
