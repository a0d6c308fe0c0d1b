"""Statistics of columns: how many, how many missing, how they spread. Exact; nothing is sampled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Final

from grange.errors import SchemaError, UnknownFeatureError, closest_names
from grange.frames import Rows
from grange.quality.plain import plain
from grange.types.arrow import from_arrow_type

if TYPE_CHECKING:
    import polars as pl

TOP: Final = 5
"""How many of the most frequent texts are named."""


@dataclass(frozen=True, slots=True)
class ColumnStatistics:
    """One column, described. What its type does not have is None."""

    name: str
    dtype: str
    """Its type as `grange.types` prints it; `null` when it holds nothing to tell it by."""
    count: int
    """Rows, nulls included."""
    nulls: int
    distinct: int | None = None
    """Different values, exactly; nulls are none, NaN is one. None for lists and structs."""
    nans: int | None = None
    """Floats: how many are NaN. They count as values and are left out of all that follows."""
    min: Any = None
    """Numbers and times: the smallest."""
    max: Any = None
    mean: float | None = None
    std: float | None = None
    """Of the sample (ddof 1); None for fewer than two values."""
    p25: float | None = None
    """Quantiles interpolate linearly."""
    p50: float | None = None
    p75: float | None = None
    min_length: int | None = None
    """Text: in characters; binary: in bytes."""
    max_length: int | None = None
    top: tuple[tuple[str, int], ...] | None = None
    """Text: the most frequent values and how often they occur; equally frequent ones in their own order."""
    true: int | None = None
    """Booleans: how many are true."""

    def to_dict(self) -> dict[str, Any]:
        """For JSON, without what is None: times as ISO 8601 text, NaN and infinities as text."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        return {name: plain(value) for name, value in values.items() if value is not None}


def statistics(rows: Rows, columns: Sequence[str] | None = None) -> tuple[ColumnStatistics, ...]:
    """Statistics of some columns, in the order asked for; of all when `columns` is None.

    Raises:
        UnknownFeatureError: no such column; carries the closest names.
    """
    frame = rows.polars
    wanted = frame.columns if columns is None else list(columns)
    for name in wanted:
        if name not in frame.columns:
            raise UnknownFeatureError(
                f"no column {name!r} to describe",
                found=", ".join(frame.columns) or "no columns at all",
                closest=closest_names(name, frame.columns),
            )
    return tuple(_describe(frame.get_column(name)) for name in wanted)


def _describe(column: pl.Series) -> ColumnStatistics:
    import polars as pl

    values = column.drop_nulls()
    common: dict[str, Any] = {
        "name": column.name,
        "dtype": _dtype(column),
        "count": len(column),
        "nulls": column.null_count(),
    }
    dtype = column.dtype
    if dtype.is_nested() or dtype == pl.Object:
        return ColumnStatistics(**common)
    if dtype in (pl.Categorical, pl.Enum):
        values = values.cast(pl.String)
    common["distinct"] = values.n_unique()
    if dtype.is_numeric():
        return ColumnStatistics(**common, **_numbers(values))
    if dtype.is_temporal():
        return ColumnStatistics(**common, min=values.min(), max=values.max())
    if dtype == pl.Boolean:
        return ColumnStatistics(**common, true=int(values.sum()))
    if values.dtype == pl.String:
        return ColumnStatistics(**common, **_lengths(values.str.len_chars()), top=_top(values))
    if dtype == pl.Binary:
        return ColumnStatistics(**common, **_lengths(values.bin.size()))
    return ColumnStatistics(**common)


def _dtype(column: pl.Series) -> str:
    try:
        dtype = from_arrow_type(column.head(0).to_arrow().type)
    except SchemaError:
        return str(column.dtype).lower()  # a time of day, say: describable, though no feature can have it
    return "null" if dtype is None else str(dtype)


def _numbers(values: pl.Series) -> dict[str, Any]:
    import polars as pl

    found: dict[str, Any] = {}
    if values.dtype.is_float():
        found["nans"] = int(values.is_nan().sum())
        values = values.drop_nans()
    floats = values.cast(pl.Float64)
    quantiles = {f"p{percent}": floats.quantile(percent / 100, "linear") for percent in (25, 50, 75)}
    std = floats.std(ddof=1) if len(floats) > 1 else None
    return {**found, "min": values.min(), "max": values.max(), "mean": floats.mean(), "std": std, **quantiles}


def _lengths(lengths: pl.Series) -> dict[str, Any]:
    return {"min_length": lengths.min(), "max_length": lengths.max()}


def _top(values: pl.Series) -> tuple[tuple[str, int], ...]:
    counts = values.alias("value").value_counts(name="count")
    ordered = counts.sort(["count", "value"], descending=[True, False])
    return tuple((str(value), int(count)) for value, count in ordered.head(TOP).iter_rows())


__all__ = ["ColumnStatistics", "statistics"]
