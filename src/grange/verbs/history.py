"""get_historical_features: read a spine, run the point-in-time join, lay the features beside the spine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from grange.definitions.catalog import Catalog
from grange.definitions.feature_group import FeatureGroup
from grange.definitions.feature_view import FeatureView
from grange.errors import (
    ColumnTypeError,
    NameCollisionError,
    RequestError,
    SchemaError,
    UnknownVersionError,
)
from grange.frames import Rows
from grange.plan.bind import Bound, Layout, Request, Role, bind, key_columns, resolve
from grange.plan.explain import explain
from grange.plan.history import SPINE, plan_history, watched
from grange.plan.nodes import Plan, PointInTimeJoin
from grange.ports.engine import Engine, RequestEngines
from grange.ports.offline import Snapshot, VersionMeta
from grange.quality.leaks import TRAINING_CODES, History, Leak, LeakPolicy, check_history, raise_or_return
from grange.types.schema import Column
from grange.verbs.computing import with_computed, with_functions
from grange.verbs.keeping import Kept, keep
from grange.verbs.parts import Parts
from grange.verbs.spine import (
    Spine,
    check_requests,
    engine_spine,
    given_spine,
    is_query,
    made_spine,
    spine_sources,
)
from grange.windowing import filter_columns

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
    import pyarrow as pa
    from numpy.typing import NDArray


class HistoricalFeatures:
    """A spine with features beside it: one row per spine row, in its order, the spine's columns untouched (PIT-1), but
    for rows that inner joins and the view's filter leave out.
    """

    __slots__ = (
        "_features",
        "_spine",
        "event_time",
        "feature_names",
        "immature",
        "leaks",
        "pins",
        "plan",
        "roles",
        "rows_left_out",
        "versions",
    )

    def __init__(
        self,
        spine: Spine,
        features: Rows,
        plan: Plan,
        *,
        event_time: str,
        roles: Mapping[str, Role],
        pins: tuple[tuple[str, str, int], ...],
        leaks: tuple[Leak, ...] = (),
        rows_left_out: int = 0,
        immature: NDArray[np.bool_] | None = None,
    ) -> None:
        self._spine = spine
        self._features = features
        self.plan = plan
        """What the engine was asked, but for what the leak check looks at."""
        self.event_time = event_time
        """The spine's time column."""
        self.feature_names = tuple(features.column_names)
        """The columns beside the spine, in order: features, helpers, and labels that are features."""
        self.roles = roles
        """What each column is for, by name, in the order of the columns."""
        self.pins = pins
        """(feature group, version, and the sequence below which pushed rows were seen), for each that was read. What
        the view itself pins comes first."""
        self.versions = {group: version for group, version, _ in pins}
        """By feature group, the version that was read."""
        self.leaks = leaks
        """Values that would not be there at prediction time, as far as can be told."""
        self.rows_left_out = rows_left_out
        """How many of the rows asked for joins and the filter left out."""
        self.immature = immature
        """By row, whether a label of it is not known yet, and so null; None when there is no label that takes time."""

    def __len__(self) -> int:
        return len(self._spine)

    @property
    def spine_names(self) -> tuple[str, ...]:
        """The columns of the spine, in order."""
        return tuple(self._spine.column_names)

    @property
    def features(self) -> tuple[str, ...]:
        """The columns that a model takes."""
        return tuple(name for name, role in self.roles.items() if role == "feature")

    @property
    def labels(self) -> tuple[str, ...]:
        """The columns that it predicts."""
        return tuple(name for name, role in self.roles.items() if role == "label")

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

    @property
    def beside(self) -> Rows:
        """The columns beside the spine."""
        return self._features

    def with_beside(self, features: Rows, roles: Mapping[str, Role]) -> HistoricalFeatures:
        """The same rows with other columns beside the spine, as many rows in the same order."""
        return HistoricalFeatures(
            self._spine,
            features,
            self.plan,
            event_time=self.event_time,
            roles=roles,
            pins=self.pins,
            leaks=self.leaks,
            rows_left_out=self.rows_left_out,
            immature=self.immature,
        )

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
    now: int
    """The moment at which labels are known or not, microseconds UTC."""
    pins: Mapping[str, tuple[str, int | None]] = field(default_factory=dict)
    """By feature group, the version and the reach of pushed rows to read it at, as `HistoricalFeatures.pins` has them;
    of groups that are not pinned by what is asked for."""


