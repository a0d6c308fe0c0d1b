"""In Feast's environment: its SDK with the remote online store, against a server; what it reads and writes, as JSON.

client.py <repository> <url>
"""

from __future__ import annotations

import datetime as dt
import json
import os
import sys
from pathlib import Path
from typing import Any

import pandas as pd
from feast import FeatureStore
from feast.errors import FeastError
from feast.infra.online_stores.remote import RemoteOnlineStore, get_remote_online_features
from feast.repo_config import load_repo_config
from feast.repo_operations import apply_total


def settings(repository: Path, url: str) -> None:
    (repository / "feature_store.yaml").write_text(
        "project: driver_rides\nregistry: data/registry.db\nprovider: local\noffline_store: {type: duckdb}\n"
        f"online_store: {{type: remote, path: '{url}'}}\nentity_key_serialization_version: 3\n"
    )


def main(folder: str, url: str) -> None:
    repository = Path(folder)
    settings(repository, url)
    os.chdir(repository)
    sys.path.insert(0, str(repository))
    apply_total(load_repo_config(repository, repository / "feature_store.yaml"), repository, True)
    store = FeatureStore(str(repository))
    rows = [{"driver_id": 1001}, {"driver_id": 9}, {"driver_id": 1002}, {"driver_id": 1001}]
    features = [f"driver_hourly_stats:{name}" for name in ("conv_rate", "avg_daily_trips", "name", "ok", "seen")]
    answers: dict[str, Any] = {}
    answers["features"] = store.get_online_features(features=features, entity_rows=rows).to_dict()
    # of rows with an empty list its client fails, whoever answers: it cannot tell their type
    lists = ["driver_hourly_stats:tags"]
    answers["lists"] = store.get_online_features(features=lists, entity_rows=rows[:2]).to_dict()
    answers["full"] = store.get_online_features(
        features=features[:1], entity_rows=rows[:1], full_feature_names=True
    ).to_dict()
    asked = [{"driver_id": 1001, "val_to_add": 1, "val_to_add_2": 10}]
    service = store.get_feature_service("driver_activity_v1")
    answers["service"] = store.get_online_features(features=service, entity_rows=asked).to_dict()
    answers["on demand"] = store.get_online_features(
        features=["transformed_conv_rate:conv_rate_plus_val1"], entity_rows=asked
    ).to_dict()
    answers["read"] = read(store, [1001, 9])
    now = dt.datetime(2026, 1, 20, 10, tzinfo=dt.UTC)
    pushed = pd.DataFrame(
        {"driver_id": [1001, 2001], "event_timestamp": [now] * 2, "created": [now] * 2, "conv_rate": [1.0, 0.125],
         "acc_rate": [1.0, 0.5], "avg_daily_trips": [1000, 2000]}
    )  # fmt: skip
    store.push("driver_stats_push_source", pushed)
    fresh = ["driver_hourly_stats_fresh:avg_daily_trips", "driver_hourly_stats_fresh:conv_rate"]
    keys = [{"driver_id": 1001}, {"driver_id": 2001}, {"driver_id": 1002}]
    answers["pushed"] = store.get_online_features(features=fresh, entity_rows=keys).to_dict()
    whole = pushed.assign(name=["n", None], seen=[now, now], tags=[["t"], []], ok=[True, False])
    store.write_to_online_store("driver_hourly_stats", whole)
    answers["written"] = store.get_online_features(features=features, entity_rows=keys[:2]).to_dict()
    answers["error"] = error(store)
    print(json.dumps(answers, default=str))


def read(store: FeatureStore, keys: list[int]) -> list[Any]:
    """The store's own read of one view, which older clients use."""
    from feast.protos.feast.types.EntityKey_pb2 import EntityKey
    from feast.protos.feast.types.Value_pb2 import Value

    view = store.get_feature_view("driver_hourly_stats")
    entities = [EntityKey(join_keys=["driver_id"], entity_values=[Value(int64_val=key)]) for key in keys]
    found = RemoteOnlineStore().online_read(store.config, view, entities, ["avg_daily_trips", "conv_rate"])
    return [
        {name: None if value.WhichOneof("val") is None else getattr(value, value.WhichOneof("val"))
         for name, value in (features or {}).items()}
        for _, features in found
    ]  # fmt: skip


def error(store: FeatureStore) -> list[str]:
    """The class of the error that a view raises which the server does not have."""
    try:
        get_remote_online_features(
            config=store.config, req_body={"features": ["nope:x"], "entities": {"driver_id": [1]}}
        )
    except FeastError as raised:
        return [type(raised).__name__, str(raised).splitlines()[0]]
    return []


if __name__ == "__main__":
    main(*sys.argv[1:])
