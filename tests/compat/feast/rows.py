"""The raw rows of the repositories, written where their sources say."""

from __future__ import annotations

import datetime as dt
import shutil
from pathlib import Path

import polars as pl

REPOSITORIES = Path(__file__).parent / "repositories"
UTC = dt.UTC


def at(day: int, hour: int = 0) -> dt.datetime:
    return dt.datetime(2026, 1, day, hour, tzinfo=UTC)


def repository(name: str, folder: Path) -> Path:
    """A copy of a repository, with its rows."""
    copy = folder / name
    shutil.copytree(REPOSITORIES / name, copy)
    (copy / "data").mkdir(exist_ok=True)
    for file, frame in ROWS.get(name, {}).items():
        frame.write_parquet(copy / "data" / file)
    return copy


DRIVER_STATS = pl.DataFrame(
    {
        "driver_id": [1001, 1001, 1002, 1003],
        "event_timestamp": [at(1), at(3), at(2), at(2, 12)],
        "created": [at(4)] * 4,
        "conv_rate": [0.25, 0.5, None, 0.75],
        "acc_rate": [0.125, 0.25, 0.5, 1.0],
        "avg_daily_trips": [3, 7, 11, 9],
        "name": ["a", "b", None, "c"],
        "seen": [at(1, 10)] * 4,
        "tags": [["x"], ["x", "y"], [], ["z"]],
        "ok": [True, True, False, None],
        "not_a_feature": [1, 2, 3, 4],
    },
    schema_overrides={"conv_rate": pl.Float32, "acc_rate": pl.Float32, "avg_daily_trips": pl.Int32},
)
BUYERS = pl.DataFrame(
    {
        "buyer_id": ["b1", "b1", "b2"],
        "at": [at(1), at(2), at(2)],
        "loaded": [at(1, 1), at(2, 1), at(2, 1)],
        "total_spent": [10.0, 1000.0, None],
        "n": [1, 2, 3],
        "secret": ["s"] * 3,
    }
)
PLACES = pl.DataFrame(
    {"place_id": [7, 8], "at": [at(1), at(1)], "crime": [0.5, 0.25], "density": [100.0, 200.0]},
)
PRICES = pl.DataFrame({"customer_id": [1, 2], "at": [at(1), at(2)], "price": [9.5, None], "exact": [1.5, 2.5]})
ROWS = {
    "drivers": {"driver_stats.parquet": DRIVER_STATS},
    "marketplace": {"buyers.parquet": BUYERS, "places.parquet": PLACES},
    "warehouse": {"prices.parquet": PRICES},
}
