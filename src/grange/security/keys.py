"""API keys: made once, shown once, stored as a hash; narrowed, expiring, rotated, revoked.

What is known of a key is a few documents that are written once each, all beginning with its id: the key itself,
`/revoked`, `/rotated`, and `/used`. So a revocation cannot be undone by somebody who writes something else at the same
time, and reading a key is one query.
"""

from __future__ import annotations

import builtins
import datetime as dt
import hashlib
import hmac
import logging
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from grange.errors import (
    ConflictError,
    CorruptStoreError,
    RefusedError,
    RequestError,
    StoreUnavailableError,
    UnauthenticatedError,
    UnknownKeyError,
    closest_names,
)
from grange.ports.registry import Document, Documents
from grange.security.key_text import new_key_text, parse_key, project_part
from grange.security.principals import Principal, Role, check_role, check_scopes
from grange.security.remembering import Proven, Remembered
from grange.security.scrubbing import scrubbed_text
from grange.types.time import isoformat, to_utc

State = Literal["active", "expired", "revoked"]

OUTAGE: Final = dt.timedelta(minutes=15)
"""While the registry cannot be reached, a key that it confirmed goes on working for this long (SEC-3)."""
USED_EVERY: Final = dt.timedelta(hours=1)
"""How exact `last_used_at` is: a key in use costs one write in this time."""

