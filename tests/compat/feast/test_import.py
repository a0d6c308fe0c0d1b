"""`grange import feast`: repositories become projects that load, apply and have the same values."""

from __future__ import annotations

import datetime as dt
import math
from pathlib import Path
from typing import Any

import pytest
from tests.cli.running import Grange
from tests.compat.feast.rows import at, repository

import grange as gr
from grange.compat.feast import Imported, import_repository, write
from grange.errors import RefusedError, SourceError


def imported(name: str, folder: Path) -> tuple[Imported, Path]:
    """A repository's project, beside it."""
    repo, project = repository(name, folder), folder / "project"
    found = import_repository(repo, project / "features.py")
    write(found, project / "features.py")
    return found, project


def materialized(project: Path) -> gr.FeatureStore:
    """The project's definitions applied, in stores of its own folder, whatever its settings say of servers."""
    (project / "grange.toml").write_text('definitions = ["features.py"]\n')
    store = gr.FeatureStore(project)
    store.apply()
    store.materialize()
    return store


def test_statistics_of_drivers_are_served_as_before(tmp_path: Path) -> None:
    found, project = imported("drivers", tmp_path)
    assert found.counts == {"entity": 1, "source": 2, "transformation": 2, "group": 2, "view": 3}
    assert [str(note).splitlines()[0] for note in found.notes] == []
    with materialized(project) as store:
        group = store.catalog.group("driver_hourly_stats")
        assert group.owner == "drivers@example.com"
        assert dict(group.tags) == {"team": "driver_performance"}
        assert str(group.schema["avg_daily_trips"]) == "int64"
        assert "not_a_feature" not in group.schema
        row = {"driver_id": 1001, "val_to_add": 10, "val_to_add_2": 20}
        (vector,) = store.get_online_features("driver_activity_v1", [row]).to_dicts()
        assert vector == {**row, "conv_rate": 0.5, "conv_rate_plus_val1": 10.5, "conv_rate_plus_val2": 20.5}
        spine = [{**row, "event_timestamp": at(2)}, {**row, "driver_id": 1003, "event_timestamp": at(2)}]
        train = store.get_historical_features("driver_activity_v2", spine).to_polars()
        assert train["conv_rate_plus_val1"].to_list() == [10.25, None]
        assert train["avg_daily_trips"].to_list() == [3, None]
        pushed = {"driver_id": [1001], "event_timestamp": [at(9)], "created": [at(9)], "conv_rate": [1.0],
                  "acc_rate": [1.0], "avg_daily_trips": [1000]}  # fmt: skip
        store.push("driver_stats_push_source", pushed)
        (vector,) = store.get_online_features("driver_activity_v3", [{"driver_id": 1001, "val_to_add": 1}]).to_dicts()
        assert (vector["avg_daily_trips"], vector["conv_rate_plus_val1_fresh"]) == (1000, 2.0)


def test_settings_of_drivers_are_a_project(tmp_path: Path) -> None:
    found, project = imported("drivers", tmp_path)
    assert found.project == "driver_rides"
    with gr.FeatureStore(project) as store:
        assert (store.config.project, store.config.engine) == ("driver_rides", "duckdb")


def test_a_marketplace_of_several_files_computes_the_same(tmp_path: Path) -> None:
    _, project = imported("marketplace", tmp_path)
    with materialized(project) as store:
        assert store.catalog.group("buyer_stats").ttl == dt.timedelta(hours=36, minutes=30)
        assert store.catalog.group("place_stats").ttl is None
        assert not store.catalog.group("buyer_stats").online
        spine = [
            {"buyer_id": "b1", "place_id": 7, "event_timestamp": at(2)},
            {"buyer_id": "b2", "place_id": 8, "event_timestamp": at(2)},
            {"buyer_id": "b1", "place_id": 9, "event_timestamp": at(9)},
        ]
        train = store.get_historical_features("checkout", spine).to_polars()
        assert train["spent"].to_list() == [1000.0, None, None]
        assert train["orders"].to_list() == [2, 3, None]
        assert train["spent_log"].to_list() == [pytest.approx(math.log(1000, 10)), None, None]
        assert train["risk"].to_list() == [500.0, None, None]
        capped = store.get_historical_features(["buyer_stats:spent_capped"], spine[:1]).to_polars()
        assert capped["spent_capped"].to_list() == [100.0]
        (trip,) = store.get_online_features("trip", [{"origin_id": 7, "destination_id": 8}]).to_dicts()
        assert trip == {
            "origin_id": 7, "destination_id": 8, "origin__crime": 0.5, "destination__crime": 0.25,
            "destination__density": 200.0,
        }  # fmt: skip


def test_settings_of_a_marketplace_keep_no_password(tmp_path: Path) -> None:
    found, project = imported("marketplace", tmp_path)
    text = (project / "grange.toml").read_text()
    assert 'url = "rediss://redis.example.com:6380/3"' in text
    assert 'url = "postgresql://feast@db.example.com:5432/feast"' in text
    assert "hunter2" not in text + found.definitions + str(found.notes)
    assert [(note.place.file, note.place.line) for note in found.notes if note.place.file.endswith(".yaml")] == [
        ("feature_store.yaml", 9), ("feature_store.yaml", 10), ("feature_store.yaml", 11),
    ]  # fmt: skip


