"""Where the rows of a split go, as data: what definitions say and the kernel does. Nothing here is computed.

Shares are those of the parts in their order; each is above zero, and they sum to one.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class HashCut:
    """Each row by its hash alone, so that no other row has a say in where it goes."""

    shares: tuple[float, ...]
    seed: int
    mixed: bool = False
    """Mix the hash once more first, so that a part which was itself cut by the hash is cut evenly."""


@dataclass(frozen=True, slots=True)
class StrataCut:
    """The rows of each stratum in the order of their hash, cut at the shares."""

    shares: tuple[float, ...]
    seed: int


@dataclass(frozen=True, slots=True)
class TimeCut:
    """Rows in order of time, cut at the shares; rows of one time stay together."""

    shares: tuple[float, ...]
    gap: int = 0
    """Microseconds before the start of each later part in which the part before it has no rows."""


@dataclass(frozen=True, slots=True)
class MomentCut:
    """Rows by time, cut at given moments."""

    starts: tuple[int, ...]
    """Of each part but the first, in microseconds since 1970-01-01 UTC, ascending."""
    end: int | None = None
    """The last part ends before this moment; None is never."""
    gap: int = 0
    """As of `TimeCut`."""


Cut = HashCut | StrataCut | TimeCut | MomentCut
