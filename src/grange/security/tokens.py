"""Tokens (JWT) that an identity provider signs: OpenID Connect, or anything that publishes its keys likewise.

Only signatures by public keys are taken, and only by the algorithm that the key is for, so that neither `none` nor a
public key used as an HMAC secret is ever a signature. A token needs an issuer, an audience, a subject and an expiry.
The issuer's keys are kept: a token is verified without asking anybody, and goes on being so while the issuer is down.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import logging
import math
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from grange.errors import (
    ConfigError,
    ForbiddenError,
    RequestError,
    StoreUnavailableError,
    UnauthenticatedError,
)
from grange.frames import require
from grange.security.principals import ROLES, Principal, Role, check_role, check_scopes
from grange.security.remembering import Proven, Remembered
from grange.types.time import from_micros

if TYPE_CHECKING:
    from jwt import PyJWK

ALGORITHMS: Final = frozenset(
    {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}
)
LEEWAY: Final = dt.timedelta(seconds=30)
"""By how much the issuer's clock may differ."""
FETCH_SECONDS: Final = 5.0
REFRESH: Final = dt.timedelta(hours=1)
"""How old the issuer's keys get before they are asked for again: then a key that it took back works no longer."""
RETRY: Final = dt.timedelta(seconds=30)
"""At least so long between two times that the issuer is asked, whoever sends tokens of unknown keys."""
SCOPE_PREFIX: Final = "grange:"
_LONGEST: Final = 16 * 1024
"""Characters of a token."""
_MOST_BYTES: Final = 1 << 20
"""Of what the issuer answers."""
_TYPES: Final = frozenset({"", "jwt", "at+jwt", "application/at+jwt"})
_LOCAL_HOSTS: Final = frozenset({"localhost", "127.0.0.1", "::1"})
_log: Final = logging.getLogger(__name__)

Fetch = Callable[[], bytes]


@dataclass(frozen=True, slots=True)
class Claims:
    """Where a token says what.

    A claim is named by its path: `role`, `realm_access.roles`.
    """

    role: str = "role"
    """A role or several, of which the highest counts; others than Grange's are passed over."""
    roles: Mapping[str, Role] = field(default_factory=dict)
    """What the issuer's own words for roles mean here."""
    project: str = "project"
    """A project or several; "" when every token of this audience is for this project."""
    teams: str = "groups"
    """What policies call `team:NAME`."""
    scope: str = "scope"
    """Words of it that begin with `grange:` narrow the role: `grange:serve:churn`."""


