"""Probes: whether the process lives, and whether it can do its work.

Each part of a project is asked at most once a second, by a thread, however many probes come: a probe costs nothing, and
a part that hangs delays no request.

A server whose online store lost some groups is ready, and says that it is degraded: no other server has them either, so
taking it out of service would take away all that is answered still, and what loads the groups again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

from grange.errors import GrangeError, StateLostError, StoreUnavailableError
from grange.http.messages import Reply, json_reply
from grange.http.places import relative

if TYPE_CHECKING:
    from grange.definitions.feature_group import FeatureGroup
    from grange.http.context import Project, Projects
    from grange.verbs.parts import Parts

FRESH_S: Final = 1.0
"""How long an answer is given again."""
PATIENCE_S: Final = 2.0
"""How long a part may take to answer before it counts as not ready."""


LOST_FRESH_S: Final = 5.0
"""How often it is looked for groups that the online store lost: in a Cluster that takes some hundred commands each."""


class Questions:
    """What is asked of each part of a project: something small that only a part that works can answer."""

    def __init__(self) -> None:
        self._online: dict[str, _Online] = {}

    def __call__(self, project: Project) -> Mapping[str, Callable[[], object]]:
        """The questions, by part."""
        parts = project.store._parts
        online = self._online.setdefault(project.name, _Online(project))
        asked: dict[str, Callable[[], object]] = {
            "registry": lambda: parts.registry.revision(),
            "offline": lambda: parts.offline.versions("health"),
            "online": online.ask,
        }
        if project.store.config.security.encryption_key:
            asked["key service"] = lambda: _sealed_and_opened(parts)
        return asked


@dataclass(slots=True)
class _Online:
    """The online store of a project, and what it was found to have lost."""

    project: Project
    _looked_at: float = float("-inf")
    _lost: tuple[str, ...] = ()

    def ask(self) -> None:
        """Ask something small, and now and then what is lost.

        Raises:
            StateLostError: names the groups, and the command that loads them.
            StoreUnavailableError: it does not answer.
        """
        groups = self._groups()
        asked = (groups[0].key_space, groups[0].name) if groups else ("health", "health")
        try:
            self.project.store._parts.online.read(asked[0], [b"health"], [asked[1]])
        except StateLostError:
            self._looked_at = float("-inf")
        if time.monotonic() - self._looked_at > LOST_FRESH_S:
            self._look(groups)
        if self._lost:
            raise StateLostError(
                f"the online state of {', '.join(self._lost)} is lost: grange materialize {' '.join(self._lost)}"
            )

    def _look(self, groups: Sequence[FeatureGroup]) -> None:
        from grange.verbs.online import lost_groups

        self._lost = tuple(group.name for group in lost_groups(self.project.store._parts, groups))
        self._looked_at = time.monotonic()

    def _groups(self) -> list[FeatureGroup]:
        """What is served online; none where the definitions are not known, which the registry's part tells."""
        try:
            return [group for group in self.project.store.catalog.groups.values() if group.online]
        except StoreUnavailableError:
            return []


Status = Literal["ready", "degraded", "not ready"]
_STATUSES: Final[tuple[Status, ...]] = get_args(Status)
"""The better ones first."""


@dataclass(frozen=True, slots=True)
class Answer:
    """How a part is."""

    status: Status
    reason: str = ""
    """Empty where it is ready."""


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
    parts: Callable[[Project], Mapping[str, Callable[[], object]]] = field(default_factory=Questions)
    _found: dict[str, dict[str, Answer]] = field(default_factory=dict)
    _asked_at: float = float("-inf")
    _asking: asyncio.Task[None] | None = None
    _pool: ThreadPoolExecutor | None = None

    async def live(self) -> Reply:
        """`GET /health/live`: the process answers."""
        return json_reply({"status": "alive"})

    async def ready(self) -> Reply:
        """`GET /health/ready`: every part of every project answers; 503 with those that do not, and why. A part that
        is degraded answers."""
        if self.draining():
            return json_reply({"status": "stopping", "projects": {}}, 503)
        if self._asking is None and time.monotonic() - self._asked_at > FRESH_S:
            self._asking = asyncio.ensure_future(self._ask())
        if self._asking is not None:
            await asyncio.shield(self._asking)
        projects = {name: _told(found) for name, found in self._found.items()}
        status = _worst(project["status"] for project in projects.values())
        return json_reply({"status": status, "projects": projects}, 503 if status == "not ready" else 200)

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
            found: dict[str, dict[str, Answer]] = {name: {} for name in self.projects.by_name}
            for (name, part, _), answer in zip(asked, answers, strict=True):
                found[name][part] = answer
            self._found = found
        finally:
            self._asked_at, self._asking = time.monotonic(), None

    async def _answer(self, ask: Callable[[], object]) -> Answer:
        """How a part is, as far as it can be asked."""
        if self._pool is None:
            self._pool = ThreadPoolExecutor(16, thread_name_prefix="grange-health")
        try:
            async with asyncio.timeout(PATIENCE_S):
                await asyncio.get_running_loop().run_in_executor(self._pool, ask)
        except TimeoutError:
            return Answer("not ready", f"no answer within {PATIENCE_S:g} seconds")
        except StateLostError as error:
            return Answer("degraded", error.message)
        except GrangeError as error:
            return Answer("not ready", error.message)
        return Answer("ready")


def _told(parts: Mapping[str, Answer]) -> dict[str, Any]:
    """One project: which part is not ready, and why."""
    return {
        "status": _worst(answer.status for answer in parts.values()),
        "parts": {
            part: {"status": answer.status} | ({"reason": relative(answer.reason)} if answer.reason else {})
            for part, answer in parts.items()
        },
    }


def _worst(statuses: Iterable[Status]) -> Status:
    return max(statuses, key=_STATUSES.index, default="ready")
