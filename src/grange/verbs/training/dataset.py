"""TrainingDataset: what was computed, handed over to whoever trains."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, assert_never, get_args

from grange.definitions.splits import KFold, Split, split_from_data
from grange.errors import (
    MissingColumnError,
    NameCollisionError,
    RequestError,
    UnknownFeatureError,
    UnsupportedError,
    closest_names,
)
from grange.frames import Rows
from grange.ports.datasets import DatasetMeta, DatasetStore
from grange.types import Schema
from grange.types.durations import timedelta_of

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
    import pyarrow as pa
    from numpy.typing import NDArray

    from grange.preparing import Prepared
    from grange.quality.leaks import Leak

WHOLE = "all"
"""The part of a training dataset that is not split."""
Frame = Literal["polars", "pandas", "arrow", "numpy"]


class PartSource(Protocol):
    """Where the rows of parts come from: files, or memory."""

    def read(self, part: str, columns: Sequence[str] | None) -> Rows:
        """The rows of a part, in order."""
        ...

    def batches(self, part: str, columns: Sequence[str] | None, size: int) -> Iterator[pa.RecordBatch]:
        """The same, a few at a time."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Held:
    """Parts that are held in memory and written nowhere."""

    parts: Mapping[str, Rows]

    def read(self, part: str, columns: Sequence[str] | None) -> Rows:
        """See `PartSource`."""
        rows = self.parts[part]
        return rows if columns is None else rows.select(columns)

    def batches(self, part: str, columns: Sequence[str] | None, size: int) -> Iterator[pa.RecordBatch]:
        """See `PartSource`."""
        yield from self.read(part, columns).arrow.to_batches(max_chunksize=size)


@dataclass(frozen=True, slots=True, eq=False)
class Stored:
    """Parts in the files of a dataset store."""

    store: DatasetStore
    view: str
    version: int

    def read(self, part: str, columns: Sequence[str] | None) -> Rows:
        """See `PartSource`."""
        return self.store.read(self.view, self.version, part, columns)

    def batches(self, part: str, columns: Sequence[str] | None, size: int) -> Iterator[pa.RecordBatch]:
        """See `PartSource`."""
        return self.store.batches(self.view, self.version, part, columns, size)


