"""From the setting `security.encryption_key` to what seals."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from grange.errors import ConfigError
from grange.ports.plugins import create
from grange.security.encryption.local import key_ring
from grange.security.encryption.sealer import KeyService, Sealer

_KEY_RINGS: Final = ("env", "file")


def sealer_from(reference: str, root: str | Path = ".") -> Sealer:
    """The sealer that a reference names. The keys are read at once.

    Args:
        reference: `env:NAME` or `file:PATH` (or several with commas) is a key ring; `SERVICE:...` another key service,
            by the name of its entry point in `grange.key_services`.
        root: the project's folder, which paths are relative to.

    Raises:
        ConfigError: a reference that is none; a key ring that is not there, that others may read, or that is none.
        UnknownBackendError: no key service of this name is installed.
        MissingDependencyError: the package `cryptography` is not installed.
    """
    return Sealer(_service(reference.strip(), Path(root)))


def _service(reference: str, root: Path) -> KeyService:
    name, separator, rest = reference.partition(":")
    if not separator or not name or not rest:
        raise ConfigError(
            "security.encryption_key says where the key is, and is not the key itself",
            found="no env:NAME, no file:PATH and no SERVICE:...",
            try_='encryption_key = "file:keyring"',
        )
    if name in _KEY_RINGS:
        return key_ring(reference, root)
    service: KeyService = create("key_services", name, {"root": root, "reference": rest})
    return service
