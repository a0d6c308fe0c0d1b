"""Reproducing a training dataset: computing it again from what it pins, and comparing."""

from __future__ import annotations

import datetime as dt
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from grange.definitions.catalog import Catalog
from grange.definitions.feature_view import FeatureView
from grange.definitions.splits import split_from_data
from grange.errors import CorruptStoreError, RequestError, UnknownTrainingDatasetError, UnsupportedError
from grange.frames import Rows
from grange.ports.datasets import COLLECTION, DatasetMeta
from grange.quality.leaks import TRAINING_CODES, LeakPolicy
from grange.types.time import to_micros, to_utc
from grange.verbs.parts import Parts
from grange.verbs.training.compute import Computed, compute, key_of, libraries
from grange.verbs.training.dataset import Held, Stored, TrainingDataset
from grange.verbs.training.keeping import catalog_of_dataset, folds_prepared, meta_of
from grange.verbs.training.request import TrainingRequest


@dataclass(frozen=True, slots=True)
class Reproduction:
    """A training dataset computed again, and what differs from what was kept."""

    view: str
    version: int
    differences: tuple[str, ...]
    """In words; none when it came out the same."""
    libraries: tuple[str, ...]
    """Libraries of another version than then, which may explain differences in the last digits of floats."""
    dataset: TrainingDataset

    @property
    def identical(self) -> bool:
        """Whether every row of every part came out as it was."""
        return not self.differences

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "view": self.view,
            "version": self.version,
            "identical": self.identical,
            "differences": list(self.differences),
            "libraries": list(self.libraries),
        }

    def __str__(self) -> str:
        head = f"{self.view}#{self.version}: " + ("identical" if self.identical else "differs")
        return "\n".join([head, *(f"    {line}" for line in (*self.differences, *self.libraries))])


def reproduce(
    parts: Parts, view: str, version: int | None, *, spine: Any, write: bool, now: dt.datetime
) -> Reproduction:
    """Compute a training dataset again, from the versions it pins, as its view was defined then.

    Args:
        parts: the opened store.
        view: its feature view.
        version: its number; the newest without.
        spine: the rows asked for, where they were a frame that was not written.
        write: of one that was held in memory, or whose files are gone or damaged: write it now, if it came out the
            same.
        now: for what is written.

    Raises:
        UnknownTrainingDatasetError; UnknownVersionError of a version that was removed in spite of the pin.
        RequestError: the spine was a frame, and is neither written nor given.
        TransformError: code of then is not here.
        UnsupportedError: one that is written, and whole, is to be written.
    """
    meta = meta_of(parts, view, version)
    whole = meta.status == "written" and _is_whole(parts, meta)
    if write and whole:
        raise UnsupportedError(f"training dataset {view}#{meta.version} is written already, and as it was")
    catalog, request = _as_it_was(parts, meta, spine, from_files=whole)
    pins = {pin.group: (pin.version, pin.pushed_until) for pin in meta.pins}
    done = compute(parts, catalog, catalog.view(view), request, pins=pins)
    differences = tuple(_differences(parts, meta, done, own_rows=request.sizes is not None))
    if write and not differences:
        store = parts.offline.datasets
        with store.lock(view, timeout=parts.lock_timeout):
            # what was declared, or is damaged, makes room under its number; the registry still knows it, should this
            # be cut off
            with suppress(UnknownTrainingDatasetError):
                store.delete(view, meta.version)
            meta = store.publish(meta.with_(status="written"), done.parts, now=now)
        parts.registry.put(COLLECTION, key_of(view, meta.version), meta.to_dict(), now=now, expected="present")
    dataset = TrainingDataset(meta, Held(done.parts), folds_prepared(parts, meta))
    return Reproduction(view, meta.version, differences, tuple(_other_libraries(meta)), dataset)


def _is_whole(parts: Parts, meta: DatasetMeta) -> bool:
    """Whether the files of a training dataset are there, as they were written."""
    store = parts.offline.datasets
    try:
        for part in meta.parts:
            store.read(meta.view, meta.version, part.name)
    except (CorruptStoreError, UnknownTrainingDatasetError):
        return False
    return True


