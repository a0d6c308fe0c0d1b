"""The ready functions by name: what `grange.definitions.ready_functions` lists and this package computes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from grange.preparing.bins import BIN
from grange.preparing.bound import Ready
from grange.preparing.hashing import HASH
from grange.preparing.imputing import IMPUTE
from grange.preparing.logarithm import LOG
from grange.preparing.min_max import MIN_MAX
from grange.preparing.one_hot import ONE_HOT
from grange.preparing.ordinal import ORDINAL
from grange.preparing.quantile import QUANTILE
from grange.preparing.robust import ROBUST
from grange.preparing.standard import STANDARD
from grange.preparing.winsor import WINSORIZE

READY: Final[Mapping[str, Ready]] = {
    "standard_scaler": STANDARD,
    "min_max_scaler": MIN_MAX,
    "robust_scaler": ROBUST,
    "quantile_scaler": QUANTILE,
    "label_encoder": ORDINAL,
    "ordinal_encoder": ORDINAL,
    "one_hot_encoder": ONE_HOT,
    "impute": IMPUTE,
    "bin": BIN,
    "winsorize": WINSORIZE,
    "log": LOG,
    "hash_buckets": HASH,
}
"""Those that treat each column by itself."""