class TrainingDataset:
    """An immutable, versioned result of a feature view: rows of entity keys, times, features and labels, in parts.

    >>> dataset = store.create_training_dataset("churn", spine, split={"train": 0.8, "test": 0.2})
    >>> X, y = dataset.xy("train")

    Time:
        The event-time column is UTC. Rows lie in the order of the spine.
    """

    __slots__ = ("_parts", "_prepared", "leaks", "meta")

    def __init__(
        self,
        meta: DatasetMeta,
        parts: PartSource,
        prepared: tuple[Prepared, ...] = (),
        leaks: tuple[Leak, ...] = (),
    ) -> None:
        self.leaks = leaks
        """Of one that was just computed: values that would not be there at prediction time, as far as can be told."""
        self.meta = meta
        """Everything that is known of it: pinned versions, spine, split, code hashes, libraries."""
        self._parts = parts
        self._prepared = prepared
        """What its transformations learned; one per fold, where it is folded."""

    @property
    def view(self) -> str:
        """The feature view."""
        return self.meta.view

    @property
    def version(self) -> int:
        """Its number, counted per view from 1."""
        return self.meta.version

    @property
    def name(self) -> str:
        """As it is pinned: `churn#3`."""
        return f"{self.view}#{self.version}"

    @property
    def part_names(self) -> tuple[str, ...]:
        """The parts, in order; `all` where it is not split."""
        return tuple(part.name for part in self.meta.parts)

    @property
    def split(self) -> Split | None:
        """How it was divided; None where it was not."""
        return None if self.meta.split is None else split_from_data(self.meta.split)

    @property
    def folds(self) -> int:
        """How many folds it has; zero where it is not folded."""
        split = self.split
        return split.k if isinstance(split, KFold) else 0

    @property
    def schema(self) -> Schema:
        """The stored columns."""
        return self.meta.schema

    @property
    def event_time(self) -> str:
        """The event-time column."""
        return self._with_role("event_time")[0]

    @property
    def features(self) -> tuple[str, ...]:
        """The columns that a model takes."""
        return self._with_role("feature")

    @property
    def labels(self) -> tuple[str, ...]:
        """The columns that a model predicts."""
        return self._with_role("label")

    def __len__(self) -> int:
        return sum(part.rows for part in self.meta.parts)

    def __repr__(self) -> str:
        sizes = ", ".join(f"{part.name} {part.rows}" for part in self.meta.parts)
        return f"TrainingDataset({self.name}: {sizes} rows, {len(self.features)} features)"

    def read(self, part: str | None = None, columns: Sequence[str] | None = None) -> Rows:
        """The rows of a part; of all parts one after another without.

        Raises:
            RequestError: no such part.
            UnknownFeatureError: no such column.
            CorruptStoreError: a file has other bytes than were written.
        """
        self._check_columns(columns)
        if part is not None:
            return self._parts.read(self._part(part), columns)
        read = [self._parts.read(name, columns) for name in self.part_names]
        if len(read) == 1:
            return read[0]
        import pyarrow as pa

        return Rows(arrow=pa.concat_tables([rows.arrow for rows in read]))

    def to_polars(self, part: str | None = None) -> pl.DataFrame:
        """`read` as a Polars DataFrame."""
        return self.read(part).polars

    def to_pandas(self, part: str | None = None) -> Any:
        """`read` as a pandas DataFrame."""
        return self.read(part).pandas

    def to_arrow(self, part: str | None = None) -> pa.Table:
        """`read` as an Arrow table."""
        return self.read(part).arrow

    def xy(self, part: str | None = None, *, frame: Frame = "pandas") -> tuple[Any, Any]:
        """Features and labels, as scikit-learn and its kin take them.

        Shape:
            X has one column per feature. y is one column where there is one label, else a frame of them. Rows are in
            the same order.

        Raises:
            UnsupportedError: the view has no labels.
        """
        rows = self.read(part)
        return self._xy(rows, frame)

    def fold(self, number: int, *, frame: Frame = "pandas") -> tuple[Any, Any, Any, Any]:
        """X and y to train on, then X and y to validate on, of one fold.

        What transformations learn, they learn from the rows trained on alone, fold by fold.

        Raises:
            UnsupportedError: it has no folds.
            RequestError: no fold of this number; they count from 0.
        """
        split = self.split
        if not isinstance(split, KFold):
            raise UnsupportedError(f"training dataset {self.name} has no folds", try_="split=gr.KFold(5)")
        fold = split.fold(number)
        held = self._parts.read(fold.validation, None).arrow
        trained = fold_training_rows(split, number, lambda name: self._parts.read(name, None).arrow, self.event_time)
        if self._prepared:
            learned = self._prepared[number]
            trained, held = (with_prepared(table, self.meta.roles, learned) for table in (trained, held))
        return *self._xy(Rows(arrow=trained), frame), *self._xy(Rows(arrow=held), frame)

    def batches(
        self, part: str | None = None, *, size: int = 1024, columns: Sequence[str] | None = None
    ) -> Iterator[dict[str, NDArray[Any]]]:
        """NumPy arrays by column, `size` rows at a time; the last batch may be smaller. Memory stays bounded.

        A column has one type in all batches: integers and booleans with a null anywhere are floats with NaN.

        `tf.data.Dataset.from_generator(lambda: dataset.batches("train"), ...)` and an iterable dataset of PyTorch
        take it as it is.

        Raises:
            RequestError: no such part, or a size below one.
        """
        if size < 1:
            raise RequestError(f"size must be at least 1, got {size}")
        self._check_columns(columns)
        wanted = [*self.features, *self.labels] if columns is None else list(columns)
        names = self.part_names if part is None else (self._part(part),)
        gaps = {column for column in wanted if self._has_gaps(column, names)}
        for name in names:
            for batch in self._parts.batches(name, wanted, size):
                yield {column: array_of(batch.column(column), gaps=column in gaps) for column in wanted}

    def _has_gaps(self, column: str, names: Sequence[str]) -> bool:
        """Whether an integer or boolean column has nulls, which then is of floats in every batch."""
        dtype = self.schema[column]
        if not (dtype.is_integer or dtype.kind == "boolean"):
            return False
        return any(self._parts.read(name, [column]).arrow.column(0).null_count for name in names)

    def samples(self, part: str | None = None) -> Samples:
        """The part as a sequence of (features, label): what `torch.utils.data.DataLoader` takes. Features are one
        float32 array a row.

        Raises:
            ColumnTypeError: a feature that is no number: encode it in the view's transformations.
        """
        x, y = self.xy(part, frame="numpy")
        return Samples(x, y)

    def statistics(self, part: str | None = None) -> Mapping[str, Any]:
        """What was kept of its columns' statistics, by part: as they were before transformations.

        Raises:
            RequestError: no such part.
        """
        kept = self.meta.statistics or {}
        return kept if part is None else kept.get(self._part(part), {})

    def _xy(self, rows: Rows, frame: Frame) -> tuple[Any, Any]:
        if frame not in get_args(Frame):
            raise RequestError(f"there is no frame {frame!r}", found=", ".join(get_args(Frame)))
        if not self.labels:
            raise UnsupportedError(
                f"training dataset {self.name} has no labels, so there is no y",
                try_="FeatureView(..., labels=[...]), and another training dataset",
            )
        x, y = rows.select(self._features_of(rows)), rows.select(self.labels)
        one = len(self.labels) == 1
        match frame:
            case "polars":
                return x.polars, y.polars.to_series() if one else y.polars
            case "pandas":
                return x.pandas, y.pandas.iloc[:, 0] if one else y.pandas
            case "arrow":
                return x.arrow, y.arrow.column(0) if one else y.arrow
            case "numpy":
                return matrix(x), array_of(y.arrow.column(0)) if one else matrix(y, what="label")
            case _:
                assert_never(frame)

    def _features_of(self, rows: Rows) -> list[str]:
        """The features of rows, those that a fold's transformations made among them: all but what has another role."""
        return [name for name in rows.column_names if self.meta.roles.get(name, "feature") == "feature"]

    def _with_role(self, role: str) -> tuple[str, ...]:
        return tuple(name for name in self.schema.names if self.meta.roles.get(name) == role)

    def _part(self, name: str) -> str:
        if name in self.part_names:
            return name
        raise RequestError(
            f"training dataset {self.name} has no part {name!r}",
            found=", ".join(self.part_names),
            closest=closest_names(name, self.part_names),
        )

    def _check_columns(self, columns: Sequence[str] | None) -> None:
        for name in columns or ():
            if name not in self.schema:
                raise UnknownFeatureError(
                    f"training dataset {self.name} has no column {name!r}",
                    found=", ".join(self.schema.names),
                    closest=closest_names(name, self.schema.names),
                )


