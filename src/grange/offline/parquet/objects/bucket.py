"""A bucket and its conditional puts: the one place that talks to an object store.

Small objects are put on a condition: that there is none, or that nobody replaced the one that was read. An answer can
get lost on the way when the put was done, and then putting again finds the condition broken, by oneself. So whoever
puts writes content that no other writer could, and what is found there in the end tells whose put it was.
"""

from __future__ import annotations

import os
import random
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, TypeVar

from grange.errors import ConfigError, StoreUnavailableError
from grange.frames import require

SCHEMES: Final = ("s3", "gs", "az")
_CHUNK: Final = 8 << 20
"""Bytes that are put or got in one request."""
_AT_ONCE: Final = 6
"""Requests for the pieces of one object, side by side."""
_FIRST_PAUSE: Final = 0.1
_LONGEST_PAUSE: Final = 5.0
"""Seconds between two attempts; doubled each time, and up to half of it left out at random."""
_ROUNDS: Final = 3
"""How often a large object is put or got as a whole, each of whose requests was retried already."""

_Answer = TypeVar("_Answer")


@dataclass(frozen=True, slots=True)
class BucketOptions:
    """How a bucket is reached. What is None is looked for in the environment (`AWS_...`), as clients do."""

    url: str
    """`s3://bucket/prefix`, `gs://...` or `az://container/prefix`."""
    endpoint: str | None = None
    region: str | None = None
    access_key_id: str | None = field(default=None, repr=False)
    secret_access_key: str | None = field(default=None, repr=False)
    session_token: str | None = field(default=None, repr=False)
    allow_http: bool = False
    timeout: float = 30.0
    """Seconds for one request."""
    retries: int = 6
    """Of one request, after an outage, an answer of 5xx, or none in time."""

    @property
    def config(self) -> dict[str, str]:
        """For the client."""
        names = _AZURE if self.url.startswith("az://") else _S3
        values = ((names.get(name), getattr(self, name)) for name in _S3)
        return {key: str(value) for key, value in values if key and value is not None}

    @property
    def is_plain(self) -> bool:
        """Whether requests may go unencrypted: that is said, or the endpoint says so."""
        endpoints = [self.endpoint, *(os.environ.get(name) for name in _ENDPOINTS)]
        return self.allow_http or any((endpoint or "").startswith("http://") for endpoint in endpoints)

    @property
    def secrets(self) -> tuple[str, ...]:
        """What must not stand in a message, those of the environment included."""
        own = (self.access_key_id, self.secret_access_key, self.session_token)
        told = ("KEY", "SECRET", "TOKEN", "PASSWORD", "CREDENTIAL", "SAS", "SIGNATURE")
        clouds = ("AWS_", "AZURE_", "GOOGLE_")
        around = [v for k, v in os.environ.items() if k.startswith(clouds) and any(word in k for word in told)]
        return tuple(secret for secret in (*own, *around) if secret)


