"""Code that came as text: kept, shown, and run only where the operator allows it."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from tests.shop import at, spend_group

import grange as gr
from grange.definitions.stored_code import transformation_from_code
from grange.errors import DefinitionError, RefusedError, TransformError

TEXT = '''
import numpy as np


def doubled(amount: np.ndarray):
    """Twice."""
    return amount * 2
'''
MODULE = """
import numpy as np

import grange as gr

user = gr.Entity("user", join_keys=["user_id"])


@gr.transformation(outputs="float64")
def tripled(amount: np.ndarray):
    return amount * 3


spend = gr.FeatureGroup(
    "spend",
    entities=user,
    source=gr.FileSource("data/spend.parquet", event_time="at", created_time="loaded"),
    on_demand=[tripled],
)
"""


def view() -> gr.FeatureView:
    stored = transformation_from_code(TEXT, outputs={"doubled": "float64"})
    return gr.FeatureView("model", features=["spend:amount"], on_demand=[stored])


@pytest.fixture
def applied(project: Path) -> Path:
    with gr.FeatureStore(project) as store:
        store.apply([spend_group(), view()])
        store.materialize()
    return project


def asked() -> pl.DataFrame:
    return pl.DataFrame({"user_id": ["u1"], "event_time": [at(6)]})


def test_it_does_not_run_unless_the_operator_says_so(applied: Path) -> None:
    with gr.FeatureStore(applied) as store:
        with pytest.raises(RefusedError, match="allow_stored"):
            store.get_historical_features("model", asked())
        with pytest.raises(RefusedError, match="allow_stored"):
            store.get_online_features("model", [{"user_id": "u1"}])


def test_it_runs_where_it_is_allowed(applied: Path) -> None:
    with (applied / "grange.toml").open("a") as settings:
        settings.write("[code]\nallow_stored = true\n")

    with gr.FeatureStore(applied) as store:
        assert store.get_historical_features("model", asked()).to_polars()["doubled"].to_list() == [40.0]
        found = store.get_online_features("model", [{"user_id": "u2"}], now=at(20)).to_dicts()
    assert found == [{"user_id": "u2", "amount": 9.0, "doubled": 18.0}]


DECORATED = """
import functools


@gr.transformation(outputs={"doubled": "float64"}, mode="numpy")
def doubled(amount):
    return amount * factor()


@functools.cache
def factor():
    return 2
"""


def test_its_decorator_need_not_be_imported(project: Path) -> None:
    with (project / "grange.toml").open("a") as settings:
        settings.write("[code]\nallow_stored = true\n")
    stored = transformation_from_code(DECORATED, name="doubled")
    with gr.FeatureStore(project) as store:
        store.apply([spend_group(), gr.FeatureView("model", features=["spend:amount"], on_demand=[stored])])
        store.materialize()
    with gr.FeatureStore(project) as store:
        assert store.get_historical_features("model", asked()).to_polars()["doubled"].to_list() == [40.0]


def test_it_learns_nothing_so_it_takes_no_state() -> None:
    with pytest.raises(DefinitionError, match="function 'f' takes `state`"):
        transformation_from_code("def f(a, state): ...", outputs={"f": "float64"})
    text = "@transformation(outputs='float64', inputs=['a', 'state'])\ndef f(a, state): ..."
    assert transformation_from_code(text).inputs == ("a", "state")


def test_text_that_was_tampered_with_does_not_run(applied: Path) -> None:
    from grange.definitions.transformations import PythonCode
    from grange.verbs.parts import run_stored

    (step,) = view().on_demand
    assert step.transformation is not None and step.transformation.code is not None
    code = step.transformation.code
    with pytest.raises(TransformError, match="not what was applied"):
        run_stored(PythonCode(code.name, "", code.source_text.replace("2", "3"), code.code_hash), allowed=True)


def test_layout_does_not_change_its_hash() -> None:
    one = transformation_from_code(TEXT, outputs={"doubled": "float64"}).code_hash
    other = transformation_from_code(
        TEXT.replace('    """Twice."""\n', "\n\n"), outputs={"doubled": "float64"}
    ).code_hash
    changed = transformation_from_code(TEXT.replace("* 2", "* 3"), outputs={"doubled": "float64"}).code_hash
    assert one == other != changed


def test_reading_code_runs_nothing() -> None:
    text = TEXT + "\nraise SystemExit('it ran')\n"
    assert transformation_from_code(text, outputs={"doubled": "float64"}).name == "doubled"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def f(:", "not Python"),
        ("x = 1", "no function"),
        ("def f(*values): ...", "plain argument"),
        ("@transformation(outputs=make())\ndef f(a): ...", "not written out"),
        ("@transformation(outputs='float64', fit=g)\ndef f(a): ...", "fit"),
        ("def f(a): ...\ndef g(a): ...", "exactly one function"),
    ],
)
def test_what_is_no_transformation(text: str, message: str) -> None:
    with pytest.raises(DefinitionError, match=message):
        transformation_from_code(text, outputs={"f": "float64"} if "outputs" not in text else None)


LIKE = """
import numpy as np

