"""Statistics of stored columns, for people and for comparison over time."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from grange.errors import SchemaError, closest_names
from grange.frames import Rows
from grange.types.time import isoformat

if TYPE_CHECKING:
    import polars as pl

_TOP = 5


@dataclass(frozen=True, slots=True)
class ColumnStatistics:
    """What one column holds. What a type does not have is None."""

    name: str
    dtype: str
    count: int
    """Rows, nulls included."""
    nulls: int
    distinct: int | None
    """Distinct values other than null, exactly; None for lists and structs."""
    min: Any = None
    max: Any = None
    """Of numbers, text, times and dates; NaN is left out."""
    mean: float | None = None
    std: float | None = None
    """Sample standard deviation (ddof 1); NaN is left out of mean, std and percentiles."""
    p25: float | None = None
    p50: float | None = None
    p75: float | None = None
    """Percentiles with linear interpolation."""
    nan: int | None = None
    """How many values are NaN; None where there can be none."""
    true: int | None = None
    """How many values of a boolean are true."""
    min_length: int | None = None
    max_length: int | None = None
    """Of text, in characters."""
    top: tuple[tuple[Any, int], ...] = ()
    """Of text: the most frequent values and how often they occur; equals in order of the text."""

    def to_dict(self) -> dict[str, Any]:
        """For JSON: infinities are text, times are ISO 8601."""
        plain = {name: _plain(getattr(self, name)) for name in self.__slots__ if name != "top"}
        if self.top:
            plain["top"] = [{"value": _plain(value), "count": count} for value, count in self.top]
        return {name: value for name, value in plain.items() if value is not None}


def statistics(rows: Rows, columns: Sequence[str] | None = None) -> tuple[ColumnStatistics, ...]:
    """Statistics of columns, in the order asked for; all columns without.

    Raises:
        SchemaError: no such column; carries the closest.
    """
    from grange.types.arrow import foreign_dtype

    frame = rows.polars
    for name in columns or ():
        if name not in frame.columns:
            raise SchemaError(
                f"no column {name!r}", found=", ".join(frame.columns), closest=closest_names(name, frame.columns)
            )
    return tuple(_column(frame[name], str(foreign_dtype(frame.schema[name]))) for name in columns or frame.columns)


def _column(values: pl.Series, dtype: str) -> ColumnStatistics:
    import polars as pl

    kind = values.dtype
    present = values.drop_nulls()
    base: dict[str, Any] = {"name": values.name, "dtype": dtype, "count": len(values), "nulls": values.null_count()}
    if kind.is_nested():
        return ColumnStatistics(**base, distinct=None)
    if kind.is_float():
        nan = int(present.is_nan().sum())
        present = present.drop_nans()
        return ColumnStatistics(**base, distinct=present.n_unique() + (nan > 0), nan=nan, **_numbers(present))
    base["distinct"] = present.n_unique()
    if kind == pl.Boolean:
        return ColumnStatistics(**base, true=int(present.sum()))
    if kind.is_numeric():
        return ColumnStatistics(**base, **_numbers(present))
    if kind == pl.String:
        return ColumnStatistics(**base, **_texts(present))
    if kind.is_temporal():
        return ColumnStatistics(**base, min=present.min(), max=present.max())
    return ColumnStatistics(**base)


def _numbers(values: pl.Series) -> dict[str, Any]:
    import polars as pl

    if not len(values):
        return {}
    floats = values.cast(pl.Float64)
    quantiles = [floats.quantile(share, interpolation="linear") for share in (0.25, 0.5, 0.75)]
    return {
        "min": values.min(),
        "max": values.max(),
        "mean": floats.mean(),
        "std": floats.std() if len(values) > 1 else None,
        **dict(zip(("p25", "p50", "p75"), quantiles, strict=True)),
    }


def _texts(values: pl.Series) -> dict[str, Any]:
    import polars as pl

    if not len(values):
        return {}
    lengths = values.str.len_chars()
    counts = values.rename("value").value_counts(name="n").sort(pl.col("n"), pl.col("value"), descending=[True, False])
    return {
        "min": values.min(),
        "max": values.max(),
        "min_length": lengths.min(),
        "max_length": lengths.max(),
        "top": tuple(counts.head(_TOP).select("value", "n").rows()),
    }


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dt.datetime):
        return isoformat(value)
    if isinstance(value, dt.date | dt.timedelta) or not isinstance(value, int | float | str | bool | type(None)):
        return str(value)
    return value
