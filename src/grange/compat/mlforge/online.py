"""Online stores as mlforge has them: features by name, one dict per entity, over Grange's online stores.

Two kinds of values are behind a name. Those of a feature that `Definitions` builds are Grange's: `read` is
`FeatureStore.get_online_features`, exact at the moment of the read (ONL-1, WIN-2), and nobody writes them by hand.
Values under any other name are what `write` and `write_batch` put there; the last write of an entity counts.
"""

from __future__ import annotations

import itertools
import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from grange.errors import (
    KeyTypeError,
    MissingColumnError,
    RefusedError,
    RequestError,
    UnknownFeatureGroupError,
    closest_names,
)
from grange.ports.online import LAYOUT, VALUES, OnlineBatch, StoredRow
from grange.ports.online import OnlineStore as Backend
from grange.ports.plugins import backend, create
from grange.serving.keys import encode_key
from grange.serving.status import Status
from grange.store import FeatureStore
from grange.types import DataType

Finder = Callable[[str], FeatureStore | None]
"""From a feature's name to the feature store that builds it; None when that one knows no such feature."""

BY_HAND: Final = "by-hand"
"""The key space of values that were written by hand; no entity can have this name."""
_TEXT: Final = DataType("string")
_NO_TIME: Final = 0
"""Values written by hand have no event time: all have the same one, so the last write wins (ONL-2)."""
_PLAIN: Final = (type(None), bool, float, str, bytes)


class OnlineStore(ABC):
    """The contract: latest values by feature name and entity key. Subclass it for a store of your own."""

    @abstractmethod
    def write(self, feature_name: str, entity_keys: dict[str, str], values: dict[str, Any]) -> None:
        """Set the values of one entity."""

    @abstractmethod
    def write_batch(self, feature_name: str, records: list[dict[str, Any]], entity_key_columns: list[str]) -> None:
        """Set the values of many; each record has the key columns and the values."""

    @abstractmethod
    def read(self, feature_name: str, entity_keys: dict[str, str]) -> dict[str, Any] | None:
        """The values of one entity; None when there are none."""

    @abstractmethod
    def read_batch(self, feature_name: str, entity_keys: list[dict[str, str]]) -> list[dict[str, Any] | None]:
        """`read` of each, in order, duplicates included."""


