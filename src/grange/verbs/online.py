"""get_online_features: a plan made once per request shape, kept while the definitions stay the same."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from grange.definitions.catalog import Catalog
from grange.plan.bind import bind, resolve
from grange.plan.nodes import ReadPlan
from grange.plan.read import plan_read
from grange.serving.reader import OnlineReader
from grange.verbs.parts import Parts


class Readers:
    """Online readers by what was asked, for one state of the definitions."""

    __slots__ = ("_by_request", "_catalog", "_parts")

    LIMIT = 256
    """How many different requests are kept; a service asks for a handful."""

    def __init__(self, parts: Parts, catalog: Catalog) -> None:
        self._parts = parts
        self._catalog = catalog
        self._by_request: dict[Any, OnlineReader] = {}

    def get(self, features: Any, *, full_feature_names: bool) -> OnlineReader:
        """The reader of a request, made if it is new.

        Raises:
            UnknownFeatureViewError, UnknownFeatureGroupError, UnknownFeatureError, NameCollisionError, RequestError.
        """
        key = (_hashable(features), full_feature_names)
        reader = self._by_request.get(key)
        if reader is None:
            plan = read_plan(self._parts, self._catalog, features, full_feature_names=full_feature_names)
            reader = OnlineReader(plan, self._parts.online)
            if len(self._by_request) >= self.LIMIT:
                self._by_request.clear()
            self._by_request[key] = reader
        return reader


def read_plan(parts: Parts, catalog: Catalog, features: Any, *, full_feature_names: bool) -> ReadPlan:
    """The plan of an online read."""
    asked = resolve(catalog, features)
    bound = bind(catalog, asked, {}, labels=False, full_feature_names=full_feature_names)
    return plan_read(asked, bound, store=parts.online_name)


def _hashable(features: Any) -> Any:
    if isinstance(features, Sequence) and not isinstance(features, str | tuple):
        return tuple(features)
    return features if isinstance(features, str | tuple) else ("definition", features.name)
