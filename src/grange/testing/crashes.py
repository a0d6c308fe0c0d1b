"""Crashes on purpose: a process that is killed at a chosen step of what a store writes.

A step is a call by which another process comes to see something else: a flush, a rename, a folder made or removed,
and whatever method is named besides. A test counts the steps of an action once, then runs it in a process of its own
for each of them and looks at what is left.

Nothing in Grange imports this module. Without it there is no way to ask for a crash: it replaces functions of `os` in
the process that calls it, for the length of a `with` block.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Final

CALLS: Final = ("fsync", "rename", "replace", "mkdir", "unlink", "rmdir")
"""The functions of `os` by which a store on a file system changes what another process sees."""

Method = tuple[Any, str]
"""A class (or object) and the name of a method of it."""


@contextmanager
def watched(step: Callable[[int], None], methods: Iterable[Method] = ()) -> Iterator[None]:
    """Call `step` with 0, 1, 2 ... right before each step of the block.

    Args:
        step: is told the number of the step; it may end the process.
        methods: calls of these are steps too, their ends as well: what comes right after a write is another moment.
    """
    made = 0

    def told() -> None:
        nonlocal made
        made += 1
        step(made - 1)

    with ExitStack() as restored:
        for owner, name, after in [*((os, name, False) for name in CALLS), *((*m, True) for m in methods)]:
            real = getattr(owner, name)
            restored.callback(setattr, owner, name, real)
            setattr(owner, name, _stepping(real, told, after=after))
        yield


def _stepping(real: Callable[..., Any], told: Callable[[], None], *, after: bool) -> Callable[..., Any]:
    def call(*args: Any, **options: Any) -> Any:
        told()
        result = real(*args, **options)
        if after:
            told()
        return result

    return call


def count_steps(act: Callable[[], object], methods: Iterable[Method] = ()) -> int:
    """How many steps an action has."""
    made: list[int] = []
    with watched(made.append, methods):
        act()
    return len(made)


def run_until_killed(act: Callable[[], object], at: int, methods: Iterable[Method] = ()) -> None:
    """Run an action in this process, which is killed (SIGKILL) right before step `at`; later steps never happen."""

    def step(number: int) -> None:
        if number == at:
            os.kill(os.getpid(), signal.SIGKILL)

    with watched(step, methods):
        act()


__all__ = ["CALLS", "Method", "count_steps", "run_until_killed", "watched"]
