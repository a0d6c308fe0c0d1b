"""Grange's `get_historical_features`, from history that was materialized before (that is `--prepare`)."""

import polars as pl
import pyarrow as pa
from grange_common import definitions, feature_store, imported
from measure import arguments, fingerprint, report, timed


def main() -> None:
    """Prepare, or join and report."""
    options = arguments(__doc__)
    store = feature_store(options.work, fresh=options.prepare)
    if options.prepare:
        groups, view = definitions(options.data, options.groups, ttl="30d", online=False)
        store.apply([*groups, view])
        _, taken = timed(store.materialize)
        store.close()
        report(**taken)
    imported(store, options.engine)
    engine = {"engine": options.engine} if options.engine else {}

    def join() -> pa.Table:
        spine = pl.read_parquet(options.data / f"spine-{options.spine}.parquet")
        return store.get_historical_features("bench", spine, event_time="event_time", **engine).to_arrow()

    table, taken = timed(join)
    report(**taken, **fingerprint(table))


main()
