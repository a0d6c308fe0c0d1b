"""The contract finds engines that are wrong, and the oracle agrees with a judge from outside."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from grange.frames import Rows
from grange.plan.nodes import GroupJoin, Input, PointInTimeJoin
from grange.ports.plugins import create
from grange.testing.cases import SPINE, ExpectedError, JoinCase, cases_of
from grange.testing.engines import engine_or_skip, merge_asof
from grange.testing.equality import difference
from grange.testing.strategies import PlainJoin


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
