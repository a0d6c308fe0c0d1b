"""Ready functions that prepare features for a model, as steps of a view: scalers, encoders, imputers and the like.

    gr.FeatureView(..., transformations=[
        gr.impute("age", strategy="median"),
        gr.standard_scaler("amount", "age"),
        gr.one_hot_encoder("country", max_categories=10),
    ])

A function of several columns treats each by itself (`sklearn` takes them together). What it learns it learns from the
training split. An output takes its input's name and place, unless `outputs=` names another; `keep=True` keeps the
input beside it. Nulls stay null, but for imputers; NaN goes through numbers as the value that it is and is never
learned from; imputers take it for missing.

This module makes steps and checks how functions are used. `grange.preparing` computes them.
"""

from __future__ import annotations

import datetime as dt
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

from grange.definitions.ready_functions import (
    FUNCTIONS,
    Function,
    Parameter,
    check_step,
    function_of,
    learns,
    parameters_of,
)
from grange.definitions.transformations import Step, Transformation
from grange.errors import DefinitionError, UsageError, closest_names

Strategy = Literal["mean", "median", "most_frequent", "constant"]

STEP_GRAMMAR: Final = '"function[(name=value,...)]:column[,column...][->output,...]", for example "bin(bins=5):amount"'


def standard_scaler(
    *columns: str, with_mean: bool = True, with_std: bool = True, outputs: Sequence[str] | str = (), keep: bool = False
) -> Step:
    """Scale to mean 0 and standard deviation 1 (ddof 0). A constant column is divided by 1."""
    return _step("standard_scaler", columns, outputs, keep, with_mean=with_mean, with_std=with_std)


def min_max_scaler(
    *columns: str,
    low: float = 0,
    high: float = 1,
    clip: bool = False,
    outputs: Sequence[str] | str = (),
    keep: bool = False,
) -> Step:
    """Scale so that the least training value is `low` and the greatest `high`; `clip` keeps later values between."""
    return _step("min_max_scaler", columns, outputs, keep, low=low, high=high, clip=clip)


def robust_scaler(
    *columns: str, low: float = 25, high: float = 75, outputs: Sequence[str] | str = (), keep: bool = False
) -> Step:
    """Subtract the median and divide by the distance between the percentiles `low` and `high`."""
    return _step("robust_scaler", columns, outputs, keep, low=low, high=high)


def quantile_scaler(
    *columns: str,
    quantiles: int = 1000,
    distribution: Literal["uniform", "normal"] = "uniform",
    outputs: Sequence[str] | str = (),
    keep: bool = False,
) -> Step:
    """Replace by the rank among the training values: from 0 to 1, or as a standard normal value within about 5.2."""
    return _step("quantile_scaler", columns, outputs, keep, quantiles=quantiles, distribution=distribution)


def label_encoder(*columns: str, outputs: Sequence[str] | str = (), keep: bool = False) -> Step:
    """Number the categories from 0, sorted. One that was never seen is an error."""
    return _step("label_encoder", columns, outputs, keep)


def ordinal_encoder(
    *columns: str,
    categories: Sequence[Any] | None = None,
    unknown: Literal["error", "null"] | int = "error",
    outputs: Sequence[str] | str = (),
    keep: bool = False,
) -> Step:
    """Number the categories from 0: sorted ones of the training split, or `categories` in their order.

    A category that is none of them is an error, null, or the number `unknown`.
    """
    return _step("ordinal_encoder", columns, outputs, keep, categories=categories, unknown=unknown)


def one_hot_encoder(
    *columns: str,
    categories: Sequence[Any] | None = None,
    max_categories: int | None = None,
    unknown: Literal["ignore", "error"] = "ignore",
    outputs: Sequence[str] | str = (),
    keep: bool = False,
) -> Step:
    """A column of 0 and 1 per category: `country__FR`, `country__US`; null where the input is.

    Args:
        columns: what to encode.
        categories: the categories in order, instead of sorted ones of the training split.
        max_categories: columns at most: the most frequent categories, and `country__other` for the rest.
        unknown: a category that was never seen gives 0 in all columns, or is an error.
        outputs: what stands before `__`, one per column, instead of the column's name.
        keep: whether the columns stay.
    """
    return _step(
        "one_hot_encoder",
        columns,
        outputs,
        keep,
        categories=categories,
        max_categories=max_categories,
        unknown=unknown,
    )


