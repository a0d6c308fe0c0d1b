"""Runs of what is applied: those of a group that was deleted are not those of a later one of its name."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from typing import Final

from grange.ports.registry import Definitions, Revision, Run
from grange.verbs.states import OnlineState

_NEVER: Final = dt.datetime.min.replace(tzinfo=dt.UTC)
_NEWEST: Final = 10
_FEW: Final = 100
_ALL: Final = (1 << 31) - 1


def runs_of(registry: Definitions, group: str | None = None, *, limit: int) -> tuple[Run, ...]:
    """The newest runs of the groups that are applied, newest first, as far as they began after their group was
    created.

    Args:
        registry: what knows runs and revisions.
        group: of one group only.
        limit: how many of the newest runs are looked at.
    """
    runs = registry.runs(group, limit=limit)
    created = _created(registry, {run.group for run in runs})
    return tuple(run for run in runs if run.started_at >= created.get(run.group, _NEVER))


def last_load(registry: Definitions, group: str) -> Run | None:
    """The newest run that loaded a version of a group online; None where there is none, or where what it loaded was
    taken away since, because nothing that was left of the group could be served."""
    for limit in (_FEW, _ALL):  # a group may have been pushed to a thousand times since
        for run in runs_of(registry, group, limit=limit):
            if run.version and run.details.get("online_rows") is not None:
                return run
            if takes_away(run):
                return None
    return None


REACHED: Final = "next_pushed"
"""In a run's details: the sequence number that the next pushed row gets; all due rows before it are online."""
DUE: Final = "due_rows"
"""In the details of a push: how many of its rows were written online, because they were due and news."""
STATE: Final = "online_state"
"""In a run's details: which of the group's states it wrote online (`OnlineState.label`)."""


def reached_online(registry: Definitions, group: str) -> frozenset[int]:
    """The numbers that a group's history had reached when all of it was online, for its newest runs. Where the number
    that the next pushed row gets is not among them, a process died between history and the online store."""
    return frozenset(
        int(run.details[REACHED]) for run in runs_of(registry, group, limit=_FEW) if REACHED in run.details
    )


def loaded_rows(registry: Definitions, state: OnlineState) -> bool | None:
    """Whether the runs of a group say that rows of it are in a state online; None where they say nothing of it at all.

    False where the last load had none, where it was into another state, because the group was defined otherwise, or
    where what was left of the group could not be served and was taken away.
    """
    for limit in (_NEWEST, _ALL):
        for run in runs_of(registry, state.group, limit=limit):
            if takes_away(run):
                return False
            if run.details.get("online_rows") is not None:
                return bool(run.details["online_rows"]) and _wrote(run, state)
            if run.details.get(DUE):
                return _wrote(run, state)
    return None


def _wrote(run: Run, state: OnlineState) -> bool:
    """Whether a run that wrote online wrote to a state; one that does not say where wrote to the only one there was."""
    return bool(run.details.get(STATE, state.label) == state.label)


def takes_away(run: Run) -> bool:
    """Whether a run left nothing of a group online."""
    return run.verb in ("rollback", "load") and run.details.get("online_rows") is None


def _created(registry: Definitions, groups: set[str]) -> Mapping[str, dt.datetime]:
    """By group, when it was created last."""
    if not groups:
        return {}
    recent = registry.revisions(limit=_FEW)
    created = _creations(recent)
    if len(recent) == _FEW and not groups <= created.keys():
        created = _creations(registry.revisions(limit=_ALL))
    return created


def _creations(newest_first: Iterable[Revision]) -> dict[str, dt.datetime]:
    found: dict[str, dt.datetime] = {}
    for revision in newest_first:
        for action, kind, name in revision.changes:
            if (action, kind) == ("create", "feature_group"):
                found.setdefault(name, revision.at)
    return found
