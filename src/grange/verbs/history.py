"""get_historical_features: read a spine, run the point-in-time join, lay the features beside the spine."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from grange.definitions.catalog import Catalog
from grange.definitions.feature_group import FeatureGroup
from grange.definitions.feature_view import FeatureView
from grange.definitions.sources import FileSource
from grange.errors import (
    ColumnTypeError,
    KeyTypeError,
    MissingColumnError,
    NameCollisionError,
    RequestError,
    SchemaError,
    UnknownVersionError,
    closest_names,
)
from grange.frames import Rows
from grange.plan.bind import BoundFeature, Layout, Request, bind, bind_derived, key_columns, resolve
from grange.plan.explain import explain
from grange.plan.history import SPINE, SPINE_TIME, plan_history, plan_spine, spine_column, watched
from grange.plan.nodes import Derived, Node, Plan, PointInTimeJoin
from grange.ports.engine import Engine
from grange.ports.offline import Snapshot, VersionMeta
from grange.quality.leaks import TRAINING_CODES, History, Leak, LeakPolicy, check_history, raise_or_return
from grange.transforming import query_sql
from grange.types import DataType, Schema
from grange.types.names import EVENT_TIME
from grange.types.schema import Column
from grange.verbs.parts import Parts
from grange.windowing import filter_columns

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

_TIME_NAMES = ("event_time", "event_timestamp", "timestamp")


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


def _is_pandas(frame: Any) -> bool:
    """Whether a frame is of pandas, which is not loaded for this."""
    pandas = sys.modules.get("pandas")
    return pandas is not None and isinstance(frame, pandas.DataFrame)


class HistoricalFeatures:
    """A spine with features beside it: one row per spine row, in its order, the spine's columns untouched (PIT-1)."""

    __slots__ = ("_features", "_spine", "event_time", "feature_names", "leaks", "plan", "versions")

    def __init__(
        self,
        spine: Spine,
        features: Rows,
        plan: Plan,
        *,
        event_time: str,
        versions: dict[str, str],
        leaks: tuple[Leak, ...] = (),
    ) -> None:
        self._spine = spine
        self._features = features
        self.plan = plan
        """What the engine was asked, but for what the leak check looks at."""
        self.event_time = event_time
        """The spine's time column."""
        self.feature_names = tuple(features.column_names)
        """The feature columns, in order."""
        self.versions = versions
        """By feature group, the version that was read."""
        self.leaks = leaks
        """Values that would not be there at prediction time, as far as can be told."""

    def __len__(self) -> int:
        return len(self._spine)

    def to_polars(self) -> pl.DataFrame:
        """As a Polars DataFrame.

        Raises:
            ColumnTypeError: a column of a pandas spine holds values of several types; `to_pandas` has it.
        """
        return self._spine.rows.polars.hstack(self._features.polars)

    def to_arrow(self) -> pa.Table:
        """As an Arrow table. Raises as `to_polars`."""
        table, features = self._spine.rows.arrow, self._features.arrow
        for name in features.column_names:
            table = table.append_column(features.schema.field(name), features.column(name))
        return table

    def to_pandas(self) -> Any:
        """As a pandas DataFrame; a pandas spine keeps its index and dtypes. Features have Arrow-backed types."""
        features = self._features.pandas
        import pandas as pd

        native = self._spine.native
        if isinstance(native, pd.DataFrame):
            features.index = native.index
            return pd.concat([native, features], axis=1)
        return pd.concat([self._spine.rows.pandas, features], axis=1)

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
    leaks: LeakPolicy


