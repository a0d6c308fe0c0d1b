"""Spines: the rows asked for, as they were given or made, and as engines see them."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from grange.definitions.sources import FileSource
from grange.errors import ColumnTypeError, KeyTypeError, MissingColumnError, RequestError, closest_names
from grange.frames import Rows
from grange.plan.bind import key_columns
from grange.plan.bound import BoundSelection
from grange.plan.history import SPINE_TIME, plan_spine, spine_column, spine_time
from grange.plan.nodes import Concat, EntityTimes, Input, Node
from grange.ports.engine import Engine
from grange.transforming import query_sql
from grange.types import DataType, Schema
from grange.types.names import EVENT_TIME
from grange.types.schema import Column
from grange.verbs.parts import Parts

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

_TIME_NAMES = ("event_time", "event_timestamp", "timestamp")
_NULLABLE = {
    **{f"{kind}int{bits}": f"{kind.upper()}Int{bits}" for kind in ("", "u") for bits in (8, 16, 32, 64)},
    "bool": "boolean",
}
"""By NumPy type, the pandas type that has nulls."""


class Spine:
    """The rows asked for, as they were given.

    A pandas frame is converted column by column as columns are needed: one that the features do not look at may
    hold anything, and comes back as it is.
    """

    __slots__ = ("_rows", "native")

    def __init__(self, native: Any) -> None:
        self.native = native
        """What the caller gave."""
        self._rows = None if _is_pandas(native) else Rows.of(native, what="the spine")

    @property
    def column_names(self) -> list[str]:
        """The columns, in order."""
        return [str(name) for name in self.native.columns] if self._rows is None else self._rows.column_names

    def __len__(self) -> int:
        return len(self.native) if self._rows is None else len(self._rows)

    @property
    def rows(self) -> Rows:
        """All columns.

        Raises:
            ColumnTypeError: a pandas column whose values have no one type.
        """
        if self._rows is None:
            self._rows = Rows.of(self.native, what="the spine")
        return self._rows

    def take(self, names: Iterable[str]) -> Rows:
        """Some of the columns. Those of an empty pandas frame have no type, as pandas gives them one that says nothing.

        Raises:
            ColumnTypeError: a pandas column whose values have no one type.
            RequestError: two columns have one of the names.
        """
        wanted = list(names)
        if self._rows is not None:
            return self._rows.select(wanted)
        there = self.column_names
        chosen = self.native.iloc[:, [place for name in wanted for place, own in enumerate(there) if own == name]]
        rows = Rows.of(chosen, what="the spine")
        if len(chosen):
            return rows
        import pyarrow as pa

        kinds = dict(zip(wanted, (dtype.kind for dtype in chosen.dtypes), strict=True))
        return Rows(arrow=pa.table({n: pa.nulls(0) if kinds[n] in "fO" else rows.arrow.column(n) for n in wanted}))

    def times(self) -> list[str]:
        """The columns that hold times, by their type."""
        if self._rows is None:
            infer = sys.modules["pandas"].api.types.infer_dtype
            columns = [(name, self.native.iloc[:, place]) for place, name in enumerate(self.column_names)]
            return [name for name, column in columns if column.dtype.kind == "M" or infer(column) == "datetime"]
        if self._rows.is_polars:
            import polars as pl

            return [name for name, dtype in self._rows.polars.schema.items() if isinstance(dtype, pl.Datetime)]
        import pyarrow as pa

        return [field.name for field in self._rows.arrow.schema if pa.types.is_timestamp(field.type)]

    def where(self, mask: NDArray[np.bool_]) -> Spine:
        """The rows for which a mask is true, in their order; a pandas frame keeps their index."""
        if self._rows is None:
            return Spine(self.native[mask])
        return Spine(rows_where(self._rows, mask))

    def without_values(self, name: str, mask: NDArray[np.bool_]) -> Spine:
        """With a column that is null where a mask is true. Integers stay integers (PIT-7)."""
        if self._rows is not None:
            return Spine(without_values(self._rows, name, mask))
        frame = self.native.copy(deep=False)
        place = self.column_names.index(name)
        values = frame.iloc[:, place]
        nullable = _NULLABLE.get(values.dtype.name)
        frame.isetitem(place, (values if nullable is None else values.astype(nullable)).mask(mask))
        return Spine(frame)


def rows_where(rows: Rows, mask: NDArray[np.bool_]) -> Rows:
    """The rows for which a mask is true, in their order."""
    if rows.is_polars:
        return Rows(polars=rows.polars.filter(mask))
    import pyarrow as pa

    return Rows(arrow=rows.arrow.filter(pa.array(mask)))


def without_values(rows: Rows, name: str, mask: NDArray[np.bool_]) -> Rows:
    """Rows with a column that is null where a mask is true."""
    if rows.is_polars:
        import polars as pl

        kept = pl.when(~pl.lit(pl.Series(mask))).then(pl.col(name)).alias(name)
        return Rows(polars=rows.polars.with_columns(kept))
    import numpy as np
    import pyarrow as pa

    table = rows.arrow
    place = table.column_names.index(name)
    kept = table.column(place).take(pa.array(np.arange(len(mask)), mask=mask))
    return Rows(arrow=table.set_column(place, table.schema.field(place).with_nullable(True), kept))


def _is_pandas(frame: Any) -> bool:
    """Whether a frame is of pandas, which is not loaded for this."""
    pandas = sys.modules.get("pandas")
    return pandas is not None and isinstance(frame, pandas.DataFrame)


def made_spine(
    engine: Engine,
    asked_by: str,
    selections: Sequence[BoundSelection],
    needed: Mapping[str, str],
    rows: Mapping[tuple[str, str | None], Node],
    *,
    start: int | None,
    end: int | None,
) -> tuple[Spine, str]:
    """The spine of the first group's entity keys and event times (PIT-8), or of those that joins say, under the
    columns that it is joined on; and its time column.

    Args:
        engine: what makes it.
        asked_by: what asks, for messages.
        selections: what is taken of groups, in order.
        needed: columns that it must have, and why.
        rows: by (group, pinned version or None), its stored rows.
        start: inclusive, microseconds UTC; None is open.
        end: exclusive.

    Raises:
        RequestError: such rows are not enough to join everything on.
    """
    sources = spine_sources(selections)
    first, columns = sources[0], _made_columns(sources[0])
    for source in sources:
        name = source.group.name
        if source.layout.event_time == EVENT_TIME:
            raise RequestError(
                f"a spine is needed: feature group {name!r} has no event times to make one of", asked_by=asked_by
            )
        others = _made_columns(source)[:-1]
        if set(others) != set(columns[:-1]):
            raise RequestError(
                f"a spine is needed: one made of feature groups {first.group.name!r} and {name!r} has no columns that "
                "both have",
                asked_by=asked_by,
                found=f"{', '.join(columns[:-1])} and {', '.join(others)}",
                try_=f"gr.select({name!r}, on={{...}}, join='full') with the key columns of {first.group.name!r}",
            )
    lacking = [column for column in needed if column not in columns]
    if lacking or len(set(columns)) < len(columns):
        why = f"{needed[lacking[0]]} {lacking[0]!r}" if lacking else "two of its columns would have one name"
        raise RequestError(
            f"a spine is needed: one made of feature group {first.group.name!r} is not enough, as {why}",
            asked_by=asked_by,
            found=f"a made spine has {', '.join(columns)}",
            details={"lacking": lacking},
        )
    time = columns[-1]
    parts: dict[str, Rows] = {}
    for number, source in enumerate(sources):
        plan = plan_spine(source.layout, rows[source.group.name, source.selection.version], start=start, end=end)
        part = _renamed(engine.run(plan.root, {}), [*_made_columns(source)[:-1], time])
        parts[f"part {number}"] = part.select(columns)
    if len(parts) == 1:
        return Spine(parts["part 0"]), time
    both = EntityTimes(Concat(tuple(Input(name) for name in parts)), tuple(columns[:-1]), time, None, None)
    return Spine(engine.run(both, parts)), time


def spine_sources(selections: Sequence[BoundSelection]) -> tuple[BoundSelection, ...]:
    """The groups whose entity keys and event times make a spine: the first one's, unless joins say otherwise."""
    chosen = {selections[0].row: selections[0]}
    for selection in selections[1:]:
        match selection.selection.join:
            case "right":
                chosen = {selection.row: selection}
            case "full":
                chosen.setdefault(selection.row, selection)
            case _:
                pass
    return tuple(chosen.values())


