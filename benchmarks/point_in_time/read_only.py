"""The floor: only read the same files, with Polars."""

import polars as pl
from measure import arguments, report, timed


def main() -> None:
    """Read and report."""
    options = arguments(__doc__)
    names = [f"spine-{options.spine}.parquet", *(f"group{i}.parquet" for i in range(options.groups))]
    frames, taken = timed(lambda: [pl.read_parquet(options.data / name) for name in names])
    report(**taken, rows=frames[0].height)


main()
