"""Feature Store 2.0's calls: each request of its document as it is printed there, in order, with rows and values."""

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
SETS = "/api/v1/feature-sets"
FEATURES = "/api/v1/features"

CREATE_SET = """
{
    "name": "user_profile",
    "description": "User demographic and behavioral features",
    "owner": "data-team",
    "entities": ["user"],
    "source_type": "batch",
    "offline_enabled": true,
    "online_enabled": true,
    "materialization_schedule": "0 */6 * * *"
}
"""
USER_AGE = """
{
    "name": "user_age",
    "feature_set_id": "feature-set-uuid",
    "description": "User age in years",
    "data_type": "int",
    "transformation": "EXTRACT(YEAR FROM AGE(current_date, date_of_birth))",
    "validation_rules": {
        "min_value": 0,
        "max_value": 150
    }
}
"""
MATERIALIZE = """
{
    "start_date": "2024-01-01T00:00:00",
    "end_date": "2024-01-31T23:59:59"
}
"""
ONLINE = """
{
    "feature_sets": ["user_profile", "user_activity"],
    "entities": {
        "user": ["user_123", "user_456"]
    },
    "features": ["user_age", "purchase_count", "last_login"]
}
"""
ONLINE_ANSWER = """
{
    "features": {
        "user_123": {
            "user_age": 28,
            "purchase_count": 156,
            "last_login": "2024-01-15T14:30:00"
        },
        "user_456": {
            "user_age": 35,
            "purchase_count": 89,
            "last_login": "2024-01-14T09:15:00"
        }
    },
    "metadata": {
        "latency_ms": 3.2,
        "cache_hit": true
    }
}
"""
HISTORICAL = """
{
    "feature_sets": ["user_profile"],
    "entity_df": {
        "columns": ["user_id", "event_timestamp"],
        "data": [
            ["user_123", "2024-01-01T10:00:00"],
            ["user_456", "2024-01-01T11:00:00"]
        ]
    },
    "features": ["user_age", "purchase_count"]
}
"""
ACCOUNT_BALANCE = """
{
    "name": "account_balance",
    "data_type": "float",
    "default_value": 0.0
}
"""
USER_SEGMENT = """
{
    "name": "user_segment",
    "data_type": "string",
    "allowed_values": ["premium", "standard", "basic"]
}
"""
PURCHASES = """
{
    "name": "purchases_last_30d",
    "data_type": "int",
    "transformation": "COUNT(*) OVER (PARTITION BY user_id ORDER BY timestamp RANGE BETWEEN INTERVAL '30 days' PRECEDING AND CURRENT ROW)",
    "window_size": "30d"
}
"""  # noqa: E501 - as it is printed
FREQUENCY = """
{
    "name": "purchase_frequency",
    "data_type": "float",
    "transformation": "purchases_last_30d / NULLIF(days_since_signup, 0)",
    "source_features": ["purchases_last_30d", "days_since_signup"]
}
"""


def at(month: int, day: int, hour: int = 0, minute: int = 0, *, year: int = 2024) -> dt.datetime:
    return dt.datetime(year, month, day, hour, minute, tzinfo=UTC)


PROFILES = pl.DataFrame(
    {
        "user_id": ["user_123", "user_456", "user_123", "user_456"],
        "updated_at": [at(12, 1, year=2023), at(12, 1, year=2023), at(1, 15), at(1, 15)],
        "date_of_birth": [dt.date(1995, 6, 1), dt.date(1988, 6, 1), dt.date(1995, 6, 1), dt.date(1988, 6, 1)],
        "purchase_count": [150, 80, 156, 89],
        "account_balance": [10.0, None, 12.5, None],
        "user_segment": ["basic", "standard", "premium", None],
    }
)
ACTIVITY = pl.DataFrame(
    {
        "user_id": ["user_123", "user_123", "user_123", "user_456"],
        "timestamp": [at(12, 16, 14, 30, year=2023), at(1, 2), at(1, 15, 14, 30), at(1, 14, 9, 15)],
        "last_login": [at(12, 16, year=2023), at(1, 2), at(1, 15, 14, 30), at(1, 14, 9, 15)],
        "signed_up": [dt.date(2023, 10, 7)] * 3 + [dt.date(2024, 1, 14)],
        "amount": [5, 7, 9, 11],
    }
)
PROFILE_SOURCE = {"path": "data/profiles.parquet", "event_time": "updated_at"}
ACTIVITY_SOURCE = {"path": "data/activity.parquet", "event_time": "timestamp"}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[gr.FeatureStore]:
    (tmp_path / "data").mkdir()
    PROFILES.write_parquet(tmp_path / "data" / "profiles.parquet")
    ACTIVITY.write_parquet(tmp_path / "data" / "activity.parquet")
    (tmp_path / "grange.toml").write_text('project = "shop"\n')
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


