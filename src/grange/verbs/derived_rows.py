"""The rows of derived groups: those of the base group, with features of the others joined beside them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from grange.definitions.catalog import Catalog, Taken
from grange.definitions.feature_group import FeatureGroup
from grange.definitions.feature_view import FeatureView
from grange.definitions.references import FeatureSelection
from grange.definitions.sources import DerivedSource
from grange.errors import SourceError
from grange.frames import Rows
from grange.plan.bind import Bound, BoundFeature, BoundSelection, Layout, Request, bind
from grange.plan.nodes import Between, Node, Order
from grange.ports.offline import Snapshot
from grange.quality.leaks import TRAINING_CODES, LeakPolicy
from grange.types import DataType
from grange.types.schema import Column
from grange.types.time import to_micros
from grange.verbs.computing import with_computed, with_functions
from grange.verbs.derive import Pins, keeps_base_rows, parents_of, request_of, speaking_of, view_of
from grange.verbs.history import HistoricalFeatures, HistoryRequest, current_layout, get_historical_features, layout_of
from grange.verbs.parts import Parts
from grange.verbs.spine import Spine, rows_where

if TYPE_CHECKING:
    import pyarrow as pa

_TIME = DataType("datetime")


@dataclass(frozen=True, slots=True)
class Span:
    """Which rows are made, and how."""

    start: int | None
    """Inclusive, microseconds UTC; None is open."""
    end: int | None
    """Exclusive."""
    engine: str | None
    """None is the configured one."""
    now: dt.datetime


def derived_rows(parts: Parts, catalog: Catalog, group: FeatureGroup, span: Span) -> tuple[Rows, Pins]:
    """The raw rows of a derived group as its parents are now, and what was read of these.

    Shape:
        One row per stored row of the base group, in PIT-3 order, those of equal key and time too; its own features
        are those of the row, the others' are joined at its entity key and time. Where joins say which rows there are
        (`right`, `full`), or the base group has aggregations, one per distinct entity key and time (PIT-8), and all
        features are joined. Inner joins and the filter leave rows out.

    Raises:
        SourceError: a parent has no history yet.
        UnknownVersionError: a parent has no such version as is pinned.
    """
    assert isinstance(group.source, DerivedSource)
    with speaking_of(group):
        _check_history(parts, group, group.source)
        asked = request_of(catalog, group)
        base = _base(parts, catalog, asked)
        if keeps_base_rows(base.selections):
            rows, pins = _beside_stored_rows(parts, catalog, group, asked, base, span)
        else:
            rows, pins = _at_made_rows(parts, catalog, group, span)
        return _matching(rows, group.source.filter), tuple(dict.fromkeys(pins))


def _check_history(parts: Parts, group: FeatureGroup, source: DerivedSource) -> None:
    for parent in parents_of(group):
        if not parts.offline.versions(parent) and parts.offline.pushed(parent) is None:
            raise SourceError(
                f"feature group {group.name!r} is derived from {parent!r}, which has no history yet",
                try_=f"grange materialize {parent}",
            )
    for item in source.features:
        if item.version is not None:
            parts.offline.meta(item.source, item.version)


@dataclass(frozen=True, slots=True, eq=False)
class _Base:
    """The group whose rows a derived group has, and what else it takes."""

    snapshot: Snapshot
    selections: tuple[BoundSelection, ...]
    """All that is taken, the base group's first."""

    @property
    def first(self) -> BoundSelection:
        """What is taken of the base group."""
        return self.selections[0]

    @property
    def pin(self) -> tuple[str, str, int]:
        """What was read of it."""
        return self.first.group.name, self.snapshot.meta.version, self.snapshot.pushed_until


def _base(parts: Parts, catalog: Catalog, asked: Request) -> _Base:
    first = asked.selections[0]
    group, snapshot = catalog.group(first.source), parts.offline.snapshot(first.source, first.version)
    layout = current_layout(group, snapshot.meta) if first.version is None else layout_of(snapshot.meta)

    def bound(item: FeatureSelection) -> BoundSelection:
        if (item.source, item.version) == (first.source, first.version):
            return BoundSelection(group, layout, item, None)
        other = catalog.group(item.source)  # as it is defined is enough to tell that its rows are others
        return BoundSelection(other, Layout.of(other), item, None)

    return _Base(snapshot, tuple(map(bound, asked.selections)))


