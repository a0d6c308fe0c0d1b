"""Leaks of a point-in-time join that was run: of many rows a sample is taken first, and only that is looked at."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from grange.definitions.feature_group import FeatureGroup
from grange.definitions.sources import TableSource
from grange.frames import Rows
from grange.plan.bind import BoundFeature
from grange.plan.history import SPINE_TIME, Sight
from grange.quality.leaks.codes import CODES
from grange.quality.leaks.leak import Leak
from grange.quality.leaks.training import SAMPLE, Joined, Training, check_training
from grange.quality.leaks.uses import Use

if TYPE_CHECKING:
    import polars as pl

TRAINING_CODES: Final = frozenset(code for code in CODES if code.startswith("LEAK-1"))
"""What training data can have: who ignores all of these need not look."""
_SECOND: Final = 1_000_000


@dataclass(frozen=True, slots=True, eq=False)
class History:
    """A point-in-time join of `watched`, and what it was asked.

    Shape:
        `spine`, `seen`, `values` and each of `labels` have one row per spine row, in the spine's order (PIT-1).
    """

    features: Sequence[BoundFeature]
    """What was joined, labels not among them, nor the group that the spine was made of (PIT-8)."""
    sights: Sequence[Sight]
    """Of these features."""
    spine: Rows
    """The keys and times (`SPINE_TIME`, UTC) that the engine was given."""
    seen: Rows
    """The columns of the sights."""
    values: Rows
    """The features, derived ones too, and labels."""
    labels: Sequence[tuple[Rows, str]] = ()
    """Each label's column, and the rows that have it."""
    later: Collection[str] = ()
    """Those of the labels that are values of later moments than the rows' own."""
    naive: bool | None = None
    """Whether the spine's times had no zone; None where that cannot be told."""
    as_known: bool = False
    view: str | None = None
    """The feature view that was asked for, if it was one."""


def check_history(history: History) -> tuple[Leak, ...]:
    """The leaks of a join. As `check_training`.

    Without labels created times are not looked at: what only they could clear is not told of groups that have them.
    """
    if not history.sights and not history.labels:
        return ()  # a spine made of the only group: its rows are its own events, and nothing is predicted
    import polars as pl

    chosen = _sample(len(history.spine))
    labels = [name for _, name in history.labels]
    # without labels nothing is predicted, and nobody looks at values and keys
    values = [name for name in history.values.column_names if name not in labels] if labels else []
    keys = [name for name in history.spine.column_names if name != SPINE_TIME] if labels else []
    times = _frame(history.spine, [SPINE_TIME], chosen).get_column(SPINE_TIME)
    seen = _frame(history.seen, [column for sight in history.sights for column in sight.columns], chosen)
    leaks = check_training(
        Training(
            times=times,
            features=_frame(history.values, values, chosen),
            labels=pl.DataFrame([_frame(rows, [name], chosen).to_series() for rows, name in history.labels]),
            keys=_frame(history.spine, keys, chosen),
            joins=tuple(_joined(history, sight, times, seen) for sight in history.sights),
            naive=history.naive,
            as_known=history.as_known,
            later=frozenset(history.later),
        )
    )
    unclear = set() if labels else {item.group.name for item in history.features if item.layout.created_time}
    cleared = {"LEAK-101", "LEAK-103"} if history.as_known else {"LEAK-103"}
    told = (leak for leak in leaks if leak.group not in unclear or leak.code not in cleared)
    return tuple(replace(leak, view=history.view) for leak in told)


def _joined(history: History, sight: Sight, times: pl.Series, seen: pl.DataFrame) -> Joined:
    features = {item.name: item for item in history.features}
    event = seen.get_column(sight.event)
    return Joined(
        uses=tuple(Use.bound(features[name]) for name in sight.outputs),
        event_time=_event_times(sight, times, event) if sight.windowed else event,
        created_time=None if sight.created is None else seen.get_column(sight.created),
        naive=is_naive_source(features[sight.outputs[0]].group),
    )


def _event_times(sight: Sight, times: pl.Series, seconds: pl.Series) -> pl.Series:
    """The event times that lie so many seconds before the spine's times, or before the last boundaries (WIN-3)."""
    import polars as pl

    moments = times.dt.epoch("us")
    if sight.every is not None:
        moments -= (moments - sight.offset) % sight.every
    return (moments - (seconds * _SECOND).round().cast(pl.Int64)).cast(pl.Datetime("us", "UTC"))


def is_naive_source(group: FeatureGroup) -> bool | None:
    """Whether the event times of a group's source have no zone; None where that cannot be told without reading it, or
    where a transform makes them."""
    source = group.source
    if not isinstance(source, TableSource) or source.event_time is None or group.transform is not None:
        return None
    import narwhals as nw

    frame: Any = nw.from_native(source.frame, eager_only=True, pass_through=True)
    if not isinstance(frame, nw.DataFrame) or source.event_time not in frame.columns:
        return None
    dtype = frame.get_column(source.event_time).dtype
    return dtype.time_zone is None if isinstance(dtype, nw.Datetime) else None


def _sample(count: int) -> pl.Series | None:
    """The rows to look at, always the same ones, ascending: one of each stretch of equal length. None is all."""
    if count <= SAMPLE:
        return None
    import numpy as np
    import polars as pl
    import pyarrow as pa

    edges = np.arange(SAMPLE + 1) * count // SAMPLE
    rows = np.random.default_rng(0).integers(edges[:-1], edges[1:])
    # by way of Arrow: Polars' own loads NumPy's masked arrays first, which takes as long as the check itself
    chosen = pl.from_arrow(pa.Array.from_buffers(pa.int64(), len(rows), [None, pa.py_buffer(rows)]))
    assert isinstance(chosen, pl.Series)
    return chosen


def _frame(rows: Rows, names: Collection[str], chosen: pl.Series | None) -> pl.DataFrame:
    """Some columns of the chosen rows. What is in Arrow is taken there: only that is converted."""
    import polars as pl

    if not names:
        return pl.DataFrame()
    picked = rows.select(names)
    if chosen is None:
        return picked.polars
    if picked.is_polars:
        return picked.polars[chosen]
    return Rows(arrow=picked.arrow.take(chosen.to_arrow())).polars


__all__ = ["TRAINING_CODES", "History", "check_history", "is_naive_source"]
