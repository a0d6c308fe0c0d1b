"""What is known of the `parquet` offline store before it is loaded."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from grange.errors import ConfigError, closest_names
from grange.ports.offline import OfflineStore
from grange.ports.plugins import Descriptor

_COMPRESSIONS: Final = ("snappy", "zstd", "lz4", "none")
_SCHEMES: Final = ("s3", "gs", "az")
_TEXTS: Final = ("endpoint", "region", "access_key_id", "secret_access_key", "session_token")
_OF_OBJECTS: Final = (*_TEXTS, "allow_http", "timeout", "retries", "cache", "cache_bytes")


def _make(
    *,
    root: str | os.PathLike[str] = ".",
    path: str | os.PathLike[str] = ".grange/offline",
    partition_rows: Any = 20_000_000,
    compression: Any = "snappy",
    check_bytes: Any = 64 * 1024 * 1024,
    **objects: Any,
) -> OfflineStore:
    """The store. Creates nothing until something is written.

    Raises:
        ConfigError: an option outside its range, or one of object stores with a local path.
        MissingDependencyError: the path is on an object store, and their client is not installed.
    """
    _check_least("partition_rows", partition_rows, 1)
    _check_least("check_bytes", check_bytes, 0)
    if compression not in _COMPRESSIONS:
        raise ConfigError(
            f"offline store 'parquet': unknown compression {compression!r}", found=", ".join(_COMPRESSIONS)
        )
    options = {"partition_rows": partition_rows, "compression": compression, "check_bytes": check_bytes}
    from grange.offline.parquet.backend import ParquetStore

    if "://" in os.fspath(path):
        from grange.offline.parquet.objects.opening import open_files

        files = open_files(_object_options(os.fspath(path), objects), root=Path(root), check_bytes=check_bytes)
        return ParquetStore(files.root, files=files, **options)
    if objects:
        raise ConfigError(
            f"offline store 'parquet': option {next(iter(objects))!r} is of object stores",
            found=f"the local path {os.fspath(path)!r}",
            try_='path = "s3://bucket/prefix"',
        )
    return ParquetStore(Path(root) / path, **options)


def _object_options(url: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Those of an object store, checked.

    Raises:
        ConfigError: a URL of no object store, or an option outside its range.
    """
    scheme, _, rest = url.partition("://")
    if scheme not in _SCHEMES or not rest.strip("/"):
        raise ConfigError(
            f"offline store 'parquet': path {url!r} is neither a local folder nor an object store",
            found=", ".join(f"{known}://bucket/prefix" for known in _SCHEMES),
            closest=closest_names(scheme, _SCHEMES),
        )
    unknown = [name for name in given if name not in _OF_OBJECTS]
    if unknown:
        raise TypeError(f"unexpected options {', '.join(unknown)}")
    for name in _TEXTS:
        if not isinstance(given.get(name, ""), str):
            raise ConfigError(f"offline store 'parquet': {name} must be a text")  # which is not shown: a secret, maybe
    _check_least("retries", given.get("retries", 0), 0)
    _check_least("cache_bytes", given.get("cache_bytes", 0), 0)
    if not isinstance(given.get("allow_http", False), bool):
        raise ConfigError("offline store 'parquet': allow_http must be true or false", found=repr(given["allow_http"]))
    timeout = given.get("timeout", 1)
    if not isinstance(timeout, int | float) or isinstance(timeout, bool) or not 0 < timeout < float("inf"):
        raise ConfigError("offline store 'parquet': timeout must be seconds above 0", found=repr(timeout))
    if not isinstance(given.get("cache", ""), str | os.PathLike):
        raise ConfigError("offline store 'parquet': cache must be a folder", found=repr(given["cache"]))
    return {"url": url, **given}


def _check_least(name: str, value: Any, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ConfigError(f"offline store 'parquet': {name} must be at least {least}", found=repr(value))


DESCRIPTOR = Descriptor(
    name="parquet",
    factory=_make,
    summary="Parquet files on a disk or in an object store, a folder per version",
    options={
        "path": "the folder of the store, relative to the project's; `.grange/offline` by default. Or "
        "`s3://bucket/prefix`, `gs://bucket/prefix`, `az://container/prefix`",
        "partition_rows": "versions of more rows are cut into a file per month; 20000000 by default",
        "compression": "snappy (default), zstd, lz4 or none",
        "check_bytes": "versions of at most so many bytes are checked against their hashes when they are first read; "
        "67108864 by default, 0 leaves all to `grange verify`",
        "endpoint": "of an object store: its URL, when it is not the cloud's own",
        "region": "of an object store; else from the environment, as are the credentials",
        "access_key_id": "of an object store; of Azure the name of the account",
        "secret_access_key": "of an object store; of Azure the key of the account",
        "session_token": "of an object store, for credentials that end; of Azure a shared access signature",
        "allow_http": "of an object store: whether requests may go unencrypted; an endpoint of `http://` says so too",
        "timeout": "of an object store: seconds for one request; 30 by default",
        "retries": "of an object store: of a request that failed; 6 by default",
        "cache": "of an object store: the folder of copies on this machine, relative to the project's; "
        "`.grange/cache/objects` by default",
        "cache_bytes": "of an object store: how large all copies may be together; 10737418240 by default",
    },
)
