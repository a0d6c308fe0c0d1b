"""FeatureGroup: a named, versioned table of features, keyed by entities and event time."""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from grange.definitions.aggregations import Aggregation, Declared, expand
from grange.definitions.entity import Entity
from grange.definitions.expectations import Expectation
from grange.definitions.references import FeatureSelection, select
from grange.definitions.sources import (
    DerivedSource,
    FileSource,
    PushSource,
    RequestSource,
    Source,
    TableSource,
)
from grange.definitions.transformations import Step, as_steps, check_on_demand
from grange.definitions.transforms import (
    PythonTransform,
    SqlTransform,
    Transform,
    python_transform,
    sql_transform,
)
from grange.definitions.values import freeze_tags
from grange.errors import DefinitionError
from grange.types import Schema, parse_duration
from grange.types.aggregates import Aggregate
from grange.types.names import EVENT_TIME, check_column, check_name
from grange.types.remembering import Remembering


@dataclass(frozen=True, slots=True, init=False)
class FeatureGroup(Remembering):
    """A named, versioned table of features, keyed by entities and event time, computed from a source.

    Args:
        name: letters, digits and underscores.
        entities: whom the features describe; their join keys together are the entity key.
        source: where raw rows come from.
        transform: a function from raw rows to feature rows, or SQL over `source`; without one the source's
            columns are the features. The result must keep the join keys and the time columns.
        schema: types of the group's columns. Those left out are inferred from the source when the group is
            first applied, and fixed from then on (PIT-7).
        ttl: how long a value stays valid, both ends included (PIT-2); None is forever.
        defaults: by feature, the value that stands in when there is none (ONL-5).
        expectations: by column, the checks that each materialization makes.
        online: whether materialize and push load the online store.
        aggregations: windowed features of the rows: `[Rolling({"amount": ["sum"]}, windows=["7d"])]`. The features are
            then these alone, and the rows are events: all rows of one time count, unless the source has an `event_id`
            (WIN-6). A ttl says how old an event may be to be seen.
        interval: of a group with aggregations, the grid on which materialized feature rows lie (`"1d"`); None is as of
            every event. What is joined onto a spine or read online is exact at any moment either way.
        fill_gaps: whether the grid has every boundary from a key's first to its last, not only those that follow
            events.
        on_demand: features that are made when they are asked for, from features of this group and from what the
            request brings: transformations, or steps of them. A view that takes the whole group takes them too.

    Raises:
        DefinitionError: any of these contradicts another, or a law.
    """

    name: str
    entities: tuple[Entity, ...]
    source: Source
    transform: Transform | None
    schema: Schema
    ttl: dt.timedelta | None
    defaults: tuple[tuple[str, Any], ...]
    expectations: tuple[tuple[str, tuple[Expectation, ...]], ...]
    online: bool
    aggregations: tuple[Aggregation, ...]
    interval: dt.timedelta | None
    fill_gaps: bool
    on_demand: tuple[Step, ...]
    description: str
    owner: str
    tags: tuple[tuple[str, str], ...] = field(default=())

    def __init__(
        self,
        name: str,
        *,
        entities: Sequence[Entity] | Entity,
        source: Source,
        transform: Callable[[Any], Any] | Transform | str | None = None,
        schema: Schema | Mapping[str, Any] | None = None,
        ttl: str | dt.timedelta | None = None,
        defaults: Mapping[str, Any] | None = None,
        expectations: Mapping[str, Expectation | Sequence[Expectation]] | None = None,
        online: bool = True,
        aggregations: Sequence[Aggregation] | Aggregation = (),
        interval: str | dt.timedelta | None = None,
        fill_gaps: bool = False,
        on_demand: Any = (),
        description: str = "",
        owner: str = "",
        tags: Mapping[str, str] | None = None,
    ) -> None:
        what = f"feature group {name!r}"
        set_ = object.__setattr__
        set_(self, "name", check_name(name, what="feature group"))
        set_(self, "entities", _as_entities(entities, what))
        set_(self, "source", _as_source(source, what))
        set_(self, "transform", _as_transform(transform))
        set_(self, "schema", Schema.of(schema or {}))
        set_(self, "ttl", None if ttl is None else parse_duration(ttl, what=f"ttl of {what}"))
        set_(self, "defaults", tuple(sorted((defaults or {}).items())))
        checks = {
            column: (check,) if isinstance(check, Expectation) else tuple(check)
            for column, check in (expectations or {}).items()
        }
        set_(self, "expectations", tuple(sorted(checks.items())))
        set_(self, "online", online)
        set_(self, "aggregations", _as_aggregations(aggregations, what))
        length = None if interval is None else parse_duration(interval, what=f"interval of {what}")
        set_(self, "interval", length)
        set_(self, "fill_gaps", fill_gaps)
        set_(self, "on_demand", as_steps(on_demand, what=what))
        generated = self.source.description if isinstance(self.source, DerivedSource) else ""
        set_(self, "description", description or generated)
        set_(self, "owner", owner)
        set_(self, "tags", freeze_tags(tags, what=what))
        _check_group(self, what)

    @property
    def join_keys(self) -> tuple[str, ...]:
        """The columns of the entity key: the entities' join keys, in order, each once."""
        return tuple(dict.fromkeys(key for entity in self.entities for key in entity.join_keys))

    @property
    def event_time(self) -> str:
        """The stored event-time column; a reserved one when rows are always true."""
        return self.source.event_time or EVENT_TIME

    @property
    def is_timeless(self) -> bool:
        """Whether the source has no event time: its rows are always true."""
        return self.source.event_time is None

    @property
    def created_time(self) -> str | None:
        """The stored created-time column, if the source has one."""
        return self.source.created_time

    @property
    def key_space(self) -> str:
        """Where its entity keys live online: groups of the same entities lie together, one read serves all."""
        return "+".join(entity.name for entity in self.entities)

    @property
    def event_id(self) -> str | None:
        """The column that identifies an event, if the source has one (WIN-6)."""
        return self.source.event_id

    @property
    def retracted(self) -> str | None:
        """The column that says that a row takes its event back, if the source has one."""
        return self.source.retracted

    def aggregates(self, schema: Schema | None = None) -> tuple[Aggregate, ...]:
        """The windowed features, one by one; none for a group whose features are its columns.

        Raises:
            DefinitionError: a column that the schema lacks, or of a type that a function does not take.
        """
        whole = self.schema if schema is None else schema
        return expand(self.aggregations, whole, what=f"feature group {self.name!r}")

    def features(self, schema: Schema | None = None) -> Schema:
        """The feature columns: the aggregations, or else all columns but the entity key and the times.

        Args:
            schema: the fixed schema; without it, what the definition declares.
        """
        if schema is None:
            return self.remembered("features", lambda: self._features(self.schema))
        return self._features(schema)

    def _features(self, whole: Schema) -> Schema:
        if self.aggregations:
            return Schema.of((item.name, item.dtype) for item in self.aggregates(whole))
        return whole.without([*self.join_keys, self.event_time, *filter(None, [self.created_time])])

    def select(self, *features: str, **options: Any) -> FeatureSelection:
        """Some of its features for a view: `weather.select("temp", on={"airport": "origin"}, prefix="origin_")`.

        Takes the keyword arguments of `grange.select`.
        """
        return select(self.name, *features, **options)

    def with_(self, **changes: Any) -> FeatureGroup:
        """The same group with some fields changed, unchecked: a fixed schema, a loaded function, a frame."""
        copy = object.__new__(FeatureGroup)
        for name in FeatureGroup.__slots__:
            object.__setattr__(copy, name, changes.get(name, getattr(self, name)))
        return copy

    def __call__(self, frame: Any) -> Any:
        """Run the transform function on a frame, as a unit test would."""
        if isinstance(self.transform, PythonTransform) and self.transform.function is not None:
            return self.transform.function(frame)
        raise DefinitionError(f"feature group {self.name!r} has no Python transform to call")


