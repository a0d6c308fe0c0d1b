"""A project whose history lies in S3: from definitions to a model's rows and back, the same as on a disk."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import obstore
import polars as pl
import pytest
from tests.docs.documents import run_page
from tests.servers import s3 as servers
from tests.servers.s3 import S3Server
from tests.shop import SPEND, at, shops_group, spend_group, user

import grange as gr
from grange.errors import ConfigError

ROOT = Path(__file__).parents[2]
LATE = {"user_id": "u2", "at": at(10), "loaded": at(10, 1), "amount": 3.5, "visits": 4}
SPINE = pl.DataFrame({"user_id": ["u1", "u2", "nobody"], "event_time": [at(11)] * 3, "churned": [True, False, True]})


@pytest.fixture(scope="module")
def s3() -> Iterator[S3Server]:
    command = servers.missing()
    if command is not None:
        pytest.skip(f"needs an S3 server: {command}")
    with servers.s3_server() as server:
        yield server


def totals_group() -> gr.FeatureGroup:
    source = gr.FileSource("data/spend.parquet", event_time="at", created_time="loaded")
    total = gr.Rolling({"amount": ["sum", "count"]}, windows=["7d"])
    return gr.FeatureGroup("totals", entities=user, source=source, aggregations=[total])


def configured(project: Path, offline: dict[str, Any]) -> Path:
    lines = [f"{name} = {json.dumps(value)}" for name, value in offline.items()]
    (project / "grange.toml").write_text("\n".join(['project = "shop"', "[offline]", 'type = "parquet"', *lines, ""]))
    return project


@pytest.fixture(params=["polars", "duckdb", "reference"])
def engine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def lived(project: Path, engine: str) -> list[Any]:
    """Everything that a project does with its history, and what came of it."""
    told: list[Any] = []
    with gr.FeatureStore(project, engine=engine) as store:
        view = gr.FeatureView("churn", features=["spend", "totals"], labels=["churned"])
        store.apply([spend_group(), totals_group(), shops_group(), view])
        told.append([(done.group, done.version) for done in store.materialize()])
        store.push("spend", [LATE])
        told.append(store.get_historical_features("churn", SPINE).to_arrow().to_pylist())
        dataset = store.create_training_dataset("churn", SPINE)
        told.append(dataset.to_arrow().to_pylist())
        SPEND.head(3).write_parquet(project / "data" / "spend.parquet")
        told.append([(done.group, done.version) for done in store.materialize(["spend", "totals"])])
        told.append(store.get_historical_features("churn", SPINE).to_arrow().to_pylist())
        told.append(store.rollback("spend", "1.0.0").version)
        told.append(store.get_historical_features("churn", SPINE).to_arrow().to_pylist())
        told.append(store.get_online_features(["spend"], [{"user_id": "u2"}], now=at(11)).to_dicts())
        told.append(store.delete("totals", version="1.0.1"))
        told.append([meta.version for name in ("spend", "totals") for meta in store.versions(name)])
        told.append(store.training_dataset("churn", 1).to_arrow().to_pylist())
        told.append(store.verify())
    return told


def test_a_project_lives_the_same_life_on_s3(s3: S3Server, tmp_path: Path, engine: str) -> None:
    """Apply, materialize, push, join, keep a training dataset, build again, roll back, delete, verify."""
    place = s3.place()
    found = {}
    for name, offline in {"disk": {}, "s3": {"path": place, **s3.options}}.items():
        project = tmp_path / name
        (project / "data").mkdir(parents=True)
        SPEND.write_parquet(project / "data" / "spend.parquet")
        pl.DataFrame({"shop_id": [1, 2], "country": ["FR", "NZ"]}).write_csv(project / "data" / "shops.csv")
        found[name] = lived(configured(project, offline), engine)
    assert found["s3"] == found["disk"]
    assert found["s3"][-1] == ()
    assert not (tmp_path / "s3" / ".grange" / "offline").exists(), "nothing of it is on the disk alone"
    keys = [item["path"] for item in obstore.list(s3.client(), place.removeprefix("s3://lake/")).collect()]
    assert any(key.endswith("spend/1.0.0/.meta.json") for key in keys)


def test_credentials_come_from_the_environment(s3: S3Server, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As clients of clouds take them; they are in no file and in no record of the project."""
    options = s3.options
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", options.pop("access_key_id"))
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret := options.pop("secret_access_key"))
    monkeypatch.setenv("AWS_REGION", options.pop("region"))
    monkeypatch.setenv("GRANGE_OFFLINE__RETRIES", "2")
    with gr.FeatureStore(configured(project, {"path": s3.place(), **options})) as store:
        store.apply([spend_group()])
        store.materialize("spend")
        assert len(store.read("spend")) == len(SPEND)
    kept = b"".join(path.read_bytes() for path in project.rglob("*") if path.is_file())
    assert secret.encode() not in kept


