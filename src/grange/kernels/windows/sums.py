"""Exact sums over ranges, by prefix sums that cannot cancel.

A float is an integer times a power of two. Cut into digits of `k` bits of one common fixed-point number, it adds up
in int64 without any rounding: every digit has its own prefix sums, the difference of two of them is the exact digit
sum of a range, and only the digits of a range are put together in floating point, after carrying, so that nothing
cancels. What lies outside the range, however large, leaves no trace. Digits that all values have as zero cost
nothing, so 1e300 beside 1e-300 needs no more than two or three of them each.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from grange.kernels.arrays import Ints
from grange.kernels.windows.answers import Floats
from grange.kernels.windows.spans import Spans, between

Bits = NDArray[np.uint64]

_MANTISSA: Final = 52
_BIAS: Final = 1075
"""What the exponent of a float64 with an integer mantissa is stored with."""
_TILE: Final = 1 << 15
_EXACT: Final = 52
"""A digit has at most so many bits, so that it is exact as a float64."""
_ROOM: Final = 62
"""And a sum of digits so many, so that a carry fits into int64 too."""
_TERMS: Final = 3
_FAR: Final = 1 << 20
"""An exponent that no number has."""


@dataclass(frozen=True, slots=True)
class Terms:
    """Numbers as `size * 2**exponent`, with a sign, one per position."""

    size: Bits
    exponent: Ints
    sign: Ints | None
    """-1 for negative numbers, else 0; None: none is negative."""
    width: int
    """Bits that a size has at most."""


@dataclass(frozen=True, slots=True)
class Span:
    """Between which exponents the bits of numbers lie."""

    bottom: int
    """Of the lowest bit that is set in any of them."""
    top: int
    """Above the highest one."""

    def squared(self) -> Span:
        """Of their squares."""
        return Span(2 * self.bottom, 2 * self.top)


def terms_of_floats(values: Floats) -> Terms:
    """Finite floats, exactly."""
    bits = values.view(np.int64)
    biased = (bits >> _MANTISSA) & np.int64(0x7FF)
    size = bits & np.int64((1 << _MANTISSA) - 1)
    size |= (biased > 0).astype(np.int64) << _MANTISSA
    return Terms(size.view(np.uint64), np.maximum(biased, 1) - _BIAS, bits >> 63, _MANTISSA + 1)


def terms_of_integers(values: Ints, width: int, *, unsigned: bool) -> Terms:
    """Integers of at most `width` bits, exactly. `unsigned`: bits of unsigned ones."""
    size = (values if unsigned else np.abs(values)).view(np.uint64)
    return Terms(size, np.zeros(len(values), np.int64), None if unsigned else values >> 63, width)


def squares(terms: Terms) -> tuple[Terms, ...]:
    """The squares, exactly, as terms that add up to them."""
    if terms.width <= 32:
        return (Terms(terms.size * terms.size, 2 * terms.exponent, None, 2 * terms.width),)
    half = np.uint64(26 if terms.width <= 53 else 32)
    high, low = terms.size >> half, terms.size & ((np.uint64(1) << half) - np.uint64(1))
    cross, twice, shift = high * low, 2 * terms.exponent, int(half)
    if terms.width > 53:
        parts = [(low * low, 0), (cross, shift + 1), (high * high, 2 * shift)]
        return tuple(Terms(size, twice + by, None, 64) for size, by in parts)
    # (h*2**26 + l)**2 in two terms of less than 2**54: the middle one is split between them
    under = cross & np.uint64((1 << 25) - 1)
    return (
        Terms(low * low + (under << np.uint64(27)), twice, None, 53),
        Terms(high * high + (cross >> np.uint64(25)), twice + 52, None, 54),
    )


def tiles(count: int) -> Iterator[slice]:
    """Runs of positions that are computed together: few enough to stay near the processor."""
    for start in range(0, count, _TILE):
        yield slice(start, min(start + _TILE, count))


def span_of(terms: Callable[[slice], Terms], count: int) -> Span:
    """Between which exponents the bits of numbers lie; an empty span when all are zero."""
    bottom, top = _FAR, -_FAR
    for tile in tiles(count):
        each = terms(tile)
        zero = each.size == 0
        trailing = np.bitwise_count((each.size & (~each.size + np.uint64(1))) - np.uint64(1))
        bottom = min(bottom, int(np.where(zero, _FAR, each.exponent + trailing).min()))
        top = max(top, int(np.where(zero, -_FAR, each.exponent).max()) + each.width)
    return Span(bottom, top) if bottom < _FAR else Span(0, 0)


class ExactSums:
    """Sums over ranges of an array of numbers."""

    def __init__(self, terms: Callable[[slice], Sequence[Terms]], span: Span, count: int, longest: int) -> None:
        """Of `count` numbers.

        Args:
            terms: what the numbers of a tile are the sums of: at most three terms each.
            span: contains all their bits.
            longest: no range that is asked for is longer.
        """
        growth = (_TERMS * max(longest, 1)).bit_length()
        self.bits = min(_EXACT, _ROOM - growth)
        self.bottom = span.bottom
        self.digits: list[Ints | None] = _digit_sums(terms, span, self.bits, count)
        """Prefix sums of each digit, lowest first; None where all are zero."""
        self._wide = span.top - span.bottom - (len(self.digits) - 1) * self.bits + growth > _EXACT
        """Whether a sum of the highest digits may have more bits than a float."""

    def totals(self, spans: Spans, *, scale: int = 0) -> tuple[Floats, Floats]:
        """The sums times `2**scale`, each as two floats: the sum rounded, and what is left of it.

        Infinite where it is too large for a float. What lies below the smallest float is lost.
        """
        return spans.keep((self, scale), lambda: self._totals(spans, scale))

    def _totals(self, spans: Spans, scale: int) -> tuple[Floats, Floats]:
        high: Floats | None = None
        low: Floats | None = None
        carry: Ints | None = None
        half, bits, last = np.int64(1 << (self.bits - 1)), np.int64(self.bits), len(self.digits) - 1
        for place, sums in enumerate(self.digits):
            if sums is None and carry is None:
                continue
            digit = np.zeros(len(spans), np.int64) if sums is None else between(sums, spans)
            if carry is not None:
                digit += carry
            if place < last:
                carry = digit + half
                carry >>= bits
                digit -= carry << bits
            exponent = self.bottom + place * self.bits + scale
            for part in _exact_parts(digit, exponent, split=place == last and self._wide):
                high, low = (part, low) if high is None else _add(part, high, low)
        if high is None:
            return np.zeros(len(spans)), np.zeros(len(spans))
        if low is None:
            return high, np.zeros(len(spans))
        with np.errstate(invalid="ignore"):
            total = high + low
            high -= total
            high += low
        return total, high

    def exactly(self, spans: Spans) -> NDArray[Any]:
        """The sums as Python's integers, in units of `2**bottom`. For a few ranges only."""
        totals = np.zeros(len(spans), object)
        for place, sums in enumerate(self.digits):
            if sums is not None:
                totals += between(sums, spans).astype(object) << (place * self.bits)
        return totals


