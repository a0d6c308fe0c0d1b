"""The applied definitions as one process knows them, and how it notices that others changed them.

Without `keep_fresh` whoever asks looks at the registry when the last look is more than `REFRESH_SECONDS` ago. With it a
thread looks, loads what is new aside and puts it in the place of the old in one step: no request waits for the
registry, none sees half a change, and while the registry cannot be reached requests go on with what is known.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Final
from weakref import WeakSet, ref

from grange.definitions.catalog import Catalog
from grange.errors import ConflictError, CorruptStoreError, GrangeError, RequestError, StoreUnavailableError
from grange.verbs.parts import Parts, catalog_of

if TYPE_CHECKING:
    from logging import Logger

    from grange.verbs.online import Readers

REFRESH_SECONDS: Final = 1.0
"""How old the definitions may be that a read uses; this process's own changes are seen at once."""
LONGEST_PAUSE: Final = 5.0
"""Seconds between two looks at a registry that cannot be reached, at most; more where `every` is."""
_CLOSING_SECONDS: Final = 5.0
"""How long closing waits for a look that has begun."""


@dataclass(slots=True)
class Known:
    """The definitions of one revision, with the online readers that were made for them. Each request uses one such
    value from its beginning to its end."""

    revision: int
    catalog: Catalog
    confirmed: float
    """When it was known last that nobody changed them, by the clock."""
    readers: Readers | None = None

    def online_readers(self, parts: Parts) -> Readers:
        """The online readers; none is made yet at the first read."""
        if self.readers is None:
            from grange.verbs.online import Readers

            self.readers = Readers(parts, self.catalog)
        return self.readers


class LiveDefinitions:
    """The definitions of a registry, kept as new as they have to be. Safe for several threads.

    Args:
        parts: the opened store.
        clock: seconds that never go back.
        on_look: told the moment of each look at the registry.
    """

    def __init__(self, parts: Parts, *, clock: Callable[[], float], on_look: Callable[[float], None]) -> None:
        self._parts = parts
        self._clock = clock
        self._on_look = on_look
        self._known: Known | None = None
        self._changes = 0
        """How often this process changed something."""
        self._swapping = threading.Lock()
        """Held for the moment in which what is known is replaced, or said to be of before."""
        self._outdated = False
        """Whether this process changed something since: readers too are made anew then."""
        self._lock = threading.RLock()
        """One look at a time, so that an older state never takes the place of a newer one."""
        self._every: float | None = None
        self._refresher: _Refresher | None = None
        self._is_kept_fresh = False
        _OPEN.add(self)

    def current(self) -> Known:
        """What is known, at most `REFRESH_SECONDS` old; with `keep_fresh` what the thread found last.

        Raises:
            StoreUnavailableError: the registry has to be asked and cannot be reached.
            CorruptStoreError: what it holds cannot be read.
        """
        known = self._known
        if known is not None and (self._is_kept_fresh or self._clock() - known.confirmed <= REFRESH_SECONDS):
            return known
        if known is not None and self._every is not None and self._refresher is None:  # in a forked child
            self._start(self._every)
            return known
        with self._lock:
            known = self._known
            if known is not None and self._clock() - known.confirmed <= REFRESH_SECONDS:
                return known  # another thread looked while this one waited
            return self.confirm()

    def confirm(self) -> Known:
        """What is applied at this moment. Raises what `current` does."""
        with self._lock:
            moment = self._clock()
            known = self._known
            if known is None or self._outdated or self._parts.registry.revision() != known.revision:
                known = self._load(moment)
            known.confirmed = moment
        self._on_look(moment)
        return known

    def forget(self) -> None:
        """Take note that this process changed something: whoever asks next sees it."""
        with self._swapping:
            self._changes += 1
            if not self._is_kept_fresh:
                self._known = None
                return
            self._outdated = True
        try:
            self.confirm()
        except (StoreUnavailableError, ConflictError, CorruptStoreError):
            return  # the change is made; the thread goes on trying, and says so

    def forget_readers(self) -> None:
        """Let online readers be made anew."""
        with self._swapping:
            self._changes += 1
            if self._known is not None:
                self._known.readers = None

    def age(self) -> float:
        """Seconds since it was known last that nobody changed the definitions; infinite where none are known."""
        known = self._known
        return inf if known is None else self._clock() - known.confirmed

    def keep_fresh(self, every: float) -> None:
        """Look at the registry in a thread, every so many seconds, from now on. Raises what `current` does, where
        nothing is known yet.

        Raises:
            RequestError: not a positive number of seconds.
        """
        if not 0 < every < inf:
            raise RequestError("definitions are looked at every so many seconds, more than 0", found=f"{every!r}")
        self._stop()
        self.current()
        self._start(every)

    def close(self) -> None:
        """Stop looking, and forget."""
        self._stop()
        self._known = None

    def _load(self, moment: float) -> Known:
        """Load what is applied, aside; then put it in the place of what was known."""
        old, changes = self._known, self._changes
        state = self._parts.registry.state()
        loaded = Known(state.revision, catalog_of(state, self._parts.local), moment)
        if old is not None and old.readers is not None and self._is_kept_fresh:
            loaded.readers = old.readers.renewed(loaded.catalog, keep=not self._outdated)
        with self._swapping:
            if changes == self._changes:  # else this may be of before: whoever asks next looks again
                self._outdated = False
                self._known = loaded
        return loaded

    def _start(self, every: float) -> None:
        with self._lock:
            if self._refresher is not None:
                return
            self._every = every
            self._refresher = _Refresher(self, every)
            self._is_kept_fresh = True
            self._refresher.start()

    def _stop(self) -> None:
        refresher, self._refresher, self._every = self._refresher, None, None
        self._is_kept_fresh = False
        if refresher is not None:
            refresher.stop()

    def _ended(self, refresher: _Refresher) -> None:
        """The thread ended; where it was not told to, whoever asks looks again, and meets what ended it."""
        if self._refresher is refresher:
            self._is_kept_fresh = False

    def _after_fork(self) -> None:
        """In a new process: threads and locks are the parent's."""
        self._lock = threading.RLock()
        self._swapping = threading.Lock()
        self._refresher = None
        self._is_kept_fresh = False


