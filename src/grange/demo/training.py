"""The demo's training: the spine, a model where scikit-learn is installed, and the leak that it is spared."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import polars as pl

from grange.frames import require

NOTICE: Final = dt.timedelta(hours=1)
"""How long before its scheduled departure a flight is predicted."""
LATE_MINUTES: Final = 30
"""A flight is late when it arrives more than so many minutes after its time."""
TEST_FROM: Final = dt.datetime(2013, 10, 1, tzinfo=dt.UTC)
"""The model learns from flights before and is tested on those from here on."""
KEYS: Final = ("carrier", "flight", "tailnum", "origin", "dest")
"""The columns of a flight that name entities."""
TIMETABLE: Final = ("distance", "hour")
"""The columns that a request brings itself."""
TIME: Final = "predict_at"
LABEL: Final = "late"
CATEGORIES: Final = ("carrier", "origin", "dest", "engine")
"""Columns that the model takes as categories."""


def make_spine(flights: pl.DataFrame, *, now: dt.datetime | None = None) -> pl.DataFrame:
    """Flights to learn from: who flew, when it is to be predicted, and what came of it.

    Shape:
        A row per flight that was predicted before `now`; all flights without it. `late` is null where the flight
        had not arrived by `now`, or never did.
    Time:
        `predict_at` is the scheduled departure less `NOTICE`.
    """
    predicted = flights.with_columns((pl.col("scheduled_departure") - NOTICE).alias(TIME))
    outcome = pl.col("arr_delay") > LATE_MINUTES
    if now is not None:
        predicted = predicted.filter(pl.col(TIME) < now)
        outcome = pl.when(pl.col("arrived_at") < now).then(outcome)
    return predicted.select(*KEYS, *TIMETABLE, "scheduled_departure", TIME, outcome.alias(LABEL))


@dataclass(frozen=True, slots=True)
class Outcomes:
    """Features made of past flights, as a naive join would find them."""

    keys: tuple[str, ...]
    known: str
    """When they became known."""
    columns: Mapping[str, str]
    """By feature, the flights' column."""


PAST_FLIGHTS: Final = (
    Outcomes(("origin",), "departed_at", {"airport_dep_delay": "dep_delay"}),
    Outcomes(("carrier",), "arrived_at", {"carrier_arr_delay": "arr_delay"}),
    Outcomes(
        ("tailnum",),
        "arrived_at",
        {"plane_dep_delay": "dep_delay", "plane_arr_delay": "arr_delay", "plane_air_time": "air_time"},
    ),
    Outcomes(("carrier", "flight"), "arrived_at", {"flight_arr_delay": "arr_delay"}),
)


def with_leak(train: pl.DataFrame, flights: pl.DataFrame) -> tuple[pl.DataFrame, int]:
    """The same training set with past flights dated by the timetable, as is easily done, and not by when they
    became known; and in how many of its rows that puts something that nobody knew yet.

    Joined by hand, without a feature store: the latest flight that was scheduled before the prediction.
    """
    leaked: list[pl.Series] = []
    unknown = pl.Series([False]).new_from_index(0, train.height)
    for outcomes in PAST_FLIGHTS:
        past = flights.filter(pl.col(outcomes.known).is_not_null()).select(
            *outcomes.keys,
            "scheduled_departure",
            pl.col(outcomes.known).alias("known_at"),
            **{name: pl.col(column) for name, column in outcomes.columns.items()},
        )
        asked = train.select(*outcomes.keys, TIME).with_row_index("row")
        joined = (
            asked.sort(TIME)
            .join_asof(
                past.sort("scheduled_departure"),
                left_on=TIME,
                right_on="scheduled_departure",
                by=list(outcomes.keys),
                check_sortedness=False,  # both are sorted; Polars cannot tell within groups
            )
            .sort("row")
        )
        unknown |= (joined["known_at"] > joined[TIME]).fill_null(False)
        leaked += joined.select(*outcomes.columns).get_columns()
    return train.with_columns(leaked), int(unknown.sum())


@dataclass(frozen=True, slots=True)
class Score:
    """How well a model tells late flights, on flights it has not seen."""

    auc: float
    """How often a late flight is ranked above one that is not."""
    average_precision: float

    def to_dict(self) -> dict[str, float]:
        """For JSON."""
        return {"auc": round(self.auc, 4), "average_precision": round(self.average_precision, 4)}


@dataclass(frozen=True, slots=True)
class Model:
    """A trained classifier with how columns become its inputs."""

    classifier: Any
    numbers: tuple[str, ...]
    codes: Mapping[str, Mapping[str, int]]
    """By category, the codes of the values that were learned; others are as good as missing."""

    def probabilities(self, frame: pl.DataFrame) -> np.ndarray[Any, np.dtype[np.float64]]:
        """How likely each row's flight is late."""
        with _one_thread():
            found: np.ndarray[Any, np.dtype[np.float64]] = self.classifier.predict_proba(
                _matrix(frame, self.numbers, self.codes)
            )[:, 1]
        return found

    def score(self, frame: pl.DataFrame) -> Score:
        """The score on rows with a label."""
        metrics = require("sklearn.metrics", extra="sklearn")
        labels, guessed = frame[LABEL].to_numpy(), self.probabilities(frame)
        return Score(
            float(metrics.roc_auc_score(labels, guessed)), float(metrics.average_precision_score(labels, guessed))
        )


def split(train: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The rows with a label before `TEST_FROM`, and those from there on: a model is tested on its future."""
    labelled = train.filter(pl.col(LABEL).is_not_null())
    early = pl.col(TIME) < TEST_FROM
    return labelled.filter(early), labelled.filter(~early)


def fit(frame: pl.DataFrame, features: Sequence[str]) -> Model:
    """Train on rows with a label. Nulls go in as they are: the trees learn what a missing value means.

    Args:
        frame: the training rows.
        features: the view's features; those that are numbers are taken, and the timetable's.

    Raises:
        MissingDependencyError: scikit-learn is not installed; carries the command.
    """
    ensemble = require("sklearn.ensemble", extra="sklearn")
    numbers = tuple(name for name in (*TIMETABLE, *features) if frame.schema[name].is_numeric())
    codes = {
        name: {value: code for code, value in enumerate(frame[name].drop_nulls().unique().sort())}
        for name in CATEGORIES
    }
    classifier = ensemble.HistGradientBoostingClassifier(
        max_iter=50,
        learning_rate=0.15,
        max_leaf_nodes=15,
        categorical_features=list(range(len(CATEGORIES))),
        early_stopping=False,
        random_state=2013,
    )
    with _one_thread():
        classifier.fit(_matrix(frame, numbers, codes), frame[LABEL].to_numpy())
    return Model(classifier, numbers, codes)


def _one_thread() -> AbstractContextManager[Any]:
    """Keep trees on one thread: theirs wait for each other by spinning, and on a busy machine two take far longer."""
    limits: AbstractContextManager[Any] = require("threadpoolctl", extra="sklearn").threadpool_limits(1)
    return limits


def _matrix(
    frame: pl.DataFrame, numbers: Sequence[str], codes: Mapping[str, Mapping[str, int]]
) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Rows x (categories, then numbers); missing is NaN."""
    columns = [
        pl.col(name).replace_strict(dict(known), default=None, return_dtype=pl.Float32) for name, known in codes.items()
    ]
    columns += [pl.col(name).cast(pl.Float32) for name in numbers]
    return frame.select(columns).fill_null(float("nan")).to_numpy()