class TokenVerifier:
    """Verifies tokens for one project. Safe for several threads.

    Args:
        issuer: the `iss` that tokens must have.
        audience: the `aud` that they must have, or have among others.
        project: the project that they must be for.
        keys: gives the issuer's keys.
        claims: where a token says what.
        leeway: by how much clocks may differ.
    """

    def __init__(
        self,
        *,
        issuer: str,
        audience: str,
        project: str,
        keys: IssuerKeys,
        claims: Claims | None = None,
        leeway: dt.timedelta = LEEWAY,
    ) -> None:
        for package in ("jwt", "cryptography"):
            require(package, extra="security")
        self._issuer = issuer
        self._audience = audience
        self._project = project
        self._keys = keys
        self._claims = claims or Claims()
        self._leeway = leeway
        self._remembered = Remembered()

    @classmethod
    def from_settings(
        cls,
        *,
        issuer: str,
        audience: str,
        project: str,
        jwks: str | None = None,
        role_claim: str = "role",
        project_claim: str | None = "project",
        roles: Mapping[str, Role] | None = None,
        root: str | Path = ".",
    ) -> TokenVerifier:
        """The verifier of a project's settings.

        Args:
            issuer: who signs.
            audience: whom tokens are for.
            project: the project's name.
            jwks: the issuer's keys: a URL, or a file. None (or ""): where its OpenID configuration says.
            role_claim: the claim with the role.
            project_claim: the claim with the project; None (or "") asks for none.
            roles: what the issuer's words for roles mean here.
            root: the project's folder, which a file is relative to.

        Raises:
            ConfigError: no audience, a role that is none, or a URL over which anybody could put keys of their own.
            MissingDependencyError: the package `pyjwt` is not installed.
        """
        if not issuer or not audience:
            missing = "security.audience" if issuer else "security.issuer"
            raise ConfigError(f"{missing} is missing: tokens are of one issuer and for one audience", try_=missing)
        try:
            known = {name: check_role(role) for name, role in (roles or {}).items()}
        except RequestError as error:
            raise ConfigError(error.message, found=error.found, closest=error.closest) from error
        claims = Claims(role=role_claim, roles=MappingProxyType(known), project=project_claim or "")
        keys = IssuerKeys(_fetcher(issuer, jwks or "", Path(root)), what=issuer)
        return cls(issuer=issuer, audience=audience, project=project, keys=keys, claims=claims)

    def authenticate(self, token: str, *, now: dt.datetime) -> Principal:
        """Who asks with a token. One that was verified is remembered for 5 seconds.

        Raises:
            UnauthenticatedError: it is none, or its signature, times, issuer or audience are wrong; which is not said.
            ForbiddenError: it is a good token, and gives no role in this project.
            StoreUnavailableError: the issuer cannot be reached, and was not since this process began.
        """
        if len(token) > _LONGEST:
            raise _refused()
        digest = hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
        proven = self._remembered.get(digest)
        if proven is None or not proven.counts(now):
            claims = self._verified(token, now)
            principal = self._principal(claims)
            ends = from_micros(int(claims["exp"]) * 1_000_000) + self._leeway
            proven = Proven.now(principal, ends, now)
            self._remembered.put(digest, proven)
        return proven.principal

    def _verified(self, token: str, now: dt.datetime) -> dict[str, Any]:
        """The claims of a token whose signature, times, issuer and audience are right."""
        import jwt

        try:
            header = jwt.get_unverified_header(token)
            key = self._keys.find(_signed_by(header), header["alg"], now)
            payload = jwt.api_jws.decode(token, key, algorithms=[header["alg"]])
            claims = json.loads(payload)
        except (jwt.PyJWTError, ValueError, RecursionError):
            raise _refused() from None
        if not isinstance(claims, dict) or not self._is_for_us(claims) or not self._is_in_time(claims, now):
            raise _refused()
        return claims

    def _is_for_us(self, claims: Mapping[str, Any]) -> bool:
        audience, subject = claims.get("aud"), claims.get("sub")
        audiences = [audience] if isinstance(audience, str) else audience
        return (
            claims.get("iss") == self._issuer
            and isinstance(audiences, list)
            and self._audience in audiences
            and isinstance(subject, str)
            and 0 < len(subject) <= 255
        )

    def _is_in_time(self, claims: Mapping[str, Any], now: dt.datetime) -> bool:
        moment, leeway = now.timestamp(), self._leeway.total_seconds()
        ends: Any = claims.get("exp")
        begins = (claims.get("nbf", 0), claims.get("iat", 0))
        if not all(_is_time(value) for value in (ends, *begins)):
            return False
        return bool(moment < ends + leeway and max(begins) <= moment + leeway)

    def _principal(self, claims: Mapping[str, Any]) -> Principal:
        subject = claims["sub"]
        name = next((claims[key] for key in ("name", "email", "preferred_username") if _is_name(claims.get(key))), None)
        self._check_project(claims)
        try:
            scopes = check_scopes(
                word.removeprefix(SCOPE_PREFIX)
                for word in _words(claims, self._claims.scope)
                if word.startswith(SCOPE_PREFIX)
            )
        except RequestError as error:
            raise ForbiddenError("the token narrows its role by a scope that is none", found=error.message) from error
        teams = frozenset(_words(claims, self._claims.teams, split=False))
        return Principal(subject, name or subject, "token", self._role(claims), self._project, scopes, teams)

    def _role(self, claims: Mapping[str, Any]) -> Role:
        said = _words(claims, self._claims.role, split=False)
        named = {self._claims.roles.get(word, word) for word in said}
        role = next((role for role in reversed(ROLES) if role in named), None)
        if role is None:
            raise ForbiddenError(
                "the token gives no role here",
                found=f"its claim {self._claims.role!r} names none of {', '.join(ROLES)}",
                try_="have the issuer put one there; or set security.role_claim to the claim that has it",
            )
        return role

    def _check_project(self, claims: Mapping[str, Any]) -> None:
        if self._claims.project and self._project not in _words(claims, self._claims.project, split=False):
            raise ForbiddenError(
                f"the token is not for project {self._project!r}",
                found=f"its claim {self._claims.project!r} does not name it",
                try_='have the issuer put it there; or set security.project_claim = "" to take every token of this '
                "audience",
            )


class IssuerKeys:
    """An issuer's public keys, fetched when they are first needed, and again when they are old or one is unknown.

    Args:
        fetch: gives the JSON Web Key Set; raises OSError or ValueError when it cannot.
        what: the issuer, for messages.
    """

    def __init__(self, fetch: Fetch, *, what: str) -> None:
        self._fetch = fetch
        self._what = what
        self._lock = threading.Lock()
        self._keys: tuple[PyJWK, ...] | None = None
        self._fetched: dt.datetime | None = None
        self._asked: dt.datetime | None = None

    def find(self, key_id: str | None, algorithm: str, now: dt.datetime) -> PyJWK:
        """The key that a token says it is signed with.

        Raises:
            UnauthenticatedError: the issuer has no such key for this algorithm.
            StoreUnavailableError: the issuer could not be asked yet.
        """
        if self._fetched is None or now - self._fetched >= REFRESH:
            self._refresh(now)
        found = self._matching(key_id, algorithm)
        if found is None:
            self._refresh(now)
            found = self._matching(key_id, algorithm)
        if self._keys is None:
            raise StoreUnavailableError(
                f"the keys of issuer {self._what} could not be fetched, so no token can be verified",
                try_="look whether the issuer is up, and at security.jwks; API keys go on working",
            )
        if found is None:
            raise _refused()
        return found

    def _matching(self, key_id: str | None, algorithm: str) -> PyJWK | None:
        fitting = [
            key
            for key in self._keys or ()
            if key.algorithm_name == algorithm and (key_id is None or key.key_id == key_id)
        ]
        # without a name there must be no choice
        return fitting[0] if fitting and (key_id is not None or len(fitting) == 1) else None

    def _refresh(self, now: dt.datetime) -> None:
        """Ask the issuer, unless it was asked a moment ago. While one asks, others go on with what is known."""
        if not self._lock.acquire(blocking=self._keys is None):
            return
        try:
            if self._asked is not None and self._asked <= now < self._asked + RETRY:
                return
            self._asked = now
            self._keys = _parse_keys(self._fetch())
            self._fetched = now
        except (OSError, ValueError) as error:
            _log.warning("the keys of issuer %s could not be fetched: %s", self._what, error)
        finally:
            self._lock.release()


