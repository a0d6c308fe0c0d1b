"""Feast's side of the data: one entity, a feature view for each group, stores below a work folder."""

from __future__ import annotations

import shutil
from datetime import timedelta
from pathlib import Path

from feast import Entity, FeatureStore, FeatureView, Field, FileSource, RepoConfig
from feast.types import Float64
from feast.value_type import ValueType


def feature_store(work: Path, *, offline: str, redis: str = "", fresh: bool = True) -> FeatureStore:
    """A store with a file registry; online in Redis where an address is given, else in SQLite."""
    folder = work / f"feast-{offline}-{'redis' if redis else 'sqlite'}"
    if fresh:
        shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    online = (
        {"type": "redis", "connection_string": redis}
        if redis
        else {"type": "sqlite", "path": str(folder / "online.db")}
    )
    return FeatureStore(
        config=RepoConfig(
            project="bench",
            provider="local",
            registry=str(folder / "registry.db"),
            offline_store={"type": offline},
            online_store=online,
            entity_key_serialization_version=3,
        )
    )


def feature_views(data: Path, groups: int, *, keys: str, ttl_days: int) -> tuple[Entity, list[FeatureView]]:
    """The entity `user` and a view for each group; a ttl of 0 days is none."""
    value_type = ValueType.STRING if keys == "string" else ValueType.INT64
    user = Entity(name="user", join_keys=["user_id"], value_type=value_type)
    views = [
        FeatureView(
            name=f"group{index}",
            entities=[user],
            ttl=timedelta(days=ttl_days),
            schema=[Field(name=f"g{index}_f{j}", dtype=Float64) for j in range(10)],
            source=FileSource(
                name=f"source{index}", path=str(data / f"group{index}.parquet"), timestamp_field="event_time"
            ),
            online=True,
        )
        for index in range(groups)
    ]
    return user, views
