"""What of a request's answer a caller may see: decided per stored feature, carried to the columns made of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from grange.errors import ForbiddenError
from grange.security.policies import Action, Decision, Resource, Resources

if TYPE_CHECKING:
    from grange.definitions.catalog import Catalog
    from grange.security.policies import Policies
    from grange.security.principals import Principal
    from grange.verbs.origins import MadeOf, Origin

_WEIGHT: Final = ("allow", "mask", "deny")
"""Effects, from the most open to the most closed."""


@dataclass(frozen=True, slots=True)
class Sight:
    """The stored features of one request, and the columns that are made of each."""

    what: str
    """What is asked for, for messages."""
    asks: Resources
    features: tuple[Resource, ...]
    columns: tuple[tuple[str, ...], ...]
    """By feature, the columns of the answer that it is part of."""

    @classmethod
    def of(
        cls, catalog: Catalog, made_of: MadeOf, *, what: str, asked: Iterable[str], view: str | None = None
    ) -> Sight:
        """Of the columns of an answer.

        Args:
            catalog: the definitions.
            made_of: by column, its origins, as `grange.verbs.origins` has them.
            what: what is asked for, for messages.
            asked: the groups that are asked for themselves; others are what these are made of.
            view: the feature view that is asked for.
        """
        named = frozenset(asked)
        parts: dict[Origin, list[str]] = {}
        for column, origins in made_of.items():
            for origin in origins:
                parts.setdefault(origin, []).append(column)
        features = tuple(resource(catalog, group, feature, is_asked=group in named) for group, feature in parts)
        return cls(what, Resources(features, view=view), features, tuple(map(tuple, parts.values())))

    def masked(self, policies: Policies, principal: Principal, action: Action) -> frozenset[str]:
        """The columns to be masked.

        Raises:
            ForbiddenError: a feature is denied; names it and the policy.
        """
        decided = policies.decide_many(principal, action, self.asks)
        if decided.open:
            return frozenset()
        for place in decided.denied:
            raise denied(self.features[place], decided.each[place], principal, what=self.what)
        return frozenset(column for place in decided.masked for column in self.columns[place])


def resource(catalog: Catalog, group: str, feature: str = "", *, is_asked: bool = True) -> Resource:
    """A feature as policies see it; the whole group without one."""
    found = catalog.groups.get(group)
    return Resource(group, feature, {} if found is None else dict(found.tags), is_asked)


def resources(catalog: Catalog, origins: Iterable[Origin]) -> tuple[Resource, ...]:
    """A feature and what it is made of, as policies see them: the first is what is asked for."""
    return tuple(
        resource(catalog, group, feature, is_asked=place == 0) for place, (group, feature) in enumerate(origins)
    )


def most_closed(
    policies: Policies, principal: Principal, action: Action, made_of: Iterable[Resource]
) -> tuple[Resource, Decision]:
    """What becomes of a feature: the most closed decision about what it is made of, itself among it (SEC-6)."""
    each = [(item, policies.decided(principal, action, item)) for item in made_of]
    return max(each, key=lambda found: _WEIGHT.index(found[1].effect))


def denied(
    resource: Resource, decision: Decision, principal: Principal, *, what: str, verb: str = "see"
) -> ForbiddenError:
    """The error for a feature that a policy denies."""
    reason = f": {decision.reason}" if decision.reason else ""
    return ForbiddenError(
        f"{principal.name!r} may not {verb} {resource.reference!r}",
        asked_by=what,
        found=f"policy {decision.policy!r}{reason}" if decision.policy else decision.reason,
        try_="leave it out, or ask whoever manages the policies",
        details={"feature": resource.reference, "policy": decision.policy},
    )