def get_historical_features(
    parts: Parts, catalog: Catalog, features: Any, spine: Any, request: HistoryRequest
) -> HistoricalFeatures:
    """Join features onto a spine, point-in-time correct. `FeatureStore.get_historical_features` says it all."""
    engine = parts.engine(request.engine)
    if spine is None and isinstance(engine, RequestEngines):
        engine = engine.for_one_request()
    asked = resolve(catalog, features)
    stored = _stored(parts, catalog, asked, request.pins)
    layouts = {
        (name, version): layout_of(snapshot.meta)
        if version is not None
        else current_layout(catalog.group(name), snapshot.meta)
        for (name, version), snapshot in stored.items()
    }
    bound = bind(catalog, asked, layouts, labels=True, full_feature_names=request.full_feature_names)
    rows, time = _spine(parts, engine, asked, bound, stored, spine, request)
    _check_names(asked, bound, rows)
    check_requests(rows, asked.requests, asked_by=asked.name)
    plan = _plan(parts, asked, bound, stored, request, given=spine is not None)
    handed_in, naive = engine_spine(
        rows, (*bound.features, *bound.selections), time, [later.after for later in plan.labels if later.after]
    )
    join = _Join(
        asked=asked,
        bound=bound,
        plan=plan,
        view=_view(catalog, features),
        spine=rows,
        handed_in=handed_in,
        naive=naive if spine is not None else None,
        now=request.now,
    )
    leaks: tuple[Leak, ...] = ()
    if request.leaks.ignore >= TRAINING_CODES:
        kept = join.kept(_run(engine, plan, handed_in))
    else:
        made_of = [] if spine is not None else [item.group.name for item in spine_sources(bound.selections)]
        kept, leaks = _checked(join, engine, made_of, request)
    return HistoricalFeatures(
        kept.spine,
        kept.values,
        plan,
        event_time=time,
        roles=_roles(kept, asked, bound, time),
        pins=tuple(_pins(stored)),
        leaks=leaks,
        rows_left_out=len(rows) - len(kept.spine),
        immature=kept.immature,
    )


def _spine(
    parts: Parts,
    engine: Engine,
    asked: Request,
    bound: Bound,
    stored: Mapping[tuple[str, str | None], Snapshot],
    spine: Any,
    request: HistoryRequest,
) -> tuple[Spine, str]:
    """The rows asked for, and their time column: as they are given, or made (PIT-8).

    Raises:
        RequestError: both or neither of what makes one.
    """
    if spine is None:
        sources = (*bound.features, *bound.selections)
        needed = {
            column: f"feature group {item.group.name!r} is joined on" for item in sources for column, _ in item.keys
        }
        needed |= {column.name: "a request column is" for column in asked.requests}
        nodes = {key: snapshot.rows for key, snapshot in stored.items()}
        return made_spine(engine, asked.name, bound.selections, needed, nodes, start=request.start, end=request.end)
    if request.start is not None or request.end is not None:
        raise RequestError(
            "start and end make a spine, and one was given", try_="leave out either the spine or start and end"
        )
    return given_spine(parts, spine, request.event_time, (*bound.features, *bound.selections))


def _check_names(asked: Request, bound: Bound, spine: Spine) -> None:
    """Refuse a spine that has a column of the name of one that is laid beside it.

    Raises:
        NameCollisionError: says which.
    """
    there = set(spine.column_names)
    read = {item.name: f"feature {item.group.name}:{item.column}" for item in bound.features}
    made = {name: f"computed feature {item}" for item in bound.computed for name, _ in item.outputs}
    for name in bound.columns:
        if name in there:
            raise NameCollisionError(
                f"the spine already has a column {name!r}",
                asked_by=asked.name,
                found=(read | made)[name],
                try_="rename the spine's column" + (", or full_feature_names=True" if name in read else ""),
            )


def _plan(
    parts: Parts,
    asked: Request,
    bound: Bound,
    stored: Mapping[tuple[str, str | None], Snapshot],
    request: HistoryRequest,
    *,
    given: bool,
) -> Plan:
    """What is joined, computed and left out, for a spine that was given or made.

    Raises:
        TransformError: the code of an on-demand transformation is not here.
    """
    # a right join says whose rows are asked for where no spine does
    joins = ("inner", "right") if given else ("inner",)
    plan = plan_history(
        bound.features,
        {key: (snapshot.meta.version, snapshot.rows) for key, snapshot in stored.items()},
        as_known=request.as_known,
        required=[item for item in bound.selections if item.selection.join in joins],
    )
    return replace(plan, computed=with_functions(parts, bound.computed), condition=asked.filter)


