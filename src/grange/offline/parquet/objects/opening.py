"""From options to files in an object store."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from grange.offline.parquet.objects.bucket import Bucket, BucketOptions
from grange.offline.parquet.objects.cache import Cache
from grange.offline.parquet.objects.files import ObjectFiles

_CACHE: Final = ".grange/cache/objects"
_CACHE_BYTES: Final = 10 << 30


def open_files(options: Mapping[str, Any], *, root: Path, check_bytes: int) -> ObjectFiles:
    """The files of a store in an object store; asks nothing and makes nothing yet.

    Args:
        options: those of `BucketOptions`, and `cache` and `cache_bytes`.
        root: what `cache` is relative to.
        check_bytes: copies of at most so many bytes are compared with their hash when a process first uses them.

    Raises:
        ConfigError: the object store does not take the options.
        MissingDependencyError: the client of object stores is not installed.
    """
    given = dict(options)
    folder, most = given.pop("cache", _CACHE), given.pop("cache_bytes", _CACHE_BYTES)
    cache = Cache((root / folder).absolute(), most=most, check_bytes=check_bytes)
    return ObjectFiles(Bucket(BucketOptions(**given)), cache)
