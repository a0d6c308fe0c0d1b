"""What is known of the `parquet` offline store before it is loaded."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from grange.errors import ConfigError
from grange.ports.offline import OfflineStore
from grange.ports.plugins import Descriptor

_COMPRESSIONS = ("snappy", "zstd", "lz4", "none")


def _make(
    *,
    root: str | os.PathLike[str] = ".",
    path: str | os.PathLike[str] = ".grange/offline",
    partition_rows: Any = 20_000_000,
    compression: Any = "snappy",
    check_bytes: Any = 64 * 1024 * 1024,
) -> OfflineStore:
    """The store. Creates nothing until something is written.

    Raises:
        ConfigError: an option outside its range, or a path on an object store.
    """
    if "://" in os.fspath(path):
        raise ConfigError(f"offline store 'parquet': path {os.fspath(path)!r} is not a local folder")
    if not isinstance(partition_rows, int) or isinstance(partition_rows, bool) or partition_rows < 1:
        raise ConfigError("offline store 'parquet': partition_rows must be at least 1", found=repr(partition_rows))
    if not isinstance(check_bytes, int) or isinstance(check_bytes, bool) or check_bytes < 0:
        raise ConfigError("offline store 'parquet': check_bytes must be at least 0", found=repr(check_bytes))
    if compression not in _COMPRESSIONS:
        raise ConfigError(
            f"offline store 'parquet': unknown compression {compression!r}", found=", ".join(_COMPRESSIONS)
        )
    from grange.offline.parquet.backend import ParquetStore

    return ParquetStore(
        Path(root) / path, partition_rows=partition_rows, compression=compression, check_bytes=check_bytes
    )


DESCRIPTOR = Descriptor(
    name="parquet",
    factory=_make,
    summary="Parquet files on a local or mounted disk, a folder per version",
    options={
        "path": "the folder of the store, relative to the project's; `.grange/offline` by default",
        "partition_rows": "versions of more rows are cut into a file per month; 20000000 by default",
        "compression": "snappy (default), zstd, lz4 or none",
        "check_bytes": "versions of at most so many bytes are checked against their hashes when they are first read; "
        "67108864 by default, 0 leaves all to `grange verify`",
    },
)
