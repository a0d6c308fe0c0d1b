"""What is kept beside a column's statistics so that they can be merged with others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from grange.quality.plain import plain
from grange.quality.statistics.moments import Moments
from grange.quality.statistics.sketches import Distinct, Frequent, Quantiles
from grange.quality.statistics.values import TIMES, kind_of, read


@dataclass(frozen=True, slots=True)
class Summary:
    """One column's. What its type does not have is None; times are their microseconds."""

    moments: Moments | None = None
    """Numbers and times."""
    quantiles: Quantiles | None = None
    """Numbers and times: the finite values."""
    distinct: Distinct | None = None
    """All that can be compared, but booleans; NaN left out."""
    frequent: Frequent | None = None

    def merge(self, other: Summary) -> Summary:
        """Of both columns together, which are of one type."""
        return Summary(
            _merged(self.moments, other.moments),
            _merged(self.quantiles, other.quantiles),
            _merged(self.distinct, other.distinct),
            _merged(self.frequent, other.frequent),
        )

    def to_data(self) -> dict[str, Any]:
        """For JSON."""
        data: dict[str, Any] = {
            "moments": self.moments and self.moments.to_data(),
            "quantiles": self.quantiles and self.quantiles.to_data(),
            "distinct": self.distinct and self.distinct.to_data(),
            "frequent": self.frequent and self.frequent.to_data(plain),
        }
        return {name: value for name, value in data.items() if value is not None}

    @classmethod
    def from_data(cls, dtype: str, data: Mapping[str, Any]) -> Summary:
        """The summary that `to_data` described, of a column of a type."""
        value = _itself if kind_of(dtype) in TIMES else partial(read, dtype)
        return cls(
            Moments.from_data(dtype, data["moments"]) if "moments" in data else None,
            Quantiles.from_data(data["quantiles"]) if "quantiles" in data else None,
            Distinct.from_data(data["distinct"]) if "distinct" in data else None,
            Frequent.from_data(data["frequent"], value) if "frequent" in data else None,
        )


def _merged(one: Any, other: Any) -> Any:
    return one.merge(other) if one is not None and other is not None else None


def _itself(value: Any) -> Any:
    return value


__all__ = ["Summary"]
