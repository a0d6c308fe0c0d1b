"""Feast's `get_online_features` through its SDK: on Redis if `--redis` says where, else on SQLite."""

import os

os.environ["FEAST_USAGE"] = "False"

from datetime import UTC, datetime
from typing import Any

from feast import FeatureService
from feast_common import feature_store, feature_views
from measure import arguments, repeated, report, timed


def main() -> None:
    """Prepare, or read and report."""
    options = arguments(__doc__)
    store = feature_store(options.work, offline="duckdb", redis=options.redis, fresh=options.prepare)
    if options.prepare:
        entity, views = feature_views(options.data, options.groups, keys="integer", ttl_days=0)
        store.apply([entity, *views, FeatureService(name="bench", features=views)])
        start, end = datetime(2024, 12, 31, tzinfo=UTC), datetime(2025, 6, 1, tzinfo=UTC)
        _, taken = timed(lambda: store.materialize(start, end))
        report(**taken)
    service = store.get_feature_service("bench")

    def read(users: list[int]) -> dict[str, list[Any]]:
        return store.get_online_features(features=service, entity_rows=[{"user_id": u} for u in users]).to_dict()

    first = read([1, options.entities])
    total = round(sum(values[0] for name, values in first.items() if name.startswith("g")), 6)
    report(**repeated(read, options), values=len(first), checksum=total)


main()
