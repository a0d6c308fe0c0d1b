"""Catalog: definitions that belong together, checked against each other."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeVar

from grange.definitions.entity import Entity
from grange.definitions.feature_group import FeatureGroup
from grange.definitions.feature_view import FeatureView
from grange.definitions.references import FeatureSelection
from grange.definitions.serialize import Definition, fingerprint, to_data
from grange.definitions.sources import PushSource
from grange.errors import (
    CyclicDefinitionError,
    DefinitionError,
    DuplicateNameError,
    UnknownEntityError,
    UnknownFeatureError,
    UnknownFeatureGroupError,
    UnknownFeatureViewError,
    closest_names,
)
from grange.types import Schema, format_duration
from grange.types.durations import timedelta_of

if TYPE_CHECKING:
    from grange.definitions.expressions import Expression


@dataclass(frozen=True, slots=True)
class Taken:
    """A selection of a group as a view or a request takes it over."""

    selection: FeatureSelection
    labels: frozenset[tuple[str, str]] = frozenset()
    """(group, feature) of the labels of the views that it stands in: a selection that names no features leaves them
    out."""

    @property
    def hidden(self) -> frozenset[str]:
        """The features of its group that it does not take unless it names them."""
        return frozenset(feature for group, feature in self.labels if group == self.selection.source)


@dataclass(frozen=True, slots=True)
class Catalog:
    """Entities, feature groups and feature views by name."""

    entities: Mapping[str, Entity]
    groups: Mapping[str, FeatureGroup]
    views: Mapping[str, FeatureView]

    @classmethod
    def of(cls, definitions: Iterable[Definition]) -> Catalog:
        """A catalog of definitions; groups bring their entities along.

        Raises:
            DuplicateNameError: two different definitions share a name, or a group and a view do.
            DefinitionError: something that is no definition.
        """
        entities: dict[str, Entity] = {}
        groups: dict[str, FeatureGroup] = {}
        views: dict[str, FeatureView] = {}
        for definition in definitions:
            match definition:
                case Entity():
                    _add(entities, definition, "entity")
                case FeatureGroup():
                    _add(groups, definition, "feature group")
                    for entity in definition.entities:
                        _add(entities, entity, "entity")
                case FeatureView():
                    _add(views, definition, "feature view")
                case _:
                    raise DefinitionError(
                        f"{definition!r} cannot be applied",
                        found=type(definition).__name__,
                        try_="apply entities, feature groups and feature views",
                    )
        both = sorted(groups.keys() & views.keys())
        if both:
            raise DuplicateNameError(f"{both[0]!r} is both a feature group and a feature view", try_="rename one")
        return cls(MappingProxyType(entities), MappingProxyType(groups), MappingProxyType(views))

    def merged(self, other: Catalog) -> Catalog:
        """This catalog with the other's definitions added, the other's taking precedence."""
        return Catalog(
            MappingProxyType({**self.entities, **other.entities}),
            MappingProxyType({**self.groups, **other.groups}),
            MappingProxyType({**self.views, **other.views}),
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
        return tuple(self._expand(selections, asked_by, (), frozenset()))

    def taken_by(self, view: FeatureView) -> tuple[Taken, ...]:
        """What a view takes of groups, whether it is applied or not. Raises as `taken`."""
        return tuple(self._expand_view(view, (), frozenset()))

    def _expand(
        self,
        selections: Iterable[FeatureSelection],
        asked_by: str,
        path: tuple[str, ...],
        labels: frozenset[tuple[str, str]],
    ) -> Iterable[Taken]:
        for selection in selections:
            view = self.views.get(selection.source)
            if view is None:
                self._known(selection.source, asked_by)
                _refuse_label(selection, labels, asked_by)
                yield Taken(selection, labels)
                continue
            if selection != FeatureSelection(source=view.name):
                raise DefinitionError(
                    f"feature view {view.name!r} can only be taken over whole",
                    asked_by=asked_by,
                    found=str(selection),
                    try_="select from its feature groups instead",
                )
            yield from self._expand_view(view, path, labels)

    def _expand_view(
        self, view: FeatureView, path: tuple[str, ...], labels: frozenset[tuple[str, str]]
    ) -> Iterable[Taken]:
        if view.name in path:
            raise CyclicDefinitionError(
                f"feature view {view.name!r} contains itself",
                found=" -> ".join((*path, view.name)),
                try_="take the view out of its own features",
            )
        own = {(label.source, feature) for label in view.label_features for feature in label.features}
        yield from self._expand(view.features, f"feature view {view.name!r}", (*path, view.name), labels | own)

    def _known(self, name: str, asked_by: str) -> None:
        if name not in self.groups:
            raise UnknownFeatureGroupError(
                f"no feature group or view {name!r} ({len(self.groups)} groups, {len(self.views)} views)",
                asked_by=asked_by,
                closest=closest_names(name, [*self.groups, *self.views]),
                try_="grange fg list" if self.groups else "grange apply",
            )

    def requests(self, view: FeatureView) -> Schema:
        """The request columns of a view and of the views it contains."""
        columns: dict[str, object] = {}
        pending, seen = [view], set()
        while pending:
            current = pending.pop()
            if current.name in seen:
                continue
            seen.add(current.name)
            for source in current.requests:
                for column in source.schema:
                    known = columns.setdefault(column.name, column.dtype)
                    if known != column.dtype:
                        raise DefinitionError(
                            f"feature view {view.name!r}: request column {column.name!r} has two types",
                            found=f"{known} and {column.dtype}",
                        )
            pending += [self.views[item.source] for item in current.features if item.source in self.views]
        return Schema.of(columns)

    def derived(self, view: FeatureView) -> tuple[tuple[str, Expression], ...]:
        """The derived features of a view and of the views it contains, those that others may use first.

        Raises:
            DefinitionError: two different ones of a name.
        """
        found: dict[str, Expression] = {}

        def visit(current: FeatureView, path: tuple[str, ...]) -> None:
            for item in current.features:
                if item.source in self.views and item.source not in path:
                    visit(self.views[item.source], (*path, item.source))
            for name, expression in current.derived:
                if found.setdefault(name, expression) != expression:
                    raise DefinitionError(
                        f"feature view {view.name!r}: two derived features are called {name!r}",
                        found=f"{found[name].text} and {expression.text}",
                        try_="rename one",
                    )

        visit(view, (view.name,))
        return tuple(found.items())

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
            for aggregate in group.aggregates():
                asked = taken.selection.features or tuple(item.name for item in group.aggregates())
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
            self.check_feature(group, group.features(), feature, asked_by=asked_by)

    @staticmethod
    def check_feature(group: FeatureGroup, features: Schema, feature: str, *, asked_by: str | None) -> None:
        """Check that a group has a feature, or UnknownFeatureError with the closest ones."""
        if feature not in features:
            close = closest_names(feature, features.names)
            raise UnknownFeatureError(
                f'no feature "{group.name}:{feature}" ({len(features)} features in {group.name!r})',
                asked_by=asked_by,
                closest=[f"{group.name}:{name}" for name in close],
                try_=f"grange fg features {group.name}",
            )


def _refuse_label(selection: FeatureSelection, labels: frozenset[tuple[str, str]], asked_by: str) -> None:
    """Refuse a selection that names a label: the model would be told what it is to predict.

    The same feature of another entity, or strictly before the label's time, has another value and may be taken.

    Raises:
        DefinitionError: names the label.
    """
    elsewhere = any(key != column for key, column in selection.on)
    if elsewhere or not selection.exact_matches:
        return
    for feature in selection.features:
        if (selection.source, feature) in labels:
            raise DefinitionError(
                f"{selection.source}:{feature} is both a feature and a label",
                asked_by=asked_by,
                found=str(selection),
                try_=f"take it out of the features; for its value before the label's time: "
                f"gr.select({selection.source!r}, {feature!r}, prefix='last_', exact_matches=False)",
            )


T = TypeVar("T", Entity, FeatureGroup, FeatureView)


def _add(known: dict[str, T], definition: T, what: str) -> None:
    other = known.get(definition.name)
    if other is not None and fingerprint(to_data(other)) != fingerprint(to_data(definition)):
        raise DuplicateNameError(
            f"two different definitions of {what} {definition.name!r}",
            try_="rename one, or import the one definition where the other stands",
        )
    known.setdefault(definition.name, definition)
