"""What is known of the `memory` online store before it is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from grange.ports.plugins import Descriptor


def _create(*, root: str | Path = ".") -> Any:
    del root  # part of every store's call; nothing is kept on disk here
    from grange.online.memory.backend import MemoryOnlineStore

    return MemoryOnlineStore()


DESCRIPTOR = Descriptor(
    name="memory",
    factory=_create,
    summary="Dicts of one process, gone when it ends: for tests, notebooks and as the reference",
)
