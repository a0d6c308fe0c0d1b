"""Encryption of what is stored: values are sealed before a store sees them, and opened after it gave them back.

A key service holds the keys that wrap data keys; a `Sealer` seals with data keys that it changes often. Nothing here is
invented: AES-256-GCM, HKDF, AES key wrap, and the STREAM construction for files, by the package `cryptography`.
"""

from grange.security.encryption.files import open_file, open_stream, seal_file, seal_stream
from grange.security.encryption.online import EncryptedOnlineStore
from grange.security.encryption.references import sealer_from
from grange.security.encryption.rows import open_rows, reseal_rows, seal_rows
from grange.security.encryption.sealer import KeyService, Sealer

__all__ = [
    "EncryptedOnlineStore",
    "KeyService",
    "Sealer",
    "open_file",
    "open_rows",
    "open_stream",
    "reseal_rows",
    "seal_file",
    "seal_rows",
    "seal_stream",
    "sealer_from",
]