def _made_columns(source: BoundSelection) -> list[str]:
    """The columns of a spine made of a group: those that its key is joined on, then its event time."""
    return [*(column for column, _ in source.keys), source.layout.event_time]


def _renamed(rows: Rows, names: Sequence[str]) -> Rows:
    if rows.is_polars:
        return Rows(polars=rows.polars.rename(dict(zip(rows.column_names, names, strict=True))))
    return Rows(arrow=rows.arrow.rename_columns(list(names)))


def given_spine(
    parts: Parts, spine: Any, event_time: str | None, selections: Iterable[BoundSelection] = ()
) -> tuple[Spine, str]:
    """The spine that the caller gave, and its time column.

    Args:
        parts: the opened store.
        spine: a frame; or a file, or a SQL query.
        event_time: the time column, where it was said.
        selections: what is joined: a file that carries no types is read with those of its join keys.

    Raises:
        MissingColumnError: no such time column, or none that could be it.
    """
    native = _read_spine(parts, spine, key_columns(selections)) if isinstance(spine, str | os.PathLike) else spine
    rows = Spine(native)
    return rows, _time_column(rows, event_time)


def _read_spine(parts: Parts, spine: str | os.PathLike[str], keys: Mapping[str, Mapping[str, DataType]]) -> Rows:
    """A spine in a file, or the rows of a SQL query (DuckDB's dialect; files relative to the project)."""
    if is_query(spine):
        return query_sql(str(spine), project=parts.project)
    path = Path(spine)
    place, what = path if path.is_absolute() else parts.project / path, f"spine {os.fspath(spine)!r}"
    source = FileSource(place)
    rows = parts.engine().run(parts.resolve_file(source, what=what), {})
    if source.format == "parquet":
        return rows
    # 007 of a string key stays 007: what a file without types has for a key is read in the key's type
    types = {column: next(iter(keys[column].values())) for column in rows.column_names if column in keys}
    typed = FileSource(place, schema=types)
    return parts.engine().run(parts.resolve_file(typed, what=what), {}) if types else rows


