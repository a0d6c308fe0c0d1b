"""Catalog: definitions that belong together, checked against each other."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeVar

from grange.definitions.entity import Entity
from grange.definitions.feature_group import FeatureGroup
from grange.definitions.feature_view import FeatureView
from grange.definitions.on_demand import (
    check_group_steps,
    made_of,
    made_on_demand,
    offered,
    requested,
    steps_for,
    stored_inputs,
)
from grange.definitions.references import FeatureSelection
from grange.definitions.serialize import Definition, fingerprint, to_data
from grange.definitions.sources import DerivedSource, PushSource
from grange.definitions.transformations import Step, Transformation
from grange.errors import (
    CyclicDefinitionError,
    DefinitionError,
    DuplicateNameError,
    UnknownEntityError,
    UnknownFeatureError,
    UnknownFeatureGroupError,
    UnknownFeatureViewError,
    UnknownTransformationError,
    closest_names,
)
from grange.types import DataType, Schema, format_duration
from grange.types.durations import timedelta_of
from grange.types.schema import Column

if TYPE_CHECKING:
    from grange.definitions.expressions import Expression

Computed = Step | tuple[str, "Expression"]
"""What a view computes of its features: an on-demand step, or a derived feature with its name."""


@dataclass(frozen=True, slots=True)
class Taken:
    """A selection of a group as a view or a request takes it over."""

    selection: FeatureSelection
    labels: frozenset[tuple[str, str]] = frozenset()
    """(group, feature) of the labels of the views that it stands in: a selection that names no features leaves them
    out."""
    telling: frozenset[tuple[str, str]] = frozenset()
    """Those of the labels that are looked at as of the row's own time, so that a feature made of one tells it."""

    def features_of(self, group: FeatureGroup, stored: Iterable[str]) -> tuple[str, ...]:
        """What it takes of its group, in order.

        Args:
            group: its group.
            stored: the features that are stored of it; those that are made on demand come after them.
        """
        if self.selection.features:
            return self.selection.features
        made = made_on_demand(group)
        hidden = self._own(self.labels) | made_of(group, self._own(self.telling))
        names = (*(name for name in stored if name not in made), *made)
        return tuple(name for name in names if name not in hidden)

    def _own(self, labels: frozenset[tuple[str, str]]) -> frozenset[str]:
        return frozenset(feature for group, feature in labels if group == self.selection.source)


@dataclass(frozen=True, slots=True)
class _Labels:
    """The labels of the views that a selection stands in. See `Taken`."""

    all: frozenset[tuple[str, str]] = frozenset()
    telling: frozenset[tuple[str, str]] = frozenset()

    def with_those_of(self, view: FeatureView) -> _Labels:
        """These and the labels of one more view."""
        own = {(item.source, item.features[0]): rule for rule in view.label_rules if (item := rule.selection)}
        telling = {label for label, rule in own.items() if not rule.after or rule.observed == "at_event"}
        return _Labels(self.all | set(own), self.telling | telling)


