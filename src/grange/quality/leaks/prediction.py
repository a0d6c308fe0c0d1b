"""Features that predict a label alone (LEAK-104).

A column becomes integers in its values' order, sorted once; every measure is then counting, without another sort.
Neighbours in a feature's order are what all but the simplest measures look at: where neighbours agree about the label,
the feature tells it, whatever the shape of the relation.

Features are first measured on a few thousand rows, with as many of each class of the label. Only those that come near
a threshold there, or that are too rarely known to tell, are measured on all.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from grange.quality.leaks.leak import Leak

if TYPE_CHECKING:
    import polars as pl

    from grange.quality.leaks.training import Training

FEWEST: Final = 50
"""Rows where feature and label are known; fewer can agree by chance."""
RAREST: Final = 5
"""Rows that a value of the label needs, and that must have another one."""
CLASSES: Final = 20
"""A number with at most so many values is looked at as classes, too."""
THRESHOLDS: Final[Mapping[str, float]] = {
    "auc": 0.995, "spearman": 0.995, "tau": 0.98, "equal": 0.98, "missing": 0.995,
}  # fmt: skip
"""By kind of measure, the score that real predictors do not reach."""
_NAMES: Final = {"auc": "AUC", "spearman": "rank correlation", "tau": "Goodman-Kruskal tau", "equal": "kappa"}
SCREEN: Final = 5_000
"""Rows of the first look."""
SLACK: Final[Mapping[str, float]] = {"auc": 0.01, "spearman": 0.01, "tau": 0.08, "equal": 0.08, "missing": 0.01}
"""How far below its threshold a score of the first look may be."""
_NUMPY: Final = (*(f"{kind}{bits}" for kind in ("Int", "UInt") for bits in (8, 16, 32, 64)), "Float32", "Float64")
"""Polars' number types that NumPy has too."""
PERSISTENCE: Final = 5.0
"""How many times closer to perfect than the label's own previous value a feature must be."""

Ints = npt.NDArray[np.int64]
_NO_ORDER: Final = np.empty(0, np.int64)
Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Column:
    """A column as integers.

    Shape:
        `codes` has one element per row: the rank of its value among the distinct ones, -1 where it is missing (null or
        NaN). `order` has the rows that are not missing by their codes, those of one code in the order they came.
    """

    codes: Ints
    order: Ints
    ordered: bool
    """Whether the values have an order that means something: numbers, times, booleans. Not texts."""
    hashes: npt.NDArray[np.uint64] | None = None
    """Of texts: equal texts of two columns have equal ones. 0 where the text is missing."""

    @cached_property
    def distinct(self) -> int:
        """How many values there are."""
        return int(self.codes.max(initial=-1)) + 1


@dataclass(frozen=True, slots=True)
class Measure:
    """How close a feature comes to telling a label."""

    kind: str
    """`auc`, `spearman`, `tau`, `equal` or `missing`."""
    score: float
    """1 is perfect, 0 is no better than chance (AUC: 0.5)."""
    rows: int
    """Where feature and label are known."""
    ceiling: float
    """What the score could be on more rows, where every text would have company."""

    @property
    def too_good(self) -> bool:
        """Whether real predictors do not reach this."""
        return self.score >= THRESHOLDS[self.kind]

    @property
    def near(self) -> bool:
        """Whether a first look does not rule out that it is too good."""
        return self.ceiling >= THRESHOLDS[self.kind] - SLACK[self.kind]

    def gain(self, baseline: Mapping[str, float]) -> float:
        """How many times closer to perfect than the baseline's score of the same kind; 0 where both are perfect."""
        left, before = 1 - self.score, 1 - baseline.get(self.kind, 0.0)
        return before / left if left > 0 else math.inf if before > 0 else 0.0

    def __str__(self) -> str:
        if self.kind == "missing":
            return f"it is missing where the label has one value, and only there, in {self.score:.2%}"
        return f"{_NAMES[self.kind]} {self.score:.4f}"


