"""Grange's `get_online_features`: on Redis if `--redis` says where, else on LMDB."""

from typing import Any

from grange_common import definitions, feature_store
from measure import arguments, repeated, report, timed


def main() -> None:
    """Prepare, or read and report."""
    options = arguments(__doc__)
    store = feature_store(options.work, fresh=options.prepare, redis=options.redis)
    if options.prepare:
        groups, view = definitions(options.data, options.groups, ttl=None, online=True)
        store.apply([*groups, view])
        _, taken = timed(store.materialize)
        store.close()
        report(**taken)

    def read(users: list[int]) -> list[dict[str, Any]]:
        return store.get_online_features("bench", [{"user_id": user} for user in users]).to_dicts()

    first = read([1, options.entities])
    report(**repeated(read, options), values=len(first[0]), checksum=checksum(first[0]))


def checksum(row: dict[str, Any]) -> float:
    """The sum of entity 1's features."""
    return round(sum(value for name, value in row.items() if name.startswith("g")), 6)


main()
