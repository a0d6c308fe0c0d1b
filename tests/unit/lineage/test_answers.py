"""Answers about a small shop: trees as people see them, data, Graphviz; and what a name means."""

from __future__ import annotations

import json
import textwrap
from typing import Any

import pytest
from tests.unit.lineage.definitions import ask, user

import grange as gr
from grange.definitions.catalog import Catalog
from grange.errors import NotFoundError, RequestError, UnknownFeatureError
from grange.lineage import Facts
from grange.lineage.graph import KINDS, Edge, Graph, Node
from grange.lineage.trees import to_tree


def tree(text: str) -> str:
    return textwrap.dedent(text).strip("\n")


GOLDEN: dict[str, tuple[str, dict[str, Any], str]] = {
    "a view": (
        "churn",
        {},
        """
        feature view churn

        upstream
        ├─ transformation older · transforms
        ├─ feature group both · label
        │  ├─ feature group payments (1.1.0) · derived from
        │  │  └─ source data/payments.parquet · reads
        │  └─ feature group profile · derived from
        │     ├─ source crm (data/profile.csv) · reads
        │     ├─ source request · reads
        │     └─ transformation headroom · transforms
        ├─ feature group pages · reads
        │  └─ source events · reads
        ├─ feature group payments@1.0.0 · pins
        │  └─ feature group payments (1.1.0) · version of (above)
        └─ feature view people · reads
           └─ feature group profile · reads (above)

        downstream
        └─ training dataset churn#3 · reads
        """,
    ),
    "a group, downstream": (
        "payments",
        {"direction": "downstream"},
        """
        feature group payments (1.1.0, 2026-03-01T12:00:00Z)

        downstream
        ├─ feature group both · derived from
        │  └─ feature view churn · label
        │     └─ training dataset churn#3 · reads
        └─ feature group payments@1.0.0 · version of
           ├─ feature view churn · pins (above)
           └─ training dataset churn#3 · pins
        """,
    ),
    "a version": (
        "payments@1.0.0",
        {"depth": 1},
        """
        feature group payments@1.0.0

        upstream
        └─ feature group payments (1.1.0) · version of

        downstream
        ├─ feature view churn · pins
        └─ training dataset churn#3 · pins
        """,
    ),
    "a training dataset": (
        "churn#3",
        {"depth": 1},
        """
        training dataset churn#3

        upstream
        ├─ source labels.csv · spine
        ├─ feature group pages · pins
        ├─ feature group payments@1.0.0 · pins
        ├─ feature group profile@2.0.1 · pins
        └─ feature view churn · reads

        downstream
          nothing
        """,
    ),
    "a source": (
        "crm",
        {"direction": "downstream", "depth": 2},
        """
        source crm (data/profile.csv)

        downstream
        └─ feature group profile · reads
           ├─ feature group both · derived from
           ├─ feature group profile@2.0.1 · version of
           ├─ feature view people · reads
           └─ export s3://lake/out/profile.parquet · copy of
        """,
    ),
    "an entity": (
        "user",
        {"depth": 1},
        """
        entity user

        upstream
          nothing

        downstream
        ├─ feature group both · keyed by
        ├─ feature group pages · keyed by
        ├─ feature group payments (1.1.0) · keyed by
        └─ feature group profile · keyed by
        """,
    ),
    "a transformation": (
        "headroom",
        {"depth": 1},
        """
        transformation headroom

        upstream
          nothing

        downstream
        └─ feature group profile · transforms
        """,
    ),
    "a feature": (
        "payments:net__sum__7d",
        {},
        """
        payments:net__sum__7d

        upstream
        ├─ at · window
        │  ├─ data/payments.parquet:at · as it is
        │  └─ data/payments.parquet:status · filter
        ├─ user_id · group by
        │  ├─ data/payments.parquet:status · filter
        │  └─ data/payments.parquet:user_id · as it is
        ├─ gone of its events · filter
        │  ├─ data/payments.parquet:gone · as it is
        │  └─ data/payments.parquet:status · filter
        ├─ id of its events · group by
        │  ├─ data/payments.parquet:id · as it is
        │  └─ data/payments.parquet:status · filter
        └─ net of its events · sum of 7d
           ├─ data/payments.parquet:amount · SQL
           ├─ data/payments.parquet:fee · SQL
           └─ data/payments.parquet:status · filter

        downstream
        ├─ both:net__sum__7d · as it is
        └─ payments@1.0.0:net__sum__7d · as it is (maybe: by its name)
           └─ churn:x_net__sum__7d · as it is
              ├─ rate before it is prepared · SQL
              │  └─ rate · standard_scaler
              │     └─ churn#3:rate · as it is (maybe: by its name)
              └─ churn#3:x_net__sum__7d · as it is (maybe: by its name)
        """,
    ),
    "what code decides": (
        "churn:page__*",
        {"direction": "upstream"},
        """
        churn:page__*

        upstream
        ├─ page before it is prepared · one_hot_encoder
        │  └─ pages:page · as it is
        │     ├─ events:* · last_page(), opaque: any column may matter
        │     │  ├─ at
        │     │  ├─ page
        │     │  └─ user_id
        │     └─ events:page · last_page() (maybe: by its name)
        └─ people:decade · filter
           └─ age · SQL
              └─ profile:age · as it is
                 └─ crm:age · as it is
        """,
    ),
    "columns of a source": (
        "crm",
        {"columns": True, "depth": 1},
        """
        source crm (data/profile.csv)

        upstream
          nothing

        downstream
          age
          └─ profile:age · as it is
          at
          └─ profile:at · as it is
          credit
          └─ profile:credit · as it is
          user_id
          └─ profile:user_id · as it is
        """,
    ),
    "columns of a transformation": (
        "older",
        {"columns": True},
        """
        transformation older

        upstream
          churn:older
          ├─ age before it is prepared · older
          │  └─ people:age · as it is
          │     └─ profile:age · as it is
          │        └─ crm:age · as it is
          └─ people:decade · filter
             └─ age · SQL (above)

        downstream
          churn:older
          ├─ rate before it is prepared · condition, SQL
          │  └─ rate · standard_scaler
          │     └─ churn#3:rate · as it is (maybe: by its name)
          └─ churn#3:older · as it is (maybe: by its name)
        """,
    ),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_a_tree(name: str) -> None:
    asked, options, expected = GOLDEN[name]
    assert str(ask(asked, **options)) == tree(expected)


def test_lines_fit_a_terminal_and_odd_characters_are_shown_as_codes() -> None:
    odd = gr.FeatureGroup(
        "g", entities=user, source=gr.FileSource("da\nta/\x1b[31m.parquet"), schema={"user_id": "string", "a": "int64"}
    )
    shown = ask("g", Facts(Catalog.of([odd]))).to_tree(width=30)
    assert "└─ source da\\x0ata/\\x1b[31m.p…" in shown
    assert max(map(len, ask("churn").to_tree(width=40).splitlines())) == 40


def test_a_tree_of_a_circle_ends() -> None:
    a, b = Node("feature_view", "a"), Node("feature_view", "b")
    graph = Graph.of((), [Edge(a, b, "reads"), Edge(b, a, "reads")])
    assert to_tree(graph, a, [a], "downstream").splitlines()[2:] == [
        "downstream", "└─ feature view b · reads", "   └─ feature view a · reads (above)",
    ]  # fmt: skip


def test_what_a_cut_off_hid_is_shown_where_there_is_room() -> None:
    a, b, c, d = (Node("feature_view", name) for name in "abcd")
    graph = Graph.of((), [Edge(a, b, "reads"), Edge(a, c, "reads"), Edge(b, c, "reads"), Edge(c, d, "reads")])
    assert to_tree(graph, a, [a], "downstream", depth=2).splitlines()[3:] == [
        "├─ feature view b · reads",
        "│  └─ feature view c · reads",
        "└─ feature view c · reads",
        "   └─ feature view d · reads",
    ]


def test_every_kind_and_reason_has_its_words() -> None:
    nodes = {kind: Node(kind, "x") for kind in KINDS}
    model = nodes["model"]
    graph = Graph.of(
        nodes.values(), [Edge(nodes["training_dataset"], model, "trains"), Edge(nodes["feature_view"], model, "reads")]
    )
    assert to_tree(graph, model, [model], "upstream").splitlines()[3:] == [
        "├─ feature view x · reads", "└─ training dataset x · trained on",
    ]  # fmt: skip


def test_the_answer_as_data() -> None:
    found = ask("people", direction="upstream")
    data = json.loads(json.dumps(found.to_dict()))
    assert data["start"] == "feature_view:people"
    assert data["upstream"] == [
        "feature_group:profile", "source:file:data%2Fprofile.csv", "source:request:request", "transformation:headroom",
    ]  # fmt: skip
    assert data["downstream"] == []
    assert {"upstream": "feature_group:profile", "downstream": "feature_view:people", "why": "reads"} in data["edges"]
    ids = {node["id"] for node in data["nodes"]}
    assert {end for edge in data["edges"] for end in (edge["upstream"], edge["downstream"])} <= ids
    profile = next(node for node in data["nodes"] if node["id"] == "feature_group:profile")
    assert profile["details"]["schema"][2] == {"name": "age", "dtype": "int64"}


def test_edges_of_columns_say_what_they_are() -> None:
    data = ask("payments:net__sum__7d", direction="upstream", depth=1).to_dict()
    assert {
        "upstream": "feature_group:event:payments/net", "downstream": "feature_group:payments/net__sum__7d",
        "why": "derives", "how": "aggregation", "certainty": "certain", "via": "sum of 7d",
    } in data["edges"]  # fmt: skip


def test_runs_say_when_a_group_was_made_and_as_what() -> None:
    found = ask("payments")
    assert found.start.about["latest"] == "1.1.0"
    assert found.start.about["materialized_at"] == "2026-03-01T12:00:00Z"
    assert [run.verb for run in found.graph.runs] == ["materialize"]


def test_graphviz_draws_things_and_columns_in_boxes() -> None:
    text = ask("people").to_dot()
    assert text.startswith("digraph lineage {") and text.endswith("}\n")
    assert 'label="feature view people", shape=folder, penwidth=2' in text
    assert text.count(" -> ") == len(ask("people").graph.edges)
    columns = ask("profile:age").to_dot()
    assert 'label="feature group profile";' in columns and "subgraph cluster_n" in columns


@pytest.mark.parametrize(
    "name, kind, identity",
    [
        ("payments", None, "feature_group:payments"),
        ("payments@1.0.0", None, "feature_group:payments@1.0.0"),
        ("payments@1.0.0:hour", None, "feature_group:payments@1.0.0/hour"),
        ("churn#3", None, "training_dataset:churn@3"),
        ("churn#3:older", None, "training_dataset:churn@3/older"),
        ("data/profile.csv", None, "source:file:data%2Fprofile.csv"),
        ("crm:age", None, "source:file:data%2Fprofile.csv/age"),
        ("s3://lake/out/profile.parquet", None, "export:s3%3A%2F%2Flake%2Fout%2Fprofile.parquet"),
        ("s3://lake/out/profile.parquet:age", None, "export:s3%3A%2F%2Flake%2Fout%2Fprofile.parquet/age"),
        ("headroom", None, "transformation:headroom"),
        ("source:push:events", None, "source:push:events"),
        ("user", "entity", "entity:user"),
        ("payments:net", None, "feature_group:event:payments/net"),
        ("churn:age", None, "feature_view:churn/age"),
    ],
)
def test_what_a_name_means(name: str, kind: str | None, identity: str) -> None:
    assert ask(name, kind=kind).start.id == identity


def test_a_group_comes_before_a_source_of_its_name_and_the_kind_decides() -> None:
    named = gr.FeatureGroup(
        "spend", entities=user, source=gr.TableSource(None, name="spend"), schema={"user_id": "string", "a": "int64"}
    )
    facts = Facts(Catalog.of([named]))
    assert ask("spend", facts).start.kind == "feature_group"
    assert ask("spend", facts, kind="source").start.kind == "source"


def test_two_sources_of_one_name_are_told_apart_by_their_ids() -> None:
    groups = [
        gr.FeatureGroup(
            name, entities=user, source=source, schema={"user_id": "string", "at": "datetime", "a": "int64"}
        )
        for name, source in (
            ("one", gr.TableSource(None, name="rows", event_time="at")),
            (
                "two",
                gr.PushSource("rows", event_time="at", schema={"user_id": "string", "at": "datetime", "a": "int64"}),
            ),
        )
    ]
    facts = Facts(Catalog.of(groups))
    with pytest.raises(RequestError, match="two sources are called 'rows'") as caught:
        ask("rows", facts)
    assert caught.value.try_ == "name one by its id: source:push:rows"
    assert [node.name for node in ask("source:table:rows", facts).downstream] == ["one"]


def test_one_file_is_one_source_whatever_groups_call_it() -> None:
    groups = [
        gr.FeatureGroup(
            name, entities=user, source=gr.FileSource("x.csv", name=called), schema={"user_id": "string", "a": "int64"}
        )
        for name, called in (("one", None), ("two", "other"))
    ]
    assert [node.name for node in ask("x.csv", Facts(Catalog.of(groups))).downstream] == ["one", "two"]


@pytest.mark.parametrize(
    "name, closest", [("paymets", "payments"), ("paymets:net", "payments"), ("churn#4", "churn#3")]
)
def test_an_unknown_name_says_what_is_close(name: str, closest: str) -> None:
    with pytest.raises(NotFoundError) as caught:
        ask(name)
    assert closest in caught.value.closest


def test_an_unknown_column_says_what_is_close() -> None:
    with pytest.raises(UnknownFeatureError, match="feature group profile has no column 'agee'") as caught:
        ask("profile:agee")
    assert caught.value.closest == ("age",)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"direction": "sideways"}, "direction 'sideways'"),
        ({"depth": -1}, "depth of -1"),
        ({"kind": "sourc"}, "no kind 'sourc'"),
    ],
)
def test_questions_that_are_none(options: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        ask("payments", **options)


def test_only_one_direction() -> None:
    found = ask("people", direction="downstream")
    assert found.upstream == () and [node.name for node in found.downstream] == ["churn", "churn"]
    assert "upstream" not in str(found)


def test_a_large_catalog_is_one_graph() -> None:
    """500 groups, 200 views: each view takes five groups."""
    groups = [
        gr.FeatureGroup(
            f"g{number}",
            entities=user,
            source=gr.FileSource(f"data/{number % 50}.parquet", event_time="at"),
            transform=f'SELECT user_id, "at", a + {number} AS a FROM source',
            schema={"user_id": "string", "at": "datetime", "a": "float64"},
        )
        for number in range(500)
    ]
    views = [
        gr.FeatureView(
            f"v{number}",
            features=[gr.select(f"g{(number * 5 + step) % 500}", "a", prefix=f"p{step}_") for step in range(5)],
        )
        for number in range(200)
    ]
    facts = Facts(Catalog.of([*groups, *views]))
    found = ask("data/7.parquet", facts)
    assert len(found.downstream) == 10 + 20
    assert len(facts.graph().edges) == 500 + 1000
    assert [node.reference for node in ask("v3:p2_a", facts).upstream] == ["g17:a", "data/17.parquet:a"]
