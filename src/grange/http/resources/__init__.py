"""REST resources under `/api/v1`, a module per noun, each with a `router`; `ROUTERS` is all of them, loaded on demand.

definitions        entities, feature groups, feature views and transformations: read, create, replace, delete
feature_groups     what a feature group has besides: versions, rows, statistics, materializing, rolling back
features           single features, across groups
feature_views      what a view has besides: what it asks for, explaining
training_datasets  immutable results of views
exports            copies in files
jobs               work that outlives a request
discovery          search, lineage, impact, usage
project            many definitions at once, manifest, verify, inspect
security           keys, policies, the audit log
monitoring         latencies, statistics, freshness, usage
"""

from __future__ import annotations

import importlib
from typing import Any, Final

MODULES: Final = (
    "definitions",
    "feature_groups",
    "features",
    "feature_views",
    "training_datasets",
    "exports",
    "jobs",
    "discovery",
    "project",
    "security",
)


def __getattr__(name: str) -> Any:
    if name != "ROUTERS":
        raise AttributeError(name)
    loaded = [importlib.import_module(f"{__name__}.{module}") for module in MODULES]
    loaded += [importlib.import_module(f"grange.http.{module}") for module in ("monitoring", "reference")]
    return tuple(router for module in loaded for router in module.ROUTERS)
