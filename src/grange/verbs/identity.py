"""Whose a registry is: what keeps projects apart that share servers.

A registry has an identity, made once, which the stores that it shares with nobody are marked with. And it has the name
of its project, once a project that has one in its settings used it: another one is refused.
"""

from __future__ import annotations

import datetime as dt
import secrets
from contextlib import suppress
from typing import Any, Final

from grange.errors import ConfigError, ConflictError
from grange.ports.registry import Documents

_COLLECTION: Final = "project"
_IDENTITY, _NAME = "identity", "name"


def identity(registry: Documents, *, now: dt.datetime) -> str:
    """The registry's own identity, which no other has; made at the first call.

    Raises:
        StoreUnavailableError: the registry cannot be reached.
    """
    return str(_once(registry, _IDENTITY, secrets.token_hex(16), now)["value"])


def check_project(registry: Documents, project: str, *, now: dt.datetime) -> None:
    """See that a registry is of this project; one that is nobody's becomes its own.

    Raises:
        ConfigError: it is of another project.
        StoreUnavailableError: the registry cannot be reached.
    """
    found = _once(registry, _NAME, project, now)["value"]
    if found != project:
        raise ConfigError(
            f"the registry is of another project than {project!r}",
            asked_by="project in the settings",
            found=f"project {found!r}",
            try_="give each project a registry of its own: another file, or schema in [registry] for PostgreSQL",
            details={"project": project, "found": found},
        )


def _once(registry: Documents, key: str, value: str, now: dt.datetime) -> dict[str, Any]:
    """What is written under a key: the value, where there was none."""
    found = registry.get(_COLLECTION, key)
    if found is not None:
        return found.data
    with suppress(ConflictError):  # another process wrote it first
        registry.put(_COLLECTION, key, {"value": value}, now=now, expected="absent")
    found = registry.get(_COLLECTION, key)
    assert found is not None, "nothing removes these documents"
    return found.data
