"""Commands on training datasets, transformations and derived groups."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import polars as pl
import pytest
from tests.cli.running import Grange

START = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
DOUBLED = "import numpy as np\n\n\ndef doubled(amount: np.ndarray):\n    return amount * 2\n"


@pytest.fixture
def churn(grange: Grange, tmp_path: Path) -> Grange:
    """Commands in a project with a group, labels and a view, materialized."""
    pl.DataFrame(
        {
            "user_id": [f"u{number % 20:02d}" for number in range(200)],
            "at": [START + dt.timedelta(hours=number) for number in range(200)],
            "amount": [float(number % 13) for number in range(200)],
        }
    ).write_parquet(tmp_path / "spend.parquet")
    pl.DataFrame(
        {
            "user_id": [f"u{number % 20:02d}" for number in range(100)],
            "event_time": [START + dt.timedelta(hours=number + 90) for number in range(100)],
            "churned": [number % 2 == 0 for number in range(100)],
        }
    ).write_parquet(tmp_path / "labels.parquet")
    (tmp_path / "grange.toml").touch()
    created = grange("fg", "create", "spend", "--source", "spend.parquet", "--keys", "user_id", "--event-time", "at")
    assert created.code == 0, created
    assert grange("fv", "create", "churn", "--feature-group", "spend", "--label", "churned").code == 0
    assert grange("materialize").code == 0
    return grange


SPLIT = ("--spine", "labels.parquet", "--split", "train:0.7,validation:0.15,test:0.15")


class TestTrainingDatasets:
    def test_from_computing_to_deleting(self, churn: Grange, tmp_path: Path) -> None:
        made = churn("td", "compute", "churn", *SPLIT)
        assert made.code == 0 and "churn#1" in made.out and "validation" in made.out, made

        (listed,) = churn("td", "list", "--json").json
        assert (listed["view"], listed["version"]) == ("churn", 1)
        assert listed["pins"] == [{"group": "spend", "version": "1.0.0", "pushed_until": None}]
        info = churn("td", "info", "churn#1")
        assert info.code == 0 and "spend hash" not in info.out and "labels.parquet" in info.out

        read = churn("td", "read", "churn", "1", "--split", "test", "--output", "test.parquet")
        assert read.code == 0, read
        rows = pl.read_parquet(tmp_path / "test.parquet")
        assert 0 < len(rows) < 40 and rows.columns == ["user_id", "event_time", "churned", "amount"]
        assert churn("td", "read", "churn", "--td-version", "1", "--json").json["rows"] == 100

        stats = churn("td", "stats", "churn", "--features", "amount", "--json").json
        assert set(stats) == {"train", "validation", "test"} and set(stats["train"]) == {"amount"}
        assert churn("td", "reproduce", "churn", "1").out.startswith("churn#1: identical")

        assert churn("td", "delete", "churn", "1").code == 4
        assert churn("td", "delete", "churn", "1", "--yes").code == 0
        assert churn("td", "list", "--json").json == []

    @pytest.mark.parametrize(
        ("options", "parts"),
        [
            (["--split-by", "grouped:user_id"], 3),
            (["--split-by", "stratified:churned"], 3),
            (["--split-by", "time", "--gap", "2h"], 3),
            (["--split-by", "random", "--seed", "7"], 3),
        ],
    )
    def test_kinds_of_splits(self, churn: Grange, options: list[str], parts: int) -> None:
        made = churn("td", "compute", "churn", *SPLIT, *options, "--json")
        assert made.code == 0, made
        assert len(made.json["parts"]) == parts

    def test_folds(self, churn: Grange) -> None:
        made = churn("td", "create", "churn", "--spine", "labels.parquet", "--folds", "4", "--no-write", "--json").json
        assert [part["name"] for part in made["parts"]] == ["fold_0", "fold_1", "fold_2", "fold_3"]
        assert made["status"] == "declared"
        assert churn("td", "read", "churn").code == 4
        assert churn("td", "reproduce", "churn", "--write").code == 0
        assert churn("td", "read", "churn").code == 0

    def test_the_difference_of_two(self, churn: Grange) -> None:
        churn("td", "compute", "churn", *SPLIT)
        churn("td", "compute", "churn", "--spine", "labels.parquet", "--filter", "amount > 3")

        found = churn("td", "diff", "churn", "1", "2", "--exit-code")
        assert found.code == 1 and "split:" in found.out and "filter:" in found.out
        assert churn("td", "diff", "churn", "1", "1", "--exit-code").code == 0

    @pytest.mark.parametrize(
        ("arguments", "code", "text"),
        [
            (["compute", "churn", "--split", "train:0.7,test:0.2"], 2, "0.9"),
            (["compute", "churn", "--split", "train"], 2, "name:share"),
            (["compute", "churn", "--gap", "7d"], 2, "--split"),
            (["compute", "churn", "--split", "train:0.5,test:0.5", "--gap", "7d"], 2, "--split-by time"),
            (["compute", "churn", "--split", "train:0.5,test:0.5", "--split-by", "magic"], 2, "grouped"),
            (["compute", "churn", "--split", "train:0.5,test:0.5", "--folds", "3"], 2, "one of the two"),
            (["compute", "churn", "--folds", "3", "--split-by", "grouped"], 2, "needs its columns"),
            (["compute", "churn", "--folds", "3", "--split-by", "random:user_id"], 2, "takes no columns"),
            (["compute", "churn", "--folds", "3", "--split-by", "time", "--seed", "3"], 2, "--seed"),
            (["compute", "churn", "--seed", "3"], 2, "--seed"),
            (["compute", "chrun"], 3, "churn"),
            (["read", "churn", "3"], 3, "grange td"),
            (["read", "churn#x"], 2, "churn#3"),
            (["delete", "churn"], 2, "which"),
        ],
    )
    def test_what_cannot_be_done_is_said(self, churn: Grange, arguments: list[str], code: int, text: str) -> None:
        ran = churn("td", *arguments)
        assert ran.code == code and text in ran.err, ran


class TestPreparing:
    def test_vectors_are_prepared_by_a_training_dataset(self, churn: Grange) -> None:
        made = churn(
            "fv", "create", "scaled", "--feature-group", "spend", "--label", "churned",
            "--transform", "impute(strategy=median):amount", "--transform", "min_max_scaler:amount->level",
        )  # fmt: skip
        assert made.code == 0, made
        entry = ("fv", "get", "scaled", "--entry", "user_id=u03", "--now", "2026-01-12")
        assert churn(*entry).code == 2
        assert churn("td", "compute", "scaled", *SPLIT).code == 0

        prepared = churn(*entry, "--training-dataset", "1", "--json").json["rows"][0]["values"]
        assert set(prepared) == {"level"} and 0 <= prepared["level"] <= 1
        raw = churn(*entry, "--raw", "--json").json["rows"][0]["values"]
        assert set(raw) == {"amount"}
        read = churn("fv", "read", "scaled", "--spine", "labels.parquet", "--training-dataset", "1", "--json").json
        assert "level" in read["columns"] and "amount" not in read["columns"]

    def test_on_demand_features(self, churn: Grange) -> None:
        assert churn("transformation", "create", "twice", "--sql", "twice=amount * 2").code == 0
        made = churn("fv", "create", "doubled", "--feature-group", "spend", "--on-demand", "twice:amount->double")
        assert made.code == 0, made
        values = churn("fv", "get", "doubled", "--entry", "user_id=u03", "--json").json["rows"][0]["values"]
        assert values["double"] == 2 * values["amount"]

    def test_no_such_function(self, churn: Grange) -> None:
        ran = churn("fv", "create", "x", "--feature-group", "spend", "--transform", "standart_scaler:amount")
        assert ran.code == 2 and "standard_scaler" in ran.err


class TestTransformations:
    def test_from_code(self, churn: Grange, tmp_path: Path) -> None:
        made = churn("transformation", "create", "--code", DOUBLED, "--output", "doubled:float64")
        assert made.code == 0 and "allow_stored" in made.err, made

        listed = churn("transformation", "list", "--own", "--json").json
        assert [(item["name"], item["inputs"], item["outputs"]) for item in listed] == [
            ("doubled", ["amount"], ["doubled"])
        ]
        assert "amount * 2" in churn("transformation", "info", "doubled").out
        again = churn("transformation", "create", "--code", DOUBLED, "--output", "doubled:float64")
        assert again.code == 4
        (tmp_path / "more.py").write_text(DOUBLED.replace("doubled", "tripled"))
        assert churn("transformation", "create", "--file", "more.py", "--output", "tripled:float64").code == 0
        assert churn("transformation", "delete", "doubled", "--yes").code == 0

    def test_from_sql(self, churn: Grange) -> None:
        assert churn("transformation", "create", "ratio", "--sql", "ratio=amount / NULLIF(total, 0)").code == 0
        (item,) = churn("transformation", "list", "--own", "--json").json
        assert (item["kind"], item["inputs"]) == ("sql", ["amount", "total"])

    def test_ready_ones_are_listed(self, churn: Grange) -> None:
        names = {item["name"] for item in churn("transformation", "list", "--json").json}
        assert {"standard_scaler", "one_hot_encoder", "impute", "winsorize", "sklearn"} <= names

    @pytest.mark.parametrize(
        ("arguments", "code", "text"),
        [
            (["--code", "def f(:", "--output", "f:float64"], 2, "not Python"),
            (["--code", DOUBLED], 2, "types of its outputs"),
            (["--code", "x = 1", "--output", "f:float64"], 2, "no function"),
            (["--sql", "amount"], 2, "OUTPUT=EXPRESSION"),
            ([], 2, "one of them"),
            (["--file", "nowhere.py", "--output", "f:float64"], 1, "nowhere.py"),
        ],
    )
    def test_what_is_no_transformation(self, churn: Grange, arguments: list[str], code: int, text: str) -> None:
        ran = churn("transformation", "create", *arguments)
        assert ran.code == code and text in ran.err, ran


class TestDerived:
    def test_a_group_of_groups(self, churn: Grange) -> None:
        churn("fg", "create", "labels", "--source", "labels.parquet", "--keys", "user_id", "--event-time", "event_time")
        assert churn("materialize", "labels").code == 0

        made = churn("fg", "derive", "both", "--base", "labels", "--join", "spend INNER user_id was_")
        assert made.code == 0 and made.out.rstrip().endswith("next: grange materialize both"), made
        assert churn("materialize", "both").code == 0

        info = churn("fg", "info", "both", "--json").json
        assert info["description"].startswith("Derived from labels, with spend")
        rows = churn("fg", "preview", "both", "--json").json
        assert set(rows[0]) == {"user_id", "event_time", "churned", "was_amount"}
        assert churn("fg", "delete", "spend", "--yes").code == 4

    def test_what_is_not_there(self, churn: Grange) -> None:
        ran = churn("fg", "derive", "both", "--base", "spned", "--join", "spend LEFT user_id")
        assert ran.code == 3 and "spend" in ran.err


def test_keys_of_a_csv_spine_are_read_in_their_types(shop: Grange) -> None:
    """The project of `grange init` has keys such as 007."""
    made = shop("td", "compute", "churn", "--spine", "data/labels.csv", "--split", "train:0.7,test:0.3", "--json")
    assert made.code == 0, made
    assert [column["dtype"] for column in made.json["schema"] if column["name"] == "customer_id"] == ["string"]
    assert shop("td", "reproduce", "churn").code == 0
