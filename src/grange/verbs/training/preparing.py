"""Preparing features for a model outside of training: by what a training dataset of the view learned."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from grange.definitions.catalog import Catalog
from grange.definitions.feature_view import FeatureView
from grange.definitions.ready_functions import learns
from grange.errors import RequestError, UnsupportedError
from grange.plan.bind import bind, resolve
from grange.plan.nodes import Derived
from grange.ports.datasets import DatasetMeta
from grange.types import Schema
from grange.verbs.history import HistoricalFeatures
from grange.verbs.parts import Parts
from grange.verbs.training.keeping import catalog_of_dataset, meta_of, prepared_of

if TYPE_CHECKING:
    from grange.plan.bind import Role
    from grange.preparing import Prepared


Preparation = Callable[[Schema], "Prepared"]
"""From the features' columns to what prepares them."""


def preparation(
    parts: Parts, catalog: Catalog, features: Any, *, training_dataset: int | None, transform: bool
) -> Preparation | None:
    """What prepares the features that were asked for; None when they are taken as they are.

    Args:
        parts: the opened store.
        catalog: the applied definitions.
        features: what was asked for.
        training_dataset: the number of the training dataset of the view whose learning is used.
        transform: False takes features as they are.

    Raises:
        RequestError: a view has transformations that learn, and it was not said what they learned; or a training
            dataset is named where there is no view.
        UnknownTrainingDatasetError: the view has none of this number.
        UnsupportedError: it is one of folds, each of which learned for itself.
    """
    view = catalog.views.get(features) if isinstance(features, str) else features
    if not isinstance(view, FeatureView):
        if training_dataset is not None:
            raise RequestError(
                "a training dataset prepares the features of a feature view", found=f"{features!r:.80}, which is none"
            )
        return None
    if training_dataset is None:
        return _without(parts, view) if transform and view.transformations else None
    if not transform:
        raise RequestError("transform=False takes features as they are, so no training dataset is needed")
    meta = meta_of(parts, view.name, training_dataset)
    if not meta.transformations:
        return None
    if meta.transformations["stored"] == "raw":
        raise UnsupportedError(
            f"training dataset {view.name}#{training_dataset} is one of folds, each of which learned for itself",
            try_="compute one without folds for the final model",
        )
    prepared = prepared_of(parts, meta)[0]
    _check_sources(catalog, meta, view, prepared.schema.names)
    return lambda schema: prepared


def _check_sources(catalog: Catalog, meta: DatasetMeta, view: FeatureView, names: Sequence[str]) -> None:
    """Refuse to prepare features by what was learned from others of the same names.

    Raises:
        RequestError: a feature is made of something else than in the training dataset; names both.
    """
    then_catalog = catalog_of_dataset(meta)
    then, now = _sources(then_catalog, then_catalog.view(meta.view)), _sources(catalog, view)
    what = f"training dataset {meta.view}#{meta.version}"
    for name in names:
        if then.get(name) == now.get(name):
            continue
        raise RequestError(
            f"feature {name!r} of feature view {view.name!r} is not what {what} learned from",
            found=f"{now.get(name, 'no such feature')}; it was {then.get(name, 'no feature')}",
            try_=f"compute a training dataset of the view as it is now: grange td compute {view.name}",
        )


def _sources(catalog: Catalog, view: FeatureView) -> dict[str, str]:
    """By feature, what it is made of, in words that tell different ones apart."""
    bound = bind(catalog, resolve(catalog, view), {}, labels=False, full_feature_names=False)
    found = {item.name: str(item) for item in bound.features}
    for item in bound.computed:
        if isinstance(item, Derived):
            made = item.expression.text
        else:
            own = item.step.transformation
            made = f"{item.step} [{own.code_hash[:12]}]" if own is not None else str(item.step)
        of = ", ".join(found[name] for _, name, _ in item.inputs if name in found)
        found |= {name: f"{made}{f' of {of}' if of else ''}" for name, _ in item.outputs}
    return found


def _without(parts: Parts, view: FeatureView) -> Preparation:
    """What prepares features without a training dataset.

    Raises:
        RequestError: there are transformations that learn.
    """
    learn = [step.function for step in view.transformations if learns(step)]
    if learn:
        raise RequestError(
            f"feature view {view.name!r} has transformations that learn, and it was not said from what: "
            "training_dataset= names a training dataset of it",
            found=", ".join(learn),
            try_="training_dataset=1 (store.create_training_dataset makes one); transform=False takes features as "
            "they are",
        )
    from grange.preparing import Prepared

    what = f"feature view {view.name!r}"
    steps = parts.with_functions(view.transformations, asked_by=what)
    return lambda schema: Prepared.unfitted(steps, schema, asked_by=what)


def prepared_history(found: HistoricalFeatures, preparation: Preparation) -> HistoricalFeatures:
    """Joined features as a model takes them.

    Raises:
        ColumnTypeError, DataError, TransformError: a transformation cannot prepare them.
    """
    from grange.frames import Rows
    from grange.verbs.training.dataset import with_prepared
    from grange.verbs.training.spines import schema_of

    beside = found.beside.arrow
    prepared = preparation(schema_of(beside.select(list(found.features))))
    table = with_prepared(beside, found.roles, prepared)
    others: dict[str, Role] = {name: role for name, role in found.roles.items() if role != "feature"}
    roles: dict[str, Role] = {n: others.get(n, "feature") for n in (*found.spine_names, *table.column_names)}
    return found.with_beside(Rows(arrow=table), roles)
