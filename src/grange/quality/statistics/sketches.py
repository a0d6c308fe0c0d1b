"""Compact summaries of values that merge: order, distinct values, frequent values.

All three are deterministic (the same values in the same parts give the same summary, anywhere and always), say how far
off they may be, and are exact while they are small.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from grange.quality.statistics.moments import Floats

Hashes = NDArray[np.uint64]
Ints = NDArray[np.int64]

KEPT: Final = 512
"""Values in one level of `Quantiles`: at hand its error is less than 1/200, and it grows by the logarithm of merges."""
HASHES: Final = 1024
"""Hashes in a `Distinct`: fewer distinct values are counted exactly, more with a standard error of 3.1 %."""
FREQUENT: Final = 256
"""Values in a `Frequent`: counts are at most 1/257 of all values too high."""


class _Sketch:
    """Equal when their data are: arrays have no one answer to `==`."""

    __slots__ = ()

    def to_data(self) -> dict[str, Any]:
        raise NotImplementedError

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and isinstance(other, _Sketch) and self.to_data() == other.to_data()

    def __hash__(self) -> int:
        return hash(str(self.to_data()))


@dataclass(frozen=True, slots=True, eq=False)
class Quantiles(_Sketch):
    """Where values lie, in order: level `i` holds values each of which stands for `2**i`.

    Values at hand are cut into runs of neighbours, of which the middle one stays. Merging puts levels together; where a
    level grows too long, every second value goes up one level, once the odd ones and once the even (the compactor of
    Manku, Rajagopalan and Lindsay, 1998). Each such step moves ranks one way by at most `2**i`, and that is counted.
    """

    levels: tuple[Floats, ...] = ()
    """Each in ascending order."""
    over: int = 0
    """How much higher than the truth the rank of any value may come out."""
    under: int = 0
    """How much lower."""
    turns: int = 0
    """Bit `i`: which of two neighbours of level `i` goes up next."""

    @classmethod
    def of(cls, ordered: Floats) -> Quantiles:
        """Of finite values in ascending order."""
        height = max(0, (len(ordered) - 1) // KEPT).bit_length()
        levels: list[Floats] = []
        start = 0
        for level in range(height, -1, -1):
            weight = 1 << level
            runs = (len(ordered) - start) // weight
            levels.append(ordered[start + (weight - 1) // 2 : start + runs * weight : weight].copy())
            start += runs * weight
        longest = 1 << height
        return cls(tuple(reversed(levels)), longest // 2, (longest - 1) // 2)

    @property
    def count(self) -> int:
        """The values that it stands for."""
        return sum(len(values) << level for level, values in enumerate(self.levels))

    @property
    def exact(self) -> bool:
        """Whether it holds every single value."""
        return not any(len(values) for values in self.levels[1:])

    @property
    def error(self) -> float:
        """How far off a quantile may be, as a share of the values."""
        if self.exact:
            return 0.0
        return min(1.0, (max(self.over, self.under) + (1 << (len(self.levels) - 1)) / 2 + 0.5) / self.count)

    def merge(self, other: Quantiles) -> Quantiles:
        """Of both together."""
        levels = [
            np.sort(np.concatenate([part.levels[level] for part in (self, other) if level < len(part.levels)]))
            for level in range(max(len(self.levels), len(other.levels)))
        ]
        over, under, turns = self.over + other.over, self.under + other.under, self.turns
        level = 0
        while level < len(levels):
            if len(levels[level]) > KEPT:
                upper = turns >> level & 1
                rest, up = _halved(levels[level], upper)
                levels[level] = rest
                levels[level + 1 : level + 2] = [np.sort(np.concatenate([up, *levels[level + 1 : level + 2]]))]
                over, under = (over, under + (1 << level)) if upper else (over + (1 << level), under)
                turns ^= 1 << level
            level += 1
        return Quantiles(tuple(levels), over, under, turns)

    def weighted(self) -> tuple[Floats, Ints]:
        """Its values in ascending order, and how many each stands for."""
        if not self.levels:
            return np.zeros(0), np.zeros(0, np.int64)
        values = np.concatenate(self.levels)
        weights = np.concatenate([np.full(len(held), 1 << level) for level, held in enumerate(self.levels)])
        order = np.argsort(values, kind="stable")
        return values[order], weights[order]

    def at(self, ranks: Floats, low: float, high: float) -> Floats:
        """The values at ranks, 0 for the smallest; see `between`.

        Args:
            ranks: from 0 to `count - 1`.
            low: the smallest value, which is known exactly, and
            high: the largest.
        """
        if self.exact:
            return between(self.levels[0], ranks)
        values, weights = self.weighted()
        middles = np.cumsum(weights) - (weights + 1) / 2
        found: Floats = np.interp(ranks, [0.0, *middles, self.count - 1.0], [low, *values, high])
        return found

    def binned(self, edges: Floats) -> tuple[int, ...]:
        """How many values lie between edges, as a `Histogram` has them."""
        values, weights = self.weighted()
        counts = np.diff(np.concatenate([[0], np.cumsum(weights)])[_cuts(values, edges)])
        return tuple(counts.tolist())

    def to_data(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "lengths": [len(values) for values in self.levels],
            "values": _text(np.concatenate([np.zeros(0), *self.levels]), "<f8"),
            "over": self.over,
            "under": self.under,
            "turns": self.turns,
        }

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Quantiles:
        """The summary that `to_data` described."""
        values = _array(data["values"], "<f8")
        levels = np.split(values, np.cumsum(data["lengths"])[:-1]) if data["lengths"] else []
        return cls(tuple(levels), data["over"], data["under"], data["turns"])


def between(ordered: Floats, ranks: Floats) -> Floats:
    """The values at ranks, interpolated linearly; as exact from above as from below."""
    lower = ranks.astype(np.int64)
    share = ranks - lower
    one, other = ordered[lower], ordered[np.minimum(lower + 1, len(ordered) - 1)]
    with np.errstate(over="ignore", invalid="ignore"):
        apart = other - one
        values = np.where(share < 0.5, one + apart * share, other - apart * (1 - share))
    return np.where(np.isfinite(apart), values, one * (1 - share) + other * share)


def binned(ordered: Floats, edges: Floats) -> tuple[int, ...]:
    """How many of the values, in ascending order, lie between edges, as a `Histogram` has them."""
    return tuple(np.diff(_cuts(ordered, edges)).tolist())


def _cuts(ordered: Floats, edges: Floats) -> NDArray[np.intp]:
    """Where bins begin and the last one ends: everything lies in one, the last with its upper edge."""
    return np.concatenate([[0], np.searchsorted(ordered, edges[1:-1], side="left"), [len(ordered)]])


def _halved(values: Floats, upper: int) -> tuple[Floats, Floats]:
    """What stays of a level (the last value where their number is odd), and one of each two neighbours."""
    paired = len(values) // 2 * 2
    return values[paired:], values[upper:paired:2]


@dataclass(frozen=True, slots=True, eq=False)
class Distinct(_Sketch):
    """The smallest hashes of the distinct values: how dense they lie says how many there are.

    The estimator of k minimum values, `(k - 1) / h_k` for hashes between 0 and 1 (Bar-Yossef et al., 2002), unbiased,
    with a relative standard error of `1 / sqrt(k - 2)`. Fewer than k hashes are counted.
    """

    hashes: Hashes
    """In ascending order, all different."""

    @classmethod
    def of(cls, hashes: Hashes) -> Distinct:
        """Of the hashes of distinct values, or of those of two summaries; see `hashed_numbers` and `hashed_texts`."""
        if len(hashes) > 4 * HASHES:
            hashes = np.partition(hashes, 2 * HASHES)[: 2 * HASHES]
        return cls(np.unique(hashes)[:HASHES])

    @property
    def exact(self) -> bool:
        """Whether it holds the hash of every value."""
        return len(self.hashes) < HASHES

    @property
    def error(self) -> float:
        """The relative standard error of `count`."""
        return 0.0 if self.exact else 1 / (HASHES - 2) ** 0.5

    @property
    def count(self) -> int:
        """How many distinct values there are."""
        if self.exact:
            return len(self.hashes)
        return round((HASHES - 1) * 2.0**64 / (float(self.hashes[-1]) + 1))

    def merge(self, other: Distinct) -> Distinct:
        """Of both together: what it had been had all values been at hand."""
        return Distinct.of(np.concatenate([self.hashes, other.hashes]))

    def to_data(self) -> dict[str, Any]:
        """For JSON."""
        return {"hashes": _text(self.hashes, "<u8")}

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Distinct:
        """The summary that `to_data` described."""
        return cls(_array(data["hashes"], "<u8"))


@dataclass(frozen=True, slots=True)
class Frequent:
    """The most frequent values, with the least that each occurs.

    Too many values are cut to their number by taking the count of the first that is left out off all (Misra and Gries,
    1982; merging by Agarwal et al., 2013). All that was ever taken off is the error, at most `n / (FREQUENT + 1)`.
    """

    entries: tuple[tuple[Any, int], ...]
    """Most frequent first."""
    error: int = 0
    """By how much each count may be too low; a value that is not here occurs at most so often."""

    @classmethod
    def of(cls, counts: Sequence[tuple[Any, int]], error: int = 0) -> Frequent:
        """Of values with their counts, most frequent first; those after the first `FREQUENT + 1` play no part."""
        if len(counts) <= FREQUENT:
            return cls(tuple(counts), error)
        off = counts[FREQUENT][1]
        return cls(tuple((value, count - off) for value, count in counts[:FREQUENT] if count > off), error + off)

    def merge(self, other: Frequent) -> Frequent:
        """Of both together."""
        counts = dict(self.entries)
        for value, count in other.entries:
            counts[value] = counts.get(value, 0) + count
        ordered = sorted(sorted(counts.items()), key=lambda entry: -entry[1])
        return Frequent.of(ordered, self.error + other.error)

    def top(self, most: int) -> tuple[tuple[Any, int], ...]:
        """The most frequent values and the most that each occurs."""
        return tuple((value, count + self.error) for value, count in self.entries[:most])

    def to_data(self, plain: Callable[[Any], Any]) -> dict[str, Any]:
        """For JSON, with values as `plain` writes them."""
        return {"entries": [[plain(value), count] for value, count in self.entries], "error": self.error}

    @classmethod
    def from_data(cls, data: Mapping[str, Any], read: Callable[[Any], Any]) -> Frequent:
        """The summary that `to_data` described."""
        return cls(tuple((read(value), count) for value, count in data["entries"]), data["error"])


_GOLDEN: Final = np.uint64(0x9E3779B97F4A7C15)
_FIRST: Final = np.uint64(0xBF58476D1CE4E5B9)
_SECOND: Final = np.uint64(0x94D049BB133111EB)
_UNSIGNED: Final = np.uint64(0xD6E8FEB86659FD93)
_BYTES: Final = 1 << 20
"""Bytes of text that are hashed at once."""


def hashed_numbers(values: NDArray[Any]) -> Hashes:
    """Hashes of integers or floats. Integers of any width have one hash, and zeros of both signs."""
    if values.dtype.kind == "f":
        return _mixed((values.astype(np.float64) + 0.0).view(np.uint64))
    if values.dtype != np.uint64:
        return _mixed(values.astype(np.int64).view(np.uint64))
    return _mixed(values) ^ np.where(values >> np.uint64(63), _UNSIGNED, np.uint64(0))  # else the hash of a negative


def hashed_texts(offsets: Ints, data: NDArray[np.uint8]) -> Hashes:
    """Hashes of texts as Arrow lays them out: text `i` is the bytes from `offsets[i]` to before `offsets[i + 1]`.

    The sum of the hashes of each byte and its place, hashed again.
    """
    hashes = np.zeros(len(offsets) - 1, np.uint64)
    first = 0
    while first < len(hashes):
        last = max(first + 1, int(np.searchsorted(offsets, offsets[first] + _BYTES, side="right")) - 1)
        bounds = offsets[first : last + 1] - offsets[first]
        places = np.arange(bounds[-1]) - np.repeat(bounds[:-1], np.diff(bounds))
        letters = data[offsets[first] : offsets[last]]
        sums = np.concatenate([[np.uint64(0)], np.cumsum(_mixed((places << 8 | letters).view(np.uint64)))])
        hashes[first:last] = sums[bounds[1:]] - sums[bounds[:-1]]
        first = last
    return _mixed(hashes)


def _mixed(values: Hashes) -> Hashes:
    """The finalizer of SplitMix64 (Steele, Lea and Flood, 2014): each bit out depends on each bit in."""
    mixed = values + _GOLDEN
    mixed ^= mixed >> np.uint64(30)
    mixed *= _FIRST
    mixed ^= mixed >> np.uint64(27)
    mixed *= _SECOND
    mixed ^= mixed >> np.uint64(31)
    return mixed


def _text(values: NDArray[Any], layout: str) -> str:
    return base64.b64encode(values.astype(layout).tobytes()).decode("ascii")


def _array(text: str, layout: str) -> NDArray[Any]:
    held = np.frombuffer(base64.b64decode(text), layout)
    return held.astype(held.dtype.newbyteorder("="))


__all__ = [
    "FREQUENT", "HASHES", "KEPT", "Distinct", "Frequent", "Quantiles", "between", "binned",
    "hashed_numbers", "hashed_texts",
]  # fmt: skip
