"""What clients are told names no place of the server: errors, jobs, their logs, probes. The server's log does."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.http.callers import Caller, error_of, make_keys

import grange as gr
from grange.http import places
from grange.http.places import relative, serve_from, told

SPINE = [{"user_id": "u1", "shop_id": 1, "event_time": "2026-03-11T00:00:00Z"}]
ASKED = {"features": "shopping", "rows": SPINE}


@pytest.fixture
def callers(store: gr.FeatureStore, client: Any) -> dict[str, Caller]:
    return {role: Caller(client, key) for role, key in make_keys(store).items()}


# -- texts


@pytest.fixture
def root(store: gr.FeatureStore) -> Iterator[str]:
    serve_from(store.config)
    yield str(store.project)


def test_places_of_a_project_are_told_as_they_lie_in_it(root: str) -> None:
    assert relative(f"{root}/data/spend.csv: no such file") == "data/spend.csv: no such file"
    assert relative(f"cannot read '{root}/data/a b.csv'") == "cannot read 'data/a b.csv'"
    assert relative(f"no grange.toml in {root}") == "no grange.toml in ."
    assert relative(f"sqlite:///{root}/.grange/registry.db") == "sqlite:///.grange/registry.db"
    assert root not in relative(f"{root}-other/x") and root not in relative(f"{root}/a, {root}/b and ({root})")


def test_other_places_of_the_server_are_told_by_their_last_name() -> None:
    home = f"{sorted(Path('/').iterdir())[0]}/somebody"
    assert relative(f"{home}/lib/a.py, line 3") == "…/a.py, line 3"
    assert relative(f"'{home}/My Files/x.csv'") == "'…/x.csv'"
    assert relative(f"[Errno 2]: {home}/x.csv:") == "[Errno 2]: …/x.csv:"
    assert relative(f'"{home}/o\'brien/My Files/x.csv" is gone') == '"…/x.csv" is gone'
    assert relative(f"cc -I{home}/include lmdb://{home}/x 'a\\n{home}/y'") == "cc -I…/include lmdb://…/x 'a\\n…/y'"
    assert relative(f"file://{home}/x.csv and sqlite+pysqlite:///{home}/r.db") == "…/x.csv and …/r.db"


@pytest.mark.parametrize(
    "text",
    ["GET /api/v1/jobs/job-1", "/docs has the routes", "s3://home/tmp/x", "https://a.example/tmp/x", "usr/tmp", "1/2",
     "a / b", "../tmp/x", "~/tmp", "data/tmp/x.csv", "/nowhere-of-this-name/x"],
)  # fmt: skip
def test_what_is_no_place_of_the_server_stays_as_it_is(text: str) -> None:
    assert relative(text) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://cdn.example/data/foo.png", "https://cdn.example/data/foo.png"),
        ("s3://bucket/data/x.parquet and s3://data/x", "s3://bucket/data/x.parquet and s3://data/x"),
        ("https://cdn.example/data", "https://cdn.example/data"),
        ("a/data/b, ../data/b, ~/data, ./data", "a/data/b, ../data/b, ~/data, ./data"),
        ("/usr/data/secret/x.csv", "…/x.csv"),
        ("/data/x.csv:/data/y.csv", "x.csv:y.csv"),
        ("file:///data/x.csv, duckdb:////data/x.db", "file://x.csv, duckdb:///x.db"),
        ("sqlite+pysqlite:////data", "sqlite+pysqlite:///."),
        ("'first\\n/data/x.csv'", "'first\\nx.csv'"),
        ("//data/x.csv", "x.csv"),
        ("duckdb:///data/x.db, cc -I/data/include", "duckdb://x.db, cc -Iinclude"),
        ("\x1b[1m/data/x.csv\x1b[0m", "\x1b[1mx.csv\x1b[0m"),
        ("'/data/*.parquet'", "'*.parquet'"),
    ],
)
def test_a_project_is_no_part_of_longer_paths_and_urls(
    monkeypatch: pytest.MonkeyPatch, text: str, expected: str
) -> None:
    monkeypatch.setattr(places, "_ROOTS", ["/data"])
    assert relative(text) == expected


def test_all_texts_of_a_record_are_told_so(root: str) -> None:
    record = {f"{root}/a": [f"{root}/b", 1, None, {"x": (f"{root}/c", True)}]}
    assert told(record) == {"a": ["b", 1, None, {"x": ["c", True]}]}


@given(st.text(), st.text())
def test_no_text_around_a_place_keeps_it(before: str, after: str) -> None:
    place = f"{Path(__file__).resolve().parents[2]}"
    assert place not in relative(f"{before} '{place}/x' {after}") or place in f"{before} {after}"


# -- requests


def breakages(folder: Path) -> dict[str, Callable[[], None]]:
    """By name, what makes a server say where something lies."""
    offline = folder / ".grange" / "offline"

    def overwritten(*paths: Path) -> Callable[[], None]:
        def act() -> None:
            for path in paths:
                path.write_bytes(b"nothing that anybody could read")

        return act

    def replaced(path: Path) -> Callable[[], None]:
        def act() -> None:
            path.unlink()
            path.mkdir()

        return act

    version = offline / "spend" / "1.0.0"
    aside = offline / "spend" / "_quarantine"
    return {
        "a source that is no Parquet": overwritten(folder / "data" / "spend.parquet"),
        "a source that is a folder": replaced(folder / "data" / "spend.parquet"),
        "no source": (folder / "data" / "spend.parquet").unlink,
        "a text that is no CSV": overwritten(folder / "data" / "shops.csv"),
        "damaged rows": overwritten(version / "data.parquet"),
        "no rows": (version / "data.parquet").unlink,
        "damaged metadata": overwritten(version / ".meta.json"),
        "damaged quarantine": lambda: (aside.mkdir(), overwritten(aside / "20260321T000000.000000Z-0.parquet")()),  # type: ignore[func-returns-value]
        "damaged pushes": overwritten(*(offline / "clicks" / "_pushed").glob("*.parquet")),
        "a definition module that fails": overwritten(folder / "shop_features.py"),
        "history in a file": lambda: (offline.rename(folder / "gone"), offline.write_text(""))[1],  # type: ignore[func-returns-value]
    }


NAMES = list(breakages(Path("x")))
JOBS: list[tuple[str, Any]] = [
    ("feature-groups/spend/materialize?wait=20", {}),
    ("materialize?wait=20", {"groups": ["shops"]}),
    ("training-datasets?wait=20", {"view": "shopping", "rows": SPINE}),
    ("exports?wait=20", {"what": "spend", "destination": "spend.parquet"}),
    ("verify?wait=20", {}),
]


def answers(ask: Caller) -> Iterator[tuple[str, Any]]:
    """What a caller is told, asking everything that could come to an error."""
    for path in (
        "feature-groups", "feature-groups/spend", "feature-groups/spend/state", "feature-groups/spend/versions",
        "feature-groups/spend/rows", "feature-groups/clicks/rows", "feature-groups/spend/statistics", "manifest",
        "feature-groups/spend/quarantine", "feature-groups/spend/diff", "inspect/spend", "lineage?name=spend",
        "impact?name=spend", "usage", "definitions",
        "monitoring/statistics", "monitoring/data-freshness", "exports", "/ai/features/exports", "search?query=spend",
        "/health/ready",
    ):  # fmt: skip
        yield path, ask.get(path)
    yield "online", ask.post("serving/online", ASKED)
    yield "historical", ask.post("serving/historical", ASKED)
    yield "push", ask.post("feature-groups/clicks/rows", {"rows": [{"user_id": "u1", "at": "x", "page": 1, "n": []}]})
    yield "plan", ask.post("definitions:plan", {})
    yield "feast", ask.post("/get-online-features", {"features": ["spend:amount"], "entities": {"user_id": ["u1"]}})
    yield "compare", ask.post("verify/online", {})
    for path, body in JOBS:
        begun = ask.post(path, body)
        yield path, begun
        if begun.status_code in (200, 202):
            job = begun.json()["id"]
            yield f"{path}: job", ask.get(f"jobs/{job}?wait=20")
            yield f"{path}: log", ask.get(f"jobs/{job}/logs")
    yield "jobs", ask.get("jobs")


@pytest.mark.parametrize("broken", NAMES)
def test_nobody_is_told_where_the_server_has_its_files(
    broken: str, folder: Path, callers: dict[str, Caller], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    breakages(folder)[broken]()
    wrong: list[str] = []
    for role in ("viewer", "editor", "operator", "admin"):
        for what, answer in answers(callers[role]):
            shown = answer.text
            wrong += [f"{role}, {what}: {shown[:2000]}" for place in (str(folder), "/usr/", "/tmp/") if place in shown]
    assert not wrong
    told_whole = [record.getMessage() for record in caplog.records if str(folder) in record.getMessage()]
    assert told_whole or broken in QUIET


QUIET = {"a text that is no CSV", "damaged rows"}
"""What is told without naming a place at all."""


def test_a_failed_job_is_told_with_places_in_the_project(folder: Path, callers: dict[str, Caller]) -> None:
    (folder / "data" / "spend.parquet").write_bytes(b"nothing")
    operator = callers["operator"]
    job = operator.post("feature-groups/spend/materialize?wait=20", {}).json()
    text = json.dumps(job["error"])
    assert job["status"] == "failed" and "data/spend.parquet" in text and str(folder) not in text


def test_an_error_is_told_with_places_in_the_project_and_logged_whole(
    folder: Path, callers: dict[str, Caller], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="grange.http")
    (folder / ".grange" / "offline" / "spend" / "1.0.0" / "data.parquet").unlink()
    found = error_of(callers["viewer"].post("serving/historical", ASKED))
    assert ".grange/offline/spend/1.0.0" in json.dumps(found) and str(folder) not in json.dumps(found)
    (record,) = [record for record in caplog.records if str(folder) in record.getMessage()]
    assert record.request["request_id"] == found["request_id"]  # type: ignore[attr-defined]


def test_what_a_job_was_asked_and_what_came_of_it_is_told_as_it_is(callers: dict[str, Caller]) -> None:
    """Values and definitions that look like places of the server are none."""
    asked = {"view": "shopping", "rows": SPINE, "tags": {"page": "/home/deals"}}
    job = callers["admin"].post("training-datasets?wait=20", asked).json()
    assert job["result"]["meta"]["tags"] == {"page": "/home/deals"}
    assert job["request"]["tags"] == {"page": "/home/deals"}
