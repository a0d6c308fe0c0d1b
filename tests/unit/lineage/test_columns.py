"""Columns of things: which there are, and what each is made of."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.lineage.definitions import CATALOG, DATASET, FACTS, ask, profile, user

import grange as gr
from grange.definitions.catalog import Catalog
from grange.definitions.serialize import fingerprint, to_data
from grange.lineage import Edge, Facts, Graph, Node, build_graph
from grange.lineage.things import dataset_node, export_node, file_node, group_node, view_node
from grange.ports.offline import VersionMeta
from grange.types import Schema

GRAPH = build_graph(CATALOG, training_datasets=FACTS.training_datasets, exports=FACTS.exports, columns=True)


def made_of(graph: Graph, node: Node) -> set[str]:
    """`payments:net~sum of 7d`: the column, what it is, by what; `?` and `??` where that is not certain."""
    return {text(edge) for edge in graph.into(node)}


def text(edge: Edge) -> str:
    doubt = {"certain": "", "maybe": "?", "opaque": "??"}[edge.certainty]
    inside = f"[{edge.upstream.type}]" if edge.upstream.type in ("event", "unprepared") else ""
    return f"{edge.upstream.reference}{inside}~{edge.how}{doubt}" + (f" {edge.via}" if edge.via else "")


def group(name: str, source: Any, **options: Any) -> gr.FeatureGroup:
    schema = options.pop("schema", {"user_id": "string", "at": "datetime", "a": "float64"})
    return gr.FeatureGroup(name, entities=user, source=source, schema=schema, **options)


def test_a_column_of_a_file_is_taken_as_it_is() -> None:
    assert made_of(GRAPH, group_node("profile").at("age")) == {"crm:age~identity"}


def test_sql_makes_columns_of_raw_columns_and_its_filter_has_a_say() -> None:
    assert made_of(GRAPH, group_node("payments").at("net", type="event")) == {
        "data/payments.parquet:amount~transformation SQL",
        "data/payments.parquet:fee~transformation SQL",
        "data/payments.parquet:status~filter SQL",
    }


def test_a_window_is_made_of_its_column_and_of_what_decides_which_events_count() -> None:
    own = group_node("payments")
    deciding = {
        "payments:at~window",
        "payments:user_id~group_by",
        "payments:id[event]~group_by",
        "payments:gone[event]~filter",
    }
    assert made_of(GRAPH, own.at("net__sum__7d")) == deciding | {"payments:net[event]~aggregation sum of 7d"}
    assert made_of(GRAPH, own.at("abroad__count__7d")) == deciding | {"payments:country[event]~filter"}
    assert made_of(GRAPH, own.at("hour")) == set()


def test_functions_that_compare_another_column_and_lags() -> None:
    spend = group(
        "spend",
        gr.FileSource("s.parquet", event_time="at"),
        schema={"user_id": "string", "at": "datetime", "a": "float64", "b": "float64"},
        aggregations=[gr.Rolling({"a": "max_by(b)"}, windows="7d"), gr.Lag("a", "1h")],
    )
    graph = build_graph(Catalog.of([spend]), columns=True)
    common = {"spend:at~window", "spend:user_id~group_by"}
    assert made_of(graph, group_node("spend").at("a__max_by_b__7d")) == common | {
        "spend:a[event]~aggregation max_by(b) of 7d", "spend:b[event]~conditional max_by(b) of 7d",
    }  # fmt: skip
    assert made_of(graph, group_node("spend").at("a__lag__1h")) == common | {"spend:a[event]~transformation lag"}


def test_a_python_transform_is_opaque_and_equal_names_are_a_maybe() -> None:
    pages = group_node("pages")
    assert made_of(GRAPH, pages.at("seen")) == {"events:*~transformation?? last_page()"}
    assert made_of(GRAPH, pages.at("page")) == {
        "events:*~transformation?? last_page()", "events:page~transformation? last_page()",
    }  # fmt: skip
    anything = Node("source", "events", "push").at("*")
    assert made_of(GRAPH, anything) == {f"events:{name}~identity??" for name in ("user_id", "at", "page")}


def test_columns_of_a_source_that_nobody_declares_are_not_guessed() -> None:
    unknown = group("g", gr.FileSource("x.parquet", event_time="at"), transform=lambda df: df)
    graph = build_graph(Catalog.of([unknown]), columns=True)
    assert {node.column for node in graph.columns(file_node("x.parquet"))} == {"*"}
    assert made_of(graph, group_node("g").at("a")) == {"x.parquet:*~transformation?? <lambda>()"}


def test_groups_that_take_a_source_as_it_is_tell_its_columns() -> None:
    source = gr.FileSource("x.parquet", event_time="at")
    plain = group("plain", source)
    schema = {"user_id": "string", "at": "datetime", "a": "float64", "twice": "float64", "more": "float64"}
    query = "SELECT *, a * 2 AS twice, twice + 1 AS more FROM source"
    doubled = group("doubled", source, transform=query, schema=schema)
    alone = build_graph(Catalog.of([doubled]), columns=True)
    assert made_of(alone, group_node("doubled").at("more")) == {
        "x.parquet:a~transformation? SQL",
        "x.parquet:twice~transformation? SQL",
    }
    beside = build_graph(Catalog.of([plain, doubled]), columns=True)
    assert made_of(beside, group_node("doubled").at("more")) == {"x.parquet:a~transformation SQL"}


def test_rows_pushed_and_in_files_are_two_sources() -> None:
    batch = gr.FileSource("old.parquet", event_time="at")
    stream = gr.PushSource("live", event_time="at", batch_source=batch)
    graph = build_graph(Catalog.of([group("g", stream)]), columns=True)
    assert made_of(graph, group_node("g").at("a")) == {"old.parquet:a~identity", "live:a~identity"}


def test_a_derived_group_is_made_of_its_parents_columns_and_its_filter() -> None:
    both = group_node("both")
    assert made_of(GRAPH, both.at("p_age")) == {"profile:age~identity", "profile:age~filter"}
    assert made_of(GRAPH, both.at("event_time")) == {"payments:at~identity", "profile:age~filter"}
    assert made_of(GRAPH, both.at("user_id")) == {"payments:user_id~identity", "profile:age~filter"}


def test_a_python_transform_of_a_derived_group_may_look_at_every_parent_column() -> None:
    made = group("made", gr.DerivedSource(["profile:age"]), transform=lambda df: df,
                 schema={"user_id": "string", "event_time": "datetime", "score": "float64"})  # fmt: skip
    graph = build_graph(Catalog.of([profile, made]), columns=True)
    assert made_of(graph, group_node("made").at("score")) == {
        f"profile:{name}~transformation?? <lambda>()" for name in ("user_id", "at", "age")
    }


def test_on_demand_sql_says_what_each_output_is_made_of_and_the_request_is_a_source() -> None:
    expected = {"profile:credit~transformation headroom", "request:total~transformation headroom"}
    assert made_of(GRAPH, group_node("profile").at("headroom")) == expected
    assert made_of(GRAPH, group_node("profile").at("twice")) == expected


def test_on_demand_python_counts_every_declared_input() -> None:
    @gr.transformation(outputs={"r": "float64"})
    def ratio(one: float, two: float) -> float:
        return one

    view = gr.FeatureView(
        "v", features=["profile:age", "profile:credit"], on_demand=[ratio.on("age", "credit", outputs="q")]
    )
    graph = build_graph(Catalog.of([profile, view]), columns=True)
    assert made_of(graph, view_node("v").at("q")) == {"v:age~transformation ratio", "v:credit~transformation ratio"}


def test_a_view_takes_renames_prefixes_and_pins() -> None:
    view = gr.FeatureView(
        "v",
        features=[
            gr.select("profile", "age", "credit", rename={"credit": "limit"}, prefix="p_"),
            "payments@1.0.0:hour",
        ],
    )
    graph = build_graph(Catalog.of([*CATALOG.groups.values(), view]), columns=True)
    assert made_of(graph, view_node("v").at("p_age")) == {"profile:age~identity"}
    assert made_of(graph, view_node("v").at("limit")) == {"profile:credit~identity"}
    assert made_of(graph, view_node("v").at("hour")) == {"payments@1.0.0:hour~identity"}
    assert made_of(graph, group_node("payments", "1.0.0").at("hour")) == {"payments:hour~identity?"}


def test_a_group_taken_whole_leaves_labels_out_and_brings_on_demand_features() -> None:
    view = gr.FeatureView("v", features=["profile"], labels=["profile:age", "bought"])
    graph = build_graph(Catalog.of([profile, view]), columns=True)
    columns = {node.column for node in graph.columns(view_node("v"))}
    assert columns == {"credit", "headroom", "twice", "age", "bought"}
    assert [(edge.why, edge.how) for edge in graph.into(view_node("v").at("age"))] == [("label", "identity")]
    assert graph.into(view_node("v").at("bought")) == ()


def test_request_columns_of_a_view_are_those_of_its_request_source() -> None:
    basket = gr.RequestSource("basket", schema={"total": "float64"})
    view = gr.FeatureView("v", features=["profile:credit"], requests=[basket], derived={"left": "credit - total"})
    graph = build_graph(Catalog.of([profile, view]), columns=True)
    assert made_of(graph, view_node("v").at("left")) == {
        "v:credit~transformation SQL",
        "basket:total~transformation SQL",
    }


def test_what_prepares_columns_for_the_model_stands_between() -> None:
    own = view_node("churn")
    decade = {"people:decade~filter"}
    assert made_of(GRAPH, own.at("age")) == decade | {"churn:age[unprepared]~transformation impute, standard_scaler"}
    assert made_of(GRAPH, own.at("age", type="unprepared")) == {"people:age~identity"}
    assert made_of(GRAPH, own.at("page__*")) == decade | {"churn:page[unprepared]~transformation one_hot_encoder"}
    assert own.at("page") not in GRAPH
    assert made_of(GRAPH, own.at("older")) == decade | {"churn:age[unprepared]~transformation older"}


@pytest.mark.parametrize(
    "step, columns",
    [
        (gr.Step("standard_scaler", ("age",), keep=True), {"age": "age"}),
        (gr.Step("bin", ("age",), outputs=("bucket",)), {"bucket": "age"}),
        (gr.Step("impute", ("age",), parameters=(("indicator", True),)), {"age": "age", "age__missing": "age"}),
        (gr.Step("one_hot_encoder", ("age",), outputs=("a",)), {"a__*": "age"}),
        (gr.Step("sklearn", ("age", "credit"), outputs=("pc",)), {"pc": "age credit"}),
        (gr.Step("sklearn", ("age",)), {"*": "age"}),
    ],
)
def test_steps_of_ready_functions(step: gr.Step, columns: dict[str, str]) -> None:
    view = gr.FeatureView("v", features=["profile:age", "profile:credit"], transformations=[step])
    graph = build_graph(Catalog.of([profile, view]), columns=True)
    for name, inputs in columns.items():
        expected = {f"v:{column}[unprepared]~transformation {step.function}" for column in inputs.split()}
        assert made_of(graph, view_node("v").at(name)) == expected


def test_a_step_that_keeps_its_inputs_leaves_them_as_they_are() -> None:
    step = gr.Step("bin", ("age",), outputs=("bucket",), keep=True)
    view = gr.FeatureView("v", features=["profile:age"], transformations=[step])
    graph = build_graph(Catalog.of([profile, view]), columns=True)
    assert made_of(graph, view_node("v").at("bucket")) == {"v:age~transformation bin"}
    assert made_of(graph, view_node("v").at("age")) == {"profile:age~identity"}


def test_helpers_are_not_prepared() -> None:
    view = gr.FeatureView("v", features=["profile:age", "profile:credit"], training_helpers=["age"],
                          transformations=[gr.Step("standard_scaler", ("credit",))])  # fmt: skip
    graph = build_graph(Catalog.of([profile, view]), columns=True)
    assert made_of(graph, view_node("v").at("age")) == {"profile:age~identity"}


def test_a_view_that_takes_another_gets_its_features_before_they_are_prepared() -> None:
    inner = gr.FeatureView("inner", features=["profile:age"], transformations=[gr.Step("standard_scaler", ("age",))])
    outer = gr.FeatureView("outer", features=["inner"])
    graph = build_graph(Catalog.of([profile, inner, outer]), columns=True)
    assert made_of(graph, view_node("outer").at("age")) == {"inner:age[unprepared]~identity"}


def test_a_filter_over_two_columns_makes_no_circle() -> None:
    view = gr.FeatureView("v", features=["profile:age", "profile:credit"], filter="age > 1 AND credit > 1")
    graph = build_graph(Catalog.of([profile, view]), columns=True)
    assert made_of(graph, view_node("v").at("age")) == {
        "profile:age~identity",
        "profile:age~filter",
        "profile:credit~filter",
    }


def test_the_graph_of_columns_has_no_circles() -> None:
    for node in GRAPH.nodes:
        assert all(edge.upstream not in GRAPH.downstream(node) for edge in GRAPH.into(node))


def test_training_datasets_have_the_columns_of_their_view() -> None:
    schema = [{"name": name, "dtype": "float64"} for name in ("user_id", "age", "page__home", "churned")]
    data = DATASET | {"schema": schema, "roles": {"user_id": "key", "age": "feature"}}
    view = CATALOG.views["churn"]
    for fingerprinted, doubt in ((fingerprint(to_data(view)), ""), ("another", "?")):
        known = data | {"view_fingerprint": fingerprinted}
        graph = build_graph(CATALOG, training_datasets=[known], columns=True)
        own = dataset_node("churn", 3)
        assert made_of(graph, own.at("age")) == {f"churn:age~identity{doubt}"}
        assert made_of(graph, own.at("page__home")) == {f"churn:page__*~identity{doubt}"}
        assert made_of(graph, own.at("churned")) == {f"churn:churned~identity{doubt}"}
        assert own.at("user_id") not in graph


def exports_of(**data: Any) -> Graph:
    return build_graph(CATALOG, exports=[{"destination": "out", "version": None, **data}], columns=True)


def test_exports_are_copies() -> None:
    own = export_node("s3://lake/out/profile.parquet")
    assert made_of(GRAPH, own.at("age")) == {"profile:age~identity"}
    assert {node.column for node in GRAPH.columns(own)} == {"user_id", "at", "age", "credit", "headroom", "twice"}


def test_an_export_has_the_columns_that_it_says() -> None:
    place = export_node("out")
    some = exports_of(what="group", name="profile", columns=["age"])
    assert {node.column for node in some.columns(place)} == {"age"}
    joined = exports_of(what="view", name="churn", columns=["user_id", "older", "page__home"])
    assert made_of(joined, place.at("page__home")) == {"churn:page__*~identity"}
    assert {node.column for node in joined.columns(place)} == {"older", "page__home"}


def test_an_export_of_events_and_of_a_version() -> None:
    place = export_node("out")
    events = exports_of(what="group", name="payments", version="1.0.0", columns=["net", "hour"])
    assert made_of(events, place.at("net")) == {"payments@1.0.0:net[event]~identity"}
    assert made_of(events, group_node("payments", "1.0.0").at("net", type="event")) == {"payments:net[event]~identity?"}
    assert made_of(events, place.at("hour")) == {"payments@1.0.0:hour~identity"}


def test_an_export_of_a_view_pins_what_it_was_made_of() -> None:
    pins = [{"group": "profile", "version": "2.0.1", "pushed_until": None}]
    graph = exports_of(what="view", name="churn", version=3, pins=pins)
    upstream = {str(edge.upstream): edge.why for edge in graph.into(export_node("out"))}
    assert upstream == {
        "feature view churn": "exports",
        "feature group profile@2.0.1": "pins",
        "training dataset churn#3": "transforms",
    }


@pytest.mark.parametrize("status", ["failed", "interrupted"])
def test_an_export_that_failed_is_nowhere(status: str) -> None:
    assert export_node("out") not in exports_of(what="group", name="profile", status=status)


def meta(version: str, columns: dict[str, str], code: str = "") -> VersionMeta:
    return VersionMeta("profile", version, Schema.of(columns), ("user_id",), "at", None, code_hash=code)


def test_a_version_has_its_own_columns_and_says_whether_its_code_is_still_the_same() -> None:
    columns = {"user_id": "string", "at": "datetime", "age": "int32", "shoe": "int64"}
    same, other = meta("1.0.0", columns), meta("2.0.0", columns, code="else")
    graph = build_graph(CATALOG, metas=[same, other], columns=True)
    first, second = group_node("profile", "1.0.0"), group_node("profile", "2.0.0")
    assert made_of(graph, first.at("age")) == {"profile:age~identity"}
    assert made_of(graph, second.at("age")) == {"profile:age~identity?"}
    assert made_of(graph, first.at("shoe")) == set()
    assert {node.column: node.dtype for node in graph.columns(first)}["age"] == "int32"
    assert graph.known(first).about["schema"][2] == {"name": "age", "dtype": "int32"}


def test_a_view_of_a_pinned_version_has_that_versions_features() -> None:
    view = gr.FeatureView("v", features=["profile@1.0.0"])
    known = meta("1.0.0", {"user_id": "string", "at": "datetime", "shoe": "int64"})
    graph = build_graph(Catalog.of([profile, view]), metas=[known], columns=True)
    assert {node.column for node in graph.columns(view_node("v"))} == {"shoe", "headroom", "twice"}


def test_columns_of_some_things_alone() -> None:
    graph = build_graph(CATALOG, columns=[group_node("profile"), view_node("people")])
    assert {node.owner.name for node in graph.nodes if node.column} == {"profile", "people"}
    assert made_of(graph, view_node("people").at("age")) == {"profile:age~identity"}


def test_odd_names_stay_what_they_are() -> None:
    odd = 'größe "x" -> ñ\\'
    plain = group("g", gr.FileSource("dätä/ä b.parquet", event_time="at"),
                  schema={"user_id": "string", "at": "datetime", odd: "float64"})  # fmt: skip
    facts = Facts(Catalog.of([plain]))
    found = ask(f"g:{odd}", facts)
    assert [node.column for node in found.upstream] == [odd]
    assert f"dätä/ä b.parquet:{odd} · as it is" in found.to_tree()
    assert '[label="größe \\"x\\" -> ñ\\\\"' in found.to_dot()
