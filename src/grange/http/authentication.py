"""Who asks: a key or a token in the headers, or nobody, where the project is open."""

from __future__ import annotations

import asyncio
import datetime as dt
import functools
import hashlib
import re
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from grange.errors import ForbiddenError, UnauthenticatedError
from grange.security.key_text import looks_like_key, parse_key, project_part

if TYPE_CHECKING:
    from grange.http.context import Project, Projects
    from grange.security.principals import Principal
    from grange.security.tokens import TokenVerifier

LOOPBACK: Final = re.compile(r"(localhost|127(?:\.\d{1,3}){3}|\[::1\])(:\d{1,5})?", re.IGNORECASE)
FRESH_S: Final = 0.25
"""How long somebody who was let in is let in again without another look. Keys have a memory of their own beside it, and
the two add up, so it is short."""
_KNOWN: Final = 10_000


class Gate:
    """Lets callers in, or does not.

    Args:
        projects: what is served.
        tokens: what verifies tokens; None where none are taken.
    """

    def __init__(self, projects: Projects, tokens: TokenVerifier | None = None) -> None:
        self._projects = projects
        self._tokens = tokens
        self._known: dict[bytes, tuple[float, Project, Principal]] = {}
        self._pool: ThreadPoolExecutor | None = None

    def at_once(self, headers: Mapping[bytes, bytes]) -> tuple[Project, Principal] | None:
        """Who asks, where that needs no look at a store; None where it does.

        Raises:
            UnauthenticatedError: no credentials, where they are needed.
            ForbiddenError: no such project; a page of another site asks a server that is open.
        """
        text, asked = credentials(headers), headers.get(b"x-grange-project")
        project = self._named(text, asked)
        if project is not None and project.is_open:
            check_local(headers)
            return project, _local(project)
        if text is None:
            raise unauthenticated()
        known = self._known.get(_fingerprint(text, asked))
        if known is None or known[0] < time.monotonic():
            return None
        return known[1], known[2]

    async def after_a_look(self, headers: Mapping[bytes, bytes]) -> tuple[Project, Principal]:
        """Who asks, from the keys and tokens that are known; looked up by a thread.

        Raises:
            UnauthenticatedError: the credentials are nobody's.
            ForbiddenError: they are of another project than the one that is asked for, or have no role.
            StoreUnavailableError: it cannot be told.
        """
        text = credentials(headers)
        asked = headers.get(b"x-grange-project")
        if text is None:
            raise unauthenticated()
        if self._pool is None:
            self._pool = ThreadPoolExecutor(4, thread_name_prefix="grange-gate")
        loop = asyncio.get_running_loop()
        project, principal = await loop.run_in_executor(self._pool, self._look, text, asked)
        if len(self._known) >= _KNOWN:
            self._known.clear()
        self._known[_fingerprint(text, asked)] = time.monotonic() + FRESH_S, project, principal
        return project, principal

    def forget(self) -> None:
        """Let nobody in without another look: keys or policies were changed here."""
        self._known.clear()

    def close(self) -> None:
        """Stop the threads."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)

    def _look(self, text: str, asked: bytes | None) -> tuple[Project, Principal]:
        now = dt.datetime.now(dt.UTC)
        if looks_like_key(text):
            return self._by_key(text, asked, now)
        if self._tokens is None:
            raise unauthenticated()
        principal = self._tokens.authenticate(text, now=now)
        owner = self._projects.of(principal.project or None)
        if asked is not None and asked.decode("latin-1") != owner.name:
            raise ForbiddenError(f"these credentials are of project {owner.name!r}, and another one is asked for")
        return owner, principal

    def _by_key(self, text: str, asked: bytes | None, now: dt.datetime) -> tuple[Project, Principal]:
        """The owner of a key, among the projects that it may be of. Of others nothing is said."""
        parsed = parse_key(text)
        for name, project in self._projects.by_name.items():
            if parsed is None or project_part(name) != parsed.project:
                continue
            if asked is not None and asked.decode("latin-1") != name:
                continue
            try:
                return project, project.security.keys.authenticate(text, now=now)
            except UnauthenticatedError:
                continue  # two projects may share the part of their names that is in keys
        raise unauthenticated()

    def _named(self, text: str | None, asked: bytes | None) -> Project | None:
        """The project that a request is to, as far as its headers say: the server's own without."""
        if asked is not None:
            return self._projects.by_name.get(asked.decode("latin-1"))
        parsed = parse_key(text) if text is not None and looks_like_key(text) else None
        if parsed is not None:
            for name, project in self._projects.by_name.items():
                if project_part(name) == parsed.project:
                    return project
        return self._projects.by_name[self._projects.default]


def credentials(headers: Mapping[bytes, bytes]) -> str | None:
    """The key or token of a request; None when it brings none.

    Raises:
        UnauthenticatedError: another scheme than Bearer.
    """
    said = headers.get(b"authorization")
    if said is not None:
        scheme, _, text = said.decode("latin-1").partition(" ")
        if scheme.lower() != "bearer" or not text.strip():
            raise unauthenticated()
        return text.strip()
    key = headers.get(b"x-api-key")
    return None if key is None else key.decode("latin-1").strip()


def check_local(headers: Mapping[bytes, bytes]) -> None:
    """Refuse what a page of another site makes a browser on this machine send: to a name that was made to lead here,
    or straight here. An open server has nothing else to tell its user from such a page.

    Raises:
        ForbiddenError: the host, or the page that asks, is not this machine by name.
    """
    if not is_loopback(headers.get(b"host", b"localhost")):
        host = headers[b"host"].decode("latin-1")
        raise ForbiddenError(
            f"a server without keys answers to localhost, not to {host!r}",
            try_="grange key create NAME --role viewer, and send the key",
        )
    origin = headers.get(b"origin")
    if origin is not None and LOOPBACK.fullmatch(origin.decode("latin-1").partition("://")[2]) is None:
        raise ForbiddenError(
            "a server without keys answers to no page of another site",
            found=f"Origin {origin.decode('latin-1')!r}",
            try_="grange key create NAME --role viewer, and send the key",
        )


@functools.lru_cache(maxsize=64)
def is_loopback(host: bytes) -> bool:
    """Whether a Host header names this machine."""
    return LOOPBACK.fullmatch(host.decode("latin-1")) is not None


def unauthenticated() -> UnauthenticatedError:
    """The error for whoever brings no credentials, or wrong ones: it does not say which."""
    return UnauthenticatedError(
        "who asks is not known",
        try_="send a key: Authorization: Bearer grange_..., or X-API-Key",
    )


_LOCALS: dict[str, Principal] = {}


def _local(project: Project) -> Principal:
    """Whoever asks an open project."""
    known = _LOCALS.get(project.name)
    if known is None:
        from grange.security.principals import LOCAL

        known = _LOCALS[project.name] = replace(LOCAL, project=project.name)
    return known


def _fingerprint(text: str, asked: bytes | None) -> bytes:
    """What is remembered of credentials: not the secret itself."""
    return hashlib.sha256(text.encode() + b"\0" + (asked or b"")).digest()
