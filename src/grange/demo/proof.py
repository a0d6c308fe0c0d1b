"""The demo's proof: what is served equals what a model trains on, cell by cell."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import polars as pl

from grange.demo.training import TIME
from grange.errors import GrangeError
from grange.types.time import isoformat

if TYPE_CHECKING:
    from grange.store import FeatureStore


@dataclass(frozen=True, slots=True)
class Proof:
    """A comparison that found no difference."""

    now: dt.datetime
    combinations: int
    cells: int
    statuses: dict[str, int]
    """How many of the cells had which status online."""

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "now": isoformat(self.now),
            "combinations": self.combinations,
            "cells": self.cells,
            "mismatches": 0,
            "statuses": self.statuses,
        }


def prove(store: FeatureStore, view: str, asked: pl.DataFrame, *, now: dt.datetime) -> Proof:
    """Read the same rows online at `now` and from history at `now`, and compare (ONL-1).

    Raises:
        GrangeError: they differ; says where first.
    """
    online = store.get_online_features(view, asked.to_dicts(), now=now)
    spine = asked.with_columns(pl.lit(now).dt.cast_time_unit("us").alias(TIME), pl.lit(None, pl.Boolean).alias("late"))
    offline = store.get_historical_features(view, spine, event_time=TIME)
    served, trained = online.to_polars(), offline.to_polars()
    differences = find_differences(served, trained, offline.feature_names)
    cells = asked.height * len(offline.feature_names)
    if differences:
        raise GrangeError(
            f"online and history differ in {len(differences):,} of {cells:,} values",
            asked_by=f"feature view {view!r} at {isoformat(now)}",
            found=differences[0],
            details={"mismatches": len(differences)},
        )
    counts = Counter(status.name for row in online.statuses for status in row.values())
    return Proof(now, asked.height, cells, dict(counts.most_common()))


def find_differences(left: pl.DataFrame, right: pl.DataFrame, columns: Sequence[str]) -> list[str]:
    """The cells in which two frames of the same rows differ, in words. Types and nulls count; NaN equals NaN."""
    assert left.height == right.height, "the same rows on both sides"
    found = []
    for name in columns:
        a, b = left[name], right[name]
        if a.dtype != b.dtype:
            found += [f"{name}: {a.dtype} and {b.dtype}"] * left.height
            continue
        rows = (~a.eq_missing(b)).arg_true()
        found += [f"{name} of row {row}: {a[row]!r} and {b[row]!r}" for row in rows]
    return found
