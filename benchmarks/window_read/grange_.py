"""Grange's `get_online_features` of a group with aggregations: six functions of one window, one entity key."""

import datetime as dt

import numpy as np
import polars as pl
from grange_common import feature_store
from measure import arguments, repeated, report, timed
from windows import FUNCTIONS

import grange as gr


def main() -> None:
    """Load, or read and report."""
    options = arguments(__doc__)
    work = options.work / f"events-{options.events}"
    store = feature_store(work, fresh=options.prepare)
    if options.prepare:
        random = np.random.default_rng(400)
        span = 30 * 86_400_000_000
        # three times the window, so that both of its ends lie inside the history
        ago = np.sort(random.integers(0, 3 * span, 3 * options.events))[::-1]
        time = np.datetime64(dt.datetime.now(dt.UTC).replace(tzinfo=None), "us") - ago
        events = pl.DataFrame(
            {"user_id": np.zeros(len(time), np.int64), "event_time": time, "amount": random.lognormal(3, 1, len(time))}
        ).with_columns(pl.col("event_time").dt.replace_time_zone("UTC"))
        group = gr.FeatureGroup(
            "spend",
            entities=[gr.Entity("user", join_keys=["user_id"])],
            source=gr.TableSource(events, name="events", event_time="event_time"),
            aggregations=[gr.Rolling({"amount": list(FUNCTIONS)}, windows="30d")],
            interval="30d",
        )
        store.apply([group, gr.FeatureView("bench", features=["spend"])])
        _, taken = timed(lambda: store.materialize("spend"))
        store.close()
        report(**taken)

    def read(batch: list[int]) -> object:
        return store.get_online_features("bench", [{"user_id": user} for user in batch]).to_dicts()

    read([0])
    report(**repeated(read, options))


main()
