"""Poison: pushed events that are no events. They are set aside with a reason, and the rest goes on.

Of groups with aggregations only: a lost event makes one window wrong by one event, a refused push makes all of them
wrong by all its events. Of other groups a row stands for itself, and whoever pushes it is told.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from grange.definitions.feature_group import FeatureGroup
from grange.errors import ColumnTypeError, GrangeError, TransformError
from grange.frames import Rows
from grange.types import DataType, Schema
from grange.types.schema import Column
from grange.types.time import from_micros, isoformat, to_micros

if TYPE_CHECKING:
    import polars as pl

FAR_FUTURE: Final = dt.timedelta(days=1)
"""An event dated further ahead than this is a broken clock, or a wrong unit, not an event to come."""
REASONS: Final = "__reasons"
RAW: Final = "__raw"
"""The column of quarantined rows that no type fits, as JSON."""
MOST: Final = 256
"""So often rows are typed in search of misfits, before the types are held to be wrong, and not the events."""

_MISFITS: Final = (ColumnTypeError, TransformError)
Typed = Callable[[Rows], Rows]
"""From raw rows to a group's typed rows."""


@dataclass(frozen=True, slots=True)
class Screened:
    """Pushed rows, sorted out."""

    rows: Rows
    """Typed events that go on."""
    poison: tuple[Rows, ...] = ()
    """Those that do not, with `__reasons`; raw ones as text."""

    @property
    def count(self) -> int:
        """How many do not."""
        return sum(map(len, self.poison))


def screen(group: FeatureGroup, raw: Rows, typed: Typed, *, now: dt.datetime) -> Screened:
    """Set aside rows of a wrong type, without entity key or event time, or dated far in the future.

    Raises:
        ColumnTypeError, TransformError: no row at all fits, or the misfits cannot be told from the others in `MOST`
            runs of the transform: then the types are wrong.
        SchemaError: a column is missing.
    """
    try:
        rows, misfits = typed(raw), None
    except _MISFITS as error:
        places = _misfits(group, raw, typed)
        if not places or len(places) == len(raw):
            raise
        kept = sorted(set(range(len(raw))) - places.keys())
        rows, misfits = typed(_take(raw, kept)), _aside(raw, places)
        del error
    frame = rows.polars
    found = _reasons(group, frame, now)
    poison = [] if misfits is None else [misfits]
    if found is not None:
        bad = frame.filter(found.list.len() > 0).with_columns(found.filter(found.list.len() > 0).alias(REASONS))
        poison.append(Rows(polars=bad))
        rows = Rows(polars=frame.filter(found.list.len() == 0))
    return Screened(rows, tuple(poison))


def readable(rows: Any, schema: Schema, *, what: str) -> tuple[Rows, Rows | None]:
    """Pushed rows as a table, and those set aside because a value in them is of another kind than its column's.

    A list of dicts may hold values of several kinds in one column, which no table can. `schema` is what is known of the
    columns' types.

    Raises:
        what `Rows.of` raises: nothing could be set aside, or nothing is left.
    """
    try:
        return Rows.of(rows, what=what), None
    except GrangeError:
        if not _is_listed(rows) or not schema:
            raise
        places = {place: reason for place, row in enumerate(rows) if (reason := _misfit(row, schema)) is not None}
        if not places or len(places) == len(rows):
            raise
        good = [row for place, row in enumerate(rows) if place not in places]
        bad = [{RAW: _as_text(rows[place]), REASONS: [reason]} for place, reason in places.items()]
        return Rows.of(good, what=what), Rows.of(bad, what=what)


def _is_listed(rows: Any) -> bool:
    return isinstance(rows, Sequence) and all(isinstance(row, Mapping) for row in rows)


def _misfit(row: Mapping[str, Any], schema: Schema) -> str | None:
    """Why a row does not fit the declared columns; None when it does."""
    import pyarrow as pa

    from grange.types.arrow import conform_column

    for column in schema:
        value = row.get(column.name)
        if value is None:
            continue
        try:
            single = pa.chunked_array([pa.array([value])])
            conform_column(single, Column(column.name, column.dtype), what="a pushed row")
        except (pa.ArrowException, ColumnTypeError, OverflowError, TypeError):
            return _wrong_type(column.name, column.dtype, value)
    return None


def _wrong_type(name: str, dtype: DataType, value: object) -> str:
    return f"wrong type: {name!r} is {dtype}, and the event has {value!r} ({type(value).__name__})"


def _misfits(group: FeatureGroup, raw: Rows, typed: Typed) -> dict[int, str]:
    """The rows that do not fit even alone, with what was said of each; none when they cannot be told in time."""
    if group.transform is None:
        said = ((place, _misfit(row, group.schema)) for place, row in enumerate(raw.arrow.to_pylist()))
        return {place: reason for place, reason in said if reason is not None}
    found: dict[int, str] = {}
    pending, runs = [(0, len(raw))], 0
    while pending:
        start, count = pending.pop()
        runs += 1
        if runs > MOST:
            return {}
        try:
            typed(_take(raw, range(start, start + count)))
        except _MISFITS as error:
            if count == 1:
                found[start] = f"wrong type: {error.message}" + (f"; {error.found}" if error.found else "")
            else:
                half = count // 2
                pending += [(start, half), (start + half, count - half)]
    return found


def _take(raw: Rows, places: Sequence[int]) -> Rows:
    if isinstance(places, range):
        return Rows(arrow=raw.arrow.slice(places.start, len(places)))
    return Rows(arrow=raw.arrow.take(list(places)))


def _aside(raw: Rows, places: Mapping[int, str]) -> Rows:
    """Raw rows that fit no type, as text."""
    chosen = sorted(places)
    rows = _take(raw, chosen).arrow.to_pylist()
    return Rows.of(
        [{RAW: _as_text(row), REASONS: [places[place]]} for place, row in zip(chosen, rows, strict=True)],
        what="rows in quarantine",
    )


def _as_text(row: Mapping[str, Any]) -> str:
    return json.dumps(dict(row), default=str, ensure_ascii=False)


def _reasons(group: FeatureGroup, frame: pl.DataFrame, now: dt.datetime) -> pl.Series | None:
    """By row, why it is no event; None when all are."""
    import polars as pl

    moment = pl.col(group.event_time)
    ahead = f"more than {FAR_FUTURE.days} day ahead of {isoformat(from_micros(to_micros(now)))}"
    checks = [(pl.col(key).is_null(), f"no {key!r}: without its entity key it is nobody's") for key in group.join_keys]
    checks += [
        (moment.is_null(), f"no {group.event_time!r}: without its time it is in no window"),
        (moment.dt.epoch("us") > to_micros(now + FAR_FUTURE), f"{group.event_time!r} lies {ahead}"),
    ]
    flags = frame.select(test.fill_null(value=False).alias(str(place)) for place, (test, _) in enumerate(checks))
    if not any(flags.select(pl.all().any()).row(0)):
        return None
    said = [reason for _, reason in checks]
    return pl.Series(
        REASONS,
        [[reason for reason, bad in zip(said, row, strict=True) if bad] for row in flags.iter_rows()],
        pl.List(pl.String),
    )


__all__ = ["FAR_FUTURE", "Screened", "readable", "screen"]