@dataclass(frozen=True, slots=True)
class Catalog:
    """Entities, feature groups, feature views and transformations by name."""

    entities: Mapping[str, Entity]
    groups: Mapping[str, FeatureGroup]
    views: Mapping[str, FeatureView]
    transformations: Mapping[str, Transformation] = field(default_factory=lambda: MappingProxyType({}))

    @classmethod
    def of(cls, definitions: Iterable[Definition]) -> Catalog:
        """A catalog of definitions; groups bring their entities along, groups and views their transformations.

        Raises:
            DuplicateNameError: two different definitions share a name, or a group and a view do.
            DefinitionError: something that is no definition.
        """
        entities: dict[str, Entity] = {}
        groups: dict[str, FeatureGroup] = {}
        views: dict[str, FeatureView] = {}
        transformations: dict[str, Transformation] = {}
        for definition in definitions:
            match definition:
                case Entity():
                    _add(entities, definition, "entity")
                case FeatureGroup():
                    _add(groups, definition, "feature group")
                    for entity in definition.entities:
                        _add(entities, entity, "entity")
                    _add_steps(transformations, definition.on_demand)
                case FeatureView():
                    _add(views, definition, "feature view")
                    _add_steps(transformations, (*definition.on_demand, *definition.transformations))
                case Transformation():
                    _add(transformations, definition, "transformation")
                case _:
                    raise DefinitionError(
                        f"{definition!r} cannot be applied",
                        found=type(definition).__name__,
                        try_="apply entities, feature groups, feature views and transformations",
                    )
        both = sorted(groups.keys() & views.keys())
        if both:
            raise DuplicateNameError(f"{both[0]!r} is both a feature group and a feature view", try_="rename one")
        return cls(
            MappingProxyType(entities),
            MappingProxyType(groups),
            MappingProxyType(views),
            MappingProxyType(transformations),
        )

    def merged(self, other: Catalog) -> Catalog:
        """This catalog with the other's definitions added, the other's taking precedence."""
        return Catalog(
            MappingProxyType({**self.entities, **other.entities}),
            MappingProxyType({**self.groups, **other.groups}),
            MappingProxyType({**self.views, **other.views}),
            MappingProxyType({**self.transformations, **other.transformations}),
        )

    def entity(self, name: str) -> Entity:
        """The entity of a name, or UnknownEntityError with the closest ones."""
        if name in self.entities:
            return self.entities[name]
        raise UnknownEntityError(
            f"no entity {name!r} ({len(self.entities)} applied)", closest=closest_names(name, self.entities)
        )

    def group(self, name: str, *, asked_by: str | None = None) -> FeatureGroup:
        """The feature group of a name, or UnknownFeatureGroupError with the closest ones."""
        if name in self.groups:
            return self.groups[name]
        raise UnknownFeatureGroupError(
            f"no feature group {name!r} ({len(self.groups)} applied)",
            asked_by=asked_by,
            closest=closest_names(name, self.groups),
            try_="grange fg list" if self.groups else "grange apply",
        )

    def view(self, name: str) -> FeatureView:
        """The feature view of a name, or UnknownFeatureViewError with the closest ones."""
        if name in self.views:
            return self.views[name]
        raise UnknownFeatureViewError(
            f"no feature view {name!r} ({len(self.views)} applied)",
            closest=closest_names(name, [*self.views, *self.groups]),
            try_="grange fv list" if self.views else "grange apply",
        )

    def transformation(self, name: str) -> Transformation:
        """The transformation of a name, or UnknownTransformationError with the closest ones."""
        if name in self.transformations:
            return self.transformations[name]
        raise UnknownTransformationError(
            f"no transformation {name!r} ({len(self.transformations)} applied)",
            closest=closest_names(name, self.transformations),
            try_="grange transformation list",
        )

    def expand(self, selections: Iterable[FeatureSelection], *, asked_by: str) -> tuple[FeatureSelection, ...]:
        """Selections of groups only: a view in them is replaced by what it selects, recursively. Raises as `taken`."""
        return tuple(item.selection for item in self.taken(selections, asked_by=asked_by))

    def taken(self, selections: Iterable[FeatureSelection], *, asked_by: str) -> tuple[Taken, ...]:
        """What selections take of groups, views in them replaced by what they select, recursively.

        Raises:
            UnknownFeatureGroupError: a name that is neither a group nor a view.
            CyclicDefinitionError: a view contains itself.
            DefinitionError: a view selects one of its labels.
        """
        return tuple(self._expand(selections, asked_by, (), _Labels()))

    def taken_by(self, view: FeatureView) -> tuple[Taken, ...]:
        """What a view takes of groups, whether it is applied or not. Raises as `taken`."""
        return tuple(self._expand_view(view, (), _Labels()))

    def _expand(
        self, selections: Iterable[FeatureSelection], asked_by: str, path: tuple[str, ...], labels: _Labels
    ) -> Iterator[Taken]:
        for selection in selections:
            view = self.views.get(selection.source)
            if view is None:
                self._known(selection.source, asked_by)
                taken = Taken(selection, labels.all, labels.telling)
                _refuse_label(self.groups[selection.source], taken, asked_by)
                yield taken
                continue
            if selection != FeatureSelection(source=view.name):
                raise DefinitionError(
                    f"feature view {view.name!r} can only be taken over whole",
                    asked_by=asked_by,
                    found=str(selection),
                    try_="select from its feature groups instead",
                )
            yield from self._expand_view(view, path, labels)

    def _expand_view(self, view: FeatureView, path: tuple[str, ...], labels: _Labels) -> Iterator[Taken]:
        if view.name in path:
            raise CyclicDefinitionError(
                f"feature view {view.name!r} contains itself",
                found=" -> ".join((*path, view.name)),
                try_="take the view out of its own features",
            )
        yield from self._expand(
            view.features, f"feature view {view.name!r}", (*path, view.name), labels.with_those_of(view)
        )

    def _known(self, name: str, asked_by: str) -> None:
        if name not in self.groups:
            raise UnknownFeatureGroupError(
                f"no feature group or view {name!r} ({len(self.groups)} groups, {len(self.views)} views)",
                asked_by=asked_by,
                closest=closest_names(name, [*self.groups, *self.views]),
                try_="grange fg list" if self.groups else "grange apply",
            )

    def requests(self, view: FeatureView) -> Schema:
        """The columns that each request of a view must bring: its own request columns, those of the views it contains,
        and those that its on-demand features take.

        Raises:
            DefinitionError: one column of two types.
        """
        asked_by = f"feature view {view.name!r}"
        columns: dict[str, DataType] = {}
        for current in reversed(self._contained(view)):
            _bring(columns, (item for source in current.requests for item in source.schema), asked_by)
            _bring(columns, (item for step in current.on_demand for item in requested(step)), asked_by)
        return self.requests_of(self.taken_by(view), asked_by=asked_by, known=columns)

    def requests_of(
        self, taken: Iterable[Taken], *, asked_by: str, known: Mapping[str, DataType] | None = None
    ) -> Schema:
        """Request columns, and after them those that the on-demand features among what is taken need.

        Raises:
            DefinitionError: one column of two types.
        """
        columns: dict[str, DataType] = dict(known or {})
        for item in taken:
            group = self.group(item.selection.source, asked_by=asked_by)
            for step in steps_for(group, item.features_of(group, ())) if group.on_demand else ():
                _bring(columns, requested(step), asked_by)
        return Schema.of(columns)

    def computed(self, view: FeatureView) -> tuple[Computed, ...]:
        """What a view and the views that it contains compute of their features, those that others may use first: of
        each view its on-demand steps, then its derived features.

        Raises:
            DefinitionError: two different ones of a name.
        """
        found: dict[str, Computed] = {}

        def add(name: str, item: Computed) -> None:
            if found.setdefault(name, item) != item:
                raise DefinitionError(
                    f"feature view {view.name!r}: two computed features are called {name!r}",
                    found=f"{computed_text(found[name])} and {computed_text(item)}",
                    try_="rename one",
                )

        for current in self._contained(view):
            items: tuple[Computed, ...] = (*current.on_demand, *current.derived)
            for item in items:
                for name in computed_names(item):
                    add(name, item)
        return tuple(dict.fromkeys(found.values()))

    def _contained(self, view: FeatureView) -> tuple[FeatureView, ...]:
        """The views that a view contains, each once and after those that it contains itself; the view last."""
        found: dict[str, FeatureView] = {}

        def visit(current: FeatureView, path: tuple[str, ...]) -> None:
            for item in current.features:
                if item.source in self.views and item.source not in path:
                    visit(self.views[item.source], (*path, item.source))
            found.setdefault(current.name, current)

        visit(view, (view.name,))
        return tuple(found.values())

    def readers(self, source: str) -> tuple[FeatureGroup, ...]:
        """The groups that read a push source."""
        return tuple(
            group
            for group in self.groups.values()
            if isinstance(group.source, PushSource) and group.source.name == source
        )

    def check(self) -> None:
        """Check every view against the groups it names, and groups against their fixed schemas.

        Raises:
            UnknownFeatureGroupError, UnknownFeatureError, CyclicDefinitionError, DefinitionError.
        """
        for group in self.groups.values():
            if group.on_demand and group.schema:
                check_group_steps(group)
        for group in self.groups.values():
            if isinstance(group.source, DerivedSource):
                what = f"feature group {group.name!r}"
                for item in self.taken(group.source.features, asked_by=what):
                    self.check_selection(item.selection, asked_by=what)
        for view in self.views.values():
            selections = (item.selection for item in self.taken_by(view))
            for selection in (*selections, *view.label_features):
                self.check_selection(selection, asked_by=f"feature view {view.name!r}")
            self.requests(view)
            if view.exact:
                self._check_exact(view)

    def _check_exact(self, view: FeatureView) -> None:
        """Refuse features that are only exact at boundaries in a view that needs exactness (WIN-2, WIN-3).

        Raises:
            DefinitionError: names the feature.
        """
        for taken in self.taken_by(view):
            group = self.groups[taken.selection.source]
            names = taken.features_of(group, group.features().names)
            asked = {column for name in names for column in stored_inputs(group, name)}
            for aggregate in group.aggregates():
                if aggregate.every is not None and aggregate.name in asked:
                    raise DefinitionError(
                        f"feature view {view.name!r} is exact, and {group.name}:{aggregate.name} is the value of the "
                        f"last boundary of every {format_duration(timedelta_of(aggregate.every))}",
                        try_="leave every= out of the aggregation, exact=True out of the view, or the feature",
                    )

    def check_selection(self, selection: FeatureSelection, *, asked_by: str) -> None:
        """Check one selection against the group it names.

        Raises:
            UnknownFeatureGroupError, UnknownFeatureError: with the closest names.
            DefinitionError: `on` names a column that is no join key of the group.
        """
        group = self.group(selection.source, asked_by=asked_by)
        for key, _ in selection.on:
            if key not in group.join_keys:
                raise DefinitionError(
                    f"feature group {group.name!r} has no join key {key!r} to take from another column",
                    asked_by=asked_by,
                    found=", ".join(group.join_keys),
                    closest=closest_names(key, group.join_keys),
                )
        if selection.version is not None or not group.schema:
            return  # a pinned version has its own columns, looked at when it is read
        for feature in (*selection.features, *(name for name, _ in selection.rename)):
            self.check_feature(group, offered(group).names, feature, asked_by=asked_by)

    @staticmethod
    def check_feature(group: FeatureGroup, features: Collection[str], feature: str, *, asked_by: str | None) -> None:
        """Check that a group has a feature, or UnknownFeatureError with the closest ones."""
        if feature not in features:
            close = closest_names(feature, features)
            raise UnknownFeatureError(
                f'no feature "{group.name}:{feature}" ({len(features)} features in {group.name!r})',
                asked_by=asked_by,
                closest=[f"{group.name}:{name}" for name in close],
                try_=f"grange fg features {group.name}",
            )