def get_historical_features(
    parts: Parts, catalog: Catalog, features: Any, spine: Any, request: HistoryRequest
) -> HistoricalFeatures:
    """Join features onto a spine, point-in-time correct. `FeatureStore.get_historical_features` says it all."""
    engine = parts.engine(request.engine)
    asked = resolve(catalog, features)
    stored = _stored(parts, catalog, asked)
    layouts = {
        (name, version): layout_of(snapshot.meta)
        if version is not None
        else current_layout(catalog.group(name), snapshot.meta)
        for (name, version), snapshot in stored.items()
    }
    bound = bind(catalog, asked, layouts, labels=True, full_feature_names=request.full_feature_names)
    if spine is None:
        rows, time = _made_spine(parts, asked, bound, stored, request)
    else:
        rows, time = _given_spine(parts, spine, request)
    for feature in bound:
        if feature.name in rows.column_names:
            raise NameCollisionError(
                f"the spine already has a column {feature.name!r}",
                asked_by=asked.name,
                found=f"feature {feature.group.name}:{feature.column}",
                try_="rename the spine's column, or full_feature_names=True",
            )
    derived = bind_derived(asked, bound)
    for item in derived:
        if item.name in rows.column_names:
            raise NameCollisionError(
                f"the spine already has a column {item.name!r}",
                asked_by=asked.name,
                found=f"derived feature {item.name} = {item.expression.text}",
                try_="rename the spine's column",
            )
    _check_requests(rows, asked)
    nodes: dict[tuple[str, str | None], tuple[str, Node]] = {
        key: (snapshot.meta.version, snapshot.rows) for key, snapshot in stored.items()
    }
    plan = replace(plan_history(bound, nodes, as_known=request.as_known), derived=derived)
    handed_in, naive = _engine_spine(rows, bound, time)
    join = _Join(
        asked=asked,
        bound=bound,
        derived=derived,
        view=_view(catalog, features),
        spine=rows,
        handed_in=handed_in,
        naive=naive if spine is not None else None,
        made_of=asked.selections[0].source if spine is None else None,
    )
    leaks: tuple[Leak, ...] = ()
    if request.leaks.ignore >= TRAINING_CODES:
        result = join.beside(engine.run(plan.root, {SPINE: handed_in}))
    else:
        result, leaks = _checked(join, plan, engine, request)
    versions = {group: snapshot.meta.version for (group, _), snapshot in stored.items()}
    return HistoricalFeatures(rows, result, plan, event_time=time, versions=versions, leaks=leaks)


@dataclass(frozen=True, slots=True, eq=False)
class _Join:
    """What is joined onto what."""

    asked: Request
    bound: Sequence[BoundFeature]
    derived: tuple[Derived, ...]
    view: FeatureView | None
    """What was asked for, where that is a view; a list does not say what its labels are."""
    spine: Spine
    handed_in: Rows
    """The spine as the engine sees it."""
    naive: bool | None
    """Whether the given spine's times have no zone; None where that cannot be told."""
    made_of: str | None
    """The group that the spine was made of, if none was given."""

    def beside(self, found: Rows) -> Rows:
        """What the engine found, with what is derived of it."""
        return with_derived(found, self.spine, self.derived)


def _view(catalog: Catalog, features: Any) -> FeatureView | None:
    view = catalog.views.get(features) if isinstance(features, str) else features
    return view if isinstance(view, FeatureView) else None


def _checked(join: _Join, plan: Plan, engine: Engine, request: HistoryRequest) -> tuple[Rows, tuple[Leak, ...]]:
    """What a plan asks for, and its leaks. What they are told by is a by-product of the same run.

    Raises:
        LeakError: the policy makes one of them an error.
    """
    joined = [item.name for item in join.bound if item.selection in join.asked.labels]
    brought = _brought_labels(join.view, join.spine) if join.view is not None else []
    # the rows of a made spine are events of its group by construction (PIT-8)
    features = [item for item in join.bound if item.name not in joined and item.group.name != join.made_of]
    wider, sights = watched(plan, [item.name for item in features], created=bool(joined or brought))
    seen = engine.run(wider.root, {SPINE: join.handed_in})
    values = join.beside(_asked_for(plan, seen) if sights else seen)
    history = History(
        features=features,
        sights=sights,
        spine=join.handed_in,
        seen=seen,
        values=values,
        labels=[*((values, name) for name in joined), *brought],
        naive=join.naive,
        as_known=request.as_known,
        view=None if join.view is None else join.view.name,
    )
    return values, raise_or_return(check_history(history), request.leaks, asked_by=join.asked.name)


