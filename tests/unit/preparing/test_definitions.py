"""Ready functions as steps: how they may be called, and their form on the command line."""

from __future__ import annotations

import datetime as dt
import inspect
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from grange.definitions import preparing as ready
from grange.definitions.preparing import FUNCTIONS, parse_step
from grange.definitions.ready_functions import check_step, learns, parameters_of
from grange.definitions.transformations import Step, Transformation
from grange.errors import DefinitionError, UsageError

RATIO = Transformation("ratio", sql={"share": "part / NULLIF(whole, 0)"})


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_factories_have_the_parameters_that_the_catalogue_lists(name: str) -> None:
    parameters = dict(inspect.signature(getattr(ready, name)).parameters)
    assert (parameters.pop("keep").default, parameters.pop("outputs").default) == (False, ())
    columns = parameters.pop("columns")
    assert columns.kind is columns.VAR_POSITIONAL
    listed = {item.name: item.default for item in FUNCTIONS[name].parameters}
    if name == "sklearn":
        assert parameters.keys() == listed.keys()
    else:
        assert {key: item.default for key, item in parameters.items()} == listed
    for item in FUNCTIONS[name].parameters:
        assert item.accepts(item.default)
        assert item.type
        assert item.description


def test_steps_keep_the_settings_that_differ_from_the_defaults() -> None:
    assert ready.standard_scaler("a", with_mean=True).parameters == ()
    assert ready.min_max_scaler("a", low=0.0, high=2).parameters == (("high", 2),)
    assert parameters_of(ready.min_max_scaler("a", high=2)) == {"low": 0, "high": 2, "clip": False}
    assert ready.ordinal_encoder("a", categories=["x", "y"]).parameters == (("categories", ("x", "y")),)
    assert hash(ready.ordinal_encoder("a", categories=np.array([2, 1]))) == hash(
        ready.ordinal_encoder("a", categories=(2, 1))
    )
    days = ready.ordinal_encoder("a", categories=[dt.date(2020, 1, 1)])
    assert days.parameters == (("categories", ("2020-01-01",)),)


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (ready.standard_scaler("a"), True),
        (ready.label_encoder("a"), True),
        (ready.one_hot_encoder("a"), True),
        (ready.one_hot_encoder("a", categories=["x"]), False),
        (ready.ordinal_encoder("a", categories=["x"]), False),
        (ready.impute("a"), True),
        (ready.impute("a", strategy="constant", value=0), False),
        (ready.bin("a"), True),
        (ready.bin("a", edges=[0, 1, 2]), False),
        (ready.log("a"), False),
        (ready.hash_buckets("a"), False),
        (RATIO.on("a", "b"), False),
    ],
    ids=str,
)
def test_whether_a_step_learns_depends_on_its_settings(step: Step, expected: bool) -> None:
    assert learns(step) == expected


def test_the_catalogue_says_what_learns() -> None:
    assert {name for name, item in FUNCTIONS.items() if not item.learns} == {"log", "hash_buckets"}


