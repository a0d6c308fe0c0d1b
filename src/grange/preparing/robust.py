"""robust_scaler: `(x - median) / distance of two percentiles`, as scikit-learn's RobustScaler."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from grange.preparing.bound import Bound, Ready, Settings
from grange.preparing.numbers import same_formula, sample, scale_of
from grange.preparing.subject import Subject


def fit(column: pa.ChunkedArray, given: Settings, subject: Subject) -> dict[str, float]:
    """The median, and the distance of the percentiles, which are interpolated linearly."""
    low, center, high = np.percentile(sample(column, subject), (given["low"], 50, given["high"])).tolist()
    return subject.finite({"center": center, "scale": scale_of(high - low)})


def bind(learned: Any, given: Settings, subject: Subject) -> Bound:
    """The formula."""
    center, scale = learned["center"], learned["scale"]
    return same_formula(subject, lambda x: (x - center) / scale)


ROBUST = Ready(fit, bind)
