"""Sealing: AES-256-GCM under data keys that are changed often, which a key service wraps.

A sealed value is `1 | n | wrapped data key (n bytes) | nonce (12) | ciphertext | tag (16)`. It carries its own data
key, wrapped, so that it can be opened wherever the key service is, long after it was sealed and by another process.

- The nonce is random. Of one key at most 2^32 values may be sealed with random nonces (NIST SP 800-38D, section 8.3); a
  data key is used for 2^26, or a day, and only by the process that made it, so that nobody has to count together. Then
  two equal nonces under one key have a probability below 2^-44.
- What is sealed for one purpose cannot be opened for another: the key of a purpose is derived from the data key by
  HKDF-SHA-256 (RFC 5869).
- The context, which says what is sealed where, is authenticated with it (AAD): a value that was moved does not open.
"""

from __future__ import annotations

import copy
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol, runtime_checkable

from grange.errors import TamperedError
from grange.frames import require

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

VERSION: Final = 1
NONCE: Final = 12
TAG: Final = 16
KEY: Final = 32
"""Bytes."""
SEALS_PER_KEY: Final = 1 << 26
SECONDS_PER_KEY: Final = 86_400.0
_MOST_KEYS: Final = 1024
"""Data keys whose ciphers are kept at hand."""


@runtime_checkable
class KeyService(Protocol):
    """Keeps the keys that wrap data keys: a key ring, or a service elsewhere. Safe for several threads.

    It is found by name under the entry points `grange.key_services`; a factory takes `reference`, the text behind the
    name, and `root`, the project's folder.
    """

    name: str

    def wrap(self, data_key: bytes) -> bytes:
        """A data key of 32 bytes, encrypted under the primary key, with the name of that key in it; at most 255 bytes.

        Called once for each new data key.

        Raises:
            StoreUnavailableError: the service cannot be reached.
        """
        ...

    def unwrap(self, wrapped: bytes) -> bytes:
        """The data key that was wrapped, under the primary key or an older one. Callers remember the answer.

        Raises:
            CorruptStoreError: it was wrapped under a key that the service does not have.
            TamperedError: it was changed.
            StoreUnavailableError: the service cannot be reached.
        """
        ...

    def is_current(self, wrapped: bytes) -> bool:
        """Whether it was wrapped under the key that is primary now."""
        ...


@dataclass(frozen=True, slots=True)
class _DataKey:
    """A data key that seals."""

    header: bytes
    """Version and wrapped key, as sealed values begin."""
    key: bytes = field(repr=False)
    ends: float
    """By the monotonic clock."""


