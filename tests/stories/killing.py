"""Kills a process at each step of a verb: `python -m tests.stories.killing SCENARIO TEMPLATE COPIES`.

Each step gets a copy of the project `TEMPLATE` in `COPIES/<step>`, and a process of its own that is killed there
(SIGKILL). They are forked, as starting Python and loading modules anew for each would take most of the time; this
process itself opens nothing, so that it has no files that a fork could spoil.
"""

from __future__ import annotations

import importlib
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import grange as gr
from grange.testing.crashes import Method, count_steps, run_until_killed

SCENARIOS: dict[str, Callable[[gr.FeatureStore], object]] = {
    "build of rows": lambda store: store.materialize("spend"),
    "build of windows": lambda store: store.materialize("totals"),
    "rollback of rows": lambda store: store.rollback("spend", "1.0.0"),
    "rollback of windows": lambda store: store.rollback("totals", previous=True),
    "delete of rows": lambda store: store.delete("spend", version="1.0.1"),
    "delete of windows": lambda store: store.delete("totals", version="1.0.1"),
    "delete of a group": lambda store: store.delete("spend"),
}
"""What is killed: the projects have the groups `spend` and `totals`, each with versions 1.0.0 and 1.0.1."""


LOADED = ("polars", "pandas", "grange.store", "grange.verbs.apply", "grange.verbs.delete", "grange.verbs.look",
          "grange.engines.polars.backend", "grange.offline.parquet.backend", "grange.online.lmdb.backend",
          "grange.registries.sql.backend", "grange.connectors.files.backend", "grange.serving.windows",
          "grange.serving.events")  # fmt: skip
"""What every process would load."""


def main(scenario: str, template: Path, copies: Path) -> None:
    """Count the steps in one copy, then be killed at each in another."""
    act = SCENARIOS[scenario]
    for name in LOADED:
        importlib.import_module(name)
    counted = copies / "counted"
    shutil.copytree(template, counted)
    told = copies / "steps"
    forked(lambda: told.write_text(str(counting(counted, act))), ends=0)
    for step in range(int(told.read_text())):
        project = copies / str(step)
        shutil.copytree(template, project)
        forked(lambda project=project, step=step: dying(project, act, step), ends=-signal.SIGKILL)  # type: ignore[misc]


def counting(project: Path, act: Callable[[gr.FeatureStore], object]) -> int:
    """The steps of a scenario."""
    with gr.FeatureStore(project) as store:
        return count_steps(lambda: act(store), methods(store))


def dying(project: Path, act: Callable[[gr.FeatureStore], object], step: int) -> None:
    """A scenario that does not survive a step."""
    with gr.FeatureStore(project) as store:
        run_until_killed(lambda: act(store), step, methods(store))


def methods(store: gr.FeatureStore) -> list[Method]:
    """The writes of the online store and the registry, which are not made by functions of `os`."""
    store.catalog  # noqa: B018 - opens the registry
    parts = store._parts
    online = [(type(parts.online), name) for name in ("load", "load_cells", "drop")]
    return [*online, *((type(parts.registry), name) for name in ("record_run", "commit"))]


def forked(run: Callable[[], object], *, ends: int) -> None:
    """Run something in a process of its own, which must end so: an exit code, or minus a signal's number."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            run()
            code = 0
        finally:
            sys.stderr.flush()
            os._exit(code)
    _, status = os.waitpid(child, 0)
    found = os.waitstatus_to_exitcode(status)
    if found != ends:
        raise SystemExit(f"a process ended with {found}, not with {ends}")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
