"""Ready functions: what each of them computes, beside scikit-learn where it has the same."""

from __future__ import annotations

import datetime as dt
import hashlib
import math
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from sklearn import preprocessing

from grange.definitions import preparing as ready
from grange.definitions.ready_functions import FUNCTIONS
from grange.definitions.transformations import Step
from grange.errors import DefinitionError, TransformError
from grange.preparing import fit
from grange.preparing.functions import READY
from grange.transforming.values import python_values
from grange.types import DataType, Schema, as_dtype
from grange.types.arrow import arrow_type

NAN, INF = float("nan"), float("inf")
RANDOM = np.random.default_rng(7)
NUMBERS: dict[str, np.ndarray] = {
    "normal": RANDOM.normal(5, 3, 500),
    "skewed": RANDOM.lognormal(size=333),
    "ties": RANDOM.integers(0, 4, 200).astype(float),
    "constant": np.full(10, 0.1),
    "nearly constant": 1e9 + RANDOM.random(50) * 1e-7,
    "one value": np.array([3.0]),
    "with nan": np.where(RANDOM.random(100) < 0.2, NAN, RANDOM.normal(size=100)),
    "large": RANDOM.normal(size=100) * 1e12,
}
LATER = np.array([-1e9, -1.5, -0.0, 0.0, 0.1, 1.0, 2.0, 2.5, 4.0, 1e9, NAN])


def apply(
    step: Step, train: Any, later: Any = None, dtype: str | DataType = "float64", name: str = "x"
) -> dict[str, list[Any]]:
    """What a step that learned from a column makes of another, by output."""
    kind = as_dtype(dtype)
    schema = Schema.of({name: kind})

    def table(values: Any) -> pa.Table:
        return pa.table({name: pa.array(values, arrow_type(kind), from_pandas=False)})

    prepared = fit([step], table(train), schema, asked_by="feature view 'churn'")
    rows = table(train if later is None else later)
    made = prepared.apply_table(rows)
    prepare = prepared.compile_row()
    online = [prepare({name: value}) for value in python_values(rows.column(name), kind)]
    assert repr(online) == repr(made.to_pylist())  # every test is one of equal rows and tables too
    result: dict[str, list[Any]] = made.to_pydict()
    return result


def only(step: Step, train: Any, later: Any = None, dtype: str = "float64") -> list[Any]:
    (values,) = apply(step, train, later, dtype).values()
    return values


def sklearn_of(transformer: Any, train: np.ndarray, later: np.ndarray) -> np.ndarray:
    made = transformer.fit(train.reshape(-1, 1)).transform(later.reshape(-1, 1))
    return np.asarray(made).ravel()


def test_every_listed_function_is_computed() -> None:
    assert READY.keys() | {"sklearn"} == FUNCTIONS.keys()


