"""Pearson correlations of numeric columns, pairwise complete and mergeable."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from grange.quality.statistics.moments import Floats

if TYPE_CHECKING:
    import polars as pl

_BLOCK: Final = 1 << 16
"""Rows that are reckoned with at once."""
_ROUNDING: Final = 1e-12
"""A sum of squares about the mean is nothing beside one about another point: what rounding leaves of a constant."""
_ALIKE: Final = 4e-16
"""A spread of this share of the largest value is what rounding makes of a constant."""
_SMALLEST, _LARGEST = -1022, 1022
"""Scales whose powers of two are normal floats, and so are their inverses."""
_FEW: Final = 64
"""Columns whose products are summed slice by slice."""
_SLICE: Final = 128
"""Rows of a slice: a product so small that BLAS starts no threads, which on a busy machine wait for one another."""


@dataclass(frozen=True, slots=True, eq=False)
class Correlations:
    """The correlation of each column with each, over the rows where both are finite.

    `r_xy = sum((x - m_x)(y - m_y)) / sqrt(sum((x - m_x)^2) sum((y - m_y)^2))`. Null, NaN and infinite values are left
    out with their row, for each pair by itself.
    """

    names: tuple[str, ...]
    count: Floats
    """By pair: rows where both are finite. All arrays have a row and a column for each name."""
    mean: Floats
    """Of the row's column, over the rows of the pair."""
    spread: Floats
    """The sum of squares about that mean."""
    product: Floats
    """The sum of the products of both, each about its mean."""
    scale: NDArray[np.int64]
    """By column: all of the above is of values over two to this, so that no square is too large or too small."""

    @classmethod
    def of(cls, frame: pl.DataFrame) -> Correlations:
        """Of a frame's columns of numbers, in its order."""
        import polars as pl

        numbers = frame.select(
            pl.col(name).cast(pl.Float64) for name, dtype in frame.schema.items() if dtype.is_numeric()
        )
        found = cls._none(tuple(numbers.columns))
        for block in numbers.iter_slices(_BLOCK) if numbers.width else ():
            found = found.merge(cls._of(found.names, block.to_numpy().T))
        return found

    @classmethod
    def _none(cls, names: tuple[str, ...]) -> Correlations:
        empty = {array: np.zeros((len(names), len(names))) for array in _ARRAYS}
        return cls(names, **empty, scale=np.full(len(names), _SMALLEST))

    @classmethod
    def _of(cls, names: tuple[str, ...], values: Floats) -> Correlations:
        """Of some rows, of which each column is a row of the array."""
        known = np.isfinite(values)
        complete = bool(known.all())
        held = values if complete else np.where(known, values, 0.0)
        largest = np.maximum(held.max(axis=1, initial=0.0), -held.min(axis=1, initial=0.0))
        scale = np.where(largest > 0, np.frexp(largest)[1], _SMALLEST).clip(_SMALLEST, _LARGEST).astype(np.int64)
        held = held * np.exp2(-scale)[:, None]
        centre = held.sum(axis=1) / np.maximum(known.sum(axis=1), 1)
        held -= centre[:, None]
        if not complete:
            held[~known] = 0.0
        weights = known.astype(np.float64)
        count = np.full((len(names), len(names)), float(len(known[0]))) if complete else _product(weights, weights)
        sums = _of_pairs(held, weights, complete=complete)
        squares = _of_pairs(np.square(held), weights, complete=complete)
        at_least = np.maximum(count, 1)
        spread = squares - np.square(sums) / at_least
        spread[spread <= _ROUNDING * squares] = 0.0
        product = _product(held, held) - sums * sums.T / at_least
        return cls(names, count, np.where(count > 0, sums / at_least + centre[:, None], 0.0), spread, product, scale)

    @property
    def matrix(self) -> tuple[tuple[float | None, ...], ...]:
        """A row for each name; None where a pair has fewer than two rows, or one of both is constant over them."""
        root = np.sqrt(self.spread)
        varies = root > _ALIKE * np.sqrt(self.count)  # of values in units of the largest one
        with np.errstate(divide="ignore", invalid="ignore"):
            found = np.clip(self.product / root / root.T, -1.0, 1.0)
        np.fill_diagonal(found, 1.0)
        defined = varies & varies.T & (self.count > 1)
        return tuple(
            tuple(value if here else None for value, here in zip(values, row, strict=True))
            for values, row in zip(found.tolist(), defined.tolist(), strict=True)
        )

    def between(self, one: str, other: str) -> float | None:
        """The correlation of two columns by name."""
        return self.matrix[self.names.index(one)][self.names.index(other)]

    def merge(self, other: Correlations) -> Correlations:
        """Of both parts' rows together, exactly: see `Moments.merge`. A column that one part lacks is null there."""
        names = (*self.names, *(name for name in other.names if name not in self.names))
        one, another = self._with(names), other._with(names)
        scale = np.maximum(one.scale, another.scale)
        one, another = one._scaled(scale), another._scaled(scale)
        count = one.count + another.count
        apart = another.mean - one.mean
        share = another.count / np.maximum(count, 1)
        both = one.count * share
        return Correlations(
            names,
            count,
            one.mean + apart * share,
            one.spread + another.spread + np.square(apart) * both,
            one.product + another.product + apart * apart.T * both,
            scale,
        )

    def _with(self, names: tuple[str, ...]) -> Correlations:
        """The same among more columns, of which no row is known."""
        if names == self.names:
            return self
        wider = Correlations._none(names)
        places = [names.index(name) for name in self.names]
        for array in _ARRAYS:
            getattr(wider, array)[np.ix_(places, places)] = getattr(self, array)
        wider.scale[places] = self.scale
        return wider

    def _scaled(self, scale: NDArray[np.int64]) -> Correlations:
        """The same in other units."""
        by = (self.scale - scale)[:, None]
        return Correlations(
            self.names,
            self.count,
            np.ldexp(self.mean, by),
            np.ldexp(self.spread, 2 * by),
            np.ldexp(self.product, by + by.T),
            scale,
        )

    def to_dict(self) -> dict[str, Any]:
        """For people and other programs: the names and the matrix."""
        return {"names": list(self.names), "matrix": [list(row) for row in self.matrix]}

    def to_data(self) -> dict[str, Any]:
        """For JSON, to be merged again; `from_data` is the inverse."""
        arrays = {name: _text(getattr(self, name)) for name in _ARRAYS}
        return {"names": list(self.names), **arrays, "scale": self.scale.tolist()}

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Correlations:
        """The correlations that `to_data` described."""
        names = tuple(data["names"])
        shape = (len(names), len(names))
        arrays = {name: _array(data[name]).reshape(shape) for name in _ARRAYS}
        return cls(names, **arrays, scale=np.array(data["scale"], np.int64))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Correlations) and self.to_data() == other.to_data()

    def __hash__(self) -> int:
        return hash(self.names)


_ARRAYS: Final = ("count", "mean", "spread", "product")


def _of_pairs(values: Floats, weights: Floats, *, complete: bool) -> Floats:
    """By pair: the sum of the row's column over the rows where the column's column is known."""
    if complete:
        return np.repeat(values.sum(axis=1)[:, None], len(values), axis=1)
    return _product(values, weights)


def _product(one: Floats, other: Floats) -> Floats:
    """By pair of columns: the sum of their products. A row of the arrays is a column of the rows."""
    rest = one.shape[1] % _SLICE if len(one) <= _FEW else one.shape[1]
    found: Floats = one[:, :rest] @ other[:, :rest].T
    if rest < one.shape[1]:
        left, right = (part[:, rest:].reshape(len(part), -1, _SLICE).transpose(1, 0, 2) for part in (one, other))
        found += (left @ right.transpose(0, 2, 1)).sum(axis=0)
    return found


def _text(values: Floats) -> str:
    return base64.b64encode(values.astype("<f8").tobytes()).decode("ascii")


def _array(text: str) -> Floats:
    return np.frombuffer(base64.b64decode(text), "<f8").astype(np.float64)


__all__ = ["Correlations"]
