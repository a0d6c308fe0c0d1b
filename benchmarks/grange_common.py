"""Grange's side of the data: one entity, a feature group for each file, stores below a work folder."""

from __future__ import annotations

import shutil
from pathlib import Path

import grange as gr


def feature_store(work: Path, *, fresh: bool, redis: str = "") -> gr.FeatureStore:
    """A store below `work` with everything embedded, as `gr.FeatureStore()` makes it; online in Redis where an address
    is given."""
    folder = work / ("grange-redis" if redis else "grange")
    if fresh:
        shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    if redis:
        return gr.FeatureStore(project=folder, online={"type": "redis", "url": f"redis://{redis}", "timeout": 10})
    return gr.FeatureStore(project=folder)


def imported(store: gr.FeatureStore, engine: str | None = None) -> None:
    """Load what Grange loads when it is first used, as the peers' scripts do at their top: imports are not timed."""
    import grange.verbs.history  # noqa: F401

    store.catalog  # noqa: B018 - opens the registry
    store._parts.engine(engine)
    store._parts.offline.versions("group0")


def definitions(
    data: Path, groups: int, *, ttl: str | None, online: bool
) -> tuple[list[gr.FeatureGroup], gr.FeatureView]:
    """A feature group for each file, and the view `bench` of all of them."""
    user = gr.Entity("user", join_keys=["user_id"])
    made = [
        gr.FeatureGroup(
            f"group{index}",
            entities=[user],
            source=gr.FileSource(data / f"group{index}.parquet", event_time="event_time"),
            ttl=ttl,
            online=online,
        )
        for index in range(groups)
    ]
    return made, gr.FeatureView("bench", features=[group.name for group in made])