class GrangeOnlineStore(OnlineStore):
    """Any online store that is installed with Grange, by its type.

    Args:
        type: its name, such as `lmdb`.
        options: what its configuration takes.

    Raises:
        UnknownBackendError: no such store is installed; carries the closest ones.
    """

    def __init__(self, type: str, **options: Any) -> None:
        backend("online_stores", type)
        self.type = type
        self._options = options
        self._opening = threading.Lock()
        self._backend: Backend | None = None
        self._finders: list[Finder] = []

    @property
    def backend(self) -> Backend:
        """Grange's online store; opened when it is first asked for.

        Raises:
            ConfigError: an option that it does not have.
            StoreUnavailableError: it cannot be reached.
        """
        with self._opening:
            if self._backend is None:
                self._backend = create("online_stores", self.type, self._options)
            return self._backend

    def serve(self, find: Finder) -> None:
        """Answer for features of a feature store too. `Definitions` says so of its own."""
        self._finders.append(find)

    def store_of(self, feature_name: str) -> FeatureStore | None:
        """The feature store that builds a feature; None when none of those known here does."""
        return next(filter(None, (find(feature_name) for find in reversed(self._finders))), None)

    def write(self, feature_name: str, entity_keys: dict[str, str], values: dict[str, Any]) -> None:
        """Set the values of one entity, in place of all it had.

        Args:
            feature_name: any name but that of a feature that is built.
            entity_keys: by key column its value, text or integer.
            values: what MessagePack has: None, numbers (integers of 64 bits), text, bytes, lists, dicts with text keys.

        Raises:
            RefusedError: the feature is built: what is served of it follows from its rows (ONL-1).
            KeyTypeError, RequestError: a key or value is of another type.
            StoreUnavailableError: nothing was written.
        """
        self.write_batch(feature_name, [{**values, **entity_keys}], list(entity_keys))

    def write_batch(self, feature_name: str, records: list[dict[str, Any]], entity_key_columns: list[str]) -> None:
        """Set the values of many entities; of several records of one, the last counts. Raises what `write` does."""
        if self.store_of(feature_name) is not None:
            raise RefusedError(
                f"feature {feature_name!r} is built from its source, and its online values follow from that (ONL-1)",
                try_=f"Definitions.build(features=[{feature_name!r}], online=True)",
            )
        rows = [_row(feature_name, record, entity_key_columns) for record in records]
        for names, alike in itertools.groupby(rows, key=lambda row: tuple(row[1])):
            keys, values = zip(*alike, strict=True)
            times = [_NO_TIME] * len(keys)
            batch = OnlineBatch(keys, times, None, [list(each.values()) for each in values])
            self.backend.write(BY_HAND, feature_name, names, batch)

    def read(self, feature_name: str, entity_keys: dict[str, str]) -> dict[str, Any] | None:
        """The values of one entity at this moment; None when it has none, or they have expired.

        Raises:
            UnknownFeatureGroupError: neither a feature of the `Definitions` that use this store nor written to.
            UnsupportedError: the feature was never loaded: `build(online=True)`.
            MissingColumnError, KeyTypeError: a key column is not there, or of another type.
            StoreUnavailableError: an outage is never read as missing values (ONL-6).
        """
        return self.read_batch(feature_name, [entity_keys])[0]

    def read_batch(self, feature_name: str, entity_keys: list[dict[str, str]]) -> list[dict[str, Any] | None]:
        """`read` of each, in order, duplicates included (ONL-4). Raises what `read` does."""
        store = self.store_of(feature_name)
        if store is not None:
            return _served(store, feature_name, entity_keys)
        keys = [_key(entity, list(entity)) for entity in entity_keys]
        found = iter(self.backend.read(BY_HAND, [key for key in keys if key is not None], [feature_name]))
        rows = [None if key is None else next(found)[0] for key in keys]
        if not any(rows):
            self._check_name(feature_name)
        return [None if row is None else self._values(row) for row in rows]

    def close(self) -> None:
        """Let go of files and connections. Calling it twice is fine."""
        if self._backend is not None:
            self._backend.close()
            self._backend = None

    def _values(self, row: StoredRow) -> dict[str, Any]:
        return dict(zip(self.backend.layout(row[LAYOUT]), row[VALUES:], strict=True))

    def _check_name(self, feature_name: str) -> None:
        """Tell a name that means nothing from one that has no values of an entity.

        Raises:
            RequestError: a feature that is built, and its Definitions were not made in this process.
            UnknownFeatureGroupError: nothing was ever written under this name, and there are Definitions.
        """
        held = {(info.key_space == BY_HAND, info.group) for info in self.backend.info()}
        if (True, feature_name) in held:
            return
        if (False, feature_name) in held:
            raise RequestError(
                f"feature {feature_name!r} was built by Definitions that are not known here, so its values cannot be "
                "told",
                try_="Definitions(store=..., online_store=this store), then read",
            )
        if self._finders:
            names = [group for _, group in held]
            raise UnknownFeatureGroupError(
                f"no feature {feature_name!r} is built or written to",
                found=", ".join(sorted(names)) or "nothing in this store",
                closest=closest_names(feature_name, names),
                try_=f"Definitions.build(features=[{feature_name!r}], online=True), if it is one of theirs",
            )


class MemoryOnlineStore(GrangeOnlineStore):
    """In the memory of this process, gone when it ends: for tests and notebooks."""

    def __init__(self) -> None:
        super().__init__("memory")


