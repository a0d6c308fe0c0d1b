"""Lineage: what is made of what, from sources to models, by group and by column.

`graph` has the values, `building` makes them of definitions and what was made of them, `columns` adds the columns,
`answer` is what people ask for, and `impact` says what a change breaks.
"""

from grange.lineage.answer import Lineage, lineage_of
from grange.lineage.building import Facts, build_graph
from grange.lineage.graph import Edge, Graph, Node
from grange.lineage.impact import Impact, deletion_impact, impact, impact_lines

__all__ = [
    "Edge",
    "Facts",
    "Graph",
    "Impact",
    "Lineage",
    "Node",
    "build_graph",
    "deletion_impact",
    "impact",
    "impact_lines",
    "lineage_of",
]
