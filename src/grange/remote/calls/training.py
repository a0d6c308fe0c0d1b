"""Training datasets: computed and kept where the server is, read from here part by part."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from grange.definitions.feature_view import FeatureView
from grange.definitions.serialize import view_from_data
from grange.errors import TransformError, UnsupportedError
from grange.remote import answers, bodies
from grange.remote.calls.asked import given_spine
from grange.remote.calls.jobs import done_by_job, done_by_job_of_rows
from grange.remote.calls.serving import warn_of
from grange.remote.calls.session import Session, changed, every, fetched, fetched_rows
from grange.remote.messages import Call
from grange.types.time import Moment
from grange.verbs.progress import Report, silent
from grange.verbs.training.dataset import Held, PartSource, TrainingDataset
from grange.verbs.training.request import as_split, view_name

if TYPE_CHECKING:
    import pyarrow as pa

    from grange.definitions.splits import Split
    from grange.frames import Rows
    from grange.ports.datasets import DatasetMeta
    from grange.preparing import Prepared
    from grange.quality.leaks import Leak
    from grange.verbs.training.difference import DatasetDifference
    from grange.verbs.training.reproduce import Reproduction


def create_training_dataset(
    session: Session,
    view: str | FeatureView,
    spine: Any = None,
    *,
    split: Split | Mapping[str, float] | str | None = None,
    event_time: str | None = None,
    start: Moment | None = None,
    end: Moment | None = None,
    filter: str = "",
    as_known: bool = False,
    as_of: Moment | None = None,
    write: bool = True,
    format: str = "parquet",
    statistics: bool = True,
    engine: str | None = None,
    description: str = "",
    tags: Mapping[str, str] | None = None,
    progress: Report = silent,
) -> Call[TrainingDataset]:
    """Compute a training dataset of a feature view and keep it on the server, as one of its jobs.

    Raises:
        UnsupportedError: `write=False`: what a server computes is in its files.
    """
    if not write:
        raise UnsupportedError(
            "a server keeps training datasets in files, and hands out what these hold",
            found="write=False",
            try_="get_historical_features, for rows that are not kept",
        )
    divided = as_split(split)
    options = {
        "view": view_name(view),
        "split": None if divided is None else divided.to_data(),
        "event_time": event_time,
        "start": bodies.moment(start, "start"),
        "end": bodies.moment(end, "end"),
        "filter": filter or None,
        "as_known": as_known,
        "as_of": bodies.moment(as_of, "as_of"),
        "format": format,
        "statistics": statistics,
        "engine": engine,
        "description": description or None,
        "tags": None if tags is None else dict(tags),
    }
    rows = None if spine is None else (yield from given_spine(session, spine, view_name(view))).rows
    job = yield from done_by_job_of_rows(session, "/training-datasets", bodies.without_none(options), rows, progress)
    meta = answers.dataset_meta(job["result"]["meta"])
    leaks = tuple(map(answers.leak, job["result"]["leaks"]))
    warn_of(leaks)
    return (yield from _opened(session, meta, leaks))


def training_dataset(session: Session, view: str, version: int | None = None) -> Call[TrainingDataset]:
    """A kept training dataset; the view's newest without a number. Parts are downloaded when they are read; where
    reading cannot wait, as in an event loop, all of them at once."""
    meta = yield from training_dataset_info(session, view, version)
    if meta.status != "written":
        raise UnsupportedError(
            f"training dataset {view}#{meta.version} was held in memory and not written, so there is nothing to read",
            try_=f"compute it again as it was: grange td reproduce {view} {meta.version} --write",
        )
    return (yield from _opened(session, meta))


def training_datasets(session: Session, view: str | None = None) -> Call[tuple[DatasetMeta, ...]]:
    """What is known of the kept training datasets, by view and number."""
    return tuple(map(answers.dataset_meta, (yield from every("/training-datasets", view=view))))


def training_dataset_info(session: Session, view: str, version: int | None = None) -> Call[DatasetMeta]:
    """What is known of one, written or not."""
    return answers.dataset_meta((yield from fetched(_path(view, version))))


def training_dataset_statistics(
    session: Session,
    view: str,
    version: int | None = None,
    *,
    part: str | None = None,
    columns: Sequence[str] | None = None,
) -> Call[dict[str, dict[str, Any]]]:
    """By part and column, the statistics that were kept of features and labels."""
    found: dict[str, dict[str, Any]] = yield from fetched(
        f"{_path(view, version)}/statistics", part=part, columns=None if columns is None else list(columns)
    )
    return found


def diff_training_datasets(session: Session, view: str, before: int, after: int) -> Call[DatasetDifference]:
    """What differs between two training datasets of a view."""
    path = f"/training-datasets/{bodies.quoted(view)}/diff"
    return answers.dataset_difference((yield from fetched(path, before=before, after=after)))


def reproduce_training_dataset(
    session: Session, view: str, version: int | None = None, *, spine: Any = None, write: bool = False
) -> Call[Reproduction]:
    """Compute a training dataset again, from the versions that it pins and as its view was defined then, where it is
    kept. The dataset of the answer is the kept one.

    Raises:
        UnsupportedError: a spine; or one that has no files, and is not to be written.
    """
    from grange.verbs.training.reproduce import Reproduction

    if spine is not None:
        raise UnsupportedError(
            "a server computes again what it keeps the spine of",
            try_="leave out the spine, or do it where the files are",
        )
    if not write and (yield from training_dataset_info(session, view, version)).status != "written":
        raise UnsupportedError(
            f"a training dataset of {view!r} that has no files is computed again into files", try_="write=True"
        )
    said = (yield from done_by_job(session, f"{_path(view, version)}/reproduce", {"write": write}))["result"]
    dataset = yield from training_dataset(session, view, said["version"])
    return Reproduction(said["view"], said["version"], tuple(said["differences"]), tuple(said["libraries"]), dataset)


def delete_training_dataset(session: Session, view: str, version: int) -> Call[tuple[str, ...]]:
    """Remove a training dataset with its files; returns what was removed."""
    response = yield from changed(session, "DELETE", _path(view, version))
    session.shapes.clear()
    return tuple(bodies.from_json(response)["removed"])


def _path(view: str, version: int | None) -> str:
    return f"/training-datasets/{bodies.quoted(view)}/{'latest' if version is None else version}"


# rows


def _opened(session: Session, meta: DatasetMeta, leaks: tuple[Leak, ...] = ()) -> Call[TrainingDataset]:
    """A training dataset whose rows are in the server's files."""
    source: PartSource
    if session.run is not None:
        source = Downloaded(session.run, meta)
    else:
        held = {}
        for part in meta.parts:
            held[part.name] = yield from fetched_rows(f"{_path(meta.view, meta.version)}/rows", {"part": part.name})
        source = Held(held)
    return TrainingDataset(meta, source, _learned(meta), leaks)


