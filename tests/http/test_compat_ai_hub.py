"""The AI Hub's feature routes: predefined sets over readings, served, exported, listed."""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from tests.http.conftest import Client

import grange as gr
from grange.http.app import create_app, project_of
from grange.http.context import Projects

START = dt.datetime(2026, 3, 1, tzinfo=dt.UTC)
HOURS = 24 * 15
READINGS = pl.DataFrame(
    {
        "meter_id": ["m1"] * HOURS + ["m2"] * HOURS,
        "at": [START + dt.timedelta(hours=hour) for hour in range(HOURS)] * 2,
        "load": [float(hour) for hour in range(HOURS)] + [100.0] * HOURS,
    }
)
SOURCE = {"path": "data/readings.parquet", "event_time": "at"}
LAST = START + dt.timedelta(hours=HOURS)
SETS, GET = "/ai/features/sets", "/ai/features/get"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[gr.FeatureStore]:
    (tmp_path / "data").mkdir()
    READINGS.write_parquet(tmp_path / "data" / "readings.parquet")
    (tmp_path / "grange.toml").write_text('project = "energy"\n')
    with gr.FeatureStore(tmp_path) as opened:
        yield opened


@pytest.fixture
def client(store: gr.FeatureStore) -> Iterator[Client]:
    project = project_of(store)
    app = create_app(Projects(store.config, {project.name: project}, project.name))
    with contextlib.closing(Client(app)) as asking:
        yield asking


def ask(client: Client, method: str, path: str, body: Any = None, *, status: int = 200) -> Any:
    answer = client.request(method, path, json=body)
    assert answer.status_code == status, answer.text
    return answer.json()


@pytest.fixture
def made(client: Client, store: gr.FeatureStore) -> list[str]:
    for name in ("forecast_basic", "forecast_advanced", "anomaly_detection"):
        body = {"name": name, "source": SOURCE, "entity": "meter", "value": "load"}
        created = ask(client, "POST", SETS, body, status=201)
        store.materialize(created["feature_groups"])
    return ["forecast_basic", "forecast_advanced", "anomaly_detection"]


def test_the_predefined_sets_are_listed_before_they_are_made(client: Client) -> None:
    listed = ask(client, "GET", SETS)
    assert [(item["name"], item["status"]) for item in listed["feature_sets"]] == [
        ("forecast_basic", "not created"), ("forecast_advanced", "not created"), ("anomaly_detection", "not created"),
    ]  # fmt: skip
    missing = ask(client, "POST", GET, {"feature_set": "forecast_basic", "entity_ids": ["m1"]}, status=404)
    assert "POST /ai/features/sets" in missing["error"]["details"]["try"]


def test_features_are_lags_and_statistics_of_windows(client: Client, made: list[str]) -> None:
    for timestamp, source in ((LAST.isoformat(), "offline"), (None, "online")):
        body = {"feature_set": "forecast_basic", "entity_ids": ["m1", "m2", "nobody"]}
        answer = ask(client, "POST", GET, body | ({"timestamp": timestamp} if timestamp else {}))
        assert answer["metadata"]["source"] == source
        assert answer["metadata"]["count"] == 3
        assert set(answer["features"]) == {"m1", "m2", "nobody"}
    body = {"feature_set": "forecast_basic", "entity_ids": ["m1", "m2"], "timestamp": LAST.isoformat()}
    found = ask(client, "POST", GET, body)["features"]
    first = found["m1"]
    assert [first[f"load__lag__{lag}"] for lag in ("1h", "24h", "168h")] == [HOURS - 1, HOURS - 24, HOURS - 168]
    assert first["load__mean__24h"] == pytest.approx(HOURS - 12.5)
    assert (first["load__min__168h"], first["load__max__168h"]) == (HOURS - 168, HOURS - 1)
    assert (found["m2"]["load__std__24h"], found["m2"]["load__mean__168h"]) == (0.0, 100.0)
    assert "load" not in first  # the label


def test_only_the_named_features_are_given(client: Client, made: list[str]) -> None:
    body = {"feature_set": "anomaly_detection", "entity_ids": ["m2"], "features": ["load__range__24h", "load__last"],
            "timestamp": (LAST - dt.timedelta(hours=1)).isoformat()}  # fmt: skip
    assert ask(client, "POST", GET, body)["features"] == {"m2": {"load__range__24h": 0.0, "load__last": 100.0}}
    wrong = ask(client, "POST", GET, body | {"features": ["load__rang__24h"]}, status=404)
    assert "load__range__24h" in wrong["error"]["details"]["closest"]


def test_a_set_is_found_by_the_name_of_its_view_too(client: Client, made: list[str]) -> None:
    body = {"name": "forecast_basic", "source": SOURCE, "entity": "meter", "view": "north_forecast_basic"}
    ask(client, "POST", SETS, body, status=201)
    listed = {item["name"]: item for item in ask(client, "GET", SETS)["feature_sets"]}
    assert listed["forecast_basic"]["feature_view"] == "forecast_basic"
    assert listed["north_forecast_basic"]["predefined"] is False
    ask(client, "POST", SETS, body, status=409)


def test_a_range_is_exported_to_parquet_and_listed(client: Client, made: list[str], store: gr.FeatureStore) -> None:
    body = {
        "feature_set": "forecast_basic",
        "start_time": "2026-03-10T00:00:00Z",
        "end_time": "2026-03-11T00:00:00Z",
        "destination": "march/forecast.parquet",
    }
    job = ask(client, "POST", "/ai/features/export?wait=30", body)
    assert job["status"] == "succeeded", job
    rows = pl.read_parquet(store.project / "exports" / "march" / "forecast.parquet")
    assert rows.height == 48
    assert {"meter_id", "load__lag__24h", "load__mean__168h"} <= set(rows.columns)
    ask(client, "POST", "/ai/features/export?wait=30", {"feature_set": "anomaly_detection"})
    listed = ask(client, "GET", "/ai/features/exports")["exports"]
    assert [item["feature_set"] for item in listed] == ["anomaly_detection", "forecast_basic"]
    of_one = ask(client, "GET", "/ai/features/exports?feature_set=forecast_basic&status=succeeded")["exports"]
    assert [(item["destination"], item["rows"]) for item in of_one] == [("exports/march/forecast.parquet", 48)]
    assert ask(client, "GET", "/ai/features/exports?status=failed")["exports"] == []


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"feature_set": "forecast_basic"}, 422),
        ({"feature_set": "forecast_basic", "entity_ids": ["m1"], "entities": [{"meter_id": "m1"}]}, 422),
        ({"feature_set": "forecast_basic", "entity_ids": ["m1"], "timestamp": "yesterday"}, 422),
        ({"feature_set": "nothing", "entity_ids": ["m1"]}, 404),
        ({"feature_set": "forecast_basic", "entities": [{"x": "m1"}]}, 422),
    ],
)
def test_what_cannot_be_answered_is_told(client: Client, made: list[str], body: dict[str, Any], status: int) -> None:
    assert "error" in ask(client, "POST", GET, body, status=status)


def test_sets_are_made_over_data_of_the_project_alone(client: Client) -> None:
    body = {"name": "forecast_basic", "source": {"path": "/etc/passwd"}, "entity": "meter"}
    assert client.post(SETS, json=body).status_code in (403, 422)
    assert client.post(SETS, json=body | {"name": "rollups", "source": SOURCE}).status_code == 422
    assert client.post(SETS, json=body | {"name": "nothing", "source": SOURCE}).status_code == 404
