"""What a client's calls do: begin a set, add features to it, apply what is whole.

A change is checked before it is kept: what could not be applied, because of its SQL, its types or its source, is an
error and changes nothing. What only waits for something is kept as a draft.
"""

from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

from grange.definitions.sources import FileSource
from grange.errors import (
    NotFoundError,
    RefusedError,
    UnknownFeatureError,
    UnknownFeatureGroupError,
    closest_names,
)
from grange.http.compat.feature_store_2.definitions import group_of, meanings_of
from grange.http.compat.feature_store_2.keeping import Kept, KeptFeature, KeptSet
from grange.http.compat.feature_store_2.sets import Feature, FeatureSet, source_of
from grange.http.compat.places import check_data_path
from grange.jobs import documents_of
from grange.security.principals import Permission

if TYPE_CHECKING:
    from grange.definitions.feature_group import FeatureGroup
    from grange.http.context import Caller
    from grange.store import FeatureStore

_ROUNDS = 8
"""How often one call applies a set that other servers' clients keep adding to meanwhile."""
_locks: Final[WeakKeyDictionary[FeatureStore, threading.Lock]] = WeakKeyDictionary()
"""By store, held while a set is applied: of one server's clients one applies after another."""


@dataclass(frozen=True, slots=True)
class Found:
    """A feature set: its group where it is applied, what clients said of it, or both."""

    name: str
    group: FeatureGroup | None
    kept: KeptSet | None


