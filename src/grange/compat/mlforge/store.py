"""LocalStore: history in a folder, as Grange's offline store keeps it, with the registry beside it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from grange.compat.mlforge.features import either
from grange.config import Config
from grange.errors import UnknownFeatureGroupError, UnknownVersionError
from grange.ports.offline import VersionMeta
from grange.ports.online import OnlineStore
from grange.store import FeatureStore
from grange.types.names import EVENT_TIME

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True, slots=True)
class FeatureMetadata:
    """What `.meta.json` says of a version."""

    name: str
    version: str
    content_hash: str
    schema_hash: str
    config_hash: str
    created_at: str
    """ISO 8601, UTC."""
    updated_at: str
    row_count: int
    entity_keys: list[str]
    timestamp: str | None
    """None of a feature whose rows are always true."""
    interval: str | None
    columns: list[dict[str, str]]
    """Name and type of each; of a metric's also the aggregation and window."""
    change_summary: dict[str, Any]
    """`bump_type`, `reason` and `details`: why the version has its number."""

    @classmethod
    def of(cls, meta: VersionMeta) -> FeatureMetadata:
        """The metadata of a Grange version."""
        data = meta.to_dict()
        told = {name: data[name] for name in cls.__slots__}
        told["timestamp"] = None if meta.event_time == EVENT_TIME else meta.event_time
        told["columns"] = [column for column in data["columns"] if column["name"] != EVENT_TIME]
        return cls(**told)


class LocalStore:
    """Features in a folder: `<path>/<feature>/<X.Y.Z>/data.parquet`, each version with its `.meta.json`.

    What is known of features lies beside the folder, in `<path>.registry.db`. Nothing is made on disk before it is
    needed.

    Args:
        path: the folder; relative to the working directory at this moment.
    """

    def __init__(self, path: str | os.PathLike[str] = "./feature_store") -> None:
        self.path = Path(path).expanduser().absolute()

    def open(
        self,
        *,
        online: OnlineStore | None = None,
        online_type: str = "memory",
        settings: Mapping[str, Any] | None = None,
    ) -> FeatureStore:
        """The Grange feature store of this folder. Close it.

        Args:
            online: an opened online store, which stays open; an empty one without.
            online_type: what kind that is.
            settings: further settings of the store, by dotted key: `{"engine": "duckdb"}`.
        """
        beside = self.path.with_name(f"{self.path.name}.registry.db")
        fixed = {
            "offline": {"type": "parquet", "path": str(self.path)},
            "registry": {"type": "sql", "url": f"sqlite:///{beside}"},
            "online.type": online_type,
        }
        config = Config.load(Path.cwd(), {**fixed, **(settings or {})})
        return FeatureStore(config=config) if online is None else _Served(config, online)

    def read(
        self,
        name: str,
        version: str | None = None,
        columns: Sequence[str] | None = None,
        *,
        feature_version: str | None = None,
    ) -> pl.DataFrame:
        """A feature's stored rows, by event time: key, event time, features. The latest version unless one is named.

        Raises:
            UnknownFeatureGroupError, UnknownVersionError, UnknownFeatureError: with the closest names.
        """
        wanted = either(version, feature_version, "version and feature_version")
        with self.open() as store:
            rows = store.read(name, version=wanted, columns=columns)
        return rows.select(column for column in rows.column_names if column != EVENT_TIME).polars

    def list_versions(self, name: str) -> list[str]:
        """A feature's versions, oldest first; none of one that was never built."""
        with self.open() as store:
            return [] if name not in store.catalog.groups else [meta.version for meta in store.versions(name)]

    def get_latest_version(self, name: str) -> str | None:
        """The version that is read when none is named; None when there is none."""
        with self.open() as store:
            try:
                return store.version(name).version
            except (UnknownFeatureGroupError, UnknownVersionError):
                return None

    def exists(self, name: str, version: str | None = None) -> bool:
        """Whether the feature has this version; whether it has any, when none is named."""
        versions = self.list_versions(name)
        return bool(versions) if version is None else version in versions

    def read_metadata(self, name: str, version: str | None = None) -> FeatureMetadata:
        """What is known of a version; of the latest when none is named.

        Raises:
            UnknownFeatureGroupError, UnknownVersionError: with the closest names.
        """
        with self.open() as store:
            return FeatureMetadata.of(store.version(name, version))

    def list_metadata(self) -> list[FeatureMetadata]:
        """What is known of the latest version of every feature, by name."""
        with self.open() as store:
            return [FeatureMetadata.of(store.version(name)) for name in sorted(store.manifest())]

    def path_for(self, name: str, version: str | None = None) -> Path:
        """Where the rows of a version lie: a file, or the folder of its parts when it is large.

        Raises:
            UnknownFeatureGroupError, UnknownVersionError: with the closest names.
        """
        with self.open() as store:
            return self.place(store.version(name, version))

    def place(self, meta: VersionMeta) -> Path:
        """Where the rows of a Grange version lie."""
        files = meta.feature_files if meta.aggregates else meta.files
        return self.path / meta.name / meta.version / PurePosixPath(files[0]).parts[0]

    def __repr__(self) -> str:
        return f"LocalStore({str(self.path)!r})"


class _Served(FeatureStore):
    """A feature store whose online store somebody else opened and closes."""

    def __init__(self, config: Config, online: OnlineStore) -> None:
        super().__init__(config=config)
        lent: Any = _Lent(online)
        self._parts.open_online = lambda: lent


class _Lent:
    """An online store that is not closed with what uses it."""

    def __init__(self, store: OnlineStore) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def close(self) -> None:
        """Nothing: its owner closes it."""


__all__ = ["FeatureMetadata", "LocalStore"]
