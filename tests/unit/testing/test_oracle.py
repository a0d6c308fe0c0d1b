"""The contract finds engines that are wrong, and the oracle agrees with a judge from outside."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from grange.frames import Rows
from grange.plan.nodes import GroupJoin, Input, PointInTimeJoin, WindowJoin
from grange.ports.plugins import create
from grange.testing.cases import SPINE, ExpectedError, JoinCase, WindowCase, cases_of
from grange.testing.engines import engine_or_skip, merge_asof
from grange.testing.equality import COMPUTED, difference
from grange.testing.strategies import PlainJoin
from grange.types.aggregates import LIFETIME


def joined_without_separator(join: GroupJoin, inputs: dict[str, Rows]) -> GroupJoin:
    """Keys run together into one text, as an engine that builds one key column by concatenation has them."""
    separator = pa.scalar("_", pa.large_string())
    for name, columns in ((SPINE, [a for a, _ in join.keys]), (join.group, [b for _, b in join.keys])):
        table = inputs[name].arrow
        texts = [table.column(column).cast(pa.large_string()) for column in columns]
        inputs[name] = Rows(arrow=table.append_column("run_together", pc.binary_join_element_wise(*texts, separator)))
    return replace(join, keys=(("run_together", "run_together"),))


def without_ttl(join: GroupJoin, inputs: dict[str, Rows]) -> GroupJoin:
    return replace(join, ttl=None)


def ttl_half_open(join: GroupJoin, inputs: dict[str, Rows]) -> GroupJoin:
    return join if join.ttl is None else replace(join, ttl=join.ttl - 1)


def blind_to_created_time(join: GroupJoin, inputs: dict[str, Rows]) -> GroupJoin:
    return replace(join, created_time=None)


def always_exact(join: GroupJoin, inputs: dict[str, Rows]) -> GroupJoin:
    return replace(join, exact_matches=True)


def first_written_wins(join: GroupJoin, inputs: dict[str, Rows]) -> GroupJoin:
    table = inputs[join.group].arrow
    place = table.schema.get_field_index("__sequence")
    turned = pc.negate(table.column(place))
    inputs[join.group] = Rows(arrow=table.set_column(place, "__sequence", turned))
    return join


@pytest.mark.parametrize(
    ("mistake", "law"),
    [
        (joined_without_separator, "PIT-4"),
        (without_ttl, "PIT-2"),
        (ttl_half_open, "PIT-2"),
        (blind_to_created_time, "PIT-3"),
        (blind_to_created_time, "PIT-5"),
        (always_exact, "PIT-2"),
        (first_written_wins, "PIT-3"),
    ],
)
def test_a_mistaken_engine_fails_the_cases_of_its_law(
    mistake: Callable[[GroupJoin, dict[str, Rows]], GroupJoin], law: str
) -> None:
    """An engine with one of the field's usual mistakes fails at least one case that cites the law it breaks."""
    engine = engine_or_skip("reference")
    wrong = []
    for case in cases_of(JoinCase):
        if law not in case.laws or len(case.groups) != 1 or isinstance(case.expected, ExpectedError):
            continue
        (group,) = case.groups
        if not all(_textual(case.spine.column(column).type) for column, _ in group.keys):
            continue
        inputs = {SPINE: Rows(arrow=case.spine), group.name: Rows(arrow=group.rows)}
        node = case.node([Input(group.name)])
        bent = PointInTimeJoin(node.spine, node.time, (mistake(node.joins[0], inputs),), node.as_known)
        if difference(engine.run(bent, inputs), case.expected) is not None:
            wrong.append(case.name)
    assert wrong, f"no case of {law} notices {mistake.__name__}"


def reaggregated(**changes: Any) -> Callable[[WindowJoin], WindowJoin]:
    def change(join: WindowJoin) -> WindowJoin:
        return replace(join, aggregates=tuple(replace(each, **changes) for each in join.aggregates))

    return change


WINDOW_MISTAKES: dict[str, tuple[Callable[[WindowJoin], WindowJoin], tuple[str, ...]]] = {
    "ends as they come": (reaggregated(closed="both"), ("WIN-1", "WIN-2")),
    "a window for ever": (reaggregated(window=LIFETIME), ("WIN-1", "WIN-2", "WIN-3", "LAG-1")),
    "the value of now": (reaggregated(every=None, offset=0), ("WIN-3",)),
    "boundaries at midnight": (reaggregated(offset=0), ("WIN-3",)),
    "nothing filtered": (reaggregated(filter=None), ("WIN-4", "LAG-1")),
    "nothing shifted": (reaggregated(shift=0), ("LAG-1",)),
    "rows for events": (lambda join: replace(join, event_id=None, retracted=None), ("WIN-6",)),
    "nothing taken back": (lambda join: replace(join, retracted=None), ("WIN-6",)),
    "blind to created time": (lambda join: replace(join, created_time=None), ("WIN-6", "WIN-2", "LAG-1")),
    "young for ever": (lambda join: replace(join, ttl=None), ("WIN-1", "LAG-1")),
    "always exact": (lambda join: replace(join, exact_matches=True), ("WIN-1", "LAG-1")),
}


@pytest.mark.parametrize(
    ("mistake", "law"), [(mistake, law) for mistake, (_, laws) in WINDOW_MISTAKES.items() for law in laws]
)
def test_an_engine_mistaken_about_windows_fails_the_cases_of_its_law(mistake: str, law: str) -> None:
    """An engine with one of the field's usual mistakes fails at least one case that cites the law it breaks."""
    engine = engine_or_skip("reference")
    bend, _ = WINDOW_MISTAKES[mistake]
    wrong = []
    for case in cases_of(WindowCase):
        if law not in case.laws or isinstance(case.expected, ExpectedError):
            continue
        node = replace(case.node(Input("events")), joins=(bend(case.group.join(Input("events"))),))
        found = engine.run(node, {SPINE: Rows(arrow=case.spine), "events": Rows(arrow=case.group.rows)})
        if difference(found, case.expected, tolerance=COMPUTED) is not None:
            wrong.append(case.name)
    assert wrong, f"no case of {law} notices {mistake}"


def test_the_outside_judge_sees_what_it_is_asked() -> None:
    """`merge_asof` itself, on rows whose answer is written here: ttl inclusive, strict time, the spine's order."""
    pytest.importorskip("pandas")
    history = pa.table(
        {
            "k": ["a", "a", "b"],
            "f": pa.array([10, 20, 10], pa.int64()).cast(pa.timestamp("us", tz="UTC")),
            "v": [0, 1, 2],
            "__sequence": [0, 1, 2],
        }
    )
    spine = pa.table(
        {
            "k": ["b", "a", "a", "zoe"],
            "t": pa.array([16, 20, 15, 20], pa.int64()).cast(pa.timestamp("us", tz="UTC")),
        }
    )
    join = PlainJoin(history, spine, ttl=5, exact_matches=True)
    assert merge_asof(join) == [None, 1, 0, None]
    strict = PlainJoin(history, spine, ttl=None, exact_matches=False)
    assert merge_asof(strict) == [2, 0, 0, None]
    engine = create("engines", "reference", {})
    for plain, expected in ((join, [None, 1, 0, None]), (strict, [2, 0, 0, None])):
        inputs = {"spine": Rows(arrow=spine), "history": Rows(arrow=history)}
        assert engine.run(plain.node, inputs).arrow.column("v").to_pylist() == expected


def _textual(arrow: pa.DataType) -> bool:
    return bool(pa.types.is_integer(arrow) or pa.types.is_large_string(arrow))
