"""How one column depends on another: what the dependence is, how sure it is, and what a chain of them comes to."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

from grange.definitions.expression_nodes import Call, Column, Node
from grange.definitions.expression_nodes import Literal as Constant
from grange.definitions.expressions import Expression

How = Literal[
    "identity",
    "transformation",
    "aggregation",
    "filter",
    "join",
    "group_by",
    "sort",
    "window",
    "conditional",
]
"""What a column is to another. The first three give it its value: as it is, computed from it, computed from its values
in several rows. The others have a say in it: which rows there are, which belong together, in which order, which branch
is taken."""
DIRECT: Final[tuple[How, ...]] = ("identity", "transformation", "aggregation")
"""In the order of their weight: a chain is as heavy as its heaviest part."""
Certainty = Literal["certain", "maybe", "opaque"]
"""`maybe`: as far as names tell. `opaque`: made by code that cannot be looked into; any column may matter."""
_DOUBT: Final[tuple[Certainty, ...]] = ("certain", "maybe", "opaque")


@dataclass(frozen=True, slots=True, order=True)
class Dependence:
    """One column that a value depends on."""

    column: str
    """`*` is any column."""
    how: How = "identity"
    certainty: Certainty = "certain"

    def through(self, how: How, certainty: Certainty = "certain") -> Dependence:
        """What the dependence comes to for a value that is made of this one."""
        return Dependence(self.column, chained(how, self.how), least_certain(certainty, self.certainty))


Dependences = frozenset[Dependence]


def through(found: Iterable[Dependence], how: How) -> Dependences:
    """What dependences come to for a value that is made of a value that has them."""
    return frozenset(item.through(how) for item in found)


def chained(outer: How, inner: How) -> How:
    """What a column is to another when a third lies between them: `inner` to it, it `outer` to the other.

    What has a say in the first has that say in the second: a column that filters rows filters them for all that is made
    of these rows.
    """
    if inner not in DIRECT:
        return inner
    if outer not in DIRECT:
        return outer
    return max(outer, inner, key=DIRECT.index)


def within(place: How, how: How) -> How:
    """What a column is where it stands in a part of an expression (`how`), and the expression at a place of a query.

    The place counts first: what WHERE looks at filters, be it inside a CASE.
    """
    if place not in DIRECT:
        return place
    return how if how not in DIRECT else max(place, how, key=DIRECT.index)


def least_certain(*certainties: Certainty) -> Certainty:
    """How sure a chain is."""
    return max(certainties, key=_DOUBT.index)


def of_expression(expression: Expression) -> Dependences:
    """What the value of an expression depends on."""
    return frozenset(_of_node(expression.root, "identity"))


def _of_node(node: Node, how: How) -> Iterable[Dependence]:
    match node:
        case Column(name):
            yield Dependence(name, how)
        case Call("case", arguments):
            for condition in arguments[:-1:2]:
                yield from _of_node(condition, within(how, "conditional"))
            for result in (*arguments[1::2], arguments[-1]):
                yield from _of_node(result, within(how, "transformation"))
        case Call(_, arguments):
            for argument in arguments:
                yield from _of_node(argument, within(how, "transformation"))
        case Constant():
            return


__all__ = [
    "DIRECT", "Certainty", "Dependence", "Dependences", "How", "chained", "least_certain", "of_expression", "through",
    "within",
]  # fmt: skip
