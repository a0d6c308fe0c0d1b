"""scikit-learn transformers as steps: kept as data, fitted to columns together, applied to tables and rows."""

from __future__ import annotations

import base64
import json
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import skops.io
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import PCA
from sklearn.impute import KNNImputer, SimpleImputer
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    KBinsDiscretizer,
    MinMaxScaler,
    OneHotEncoder,
    PowerTransformer,
    QuantileTransformer,
    SplineTransformer,
    StandardScaler,
)
from sklearn.random_projection import GaussianRandomProjection

from grange.definitions.estimators import estimator_data, estimator_of
from grange.definitions.preparing import sklearn
from grange.definitions.transformations import Step
from grange.errors import DefinitionError, MissingDependencyError, RefusedError, TransformError
from grange.preparing import Prepared, fit
from grange.types import Schema

NAN = float("nan")
RANDOM = np.random.default_rng(3)
COUNT = 300
SCHEMA = Schema.of({"a": "float64", "b": "int64", "c": "float32", "t": "string"})
TABLE = pa.table(
    {
        "a": RANDOM.lognormal(size=COUNT),
        "b": pa.array(RANDOM.integers(0, 9, COUNT), mask=RANDOM.random(COUNT) < 0.2),
        "c": pa.array(np.where(RANDOM.random(COUNT) < 0.1, NAN, RANDOM.normal(size=COUNT)).astype(np.float32)),
        "t": pa.array(RANDOM.choice(["x", "y", "z"], COUNT), pa.large_string(), mask=RANDOM.random(COUNT) < 0.1),
    }
)


def prepared(step: Step, table: pa.Table = TABLE) -> Prepared:
    """A fitted step, by way of the JSON that it is kept as."""
    names = step.inputs
    made = fit([step], table, SCHEMA.select(names), asked_by="feature view 'churn'")
    data = json.loads(json.dumps(made.to_data(), allow_nan=False))
    again = Prepared.from_data([step], data)
    assert again == made
    return again


def bins() -> KBinsDiscretizer:
    return KBinsDiscretizer(4, encode="onehot-dense", quantile_method="linear", random_state=0)


@pytest.mark.parametrize(
    ("transformer", "columns"),
    [
        (PowerTransformer(), "ac"),
        (PCA(2, random_state=0), "abc"),
        (PCA(1, random_state=0), "a"),
        (bins(), "ab"),
        (SplineTransformer(n_knots=3), "a"),
        (GaussianRandomProjection(2, random_state=0), "abc"),
        (KNNImputer(), "abc"),
        (SimpleImputer(strategy="median", add_indicator=True), "abc"),
        (make_pipeline(SimpleImputer(), PowerTransformer(), PCA(2, random_state=0)), "abc"),
        (Pipeline([("union", FeatureUnion([("pca", PCA(1, random_state=0)), ("bins", bins())]))]), "ab"),
        (OneHotEncoder(handle_unknown="ignore"), "tb"),
        (
            ColumnTransformer([("n", MinMaxScaler((0, 2)), [0, 1]), ("t", OneHotEncoder(sparse_output=False), [2])]),
            "abt",
        ),
    ],
    ids=lambda item: item if isinstance(item, str) else type(item).__name__,
)
def test_a_row_and_a_table_are_transformed_alike(transformer: Any, columns: str) -> None:
    made = prepared(sklearn(transformer, *columns))
    prepare = made.compile_row()
    rows = TABLE.select(list(columns)).to_pylist()
    assert [repr(prepare(row)) for row in rows] == [repr(row) for row in made.apply_table(TABLE).to_pylist()]
    for size in (1, 2, 7):
        parts = [made.apply_table(TABLE.slice(start, size)) for start in range(0, 21, size)]
        assert repr(pa.concat_tables(parts).to_pylist()[:21]) == repr([prepare(row) for row in rows[:21]])


def test_results_are_those_of_scikit_learn() -> None:
    matrix = np.column_stack([TABLE.column("a").to_numpy(), np.nan_to_num(TABLE.column("c").to_numpy())])
    table = pa.table({"a": matrix[:, 0], "c": matrix[:, 1]})
    transformer = make_pipeline(PowerTransformer(), PCA(2, random_state=0))
    made = fit([sklearn(transformer, "a", "c")], table, Schema.of({"a": "float64", "c": "float64"}), asked_by="test")
    assert made.outputs == Schema.of({"pca0": "float64", "pca1": "float64"})
    found = made.apply_table(table)
    expected = transformer.fit(matrix).transform(matrix)
    np.testing.assert_array_equal(np.column_stack([column.to_numpy() for column in found.columns]), expected)


def test_nulls_stay_null_unless_the_transformer_fills_them_in() -> None:
    rows = [{"a": 1.0, "b": None}, {"a": NAN, "b": 2}, {"a": 1.0, "b": 2}]
    pca = prepared(sklearn(PCA(1, random_state=0), "a", "b")).compile_row()
    assert [repr(pca(row))[:12] for row in rows[:2]] == ["{'pca0': Non", "{'pca0': nan"]
    assert isinstance(pca(rows[2])["pca0"], float)
    scaler = prepared(sklearn(StandardScaler(), "a", "b")).compile_row()
    assert [scaler(row)["b"] is None for row in rows] == [True, False, False]
    filled = prepared(sklearn(SimpleImputer(), "a", "b")).compile_row()
    assert None not in filled(rows[0]).values()
    assert not np.isnan(list(filled(rows[1]).values())).any()


