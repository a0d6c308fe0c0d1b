"""Grange's `materialize`: the file into history (Parquet) and into the online store.

That is Redis if `--redis` says where, else LMDB.
"""

from grange_common import definitions, feature_store
from measure import arguments, report, timed


def main() -> None:
    """Apply, materialize and report."""
    options = arguments(__doc__)
    store = feature_store(options.work, fresh=True, redis=options.redis)
    groups, view = definitions(options.data, 1, ttl=None, online=True)
    store.apply([*groups, view])
    _, taken = timed(store.materialize)
    rows = store.get_online_features("bench", [{"user_id": u} for u in (0, 1, options.entities - 1)]).to_dicts()
    report(**taken, checksum=round(sum(v for row in rows for n, v in row.items() if n.startswith("g")), 6))


main()
