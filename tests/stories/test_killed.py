"""A process that is killed at any step of a verb loses nothing (VER-3): the store opens, versions read as they were
written, `verify --repair` clears what is left behind, both sides give one answer again after the next build."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from tests.shop import SPEND, at, spend_group, user
from tests.stories.killing import SCENARIOS

import grange as gr
from grange.errors import UnknownFeatureGroupError

ROOT = Path(__file__).parents[2]
KEYS = [{"user_id": "u1"}, {"user_id": "u2"}, {"user_id": "nobody"}]
BUILDS = {"1.0.0": SPEND.head(2), "1.0.1": SPEND.head(3), "next": SPEND}
"""What the source held when each version was built; `next` is what it holds now."""


def totals_group() -> gr.FeatureGroup:
    source = gr.FileSource("data/spend.parquet", event_time="at", created_time="loaded")
    total = gr.Rolling({"amount": ["sum", "count"]}, windows=["7d"])
    return gr.FeatureGroup("totals", entities=user, source=source, aggregations=[total])


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two groups, each with versions 1.0.0 and 1.0.1, and a source that has more rows by now."""
    project = tmp_path_factory.mktemp("template")
    (project / "data").mkdir()
    (project / "grange.toml").write_text('project = "shop"\n')
    with gr.FeatureStore(project) as store:
        for number, rows in enumerate(BUILDS.values()):
            rows.write_parquet(project / "data" / "spend.parquet")
            if not number:
                store.apply([spend_group(), totals_group()])
            if number < 2:
                store.materialize()
        assert [meta.version for meta in store.versions("totals")] == ["1.0.0", "1.0.1"]
    return project


def killed(scenario: str, template: Path, copies: Path) -> Iterator[Path]:
    """The projects that are left, one per step of a scenario."""
    command = [sys.executable, "-m", "tests.stories.killing", scenario, str(template), str(copies)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    steps = int((copies / "steps").read_text())
    assert steps > 10, "the verb is watched"
    yield from (copies / str(step) for step in range(steps))


def amounts(store: gr.FeatureStore, group: str, version: str | None = None) -> list[Any]:
    """What was stored, of groups with aggregations the events, by time and amount."""
    rows = store.read(group, version=version, events=bool(store.catalog.group(group).aggregations)).polars
    return rows.sort("at", "amount")["amount"].to_list()


def expected(rows: pl.DataFrame) -> list[Any]:
    return rows.sort("at", "amount")["amount"].to_list()


def served(store: gr.FeatureStore, group: str) -> tuple[list[Any], list[Any]]:
    """The same question, to the online store and to history."""
    features = list(store.catalog.group(group).features().names)
    online = store.get_online_features([group], KEYS, now=at(12)).to_dicts()
    spine = [{**key, "event_time": at(12)} for key in KEYS]
    history = store.get_historical_features([group], spine).to_arrow().to_pylist()
    return [[row[name] for name in features] for row in online], [[row[name] for name in features] for row in history]


def check_whole(store: gr.FeatureStore, group: str, versions: dict[str, list[Any]]) -> None:
    """Every version that can be seen is one that was written, with its rows and in one piece."""
    for meta in store.versions(group):
        assert amounts(store, group, meta.version) == versions[meta.version]
        if meta.aggregates:
            assert len(store.read(group, version=meta.version)) == meta.feature_rows
    latest = store.version(group).version
    assert amounts(store, group) == versions[latest]
    cleared = store.verify(repair=True)
    behind = [finding for finding in cleared if finding.problem.startswith("online has ")]
    assert all(finding.removed or finding in behind for finding in cleared)
    assert list(store.verify()) == behind, "what a load was cut off from is said until it is loaded"
    assert store.version(group).version == latest


@pytest.mark.parametrize("scenario", [name for name in SCENARIOS if not name.endswith("group")])
def test_a_killed_process_loses_nothing(scenario: str, template: Path, tmp_path: Path) -> None:
    verb, group = scenario.split()[0], {"rows": "spend", "windows": "totals"}[scenario.split()[2]]
    versions = {"1.0.0": expected(BUILDS["1.0.0"]), "1.0.1": expected(BUILDS["1.0.1"])}
    number = "1.0.1" if verb == "delete" else "1.0.2"
    seen = set()
    for project in killed(scenario, template, tmp_path):
        with gr.FeatureStore(project) as store:
            there = tuple(meta.version for meta in store.versions(group))
            latest = store.version(group).version
            seen.add((latest, there))
            check_whole(store, group, versions | {"1.0.2": expected(BUILDS["next"])})
            assert "1.0.0" in there
            done = store.materialize(group)[0]
            assert done.version in (number, "1.0.2")
            assert done.version == store.version(group).version
            assert amounts(store, group) == expected(BUILDS["next"])
            online, history = served(store, group)
            assert online == history
            assert store.verify() == ()
    both, three = ("1.0.0", "1.0.1"), ("1.0.0", "1.0.1", "1.0.2")
    assert (
        seen
        == {
            "build": {("1.0.1", both), ("1.0.1", three), ("1.0.2", three)},
            "rollback": {("1.0.1", both), ("1.0.0", both)},
            "delete": {("1.0.1", both), ("1.0.0", both), ("1.0.0", ("1.0.0",))},
        }[verb]
    )


def test_a_rollback_that_was_killed_is_finished_by_the_same_call(template: Path, tmp_path: Path) -> None:
    """Wherever it stopped: afterwards history and the online store give one answer, that of the older version."""
    for project in killed("rollback of rows", template, tmp_path):
        with gr.FeatureStore(project) as store:
            recorded = store.inspect("spend")["runs"][0]["verb"] == "rollback"
            if not recorded:
                assert store.rollback("spend", "1.0.0").online_rows == 1
            assert amounts(store, "spend") == expected(BUILDS["1.0.0"])
            online, history = served(store, "spend")
            assert online == history
            assert online[0] == [20.0, 2]


def test_a_killed_delete_of_a_group_leaves_it_or_nothing_that_is_read(template: Path, tmp_path: Path) -> None:
    """The definition goes first: what is left of rows belongs to nobody, and a new group of the name can be built."""
    gone = 0
    for project in killed("delete of a group", template, tmp_path):
        with gr.FeatureStore(project) as store:
            try:
                store.catalog.group("spend")
            except UnknownFeatureGroupError:
                gone += 1
            else:
                assert amounts(store, "spend") == expected(BUILDS["1.0.1"])
            assert amounts(store, "totals") == expected(BUILDS["1.0.1"])
            assert all(finding.removed for finding in store.verify(repair=True))
            assert store.verify() == ()
            store.apply([spend_group()])
            store.materialize("spend")
            assert amounts(store, "spend") == expected(BUILDS["next"])
            online, history = served(store, "spend")
            assert online == history
    assert gone
