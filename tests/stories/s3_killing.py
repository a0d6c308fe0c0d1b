"""Kills a process at each step of what it writes to S3:
`python -m tests.stories.s3_killing SCENARIO ENDPOINT PLACE FOLDER`.

Each step has a place of its own, `PLACE/<step>`, and a process that prepares it and is killed there (SIGKILL). The
processes are forked; this one opens nothing, so that it has no threads that a fork would lose.
"""

from __future__ import annotations

import importlib
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.servers.s3 import S3Server
from tests.stories.killing import forked

from grange.frames import Rows
from grange.ports.datasets import DatasetStore
from grange.ports.offline import OfflineStore
from grange.ports.plugins import create
from grange.testing import datasets
from grange.testing.crashes import Method, count_steps, run_until_killed
from grange.testing.offline import NOW, append, draft, history, numbered, publish


def prepare(store: OfflineStore) -> None:
    """Two versions, a push, another group, and a training dataset."""
    publish(store, draft(), numbered(history(1.0)))
    publish(store, draft(), numbered(history(2.0)))
    append(store, draft(), history(3.0, start=9))
    publish(store, draft(name="other"), numbered(history(1.0)))
    datasets.publish(store.datasets)


def locked(act: Callable[[OfflineStore], object]) -> Callable[[OfflineStore], object]:
    """An action of whoever holds the group's lock."""

    def done(store: OfflineStore) -> None:
        with store.lock("spend", timeout=5):
            act(store)

    return done


def on_datasets(act: Callable[[DatasetStore], object]) -> Callable[[OfflineStore], object]:
    """An action on the training datasets."""
    return lambda store: act(store.datasets)


SCENARIOS: dict[str, Callable[[OfflineStore], object]] = {
    "publish": locked(lambda store: store.publish(draft(), Rows(arrow=numbered(history(5.0, 6.0))), now=NOW)),
    "push": locked(lambda store: store.append(draft(), Rows(arrow=history(7.0, start=9)))),
    "point": locked(lambda store: store.point("spend", "1.0.0")),
    "delete": locked(lambda store: store.delete("spend", "1.0.1")),
    "delete the group": locked(lambda store: store.delete("spend")),
    "dataset": on_datasets(lambda store: datasets.publish(store, datasets.draft(2))),
    "delete a dataset": on_datasets(lambda store: store.delete("churn", 1)),
}


def opened(server: S3Server, place: str, folder: Path) -> OfflineStore:
    """The store of a place, with copies in a folder."""
    store: OfflineStore = create("offline_stores", "parquet", {"root": str(folder), "path": place, **server.options})
    return store


def steps_of(obstore: Any) -> list[Method]:
    """The calls by which something else comes to be seen; those of `os` come besides."""
    return [(obstore, "put"), (obstore, "delete")]


def main(scenario: str, server: S3Server, place: str, folder: Path) -> None:
    """Count the steps in one place, then be killed at each in another."""
    act = SCENARIOS[scenario]
    for name in ("obstore.store", "grange.offline.parquet.backend", "grange.offline.parquet.objects.opening"):
        importlib.import_module(name)
    obstore = importlib.import_module("obstore")

    def counting() -> None:
        store = opened(server, f"{place}/counted", folder / "counted")
        prepare(store)
        (folder / "steps").write_text(str(count_steps(lambda: act(store), steps_of(obstore))))

    def dying(step: int) -> None:
        store = opened(server, f"{place}/{step}", folder / str(step))
        prepare(store)
        run_until_killed(lambda: act(store), step, steps_of(obstore))

    forked(counting, ends=0)
    for step in range(int((folder / "steps").read_text())):
        forked(lambda step=step: dying(step), ends=-signal.SIGKILL)  # type: ignore[misc]


if __name__ == "__main__":
    main(sys.argv[1], S3Server(sys.argv[2]), sys.argv[3], Path(sys.argv[4]))
