"""Prepared features: one row and a whole table give the same values, bit by bit, for every function and for chains."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grange.definitions import preparing as ready
from grange.definitions.ready_functions import FUNCTIONS
from grange.definitions.transformations import Step, Transformation
from grange.errors import DefinitionError, NameCollisionError, TransformError
from grange.preparing import Prepared, fit
from grange.transforming.values import python_values
from grange.types import Schema
from grange.types.arrow import arrow_schema

SCHEMA = Schema.of(
    {
        "f": "float64", "g": "float64", "s": "float32", "i": "int64", "u": "uint8", "k": "boolean",
        "m": "decimal(12,2)", "t": "string", "d": "date", "z": "datetime", "id": "uuid", "b": "binary",
    }
)  # fmt: skip
NUMBERS = ("f", "g", "s", "i", "u", "k", "m")
CATEGORIES = ("i", "u", "k", "m", "t", "d", "z", "id", "b")
FINITE = st.one_of(
    st.floats(-1e6, 1e6), st.sampled_from([0.0, -0.0, 1.0, -1.0, 0.1, 5e-324, 1e300, -1e300, 2.0**53]), st.just(0.3)
)
FLOATS = st.one_of(FINITE, FINITE, st.just(float("nan")))
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "f": FLOATS,
    "g": FLOATS,
    "s": st.floats(-(2.0**20), 2.0**20, width=32) | st.just(float("nan")),
    "i": st.integers(-5, 5) | st.sampled_from([2**53 + 1, -(2**63), 2**63 - 1]),
    "u": st.integers(0, 3),
    "k": st.booleans(),
    "m": st.integers(-(10**12) + 1, 10**12 - 1).map(lambda cents: Decimal(cents).scaleb(-2)),
    "t": st.sampled_from(["FR", "US", "", "é", "other", "a b", "a_b"]),
    "d": st.dates(dt.date(2020, 1, 1), dt.date(2020, 1, 5)),
    "z": st.integers(0, 3).map(lambda hours: dt.datetime(2020, 1, 1, hours, 0, 0, 1, tzinfo=dt.UTC)),
    "id": st.sampled_from(["6f9619ff-8b86-d011-b42d-00c04fc964ff", "00000000-0000-0000-0000-000000000001"]),
    "b": st.binary(max_size=1),
}
INFINITE = st.sampled_from([float("inf"), float("-inf"), 1.7e308])


@st.composite
def rows(draw: st.DrawFn, *, least: int, training: bool) -> list[dict[str, Any]]:
    """Rows of `SCHEMA` with nulls; training rows have no infinities and at least one value in each column."""
    made = []
    for number in range(draw(st.integers(least, 8))):
        row = {name: draw(values) for name, values in VALUES.items()}
        if training and number == 0:
            row |= dict.fromkeys(("f", "g", "s"), 1.5)
        else:
            for name in SCHEMA.names:
                die = draw(st.integers(0, 9))
                if die < 2:
                    row[name] = None
                elif die == 2 and name in ("f", "g", "s") and not training:
                    row[name] = draw(INFINITE if name != "s" else st.just(float("inf")))
        made.append(row)
    return made


def one_of(names: tuple[str, ...]) -> st.SearchStrategy[str]:
    return st.sampled_from(names)


NUMBER, CATEGORY = one_of(NUMBERS), one_of(CATEGORIES)
FLAGS = st.booleans()
STEPS: dict[str, st.SearchStrategy[Step]] = {
    "standard_scaler": st.builds(
        lambda name, mean, std: ready.standard_scaler(name, with_mean=mean, with_std=std), NUMBER, FLAGS, FLAGS
    ),
    "min_max_scaler": st.builds(
        lambda name, clip, low: ready.min_max_scaler(name, low=low, clip=clip),
        NUMBER, FLAGS, st.sampled_from([0, -1, 0.5]),
    ),
    "robust_scaler": NUMBER.map(ready.robust_scaler),
    "quantile_scaler": st.builds(
        lambda name, count, how: ready.quantile_scaler(name, quantiles=count, distribution=how),
        NUMBER, st.sampled_from([2, 3, 1000]), st.sampled_from(["uniform", "normal"]),
    ),
    "label_encoder": CATEGORY.map(ready.label_encoder),
    "ordinal_encoder": st.builds(
        lambda name, other: ready.ordinal_encoder(name, unknown=other), CATEGORY, st.sampled_from(["error", "null", -1])
    ),
    "one_hot_encoder": st.builds(
        lambda name, most, other: ready.one_hot_encoder(name, max_categories=most, unknown=other),
        CATEGORY, st.sampled_from([None, 2, 3]), st.sampled_from(["ignore", "error"]),
    ),
    "impute": st.one_of(
        st.builds(
            lambda name, how, flag: ready.impute(name, strategy=how, indicator=flag),
            NUMBER, st.sampled_from(["mean", "median", "most_frequent"]), FLAGS,
        ),
        CATEGORY.map(lambda name: ready.impute(name, strategy="most_frequent", indicator=True)),
        one_of(NUMBERS).filter(lambda name: name != "k").map(
            lambda name: ready.impute(name, strategy="constant", value=3)
        ),
        st.just(ready.impute("t", strategy="constant", value="none", indicator=True)),
        st.just(ready.impute("z", strategy="constant", value="2020-01-01T00:00:00.5Z")),
    ),
    "bin": st.builds(
        lambda name, how, edges: ready.bin(name, bins=3, strategy=how, edges=edges),
        NUMBER, st.sampled_from(["quantile", "uniform"]), st.sampled_from([None, [-1, 0, 0.5, 10]]),
    ),
    "winsorize": st.builds(lambda name, low: ready.winsorize(name, low=low), NUMBER, st.sampled_from([0.01, 0, 0.4])),
    "log": st.builds(
        lambda name, offset, base: ready.log(name, offset=offset, base=base),
        NUMBER, st.sampled_from([0, 1]), st.sampled_from(["e", "2", "10"]),
    ),
    "hash_buckets": st.builds(
        lambda name, seed: ready.hash_buckets(name, seed=seed), CATEGORY, st.sampled_from([0, -7])
    ),
}  # fmt: skip
"""By function, steps on columns that it takes."""


def table_of(given: list[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist(given, schema=arrow_schema(SCHEMA))


def outcome(call: Callable[[], Any]) -> Any:
    """What comes out, or that a category was refused."""
    try:
        return call()
    except TransformError as error:
        assert "which training data did not have" in error.message
        return None


def check_equal(prepared: Prepared, given: list[dict[str, Any]]) -> None:
    """That rows one by one come out as they do in a table."""
    prepare = prepared.compile_row()
    online = [outcome(lambda row=row: prepare(row)) for row in given]
    offline = outcome(lambda: prepared.apply_table(table_of(given)))

    assert (offline is None) == (None in online)
    if offline is None:
        return
    assert offline.num_rows == len(given)
    columns = {item.name: python_values(offline.column(item.name), item.dtype) for item in prepared.outputs}
    assert [list(row) for row in online] == [list(columns)] * len(given)
    for name, values in columns.items():
        assert [repr(row[name]) for row in online] == [repr(value) for value in values], name


def test_every_function_is_tried() -> None:
    assert STEPS.keys() | {"sklearn"} == FUNCTIONS.keys()


@pytest.mark.parametrize("function", sorted(STEPS))
@settings(max_examples=80, deadline=None)
@given(data=st.data())
def test_a_row_and_a_table_are_prepared_alike(function: str, data: st.DataObject) -> None:
    step = data.draw(STEPS[function])
    train = data.draw(rows(least=1, training=True))
    try:
        prepared = fit([step], table_of(train), SCHEMA, asked_by="test")
    except TransformError as error:
        assert "its values are too large" in error.message
        return
    check_equal(prepared, train + data.draw(rows(least=0, training=False)))


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_a_row_and_a_table_are_prepared_alike_by_chains(data: st.DataObject) -> None:
    """Steps one after the other, on what earlier ones made too; kept in between as JSON."""
    steps = data.draw(
        st.lists(st.sampled_from(sorted(STEPS)).flatmap(lambda name: STEPS[name]), min_size=2, max_size=6)
    )
    steps.insert(1, DOUBLED.on("f", "i", outputs="made", keep=True))
    train = data.draw(rows(least=2, training=True))
    try:
        prepared = fit(steps, table_of(train), SCHEMA, asked_by="test")
    except (DefinitionError, NameCollisionError, TransformError):
        return  # a column that an earlier step replaced by another type or name, or one with nothing to learn from
    again = Prepared.from_data(steps, json.loads(json.dumps(prepared.to_data(), allow_nan=False)))
    assert again == prepared
    check_equal(again, train + data.draw(rows(least=0, training=False)))


def _doubled(a: float, b: int, state: dict[str, int]) -> float:
    return float(a) + float(b) * state["rows"]


DOUBLED = Transformation("doubled", _doubled, outputs={"made": "float64"}, fit=lambda a, b: {"rows": len(a)})
