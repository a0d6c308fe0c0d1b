"""Feast's `get_historical_features`, on the offline store that `--engine` names: duckdb or dask."""

import os

os.environ["FEAST_USAGE"] = "False"

import pandas as pd
import pyarrow as pa
from feast_common import feature_store, feature_views
from measure import arguments, fingerprint, limit_memory, report, timed


def main() -> None:
    """Apply, join and report."""
    options = arguments(__doc__)
    limit_memory(14)
    keys = "string" if "string" in options.data.name else "integer"
    store = feature_store(options.work, offline=options.engine)
    entity, views = feature_views(options.data, options.groups, keys=keys, ttl_days=30)
    store.apply([entity, *views])
    names = [f"{view.name}:{field.name}" for view in views for field in view.features]

    def join() -> pa.Table:
        spine = pd.read_parquet(options.data / f"spine-{options.spine}.parquet").rename(
            columns={"event_time": "event_timestamp"}
        )
        return store.get_historical_features(entity_df=spine, features=names).to_arrow()

    table, taken = timed(join)
    report(**taken, **fingerprint(table))


main()
