"""mlforge's Python API over Grange's parts: change the import, keep the code.

    from grange.compat.mlforge import Definitions, feature
    from grange.compat.mlforge.metrics import Rolling
    from grange.compat.mlforge.store import LocalStore
    import grange.compat.mlforge.validators as v

A `Feature` is a `grange.FeatureGroup`, and `Definitions.feature_store` the `grange.FeatureStore` behind it, so that
everything else of Grange is at hand. `docs/how-to/mlforge.md` says what is the same and what is not.
"""

from grange.compat.mlforge import metrics, online, retrieval, store, validators
from grange.compat.mlforge.definitions import BuildResult, Definitions, FeatureValidationResult
from grange.compat.mlforge.features import Entity, Feature, Source, feature
from grange.compat.mlforge.metrics import Rolling
from grange.compat.mlforge.online import LocalOnlineStore, MemoryOnlineStore, OnlineStore, RedisStore
from grange.compat.mlforge.retrieval import FeatureSpec, get_online_features, get_training_data
from grange.compat.mlforge.store import FeatureMetadata, LocalStore
from grange.compat.mlforge.validators import (
    greater_than,
    greater_than_or_equal,
    in_range,
    is_in,
    less_than,
    less_than_or_equal,
    matches_regex,
    not_null,
    unique,
)

__all__ = [
    "BuildResult",
    "Definitions",
    "Entity",
    "Feature",
    "FeatureMetadata",
    "FeatureSpec",
    "FeatureValidationResult",
    "LocalOnlineStore",
    "LocalStore",
    "MemoryOnlineStore",
    "OnlineStore",
    "RedisStore",
    "Rolling",
    "Source",
    "feature",
    "get_online_features",
    "get_training_data",
    "greater_than",
    "greater_than_or_equal",
    "in_range",
    "is_in",
    "less_than",
    "less_than_or_equal",
    "matches_regex",
    "metrics",
    "not_null",
    "online",
    "retrieval",
    "store",
    "unique",
    "validators",
]
