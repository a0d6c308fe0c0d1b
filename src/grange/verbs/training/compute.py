"""Computing a training dataset: join, leave out what is not known yet, split, learn, transform, keep."""

from __future__ import annotations

import datetime as dt
import importlib.metadata
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Final

from grange.definitions.catalog import Catalog
from grange.definitions.feature_view import FeatureView
from grange.definitions.serialize import fingerprint, to_data
from grange.definitions.splits import KFold, Split
from grange.errors import MissingColumnError, SourceError, TransformError, closest_names
from grange.frames import Rows
from grange.ports.datasets import COLLECTION, DatasetMeta, Pin
from grange.ports.offline import NEVER_MATERIALIZED
from grange.types import Schema
from grange.types.time import from_micros
from grange.verbs.history import HistoricalFeatures, HistoryRequest, get_historical_features
from grange.verbs.parts import Parts
from grange.verbs.progress import Progress, Report
from grange.verbs.training.dataset import (
    WHOLE,
    Held,
    PartSource,
    Stored,
    TrainingDataset,
    fold_training_rows,
    need_columns,
    with_prepared,
)
from grange.verbs.training.request import TrainingRequest, filtered
from grange.verbs.training.spines import identity_of, recipe_of, schema_of, spine_hash, typed_time

if TYPE_CHECKING:
    import pyarrow as pa

    from grange.preparing import Prepared
    from grange.quality.leaks import Leak

_LIBRARIES: Final = ("grange", "polars", "duckdb", "pyarrow", "numpy", "scikit-learn", "pandas")


@dataclass(frozen=True, slots=True)
class Computed:
    """Rows of a training dataset before they are kept."""

    parts: Mapping[str, Rows]
    schema: Schema
    roles: Mapping[str, str]
    left_out: int
    """Rows that the filter, joins, immature labels or the gap of a split left out."""
    transformations: Mapping[str, Any]
    prepared: tuple[Prepared, ...]
    statistics: Mapping[str, Any] | None
    pins: tuple[Pin, ...]
    spine_hash: str
    leaks: tuple[Leak, ...]


def create(
    parts: Parts, catalog: Catalog, name: str, request: TrainingRequest, *, now: dt.datetime, report: Report
) -> TrainingDataset:
    """Compute a training dataset of an applied view and keep it under the view's next number.

    Raises:
        UnknownFeatureViewError and whatever `get_historical_features` raises.
        SourceError: no rows are left.
        TransformError, ColumnTypeError: a transformation fails; nothing is kept.
        StorageFullError: nothing is kept.
    """
    view = catalog.view(name)

    def tell(stage: Any, rows: int | None) -> None:
        report(Progress(name, stage, rows, 1, 1))

    tell("read", None)
    done = compute(parts, catalog, view, request, tell=tell)
    number = parts.registry.next_number(f"training_dataset:{name}")
    draft = _draft(parts, catalog, view, request, done, number, now)
    tell("write", sum(len(rows) for rows in done.parts.values()))
    meta = parts.offline.datasets.publish(draft, done.parts, now=now)
    source: PartSource = Stored(parts.offline.datasets, name, number) if request.write else Held(done.parts)
    parts.registry.put(COLLECTION, key_of(name, number), meta.to_dict(), now=now, expected="absent")
    tell("done", sum(part.rows for part in meta.parts))
    prepared = done.prepared if isinstance(request.split, KFold) else ()
    return TrainingDataset(meta, source, prepared, done.leaks)


def compute(
    parts: Parts,
    catalog: Catalog,
    view: FeatureView,
    request: TrainingRequest,
    *,
    tell: Any = lambda stage, rows: None,
    pins: Mapping[str, tuple[str, int | None]] | None = None,
) -> Computed:
    """The parts of a training dataset; keeps nothing. `pins` reads groups as they were."""
    asked = filtered(view, request.filter)
    found = get_historical_features(parts, catalog, asked, request.spine, _history(request, pins))
    _need_labels(view, found)
    table, immature = _mature(found)
    if not table.num_rows:
        raise SourceError(
            f"a training dataset of feature view {view.name!r} would have no rows",
            found=f"{len(found) + found.rows_left_out} rows asked for, all left out",
            try_="check the filter, the joins, and how long labels take to be known",
        )
    tell("check", table.num_rows)
    assigned = _assigned(table, found, request)
    raw = _divided(table, assigned, request)
    _need_rows(raw, view)
    statistics = _statistics(raw, found.roles) if request.statistics else None
    prepared = _fitted(parts, view, raw, found.roles, request.split, found.event_time)
    made, roles = _applied(raw, found.roles, prepared, request.split)
    return Computed(
        parts={part: Rows(arrow=rows) for part, rows in made.items()},
        schema=schema_of(next(iter(made.values()))),
        roles=roles,
        left_out=found.rows_left_out + immature + (0 if assigned is None else int((assigned < 0).sum())),
        transformations=_states(prepared, request.split),
        prepared=prepared,
        statistics=statistics,
        pins=tuple(_pin(parts, *pin) for pin in found.pins),
        spine_hash=spine_hash(found),
        leaks=found.leaks,
    )


