"""One registry, many servers: what one of them applies the others serve, all of it or nothing; and a registry that goes
away takes no read with it."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.docs.documents import run_page
from tests.servers.postgresql import PostgresqlServer, missing, postgresql_server
from tests.shop import SPEND
from tests.stories.registry_servers import EVERY, Seen, everything, numbered, read_on, total

import grange as gr
from grange.errors import StoreUnavailableError
from grange.ports.journal import every_entry, verify_journal
from grange.testing.registry import NOW

ROOT = Path(__file__).parents[2]
SECONDS = 60.0
"""How long a test waits for what must happen."""


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresqlServer]:
    if (install := missing()) is not None:
        pytest.skip(f"PostgreSQL is not installed: {install}")
    # what was committed must outlive a crash here
    with postgresql_server(synchronous_commit="on") as started:
        yield started


@pytest.fixture(params=["lmdb", "memory"])
def online(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def project(tmp_path: Path, server: PostgresqlServer) -> Path:
    """A project whose registry is a schema of its own on the server."""
    (tmp_path / "data").mkdir()
    SPEND.write_parquet(tmp_path / "data" / "spend.parquet")
    schema = f"shop_{uuid.uuid4().hex}"
    (tmp_path / "grange.toml").write_text(f'project = "shop"\n[registry]\nurl = "{server.url}"\nschema = "{schema}"\n')
    return tmp_path


def until(holds: Callable[[], bool], what: str) -> None:
    """Wait until something holds."""
    give_up = time.monotonic() + SECONDS
    while not holds():
        assert time.monotonic() < give_up, what
        time.sleep(0.005)


def started(role: str, project: Path, last: int) -> subprocess.Popen[str]:
    """A process of `registry_servers` that is ready."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.stories.registry_servers", role, str(project), str(last)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    assert process.stdout is not None
    if process.stdout.readline() != "ready\n":
        raise AssertionError(process.communicate()[1])
    return process


def told(process: subprocess.Popen[str], say: str = "") -> dict[str, Any]:
    """What a process says at its end."""
    out, err = process.communicate(say, timeout=SECONDS)
    assert process.returncode == 0, err
    answer: dict[str, Any] = json.loads(out)
    return answer


def test_servers_serve_what_another_process_applies_all_of_it_or_nothing(project: Path) -> None:
    last = 25
    with gr.FeatureStore(project) as store:
        store.apply(everything())
        store.materialize()
    servers = [started("serve", project, last) for _ in range(2)]
    try:
        applied = told(started("apply", project, last), "go\n")
        answers = [told(server) for server in servers]
    finally:
        for process in servers:
            process.kill()
            process.communicate()

    assert applied["revision"] == 1 + last + last - 1
    for answer in answers:
        assert answer["wrong"] == []
        assert answer["last"] == [last, last]
        assert answer["numbers"] > 2, "it saw changes while it served"
    with gr.FeatureStore(project) as store:
        counted = sum(use.count for use in store.usage("spend") if not use.feature)
    assert counted == sum(answer["requests"] for answer in answers)


def test_a_registry_that_goes_away_takes_no_read_with_it(
    project: Path, server: PostgresqlServer, online: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The server crashes under load, stays away, comes back; and again."""
    caplog.set_level("INFO", logger="grange.definitions")
    done = threading.Event()
    readers = [Seen(), Seen()]
    refused = 0
    with gr.FeatureStore(project, online=online) as store:
        store.apply(everything())
        store.materialize()
        store.keep_fresh(EVERY)
        registry = store._parts.registry
        threads = [threading.Thread(target=read_on, args=(store, seen, done)) for seen in readers]
        for thread in threads:
            thread.start()
        kept = []
        for outage in (1, 2):
            store.apply(numbered(10 * outage))
            kept += registry.append("audit", [{"outage": outage, "n": n} for n in range(5)], now=NOW)
            server.stop(crash=True)
            before = [seen.requests for seen in readers]
            for ask in (
                lambda outage=outage: store.apply(numbered(10 * outage + 1)),
                lambda: store.materialize("spend"),
                lambda: store.delete("left"),
                lambda: registry.append("audit", [{"n": 0}], now=NOW),
            ):
                with pytest.raises(StoreUnavailableError, match="cannot be reached"):
                    ask()
                refused += 1
            until(lambda outage=outage: len(caplog.records) == 2 * outage - 1, "the outage is noticed")
            until(lambda: store.definitions_age > 10 * EVERY, "the definitions get older")
            until(
                lambda before=before: all(s.requests > n + 50 for s, n in zip(readers, before, strict=True)),
                "reads go on",
            )
            server.start()
            until(lambda outage=outage: len(caplog.records) == 2 * outage, "the registry is noticed to be back")
            assert store.definitions_age < 5
            store.apply(numbered(10 * outage + 2))
            kept += registry.append("audit", [{"outage": outage, "n": n} for n in range(5)], now=NOW)
            until(lambda outage=outage: all(s.last == 10 * outage + 2 for s in readers), "what was applied is read")
        done.set()
        for thread in threads:
            thread.join()

        figures = total(readers)
        assert figures["wrong"] == []
        assert figures["requests"] > 400
        assert refused == 8
        assert registry.entries("audit") == tuple(kept), (
            "nothing that was kept is lost, nothing that was refused is there"
        )
        assert verify_journal("audit", every_entry(registry, "audit"), anchor=kept[-1].anchor).is_intact
    told_of = [(entry.levelname, entry.message.split(";")[0].split(",")[0]) for entry in caplog.records]
    assert told_of == [("WARNING", "definitions cannot be refreshed"), ("INFO", "definitions are refreshed again")] * 2
    with gr.FeatureStore(project, online=online) as again:
        counted = sum(
            use.count for use in again.usage("spend") if use.verb == "get_online_features" and not use.feature
        )
    assert counted == figures["requests"]


def test_servers_that_start_while_the_registry_is_away_say_so(project: Path, server: PostgresqlServer) -> None:
    server.stop()
    try:
        with gr.FeatureStore(project) as store, pytest.raises(StoreUnavailableError, match="cannot be reached"):
            store.keep_fresh()
    finally:
        server.start()


def test_runs_of_many_servers_are_one_list(project: Path) -> None:
    """Each materializes a group of its own at the same time; every run is recorded once, none is lost."""
    groups = [f"spend{number}" for number in range(3)]
    user = gr.Entity("user", join_keys=["user_id"])
    source = gr.FileSource("data/spend.parquet", event_time="at")
    with gr.FeatureStore(project) as store:
        store.apply([gr.FeatureGroup(name, entities=user, source=source) for name in groups])
    script = (
        "import sys, grange as gr\nwith gr.FeatureStore(sys.argv[1]) as s: [s.materialize(sys.argv[2]) for _ in '123']"
    )
    running = [subprocess.Popen([sys.executable, "-c", script, str(project), name], cwd=ROOT) for name in groups]
    assert [process.wait(SECONDS) for process in running] == [0, 0, 0]

    with gr.FeatureStore(project) as store:
        runs = store._parts.registry.runs()
        assert sorted(run.group for run in runs) == sorted(groups * 3)
        assert [run.ended_at for run in runs] == sorted((run.ended_at for run in runs), reverse=True)


def test_the_page_about_postgresql_prints_what_it_shows(
    tmp_path: Path, server: PostgresqlServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its url leads to the server of the tests; everything else is as it stands there."""
    monkeypatch.setenv("GRANGE_REGISTRY__URL", server.url)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "features", raising=False)
    assert run_page(ROOT / "docs/how-to/postgresql.md", tmp_path) == 4
    sys.modules.pop("features", None)
