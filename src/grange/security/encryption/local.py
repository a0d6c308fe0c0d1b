"""The `local` key service: a key ring in a file, in an environment variable, or in both.

A key ring is lines (or a list with commas) of `NAME:KEY`, KEY being 32 bytes in base64; `#` begins a comment. The first
key is the primary one: it wraps what is new. The others open what is old. To rotate, put a new line first; take an old
line out when nothing is sealed under it any more.

    2026b:3q2+7wAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=
    2026a:yv66vgAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=

Data keys are wrapped by AES key wrap (RFC 3394), which needs no nonce and authenticates.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from grange.errors import ConfigError, CorruptStoreError
from grange.frames import require
from grange.ports.plugins import Descriptor
from grange.security.encryption.sealer import KEY, tampered

_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,32}", re.ASCII)
_WRAPPED: Final = KEY + 8
_EXAMPLE: Final = 'echo "2026a:$(openssl rand -base64 32)"'


class KeyRing:
    """Keys by name, one of them primary. Its text never shows them.

    Args:
        keys: by name, 32 bytes each; the first is the primary one.

    Raises:
        ConfigError: no keys at all, or one that is none.
        MissingDependencyError: the package `cryptography` is not installed.
    """

    name = "local"

    def __init__(self, keys: Mapping[str, bytes]) -> None:
        require("cryptography", extra="security")
        if not keys:
            raise ConfigError("the key ring is empty", try_=_EXAMPLE)
        for name, key in keys.items():
            _check_key(name, key)
        self._keys = dict(keys)
        self.primary = next(iter(self._keys))

    def __repr__(self) -> str:
        return f"KeyRing({', '.join(self._keys)})"

    def wrap(self, data_key: bytes) -> bytes:
        """A data key under the primary key. See `KeyService.wrap`."""
        from cryptography.hazmat.primitives.keywrap import aes_key_wrap

        return self.primary.encode() + aes_key_wrap(self._keys[self.primary], data_key)

    def unwrap(self, wrapped: bytes) -> bytes:
        """The data key that was wrapped. See `KeyService.unwrap`."""
        from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap

        name = _name_in(wrapped)
        key = self._keys.get(name)
        if key is None:
            raise CorruptStoreError(
                f"a value is sealed under key {name!r}, which is not in the key ring",
                found=f"keys {', '.join(self._keys)}",
                try_="put that key back into the key ring, after the first line",
            )
        try:
            return aes_key_unwrap(key, wrapped[-_WRAPPED:])
        except InvalidUnwrap:
            raise tampered(f"its data key is not what key {name!r} wrapped") from None

    def is_current(self, wrapped: bytes) -> bool:
        """Whether it was wrapped under the primary key."""
        return _name_in(wrapped) == self.primary


def key_ring(reference: str, root: str | Path = ".", environ: Mapping[str, str] | None = None) -> KeyRing:
    """The key ring that a reference names.

    Args:
        reference: `file:PATH` (relative to `root`), `env:NAME`, or several with commas; the first key of the first is
            the primary one.
        root: the project's folder.
        environ: the environment; the process's own by default.

    Raises:
        ConfigError: a file or a variable that is not there, a file that others may read, text that is no key ring.
    """
    keys: dict[str, bytes] = {}
    for part in reference.split(","):
        kind, separator, where = part.strip().partition(":")
        if not separator or not where or kind not in ("file", "env"):
            raise ConfigError(
                "that is no reference of a key ring",
                found="the grammar is file:PATH, env:NAME, or several of them with commas",
                try_='encryption_key = "file:keyring"',
            )
        text = _file_text(Path(root) / where) if kind == "file" else _variable_text(where, environ)
        for name, key in parse_keys(text, what=f"the key ring in {kind}:{where}").items():
            if keys.setdefault(name, key) != key:
                raise ConfigError(f"two keys are called {name!r}", found=part.strip(), try_="give one another name")
    return KeyRing(keys)


def parse_keys(text: str, *, what: str = "the key ring") -> dict[str, bytes]:
    """Keys by name, in order. The text is in no message.

    Raises:
        ConfigError: a line that is no `NAME:KEY`, or a name that stands there twice.
    """
    keys: dict[str, bytes] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        for entry in line.partition("#")[0].split(","):
            if not entry.strip():
                continue
            name, separator, encoded = entry.strip().partition(":")
            key = _decoded(encoded)
            if not separator or not _NAME.fullmatch(name) or key is None:
                raise ConfigError(f"{what}, line {number}: not NAME:KEY with 32 bytes in base64", try_=_EXAMPLE)
            if name in keys:
                raise ConfigError(f"{what}, line {number}: a second key {name!r}", try_="give it another name")
            keys[name] = key
    return keys


def _decoded(text: str) -> bytes | None:
    try:
        key = base64.b64decode(text.strip().replace("-", "+").replace("_", "/"), validate=True)
    except binascii.Error:
        return None
    return key if len(key) == KEY else None


def _file_text(path: Path) -> str:
    try:
        with path.open(encoding="utf-8") as file:
            _check_private(path, os.fstat(file.fileno()).st_mode)
            return file.read()
    except (OSError, UnicodeDecodeError) as error:
        found = error.strerror if isinstance(error, OSError) else "no text"
        raise ConfigError(
            f"the key ring {str(path)!r} cannot be read", found=found, try_=f"{_EXAMPLE} > {path}"
        ) from error


def _check_private(path: Path, mode: int) -> None:
    """Where there are no such modes, as on Windows, the folder has to keep others out."""
    if os.name == "posix" and stat.S_IMODE(mode) & 0o077:
        raise ConfigError(
            f"others may read the key ring {str(path)!r}",
            found=f"mode {stat.S_IMODE(mode):04o}",
            try_=f"chmod 600 {path}",
        )


def _variable_text(name: str, environ: Mapping[str, str] | None) -> str:
    text = (os.environ if environ is None else environ).get(name, "")
    if not text.strip():
        raise ConfigError(f"the key ring is to be in the environment variable {name}", found="it is empty or not set")
    return text


def _check_key(name: str, key: bytes) -> None:
    if not _NAME.fullmatch(name) or len(key) != KEY:
        raise ConfigError(f"key {name!r} of the key ring is none", found=f"{len(key)} bytes", try_=_EXAMPLE)


def _name_in(wrapped: bytes) -> str:
    name = wrapped[:-_WRAPPED].decode("ascii", "replace")
    if not _NAME.fullmatch(name):
        raise tampered("its data key is not wrapped as key rings do")
    return name


def _create(*, root: str | Path = ".", reference: str = "") -> Any:
    return key_ring(reference, root)


DESCRIPTOR: Final = Descriptor(
    name="local",
    factory=_create,
    summary="A key ring in a file or an environment variable of this machine",
    options={"reference": "file:PATH, env:NAME, or several with commas; the first key is the primary one"},
)
