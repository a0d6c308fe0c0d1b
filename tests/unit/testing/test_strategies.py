"""Random joins are unkind enough: an engine with a usual mistake does not survive them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given

from grange.plan.nodes import GroupJoin
from grange.testing.engines import engine_or_skip, examples
from grange.testing.equality import difference
from grange.testing.strategies import JoinExample, joins

MISTAKES: dict[str, Callable[[GroupJoin], GroupJoin]] = {
    "ttl's end left out": lambda join: join if join.ttl is None else replace(join, ttl=join.ttl - 1),
    "created time ignored": lambda join: replace(join, created_time=None),
    "strict time ignored": lambda join: replace(join, exact_matches=True),
    "first key only": lambda join: replace(join, keys=join.keys[:1]),
    "defaults ignored": lambda join: replace(join, outputs=tuple(replace(o, default=None) for o in join.outputs)),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_random_joins_notice(mistake):
    engine = engine_or_skip("reference")
    noticed: list[str] = []

    @examples
    @given(example=joins())
    def draw(example: JoinExample) -> None:
        bent = replace(example.node, joins=tuple(MISTAKES[mistake](join) for join in example.node.joins))
        found = difference(engine.run(bent, example.inputs), engine.run(example.node, example.inputs))
        if found is not None:
            noticed.append(found)

    draw()
    assert len(noticed) >= 5
