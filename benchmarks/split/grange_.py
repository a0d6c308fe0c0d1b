"""Grange's split: the same rows in the same parts for ever, whatever their order (see `grange.kernels.row_hash`)."""

import polars as pl
import pyarrow as pa
from measure import arguments, report, timed

from grange.definitions.splits import GroupedSplit, RandomSplit, Split, TimeSplit
from grange.frames import Rows
from grange.kernels.splitting import assign, partition
from split import PARTS


def main() -> None:
    """Read, divide and report."""
    options = arguments(__doc__)
    splits: dict[str, Split] = {
        "time": TimeSplit(PARTS),
        "key": GroupedSplit(PARTS, by="user_id"),
        "row": RandomSplit(PARTS),
    }
    split = splits[options.by]

    def divide() -> tuple[pa.Table, ...]:
        table = Rows(polars=pl.read_parquet(options.data / "rows.parquet")).arrow
        parts = assign(
            split.cut,
            identity=[table.column("user_id"), table.column("event_time")],
            by=[table.column(name) for name in split.by],
            event_time=table.column("event_time"),
        )
        return partition(table, parts, len(split.names))

    made, taken = timed(divide)
    report(**taken, rows=sum(part.num_rows for part in made), sizes=[part.num_rows for part in made])


main()
