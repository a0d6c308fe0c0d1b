"""log: the logarithm of a value, or of one more than it.

Logarithms of NumPy and of Python's `math` may differ in the last bit, so that arrays and values both take NumPy's.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final

import numpy as np
import pyarrow as pa

from grange.preparing.bound import Bound, Ready, Settings
from grange.preparing.numbers import over_numbers
from grange.preparing.subject import Subject

_LOGARITHMS: Final[dict[tuple[str, int], Callable[[Any], Any]]] = {
    ("e", 0): np.log,
    ("2", 0): np.log2,
    ("10", 0): np.log10,
    ("e", 1): np.log1p,
    ("2", 1): lambda x: np.log2(x + 1.0),
    ("10", 1): lambda x: np.log10(x + 1.0),
}


def fit(column: pa.ChunkedArray, given: Settings, subject: Subject) -> None:
    """There is nothing to learn."""


def bind(learned: Any, given: Settings, subject: Subject) -> Bound:
    """The logarithm: -inf of zero, NaN of less."""
    logarithm = _LOGARITHMS[given["base"], given["offset"]]
    zero = -float(given["offset"])

    def value(x: float) -> float:
        if x > zero:
            return float(logarithm(x))
        return -math.inf if x == zero else math.nan

    return over_numbers(subject, logarithm, value)


LOG = Ready(fit, bind)
