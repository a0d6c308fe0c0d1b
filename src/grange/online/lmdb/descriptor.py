"""What is known of the `lmdb` online store before LMDB is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from grange.ports.plugins import Descriptor


def _create(
    *,
    root: str | Path = ".",
    path: str | Path = ".grange/online",
    map_size: int = 64 << 30,
    max_size: int | None = None,
    lock_timeout: float = 600.0,
) -> Any:
    from grange.online.lmdb.backend import LmdbOnlineStore

    return LmdbOnlineStore(Path(root) / path, map_size=map_size, max_size=max_size, lock_timeout=lock_timeout)


DESCRIPTOR = Descriptor(
    name="lmdb",
    factory=_create,
    summary="Embedded, on local disk: microsecond reads, many processes on one machine",
    options={
        "path": "folder of the store, relative to the project; default .grange/online",
        "map_size": "bytes of address space to reserve, not of disk; it grows when needed; default 64 GiB",
        "max_size": "bytes that the store may grow to, then writes fail with StorageFullError; default: no limit",
        "lock_timeout": "seconds to wait for another load of the same entities; default 600",
    },
    capabilities=frozenset({"durable", "shared"}),
)
