"""Profiles: the statistics of all columns of some rows, and what is needed to merge them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from grange.errors import RequestError, UnknownFeatureError, closest_names
from grange.frames import Rows
from grange.quality.statistics.column import ColumnStatistics
from grange.quality.statistics.correlations import Correlations
from grange.quality.statistics.describe import Described, Wanted, describe
from grange.quality.statistics.merge import merge_columns
from grange.quality.statistics.summary import Summary

if TYPE_CHECKING:
    import polars as pl

BINS: Final = 20
"""Bins of a histogram, unless another number is asked for."""
TOP: Final = 10
"""How many of the most frequent values are named, unless another number is asked for."""
MEMORY: Final = 512 << 20
"""Bytes of batches that are held and described together, unless another number is asked for."""

_LAYOUT: Final = 1
"""Of what `to_data` writes."""
_THREADS: Final = 4
"""At most: each sorts a copy of its column."""
_FEW: Final = 100_000
"""Values that one thread describes before others would have started."""


@dataclass(frozen=True, slots=True)
class Profile:
    """Statistics of the columns of some rows."""

    rows: int
    columns: tuple[ColumnStatistics, ...]
    correlations: Correlations | None = None
    """Of the columns of numbers, if they were asked for."""
    summaries: tuple[Summary, ...] | None = None
    """What `merge` needs, by column; None unless it was asked for (`mergeable=True`)."""
    bins: int = BINS
    top: int = TOP

    @property
    def mergeable(self) -> bool:
        """Whether it can be merged."""
        return self.summaries is not None

    def column(self, name: str) -> ColumnStatistics:
        """The statistics of a column.

        Raises:
            UnknownFeatureError: no such column; carries the closest names.
        """
        for column in self.columns:
            if column.name == name:
                return column
        raise _unknown(name, [column.name for column in self.columns])

    def merge(self, other: Profile) -> Profile:
        """The profile of both parts' rows together, with this one's order of columns.

        Exact are counts (nulls, NaN, infinities, zeros, negatives, true, false), min, max, mean and std, lengths,
        elements and correlations. Percentiles, distinct, top and, where edges differ, histograms are estimates as soon
        as the summaries had to leave something out: then the column is `approximate`, and its `errors` say by how much.
        Correlations are kept when both have them.

        Raises:
            RequestError: a profile was made without `mergeable=True`, or with other numbers of bins or top values; the
                columns, or their types, are not the same.
        """
        mine, others = self._described(), other._described()
        if (self.bins, self.top) != (other.bins, other.top):
            raise RequestError(
                "profiles with different numbers of bins or top values do not merge",
                found=f"bins={self.bins}, top={self.top} and bins={other.bins}, top={other.top}",
            )
        if sorted(mine) != sorted(others):
            raise RequestError(
                "profiles of different columns do not merge",
                found=", ".join(sorted(set(mine) ^ set(others))) + " in one of them only",
                try_="profile the same columns: profile(rows, columns=[...], mergeable=True)",
            )
        wanted = Wanted(self.bins, self.top, mergeable=True)
        merged = [merge_columns(column, others[name], wanted) for name, column in mine.items()]
        correlated = self.correlations, other.correlations
        return Profile(
            self.rows + other.rows,
            tuple(column for column, _ in merged),
            correlated[0].merge(correlated[1]) if correlated[0] is not None and correlated[1] is not None else None,
            tuple(summary for _, summary in merged),
            self.bins,
            self.top,
        )

    def _described(self) -> dict[str, tuple[ColumnStatistics, Summary]]:
        if self.summaries is None:
            raise RequestError(
                "this profile was made without what merging needs", try_="make it with profile(rows, mergeable=True)"
            )
        return {column.name: (column, held) for column, held in zip(self.columns, self.summaries, strict=True)}

    def to_dict(self) -> dict[str, Any]:
        """For people and other programs, as JSON: the statistics, and the correlations as a matrix."""
        data: dict[str, Any] = {"rows": self.rows, "columns": [column.to_dict() for column in self.columns]}
        return data | ({"correlations": self.correlations.to_dict()} if self.correlations is not None else {})

    def to_data(self) -> dict[str, Any]:
        """Everything, as JSON, to be stored and merged later; `from_data` is the inverse."""
        data: dict[str, Any] = {
            "layout": _LAYOUT,
            "rows": self.rows,
            "bins": self.bins,
            "top": self.top,
            "columns": [column.to_dict() for column in self.columns],
        }
        if self.correlations is not None:
            data["correlations"] = self.correlations.to_data()
        if self.summaries is not None:
            data["summaries"] = [summary.to_data() for summary in self.summaries]
        return data

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Profile:
        """The profile that `to_data` described.

        Raises:
            RequestError: written by a version of Grange whose profiles this one does not know.
        """
        if data.get("layout") != _LAYOUT:
            raise RequestError(
                "this stored profile has a layout that is not known here",
                found=f"layout {data.get('layout')!r}, known is {_LAYOUT}",
                try_="profile the rows again",
            )
        columns = tuple(ColumnStatistics.from_dict(column) for column in data["columns"])
        correlations = Correlations.from_data(data["correlations"]) if "correlations" in data else None
        summaries = None
        if "summaries" in data:
            pairs = zip(columns, data["summaries"], strict=True)
            summaries = tuple(Summary.from_data(column.dtype, summary) for column, summary in pairs)
        return cls(data["rows"], columns, correlations, summaries, data["bins"], data["top"])


def profile(
    rows: Rows | Iterable[Rows],
    columns: Sequence[str] | None = None,
    *,
    bins: int = BINS,
    top: int = TOP,
    correlations: bool = False,
    mergeable: bool = False,
    memory: int = MEMORY,
) -> Profile:
    """Describe rows, or batches of rows, in one pass.

    Args:
        rows: rows in memory, or batches of them, all with the same columns. Rows in memory are described exactly.
            Batches are too as long as all of them take no more than `memory`; else what was held so far is described
            and merged (`Profile.merge`), and the profile can be merged further.
        columns: which, in this order; all when None.
        bins: of a histogram.
        top: how many of the most frequent values to name.
        correlations: whether to correlate the columns of numbers.
        mergeable: whether to keep what `Profile.merge` needs.
        memory: bytes of batches to hold at once; a batch larger than that is held by itself.

    Raises:
        UnknownFeatureError: no such column; carries the closest names.
        RequestError: no batch at all; fewer than one bin; a negative number of top values; batches of which a column
            has two types.
    """
    if bins < 1 or top < 0:
        raise RequestError(
            "a histogram has one bin or more, and the top values are zero or more", found=f"bins={bins}, top={top}"
        )
    if isinstance(rows, Rows):
        frame = _selected(rows.polars, columns)
        return _profile(frame, Wanted(bins, top, mergeable), correlations=correlations)
    found: Profile | None = None
    for frames, last in _gathered(rows, columns, memory):
        wanted = Wanted(bins, top, mergeable or not last or found is not None)
        part = _profile(_together(frames), wanted, correlations=correlations)
        found = part if found is None else found.merge(part)
        frames.clear()  # before the next batches are fetched
    if found is None:
        raise RequestError("no batch of rows to describe", try_="hand in one without rows: it has the columns")
    return found


def statistics(
    rows: Rows, columns: Sequence[str] | None = None, *, bins: int = BINS, top: int = TOP
) -> tuple[ColumnStatistics, ...]:
    """Statistics of some columns, in the order asked for; of all when `columns` is None. See `profile`.

    Raises:
        UnknownFeatureError: no such column; carries the closest names.
        RequestError: fewer than one bin; a negative number of top values.
    """
    return profile(rows, columns, bins=bins, top=top).columns


def _profile(frame: pl.DataFrame, wanted: Wanted, *, correlations: bool) -> Profile:
    described = _describe_all(frame.get_columns(), wanted)
    return Profile(
        frame.height,
        tuple(column for column, _ in described),
        Correlations.of(frame) if correlations else None,
        tuple(summary for _, summary in described if summary is not None) if wanted.mergeable else None,
        wanted.bins,
        wanted.top,
    )


def _selected(frame: pl.DataFrame, columns: Sequence[str] | None) -> pl.DataFrame:
    if columns is None:
        return frame
    for name in columns:
        if name not in frame.columns:
            raise _unknown(name, frame.columns)
    return frame.select(columns)


def _describe_all(series: Sequence[pl.Series], wanted: Wanted) -> list[Described]:
    """Each column, several at a time where that pays: sorting and hashing let other threads run."""
    import polars as pl

    one = partial(describe, wanted=wanted)
    threads = min(_THREADS, pl.thread_pool_size(), len(series))
    if threads < 2 or sum(map(len, series)) < _FEW:
        return list(map(one, series))
    with ThreadPoolExecutor(threads, thread_name_prefix="statistics") as pool:
        return list(pool.map(one, series))


def _gathered(
    batches: Iterable[Rows], columns: Sequence[str] | None, memory: int
) -> Iterator[tuple[list[pl.DataFrame], bool]]:
    """Batches put together up to so many bytes, each list with whether it is the last."""
    held: list[pl.DataFrame] = []
    size = 0
    for batch in batches:
        frame = _selected(batch.polars, columns)
        more = int(frame.estimated_size())
        if held and size + more > memory:
            yield held, False
            held, size = [], 0
        held.append(frame)
        size += more
    if held:
        yield held, True


def _together(frames: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Batches as one frame, without copying. A column of nulls only goes with any type.

    Raises:
        RequestError: the batches have different columns, or a column of two types.
    """
    import polars as pl

    first = frames[0]
    types: dict[str, pl.DataType] = {}
    for frame in frames:
        if sorted(frame.columns) != sorted(first.columns):
            different = sorted(set(frame.columns) ^ set(first.columns))
            raise RequestError("batches of rows have different columns", found=", ".join(different) + " in some only")
        for name, dtype in frame.schema.items():
            if dtype != pl.Null and types.setdefault(name, dtype) != dtype:
                raise RequestError(
                    f"column {name!r} has two types, which have no statistics together",
                    found=f"{types[name]} and {dtype}",
                    try_="cast the batches to one type",
                )
    return pl.concat([frame.select(first.columns) for frame in frames], how="vertical_relaxed")


def _unknown(name: str, columns: Sequence[str]) -> UnknownFeatureError:
    return UnknownFeatureError(
        f"no column {name!r} to describe",
        found=", ".join(columns) or "no columns at all",
        closest=closest_names(name, columns),
    )


__all__ = ["BINS", "MEMORY", "TOP", "Profile", "profile", "statistics"]
