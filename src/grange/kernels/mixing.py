"""Mixing 64-bit words: a bijection after which every bit of the input has had a say in every bit of the output."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint64]

GOLDEN: Final = 0x9E3779B97F4A7C15
WRAP: Final = (1 << 64) - 1
_FIRST: Final = 0xBF58476D1CE4E5B9
_SECOND: Final = 0x94D049BB133111EB


def mixed(word: int) -> int:
    """One word mixed."""
    word = (word ^ word >> 30) * _FIRST & WRAP
    word = (word ^ word >> 27) * _SECOND & WRAP
    return word ^ word >> 31


def mix(words: Words, spare: Words | None = None) -> None:
    """Mix words in place, with the memory of as many others."""
    other = np.empty_like(words) if spare is None else spare
    np.right_shift(words, np.uint64(30), out=other)
    words ^= other
    words *= np.uint64(_FIRST)
    np.right_shift(words, np.uint64(27), out=other)
    words ^= other
    words *= np.uint64(_SECOND)
    np.right_shift(words, np.uint64(31), out=other)
    words ^= other
