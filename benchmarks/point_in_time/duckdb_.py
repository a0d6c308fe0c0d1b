"""DuckDB by hand: one query with an `ASOF LEFT JOIN` for each group, in the spine's order."""

import duckdb
import pyarrow as pa
from measure import arguments, fingerprint, report, timed


def main() -> None:
    """Join and report."""
    options = arguments(__doc__)
    features, joins = [], []
    for index in range(options.groups):
        group = f"g{index}"
        features += [
            f"CASE WHEN {group}.event_time >= s.event_time - INTERVAL 30 DAY THEN {group}.{group}_f{j} END "
            f"AS {group}_f{j}"
            for j in range(10)
        ]
        joins.append(
            f"ASOF LEFT JOIN '{options.data}/group{index}.parquet' {group} "
            f"ON s.user_id = {group}.user_id AND s.event_time >= {group}.event_time"
        )
    query = (
        f"SELECT s.*, {', '.join(features)} FROM '{options.data}/spine-{options.spine}.parquet' s "
        f"{' '.join(joins)} ORDER BY s.row"
    )

    def join() -> pa.Table:
        return duckdb.connect().sql(query).to_arrow_table()

    table, taken = timed(join)
    report(**taken, **fingerprint(table))


main()
