"""Leaks that joined rows give away."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from grange.quality.leaks.leak import Leak
from grange.quality.leaks.uses import Use

if TYPE_CHECKING:
    import polars as pl

SAMPLE: Final = 100_000
"""How many rows are looked at, at most."""


@dataclass(frozen=True, slots=True, eq=False)
class Joined:
    """What the rows of a spine saw of one feature group.

    Shape:
        One element per spine row, in the spine's order.
    Time:
        Event and created times are those of the newest row of the group that is visible at the spine row's time
        (PIT-2, PIT-3), for windowed features the newest visible event. Dates or datetimes of any unit; without a zone
        they are UTC.
    """

    uses: tuple[Use, ...]
    """The features that were joined, all of one group in one way; at least one."""
    event_time: pl.Series
    """Null where nothing was visible."""
    created_time: pl.Series | None = None
    """Null where the created time is; None for a group without created times."""
    naive: bool | None = None
    """Whether the source's event times have no zone; None is not known."""

    @property
    def group(self) -> str:
        """The feature group's name."""
        return self.uses[0].group


@dataclass(frozen=True, slots=True, eq=False)
class Training:
    """The result of a point-in-time join, as the leak check looks at it.

    Shape:
        Everything has one element per spine row, in the spine's order (PIT-1).
    """

    times: pl.Series
    """The spine's times: dates or datetimes of any unit; without a zone they are UTC. Null matched nothing (TIME-1)."""
    features: pl.DataFrame
    """The feature columns, labels not among them."""
    labels: pl.DataFrame
    """The label columns, from the spine or joined; none of them where there are no labels."""
    keys: pl.DataFrame
    """The spine's entity keys: columns that together say whom a row is of."""
    joins: tuple[Joined, ...] = ()
    """What was seen of each group. Without the group that the spine itself was made of (PIT-8): there every row is an
    event of the group by construction."""
    naive: bool | None = False
    """Whether the spine's time column, as it was given, has no time zone; None is not known."""
    as_known: bool = False
    """Whether rows created after the spine's time were invisible (PIT-5)."""
    later: frozenset[str] = frozenset()
    """The labels that are values of later moments: to see the own event of a row's time tells nothing of them."""


def is_naive(dtype: object) -> bool:
    """Whether a Polars type is of times without a zone. Dates are none: what they lack is the time of day."""
    import polars as pl

    return isinstance(dtype, pl.Datetime) and dtype.time_zone is None


def check_training(training: Training) -> tuple[Leak, ...]:
    """The leaks of training data: LEAK-101 to LEAK-105, in that order.

    Of more than `SAMPLE` rows that many are looked at, always the same ones; the counts of a leak are of those. Fewer
    than 10 rows tell nothing of times, fewer than 50 nothing of labels.
    """
    import numpy as np

    from grange.quality.leaks.prediction import check_prediction
    from grange.quality.leaks.visible import check_visible, in_micros, seen

    # in random order, so that nothing follows from the order in which the spine came
    rows = np.random.default_rng(0).permutation(len(training.times))[:SAMPLE]

    def chosen(series: pl.Series) -> pl.Series:
        return series if len(series) == len(rows) else series.gather(rows)  # times tell the same in any order

    clock = in_micros(chosen(training.times))
    looked_at = [
        seen(
            clock,
            replace(
                joined,
                event_time=chosen(joined.event_time),
                created_time=None if joined.created_time is None else chosen(joined.created_time),
            ),
        )
        for joined in training.joins
    ]
    found = list(
        check_visible(
            looked_at,
            clock,
            labels=[name for name in training.labels.columns if name not in training.later],
            naive=training.naive,
            as_known=training.as_known,
        )
    )
    groups = {use.name: use.group for joined in training.joins for use in joined.uses}
    found += check_prediction(training, rows, groups)
    return tuple(sorted(found, key=lambda leak: leak.code))


__all__ = ["SAMPLE", "Joined", "Training", "check_training", "is_naive"]
