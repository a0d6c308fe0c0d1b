"""Transactions of two users, lately enough that windows of a week have events now; and features of them."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import polars as pl

from grange.compat.mlforge import Feature, Rolling, feature

NOW = dt.datetime.now(dt.UTC)
ROWS = pl.DataFrame(
    {
        "user_id": ["user_123", "user_123", "user_123", "user_456"],
        "event_time": [NOW - dt.timedelta(days=days) for days in (40, 20, 2, 1)],
        "amount": [100.0, 10.0, 5.0, 7.0],
    }
)


def write(rows: pl.DataFrame = ROWS) -> None:
    """Write them where the features read them, in the working directory."""
    rows.write_parquet(Path("transactions.parquet"))


def raw(**options: Any) -> Feature:
    """The transactions as they are."""

    @feature(keys=["user_id"], source="transactions.parquet", timestamp="event_time", **options)
    def transactions(df: pl.DataFrame) -> pl.DataFrame:
        return df

    return transactions


def spend(windows: list[str], functions: list[str], **options: Any) -> Feature:
    """What a user spends, in sliding windows."""

    @feature(
        keys=["user_id"],
        source="transactions.parquet",
        timestamp="event_time",
        metrics=[Rolling(windows=windows, aggregations={"amount": functions})],
        **options,
    )
    def user_spend(df: pl.DataFrame) -> pl.DataFrame:
        return df.select(pl.col("user_id"), pl.col("event_time"), pl.col("amount"))

    return user_spend