_KEYS: Final = "api_keys"
_REVOKED, _ROTATED, _USED = "/revoked", "/rotated", "/used"
_PARTS: Final = 4
"""Documents of one key; its own comes first."""
_LONGEST: Final = 256
"""Characters; a key is shorter."""
_NOBODYS: Final = secrets.token_bytes(32)
"""What the secret of an unknown key is compared with: no hash of anything."""
_log: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class KeyInfo:
    """What is known of a key: everything but its secret."""

    id: str
    name: str
    role: Role
    scopes: frozenset[str]
    teams: frozenset[str]
    project: str
    created_at: dt.datetime
    created_by: str
    """The id of who made it."""
    expires_at: dt.datetime | None = None
    """From here on it does not work; also where it was rotated. None: never."""
    revoked_at: dt.datetime | None = None
    rotated_to: str | None = None
    """The id of the key that takes its place."""
    last_used_at: dt.datetime | None = None
    """To within `USED_EVERY`; None: never."""

    def state(self, now: dt.datetime) -> State:
        """Whether it works."""
        if self.revoked_at is not None:
            return "revoked"
        return "expired" if self.expires_at is not None and self.expires_at <= now else "active"

    @property
    def principal(self) -> Principal:
        """Who asks with this key."""
        return Principal(self.id, self.name, "key", self.role, self.project, self.scopes, self.teams)

    def to_dict(self, now: dt.datetime) -> dict[str, Any]:
        """For machines; `state` as of `now`."""
        return {
            "id": self.id,
            "name": self.name,
            "role": self.role,
            "scopes": sorted(self.scopes),
            "teams": sorted(self.teams),
            "project": self.project,
            "state": self.state(now),
            "created_at": isoformat(self.created_at),
            "created_by": self.created_by,
            "expires_at": _text(self.expires_at),
            "revoked_at": _text(self.revoked_at),
            "rotated_to": self.rotated_to,
            "last_used_at": _text(self.last_used_at),
        }


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key, and its text: the only time that it can be seen."""

    text: str = field(repr=False)
    info: KeyInfo


@dataclass(frozen=True, slots=True)
class _Stored:
    """A key as it is stored."""

    info: KeyInfo
    digest: bytes = field(repr=False)


class KeyStore:
    """The API keys of one project. Safe for several threads and processes.

    Args:
        documents: where they are kept.
        project: the project's name: a key of another project is no key here.
    """

    def __init__(self, documents: Documents, project: str) -> None:
        self._documents = documents
        self._project = project
        self._remembered = Remembered()
        self._any_ever = False

    def create(
        self,
        name: str,
        *,
        role: str,
        scopes: Iterable[str] = (),
        teams: Iterable[str] = (),
        expires_at: dt.datetime | None = None,
        created_by: str = "local",
        now: dt.datetime,
    ) -> NewKey:
        """Make a key.

        Args:
            name: what people and policies call it; no other key that works has it.
            role: `viewer`, `editor`, `operator` or `admin`.
            scopes: what narrows the role; none narrow nothing.
            teams: what policies call `team:NAME`.
            expires_at: from then on it does not work; UTC when naive. None: never.
            created_by: the id of who makes it.
            now: the time.

        Raises:
            RequestError: a name, role, scope or expiry that is none.
            RefusedError: a key that works has this name.
        """
        expires_at = None if expires_at is None else to_utc(expires_at, what="expires_at")
        if expires_at is not None and expires_at <= now:
            raise RequestError(
                "a key that has expired already would never work", found=isoformat(expires_at), try_="a later time"
            )
        _check_name(name)
        taken = next((info for info in self.list() if info.name == name and info.state(now) == "active"), None)
        if taken is not None:
            raise RefusedError(
                f"there is a key {name!r} that works",
                found=f"key {taken.id}, of role {taken.role}",
                try_=f"grange key rotate {taken.id}; or another name",
            )
        given = frozenset(_check_name(team, "team") for team in teams)
        return self._made(
            name, check_role(role), check_scopes(scopes), given, expires_at=expires_at, by=created_by, now=now
        )

    def authenticate(self, text: str, *, now: dt.datetime) -> Principal:
        """Who asks with a key.

        What was found true is remembered for 5 seconds: a revoked key stops working everywhere within that time, at
        once in this process. While the registry cannot be reached, keys that it confirmed go on working for 15 minutes
        (SEC-3).

        Raises:
            UnauthenticatedError: unknown, expired, revoked, of another project, or a wrong secret; which is not said,
                and the work done is the same (SEC-2). What is no key, or mistyped, is told without asking anybody.
            StoreUnavailableError: the registry cannot be reached, and the key was not confirmed lately.
        """
        if len(text) > _LONGEST:
            raise _refused()
        digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
        proven = self._remembered.get(digest)
        if proven is not None and proven.counts(now):
            return proven.principal
        return self._proven(text, digest, proven, now)

    def list(self) -> tuple[KeyInfo, ...]:
        """All keys that ever were, oldest first."""
        documents = self._documents.documents(_KEYS, limit=None)
        by_id: dict[str, builtins.list[Document]] = {}
        for document in documents:
            by_id.setdefault(document.key.partition("/")[0], []).append(document)
        found = [stored.info for id, parts in by_id.items() if (stored := self._folded(id, parts)) is not None]
        return tuple(sorted(found, key=lambda info: (info.created_at, info.id)))

    def get(self, id: str) -> KeyInfo:
        """One key.

        Raises:
            UnknownKeyError: no key has this id.
        """
        stored = self._stored(id) if id.isalnum() and id.isascii() else None
        if stored is None:
            known = {info.id: info.name for info in self.list()}
            raise UnknownKeyError(
                f"no key has the id {scrubbed_text(id)!r}",
                found=f"{len(known)} keys",
                closest=[key for key, name in known.items() if name == id] or closest_names(id, known),
                try_="grange key list",
            )
        return stored.info

    def named(self, name: str, *, now: dt.datetime) -> KeyInfo:
        """The key with this id (or this text), else the one of this name that works, else the newest of this name.

        Raises:
            UnknownKeyError: there is none.
        """
        whole = parse_key(name)  # who has a leaked key at hand revokes that
        name = name if whole is None else whole.id
        found = [info for info in self.list() if name in (info.id, info.name)]
        if not found:
            return self.get(name)
        return max(found, key=lambda info: (info.id == name, info.state(now) == "active", info.created_at, info.id))

    def revoke(self, id: str, *, now: dt.datetime) -> KeyInfo:
        """Stop a key from working, for ever. Of one that is revoked nothing changes.

        Raises:
            UnknownKeyError: no key has this id.
        """
        info = self.get(id)
        if info.revoked_at is None:
            self._write_once(id + _REVOKED, {"at": isoformat(now)}, now)
        self._remembered.clear()
        return self.get(id)

    def rotate(
        self, id: str, *, grace: dt.timedelta = dt.timedelta(0), created_by: str = "local", now: dt.datetime
    ) -> NewKey:
        """Make a key that takes another's place: same name, role, scopes, teams and length of life.

        Args:
            id: the key that is replaced.
            grace: for how long the old one goes on working, so that whoever uses it can change; zero is not at all.
            created_by: the id of who does it.
            now: the time.

        Raises:
            UnknownKeyError: no key has this id.
            RefusedError: it does not work any more, or was rotated already.
            RequestError: a negative grace.
        """
        if grace < dt.timedelta(0):
            raise RequestError("the grace of a rotated key cannot be negative", found=str(grace))
        old = self.get(id)
        if old.rotated_to is not None or old.state(now) != "active":
            raise RefusedError(
                f"key {id} cannot be rotated",
                found=f"it was rotated to {old.rotated_to}" if old.rotated_to else f"it is {old.state(now)}",
                try_=f"grange key create {old.name} --role {old.role}",
            )
        life = None if old.expires_at is None else now + (old.expires_at - old.created_at)
        made = self._made(old.name, old.role, old.scopes, old.teams, expires_at=life, by=created_by, now=now)
        until = now + grace if old.expires_at is None else min(now + grace, old.expires_at)
        if not self._write_once(id + _ROTATED, {"to": made.info.id, "until": isoformat(until)}, now):
            self._write_once(made.info.id + _REVOKED, {"at": isoformat(now)}, now)
            raise RefusedError(f"key {id} was rotated by somebody else meanwhile", try_=f"grange key info {id}")
        self._remembered.clear()
        return made

    def any_ever(self) -> bool:
        """Whether a key was ever made. Once it is true it stays true: keys are revoked, never deleted."""
        self._any_ever = self._any_ever or bool(self._documents.documents(_KEYS, limit=1))
        return self._any_ever

    def _made(
        self,
        name: str,
        role: Role,
        scopes: frozenset[str],
        teams: frozenset[str],
        *,
        expires_at: dt.datetime | None,
        by: str,
        now: dt.datetime,
    ) -> NewKey:
        key = new_key_text(self._project)
        info = KeyInfo(key.id, name, role, scopes, teams, self._project, now, by, expires_at)
        data = {
            "name": name,
            "role": role,
            "scopes": sorted(scopes),
            "teams": sorted(teams),
            "project": self._project,
            "created_at": isoformat(now),
            "created_by": by,
            "expires_at": _text(expires_at),
            "sha256": key.digest.hex(),
        }
        self._documents.put(_KEYS, key.id, data, now=now, expected="absent")
        return NewKey(key.text, info)

    def _proven(self, text: str, digest: bytes, before: Proven | None, now: dt.datetime) -> Principal:
        """Ask the registry."""
        key = parse_key(text)
        if key is None or key.project != project_part(self._project):
            raise _refused()
        try:
            stored = self._stored(key.id)
        except StoreUnavailableError as outage:
            return self._during_outage(digest, before, now, outage)
        # an unknown key is compared with something too, so that it takes as long as a wrong secret
        same = hmac.compare_digest(key.digest, _NOBODYS if stored is None else stored.digest)
        if not same or stored is None or stored.info.state(now) != "active":
            self._remembered.forget(digest)
            raise _refused()
        proven = Proven.now(stored.info.principal, stored.info.expires_at, now)
        self._remembered.put(digest, proven)
        self._note_use(stored.info, now)
        return proven.principal

    def _during_outage(
        self, digest: bytes, before: Proven | None, now: dt.datetime, outage: StoreUnavailableError
    ) -> Principal:
        """A key that was confirmed lately goes on; the registry is asked again in a while, not for every request."""
        if before is None or not before.confirmed_at <= now < before.limit(OUTAGE):
            raise outage
        self._remembered.put(digest, before.again(now))
        return before.principal

    def _note_use(self, info: KeyInfo, now: dt.datetime) -> None:
        if info.last_used_at is not None and now - info.last_used_at < USED_EVERY:
            return
        try:
            self._documents.put(_KEYS, info.id + _USED, {"at": isoformat(now)}, now=now)
        except (StoreUnavailableError, ConflictError) as error:
            # who may ask does not depend on whether it can be noted that they asked
            _log.warning("the use of key %s could not be noted: %s", info.id, error.message)

    def _write_once(self, key: str, data: Mapping[str, Any], now: dt.datetime) -> bool:
        """Write a document that is never written again; whether it was this call that wrote it."""
        try:
            self._documents.put(_KEYS, key, data, now=now, expected="absent")
        except ConflictError:
            return False
        return True

    def _stored(self, id: str) -> _Stored | None:
        return self._folded(id, self._documents.documents(_KEYS, prefix=id, limit=_PARTS))

    def _folded(self, id: str, parts: Iterable[Document]) -> _Stored | None:
        """A key of its documents; None when there is none, or when it is another project's."""
        by_key = {document.key: document.data for document in parts}
        data = by_key.get(id)
        if data is None or data.get("project") != self._project:
            return None
        try:
            return _read(id, data, by_key)
        except (KeyError, TypeError, ValueError, RequestError) as error:
            raise CorruptStoreError(
                f"what the registry has of key {id} cannot be read",
                found=f"{type(error).__name__}: {error}",
                try_="restore the registry from a backup",
            ) from error


