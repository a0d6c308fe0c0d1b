"""What a request has at hand: the projects that are served, and who asks for what."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from grange.errors import ForbiddenError

if TYPE_CHECKING:
    from grange.access import Access
    from grange.config import Config
    from grange.security import Security
    from grange.security.principals import Principal
    from grange.store import FeatureStore


@dataclass(frozen=True, slots=True)
class Project:
    """One project that is served. Projects share nothing: each has stores, keys, policies and an audit log of its
    own."""

    name: str
    store: FeatureStore
    security: Security
    is_open: bool
    """Whether whoever reaches the server may do everything: nobody ever made a key, and no tokens are taken."""


@dataclass(frozen=True, slots=True)
class Projects:
    """The projects of a server."""

    config: Config
    """Of the project that the server was started in: it says how the server listens."""
    by_name: Mapping[str, Project]
    default: str

    def of(self, name: str | None) -> Project:
        """A project by name; the server's own without.

        Raises:
            ForbiddenError: no such project is served. It does not say which are.
        """
        found = self.by_name.get(self.default if name is None else name)
        if found is None:
            raise ForbiddenError(f"no project {name!r} here, or none that you may see")
        return found


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, and how they may reach the store."""

    principal: Principal
    project: Project
    access: Access
    """The project's store, as far as the principal may use it."""
    request_id: str