def defined(client: Client, feature_set: str, *features: dict[str, Any]) -> None:
    for feature in features:
        ask(client, "POST", FEATURES, {**feature, "feature_set_id": feature_set}, status=201)


@pytest.fixture
def profile(client: Client) -> str:
    """The set of the document, with its features; returns its id."""
    made = ask(client, "POST", SETS, json.loads(CREATE_SET), status=201)
    ask(client, "PATCH", f"{SETS}/{made['id']}", {"source": PROFILE_SOURCE})
    feature = json.loads(USER_AGE) | {"feature_set_id": made["id"]}
    ask(client, "POST", FEATURES, feature, status=201)
    defined(
        client,
        made["id"],
        {"name": "purchase_count", "data_type": "int"},
        json.loads(ACCOUNT_BALANCE),
        json.loads(USER_SEGMENT),
    )
    return str(made["id"])


@pytest.fixture
def activity(client: Client) -> str:
    """A set with windows and a composite feature."""
    body = {"name": "user_activity", "entities": ["user"], "source": ACTIVITY_SOURCE}
    made = ask(client, "POST", SETS, body, status=201)
    defined(
        client,
        "user_activity",
        {"name": "last_login", "data_type": "timestamp"},
        json.loads(PURCHASES),
        json.loads(FREQUENCY),
        {
            "name": "days_since_signup",
            "data_type": "int",
            "transformation": "date_diff('day', signed_up, current_date)",
        },
    )
    return str(made["id"])


def materialized(client: Client, id: str, body: Any = None) -> Any:
    done = ask(client, "POST", f"{SETS}/{id}/materialize?wait=30", body)
    assert done["status"] == "succeeded", done
    return done


def test_a_set_is_begun_as_printed_and_waits_for_its_source(client: Client) -> None:
    made = ask(client, "POST", SETS, json.loads(CREATE_SET), status=201)
    assert made["status"] == "draft"
    assert made["missing"] == ["source", "features"]
    assert made["materialization_schedule"] == "0 */6 * * *"
    listed = ask(client, "GET", SETS)
    assert [(item["name"], item["id"]) for item in listed["items"]] == [("user_profile", made["id"])]
    assert ask(client, "GET", f"{SETS}/{made['id']}") == ask(client, "GET", f"{SETS}/user_profile")
    refused = ask(client, "POST", SETS, json.loads(CREATE_SET), status=409)
    assert "there already" in refused["error"]["message"]


def test_a_set_becomes_a_feature_group_when_it_has_what_one_needs(client: Client, profile: str) -> None:
    whole = ask(client, "GET", f"{SETS}/{profile}")
    assert whole["status"] == "active"
    assert whole["missing"] == []
    assert [(feature["name"], feature["type"]) for feature in whole["features"]] == [
        ("user_age", "basic"), ("purchase_count", "basic"), ("account_balance", "basic"), ("user_segment", "basic"),
    ]  # fmt: skip


def test_a_month_is_materialized_whole_to_its_last_second(client: Client, profile: str) -> None:
    done = materialized(client, profile, json.loads(MATERIALIZE))
    assert done["result"]["materialized"][0]["rows"] == 2  # those of December lie before
    materialized(client, profile)
    assert ask(client, "GET", f"{SETS}/user_profile")["version"] is not None


def test_the_online_call_answers_as_printed(client: Client, profile: str, activity: str) -> None:
    materialized(client, profile)
    materialized(client, activity)
    answer = ask(client, "POST", "/api/v1/serving/online", json.loads(ONLINE))
    printed = json.loads(ONLINE_ANSWER)
    for features in printed["features"].values():
        features["last_login"] += "Z"  # times say that they are UTC (TIME-1)
    assert answer["features"] == printed["features"]
    assert answer["metadata"].keys() >= printed["metadata"].keys()
    assert isinstance(answer["metadata"]["latency_ms"], float)


def test_the_historical_call_answers_with_what_was_true_then(client: Client, profile: str) -> None:
    materialized(client, profile)
    answer = ask(client, "POST", "/api/v1/serving/historical", json.loads(HISTORICAL))
    assert answer["columns"] == ["user_id", "event_timestamp", "user_age", "purchase_count"]
    assert [row[:1] + row[2:] for row in answer["data"]] == [["user_123", 28, 150], ["user_456", 35, 80]]
    assert [row[1][:19] for row in answer["data"]] == ["2024-01-01T10:00:00", "2024-01-01T11:00:00"]


@pytest.mark.parametrize(
    "path",
    [
        "/monitoring/metrics",
        "/monitoring/statistics?days=7",
        "/monitoring/data-freshness",
        "/monitoring/usage?start_date=2024-01-01",
    ],
)
def test_monitoring_answers_as_printed(client: Client, profile: str, path: str) -> None:
    materialized(client, profile)
    answer = client.get(path)
    assert answer.status_code == 200, answer.text
    assert answer.json()