class FeatureSets:
    """The feature sets of a caller's project."""

    def __init__(self, caller: Caller, now: dt.datetime) -> None:
        self._caller = caller
        self._now = now
        self.kept = Kept(documents_of(caller.project.store), caller.project.name)

    # looking

    def all(self) -> list[Found]:
        """All sets that the caller may see, by name: applied groups, and drafts."""
        groups = self._groups()
        drafts = {kept.feature_set.name: kept for kept in self.kept.sets()}
        return [
            Found(name, groups.get(name), drafts.get(name))
            for name in sorted({*groups, *drafts})
            if self._caller.access.may(Permission.READ_DEFINITIONS, name)
        ]

    def find(self, id: str) -> Found:
        """A set by its name or id.

        Raises:
            UnknownFeatureGroupError: there is none; carries the closest.
        """
        groups = self._groups()
        if id in groups:
            return Found(id, groups[id], self.kept.get(id))
        drafts = {kept.feature_set.name: kept for kept in self.kept.sets()}
        for name in (*groups, *drafts):
            if id in (name, self.kept.id_of_set(name)):
                return Found(name, groups.get(name), drafts.get(name))
        raise UnknownFeatureGroupError(
            f"no feature set {id!r}",
            closest=closest_names(id, [*groups, *drafts]),
            try_="GET /api/v1/feature-sets",
        )

    def find_feature(self, id: str) -> KeptFeature:
        """A feature that a client defined, by its id, `set:name`, or name while it is in no set.

        Raises:
            UnknownFeatureError: there is none.
        """
        of, _, name = id.rpartition(":")
        found = self.kept.feature(of, name)
        if found is not None:
            return found
        for kept in self.kept.features():
            if self.kept.id_of_feature(kept.feature_set, kept.feature.name) == id:
                return kept
        raise UnknownFeatureError(f"no feature {id!r} was defined", try_="GET /api/v1/feature-sets")

    def missing(self, feature: KeptFeature) -> list[str]:
        """What a feature waits for."""
        if not feature.feature_set:
            return ["feature_set_id"]
        kept = self.kept.get(feature.feature_set)
        return list(kept.feature_set.missing) if kept is not None else []

    # changing

    def create(self, given: FeatureSet) -> Found:
        """Begin a set.

        Raises:
            RefusedError: one of this name is there.
            DefinitionError: a source that is none.
        """
        if given.name in self._groups():
            raise RefusedError(
                f"feature set {given.name!r} is there already", try_=f"GET /api/v1/feature-sets/{given.name}"
            )
        self._check_place(given)
        with self._writing("create feature set", given.name):
            self.kept.put(given, now=self._now, is_new=True)
        return self.find(given.name)

    def change(self, id: str, changes: Mapping[str, Any]) -> Found:
        """Change what was said of a set, and apply it if it is whole.

        Raises:
            UnknownFeatureGroupError: there is none.
            RefusedError: it was not made here: its definition says more than a set can.
        """
        before = self._own(id).feature_set
        after = FeatureSet.of(before.to_data() | dict(changes)).with_features(before.features)
        if after.source != before.source:
            self._check_place(after)
        with self._writing("change feature set", before.name):
            self._check(after)
            self.kept.put(after, now=self._now, is_new=False)
            try:
                self._apply(after.name)
            except BaseException:
                self.kept.put(before, now=self._now, is_new=False)
                raise
        return self.find(after.name)

    def add_feature(self, id: str | None, feature: Feature) -> KeptFeature:
        """Define a feature, in a set or for one to come, and apply the set if it is whole.

        Raises:
            UnknownFeatureGroupError: no such set.
            RefusedError: there is such a feature; the set was not made here.
            DefinitionError: SQL, types, rules or a source that do not go together.
        """
        name = "" if id is None else self._own(id).feature_set.name
        with self._writing("define feature", name or feature.name):
            self.kept.put_feature(name, feature, now=self._now, is_new=True)
            try:
                self._check_and_apply(name)
            except BaseException:
                self.kept.remove_feature(name, feature.name)
                raise
        return self._kept_feature(name, feature.name)

    def change_feature(self, id: str, changes: Mapping[str, Any], *, into: str | None) -> KeptFeature:
        """Change a feature; or put one that is in no set into one.

        Raises:
            UnknownFeatureError, UnknownFeatureGroupError: there is none.
            RefusedError: it is in another set already.
            DefinitionError: as `add_feature`; nothing changed.
        """
        kept = self.find_feature(id)
        changed = Feature.of(kept.feature.to_data() | dict(changes))
        target = kept.feature_set if into is None else self._own(into).feature_set.name
        if kept.feature_set and target != kept.feature_set:
            raise RefusedError(
                f"feature {kept.feature.name!r} is in feature set {kept.feature_set!r}", try_="DELETE it"
            )
        if target != kept.feature_set:
            added = self.add_feature(target, changed)
            self.kept.remove_feature("", kept.feature.name)
            return added
        with self._writing("change feature", target or changed.name):
            self.kept.put_feature(target, changed, now=self._now, is_new=False)
            try:
                self._check_and_apply(target)
            except BaseException:
                self.kept.put_feature(target, kept.feature, now=self._now, is_new=False)
                raise
        return self._kept_feature(target, changed.name)

    def remove_feature(self, id: str) -> None:
        """Take a feature out of its set, and apply what is left of it.

        Raises:
            UnknownFeatureError: there is none.
            RefusedError: it is the last one: the set itself is what to delete.
        """
        kept = self.find_feature(id)
        of = self.kept.get(kept.feature_set) if kept.feature_set else None
        left = [] if of is None else [each for each in of.feature_set.features if each.name != kept.feature.name]
        if of is not None and kept.feature_set in self._groups() and of.feature_set.with_features(left).missing:
            raise RefusedError(
                f"feature set {kept.feature_set!r} cannot be without feature {kept.feature.name!r}",
                found=", ".join(of.feature_set.with_features(left).missing),
                try_=f"DELETE /api/v1/feature-sets/{kept.feature_set}",
            )
        with self._writing("remove feature", kept.feature_set or kept.feature.name):
            self.kept.remove_feature(kept.feature_set, kept.feature.name)
            try:
                self._check_and_apply(kept.feature_set)
            except BaseException:
                self.kept.put_feature(kept.feature_set, kept.feature, now=self._now, is_new=True)
                raise

    def remove(self, id: str) -> tuple[str, ...]:
        """Delete a set, with its group and everything stored of it; returns what was removed.

        Raises:
            UnknownFeatureGroupError: there is none.
            InUseError: a feature view still uses it.
        """
        found = self.find(id)
        removed: tuple[str, ...] = ()
        if found.group is not None:
            removed = tuple(self._caller.access.delete(found.name))
        else:
            self._caller.access.check(Permission.DELETE_DEFINITIONS, found.name)
        self.kept.remove(found.name)
        return removed or (f"feature set {found.name}",)

    def whole(self, id: str) -> str:
        """The name of a set that is applied.

        Raises:
            UnknownFeatureGroupError: there is none.
            RefusedError: it is a draft; says what it waits for.
        """
        found = self.find(id)
        if found.group is None:
            waits = "" if found.kept is None else ", ".join(found.kept.feature_set.missing)
            raise RefusedError(
                f"feature set {found.name!r} is a draft",
                found=f"it waits for: {waits}",
                try_=f'PATCH /api/v1/feature-sets/{found.name} {{"source": {{"path": ..., "event_time": ...}}}}',
                details={"missing": [] if found.kept is None else list(found.kept.feature_set.missing)},
            )
        return found.name

    # parts of these

    def _groups(self) -> Mapping[str, FeatureGroup]:
        return self._caller.project.store.catalog.groups

    def _writing(self, action: str, name: str) -> Any:
        return self._caller.access.writing(Permission.WRITE_DEFINITIONS, action, name)

    def _own(self, id: str) -> KeptSet:
        found = self.find(id)
        if found.kept is None:
            raise RefusedError(
                f"feature group {found.name!r} was not made as a feature set",
                found="a definition that may say more than a feature set can",
                try_="change it where it is defined, and apply it",
            )
        return found.kept

    def _kept_feature(self, feature_set: str, name: str) -> KeptFeature:
        found = self.kept.feature(feature_set, name)
        if found is None:
            raise NotFoundError(f"feature {name!r} was removed meanwhile")
        return found

    def _check_and_apply(self, name: str) -> None:
        kept = self.kept.get(name) if name else None
        if kept is not None:
            self._check(kept.feature_set)
            self._apply(name)

    def _check(self, given: FeatureSet) -> None:
        """Check as much of a set as can be told of a draft."""
        if given.source is not None:
            meanings_of(given, self._caller.project.store.catalog.entities)

    def _check_place(self, given: FeatureSet) -> None:
        """Refuse files that are not data of the project.

        Raises:
            DefinitionError: it is no source.
            ForbiddenError: its path leads elsewhere.
        """
        source = None if given.source is None else source_of(given)
        if isinstance(source, FileSource):
            check_data_path(source.path, what=f"feature set {given.name!r}", project=self._caller.project.store.project)

    def _apply(self, name: str) -> None:
        """Apply a set if it is whole; again, if somebody added to it meanwhile."""
        store = self._caller.project.store
        done: FeatureSet | None = None
        with _locks.setdefault(store, threading.Lock()):
            for _ in range(_ROUNDS):
                kept = self.kept.get(name)
                if kept is None or kept.feature_set.missing or kept.feature_set == done:
                    return
                done = kept.feature_set
                self._caller.access.apply(group_of(done, store.catalog.entities))


__all__ = ["FeatureSets", "Found"]
