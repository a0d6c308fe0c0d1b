"""Request shapes that were seen: who asks for which features, decided once, as long as nothing changes."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from grange.http.selections import selections_of

if TYPE_CHECKING:
    from grange.access import Vectors
    from grange.definitions.catalog import Catalog
    from grange.http.live import LiveProject, LiveProjects
    from grange.http.messages import Call
    from grange.http.selections import Features
    from grange.security.policies import Policies
    from grange.security.principals import Principal

_MOST: Final = 4096
_MOST_NAMES: Final = 200_000
"""Features that all plans name at most: what is worked out for each takes memory."""
_SAMPLED_SHARE: Final = 0.01
"""Of the time, what counting statuses may cost."""

Shape = tuple[Any, ...]
"""What decides how a request is answered, besides its rows: features and options."""


@dataclass(slots=True, eq=False)
class Plan:
    """One caller's request shape, under one state of definitions and policies."""

    read: Callable[[Any, Any], Vectors]
    """From rows and the time to read at to vectors."""
    live: LiveProject
    principal: Principal
    catalog: Catalog
    policies: Policies | None
    view: str
    """The view that is read; empty for a list of references, and for a group."""
    is_slow: bool = False
    """Whether its last read took so long that others would have noticed, had it been on the event loop: a view's own
    functions run where the vectors are made."""
    sample_at: float = 0.0
    unsampled: int = 0
    """Vectors since statuses were counted last."""

    def is_good(self, principal: Principal) -> bool:
        """Whether it still says what would be decided now."""
        live = self.live
        return (
            self.policies is live.policies
            and self.catalog is live.project.store.catalog
            and (self.principal is principal or self.principal == principal)
            and live.is_fresh
        )

    def is_sampled(self, rows: int, now: float) -> int:
        """How many vectors the statuses of these stand for; 0 when they are not to be counted."""
        self.unsampled += rows
        if now < self.sample_at or not rows:
            return 0
        weight, self.unsampled = self.unsampled, 0
        return weight

    def sampled(self, started: float, ended: float) -> None:
        """Statuses were counted; the next time is when that is a small share of the time in between."""
        self.sample_at = ended + (ended - started) / _SAMPLED_SHARE


class Plans:
    """The plans of a server.

    Args:
        projects: what is served.
    """

    def __init__(self, projects: LiveProjects) -> None:
        self._projects = projects
        self._known: dict[tuple[str, str, Shape], Plan] = {}
        self._names = 0

    def get(self, call: Call, shape: Shape) -> Plan | None:
        """The plan of a request shape, if there is a good one."""
        caller = call.caller
        plan = self._known.get((caller.project.name, caller.principal.id, shape))
        return plan if plan is not None and plan.is_good(caller.principal) else None

    def make(self, call: Call, features: Features, shape: Shape, options: dict[str, Any]) -> Plan:
        """A plan, made anew. Reads definitions, policies and metadata, so it is for a thread.

        Raises:
            ForbiddenError: the caller may not.
            TooLargeError: more features than one request may name.
            and what `FeatureStore.get_online_features` does.
        """
        caller = call.caller
        live = self._projects.of(caller.project)
        if not live.is_fresh:
            live.look()
        catalog, policies = caller.project.store.catalog, live.policies
        asked, names = selections_of(catalog, features)
        read = caller.access.vectors(asked, **options)
        read([], None)  # works out all that does not depend on the rows
        view = features if isinstance(features, str) and features in catalog.views else ""
        plan = Plan(read, live, caller.principal, catalog, policies, view, sample_at=time.monotonic())
        if len(self._known) >= _MOST or self._names + names > _MOST_NAMES:
            self._known.clear()
            self._names = 0
        self._names += names
        self._known[caller.project.name, caller.principal.id, shape] = plan
        return plan