def _digit_sums(terms: Callable[[slice], Sequence[Terms]], span: Span, bits: int, count: int) -> list[Ints | None]:
    places = range(-(-(span.top - span.bottom) // bits))
    sums: list[Ints | None] = [None for _ in places]
    for tile in tiles(count):
        parts = terms(tile)
        for place in places:
            digits = _digits(parts, span.bottom + place * bits, bits)
            mine = sums[place]
            if mine is None:
                if not digits.any():
                    continue
                mine = sums[place] = np.empty(count + 1, np.int64)
                mine[: tile.start + 1] = 0
            digits[:1] += mine[tile.start : tile.start + 1]  # as arrays: the sums may wrap around
            np.cumsum(digits, out=mine[tile.start + 1 : tile.stop + 1])
    return sums


def _digits(terms: Sequence[Terms], exponent: int, bits: int) -> Ints:
    """The digits of one place: the bits from `exponent` on, with the numbers' signs."""
    mask = np.uint64((1 << bits) - 1)
    total: Ints | None = None
    for each in terms:
        shift = each.exponent - exponent
        # a shift by 64 or more leaves nothing, as NumPy defines it
        digit = each.size << np.maximum(shift, 0).view(np.uint64)
        digit >>= np.maximum(np.negative(shift, out=shift), 0).view(np.uint64)
        digit &= mask
        signed = digit.view(np.int64)
        if each.sign is not None:
            signed ^= each.sign
            signed -= each.sign
        total = signed if total is None else np.add(total, signed, out=total)
    assert total is not None
    return total


def _exact_parts(digit: Ints, exponent: int, *, split: bool) -> list[Floats]:
    """A digit of the given place as floats that add up to it exactly, lowest first."""
    if not split:
        return [_times(digit.astype(np.float64), exponent)]
    upper = (digit + np.int64(1 << 30)) >> np.int64(31)
    lower = digit - (upper << np.int64(31))
    return [_times(lower.astype(np.float64), exponent), _times(upper.astype(np.float64), exponent + 31)]


def scaled_by(numbers: Floats, exponent: int) -> Floats:
    """`numbers * 2**exponent`."""
    return _times(numbers.copy(), exponent)


def _times(numbers: Floats, exponent: int) -> Floats:
    """`numbers` in place times `2**exponent`, also where that power alone is no float."""
    if not exponent:
        return numbers
    with np.errstate(over="ignore"):
        for step in (1000, -1000):
            while exponent * step > 1_000_000:
                numbers *= math.ldexp(1.0, step)
                exponent -= step
        numbers *= math.ldexp(1.0, exponent)
    return numbers


def _add(part: Floats, high: Floats, low: Floats | None) -> tuple[Floats, Floats]:
    """A pair of floats plus a larger one, which is zero or at least as large as the pair."""
    with np.errstate(invalid="ignore", over="ignore"):
        total = part + high
        part -= total
        part += high
        if low is not None:
            part += low
    return total, part