class _Refresher:
    """A thread that looks at the registry, as long as the definitions are in use.

    It knows them weakly: a store that nobody has any more is not kept alive by it.
    """

    def __init__(self, definitions: LiveDefinitions, every: float) -> None:
        self._definitions = ref(definitions)
        self._every = every
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="grange-definitions", daemon=True)
        self._failures = 0
        self._trouble = ""
        """The code of the error that is met at present."""

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End; a look that has begun may go on for a while."""
        self._stopped.set()
        if self._thread is not threading.current_thread():
            self._thread.join(_CLOSING_SECONDS)

    def _run(self) -> None:
        try:
            while not self._stopped.wait(self._pause()):
                definitions = self._definitions()
                if definitions is None:
                    return
                self._look(definitions)
                del definitions  # while it waits it must not hold them
        finally:
            definitions = self._definitions()
            if definitions is not None:
                definitions._ended(self)

    def _pause(self) -> float:
        """Seconds until the next look: servers that were started together do not look together. The program's own
        random numbers are left alone: whoever seeded them gets those that they expect."""
        from random import Random

        longest = max(self._every, LONGEST_PAUSE)
        return min(self._every * 2.0 ** min(self._failures, 30), longest) * Random().uniform(0.9, 1.1)

    def _look(self, definitions: LiveDefinitions) -> None:
        try:
            definitions.confirm()
        except GrangeError as error:
            self._failures += 1
            if error.code != self._trouble:
                self._trouble = error.code
                _logger().warning("definitions cannot be refreshed; those that are known go on being used: %s", error)
        else:
            if self._failures:
                _logger().info("definitions are refreshed again, after %d looks in vain", self._failures)
            self._failures, self._trouble = 0, ""


def _logger() -> Logger:
    from logging import getLogger

    return getLogger("grange.definitions")


_OPEN: Final[WeakSet[LiveDefinitions]] = WeakSet()


def _forget_threads() -> None:
    for definitions in list(_OPEN):
        definitions._after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_threads)

__all__ = ["REFRESH_SECONDS", "Known", "LiveDefinitions"]
