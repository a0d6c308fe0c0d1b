"""Grange's `get_historical_features` of a group with aggregations: as of a spine's rows, or as of every event.

The history was materialized before (that is `--prepare`): events are stored once, in time order.
"""

import numpy.random  # noqa: F401 - as below, what is loaded when features are first asked for
import polars as pl
import pyarrow as pa
from grange_common import feature_store, imported
from measure import arguments, fingerprint, report, timed

import grange as gr
import grange.quality.leaks.prediction
import grange.quality.leaks.visible
import grange.verbs.training.preparing
from windows import FUNCTIONS, WINDOWS


def main() -> None:
    """Prepare, or compute and report."""
    options = arguments(__doc__)
    store = feature_store(options.work, fresh=options.prepare)
    windows = options.windows.split(",") if options.windows else list(WINDOWS)
    functions = options.functions.split(",") if options.functions else list(FUNCTIONS)
    if options.prepare:
        user = gr.Entity("user", join_keys=["user_id"])
        spend = gr.FeatureGroup(
            "group0",
            entities=[user],
            source=gr.FileSource(options.data / "events.parquet", event_time="event_time"),
            aggregations=[gr.Rolling({"amount": functions}, windows=windows)],
            interval="30d",  # what is stored besides the events is not what is asked for here
            online=False,
        )
        store.apply([spend, gr.FeatureView("bench", features=["group0"])])
        _, taken = timed(store.materialize)
        store.close()
        report(**taken)
    imported(store, options.engine)
    engine = {"engine": options.engine} if options.engine else {}

    def compute() -> pa.Table:
        if not options.spine:  # PIT-8: a spine of every entity key and event time
            return store.get_historical_features("bench", **engine).to_arrow()
        spine = pl.read_parquet(options.data / f"spine-{options.spine}.parquet")
        return store.get_historical_features("bench", spine, event_time="event_time", **engine).to_arrow()

    table, taken = timed(compute)
    report(**taken, **fingerprint(table))


main()