def _beside_stored_rows(
    parts: Parts, catalog: Catalog, group: FeatureGroup, asked: Request, base: _Base, span: Span
) -> tuple[Rows, Pins]:
    """The stored rows of the base group, and features of other rows joined beside them."""
    own, others = _taken_apart(asked, base)
    key = (base.first.group.name, base.first.selection.version)
    bound = bind(catalog, replace(asked, taken=own), {key: base.first.layout}, labels=False, full_feature_names=False)
    rows = _stored_rows(parts, group, base, bound, span)
    if not others:
        return rows, (base.pin,)
    name, version, pushed_until = base.pin
    is_pinned = base.first.selection.version is not None
    request = _request(span, event_time=group.event_time, pins={} if is_pinned else {name: (version, pushed_until)})
    view = FeatureView(group.name, features=[item.selection for item in others])
    found = get_historical_features(parts, catalog, view, rows, request)
    # what is pinned comes first, so that by group the last one is what the group had then
    return Rows(arrow=found.to_arrow()), (base.pin, *found.pins) if is_pinned else (*found.pins, base.pin)


def _taken_apart(asked: Request, base: _Base) -> tuple[tuple[Taken, ...], tuple[Taken, ...]]:
    """What is taken of the base group's rows, and of others."""
    own: list[Taken] = []
    others: list[Taken] = []
    for taken, selection in zip(asked.taken, base.selections, strict=True):
        (own if selection.row == base.first.row else others).append(taken)
    return tuple(own), tuple(others)


def _stored_rows(parts: Parts, group: FeatureGroup, base: _Base, bound: Bound, span: Span) -> Rows:
    """The base group's rows: entity key, time, and what is taken of them, under the names of the derived rows."""
    import pyarrow as pa

    layout = base.first.layout
    node: Node = base.snapshot.rows
    if span.start is not None or span.end is not None:
        node = Between(node, layout.event_time, span.start, span.end)
    stored = parts.engine(span.engine).run(Order(node, layout.event_time, layout.created_time), {}).arrow
    columns = {
        name: _typed(stored, Column(key, layout.schema[key]), base.first.group.name) for name, key in base.first.keys
    }
    columns[group.event_time] = _typed(stored, Column(layout.event_time, _TIME), base.first.group.name)
    features = {item.name: _feature(stored, item) for item in bound.features}
    made = with_computed(
        Rows(arrow=pa.table(features)), Spine(Rows(arrow=pa.table(columns))), with_functions(parts, bound.computed)
    )
    return Rows(arrow=pa.table(columns | {name: made.arrow.column(name) for name in bound.columns}))


def _feature(stored: pa.Table, feature: BoundFeature) -> pa.ChunkedArray:
    """The values of a feature in stored rows, with its default wherever there is a null (ONL-5)."""
    values = _typed(stored, Column(feature.column, feature.dtype), feature.group.name)
    if feature.default is None:
        return values
    import numpy as np
    import pyarrow as pa

    from grange.types.arrow import constant

    default = constant(feature.default, feature.dtype, what=f"default of {feature}")
    # the default lies behind the values, as one more row: that goes for lists too
    widened = pa.chunked_array([*values.chunks, pa.array([default.as_py()], values.type)])
    places = np.where(np.asarray(values.is_valid()), np.arange(len(values)), len(values))
    return widened.take(pa.array(places))


def _typed(stored: pa.Table, column: Column, group: str) -> pa.ChunkedArray:
    from grange.types.arrow import conform_column

    return conform_column(stored.column(column.name), column, what=f"feature group {group!r}")


def _at_made_rows(parts: Parts, catalog: Catalog, group: FeatureGroup, span: Span) -> tuple[Rows, Pins]:
    """All features joined at distinct entity keys and times."""
    request = _request(span, start=span.start, end=span.end)
    found = get_historical_features(parts, catalog, view_of(group), None, request)
    table = found.to_arrow()
    return Rows(arrow=table.rename_columns(list(_names(group, found, table)))), found.pins


def _names(group: FeatureGroup, found: HistoricalFeatures, table: pa.Table) -> Iterator[str]:
    """The columns of joined rows under the names of the derived rows."""
    for name in table.column_names:
        yield group.event_time if name == found.event_time else name


def _request(
    span: Span,
    *,
    event_time: str | None = None,
    start: int | None = None,
    end: int | None = None,
    pins: Mapping[str, tuple[str, int | None]] | None = None,
) -> HistoryRequest:
    return HistoryRequest(
        event_time=event_time,
        start=start,
        end=end,
        as_known=False,
        engine=span.engine,
        full_feature_names=False,
        leaks=LeakPolicy(errors=frozenset(), ignore=TRAINING_CODES),
        now=to_micros(span.now),
        pins=pins or {},
    )


def _matching(rows: Rows, condition: str) -> Rows:
    """The rows for which a condition is true; null is not true."""
    if not condition:
        return rows
    from grange.deriving.conditions import conditions

    return rows_where(rows, conditions(rows, [condition])[condition])
