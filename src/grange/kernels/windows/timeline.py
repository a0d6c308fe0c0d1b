"""Where in the events of an entity key a time lies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from grange.kernels.arrays import Ints

_MAX: Final = int(np.iinfo(np.int64).max)


@dataclass(frozen=True, slots=True)
class Timeline:
    """Events ordered by (entity code, time), ready to find times among those of one code.

    Code and time are packed into one integer. Where they do not fit, the rank of the time stands for it.
    """

    packed: Ints
    bits: int
    first_code: int
    last_code: int
    earliest: int
    latest: int
    distinct: Ints | None
    """All times, ascending; None when times themselves are packed."""

    @classmethod
    def of(cls, codes: Ints, times: Ints) -> Timeline:
        """The events `(codes[i], times[i])`, which ascend."""
        if not len(codes):
            return cls(codes, 1, 0, 0, 0, 0, None)
        first_code, last_code = int(codes[0]), int(codes[-1])
        codes = codes - first_code
        earliest, latest = int(times.min()), int(times.max())
        bits = (latest - earliest + 1).bit_length()
        if bits + (last_code - first_code + 2).bit_length() <= 62 and latest < _MAX:
            return cls((codes << bits) | (times - earliest), bits, first_code, last_code, earliest, latest, None)
        distinct = np.unique(times)
        bits = len(distinct).bit_length()
        packed = (codes << bits) | np.searchsorted(distinct, times)
        return cls(packed, bits, first_code, last_code, earliest, latest, distinct)

    def at_or_after(self, codes: Ints, times: Ints) -> Ints:
        """The position of each code's first event at or after a time; where it has none, the end of its events.

        Fastest when (code, time) ascends.
        """
        if not len(self.packed):
            return np.zeros(len(codes), np.int64)
        if self.distinct is None:
            within = np.clip(times, self.earliest, self.latest + 1)
            within -= self.earliest
        else:
            within = np.searchsorted(self.distinct, times)
        within |= self._digits(codes)
        return np.searchsorted(self.packed, within)

    def begin(self, codes: Ints) -> Ints:
        """The position of each code's first event."""
        return np.searchsorted(self.packed, self._digits(codes))

    def _digits(self, codes: Ints) -> Ints:
        """The codes' part of a packed number; codes outside are the next ones before and behind."""
        return (np.clip(codes, self.first_code - 1, self.last_code + 1) - self.first_code) << self.bits