def test_a_source_outside_the_project_is_refused(client: Client) -> None:
    for path in ("/etc/passwd", "../elsewhere.parquet", "s3://bucket/rows.parquet", "grange.toml"):
        body = {"name": "x", "entities": ["user"], "source": {"path": path}}
        answer = client.post(SETS, json=body)
        assert answer.status_code in (403, 422), (path, answer.text)
    assert ask(client, "GET", SETS)["items"] == []


def test_features_added_at_once_are_all_there(client: Client, activity: str) -> None:
    names = [f"amount_{number}d" for number in range(1, 9)]
    bodies = [
        {"name": name, "data_type": "int", "transformation": "SUM(amount)", "window_size": name[7:],
         "feature_set_id": activity}
        for name in names
    ]  # fmt: skip
    answers = client.all_at_once(*[("POST", FEATURES, {"json": body}) for body in bodies])
    assert [answer.status_code for answer in answers] == [201] * len(names), [answer.text for answer in answers]
    listed = [feature["name"] for feature in ask(client, "GET", f"{SETS}/{activity}")["features"]]
    assert set(names) <= set(listed)
    materialized(client, activity)
    body = {"feature_sets": ["user_activity"], "entities": {"user": ["user_456"]}, "features": names}
    answer = ask(client, "POST", "/api/v1/serving/online", body | {"now": "2024-01-15T00:00:00Z"})
    assert answer["features"]["user_456"] == dict.fromkeys(names, 11)


def test_windows_and_composites_have_their_values(client: Client, activity: str) -> None:
    materialized(client, activity)
    body = {
        "feature_sets": ["user_activity"],
        "entities": {"user": ["user_123", "user_456", "nobody"]},
        "features": ["purchases_last_30d", "days_since_signup", "purchase_frequency"],
        "now": "2024-01-15T14:30:00Z",
    }
    answer = ask(client, "POST", "/api/v1/serving/online", body)["features"]
    # the first of December 16 is 30 days old to the minute: RANGE takes both ends
    assert answer["user_123"] == {"purchases_last_30d": 3, "days_since_signup": 100, "purchase_frequency": 0.03}
    assert answer["user_456"] == {"purchases_last_30d": 1, "days_since_signup": 0, "purchase_frequency": None}
    assert answer["nobody"] == {"purchases_last_30d": 0, "days_since_signup": None, "purchase_frequency": None}
    later = ask(client, "POST", "/api/v1/serving/online", body | {"now": "2024-01-15T14:30:01Z"})["features"]
    assert later["user_123"]["purchases_last_30d"] == 2


def test_defaults_and_rules_are_kept(client: Client, profile: str, tmp_path: Path) -> None:
    materialized(client, profile)
    body = {"feature_sets": ["user_profile"], "entities": {"user": ["user_456"]}, "features": ["account_balance"]}
    answer = ask(client, "POST", "/api/v1/serving/online", body)
    assert answer["features"] == {"user_456": {"account_balance": 0.0}}
    PROFILES.with_columns(user_segment=pl.lit("gold")).write_parquet(tmp_path / "data" / "profiles.parquet")
    failed = ask(client, "POST", f"{SETS}/{profile}/materialize?wait=30")
    assert failed["status"] == "failed"
    assert "one_of" in failed["error"]["message"] or "user_segment" in failed["error"]["message"]


@pytest.mark.parametrize("printed", [ACCOUNT_BALANCE, USER_SEGMENT, PURCHASES, FREQUENCY])
def test_features_printed_without_a_set_wait_for_one(client: Client, activity: str, printed: str) -> None:
    feature = json.loads(printed) | {"name": json.loads(printed)["name"] + "_2"}
    made = ask(client, "POST", FEATURES, feature, status=201)
    assert made["status"] == "draft"
    assert made["missing"] == ["feature_set_id"]
    ask(client, "POST", SETS, {"name": "later", "entities": ["user"]}, status=201)
    moved = ask(client, "PATCH", f"{FEATURES}/{made['id']}", {"feature_set_id": "later"})
    assert moved["feature_set"] == "later"
    assert moved["reference"] == f"later:{feature['name']}"
    found = ask(client, "GET", f"{SETS}/later")
    assert [each["name"] for each in found["features"]] == [feature["name"]]


