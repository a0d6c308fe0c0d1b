"""What a server knows of its projects while it runs, kept new by a thread, so that no request waits for a registry."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from grange.access import Gate as AccessGate
from grange.errors import GrangeError

if TYPE_CHECKING:
    from grange.http.context import Project, Projects
    from grange.security.policies import Policies
    from grange.store import FeatureStore

EVERY_S: Final = 0.5
"""Between two looks of the thread."""
FRESH_S: Final = 5.0
"""How old what is known may be: without the thread, a request looks by itself after that."""

_WARMED: Final = 100
"""Views that are worked out before the first request; further ones are when they are first asked for."""

_log = logging.getLogger("grange.http")


class LiveProject:
    """One project: the gate to its store, and the policies in force.

    Args:
        project: the project.
    """

    __slots__ = ("gate", "looked_at", "policies", "project")

    def __init__(self, project: Project) -> None:
        self.project = project
        self.gate = AccessGate(project.store, project.security)
        self.policies: Policies | None = None
        self.looked_at = float("-inf")

    @property
    def is_fresh(self) -> bool:
        """Whether what is known may be gone by."""
        return time.monotonic() - self.looked_at <= FRESH_S

    def look(self) -> None:
        """Read what may have changed. May take as long as a registry takes.

        Raises:
            StoreUnavailableError: it cannot be read, and nothing is known yet.
        """
        self.policies = self.gate.policies()
        if self.project.is_open and self.project.security.keys.any_ever():
            self.project = replace(self.project, is_open=False)
        self.looked_at = time.monotonic()


class LiveProjects:
    """All projects of a server.

    Args:
        projects: what is served.
        on_look: is called after each look.
    """

    def __init__(self, projects: Projects, on_look: Callable[[], None] = lambda: None) -> None:
        self.projects = projects
        self._on_look = on_look
        self._by_name = {name: LiveProject(project) for name, project in projects.by_name.items()}
        self._task: asyncio.Task[None] | None = None

    def __iter__(self) -> Iterator[LiveProject]:
        return iter(self._by_name.values())

    def of(self, project: Project) -> LiveProject:
        """What is known of a project."""
        return self._by_name[project.name]

    async def look(self) -> None:
        """Look at every project, each in a thread."""
        await asyncio.gather(*(asyncio.to_thread(self._look, live) for live in self))

    def _look(self, live: LiveProject) -> None:
        was_open = live.project.is_open
        try:
            live.look()
        except GrangeError as error:
            _log.warning("project %r: %s", live.project.name, error.message)
            return
        if was_open and not live.project.is_open:
            by_name = self.projects.by_name
            assert isinstance(by_name, MutableMapping), "a project that gets its first key is open no more"
            by_name[live.project.name] = live.project
            _log.info("project %r has keys now: who brings none is not answered", live.project.name)

    async def start(self) -> None:
        """Begin to look, again and again; definitions are kept new by the stores' own threads."""
        for live in self:
            with suppress(GrangeError):  # a registry that is away now is told by the probes, and asked again
                await asyncio.to_thread(live.project.store.keep_fresh)
            await asyncio.to_thread(_warm, live.project.store)
        await self.look()
        self._task = asyncio.create_task(self._keep_looking())

    async def _keep_looking(self) -> None:
        while True:
            await asyncio.sleep(EVERY_S)
            await self.look()
            self._on_look()

    async def stop(self) -> None:
        """Look no more."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
            self._task = None


def _warm(store: FeatureStore) -> None:
    """Work out what reads of the views need, and load the code for it, before anybody waits for that."""
    with suppress(GrangeError):
        views = list(store.catalog.views)[:_WARMED]
        for view in views:
            with suppress(GrangeError):  # what cannot be served says why when it is asked for
                store.get_online_features(view, [])
