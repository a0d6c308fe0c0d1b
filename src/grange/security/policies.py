"""Policies: who may have the values of what.

The law, for one feature that somebody asks for, the first that holds (SEC-4):

1. Role and scopes do not permit the action: denied. They are the ceiling; no policy gives back what they keep.
2. A deny policy speaks: denied. A policy speaks when it names the action, who asks, and the feature.
3. There are allow policies for the feature and the action, and none of them names who asks: denied. An allow closes the
   feature to everybody that no allow names.
4. A mask policy speaks: masked, the value is null.
5. Otherwise: allowed.

How specific a policy is does not matter: a deny of `tag:pii=true` holds for every feature with that tag, whatever else
allows it. So a deny or a mask that is added opens nothing, one that is removed closes nothing, and there is no order.
Whoever opened the project's own files (`LOCAL`) holds the data already and is asked nothing.
"""

from __future__ import annotations

import datetime as dt
import functools
import logging
import re
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final, Literal, get_args

from grange.errors import (
    ConflictError,
    CorruptStoreError,
    RequestError,
    StoreUnavailableError,
    UnknownPolicyError,
    closest_names,
)
from grange.ports.registry import Document, Documents
from grange.security.globs import matches
from grange.security.principals import ROLES, Permission, Principal
from grange.security.remembering import FRESH

Effect = Literal["allow", "deny", "mask"]
Action = Literal["online", "historical", "preview", "export", "search", "write"]

ACTIONS: Final[tuple[Action, ...]] = get_args(Action)
ALL_ACTIONS: Final = frozenset(ACTIONS)
VALUE_ACTIONS: Final[frozenset[Action]] = frozenset({"online", "historical", "preview", "export"})
"""Those whose answer has values in it, which a mask can make null."""

EVERY: Final[Mapping[Effect, frozenset[Action]]] = MappingProxyType(
    {"allow": ALL_ACTIONS, "deny": ALL_ACTIONS, "mask": VALUE_ACTIONS}
)
"""The actions of a policy that names none."""

NEEDS: Final[Mapping[Action, Permission]] = MappingProxyType(
    {
        "online": Permission.READ_FEATURES,
        "historical": Permission.READ_HISTORY,
        "preview": Permission.READ_HISTORY,
        "export": Permission.READ_HISTORY,
        "search": Permission.READ_DEFINITIONS,
        "write": Permission.WRITE_FEATURES,
    }
)
"""What role and scopes must permit for an action."""