def fold_training_rows(split: KFold, number: int, read: Callable[[str], pa.Table], event_time: str) -> pa.Table:
    """The rows that a fold trains on: those of its training parts, less those in the gap before its validation."""
    import pyarrow as pa
    import pyarrow.compute as pc

    fold = split.fold(number)
    rows = pa.concat_tables([read(name) for name in fold.train])
    if not split.gap:
        return rows
    start = pc.min(read(fold.validation).column(event_time))
    if not start.is_valid:
        return rows
    last = pc.subtract(start, pa.scalar(timedelta_of(split.gap), pa.duration("us")))
    return rows.filter(pc.less(rows.column(event_time), last))


def with_prepared(table: pa.Table, roles: Mapping[str, str], prepared: Prepared) -> pa.Table:
    """A table with its features prepared, where they stood; other columns as they are.

    Raises:
        NameCollisionError: a transformation makes a column of the name of one that is no feature.
    """
    import pyarrow as pa

    features = [name for name in table.column_names if roles.get(name) == "feature"]
    check_names(prepared.outputs.names, roles)
    done = prepared.apply_table(table.select(features))
    first = table.column_names.index(features[0])
    before = [name for name in table.column_names[:first] if name not in features]
    after = [name for name in table.column_names[first:] if name not in features]
    columns = {name: table.column(name) for name in before}
    columns |= {name: done.column(name) for name in done.column_names}
    return pa.table(columns | {name: table.column(name) for name in after})


