"""Feast's calls, in its shapes: requests and answers as its own feature server gives them, recorded from one."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from tests.http.conftest import Client

import grange as gr
from grange.http.app import create_app, project_of
from grange.http.context import Projects

UTC = dt.UTC
RECORDED = Path(__file__).parent / "recorded" / "feast_0_67.json"


def day(number: int) -> dt.datetime:
    return dt.datetime(2026, 1, number, tzinfo=UTC)


STATS = pl.DataFrame(
    {
        "driver_id": [1001, 1002, 1003],
        "event_timestamp": [day(1), day(2), dt.datetime(2015, 11, 3, tzinfo=UTC)],
        "created": [day(4)] * 3,
        "conv_rate": [0.5, None, 0.75],
        "acc_rate": [0.25, 0.5, 1.0],
        "avg_daily_trips": [7, 2**60 + 1, 9],
        "name": ["a", None, "c"],
        "seen": [dt.datetime(2026, 1, 1, 10, 0, 0, 500_000, tzinfo=UTC)] * 3,
        "tags": [["x", "y"], [], ["z"]],
        "ok": [True, False, None],
    },
    schema_overrides={"conv_rate": pl.Float32, "acc_rate": pl.Float32},
)

driver = gr.Entity("driver", join_keys=["driver_id"])
source = gr.FileSource("data/driver_stats.parquet", event_time="event_timestamp", created_time="created")


def definitions() -> list[Any]:
    plus = gr.Transformation(
        "transformed_conv_rate",
        sql={
            "conv_rate_plus_val1": "CAST(conv_rate AS DOUBLE) + val_to_add",
            "conv_rate_plus_val2": "CAST(conv_rate AS DOUBLE) + val_to_add_2",
        },
        requests={"val_to_add": "int64", "val_to_add_2": "int64"},
    )
    stats = gr.FeatureGroup("driver_hourly_stats", entities=driver, source=source, on_demand=[plus], ttl="3650d")
    stream = gr.PushSource(
        "driver_stats_push_source", event_time="event_timestamp", created_time="created", batch_source=source
    )
    fresh = gr.FeatureGroup("driver_hourly_stats_fresh", entities=driver, source=stream)
    activity = gr.FeatureView(
        "driver_activity",
        features=["driver_hourly_stats:conv_rate", "driver_hourly_stats:conv_rate_plus_val1",
                  "driver_hourly_stats:conv_rate_plus_val2"],
    )  # fmt: skip
    return [stats, fresh, activity]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[gr.FeatureStore]:
    (tmp_path / "data").mkdir()
    STATS.write_parquet(tmp_path / "data" / "driver_stats.parquet")
    (tmp_path / "grange.toml").write_text('project = "driver_rides"\n')
    with gr.FeatureStore(tmp_path) as opened:
        opened.apply(definitions())
        opened.materialize(["driver_hourly_stats", "driver_hourly_stats_fresh"])
        yield opened


@pytest.fixture
def client(store: gr.FeatureStore) -> Iterator[Client]:
    project = project_of(store)
    app = create_app(Projects(store.config, {project.name: project}, project.name))
    with contextlib.closing(Client(app)) as asking:
        yield asking


def column(answer: Any, name: str) -> dict[str, list[Any]]:
    """One feature's values, statuses and times."""
    body = answer.json()
    found: dict[str, list[Any]] = body["results"][body["metadata"]["feature_names"].index(name)]
    return found


def read(client: Client, **body: Any) -> Any:
    answer = client.post("/get-online-features", json=body)
    assert answer.status_code == 200, answer.text
    return answer


EXCHANGES = json.loads(RECORDED.read_text())


@pytest.mark.parametrize("recorded", EXCHANGES, ids=[each["what"] for each in EXCHANGES])
def test_an_exchange_with_feasts_server_is_the_same_here(client: Client, recorded: dict[str, Any]) -> None:
    """Columns may come in another order: Feast's own is that of a set."""
    answer = client.post(recorded["path"], json=recorded["request"])
    assert answer.status_code == recorded["status"], answer.text
    if "results" not in recorded["answer"]:
        said, expected = json.loads(answer.json()), recorded["answer"]
        assert (said["module"], said["class"]) == (expected["module"], expected["class"])
        return
    body, expected = answer.json(), recorded["answer"]
    assert sorted(body["metadata"]["feature_names"]) == sorted(expected["metadata"]["feature_names"])
    for name in expected["metadata"]["feature_names"]:
        there = expected["results"][expected["metadata"]["feature_names"].index(name)]
        here = column(answer, name)
        assert here["values"] == there["values"], name
        assert here["event_timestamps"] == there["event_timestamps"], name
        assert here["statuses"] == [
            # Feast has PRESENT for a stored null, and for what a transformation makes of nothing
            "NULL_VALUE" if value is None and status == "PRESENT" else status
            for value, status in zip(there["values"], there["statuses"], strict=True)
        ], name