def check_prediction(training: Training, rows: Ints, groups: Mapping[str, str]) -> Iterator[Leak]:
    """LEAK-104, for each label and feature.

    Args:
        training: the joined rows.
        rows: those to look at, in random order.
        groups: by output column, the feature group.
    """
    if not training.labels.width or len(rows) < FEWEST:
        return
    entities = _entities(training.keys, len(training.times))
    previous: Ints | None = None
    encoded: dict[str, Column] = {}
    for series in training.labels.get_columns():
        label = encode(series.gather(rows))
        known, changes = _independent(label, entities[rows])
        if label.distinct < 2 or np.count_nonzero(known) < FEWEST:
            continue
        baseline: dict[str, float] | None = None if changes else {}
        for name in _candidates(training.features, rows, label, known):
            if name not in encoded:
                encoded[name] = encode(training.features.get_column(name).gather(rows))
            found = [measure for measure in measures(encoded[name], label, known) if measure.too_good]
            if found and baseline is None:
                previous = _previous(training.times, entities) if previous is None else previous
                before = encode(_gather(series, previous[rows]))
                baseline = {measure.kind: measure.score for measure in measures(before, label, known)}
            best = max(found, key=lambda item: item.gain(baseline or {}), default=None)
            if best is not None and best.gain(baseline or {}) > PERSISTENCE:
                yield _leak(name, groups.get(name), series.name, best, int(np.count_nonzero(known)))


def _candidates(features: pl.DataFrame, rows: Ints, label: Column, known: Mask) -> Iterator[str]:
    """The features that a first look does not rule out."""
    screen = _screen(label, known)
    part = Column(label.codes[screen], _NO_ORDER, label.ordered, None if label.hashes is None else label.hashes[screen])
    everything = np.ones(len(screen), np.bool_)
    for series in features.get_columns():
        feature = encode(series.gather(rows[screen]))
        found = list(measures(feature, part, everything))
        few = np.count_nonzero(feature.codes >= 0) < 2 * FEWEST or all(item.kind == "missing" for item in found)
        if few or any(measure.near for measure in found):
            yield series.name


