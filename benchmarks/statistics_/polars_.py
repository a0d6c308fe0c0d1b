"""Polars by hand: `describe`, and `Series.hist` of every column of numbers, on two threads."""

from concurrent.futures import ThreadPoolExecutor

import polars as pl
from measure import arguments, report, timed

from statistics_ import BINS, answer


def main() -> None:
    """Compute and report."""
    options = arguments(__doc__)

    def compute() -> tuple[pl.DataFrame, pl.DataFrame, dict[str, list[int]]]:
        rows = pl.read_parquet(options.data / "rows.parquet")
        described = rows.describe()
        names = [name for name, dtype in rows.schema.items() if dtype.is_numeric()]
        with ThreadPoolExecutor(2) as pool:
            counts = pool.map(lambda name: rows[name].hist(bin_count=BINS)["count"].to_list(), names)
        return rows, described, dict(zip(names, counts, strict=True))

    (rows, described, histograms), taken = timed(compute)
    found = {row["statistic"]: row for row in described.to_dicts()}
    seen = [
        (int(found["null_count"][name]), [found[each][name] for each in ("mean", "std", "min", "max")], counts)
        for name, counts in histograms.items()
    ]
    report(**taken, **answer(rows.height, seen))


main()