def _brought_labels(view: FeatureView, rows: Spine) -> list[tuple[Rows, str]]:
    """The labels of a view that the spine brings, each with rows that have it.

    One whose values have no type that a feature could have is nothing to compare features with: it stays what it is in
    the spine (PIT-1), and is no error.
    """
    labels = []
    for name in view.spine_labels:
        if name in rows.column_names:
            with suppress(ColumnTypeError, SchemaError):
                labels.append((_canonical(rows.take([name])), name))
    return labels


def _canonical(rows: Rows) -> Rows:
    """Rows in types that Polars has.

    Raises:
        SchemaError, ColumnTypeError: a type or a value that no feature could have.
    """
    if rows.is_polars:
        return rows
    import pyarrow as pa

    from grange.types.arrow import conform_column, from_arrow_type

    columns = {}
    for field, values in zip(rows.arrow.schema, rows.arrow.columns, strict=True):
        dtype = from_arrow_type(field.type)
        columns[field.name] = (
            values if dtype is None else conform_column(values, Column(field.name, dtype), what="a label")
        )
    return Rows(arrow=pa.table(columns))


def _asked_for(plan: Plan, found: Rows) -> Rows:
    """What a plan asks for, of what a wider one found."""
    assert isinstance(plan.root, PointInTimeJoin), "what plan_history makes"
    return found.select(output.name for join in plan.root.joins for output in join.outputs)


def with_derived(features: Rows, spine: Spine, derived: Sequence[Derived]) -> Rows:
    """Features with those beside them that are expressions over them and the request columns of the spine."""
    if not derived:
        return features
    import pyarrow as pa

    from grange.deriving.tables import evaluate_table
    from grange.types.arrow import conform_column

    table = features.arrow
    own = {item.name for item in derived}
    inputs = {column: (name, dtype) for item in derived for column, name, dtype in item.inputs if name not in own}
    schema = Schema.of((column, dtype) for column, (_, dtype) in inputs.items())
    columns = {
        column: conform_column(
            table.column(name) if name in table.column_names else spine.take([name]).arrow.column(0),
            Column(column, dtype),
            what=f"input {column!r} of derived features",
        )
        for column, (name, dtype) in inputs.items()
    }
    source = pa.table(columns) if columns else pa.table({"rows": pa.nulls(table.num_rows)}).select([])
    made = evaluate_table({item.name: item.expression for item in derived}, source, schema)
    for item in derived:
        table = table.append_column(item.name, made.column(item.name))
    return Rows(arrow=table)


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


def layout_of(meta: VersionMeta) -> Layout:
    """How a version's rows lie, whatever the group's definition says by now."""
    return Layout(
        meta.schema,
        meta.entity_keys,
        meta.event_time,
        meta.created_time,
        meta.aggregates,
        meta.event_id,
        meta.retracted,
        meta.ttl,
    )


def current_layout(group: FeatureGroup, meta: VersionMeta) -> Layout:
    """How a group's latest rows lie, with its aggregations as they are defined now.

    Windows are computed when they are read, from events that say nothing of them: a changed definition holds at once,
    offline and online. What it needs and the stored events lack is left out, until they are materialized with it.
    """
    stored = layout_of(meta)
    if not (group.aggregations and meta.aggregates):
        return stored
    identity = [column for column in (group.event_id, group.retracted) if column is not None]
    if any(column not in meta.schema for column in identity):
        return stored
    needs = {item: (*item.columns, *filter_columns(item)) for item in group.aggregates()}
    same = {column.name for column in meta.schema if column.dtype == group.schema.get(column.name)}
    there = tuple(item for item, columns in needs.items() if same.issuperset(columns))
    now = Layout.of(group)
    return replace(stored, aggregates=there, event_id=now.event_id, retracted=now.retracted, ttl=now.ttl)