@pytest.mark.parametrize("train", NUMBERS.values(), ids=NUMBERS)
@pytest.mark.parametrize(
    ("step", "transformer"),
    [
        (ready.standard_scaler("x"), preprocessing.StandardScaler()),
        (ready.standard_scaler("x", with_mean=False), preprocessing.StandardScaler(with_mean=False)),
        (ready.standard_scaler("x", with_std=False), preprocessing.StandardScaler(with_std=False)),
        (ready.min_max_scaler("x"), preprocessing.MinMaxScaler()),
        (ready.min_max_scaler("x", low=-1, high=3, clip=True), preprocessing.MinMaxScaler((-1, 3), clip=True)),
        (ready.robust_scaler("x"), preprocessing.RobustScaler()),
        (ready.robust_scaler("x", low=5, high=90), preprocessing.RobustScaler(quantile_range=(5, 90))),
    ],
    ids=str,
)
def test_scalers_are_those_of_scikit_learn(step: Step, transformer: Any, train: np.ndarray) -> None:
    expected = sklearn_of(transformer, train, LATER)
    np.testing.assert_allclose(only(step, train, LATER), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("train", [NUMBERS[name] for name in ("normal", "skewed", "ties", "with nan")])
@pytest.mark.parametrize("distribution", ["uniform", "normal"])
@pytest.mark.parametrize("quantiles", [5, 100])
def test_the_quantile_scaler_is_that_of_scikit_learn(train: np.ndarray, distribution: Any, quantiles: int) -> None:
    count = min(quantiles, int((~np.isnan(train)).sum()))
    transformer = preprocessing.QuantileTransformer(n_quantiles=count, output_distribution=distribution)
    step = ready.quantile_scaler("x", quantiles=quantiles, distribution=distribution)
    edges = np.array([np.nanmin(train) + 1e-8, np.nanmax(train) - 1e-8, np.nanmin(train) + 1e-6])
    later = np.concatenate([LATER, train, (train[:-1] + train[1:]) / 2, edges])
    np.testing.assert_allclose(only(step, train, later), sklearn_of(transformer, train, later), rtol=1e-9, atol=1e-9)


def test_equal_values_are_scaled_to_zero() -> None:
    assert only(ready.standard_scaler("x"), [0.1] * 3, [0.1, 1.1]) == [0.0, 1.0]
    assert only(ready.min_max_scaler("x"), [0.5] * 3, [0.5, 1.5]) == [0.0, 1.0]
    assert only(ready.robust_scaler("x"), [0.5] * 3, [0.5, 1.5]) == [0.0, 1.0]


def test_a_negative_zero_is_not_less_than_zero() -> None:
    assert repr(only(ready.winsorize("x", low=0, high=1), [0.0, 1.0], [-0.0, -1.0])) == "[-0.0, 0.0]"


def test_the_rank_of_a_value_that_is_alone() -> None:
    assert only(ready.quantile_scaler("x"), [3.0], [2.0, 3.0, 4.0, NAN, None])[:3] == [0.0, 0.0, 1.0]
    normal = only(ready.quantile_scaler("x", distribution="normal"), [3.0], [2.0, 4.0, -INF, INF])
    assert normal == pytest.approx([-5.1993, 5.1993, -5.1993, 5.1993], abs=1e-4)


@pytest.mark.parametrize("name", ["normal", "skewed", "ties", "large"])
@pytest.mark.parametrize("strategy", ["quantile", "uniform"])
@pytest.mark.filterwarnings("ignore:Bins whose width")
def test_bins_are_those_of_scikit_learn(name: str, strategy: Any) -> None:
    train = NUMBERS[name]
    options: dict[str, Any] = {"strategy": strategy, "encode": "ordinal", "subsample": None}
    if strategy == "quantile":
        options["quantile_method"] = "averaged_inverted_cdf"
    transformer = preprocessing.KBinsDiscretizer(7, **options)
    later = np.concatenate([LATER[:-1], train])
    assert (
        only(ready.bin("x", bins=7, strategy=strategy), train, later) == sklearn_of(transformer, train, later).tolist()
    )


def test_bins_of_equal_values_are_one() -> None:
    assert only(ready.bin("x"), [2.0, 2.0], [1.0, 2.0, 3.0]) == [0, 0, 0]


def test_bins_with_edges_need_no_training_values() -> None:
    step = ready.bin("x", edges=[0, 10, 100.5, 200])
    assert only(step, [None], [-5.0, 0.0, 9.9, 10.0, 100.5, 1e9, INF, -INF, NAN, None]) == [
        0, 0, 0, 1, 2, 2, 2, 0, None, None,
    ]  # fmt: skip
    assert only(step, [None], [-5, 10, 2**63 - 1, None], "int64") == [0, 1, 2, None]


def test_winsorize_pulls_values_back() -> None:
    train = [*map(float, range(101)), INF, NAN, None]
    assert only(ready.winsorize("x", low=0.05, high=0.9), train, [-INF, 4.0, 5.0, 50.0, 91.0, INF, NAN, None])[:6] == [
        5.0, 5.0, 5.0, 50.0, 90.0, 90.0,
    ]  # fmt: skip


def test_logarithms() -> None:
    values = [0.0, -1.0, 1.0, 8.0, INF, NAN, None]

    def log(**options: Any) -> list[str]:
        return [repr(value) for value in only(ready.log("x", **options), [None], values)]

    assert log() == ["-inf", "nan", "0.0", repr(math.log(8)), "inf", "nan", "None"]
    assert log(base="2") == ["-inf", "nan", "0.0", "3.0", "inf", "nan", "None"]
    assert log(base="10", offset=1) == [
        "0.0", "-inf", repr(math.log10(2)), repr(math.log10(9)), "inf", "nan", "None",
    ]  # fmt: skip
    assert only(ready.log("x", offset=1), [None], [1e-20]) == [1e-20]


ENCODED = ["b", "a", None, "c", "a", "é"]


def test_encoders_number_sorted_categories() -> None:
    assert only(ready.label_encoder("x"), ENCODED, dtype="string") == [1, 0, None, 2, 0, 3]
    assert only(ready.ordinal_encoder("x"), [3, -1, 10], dtype="int8") == [1, 0, 2]
    assert only(ready.ordinal_encoder("x"), [True, False, None], dtype="boolean") == [1, 0, None]
    encoder = preprocessing.OrdinalEncoder().fit([[value] for value in ENCODED if value is not None])
    assert encoder.categories_[0].tolist() == ["a", "b", "c", "é"]


@pytest.mark.parametrize(
    ("dtype", "values"),
    [
        ("string", ["b", "a"]),
        ("int64", [2**63 - 1, -5]),
        ("boolean", [True, False]),
        ("date", [dt.date(2020, 1, 2), dt.date(2020, 1, 1)]),
        ("datetime", [dt.datetime(2020, 1, 1, 0, 0, 0, 2, tzinfo=dt.UTC), dt.datetime(2020, 1, 1, tzinfo=dt.UTC)]),
        ("decimal(5,2)", [Decimal("1.50"), Decimal("-1.50")]),
        ("binary", [b"\xff", b""]),
        ("uuid", ["6f9619ff-8b86-d011-b42d-00c04fc964ff", "00000000-0000-0000-0000-000000000000"]),
    ],
)
def test_categories_are_of_every_type_that_can_be_a_key(dtype: str, values: list[Any]) -> None:
    assert only(ready.ordinal_encoder("x"), values, dtype=dtype) == [1, 0]
    assert list(apply(ready.one_hot_encoder("x"), values, dtype=dtype).values()) == [[0, 1], [1, 0]]
    for buckets in (only(ready.hash_buckets("x", buckets=10**6), values, dtype=dtype),):
        assert len(set(buckets)) == 2
    if dtype not in ("boolean", "binary", "decimal(5,2)"):
        told = ready.ordinal_encoder("x", categories=values)
        assert only(told, [None], [*values, None], dtype) == [0, 1, None]


def test_categories_can_be_told() -> None:
    sizes = ready.ordinal_encoder("x", categories=["small", "large"], unknown="null")
    assert only(sizes, [None], ["large", "huge", "small", None], "string") == [1, None, 0, None]
    days = ready.ordinal_encoder("x", categories=[dt.date(2020, 1, 2), "2020-01-01"], unknown=-1)
    assert only(days, [None], [dt.date(2020, 1, 1), dt.date(2021, 1, 1)], "date") == [1, -1]
    assert apply(ready.one_hot_encoder("x", categories=["b", "a"]), [None], ["a", "z"], "string") == {
        "x__b": [0, 0],
        "x__a": [1, 0],
    }
    with pytest.raises(DefinitionError, match="category 'a' is no value of column 'x', which is int64"):
        only(ready.ordinal_encoder("x", categories=["a"]), [1], dtype="int64")


def test_a_category_that_was_never_seen_is_refused_with_the_known_ones() -> None:
    for step in (
        ready.label_encoder("x"),
        ready.ordinal_encoder("x"),
        ready.one_hot_encoder("x", unknown="error"),
        ready.one_hot_encoder("x", unknown="error", max_categories=2),
    ):
        with pytest.raises(TransformError, match=r"column 'x' has 'z' in row 2, which training data did not") as caught:
            only(step, ENCODED, ["a", None, "z", "y"], "string")
        assert caught.value.asked_by == "feature view 'churn'"
        assert set("abcé") <= set(caught.value.found or "")


def test_one_hot_columns_have_safe_names_that_differ() -> None:
    values = ["a b", "a_b", "", "a/b", "other", "日本", "a_b_2"]
    assert list(apply(ready.one_hot_encoder("x"), values, dtype="string")) == [
        "x__empty", "x__a_b", "x__a_b_3", "x__a_b_4", "x__a_b_2", "x__other", "x__日本",
    ]  # fmt: skip
    assert list(apply(ready.one_hot_encoder("x", outputs="land"), [-5, 5], dtype="int64")) == [
        "land__minus_5",
        "land__5",
    ]
    assert list(apply(ready.one_hot_encoder("x"), [True, False], dtype="boolean")) == ["x__false", "x__true"]


def test_one_hot_is_that_of_scikit_learn() -> None:
    train = RANDOM.choice(["a", "b", "c", "d", "e"], 60, p=[0.4, 0.25, 0.15, 0.1, 0.1]).tolist()
    later = [*"abcdefz"]
    for most in (None, 2, 3, 4, 5):
        encoder = preprocessing.OneHotEncoder(max_categories=most, handle_unknown="ignore", sparse_output=False)
        expected = encoder.fit([[value] for value in train]).transform([[value] for value in later])
        made = apply(ready.one_hot_encoder("x", max_categories=most), train, later, "string")
        assert np.array(list(made.values())).T.tolist() == expected.tolist()
        assert (list(made)[-1] == "x__other") == (most not in (None, 5))


def test_rare_categories_of_equal_frequency_are_those_of_scikit_learn() -> None:
    train = [*"ddccbbaaae"]
    encoder = preprocessing.OneHotEncoder(max_categories=3, sparse_output=False).fit([[value] for value in train])
    made = apply(ready.one_hot_encoder("x", max_categories=3), train, dtype="string")
    assert list(made) == ["x__a", "x__d", "x__other"]
    assert encoder.infrequent_categories_[0].tolist() == ["b", "c", "e"]


def test_too_many_columns_need_a_limit() -> None:
    with pytest.raises(TransformError, match="has 10001 categories, and each would be a column"):
        apply(ready.one_hot_encoder("x"), list(range(10_001)), dtype="int64")
    assert len(apply(ready.one_hot_encoder("x", max_categories=4), list(range(10_001)), dtype="int64")) == 4


def test_imputers_fill_nulls_and_nan_in() -> None:
    train = [1.0, None, 2.0, NAN, 6.0, 2.0]
    later = [None, NAN, 7.5]
    assert only(ready.impute("x"), train, later) == [2.75, 2.75, 7.5]
    assert only(ready.impute("x", strategy="median"), train, later) == [2.0, 2.0, 7.5]
    assert only(ready.impute("x", strategy="most_frequent"), train, later) == [2.0, 2.0, 7.5]
    assert only(ready.impute("x", strategy="constant", value=-1), train, later) == [-1.0, -1.0, 7.5]
    assert only(ready.impute("x"), [1, None, 2], dtype="int64") == [1.0, 1.5, 2.0]
    assert only(ready.impute("x", strategy="constant", value=0), [1, None], dtype="int64") == [1, 0]
    assert only(ready.impute("x", strategy="most_frequent"), ["b", "a", None], dtype="string") == ["b", "a", "a"]
    assert apply(ready.impute("x", indicator=True), train, later) == {"x": [2.75, 2.75, 7.5], "x__missing": [1, 1, 0]}


@pytest.mark.parametrize(
    ("value", "dtype"),
    [("a", "int64"), (0.5, "int64"), (300, "uint8"), (1, "string"), ("soon", "date"), (1, "boolean")],
)
def test_what_is_filled_in_is_of_the_columns_type(value: Any, dtype: str) -> None:
    with pytest.raises(DefinitionError, match=rf"impute: value {value!r} is no value of column 'x', which is {dtype}"):
        only(ready.impute("x", strategy="constant", value=value), [None], dtype=dtype)


def test_hash_buckets_are_written_down() -> None:
    """They are the same in every process, on every machine and in every version: these numbers never change."""
    vectors: list[tuple[str, Any, int]] = [
        ("string", "FR", 11847219),
        ("string", "", 438695704),
        ("int64", -5, 584658004),
        ("boolean", True, 1736671033),
        ("date", dt.date(2020, 2, 29), 1953842734),
        ("datetime", dt.datetime(1969, 12, 31, 23, 59, 59, 999999, tzinfo=dt.UTC), 439736693),
        ("decimal(6,2)", Decimal("1.50"), 1310844875),
        ("binary", b"\x00", 38100411),
    ]
    step = ready.hash_buckets("x", buckets=2**31)
    assert [only(step, [None], [value], dtype)[0] for dtype, value, _ in vectors] == [
        expected for *_, expected in vectors
    ]


def test_hash_buckets_are_as_documented() -> None:
    def bucket(text: bytes, seed: int) -> int:
        digest = hashlib.blake2b(text, digest_size=8, salt=(seed % 2**64).to_bytes(8, "little")).digest()
        return int.from_bytes(digest, "little") % 50

    for seed in (0, -3):
        step = ready.hash_buckets("x", buckets=50, seed=seed)
        assert only(step, [None], ["FR", "é", None], "string") == [
            bucket(b"string\0FR", seed), bucket("string\0é".encode(), seed), None,
        ]  # fmt: skip
        assert only(step, [None], [7], "int8") == only(step, [None], [7], "uint64") == [bucket(b"integer\x007", seed)]
        assert only(step, [None], [Decimal("-0.00"), Decimal("1.50")], "decimal(6,2)") == [
            bucket(b"decimal\x000", seed), bucket(b"decimal\x001.5", seed),
        ]  # fmt: skip


def test_hash_buckets_are_evenly_filled() -> None:
    buckets = only(ready.hash_buckets("x", buckets=10), [None], list(range(10_000)), "int64")
    counts = np.bincount(buckets, minlength=10)
    assert ((counts - 1000) ** 2 / 1000).sum() < 28  # chi-square of 9 degrees of freedom, 0.1 %


def test_text_is_not_scaled_and_numbers_are_not_encoded_as_categories() -> None:
    with pytest.raises(DefinitionError, match="standard_scaler takes numbers, and column 'x' is string") as caught:
        only(ready.standard_scaler("x"), ["a"], dtype="string")
    assert "gr.ordinal_encoder" in (caught.value.try_ or "")
    for step in (ready.label_encoder("x"), ready.one_hot_encoder("x"), ready.hash_buckets("x")):
        with pytest.raises(DefinitionError, match=f"{step.function} takes categories, and column 'x' is float64"):
            only(step, [1.0])
    for step in (ready.impute("x"), ready.log("x"), ready.bin("x", edges=[1, 2, 3])):
        with pytest.raises(DefinitionError, match=f"{step.function} takes numbers, and column 'x' is list"):
            only(step, [[1.0]], dtype="list[float64]")


@pytest.mark.parametrize("function", ["standard_scaler", "min_max_scaler", "robust_scaler", "quantile_scaler", "bin"])
def test_there_must_be_something_to_learn(function: str) -> None:
    step = getattr(ready, function)("x")
    with pytest.raises(TransformError, match=f"{function} cannot learn from column 'x': it has no values there"):
        only(step, [None, NAN])
    with pytest.raises(TransformError, match="it has infinite values"):
        only(step, [1.0, INF])
    if function in ("standard_scaler", "min_max_scaler"):
        with pytest.raises(TransformError, match="its values are too large"):
            only(step, [1.7e308, -1.7e308])


def test_numbers_are_of_every_kind() -> None:
    step = ready.standard_scaler("x", with_std=False)
    assert only(step, [1, 3, None], dtype="uint8") == [-1.0, 1.0, None]
    assert only(step, [True, False], dtype="boolean") == [0.5, -0.5]
    assert only(step, [Decimal("0.1"), Decimal("0.3")], dtype="decimal(3,1)") == [0.1 - 0.2, 0.3 - 0.2]
    assert only(step, [0.5, 1.5], dtype="float32") == [-0.5, 0.5]
