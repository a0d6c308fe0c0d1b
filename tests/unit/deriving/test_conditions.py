"""A filter's SQL: one condition on one row, true, false or null, with no way to anything else."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from grange.deriving.conditions import FEW, conditions
from grange.errors import DefinitionError, SchemaError
from grange.frames import Rows

ROWS = Rows(
    arrow=pa.table(
        {
            "amount": [1.0, None, float("nan"), -2.0],
            "kind": ["card", "cash", None, "card"],
            "matches": [True, False, None, True],
            "f": pa.array([0, 1, 2, 3], pa.int64()).cast(pa.timestamp("us", tz="UTC")),
        }
    )
)


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("amount > 0", [True, False, True, False]),  # a NaN is greater than any number
        ("kind = 'card'", [True, False, False, True]),
        ("kind <> 'card'", [False, True, False, False]),
        ("NOT matches", [False, True, False, False]),
        ("kind = 'card' OR amount IS NULL", [True, True, False, True]),
        ("amount BETWEEN -5 AND 5 AND kind IN ('card')", [True, False, False, True]),
        ("f >= TIMESTAMP '1970-01-01 00:00:00.000002'", [False, False, True, True]),
        ("kind LIKE 'c%' -- a comment", [True, True, False, True]),
        ("true", [True] * 4),
        ("CAST(NULL AS BOOLEAN)", [False] * 4),
    ],
)
def test_a_row_matches_when_the_condition_is_true(condition: str, expected: list[bool]) -> None:
    assert conditions(ROWS, [condition])[condition].tolist() == expected


def test_several_conditions_come_back_by_their_text() -> None:
    found = conditions(ROWS, ["matches", "amount > 0", "matches"])
    assert {condition: mask.tolist() for condition, mask in found.items()} == {
        "matches": [True, False, False, True],
        "amount > 0": [True, False, True, False],
    }


def test_no_rows_and_no_conditions() -> None:
    assert conditions(Rows(arrow=ROWS.arrow.slice(0, 0)), ["amount > 0"])["amount > 0"].tolist() == []
    assert conditions(ROWS, []) == {}


def test_many_rows_keep_their_order() -> None:
    count = 300_000
    rows = Rows(arrow=pa.table({"v": pa.array(range(count), pa.int64())}))
    assert conditions(rows, ["v % 3 = 0"])["v % 3 = 0"].tolist() == [number % 3 == 0 for number in range(count)]


@pytest.mark.parametrize(
    "condition",
    [
        "",
        "-- nothing",
        "amount >",
        "amount > 0; DROP TABLE source",
        "amount > 0, kind = 'card'",
        "amount > 0) OR (true",
        "amount > 0 ORDER BY 1",
        "SELECT true",
        "amount > (SELECT avg(amount) FROM source)",
        "EXISTS (FROM read_csv('/etc/passwd'))",
        "DROP TABLE source",
    ],
)
def test_what_is_no_single_condition_is_refused(condition: str) -> None:
    with pytest.raises(DefinitionError, match="filter"):
        conditions(ROWS, [condition])


@pytest.mark.parametrize(
    ("condition", "reason"),
    [
        ("amount", "'amount' is no condition"),
        ("kind", "'kind' is no condition"),
        ("sum(amount) > 0", "aggregates over rows"),
        ("row_number() OVER () > 1", "sees one row at a time"),
        ("amounts > 0", "'amounts'"),
        ("kind > 1", "string"),
        ("random() > 0.5", "random"),
        ("now() > f", "now"),
    ],
)
def test_what_is_no_condition_on_these_rows_says_why(condition: str, reason: str) -> None:
    with pytest.raises((DefinitionError, SchemaError)) as caught:
        conditions(ROWS, ["matches", condition])
    assert reason in str(caught.value)


def test_a_cast_that_fails_is_null() -> None:
    assert conditions(ROWS, ["CAST(kind AS INTEGER) > 0"])["CAST(kind AS INTEGER) > 0"].tolist() == [False] * 4


def test_few_rows_and_many_match_alike() -> None:
    count = FEW + 1
    amounts = [None, float("nan"), -0.0, 1e300, *map(float, range(count - 4))]
    rows = Rows(arrow=pa.table({"v": pa.array(amounts, pa.float64())}))
    text = "v >= 2 OR v IS NULL OR v <> v"
    many = conditions(rows, [text])[text].tolist()
    few = conditions(Rows(arrow=rows.arrow.slice(0, FEW)), [text])[text].tolist()
    assert few == many[:FEW]


def test_files_and_variables_are_out_of_reach(tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("secret")
    with pytest.raises(DefinitionError):
        conditions(ROWS, [f"kind = (FROM read_text('{secret}'))"])
    with pytest.raises(DefinitionError):
        conditions(ROWS, [f"getvariable('x') = content('{secret}')"])
