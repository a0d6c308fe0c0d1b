"""A small shop: users who spend, shops they visit, rows that come late and twice."""

from __future__ import annotations

import datetime as dt

import polars as pl

import grange as gr

UTC = dt.UTC


def at(day: int, hour: int = 0, minute: int = 0) -> dt.datetime:
    return dt.datetime(2026, 3, day, hour, minute, tzinfo=UTC)


SPEND = pl.DataFrame(
    {
        "user_id": ["u1", "u1", "u2", "u1", "u2"],
        "at": [at(1), at(5), at(5), at(9), at(9)],
        "loaded": [at(1, 1), at(5, 1), at(5, 1), at(12), at(9, 1)],
        "amount": [10.0, 20.0, 7.5, None, 9.0],
        "visits": [1, 2, 1, 3, None],
    },
    schema_overrides={"visits": pl.Int32},
)
SHOPS = pl.DataFrame({"shop_id": [1, 2], "country": ["FR", "NZ"]})


user = gr.Entity("user", join_keys=["user_id"])
shop = gr.Entity("shop", join_keys=["shop_id"])
spend_source = gr.FileSource("data/spend.parquet", event_time="at", created_time="loaded")


def spend_group(name: str = "spend", **options: object) -> gr.FeatureGroup:
    return gr.FeatureGroup(name, entities=user, source=spend_source, **options)  # type: ignore[arg-type]


def shops_group() -> gr.FeatureGroup:
    return gr.FeatureGroup("shops", entities=shop, source=gr.FileSource("data/shops.csv"))
