"""Asks Feast's own feature server and writes down what it answers, as `feast_0_67.json`.

    benchmarks/.peers/feast/bin/python tests/http/recorded/record_feast.py

Runs in Feast's environment (`benchmarks/setup.sh` builds it), so it imports nothing of Grange. The rows and definitions
are those of `tests/http/test_compat_feast.py`.
"""

from __future__ import annotations

import datetime as dt
import json
import tempfile
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import pandas as pd
import uvicorn
from feast import Entity, FeatureService, FeatureStore, FeatureView, Field, FileSource, PushSource, RequestSource
from feast.feature_server import get_app
from feast.on_demand_feature_view import on_demand_feature_view
from feast.types import Array, Bool, Float32, Float64, Int64, String, UnixTimestamp
from feast.value_type import ValueType

HERE = Path(__file__).parent
PORT = 21_987
KEYS = {"driver_id": [1001, 1002, 9]}
ADDED = {"driver_id": [1001], "val_to_add": [1], "val_to_add_2": [10]}
STATS = "driver_hourly_stats"
ASKED = [
    ("features", {"features": [f"{STATS}:conv_rate", f"{STATS}:avg_daily_trips", f"{STATS}:name"], "entities": KEYS}),
    ("types", {"features": [f"{STATS}:seen", f"{STATS}:tags", f"{STATS}:ok"], "entities": KEYS}),
    ("full names", {"features": [f"{STATS}:name"], "entities": KEYS, "full_feature_names": True}),
    ("a key as text", {"features": [f"{STATS}:name"], "entities": {"driver_id": ["1001"]}}),
    ("an entity's name", {"features": [f"{STATS}:name"], "entities": {"driver": [1001]}}),
    ("columns that nobody asked for", {"features": [f"{STATS}:name"], "entities": {"driver_id": [1001], "x": [1]}}),
    ("a service", {"feature_service": "driver_activity", "entities": ADDED}),
    ("a service in full", {"feature_service": "driver_activity", "entities": ADDED, "full_feature_names": True}),
    ("on demand", {"features": ["transformed_conv_rate:conv_rate_plus_val1"], "entities": ADDED}),
    ("no such view", {"features": ["nope:name"], "entities": KEYS}),
    ("no such service", {"feature_service": "nope", "entities": KEYS}),
]


def feature_store(folder: Path) -> FeatureStore:
    (folder / "feature_store.yaml").write_text(
        "project: driver_rides\nregistry: registry.db\nprovider: local\n"
        "online_store: {type: sqlite, path: online.db}\nentity_key_serialization_version: 3\n"
    )
    seen = pd.to_datetime(["2026-01-01 10:00:00.5"] * 3, utc=True)
    pd.DataFrame(
        {
            "driver_id": [1001, 1002, 1003],
            "event_timestamp": pd.to_datetime(["2026-01-01", "2026-01-02", "2015-11-03"], utc=True),
            "created": pd.to_datetime(["2026-01-04"] * 3, utc=True),
            "conv_rate": pd.Series([0.5, None, 0.75], dtype="float32"),
            "acc_rate": pd.Series([0.25, 0.5, 1.0], dtype="float32"),
            "avg_daily_trips": pd.Series([7, 2**60 + 1, 9], dtype="Int64"),
            "name": ["a", None, "c"],
            "seen": seen,
            "tags": [["x", "y"], [], ["z"]],
            "ok": [True, False, None],
        }
    ).to_parquet(folder / "driver_stats.parquet")
    driver = Entity(name="driver", join_keys=["driver_id"], value_type=ValueType.INT64)
    source = FileSource(
        name="driver_stats",
        path=str(folder / "driver_stats.parquet"),
        timestamp_field="event_timestamp",
        created_timestamp_column="created",
    )
    fields = [
        Field(name="conv_rate", dtype=Float32),
        Field(name="acc_rate", dtype=Float32),
        Field(name="avg_daily_trips", dtype=Int64),
        Field(name="name", dtype=String),
        Field(name="seen", dtype=UnixTimestamp),
        Field(name="tags", dtype=Array(String)),
        Field(name="ok", dtype=Bool),
    ]
    ttl = dt.timedelta(days=3650)
    stats = FeatureView(name=STATS, entities=[driver], ttl=ttl, schema=fields, source=source)
    stream = PushSource(name="driver_stats_push_source", batch_source=source)
    fresh = FeatureView(name=f"{STATS}_fresh", entities=[driver], schema=fields, source=stream)
    added = RequestSource(
        name="vals_to_add", schema=[Field(name="val_to_add", dtype=Int64), Field(name="val_to_add_2", dtype=Int64)]
    )

    @on_demand_feature_view(
        sources=[stats, added],
        schema=[Field(name="conv_rate_plus_val1", dtype=Float64), Field(name="conv_rate_plus_val2", dtype=Float64)],
    )
    def transformed_conv_rate(inputs: pd.DataFrame) -> pd.DataFrame:
        df = pd.DataFrame()
        df["conv_rate_plus_val1"] = inputs["conv_rate"] + inputs["val_to_add"]
        df["conv_rate_plus_val2"] = inputs["conv_rate"] + inputs["val_to_add_2"]
        return df

    activity = FeatureService(name="driver_activity", features=[stats[["conv_rate"]], transformed_conv_rate])
    store = FeatureStore(str(folder))
    store.apply([driver, source, stats, stream, fresh, added, transformed_conv_rate, activity])
    store.materialize(dt.datetime(2010, 1, 1, tzinfo=dt.UTC), dt.datetime(2026, 2, 1, tzinfo=dt.UTC))
    return store


def ask(path: str, body: object) -> tuple[int, object]:
    request = urllib.request.Request(
        f"http://127.0.0.1:{PORT}{path}", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.loads(json.load(error))


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        server = uvicorn.Server(uvicorn.Config(get_app(feature_store(Path(folder))), port=PORT, log_level="error"))
        threading.Thread(target=server.run, daemon=True).start()
        while not server.started:
            time.sleep(0.1)
        recorded = []
        for what, body in ASKED:
            status, answer = ask("/get-online-features", body)
            recorded.append(
                {"what": what, "path": "/get-online-features", "request": body, "status": status, "answer": answer}
            )
        (HERE / "feast_0_67.json").write_text(json.dumps(recorded, indent=1) + "\n")
        server.should_exit = True


if __name__ == "__main__":
    main()
