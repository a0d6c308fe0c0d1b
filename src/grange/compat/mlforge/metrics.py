"""Windowed metrics as mlforge declares them: Grange's `Rolling` with other argument names."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence

from grange.definitions import aggregations
from grange.types.aggregates import Closed

Duration = str | dt.timedelta


class Rolling(aggregations.Rolling):
    """Functions of the events in sliding windows: `amount__sum__7d` and so on (WIN-5).

    >>> Rolling(windows=["7d"], aggregations={"amount": ["sum"]}).closed
    'both'

    Args:
        windows: lengths such as `"7d"`; calendar months and years are refused (TIME-2).
        aggregations: by column, one function or several: `{"amount": ["sum", "mean"]}`.
        closed: which ends of a window belong to it. `both` is `RANGE BETWEEN w PRECEDING AND CURRENT ROW`: `[t-w, t]`;
            `left` leaves out the event at `t` itself (WIN-1).

    Raises:
        DefinitionError: an unknown function, with the closest; nothing named.
        DurationError: a length that is none.
    """

    __slots__ = ()

    def __init__(
        self,
        windows: Duration | Sequence[Duration],
        aggregations: Mapping[str, str | Sequence[str]],
        closed: Closed = "both",
    ) -> None:
        super().__init__(aggregations, windows, closed=closed)


MetricKind = Rolling
"""What a feature's `metrics` are."""

__all__ = ["MetricKind", "Rolling"]
