"""`grange build` and its neighbours, with the flags of mlforge, on definitions that are mlforge's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from tests.cli.running import Grange, Ran
from tests.compat.transactions import ROWS, write

from grange.cli.main import run
from grange.compat.mlforge import LocalStore

SETTINGS = """
definitions = ["definitions.py"]

[offline]
path = "feature_store"

[registry]
url = "sqlite:///feature_store.registry.db"
"""
DEFINITIONS = """
import polars as pl

import grange.compat.mlforge.validators as v
from grange.compat.mlforge import Definitions, feature
from grange.compat.mlforge.metrics import Rolling
from grange.compat.mlforge.store import LocalStore


@feature(
    keys=["user_id"],
    source="transactions.parquet",
    timestamp="event_time",
    metrics=[Rolling(windows=["7d", "30d"], aggregations={"amount": ["sum", "mean"]})],
    validators={"user_id": [v.not_null()], "amount": [v.greater_than(0)]},
    tags=["money"],
)
def user_spend(df: pl.DataFrame) -> pl.DataFrame:
    return df.select(pl.col("user_id"), pl.col("event_time"), pl.col("amount"))


@feature(keys=["user_id"], source="transactions.parquet", timestamp="event_time", tags=["raw", "money"])
def transactions(df: pl.DataFrame) -> pl.DataFrame:
    return df


defs = Definitions(features=[user_spend, transactions], store=LocalStore("./feature_store"))
"""


@pytest.fixture
def grange(folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Grange:
    monkeypatch.setenv("COLUMNS", "100")
    Path("grange.toml").write_text(SETTINGS)
    Path("definitions.py").write_text(DEFINITIONS)

    def call(*arguments: str) -> Ran:
        capsys.readouterr()
        code = run(arguments)
        captured = capsys.readouterr()
        return Ran(code, captured.out, captured.err)

    assert call("apply").code == 0
    return call


def built(ran: Ran) -> dict[str, str]:
    assert ran.code == 0, ran.err
    return {item["group"]: item["version"] for item in ran.json}


def test_build_takes_features_and_a_version(grange: Grange) -> None:
    assert built(grange("build", "--features", "user_spend", "--json")) == {"user_spend": "1.0.0"}
    assert built(grange("build", "--features", "user_spend", "--version", "2.0.0", "--json")) == {"user_spend": "2.0.0"}
    assert built(grange("build", "--features", "user_spend,transactions", "--json")) == {
        "user_spend": "2.0.0",
        "transactions": "1.0.0",
    }
    assert built(grange("build", "transactions", "--features", " user_spend ", "--json")) == {
        "transactions": "1.0.0",
        "user_spend": "2.0.0",
    }
    assert LocalStore("./feature_store").list_versions("user_spend") == ["1.0.0", "2.0.0"]


def test_build_loads_online_and_takes_an_engine(grange: Grange) -> None:
    (told,) = grange("build", "--features", "user_spend", "--no-online", "--engine", "duckdb", "--json").json
    assert (told["new_version"], told["online_rows"]) == (True, None)
    (told,) = grange("build", "--features", "user_spend", "--online", "--engine", "polars", "--json").json
    assert (told["new_version"], told["online_rows"]) == (False, 2)


@pytest.mark.parametrize(
    ("tags", "groups"),
    [("raw", ["transactions"]), ("money", ["transactions", "user_spend"]), ("raw=true", ["transactions"])],
)
def test_build_takes_tags(grange: Grange, tags: str, groups: list[str]) -> None:
    assert list(built(grange("build", "--tags", tags, "--json"))) == groups


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("--features", "user_spnd"), 3, "user_spend"),
        (("--tags", "mony"), 3, "money"),
        (("--features", "user_spend,"), 2, "empty name"),
        (("--features", ""), 2, "empty name"),
        (("--features", "user_spend", "--tags", "raw"), 2, "not both"),
        (("--features", "user_spend", "--version", "banana"), 2, "MAJOR.MINOR.PATCH"),
        (("--version", "2.0.0"), 2, "one feature group at a time"),
        (("--force",), 2, "--force"),
    ],
)
def test_wrong_builds_build_nothing(grange: Grange, arguments: tuple[str, ...], code: int, said: str) -> None:
    ran = grange("build", *arguments)
    assert ran.code == code
    assert said in ran.err
    assert LocalStore("./feature_store").list_metadata() == []


def test_a_failing_validator_ends_with_1(grange: Grange) -> None:
    write(ROWS.with_columns(pl.col("amount") * -1))
    ran = grange("build", "--features", "user_spend")
    assert ran.code == 1
    assert "greater_than(0)" in ran.err


def test_versions_inspect_and_manifest_take_the_same_words(grange: Grange) -> None:
    built(grange("build", "--features", "user_spend", "--version", "1.0.0", "--json"))
    write(ROWS.with_columns(pl.col("amount") + 1))
    built(grange("build", "--features", "user_spend", "--json"))

    assert [item["version"] for item in grange("versions", "user_spend", "--json").json] == ["1.0.1", "1.0.0"]
    assert grange("inspect", "user_spend", "--version", "1.0.0", "--json").json["stored"]["version"] == "1.0.0"
    manifest = Path("feature_store/_metadata/manifest.json")
    manifest.unlink()
    told = grange("manifest", "--regenerate", "--json").json
    assert told["user_spend"]["versions"] == ["1.0.0", "1.0.1"]
    assert manifest.exists()


def test_python_and_the_command_line_share_the_store(grange: Grange) -> None:
    built(grange("build", "--features", "user_spend", "--json"))
    names: dict[str, Callable[..., object]] = {}
    exec(compile(DEFINITIONS, "definitions.py", "exec"), names)
    result = names["defs"].build(features=["user_spend"])  # type: ignore[attr-defined]
    assert (result.skipped, result.versions) == (("user_spend",), {"user_spend": "1.0.0"})
