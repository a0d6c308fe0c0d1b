"""Who reads which view, and how often: counted in memory, written to the registry's counters now and then."""

from __future__ import annotations

import datetime as dt
import threading
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from grange.errors import ConflictError, CorruptStoreError, StoreUnavailableError
from grange.jobs import documents_of
from grange.ports.registry import Use

if TYPE_CHECKING:
    from grange.http.context import Project

KIND: Final = "consumer"
"""The kind of these uses: `name` is the consumer's, `feature` the view's."""
VERB: Final = "get_online_features"
SECONDS: Final = 30.0
_MOST: Final = 10_000
"""Pairs of consumer and view that are counted apart at once; what comes beyond is not counted."""


class Consumers:
    """The counts of one process. Safe for several threads.

    Args:
        projects: what is served, by name.
    """

    def __init__(self, projects: Mapping[str, Project]) -> None:
        self._projects = projects
        self._counts: Counter[tuple[str, str, str]] = Counter()
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None

    def count(self, project: str, consumer: str, view: str) -> None:
        """One request of somebody that read a view. Costs a look-up."""
        key = project, consumer, view
        with self._lock:
            if key in self._counts or len(self._counts) < _MOST:
                self._counts[key] += 1
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="grange-consumers", daemon=True)
                self._thread.start()

    def write(self) -> None:
        """Write the counts; what cannot be written stays in memory."""
        with self._lock:
            counts, self._counts = self._counts, Counter()
        by_project: dict[str, list[Use]] = {}
        for (project, consumer, view), number in counts.items():
            by_project.setdefault(project, []).append(Use(KIND, consumer, view, VERB, number))
        for name, uses in by_project.items():
            registry: Any = documents_of(self._projects[name].store)
            try:
                registry.count_uses(uses, now=dt.datetime.now(dt.UTC))
            except (StoreUnavailableError, ConflictError, CorruptStoreError):
                with self._lock:
                    self._counts.update({(name, use.name, use.feature): use.count for use in uses})

    def close(self) -> None:
        """Write what is left. Calling it twice is fine."""
        self._closed.set()
        if self._thread is not None:
            self._thread.join()
        self.write()

    def _run(self) -> None:
        while not self._closed.wait(SECONDS):
            self.write()
