"""Features as they were, over HTTP: rows in four forms, answers in three, and large requests as jobs."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from typing import Any
from urllib.parse import quote

import msgspec
import pyarrow as pa
import pytest
from tests.http.conftest import Client
from tests.shop import at

import grange as gr
from grange.http.app import create_app, project_of
from grange.http.context import Projects

URL = "/api/v1/serving/historical"
SPINE = [
    {"user_id": "u1", "event_time": "2026-03-06T00:00:00Z"},
    {"user_id": "u2", "event_time": "2026-03-10T00:00:00Z"},
    {"user_id": "u1", "event_time": "2026-02-01T00:00:00Z"},
]
ARROW = "application/vnd.apache.arrow.stream"


def spine_table() -> pa.Table:
    return pa.table({"user_id": ["u1", "u2", "u1"], "event_time": [at(6), at(10), at(6).replace(month=2, day=1)]})


def arrow(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def test_rows_in_json(client: Client, store: gr.FeatureStore) -> None:
    answer = client.post(URL, json={"features": ["spend"], "rows": SPINE})
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert body["columns"] == ["user_id", "event_time", "amount", "visits"]
    assert [row["visits"] for row in body["rows"]] == [2, None, None]
    assert [row["amount"] for row in body["rows"]] == [20.0, 9.0, None]
    about = body["metadata"]
    assert about["event_time"] == "event_time"
    assert about["feature_names"] == ["amount", "visits"]
    assert about["versions"] == {"spend": "1.0.0"}
    assert about["rows_left_out"] == 0


def test_it_is_what_the_library_says(client: Client, store: gr.FeatureStore) -> None:
    """Options too: arrow in and out keeps types."""
    options = {"features": ["spend", "clicks:n"], "full_feature_names": True, "as_known": True}
    headers = {"content-type": ARROW, "x-grange-options": quote(json.dumps(options))}
    answer = client.post(URL, content=arrow(spine_table()), headers=headers)
    assert answer.headers["content-type"] == ARROW
    table = pa.ipc.open_stream(answer.content).read_all()
    expected = store.get_historical_features(
        options["features"], spine_table(), full_feature_names=True, as_known=True
    ).to_arrow()
    assert table.replace_schema_metadata(None).equals(expected.replace_schema_metadata(None))
    about = msgspec.json.decode(table.schema.metadata[b"grange"])
    assert about["feature_names"] == ["spend__amount", "spend__visits", "clicks__n"]
    assert about["explain"]


def test_messagepack_in_and_out(client: Client) -> None:
    body = msgspec.msgpack.encode({"features": ["spend"], "rows": SPINE})
    answer = client.post(URL, content=body, headers={"content-type": "application/msgpack"})
    assert [row["visits"] for row in msgspec.msgpack.decode(answer.content)["rows"]] == [2, None, None]


def test_without_rows_every_row_of_the_first_group(client: Client) -> None:
    """PIT-8."""
    body = {"features": ["spend"], "start": "2026-03-05T00:00:00Z", "end": "2026-03-09T00:00:00Z"}
    answer = client.post(URL, json=body)
    assert [(row["user_id"], row["amount"]) for row in answer.json()["rows"]] == [("u1", 20.0), ("u2", 7.5)]


def test_a_large_answer_comes_in_batches(client: Client) -> None:
    """And the whole of it, in order."""
    count = 150_000
    table = pa.table({"user_id": ["u1"] * count, "event_time": [at(6)] * count, "n": range(count)})
    options = quote(json.dumps({"features": ["spend:visits"]}))
    answer = client.post(
        f"{URL}?job=false", content=arrow(table), headers={"content-type": ARROW, "x-grange-options": options}
    )
    reader = pa.ipc.open_stream(answer.content)
    batches = list(reader)
    assert len(batches) == 3
    assert pa.Table.from_batches(batches).column("n").to_pylist() == list(range(count))


class TestJobs:
    @pytest.fixture
    def small(self, store: gr.FeatureStore) -> Any:
        """A client of a server to which three rows are many."""
        config = replace(store.config, server=replace(store.config.server, historical_rows=2))
        project = project_of(store)
        client = Client(create_app(Projects(config, {project.name: project}, project.name)))
        yield client
        client.close()

    def finished(self, client: Client, answer: Any) -> dict[str, Any]:
        assert answer.status_code == 202, answer.text
        job: dict[str, Any] = client.get(answer.headers["location"] + "?wait=30").json()
        assert job["status"] == "succeeded", job
        return job

    def test_many_rows_run_as_a_job(self, small: Client) -> None:
        job = self.finished(small, small.post(URL, json={"features": ["spend"], "rows": SPINE}))
        assert job["kind"] == "historical"
        assert job["result"]["rows"] == 3
        rows = small.get(job["rows_url"]).json()["rows"]
        assert [row["visits"] for row in rows] == [2, None, None]

    def test_its_rows_say_what_they_are(self, small: Client) -> None:
        job = self.finished(small, small.post(URL, json={"features": ["spend"], "rows": SPINE}))
        table = pa.ipc.open_stream(small.get(job["rows_url"], headers={"accept": ARROW}).content).read_all()
        assert b"grange" in table.schema.metadata

    def test_few_rows_do_not(self, small: Client) -> None:
        assert small.post(URL, json={"features": ["spend"], "rows": SPINE[:2]}).status_code == 200

    def test_one_can_be_asked_for(self, client: Client) -> None:
        self.finished(client, client.post(f"{URL}?job=true", json={"features": ["spend"], "rows": SPINE}))

    def test_what_is_wrong_is_said_at_once(self, small: Client) -> None:
        """Not by a job that fails."""
        answer = small.post(URL, json={"features": ["spend:nothing"], "rows": SPINE})
        assert answer.status_code == 404


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ({"rows": SPINE}, 422, "features"),
        ({"features": ["spend"], "rows": SPINE, "evnt_time": "x"}, 422, "evnt_time"),
        ({"features": ["spend"], "rows": [{"event_time": "2026-03-06"}]}, 422, "user_id"),
        ({"features": ["spend"], "rows": [1, 2]}, 422, "objects"),
        ({"features": ["spend"], "rows": "SELECT 1"}, 422, "rows"),
        ({"features": ["spend"], "rows": SPINE, "engine": "abacus"}, 404, "abacus"),
        ({"features": "nothing", "rows": SPINE}, 404, "nothing"),
    ],
)
def test_what_is_wrong_is_said(client: Client, body: Any, status: int, said: str) -> None:
    answer = client.post(URL, json=body)
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert said in f"{error['message']} {error['details']}"


def test_a_spine_is_never_a_path_or_a_query_of_the_servers(client: Client) -> None:
    for spine in ("/etc/passwd", "SELECT * FROM spend"):
        answer = client.post(URL, json={"features": ["spend"], "rows": spine})
        assert answer.status_code == 422
        assert "root:" not in answer.text
