"""Who asks, and what their role and scopes let them do.

A role is a rung of a ladder: each has all that the one below it has. Scopes narrow what a role gives and never widen it
(SEC-1). A scope is `*`, or `VERB`, or `VERB:NAME`:

    read         definitions, features online, history, metrics
    serve        features online, and nothing else
    write        definitions, rows, training datasets, exports
    operate      materialize, roll back, delete data, jobs
    administer   delete definitions, keys, policies, the audit log

`NAME` is a feature group or a feature view; `*` in it stands for any characters. `VERB` alone is `VERB:*`.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType
from typing import Final, Literal, get_args

from grange.errors import ForbiddenError, RequestError, closest_names
from grange.security.globs import matches

Role = Literal["viewer", "editor", "operator", "admin"]
ROLES: Final[tuple[Role, ...]] = get_args(Role)
"""From the least to the most."""

Kind = Literal["key", "token", "local"]


class Permission(Enum):
    """One thing that somebody may do. `value` is how messages and the audit log name it."""

    READ_DEFINITIONS = "read definitions"
    """List, inspect, search, lineage, versions, statistics."""
    READ_FEATURES = "read features online"
    READ_HISTORY = "read history"
    """Historical features, previews, reading training datasets and what was exported."""
    READ_METRICS = "read metrics"
    WRITE_DEFINITIONS = "write definitions"
    """Apply: create and change; not delete."""
    WRITE_FEATURES = "write features"
    """Push and insert rows."""
    WRITE_DATASETS = "write training datasets and exports"
    MATERIALIZE = "materialize"
    """Also roll back to another version."""
    DELETE = "delete data"
    """Rows, versions, training datasets."""
    MANAGE_JOBS = "run and stop jobs"
    DELETE_DEFINITIONS = "delete definitions"
    MANAGE_SECURITY = "manage keys and policies"
    READ_AUDIT = "read the audit log"


_READS: Final = frozenset(
    {Permission.READ_DEFINITIONS, Permission.READ_FEATURES, Permission.READ_HISTORY, Permission.READ_METRICS}
)
_WRITES: Final = frozenset({Permission.WRITE_DEFINITIONS, Permission.WRITE_FEATURES, Permission.WRITE_DATASETS})
_OPERATES: Final = frozenset({Permission.MATERIALIZE, Permission.DELETE, Permission.MANAGE_JOBS})
_ADMINISTERS: Final = frozenset({Permission.DELETE_DEFINITIONS, Permission.MANAGE_SECURITY, Permission.READ_AUDIT})

PERMISSIONS: Final[Mapping[Role, frozenset[Permission]]] = MappingProxyType(
    {
        "viewer": _READS,
        "editor": _READS | _WRITES,
        "operator": _READS | _WRITES | _OPERATES,
        "admin": _READS | _WRITES | _OPERATES | _ADMINISTERS,
    }
)
"""What each role gives."""

_VERBS: Final[Mapping[str, frozenset[Permission]]] = MappingProxyType(
    {
        "read": _READS,
        "serve": frozenset({Permission.READ_FEATURES}),
        "write": _WRITES,
        "operate": _OPERATES,
        "administer": _ADMINISTERS,
    }
)
_SCOPE: Final = re.compile(r"(?P<verb>[a-z]+)(?::(?P<name>[A-Za-z0-9_*]{1,128}))?")

EVERYTHING: Final = frozenset({"*"})
"""The scopes that narrow nothing. No scopes at all let nothing through."""


@dataclass(frozen=True, slots=True)
class Principal:
    """Who asks: somebody with a key, somebody with a token, or whoever opened the project on this machine."""

    id: str
    """The key's id, or the token's subject."""
    name: str
    """The key's name, or the token's: for people, and what policies name."""
    kind: Kind
    role: Role
    project: str
    scopes: frozenset[str] = EVERYTHING
    teams: frozenset[str] = frozenset()
    """What policies call `team:NAME`."""

    def allows(self, permission: Permission, name: str | None = None) -> bool:
        """Whether role and scopes let them do this (SEC-1); policies may still say no.

        Args:
            permission: what.
            name: to which feature group or feature view, as the request names it. None is everything, or nothing in
                particular: then only a scope without a name lets it through.
        """
        if permission not in PERMISSIONS[self.role]:
            return False
        return self.scopes == EVERYTHING or _in_scope(self.scopes, permission, name)

    def covers(self, role: Role, scopes: Iterable[str]) -> bool:
        """Whether all that other role and scopes would give is theirs: nobody hands on what they have not (SEC-1)."""
        wanted = {(permission, _name(scope)) for scope in scopes for permission in _permissions(scope)}
        return all(
            permission in PERMISSIONS[self.role]
            and any(permission in _permissions(own) and matches(_name(own), name) for own in self.scopes)
            for permission, name in wanted
            if permission in PERMISSIONS[role]
        )

    def reaches(self, permission: Permission) -> bool:
        """Whether there may be anything at all that they may do this to: lists are filtered, not refused."""
        if permission not in PERMISSIONS[self.role]:
            return False
        return any(permission in _permissions(scope) for scope in self.scopes)

    def require(self, permission: Permission, name: str | None = None) -> None:
        """Nothing, or a refusal. Takes what `allows` does.

        Raises:
            ForbiddenError: role or scopes do not let them; says which role would.
        """
        if not self.allows(permission, name):
            raise _forbidden(self, permission, name)


LOCAL: Final = Principal(id="local", name="local", kind="local", role="admin", project="")
"""Whoever opened the project's files, or a server on this machine only that has no keys: they hold the data already."""


