"""The gate of one store: what is worked out once for all its callers."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from grange.access.access import Access
from grange.access.sight import Sight
from grange.definitions.feature_view import FeatureView
from grange.verbs.origins import Ancestry, groups_asked, origins

if TYPE_CHECKING:
    from grange.definitions.catalog import Catalog
    from grange.security import Security
    from grange.security.policies import Action, Policies
    from grange.security.principals import Principal
    from grange.store import FeatureStore
    from grange.verbs.origins import MadeOf

_LIMIT: Final = 1024
"""How many requests, and how many callers of them, are remembered."""


@dataclass(frozen=True, slots=True, eq=False)
class State:
    """One state of definitions and policies, with what was decided under it. What is remembered goes with it: no
    decision outlives what it was decided by, whichever thread comes last."""

    catalog: Catalog
    policies: Policies
    ancestry: Ancestry
    sights: dict[Any, Sight] = field(default_factory=dict)
    masks: dict[Any, frozenset[str]] = field(default_factory=dict)


class Gate:
    """Hands each caller their way to one store. Safe for several threads.

    Args:
        store: the store.
        security: its keys, policies and audit log.
        clock: the moment; for the audit log and the policies in force (TIME-3).
    """

    def __init__(
        self,
        store: FeatureStore,
        security: Security,
        clock: Callable[[], dt.datetime] = lambda: dt.datetime.now(dt.UTC),
    ) -> None:
        self.store = store
        self.security = security
        self.clock = clock
        self._state: State | None = None

    def access(self, principal: Principal, request_id: str = "") -> Access:
        """One caller's way."""
        return Access(self, principal, request_id)

    def policies(self) -> Policies:
        """The policies in force, at most some seconds old."""
        return self.security.policies.current(now=self.clock())

    def state(self) -> State:
        """The definitions, and the policies in force, at most some seconds old."""
        catalog, policies, known = self.store.catalog, self.policies(), self._state
        if known is not None and known.catalog is catalog and known.policies is policies:
            return known
        same = known is not None and known.catalog is catalog
        ancestry = known.ancestry if known is not None and same else Ancestry(self.store._parts, catalog)
        self._state = fresh = State(catalog, policies, ancestry)
        return fresh

    def masked(self, principal: Principal, action: Action, features: Any, **how: Any) -> frozenset[str]:
        """The columns that are masked of an answer to a request.

        Args:
            principal: who asks.
            action: what for.
            features: what is asked for, as verbs take it.
            how: `labels`, `full_feature_names`, as `FeatureStore.origins` takes them.

        Raises:
            ForbiddenError: a feature is denied.
            and what `FeatureStore.origins` does.
        """
        state = self.state()
        named = tuple(features) if type(features) is list else features
        request = (named, type(features), *how.items())
        try:
            known = state.masks.get((principal, action, request))
        except TypeError:  # references that are no dict keys
            return self._sight(state, features, how).masked(state.policies, principal, action)
        if known is None:
            sight = state.sights.get(request)
            if sight is None:
                sight = self._sight(state, features, how)
                _remember(state.sights, request, sight)
            known = sight.masked(state.policies, principal, action)
            _remember(state.masks, (principal, action, request), known)
        return known

    def made_of(self, features: Any, **how: Any) -> MadeOf:
        """What each column of an answer is made of. Takes and raises what `FeatureStore.origins` does."""
        state = self.state()
        return origins(self.store._parts, state.catalog, features, ancestry=state.ancestry, **how)

    def _sight(self, state: State, features: Any, how: dict[str, Any]) -> Sight:
        view = view_of(state.catalog, features)
        made_of = origins(self.store._parts, state.catalog, features, ancestry=state.ancestry, **how)
        asked = groups_asked(state.catalog, features, labels=how["labels"])
        what = f"feature view {view!r}" if view else "request"
        return Sight.of(state.catalog, made_of, what=what, asked=asked, view=view)


def view_of(catalog: Catalog, features: Any) -> str | None:
    """The name of the view that a request is for; None for a list of references, and for a group."""
    if isinstance(features, FeatureView):
        return features.name
    return features if isinstance(features, str) and features in catalog.views else None


def _remember(known: dict[Any, Any], key: Any, value: Any) -> None:
    if len(known) >= _LIMIT:
        known.clear()
    known[key] = value