def test_a_feature_that_cannot_be_is_refused_and_leaves_no_trace(client: Client, activity: str) -> None:
    before = ask(client, "GET", f"{SETS}/{activity}")
    wrong = {
        "no such column": {"name": "x", "data_type": "int", "transformation": "nothing_such + 1"},
        "no SQL": {"name": "x", "data_type": "int", "transformation": "COUNT(* OVER"},
        "another order": {
            "name": "x", "data_type": "int",
            "transformation": "COUNT(*) OVER (PARTITION BY user_id ORDER BY last_login)",
        },
        "a calendar month": {
            "name": "x", "data_type": "int",
            "transformation": "COUNT(*) OVER (PARTITION BY user_id ORDER BY timestamp RANGE BETWEEN INTERVAL '1 month'"
            " PRECEDING AND CURRENT ROW)",
        },
        "two sizes": {**json.loads(PURCHASES), "name": "x", "window_size": "7d"},
        "a rule that is none": {"name": "amount", "data_type": "int", "validation_rules": {"minimum": 0}},
        "another source feature": {**json.loads(FREQUENCY), "name": "x", "source_features": ["purchases_last_30d"]},
        "a query": {"name": "x", "data_type": "int", "transformation": "(SELECT 1)"},
        "a type that is none": {"name": "x", "data_type": "nothing"},
        "the name of a key": {"name": "user_id", "data_type": "string"},
    }  # fmt: skip
    for why, feature in wrong.items():
        answer = client.post(FEATURES, json={**feature, "feature_set_id": activity})
        assert answer.status_code == 422, (why, answer.text)
        assert answer.json()["error"]["code"].startswith("GRANGE-"), why
    assert ask(client, "GET", f"{SETS}/{activity}") == before


def test_an_id_that_was_text_in_an_answer_may_be_sent_as_text(client: Client, tmp_path: Path) -> None:
    rows = pl.DataFrame({"shop_id": [1, 2], "at": [at(1, 1), at(1, 2)], "seats": [10, 20]})
    rows.write_parquet(tmp_path / "data" / "shops.parquet")
    source = {"path": "data/shops.parquet", "event_time": "at"}
    ask(client, "POST", SETS, {"name": "shops", "entities": ["shop"], "source": source}, status=201)
    defined(client, "shops", {"name": "seats", "data_type": "int"})
    materialized(client, "shops")
    for ids in ([1, 2], ["1", "2"]):
        body = {"feature_sets": ["shops"], "entities": {"shop": ids}}
        answer = ask(client, "POST", "/api/v1/serving/online", body)
        assert answer["features"] == {"1": {"seats": 10}, "2": {"seats": 20}}


def test_what_a_request_misnames_is_told(client: Client, profile: str, activity: str) -> None:
    asked = {"feature_sets": ["user_profile"], "entities": {"user": ["u"]}, "features": ["user_aeg"]}
    wrong = ask(client, "POST", "/api/v1/serving/online", asked, status=404)
    assert "user_age" in wrong["error"]["details"]["closest"]
    wrong = ask(client, "POST", "/api/v1/serving/online", asked | {"features": [], "feature_sets": ["x"]}, status=404)
    assert wrong["error"]["code"] == "GRANGE-202"
    wrong = ask(client, "POST", "/api/v1/serving/online", asked | {"entities": {"usr": ["u"]}}, status=404)
    assert wrong["error"]["code"] in ("GRANGE-201", "GRANGE-204")


def test_a_set_of_others_is_looked_at_and_not_changed(client: Client, store: gr.FeatureStore) -> None:
    source = gr.FileSource("data/activity.parquet", event_time="timestamp")
    store.apply(gr.FeatureGroup("native", entities=gr.Entity("user", ["user_id"]), source=source))
    found = ask(client, "GET", f"{SETS}/native")
    assert found["status"] == "active"
    assert {feature["name"] for feature in found["features"]} == {"last_login", "signed_up", "amount"}
    refused = ask(client, "POST", FEATURES, {"name": "x", "data_type": "int", "feature_set_id": "native"}, status=409)
    assert "not made as a feature set" in refused["error"]["message"]


def test_features_are_taken_out_and_sets_deleted(client: Client, profile: str) -> None:
    ask(client, "DELETE", f"{FEATURES}/user_profile:user_segment")
    left = ask(client, "GET", f"{SETS}/{profile}")["features"]
    assert [feature["name"] for feature in left] == ["user_age", "purchase_count", "account_balance"]
    assert ask(client, "DELETE", f"{SETS}/{profile}")["removed"]
    assert ask(client, "GET", SETS)["items"] == []
    ask(client, "GET", f"{SETS}/{profile}", status=404)


def test_a_stream_is_pushed_to(client: Client) -> None:
    body = {
        "name": "clicks", "entities": ["user"], "source_type": "stream",
        "source": {"event_time": "at", "schema": {"user_id": "string", "at": "datetime", "page": "string"}},
    }  # fmt: skip
    ask(client, "POST", SETS, body, status=201)
    defined(client, "clicks", {"name": "clicks_1h", "data_type": "int", "transformation": "COUNT(*)",
                               "window_size": "1h"})  # fmt: skip
    assert ask(client, "GET", f"{SETS}/clicks")["status"] == "active"