def test_statuses_say_what_feasts_protocol_has_names_for(client: Client) -> None:
    answer = read(
        client, features=["driver_hourly_stats:conv_rate"], entities={"driver_id": [1001, 1002, 1003, 9, None]}
    )
    found = column(answer, "conv_rate")
    assert found["statuses"] == ["PRESENT", "NULL_VALUE", "OUTSIDE_MAX_AGE", "NOT_FOUND", "NOT_FOUND"]
    assert found["values"] == [0.5, None, None, None, None]
    assert found["event_timestamps"][2] == "2015-11-03T00:00:00Z"


def test_no_rows_and_duplicate_rows_are_answered(client: Client) -> None:
    answer = read(client, features=["driver_hourly_stats:conv_rate"], entities={"driver_id": []})
    assert column(answer, "conv_rate") == {"values": [], "statuses": [], "event_timestamps": []}
    answer = read(client, features=["driver_hourly_stats:avg_daily_trips"], entities={"driver_id": [1002, 1001, 1002]})
    assert column(answer, "avg_daily_trips")["values"] == [2**60 + 1, 7, 2**60 + 1]


def test_an_entity_may_be_named_and_its_key_be_text(client: Client) -> None:
    answer = read(client, features=["driver_hourly_stats:name"], entities={"driver": ["1001"]})
    assert column(answer, "name")["values"] == ["a"]
    assert column(answer, "driver_id")["values"] == [1001]


@pytest.mark.parametrize(
    ("body", "status", "kind"),
    [
        ({"features": ["a:x"], "feature_service": None}, 404, "FeatureViewNotFoundException"),
        ({"features": ["driver_hourly_stats:x"]}, 404, "FeastObjectNotFoundException"),
        ({"feature_service": "a"}, 404, "FeatureServiceNotFoundException"),
        ({"features": []}, 422, "FeastError"),
        ({"features": ["conv_rate"]}, 422, "FeastError"),
        ({"features": ["driver_hourly_stats:name"], "entities": {"x": [1]}}, 422,
         "RequestDataNotFoundInEntityRowsException"),
        ({"features": ["driver_hourly_stats:name"], "entities": {"driver_id": [1], "x": []}}, 422, "FeastError"),
        ({"features": ["driver_hourly_stats:conv_rate", "driver_hourly_stats_fresh:conv_rate"]}, 422,
         "FeatureNameCollisionError"),
    ],
)  # fmt: skip
def test_errors_are_such_as_feasts_client_raises(client: Client, body: dict[str, Any], status: int, kind: str) -> None:
    answer = client.post("/get-online-features", json={"entities": {"driver_id": [1001]}} | body)
    assert answer.status_code == status, answer.text
    detail = json.loads(answer.json())  # a JSON text that holds JSON
    assert (detail["module"], detail["class"]) == ("feast.errors", kind)


def test_a_body_of_another_shape_is_told(client: Client) -> None:
    assert client.post("/get-online-features", content=b"{").status_code == 422
    assert client.post("/get-online-features", json={"entities": {"driver_id": 1}}).status_code == 422
    answer = client.post("/push", json={"push_source_name": 5})
    assert answer.status_code == 422
    assert {tuple(each["loc"]) for each in answer.json()["detail"]} >= {("body", "df")}


def test_rows_are_pushed_to_a_push_source(client: Client, store: gr.FeatureStore) -> None:
    row = {
        "driver_id": [1001], "event_timestamp": ["2026-01-10 10:00:00"], "created": ["2026-01-10 10:00:00"],
        "conv_rate": [1.0], "acc_rate": [1.0], "avg_daily_trips": [1000], "name": ["q"], "seen": [1767261600],
        "tags": [["a"]], "ok": [True],
    }  # fmt: skip
    answer = client.post("/push", json={"push_source_name": "driver_stats_push_source", "df": row, "to": "online"})
    assert (answer.status_code, answer.content) == (200, b"")
    found = read(client, features=["driver_hourly_stats_fresh:avg_daily_trips"], entities={"driver_id": [1001]})
    assert column(found, "avg_daily_trips") == {
        "values": [1000], "statuses": ["PRESENT"], "event_timestamps": ["2026-01-10T10:00:00Z"],
    }  # fmt: skip
    history = store.read("driver_hourly_stats_fresh").polars
    assert history.filter(pl.col("name") == "q")["seen"].to_list() == [dt.datetime(2026, 1, 1, 10, tzinfo=UTC)]
    unknown = client.post("/push", json={"push_source_name": "nope", "df": row})
    assert unknown.status_code == 422
    assert json.loads(unknown.json())["class"] == "PushSourceNotFoundException"