def check_role(text: str) -> Role:
    """A role.

    Raises:
        RequestError: there is no such role.
    """
    for role in ROLES:
        if text == role:
            return role
    raise RequestError(
        f"no role {text!r}", found=f"the roles are {', '.join(ROLES)}", closest=closest_names(text, ROLES)
    )


def check_scopes(scopes: Iterable[str]) -> frozenset[str]:
    """Scopes as a principal has them; none at all become `EVERYTHING`.

    Raises:
        RequestError: one that the grammar does not have.
    """
    given = [scopes] if isinstance(scopes, str) else list(scopes)
    for scope in given:
        _check_scope(scope)
    return frozenset(given) or EVERYTHING


def _check_scope(scope: str) -> None:
    if scope == "*":
        return
    match = _SCOPE.fullmatch(scope)
    if match is None or match["verb"] not in _VERBS:
        verb = scope.partition(":")[0]
        raise RequestError(
            f"no scope {scope!r}",
            found=f"a scope is *, VERB or VERB:NAME; the verbs are {', '.join(_VERBS)}",
            closest=closest_names(verb, _VERBS),
            try_="serve:churn",
        )


@functools.lru_cache(maxsize=4096)
def _in_scope(scopes: frozenset[str], permission: Permission, name: str | None) -> bool:
    return any(
        permission in _permissions(scope)
        and (_name(scope) == "*" or (name is not None and matches(_name(scope), name)))
        for scope in scopes
    )


def _permissions(scope: str) -> frozenset[Permission]:
    return PERMISSIONS["admin"] if scope == "*" else _VERBS[scope.partition(":")[0]]


def _name(scope: str) -> str:
    return scope.partition(":")[2] or "*"


def _forbidden(principal: Principal, permission: Permission, name: str | None) -> ForbiddenError:
    what = permission.value + ("" if name is None else f" ({name!r})")
    least = next(role for role in ROLES if permission in PERMISSIONS[role])
    if permission in PERMISSIONS[principal.role]:
        found = f"scopes {', '.join(sorted(principal.scopes)) or '(none)'}"
        try_ = "ask for a key whose scopes have it"
    else:
        found, try_ = f"role {principal.role}", f"ask for a key of role {least}"
    return ForbiddenError(
        f"{principal.name!r} may not {what}",
        found=found,
        try_=try_,
        details={"permission": permission.name, "role": principal.role, "needs": least},
    )
