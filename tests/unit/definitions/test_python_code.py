"""Code hashes: two functions have one when they compute the same, whatever they look like."""

from __future__ import annotations

import ast
import dataclasses
import datetime as dt
import enum
import functools
import hashlib
import inspect
import math
import re
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import grange as gr
from grange.definitions.python_code import code_hash_of, source_text_of
from grange.definitions.transforms import python_transform
from grange.errors import DefinitionError


def hash_of(function: Callable[..., Any]) -> str:
    return code_hash_of(function, source_text_of(function))


def closing(value: Any) -> Callable[..., Any]:
    def function(amount: Any) -> Any:
        return amount, value

    return function


@dataclasses.dataclass
class Setting:
    name: str
    value: Any


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


class Opaque:
    pass


def plain(amount: Any, factor: int = 2, *, pair: Any = (1, "a")) -> Any:
    return amount * factor


def test_a_function_that_brings_nothing_along_has_the_hash_of_its_syntax_tree() -> None:
    tree = ast.parse(textwrap.dedent(inspect.getsource(plain)))
    assert hash_of(plain) == hashlib.sha256(ast.dump(tree).encode()).hexdigest()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (2, 3),
        (1, 1.0),
        (1, True),
        (1, "1"),
        (None, "None"),
        ([1, 2], [2, 1]),
        ([1], (1,)),
        ({"a": 1}, {"a": 2}),
        (0.1, 0.1 + 1e-17 + 1e-16),
        (np.array([1, 2]), np.array([1, 3])),
        (np.array([1, 2]), np.array([1, 2], np.int8)),
        (np.float64(1), 1.0),
        (dt.date(2026, 1, 1), dt.date(2026, 1, 2)),
        (math.log, math.exp),
        (np.log, np.exp),
        (math, re),
        (int, float),
        (Setting("a", [1]), Setting("a", [2])),
        (Colour.RED, Colour.BLUE),
        (re.compile("a"), re.compile("a", re.DOTALL)),
        (slice(1), slice(2)),
        (np.dtype("int8"), np.dtype("int16")),
        (pl.List(pl.Int64), pl.List(pl.String)),
        (pl.Int64, pl.Int32),
        (closing(1), closing(2)),
        (functools.partial(plain, factor=1), functools.partial(plain, factor=2)),
        (Path("a"), Path("b")),
    ],
)
def test_what_a_function_closes_over_counts(one: Any, other: Any) -> None:
    assert hash_of(closing(one)) != hash_of(closing(other))


@pytest.mark.parametrize(
    "make", [lambda: [1, {"a": (2.5, None)}], lambda: {3, 1, 2}, lambda: np.arange(3), lambda: closing(4)]
)
def test_equal_values_are_told_alike(make: Callable[[], Any]) -> None:
    assert hash_of(closing(make())) == hash_of(closing(make()))


@pytest.mark.parametrize(
    "value", [Opaque(), [Opaque()], Setting("a", Opaque()), type("Made", (), {}), closing(Opaque()), np.longdouble(1)]
)
def test_what_cannot_be_told_from_another_is_refused(value: Any) -> None:
    function = closing(value)
    with pytest.raises(DefinitionError, match="closes over 'value', which cannot be told from another") as caught:
        gr.Transformation("t", function, outputs={"y": "float64"})
    assert caught.value.try_ == "make it an argument or a module constant"
    with pytest.raises(DefinitionError, match="closes over 'value'"):
        python_transform(function)


def test_defaults_that_the_text_does_not_write_out_count() -> None:
    def with_default(factor: Any) -> Callable[..., Any]:
        def function(amount: Any, by: Any = factor, *, plus: Any = factor) -> Any:
            return amount * by + plus

        return function

    assert hash_of(with_default(2)) != hash_of(with_default(3))
    assert hash_of(with_default(2)) == hash_of(with_default(2))


def test_defaults_and_objects_of_methods_are_told_too() -> None:
    def function(amount: Any, by: Any = Opaque()) -> Any:  # noqa: B008
        return amount

    class Local:
        def method(self, amount: Any) -> Any:
            return amount

    with pytest.raises(DefinitionError, match="has a default for 'by', which cannot be told from another"):
        hash_of(function)
    with pytest.raises(DefinitionError, match="is a method of an object, which cannot be told from another"):
        hash_of(Local().method)


def test_functions_that_call_themselves_have_a_hash() -> None:
    def make(step: int) -> Callable[..., Any]:
        def down(amount: int) -> int:
            return amount if amount < 0 else down(amount - step)

        return down

    assert hash_of(make(1)) == hash_of(make(1)) != hash_of(make(2))


def test_wrappers_count() -> None:
    def times(factor: int) -> Callable[..., Any]:
        def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
            @functools.wraps(function)
            def wrapper(amount: Any) -> Any:
                return function(amount) * factor

            return wrapper

        return decorate

    assert hash_of(times(2)(plain)) != hash_of(times(3)(plain))
    assert hash_of(times(2)(plain)) != hash_of(plain) == hash_of(functools.cache(plain))


PAIR = (lambda amount: amount + 1), (lambda amount: amount + 2)
INNER = lambda amount: lambda other: amount + other  # noqa: E731
CONSTANTS = [lambda: 1, lambda: 1, lambda: (
    2  # what it is
)]  # fmt: skip
ACCENTED = ["é", lambda é: é, lambda é: -é]


def test_a_lambda_is_cut_out_of_its_statement() -> None:
    assert [source_text_of(item) for item in PAIR] == ["lambda amount: amount + 1", "lambda amount: amount + 2"]
    assert source_text_of(INNER) == "lambda amount: lambda other: amount + other"
    assert source_text_of(INNER(1)) == "lambda other: amount + other"
    assert [source_text_of(item) for item in ACCENTED[1:]] == ["lambda é: é", "lambda é: -é"]  # type: ignore[arg-type]
    one, again, other = map(hash_of, CONSTANTS)
    assert one == again != other
    assert hash_of(INNER(1)) == hash_of(INNER(1)) != hash_of(INNER(2))


def test_a_fit_function_in_a_decorator_is_itself() -> None:
    @gr.transformation(outputs="float64", fit=lambda amount: {"top": max(amount)})
    def of_top(amount: Any, state: Any) -> Any:
        return amount / state["top"]

    assert of_top.fit.source_text == 'lambda amount: {"top": max(amount)}'
    assert of_top.fit.code_hash != of_top.code.code_hash


PROMPT = """
from grange.definitions.python_code import code_hash_of, source_text_of
made = {}
exec("def times(k):\\n  def f(x):\\n    return (lambda y: y * k)(x)\\n  return f", made)
hashes = [code_hash_of(f, source_text_of(f)) for f in map(made["times"], (2, 3))]
print(*hashes)
"""


def test_functions_without_source_have_the_same_hash_in_every_process() -> None:
    runs = [
        subprocess.run([sys.executable, "-c", PROMPT], capture_output=True, text=True, check=True).stdout.split()
        for _ in range(2)
    ]
    assert runs[0] == runs[1]
    assert len(set(runs[0])) == 2


def test_state_is_for_functions_that_learn() -> None:
    def scaled(amount: Any, state: Any) -> Any:
        return amount

    with pytest.raises(DefinitionError, match="takes `state`, which is what a fit function learns"):
        gr.Transformation("t", scaled, outputs={"y": "float64"})
    assert gr.Transformation("t", scaled, inputs=["city", "state"], outputs={"y": "float64"}).inputs == (
        "city",
        "state",
    )
    assert gr.Transformation("t", scaled, fit=scaled, outputs={"y": "float64"}).inputs == ("amount",)
