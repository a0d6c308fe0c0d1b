"""What a request is bound to: columns of stored rows, what is made of them, and the columns that come of it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from grange.definitions.feature_group import FeatureGroup
from grange.definitions.labels import Label
from grange.definitions.references import FeatureSelection
from grange.plan.nodes import Computed
from grange.types import DataType, Schema, format_duration
from grange.types.aggregates import Aggregate
from grange.types.durations import timedelta_of, to_micros
from grange.types.remembering import Remembering

Role = Literal[
    "key", "event_time", "spine", "request", "feature", "label", "training_helper", "inference_helper"
]  # fmt: skip
"""What a column of a result is for. `spine` is brought by the spine and nothing else."""


@dataclass(frozen=True, slots=True)
class Layout(Remembering):
    """How a group's rows lie where they are read: as they were stored, maybe under an older definition."""

    schema: Schema
    entity_keys: tuple[str, ...]
    event_time: str
    created_time: str | None
    aggregates: tuple[Aggregate, ...] = ()
    """The windowed features, of a group that has aggregations."""
    event_id: str | None = None
    retracted: str | None = None
    ttl: int | None = None
    """How old an event may be to be seen, in microseconds; of a group that has aggregations."""

    @classmethod
    def of(cls, group: FeatureGroup) -> Layout:
        """As the definition has them now."""
        return cls(
            group.schema,
            group.join_keys,
            group.event_time,
            group.created_time,
            group.aggregates(),
            group.event_id,
            group.retracted,
            None if group.ttl is None or not group.aggregations else to_micros(group.ttl),
        )

    @property
    def features(self) -> Schema:
        """The feature columns: the aggregates, or else all but the entity key and the times."""
        return self.remembered("features", self._features)

    def _features(self) -> Schema:
        if self.aggregates:
            return Schema.of((item.name, item.dtype) for item in self.aggregates)
        return self.schema.without([*self.entity_keys, self.event_time, *filter(None, [self.created_time])])


@dataclass(frozen=True, slots=True)
class Moment:
    """When a feature is looked at, counted from the time of the row it is for."""

    after: int = 0
    """Microseconds later."""
    finally_known: bool = False
    """Whether rows that became known after the row's time are visible, whatever the request says (PIT-5)."""


NOW = Moment()
"""As of the row's own time: all features, and labels that are known at once."""


@dataclass(frozen=True, slots=True)
class BoundSelection:
    """What is taken of a group, with everything that finding its rows needs."""

    group: FeatureGroup
    layout: Layout
    """Of the rows that are read: their key, times and types, not those of the group's definition of today."""
    selection: FeatureSelection
    label: Label | None
    """The label that it is; None for features."""

    @property
    def keys(self) -> tuple[tuple[str, str], ...]:
        """(column of the spine, join key) per join key."""
        on = dict(self.selection.on)
        return tuple((on.get(key, key), key) for key in self.layout.entity_keys)

    @property
    def moment(self) -> Moment:
        """When it is looked at."""
        if self.label is None or not self.label.after:
            return NOW
        return Moment(finally_known=True) if self.label.observed == "at_event" else Moment(to_micros(self.label.after))

    @property
    def row(self) -> tuple[object, ...]:
        """What decides which rows it sees: what is taken of equal ones is of the same rows."""
        return self.group.name, self.selection.version, self.keys, self.selection.exact_matches, self.moment

    def text(self, column: str) -> str:
        """One of its columns, in words that no other column of a request has."""
        version = f"@{self.selection.version}" if self.selection.version else ""
        on = [f"{key}={column}" for column, key in self.keys if key != column]
        strict = "" if self.selection.exact_matches else " strictly before"
        later = f" {format_duration(timedelta_of(self.moment.after))} later" if self.moment.after else ""
        known = " as finally known" if self.moment.finally_known else ""
        return f"{self.group.name}{version}:{column}{' on ' + ', '.join(on) if on else ''}{strict}{later}{known}"


@dataclass(frozen=True, slots=True)
class BoundFeature(BoundSelection):
    """One stored feature of a request with everything that reading it needs."""

    column: str
    name: str
    """Its column in the result."""
    dtype: DataType
    default: Any = None

    @property
    def outputs(self) -> tuple[tuple[str, DataType], ...]:
        """Its column, with its type."""
        return ((self.name, self.dtype),)

    def __str__(self) -> str:
        return self.text(self.column)


@dataclass(frozen=True, slots=True)
class Bound:
    """What a request comes to."""

    features: tuple[BoundFeature, ...]
    """What is read of stored rows, each once."""
    computed: tuple[Computed, ...]
    """What is made of it, in the order in which it can be."""
    columns: Mapping[str, Role]
    """The columns of the result, in the order asked for. What is read and computed beside them is only for others to
    be made of."""
    labels: Mapping[str, Label]
    """The columns among these that are labels."""
    names: Mapping[str, tuple[str, DataType]]
    """By the name that expressions have for it, each column of the result and of the request, and its type."""
    selections: tuple[BoundSelection, ...]
    """What is taken of groups, in the order asked for, labels not among it."""
    helpers: Mapping[str, Role]
    """Columns of the spine that are helpers."""

    @property
    def dtypes(self) -> dict[str, DataType]:
        """The types of everything that is read and made, by name."""
        return {name: dtype for item in (*self.features, *self.computed) for name, dtype in item.outputs}

    @property
    def schema(self) -> Schema:
        """The columns of the result with their types."""
        dtypes = self.dtypes
        return Schema.of((name, dtypes[name]) for name in self.columns)


__all__ = ["NOW", "Bound", "BoundFeature", "BoundSelection", "Layout", "Moment", "Role"]
