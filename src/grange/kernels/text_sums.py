"""The part of a text's hash that its bytes are: for each word of eight bytes, mixed with its number, their sum.

Texts lie one after the other, so words start anywhere between the words of memory: each is put together of two.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from grange.kernels.arrays import Ints
from grange.kernels.mixing import GOLDEN, WRAP, Words, mix

_SHORT: Final = 8
"""Words of a text that are read a word of all texts at a time; those of longer ones follow text by text."""
_MOST: Final = 1 << 20
"""Bytes of the texts that are read at a time."""
_TAILS: Final = np.array([(1 << 8 * count) - 1 for count in range(9)], np.uint64)
"""By the number of bytes left in a text: the bits of a word that belong to it."""


class TextSums:
    """Sums of texts, a block at a time, in memory that is used again: fresh memory costs more than the work."""

    def __init__(self, rows: int) -> None:
        """For blocks of up to so many texts."""
        self._signed = np.empty((3, rows), np.int64)
        self._words = np.empty((6, rows), np.uint64)

    def of(self, offsets: Ints, data: NDArray[np.uint8]) -> Words:
        """The sum of each text, until it is asked for others.

        Args:
            offsets: where each text starts in `data`, and where the last ends.
            data: bytes, of more texts perhaps.
        """
        sums = self._words[0, : len(offsets) - 1]
        for start, end in _runs(offsets):
            self._add_up(offsets[start : end + 1], data, sums[start:end])
        return sums

    def _add_up(self, offsets: Ints, data: NDArray[np.uint8], sums: Words) -> None:
        """The sums of a run of texts."""
        lengths, index, left = self._signed[:, : len(sums)]
        shift, back, words, after, spare = self._words[1:, : len(sums)]
        memory, first = _memory(offsets, data)
        np.subtract(offsets[1:], offsets[:-1], out=lengths)
        np.subtract(offsets[:-1], first, out=index)
        np.left_shift(index & 7, 3, out=shift.view(np.int64))
        np.subtract(64, shift, out=back)
        index >>= 3
        sums[:] = 0
        shortest, longest = int(lengths.min()), int(lengths.max())
        for number in range(min(longest + 7 >> 3, _SHORT)):
            np.take(memory[number:], index, out=words, mode="clip")
            words >>= shift
            np.take(memory[number + 1 :], index, out=after, mode="clip")
            after <<= back  # by 64 leaves nothing
            words |= after
            if shortest < 8 * number + 8:
                np.subtract(lengths, 8 * number, out=left)
                np.clip(left, 0, 8, out=left)
                np.take(_TAILS, left, out=after, mode="clip")
                words &= after
            words += np.uint64((number + 1) * GOLDEN & WRAP)
            mix(words, spare)
            if shortest <= 8 * number:
                words *= left > 0
            sums += words
        if longest > 8 * _SHORT:
            rows = np.flatnonzero(lengths > 8 * _SHORT)
            sums[rows] += _long_sums(memory, index[rows], shift[rows], lengths[rows])


def _runs(offsets: Ints) -> Iterator[tuple[int, int]]:
    """Texts that together have not too many bytes; one at least, however long it is."""
    start, rows = 0, len(offsets) - 1
    while start < rows:
        end = max(int(np.searchsorted(offsets, offsets[start] + _MOST, side="right")) - 1, start + 1)
        yield start, end
        start = end


def _memory(offsets: Ints, data: NDArray[np.uint8]) -> tuple[Words, int]:
    """Words of memory in which every word of the texts lies, and which byte is their first."""
    first, last = int(offsets[0]), int(offsets[-1])
    whole = len(data) & ~7
    beyond = 8 * _SHORT + 8  # what is read after the end of a text, and not used
    if last + beyond <= whole:
        memory, first = data[:whole], 0
    else:
        memory = np.zeros(last - first + beyond + 7 & ~7, np.uint8)
        memory[: last - first] = data[first:last]
    return memory.view("<u8").astype(np.uint64, copy=False), first


def _long_sums(memory: Words, index: Ints, shift: Words, lengths: Ints) -> Words:
    """Of each long text, the sum of its mixed words from `_SHORT` on: all words of all texts in a row."""
    counts = (lengths + 7 >> 3) - _SHORT
    firsts = np.cumsum(counts) - counts
    numbers = np.arange(int(counts.sum())) - np.repeat(firsts - _SHORT, counts)
    at, own = np.repeat(index, counts) + numbers, np.repeat(shift, counts)
    words = memory.take(at) >> own
    words |= memory.take(at + 1) << (np.uint64(64) - own)
    words &= _TAILS.take(np.minimum(np.repeat(lengths, counts) - 8 * numbers, 8))
    return numbered_sums(words, numbers, firsts)


def numbered_sums(words: Words, numbers: Ints, firsts: Ints) -> Words:
    """The sums of words that are mixed with their numbers, in place, from each of `firsts` to the next."""
    words += (numbers.view(np.uint64) + np.uint64(1)) * np.uint64(GOLDEN)
    mix(words)
    sums: Any = np.add.reduceat(words, firsts)
    return sums  # type: ignore[no-any-return]
