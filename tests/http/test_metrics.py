"""The numbers of the server, and the log of what it served."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families
from tests.http.conftest import Client

import grange as gr
from grange.http.app import create_app, open_project, project_of
from grange.http.context import Projects
from grange.http.feature_log import FeatureLog
from grange.http.metrics import BUCKETS, Metrics
from grange.http.shell import Request
from grange.security.policies import Policy

URL = "/api/v1/serving/online"
NOW = "2026-03-20T00:00:00Z"
VIEW = {"features": "shopping", "rows": [{"user_id": "u1", "shop_id": 1}, {"user_id": "x", "shop_id": 9}], "now": NOW}


def samples(client: Client) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    text = client.get("/metrics").text
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(found: dict[Any, float], name: str, **labels: str) -> float:
    return found[name, tuple(sorted(labels.items()))]


def test_requests_are_counted_by_route_view_and_status(client: Client) -> None:
    for _ in range(3):
        client.post(URL, json=VIEW)
    client.post(URL, json={**VIEW, "features": "nothing"})
    found = samples(client)
    route = {"method": "POST", "route": URL}
    assert value(found, "grange_request_seconds_count", **route, view="shopping", status="200") == 3
    assert value(found, "grange_request_seconds_count", **route, view="", status="404") == 1
    assert value(found, "grange_requests_refused_total", reason="UnknownFeatureViewError") == 1
    assert value(found, "grange_served_rows_total", view="shopping") == 6


def test_values_are_counted_by_status(client: Client) -> None:
    client.post(URL, json=VIEW)
    found = samples(client)
    assert value(found, "grange_served_values_total", view="shopping", status="PRESENT") == 4
    assert value(found, "grange_served_values_total", view="shopping", status="NULL") == 1
    assert value(found, "grange_served_values_total", view="shopping", status="NOT_FOUND") == 5


def test_labels_are_bounded(client: Client) -> None:
    """Whatever is asked for: paths, methods, views and references make no labels of their own."""
    for place in range(30):
        client.get(f"/nothing/{place}")
        client.get(f"/api/v1/feature-groups/group{place}")
        client.request(f"METHOD{place}", "/nothing")
        client.post(URL, json={"features": f"view{place}", "rows": []})
        client.post(URL, json={"features": ["spend:visits"] * (place + 1), "rows": []})
    counted = {labels for name, labels in samples(client) if name == "grange_request_seconds_count"}
    assert len(counted) <= 8


def test_the_snapshot_says_how_long_requests_took(client: Client) -> None:
    for _ in range(20):
        client.post(URL, json=VIEW)
    found = client._app.metrics.snapshot()
    [latency] = [each for each in found.latencies if each.view == "shopping"]
    assert (latency.count, latency.errors, latency.route) == (20, 0, URL)
    assert latency.p50_ms is not None
    assert latency.p99_ms is not None
    assert 0 < latency.p50_ms <= latency.p99_ms
    assert found.coverage("shopping") == pytest.approx(0.4)
    assert found.coverage("nothing") is None
    assert found.cache_hit_rate is None


@given(st.lists(st.floats(0.0001, 59.0), min_size=1, max_size=200))
def test_quantiles_lie_in_the_bucket_of_the_true_one(times: list[float]) -> None:
    metrics = Metrics()
    for seconds in times:
        metrics.observe(Request("r", "GET", "/x", 0.0, route="/x", status=200), seconds)
    [latency] = metrics.snapshot().latencies
    for share, found in ((0.5, latency.p50_ms), (0.95, latency.p95_ms), (0.99, latency.p99_ms)):
        rank = max(1, -(-len(times) * share // 1))
        true = sorted(times)[int(rank) - 1]
        high = min(end for end in BUCKETS if end >= true)
        low = max((end for end in BUCKETS if end < true), default=0.0)
        assert found is not None
        assert low * 1e3 <= found + 1e-9
        assert found <= high * 1e3 + 1e-9


class TestHealth:
    def test_alive_and_ready(self, client: Client) -> None:
        assert client.get("/health/live").json() == {"status": "alive"}
        answer = client.get("/health/ready")
        assert answer.status_code == 200
        assert answer.json()["projects"]["shop"]["status"] == "ready"

    def test_a_part_that_is_away_is_named(self, client: Client, store: gr.FeatureStore) -> None:
        def away(*_: Any) -> Any:
            raise gr.errors.StoreUnavailableError("the disk is gone")

        store._parts.offline.versions = away  # type: ignore[method-assign]
        answer = client.get("/health/ready")
        assert answer.status_code == 503
        parts = answer.json()["projects"]["shop"]["parts"]
        assert parts["offline"] == {"status": "not ready", "reason": "the disk is gone"}
        assert parts["registry"] == {"status": "ready"}

    def test_what_the_online_store_lost_is_told_and_takes_no_server_away(
        self, client: Client, store: gr.FeatureStore
    ) -> None:
        """No other server has it either: this one answers what it can, and says what is to be loaded."""
        group = store.catalog.group("spend")
        store._parts.online.drop(group.key_space, group.name)
        answer = client.get("/health/ready")
        assert (answer.status_code, answer.json()["status"]) == (200, "degraded")
        project = answer.json()["projects"]["shop"]
        assert project["status"] == project["parts"]["online"]["status"] == "degraded"
        assert project["parts"]["online"]["reason"].endswith("grange materialize spend")
        assert project["parts"]["offline"] == {"status": "ready"}

    def test_probes_cost_nothing(self, client: Client, store: gr.FeatureStore) -> None:
        """However many come, each part is asked once a second."""
        asked = 0
        revision = store._parts.registry.revision

        def counted() -> int:
            nonlocal asked
            asked += 1
            return revision()

        store._parts.registry.revision = counted  # type: ignore[method-assign]
        client.all_at_once(*[("GET", "/health/ready", {})] * 50)
        assert asked <= 4  # the thread that keeps definitions new asks too

    def test_a_server_that_stops_is_not_ready(self, client: Client) -> None:
        client._app.draining = True
        answer = client.get("/health/ready")
        assert answer.status_code == 503
        assert answer.json()["status"] == "stopping"


class TestMemory:
    @pytest.fixture
    def remembering(self, folder: Path) -> Iterator[Client]:
        """A server that may answer from what it read in the last minute."""
        with (folder / "grange.toml").open("a") as settings:
            settings.write('[serving]\ncache = "60s"\n')
        config = gr.FeatureStore(folder).config
        metrics = Metrics()
        project = open_project(config, takes_tokens=False, metrics=metrics)
        client = Client(create_app(Projects(config, {project.name: project}, project.name), metrics=metrics))
        yield client
        client.close()
        project.store.close()

    def test_an_answer_from_memory_says_so(self, remembering: Client) -> None:
        body = {"features": ["spend"], "rows": [{"user_id": "u1"}], "now": NOW}
        hits = [remembering.post(URL, json=body).json()["metadata"]["cache_hit"] for _ in range(3)]
        assert hits == [False, True, True]
        snapshot = remembering._app.metrics.snapshot()
        assert (snapshot.cache_hits, snapshot.cache_misses) == (2, 1)
        assert snapshot.cache_hit_rate == pytest.approx(2 / 3)

    def test_what_is_pushed_here_is_served_at_once(self, remembering: Client) -> None:
        body = {"features": ["clicks:n"], "rows": [{"user_id": "u1"}], "now": NOW}
        assert remembering.post(URL, json=body).json()["features"][0]["n"] == 3
        row = {"user_id": ["u1"], "at": ["2026-03-12T00:00:00Z"], "page": ["x"], "n": [8]}
        pushed = remembering.post("/push", json={"push_source_name": "click_events", "df": row})
        assert pushed.status_code == 200, pushed.text
        assert remembering.post(URL, json=body).json()["features"][0]["n"] == 8


class TestFeatureLog:
    @pytest.fixture
    def logging(self, store: gr.FeatureStore) -> Iterator[Client]:
        """A server that logs all it serves."""
        store.config = replace(store.config, serving=replace(store.config.serving, log_share=1.0))
        project = project_of(store)
        client = Client(create_app(Projects(store.config, {project.name: project}, project.name)))
        yield client
        client.close()

    def test_what_was_served_is_kept(self, logging: Client, store: gr.FeatureStore) -> None:
        answers = [
            logging.post(URL, json=VIEW, headers={"x-request-id": f"request-{place}"}).json()["features"]
            for place in range(3)
        ]
        logging.post(URL, json={**VIEW, "features": ["shops"]})  # no view: not logged
        logging.close()
        rows = store.served("shopping").polars.sort("request_id", "place").to_dicts()
        assert [(row["request_id"], row["place"]) for row in rows] == [
            (f"request-{number}", place) for number in range(3) for place in range(2)
        ]
        assert [json.loads(row["features"]) for row in rows] == [vector for answer in answers for vector in answer]
        first = rows[0]
        assert json.loads(first["statuses"])["country"] == "PRESENT"
        assert json.loads(first["versions"]) == {"spend": "1.0.0", "shops": "1.0.0", "clicks": None}
        assert first["view"] == "shopping"
        assert first["fingerprint"]
        assert first["degraded"] is False
        text = logging._app.metrics.text().decode()
        assert 'grange_logged_vectors_total{outcome="written",project="shop"} 6.0' in text

    def test_it_is_no_feature_group_and_goes_with_its_view(self, logging: Client, store: gr.FeatureStore) -> None:
        logging.post(URL, json=VIEW)
        logging.close()
        assert set(store.catalog.groups) == {"spend", "shops", "clicks"}
        assert not any("served" in name for name in store.manifest())
        assert store.verify() == ()
        view = store.catalog.view("shopping")
        store.delete("shopping")
        store.apply(view)
        assert len(store.served("shopping")) == 0

    def test_a_stretch_of_time(self, logging: Client, store: gr.FeatureStore) -> None:
        logging.post(URL, json=VIEW)
        logging.close()
        assert len(store.served("shopping", start="2020-01-01")) == 2
        assert len(store.served("shopping", end="2020-01-01")) == 0

    def test_what_is_masked_is_not_in_it(self, store: gr.FeatureStore) -> None:
        import datetime as dt

        now = dt.datetime.now(dt.UTC)
        key = store.security.keys.create("app", role="viewer", now=now).text
        store.security.policies.create(Policy("hide", "mask", ("feature:spend:visits",), ("*",)), now=now)
        store.config = replace(store.config, serving=replace(store.config.serving, log_share=1.0))
        project = project_of(store)
        client = Client(create_app(Projects(store.config, {project.name: project}, project.name)))
        body = client.post(URL, json={**VIEW, "statuses": True}, headers={"x-api-key": key}).json()
        client.close()
        assert body["metadata"]["masked"] == ["visits"]
        assert body["features"][0]["visits"] is None
        assert body["statuses"][0]["visits"] == "MASKED"
        kept = store.served("shopping").polars.row(0, named=True)
        assert "visits" not in json.loads(kept["features"])
        assert "visits" not in json.loads(kept["statuses"])

    def test_a_full_queue_drops_and_counts(self, store: gr.FeatureStore) -> None:
        """And never waits."""
        metrics = Metrics()
        log = FeatureLog(store, share=1.0, metrics=metrics, most=2)
        project = project_of(store)
        app = create_app(Projects(store.config, {project.name: project}, project.name))
        app.routes[("POST", URL)]._logs = {"shop": log}  # type: ignore[union-attr, attr-defined]
        client = Client(app)
        for _ in range(3):
            assert client.post(URL, json=VIEW).status_code == 200
        client.close()
        assert log.write() == 2
        text = metrics.text().decode()
        assert 'grange_logged_vectors_total{outcome="dropped",project="shop"} 4.0' in text

    def test_a_share_is_chosen_by_the_requests_id(self, store: gr.FeatureStore) -> None:
        """The same requests everywhere, about so many of them."""
        logs = [FeatureLog(store, share=0.1, metrics=Metrics()) for _ in range(2)]
        ids = [f"{place:08x}" for place in range(20_000)]
        chosen = [[log.is_chosen(each) for each in ids] for log in logs]
        assert chosen[0] == chosen[1]
        assert 0.09 < sum(chosen[0]) / len(ids) < 0.11

    def test_a_log_that_cannot_be_written_is_counted(self, logging: Client, store: gr.FeatureStore) -> None:
        def full(*_: Any, **__: Any) -> Any:
            raise gr.errors.StorageFullError("no space")

        store._parts.offline.append = full  # type: ignore[method-assign]
        assert logging.post(URL, json=VIEW).status_code == 200
        logging.close()
        assert (
            'grange_logged_vectors_total{outcome="failed",project="shop"} 2.0' in logging._app.metrics.text().decode()
        )
