"""Feature sets between two calls: a document per set and one per feature, beside the definitions that they become.

A feature has a document of its own, so that two clients who add features to one set at once both succeed: whoever
applies looks again afterwards whether there is more to apply.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from grange.errors import ConflictError, RefusedError
from grange.http.compat.feature_store_2.sets import Feature, FeatureSet, stable_id
from grange.ports.registry import Document, Documents
from grange.types.time import isoformat

SETS: Final = "feature_sets"
FEATURES: Final = "feature_set_features"


@dataclass(frozen=True, slots=True)
class Times:
    """When something was first and last written."""

    created_at: dt.datetime
    updated_at: dt.datetime

    def to_data(self) -> dict[str, str]:
        """For JSON."""
        return {"created_at": isoformat(self.created_at), "updated_at": isoformat(self.updated_at)}


@dataclass(frozen=True, slots=True)
class KeptSet:
    """A feature set with when it was written."""

    feature_set: FeatureSet
    times: Times


@dataclass(frozen=True, slots=True)
class KeptFeature:
    """A feature with its set, and when it was written."""

    feature: Feature
    feature_set: str
    """Empty while it is in none."""
    times: Times


class Kept:
    """What a project's clients said of feature sets.

    Args:
        documents: the project's.
        project: its name, which ids are made of.
    """

    def __init__(self, documents: Documents, project: str) -> None:
        self._documents = documents
        self._project = project

    def id_of_set(self, name: str) -> str:
        """The id of a feature set, applied or not."""
        return stable_id(self._project, name)

    def id_of_feature(self, feature_set: str, name: str) -> str:
        """The id of a feature of a set; of one in none, the set is empty."""
        return stable_id(self._project, feature_set, name)

    def get(self, name: str) -> KeptSet | None:
        """A set with its features; None when none of this name was ever begun."""
        document = self._documents.get(SETS, name)
        return None if document is None else self._whole(document)

    def sets(self) -> tuple[KeptSet, ...]:
        """All sets, by name."""
        return tuple(self._whole(document) for document in self._documents.documents(SETS, limit=None))

    def put(self, given: FeatureSet, *, now: dt.datetime, is_new: bool) -> None:
        """Write a set, without its features.

        Raises:
            RefusedError: it is new, and one of this name is there.
        """
        try:
            self._documents.put(SETS, given.name, given.to_data(), now=now, expected="absent" if is_new else "present")
        except ConflictError as error:
            raise _there(f"feature set {given.name!r}", is_new) from error

    def feature(self, feature_set: str, name: str) -> KeptFeature | None:
        """One feature."""
        document = self._documents.get(FEATURES, _key(feature_set, name))
        return None if document is None else _kept_feature(document)

    def features(self) -> tuple[KeptFeature, ...]:
        """All features, in sets and in none."""
        return tuple(_kept_feature(document) for document in self._documents.documents(FEATURES, limit=None))

    def put_feature(self, feature_set: str, feature: Feature, *, now: dt.datetime, is_new: bool) -> None:
        """Write a feature. Raises as `put`."""
        data = {"feature_set": feature_set, "feature": feature.to_data()}
        expected: Any = "absent" if is_new else "present"
        try:
            self._documents.put(FEATURES, _key(feature_set, feature.name), data, now=now, expected=expected)
        except ConflictError as error:
            raise _there(f"feature {feature.name!r}", is_new) from error

    def remove_feature(self, feature_set: str, name: str) -> bool:
        """Forget a feature; whether there was one."""
        return self._documents.remove(FEATURES, _key(feature_set, name))

    def remove(self, name: str) -> bool:
        """Forget a set with its features; whether there was one."""
        for kept in self._features(name):
            self.remove_feature(name, kept.feature.name)
        return self._documents.remove(SETS, name)

    def _whole(self, document: Document) -> KeptSet:
        features = [kept.feature for kept in self._features(document.key)]
        return KeptSet(FeatureSet.of(document.data).with_features(features), _times(document))

    def _features(self, feature_set: str) -> tuple[KeptFeature, ...]:
        """A set's features, in the order in which they were added."""
        found = self._documents.documents(FEATURES, prefix=f"{feature_set}/", limit=None)
        kept = [_kept_feature(document) for document in found]
        return tuple(sorted(kept, key=lambda each: (each.times.created_at, each.feature.name)))


def _key(feature_set: str, name: str) -> str:
    return f"{feature_set}/{name}"


def _kept_feature(document: Document) -> KeptFeature:
    said: Mapping[str, Any] = document.data
    return KeptFeature(Feature.of(said["feature"]), said["feature_set"], _times(document))


def _times(document: Document) -> Times:
    return Times(document.created_at, document.updated_at)


def _there(what: str, is_new: bool) -> RefusedError:
    if is_new:
        return RefusedError(f"{what} is there already", try_="PATCH changes it, DELETE removes it")
    return RefusedError(f"{what} was removed meanwhile", try_="POST creates it")


__all__ = ["Kept", "KeptFeature", "KeptSet", "Times"]
