"""get_historical_features: read a spine, run the point-in-time join, lay the features beside the spine."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from grange.definitions.catalog import Catalog
from grange.definitions.sources import FileSource
from grange.errors import (
    ColumnTypeError,
    KeyTypeError,
    MissingColumnError,
    NameCollisionError,
    RequestError,
    UnknownVersionError,
    closest_names,
)
from grange.frames import Rows
from grange.plan.bind import BoundFeature, Request, bind, key_columns, resolve
from grange.plan.explain import explain
from grange.plan.history import SPINE, SPINE_TIME, plan_history, plan_spine, spine_column
from grange.plan.nodes import Node, Plan
from grange.ports.offline import Snapshot
from grange.transforming import query_sql
from grange.types import DataType
from grange.types.schema import Column
from grange.verbs.parts import Parts

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

_TIME_NAMES = ("event_time", "event_timestamp", "timestamp")


class HistoricalFeatures:
    """A spine with features beside it: one row per spine row, in its order, the spine's columns untouched (PIT-1)."""

    __slots__ = ("_features", "_native", "_spine", "event_time", "feature_names", "plan", "versions")

    def __init__(
        self, spine: Rows, native: Any, features: Rows, plan: Plan, *, event_time: str, versions: dict[str, str]
    ) -> None:
        self._spine = spine
        self._native = native
        self._features = features
        self.plan = plan
        """What the engine ran."""
        self.event_time = event_time
        """The spine's time column."""
        self.feature_names = tuple(features.column_names)
        """The feature columns, in order."""
        self.versions = versions
        """By feature group, the version that was read."""

    def __len__(self) -> int:
        return len(self._spine)

    def to_polars(self) -> pl.DataFrame:
        """As a Polars DataFrame."""
        return self._spine.polars.hstack(self._features.polars)

    def to_arrow(self) -> pa.Table:
        """As an Arrow table."""
        table, features = self._spine.arrow, self._features.arrow
        for name in features.column_names:
            table = table.append_column(features.schema.field(name), features.column(name))
        return table

    def to_pandas(self) -> Any:
        """As a pandas DataFrame; a pandas spine keeps its index and dtypes. Features have Arrow-backed types."""
        features = self._features.pandas
        import pandas as pd

        if isinstance(self._native, pd.DataFrame):
            features.index = self._native.index
            return pd.concat([self._native, features], axis=1)
        return pd.concat([self._spine.pandas, features], axis=1)

    def explain(self) -> str:
        """What was done, as an indented tree."""
        return explain(self.plan)

    def __repr__(self) -> str:
        versions = ", ".join(f"{group}@{version}" for group, version in self.versions.items())
        return f"HistoricalFeatures({len(self)} rows, {len(self.feature_names)} features of {versions})"


@dataclass(frozen=True, slots=True)
class HistoryRequest:
    """How to answer."""

    event_time: str | None
    start: int | None
    end: int | None
    as_known: bool
    engine: str | None
    full_feature_names: bool


def get_historical_features(
    parts: Parts, catalog: Catalog, features: Any, spine: Any, request: HistoryRequest
) -> HistoricalFeatures:
    """Join features onto a spine, point-in-time correct. `FeatureStore.get_historical_features` says it all."""
    engine = parts.engine(request.engine)
    asked = resolve(catalog, features)
    stored = _stored(parts, catalog, asked)
    schemas = {key: snapshot.meta.schema for key, snapshot in stored.items()}
    bound = bind(catalog, asked, schemas, labels=True, full_feature_names=request.full_feature_names)
    native, rows, time = _spine(parts, catalog, asked, bound, stored, spine, request)
    for feature in bound:
        if feature.name in rows.column_names:
            raise NameCollisionError(
                f"the spine already has a column {feature.name!r}",
                asked_by=asked.name,
                found=f"feature {feature.group.name}:{feature.column}",
                try_="rename the spine's column, or full_feature_names=True",
            )
    _check_requests(rows, asked)
    nodes: dict[tuple[str, str | None], tuple[str, Node]] = {
        key: (snapshot.meta.version, snapshot.rows) for key, snapshot in stored.items()
    }
    plan = plan_history(bound, nodes, as_known=request.as_known)
    handed_in = _engine_spine(rows, bound, time)
    result = engine.run(plan.root, {SPINE: handed_in})
    versions = {group: snapshot.meta.version for (group, _), snapshot in stored.items()}
    return HistoricalFeatures(rows, native, result, plan, event_time=time, versions=versions)