def feature_group(
    *,
    entities: Sequence[Entity] | Entity,
    source: Source,
    name: str | None = None,
    description: str | None = None,
    **options: Any,
) -> Callable[[Callable[[Any], Any]], FeatureGroup]:
    """Make a feature group of a transform function; its name and docstring become the group's.

    Takes the arguments of `FeatureGroup`, less `transform`.
    """

    def make(function: Callable[[Any], Any]) -> FeatureGroup:
        return FeatureGroup(
            name or function.__name__,
            entities=entities,
            source=source,
            transform=function,
            description=(function.__doc__ or "").strip() if description is None else description,
            **options,
        )

    return make


def _as_entities(entities: object, what: str) -> tuple[Entity, ...]:
    given = []
    for entity in entities if isinstance(entities, list | tuple) else [entities]:
        if isinstance(entity, Entity):
            given.append(entity)
        else:
            named = entity if isinstance(entity, str) else "user"
            raise DefinitionError(
                f"{what}: entities must be entities",
                found=f"{entity!r:.80} ({type(entity).__name__})",
                try_=f"{named} = gr.Entity({named!r}, join_keys=[...]), then entities=[{named}]",
            )
    return tuple(given)


def _as_source(source: object, what: str) -> Source:
    if isinstance(source, FileSource | TableSource | PushSource | DerivedSource):
        return source
    if isinstance(source, str | os.PathLike):
        try_ = f"source=gr.FileSource({os.fspath(source)!r}, event_time='...')"
    elif isinstance(source, RequestSource):
        try_ = "list it in a feature view: gr.FeatureView(..., requests=[...])"
    elif source is None:
        try_ = "source=gr.FileSource('data/rows.parquet', event_time='...')"
    else:
        try_ = "rows in memory are source=gr.TableSource(frame, name='...', event_time='...')"
    raise DefinitionError(
        f"{what} needs a source: files, a frame or pushed rows",
        found="none" if source is None else type(source).__name__,
        try_=try_,
    )


