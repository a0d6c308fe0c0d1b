"""What is known of one column."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Final

from grange.quality.plain import plain
from grange.quality.statistics.values import Kind, kind_of, read, read_computed

PERCENTS: Final = tuple(range(1, 100))
"""The percentiles that are kept."""


@dataclass(frozen=True, slots=True)
class Histogram:
    """Counts in bins of equal width. Bin `i` holds `edges[i] <= value < edges[i + 1]`, the last also its upper edge.

    It spans the finite values, smallest to largest; equal values have one bin, whose edges are the value.
    """

    edges: tuple[Any, ...]
    """One more than counts: floats, or for times the times."""
    counts: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ElementStatistics:
    """The elements of all lists of a column together."""

    count: int
    """Elements, nulls included."""
    nulls: int
    min: Any = None
    """Of numbers, NaN left out."""
    max: Any = None


@dataclass(frozen=True, slots=True)
class ErrorBounds:
    """How far statistics that were merged from summaries may be off. Zero is exact."""

    percentiles: float
    """In shares of the values: what is given as the 50th percentile is one from `50 - 100 * percentiles` to
    `50 + 100 * percentiles`. A hard bound."""
    histogram: int
    """How many values each bin may have too many or too few. A hard bound."""
    distinct: float
    """The relative standard error of `distinct`: two estimates in three are closer."""
    top: int
    """By how much each count of `top` may be too high. A hard bound."""


@dataclass(frozen=True, slots=True)
class ColumnStatistics:
    """One column, described. What its type does not have is None. Exact, unless `approximate`.

    Times have the statistics of numbers, as times: mean, percentiles and edges of dates and datetimes are moments,
    their std is a length of time.
    """

    name: str
    dtype: str
    """Its type as `grange.types` prints it; `null` when it holds nothing to tell it by."""
    count: int
    """Rows, nulls included."""
    nulls: int
    distinct: int | None = None
    """Different values; nulls are none, NaN is one, and so are zeros of both signs. None for lists and structs."""
    nans: int | None = None
    """Floats: how many are NaN. They count as values and are left out of all that follows."""
    infinities: int | None = None
    """Floats: how many are infinite, of both signs."""
    zeros: int | None = None
    """Numbers: how many are zero."""
    negatives: int | None = None
    """Numbers: how many are less than zero."""
    min: Any = None
    """Numbers and times: the smallest."""
    max: Any = None
    mean: Any = None
    """Among infinite values that of IEEE 754: infinite, or NaN for both signs."""
    std: Any = None
    """Of the sample (ddof 1); None for fewer than two values, NaN among infinite ones."""
    percentiles: tuple[Any, ...] | None = None
    """The 1st to the 99th, interpolated linearly between neighbours (as WIN-4 has quantiles)."""
    histogram: Histogram | None = None
    """Numbers and times; infinities left out. For all else `top` is the histogram."""
    top: tuple[tuple[Any, int], ...] | None = None
    """The most frequent values and how often they occur; equally frequent ones in their own order. None where it
    would say nothing: no two values are equal, and there are more than it would name."""
    min_length: int | None = None
    """Text: in characters; binary: in bytes; lists: in elements."""
    max_length: int | None = None
    mean_length: float | None = None
    true: int | None = None
    """Booleans: how many are true."""
    false: int | None = None
    elements: ElementStatistics | None = None
    """Lists: what is in them."""
    errors: ErrorBounds | None = None
    """How far merged statistics may be off; None when all are exact."""

    @property
    def approximate(self) -> bool:
        """Whether percentiles, histogram, distinct or top are estimates. All else is always exact."""
        return self.errors is not None

    @property
    def kind(self) -> Kind:
        """What can be said of its values."""
        return kind_of(self.dtype)

    @property
    def values(self) -> int:
        """Rows that hold a value, NaN and infinities included."""
        return self.count - self.nulls

    @property
    def null_share(self) -> float:
        """Nulls per row; 0 without rows."""
        return self.nulls / self.count if self.count else 0.0

    def percentile(self, percent: int) -> Any:
        """A percentile, of 1 to 99; None where the column has none."""
        return None if self.percentiles is None else self.percentiles[PERCENTS.index(percent)]

    @property
    def p25(self) -> Any:
        """The first quartile."""
        return self.percentile(25)

    @property
    def p50(self) -> Any:
        """The median."""
        return self.percentile(50)

    @property
    def p75(self) -> Any:
        """The third quartile."""
        return self.percentile(75)

    def to_dict(self) -> dict[str, Any]:
        """For JSON, without what is None: times as ISO 8601 text, NaN and infinities as text.

        Quartiles are in it twice, once by name (`p25`, `p50`, `p75`). `from_dict` is the inverse.
        """
        named: dict[str, Any] = {each.name: getattr(self, each.name) for each in fields(self)}
        named |= {"p25": self.p25, "p50": self.p50, "p75": self.p75, "approximate": self.approximate or None}
        for part in ("histogram", "elements", "errors"):
            if named[part] is not None:
                named[part] = {each.name: getattr(named[part], each.name) for each in fields(named[part])}
        return {name: plain(value) for name, value in named.items() if value is not None}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ColumnStatistics:
        """The column that `to_dict` described."""
        dtype = data["dtype"]
        found: dict[str, Any] = {each.name: data[each.name] for each in fields(cls) if each.name in data}
        for name in ("min", "max"):
            found[name] = read(dtype, data.get(name))
        found["mean"] = read_computed(dtype, data.get("mean"))
        found["std"] = read_computed("duration" if kind_of(dtype) in _MOMENTS else dtype, data.get("std"))
        if "percentiles" in data:
            found["percentiles"] = tuple(read_computed(dtype, value) for value in data["percentiles"])
        if "histogram" in data:
            edges = tuple(read_computed(dtype, edge) for edge in data["histogram"]["edges"])
            found["histogram"] = Histogram(edges, tuple(data["histogram"]["counts"]))
        if "top" in data:
            found["top"] = tuple((read(dtype, value), count) for value, count in data["top"])
        if "elements" in data:
            ends = {name: read(dtype, data["elements"].get(name)) for name in ("min", "max")}
            found["elements"] = ElementStatistics(**{**data["elements"], **ends})
        if "errors" in data:
            found["errors"] = ErrorBounds(**data["errors"])
        return cls(**found)


_MOMENTS: Final = ("date", "datetime", "time")
"""Kinds whose spread is a duration."""

__all__ = ["PERCENTS", "ColumnStatistics", "ElementStatistics", "ErrorBounds", "Histogram"]