import grange as gr

user = gr.Entity("user", join_keys=["user_id"])


def times(factor):
    def product(amount: np.ndarray):
        return amount * factor

    return product


PAIR = ("plus", lambda amount: amount + 1), ("less", lambda amount: amount - 1)
spend = gr.FeatureGroup(
    "spend",
    entities=user,
    source=gr.FileSource("data/spend.parquet", event_time="at", created_time="loaded"),
    online=True,
    on_demand=[
        gr.Transformation("by_two", times(2), outputs={"by_two": "float64"}),
        gr.Transformation("by_three", times(3), outputs={"by_three": "float64"}),
        *[gr.Transformation(n, f, outputs={n: "float64"}) for n, f in PAIR],
    ],
)
"""


def test_functions_that_look_alike_are_not_taken_for_one_another(project: Path) -> None:
    (project / "features.py").write_text(LIKE)
    with gr.FeatureStore(project) as store:
        store.apply()
        store.materialize()
    with gr.FeatureStore(project) as fresh:
        names = ["by_two", "by_three", "plus", "less"]
        row = fresh.get_historical_features([f"spend:{name}" for name in names], asked()).to_polars()
        assert [row[name].item() for name in names] == [40.0, 60.0, 21.0, 19.0]
        (online,) = fresh.get_online_features(
            [f"spend:{name}" for name in names], [{"user_id": "u2"}], now=at(20)
        ).to_dicts()
    assert [online[name] for name in names] == [18.0, 27.0, 10.0, 8.0]


def test_a_factory_that_closes_over_another_value_is_another_function(project: Path) -> None:
    (project / "features.py").write_text(LIKE)
    with gr.FeatureStore(project) as store:
        store.apply()
        store.materialize()
    (project / "features.py").write_text(LIKE.replace("times(3)", "times(4)"))
    with gr.FeatureStore(project) as fresh, pytest.raises(TransformError, match="grange apply"):
        fresh.get_historical_features(["spend:by_three"], asked())


def test_functions_of_modules_are_found_by_another_process(project: Path) -> None:
    (project / "features.py").write_text(MODULE)
    with gr.FeatureStore(project) as store:
        store.apply()
        store.materialize()
    with gr.FeatureStore(project) as fresh:
        row = fresh.get_historical_features(["spend:tripled"], asked()).to_polars()
        assert row["tripled"].to_list() == [60.0]


def test_a_function_that_changed_since_it_was_applied_does_not_run(project: Path) -> None:
    (project / "features.py").write_text(MODULE)
    with gr.FeatureStore(project) as store:
        store.apply()
        store.materialize()
    (project / "features.py").write_text(MODULE.replace("* 3", "* 4"))
    with gr.FeatureStore(project) as fresh, pytest.raises(TransformError, match="grange apply"):
        fresh.get_historical_features(["spend:tripled"], asked())
