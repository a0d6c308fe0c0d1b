"""Beside Feast itself: the same history, and its SDK as the client of Grange's server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.compat.feast.conftest import Feast
from tests.compat.feast.rows import at, repository
from tests.compat.feast.test_import import imported, materialized
from tests.http.conftest import Served

ROWS = [
    {"driver_id": driver, "event_timestamp": at(day, hour).isoformat(), "val_to_add": 1, "val_to_add_2": 10}
    for driver in (1001, 1002, 1003, 9)
    for day, hour in ((1, 0), (1, 23), (2, 12), (3, 0), (20, 0))
]


SERVICES = ("driver_activity_v1", "driver_activity_v2", "driver_activity_v3")


def test_history_is_the_same_as_feasts(tmp_path: Path, feast: Feast) -> None:
    repo = repository("drivers", tmp_path / "theirs")
    theirs = feast("historical.py", str(repo), json.dumps({"rows": ROWS, "services": SERVICES}))
    _, project = imported("drivers", tmp_path)
    with materialized(project) as store:
        for service in SERVICES:
            found = store.get_historical_features(service, ROWS)
            check_equal(found, theirs[service])


def check_equal(found: Any, theirs: dict[str, dict[str, Any]]) -> None:
    """Compare cell by cell; of the views that functions take from Feast gives all features, asked for or not."""
    names = [name for name in found.feature_names if name != "seen"]  # a time, which pandas' JSON has as a number
    assert len(names) >= 3 and set(names) <= set(theirs)
    here = found.to_polars()
    for name in names:
        values = [pytest.approx(value) if isinstance(value, float) else value for value in theirs[name].values()]
        assert here[name].to_list() == values, name


def test_feasts_sdk_reads_and_writes_through_the_server(tmp_path: Path, feast: Feast) -> None:
    _, project = imported("drivers", tmp_path / "ours")
    materialized(project).close()
    served = Served(project)
    try:
        found = feast("client.py", str(repository("drivers", tmp_path / "theirs")), served.url)
    finally:
        served.stop()
    assert found["features"] == {
        "driver_id": [1001, 9, 1002, 1001],
        "conv_rate": [0.5, None, None, 0.5],
        "avg_daily_trips": [7, None, 11, 7],
        "name": ["b", None, None, "b"],
        "ok": [True, None, False, True],
        "seen": found["features"]["seen"],
    }
    assert found["lists"] == {"driver_id": [1001, 9], "tags": [["x", "y"], None]}
    assert found["full"] == {"driver_id": [1001], "driver_hourly_stats__conv_rate": [0.5]}
    assert found["service"] == {
        "driver_id": [1001], "conv_rate": [0.5], "conv_rate_plus_val1": [1.5], "conv_rate_plus_val2": [10.5],
    }  # fmt: skip
    assert found["on demand"] == {"driver_id": [1001], "conv_rate_plus_val1": [1.5]}
    assert found["read"] == [{"avg_daily_trips": 7, "conv_rate": 0.5}, {"avg_daily_trips": None, "conv_rate": None}]
    assert found["pushed"]["avg_daily_trips"] == [1000, 2000, 11]
    assert found["written"]["avg_daily_trips"] == [1000, 2000]
    assert found["written"]["seen"][0] in (1768903200, "2026-01-20 10:00:00", "2026-01-20 10:00:00+00:00")
    assert found["error"][0] == "FeatureViewNotFoundException"
