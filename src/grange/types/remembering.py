"""What frozen values work out of themselves, once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


class Remembering:
    """A frozen value that keeps what it has worked out of itself. It is no field: neither equality, nor hashes, nor
    copies know of it. Two threads that ask at once work it out twice, to the same end."""

    __slots__ = ("_memory",)

    _memory: dict[str, Any]

    def remembered(self, what: str, make: Callable[[], T]) -> T:
        """What `make` gives; called the first time only."""
        try:
            memory = self._memory
        except AttributeError:
            memory = {}
            object.__setattr__(self, "_memory", memory)
        if what not in memory:
            memory[what] = make()
        found: T = memory[what]
        return found