def test_outputs_can_be_named() -> None:
    assert prepared(sklearn(PCA(2, random_state=0), "a", "b", outputs=["left", "right"], keep=True)).outputs.names == (
        "a", "left", "right", "b",
    )  # fmt: skip
    assert prepared(sklearn(PowerTransformer(), "a", "c")).outputs.names == ("a", "c")
    with pytest.raises(DefinitionError, match="sklearn gives 2 outputs, and 1 names are given: one"):
        prepared(sklearn(PCA(2, random_state=0), "a", "b", outputs="one"))


def test_names_of_outputs_are_safe_and_differ() -> None:
    table = pa.table({"t": pa.array(["a/b", "a_b", "a b"], pa.large_string())})
    made = prepared(sklearn(OneHotEncoder(), "t"), table)
    assert made.outputs.names == ("t_a b", "t_a_b", "t_a_b_2")


def test_what_scikit_learn_refuses_is_said() -> None:
    table = pa.table({"a": [1.0, -1.0]})
    with pytest.raises(TransformError, match="PowerTransformer could not be fitted to columns a: ") as caught:
        prepared(sklearn(PowerTransformer(method="box-cox"), "a"), table)
    assert caught.value.asked_by == "feature view 'churn'"
    with pytest.raises(TransformError, match="every row has a null or NaN"):
        prepared(sklearn(PCA(1, random_state=0), "a"), pa.table({"a": [None, NAN]}))
    made = prepared(sklearn(OneHotEncoder(), "t"))
    with pytest.raises(TransformError, match="OneHotEncoder could not transform columns t: Found unknown categories"):
        made.compile_row()({"t": "never"})


@pytest.mark.parametrize(
    "transformer",
    [
        PCA(random_state=0),
        MinMaxScaler((0, 2), clip=True),
        SimpleImputer(missing_values=np.nan, fill_value=float("inf")),
        OneHotEncoder(dtype=np.float32, categories=[["a", "b"], np.array([1, 2])]),
        ColumnTransformer([("x", "passthrough", slice(0, 2)), ("y", make_pipeline(PCA(2, random_state=0)), [2, 3])]),
        FunctionTransformer(kw_args={"a": (1, [2])}),
    ],
    ids=lambda item: type(item).__name__,
)
def test_a_transformer_is_kept_as_data(transformer: Any) -> None:
    data = json.loads(json.dumps(estimator_data(transformer), allow_nan=False))
    again = estimator_of(data)
    assert type(again) is type(transformer)
    assert estimator_data(again) == data
    assert repr(again.get_params(deep=False)) == repr(
        type(transformer)(**again.get_params(deep=False)).get_params(deep=False)
    )


def test_only_settings_that_differ_from_the_defaults_are_kept() -> None:
    assert estimator_data(PCA(2, svd_solver="auto", random_state=0)) == {
        "class": "sklearn.decomposition.PCA",
        "parameters": {"n_components": 2, "random_state": 0},
    }


@pytest.mark.parametrize(
    ("transformer", "name"),
    [
        (PCA(2), "PCA"),
        (QuantileTransformer(), "QuantileTransformer"),
        (make_pipeline(StandardScaler(), PCA(2)), "PCA"),
        (ColumnTransformer([("a", Pipeline([("b", GaussianRandomProjection(2))]), [0])]), "GaussianRandomProjection"),
    ],
)
def test_what_may_draw_random_numbers_needs_its_random_state(transformer: Any, name: str) -> None:
    with pytest.raises(DefinitionError, match=f"the {name} has no random_state") as caught:
        sklearn(transformer, "a", "b")
    assert caught.value.try_ == f"{name}(..., random_state=0)"


class Own(StandardScaler):
    """A transformer that is not of scikit-learn."""


@pytest.mark.parametrize(
    ("transformer", "message"),
    [
        (Own(), "Own is no transformer of scikit-learn itself"),
        (make_pipeline(Own()), "Own is no transformer of scikit-learn itself"),
        (FunctionTransformer(np.log), r"FunctionTransformer\(func=\.\.\.\) is no data"),
        (PCA(random_state=np.random.RandomState(1)), r"PCA\(random_state=\.\.\.\) is no data"),
        (StandardScaler().fit([[1.0]]), "the StandardScaler is fitted already"),
        (PCA, "gr.sklearn takes a scikit-learn transformer"),
        (3, "gr.sklearn takes a scikit-learn transformer"),
    ],
)
def test_what_is_no_data_is_refused(transformer: Any, message: str) -> None:
    with pytest.raises(DefinitionError, match=message):
        sklearn(transformer, "a")


@pytest.mark.parametrize(
    "path",
    ["subprocess.Popen", "os.system", "sklearn.utils.Bunch", "sklearn.base.clone", "sklearnx.Evil", "sklearn.no.Such"],
)
def test_no_other_class_is_loaded(path: str) -> None:
    with pytest.raises((DefinitionError, MissingDependencyError)):
        estimator_of({"class": path, "parameters": {}})


def test_no_other_type_is_loaded_from_what_was_learned() -> None:
    step = sklearn(StandardScaler(), "a")
    data = fit([step], TABLE, SCHEMA.select(["a"]), asked_by="test").to_data()
    (learned,) = data["steps"][0]["learned"]
    scaler = Own().fit([[1.0], [2.0]])
    foreign = base64.b64encode(skops.io.dumps(scaler)).decode()
    data["steps"][0]["learned"] = [learned | {"skops": foreign}]
    with pytest.raises(RefusedError, match="types that are not loaded") as caught:
        Prepared.from_data([step], data)
    assert "Own" in (caught.value.found or "")
    other = base64.b64encode(skops.io.dumps(MinMaxScaler().fit([[1.0], [2.0]]))).decode()
    data["steps"][0]["learned"] = [learned | {"skops": other}]
    with pytest.raises(RefusedError, match="is of another transformer"):
        Prepared.from_data([step], data)
