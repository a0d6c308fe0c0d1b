"""Approximate functions, by the sketches of Apache DataSketches: one sketch per window, of the window's own values."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any, Final

import numpy as np
import pyarrow as pa

from grange.errors import MissingDependencyError
from grange.kernels.arrays import Ints
from grange.kernels.windows.answers import Floats
from grange.kernels.windows.spans import Spans
from grange.kernels.windows.values import Values

_REGISTERS: Final = 12
"""Binary logarithm of the number of registers of HyperLogLog."""
_KLL: Final = 200


def approximate_distinct(items: Sequence[int | float | str], spans: Spans) -> Ints:
    """HyperLogLog estimates of how many distinct items each range has, rounded."""
    sketches = _datasketches("approx_count_distinct")
    estimates = np.zeros(len(spans), np.int64)
    for each, (first, last) in enumerate(zip(spans.first.tolist(), spans.last.tolist(), strict=True)):
        if last > first:
            sketch = sketches.hll_sketch(_REGISTERS)
            for item in items[first:last]:
                sketch.update(item)
            estimates[each] = round(sketch.get_estimate())
    return estimates


def approximate_quantiles(values: Floats, spans: Spans, fraction: float) -> Floats:
    """KLL estimates of a quantile of each range; NaN where it is empty. No value is NaN."""
    sketches = _datasketches("approx_quantile")
    quantiles = np.full(len(spans), np.nan)
    for each, (first, last) in enumerate(zip(spans.first.tolist(), spans.last.tolist(), strict=True)):
        if last > first:
            sketch = sketches.kll_doubles_sketch(_KLL)
            sketch.update(values[first:last])
            quantiles[each] = sketch.get_quantile(fraction)
    return quantiles


def sketch_items(column: pa.Array) -> list[int | float | str]:
    """Values as what a sketch hashes: integers and booleans as integers (of unsigned 64 bits, signed), times as
    microseconds, dates as days since 1970-01-01 UTC, floats as floats, all else as text behind a sign, since a sketch
    takes no notice of an empty one; binaries in hexadecimal.
    """
    values = Values(column)
    if values.kind == "integer":
        whole: list[int | float | str] = values.integers.tolist()
        return whole
    if values.kind == "float":
        numbers = values.floats + 0.0  # no negative zero, and a single NaN
        floats: list[int | float | str] = np.where(np.isnan(numbers), np.nan, numbers).tolist()
        return floats
    return [f"={value.hex() if isinstance(value, bytes) else value}" for value in values.array.to_pylist()]


def _datasketches(what: str) -> Any:
    try:
        return import_module("datasketches")
    except ImportError as error:
        raise MissingDependencyError(
            f"{what} needs the package datasketches", try_="pip install 'grange[sketches]'"
        ) from error