def is_query(spine: str | os.PathLike[str]) -> bool:
    """Whether a spine is SQL, and not the path of a file."""
    words = spine.split() if isinstance(spine, str) else []
    return bool(words) and words[0].lower() in ("select", "with", "from")


def _time_column(rows: Spine, named: str | None) -> str:
    names = rows.column_names
    if named is not None:
        if named not in names:
            raise MissingColumnError(
                f"the spine has no time column {named!r}",
                found=", ".join(names),
                closest=closest_names(named, names),
            )
        return named
    known = [name for name in _TIME_NAMES if name in names]
    if known:
        return known[0]
    times = rows.times()
    if len(times) == 1:
        return times[0]
    raise MissingColumnError(
        "which column of the spine is its time?",
        found=f"time columns: {', '.join(times)}" if times else f"columns: {', '.join(names)}",
        try_=f"get_historical_features(..., event_time={times[0] if times else 'event_time'!r})",
    )


def check_requests(rows: Spine, requests: Schema, *, asked_by: str) -> None:
    """Check that a spine brings the request columns.

    Raises:
        MissingColumnError, ColumnTypeError: it lacks one, or has it in another type.
    """
    from grange.types.arrow import conform_column

    for column in requests:
        if column.name not in rows.column_names:
            raise MissingColumnError(
                f"the spine lacks the request column {column.name!r} ({column.dtype})",
                asked_by=asked_by,
                found=", ".join(rows.column_names),
            )
        conform_column(rows.take([column.name]).arrow.column(0), column, what="request data in the spine")


