"""Lineage in the language of Graphviz: `dot -Tsvg` draws it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from grange.lineage.graph import Edge, Graph, Node, NodeKind

_SHAPES: Final[dict[NodeKind, str]] = {
    "entity": "diamond",
    "source": "cylinder",
    "transformation": "component",
    "feature_group": "box3d",
    "feature_view": "folder",
    "training_dataset": "note",
    "model": "octagon",
    "export": "cds",
}


def to_dot(graph: Graph, start: Node) -> str:
    """A directed graph, from left to right as data flows. Columns lie in a box of their thing."""
    numbers = {node: f"n{index}" for index, node in enumerate(graph.nodes)}
    boxed = {node.owner for node in graph.nodes if node.column}
    lines = ["digraph lineage {", "  rankdir=LR;", '  node [fontname="sans-serif"];', '  edge [fontname="sans-serif"];']
    for node in graph.nodes:
        if node in boxed:
            lines += _box(graph, node, numbers, start)
        elif not node.column:
            lines.append(f"  {_node(node, numbers[node], str(node), start)}")
    lines += [
        f"  {numbers[edge.upstream]} -> {numbers[edge.downstream]} [{_edge(edge)}];"
        for edge in graph.edges
        if edge.upstream not in boxed and edge.downstream not in boxed
    ]
    return "\n".join([*lines, "}", ""])


def _box(graph: Graph, owner: Node, numbers: dict[Node, str], start: Node) -> Iterator[str]:
    yield f"  subgraph cluster_{numbers[owner]} {{"
    yield f"    label={quoted(str(owner))};"
    for column in graph.columns(owner):
        yield f"    {_node(column, numbers[column], column.column + column.place, start)}"
    yield "  }"


def _node(node: Node, number: str, label: str, start: Node) -> str:
    shape = "plaintext" if node.column else _SHAPES[node.kind]
    bold = ", penwidth=2" if node == start else ""
    return f"{number} [label={quoted(label)}, shape={shape}{bold}];"


def _edge(edge: Edge) -> str:
    label = edge.via or edge.how or edge.why
    style = "" if edge.certainty == "certain" else ", style=dashed"
    return f"label={quoted(label)}{style}"


def quoted(text: str) -> str:
    """Text as a quoted string: quotes, backslashes and line breaks mean nothing in it."""
    plain = "".join(letter if letter.isprintable() else f"\\x{ord(letter):02x}" for letter in text)
    return '"' + plain.replace("\\", "\\\\").replace('"', '\\"') + '"'