_POLICIES: Final = "policies"
_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,127}")
_ON: Final = "* | group:GROUP | feature:GROUP:FEATURE | tag:NAME=VALUE | view:VIEW"
_TO: Final = "* | role:ROLE | key:NAME | token:SUBJECT | team:NAME"
_MOST_ANSWERS: Final = 4096
_log: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Policy:
    """Who may have what.

    Args:
        name: letters, digits, `_` and `-`; begins with a letter.
        effect: `deny` refuses, `mask` makes values null, `allow` lets through and closes to everybody else.
        on: what it is about, any of: `*`, `group:GROUP`, `feature:GROUP:FEATURE`, `tag:NAME=VALUE` (of the group),
            `view:VIEW`. `*` in a part stands for any characters.
        to: whom it is about, any of: `*`, `role:ROLE`, `key:NAME`, `token:SUBJECT`, `team:NAME`; `*` likewise.
        actions: what they do; all without. A mask is of those that have values in their answer.
        reason: told to who is refused.

    Raises:
        RequestError: a part that the grammar does not have, nothing or nobody, or a mask of an action without values.
    """

    name: str
    effect: Effect
    on: tuple[str, ...]
    to: tuple[str, ...]
    actions: frozenset[Action] = frozenset()
    reason: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not _NAME.fullmatch(self.name):
            raise RequestError(
                f"the name of a policy is letters, digits, _ and -, beginning with a letter: {self.name!r}",
                try_="mask-ssn",
            )
        if self.effect not in get_args(Effect):
            raise RequestError(f"no effect {self.effect!r}", found=f"there are {', '.join(get_args(Effect))}")
        object.__setattr__(self, "on", _checked(self.on, _check_on, f"policy {self.name!r} is about nothing", _ON))
        object.__setattr__(self, "to", _checked(self.to, _check_to, f"policy {self.name!r} is about nobody", _TO))
        object.__setattr__(self, "actions", _actions_of(self.effect, frozenset(self.actions)))
        if not isinstance(self.reason, str) or len(self.reason) > 500 or not (self.reason + ".").isprintable():
            raise RequestError(f"the reason of policy {self.name!r} is one line of at most 500 characters")

    def names(self, principal: Principal) -> bool:
        """Whether it is about somebody."""
        return any(_is_named(pattern, principal) for pattern in self.to)

    def is_about(self, action: Action, resource: Resource, view: str | None) -> bool:
        """Whether it is about a feature that is asked for, in a view or on its own."""
        return action in self.actions and any(_is_described(pattern, resource, view) for pattern in self.on)

    def to_dict(self) -> dict[str, Any]:
        """As plain data; `from_dict` reads it back."""
        return {
            "name": self.name,
            "effect": self.effect,
            "on": list(self.on),
            "to": list(self.to),
            "actions": sorted(self.actions),
            "reason": self.reason,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Policy:
        """The policy that `to_dict` made.

        Raises:
            RequestError, KeyError, TypeError: it is none.
        """
        return cls(
            name=data["name"],
            effect=data["effect"],
            on=tuple(data["on"]),
            to=tuple(data["to"]),
            actions=frozenset(data["actions"]),
            reason=data["reason"],
        )


@dataclass(frozen=True, slots=True)
class Resource:
    """A feature that is asked for."""

    group: str
    feature: str = ""
    """"" is the group as a whole: what is about one of its features is not about it."""
    tags: Mapping[str, str] = field(default_factory=dict, hash=False)
    """The group's."""
    is_asked: bool = True
    """Whether it is named itself. What another feature is made of is not, and no scope need name it (SEC-6)."""

    @property
    def reference(self) -> str:
        """`group:feature`, or the group."""
        return f"{self.group}:{self.feature}" if self.feature else self.group


@dataclass(frozen=True, slots=True)
class Decision:
    """What becomes of one feature that is asked for."""

    effect: Effect
    policy: str | None
    """The policy that decided; None where role and scopes did."""
    reason: str

    def to_dict(self) -> dict[str, Any]:
        """For machines."""
        return {"effect": self.effect, "policy": self.policy, "reason": self.reason}


@dataclass(frozen=True, slots=True)
class Decisions:
    """What becomes of a request: one decision per resource, in order."""

    each: tuple[Decision, ...]
    denied: tuple[int, ...]
    """Places of what is refused."""
    masked: tuple[int, ...]
    """Places of what is null."""

    @property
    def open(self) -> bool:
        """Whether everything is allowed as it is."""
        return not self.denied and not self.masked


class Resources:
    """The features of a request; made once per prepared request, for answers are remembered by it.

    Args:
        features: in order, duplicates included.
        view: the feature view that is asked for; None when features are asked for by name.
    """

    __slots__ = ("_hash", "features", "view")

    def __init__(self, features: Iterable[Resource], *, view: str | None = None) -> None:
        self.features = tuple(features)
        self.view = view
        self._hash = hash((self.features, view))

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return self is other or (
            isinstance(other, Resources) and (self.features, self.view) == (other.features, other.view)
        )


ALLOWED: Final = Decision("allow", None, "role and scopes allow it")


class Policies:
    """Policies that are in force, as one unchanging value. Safe for several threads.

    Args:
        policies: in any order.
    """

    def __init__(self, policies: Iterable[Policy] = ()) -> None:
        self.policies = tuple(sorted(policies, key=lambda policy: policy.name))
        self._answers: dict[tuple[Principal, Action, Resources], Decisions] = {}

    def decide(
        self,
        principal: Principal,
        action: Action,
        *,
        group: str,
        feature: str = "",
        tags: Mapping[str, str] | None = None,
        view: str | None = None,
    ) -> Decision:
        """What becomes of one feature that somebody asks for (SEC-4).

        Args:
            principal: who asks.
            action: what for.
            group: its feature group.
            feature: "" is the group as a whole.
            tags: the group's tags.
            view: the feature view that is asked for; scopes are asked about it then, and not about the group.
        """
        return self.decided(principal, action, Resource(group, feature, tags or {}), view)

    def speak(self, principal: Principal, action: Action, resource: Resource, view: str | None = None) -> Decision:
        """What the policies alone say; role and scopes are not asked. Otherwise as `decide`."""
        if principal.kind == "local":
            return ALLOWED
        about = self.about(action, resource, view)
        speaking = {policy.effect: policy for policy in reversed(about) if policy.names(principal)}
        closing = next((policy for policy in about if policy.effect == "allow"), None)
        if "deny" not in speaking and "allow" not in speaking and closing is not None:
            return Decision("deny", closing.name, closing.reason or f"policy {closing.name} allows others only")
        decider = speaking.get("deny") or speaking.get("mask") or speaking.get("allow")
        if decider is None:
            return ALLOWED
        return Decision(decider.effect, decider.name, decider.reason or f"policy {decider.name}")

    def about(self, action: Action, resource: Resource, view: str | None = None) -> tuple[Policy, ...]:
        """The policies that are about a feature, whomever they name."""
        return tuple(policy for policy in self.policies if policy.is_about(action, resource, view))

    def decide_many(self, principal: Principal, action: Action, resources: Resources) -> Decisions:
        """What becomes of a request, remembered. As `decide` for each of its features."""
        asked = (principal, action, resources)
        found = self._answers.get(asked)
        if found is None:
            each = tuple(self.decided(principal, action, item, resources.view) for item in resources.features)
            denied = tuple(place for place, decision in enumerate(each) if decision.effect == "deny")
            masked = tuple(place for place, decision in enumerate(each) if decision.effect == "mask")
            found = Decisions(each, denied, masked)
            if len(self._answers) >= _MOST_ANSWERS:
                self._answers.clear()
            self._answers[asked] = found
        return found

    def decided(self, principal: Principal, action: Action, resource: Resource, view: str | None = None) -> Decision:
        """As `decide`, of a resource."""
        if principal.kind == "local":
            return ALLOWED
        if resource.is_asked and not principal.allows(NEEDS[action], view or resource.group):
            return Decision("deny", None, f"role {principal.role} or its scopes do not allow it")
        return self.speak(principal, action, resource, view)


class PolicyStore:
    """The policies of one project. Safe for several threads and processes.

    Args:
        documents: where they are kept.
    """

    def __init__(self, documents: Documents) -> None:
        self._documents = documents
        self._current: Policies | None = None
        self._since: dt.datetime | None = None
        self._lock = threading.Lock()

    def create(self, policy: Policy, *, replace: bool = False, now: dt.datetime) -> None:
        """Put a policy in force: everywhere within 5 seconds, at once in this process (SEC-3).

        Raises:
            ConflictError: there is one of this name, and it is not to be replaced.
        """
        try:
            self._documents.put(
                _POLICIES, policy.name, policy.to_dict(), now=now, expected="any" if replace else "absent"
            )
        except ConflictError as error:
            raise ConflictError(
                f"there is a policy {policy.name!r}", try_=f"grange policy delete {policy.name}; or another name"
            ) from error
        self._forget()

    def list(self) -> tuple[Policy, ...]:
        """All of them, by name.

        Raises:
            CorruptStoreError: one cannot be read; what it would deny is not known, so nothing is let through.
        """
        return tuple(_policy(document) for document in self._documents.documents(_POLICIES, limit=None))

    def get(self, name: str) -> Policy:
        """One policy.

        Raises:
            UnknownPolicyError: there is none of this name.
        """
        document = self._documents.get(_POLICIES, name) if _NAME.fullmatch(name) else None
        if document is None:
            raise self._unknown(name)
        return _policy(document)

    def delete(self, name: str) -> None:
        """Take a policy out of force, one that cannot be read too.

        Raises:
            UnknownPolicyError: there is none of this name.
        """
        if not _NAME.fullmatch(name) or not self._documents.remove(_POLICIES, name):
            raise self._unknown(name)
        self._forget()

    def current(self, *, now: dt.datetime) -> Policies:
        """The policies in force, at most 5 seconds old.

        While the registry cannot be reached, those that are known go on: nobody can change them either (SEC-3).

        Raises:
            StoreUnavailableError: the registry cannot be reached, and was not since this process began.
            CorruptStoreError: one cannot be read.
        """
        known = self._known(now)
        if known is not None:
            return known
        with self._lock:  # of several that find them old, one reads
            return self._known(now) or self._refreshed(now)

    def _known(self, now: dt.datetime) -> Policies | None:
        known, since = self._current, self._since
        return known if since is not None and since <= now < since + FRESH else None

    def _refreshed(self, now: dt.datetime) -> Policies:
        try:
            read = self.list()
        except StoreUnavailableError as outage:
            if self._current is None:
                raise
            _log.warning("the policies could not be read again, and go on as they are: %s", outage.message)
            self._since = now
            return self._current
        # equal policies stay the same value, which remembers its answers
        if self._current is None or self._current.policies != read:
            self._current = Policies(read)
        self._since = now
        return self._current

    def _forget(self) -> None:
        with self._lock:  # after a refresh that began before the change
            self._since = None

    def _unknown(self, name: str) -> UnknownPolicyError:
        known = [document.key for document in self._documents.documents(_POLICIES, limit=None)]
        return UnknownPolicyError(
            f"no policy {name!r}",
            found=", ".join(known) or "no policies",
            closest=closest_names(name, known),
            try_="grange policy list",
        )


@functools.lru_cache(maxsize=4096)
def _parts(pattern: str) -> tuple[str, str, str]:
    """A pattern's kind and its one or two names."""
    kind, _, rest = pattern.partition(":")
    first, _, second = rest.partition("=" if kind == "tag" else ":")
    return (kind, first, second) if kind in ("feature", "tag") else (kind, rest, "")


def _is_described(pattern: str, resource: Resource, view: str | None) -> bool:
    kind, first, second = _parts(pattern)
    match kind:
        case "*":
            return True
        case "group":
            return matches(first, resource.group)
        case "feature":
            return bool(resource.feature) and matches(first, resource.group) and matches(second, resource.feature)
        case "tag":
            return any(matches(first, name) and matches(second, value) for name, value in resource.tags.items())
        case _:
            return view is not None and matches(first, view)


def _is_named(pattern: str, principal: Principal) -> bool:
    kind, name, _ = _parts(pattern)
    match kind:
        case "*":
            return True
        case "role":
            return matches(name, principal.role)
        case "team":
            return any(matches(name, team) for team in principal.teams)
        case "key":
            return principal.kind == "key" and matches(name, principal.name)
        case _:
            return principal.kind == "token" and matches(name, principal.id)


def _check_on(pattern: str) -> bool:
    kind, first, second = _parts(pattern)
    match kind:
        case "*":
            return pattern == "*"
        case "group" | "view":
            return bool(first) and ":" not in first
        case "feature" | "tag":
            return bool(first and second)
        case _:
            return False


def _check_to(pattern: str) -> bool:
    kind, name, _ = _parts(pattern)
    match kind:
        case "*":
            return pattern == "*"
        case "role":
            return any(matches(name, role) for role in ROLES)
        case "key" | "token" | "team":
            return bool(name)
        case _:
            return False


def _checked(patterns: Any, fits: Any, nothing: str, grammar: str) -> tuple[str, ...]:
    given = (patterns,) if isinstance(patterns, str) else tuple(patterns)
    if not given:
        raise RequestError(nothing, try_=grammar)
    for pattern in given:
        if not isinstance(pattern, str) or not pattern.isprintable() or len(pattern) > 512 or not fits(pattern):
            raise RequestError(f"{pattern!r} is no pattern of a policy", found=f"the grammar is {grammar}")
    return given


def check_actions(actions: Iterable[str]) -> frozenset[Action]:
    """Actions; `all` is what no actions are: every one that the effect is of.

    Raises:
        RequestError: one that there is not.
    """
    given: frozenset[Any] = frozenset(actions)
    if given == {"all"}:
        return frozenset()
    unknown = sorted(str(action) for action in given if action not in ALL_ACTIONS)
    if unknown:
        raise RequestError(
            f"no action {unknown[0]!r}",
            found=f"the actions are {', '.join(ACTIONS)}; all of them when left out",
            closest=closest_names(unknown[0], ACTIONS),
        )
    return given


def _actions_of(effect: Effect, given: frozenset[Any]) -> frozenset[Action]:
    actions = check_actions(given)
    if not actions:
        return EVERY[effect]
    if not actions <= EVERY[effect]:
        extra = ", ".join(sorted(actions - EVERY[effect]))
        raise RequestError(
            f"a mask makes values null, and there are none in: {extra}", try_="deny it; or mask the other actions"
        )
    return actions


def _policy(document: Document) -> Policy:
    try:
        return Policy.from_dict(document.data)
    except (KeyError, TypeError, RequestError) as error:
        raise CorruptStoreError(
            f"policy {document.key!r} cannot be read",
            found=f"{type(error).__name__}: {error}",
            try_=f"grange policy delete {document.key}, and make it again",
        ) from error