def engine_spine(
    rows: Spine, selections: Sequence[BoundSelection], time: str, later: Iterable[int]
) -> tuple[Rows, bool | None]:
    """What the engine sees of a spine: each key column in the types of the groups it joins, the time in UTC, and the
    times so many microseconds later. And whether its times had no zone; None where they are texts or dates, of which
    that cannot be told.

    Raises:
        MissingColumnError, KeyTypeError: a join key is not there, or of another type than the group's.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    from grange.types.arrow import conform_column

    wanted = key_columns(selections)
    for column, groups in wanted.items():
        if column not in rows.column_names:
            name, _ = next(iter(groups.items()))
            raise MissingColumnError(
                f"the spine lacks the join key {column!r} of feature group {name!r}",
                found=", ".join(rows.column_names),
                closest=closest_names(column, rows.column_names),
                try_=f"rename the spine's column, or gr.select({name!r}, on={{{column!r}: '...'}})",
            )
    table = rows.take(dict.fromkeys([*wanted, time])).arrow
    columns: dict[str, pa.ChunkedArray] = {}
    for column, groups in wanted.items():
        for group, dtype in groups.items():
            name = spine_column(column, dtype)
            if name not in columns:
                columns[name] = spine_key(table.column(column), dtype, column=column, group=group)
    clock = Column(time, DataType("datetime"))
    given = table.column(time)
    columns[SPINE_TIME] = times = conform_column(given, clock, what="the spine")
    for after in later:
        columns[spine_time(after)] = pc.add(times.cast(pa.int64()), after).cast(times.type)
    return Rows(arrow=pa.table(columns)), given.type.tz is None if pa.types.is_timestamp(given.type) else None


def spine_key(values: pa.ChunkedArray, dtype: DataType, *, column: str, group: str) -> pa.ChunkedArray:
    """A spine's key column in a group's key type (PIT-4): integer widths unify, and an integer that the group's
    width cannot hold matches nothing.

    Raises:
        KeyTypeError: another kind of type; names both.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    from grange.types.arrow import arrow_type, conform_column, from_arrow_type

    found = from_arrow_type(values.type)
    target = arrow_type(dtype)
    if found is None:
        return pa.chunked_array([pa.nulls(len(values), target)], type=target)
    families = {found.key_family, dtype.key_family}
    if len(families) > 1 and families != {"string", "uuid"}:
        raise KeyTypeError(
            f"the spine's {column!r} is {found}, and feature group {group!r} has that key as {dtype}",
            try_=f"cast the spine's column to {dtype}",
            details={"column": column, "spine_type": str(found), "group_type": str(dtype)},
        )
    if dtype.is_integer:
        low, high = _integer_range(dtype)
        if values.type == target or (low <= _integer_range(found)[0] and _integer_range(found)[1] <= high):
            return values.cast(target)
        exact = pa.decimal128(20, 0)  # holds every signed and unsigned 64-bit integer
        wide = values.cast(exact)
        fits = pc.and_(pc.greater_equal(wide, pa.scalar(low, exact)), pc.less_equal(wide, pa.scalar(high, exact)))
        return pc.if_else(fits, values, pa.scalar(None, values.type)).cast(target)
    try:
        return conform_column(values, Column(column, dtype), what="the spine")
    except ColumnTypeError as error:
        raise KeyTypeError(error.message, found=error.found, try_=error.try_, details=error.details) from error


def _integer_range(dtype: DataType) -> tuple[int, int]:
    """The least and the greatest integer of a type."""
    bits = int(dtype.kind.lstrip("uint"))
    return (0, 2**bits - 1) if dtype.kind.startswith("u") else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