def impute(
    *columns: str,
    strategy: Strategy = "mean",
    value: Any = None,
    indicator: bool = False,
    outputs: Sequence[str] | str = (),
    keep: bool = False,
) -> Step:
    """Fill nulls and NaN in.

    Args:
        columns: what to fill in; mean and median are of numbers.
        strategy: what fills in. The least of several most frequent values is taken.
        value: what fills in with `strategy="constant"`; of the column's type.
        indicator: add a column `{column}__missing`: 1 where something was filled in, else 0.
        outputs: one name per column.
        keep: whether the columns stay.
    """
    return _step("impute", columns, outputs, keep, strategy=strategy, value=value, indicator=indicator)


def bin(  # the word of the field
    *columns: str,
    bins: int = 10,
    strategy: Literal["quantile", "uniform"] = "quantile",
    edges: Sequence[float] | None = None,
    outputs: Sequence[str] | str = (),
    keep: bool = False,
) -> Step:
    """The number of the bin that a value lies in, from 0; a value at an edge is in the bin above.

    Args:
        columns: what to bin.
        bins: how many; fewer where values are so frequent that edges coincide.
        strategy: bins with equally many training values, or of equal width.
        edges: where bins begin and end, at least three rising numbers, instead of learned ones. What lies outside
            is in the first or the last bin.
        outputs: one name per column.
        keep: whether the columns stay.
    """
    return _step("bin", columns, outputs, keep, bins=bins, strategy=strategy, edges=edges)


def winsorize(
    *columns: str, low: float = 0.01, high: float = 0.99, outputs: Sequence[str] | str = (), keep: bool = False
) -> Step:
    """Pull values beyond the quantiles `low` and `high` of the training values back to them."""
    return _step("winsorize", columns, outputs, keep, low=low, high=high)


def log(
    *columns: str,
    offset: Literal[0, 1] = 0,
    base: Literal["e", "2", "10"] = "e",
    outputs: Sequence[str] | str = (),
    keep: bool = False,
) -> Step:
    """The logarithm of a value, or of one more than it. Of zero it is -inf, of less NaN."""
    return _step("log", columns, outputs, keep, offset=offset, base=base)


def hash_buckets(
    *columns: str, buckets: int = 1000, seed: int = 0, outputs: Sequence[str] | str = (), keep: bool = False
) -> Step:
    """A bucket from 0 to `buckets - 1`, by a hash of type and value that is the same in every process and version."""
    return _step("hash_buckets", columns, outputs, keep, buckets=buckets, seed=seed)


def sklearn(transformer: Any, *columns: str, outputs: Sequence[str] | str = (), keep: bool = False) -> Step:
    """A scikit-learn transformer on some columns together.

    Online a row costs what scikit-learn takes for it, hundreds of microseconds: Grange's own functions are the quick
    ones.

    Args:
        transformer: not yet fitted; of scikit-learn itself, a Pipeline or a ColumnTransformer of such too. It is kept
            as its class and settings, what it learns by `skops`: never pickled. One that can draw random numbers needs
            its `random_state`.
        columns: its columns, in order. Rows with a null or NaN are not shown to a transformer that cannot have NaN,
            and stay null or NaN.
        outputs: names of its outputs, in order; else those of `get_feature_names_out`.
        keep: whether the columns stay.

    Raises:
        DefinitionError: it is none of scikit-learn's own, has settings that are no data, functions for example, or
            has no `random_state` where it can have one.
        MissingDependencyError: scikit-learn is not installed.
    """
    from grange.definitions.estimators import estimator_data

    return _step("sklearn", columns, outputs, keep, transformer=json.dumps(estimator_data(transformer)))


def parse_step(text: str, transformations: Mapping[str, Transformation]) -> Step:
    """A step from text: `standard_scaler:amount,age`, `bin(bins=5):amount`, `one_hot_encoder:country->land`.

    Values are numbers, `true`, `false`, `none`, lists in brackets, and text, in quotes where it could be something
    else. `keep=true` keeps the columns.

    Args:
        text: the step.
        transformations: functions that users wrote, by name.

    Raises:
        UsageError: not this grammar; no such function (carries the closest), or not called as it may be.
    """
    match = re.fullmatch(r"\s*(\w+)\s*(?:\((.*)\))?\s*:(.*?)(?:->(.*))?", text, re.DOTALL)
    if match is None:
        raise UsageError(f"step {text!r} cannot be read", try_=f"write {STEP_GRAMMAR}")
    name, inside, columns, outputs = match[1], match[2], _names(match[3], text), _names(match[4], text)
    own = transformations.get(name)
    try:
        given = _settings(inside or "", name, text)
        keep = given.pop("keep", False)
        if not isinstance(keep, bool):
            raise DefinitionError(f"{name}: keep is true or false", found=str(keep))
        if own is not None:
            return _own_step(own, columns, outputs, keep, given)
        _check_known(name, transformations)
        return check_step(Step(name, columns, outputs, _changed(name, given), keep))
    except DefinitionError as error:
        raise UsageError(
            f"step {text!r}: {error.message}", found=error.found, closest=error.closest, try_=error.try_
        ) from error


