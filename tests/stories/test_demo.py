"""The demo does what it prints: real flights, a leak-free training set, a served vector, and the proof."""

from __future__ import annotations

import datetime as dt
import json
import shlex
import subprocess
import sys
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import grange as gr
from grange.demo.flights import FLIGHT, LAST, NOW, VIEW, Run, run_demo
from grange.demo.project import DATA, write_project
from grange.demo.proof import find_differences, prove
from grange.demo.report import Report
from grange.demo.training import KEYS, TIMETABLE, make_spine, with_leak
from grange.ports.online import OnlineBatch

FLIGHTS = 336_776
ARRIVED = 327_346
LATE = 51_499


@dataclass(frozen=True)
class Demo:
    """One run, and what it printed."""

    folder: Path
    result: dict[str, Any]
    lines: list[str]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    folder = tmp_path_factory.mktemp("demo") / "flights"
    lines: list[str] = []
    return Demo(folder, run_demo(folder, echo=lines.append), lines)


def test_the_whole_year_becomes_a_training_set_with_its_labels(demo: Demo) -> None:
    training = demo.result["last_day"]["training"]
    assert (training["rows"], training["labelled"], training["late"]) == (FLIGHTS, ARRIVED, LATE)
    assert demo.result["rows"] == FLIGHTS
    spine = pl.read_parquet(demo.folder / "data/spine.parquet")
    assert spine.height == FLIGHTS
    assert (spine["scheduled_departure"] - spine["predict_at"]).unique().to_list() == [dt.timedelta(hours=1)]


def test_the_first_training_set_knows_nothing_of_the_last_day(demo: Demo) -> None:
    flights = pl.read_parquet(demo.folder / "data/flights.parquet")
    training = demo.result["training"]
    assert training["rows"] == flights.filter(pl.col("scheduled_departure") - dt.timedelta(hours=1) < NOW).height
    assert training["labelled"] == flights.filter(pl.col("arrived_at") < NOW).height
    assert training["rows"] < FLIGHTS
    assert demo.result["last_day"]["unchanged_rows"] == training["rows"]


def test_history_is_built_and_the_impossible_wind_is_in_quarantine(demo: Demo) -> None:
    history = {item["group"]: item for item in demo.result["history"]}
    assert {name: item["version"] for name, item in history.items()} == dict.fromkeys(history, "1.0.0")
    assert {name: item["quarantined"] for name, item in history.items() if item["quarantined"]} == {"weather": 1}
    assert history["weather"]["rows"] == 26_114
    assert [history[name]["rows"] for name in ("airports", "carriers", "planes")] == [103, 16, 3_322]
    later = {item["group"]: (item["version"], item["rows"]) for item in demo.result["last_day"]["history"]}
    assert later["plane_arrivals"] == ("1.0.1", ARRIVED)
    assert later["airport_departures"] == ("1.0.1", 328_521)


def test_online_equals_history_for_a_thousand_flights_before_and_after_the_last_day(demo: Demo) -> None:
    for proof in (demo.result["proof"], demo.result["last_day"]["proof"]):
        assert proof["combinations"] == 1_000
        assert proof["cells"] == 1_000 * demo.result["training"]["features"] == sum(proof["statuses"].values())
        assert proof["mismatches"] == 0
        assert set(proof["statuses"]) == {"PRESENT", "NULL", "NOT_FOUND", "EXPIRED"}
    assert demo.result["mismatches"] == 0
    assert sum("0 differences" in line for line in demo.lines) == 3


def test_the_last_day_is_the_newest_of_the_data(demo: Demo) -> None:
    flights = pl.read_parquet(demo.folder / "data/flights.parquet")
    assert flights["arrived_at"].max() == LAST


def test_the_served_vector_is_the_flights_training_row(demo: Demo) -> None:
    served = demo.result["served"]
    assert {key: served["entry"][key] for key in KEYS} == FLIGHT
    spine = pl.read_parquet(demo.folder / "data/spine.parquet").filter(pl.col("predict_at") == NOW, **FLIGHT)
    with gr.FeatureStore(demo.folder) as store:
        row = store.get_historical_features(VIEW, spine, event_time="predict_at").to_polars().row(0, named=True)
    assert {name: row[name] for name in served["values"]} == served["values"]
    assert served["statuses"]["temp"] == "PRESENT"


def test_the_model_beats_the_base_rate_and_the_leak_promises_more_than_it_delivers(demo: Demo) -> None:
    model, leak = demo.result["model"], demo.result["leak"]
    assert model["train_rows"] + model["test_rows"] == demo.result["training"]["labelled"]
    assert model["auc"] > 0.7
    assert model["average_precision"] > 2 * model["base_rate"]
    assert leak["rows"] > FLIGHTS / 2
    assert leak["promised"]["average_precision"] > leak["delivered"]["average_precision"]


def test_the_result_is_json_and_names_the_time_of_every_step(demo: Demo) -> None:
    assert json.loads(json.dumps(demo.result)) == demo.result
    steps = ["project", "define", "history", "training", "model", "leak", "serve", "proof", "last_day", "total"]
    assert list(demo.result["timings"]) == steps


def test_what_it_prints_fits_a_terminal(demo: Demo) -> None:
    told = [line for line in demo.lines[: demo.lines.index("Next:")] if f"{demo.folder.name}: " not in line]
    assert [line for line in told if len(line) > 80 or line != line.rstrip()] == []


