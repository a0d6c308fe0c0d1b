"""Writing the same rows as one Parquet file, flushed to disk, and nothing else."""

import os

import pyarrow.parquet as pq
from measure import arguments, report, timed


def main() -> None:
    """Read, then write and report."""
    options = arguments(__doc__)
    table = pq.read_table(options.data / "group0.parquet")
    path = options.work / "alone.parquet"
    options.work.mkdir(parents=True, exist_ok=True)

    def write() -> None:
        pq.write_table(table, path, compression="snappy")
        with path.open("rb") as file:
            os.fsync(file.fileno())

    _, taken = timed(write)
    report(**taken)


main()