def _own_step(
    own: Transformation, columns: tuple[str, ...], outputs: tuple[str, ...], keep: bool, given: Mapping[str, Any]
) -> Step:
    if given:
        raise DefinitionError(f"transformation {own.name!r} has no settings", found=", ".join(given))
    return own.on(*columns, outputs=outputs, keep=keep)


def _check_known(name: str, transformations: Mapping[str, Transformation]) -> None:
    if name not in FUNCTIONS:
        known = [*FUNCTIONS, *transformations]
        raise DefinitionError(
            f"no function is called {name!r}",
            found=", ".join(known),
            closest=closest_names(name, known),
            try_="grange transformation list",
        )


def _step(name: str, columns: tuple[str, ...], outputs: Sequence[str] | str, keep: bool, **given: Any) -> Step:
    """A checked step."""
    named = (outputs,) if isinstance(outputs, str) else tuple(outputs)
    return check_step(Step(name, columns, named, _changed(name, given), keep))


def _changed(name: str, given: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    """The settings that differ from the defaults, as JSON has them."""
    defaults = {item.name: item.default for item in FUNCTIONS[name].parameters}
    plain = {key: _plain(value) for key, value in given.items()}
    ordered = [key for key in (*defaults, *plain) if key in plain]
    return tuple(
        (key, plain[key])
        for key in dict.fromkeys(ordered)
        if key not in defaults or _differs(plain[key], defaults[key])
    )


def _differs(value: Any, default: Any) -> bool:
    return bool(value != default or isinstance(value, bool) != isinstance(default, bool))


def _plain(value: Any) -> Any:
    """A setting as JSON has it: NumPy's scalars and arrays are Python's, dates and times are ISO 8601 text."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, dt.date):
        return value.isoformat()
    return tuple(map(_plain, value)) if isinstance(value, list | tuple) else value


def _names(text: str | None, whole: str) -> tuple[str, ...]:
    if text is None:
        return ()
    names = tuple(item.strip() for item in text.split(","))
    if not all(names):
        raise UsageError(f"step {whole!r} has an empty name", try_=f"write {STEP_GRAMMAR}")
    return names


def _settings(inside: str, name: str, whole: str) -> dict[str, Any]:
    """Settings by name, read as they look; words that a parameter knows are those words."""
    known = {item.name: item.choices for item in FUNCTIONS[name].parameters} if name in FUNCTIONS else {}
    given: dict[str, Any] = {}
    for item in _split(inside):
        key, equals, value = (part.strip() for part in item.partition("="))
        if not (key and equals and value):
            raise UsageError(f"step {whole!r}: {item.strip()!r} is no setting", try_=f"write {STEP_GRAMMAR}")
        if key in given:
            raise UsageError(f"step {whole!r} names {key!r} twice")
        given[key] = value if value in known.get(key, ()) else _value(value)
    return given


def _value(text: str) -> Any:
    """A setting as it looks."""
    if text[:1] == "[" and text[-1:] == "]":
        return tuple(_value(item.strip()) for item in _split(text[1:-1]))
    if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'":
        return text[1:-1]
    if re.fullmatch(r"[+-]?\d+", text):
        return int(text)
    if re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", text):
        return float(text)
    return {"true": True, "false": False, "none": None}.get(text.lower(), text)


def _split(text: str) -> list[str]:
    """Items between commas that are outside of brackets and quotes."""
    return [item for item in re.findall(r"""(?:[^,\["']|\[[^\]]*\]|"[^"]*"|'[^']*')+""", text) if item.strip()]


__all__ = [
    "FUNCTIONS",
    "STEP_GRAMMAR",
    "Function",
    "Parameter",
    "bin",
    "check_step",
    "function_of",
    "hash_buckets",
    "impute",
    "label_encoder",
    "learns",
    "log",
    "min_max_scaler",
    "one_hot_encoder",
    "ordinal_encoder",
    "parameters_of",
    "parse_step",
    "quantile_scaler",
    "robust_scaler",
    "sklearn",
    "standard_scaler",
    "winsorize",
]
