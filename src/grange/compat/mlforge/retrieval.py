"""Reading features as mlforge does: training data beside a spine, and the latest values beside rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from grange.compat.mlforge.features import either
from grange.compat.mlforge.online import GrangeOnlineStore
from grange.compat.mlforge.store import LocalStore
from grange.definitions.references import FeatureSelection, as_selection, select
from grange.errors import NameCollisionError, RequestError, UnknownFeatureGroupError, UnsupportedError
from grange.frames import Rows
from grange.store import FeatureStore

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureSpec:
    """Some columns of a feature, or one of its versions.

    Args:
        name: the feature.
        columns: which of its columns; None is all.
        version: None is the latest.
    """

    name: str
    columns: Sequence[str] | None = None
    version: str | None = None

    def __post_init__(self) -> None:
        if self.columns is not None and (isinstance(self.columns, str) or not self.columns):
            raise RequestError(
                f"FeatureSpec of {self.name!r}: columns are a list of names", found=repr(self.columns), try_="None: all"
            )


FeatureInput = str | tuple[str, str] | FeatureSpec | FeatureSelection
"""A name (the latest version), a name and a version, or a spec."""


def get_training_data(
    spine: Any = None,
    features: Sequence[FeatureInput] | None = None,
    store: LocalStore | None = None,
    timestamp: str | None = None,
    *,
    entity_df: Any = None,
) -> pl.DataFrame:
    """The values that features had, point-in-time correct, beside the rows that are asked for.

    Shape:
        One row per spine row, in its order, its columns untouched; then one column per feature (PIT-1).

    Args:
        spine: entity keys and a time per row, in any frame.
        features: `["user_spend", ("merchant_features", "1.0.0")]`.
        store: where they were built; `./feature_store` without.
        timestamp: the spine's time column; needed when it has none of the usual names and several times.
        entity_df: another name for `spine`.

    Raises:
        UnknownFeatureGroupError, UnknownVersionError, UnknownFeatureError: with the closest names.
        MissingColumnError, KeyTypeError, NameCollisionError, RequestError.
    """
    asked = either(spine, entity_df, "spine and entity_df")
    with (store or LocalStore()).open() as opened:
        return training_data(opened, asked, features, timestamp)


def training_data(
    store: FeatureStore, spine: Any, features: Sequence[FeatureInput] | None, timestamp: str | None
) -> pl.DataFrame:
    """`get_training_data` of a Grange feature store."""
    if spine is None or not features:
        missing = "a spine: the rows that are asked for" if spine is None else "features: a list of names"
        raise RequestError(f"training data needs {missing}", try_='get_training_data(rows, features=["user_spend"])')
    found = store.get_historical_features(list(map(_selection, features)), spine, event_time=timestamp)
    return found.to_polars()


def get_online_features(
    features: Sequence[FeatureInput], entity_df: Any, store: GrangeOnlineStore | None = None
) -> pl.DataFrame:
    """The latest values of features beside rows with entity keys: one row each, in order (ONL-4).

    Args:
        features: names, or specs of some columns.
        entity_df: the rows, in any frame; other columns are kept.
        store: the online store of the `Definitions` that build the features.

    Raises:
        UnknownFeatureGroupError: no such feature, or no Definitions of it use this store.
        UnsupportedError: a store of one's own, of which `read_batch` alone is known; or never loaded.
        MissingColumnError, KeyTypeError, NameCollisionError, RequestError.
    """
    if not isinstance(store, GrangeOnlineStore):
        raise UnsupportedError(
            "get_online_features reads Grange's own online stores",
            found=type(store).__name__,
            try_="store.read_batch(feature_name, entity_keys)",
        )
    asked = [_selection(item) for item in features]
    if not asked:
        raise RequestError("no feature was named", try_='get_online_features(["user_spend"], rows, store)')
    opened = store.store_of(asked[0].source)
    if opened is None:
        raise UnknownFeatureGroupError(
            f"no Definitions that use this online store build a feature {asked[0].source!r}",
            try_="Definitions(..., online_store=store)",
        )
    given = Rows.of(entity_df, what="entity_df").polars
    answer = opened.get_online_features(asked, given)
    names = [name for name, role in answer.roles.items() if role == "feature"]
    clash = [name for name in names if name in given.columns]
    if clash:
        raise NameCollisionError(
            f"entity_df has a column {clash[0]!r} already, the name of a feature",
            try_="rename or drop the column",
            details={"column": clash[0]},
        )
    return given.with_columns(answer.to_polars().select(names).get_columns())


def _selection(item: FeatureInput) -> FeatureSelection:
    if isinstance(item, FeatureSpec):
        return select(item.name, *(item.columns or ()), version=item.version)
    return as_selection(item)


__all__ = ["FeatureSpec", "get_online_features", "get_training_data"]
