"""What was found for requests before, kept while the definitions are the same."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Final, Generic, TypeVar

if TYPE_CHECKING:
    from grange.definitions.catalog import Catalog

T = TypeVar("T")
MOST: Final = 512
"""Answers at most."""
MOST_NAMES: Final = 50_000
"""Names in all questions at most: a client that asks for thousands of features, each time others, fills no memory."""


class Known(Generic[T]):
    """Answers by question, of one catalog at a time. Safe for several threads.

    Clients ask for the same few features again and again; what their names mean is worked out once.
    """

    def __init__(self) -> None:
        self._catalog: Catalog | None = None
        self._found: dict[Hashable, T] = {}
        self._names = 0
        self._lock = threading.Lock()

    def get(self, catalog: Catalog, key: Hashable, make: Callable[[], T], *, size: int = 1) -> T:
        """What is known for a question; made, and kept, when nothing is. What `make` raises is not kept.

        Args:
            catalog: the definitions.
            key: the question.
            make: answers it.
            size: how many names are in it.
        """
        if self._catalog is catalog and (known := self._found.get(key)) is not None:
            return known
        made = make()
        with self._lock:
            if self._catalog is not catalog or len(self._found) >= MOST or self._names + size > MOST_NAMES:
                self._catalog, self._found, self._names = catalog, {}, 0
            self._found[key] = made
            self._names += size
        return made
