"""Feast's own server, one worker, no access log: on Redis if `--redis` says where, else on SQLite."""

import os

os.environ["FEAST_USAGE"] = "False"

import sys
from datetime import UTC, datetime

from feast import FeatureService
from feast_common import feature_store, feature_views
from measure import arguments, report, timed

from http_online import load

PATH = "/get-online-features"


def main() -> None:
    """Prepare, or serve, ask and report."""
    options = arguments(__doc__, load.options)
    store = feature_store(options.work, offline="duckdb", redis=options.redis, fresh=options.prepare)
    if options.prepare:
        entity, views = feature_views(options.data, options.groups, keys="integer", ttl_days=0)
        store.apply([entity, *views, FeatureService(name="bench", features=views)])
        start, end = datetime(2024, 12, 31, tzinfo=UTC), datetime(2025, 6, 1, tzinfo=UTC)
        _, taken = timed(lambda: store.materialize(start, end))
        report(**taken)
    if options.serve:
        # never restart the worker for having answered many requests
        store.serve("127.0.0.1", options.serve, max_requests=0, max_requests_jitter=0)
        return
    port = load.free_port()
    command = [sys.executable, "-m", "http_online.feast_", *sys.argv[1:], "--serve", str(port)]
    with load.running(command, port, log=options.work / "feast-server.log"):
        first = load.asked(port, PATH, {"feature_service": "bench", "entities": {"user_id": [1]}})
        found = load.measured(port, PATH, "feast", options)
    names, results = first["metadata"]["feature_names"], first["results"]
    values = {name: result["values"][0] for name, result in zip(names, results, strict=True)}
    total = round(sum(value for name, value in values.items() if name.startswith("g")), 6)
    report(**found, values=len(values), checksum=total)


main()
