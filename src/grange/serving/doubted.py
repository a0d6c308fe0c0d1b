"""An online store of which it is not known that it has what was loaded into it.

A store that was started without its data answers that there is nobody, like one that nobody loaded yet. Who knows
better, or cannot know at this moment, reads it through a `DoubtedStore`: that is an outage, and never a missing feature
(ONL-6).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from grange.errors import StateLostError, StoreUnavailableError
from grange.ports.online import Cells, OnlineStore, StoredRow

T = TypeVar("T")


class ReadableStore(Protocol):
    """What reading takes of an online store. See `OnlineStore`."""

    def read(self, key_space: str, keys: Sequence[bytes], groups: Sequence[str]) -> list[tuple[StoredRow | None, ...]]:
        """Per key the row of each group."""
        ...

    def read_cells(self, key_space: str, group: str, visit: Callable[[Cells], T]) -> T:
        """What a visit to a group's cells returns."""
        ...

    def layout(self, layout: int) -> tuple[str, ...]:
        """The columns of a layout number."""
        ...


@dataclass(frozen=True, slots=True)
class Doubt:
    """Why groups may not be read, though the store would answer."""

    outage: StoreUnavailableError | None = None
    """The store could not say what it has: all groups."""
    unknown: Mapping[tuple[str, str], StoreUnavailableError] = field(default_factory=dict)
    """(key space, group) of what is not there, or not known to be whole, while nobody could say whether it should be;
    and what came in the way."""
    lost: Collection[tuple[str, str]] = ()
    """(key space, group) of what was loaded and is not there."""

    def __bool__(self) -> bool:
        return self.outage is not None or bool(self.unknown) or bool(self.lost)


class DoubtedStore:
    """A store that is read as far as there is no doubt of it.

    Args:
        store: the store.
        doubt: of it.
        name: how the store is called, for people.
        on_lost: is told each read of what is lost.
    """

    def __init__(
        self, store: OnlineStore, doubt: Doubt, *, name: str, on_lost: Callable[[StateLostError], None]
    ) -> None:
        self._store = store
        self._doubt = doubt
        self._name = name
        self._on_lost = on_lost

    def read(self, key_space: str, keys: Sequence[bytes], groups: Sequence[str]) -> list[tuple[StoredRow | None, ...]]:
        """Per key the row of each group.

        Raises:
            StateLostError: one of the groups is lost.
            StoreUnavailableError: it could not be told.
        """
        for group in groups:
            self._check(key_space, group)
        return self._store.read(key_space, keys, groups)

    def read_cells(self, key_space: str, group: str, visit: Callable[[Cells], T]) -> T:
        """What a visit to a group's cells returns. Raises what `read` does."""
        self._check(key_space, group)
        return self._store.read_cells(key_space, group, visit)

    def layout(self, layout: int) -> tuple[str, ...]:
        """The columns of a layout number."""
        return self._store.layout(layout)

    def _check(self, key_space: str, group: str) -> None:
        if self._doubt.outage is not None:
            raise copy.copy(self._doubt.outage)
        unknown = self._doubt.unknown.get((key_space, group))
        if unknown is not None:
            error = copy.copy(unknown)
            error.details = {**unknown.details, "group": group}  # of this one alone
            raise error
        if (key_space, group) in self._doubt.lost:
            error = StateLostError.of(
                group,
                key_space=key_space,
                store=f"the online store {self._name!r}",
                found="rows of it were loaded, and none are there: the store was started without its data, let go of "
                "them, or is another one than they were loaded into",
            )
            self._on_lost(error)
            raise error


__all__ = ["Doubt", "DoubtedStore", "ReadableStore"]