def _as_it_was(parts: Parts, meta: DatasetMeta, spine: Any, *, from_files: bool) -> tuple[Catalog, TrainingRequest]:
    catalog = catalog_of_dataset(meta)
    recipe = meta.spine
    own = spine is None and recipe["type"] == "frame" and from_files
    times = [name for name, role in meta.roles.items() if role == "event_time"]
    request = TrainingRequest(
        spine=_own_rows(parts, meta, catalog.view(meta.view)) if own else _spine(meta, spine),
        event_time=times[0] if own else recipe.get("event_time"),
        sizes={part.name: part.rows for part in meta.parts} if own else None,
        start=_micros(recipe.get("start")),
        end=_micros(recipe.get("end")),
        filter=meta.filter,
        as_known=meta.extra["as_known"],
        as_of=to_micros(meta.as_of),
        engine=meta.extra["engine"],
        split=None if meta.split is None else split_from_data(meta.split),
        write=False,
        format=meta.format,
        statistics=False,
        description=meta.description,
        leaks=LeakPolicy(errors=frozenset(), ignore=TRAINING_CODES),
    )
    return catalog, request


def _own_rows(parts: Parts, meta: DatasetMeta, view: FeatureView) -> Rows:
    """The rows that were asked for and that stayed, as the files have them: part after part."""
    asked = ("key", "event_time", "spine", "request")
    columns = [name for name, role in meta.roles.items() if role in asked or name in view.spine_labels]
    columns += [name for name in view.training_helpers if name in meta.schema and name not in columns]
    stored = TrainingDataset(meta, Stored(parts.offline.datasets, meta.view, meta.version))
    features = {item for item in view.training_helpers if ":" in item}
    return stored.read(columns=[name for name in columns if name not in features])


def _spine(meta: DatasetMeta, given: Any) -> Any:
    """What the training dataset was asked for: made, read or queried again, or given."""
    if given is not None:
        return given
    recipe = meta.spine
    match recipe["type"]:
        case "made":
            return None
        case "query":
            return recipe["query"]
        case "file":
            return recipe["path"]
        case _:
            raise RequestError(
                f"the spine of training dataset {meta.view}#{meta.version} was a {recipe['frame']} frame, "
                "which only its maker has",
                try_="store.reproduce_training_dataset(..., spine=frame)",
            )


def _differences(parts: Parts, meta: DatasetMeta, done: Computed, *, own_rows: bool) -> list[str]:
    found = []
    if done.spine_hash != meta.spine_hash and not own_rows:  # its own rows lie in another order
        found.append("the spine has other rows than then")
    names, kept = done.schema.names, meta.schema.names
    if names != kept:
        found.append(f"columns are {', '.join(names)}, and were {', '.join(kept)}")
    for part in meta.parts:
        rows = done.parts.get(part.name)
        if rows is None or len(rows) != part.rows:
            found.append(f"part {part.name!r} has {0 if rows is None else len(rows)} rows, and had {part.rows}")
        elif part.content_hash and parts.offline.datasets.content_hash(rows, meta.schema) != part.content_hash:
            where = _first_difference(parts, meta, part.name, rows)
            found.append(f"part {part.name!r} has other values{where}")
    return found


def _first_difference(parts: Parts, meta: DatasetMeta, part: str, rows: Any) -> str:
    """Which columns of a written part differ."""
    if meta.status != "written":
        return ""
    kept = Stored(parts.offline.datasets, meta.view, meta.version).read(part, None).polars
    now = rows.polars
    columns = [name for name in kept.columns if name in now.columns]
    other = [name for name in columns if not kept.get_column(name).equals(now.get_column(name), null_equal=True)]
    return f" in {', '.join(other)}" if other else ""


def _other_libraries(meta: DatasetMeta) -> list[str]:
    now = libraries()
    return [
        f"{name} is {now.get(name, 'not installed')}, and was {then}"
        for name, then in meta.libraries.items()
        if now.get(name) != then
    ]


def _micros(text: str | None) -> int | None:
    return None if text is None else to_micros(to_utc(text))
