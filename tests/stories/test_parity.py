"""ONL-1, the promise of the project: what is served at `t` is what a point-in-time join at `t` returns.

Random histories, pushed in random order with late rows, ties and nulls, materialized in between: after every step
the two answers are compared for every entity key, on every online store and engine.
"""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.shop import at

import grange as gr

KEYS = [("a", 1), ("a", 12), ("a1", 2), ("", 0), ("é\x00|", -1)]
FEATURES = ["number", "text", "flag", "items"]
SCHEMA = {
    "name": "string",
    "part": "int64",
    "at": "datetime",
    "made": "datetime",
    "number": "int32",
    "text": "string",
    "flag": "boolean",
    "items": "list[float64]",
}

rows = st.fixed_dictionaries(
    {
        "key": st.sampled_from(KEYS),
        "at": st.integers(0, 6).map(lambda hours: at(1) + dt.timedelta(hours=hours)),
        "made": st.none() | st.integers(0, 3).map(lambda hours: at(1) + dt.timedelta(hours=hours)),
        "number": st.none() | st.integers(-(2**31), 2**31 - 1),
        "text": st.none() | st.text(max_size=3),
        "flag": st.none() | st.booleans(),
        "items": st.none() | st.lists(st.none() | st.floats(allow_nan=False), max_size=2),
    }
).map(lambda row: {"name": row["key"][0], "part": row["key"][1], **{k: v for k, v in row.items() if k != "key"}})
steps = st.lists(st.lists(rows, max_size=4) | st.just("materialize"), min_size=1, max_size=6)


def group(ttl: str | None) -> gr.FeatureGroup:
    source = gr.PushSource("events", event_time="at", created_time="made", schema=SCHEMA)
    entity = gr.Entity("part", join_keys=["name", "part"])
    return gr.FeatureGroup("parts", entities=entity, source=source, ttl=ttl, defaults={"flag": False})


def answers(store: gr.FeatureStore, now: dt.datetime, engine: str) -> tuple[list[Any], list[Any]]:
    asked = [{"name": name, "part": part} for name, part in [*KEYS, ("nobody", 0)]]
    spine = pl.DataFrame([{**row, "event_time": now} for row in asked])
    offline = store.get_historical_features(["parts"], spine, engine=engine).to_polars()
    online = store.get_online_features(["parts"], asked, now=now).to_dicts()
    return [tuple(row[f] for f in FEATURES) for row in online], offline.select(FEATURES).rows()


@pytest.mark.parametrize("online", ["memory", "lmdb"])
@settings(max_examples=12, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(steps=steps, ttl=st.sampled_from([None, "2h"]))
def test_served_equals_trained_after_every_step(
    tmp_path_factory: pytest.TempPathFactory, online: str, steps: list[Any], ttl: str | None
) -> None:
    folder: Path = tmp_path_factory.mktemp("parity")
    pushed = 0
    with gr.FeatureStore(folder, online=online) as store:
        store.apply([group(ttl)])
        for number, step in enumerate(steps):
            if step == "materialize":
                if not pushed:
                    continue
                store.materialize("parts")
            else:
                store.push("parts", pl.DataFrame(step, schema=frame_schema()))
                pushed += len(step)
            if not pushed:
                continue
            for hours in (6, 7, 9):
                now = at(1) + dt.timedelta(hours=hours)
                served, trained = answers(store, now, ["polars", "duckdb", "reference"][number % 3])
                assert served == trained


def frame_schema() -> dict[str, Any]:
    utc = pl.Datetime("us", "UTC")
    return {
        "name": pl.String,
        "part": pl.Int64,
        "at": utc,
        "made": utc,
        "number": pl.Int32,
        "text": pl.String,
        "flag": pl.Boolean,
        "items": pl.List(pl.Float64),
    }
