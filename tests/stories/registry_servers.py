"""Processes that share one registry: `python -m tests.stories.registry_servers serve|apply PROJECT LAST`.

What they share has one number in two views, and a third view takes both: whoever reads two numbers saw half a change.
"""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.shop import at, spend_group

import grange as gr
from grange.errors import GrangeError

ROWS = [{"user_id": "u1"}, {"user_id": "u2"}, {"user_id": "nobody"}]
REQUESTS: list[Any] = ["both", ["left", "right"], "left", "spend:visits"]
EVERY = 0.02
"""Seconds between two looks at the registry."""


def numbered(number: int) -> list[gr.FeatureView]:
    """The two views, which change together."""
    derived = f"CASE WHEN visits IS NULL THEN {number} ELSE {number} END"
    return [gr.FeatureView(name, features=["spend:visits"], derived={f"{name}_number": derived}) for name in SIDES]


SIDES = ("left", "right")


def everything(number: int = 0) -> list[Any]:
    """All definitions."""
    return [spend_group(), *numbered(number), gr.FeatureView("both", features=list(SIDES))]


@dataclass
class Seen:
    """What one reader saw."""

    requests: int = 0
    wrong: list[str] = field(default_factory=list)
    last: int = 0
    numbers: set[int] = field(default_factory=set)

    def read(self, store: gr.FeatureStore, features: Any) -> None:
        """Read once, and look."""
        self.requests += 1
        try:
            vectors = store.get_online_features(features, ROWS, now=at(20)).to_dicts()
        except GrangeError as error:
            self.wrong.append(f"{features}: {type(error).__name__}: {error}")
            return
        visits = [vector["visits"] for vector in vectors]
        found = {vector[name] for vector in vectors for name in vector if name.endswith("_number")}
        if visits != [3, None, None] or len(found) > 1:
            self.wrong.append(f"{features}: {vectors}")
        for number in found:
            if number < self.last:
                self.wrong.append(f"{features}: {number} after {self.last}")
            self.last = number
            self.numbers.add(number)


def read_on(store: gr.FeatureStore, seen: Seen, done: threading.Event) -> None:
    """Read until it is done."""
    while not done.is_set():
        for features in REQUESTS:
            seen.read(store, features)


def total(readers: Sequence[Seen]) -> dict[str, Any]:
    """What several readers saw."""
    return {
        "requests": sum(seen.requests for seen in readers),
        "wrong": [what for seen in readers for what in seen.wrong][:10],
        "last": [seen.last for seen in readers],
        "numbers": len(set.union(*(seen.numbers for seen in readers))),
    }


def serve(project: Path, last: int) -> dict[str, Any]:
    """Read in two threads until each saw the last number."""
    done = threading.Event()
    readers = [Seen(), Seen()]
    with gr.FeatureStore(project) as store:
        store.keep_fresh(EVERY)
        threads = [threading.Thread(target=read_on, args=(store, seen, done)) for seen in readers]
        for thread in threads:
            thread.start()
        say("ready")
        give_up = threading.Event()
        while not all(seen.last == last for seen in readers) and not any(seen.wrong for seen in readers):
            give_up.wait(0.01)
        done.set()
        for thread in threads:
            thread.join()
    return total(readers)


def apply(project: Path, last: int) -> dict[str, Any]:
    """Apply one number after another, beside views that come and go."""
    with gr.FeatureStore(project) as store:
        say("ready")
        sys.stdin.readline()
        for number in range(1, last + 1):
            store.apply([*numbered(number), gr.FeatureView(f"extra{number}", features=["spend:amount"])])
            if number > 1:
                store.delete(f"extra{number - 1}")
        return {"revision": store._parts.registry.revision()}


def say(line: str) -> None:
    """Tell whoever started this process."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    done = {"serve": serve, "apply": apply}[sys.argv[1]](Path(sys.argv[2]), int(sys.argv[3]))
    say(json.dumps(done))
