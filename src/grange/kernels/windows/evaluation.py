"""Windowed features as of a spine: entity keys in parts, questions in blocks, ranges shared by what asks for them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa

from grange.kernels.arrays import Mask
from grange.kernels.asof import Spine
from grange.kernels.calendar import evaluate_calendar
from grange.kernels.windows.answers import Answer, Sink, Validity, patch
from grange.kernels.windows.events import Events
from grange.kernels.windows.functions import answer, is_number, least_values, takes_runs
from grange.kernels.windows.reach import Ask
from grange.kernels.windows.selection import Table
from grange.kernels.windows.track import Questions, Track
from grange.types.aggregates import Aggregate

_PART: Final = 1 << 16
"""Events that are looked at together: those of whole entity keys, so a key with more has a part of its own."""
_MOST: Final = 4
"""Times so many of them, where few questions are asked about each event."""
_BLOCK: Final = 1 << 16
"""Questions that are answered together: few enough that what is computed for them stays near the processor."""
_THREADS: Final = min(2, os.cpu_count() or 1)


def evaluate(
    spine: Spine,
    events: Events,
    aggregates: Sequence[Aggregate],
    values: Mapping[str, pa.Array | pa.ChunkedArray],
    masks: Mapping[str, Mask],
    *,
    ttl: int | None,
    exact_matches: bool,
    as_known: bool,
) -> dict[str, pa.Array]:
    """The values of windowed features at the times of a spine (WIN-1 to WIN-6, LAG-1, PIT-2, PIT-3, PIT-5).

    Args:
        spine: the keys and times asked for.
        events: of the same entity keys: their codes come from the index of the spine.
        aggregates: what to compute, under different names.
        values: the columns that the aggregates name, row by row of the events' table.
        masks: for every filter of the aggregates, which of those rows match it.
        ttl: microseconds; an event older than this is not visible. None is forever. Both ends are inside. For a lag,
            events at most this much older than the lagged time are visible.
        exact_matches: whether events at the moment itself are visible.
        as_known: whether events are those that were known at the moment, in the version known then.

    Returns:
        By name of the aggregate, one array in the canonical type of its dtype.

    Shape:
        One element per spine row, in the spine's own order (PIT-1). Without a time, null. Without a key, or with one
        that has no events, what an empty window gives: counts are 0, all else null (WIN-4).

    Raises:
        ColumnTypeError: a sum or range of integers does not fit into 64 bits.
        MissingDependencyError: a sketch or a calendar of holidays needs a package that is not installed.
    """
    timed = Validity.of(spine.instants.valid, spine.instants.count)
    windowed = [each for each in aggregates if each.function.about.tally != "time"]
    jobs: dict[Ask, list[Aggregate]] = {}
    for each in windowed:
        jobs.setdefault(Ask.of(each, ttl=ttl, exact_matches=exact_matches), []).append(each)
    table = Table(values)
    work = _shares(spine, events) if jobs else []
    everywhere = sum(share.asked.stop - share.asked.start for share in work) == len(timed)
    sinks = _sinks(jobs, table, timed, everywhere=everywhere)

    def run(share: _Share) -> None:
        _answer_share(share, spine, events, table, masks, jobs, sinks, as_known=as_known)

    if len(work) > 1 and _THREADS > 1:
        with ThreadPoolExecutor(_THREADS) as pool:
            list(pool.map(run, work))
    else:
        for share in work:
            run(share)
    columns = {}
    for each in aggregates:
        if each.function.about.tally == "time":
            columns[each.name] = _of_the_moment(each, spine)
        else:
            columns[each.name] = sinks.pop(each.name).column(values[each.column] if each.columns else None)
    return columns


@dataclass(frozen=True, slots=True)
class _Share:
    """The positions of the events of some entity keys, and those in the spine that ask for these keys."""

    events: slice
    asked: slice


def _shares(spine: Spine, events: Events) -> list[_Share]:
    # as many events as a block of questions is about
    size = min(max(_BLOCK * len(events) // max(len(spine.codes), 1), _PART), _MOST * _PART)
    shares, start = [], 0
    while start < len(events):
        stop = min(start + size, len(events))
        if stop < len(events):
            code = events.code_at(stop)
            border = events.begin(code)
            stop = border if border > start else events.begin(code + 1)
        asked = np.searchsorted(spine.codes, [events.code_at(start), events.code_at(stop - 1) + 1])
        if asked[0] < asked[1]:
            shares.append(_Share(slice(start, stop), slice(int(asked[0]), int(asked[1]))))
        start = stop
    return shares


def _sinks(
    jobs: Mapping[Ask, Sequence[Aggregate]], table: Table, timed: Validity, *, everywhere: bool
) -> dict[str, Sink]:
    """Numbers that are null for the same windows share one mask, which the first of them writes."""
    sinks: dict[str, Sink] = {}
    shared: dict[object, Validity] = {}
    for ask, aggregates in jobs.items():
        for each in aggregates:
            least = least_values(each.function.name)
            key = ask, each.columns, least, is_number(each, table)
            if least == 0:
                sinks[each.name] = Sink(each, timed, shared=True, everywhere=everywhere)
            elif key in shared:
                sinks[each.name] = Sink(each, shared[key], shared=True, everywhere=everywhere)
            else:
                shared[key] = Validity(len(timed), everywhere=everywhere)
                sinks[each.name] = Sink(each, shared[key], shared=False, everywhere=everywhere)
    return sinks


def _answer_share(
    share: _Share,
    spine: Spine,
    events: Events,
    table: Table,
    masks: Mapping[str, Mask],
    jobs: Mapping[Ask, Sequence[Aggregate]],
    sinks: Mapping[str, Sink],
    *,
    as_known: bool,
) -> None:
    filters = {ask.filter: None for ask in jobs}
    part = events.part(share.events)
    tracks = {each: Track(table, part, None if each is None else masks[each], as_known=as_known) for each in filters}
    for start in range(share.asked.start, share.asked.stop, _BLOCK):
        block = slice(start, min(start + _BLOCK, share.asked.stop))
        rows = spine.rows(block)
        questions = Questions(spine.codes[block], spine.times(block))
        for ask, aggregates in jobs.items():
            for name, found in _answers(tracks[ask.filter], questions, ask, aggregates).items():
                sinks[name].put(rows, found)


def _answers(track: Track, questions: Questions, ask: Ask, aggregates: Sequence[Aggregate]) -> dict[str, Answer]:
    answers: dict[str, Answer] = {}
    moments = questions.moments(ask)
    for runs in (True, False):
        able = [each for each in aggregates if takes_runs(each.function.name) == runs]
        for windows in track.windows(questions, ask, runs=runs) if able else ():
            asked = windows.asked
            for each in able:
                as_of = moments if asked is None else moments[asked]
                found = answer(each, windows.selection, windows.spans, as_of)
                answers[each.name] = found if asked is None else patch(answers[each.name], asked, found)
    return {each.name: answers[each.name] for each in aggregates}


def _of_the_moment(aggregate: Aggregate, spine: Spine) -> pa.Array:
    ask = Ask.of(aggregate, ttl=None, exact_matches=True)
    given, timed = spine.instants.given, spine.instants.valid
    moments = ask.moments(given if timed is None else np.where(timed, given, 0))
    return evaluate_calendar(aggregate.function, moments, None if timed is None or timed.all() else timed)
