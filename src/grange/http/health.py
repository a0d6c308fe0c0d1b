"""Probes: whether the process lives, and whether it can do its work.

Each part of a project is asked at most once a second, by a thread, however many probes come: a probe costs nothing, and
a part that hangs delays no request.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from grange.errors import GrangeError
from grange.http.messages import Reply, json_reply

if TYPE_CHECKING:
    from grange.http.context import Project, Projects
    from grange.verbs.parts import Parts

FRESH_S: Final = 1.0
"""How long an answer is given again."""
PATIENCE_S: Final = 2.0
"""How long a part may take to answer before it counts as not ready."""


def parts_of(project: Project) -> Mapping[str, Callable[[], object]]:
    """What is asked of each part of a project: something small that only a part that works can answer."""
    parts = project.store._parts
    asked: dict[str, Callable[[], object]] = {
        "registry": lambda: parts.registry.revision(),
        "offline": lambda: parts.offline.versions("health"),
        "online": lambda: parts.online.read("health", [b"health"], ["health"]),
    }
    if project.store.config.security.encryption_key:
        asked["key service"] = lambda: _sealed_and_opened(parts)
    return asked


def _sealed_and_opened(parts: Parts) -> bytes:
    sealer = parts.open_sealer()
    assert sealer is not None, "a project with an encryption key has a sealer"
    return sealer.open(sealer.seal(b"", b"health"), b"health")


@dataclass(slots=True)
class Health:
    """The probes of a server.

    Args:
        projects: what is served.
        draining: whether the server was told to stop.
        parts: of a project, what each part is asked.
    """

    projects: Projects
    draining: Callable[[], bool]
    parts: Callable[[Project], Mapping[str, Callable[[], object]]] = parts_of
    _found: dict[str, dict[str, str]] = field(default_factory=dict)
    _asked_at: float = float("-inf")
    _asking: asyncio.Task[None] | None = None
    _pool: ThreadPoolExecutor | None = None

    async def live(self) -> Reply:
        """`GET /health/live`: the process answers."""
        return json_reply({"status": "alive"})

    async def ready(self) -> Reply:
        """`GET /health/ready`: every part of every project answers; 503 with those that do not, and why."""
        if self.draining():
            return json_reply({"status": "stopping", "projects": {}}, 503)
        if self._asking is None and time.monotonic() - self._asked_at > FRESH_S:
            self._asking = asyncio.ensure_future(self._ask())
        if self._asking is not None:
            await asyncio.shield(self._asking)
        projects = {name: _told(found) for name, found in self._found.items()}
        is_ready = all(project["status"] == "ready" for project in projects.values())
        return json_reply(
            {"status": "ready" if is_ready else "not ready", "projects": projects}, 200 if is_ready else 503
        )

    def close(self) -> None:
        """Stop the threads."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)

    async def _ask(self) -> None:
        try:
            asked = [
                (project.name, part, ask)
                for project in self.projects.by_name.values()
                for part, ask in self.parts(project).items()
            ]
            answers = await asyncio.gather(*(self._answer(ask) for _, _, ask in asked))
            found: dict[str, dict[str, str]] = {name: {} for name in self.projects.by_name}
            for (name, part, _), answer in zip(asked, answers, strict=True):
                found[name][part] = answer
            self._found = found
        finally:
            self._asked_at, self._asking = time.monotonic(), None

    async def _answer(self, ask: Callable[[], object]) -> str:
        """Empty when the part answers; else why it does not."""
        if self._pool is None:
            self._pool = ThreadPoolExecutor(16, thread_name_prefix="grange-health")
        try:
            async with asyncio.timeout(PATIENCE_S):
                await asyncio.get_running_loop().run_in_executor(self._pool, ask)
        except TimeoutError:
            return f"no answer within {PATIENCE_S:g} seconds"
        except GrangeError as error:
            return error.message
        return ""


def _told(parts: Mapping[str, str]) -> dict[str, Any]:
    """One project: which part is not ready, and why."""
    return {
        "status": "not ready" if any(parts.values()) else "ready",
        "parts": {
            part: {"status": "not ready", "reason": reason} if reason else {"status": "ready"}
            for part, reason in parts.items()
        },
    }
