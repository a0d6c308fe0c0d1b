"""standard_scaler: `(x - mean) / standard deviation`, as scikit-learn's StandardScaler."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pyarrow as pa

from grange.preparing.bound import Bound, Ready, Settings
from grange.preparing.numbers import Array, same_formula, sample
from grange.preparing.subject import Subject


def fit(column: pa.ChunkedArray, given: Settings, subject: Subject) -> dict[str, float]:
    """Mean and standard deviation (ddof 0); the deviation of a constant column is 1."""
    values = sample(column, subject)
    low = float(values.min())
    if low == values.max():
        return {"mean": low, "scale": 1.0}
    with np.errstate(over="ignore", invalid="ignore"):
        mean = float(values.mean())
        variance = _variance(values, mean)
    subject.finite({"mean": mean, "variance": variance})
    return {"mean": mean, "scale": 1.0 if _is_noise(variance, mean, len(values)) else math.sqrt(variance)}


def bind(learned: Any, given: Settings, subject: Subject) -> Bound:
    """The formula, less what is not asked for."""
    mean, scale = learned["mean"], learned["scale"]
    match given["with_mean"], given["with_std"]:
        case True, True:
            return same_formula(subject, lambda x: (x - mean) / scale)
        case True, False:
            return same_formula(subject, lambda x: x - mean)
        case False, True:
            return same_formula(subject, lambda x: x / scale)
        case _:
            return same_formula(subject, lambda x: x)


def _variance(values: Array, mean: float) -> float:
    away = values - mean
    rest = away.mean()  # what rounding of the mean left
    return float((away * away).mean() - rest * rest)


def _is_noise(variance: float, mean: float, count: int) -> bool:
    """Whether a variance is no more than rounding makes of equal values."""
    eps = float(np.finfo(np.float64).eps)
    noise = count * mean * eps
    return variance <= count * eps * variance + noise * noise


STANDARD = Ready(fit, bind)
