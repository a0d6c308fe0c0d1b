"""Statistics for people: tables that fit a terminal, histograms of text, pairs of columns that go together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

from grange.cli.output import Part, Table, cell, count, moment, plural

if TYPE_CHECKING:
    from grange.quality.statistics import ColumnStatistics, Correlations
    from grange.verbs.statistics import VersionStatistics

_NUMBERS: Final = ("name", "count", "nulls", "distinct", "mean", "std", "min", "p50", "max")
_OTHERS: Final = ("name", "dtype", "count", "nulls", "distinct", "values")
_PERCENTS: Final = (1, 5, 25, 50, 75, 95, 99)
_OF_TIMES: Final = (5, 25, 50, 75, 95)
"""Those that are shown of times, which are wider."""
_BARS: Final = 10
"""Bars of a histogram: of more bins, neighbours are put together."""
_BAR: Final = 30
"""Characters of the longest bar."""
_EIGHTHS: Final = " ▏▎▍▌▋▊▉"
_PAIRS: Final = 20
"""How many pairs of columns are shown."""


def statistics_parts(
    found: VersionStatistics, *, percentiles: bool, histogram: bool, correlations: bool
) -> Iterator[Part]:
    """A table of the numbers, one of everything else, since they have different things to tell, and what was asked for
    besides."""
    numbers = [column for column in found.columns if column.kind == "number"]
    others = [column for column in found.columns if column.kind != "number"]
    if numbers:
        yield _table([_number_row(column) for column in numbers], _NUMBERS)
    if numbers and others:
        yield ""
    if others:
        yield _table([_other_row(column) for column in others], _OTHERS)
    if percentiles:
        yield from _percentiles([column for column in found.columns if column.percentiles])
    if histogram:
        yield from _histograms(found.columns)
    if correlations and found.correlations is not None:
        yield from ("", _pairs(found.correlations))
    if found.pending:
        yield f"with {plural(found.pending, 'row')} pushed since version {found.version}"


def _table(rows: Sequence[Sequence[str]], headers: Sequence[str]) -> Table:
    right = frozenset(headers) - {"name", "dtype", "values"}
    return Table(headers, rows, right=right, spare=("std", "p50", "distinct", "dtype"))


def _number_row(column: ColumnStatistics) -> list[str]:
    values = (column.count, column.nulls, column.distinct, column.mean, column.std, column.min, column.p50, column.max)
    return [column.name, *map(_statistic, values)]


def _other_row(column: ColumnStatistics) -> list[str]:
    values = (column.dtype, column.count, column.nulls, column.distinct)
    return [column.name, *map(_statistic, values), _values(column)]


def _statistic(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.5g}" if isinstance(value, float) else cell(value)


def _values(column: ColumnStatistics) -> str:
    """What a column that is no number holds: its range, its most frequent values, or how much of it is true."""
    if column.min is not None:
        return f"{_day(column.min)} to {_day(column.max)}"
    if column.true is not None:
        return f"{column.true} true"
    if column.top:
        return ", ".join(f"{cell(value, limit=12)} ({often})" for value, often in column.top[:3])
    if column.max_length is not None:
        return f"{column.min_length} to {column.max_length} long"
    return ""


def _day(value: Any) -> str:
    return cell(value).partition("T")[0]


def _percentiles(columns: Sequence[ColumnStatistics]) -> Iterator[Part]:
    """Those of numbers and of times apart."""
    numbers = [column for column in columns if column.kind == "number"]
    times = [column for column in columns if column.kind != "number"]
    for chosen, percents in ((numbers, _PERCENTS), (times, _OF_TIMES)):
        if chosen:
            headers = ("name", *(f"p{percent}" for percent in percents))
            rows = [[column.name, *(_short(column.percentile(percent)) for percent in percents)] for column in chosen]
            yield ""
            yield Table(headers, rows, right=frozenset(headers[1:]), spare=("p1", "p99", "p25", "p75"))


def _short(value: Any) -> str:
    return _statistic(value) if isinstance(value, float) else _day(value)


def _histograms(columns: Iterable[ColumnStatistics]) -> Iterator[Part]:
    for column in columns:
        bars = list(_bars(column))
        if bars:
            yield from ("", f"{column.name}:", _bar_chart(bars))


def _bars(column: ColumnStatistics) -> Iterator[tuple[str, int]]:
    """What each bar is of, and how many rows it stands for."""
    if column.histogram is not None:
        edges, counts = column.histogram.edges, column.histogram.counts
        step = -(-len(counts) // _BARS)
        for start in range(0, len(counts), step):
            end = min(start + step, len(counts))
            low, high = _edge(edges[start]), _edge(edges[end])
            yield (low if low == high else f"{low} .. {high}"), sum(counts[start:end])
    elif column.top is not None:
        shown = column.top[:_BARS]
        yield from ((cell(value, limit=24), often) for value, often in shown)
        rest = column.values - sum(often for _, often in shown)
        if rest:
            yield "all others", rest


def _edge(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else moment(value)[:16]


def _bar_chart(bars: Sequence[tuple[str, int]]) -> Table:
    most = max(number for _, number in bars)
    rows = [(what, count(number), _bar(number / most if most else 0.0)) for what, number in bars]
    return Table(("", "", ""), rows)


def _bar(share: float) -> str:
    """A bar of a share of the longest; something for whatever is not nothing."""
    eighths = max(round(share * _BAR * 8), 1 if share else 0)
    return "█" * (eighths // 8) + _EIGHTHS[eighths % 8].strip()


def _pairs(found: Correlations) -> Table:
    """The pairs of columns that go together most."""
    matrix = found.matrix
    pairs = [
        (value, one, other)
        for row, one in enumerate(found.names)
        for column, other in enumerate(found.names[:row])
        if (value := matrix[row][column]) is not None
    ]
    pairs.sort(key=lambda pair: (-abs(pair[0]), pair[2], pair[1]))
    rows = [(other, one, f"{value:.3f}") for value, one, other in pairs[:_PAIRS]]
    return Table(
        ("column", "and", "correlation"), rows, right=frozenset({"correlation"}), empty="no two columns of numbers"
    )


def statistics_data(found: VersionStatistics, *, correlations: bool) -> list[dict[str, Any]]:
    """All statistics, a record per column; with `correlations` that with each other column of numbers."""
    data = [column.to_dict() for column in found.columns]
    if not correlations or found.correlations is None:
        return data
    rows = dict(zip(found.correlations.names, found.correlations.matrix, strict=True))
    names = found.correlations.names
    return [
        item | ({"correlations": dict(zip(names, rows[item["name"]], strict=True))} if item["name"] in rows else {})
        for item in data
    ]


__all__ = ["statistics_data", "statistics_parts"]
