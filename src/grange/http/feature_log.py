"""The feature log: a share of what was served, kept in the offline store beside the history that models learn from.

Whether a request is logged follows from its id, so that all servers, and whoever calls them, agree on it. Vectors wait
in a bounded queue, and a thread writes them in batches: a request never waits, and when the queue is full vectors are
dropped and counted.
"""

from __future__ import annotations

import datetime as dt
import logging
import threading
import zlib
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from grange.errors import GrangeError

if TYPE_CHECKING:
    from grange.http.metrics import Metrics
    from grange.http.parts import Part
    from grange.http.plans import Plan
    from grange.store import FeatureStore
    from grange.verbs.served import ServedVector

EVERY_S: Final = 5.0
"""Between two writes, while there is something to write."""
MOST: Final = 20_000
"""Vectors that wait at most."""
_SCALE: Final = 1 << 32

_log = logging.getLogger("grange.http")


@dataclass(frozen=True, slots=True)
class _Served:
    """Vectors of one request, as they were read; made into rows by the thread."""

    plan: Plan
    request_id: str
    at: dt.datetime
    part: Part


class FeatureLog:
    """The log of one project.

    Args:
        store: the project's store.
        share: of requests that are logged, 0 to 1.
        metrics: told what was written and dropped.
        most: vectors that wait at most.
        clock: the moment (TIME-3).
    """

    def __init__(
        self,
        store: FeatureStore,
        *,
        share: float,
        metrics: Metrics,
        most: int = MOST,
        clock: Callable[[], dt.datetime] = lambda: dt.datetime.now(dt.UTC),
    ) -> None:
        self._store = store
        self._threshold = round(share * _SCALE)
        self._metrics = metrics
        self._most = most
        self._clock = clock
        self._waiting: deque[_Served] = deque()
        self._count = 0
        self._wake = threading.Event()
        self._stopped = False
        self._writing = threading.Lock()
        self._thread: threading.Thread | None = None

    def is_chosen(self, request_id: str) -> bool:
        """Whether a request of this id is logged."""
        return zlib.crc32(request_id.encode()) * 2654435761 % _SCALE < self._threshold

    def offer(self, plan: Plan, request_id: str, part: Part) -> None:
        """Log the vectors of one request, if it read a view and there is room."""
        rows = part.end - part.start
        if not plan.view or not rows:
            return
        if self._count + rows > self._most:
            self._metrics.logged(self._store.config.project, "dropped", rows)
            return
        self._count += rows
        self._waiting.append(_Served(plan, request_id, self._clock(), part))

    def start(self) -> None:
        """Begin to write."""
        self._thread = threading.Thread(target=self._write_until_stopped, name="grange-feature-log", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Write what waits, and end."""
        self._stopped = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self.write()

    def write(self) -> int:
        """Write what waits; returns how many vectors were written."""
        with self._writing:
            taken: list[_Served] = []
            while self._waiting:
                taken.append(self._waiting.popleft())
            self._count -= sum(served.part.end - served.part.start for served in taken)
            by_view: dict[str, list[ServedVector]] = {}
            for served in taken:
                by_view.setdefault(served.plan.view, []).extend(_vectors(served))
            return sum(self._write_view(view, vectors) for view, vectors in by_view.items())

    def _write_view(self, view: str, vectors: list[ServedVector]) -> int:
        project = self._store.config.project
        try:
            self._store.log_served(view, vectors)
        except GrangeError as error:
            # a log that cannot be written is no reason not to serve; it is counted, and said
            _log.warning("%d served vectors of %r could not be logged: %s", len(vectors), view, error.message)
            self._metrics.logged(project, "failed", len(vectors))
            return 0
        self._metrics.logged(project, "written", len(vectors))
        return len(vectors)

    def _write_until_stopped(self) -> None:
        while not self._stopped:
            self._wake.wait(EVERY_S)
            self.write()


def _vectors(served: _Served) -> list[ServedVector]:
    """Vectors as they are written: what is masked stays out, and so does what the caller could not see."""
    from grange.verbs.served import ServedVector

    masked = served.part.answer.found.masked
    return [
        ServedVector(
            served.request_id,
            place,
            served.at,
            {name: value for name, value in vector.items() if name not in masked},
            {name: status for name, status in statuses.items() if name not in masked},
            served.part.answer.found.degraded,
        )
        for place, (vector, statuses) in enumerate(zip(served.part.to_dicts(), served.part.statuses(), strict=True))
    ]