def call(name: str, *columns: str, **settings: Any) -> Step:
    step: Step = getattr(ready, name)(*columns, **settings)
    return step


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("standard_scaler", {"with_mean": 1}, "with_mean must be true or false"),
        ("min_max_scaler", {"low": 1}, "low must be less than high"),
        ("min_max_scaler", {"low": float("-inf")}, "low must be a number"),
        ("robust_scaler", {"low": -1}, "low must be less than high between 0 and 100"),
        ("quantile_scaler", {"quantiles": 1}, "quantiles must be at least 2"),
        ("quantile_scaler", {"distribution": "uniforn"}, "distribution must be 'uniform' or 'normal'"),
        ("ordinal_encoder", {"unknown": 1.5}, "unknown must be 'error' or 'null' or an integer"),
        ("ordinal_encoder", {"categories": []}, "categories must be a list of values or none"),
        ("ordinal_encoder", {"categories": ["a", "a"]}, "categories names one twice"),
        ("one_hot_encoder", {"max_categories": 1}, "max_categories must be at least 2"),
        ("one_hot_encoder", {"max_categories": 2, "categories": ["a"]}, "max_categories cuts what is learned"),
        ("impute", {"value": 1}, "value goes with strategy 'constant'"),
        ("impute", {"strategy": "constant"}, "value goes with strategy 'constant'"),
        ("impute", {"strategy": "mode"}, "strategy must be 'mean' or 'median' or 'most_frequent' or 'constant'"),
        ("bin", {"bins": 1}, "bins must be at least 2"),
        ("bin", {"edges": [1, 2]}, "edges must be at least three rising numbers"),
        ("bin", {"edges": [1, 3, 2]}, "edges must be at least three rising numbers"),
        ("winsorize", {"high": 2}, "low must be less than high between 0 and 1"),
        ("log", {"base": 2}, "base must be 'e' or '2' or '10'"),
        ("log", {"offset": True}, "offset must be 0 or 1"),
        ("hash_buckets", {"buckets": 0}, "buckets must be at least 1"),
        ("standard_scaler", {"outputs": ["x", "y"]}, "needs a name per column: a"),
    ],
)
def test_settings_that_cannot_be_are_refused(name: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        call(name, "a", **settings)
    assert message in caught.value.message


def test_columns_are_needed_each_once() -> None:
    with pytest.raises(DefinitionError, match="standard_scaler needs columns"):
        ready.standard_scaler()
    with pytest.raises(DefinitionError, match="names a column twice"):
        ready.standard_scaler("a", "a")


def test_stored_steps_are_checked_too() -> None:
    with pytest.raises(DefinitionError, match="no function is called 'standart_scaler'") as caught:
        check_step(Step("standart_scaler", ("a",)))
    assert caught.value.closest[0] == "standard_scaler"
    with pytest.raises(DefinitionError, match="bin has no parameter 'bns'") as caught:
        check_step(Step("bin", ("a",), (), (("bns", 5),)))
    assert caught.value.closest == ("bins",)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("standard_scaler:amount,age", ready.standard_scaler("amount", "age")),
        (" standard_scaler : amount , age -> a, b ", ready.standard_scaler("amount", "age", outputs=["a", "b"])),
        ("standard_scaler():amount", ready.standard_scaler("amount")),
        ("bin(bins=5):amount", ready.bin("amount", bins=5)),
        ("bin(edges=[0, 1.5, 1e3], strategy=uniform):a", ready.bin("a", edges=[0, 1.5, 1e3], strategy="uniform")),
        ("log(base=2,offset=1):a->b", ready.log("a", base="2", offset=1, outputs="b")),
        ("impute(strategy=constant, value=0):a", ready.impute("a", strategy="constant", value=0)),
        ("impute(strategy=constant, value='0'):a", ready.impute("a", strategy="constant", value="0")),
        ("impute(strategy=constant, value=-0.5, indicator=TRUE):a",
         ready.impute("a", strategy="constant", value=-0.5, indicator=True)),
        ("ordinal_encoder(categories=[small, 'very, large'], unknown=-1):a",
         ready.ordinal_encoder("a", categories=["small", "very, large"], unknown=-1)),
        ("one_hot_encoder(max_categories=none, keep=true):a", ready.one_hot_encoder("a", keep=True)),
        ("ratio:spend,total", RATIO.on("spend", "total")),
        ("ratio(keep=true):spend,total->s", RATIO.on("spend", "total", outputs="s", keep=True)),
    ],
)  # fmt: skip
def test_steps_are_read_from_text(text: str, expected: Step) -> None:
    assert parse_step(text, {"ratio": RATIO}) == expected


@pytest.mark.parametrize(
    ("text", "message", "closest"),
    [
        ("standard_scaler", "cannot be read", ()),
        ("standard_scaler:", "has an empty name", ()),
        ("standard_scaler:a,,b", "has an empty name", ()),
        ("standard_scaler:a->", "has an empty name", ()),
        ("bin(5):a", "'5' is no setting", ()),
        ("bin(bins=):a", "'bins=' is no setting", ()),
        ("bin(bins=5.5):a", "bins must be an integer", ()),
        ("bin(bns=5):a", "bin has no parameter 'bns'", ("bins",)),
        ("bin(bins=5,bins=6):a", "names 'bins' twice", ()),
        ("ratoi:a,b", "no function is called 'ratoi'", ("ratio",)),
        ("ratio:a", "transformation 'ratio' takes 2 columns: part, whole", ()),
        ("ratio(x=1):a,b", "transformation 'ratio' has no settings", ()),
        ("standard_scaler(keep=perhaps):a", "keep is true or false", ()),
        ("sklearn:a", "only Python can say which transformer", ()),
    ],
)
def test_text_that_is_no_step_is_refused(text: str, message: str, closest: tuple[str, ...]) -> None:
    with pytest.raises(UsageError) as caught:
        parse_step(text, {"ratio": RATIO})
    assert message in caught.value.message
    assert caught.value.closest[:1] == closest


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_a_users_transformation_has_no_name_of_a_ready_function(name: str) -> None:
    with pytest.raises(DefinitionError, match=f"transformation {name!r} has the name of a ready function") as caught:
        Transformation(name, sql={"y": "ln(x)"})
    assert caught.value.closest == (f"{name}_2",)
    own = Transformation(caught.value.closest[0], sql={"y": "ln(x)"})
    assert parse_step(f"{own.name}:a", {own.name: own}).transformation is own


def test_definitions_load_no_driver() -> None:
    code = "import sys, grange.definitions.preparing as p; p.standard_scaler('a'); p.parse_step('bin:a', {});"
    code += "print({'numpy', 'pyarrow', 'polars', 'pandas', 'duckdb', 'sklearn'} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
