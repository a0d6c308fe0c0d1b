"""Grange: a feature store that starts inside one Python process and grows to a cluster.

The tree is the path of the data:

    definitions   what users declare
    plan          definitions and a request become a plan, a value
    ports         what a backend must be
    kernels       the as-of join and windows over arrays
    engines       run a plan: reference, polars, duckdb
    connectors    where a source's rows are
    offline       history                online    latest state per entity key
    registries    what was applied       serving   request to vector
    quality       expectations, statistics
    deriving      SQL expressions over features and rows
    verbs, store  FeatureStore, where the parts meet
    remote        the same verbs, asked of a server
    security      keys, roles, policies, audit, encryption
    access        the store as one caller may use it
    jobs, http    work that takes a while; the server
    recipes       ready-made definitions
    cli           the command line       testing   contract suites for backends, ours and yours

Importing this package loads no driver: names are fetched when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from grange import recipes
    from grange.definitions.aggregations import Calendar, Lag, Rolling, Rollup, Session
    from grange.definitions.entity import Entity
    from grange.definitions.expectations import (
        Expectation,
        between,
        finite,
        greater_than,
        greater_than_or_equal,
        length_between,
        less_than,
        less_than_or_equal,
        matches,
        not_null,
        one_of,
        unique,
    )
    from grange.definitions.feature_group import FeatureGroup, feature_group
    from grange.definitions.feature_view import FeatureView
    from grange.definitions.labels import Label
    from grange.definitions.preparing import (
        bin,  # noqa: A004 - reached as gr.bin
        hash_buckets,
        impute,
        label_encoder,
        log,
        min_max_scaler,
        one_hot_encoder,
        ordinal_encoder,
        quantile_scaler,
        robust_scaler,
        sklearn,
        standard_scaler,
        winsorize,
    )
    from grange.definitions.references import FeatureSelection, select
    from grange.definitions.sources import DerivedSource, FileSource, PushSource, RequestSource, TableSource
    from grange.definitions.splits import GroupedSplit, KFold, RandomSplit, StratifiedSplit, TimeSplit
    from grange.definitions.transformations import Step, Transformation, transformation
    from grange.errors import GrangeError, LeakWarning
    from grange.remote.stores import AsyncFeatureStore
    from grange.store import FeatureStore

_HOMES = {
    "definitions.aggregations": ["Calendar", "Lag", "Rolling", "Rollup", "Session"],
    "definitions.entity": ["Entity"],
    "definitions.expectations": [
        "Expectation",
        "between",
        "finite",
        "greater_than",
        "greater_than_or_equal",
        "length_between",
        "less_than",
        "less_than_or_equal",
        "matches",
        "not_null",
        "one_of",
        "unique",
    ],
    "definitions.feature_group": ["FeatureGroup", "feature_group"],
    "definitions.feature_view": ["FeatureView"],
    "definitions.labels": ["Label"],
    "definitions.preparing": [
        "bin",
        "hash_buckets",
        "impute",
        "label_encoder",
        "log",
        "min_max_scaler",
        "one_hot_encoder",
        "ordinal_encoder",
        "quantile_scaler",
        "robust_scaler",
        "sklearn",
        "standard_scaler",
        "winsorize",
    ],
    "definitions.references": ["FeatureSelection", "select"],
    "definitions.sources": ["DerivedSource", "FileSource", "PushSource", "RequestSource", "TableSource"],
    "definitions.splits": ["GroupedSplit", "KFold", "RandomSplit", "StratifiedSplit", "TimeSplit"],
    "definitions.transformations": ["Step", "Transformation", "transformation"],
    "errors": ["GrangeError", "LeakWarning"],
    "remote.stores": ["AsyncFeatureStore"],
    "store": ["FeatureStore"],
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}
_PACKAGES = ("recipes",)
"""Reachable as they are: `gr.recipes.forecast_basic(...)`."""

__all__ = [
    "AsyncFeatureStore",
    "Calendar",
    "DerivedSource",
    "Entity",
    "Expectation",
    "FeatureGroup",
    "FeatureSelection",
    "FeatureStore",
    "FeatureView",
    "FileSource",
    "GrangeError",
    "GroupedSplit",
    "KFold",
    "Label",
    "Lag",
    "LeakWarning",
    "PushSource",
    "RandomSplit",
    "RequestSource",
    "Rolling",
    "Rollup",
    "Session",
    "Step",
    "StratifiedSplit",
    "TableSource",
    "TimeSplit",
    "Transformation",
    "__version__",
    "between",
    "bin",
    "feature_group",
    "finite",
    "greater_than",
    "greater_than_or_equal",
    "hash_buckets",
    "impute",
    "label_encoder",
    "length_between",
    "less_than",
    "less_than_or_equal",
    "log",
    "matches",
    "min_max_scaler",
    "not_null",
    "one_hot_encoder",
    "one_of",
    "ordinal_encoder",
    "quantile_scaler",
    "recipes",
    "robust_scaler",
    "select",
    "sklearn",
    "standard_scaler",
    "transformation",
    "unique",
    "winsorize",
]


def __getattr__(name: str) -> Any:
    if name in _PACKAGES:
        return import_module(f"grange.{name}")
    if name not in _HOME_OF:
        raise AttributeError(f"module 'grange' has no attribute {name!r}")
    value = getattr(import_module(f"grange.{_HOME_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
