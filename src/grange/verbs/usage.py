"""Usage: how often features are read. Counted in memory, written to the registry now and then.

What an online read pays is one look-up and one count; names are worked out once per reader. Counts are written by a
thread of their own, so that no read waits for the registry, and they stay in memory while it cannot be reached: a read
never fails for them. A process that ends without closing its store loses those that it has not written.
"""

from __future__ import annotations

import itertools
import os
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final
from weakref import WeakSet

from grange.definitions.catalog import Catalog
from grange.definitions.feature_view import FeatureView
from grange.definitions.references import FeatureSelection
from grange.errors import ConflictError, CorruptStoreError, StoreUnavailableError
from grange.plan.bind import resolve
from grange.ports.registry import Use

SECONDS: Final = 30.0
"""How long counts stay in memory while a store is used; those of a store that is not used any more, until it closes."""

Write = Callable[[Sequence[Use]], None]
"""Adds counts to the registry's."""


def uses_of(catalog: Catalog, features: Any, verb: str, *, labels: bool) -> tuple[Use, ...]:
    """What one request uses: the views that it names, and every group and feature that it reads.

    Args:
        catalog: the definitions.
        features: what was asked for.
        verb: how.
        labels: whether labels are read too.
    """
    request = resolve(catalog, features)
    named = [features] if isinstance(features, str | FeatureView) or not isinstance(features, Sequence) else features
    views = dict.fromkeys(name for item in named if (name := _view(catalog, item)))
    read: dict[str, dict[str, None]] = {}
    for item in request.taken:
        group = catalog.group(item.selection.source)
        read.setdefault(group.name, {}).update(dict.fromkeys(item.features_of(group, group.features().names)))
    for selection in request.label_features if labels else ():
        read.setdefault(selection.source, {}).update(dict.fromkeys(selection.features))
    of_views = [Use("feature_view", name, "", verb) for name in views]
    of_groups = [Use("feature_group", name, feature, verb) for name, own in read.items() for feature in ("", *own)]
    return (*of_views, *of_groups)


def _view(catalog: Catalog, item: Any) -> str:
    """The name of the view that is meant; "" for a group or a feature."""
    if isinstance(item, FeatureView):
        return item.name
    name = item.source if isinstance(item, FeatureSelection) else item
    return name if isinstance(name, str) and name in catalog.views else ""


@dataclass(slots=True)
class _Tally:
    """How often one reader was used."""

    uses: tuple[Use, ...]
    count: Iterator[int]
    """Counting up is one step that no other thread comes between, which adding to a number is not."""
    start: int = 0

    def taken(self) -> int:
        """The uses since this was last asked. Asking counts up too."""
        found = next(self.count)
        new, self.start = found - self.start, found + 1
        return new


class Usage:
    """Counts of one process. Safe for several threads.

    Args:
        write: adds counts to the registry's.
    """

    def __init__(self, write: Write) -> None:
        self._write = write
        self._tallies: dict[Any, _Tally] = {}
        self._pending: Counter[Use] = Counter()
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        self._written_at: float | None = None
        self._thread: threading.Thread | None = None
        _OPEN.add(self)

    def count(self, reader: Any) -> bool:
        """Count one read of a reader; False when it is a new one, of which nothing is known yet."""
        tally = self._tallies.get(reader)
        if tally is None:
            return False
        next(tally.count)
        return True

    def begin(self, reader: Any, uses: tuple[Use, ...]) -> None:
        """Count the first read of a reader, each of whose reads uses this."""
        next(self._tallies.setdefault(reader, _Tally(uses, itertools.count())).count)

    def add(self, uses: Sequence[Use]) -> None:
        """Count what is used, once."""
        with self._lock:
            self._pending.update(uses)

    def write_when_due(self, moment: float) -> None:
        """Let a thread write the counts if they have been in memory for long enough; returns at once.

        Args:
            moment: seconds of a clock that never goes back.
        """
        if self._written_at is None:
            self._written_at = moment
        if moment - self._written_at < SECONDS or self._writing.locked() or not (self._tallies or self._pending):
            return
        self._written_at = moment
        self._thread = threading.Thread(target=self.write, name="grange-usage", daemon=True)
        self._thread.start()

    def write(self) -> bool:
        """Write the counts; False when the registry could not be reached, and they stay in memory."""
        with self._writing:
            counts = self._taken()
            if not counts:
                return True
            try:
                self._write([replace(use, count=count) for use, count in counts.items()])
            except (StoreUnavailableError, ConflictError, CorruptStoreError):
                with self._lock:
                    self._pending.update(counts)
                return False
            return True

    def close(self) -> None:
        """Write the counts, and forget those that cannot be written."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self.write()
        self._forget()

    def _taken(self) -> Counter[Use]:
        """The counts that are not written yet; they are the caller's now. Readers that nobody used are let go."""
        with self._lock:
            counts, self._pending = self._pending, Counter()
            for reader, tally in list(self._tallies.items()):
                new = tally.taken()
                counts.update(dict.fromkeys(tally.uses, new))
                if not new:
                    del self._tallies[reader]
        return +counts

    def _forget(self) -> None:
        self._tallies, self._pending, self._written_at = {}, Counter(), None

    def _after_fork(self) -> None:
        """In a new process: what was counted before is its parent's to write, and so are its threads and locks."""
        self._lock, self._writing, self._thread = threading.Lock(), threading.Lock(), None
        self._forget()


_OPEN: Final[WeakSet[Usage]] = WeakSet()


def _forget_all() -> None:
    for usage in _OPEN:
        usage._after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)

__all__ = ["SECONDS", "Usage", "uses_of"]
