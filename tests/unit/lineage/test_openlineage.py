"""OpenLineage events: what the specification asks of them, and what they say."""

from __future__ import annotations

import datetime as dt
import json
import uuid
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import pytest
from tests.unit.lineage.definitions import DATASET, FACTS, NOW, ROOT, RUNS, ask

from grange.lineage.graph import Node
from grange.lineage.openlineage import Names

SUBTYPES = {
    "DIRECT": {"IDENTITY", "TRANSFORMATION", "AGGREGATION"},
    "INDIRECT": {"JOIN", "GROUP_BY", "FILTER", "SORT", "WINDOW", "CONDITIONAL"},
}
SPEC = "https://openlineage.io/spec/"


def check_event(event: dict[str, Any]) -> None:
    """The required fields of the specification 2-0-2, and nothing that it does not know."""
    kind = event["schemaURL"].rpartition("/")[2]
    assert event["schemaURL"] == f"{SPEC}2-0-2/OpenLineage.json#/$defs/{kind}"
    check_time(event["eventTime"])
    check_uri(event["producer"])
    common = {"eventTime", "producer", "schemaURL", "job", "inputs", "outputs"}
    if kind == "RunEvent":
        assert set(event) == common | {"eventType", "run"}
        assert event["eventType"] in ("START", "RUNNING", "COMPLETE", "ABORT", "FAIL", "OTHER")
        assert str(uuid.UUID(event["run"]["runId"])) == event["run"]["runId"]
    else:
        assert kind == "JobEvent"
        assert set(event) == common
    check_named(event["job"])
    check_facets(event["job"]["facets"])
    for dataset in (*event["inputs"], *event["outputs"]):
        check_named(dataset)
        check_facets(dataset["facets"])
        check_facets(dataset.get("outputFacets", {}))
        check_schema(dataset["facets"])
        check_columns(dataset["facets"])


def check_named(thing: dict[str, Any]) -> None:
    assert isinstance(thing["namespace"], str) and thing["namespace"]
    assert isinstance(thing["name"], str) and thing["name"]


def check_facets(facets: dict[str, Any]) -> None:
    for name, facet in facets.items():
        check_uri(facet["_producer"])
        assert facet["_schemaURL"].startswith(f"{SPEC}facets/")
        definition = facet["_schemaURL"].rpartition("/")[2]
        assert facet["_schemaURL"].endswith(f"{definition}.json#/$defs/{definition}")
        assert name.lower().removeprefix("output") in definition.lower()


def check_schema(facets: dict[str, Any]) -> None:
    for column in facets.get("schema", {"fields": []})["fields"]:
        assert set(column) <= {"name", "type", "description"}
        assert isinstance(column["name"], str) and isinstance(column["type"], str)


def check_columns(facets: dict[str, Any]) -> None:
    facet = facets.get("columnLineage")
    if facet is None:
        return
    inputs = [item for column in facet["fields"].values() for item in column["inputFields"]] + facet["dataset"]
    assert inputs
    for item in inputs:
        check_named(item)
        assert item["field"] and item["field"] != "*"
        assert item["transformations"]
        for transformation in item["transformations"]:
            assert transformation["subtype"] in SUBTYPES[transformation["type"]]
            assert isinstance(transformation["description"], str)
            assert isinstance(transformation["masking"], bool)
    for item in facet["dataset"]:
        assert {each["type"] for each in item["transformations"]} == {"INDIRECT"}


def check_time(text: str) -> None:
    assert dt.datetime.fromisoformat(text).tzinfo is not None


def check_uri(text: str) -> None:
    assert urlsplit(text).scheme in ("urn", "https")


NAMES = [
    "churn",
    "payments",
    "profile",
    "pages",
    "people",
    "both",
    "churn#3",
    "crm",
    "user",
    "headroom",
    "payments@1.0.0",
]