def _made_spine(
    parts: Parts,
    asked: Request,
    bound: Sequence[BoundFeature],
    stored: Mapping[tuple[str, str | None], Snapshot],
    request: HistoryRequest,
) -> tuple[Spine, str]:
    """The spine of the first group's entity keys and event times (PIT-8), under the columns that it is joined on, and
    its time column.

    Raises:
        RequestError: such rows are not enough to join everything on.
    """
    first = asked.selections[0]
    snapshot = stored[first.source, first.version]
    layout = next(item.layout for item in bound if item.group.name == first.source)
    if layout.event_time == EVENT_TIME:
        raise RequestError(
            f"a spine is needed: feature group {first.source!r} has no event times to make one of",
            asked_by=asked.name,
        )
    on = dict(first.on)
    columns = [*(on.get(key, key) for key in layout.entity_keys), layout.event_time]
    needed = {column: f"feature group {item.group.name!r} is joined on" for item in bound for column, _ in item.keys}
    needed |= {column.name: "a request column is" for column in asked.requests}
    lacking = [column for column in needed if column not in columns]
    if lacking or len(set(columns)) < len(columns):
        why = f"{needed[lacking[0]]} {lacking[0]!r}" if lacking else "two of its columns would have one name"
        raise RequestError(
            f"a spine is needed: one made of feature group {first.source!r} is not enough, as {why}",
            asked_by=asked.name,
            found=f"a made spine has {', '.join(columns)}",
            details={"lacking": lacking},
        )
    plan = plan_spine(layout, snapshot.rows, start=request.start, end=request.end)
    made = parts.engine(request.engine).run(plan.root, {})
    named = dict(zip(made.column_names, columns, strict=True))
    if made.is_polars:
        return Spine(Rows(polars=made.polars.rename(named))), layout.event_time
    return Spine(Rows(arrow=made.arrow.rename_columns(columns))), layout.event_time


def _given_spine(parts: Parts, spine: Any, request: HistoryRequest) -> tuple[Spine, str]:
    """The spine that the caller gave, and its time column."""
    if request.start is not None or request.end is not None:
        raise RequestError(
            "start and end make a spine, and one was given", try_="leave out either the spine or start and end"
        )
    native = _read_spine(parts, spine) if isinstance(spine, str | os.PathLike) else spine
    rows = Spine(native)
    return rows, _time_column(rows, request.event_time)


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


def _check_requests(rows: Spine, asked: Request) -> None:
    from grange.types.arrow import conform_column

    for column in asked.requests:
        if column.name not in rows.column_names:
            raise MissingColumnError(
                f"the spine lacks the request column {column.name!r} ({column.dtype})",
                asked_by=asked.name,
                found=", ".join(rows.column_names),
            )
        conform_column(rows.take([column.name]).arrow.column(0), column, what="request data in the spine")


def _engine_spine(rows: Spine, bound: Sequence[BoundFeature], time: str) -> tuple[Rows, bool | None]:
    """What the engine sees of a spine: each key column in the types of the groups it joins, and the time in UTC.
    And whether its times had no zone; None where they are texts or dates, of which that cannot be told."""
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
    table = rows.take(dict.fromkeys([*wanted, time])).arrow
    columns: dict[str, pa.ChunkedArray] = {}
    for column, groups in wanted.items():
        for group, dtype in groups.items():
            name = spine_column(column, dtype)
            if name not in columns:
                columns[name] = spine_key(table.column(column), dtype, column=column, group=group)
    clock = Column(time, DataType("datetime"))
    given = table.column(time)
    columns[SPINE_TIME] = conform_column(given, clock, what="the spine")
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