def _read(id: str, data: Mapping[str, Any], by_key: Mapping[str, Mapping[str, Any]]) -> _Stored:
    rotated = by_key.get(id + _ROTATED, {})
    ends = [to_utc(text) for text in (data["expires_at"], rotated.get("until")) if text is not None]
    info = KeyInfo(
        id=id,
        name=data["name"],
        role=check_role(data["role"]),
        scopes=check_scopes(data["scopes"]),
        teams=frozenset(data["teams"]),
        project=data["project"],
        created_at=to_utc(data["created_at"]),
        created_by=data["created_by"],
        expires_at=min(ends, default=None),
        revoked_at=_moment(by_key.get(id + _REVOKED)),
        rotated_to=rotated.get("to"),
        last_used_at=_moment(by_key.get(id + _USED)),
    )
    return _Stored(info, bytes.fromhex(data["sha256"]))


def _refused() -> UnauthenticatedError:
    """The same words for every reason: which it is would help only who guesses."""
    return UnauthenticatedError("this is no key that works here", try_="grange key list shows the keys that do")


def _check_name(name: str, what: str = "key") -> str:
    if isinstance(name, str) and name.strip() == name and name.isprintable() and 0 < len(name) <= 128:
        return name
    raise RequestError(
        f"the name of a {what} is 1 to 128 printable characters, without spaces around",
        found=repr(name)[:200],
        try_="grange key create ranking-service --role viewer",
    )


def _moment(data: Mapping[str, Any] | None) -> dt.datetime | None:
    return None if data is None else to_utc(data["at"])


def _text(moment: dt.datetime | None) -> str | None:
    return None if moment is None else isoformat(moment)
