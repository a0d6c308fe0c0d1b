"""Sealed files: any length, in constant memory, whole or not at all.

A sealed file is `GRNGSEAL | 1 | n | version, n | wrapped data key | salt (32) | chunks`. Each chunk is 64 KiB of the
content (the last one less or as much) under AES-256-GCM, with its tag. This is the STREAM construction of Hoang,
Reyhanitabar, Rogaway and Vizar, "Online Authenticated-Encryption and its Nonce-Reuse Misuse-Resistance" (CRYPTO 2015):
the nonce of a chunk is its number (11 bytes) and whether it is the last one (1 byte), so chunks that are changed,
swapped, repeated or left out do not open, nor does a file that was cut or grew. Every file has a key of its own,
derived by HKDF-SHA-256 from the data key, the salt and the context, so numbers as nonces never repeat under a key.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final

from grange.security.encryption.sealer import KEY, TAG, Sealer, tampered

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

MAGIC: Final = b"GRNGSEAL\x01"
CHUNK: Final = 64 * 1024
"""Bytes of content in a chunk."""
_SALT: Final = 32
_PURPOSE: Final = "files"
_WHAT: Final = "a sealed file"


def seal_stream(plain: BinaryIO, sealed: BinaryIO, sealer: Sealer, context: bytes) -> int:
    """Seal everything that there is to read; returns how many bytes were written.

    Args:
        plain: read to its end.
        sealed: written to.
        sealer: whose data keys seal it.
        context: what it is and where; needed again to open it.
    """
    return _write(sealed, _sealed(_pieces(plain, CHUNK), sealer, context))


def open_stream(sealed: BinaryIO, plain: BinaryIO, sealer: Sealer, context: bytes) -> int:
    """Open what `seal_stream` wrote; returns how many bytes were written.

    Chunks are written as they prove to be right. Only when this returns was it the whole: keep nothing of it before.

    Raises:
        TamperedError: it was changed, cut, added to, sealed with another context, or is no sealed file.
        CorruptStoreError: it was sealed under a key that the key service does not have.
        StoreUnavailableError: the key service cannot be reached.
    """
    return _write(plain, _opened(sealed, sealer, context))


def seal_file(source: Path, target: Path, sealer: Sealer, context: bytes) -> int:
    """Seal a file into another (or itself), which is there whole or not at all. See `seal_stream`."""
    with source.open("rb") as plain, _replacing(target) as sealed:
        return seal_stream(plain, sealed, sealer, context)


def open_file(source: Path, target: Path, sealer: Sealer, context: bytes) -> int:
    """Open a sealed file into another (or itself), which is there whole or not at all. See `open_stream`."""
    with source.open("rb") as sealed, _replacing(target) as plain:
        return open_stream(sealed, plain, sealer, context)


def reseal_file(path: Path, sealer: Sealer, context: bytes) -> bool:
    """Seal a file under the key that is primary now, in place; whether it was under another. See `open_stream`.

    Its content is never in clear on the disk.
    """
    with path.open("rb") as file:
        if not is_outdated(file, sealer):
            return False
    with path.open("rb") as old, _replacing(path) as new:
        reseal_stream(old, new, sealer, context)
    return True


def reseal_stream(old: BinaryIO, new: BinaryIO, sealer: Sealer, context: bytes) -> int:
    """Seal what `seal_stream` wrote under the key that is primary now; returns how many bytes were written. Keep
    nothing of it unless this returns. Raises what `open_stream` does."""
    return _write(new, _sealed(_opened(old, sealer, context), sealer, context))


def is_outdated(sealed: BinaryIO, sealer: Sealer) -> bool:
    """Whether what `seal_stream` wrote is under a key that is no longer the primary one. Reads its beginning.

    Raises:
        TamperedError: it is nothing that was sealed.
    """
    return sealer.for_purpose(_PURPOSE).is_outdated_header(_header(sealed))


def is_sealed(path: Path) -> bool:
    """Whether a file begins as sealed files do."""
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def _sealed(chunks: Iterable[bytes], sealer: Sealer, context: bytes) -> Iterator[bytes]:
    """A sealed file of a content's chunks, all of them `CHUNK` long but the last."""
    header, data_key = sealer.for_purpose(_PURPOSE).data_key()
    salt = os.urandom(_SALT)
    yield MAGIC + bytes([len(header)]) + header + salt
    cipher = _cipher(data_key, salt, context)
    for number, (chunk, last) in enumerate(_marked(chunks)):
        yield cipher.encrypt(_nonce(number, last), chunk, None)


def _opened(file: BinaryIO, sealer: Sealer, context: bytes) -> Iterator[bytes]:
    """The content's chunks of a sealed file."""
    from cryptography.exceptions import InvalidTag

    header = _header(file)
    cipher = _cipher(sealer.for_purpose(_PURPOSE).opened_key(header), _exactly(file, _SALT), context)
    for number, (chunk, last) in enumerate(_marked(_pieces(file, CHUNK + TAG))):
        try:
            yield cipher.decrypt(_nonce(number, last), chunk, None)
        except InvalidTag:
            raise tampered("it was changed, is not whole, or belongs somewhere else", _WHAT) from None


def _marked(chunks: Iterable[bytes]) -> Iterator[tuple[bytes, bool]]:
    """(chunk, whether it is the last one); of nothing, one empty chunk."""
    held = b""
    first = True
    for chunk in chunks:
        if not first:
            yield held, False
        held, first = chunk, False
    yield held, True


def _pieces(file: BinaryIO, size: int) -> Iterator[bytes]:
    """A file in pieces of a size, the last one shorter."""
    while piece := _read(file, size):
        yield piece


def _read(file: BinaryIO, size: int) -> bytes:
    """So many bytes, fewer only at the end: a pipe may give less at a time."""
    parts, missing = [], size
    while missing and (part := file.read(missing)):
        parts.append(part)
        missing -= len(part)
    return b"".join(parts)


def _exactly(file: BinaryIO, size: int) -> bytes:
    found = _read(file, size)
    if len(found) < size:
        raise tampered("it ends too early", _WHAT)
    return found


def _header(file: BinaryIO) -> bytes:
    if _read(file, len(MAGIC)) != MAGIC:
        raise tampered("it does not begin as sealed files do", _WHAT)
    header = _exactly(file, _exactly(file, 1)[0])
    if len(header) < 2 or header[1] != len(header) - 2:
        raise tampered("its beginning was changed", _WHAT)
    return header


def _cipher(data_key: bytes, salt: bytes, context: bytes) -> AESGCM:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    return AESGCM(HKDF(SHA256(), KEY, salt=salt, info=b"grange file 1 " + context).derive(data_key))


def _nonce(number: int, last: bool) -> bytes:
    return number.to_bytes(11, "big") + bytes([last])


def _write(file: BinaryIO, pieces: Iterable[bytes]) -> int:
    count = 0
    for piece in pieces:
        file.write(piece)
        count += len(piece)
    return count


@contextmanager
def _replacing(target: Path) -> Iterator[BinaryIO]:
    """A file beside the target that takes its place at the end, flushed; that is gone after an error."""
    descriptor, beside = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        Path(beside).replace(target)
    except BaseException:
        Path(beside).unlink(missing_ok=True)
        raise
