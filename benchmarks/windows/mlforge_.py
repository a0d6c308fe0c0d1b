"""mlforge 0.7: `Rolling` metrics built by its DuckDB engine, one row per user and day.

It computes as of the end of each day, not as of each event: less work than is asked of the others.
"""

import shutil

import mlforge as mlf
import polars as pl
from measure import arguments, report, timed


def main() -> None:
    """Build and report."""
    options = arguments(__doc__)
    work = options.work / "mlforge"
    shutil.rmtree(work, ignore_errors=True)
    user = mlf.Entity(name="user", join_key="user_id")
    functions = options.functions.split(",")
    source = mlf.Source(path=str(options.data / "events.parquet"))

    @mlf.feature(
        source=source,
        entities=[user],
        timestamp="event_time",
        interval="1d",
        metrics=[mlf.Rolling(windows=options.windows.split(","), aggregations={"amount": functions}, closed="right")],
    )
    def spend(frame: pl.DataFrame) -> pl.DataFrame:
        return frame.select(["user_id", "event_time", "amount"])

    definitions = mlf.Definitions(
        name="bench", features=[spend], offline_store=mlf.LocalStore(path=str(work)), default_engine="duckdb"
    )
    _, taken = timed(lambda: definitions.build(force=True))
    report(**taken)


main()
