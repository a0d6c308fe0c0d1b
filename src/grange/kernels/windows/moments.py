"""Sum, mean and variance of numbers over ranges, from exact sums."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from grange.kernels.arrays import Ints, Mask
from grange.kernels.windows.answers import Floats
from grange.kernels.windows.spans import Runs, Spans, between, prefix
from grange.kernels.windows.sums import (
    ExactSums,
    Terms,
    scaled_by,
    span_of,
    squares,
    terms_of_floats,
    terms_of_integers,
)

_DOWN: Final = 128
"""Sums that are too large for a float are computed again, smaller by this power of two."""
_PRECISION: Final = 2.0**-98
"""What is left of a sum of squares after rounding, relative to it."""
_WANTED: Final = 2.0**-44
"""The relative error of a variance up to which it is not computed again in whole numbers."""
_SMALL: Final = 2.0**-800
"""Sums of squares below this, in units of the largest square, may have lost bits at the lower end."""


@dataclass(frozen=True, slots=True)
class Specials:
    """How many values before each position are no finite numbers; None where there are none at all."""

    nans: Ints | None
    above: Ints | None
    """Of positive infinities."""
    below: Ints | None
    """Of negative infinities."""

    @classmethod
    def of(cls, values: Floats) -> tuple[Specials, Floats]:
        """Count them, and put zeros in their place."""
        finite = np.isfinite(values)
        if finite.all():
            return cls(None, None, None), values
        counts = [_counts(mask) for mask in (np.isnan(values), values == np.inf, values == -np.inf)]
        return cls(*counts), np.where(finite, values, 0.0)

    def in_sum(self, sums: Floats, spans: Spans) -> Floats:
        """What becomes of sums of the finite values when the others are added."""
        above, below = _any(self.above, spans), _any(self.below, spans)
        if above is not None:
            sums = np.where(above, np.inf, sums)
        if below is not None:
            sums = np.where(below, -np.inf, sums)
        if above is not None and below is not None:
            sums = np.where(above & below, np.nan, sums)
        return self.in_rank(sums, spans)

    def in_rank(self, numbers: Floats, spans: Spans) -> Floats:
        """NaN where a NaN is in the range; infinities are numbers like others."""
        nans = _any(self.nans, spans)
        return numbers if nans is None else np.where(nans, np.nan, numbers)

    def in_spread(self, numbers: Floats, spans: Spans) -> Floats:
        """NaN where any value that is not finite is in the range."""
        for counts in (self.nans, self.above, self.below):
            there = _any(counts, spans)
            if there is not None:
                numbers = np.where(there, np.nan, numbers)
        return numbers


def _counts(mask: Mask) -> Ints | None:
    return prefix(mask) if mask.any() else None


def _any(counts: Ints | None, spans: Spans) -> Mask | None:
    return None if counts is None else between(counts, spans) > 0


class FloatSums:
    """Sums and means of floats over ranges."""

    def __init__(self, values: Floats, longest: int) -> None:
        """No range that is asked for is longer than `longest`."""
        self.specials, self.finite = Specials.of(values)
        self.span = span_of(self.terms, len(values))
        self.exact = ExactSums(lambda tile: (self.terms(tile),), self.span, len(values), longest)

    def terms(self, tile: slice) -> Terms:
        """The finite values, zeros in place of the others."""
        return terms_of_floats(self.finite[tile])

    def totals(self, spans: Spans) -> Floats:
        """The sums, within a few units of the last place; 0 of an empty range."""
        sums, _ = self.exact.totals(spans)
        return self.specials.in_sum(self._again(sums, spans, None), spans)

    def means(self, spans: Spans) -> Floats:
        """The means; NaN of an empty range."""
        counts = spans.counts
        with np.errstate(invalid="ignore", divide="ignore"):
            sums = self.totals(spans)
            means: Floats = sums / counts
        if not np.isfinite(sums).all():
            means = self.specials.in_sum(self._again(means, spans, counts), spans)
        return means

    def _again(self, numbers: Floats, spans: Spans, counts: Ints | None) -> Floats:
        """Numbers that a float has no room for on the way, computed at a smaller scale; divided by `counts`."""
        lost = np.flatnonzero(~np.isfinite(numbers) & spans.filled)
        if not len(lost):
            return numbers
        sums, _ = self.exact.totals(spans.some(lost), scale=-_DOWN)
        if counts is not None:
            sums = np.divide(sums, counts[lost])
        numbers = numbers.copy()
        with np.errstate(over="ignore"):
            numbers[lost] = sums * 2.0**_DOWN
        return numbers


class IntegerSums:
    """Sums and means of integers over ranges."""

    def __init__(self, values: Ints, longest: int, *, unsigned: bool) -> None:
        """`unsigned`: the values are bits of unsigned integers."""
        self.values = values
        self._unsigned = unsigned
        self._width = _width(values, unsigned=unsigned)
        self.specials = Specials(None, None, None)
        self._low = prefix(values)
        self._high: Ints | None = None
        self._halves: Ints | None = None
        if self._width + max(longest, 1).bit_length() > 63:
            upper = (values.view(np.uint64) >> np.uint64(32)).view(np.int64) if unsigned else values >> np.int64(32)
            self._high, self._halves = prefix(upper), prefix(values & np.int64(0xFFFF_FFFF))

    def terms(self, tile: slice) -> Terms:
        """The values."""
        return terms_of_integers(self.values[tile], self._width, unsigned=self._unsigned)

    def totals(self, spans: Spans) -> tuple[Ints, Mask | None]:
        """The sums, and where the true sum does not fit into 64 bits (None: nowhere)."""
        sums = between(self._low, spans)
        if self._high is None or self._halves is None:
            return sums, None
        upper = between(self._high, spans)
        upper += between(self._halves, spans) >> np.int64(32)
        return sums, (upper >= 1 << 31) | (upper < -(1 << 31))

    def means(self, spans: Spans) -> Floats:
        """The means; NaN of an empty range."""
        if self._high is None or self._halves is None:
            sums: Floats = between(self._low, spans).astype(np.float64)
        else:
            sums = np.ldexp(between(self._high, spans).astype(np.float64), 32) + between(self._halves, spans)
        with np.errstate(invalid="ignore", divide="ignore"):
            means: Floats = sums / spans.counts
        return means


class Variances:
    """Sample variances and standard deviations over ranges, whatever the mean.

    From exact sums of the values and of their squares, put together in twice the precision of a float. Where that is
    not enough, because the mean is larger than the deviation by eight orders of magnitude or more, or because squares
    leave the range of floats, in whole numbers.
    """

    def __init__(self, sums: FloatSums | IntegerSums, longest: int) -> None:
        """Of the values that `sums` are of. No range that is asked for is longer than `longest`."""
        numbers = sums.finite if isinstance(sums, FloatSums) else sums.values
        count = len(numbers)
        if isinstance(sums, FloatSums):
            span, self._sums = sums.span, sums.exact
        else:
            span = span_of(sums.terms, count)
            self._sums = ExactSums(lambda tile: (sums.terms(tile),), span, count, longest)
        self._squares = ExactSums(lambda tile: squares(sums.terms(tile)), span.squared(), count, longest)
        self._specials = sums.specials
        self._unit = span.top
        changed = np.zeros(count, np.int64)
        changed[1:] = np.where(numbers[1:] != numbers[:-1], np.arange(1, count), 0)
        self._constant_since = np.maximum.accumulate(changed)
        self._numbers = numbers

    def variances(self, spans: Spans) -> Floats:
        """Arbitrary for fewer than two values."""
        return self._specials.in_spread(self._spread(spans, root=False), spans)

    def deviations(self, spans: Spans) -> Floats:
        """Square roots of the variances. Arbitrary for fewer than two values."""
        return self._specials.in_spread(self._spread(spans, root=True), spans)

    def _spread(self, spans: Spans, *, root: bool) -> Floats:
        scaled, doubtful = spans.keep(self, lambda: self._scaled(spans))
        with np.errstate(over="ignore", under="ignore"):
            spread = np.ldexp(np.sqrt(scaled), self._unit) if root else np.ldexp(scaled, 2 * self._unit)
        if len(doubtful):
            spread[doubtful] = self._exactly(spans.some(doubtful), root=root)
        return spread

    def _scaled(self, spans: Spans) -> tuple[Floats, Ints]:
        """Variances in units of `4**unit`, none negative, and the ranges for which that may be inexact."""
        count = np.maximum(spans.counts, 2).astype(np.float64)
        total, total_rest = (scaled_by(each, -self._unit) for each in self._sums.totals(spans))
        square, square_rest = self._squares.totals(spans, scale=-2 * self._unit)
        with np.errstate(invalid="ignore", over="ignore"):
            # n * sum of squares - square of the sum, each product as two floats
            left, left_rest = _multiple(square, count)
            left_rest += square_rest * count
            right, right_rest = _square(total)
            total_rest *= total
            right_rest += total_rest
            right_rest += total_rest
            spread = left - right
            left_rest -= right_rest
            left_rest += _rounding(left, right, spread)
            spread += left_rest
        constant = self._constant(spans)
        doubtful = ~(left * _PRECISION < spread * _WANTED) | (square < _SMALL)
        doubtful &= ~constant & spans.at_least(2)
        spread /= count * (count - 1.0)
        spread[constant] = 0.0
        np.maximum(spread, 0.0, out=spread)
        return spread, np.flatnonzero(doubtful)

    def _constant(self, spans: Spans) -> Mask:
        if not len(self._constant_since):
            return np.ones(len(spans), np.bool_)
        if isinstance(spans, Runs):
            alike = self._constant(spans.pieces)
            at = np.minimum(spans.first, len(self._numbers) - 1)
            alike &= self._numbers[at][spans.owners] == self._numbers.take(spans.pieces.first, mode="clip")
            return spans.joined(np.logical_and, alike)
        constant: Mask = self._constant_since.take(np.maximum(spans.last - 1, 0)) <= spans.first
        return constant

    def _exactly(self, spans: Spans, *, root: bool) -> Floats:
        totals, squared = self._sums.exactly(spans), self._squares.exactly(spans)
        exponent = min(2 * self._sums.bottom, self._squares.bottom)
        by_total, by_square = 2 * self._sums.bottom - exponent, self._squares.bottom - exponent
        return np.array(
            [
                _ratio(count * (square << by_square) - (total * total << by_total), count * (count - 1), exponent, root)
                for count, total, square in zip(spans.counts.tolist(), totals, squared, strict=True)
            ],
            np.float64,
        )


def _width(values: Ints, *, unsigned: bool) -> int:
    """How many bits the largest value has, without its sign."""
    if not len(values):
        return 0
    if unsigned:
        return int(values.view(np.uint64).max()).bit_length()
    return max(int(values.max()), -int(values.min())).bit_length()


def _ratio(above: int, below: int, exponent: int, root: bool) -> float:
    """`above / below * 2**exponent`, or its square root, rounded; infinite where it is too large for a float."""
    shift = 128 - above.bit_length() + below.bit_length()
    shift += (exponent - shift) % 2  # so that the root has a whole exponent
    quotient = (above << shift if shift > 0 else above >> -shift) // below
    number, power = float(quotient), exponent - shift
    try:
        return math.ldexp(math.sqrt(number), power // 2) if root else math.ldexp(number, power)
    except OverflowError:
        return math.inf


def _multiple(numbers: Floats, counts: Floats) -> tuple[Floats, Floats]:
    """The product with whole numbers below 2**26 rounded, and its rounding error (Dekker, Veltkamp)."""
    product = numbers * counts
    upper = _upper(numbers)
    lower = numbers - upper
    upper *= counts
    upper -= product
    lower *= counts
    upper += lower
    return product, upper


def _square(numbers: Floats) -> tuple[Floats, Floats]:
    """The square rounded, and its rounding error (Dekker, Veltkamp)."""
    product = numbers * numbers
    upper = _upper(numbers)
    lower = numbers - upper
    error = upper * upper
    error -= product
    upper *= lower
    error += upper
    error += upper
    lower *= lower
    error += lower
    return product, error


def _upper(numbers: Floats) -> Floats:
    """The upper 26 bits of numbers below 2**996."""
    scaled = numbers * 134217729.0
    rest = scaled - numbers
    scaled -= rest
    return scaled


def _rounding(left: Floats, right: Floats, difference: Floats) -> Floats:
    """The rounding error of `left - right`, whichever is larger (Knuth)."""
    back = difference - left
    error: Floats = (left - (difference - back)) - (right + back)
    return error