def _screen(label: Column, known: Mask) -> Ints:
    """Rows for a first look: as many of each class, so that rare ones are there. Rows come in random order."""
    if label.distinct > CLASSES:
        return np.flatnonzero(known)[:SCREEN]
    by_class = label.order[known[label.order]]
    counts = np.bincount(label.codes[by_class])
    place = np.arange(len(by_class)) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.sort(by_class[place < SCREEN // label.distinct])


def _leak(feature: str, group: str | None, label: str, measure: Measure, of: int) -> Leak:
    return Leak(
        "LEAK-104",
        "warning",
        f"feature {feature!r} predicts label {label!r} alone: {measure} of {measure.rows:,} rows",
        group=group,
        features=(feature,),
        label=label,
        rows=measure.rows,
        of=of,
    )


def encode(series: pl.Series) -> Column:
    """A column as integers. Texts that all read as numbers are numbers; lists and structs are only missing or not."""
    import polars as pl

    dtype = series.dtype
    if dtype.is_nested() or dtype in (pl.Object, pl.Null):
        return _coded(np.zeros(len(series), np.int8), series.is_not_null().to_numpy(), ordered=False)
    if dtype in (pl.Categorical, pl.Enum):
        series = series.cast(pl.String)
    if series.dtype == pl.String:
        numbers = series.cast(pl.Float64, strict=False)
        if numbers.null_count() > series.null_count():
            return _texts(series)
        series = numbers
    if series.dtype == pl.Binary:
        return _texts(series)
    if series.dtype.is_temporal():
        series = series.to_physical()
    elif series.dtype == pl.Boolean:
        series = series.cast(pl.Int8)
    elif str(series.dtype) not in _NUMPY:
        series = series.cast(pl.Float64)
    known = series.is_not_null()
    if series.dtype.is_float():
        known &= series.is_not_nan().fill_null(False)
    return _coded(series.fill_null(0).to_numpy(), known.to_numpy(), ordered=True)


def _texts(series: pl.Series) -> Column:
    hashes = series.hash().to_numpy()
    missing = series.is_null().to_numpy()
    column = _coded(hashes, ~missing, ordered=False)
    return replace(column, hashes=np.where(missing, np.uint64(0), hashes))


def _coded(values: npt.NDArray[Any], known: Mask, *, ordered: bool) -> Column:
    rows = np.flatnonzero(known)
    there = values[rows]
    by_value = np.argsort(there, kind="stable")
    order, ascending = rows[by_value], there[by_value]
    codes = np.full(len(values), -1, np.int64)
    if len(order):
        codes[order] = np.cumsum(np.concatenate([[False], ascending[1:] != ascending[:-1]]))
    return Column(codes, order, ordered)


def measures(feature: Column, label: Column, known: Mask) -> Iterator[Measure]:
    """What a feature tells of a label, over the rows of `known` (where the label is).

    Raises nothing: what cannot be measured, for too few rows or values, is left out.
    """
    yield from _missing(feature, label, known)
    rows = feature.order[known[feature.order]]
    if len(rows) < FEWEST:
        return
    values, truth = feature.codes[rows], label.codes[rows]
    counts = np.bincount(truth)
    if values[0] == values[-1] or len(rows) - counts.max() < RAREST:
        return
    places = _midranks(truth, counts)
    if feature.hashes is not None and label.hashes is not None:
        yield _measure("equal", _equality(feature.hashes[rows], label.hashes[rows], counts), len(rows))
    if feature.ordered and label.distinct == 2:
        yield _measure("auc", _auc(_midranks(values, np.bincount(values)), truth == 1), len(rows))
    elif feature.ordered and label.ordered:
        yield _measure("spearman", _correlation(_midranks(values, np.bincount(values)), places), len(rows))
    if label.distinct <= CLASSES or not label.ordered:
        disagreement, chance, least = _disagreement(truth, counts)
    else:
        disagreement, chance, least = _distance(places, counts)
    if feature.ordered:
        excess = (float(disagreement.sum()) - least) / (len(rows) - 1)
        yield _measure("tau", 1 - excess / chance, len(rows))
    else:
        yield _within(values, disagreement, chance)


def _measure(kind: str, score: float, rows: int) -> Measure:
    return Measure(kind, score, rows, score)


def _midranks(codes: Ints, counts: Ints) -> Floats:
    """Ranks from 0, those of equal codes their mean."""
    middles: Floats = np.cumsum(counts) - (counts + 1) / 2
    return middles[codes]


def _auc(ranks: Floats, positive: Mask) -> float:
    """How often a positive ranks above a negative, ties half; or below, whichever is more often."""
    positives = int(np.count_nonzero(positive))
    negatives = len(ranks) - positives
    above = (float(ranks[positive].sum()) - positives * (positives - 1) / 2) / (positives * negatives)
    return max(above, 1 - above)


def _correlation(left: Floats, right: Floats) -> float:
    """Pearson's of two arrays that are not constant, without its sign."""
    left, right = left - left.mean(), right - right.mean()
    return abs(float(left @ right)) / math.sqrt(float(left @ left) * float(right @ right))


def _equality(left: npt.NDArray[np.uint64], right: npt.NDArray[np.uint64], counts: Ints) -> float:
    """The share of equal values beyond what the most frequent one gives away."""
    commonest = float(counts.max()) / len(left)
    return (float((left == right).mean()) - commonest) / (1 - commonest)


def _disagreement(truth: Ints, counts: Ints) -> tuple[Floats, float, float]:
    """Of a label's classes: whether each row disagrees with the next, the chance that any two rows do, and how often
    neighbours have to: n classes in a row are n-1 changes."""
    rows = len(truth)
    differ = (truth[1:] != truth[:-1]).astype(np.float64)
    chance = 1 - float((counts * (counts - 1.0)).sum()) / (rows * (rows - 1.0))
    return differ, chance, float(np.count_nonzero(counts) - 1)


def _distance(places: Floats, counts: Ints) -> tuple[Floats, float, float]:
    """As `_disagreement` for a label that is a number: how far apart in rank, for any two rows on average, and at
    least on the way from the first rank to the last. Between neighbours this is Chatterjee's correlation, on a scale
    where a monotone relation has 1."""
    rows = len(places)
    ascending = np.repeat(np.cumsum(counts) - (counts + 1) / 2, counts)
    chance = 2 * float(ascending @ (2 * np.arange(rows) - rows + 1.0)) / (rows * (rows - 1.0))
    return np.abs(np.diff(places)), chance, float(ascending[-1] - ascending[0])


def _within(values: Ints, disagreement: Floats, chance: float) -> Measure:
    """How much less rows of one text disagree about the label than any two rows do: Goodman and Kruskal's tau, without
    bias for rare texts, as a row alone with its text disagrees like any two. `values` ascend.
    """
    same = values[1:] == values[:-1]
    pairs = int(np.count_nonzero(same))
    if pairs < FEWEST:
        return Measure("tau", 0.0, len(values), ceiling=1.0)
    alone = int(np.count_nonzero(np.bincount(values) == 1)) / len(values)
    score = 1 - float(disagreement[same].sum()) / (pairs * chance)
    return Measure("tau", (1 - alone) * score, len(values), ceiling=score)


def _missing(feature: Column, label: Column, known: Mask) -> Iterator[Measure]:
    """How well the feature's being missing tells one value of the label, as an AUC."""
    rows = int(np.count_nonzero(known))
    missing = feature.codes[known] < 0
    gone = int(np.count_nonzero(missing))
    if rows < FEWEST or min(gone, rows - gone) < RAREST:
        return
    truth = label.codes[known]
    of = np.bincount(truth)
    without = np.bincount(truth[missing], minlength=len(of))
    usual = (of >= RAREST) & (rows - of >= RAREST)
    if label.distinct > CLASSES:
        usual &= of >= rows / CLASSES  # of a number, a value as common as a class
    if usual.any():
        apart = np.abs(without[usual] / of[usual] - (gone - without[usual]) / (rows - of[usual]))
        yield _measure("missing", 0.5 + float(apart.max()) / 2, rows)


def _entities(keys: pl.DataFrame, rows: int) -> npt.NDArray[np.uint64]:
    """One number per entity key; one for all rows where there are no keys."""
    return keys.hash_rows().to_numpy() if keys.width else np.zeros(rows, np.uint64)


def _independent(label: Column, entities: npt.NDArray[np.uint64]) -> tuple[Mask, bool]:
    """The rows that tell something of a label, and whether it changes within entities.

    A label that never does is one fact per entity: its rows are no further evidence, and one of them is taken.
    """
    known = label.codes >= 0
    rows = np.flatnonzero(known)
    _, first, entity = np.unique(entities[rows], return_index=True, return_inverse=True)
    codes = label.codes[rows]
    if len(first) == len(rows) or len(first) < 2 or (codes != codes[first][entity]).any():
        return known, True
    once = np.zeros(len(known), np.bool_)
    once[rows[first]] = True
    return once, False


def _previous(times: pl.Series, entities: npt.NDArray[np.uint64]) -> Ints:
    """Per row, a row of the same entity at the latest time before its own; -1 where there is none."""
    micros = times.to_physical().to_numpy() if not times.null_count() else times.to_physical().fill_null(-1).to_numpy()
    order = np.lexsort((micros, entities))
    entity, time = entities[order], micros[order]
    starts = np.concatenate([[True], (entity[1:] != entity[:-1]) | (time[1:] != time[:-1])])
    places = np.arange(len(order))
    before = np.maximum.accumulate(np.where(starts, places, 0)) - 1
    same = (before >= 0) & (entity[before] == entity)
    previous = np.full(len(order), -1, np.int64)
    previous[order] = np.where(same, order[before], -1)
    return previous


def _gather(series: pl.Series, rows: Ints) -> pl.Series:
    """The values of rows, null for -1."""
    import polars as pl

    return series.gather(pl.Series(rows).set(pl.Series(rows < 0), None))


__all__ = ["Column", "Measure", "check_prediction", "encode", "measures"]
