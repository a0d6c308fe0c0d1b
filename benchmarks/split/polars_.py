"""Polars by hand: quantiles of the time, or its hash of a column modulo a hundred; a filter for each part.

Polars says that its hash may change from release to release, so a row that was in the test may be in the training
data after an upgrade.
"""

import polars as pl
from measure import arguments, report, timed


def main() -> None:
    """Read, divide and report."""
    options = arguments(__doc__)

    def divide() -> list[pl.DataFrame]:
        frame = pl.read_parquet(options.data / "rows.parquet")
        if options.by == "time":
            at = pl.col("event_time")
            first, second = frame.select(at.quantile(0.7).alias("first"), at.quantile(0.85).alias("second")).row(0)
            return [frame.filter(rows) for rows in (at < first, (at >= first) & (at < second), at >= second)]
        key = pl.col("user_id").hash(0)
        place = (key if options.by == "key" else key ^ pl.col("event_time").hash(1)) % 100
        at = frame.select(place.alias("place")).to_series()
        return [frame.filter(rows) for rows in (at < 70, (at >= 70) & (at < 85), at >= 85)]

    made, taken = timed(divide)
    report(**taken, rows=sum(part.height for part in made), sizes=[part.height for part in made])


main()
