"""A server over a Redis that hangs, dies and comes back: every request is answered, in time and rightly, or refused."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.http.conftest import Served, load, make_project
from tests.servers import valkey

import grange as gr
from grange.http.batching import THREADS

URL = "/api/v1/serving/online"
STRICT = {"features": ["spend"], "rows": [{"user_id": "u1"}], "now": "2026-03-20T00:00:00Z"}
CAREFUL = {**STRICT, "features": "careful", "statuses": True}
EXPECTED = [{"user_id": "u1", "amount": None, "visits": 3}]
TIMEOUT_S = 0.5

pytestmark = pytest.mark.skipif(valkey.missing() is not None, reason=valkey.missing() or "")


@pytest.fixture
def redis() -> Iterator[valkey.Server]:
    with valkey.server() as server:
        yield server


@pytest.fixture
def served(tmp_path: Path, redis: valkey.Server) -> Iterator[Served]:
    """A server whose online store is that Redis; the breaker opens after three outages, for a second."""
    folder = make_project(tmp_path / "shop", "shop")
    with (folder / "grange.toml").open("a") as settings:
        settings.write(f'[online]\ntype = "redis"\nurl = "{redis.url}"\ntimeout = 5.0\n')
        settings.write('[serving]\nstore_timeout = "500ms"\nbreaker_failures = 3\nbreaker_pause = "1s"\n')
    with gr.FeatureStore(folder) as store:
        load(store)
    server = Served(folder)
    yield server
    server.stop()


class Load:
    """Clients that ask again and again; what they are answered, and how long that took."""

    def __init__(self, server: Served, body: dict[str, Any], count: int = 8) -> None:
        self.seen: Counter[str] = Counter()
        self.longest = 0.0
        self._server, self._body = server, body
        self._going = True
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._ask) for _ in range(count)]
        for thread in self._threads:
            thread.start()

    def _ask(self) -> None:
        with httpx.Client(base_url=self._server.url, timeout=30) as client:
            while self._going:
                started = time.monotonic()
                answer = client.post(URL, json=self._body)
                took = time.monotonic() - started
                with self._lock:
                    self.longest = max(self.longest, took)
                    self.seen[self._kind(answer)] += 1

    def _kind(self, answer: httpx.Response) -> str:
        if answer.status_code == 200:
            body = answer.json()
            if body["metadata"]["degraded"]:
                return "degraded"
            return "right" if body["features"] == EXPECTED else "wrong"
        return f"refused {answer.status_code}" if answer.status_code in (429, 503) else f"other {answer.status_code}"

    def stop(self) -> Counter[str]:
        """End it; what was seen."""
        self._going = False
        for thread in self._threads:
            thread.join(60)
        return self.seen


def test_a_redis_that_hangs_holds_nobody_up(served: Served, redis: valkey.Server) -> None:
    """What has a policy for it is answered with defaults, the rest is refused, within the timeout; after the first
    outages at once. When it goes on, so do the answers."""
    assert served.ask(URL, STRICT).json()["features"] == EXPECTED
    redis.pause()
    strict, careful = Load(served, STRICT, 4), Load(served, CAREFUL, 4)
    time.sleep(4)
    redis.resume()
    while_it_hung = (strict.seen.copy(), careful.seen.copy())
    time.sleep(3)
    after_it_went_on = Load(served, STRICT, 2)
    time.sleep(1)
    seen = [strict.stop(), careful.stop(), after_it_went_on.stop()]
    print(f"strict {dict(seen[0])}, with a policy {dict(seen[1])}, afterwards {dict(seen[2])}")
    assert set(while_it_hung[0]) == {"refused 503"}
    assert set(while_it_hung[1]) == {"degraded"}
    # with the breaker open requests do not wait: far more were refused than could have waited half a second each
    assert while_it_hung[0]["refused 503"] > 4 * 4 / TIMEOUT_S * 2
    assert seen[0]["wrong"] == seen[1]["wrong"] == 0
    assert max(strict.longest, careful.longest) < TIMEOUT_S + 3
    assert set(seen[2]) == {"right"}


SLOW = """
import time

@gr.transformation(outputs="int64")
def slowly(visits: int) -> int:
    time.sleep(1.0)
    return visits