class Sealer:
    """Seals and opens bytes for one purpose. Safe for several threads; a forked child makes keys of its own.

    Args:
        service: wraps the data keys.
        purpose: what the sealed bytes are; `for_purpose` makes the others, which share this one's data keys.
        seals_per_key: how many values a data key seals.
        seconds_per_key: for how long.
        monotonic: the clock that counts them.

    Raises:
        MissingDependencyError: the package `cryptography` is not installed.
    """

    def __init__(
        self,
        service: KeyService,
        *,
        purpose: str = "values",
        seals_per_key: int = SEALS_PER_KEY,
        seconds_per_key: float = SECONDS_PER_KEY,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        require("cryptography", extra="security")
        from cryptography.exceptions import InvalidTag

        self._keys = _DataKeys(service, seals_per_key, seconds_per_key, monotonic)
        self._purpose = purpose
        self._ciphers: dict[bytes, AESGCM] = {}
        # an import inside `open` would take as long as the decryption
        self._invalid_tag: type[Exception] = InvalidTag

    def for_purpose(self, purpose: str) -> Sealer:
        """A sealer with the same data keys, whose sealed bytes this one cannot open."""
        other = copy.copy(self)
        other._purpose, other._ciphers = purpose, {}
        return other

    def seal(self, plain: bytes, context: bytes) -> bytes:
        """Encrypt and authenticate.

        Args:
            plain: any bytes.
            context: what it is and where; needed again to open it, and not part of the result.

        Raises:
            StoreUnavailableError: a new data key is due, and the key service cannot be reached.
        """
        current = self._keys.current()
        nonce = os.urandom(NONCE)
        cipher = self._ciphers.get(current.header)
        if cipher is None:
            cipher = self._keep(current.header, current.key)
        return current.header + nonce + cipher.encrypt(nonce, plain, context)

    def open(self, sealed: bytes, context: bytes) -> bytes:
        """What was sealed with this context.

        Raises:
            TamperedError: it was changed, cut, sealed with another context or for another purpose.
            CorruptStoreError: it was sealed under a key that the key service does not have.
            StoreUnavailableError: its data key is not at hand, and the key service cannot be reached.
        """
        end = _header_length(sealed)
        header = sealed[:end]
        cipher = self._ciphers.get(header)
        if cipher is None:
            cipher = self._keep(header, self._keys.opened(header))
        body = end + NONCE
        try:
            return cipher.decrypt(sealed[end:body], sealed[body:], context)
        except self._invalid_tag:
            raise tampered("it was changed, or belongs somewhere else") from None

    def reseal(self, sealed: bytes, context: bytes) -> bytes:
        """The same value under the key that is primary now; itself when it is already. Raises what `open` does."""
        return self.seal(self.open(sealed, context), context) if self.is_outdated(sealed) else sealed

    def is_outdated(self, sealed: bytes) -> bool:
        """Whether it was sealed under a key that is no longer the primary one.

        Raises:
            TamperedError: it is nothing that was sealed.
        """
        return self.is_outdated_header(sealed[: _header_length(sealed)])

    def is_outdated_header(self, header: bytes) -> bool:
        """The same of a header that `data_key` gave."""
        return not self._keys.is_current(header)

    def check(self) -> None:
        """Make sure that sealing works.

        Raises:
            StoreUnavailableError: the key service cannot be reached.
        """
        self.open(self.seal(b"", b"check"), b"check")

    def data_key(self) -> tuple[bytes, bytes]:
        """A header and the purpose's key, for what seals in a way of its own, such as files. Counts as one seal."""
        current = self._keys.current()
        return current.header, _derived(current.key, self._purpose)

    def opened_key(self, header: bytes) -> bytes:
        """The purpose's key of a header that `data_key` gave. Raises what `open` does."""
        return _derived(self._keys.opened(header), self._purpose)

    def _keep(self, header: bytes, data_key: bytes) -> AESGCM:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        if len(self._ciphers) >= _MOST_KEYS:
            self._ciphers.clear()
        cipher = self._ciphers[header] = AESGCM(_derived(data_key, self._purpose))
        return cipher


class _DataKeys:
    """The data keys of a process: the one that seals, and those that were unwrapped to open."""

    def __init__(self, service: KeyService, seals: int, seconds: float, monotonic: Callable[[], float]) -> None:
        self._service = service
        self._seals = seals
        self._seconds = seconds
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._current: _DataKey | None = None
        self._used = 0
        self._unwrapped: dict[bytes, bytes] = {}
        _at_fork(self)

    def current(self) -> _DataKey:
        """The key to seal one value with."""
        with self._lock:
            key = self._current
            if key is None or self._used >= self._seals or self._monotonic() >= key.ends:
                key = self._current = self._new()
                self._used = 0
            self._used += 1
            return key

    def opened(self, header: bytes) -> bytes:
        """The data key of a header."""
        found = self._unwrapped.get(header)
        if found is None:
            found = self._service.unwrap(header[2:])
            if len(self._unwrapped) >= _MOST_KEYS:
                self._unwrapped.clear()
            self._unwrapped[header] = found
        return found

    def is_current(self, header: bytes) -> bool:
        return self._service.is_current(header[2:])

    def forget(self) -> None:
        """A child of this process may not seal with its parent's key: they would not count together."""
        self._lock = threading.Lock()
        self._current = None

    def _new(self) -> _DataKey:
        key = os.urandom(KEY)
        wrapped = self._service.wrap(key)
        return _DataKey(bytes([VERSION, len(wrapped)]) + wrapped, key, self._monotonic() + self._seconds)


def _at_fork(keys: _DataKeys) -> None:
    import weakref

    kept = weakref.ref(keys)

    def forget() -> None:
        found = kept()
        if found is not None:
            found.forget()

    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=forget)


def _header_length(sealed: bytes) -> int:
    if len(sealed) < 2 or sealed[0] != VERSION:
        raise tampered("it does not begin as sealed values do")
    end = 2 + sealed[1]
    if len(sealed) < end + NONCE + TAG:
        raise tampered("it ends too early")
    return end


def _derived(data_key: bytes, purpose: str) -> bytes:
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    return HKDF(SHA256(), KEY, salt=None, info=b"grange seal 1 " + purpose.encode()).derive(data_key)


def tampered(found: str, what: str = "a sealed value") -> TamperedError:
    """What is said of everything that does not open; it names no content."""
    return TamperedError(
        f"{what} cannot be opened",
        found=found,
        try_="write it again from history: grange materialize; and look at grange audit",
    )
