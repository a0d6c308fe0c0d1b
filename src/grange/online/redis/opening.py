"""Making the `redis` online store of its options."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from grange.errors import MissingDependencyError
from grange.online.redis.settings import settings_of

if TYPE_CHECKING:
    from grange.online.redis.backend import RedisOnlineStore


def open_store(root: Path, options: Mapping[str, Any]) -> RedisOnlineStore:
    """The store. It connects at its first use.

    Raises:
        ConfigError: an option that cannot be.
        MissingDependencyError: the client is not installed.
    """
    settings = settings_of(root, options)
    try:
        import hiredis  # noqa: F401 - so that what is missing is said here
    except ImportError as error:
        raise MissingDependencyError(
            "the online store 'redis' needs a client that is not installed", try_="pip install 'grange[redis]'"
        ) from error
    from grange.online.redis.backend import RedisOnlineStore

    return RedisOnlineStore(settings)