_ENDPOINTS: Final = ("AWS_ENDPOINT", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AZURE_ENDPOINT")
_S3: Final = {name: name for name in ("endpoint", "region", "access_key_id", "secret_access_key", "session_token")}
_AZURE: Final = {"endpoint": "endpoint", "access_key_id": "account_name", "secret_access_key": "account_key",
                 "session_token": "sas_token"}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Tag:
    """Which content an object had: what a later put can be made to depend on."""

    e_tag: str | None
    version: str | None

    @classmethod
    def of(cls, answer: Any) -> Tag:
        """From what a client says of an object."""
        return cls(answer.get("e_tag"), answer.get("version"))

    @property
    def condition(self) -> dict[str, str]:
        """As the client takes it."""
        known = {"e_tag": self.e_tag, "version": self.version}
        return {name: value for name, value in known.items() if value is not None}


@dataclass(frozen=True, slots=True)
class Found:
    """A small object."""

    body: bytes
    tag: Tag


class NoObjectError(FileNotFoundError):
    """The store has no such object; what is said of files on the local disk is FileNotFoundError alone."""


class Bucket:
    """The objects below a URL, by key. Every method asks the store; nothing is remembered.

    Every method raises StoreUnavailableError when the store cannot be reached or does not answer as it should, and
    ConfigError when there is no such bucket, or the credentials are not taken.
    """

    def __init__(self, options: BucketOptions) -> None:
        """Open a bucket; asks nothing yet.

        Raises:
            ConfigError: options that it does not take.
            MissingDependencyError: the client is not installed.
        """
        self.url = options.url.rstrip("/")
        self._options = options
        self._obstore = require("obstore", extra="objectstores")
        self._errors = require("obstore.exceptions", extra="objectstores")
        self._small = self._client(retries=0)
        self._large = self._client(retries=options.retries)
        self._proving = threading.Lock()
        self._proven = False

    def __repr__(self) -> str:
        return f"Bucket({self.url!r})"

    def _client(self, *, retries: int) -> Any:
        seconds = f"{self._options.timeout:g}s"
        client = {"timeout": seconds, "connect_timeout": seconds}
        try:
            return require("obstore.store", extra="objectstores").from_url(
                self.url,
                config=self._options.config or None,
                client_options=client | ({"allow_http": True} if self._options.is_plain else {}),
                retry_config={"max_retries": retries, "retry_timeout": timedelta(minutes=4)},
            )
        except (self._errors.BaseError, ValueError) as error:
            raise ConfigError(
                f"the object store {self.url!r} cannot be opened with these options",
                found=self._told(error),
                try_="see docs/how-to/object-stores.md",
            ) from None

    # looking

    def get(self, key: str) -> Found | None:
        """A small object; None when there is none."""

        def ask() -> Found | None:
            try:
                answer = self._obstore.get(self._small, key)
                return Found(bytes(answer.bytes()), Tag.of(answer.meta))
            except FileNotFoundError as error:
                self._check_bucket(error)
                return None

        return self._asked(key, ask)

    def exists(self, key: str) -> bool:
        """Whether there is such an object."""

        def ask() -> bool:
            try:
                self._obstore.head(self._small, key)
            except FileNotFoundError:
                return False
            return True

        return self._asked(key, ask)

    def children(self, prefix: str) -> tuple[list[str], list[str]]:
        """The names of the folders, and those of the objects, right below a prefix; each sorted."""

        def ask() -> tuple[list[str], list[str]]:
            answer = self._obstore.list_with_delimiter(self._small, prefix or None)
            return (
                sorted(str(path).rstrip("/").rpartition("/")[2] for path in answer["common_prefixes"]),
                sorted(str(item["path"]).rpartition("/")[2] for item in answer["objects"]),
            )

        return self._asked(prefix, ask)

    def keys(self, prefix: str) -> list[str]:
        """The keys of all objects below a prefix, sorted."""

        def ask() -> list[str]:
            batches = self._obstore.list(self._small, prefix or None, chunk_size=1000)
            return sorted(str(item["path"]) for batch in batches for item in batch)

        return self._asked(prefix, ask)

    # small objects

    def create(self, key: str, body: bytes) -> Tag | None:
        """Put an object if there is none; None when another's is there.

        Args:
            key: where.
            body: content that no other put has.
        """
        return self._put_if(key, body, "create")

    def replace(self, key: str, body: bytes, tag: Tag) -> Tag | None:
        """Put an object in the place of the one that was read; None when another's took its place.

        Args:
            key: where.
            body: content that no other put has.
            tag: of the one that was read.
        """
        return self._put_if(key, body, tag.condition)

    def _put_if(self, key: str, body: bytes, mode: Any) -> Tag | None:
        def ask() -> Tag | None:
            try:
                return Tag.of(self._obstore.put(self._small, key, body, mode=mode, use_multipart=False))
            except (self._errors.AlreadyExistsError, self._errors.PreconditionError, FileNotFoundError) as error:
                self._check_bucket(error)
                found = self.get(key)  # the answer to an earlier attempt may have got lost
                return found.tag if found is not None and found.body == body else None

        return self._asked(key, ask)

    def prove_conditions(self, key: str, body: bytes) -> None:
        """Make sure, once per process, that the store keeps to the conditions of a put: some take no notice.

        Args:
            key: of an object that is there, and is this process's own.
            body: put there if the store keeps to none.

        Raises:
            ConfigError: it does not.
        """
        with self._proving:
            if self._proven:
                return
            broken = self.create(key, body) or self.replace(key, body, Tag('"0"', "1"))
            if broken is not None:
                raise ConfigError(
                    f"the object store {self.url!r} replaces objects that it was told to leave alone",
                    found="a put on a condition that was broken, and was done",
                    try_="an object store with conditional puts (If-None-Match and If-Match), or a local path",
                )
            self._proven = True

    def delete(self, keys: Iterable[str]) -> None:
        """Remove objects; fine when they are gone."""
        wanted = list(keys)
        for start in range(0, len(wanted), 1000):
            batch = wanted[start : start + 1000]
            self._asked(batch[0], lambda batch=batch: self._delete(batch))  # type: ignore[misc]

    def _delete(self, keys: list[str]) -> None:
        try:
            self._obstore.delete(self._small, keys)
        except FileNotFoundError as error:
            self._check_bucket(error)
            for key in keys if len(keys) > 1 else []:
                self._delete([key])

    # large objects

    def upload(self, key: str, path: Path) -> None:
        """Put a file; it appears whole."""
        large = path.stat().st_size > _CHUNK

        def ask() -> None:
            self._obstore.put(self._large, key, path, use_multipart=large, chunk_size=_CHUNK, max_concurrency=_AT_ONCE)

        self._asked(key, ask, attempts=_ROUNDS)

    def download(self, key: str, path: Path) -> None:
        """Get an object into a new file, in pieces side by side.

        Raises:
            NoObjectError: there is none.
        """
        self._asked(key, lambda: self._download(key, path), attempts=_ROUNDS)

    def _download(self, key: str, path: Path) -> None:
        size = self._there(key, lambda: int(self._obstore.head(self._large, key)["size"]))
        path.write_bytes(b"")
        self._download_pieces(key, path, [(at, min(at + _CHUNK, size)) for at in range(0, size, _CHUNK)])

    def _there(self, key: str, ask: Callable[[], _Answer]) -> _Answer:
        """What is said of an object that must be there."""
        try:
            return ask()
        except FileNotFoundError as error:
            self._check_bucket(error)
            raise NoObjectError(f"no object {self.shown(key)}") from None

    def _download_pieces(self, key: str, path: Path, pieces: list[tuple[int, int]]) -> None:
        def fetch(piece: tuple[int, int]) -> None:
            content = self._there(key, lambda: self._obstore.get_range(self._large, key, start=piece[0], end=piece[1]))
            with path.open("r+b") as file:
                file.seek(piece[0])
                file.write(content)

        if len(pieces) < 2:
            for piece in pieces:
                fetch(piece)
            return
        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="grange-download") as pool:
            for _ in pool.map(fetch, pieces):
                pass

    # errors

    def shown(self, key: str) -> str:
        """A key as people know it."""
        return f"{self.url}/{key}" if key else self.url

    def _asked(self, key: str, ask: Callable[[], _Answer], *, attempts: int = 0) -> _Answer:
        """The answer to a question, which is asked again while the store is out of order."""
        pauses = _pauses((attempts or self._options.retries + 1) - 1)
        while True:
            try:
                return ask()
            except self._errors.BaseError as error:
                if self._is_refusal(error):
                    raise self._refused(key, error) from None
                pause = next(pauses, None)
                if pause is None:
                    raise StoreUnavailableError(
                        f"the object store does not do what it should for {self.shown(key)}",
                        found=self._told(error),
                        try_="see that it can be reached (endpoint, network), and run this again",
                        details={"url": self.url, "key": key},
                    ) from None
                time.sleep(pause)

    def _is_refusal(self, error: Exception) -> bool:
        known = self._errors
        refusals = (known.PermissionDeniedError, known.UnauthenticatedError, known.NotSupportedError,
                    known.UnknownConfigurationKeyError, known.InvalidPathError)  # fmt: skip
        return isinstance(error, refusals) or re.search(_REFUSED, str(error)) is not None

    def _refused(self, key: str, error: Exception) -> ConfigError:
        missing = "404 Not Found" in str(error)
        return ConfigError(
            f"the object store has no bucket {self.url!r}"
            if missing
            else f"the object store does not let these credentials use {self.shown(key)}",
            found=self._told(error),
            try_="create the bucket, or correct `path` and `endpoint` of [offline]"
            if missing
            else "look at the credentials of [offline], or in the environment, and at what they may do",
            details={"url": self.url, "key": key},
        )

    def _check_bucket(self, error: Exception) -> None:
        """That what is not there is an object, and not the bucket: an empty answer would say nothing was stored."""
        if _NO_BUCKET in str(error):
            raise self._refused("", error) from None

    def _told(self, error: BaseException) -> str:
        """What an error says, on a line and without secrets."""
        text = " ".join(str(error).partition("Debug source")[0].split())
        for secret in self._options.secrets:
            text = text.replace(secret, "***")
        return text[:300] or type(error).__name__


_NO_BUCKET: Final = "NoSuchBucket"
_REFUSED: Final = r"status code: 40[134] (Forbidden|Unauthorized|Not Found)"
"""What listings say of a bucket that is not there or not for these credentials, in an error of no kind."""


def _pauses(number: int) -> Iterator[float]:
    for attempt in range(number):
        yield min(_FIRST_PAUSE * 2**attempt, _LONGEST_PAUSE) * random.uniform(0.5, 1.0)
