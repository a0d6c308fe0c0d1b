"""Feast's `materialize`: the file into the online store, Redis if `--redis` says where, else SQLite."""

import os

os.environ["FEAST_USAGE"] = "False"

from datetime import UTC, datetime

from feast_common import feature_store, feature_views
from measure import arguments, report, timed


def main() -> None:
    """Apply, materialize and report."""
    options = arguments(__doc__)
    store = feature_store(options.work, offline="duckdb", redis=options.redis)
    entity, views = feature_views(options.data, 1, keys="integer", ttl_days=0)
    store.apply([entity, *views])
    start, end = datetime(2024, 12, 31, tzinfo=UTC), datetime(2025, 6, 1, tzinfo=UTC)
    _, taken = timed(lambda: store.materialize(start, end))
    names = [f"group0:g0_f{j}" for j in range(10)]
    entities = [{"user_id": u} for u in (0, 1, options.entities - 1)]
    rows = store.get_online_features(features=names, entity_rows=entities).to_dict()
    total = sum(sum(values) for name, values in rows.items() if name.startswith("g"))
    report(**taken, checksum=round(total, 6))


main()
