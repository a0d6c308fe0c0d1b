"""Random joins are unkind enough: an engine with a usual mistake does not survive them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given

from grange.plan.nodes import GroupJoin, WindowJoin
from grange.testing.engines import engine_or_skip, examples
from grange.testing.equality import assert_rows_equal, difference
from grange.testing.strategies import JoinExample, joins
from grange.testing.windows import SeededChoices, Sizes, draw_windows
from grange.types.aggregates import Aggregate

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


WINDOW_MISTAKES: dict[str, Callable[[WindowJoin], WindowJoin]] = {
    "ends always closed right": lambda join: changed(join, lambda each: replace(each, closed="right")),
    "a microsecond more at the tail": lambda join: changed(join, longer),
    "filters ignored": lambda join: changed(join, lambda each: replace(each, filter=None)),
    "boundaries ignored": lambda join: changed(join, lambda each: replace(each, every=None, offset=0)),
    "offsets ignored": lambda join: changed(join, lambda each: replace(each, offset=0)),
    "lags ignored": lambda join: changed(join, lambda each: replace(each, shift=0)),
    "versions ignored": lambda join: replace(join, event_id=None, retracted=None),
    "retractions ignored": lambda join: replace(join, retracted=None),
    "created time ignored": lambda join: replace(join, created_time=None),
    "ttl's end left out": lambda join: join if join.ttl is None else replace(join, ttl=join.ttl - 1),
    "strict time ignored": lambda join: replace(join, exact_matches=True),
    "first key only": lambda join: replace(join, keys=join.keys[:1]),
    "defaults ignored": lambda join: replace(join, outputs=tuple(replace(o, default=None) for o in join.outputs)),
}


def changed(join: WindowJoin, change: Callable[[Aggregate], Aggregate]) -> WindowJoin:
    return replace(join, aggregates=tuple(change(each) for each in join.aggregates))


def longer(aggregate: Aggregate) -> Aggregate:
    if aggregate.window.kind not in ("time", "session"):
        return aggregate
    return replace(aggregate, window=replace(aggregate.window, size=aggregate.window.size + 1))


@pytest.mark.parametrize("mistake", WINDOW_MISTAKES)
def test_random_windows_notice(mistake):
    """Of a few dozen seeded examples several show each mistake; Hypothesis draws from the same description."""
    engine = engine_or_skip("reference")
    noticed: list[str] = []
    for seed in range(60):
        example = draw_windows(SeededChoices(seed), Sizes(events=(8, 24), spine=(8, 16), aggregates=(6, 8)))
        bent = replace(example.node, joins=(WINDOW_MISTAKES[mistake](example.join),))
        found = difference(engine.run(bent, example.inputs), engine.run(example.node, example.inputs), tolerance=1e-9)
        if found is not None:
            noticed.append(found)
        if len(noticed) == 3:
            return
    pytest.fail(f"{len(noticed)} of 60 examples notice it")


def test_the_same_seed_draws_the_same_example():
    sizes = Sizes(events=(4, 9), spine=(2, 5), aggregates=(2, 5))
    first, second = draw_windows(SeededChoices(7), sizes), draw_windows(SeededChoices(7), sizes)
    assert first.node == second.node
    for name, rows in first.inputs.items():
        assert_rows_equal(second.inputs[name], rows)
