"""DuckDB's `SUMMARIZE`: quartiles and distinct values are estimates, and it has no histograms."""

import duckdb
from measure import arguments, report, timed


def main() -> None:
    """Compute and report."""
    options = arguments(__doc__)
    path = options.data / "rows.parquet"
    _, taken = timed(lambda: duckdb.sql(f"SUMMARIZE FROM '{path}'").fetchall())
    report(**taken)


main()