def _stored(parts: Parts, catalog: Catalog, asked: Request) -> dict[tuple[str, str | None], Snapshot]:
    stored: dict[tuple[str, str | None], Snapshot] = {}
    for selection in (*asked.selections, *asked.labels):
        key = (selection.source, selection.version)
        if key in stored:
            continue
        catalog.group(selection.source, asked_by=asked.name)
        try:
            stored[key] = parts.offline.snapshot(*key)
        except UnknownVersionError as error:
            if parts.offline.versions(selection.source):
                raise
            raise UnknownVersionError(
                f"feature group {selection.source!r} has no history yet",
                asked_by=asked.name,
                try_=f"grange materialize {selection.source}",
            ) from error
    return stored


def _spine(
    parts: Parts,
    catalog: Catalog,
    asked: Request,
    bound: Sequence[BoundFeature],
    stored: dict[tuple[str, str | None], Snapshot],
    spine: Any,
    request: HistoryRequest,
) -> tuple[Any, Rows, str]:
    """The spine as it was given, as rows, and its time column."""
    if spine is None:
        first = asked.selections[0]
        group = catalog.group(first.source)
        if group.is_timeless:
            raise RequestError(
                f"a spine is needed: feature group {group.name!r} has no event times to make one of",
                asked_by=asked.name,
            )
        plan = plan_spine(group, stored[first.source, first.version].rows, start=request.start, end=request.end)
        rows = parts.engine(request.engine).run(plan.root, {})
        return rows, rows, group.event_time
    if request.start is not None or request.end is not None:
        raise RequestError(
            "start and end make a spine, and one was given", try_="leave out either the spine or start and end"
        )
    native = _read_spine(parts, spine) if isinstance(spine, str | os.PathLike) else spine
    rows = Rows.of(native, what="the spine")
    return native, rows, _time_column(rows, request.event_time)


def _read_spine(parts: Parts, spine: str | os.PathLike[str]) -> Rows:
    """A spine in a file, or the rows of a SQL query (DuckDB's dialect; files relative to the project)."""
    if _is_query(spine):
        return query_sql(str(spine), project=parts.project)
    path = Path(spine)
    source = FileSource(path if path.is_absolute() else parts.project / path)
    return parts.engine().run(parts.resolve_file(source, what=f"spine {os.fspath(spine)!r}"), {})


def _is_query(spine: str | os.PathLike[str]) -> bool:
    words = spine.split() if isinstance(spine, str) else []
    return bool(words) and words[0].lower() in ("select", "with", "from")


def _time_column(rows: Rows, named: str | None) -> str:
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
    import pyarrow as pa

    times: list[str] = [field.name for field in rows.arrow.schema if pa.types.is_timestamp(field.type)]
    if len(times) == 1:
        return times[0]
    raise MissingColumnError(
        "which column of the spine is its time?",
        found=f"time columns: {', '.join(times)}" if times else f"columns: {', '.join(names)}",
        try_=f"get_historical_features(..., event_time={times[0] if times else 'event_time'!r})",
    )


def _check_requests(rows: Rows, asked: Request) -> None:
    from grange.types.arrow import conform_column

    for column in asked.requests:
        if column.name not in rows.column_names:
            raise MissingColumnError(
                f"the spine lacks the request column {column.name!r} ({column.dtype})",
                asked_by=asked.name,
                found=", ".join(rows.column_names),
            )
        conform_column(rows.select([column.name]).arrow.column(0), column, what="request data in the spine")


def _engine_spine(rows: Rows, bound: Sequence[BoundFeature], time: str) -> Rows:
    """What the engine sees of a spine: each key column in the types of the groups it joins, and the time in UTC."""
    import pyarrow as pa

    from grange.types.arrow import conform_column

    wanted = key_columns(bound)
    for column, groups in wanted.items():
        if column not in rows.column_names:
            name, _ = next(iter(groups.items()))
            raise MissingColumnError(
                f"the spine lacks the join key {column!r} of feature group {name!r}",
                found=", ".join(rows.column_names),
                closest=closest_names(column, rows.column_names),
                try_=f"rename the spine's column, or gr.select({name!r}, on={{{column!r}: '...'}})",
            )
    table = rows.select(dict.fromkeys([*wanted, time])).arrow
    columns: dict[str, pa.ChunkedArray] = {}
    for column, groups in wanted.items():
        for group, dtype in groups.items():
            name = spine_column(column, dtype)
            if name not in columns:
                columns[name] = spine_key(table.column(column), dtype, column=column, group=group)
    clock = Column(time, DataType("datetime"))
    columns[SPINE_TIME] = conform_column(table.column(time), clock, what="the spine")
    return Rows(arrow=pa.table(columns))


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
