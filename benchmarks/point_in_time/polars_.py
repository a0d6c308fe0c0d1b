"""Polars by hand: one `join_asof` for each group, then back to the spine's order."""

import polars as pl
from measure import arguments, fingerprint, report, timed


def main() -> None:
    """Join and report."""
    options = arguments(__doc__)

    def join() -> pl.DataFrame:
        spine = pl.read_parquet(options.data / f"spine-{options.spine}.parquet").sort("event_time")
        for index in range(options.groups):
            # the files are in time order, and who writes this by hand knows it
            group = pl.read_parquet(options.data / f"group{index}.parquet").with_columns(
                pl.col("event_time").set_sorted()
            )
            spine = spine.join_asof(
                group, on="event_time", by="user_id", strategy="backward", tolerance="30d", check_sortedness=False
            )
        return spine.sort("row")

    frame, taken = timed(join)
    report(**taken, **fingerprint(frame.to_arrow()))


main()
