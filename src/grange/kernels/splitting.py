"""Which part of a split each row falls into."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, assert_never

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from grange.errors import MissingColumnError
from grange.kernels.arrays import Ints, Mask, integers, micros
from grange.kernels.mixing import Words, mix
from grange.kernels.partitioning import partition
from grange.kernels.row_hash import Values, row_hash
from grange.types.cuts import Cut, HashCut, MomentCut, StrataCut, TimeCut

__all__ = ["LEFT_OUT", "Parts", "assign", "partition", "row_hash", "time_starts"]

Parts = NDArray[np.int16]
"""A part's number per row, from 0; `LEFT_OUT` for rows in none."""

LEFT_OUT: Final = -1
_LOWEST: Final = int(np.iinfo(np.int64).min)


def assign(
    cut: Cut, *, identity: Sequence[Values], by: Sequence[Values] = (), event_time: Values | None = None
) -> Parts:
    """The part of each row.

    By hash: a part's share is that of all hashes, in order from 0. It ends at its share, added to those before it,
    times 2**64, rounded down; the last has the rest.

    Args:
        cut: `split.cut`.
        identity: what tells rows apart: entity key columns and event time, in this order.
        by: the columns of `split.by`, in this order.
        event_time: times or dates; of splits in time.

    Shape:
        int16, one per row, `LEFT_OUT` for rows in no part. Shuffled rows get the same parts.

    Raises:
        MissingColumnError: the cut needs an event time or columns that are not there.
        KeyTypeError, ColumnTypeError: see `row_hash`.
    """
    match cut:
        case HashCut():
            hashes = row_hash(by or identity, cut.seed)
            if cut.mixed:
                mix(hashes)
            return _by_hash(hashes, cut.shares)
        case StrataCut():
            if not by:
                raise MissingColumnError("a stratified split needs the columns whose values it spreads")
            return _by_strata(row_hash(identity, cut.seed), _strata(by), cut.shares)
        case TimeCut() | MomentCut():
            moments, valid = _times(event_time)
            parts = _by_time(moments, _starts(cut, moments, valid), cut.gap)
            if isinstance(cut, MomentCut) and cut.end is not None:
                parts[moments >= cut.end] = LEFT_OUT
            if valid is not None:
                parts[~valid] = LEFT_OUT
            return parts
        case _:
            assert_never(cut)


def _by_hash(hashes: Words, shares: Sequence[float]) -> Parts:
    limits = [int(end * 2.0**64) for end in _ends(shares)]
    return _count_reached(hashes, np.array(limits, np.uint64))


def _ends(shares: Sequence[float]) -> list[float]:
    """Where each part but the last ends, between 0 and 1: shares added up one after the other."""
    ends, end = [], 0.0
    for share in shares[:-1]:
        end += share
        ends.append(min(end, 1 - 2.0**-53))
    return ends


def _count_reached(values: NDArray[Any], limits: NDArray[Any]) -> Parts:
    """How many of the ascending limits each value has reached."""
    if len(limits) > 8:
        return np.searchsorted(limits, values, side="right").astype(np.int16)
    parts = np.zeros(len(values), np.int16)
    for limit in limits:
        parts += values >= limit
    return parts


def _strata(by: Sequence[Values]) -> Ints:
    """The stratum of each row, numbered from 0 in any order; rows that agree in all columns, nulls too, share one."""
    hashes = row_hash(by)
    words = pa.Array.from_buffers(pa.uint64(), len(hashes), [None, pa.py_buffer(hashes)])
    numbers, _ = integers(pc.dictionary_encode(words).indices)
    return numbers


def _by_strata(hashes: Words, strata: Ints, shares: Sequence[float]) -> Parts:
    """Ranks within each stratum by hash, cut where its size says; equal rows have the rank of the first of them."""
    counts = np.bincount(strata)
    order = np.argsort(hashes)
    order = order[np.argsort(strata[order].astype(np.min_scalar_type(len(counts))), kind="stable")]
    stratum, ordered = strata[order], hashes[order]
    firsts = np.cumsum(counts) - counts
    rows = np.arange(len(order))
    repeats = np.zeros(len(order), np.bool_)
    repeats[1:] = (ordered[1:] == ordered[:-1]) & (stratum[1:] == stratum[:-1])
    ranks = np.maximum.accumulate(np.where(repeats, 0, rows)) - firsts[stratum]
    cut = np.zeros(len(order), np.int16)
    for end in _ends(shares):
        cut += ranks >= np.floor(counts * end + 0.5)[stratum]
    parts = np.empty_like(cut)
    parts[order] = cut
    return parts


def time_starts(cut: TimeCut | MomentCut, event_time: Values) -> tuple[int | None, ...]:
    """When each part but the first starts, in microseconds since 1970-01-01 UTC; None for one that no row reaches.

    By shares a part starts at the time of a row: of the row at the end of the shares before it, or of the next later
    time where that is nearer to these shares, as rows of one time stay together.
    """
    return _starts(cut, *_times(event_time))


def _times(event_time: Values | None) -> tuple[Ints, Mask | None]:
    if event_time is None:
        raise MissingColumnError("a split by time needs an event time", try_="name it: event_time=...")
    return micros(event_time)


def _starts(cut: TimeCut | MomentCut, moments: Ints, valid: Mask | None) -> tuple[int | None, ...]:
    if isinstance(cut, MomentCut):
        return cut.starts
    known = moments if valid is None else moments[valid]
    if not len(known):
        return (None,) * (len(cut.shares) - 1)
    places = [int(len(known) * end + 0.5) for end in _ends(cut.shares)]
    inside = [place for place in places if place < len(known)]
    if not bool((known[1:] >= known[:-1]).all()):
        known = np.partition(known, inside) if inside else known
    return tuple(_start(known, place) for place in places)


def _start(moments: Ints, place: int) -> int | None:
    """The time that parts the rows nearest to a place among them; whoever is at the place is in its order."""
    if place >= len(moments):
        return None
    at = int(moments[place])
    before = int(np.count_nonzero(moments < at))
    after = before + int(np.count_nonzero(moments == at))
    if place - before <= after - place:
        return at
    return int(moments[moments > at].min()) if after < len(moments) else None


def _by_time(moments: Ints, starts: Sequence[int | None], gap: int) -> Parts:
    reached = [start for start in starts if start is not None]
    parts = _count_reached(moments, np.array(reached, np.int64))
    if gap:
        for start in reached:
            parts[(moments >= max(start - gap, _LOWEST)) & (moments < start)] = LEFT_OUT
    return parts