def test_what_does_not_go_over_is_told_with_its_place(tmp_path: Path) -> None:
    found, project = imported("warehouse", tmp_path)
    text = (tmp_path / "warehouse" / "repo.py").read_text().splitlines()
    told = {note.place.line: note for note in found.notes if note.place.file == "repo.py"}
    expected = {
        "bigquery = BigQuerySource(": "BigQuerySource 'orders_bq' is no source",
        "source=SparkSource(": "SparkSource 'visits' is no source",
        'source=FileSource(path="g.parquet")': "does not say which column is its time",
        "from_environment = FileSource(": "taken from the environment",
        "nobody = FeatureView(": "has no entities",
        'Field(name="exact"': "Decimal, which has no equal",
        "def clicks(": "computed by code of its own",
        "def twice(": "was not taken over",
        "for number in range(3)": "would be running it",
        "unused = FileSource(": "is used by no view",
        "everything = FeatureService(": "has the name of a feature view",
        "broken = FeatureService(": "was not taken over",
        "readers = Permission(": "was not taken over",
    }
    for code, problem in expected.items():
        (number,) = [number for number, line in enumerate(text, 1) if code in line]
        assert problem in told[number].problem, (number, told.get(number))
        assert told[number].advice
    with materialized(project) as store:
        assert set(store.catalog.groups) == {"daily_prices"}
        assert set(store.catalog.views) == {"daily_prices_service"}
        assert store.read("daily_prices").polars["price"].to_list() == [9.5, None]


def test_nothing_of_a_repository_is_run(tmp_path: Path) -> None:
    repo = repository("drivers", tmp_path)
    marker = tmp_path / "ran"
    code = f"from pathlib import Path\nPath({str(marker)!r}).touch()\nopen({str(marker)!r}, 'w')\n"
    (repo / "side_effects.py").write_text(code)
    import_repository(repo, tmp_path / "features.py")
    assert not marker.exists()


def test_ignored_files_are_left_alone(tmp_path: Path) -> None:
    repo = repository("drivers", tmp_path)
    (repo / "broken.py").write_text("def (:")
    with pytest.raises(SourceError, match=r"broken.py"):
        import_repository(repo, tmp_path / "features.py")
    (repo / ".feastignore").write_text("# not ours\nbroken.py\n")
    assert import_repository(repo, tmp_path / "features.py").counts["group"] == 2


def test_a_registry_alone_cannot_be_imported(tmp_path: Path) -> None:
    (tmp_path / "feature_store.yaml").write_text("project: p\nregistry: data/registry.db\nprovider: local\n")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "registry.db").write_bytes(b"\x0a\x04test")
    with pytest.raises(SourceError, match="defines anything") as refused:
        import_repository(tmp_path, tmp_path / "features.py")
    assert "data/registry.db" in str(refused.value)


@pytest.mark.parametrize(
    ("yaml", "problem"),
    [("project: [", "is no YAML"), ("- a", "says no project"), ("registry: x", "says no project")],
)
def test_settings_that_cannot_be_read_are_told(tmp_path: Path, yaml: str, problem: str) -> None:
    (tmp_path / "feature_store.yaml").write_text(yaml)
    with pytest.raises(SourceError, match=problem):
        import_repository(tmp_path, tmp_path / "features.py")


def test_a_folder_above_a_repository_is_told_where_it_is(tmp_path: Path) -> None:
    repository("drivers", tmp_path)
    with pytest.raises(SourceError) as refused:
        import_repository(tmp_path, tmp_path / "features.py")
    assert str(tmp_path / "drivers") in str(refused.value)


def test_files_that_are_there_stay(tmp_path: Path) -> None:
    found, project = imported("drivers", tmp_path)
    (project / "features.py").write_text("mine")
    with pytest.raises(RefusedError):
        write(found, project / "features.py")
    assert (project / "features.py").read_text() == "mine"
    write(found, project / "features.py", overwrite=True)
    assert "driver_hourly_stats" in (project / "features.py").read_text()


def test_the_command_writes_a_project_and_says_what_is_next(tmp_path: Path, grange: Grange) -> None:
    repo = repository("marketplace", tmp_path)
    out = tmp_path / "new" / "features.py"
    ran = grange("import", "feast", str(repo), "--out", str(out))
    assert ran.code == 0, ran.err
    assert "2 entities, 2 feature groups, 2 transformations, 2 feature views" in ran.out
    lines = (repo / "views" / "features.py").read_text().splitlines()
    assert f"views/features.py:{lines.index('def risk(inputs):') + 1}: 'risk' takes features of several" in ran.out
    again = grange("import", "feast", str(repo), "--out", str(out))
    assert again.code == 4
    told: Any = grange("import", "feast", str(repo), "--out", str(out), "--overwrite", "--json").json
    assert told["counts"]["group"] == 2
    assert {note["file"] for note in told["notes"]} == {"feature_store.yaml", "views/features.py"}
    assert grange("import", "feast", str(tmp_path / "nowhere")).code == 1