@pytest.mark.parametrize("columns", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_events_have_what_the_specification_asks_for(name: str, columns: bool) -> None:
    events = ask(name, columns=columns).to_openlineage()
    assert json.loads(json.dumps(events)) == events
    for event in events:
        check_event(event)


def of_job(events: list[dict[str, Any]], name: str, kind: str | None = None) -> dict[str, Any]:
    return next(event for event in events if event["job"]["name"] == name and event.get("eventType") == kind)


def test_a_job_event_says_what_a_thing_is_made_of() -> None:
    event = of_job(ask("payments", columns=True).to_openlineage(), "feature_group.payments")
    assert event["eventTime"] == "2026-03-01T12:00:00Z"
    assert event["job"]["namespace"] == "grange://shop"
    assert event["job"]["facets"]["documentation"]["description"] == "What was paid."
    assert event["job"]["facets"]["sql"]["query"].startswith('SELECT user_id, "at", id')
    assert [(item["namespace"], item["name"]) for item in event["inputs"]] == [
        ("file", "/project/data/payments.parquet")
    ]
    [output] = event["outputs"]
    assert (output["namespace"], output["name"]) == ("grange://shop", "feature_group/payments")
    assert output["facets"]["schema"]["fields"][2] == {"name": "net__sum__7d", "type": "float64"}


def test_columns_are_told_through_what_lies_inside_a_thing() -> None:
    event = of_job(ask("payments", columns=True).to_openlineage(), "feature_group.payments")
    facet = event["outputs"][0]["facets"]["columnLineage"]
    found = {
        (item["field"], each["type"], each["subtype"])
        for item in facet["fields"]["net__sum__7d"]["inputFields"]
        for each in item["transformations"]
    }
    assert found == {
        ("amount", "DIRECT", "AGGREGATION"), ("fee", "DIRECT", "AGGREGATION"), ("gone", "INDIRECT", "FILTER"),
        ("id", "INDIRECT", "GROUP_BY"), ("user_id", "INDIRECT", "GROUP_BY"), ("at", "INDIRECT", "WINDOW"),
        ("status", "INDIRECT", "FILTER"),
    }  # fmt: skip


def test_what_has_a_say_in_every_column_is_said_of_the_whole_dataset() -> None:
    event = of_job(ask("both", columns=True, direction="upstream").to_openlineage(), "feature_group.both")
    facet = event["outputs"][0]["facets"]["columnLineage"]
    assert [(item["field"], item["transformations"][0]["subtype"]) for item in facet["dataset"]] == [("age", "FILTER")]
    assert [item["field"] for item in facet["fields"]["user_id"]["inputFields"]] == ["user_id"]


def test_opaque_code_names_the_known_columns_and_says_what_that_means() -> None:
    event = of_job(ask("pages", columns=True, direction="upstream").to_openlineage(), "feature_group.pages")
    fields = event["outputs"][0]["facets"]["columnLineage"]["fields"]
    seen = {item["field"]: item["transformations"][0]["description"] for item in fields["seen"]["inputFields"]}
    assert set(seen) == {"user_id", "at", "page"}
    assert set(seen.values()) == {"by code that is not looked into: may matter"}
    both = {
        each["description"]
        for item in fields["page"]["inputFields"]
        for each in item["transformations"]
        if item["field"] == "page"
    }
    assert both == {"as far as names tell", "by code that is not looked into: may matter"}


def test_a_run_is_a_start_and_an_end_with_one_id() -> None:
    events = ask("payments").to_openlineage()
    start, end = (of_job(events, "materialize.payments", kind) for kind in ("START", "COMPLETE"))
    assert start["run"] == end["run"]
    assert (start["eventTime"], end["eventTime"]) == ("2026-02-01T00:00:00Z", "2026-03-01T12:00:00Z")
    assert start["outputs"] == []
    [output] = end["outputs"]
    assert output["facets"]["version"]["datasetVersion"] == "1.1.0"
    assert output["outputFacets"]["outputStatistics"]["rowCount"] == 100


def test_run_ids_are_those_of_the_runs() -> None:
    def ids(*runs: Any) -> set[str]:
        events = ask("payments", replace(FACTS, runs=runs)).to_openlineage()
        return {event["run"]["runId"] for event in events if "run" in event}

    later = replace(RUNS[0], started_at=NOW)
    assert ids(RUNS[0]) == ids(RUNS[0])
    assert len(ids(RUNS[0], later)) == 2


def test_a_run_that_writes_no_rows_reads_its_group() -> None:
    load = replace(RUNS[0], verb="load")
    event = of_job(ask("payments", replace(FACTS, runs=(load,))).to_openlineage(), "load.payments", "COMPLETE")
    assert [item["name"] for item in event["inputs"]] == ["feature_group/payments"]
    assert event["outputs"] == []


def test_pushed_rows_are_a_run_of_the_push_source() -> None:
    event = of_job(ask("pages").to_openlineage(), "push.pages", "COMPLETE")
    assert [item["name"] for item in event["inputs"]] == ["source/push/events"]
    assert "version" not in event["outputs"][0]["facets"]


@pytest.mark.parametrize(
    "node, namespace, name",
    [
        (Node("source", "s3://lake/a/b.parquet", "file"), "s3://lake", "a/b.parquet"),
        (Node("source", "/abs/x.csv", "file"), "file", "/abs/x.csv"),
        (Node("source", "x y.csv", "file"), "file", "/project/x y.csv"),
        (Node("export", "gs://lake/out"), "gs://lake", "out"),
        (Node("source", "orders", "table"), "grange://shop", "source/table/orders"),
        (Node("feature_group", "g", version="1.0.0"), "grange://shop", "feature_group/g"),
        (Node("training_dataset", "v", version="2"), "grange://shop", "training_dataset/v/2"),
    ],
)
def test_names_of_datasets(node: Node, namespace: str, name: str) -> None:
    assert Names("shop", ROOT, NOW).dataset(node) == {"namespace": namespace, "name": name}


def test_a_training_dataset_reads_versions_of_groups() -> None:
    event = of_job(ask("churn#3").to_openlineage(), "training_dataset.churn.3")
    read = {item["name"]: item["facets"].get("version", {}).get("datasetVersion") for item in event["inputs"]}
    assert read == {
        "feature_group/pages": None, "feature_group/payments": "1.0.0", "feature_group/profile": "2.0.1",
        "feature_view/churn": None, "/project/labels.csv": None,
    }  # fmt: skip
    assert DATASET["version"] == 3
