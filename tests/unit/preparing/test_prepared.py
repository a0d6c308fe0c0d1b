"""Steps on a table: where columns stand, what later steps see, what is kept, what is refused."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from grange.definitions import preparing as ready
from grange.definitions.transformations import Step, Transformation
from grange.errors import (
    ColumnTypeError,
    DefinitionError,
    MissingColumnError,
    NameCollisionError,
    RequestError,
    SchemaError,
    TransformError,
)
from grange.preparing import Prepared, fit
from grange.types import Schema

SCHEMA = Schema.of({"age": "int64", "amount": "float64", "country": "string", "note": "list[string]"})
TRAIN = pa.table(
    {
        "age": [20, 40, None],
        "amount": [1.0, 3.0, 2.0],
        "country": pa.array(["FR", "US", None], pa.large_string()),
        "note": pa.array([["a"], [], None], pa.large_list(pa.large_string())),
    }
)
ASKED_BY = "feature view 'churn'"


def fitted(*steps: Step) -> Prepared:
    return fit(steps, TRAIN, SCHEMA, asked_by=ASKED_BY)


def names(*steps: Step) -> tuple[str, ...]:
    return fitted(*steps).outputs.names


def test_outputs_stand_where_their_inputs_stood() -> None:
    assert names(ready.standard_scaler("amount")) == ("age", "amount", "country", "note")
    assert names(ready.standard_scaler("amount", "age", outputs=["m", "a"])) == ("a", "m", "country", "note")
    assert names(ready.standard_scaler("amount", outputs="m", keep=True)) == ("age", "amount", "m", "country", "note")
    assert names(ready.one_hot_encoder("country")) == ("age", "amount", "country__FR", "country__US", "note")
    assert names(ready.one_hot_encoder("country", keep=True))[2:5] == ("country", "country__FR", "country__US")
    assert names(ready.impute("age", indicator=True)) == ("age", "age__missing", "amount", "country", "note")


def test_a_users_function_stands_where_the_first_of_its_inputs_stood() -> None:
    ratio = Transformation("ratio", sql={"ratio": "amount / age"})
    assert names(ratio.on("amount", "age")) == ("ratio", "country", "note")
    assert names(ratio.on("amount", "age", outputs="age")) == ("age", "country", "note")
    assert names(ratio.on("amount", "age", keep=True)) == ("age", "ratio", "amount", "country", "note")
    assert names(ratio.on("amount", "age", outputs="amount", keep=True)) == ("age", "amount", "country", "note")


def test_types_of_outputs_are_known() -> None:
    made = fitted(ready.standard_scaler("age"), ready.one_hot_encoder("country"), ready.bin("amount", bins=2)).outputs
    assert [str(column.dtype) for column in made] == ["float64", "int64", "int8", "int8", "list[string]"]


def test_a_later_step_sees_what_earlier_ones_made() -> None:
    made = fitted(
        ready.impute("age", strategy="constant", value=60), ready.min_max_scaler("age"), ready.bin("age", bins=2)
    )
    assert made.states[1] == ({"scale": 1 / 40, "offset": -0.5},)
    assert made.apply_table(TRAIN).column("age").to_pylist() == [0, 1, 1]


def test_every_column_of_a_step_is_treated_by_itself() -> None:
    made = fitted(ready.standard_scaler("age", "amount", with_std=False))
    assert made.states == (({"mean": 30.0, "scale": 10.0}, {"mean": 2.0, "scale": pytest.approx(0.816, abs=1e-3)}),)


def test_columns_that_no_step_touches_go_through_as_they_are() -> None:
    made = fitted(ready.standard_scaler("amount"))
    assert made.inputs.names == ("amount",)
    assert made.apply_table(TRAIN).column("note").equals(TRAIN.column("note"))
    note = ["x"]
    assert made.compile_row()({"age": 1, "amount": 2, "country": "FR", "note": note, "other": 5})["note"] is note


def test_columns_that_are_not_of_the_view_are_left_out() -> None:
    table = TRAIN.append_column("label", pa.array([1, 0, 1]))
    assert fitted(ready.standard_scaler("amount")).apply_table(table).column_names == [*SCHEMA.names]


def test_rows_have_python_values_in_order() -> None:
    prepare = fitted(ready.standard_scaler("amount"), ready.one_hot_encoder("country")).compile_row()
    row = prepare({"note": None, "country": "US", "amount": 2, "age": None})
    assert repr(row) == "{'age': None, 'amount': 0.0, 'country__FR': 0, 'country__US': 1, 'note': None}"


def test_what_was_learned_is_kept_as_json_exactly() -> None:
    steps = (ready.standard_scaler("amount"), ready.quantile_scaler("age"), ready.ordinal_encoder("country"))
    made = fitted(*steps)
    data = json.loads(json.dumps(made.to_data(), allow_nan=False))
    assert Prepared.from_data(steps, data) == made
    assert Prepared.from_data(steps, data).to_data() == made.to_data()


@pytest.mark.parametrize(
    "others",
    [
        [],
        [ready.standard_scaler("amount", with_mean=False)],
        [ready.standard_scaler("age")],
        [ready.standard_scaler("amount", outputs="m")],
        [ready.standard_scaler("amount", keep=True)],
        [ready.robust_scaler("amount")],
    ],
    ids=str,
)
def test_what_other_steps_learned_is_refused(others: Sequence[Step]) -> None:
    data = fitted(ready.standard_scaler("amount")).to_data()
    with pytest.raises(RequestError, match="other transformations were fitted: compute a training dataset"):
        Prepared.from_data(others, data)


def test_what_another_version_of_a_function_learned_is_refused() -> None:
    def old(x: float, state: Any) -> float:
        return x - state

    def new(x: float, state: Any) -> float:
        return x + state

    def make(function: Any) -> Step:
        item = Transformation("shift", function, outputs={"amount": "float64"}, inputs=["x"], fit=lambda x: x[0])
        return item.on("amount")

    data = fitted(make(old)).to_data()
    assert Prepared.from_data([make(old)], data).apply_table(TRAIN).column("amount").to_pylist() == [0.0, 2.0, 1.0]
    with pytest.raises(RequestError, match="other transformations were fitted"):
        Prepared.from_data([make(new)], data)


def test_steps_that_learn_need_a_training_dataset() -> None:
    with pytest.raises(
        RequestError, match=r"standard_scaler\(amount\) has not been fitted: compute a training dataset"
    ):
        Prepared.unfitted([ready.standard_scaler("amount")], SCHEMA, asked_by=ASKED_BY)
    steps = [
        ready.log("amount"),
        ready.bin("age", edges=[0, 18, 65, 120]),
        ready.ordinal_encoder("country", categories=["FR", "US"]),
        Transformation("double", sql={"amount": "x * 2"}, inputs=["x"]).on("amount"),
    ]
    made = Prepared.unfitted(steps, SCHEMA, asked_by=ASKED_BY)
    assert made.compile_row()({"age": 20, "amount": 1.0, "country": "US", "note": []}) == {
        "age": 1,
        "amount": 0.0,
        "country": 1,
        "note": [],
    }


def test_a_users_function_learns_from_the_columns_of_its_step() -> None:
    def learn(values: np.ndarray) -> dict[str, Any]:
        return {"top": values.max()}

    def share(values: np.ndarray, state: Any) -> np.ndarray:
        return values / state["top"]

    item = Transformation("share", share, inputs=["values"], outputs={"share": "float64"}, mode="numpy", fit=learn)
    made = fitted(item.on("age", outputs="age"))
    assert made.states == (({"top": 40},),)
    assert made.apply_table(TRAIN).column("age").to_pylist() == [0.5, 1.0, None]
    assert made.compile_row()({"age": 10, "amount": 1.0, "country": "", "note": None})["age"] == 0.25


def test_a_column_that_is_not_there_is_named_with_the_closest() -> None:
    with pytest.raises(SchemaError, match="step 'standard_scaler' takes column 'amont', which is not there") as caught:
        fitted(ready.standard_scaler("amont"))
    assert (caught.value.closest[0], caught.value.asked_by) == ("amount", ASKED_BY)
    with pytest.raises(SchemaError, match="'amount', which an earlier step replaced") as caught:
        fitted(ready.standard_scaler("amount", outputs="m"), ready.log("amount"))
    assert caught.value.try_ == "keep=True in the earlier step"


def test_an_output_does_not_take_the_name_of_another_column() -> None:
    with pytest.raises(NameCollisionError, match="step 'log' makes a column 'age', and there is one already"):
        fitted(ready.log("amount", outputs="age"))


def test_a_column_of_another_type_is_refused() -> None:
    with pytest.raises(DefinitionError, match="standard_scaler takes numbers, and column 'country' is string"):
        fitted(ready.standard_scaler("country"))
    with pytest.raises(DefinitionError, match="one_hot_encoder takes categories, and column 'note' is list"):
        fitted(ready.one_hot_encoder("note"))


def test_rows_and_tables_without_a_column_are_refused() -> None:
    made = fitted(ready.standard_scaler("amount"))
    with pytest.raises(MissingColumnError, match="column 'amount' is missing") as caught:
        made.compile_row()({"age": 1, "amont": 2.0, "country": "FR", "note": None})
    assert caught.value.closest[0] == "amont"
    with pytest.raises(MissingColumnError, match="column 'age' is missing"):
        made.apply_table(TRAIN.drop_columns(["age"]))


def test_values_of_another_type_are_refused() -> None:
    made = fitted(ready.standard_scaler("amount"))
    with pytest.raises(ColumnTypeError, match="column 'amount' is to be prepared, and its value is not of its type"):
        made.compile_row()({"age": 1, "amount": "much", "country": "FR", "note": None})
    with pytest.raises(ColumnTypeError, match="'amount' is declared float64"):
        made.apply_table(TRAIN.set_column(1, "amount", pa.array(["much"] * 3)))


def test_a_category_that_was_never_seen_is_refused_in_a_table_and_in_a_row() -> None:
    made = fitted(ready.label_encoder("country"))
    with pytest.raises(TransformError, match="'DE' in row 1"):
        made.apply_table(TRAIN.set_column(2, "country", pa.array(["FR", "DE", "US"])))
    with pytest.raises(TransformError, match="has 'DE', which training data did not have") as caught:
        made.compile_row()({"age": 1, "amount": 1.0, "country": "DE", "note": None})
    assert caught.value.found == "known: 'FR', 'US'"
    assert caught.value.try_ == (
        "ordinal_encoder('country', unknown=\"null\"), or one_hot_encoder('country', unknown=\"ignore\")"
    )


def test_no_steps_change_nothing() -> None:
    made = fitted()
    assert (made.outputs, made.inputs.names) == (SCHEMA, ())
    assert made.apply_table(TRAIN).equals(TRAIN)
