"""Progress: what long work tells whoever waits for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Stage = Literal["read", "check", "write", "load", "done"]


@dataclass(frozen=True, slots=True)
class Progress:
    """One step of a materialization."""

    group: str
    stage: Stage
    """What begins: reading and transforming, checking expectations, writing the version, loading online, done."""
    rows: int | None
    """Rows at hand, once known."""
    position: int
    """Which of the groups, from 1."""
    total: int
    """How many groups."""


Report = Callable[[Progress], None]


def silent(_: Progress) -> None:
    """Tell nobody."""
