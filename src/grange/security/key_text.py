"""The text of an API key: `grange_<project>_<id>_<secret><checksum>`.

- project: up to 20 lower-case letters and digits of the project's name, so that people see what a key is for.
- id: 10 characters of base32; names the key in lists and logs; no secret.
- secret: 43 characters of base 62, of 256 random bits.
- checksum: 6 characters of base 62, the CRC-32 of all before it, so that a typo is told without asking anybody, and a
  scanner for leaked secrets has no false alarms: `grange_[a-z0-9]{1,20}_[a-z2-7]{10}_[0-9A-Za-z]{49}`.

A double click selects the whole text: there is no character in it that ends a word.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import zlib
from dataclasses import dataclass, field
from typing import Final

PREFIX: Final = "grange"
PATTERN: Final = re.compile(r"grange_([a-z0-9]{1,20})_([a-z2-7]{10})_([0-9A-Za-z]{43})([0-9A-Za-z]{6})", re.ASCII)
"""(project, id, secret, checksum)."""

_BASE32: Final = "abcdefghijklmnopqrstuvwxyz234567"
_BASE62: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_ID_LENGTH: Final = 10
_SECRET_BITS: Final = 256
_SECRET_LENGTH: Final = 43
_CHECKSUM_LENGTH: Final = 6


@dataclass(frozen=True, slots=True)
class KeyText:
    """A key's text, taken apart."""

    project: str
    id: str
    secret: str = field(repr=False)

    @property
    def text(self) -> str:
        """The whole text, checksum included."""
        body = f"{PREFIX}_{self.project}_{self.id}_{self.secret}"
        return body + _base62(zlib.crc32(body.encode()), _CHECKSUM_LENGTH)

    @property
    def digest(self) -> bytes:
        """What is stored of it.

        A plain SHA-256. Slow hashes make guessing short secrets expensive; nobody guesses 256 random bits, and a slow
        hash on every request would only be a way to keep the server busy. NIST SP 800-63B section 5.1.2.2 asks for no
        more of secrets with at least 112 bits of entropy. The id is hashed with it, so that a stored hash proves one
        key only.
        """
        return hashlib.sha256(f"grange api key 1\0{self.id}\0{self.secret}".encode()).digest()


def new_key_text(project: str) -> KeyText:
    """A key that nobody has."""
    number = secrets.randbits(_SECRET_BITS)
    return KeyText(project_part(project), new_id(), _base62(number, _SECRET_LENGTH))


def new_id() -> str:
    """An id of 50 random bits."""
    return "".join(secrets.choice(_BASE32) for _ in range(_ID_LENGTH))


def parse_key(text: str) -> KeyText | None:
    """A key's text taken apart; None when it is none, or mistyped."""
    match = PATTERN.fullmatch(text)
    if match is None:
        return None
    parsed = KeyText(match[1], match[2], match[3])
    # the checksum is no secret: it is computed of what the caller sent
    return parsed if parsed.text == text else None


def looks_like_key(text: str) -> bool:
    """Whether a text is meant as a key, well-formed or not."""
    return text.startswith(PREFIX + "_")


def project_part(project: str) -> str:
    """What a key's text says of its project. Two projects may share it; a key is still of one."""
    plain = re.sub(r"[^a-z0-9]", "", project.lower(), flags=re.ASCII)[:20]
    return plain or "x" + hashlib.sha256(project.encode()).hexdigest()[:8]


def _base62(number: int, length: int) -> str:
    digits = []
    for _ in range(length):
        number, digit = divmod(number, 62)
        digits.append(_BASE62[digit])
    return "".join(reversed(digits))