def _refuse_label(group: FeatureGroup, taken: Taken, asked_by: str) -> None:
    """Refuse a selection that names a label, or what is made of one on demand: the model would be told what it is to
    predict.

    The same feature of another entity, or strictly before the label's time, has another value and may be taken, as may
    one whose label is its value at a later time.

    Raises:
        DefinitionError: names the label.
    """
    selection = taken.selection
    elsewhere = any(key != column for key, column in selection.on)
    if elsewhere or not selection.exact_matches:
        return
    for feature in selection.features:
        columns = (feature, *stored_inputs(group, feature))
        label = next((column for column in columns if (group.name, column) in taken.telling), None)
        if label is not None:
            how = (
                "both a feature and a label" if label == feature else f"made of {group.name}:{label}, which is a label"
            )
            raise DefinitionError(
                f"{group.name}:{feature} is {how}",
                asked_by=asked_by,
                found=str(selection),
                try_=f"take it out of the features; for its value before the label's time: "
                f"gr.select({group.name!r}, {feature!r}, prefix='last_', exact_matches=False)",
            )


def computed_names(item: Computed) -> tuple[str, ...]:
    """The features that are computed."""
    return item.output_names if isinstance(item, Step) else item[:1]


def computed_text(item: Computed) -> str:
    """What is computed, as it was written."""
    return str(item) if isinstance(item, Step) else item[1].text


def _bring(columns: dict[str, DataType], brought: Iterable[Column], asked_by: str) -> None:
    """Add columns that a request brings.

    Raises:
        DefinitionError: one is there with another type.
    """
    for column in brought:
        known = columns.setdefault(column.name, column.dtype)
        if known != column.dtype:
            raise DefinitionError(
                f"{asked_by}: request column {column.name!r} has two types", found=f"{known} and {column.dtype}"
            )


T = TypeVar("T", Entity, FeatureGroup, FeatureView, Transformation)


def _add_steps(known: dict[str, Transformation], steps: Iterable[Step]) -> None:
    for step in steps:
        if step.transformation is not None:
            _add(known, step.transformation, "transformation")


def _add(known: dict[str, T], definition: T, what: str) -> None:
    other = known.get(definition.name)
    if other is not None and fingerprint(to_data(other)) != fingerprint(to_data(definition)):
        raise DuplicateNameError(
            f"two different definitions of {what} {definition.name!r}",
            try_="rename one, or import the one definition where the other stands",
        )
    known.setdefault(definition.name, definition)
