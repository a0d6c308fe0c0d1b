"""Polars by hand: `rolling` over the sorted events. As of a spine, a join that is filtered and grouped, or with
`--engine union` the spine's rows among the events."""

import polars as pl
from measure import arguments, fingerprint, report, timed

from windows import FUNCTIONS, WINDOWS


def main() -> None:
    """Compute and report."""
    options = arguments(__doc__)
    windows = {name: WINDOWS[name] for name in (options.windows.split(",") if options.windows else WINDOWS)}
    functions = options.functions.split(",") if options.functions else FUNCTIONS

    def of(value: pl.Expr, window: str) -> list[pl.Expr]:
        return [getattr(value, function)().alias(f"amount__{function}__{window}") for function in functions]

    def rolling(rows: pl.DataFrame) -> list[pl.DataFrame]:
        asked = (rows.rolling("event_time", period=window, group_by="user_id", closed="right") for window in windows)
        amount = pl.col("amount")
        return [
            frame.agg(of(amount, window)).drop("user_id", "event_time")
            for frame, window in zip(asked, windows, strict=True)
        ]

    def every_event() -> pl.DataFrame:
        rows = pl.read_parquet(options.data / "events.parquet").sort("user_id", "event_time")
        return pl.concat([rows.select("user_id", "event_time"), *rolling(rows)], how="horizontal")

    def union() -> pl.DataFrame:
        spine = pl.read_parquet(options.data / f"spine-{options.spine}.parquet")
        asked = spine.select("user_id", "event_time", "row").with_columns(amount=pl.lit(None, pl.Float64))
        events = pl.read_parquet(options.data / "events.parquet").with_columns(row=pl.lit(None, asked.schema["row"]))
        rows = pl.concat([events.select(asked.columns), asked]).sort("user_id", "event_time")
        frame = pl.concat([rows, *rolling(rows)], how="horizontal")
        return frame.filter(pl.col("row").is_not_null()).drop("amount").sort("row")

    def join() -> pl.DataFrame:
        spine = pl.scan_parquet(options.data / f"spine-{options.spine}.parquet")
        events = pl.scan_parquet(options.data / "events.parquet").rename({"event_time": "at"})
        longest = pl.duration(seconds=max(windows.values()))
        inside = (pl.col("at") <= pl.col("event_time")) & (pl.col("at") > pl.col("event_time") - longest)
        pairs = spine.join(events, on="user_id").filter(inside)
        features = [
            expression
            for name, seconds in windows.items()
            for expression in of(
                pl.col("amount").filter(pl.col("at") > pl.col("event_time") - pl.duration(seconds=seconds)), name
            )
        ]
        found = pairs.group_by("row").agg(features)
        counts = pl.col([f"amount__count__{window}" for window in windows if "count" in functions]).fill_null(0)
        return spine.join(found, on="row", how="left").with_columns(counts).sort("row").collect(engine="streaming")

    work = every_event if not options.spine else union if options.engine == "union" else join
    frame, taken = timed(work)
    report(**taken, **fingerprint(frame.to_arrow()))


main()
