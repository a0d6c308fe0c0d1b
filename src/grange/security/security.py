"""Everything of one project that has to do with who may do what."""

from __future__ import annotations

import datetime as dt

from grange.ports.registry import Registry
from grange.security.audit import AuditLog
from grange.security.key_text import looks_like_key
from grange.security.keys import KeyStore
from grange.security.policies import PolicyStore
from grange.security.principals import Principal
from grange.security.tokens import TokenVerifier


class Security:
    """Keys, policies and the audit log of one project. Safe for several threads.

    Args:
        registry: where they are kept.
        project: the project's name; a key is of one project.
        tokens: verifies tokens; None when only keys are taken.
    """

    def __init__(self, registry: Registry, project: str, tokens: TokenVerifier | None = None) -> None:
        self.keys = KeyStore(registry, project)
        self.policies = PolicyStore(registry)
        self.audit = AuditLog(registry)
        self.tokens = tokens

    def authenticate(self, credential: str, *, now: dt.datetime) -> Principal:
        """Who asks with a key or a token.

        Raises:
            UnauthenticatedError: neither, or one that does not work.
            ForbiddenError: a token that gives no role here.
            StoreUnavailableError: it cannot be told for now.
        """
        if self.tokens is None or looks_like_key(credential):
            return self.keys.authenticate(credential, now=now)
        return self.tokens.authenticate(credential, now=now)

    def is_open(self) -> bool:
        """Whether there is nobody to tell apart: no key was ever made, and no tokens are taken."""
        return self.tokens is None and not self.keys.any_ever()

    def close(self) -> None:
        """Write what is still to be written to the audit log. Calling it twice is fine.

        Raises:
            StoreUnavailableError, ConflictError: it could not be written.
        """
        self.audit.close()
