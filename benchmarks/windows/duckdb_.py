"""DuckDB by hand: `RANGE` windows as of every event; as of a spine, a join whose aggregates have filters."""

import duckdb
import pyarrow as pa
from measure import arguments, fingerprint, report, timed

from windows import FUNCTIONS, WINDOWS

SQL = {"mean": "avg", "std": "stddev_samp"}


def main() -> None:
    """Compute and report."""
    options = arguments(__doc__)
    windows = {name: WINDOWS[name] for name in (options.windows.split(",") if options.windows else WINDOWS)}
    functions = options.functions.split(",") if options.functions else FUNCTIONS
    events, spine = options.data / "events.parquet", options.data / f"spine-{options.spine}.parquet"

    def every_event() -> pa.Table:
        frames = ", ".join(
            f"w{name} AS (PARTITION BY user_id ORDER BY event_time RANGE BETWEEN "
            f"INTERVAL {seconds * 1_000_000 - 1} MICROSECOND PRECEDING AND CURRENT ROW)"
            for name, seconds in windows.items()
        )
        columns = ", ".join(
            f"{SQL.get(function, function)}(amount) OVER w{name} AS amount__{function}__{name}"
            for name in windows
            for function in functions
        )
        return duckdb.sql(f"SELECT user_id, event_time, {columns} FROM '{events}' WINDOW {frames}").to_arrow_table()

    def as_of_spine() -> pa.Table:
        columns = ", ".join(
            f"{SQL.get(function, function)}(e.amount) FILTER (e.event_time > s.event_time - INTERVAL {seconds} SECOND) "
            f"AS amount__{function}__{name}"
            for name, seconds in windows.items()
            for function in functions
        )
        longest = max(windows.values())
        return duckdb.sql(
            f"SELECT s.row, {columns} FROM '{spine}' s LEFT JOIN '{events}' e ON s.user_id = e.user_id "
            f"AND e.event_time <= s.event_time AND e.event_time > s.event_time - INTERVAL {longest} SECOND "
            "GROUP BY s.row ORDER BY s.row"
        ).to_arrow_table()

    table, taken = timed(as_of_spine if options.spine else every_event)
    report(**taken, **fingerprint(table))


main()