class LocalOnlineStore(GrangeOnlineStore):
    """In a folder of this machine (LMDB): microsecond reads, several processes.

    Args:
        path: the folder; relative to the working directory at this moment.
    """

    def __init__(self, path: str | os.PathLike[str] = "./online_store") -> None:
        self.path = Path(path).expanduser().absolute()
        super().__init__("lmdb", path=str(self.path))


class RedisStore(GrangeOnlineStore):
    """In Redis.

    Args:
        host: where it listens.
        port: on which port.
        db: which of its databases.
        password: None is without.
        ttl: seconds after which what was written expires; None is never. Needs Redis 7.4 or Valkey 9.

    Raises:
        MissingDependencyError: the driver is not installed.
    """

    def __init__(
        self,
        host: str = "localhost",
        port: int = 6379,
        db: int = 0,
        password: str | None = None,
        ttl: int | None = None,
    ) -> None:
        options = {"url": f"redis://{host}:{port}/{db}", "password": password}
        options["expire"] = None if ttl is None else f"{ttl}s"
        super().__init__("redis", **{name: value for name, value in options.items() if value is not None})


def _served(store: FeatureStore, name: str, entity_keys: Sequence[Mapping[str, Any]]) -> list[dict[str, Any] | None]:
    """What Grange serves of a feature, a dict per entity; None where it has no visible row."""
    group = store.catalog.group(name)
    dtypes = {key: group.schema[key] for key in group.join_keys}
    rows = [{key: _typed(value, dtypes.get(key)) for key, value in entity.items()} for entity in entity_keys]
    answer = store.get_online_features([name], rows)
    return [
        {feature: vector[feature] for feature in statuses}
        if any(time is not None and statuses[feature] is not Status.EXPIRED for feature, time in times.items())
        else None
        for vector, statuses, times in zip(answer.to_dicts(), answer.statuses, answer.event_times, strict=True)
    ]


def _typed(value: Any, dtype: DataType | None) -> Any:
    """The contract says that keys are text: that of an integer is read as one."""
    if dtype is None or not dtype.is_integer or not isinstance(value, str):
        return value
    try:
        return int(value)
    except ValueError:
        return value  # told by the read, with the column's type


def _row(name: str, record: Mapping[str, Any], key_columns: Sequence[str]) -> tuple[bytes, dict[str, Any]]:
    """A record as encoded key and values."""
    key = _key(record, key_columns)
    if key is None:
        raise RequestError(f"feature {name!r}: a null in an entity key is nobody (PIT-4)", found=repr(dict(record)))
    values = {column: value for column, value in record.items() if column not in key_columns}
    for column, value in values.items():
        if not _is_plain(value):
            raise RequestError(
                f"feature {name!r}: the value of {column!r} is of a type that is not stored as it is",
                found=f"{value!r:.80} ({type(value).__name__})",
                try_="a number of 64 bits, text, bytes, list or dict; of a time its isoformat()",
            )
    return key, values


def _key(record: Mapping[str, Any], columns: Sequence[str]) -> bytes | None:
    """An entity key by column names and values, whatever their order; None with a null in it."""
    parts: list[str] = []
    for column in sorted(columns):
        if column not in record:
            raise MissingColumnError(
                f"a record has no key column {column!r}",
                found=", ".join(record) or "an empty record",
                closest=closest_names(column, record),
            )
        value = record[column]
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, str | int):
            raise KeyTypeError(
                f"entity key {column!r} must be text or an integer", found=f"{value!r} ({type(value).__name__})"
            )
        parts += (column, str(value))
    return encode_key(parts, [_TEXT] * len(parts))


def _is_plain(value: Any) -> bool:
    """Whether a value is one that MessagePack has."""
    if isinstance(value, list):
        return all(map(_is_plain, value))
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_plain(inner) for key, inner in value.items())
    if type(value) is int:
        return -(1 << 63) <= value < 1 << 64
    return type(value) in _PLAIN


__all__ = ["GrangeOnlineStore", "LocalOnlineStore", "MemoryOnlineStore", "OnlineStore", "RedisStore"]