def test_two_machines_share_a_history(s3: S3Server, tmp_path: Path) -> None:
    """What one writes the other reads at once, and each has copies of its own."""
    place = s3.place()
    stores = []
    for name in ("one", "other"):
        project = tmp_path / name
        (project / "data").mkdir(parents=True)
        SPEND.write_parquet(project / "data" / "spend.parquet")
        stores.append(gr.FeatureStore(configured(project, {"path": place, **s3.options})))
    one, other = stores
    with one, other:
        for store in stores:
            store.apply([spend_group()])
        one.materialize("spend")
        assert other.read("spend").polars.equals(one.read("spend").polars)
        one.push("spend", [LATE])
        assert len(other.read("spend")) == len(SPEND) + 1
        assert other.materialize("spend")[0].version == "1.0.1"
        assert one.version("spend").version == "1.0.1"
    copies = [list((tmp_path / name / ".grange/cache/objects/objects").iterdir()) for name in ("one", "other")]
    assert all(copies)


def test_the_folder_of_copies_may_be_emptied_under_a_store_that_is_open(s3: S3Server, project: Path) -> None:
    """As who makes room on a disk does: everything is there still, and is said to be."""
    configured(project, {"path": s3.place(), **s3.options})
    with gr.FeatureStore(project) as store:
        store.apply([spend_group()])
        store.materialize("spend")
        store.push("spend", [LATE])
        before = store.get_historical_features(["spend"], SPINE).to_arrow().to_pylist()

        for _ in range(2):
            shutil.rmtree(project / ".grange" / "cache")
            assert store.verify() == ()
            shutil.rmtree(project / ".grange" / "cache")
            assert store.get_historical_features(["spend"], SPINE).to_arrow().to_pylist() == before
            shutil.rmtree(project / ".grange" / "cache")
            store.push("spend", [LATE])
            assert store.verify(repair=True) == ()


def test_a_large_copy_that_was_cut_off_is_made_again(s3: S3Server, project: Path) -> None:
    """One that is not compared with its hash, as it is larger than `check_bytes`."""
    configured(project, {"path": s3.place(), "check_bytes": 0, **s3.options})
    with gr.FeatureStore(project) as store:
        store.apply([spend_group()])
        store.materialize("spend")
        before = store.get_historical_features(["spend"], SPINE).to_arrow().to_pylist()
    (copied,) = project.glob(".grange/cache/**/objects/*.parquet")
    with copied.open("r+b") as file:
        file.truncate(copied.stat().st_size // 2)

    with gr.FeatureStore(project) as store:
        assert store.get_historical_features(["spend"], SPINE).to_arrow().to_pylist() == before
        assert store.verify() == ()


def test_the_page_about_it_prints_what_it_shows(s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the server of this test for the cloud."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3.endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3.options["access_key_id"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3.options["secret_access_key"])
    assert run_page(ROOT / "docs/how-to/object-stores.md", tmp_path) > 2


def test_what_a_path_cannot_be(project: Path) -> None:
    """A URL of something else."""
    with (
        gr.FeatureStore(configured(project, {"path": "ftp://somewhere/else"})) as store,
        pytest.raises(ConfigError, match="ftp"),
    ):
        store.apply([spend_group()])
        store.materialize("spend")
