"""Sum, mean and variance of numbers over ranges, from exact sums."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np

from grange.kernels.arrays import Ints, Mask
from grange.kernels.windows.answers import Floats
from grange.kernels.windows.spans import Runs, Spans, between, prefix
from grange.kernels.windows.sums import (
    ExactSums,
    Span,
    Terms,
    scaled_by,
    span_of,
    squares,
    terms_of_floats,
    terms_of_integers,
)

_LARGEST: Final = 1024
"""The exponent from which on there are no floats."""
_DOWN: Final = 128
"""Sums that are too large for a float are computed again, smaller by this power of two."""
_PRECISION: Final = 2.0**-98
"""What is left of a sum of squares after rounding, relative to it."""
_WANTED: Final = 2.0**-44
"""The relative error of a variance up to which it is not computed again in whole numbers."""
_SMALL: Final = 2.0**-800
"""Sums of squares below this, in units of the largest square, may have lost bits at the lower end."""
_ROUGH: Final = 2.0**-40
"""The relative error of a variance up to which rough squares are enough."""
_ROUNDED: Final = 2.0**-50
"""What roundings add up to in the difference of a rough sum of squares and a squared sum, relative to the former."""
_SHORT: Final = 32
"""Values of a range up to which they are looked at one by one, where its variance is small."""
_EXPONENTS: Final = 500
"""Scaled values from 2**-500 on have squares that are floats; and scales up to 2**500, squares and reciprocals."""


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
        self._may_overflow = self.span.top + max(longest, 1).bit_length() >= _LARGEST

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
        if self._may_overflow:
            means = self.specials.in_sum(self._again(means, spans, counts), spans)
        return means

    def _again(self, numbers: Floats, spans: Spans, counts: Ints | None) -> Floats:
        """Numbers that a float has no room for on the way, computed at a smaller scale; divided by `counts`."""
        if not self._may_overflow:
            return numbers
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

    def floats(self) -> Floats:
        """The values as floats."""
        whole: Any = self.values.view(np.uint64) if self._unsigned else self.values
        floats: Floats = whole.astype(np.float64)
        return floats

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

    def rounded(self, spans: Spans) -> Floats:
        """The sums as floats, whether or not they fit into 64 bits."""
        if self._high is None or self._halves is None:
            sums: Floats = between(self._low, spans).astype(np.float64)
            return sums
        return np.ldexp(between(self._high, spans).astype(np.float64), 32) + between(self._halves, spans)

    def means(self, spans: Spans) -> Floats:
        """The means; NaN of an empty range."""
        with np.errstate(invalid="ignore", divide="ignore"):
            means: Floats = self.rounded(spans) / spans.counts
        return means


class ScaledValues:
    """Values over powers of two, one for each entity key, that make them all less than 1: quick variances of most
    ranges, in these units.

    Sums of their squares are prefix sums of integers, so that here too nothing cancels but what a range itself holds.
    """

    def __init__(self, values: Floats, starts: Ints) -> None:
        """`starts`: where the values of each entity key begin. No range is of two."""
        lengths = np.diff(starts, append=len(values))
        sizes = np.abs(values)
        greatest = np.maximum.reduceat(sizes, starts) if len(values) else np.zeros(0)
        sizes[sizes == 0.0] = np.inf
        least = np.minimum.reduceat(sizes, starts) if len(values) else np.zeros(0)
        exponents = np.frexp(greatest)[1].astype(np.int64)
        scales = np.ldexp(1.0, -np.clip(exponents, -_EXPONENTS, _EXPONENTS))
        scales[(np.abs(exponents) > _EXPONENTS) | (least * scales < math.ldexp(1.0, -_EXPONENTS))] = 0.0
        self._scales: Floats = np.repeat(scales, lengths)
        """By position. 0 where some of the key's values are too large or small, by themselves or beside the others."""
        self._values: Floats = values * self._scales
        squares = self._values * self._values
        largest = float(np.add.reduceat(squares, starts).max()) if len(values) else 0.0
        bits = 61 - math.frexp(largest)[1]  # so that the sum of a key's squares fits
        self._unit = math.ldexp(1.0, -bits)
        squares *= math.ldexp(1.0, bits)
        self._squares = prefix(np.rint(squares, out=squares).astype(np.int64))

    def __len__(self) -> int:
        return len(self._values)

    def scales(self, spans: Spans) -> Floats:
        """What the values of each range were multiplied with; arbitrary for an empty one."""
        return self._scales.take(spans.first, mode="clip")

    def rough(self, spans: Spans, totals: Floats) -> tuple[Floats, Ints]:
        """Variances, and the ranges for which they are too inexact: the deviation is a small fraction of the values.

        `totals` are the sums of the values as they were, with a relative error of a few roundings.
        """
        count = spans.counts.astype(np.float64)
        spread = between(self._squares, spans).astype(np.float64)
        spread *= self._unit
        error = spread * (_ROUNDED / _ROUGH)
        error += count * (self._unit / _ROUGH)
        with np.errstate(invalid="ignore", divide="ignore"):
            middle = totals * self.scales(spans)
            middle *= middle
            middle /= count
            spread -= middle
            doubtful = np.flatnonzero(~(spread >= error) & spans.at_least(2))
            count -= 1.0
            spread /= count
        return spread, doubtful

    def close(self, spans: Spans) -> tuple[Floats, Ints]:
        """Variances of few values each, however near to one another; and the ranges of too many or too small ones.

        From the differences to the first value of each range, which is never far from the mean of so few.
        """
        spread = np.zeros(len(spans))
        settled = (spans.counts <= _SHORT) & (self.scales(spans) > 0.0)
        which = np.flatnonzero(settled)
        if len(which):
            few = spans.some(which)
            starts = np.cumsum(few.counts) - few.counts
            away = self._values.take(few.positions())
            away -= np.repeat(self._values.take(few.first), few.counts)
            total, farthest = np.add.reduceat(away, starts), np.maximum.reduceat(np.abs(away), starts)
            away *= away
            squares = np.add.reduceat(away, starts)
            spread[which] = (squares - total * total / few.counts) / (few.counts - 1)
            settled[which] = (squares > _SMALL) | (farthest == 0.0)
        return spread, np.flatnonzero(~settled)