def test_a_push_that_is_sent_twice_with_a_key_is_stored_once(client: Client, store: gr.FeatureStore) -> None:
    row = {column: values[:1] for column, values in STATS.to_dict(as_series=False).items()}
    row |= {"event_timestamp": ["2026-01-11T00:00:00"], "created": ["2026-01-11T00:00:00"], "seen": [1767261600]}
    body = {"push_source_name": "driver_stats_push_source", "df": row}
    for _ in range(2):
        assert client.post("/push", json=body, headers={"Idempotency-Key": "k1"}).status_code == 200
    pushed = store.read("driver_hourly_stats_fresh").polars.filter(pl.col("event_timestamp") == day(11))
    assert pushed.height == 1
    other = client.post("/push", json=body | {"to": "offline"}, headers={"Idempotency-Key": "k1"})
    assert other.status_code == 409
    assert json.loads(other.json())["class"] == "FeastError"


def test_who_may_not_is_told_in_feasts_words(store: gr.FeatureStore) -> None:
    now = dt.datetime.now(UTC)
    viewer = store.security.keys.create("reader", role="viewer", now=now).text
    project = project_of(store)
    app = create_app(Projects(store.config, {project.name: project}, project.name))
    asked = {"features": ["driver_hourly_stats:name"], "entities": {"driver_id": [1001]}}
    with contextlib.closing(Client(app)) as client:
        assert client.post("/get-online-features", json=asked).status_code == 401
        assert client.get("/health").status_code == 200
        key = {"Authorization": f"Bearer {viewer}"}
        assert client.post("/get-online-features", json=asked, headers=key).status_code == 200
        body = {"push_source_name": "driver_stats_push_source", "df": {"driver_id": [1]}}
        refused = client.post("/push", json=body, headers=key)
        assert refused.status_code == 403
        assert json.loads(refused.json())["class"] == "FeastPermissionError"


def test_rows_are_written_as_feasts_remote_store_writes_them(client: Client) -> None:
    row = {
        "driver_id": [1009], "event_timestamp": ["2026-01-10T10:00:00"], "created": [None], "conv_rate": [1.0],
        "acc_rate": [1.0], "avg_daily_trips": [1000], "name": ["q"], "seen": [1767261600], "tags": [["a"]],
        "ok": [True],
    }  # fmt: skip
    body = {"feature_view_name": "driver_hourly_stats", "df": row, "allow_registry_cache": False}
    answer = client.post("/write-to-online-store", json=body)
    assert (answer.status_code, answer.json()) == (200, None)
    found = read(
        client, features=["driver_hourly_stats:seen", "driver_hourly_stats:tags"], entities={"driver_id": [1009]}
    )
    assert column(found, "seen")["values"] == [1767261600]
    assert column(found, "tags")["values"] == [["a"]]
    unknown = client.post("/write-to-online-store", json=body | {"feature_view_name": "nope"})
    assert unknown.status_code == 404


def test_ranges_are_materialized_both_ends_included(client: Client, store: gr.FeatureStore) -> None:
    more = STATS.with_columns(pl.col("event_timestamp") + pl.duration(days=5), conv_rate=pl.lit(0.9, pl.Float32))
    more.write_parquet(store.project / "data" / "driver_stats.parquet")
    body = {
        "start_ts": "2026-01-06T00:00:00",
        "end_ts": "2026-01-06T00:00:00",
        "feature_views": ["driver_hourly_stats"],
    }
    answer = client.post("/materialize", json=body)
    assert (answer.status_code, answer.json()) == (200, None)
    features = ["driver_hourly_stats:conv_rate"]
    found = column(read(client, features=features, entities={"driver_id": [1001, 1002]}), "conv_rate")
    assert found["values"] == [pytest.approx(0.9), None]
    answer = client.post("/materialize-incremental", json={"end_ts": "2026-01-07T00:00:00"})
    assert (answer.status_code, answer.json()) == (200, None)
    found = column(read(client, features=features, entities={"driver_id": [1001, 1002]}), "conv_rate")
    assert found["values"] == [pytest.approx(0.9), pytest.approx(0.9)]
    assert client.post("/materialize", json={}).status_code == 422
    assert client.post("/materialize", json=body | {"feature_views": ["nope"]}).status_code == 404


def test_materializing_in_the_background_is_accepted(client: Client) -> None:
    body = {"start_ts": "2026-01-01T00:00:00", "end_ts": "2026-01-06T00:00:00"}
    answer = client.post("/materialize?async=true", json=body)
    assert answer.status_code == 202
    assert answer.json() == {
        "status": "accepted", "feature_views": ["driver_hourly_stats", "driver_hourly_stats_fresh"],
    }  # fmt: skip


def test_the_probe_answers_whoever_asks(client: Client) -> None:
    assert client.get("/health").status_code == 200
