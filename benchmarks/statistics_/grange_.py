"""Grange's profile: besides what everyone computes 99 percentiles, distinct and top values, zeros, negatives.

With `--engine mergeable` also the summaries that merging needs, with `--engine correlations` also correlations.
"""

import polars as pl
from measure import arguments, report, timed

from grange.frames import Rows
from grange.quality.statistics import Profile, profile
from statistics_ import BINS, answer


def main() -> None:
    """Compute and report."""
    options = arguments(__doc__)
    extra = {options.engine: True} if options.engine else {}

    def compute() -> Profile:
        return profile(Rows(polars=pl.read_parquet(options.data / "rows.parquet")), bins=BINS, **extra)

    found, taken = timed(compute)
    numbers = [column for column in found.columns if column.kind == "number"]
    seen = [
        (column.nulls, (column.mean, column.std, column.min, column.max), column.histogram.counts)
        for column in numbers
        if column.histogram is not None
    ]
    report(**taken, **answer(found.rows, seen))


main()
