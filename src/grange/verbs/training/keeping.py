"""Opening, listing and deleting training datasets that are kept."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from grange.definitions.catalog import Catalog
from grange.definitions.serialize import group_from_data, view_from_data
from grange.errors import (
    CorruptStoreError,
    InUseError,
    RequestError,
    UnknownFeatureError,
    UnknownTrainingDatasetError,
    UnsupportedError,
    closest_names,
)
from grange.ports.datasets import COLLECTION, DatasetMeta
from grange.ports.offline import Finding
from grange.verbs.parts import Parts
from grange.verbs.training.compute import key_of
from grange.verbs.training.dataset import Stored, TrainingDataset

if TYPE_CHECKING:
    from grange.preparing import Prepared


def listed(parts: Parts, view: str | None = None) -> tuple[DatasetMeta, ...]:
    """What is known of the training datasets, by view and number.

    Raises:
        CorruptStoreError: what the registry has of one cannot be read.
    """
    prefix = "" if view is None else f"{view}#"
    documents = parts.registry.documents(COLLECTION, prefix=prefix, limit=None)
    metas = (_meta(document.key, document.data) for document in documents)
    return tuple(sorted(metas, key=lambda meta: (meta.view, meta.version)))


def meta_of(parts: Parts, view: str, version: int | None) -> DatasetMeta:
    """What is known of one; of the newest of the view without a number.

    Raises:
        UnknownTrainingDatasetError: there is none.
    """
    if version is None:
        known = listed(parts, view)
        if known:
            return known[-1]
    else:
        document = parts.registry.get(COLLECTION, key_of(view, version))
        if document is not None:
            return _meta(document.key, document.data)
        known = listed(parts, view)
    views = sorted({meta.view for meta in listed(parts)})
    raise UnknownTrainingDatasetError(
        f"feature view {view!r} has no training dataset{'' if version is None else f' {version}'}",
        found=", ".join(str(meta.version) for meta in known) or "none of this view",
        closest=() if known else closest_names(view, views),
        try_=f"grange td list {view}" if known else f"grange td compute {view}",
    )


def opened(parts: Parts, view: str, version: int | None) -> TrainingDataset:
    """A kept training dataset. See `FeatureStore.training_dataset`."""
    meta = meta_of(parts, view, version)
    if meta.status != "written":
        raise UnsupportedError(
            f"training dataset {view}#{meta.version} was held in memory and not written, so there is nothing to read",
            try_=f"compute it again as it was: grange td reproduce {view} {meta.version} --write",
        )
    if meta.version not in parts.offline.datasets.versions(view):
        raise CorruptStoreError(
            f"the files of training dataset {view}#{meta.version} are gone, or cannot be read",
            try_=f"compute it again as it was: grange td reproduce {view} {meta.version} --write",
        )
    return TrainingDataset(meta, Stored(parts.offline.datasets, view, meta.version), folds_prepared(parts, meta))


def folds_prepared(parts: Parts, meta: DatasetMeta) -> tuple[Prepared, ...]:
    """What the transformations of each fold learned; none where the parts are prepared already."""
    return prepared_of(parts, meta) if meta.transformations.get("stored") == "raw" else ()


def kept_statistics(
    parts: Parts, view: str, version: int | None, *, part: str | None, columns: Sequence[str] | None
) -> dict[str, dict[str, Any]]:
    """By part and column, the statistics that were kept. See `FeatureStore.training_dataset_statistics`."""
    meta = meta_of(parts, view, version)
    kept = meta.statistics or {}
    if part is not None and part not in kept:
        raise RequestError(
            f"training dataset {view}#{meta.version} has no statistics of a part {part!r}",
            found=", ".join(kept) or "none were kept",
            closest=closest_names(part, kept),
        )
    known = {column for each in kept.values() for column in each}
    for column in columns or ():
        if kept and column not in known:
            raise UnknownFeatureError(
                f"training dataset {view}#{meta.version} has no statistics of a column {column!r}",
                found=", ".join(sorted(known)),
                closest=closest_names(column, known),
            )
    return {
        name: {column: values for column, values in each.items() if columns is None or column in columns}
        for name, each in kept.items()
        if part in (None, name)
    }


def prepared_of(parts: Parts, meta: DatasetMeta) -> tuple[Prepared, ...]:
    """What the transformations of a training dataset learned.

    Raises:
        TransformError: code of a transformation is not here, or changed since.
        CorruptStoreError: what was kept cannot be read.
    """
    if not meta.transformations:
        return ()
    from grange.preparing import Prepared

    what = f"training dataset {meta.view}#{meta.version}"
    view = view_from_data(meta.view, meta.view_definition)
    steps = parts.with_functions(view.transformations, asked_by=what)
    try:
        return tuple(Prepared.from_data(steps, data, asked_by=what) for data in meta.transformations["learned"])
    except (KeyError, TypeError, ValueError) as error:
        raise CorruptStoreError(
            f"what the transformations of {what} learned cannot be read", found=repr(error)
        ) from error


def catalog_of_dataset(meta: DatasetMeta) -> Catalog:
    """What a training dataset was made of, as it was defined then."""
    definitions = meta.extra["definitions"]
    return Catalog.of(
        [
            *(group_from_data(name, data) for name, data in definitions["feature_groups"].items()),
            *(view_from_data(name, data) for name, data in definitions["feature_views"].items()),
            view_from_data(meta.view, meta.view_definition),
        ]
    )


def delete(parts: Parts, view: str, version: int) -> tuple[str, ...]:
    """Remove a training dataset; returns what was removed, for people.

    Files go first: a crash in between leaves an entry that says it is gone, never rows that nobody knows of.

    Raises:
        UnknownTrainingDatasetError: there is none.
    """
    meta_of(parts, view, version)
    with suppress(UnknownTrainingDatasetError):  # gone already, by a deletion that was cut off
        parts.offline.datasets.delete(view, version)
    parts.registry.remove(COLLECTION, key_of(view, version))
    return (f"training dataset {view}#{version}",)


def verified(parts: Parts, view: str | None, *, repair: bool, now: dt.datetime) -> tuple[Finding, ...]:
    """What is wrong with the kept training datasets: files, and what the registry knows of them.

    One that was written and is not in the registry, after a crash between the two, is entered there with `repair`. One
    whose files are gone stays listed, as it says what it pins; reading it is an error.
    """
    store = parts.offline.datasets
    findings = list(store.verify(view, repair=repair))
    for name in store.views() if view is None else (view,):
        for version in store.versions(name):
            if parts.registry.get(COLLECTION, key_of(name, version)) is not None:
                continue
            if repair:
                data = store.meta(name, version).to_dict()
                parts.registry.put(COLLECTION, key_of(name, version), data, now=now, expected="absent")
            findings.append(Finding(f"{name}#{version}", "written, and not in the registry", removed=repair))
    for meta in listed(parts, view):
        if meta.version not in store.versions(meta.view):
            findings.append(Finding(f"{meta.view}#{meta.version}", "in the registry, and its files are gone"))
    return tuple(findings)


def refuse_if_kept(parts: Parts, catalog: Catalog, view: str) -> None:
    """Refuse to remove a view of which training datasets are kept.

    Raises:
        InUseError: names them.
    """
    kept = listed(parts, view)
    if kept and view in catalog.views:
        named = ", ".join(f"{view}#{meta.version}" for meta in kept)
        raise InUseError(
            f"feature view {view!r} has training datasets: {named}", try_=f"grange td delete {view} {kept[0].version}"
        )


def _meta(key: str, data: dict[str, object]) -> DatasetMeta:
    try:
        return DatasetMeta.from_dict(data)
    except (KeyError, TypeError, ValueError) as error:
        raise CorruptStoreError(
            f"what the registry has of training dataset {key!r} cannot be read", found=repr(error)
        ) from error