def _pin(parts: Parts, group: str, version: str, pushed_until: int) -> Pin:
    """A version, with the reach of pushed rows only where it was read beyond the version."""
    if version != NEVER_MATERIALIZED and pushed_until <= parts.offline.meta(group, version).pushed_through:
        return Pin(group, version)
    return Pin(group, version, pushed_until)


def _need_rows(raw: Mapping[str, pa.Table], view: FeatureView) -> None:
    """Refuse a part without rows: a model cannot be trained or judged on it.

    Raises:
        SourceError: names the part.
    """
    empty = [part for part, rows in raw.items() if not rows.num_rows]
    if empty:
        raise SourceError(
            f"a training dataset of feature view {view.name!r} would have no rows in part {empty[0]!r}",
            found=", ".join(f"{part} {rows.num_rows}" for part, rows in raw.items()),
            try_="fewer parts, other shares, or more rows",
        )


def key_of(view: str, number: int) -> str:
    """The key of a training dataset's document."""
    return f"{view}#{number}"


def _history(request: TrainingRequest, pins: Mapping[str, tuple[str, int | None]] | None) -> HistoryRequest:
    return HistoryRequest(
        event_time=request.event_time,
        start=request.start,
        end=request.end,
        as_known=request.as_known,
        engine=request.engine,
        full_feature_names=False,
        leaks=request.leaks,
        now=request.as_of,
        pins=pins or {},
    )


def _need_labels(view: FeatureView, found: HistoricalFeatures) -> None:
    """Refuse a spine without a label that it is to bring: nothing could be learned of it.

    Raises:
        MissingColumnError: names the label.
    """
    for name in view.spine_labels:
        if name not in found.spine_names:
            raise MissingColumnError(
                f"the spine lacks the label {name!r} of feature view {view.name!r}",
                found=", ".join(found.spine_names),
                closest=closest_names(name, found.spine_names),
                try_=f"a spine with {name!r}; get_historical_features({view.name!r}, ...) needs no labels",
            )


def _mature(found: HistoricalFeatures) -> tuple[pa.Table, int]:
    """The joined rows whose labels are known, their times typed, and how many are left out."""
    table = typed_time(found.to_arrow(), found.event_time)
    if found.immature is None or not found.immature.any():
        return table, 0
    import pyarrow as pa

    return table.filter(pa.array(~found.immature)), int(found.immature.sum())


def _assigned(table: pa.Table, found: HistoricalFeatures, request: TrainingRequest) -> Any:
    """By row, the number of its part; -1 is left out. None without a split, and where parts are known already."""
    split = request.split
    if split is None or request.sizes is not None:
        return None
    from grange.kernels.splitting import assign

    need_columns(Rows(arrow=table), split.by, what="the training data")
    return assign(
        split.cut,
        identity=[table.column(name) for name in identity_of(found)],
        by=[table.column(name) for name in split.by],
        event_time=table.column(found.event_time) if split.in_time else None,
    )


def _divided(table: pa.Table, assigned: Any, request: TrainingRequest) -> dict[str, pa.Table]:
    """The rows of each part, in their order."""
    split = request.split
    if request.sizes is not None:
        ends = [0, *accumulate(request.sizes.values())]
        starts = zip(request.sizes, ends[:-1], ends[1:], strict=True)
        return {part: table.slice(start, end - start) for part, start, end in starts}
    if split is None:
        return {WHOLE: table}
    from grange.kernels.splitting import partition

    return dict(zip(split.names, partition(table, assigned, len(split.names)), strict=True))


def _fitted(
    parts: Parts,
    view: FeatureView,
    raw: Mapping[str, pa.Table],
    roles: Mapping[str, str],
    split: Split | None,
    event_time: str,
) -> tuple[Prepared, ...]:
    """What the view's transformations learn: from the part to fit on, or from the training rows of each fold."""
    if not view.transformations:
        return ()
    from grange.preparing import fit

    steps = parts.with_functions(view.transformations, asked_by=f"feature view {view.name!r}")
    names = [name for name, role in roles.items() if role == "feature"]
    asked_by = f"feature view {view.name!r}"
    learned: list[Prepared] = []
    for rows in _taught(raw, split, event_time):
        features = rows.select(names)
        learned.append(fit(steps, features, schema_of(features), asked_by=asked_by))
    return tuple(learned)