def _run(engine: Engine, plan: Plan, spine: Rows) -> Rows:
    """All columns that a plan joins, one row per spine row."""
    assert isinstance(plan.root, PointInTimeJoin), "what plan_history makes"
    joins = [join for join in (plan.root, *(later.join for later in plan.labels)) if join.joins]
    found = [engine.run(join, {SPINE: spine}) for join in joins]
    if len(found) == 1:
        return found[0]
    import polars as pl

    return Rows(
        polars=pl.concat([rows.polars for rows in found], how="horizontal")
        if found
        else pl.DataFrame(height=len(spine))
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Join:
    """What is joined onto what."""

    asked: Request
    bound: Bound
    plan: Plan
    view: FeatureView | None
    """What was asked for, where that is a view; a list does not say what its labels are."""
    spine: Spine
    handed_in: Rows
    """The spine as the engine sees it."""
    naive: bool | None
    """Whether the given spine's times have no zone; None where that cannot be told."""
    now: int

    def kept(self, found: Rows) -> Kept:
        """What is asked for, of what the engine found: with what is computed of it, and without rows left out."""
        whole = with_computed(found, self.spine, self.plan.computed)
        names = [name for name in whole.column_names if name in self.bound.columns]
        values = whole if names == whole.column_names else whole.select(names)
        return keep(self.asked, self.bound, self.plan, self.spine, self.handed_in, found, values, now=self.now)


def _view(catalog: Catalog, features: Any) -> FeatureView | None:
    view = catalog.views.get(features) if isinstance(features, str) else features
    return view if isinstance(view, FeatureView) else None


def _checked(
    join: _Join, engine: Engine, made_of: Sequence[str], request: HistoryRequest
) -> tuple[Kept, tuple[Leak, ...]]:
    """What is asked for, and its leaks. What they are told by is a by-product of the same run.

    Args:
        join: what is joined.
        engine: what joins.
        made_of: the groups that the spine was made of: its rows are events of theirs by construction (PIT-8).
        request: how to answer.

    Raises:
        LeakError: the policy makes one of them an error.
    """
    joined = list(join.bound.labels)
    brought = _brought_labels(join.view, join.spine) if join.view is not None else []
    features = [item for item in join.bound.features if item.label is None and item.group.name not in made_of]
    wider, sights = watched(join.plan, [item.name for item in features], created=bool(joined or brought))
    seen = _run(engine, wider, join.handed_in)
    kept = join.kept(seen)
    brought = _brought_labels(join.view, kept.spine) if join.view is not None else []
    history = History(
        features=features,
        sights=sights,
        spine=kept.of(join.handed_in),
        seen=kept.of(seen),
        values=kept.values,
        labels=[*((kept.values, name) for name in joined), *brought],
        later=[name for name, label in join.bound.labels.items() if label.after and label.observed == "at_maturity"],
        naive=join.naive,
        as_known=request.as_known,
        view=None if join.view is None else join.view.name,
    )
    return kept, raise_or_return(check_history(history), request.leaks, asked_by=join.asked.name)


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
    for column, values in zip(rows.arrow.schema, rows.arrow.columns, strict=True):
        dtype = from_arrow_type(column.type)
        columns[column.name] = (
            values if dtype is None else conform_column(values, Column(column.name, dtype), what="a label")
        )
    return Rows(arrow=pa.table(columns))


def _roles(kept: Kept, asked: Request, bound: Bound, time: str) -> dict[str, Role]:
    """What each column is for, in order."""
    keys = key_columns((*bound.features, *bound.selections))
    labels = [label.name for label in asked.labels]

    def of_spine(name: str) -> Role:
        if name in keys:
            return "key"
        if name == time:
            return "event_time"
        if name in labels:
            return "label"
        return bound.helpers.get(name) or ("request" if name in asked.requests else "spine")

    brought = {name: of_spine(name) for name in kept.spine.column_names}
    return brought | {name: bound.columns[name] for name in kept.values.column_names}


def _pins(stored: Mapping[tuple[str, str | None], Snapshot]) -> Iterator[tuple[str, str, int]]:
    """What was read, the versions that were asked for by their number first."""
    for (group, _), snapshot in sorted(stored.items(), key=lambda item: item[0][1] is None):
        yield group, snapshot.meta.version, snapshot.pushed_until


def _stored(
    parts: Parts, catalog: Catalog, asked: Request, pins: Mapping[str, tuple[str, int | None]]
) -> dict[tuple[str, str | None], Snapshot]:
    """By (group, version asked for or None), the rows to read.

    Raises:
        UnknownVersionError: there are none.
    """
    stored: dict[tuple[str, str | None], Snapshot] = {}
    for selection in (*asked.selections, *asked.label_features):
        key = (selection.source, selection.version)
        if key in stored:
            continue
        catalog.group(selection.source, asked_by=asked.name)
        try:
            stored[key] = _snapshot(parts, selection.source, selection.version, pins)
        except UnknownVersionError as error:
            if parts.offline.versions(selection.source):
                raise
            raise UnknownVersionError(
                f"feature group {selection.source!r} has no history yet",
                asked_by=asked.name,
                try_=f"grange materialize {selection.source}",
            ) from error
    return stored


def _snapshot(parts: Parts, group: str, version: str | None, pins: Mapping[str, tuple[str, int | None]]) -> Snapshot:
    if version is not None or group not in pins:
        return parts.offline.snapshot(group, version)
    pinned, pushed_until = pins[group]
    return parts.offline.snapshot(group, pinned, pushed_until=pushed_until)


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


__all__ = [
    "HistoricalFeatures",
    "HistoryRequest",
    "current_layout",
    "get_historical_features",
    "is_query",
    "layout_of",
]
