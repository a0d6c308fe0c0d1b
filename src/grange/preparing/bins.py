"""bin: the number of the bin that a value lies in, as scikit-learn's KBinsDiscretizer (ordinal) has it.

Bins are closed at their lower edge. Edges by quantile are training values, or the middle of two neighbours (the
averaged inverse of the empirical distribution); edges that coincide make one. NaN lies in no bin: it is null.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import Any, Final

import numpy as np
import pyarrow as pa

from grange.preparing.bound import INTEGER, Bound, Ready, Settings
from grange.preparing.numbers import Array, check_number, floats, sample
from grange.preparing.subject import Subject

_NARROWEST: Final = 1e-8
"""Edges by quantile that lie no further apart than this make one."""


def fit(column: pa.ChunkedArray, given: Settings, subject: Subject) -> dict[str, list[float]]:
    """The edges, the outer ones among them."""
    values = sample(column, subject)
    least, greatest = float(values.min()), float(values.max())
    if least == greatest:
        return {"edges": [least, greatest]}
    subject.finite({"distance": greatest - least})
    edges = _edges(values, least, greatest, given)
    return {"edges": edges.tolist()}


def bind(learned: Any, given: Settings, subject: Subject) -> Bound:
    """How many of the inner edges a value reaches."""
    check_number(subject)
    edges = learned["edges"] if given["edges"] is None else given["edges"]
    inner = [float(edge) for edge in edges[1:-1]]
    knots, dtype = np.array(inner, np.float64), subject.dtype

    def columns(column: pa.ChunkedArray) -> list[pa.ChunkedArray]:
        values = floats(column, dtype)
        return [pa.chunked_array([pa.array(np.searchsorted(knots, values, "right"), mask=np.isnan(values))])]

    def value(given: Any) -> int | None:
        if given is None or given != given:
            return None
        return bisect_right(inner, float(given))

    return Bound((("", INTEGER),), columns, value)


def _edges(values: Array, least: float, greatest: float, given: Settings) -> Array:
    if given["strategy"] == "uniform":
        return np.linspace(least, greatest, given["bins"] + 1)
    levels = np.linspace(0, 100, given["bins"] + 1)
    edges = np.percentile(values, levels, method="averaged_inverted_cdf")
    return edges[np.ediff1d(edges, to_begin=np.inf) > _NARROWEST]


BIN = Ready(fit, bind)
