"""`grange lineage` and the impact lines of `grange plan`, in the project that `grange init` writes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.cli.running import Grange


def test_a_tree(shop: Grange) -> None:
    ran = shop("lineage", "churn")
    assert ran.code == 0
    lines = ran.out.splitlines()
    assert lines[0] == "feature view churn"
    assert lines[3].startswith("├─ feature group customer_profile (1.0.0) · reads")
    assert "│  └─ source data/profiles.csv · reads" in lines
    assert lines[-2:] == ["downstream", "  nothing"]


def test_one_direction_and_a_depth(shop: Grange) -> None:
    assert "downstream" not in shop("lineage", "churn", "--upstream").out
    assert "upstream" not in shop("lineage", "churn", "--downstream").out
    both = shop("lineage", "churn", "--upstream", "--downstream").out
    assert "upstream" in both and "downstream" in both
    assert "source" not in shop("lineage", "churn", "--depth", "1").out


def test_columns(shop: Grange) -> None:
    out = shop("lineage", "churn:plan", "--upstream").out
    assert out.splitlines()[3:] == [
        "└─ customer_profile:plan · as it is", "   └─ data/profiles.csv:plan · as it is",
    ]  # fmt: skip
    assert "opaque: any column may matter" in shop("lineage", "last_order", "--columns").out


def test_lines_fit_the_terminal(shop: Grange, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "44")
    assert max(map(len, shop("lineage", "last_order", "--columns").out.splitlines())) == 44


def test_json_is_the_answer_whichever_way_it_is_asked_for(shop: Grange) -> None:
    data = shop("lineage", "churn", "--json").json
    assert data["start"] == "feature_view:churn"
    assert json.loads(shop("lineage", "churn", "--format", "json").out) == data


def test_graphviz(shop: Grange) -> None:
    out = shop("lineage", "churn", "--format", "dot").out
    assert out.startswith("digraph lineage {") and out.endswith("}\n")
    assert shop("lineage", "churn", "--format", "dot", "--json").json["dot"].rstrip() == out.rstrip()


def test_openlineage_has_columns_and_runs(shop: Grange) -> None:
    events = json.loads(shop("lineage", "customer_profile", "--format", "openlineage").out)
    assert [event.get("eventType") for event in events if "run" in event] == ["START", "COMPLETE"]
    assert "columnLineage" in events[0]["outputs"][0]["facets"]


def test_impact(shop: Grange) -> None:
    assert shop("lineage", "customer_profile", "--impact").out == (
        "breaks: feature view churn: feature group customer_profile is removed\n"
    )
    assert shop("lineage", "churn", "--impact").out == "nothing is made of churn\n"
    data = shop("lineage", "customer_profile:plan", "--impact", "--json").json
    assert [(item["severity"], item["what"]["name"]) for item in data["impact"]] == [("breaks", "churn")]


@pytest.mark.parametrize(
    "words, code, told",
    [
        (("churm",), 3, "churn"),
        (("churn:pln",), 3, "churn:plan"),
        (("churn@1.0.0",), 3, "churn"),
        (("churn", "--format", "tre"), 2, "tree"),
        (("churn", "--kind", "vew"), 2, "feature_view"),
        (("churn", "--depth", "-1"), 2, "depth"),
    ],
)
def test_what_is_wrong(shop: Grange, words: tuple[str, ...], code: int, told: str) -> None:
    ran = shop("lineage", *words)
    assert ran.code == code and told.rpartition(":")[2] in ran.err
    assert shop("lineage", *words, "--json").json["error"]["type"]


def test_a_plan_says_what_breaks(shop: Grange, tmp_path: Path) -> None:
    features = tmp_path / "features.py"
    features.write_text(features.read_text().replace('"amount",\n', "").replace(', "last_order:amount"', ""))
    features.write_text(
        features.read_text().replace('expectations={"amount": [gr.greater_than(0, policy="drop")]},', "")
    )
    ran = shop("plan")
    assert ran.code == 0
    assert "changes: feature view churn: the code of last_order changed" in ran.out.splitlines()
    assert shop("plan", "--json").json["impact"][0]["severity"] == "changes"


def test_a_refused_deletion_names_what_is_made_of_it(shop: Grange) -> None:
    ran = shop("fg", "delete", "customer_profile", "--yes")
    assert ran.code == 4 and "found:     made of it: feature view churn" in ran.err