@pytest.mark.parametrize("number", range(3))
def test_the_next_commands_run_as_printed(demo: Demo, number: int) -> None:
    command = demo.result["next_commands"][number]
    assert f"   {command}" in demo.lines
    program, *arguments = shlex.split(command)
    assert Path(program).name == "grange"
    command_line = [sys.executable, "-m", "grange", *arguments, "--json"]
    done = subprocess.run(command_line, cwd=demo.folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    match arguments[:2]:
        case ["fv", "get"]:
            assert answer["rows"][0]["statuses"]["temp"] == "EXPIRED"
        case ["fv", "read"]:
            assert pl.read_parquet(demo.folder / "training.parquet").height == FLIGHTS
        case _:
            assert arguments == ["fg", "stats", "weather"]
            assert answer


def test_nothing_is_left_to_apply_from_the_command_line(demo: Demo) -> None:
    with gr.FeatureStore(demo.folder) as store:
        assert not store.plan()


def test_the_proof_fails_where_online_lacks_what_history_has(demo: Demo) -> None:
    asked = pl.DataFrame([FLIGHT | {"distance": 1069, "hour": 20}]).select(*KEYS, *TIMETABLE)
    with gr.FeatureStore(demo.folder, online="memory") as store:
        for group in store.catalog.groups.values():
            someone_else = OnlineBatch([b"nobody"], [0], None, [()])
            store._parts.online.write(group.key_space, group.name, (), someone_else)
        with pytest.raises(gr.GrangeError, match="online and history differ in"):
            prove(store, VIEW, asked, now=NOW)


def test_differences_are_values_nulls_and_types() -> None:
    left = pl.DataFrame({"a": [1, 2, None], "b": [1.0, float("nan"), None], "c": [1, 2, 3]})
    assert find_differences(left, left, ["a", "b", "c"]) == []
    right = pl.DataFrame({"a": [1, None, None], "b": [1.5, float("nan"), None], "c": [1.0, 2.0, 3.0]})
    found = find_differences(left, right, ["a", "b", "c"])
    assert found[:2] == ["a of row 1: 2 and None", "b of row 0: 1.0 and 1.5"]
    assert len(found) == 5


def test_a_leak_is_a_delay_that_was_not_known_at_the_prediction() -> None:
    """The second flight is predicted at 14:00: the first one, due to leave at 10:00, landed only at 15:00."""
    day = dt.datetime(2013, 5, 1, tzinfo=dt.UTC)
    flights = pl.DataFrame(
        {
            "carrier": ["UA", "UA", "UA"], "flight": [1, 2, 3], "tailnum": ["N1", "N1", "N1"],
            "origin": ["JFK", "LGA", "EWR"], "dest": ["LAX", "SFO", "MCO"], "distance": [1, 1, 1], "hour": [6, 11, 20],
            "scheduled_departure": [day.replace(hour=10), day.replace(hour=15), day.replace(hour=23)],
            "departed_at": [day.replace(hour=10), day.replace(hour=15), day.replace(hour=23)],
            "arrived_at": [day.replace(hour=15), day.replace(hour=18), None],
            "dep_delay": [0, 0, 0], "arr_delay": [90, 5, None], "air_time": [300, 180, None],
        }
    )  # fmt: skip
    train = make_spine(flights)
    assert train["late"].to_list() == [True, False, None]
    leaked, rows = with_leak(train, flights)
    assert rows == 1
    assert leaked["plane_arr_delay"].to_list() == [None, 90, 5]


def test_without_scikit_learn_the_demo_says_how_to_install_it(demo: Demo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.ensemble", None)
    lines: list[str] = []
    spine = pl.read_parquet(demo.folder / "data/spine.parquet")
    with gr.FeatureStore(demo.folder) as store:
        # it stops before it looks at a feature, so the spine stands in for the training set
        model, quality = Run(write_project(demo.folder.with_name("bare")), store, Report(lines.append)).train(spine, ())
    assert model is None
    assert quality == {"trained": False, "try": "pip install 'grange[sklearn]'"}
    assert any("pip install 'grange[sklearn]'" in line for line in lines)


def test_the_project_is_the_packages_and_names_the_source_of_its_data(tmp_path: Path) -> None:
    project = write_project(tmp_path / "new")
    assert (project.folder / "features.py").read_bytes() == (files("grange.demo") / "definitions.py").read_bytes()
    assert {path.name for path in (project.folder / "data").iterdir()} == {*DATA, "SOURCE.md"}
    assert "Open Database License" in project.data("SOURCE.md").read_text(encoding="utf-8")


def test_a_second_run_starts_over_and_keeps_what_was_stored(tmp_path: Path) -> None:
    first = write_project(tmp_path)
    assert first.moved is None
    for number in (1, 2):
        (tmp_path / ".grange").mkdir()
        (tmp_path / ".grange" / "mine").write_text(str(number))
        moved = write_project(tmp_path).moved
        assert moved == tmp_path / f".grange-{number}"
        assert (moved / "mine").read_text() == str(number)
        assert not (tmp_path / ".grange").exists()


@pytest.mark.parametrize("there", ["features.py", "grange.toml", "data/weather.parquet", ".grange/registry.db"])
def test_a_folder_that_holds_something_else_is_refused_and_left_alone(tmp_path: Path, there: str) -> None:
    path = tmp_path / there
    path.parent.mkdir(exist_ok=True)
    path.write_text("mine")
    with pytest.raises(gr.GrangeError, match="something in") as caught:
        run_demo(tmp_path, echo=lambda line: None)
    assert caught.value.code == "GRANGE-500"
    assert [each for each in tmp_path.rglob("*") if each.is_file()] == [path]
    assert path.read_text() == "mine"