def _as_transform(transform: Any) -> Transform | None:
    if transform is None or isinstance(transform, PythonTransform | SqlTransform):
        return transform
    if isinstance(transform, str):
        return sql_transform(transform)
    if callable(transform):
        return python_transform(transform)
    raise DefinitionError(f"transform must be a function or SQL text, got {transform!r}")


def _as_aggregations(given: object, what: str) -> tuple[Aggregation, ...]:
    listed = given if isinstance(given, list | tuple) else [given]
    for item in listed:
        if not isinstance(item, Aggregation):
            raise DefinitionError(
                f"{what}: aggregations must be aggregations",
                found=f"{item!r:.80} ({type(item).__name__})",
                try_='aggregations=[gr.Rolling({"amount": ["sum", "mean"]}, windows=["7d", "30d"])]',
            )
    return tuple(listed)


def _check_aggregations(group: FeatureGroup, what: str) -> None:
    """Check what can be known of aggregations without data. With a schema, their columns and types too."""
    if not group.aggregations:
        for option, given in (("interval", group.interval), ("fill_gaps", group.fill_gaps)):
            if given:
                raise DefinitionError(f"{what}: {option} is of groups with aggregations, and it has none")
        if group.event_id is not None:
            raise DefinitionError(
                f"{what}: its source has an event_id, and without aggregations rows are not events",
                try_="leave event_id out: the newest row of a key is what counts (PIT-3)",
            )
        return
    if group.is_timeless:
        raise DefinitionError(
            f"{what} has aggregations and its source has no event time to put events into windows",
            try_="name the column: FileSource(..., event_time='...')",
        )
    if group.fill_gaps and group.interval is None:
        raise DefinitionError(f"{what}: fill_gaps fills a grid, and it has no interval", try_='interval="1h"')
    times = {group.event_time, group.created_time}
    for aggregate in expand(group.aggregations, Declared(group.schema), what=what):
        check_column(aggregate.name, what=what)
        if aggregate.name in group.join_keys or aggregate.name in times:
            other = "entity key" if aggregate.name in group.join_keys else "time"
            raise DefinitionError(
                f"{what}: a feature would have the name of its {other}",
                found=aggregate.name,
                try_="name=... in the aggregation",
            )


def _check_group(group: FeatureGroup, what: str) -> None:
    if not group.entities:
        raise DefinitionError(f"{what} needs at least one entity")
    times = [time for time in (group.event_time, group.created_time) if time]
    clash = [time for time in times if time in group.join_keys]
    if clash:
        raise DefinitionError(f"{what}: {clash[0]!r} is both a time column and a join key")
    if group.is_timeless and group.ttl is not None:
        raise DefinitionError(
            f"{what} has a ttl and its source has no event time to count from",
            try_="name the column: FileSource(..., event_time='...')",
        )
    reserved = [*group.join_keys, *times]
    for column in group.schema.names:
        if column != EVENT_TIME:
            check_column(column, what=what)
    for column, _ in group.defaults:
        if column in reserved:
            raise DefinitionError(f"{what}: default for {column!r}, which is part of the key or a time")
    for column, checks in group.expectations:
        if not checks or not all(isinstance(check, Expectation) for check in checks):
            raise DefinitionError(
                f"{what}: expectations of {column!r} must be expectations",
                found=repr(checks),
                try_="expectations={'amount': [gr.greater_than(0)]}",
            )
    _check_aggregations(group, what)
    check_on_demand(group.on_demand, {*reserved, *group.schema.names}, what)
