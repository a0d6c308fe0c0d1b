"""The floor: only read the file, with Polars."""

import polars as pl
from measure import arguments, report, timed


def main() -> None:
    """Read and report."""
    options = arguments(__doc__)
    frame, taken = timed(lambda: pl.read_parquet(options.data / "rows.parquet"))
    report(**taken, rows=frame.height)


main()