@dataclass(frozen=True, slots=True, eq=False)
class Downloaded:
    """Parts in a server's files, downloaded whenever they are read."""

    run: Callable[[Call[Any]], Any]
    meta: DatasetMeta

    def read(self, part: str, columns: Sequence[str] | None) -> Rows:
        """See `PartSource`."""
        query = {"part": part, "columns": None if columns is None else list(columns)}
        rows: Rows = self.run(fetched_rows(f"{_path(self.meta.view, self.meta.version)}/rows", query))
        return rows

    def batches(self, part: str, columns: Sequence[str] | None, size: int) -> Iterator[pa.RecordBatch]:
        """See `PartSource`. The part is in memory while its batches are taken."""
        yield from self.read(part, columns).arrow.to_batches(max_chunksize=size)


def _learned(meta: DatasetMeta) -> tuple[Prepared, ...]:
    """What the transformations of each fold learned; none where the parts are prepared already.

    Raises:
        TransformError: a transformation is Python code, which stays where the server is.
    """
    if meta.transformations.get("stored") != "raw":
        return ()
    from grange.preparing import Prepared

    steps = view_from_data(meta.view, meta.view_definition).transformations
    for step in steps:
        own = step.transformation
        if own is not None and own.mode != "sql":
            raise TransformError(
                f"the folds of training dataset {meta.view}#{meta.version} are prepared by the Python code of "
                f"{own.name!r}, which does not travel",
                try_="train where the server's files are, or with a split that is no KFold",
            )
    what = f"training dataset {meta.view}#{meta.version}"
    return tuple(Prepared.from_data(steps, data, asked_by=what) for data in meta.transformations["learned"])
