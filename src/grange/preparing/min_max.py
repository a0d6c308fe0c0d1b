"""min_max_scaler: `x * scale + offset`, as scikit-learn's MinMaxScaler."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from grange.preparing.bound import Bound, Ready, Settings
from grange.preparing.numbers import over_numbers, same_formula, sample, scale_of, within
from grange.preparing.subject import Subject


def fit(column: pa.ChunkedArray, given: Settings, subject: Subject) -> dict[str, float]:
    """What to multiply by and to add, so that the least value becomes `low` and the greatest `high`."""
    values = sample(column, subject)
    least, greatest = float(values.min()), float(values.max())
    subject.finite({"distance": greatest - least})
    scale = (given["high"] - given["low"]) / scale_of(greatest - least)
    return subject.finite({"scale": scale, "offset": given["low"] - least * scale})


def bind(learned: Any, given: Settings, subject: Subject) -> Bound:
    """The formula, its results between `low` and `high` where that is asked for."""
    scale, offset = learned["scale"], learned["offset"]
    if not given["clip"]:
        return same_formula(subject, lambda x: x * scale + offset)
    array, value = within(float(given["low"]), float(given["high"]))
    return over_numbers(subject, lambda x: array(x * scale + offset), lambda x: value(x * scale + offset))


MIN_MAX = Ready(fit, bind)