def check_names(made: Iterable[str], roles: Mapping[str, str]) -> None:
    """That transformations make no column of the name of a key, time, label, request or helper column.

    Raises:
        NameCollisionError: names it.
    """
    for name in made:
        if roles.get(name, "feature") != "feature":
            raise NameCollisionError(
                f"a transformation would make a column {name!r}, which is there already",
                found=f"{name!r} is a {roles[name].replace('_', ' ')} column",
                try_="give the step another name: outputs=[...]",
            )


class Samples:
    """Rows one by one, by position: `(features, label)`."""

    __slots__ = ("_x", "_y")

    def __init__(self, x: NDArray[Any], y: NDArray[Any]) -> None:
        import numpy as np

        self._x = x.astype(np.float32, copy=False)
        self._y = y

    def __len__(self) -> int:
        return len(self._x)

    def __getitem__(self, place: int) -> tuple[NDArray[np.float32], Any]:
        return self._x[place], self._y[place]


def matrix(rows: Rows, *, what: str = "feature") -> NDArray[Any]:
    """Numeric columns side by side as float64; null is NaN.

    Raises:
        ColumnTypeError: a column that is no number.
    """
    import numpy as np

    from grange.errors import ColumnTypeError
    from grange.types.arrow import from_arrow_type

    columns = []
    for name in rows.column_names:
        values = rows.arrow.column(name)
        dtype = from_arrow_type(values.type)
        if dtype is None or not (dtype.is_integer or dtype.is_float or dtype.kind in ("boolean", "decimal")):
            encode = f"gr.one_hot_encoder({name!r}) in the view's transformations, or " if what == "feature" else ""
            raise ColumnTypeError(
                f"{what} {name!r} is {dtype}, and an array of numbers cannot hold it",
                try_=f"{encode}frame='pandas'",
            )
        columns.append(array_of(values.cast("float64")))
    return np.column_stack(columns) if columns else np.empty((len(rows), 0))


def array_of(values: Any, *, gaps: bool | None = None) -> NDArray[Any]:
    """An Arrow column as a NumPy array: numbers and booleans with nulls as floats with NaN, other nulls as None.

    Args:
        values: the column.
        gaps: whether it is to be of floats as if it had nulls; by its own nulls without.
    """
    import pyarrow as pa

    with_nan = bool(values.null_count) if gaps is None else gaps
    if with_nan and pa.types.is_boolean(values.type):
        values = values.cast("uint8")
    if with_nan and pa.types.is_integer(values.type):
        values = values.cast("float64", safe=False)
    array: NDArray[Any] = values.to_numpy() if hasattr(values, "chunks") else values.to_numpy(zero_copy_only=False)
    return array


def need_columns(rows: Rows, names: Sequence[str], *, what: str) -> None:
    """Check that rows have columns.

    Raises:
        MissingColumnError: names the first that they lack.
    """
    for name in names:
        if name not in rows.column_names:
            raise MissingColumnError(
                f"{what} lacks the column {name!r}",
                found=", ".join(rows.column_names),
                closest=closest_names(name, rows.column_names),
            )