slow = gr.FeatureView("slow", features=["spend:visits"], on_demand=[slowly.on("visits")])
"""


def test_a_view_whose_own_functions_are_slow_is_no_outage(tmp_path: Path, redis: valkey.Server) -> None:
    """It is answered, though that takes longer than the store may; and all others are answered meanwhile."""
    folder = make_project(tmp_path / "shop", "shop")
    with (folder / "shop_features.py").open("a") as definitions:
        definitions.write(SLOW)
    with (folder / "grange.toml").open("a") as settings:
        settings.write(f'[online]\ntype = "redis"\nurl = "{redis.url}"\n')
        settings.write('[serving]\nstore_timeout = "500ms"\nbreaker_failures = 3\nbreaker_pause = "60s"\n')
    with gr.FeatureStore(folder) as store:
        load(store)
    server = Served(folder)
    try:
        asked = [{**STRICT, "features": "slow", "now": f"2026-03-20T00:00:{second:02d}Z"} for second in range(12)]
        slow = [Load(server, body, 1) for body in asked]
        others = Load(server, STRICT, 2)
        time.sleep(3)
        seen = others.stop()
        answered = sum((each.stop() for each in slow), Counter[str]())
        metrics = server.ask("/metrics").text
    finally:
        server.stop()
    print(f"slow {dict(answered)}, others {dict(seen)}, the longest {others.longest:.2f} s")
    assert set(seen) == {"right"}
    assert set(answered) == {"wrong"}, "answered, with another vector than the other views'"
    assert 'grange_online_store_outages_total{project="shop"} 0.0' in metrics
    assert 'grange_breaker_open{project="shop"} 0.0' in metrics


def test_degraded_answers_say_so(served: Served, redis: valkey.Server) -> None:
    assert served.ask(URL, CAREFUL).json()["metadata"]["degraded"] is False
    redis.pause()
    body = served.ask(URL, CAREFUL).json()
    redis.resume()
    assert body["metadata"]["degraded"] is True
    assert body["features"] == [{"user_id": "u1", "amount": None, "visits": None}]
    assert body["statuses"] == [{"amount": "NOT_FOUND", "visits": "NOT_FOUND"}]


def test_a_redis_that_is_killed_and_started_again_under_load(served: Served, redis: valkey.Server) -> None:
    """It keeps nothing on disk, so what it had is gone: an outage of what was loaded, never an answer that there is
    nobody. It opens no breaker, and ends when the groups are loaded or pushed to, without a restart."""
    strict, with_policy = Load(served, STRICT, 4), Load(served, CAREFUL, 4)
    time.sleep(1)
    redis.kill()
    time.sleep(1.5)
    redis.start()
    time.sleep(2.5)
    refused, metrics = served.ask(URL, STRICT), served.ask("/metrics").text
    probe = served.ask("/health/ready")
    seen = [strict.stop(), with_policy.stop()]
    print(f"strict {dict(seen[0])}, with a policy {dict(seen[1])}")
    assert set(seen[0]) == {"right", "refused 503"}
    assert set(seen[1]) == {"right", "degraded"}
    assert max(strict.longest, with_policy.longest) < TIMEOUT_S + 3
    error = refused.json()["error"]
    assert (refused.status_code, error["code"]) == (503, "GRANGE-602")
    assert error["details"]["try"] == "grange materialize spend"
    assert int(refused.headers["retry-after"]) >= 1
    assert 'grange_breaker_open{project="shop"} 0.0' in metrics
    assert 'grange_online_store_lost_total{group="spend",project="shop"}' in metrics
    assert (probe.status_code, probe.json()["status"]) == (200, "degraded")
    online = probe.json()["projects"]["shop"]["parts"]["online"]
    assert online["status"] == "degraded"
    assert "spend" in online["reason"] and "grange materialize" in online["reason"]
    again = [{"user_id": "u1", "at": "2026-03-12T00:00:00Z", "page": "back", "n": 4}]
    with gr.FeatureStore(served.log.parent) as store:
        store.push("click_events", again)
        answer = served.ask(URL, {**STRICT, "features": ["clicks"]})
        assert answer.json()["features"] == [{"user_id": "u1", "page": "back", "n": 4}]
        assert served.ask(URL, STRICT).status_code == 503
        store.materialize(["spend", "shops"])
    assert served.ask(URL, STRICT).json()["features"] == EXPECTED
    assert served.ask(URL, CAREFUL).json()["metadata"]["degraded"] is False
    wait_until(lambda: served.ask("/health/ready").json()["status"] == "ready", "nothing is lost any more")


def test_a_server_that_starts_over_an_empty_redis(served: Served, redis: valkey.Server) -> None:
    """It never met what was lost, and says what the other one says; both have it again once it is loaded."""
    assert served.ask(URL, STRICT).json()["features"] == EXPECTED
    redis.client.flushall()
    other = Served(served.log.parent)
    try:
        for server in (served, other):
            answer = server.ask(URL, STRICT)
            assert (answer.status_code, answer.json()["error"]["code"]) == (503, "GRANGE-602")
            assert server.ask(URL, CAREFUL).json()["metadata"]["degraded"] is True
        assert 'grange_online_store_lost_total{group="spend",project="shop"}' in other.ask("/metrics").text
        with gr.FeatureStore(served.log.parent) as store:
            store.materialize(["spend", "shops"])
        for server in (served, other):
            wait_until(lambda server=server: server.ask(URL, STRICT).status_code == 200, "it is read")  # type: ignore[misc]
            assert server.ask(URL, STRICT).json()["features"] == EXPECTED

            def is_whole(server: Served = server) -> bool:
                return server.ask(URL, CAREFUL).json()["metadata"]["degraded"] is False

            wait_until(is_whole, "each request is looked at anew by itself")
    finally:
        other.stop()


def test_the_probe_says_which_part_is_away(served: Served, redis: valkey.Server) -> None:
    assert served.ask("/health/ready").status_code == 200
    redis.pause()
    time.sleep(1.2)
    answer = served.ask("/health/ready")
    redis.resume()
    assert answer.status_code == 503
    parts = answer.json()["projects"]["shop"]["parts"]
    assert parts["online"]["status"] == "not ready"
    assert parts["online"]["reason"]
    assert parts["registry"] == parts["offline"] == {"status": "ready"}
    assert served.ask("/health/live").status_code == 200
    deadline = time.monotonic() + 15
    while served.ask("/health/ready").status_code != 200 and time.monotonic() < deadline:
        time.sleep(0.2)
    assert served.ask("/health/ready").status_code == 200


def test_metrics_have_the_outages(served: Served, redis: valkey.Server) -> None:
    served.ask(URL, STRICT)
    redis.pause()
    for _ in range(4):
        served.ask(URL, STRICT)
    text = served.ask("/metrics").text
    redis.resume()
    assert 'grange_breaker_open{project="shop"} 1.0' in text
    assert 'grange_online_store_seconds_count{call="read",project="shop"}' in text
    assert 'grange_requests_refused_total{reason="StoreUnavailableError"} 4.0' in text


def test_requests_that_wait_go_into_one_read(tmp_path: Path, redis: valkey.Server) -> None:
    """Forty that ask of a store that hangs cost the reads that are under way at once, and one for all others."""
    count = 40
    folder = make_project(tmp_path / "shop", "shop")
    with (folder / "grange.toml").open("a") as settings:
        settings.write(f'[online]\ntype = "redis"\nurl = "{redis.url}"\ntimeout = 120.0\n')
        settings.write('[serving]\nstore_timeout = "120s"\n[server]\nrequest_timeout = "120s"\n')
    with gr.FeatureStore(folder) as store:
        load(store)
    server = Served(folder)
    try:
        assert server.ask(URL, STRICT).json()["features"] == EXPECTED
        before = commands(redis)
        redis.pause()
        with httpx.Client(base_url=server.url, timeout=120) as client, ThreadPoolExecutor(count) as clients:
            asked = [clients.submit(client.post, URL, json=STRICT) for _ in range(count)]
            try:
                wait_until(lambda: in_flight(server) > count, "all have asked")
            finally:
                redis.resume()
            answers = [each.result().json()["features"] for each in asked]
    finally:
        server.stop()
    assert answers == [EXPECTED] * count
    assert commands(redis) - before <= THREADS + 3  # the one more read, and what counts the commands itself


def in_flight(server: Served) -> int:
    """Requests being answered, this one among them."""
    name = "grange_requests_in_flight "
    lines = server.ask("/metrics").text.splitlines()
    return next(round(float(line.removeprefix(name))) for line in lines if line.startswith(name))


def wait_until(is_so: Callable[[], bool], what: str) -> None:
    give_up = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < give_up, f"not so: {what}"
        time.sleep(0.05)


def commands(redis: valkey.Server) -> int:
    return int(redis.client.info("stats")["total_commands_processed"])
