"""What breaks: changes and deletions, and what they mean for what is made of what changes."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from tests.unit.lineage.definitions import (
    CATALOG,
    DATASET,
    FACTS,
    headroom,
    pages,
    payments,
    people,
    profile,
    user,
)

import grange as gr
from grange.definitions.catalog import Catalog
from grange.definitions.transforms import sql_transform
from grange.lineage import Edge, Graph, Impact, Node, deletion_impact, impact, impact_lines
from grange.lineage.things import entity_node, file_node, group_node, transformation_node, view_node

KEPT = "it stays, and cannot be computed again"
COLUMNS = {"user_id": "string", "at": "datetime", "age": "int64", "credit": "float64"}


def after(**changes: gr.FeatureGroup | gr.FeatureView | None) -> Catalog:
    kept: dict[str, Any] = {**CATALOG.groups, **CATALOG.views, **changes}
    return Catalog.of([item for item in kept.values() if item is not None])


def profile_with(**options: Any) -> gr.FeatureGroup:
    given = {"entities": user, "source": profile.source, "schema": COLUMNS, "on_demand": [headroom], **options}
    return gr.FeatureGroup("profile", **given)


def told(changed: Catalog, facts: Any = FACTS, before: Catalog = CATALOG) -> list[str]:
    return [str(item) for item in impact(before, changed, facts.graph(entities=True))]


def test_nothing_changes_nothing() -> None:
    assert told(CATALOG) == []
    assert (
        told(after(profile=profile_with(description="other words", owner="x", expectations={"age": [gr.not_null()]})))
        == []
    )


def test_new_things_break_nothing() -> None:
    extra = gr.FeatureView("extra", features=["profile:age"])
    assert told(after(extra=extra)) == []


def test_a_removed_group_breaks_what_still_takes_from_it() -> None:
    view = gr.FeatureView("v", features=["profile:age", "pages:page"])
    before = Catalog.of([profile, pages, view])
    facts = replace(FACTS, catalog=before, training_datasets=(DATASET | {"view": "v"},))
    gone = Catalog(before.entities, {"pages": pages}, before.views)
    fixed = [
        "breaks: training dataset v#3: feature group profile is removed; it stays, and cannot be computed again",
        "notice: export s3://lake/out/profile.parquet: feature group profile is removed; it stays, and is not renewed",
    ]
    assert told(gone, facts, before) == ["breaks: feature view v: feature group profile is removed", *fixed]
    changed = Catalog.of([pages, gr.FeatureView("v", features=["pages:page"])])
    assert [line for line in told(changed, facts, before) if "profile is removed" in line] == fixed


def test_a_lost_feature_breaks_whoever_takes_it_and_nobody_else() -> None:
    smaller = profile_with(schema={name: COLUMNS[name] for name in ("user_id", "at", "age")}, on_demand=[])
    other = gr.FeatureView("other", features=["profile:age"])
    whole = gr.FeatureView("whole", features=["profile"])
    before = Catalog.of([profile, other, whole])
    changed = Catalog.of([smaller, other, whole])
    graph = replace(FACTS, catalog=before, training_datasets=(), exports=())
    assert told(changed, graph, before) == [
        "breaks: feature view whole: profile:credit, profile:headroom, profile:twice are removed",
    ]


def test_whoever_drops_a_feature_from_group_and_view_at_once_knows() -> None:
    smaller = profile_with(schema={name: COLUMNS[name] for name in ("user_id", "at", "credit")}, on_demand=[])
    view = gr.FeatureView("v", features=["profile:age", "profile:credit"])
    outer = gr.FeatureView("outer", features=["v"])
    before = Catalog.of([profile, view, outer])
    changed = Catalog.of([smaller, gr.FeatureView("v", features=["profile:credit"]), outer])
    facts = replace(FACTS, catalog=before, training_datasets=(), exports=())
    found = impact(before, changed, facts.graph())
    assert not [item for item in found if item.what.name == "v"]
    assert [str(item) for item in found if item.what.name == "outer"] == [
        "breaks: feature view outer: profile:age is removed", "breaks: feature view outer: v:age is no longer given",
    ]  # fmt: skip


def test_another_type_breaks_model_inputs() -> None:
    found = told(after(profile=profile_with(schema=COLUMNS | {"age": "string"})))
    assert "breaks: feature view people: profile:age is string, was int64" in found
    assert "breaks: feature view churn: profile:age is string, was int64" in found
    assert "changes: training dataset churn#3: profile:age is string, was int64; it was made before that" in found


def test_changed_code_changes_values_and_makes_derived_groups_stale() -> None:
    found = impact(CATALOG, after(profile=profile_with(transform="SELECT * FROM source")), FACTS.graph())
    assert {(item.severity, str(item.what), item.why) for item in found} == {
        ("changes", "feature group both", "the code of profile changed; it is stale until it is materialized again"),
        ("changes", "feature view churn", "the code of profile changed"),
        ("changes", "feature view people", "the code of profile changed"),
        ("changes", "training dataset churn#3", "the code of profile changed; it was made before that"),
        ("changes", "export s3://lake/out/profile.parquet", "the code of profile changed; it was made before that"),
    }
    [path] = [item.path for item in found if item.what == view_node("people")]
    assert path == (group_node("profile"), view_node("people"))


def test_a_pinned_version_is_not_affected() -> None:
    """churn takes payments@1.0.0, and a label of `both`, which follows payments."""
    pinned = gr.FeatureView("pinned", features=["payments@1.0.0:hour"])
    before = after(pinned=pinned)
    changed = after(pinned=pinned, payments=payments.with_(transform=sql_transform("SELECT * FROM source")))
    facts = replace(FACTS, catalog=before, training_datasets=(DATASET | {"view": "pinned"},))
    assert not [line for line in told(changed, facts, before) if "pinned" in line]
    assert "changes: feature view churn: the code of payments changed" in told(changed, facts, before)


def test_a_training_dataset_of_other_code_was_out_of_date_before() -> None:
    changed = after(payments=payments.with_(transform=sql_transform("SELECT * FROM source")))
    assert payments.transform is not None
    for code_hash, expected in ((payments.transform.code_hash, True), ("another", False)):
        facts = replace(FACTS, training_datasets=(DATASET | {"code_hashes": {"payments": code_hash}},))
        assert any("churn#3" in line for line in told(changed, facts)) == expected


@pytest.mark.parametrize(
    "options, why",
    [
        ({"ttl": "3d"}, "the ttl of profile is 3d, was none"),
        ({"defaults": {"age": 1}}, "profile:age is given other defaults"),
        ({"source": gr.FileSource("other.csv", event_time="at")}, "the source of profile changed"),
        ({"on_demand": [gr.Transformation("headroom", sql={"headroom": "credit - total", "twice": "total * 3"},
                                          requests={"total": "float64"})]},
         "profile:headroom is given other on-demand code"),
    ],
)  # fmt: skip
def test_what_changes_values(options: dict[str, Any], why: str) -> None:
    assert f"changes: feature view people: {why}" in told(after(profile=profile_with(**options)))


def test_expectations_that_leave_out_rows_change_values() -> None:
    def changed(policy: Any) -> list[str]:
        return told(after(profile=profile_with(expectations={"age": [gr.greater_than(3, policy=policy)]})))

    assert "changes: feature view people: the expectations of profile leave out other rows" in changed("drop")
    assert changed("warn") == changed("fail") == []


def test_the_weightier_is_told_once() -> None:
    """Code that takes a column away changed: whom it breaks knows; whom it may not matter to is told of the code."""
    smaller = profile_with(
        schema={name: COLUMNS[name] for name in ("user_id", "at", "credit")}, transform="SELECT * FROM source"
    )
    found = told(after(profile=smaller))
    assert [line for line in found if "feature group both" in line] == [
        "breaks: feature group both: profile:age is removed",
    ]
    assert "breaks: feature view people: profile:age is removed" in found
    assert "changes: feature view people: the code of profile changed" not in found
    assert (
        "changes: export s3://lake/out/profile.parquet: the code of profile changed; it was made before that" in found
    )


def test_another_window_matters_to_whoever_takes_that_feature() -> None:
    other = payments.with_(
        aggregations=(gr.Rolling({"net": "sum"}, windows="7d", closed="left"), *payments.aggregations[1:])
    )
    text = "payments:net__sum__7d is given other windows"
    assert told(after(payments=other)) == [
        f"changes: feature group both: {text}; it is stale until it is materialized again",
    ]


def test_another_default_that_equals_in_python_is_another_one() -> None:
    before = after(profile=profile_with(defaults={"age": 1}))
    facts = replace(FACTS, catalog=before)
    assert told(after(profile=profile_with(defaults={"age": True})), facts, before)


def test_another_entity_key_breaks_views() -> None:
    account = gr.Entity("account", join_keys=["account_id"])
    changed = after(profile=profile_with(entities=account, schema={"account_id": "string"} | COLUMNS))
    assert "breaks: feature view people: the entity key of profile is account_id string, was user_id string" in told(
        changed
    )


def test_a_key_of_another_type_breaks_views() -> None:
    changed = after(profile=profile_with(schema=COLUMNS | {"user_id": "int64"}))
    assert "breaks: feature view people: the entity key of profile is user_id int64, was user_id string" in told(
        changed
    )


def test_a_group_that_is_not_served_breaks_views_but_not_their_labels_or_data() -> None:
    assert told(after(profile=profile_with(online=False))) == [
        "breaks: feature view churn: profile is not served online any more",
        "breaks: feature view people: profile is not served online any more",
    ]
    labelled = gr.FeatureView("labelled", features=["pages:page"], labels=["profile:age"])
    before = Catalog.of([pages, profile, labelled])
    changed = Catalog.of([pages, profile_with(online=False), labelled])
    assert told(changed, replace(FACTS, catalog=before, training_datasets=(), exports=()), before) == []


def test_a_new_feature_is_a_notice_to_views_that_take_the_group_whole() -> None:
    whole, some = gr.FeatureView("whole", features=["profile"]), gr.FeatureView("some", features=["profile:age"])
    before, changed = (
        Catalog.of([group, whole, some]) for group in (profile, profile_with(schema=COLUMNS | {"new": "int64"}))
    )
    assert told(changed, replace(FACTS, catalog=before, training_datasets=(), exports=()), before) == [
        "notice: feature view whole: profile:new is new, and taken with the whole group",
    ]


def test_a_changed_view_matters_to_views_that_take_it_over() -> None:
    found = told(after(people=gr.FeatureView("people", features=["profile:age"], derived={"decade": "age // 10"})))
    assert "breaks: feature view churn: people:headroom is no longer given" in found
    other = gr.FeatureView("people", features=["profile:age", "profile:headroom"], derived={"decade": "age // 11"})
    assert told(after(people=other))[0] == "changes: feature view churn: feature view people changed"
    assert (
        told(
            after(people=gr.FeatureView("people", features=people.features, derived={"decade": "age // 10"}, owner="x"))
        )
        == []
    )


def test_models_break_with_their_views_and_training_datasets() -> None:
    model = Node("model", "churn_model", version="1")
    graph = FACTS.graph()
    graph = Graph.of(
        (*graph.nodes, model),
        (
            *graph.edges,
            Edge(view_node("churn"), model, "reads"),
            Edge(Node("training_dataset", "churn", version="3"), model, "trains"),
        ),
    )
    found = impact(CATALOG, after(profile=profile_with(schema=COLUMNS | {"age": "string"})), graph)
    assert "breaks: model churn_model@1: profile:age is string, was int64" in map(str, found)
    assert [str(item) for item in deletion_impact(CATALOG, graph, Node("training_dataset", "churn", version="3"))] == [
        "breaks: model churn_model@1: training dataset churn#3 is removed",
    ]


def test_the_worst_comes_first_and_is_json() -> None:
    found = impact(CATALOG, after(profile=profile_with(schema=COLUMNS | {"age": "string"}, ttl="1d")), FACTS.graph())
    severities = [item.severity for item in found]
    assert severities == sorted(severities, key=["breaks", "changes", "notice"].index) and len(set(severities)) > 1
    data = json.loads(json.dumps(found[0].to_dict()))
    assert data["severity"] == "breaks"
    assert data["what"] == {"kind": "feature_group", "name": "both", "id": "feature_group:both"}
    assert data["path"] == ["feature_group:profile", "feature_group:both"]


def test_training_datasets_of_a_view_share_a_line() -> None:
    numbers = [Impact("changes", Node("training_dataset", "v", version=str(n)), "why", ()) for n in range(1, 8)]
    single = Impact("changes", view_node("v"), "why", ())
    assert impact_lines([single, *numbers]) == [
        "changes: feature view v: why", "changes: training datasets v#1, v#2, v#3, v#4, v#5 and 2 more: why",
    ]  # fmt: skip
    assert impact_lines([numbers[0]]) == ["changes: training dataset v#1: why"]


def deleted(node: Node, catalog: Catalog = CATALOG) -> list[str]:
    facts = replace(FACTS, catalog=catalog)
    graph = facts.graph(entities=True)
    return [str(item) for item in deletion_impact(catalog, graph, node)]


def test_deleting_a_group() -> None:
    assert deleted(group_node("profile")) == [
        "breaks: feature group both: feature group profile is removed",
        "breaks: feature view churn: feature group profile is removed",
        "breaks: feature view people: feature group profile is removed",
        "breaks: training dataset churn#3: feature group profile is removed; it stays, and cannot be computed again",
        "notice: export s3://lake/out/profile.parquet: feature group profile is removed; it stays, and is not renewed",
    ]


def test_deleting_a_version_breaks_what_pins_it() -> None:
    assert deleted(group_node("payments", "1.0.0")) == [
        "breaks: feature view churn: feature group payments@1.0.0 is removed",
        f"breaks: training dataset churn#3: feature group payments@1.0.0 is removed; {KEPT}",
    ]


def test_deleting_the_rows_of_a_source() -> None:
    assert deleted(file_node("data/profile.csv")) == [
        "breaks: feature group profile: source crm is not there any more; it cannot be materialized again",
        "changes: feature group both: source crm is not there any more; it gets no newer values",
        "changes: feature view churn: source crm is not there any more; it gets no newer values",
        "changes: feature view people: source crm is not there any more; it gets no newer values",
    ]
    assert deleted(file_node("labels.csv")) == [
        f"breaks: training dataset churn#3: source labels.csv is not there any more; {KEPT}",
    ]


def test_deleting_a_column_breaks_what_surely_takes_it() -> None:
    assert deleted(group_node("pages").at("page")) == [
        "breaks: feature view churn: pages:page is removed",
        "changes: training dataset churn#3: pages:page is removed; it was made before that",
    ]
    assert deleted(group_node("payments").at("net__sum__7d")) == [
        "breaks: feature group both: payments:net__sum__7d is removed",
    ]


def test_deleting_a_column_that_code_may_look_at_is_a_notice() -> None:
    source = Node("source", "events", "push").at("page")
    assert [line.partition(":")[0] for line in deleted(source)] == ["notice"] * 3
    assert (
        deleted(source)[0] == "notice: feature group pages: events:page is removed; whether it matters cannot be told"
    )


def test_deleting_entities_transformations_and_views() -> None:
    assert "breaks: feature group profile: entity user is removed" in deleted(entity_node("user"))
    assert "breaks: feature group profile: transformation headroom is removed" in deleted(
        transformation_node("headroom")
    )
    assert deleted(view_node("churn")) == [
        "notice: training dataset churn#3: feature view churn is removed; it stays, and grange td reproduce can "
        "compute it again",
    ]
    assert deleted(Node("training_dataset", "churn", version="3")) == []
