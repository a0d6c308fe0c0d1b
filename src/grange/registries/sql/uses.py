"""Counters of uses: functions over a connection in a transaction."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import Connection, select

from grange.errors import RequestError
from grange.ports.registry import Use, UseCount
from grange.registries.sql.data import check_text, mark
from grange.registries.sql.database import inserting
from grange.registries.sql.tables import USES
from grange.types.time import EPOCH, to_utc

_WHAT: Final = ("kind", "name", "feature", "verb")


def added(uses: Sequence[Use], now: dt.datetime) -> list[dict[str, Any]]:
    """What a batch adds, a row per counter, always in one order: two batches at once do not wait for each other's.

    Raises:
        RequestError: a use that cannot be counted.
    """
    day = _day(now)
    counts: Counter[tuple[str, str, str, str]] = Counter()
    for use in uses:
        _check(use)
        counts[use.kind, use.name, use.feature, use.verb] += use.count
    return [
        {"mark": mark(*key), "day": day, **dict(zip(_WHAT, key, strict=True)), "count": count}
        for key, count in sorted(counts.items())
        if count
    ]


def count_uses(connection: Connection, rows: Sequence[dict[str, Any]]) -> None:
    """Add rows that were `added` up; at least one."""
    statement = inserting(connection, USES)
    total = USES.c.count + statement.excluded.count
    connection.execute(
        statement.on_conflict_do_update(index_elements=[USES.c.mark, USES.c.day], set_={"count": total}), list(rows)
    )


def uses(connection: Connection, name: str | None, since: dt.date | None) -> tuple[UseCount, ...]:
    """As `Registry.uses`."""
    columns = USES.c
    every = (columns.kind, columns.name, columns.feature, columns.verb, columns.day, columns.count)
    query = select(*every).order_by(columns.day, columns.kind, columns.name, columns.feature, columns.verb)
    if name is not None:
        query = query.where(columns.name == check_text(name, "the name of what is used"))
    if since is not None:
        query = query.where(columns.day >= _day(since))
    return tuple(
        UseCount(kind, name, feature, verb, EPOCH.date() + dt.timedelta(day), count)
        for kind, name, feature, verb, day, count in connection.execute(query)
    )


def _day(moment: dt.date) -> int:
    """Days since 1970-01-01 UTC."""
    return (to_utc(moment) - EPOCH).days


def _check(use: Use) -> None:
    check_text(use.kind, "the kind of what is used")
    check_text(use.name, "the name of what is used")
    check_text(use.feature, "the feature of what is used", shortest=0, longest=None)
    check_text(use.verb, "the verb of a use")
    if use.count < 0:
        raise RequestError(f"a use counts up, got {use.count}", found=repr(use))
