"""pandas by hand: one `merge_asof` for each group, then back to the spine's order."""

import pandas as pd
import pyarrow as pa
from measure import arguments, fingerprint, report, timed


def main() -> None:
    """Join and report."""
    options = arguments(__doc__)

    def join() -> pd.DataFrame:
        spine = pd.read_parquet(options.data / f"spine-{options.spine}.parquet").sort_values("event_time")
        for index in range(options.groups):
            group = pd.read_parquet(options.data / f"group{index}.parquet")
            spine = pd.merge_asof(spine, group, on="event_time", by="user_id", tolerance=pd.Timedelta(days=30))
        return spine.sort_values("row", ignore_index=True)

    frame, taken = timed(join)
    report(**taken, **fingerprint(pa.Table.from_pandas(frame, preserve_index=False)))


main()
