"""What the demo prints: numbered steps, aligned lines, seconds at the right."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

Echo = Callable[[str], None]
"""Takes one line of text for people."""

INDENT: Final = "   "
WIDTH: Final = 80
"""Where the seconds end."""


class Step:
    """One step while it runs. Its last line waits for the end, to carry the seconds."""

    def __init__(self, echo: Echo) -> None:
        self._echo = echo
        self._waiting: str | None = None

    def say(self, text: str) -> None:
        """A line about the step."""
        if self._waiting is not None:
            self._echo(self._waiting)
        self._waiting = INDENT + text

    def end(self, seconds: float) -> None:
        """The last line, with how long it took."""
        self._echo(_with_seconds(self._waiting or INDENT, seconds))


@dataclass(slots=True)
class Report:
    """The steps of one run, told as they happen."""

    echo: Echo
    seconds: dict[str, float] = field(default_factory=dict)
    """By step, in order."""
    began: float = field(default_factory=time.perf_counter)

    @contextmanager
    def step(self, key: str, title: str) -> Iterator[Step]:
        """Number a step, tell it, and take its time; a step that fails tells what it had to say and no time."""
        self.echo("")
        self.echo(f"{len(self.seconds) + 1}  {title}")
        step, began = Step(self.echo), time.perf_counter()
        yield step
        self.seconds[key] = time.perf_counter() - began
        step.end(self.seconds[key])

    def end(self) -> float:
        """The whole time, in seconds: the steps and what lies between them."""
        total = time.perf_counter() - self.began
        self.echo("")
        self.echo(_with_seconds("Done", total))
        return total


def _with_seconds(text: str, seconds: float) -> str:
    shown = f"{seconds:.2f} s"
    return f"{text:<{WIDTH - 8}}{shown:>8}"
