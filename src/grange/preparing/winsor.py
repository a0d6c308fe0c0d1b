"""winsorize: values beyond two quantiles of the training values are pulled back to them. Infinities too."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from grange.preparing.bound import Bound, Ready, Settings
from grange.preparing.numbers import over_numbers, sample, within
from grange.preparing.subject import Subject


def fit(column: pa.ChunkedArray, given: Settings, subject: Subject) -> dict[str, float]:
    """The quantiles of the finite values, interpolated linearly."""
    values = sample(column, subject, infinite=True)
    low, high = np.quantile(values, (given["low"], given["high"])).tolist()
    return subject.finite({"low": low, "high": high})


def bind(learned: Any, given: Settings, subject: Subject) -> Bound:
    """Values between the two."""
    return over_numbers(subject, *within(learned["low"], learned["high"]))


WINSORIZE = Ready(fit, bind)
