"""The graph as a value: neighbours, ways, parts of it, and names."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grange.lineage.graph import KINDS, Edge, Graph, Node, NodeKind, node_order


def thing(name: str, kind: NodeKind = "feature_group", version: str = "") -> Node:
    return Node(kind, name, version=version)


def chain(*names: str) -> Graph:
    nodes = [thing(name) for name in names]
    return Graph.of(nodes, [Edge(a, b, "derives") for a, b in itertools.pairwise(nodes)])


A, B, C, D = map(thing, "abcd")
nodes = st.sampled_from([thing(name) for name in "abcdefgh"])
edges = st.lists(st.builds(Edge, nodes, nodes, st.sampled_from(["reads", "derives"])), max_size=20)


@given(edges, st.integers(0, 8))
def test_upstream_and_downstream_are_inverse_at_every_depth(found: list[Edge], depth: int) -> None:
    graph = Graph.of((), found)
    for limit in (depth, None):
        for one, other in itertools.product(graph.nodes, repeat=2):
            assert (other in graph.upstream(one, depth=limit)) == (one in graph.downstream(other, depth=limit))


versions = st.sampled_from([thing(name, version=number) for name in "abcd" for number in ("1.0.0", "2.0.0")])
histories = st.builds(
    lambda groups, made: [*groups, *made, *(Edge(thing(end.name), end, "publishes") for edge in made for end in
                                            (edge.upstream, edge.downstream) if end.version)],
    edges,
    st.lists(st.builds(Edge, versions, versions, st.just("derives")), max_size=12),
)  # fmt: skip


@given(histories, st.integers(0, 8))
def test_they_are_inverse_where_versions_say_what_they_were_made_of(found: list[Edge], depth: int) -> None:
    graph = Graph.of((), found)
    for limit in (depth, None):
        for one, other in itertools.permutations(graph.nodes, 2):
            reached = other in graph.downstream(one, depth=limit)
            assert (one in graph.upstream(other, depth=limit)) == reached
            assert limit is not None or bool(graph.path(one, other)) == reached


def test_a_version_that_says_what_it_was_made_of_is_not_made_of_what_its_group_is_made_of_now() -> None:
    now, then = thing("today"), thing("then", version="1.0.0")
    group, version = thing("d"), thing("d", version="1.0.0")
    edges = [Edge(now, group, "derives"), Edge(group, version, "publishes")]
    assert Graph.of((), edges).upstream(version) == (group, now)
    graph = Graph.of((), [*edges, Edge(then, version, "derives")])
    assert graph.upstream(version) == (then, group)
    assert graph.downstream(now) == (group,)
    assert graph.downstream(group) == (version,)


@given(edges)
def test_a_node_is_reached_exactly_when_there_is_a_way(found: list[Edge]) -> None:
    graph = Graph.of((), found)
    for one, other in itertools.permutations(graph.nodes, 2):
        way = graph.path(one, other)
        assert bool(way) == (other in graph.downstream(one))
        if way:
            assert (way[0], way[-1]) == (one, other)
            assert all(any(edge.downstream == b for edge in graph.out_of(a)) for a, b in itertools.pairwise(way))
            assert other in graph.downstream(one, depth=len(way) - 1)
            assert len(way) < 3 or other not in graph.downstream(one, depth=len(way) - 2)


@given(edges, st.sets(nodes))
def test_a_part_has_the_edges_between_its_nodes(found: list[Edge], chosen: set[Node]) -> None:
    part = Graph.of((), found).only(chosen)
    assert set(part.nodes) <= chosen
    assert set(part.edges) == {edge for edge in found if {edge.upstream, edge.downstream} <= chosen}


def test_nearest_first_and_a_cut_off() -> None:
    graph = chain("a", "b", "c", "d")
    assert graph.upstream(D) == (C, B, A)
    assert graph.upstream(D, depth=2) == (C, B)
    assert graph.upstream(D, depth=0) == ()
    assert graph.downstream(A, depth=1) == (B,)


def test_a_circle_ends() -> None:
    graph = Graph.of((), [Edge(A, B, "derives"), Edge(B, A, "derives"), Edge(B, B, "reads")])
    assert graph.upstream(A) == (B,)
    assert graph.downstream(A) == (B,)
    assert graph.path(A, A) == (A,)


def test_of_equal_nodes_the_first_counts_and_edges_come_once() -> None:
    described = A.with_details(owner="x")
    graph = Graph.of([described, A], [Edge(A, B, "reads"), Edge(A, B, "reads"), Edge(A, B, "label")])
    assert graph.known(A).about == {"owner": "x"}
    assert [edge.why for edge in graph.edges] == ["reads", "label"]
    assert graph.upstream(B)[0].about == {"owner": "x"}


def test_columns_belong_to_things_and_edges_stay_on_their_level() -> None:
    graph = Graph.of(
        (),
        [
            Edge(A.at("x"), B.at("y"), "derives", "identity"),
            Edge(A.at("e", type="event"), A.at("x"), "derives", "aggregation"),
        ],
    )
    assert set(graph.nodes) >= {A, B}
    assert [node.column for node in graph.columns(A)] == ["x", "e"]
    assert graph.downstream(A) == ()
    assert graph.upstream(B.at("y")) == (A.at("x"), A.at("e", type="event"))
    with pytest.raises(AssertionError, match="one level"):
        Edge(A, B.at("y"), "reads")


def test_the_order_is_that_of_the_data_then_of_names_and_versions() -> None:
    group = [thing("g", version=version) for version in ("1.10.0", "1.9.0", "")]
    listed = [thing("v", "feature_view"), *group, thing("s", "source"), thing("v", "training_dataset", "10"),
              thing("v", "training_dataset", "9")]  # fmt: skip
    shown = [(node.name, node.version) for node in sorted(listed, key=node_order)]
    assert shown == [("s", ""), ("g", ""), ("g", "1.9.0"), ("g", "1.10.0"), ("v", ""), ("v", "9"), ("v", "10")]


texts, few = st.text(min_size=1, max_size=8), st.text(max_size=4)
any_node = st.builds(Node, st.sampled_from(list(KINDS)), texts, st.sampled_from(["", "file"]), few, few)


@given(st.lists(any_node, unique=True))
def test_ids_are_safe_and_tell_nodes_apart(found: list[Node]) -> None:
    ids = [node.id for node in found]
    assert len(set(ids)) == len(ids)
    assert all(text.isascii() and " " not in text and '"' not in text for text in ids)


def test_names_for_people() -> None:
    source = Node("source", "data/x.parquet", "file").with_details(name="crm")
    assert str(source) == "source crm"
    assert str(source.at("age")) == "crm:age"
    assert str(Node("training_dataset", "churn", version="3")) == "training dataset churn#3"
    assert str(thing("spend", version="1.0.0").at("net", type="event")) == "spend@1.0.0:net of its events"