def _taught(raw: Mapping[str, pa.Table], split: Split | None, event_time: str) -> Iterator[pa.Table]:
    """The rows that transformations learn from: of the part to fit on, or of the training rows of each fold."""
    if isinstance(split, KFold):
        for number in range(split.k):
            yield fold_training_rows(split, number, raw.__getitem__, event_time)
        return
    yield raw[WHOLE if split is None else split.fit_part]


def _applied(
    raw: Mapping[str, pa.Table], roles: Mapping[str, str], prepared: Sequence[Prepared], split: Split | None
) -> tuple[dict[str, pa.Table], dict[str, str]]:
    """The parts as the model takes them, and the roles of their columns. Those of folds stay as they are: each fold
    prepares them by what it learned itself."""
    if not prepared or isinstance(split, KFold):
        return dict(raw), dict(roles)
    (one,) = prepared
    made = {part: _prepared_part(part, table, roles, one) for part, table in raw.items()}
    columns = next(iter(made.values())).column_names
    return made, {name: roles.get(name, "feature") for name in columns}


def _prepared_part(part: str, table: pa.Table, roles: Mapping[str, str], prepared: Prepared) -> pa.Table:
    """A part as the model takes it. What cannot be prepared is told with the part."""
    try:
        return with_prepared(table, roles, prepared)
    except TransformError as error:
        error.details["part"] = part
        error.asked_by = f"part {part!r}" + (f" of {error.asked_by}" if error.asked_by else "")
        raise


def _states(prepared: Sequence[Prepared], split: Split | None) -> dict[str, Any]:
    """What was learned, as JSON."""
    if not prepared:
        return {}
    stored = "raw" if isinstance(split, KFold) else "applied"
    return {"stored": stored, "learned": [item.to_data() for item in prepared]}


def _statistics(raw: Mapping[str, pa.Table], roles: Mapping[str, str]) -> dict[str, Any]:
    """Statistics of features and labels by part, as they were before any transformation."""
    from grange.quality.statistics import statistics

    wanted = [name for name, role in roles.items() if role in ("feature", "label")]
    return {
        part: {item.name: item.to_dict() for item in statistics(Rows(arrow=table), wanted)}
        for part, table in raw.items()
    }


def _draft(
    parts: Parts,
    catalog: Catalog,
    view: FeatureView,
    request: TrainingRequest,
    done: Computed,
    number: int,
    now: dt.datetime,
) -> DatasetMeta:
    data = to_data(view)
    groups = {pin.group: catalog.group(pin.group) for pin in done.pins}
    return DatasetMeta(
        view=view.name,
        version=number,
        created_at=now,
        as_of=from_micros(request.as_of),
        format=request.format,
        schema=done.schema,
        roles=dict(done.roles),
        pins=done.pins,
        spine_hash=done.spine_hash,
        spine=recipe_of(parts, request),
        view_definition=data,
        view_fingerprint=fingerprint(data),
        split=None if request.split is None else request.split.to_data(),
        filter=request.filter,
        transformations=dict(done.transformations),
        code_hashes=_code_hashes(view, groups.values()),
        libraries=libraries(),
        left_out=done.left_out,
        statistics=done.statistics,
        description=request.description,
        tags=dict(request.tags),
        status="written" if request.write else "declared",
        extra={"definitions": definitions_of(catalog, view), "as_known": request.as_known, "engine": request.engine},
    )


def definitions_of(catalog: Catalog, view: FeatureView) -> dict[str, Any]:
    """Everything that the view is made of, as applied now: what reproducing it needs, whatever is applied then."""
    groups: dict[str, Any] = {}
    views: dict[str, Any] = {}
    pending = [view]
    while pending:
        current = pending.pop()
        for item in (*current.features, *current.label_features):
            if item.source in catalog.views and item.source not in views:
                views[item.source] = to_data(catalog.views[item.source])
                pending.append(catalog.views[item.source])
            elif item.source in catalog.groups:
                groups[item.source] = to_data(catalog.groups[item.source])
    return {"feature_groups": groups, "feature_views": views}


def _code_hashes(view: FeatureView, groups: Any) -> dict[str, str]:
    """By what it belongs to, the hash of each piece of code that had a part in it."""
    hashes = {group.name: group.transform.code_hash for group in groups if group.transform is not None}
    steps = [*view.on_demand, *view.transformations]
    steps += [step for group in groups for step in group.on_demand]
    return hashes | {step.function: step.transformation.code_hash for step in steps if step.transformation is not None}


def libraries() -> dict[str, str]:
    """Versions of the libraries that have a part in what comes out."""
    found = {}
    for name in _LIBRARIES:
        with suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found
