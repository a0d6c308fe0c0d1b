"""`verify online`: what is served is compared with history, value by value."""

from __future__ import annotations

import datetime as dt
import time
from pathlib import Path

import polars as pl
from tests.shop import SPEND, UTC, at, shops_group, spend_group, user

import grange as gr
from grange.ports.online import OnlineBatch, OnlineStore
from grange.serving.guarding import GuardedOnlineStore, guarded


def test_what_was_loaded_and_pushed_is_what_history_says(store: gr.FeatureStore) -> None:
    store.apply([spend_group(), shops_group()])
    store.materialize()
    store.push("spend", [{"user_id": "u3", "at": at(10), "loaded": at(10), "amount": 1.5, "visits": 2}])
    found = {each.group: each for each in store.verify_online()}
    assert {name: (each.keys, each.compared, each.holds) for name, each in found.items()} == {
        "spend": (3, 3, True),
        "shops": (2, 2, True),
    }
    assert found["spend"].values == 6


def test_windows_are_compared_as_of_the_moment(store: gr.FeatureStore) -> None:
    now = dt.datetime.now(UTC)
    events = pl.DataFrame(
        {
            "user_id": ["a", "a", "b"],
            "at": [now - dt.timedelta(hours=hours) for hours in (5, 30, 2)],
            "amount": [0.1, 0.2, 3.0],
        }
    )
    windows = [gr.Rolling({"amount": ["sum", "count"]}, windows=["1d", "7d"])]
    source = gr.TableSource(events, event_time="at", name="events")
    store.apply(gr.FeatureGroup("recent", entities=user, source=source, aggregations=windows))
    store.materialize("recent")
    (found,) = store.verify_online("recent")
    assert (found.keys, found.values, found.different) == (2, 8, 0)


def test_a_value_that_somebody_changed_is_found_and_told(store: gr.FeatureStore) -> None:
    store.apply(spend_group())
    store.materialize("spend")
    group = store.catalog.group("spend")
    online = store._parts.online
    key = b"\x38u1\0"
    ((row,),) = online.read(group.key_space, [key], ["spend"])
    assert row is not None
    changed = OnlineBatch([key], [row[1]], [row[2]], [[99.0, 3]])
    online.write(group.key_space, "spend", online.layout(row[0]), changed)

    (found,) = store.verify_online("spend")
    assert (found.holds, found.different, found.compared) == (False, 1, 2)
    (example,) = found.examples
    assert (example.key, example.feature, example.online, example.history) == ({"user_id": "u1"}, "amount", 99.0, None)
    assert found.to_dict()["examples"][0]["history"] is None


def test_a_sample_is_the_same_every_time(store: gr.FeatureStore) -> None:
    store.apply([spend_group(), shops_group()])
    store.materialize()
    first, second = store.verify_online("shops", sample=1), store.verify_online("shops", sample=1)
    assert first == second
    assert first[0].compared == 1


def test_keys_that_history_lacks_are_counted(store: gr.FeatureStore) -> None:
    store.apply(spend_group())
    store.materialize("spend")
    group, online = store.catalog.group("spend"), store._parts.online
    ((row,),) = online.read(group.key_space, [b"\x38u1\0"], ["spend"])
    assert row is not None
    ghost = OnlineBatch([b"\x38ghost\0"], [row[1]], [row[2]], [[1.0, 3]])
    online.write(group.key_space, "spend", online.layout(row[0]), ghost)
    (found,) = store.verify_online("spend")
    assert (found.different, found.unknown, found.holds) == (0, 1, False)


def test_what_the_store_holds_is_compared_and_not_what_is_remembered_of_it(project: Path) -> None:
    """By a server that remembers rows for a while."""

    def remembering(store: OnlineStore) -> GuardedOnlineStore:
        return guarded(store, cache=3600.0, cache_entries=100, failures=5, pause=5.0, clock=time.monotonic)

    with gr.FeatureStore(project) as elsewhere, gr.FeatureStore(project, wrap_online=remembering) as server:
        elsewhere.apply(spend_group())
        elsewhere.materialize("spend")
        asked = [{"user_id": "u1"}]
        before = server.get_online_features(["spend:visits"], asked, now=at(20)).to_dicts()
        SPEND.with_columns(pl.col("visits") + 100).write_parquet(project / "data" / "spend.parquet")
        elsewhere.materialize("spend")

        (found,) = server.verify_online("spend")
        assert (found.holds, found.compared) == (True, 2)
        assert server.get_online_features(["spend:visits"], asked, now=at(20)).to_dicts() == before