class Variances:
    """Sample variances and standard deviations over ranges, whatever the mean.

    Quickly where that is enough, which it is nearly everywhere. Else from exact sums of the values and of their
    squares, put together in twice the precision of a float. Where that is not enough either, because the mean is
    larger than the deviation by eight orders of magnitude or more, or because squares leave the range of floats, in
    whole numbers.
    """

    def __init__(self, sums: FloatSums | IntegerSums, starts: Ints, longest: int) -> None:
        """Of the values that `sums` are of; `starts` is where those of each entity key begin.

        No range that is asked for is of two entity keys, or longer than `longest`.
        """
        self._of = sums
        self._numbers = sums.finite if isinstance(sums, FloatSums) else sums.values
        self._longest = longest
        self._specials = sums.specials
        floats = sums.finite if isinstance(sums, FloatSums) else sums.floats()
        self._values = ScaledValues(floats, starts)

    def variances(self, spans: Spans) -> Floats:
        """Arbitrary for fewer than two values."""
        return self._specials.in_spread(self._spread(spans, root=False), spans)

    def deviations(self, spans: Spans) -> Floats:
        """Square roots of the variances. Arbitrary for fewer than two values."""
        return self._specials.in_spread(self._spread(spans, root=True), spans)

    def _spread(self, spans: Spans, *, root: bool) -> Floats:
        if not len(self._values):
            return np.zeros(len(spans))
        rough, doubtful = spans.keep(self, lambda: self._values.rough(spans, self._totals(spans)))
        spread = self._unscaled(rough, spans, root=root)
        if len(doubtful):
            spread[doubtful] = self._closely(spans.some(doubtful), root=root)
        return spread

    def _closely(self, spans: Spans, *, root: bool) -> Floats:
        if isinstance(spans, Runs):
            return self._precisely(spans, root=root)
        close, doubtful = self._values.close(spans)
        spread = self._unscaled(close, spans, root=root)
        if len(doubtful):
            spread[doubtful] = self._precisely(spans.some(doubtful), root=root)
        return spread

    def _unscaled(self, spread: Floats, spans: Spans, *, root: bool) -> Floats:
        scales = self._values.scales(spans)
        with np.errstate(invalid="ignore", divide="ignore"):
            unscaled: Floats = np.sqrt(spread) if root else spread / scales
            unscaled /= scales
        return unscaled

    def _totals(self, spans: Spans) -> Floats:
        return self._of.exact.totals(spans)[0] if isinstance(self._of, FloatSums) else self._of.rounded(spans)

    def _precisely(self, spans: Spans, *, root: bool) -> Floats:
        scaled, doubtful = self._scaled(spans)
        with np.errstate(over="ignore", under="ignore"):
            spread = np.ldexp(np.sqrt(scaled), self._unit) if root else np.ldexp(scaled, 2 * self._unit)
        if len(doubtful):
            spread[doubtful] = self._exactly(spans.some(doubtful), root=root)
        return spread

    @cached_property
    def _span(self) -> Span:
        return self._of.span if isinstance(self._of, FloatSums) else span_of(self._of.terms, len(self._numbers))

    @property
    def _unit(self) -> int:
        return self._span.top

    @cached_property
    def _sums(self) -> ExactSums:
        sums = self._of
        if isinstance(sums, FloatSums):
            return sums.exact
        return ExactSums(lambda tile: (sums.terms(tile),), self._span, len(self._numbers), self._longest)

    @cached_property
    def _squares(self) -> ExactSums:
        def terms(tile: slice) -> tuple[Terms, ...]:
            return squares(self._of.terms(tile))

        return ExactSums(terms, self._span.squared(), len(self._numbers), self._longest)

    @cached_property
    def _constant_since(self) -> Ints:
        """By position: where the run of equal values that it belongs to begins."""
        changed = np.zeros(len(self._numbers), np.int64)
        changed[1:] = np.where(self._numbers[1:] != self._numbers[:-1], np.arange(1, len(self._numbers)), 0)
        return np.maximum.accumulate(changed)

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