def _parse_keys(answer: bytes) -> tuple[PyJWK, ...]:
    """The keys that may sign, of a JSON Web Key Set.

    Raises:
        ValueError: it is none, or no key of it may sign.
    """
    import jwt

    document = json.loads(answer)
    entries = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(entries, list):
        raise ValueError("no JSON Web Key Set")
    keys = []
    for entry in entries:
        if not isinstance(entry, dict) or entry.get("use", "sig") != "sig":
            continue
        try:
            key = jwt.PyJWK(entry)
        except jwt.PyJWTError as error:
            _log.info("a key of the issuer is passed over: %s", type(error).__name__)
            continue
        # "oct" would be a shared secret, which a public list cannot have
        if key.algorithm_name in ALGORITHMS:
            keys.append(key)
    if not keys:
        raise ValueError("no key in it may sign tokens")
    return tuple(keys)


def _fetcher(issuer: str, jwks: str, root: Path) -> Fetch:
    """What gives the issuer's keys.

    Raises:
        ConfigError: a URL without TLS, other than of this machine.
    """
    if not jwks:
        start = _checked_url(issuer.rstrip("/") + "/.well-known/openid-configuration")
        return lambda: _get(_discovered(_get(start), issuer))
    if "://" not in jwks:
        return (root / jwks).read_bytes
    url = _checked_url(jwks)
    return lambda: _get(url)


def _discovered(answer: bytes, issuer: str) -> str:
    document = json.loads(answer)
    if not isinstance(document, dict) or document.get("issuer") != issuer:
        raise ValueError("its OpenID configuration is of another issuer")
    found = document.get("jwks_uri")
    if not isinstance(found, str):
        raise ValueError("its OpenID configuration names no jwks_uri")
    try:
        return _checked_url(found)
    except ConfigError as error:
        raise ValueError(error.message) from error


def _get(url: str) -> bytes:
    """What a URL answers.

    Raises:
        OSError, ValueError: no answer in time, another status than 200, or too long an answer.
    """
    import httpx

    try:
        with httpx.stream("GET", url, timeout=FETCH_SECONDS, follow_redirects=False) as answer:
            answer.raise_for_status()
            if answer.status_code != httpx.codes.OK:
                raise ValueError(f"status {answer.status_code}")
            body = b""
            for part in answer.iter_bytes():
                body += part
                if len(body) > _MOST_BYTES:
                    raise ValueError("the answer is too long")
            return body
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise OSError(f"{type(error).__name__}: {error}") from error


def _checked_url(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _LOCAL_HOSTS):
        return url
    raise ConfigError(
        f"keys are fetched over https, and {parts.scheme or 'no'}://{parts.hostname or ''} is not",
        try_="an https:// URL, or a file",
    )


def _signed_by(header: Mapping[str, Any]) -> str | None:
    """The key that a token's header names.

    Raises:
        ValueError: a header that is not taken.
    """
    if header.get("alg") not in ALGORITHMS or str(header.get("typ") or "").lower() not in _TYPES or "b64" in header:
        raise ValueError("not a header that is taken")
    key_id = header.get("kid")
    return None if key_id is None else str(key_id)


def _is_time(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and 0 <= value < 1e11


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= 128 and value.isprintable()


def _words(claims: Mapping[str, Any], path: str, *, split: bool = True) -> tuple[str, ...]:
    """The words of a claim: a text (of words, with `split`) or a list of texts."""
    value: Any = claims.get(path)
    if value is None:
        value = claims
        for step in path.split("."):
            value = value.get(step) if isinstance(value, Mapping) else None
    if isinstance(value, str):
        return tuple(value.split()) if split else (value,)
    return tuple(item for item in value if isinstance(item, str)) if isinstance(value, list) else ()


def _refused() -> UnauthenticatedError:
    """The same words for every reason."""
    return UnauthenticatedError("this is no token that is taken here", try_="get a new token from the issuer")
