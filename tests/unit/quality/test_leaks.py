"""The leak check: what it must find, what it must leave alone, and how often it may be wrong."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import grange as gr
from grange.definitions.catalog import Catalog
from grange.errors import ConfigError, LeakError
from grange.quality.leaks import (
    CODES,
    Joined,
    Leak,
    LeakPolicy,
    Training,
    Use,
    check_definitions,
    check_training,
    is_naive,
    raise_or_return,
)
from grange.quality.leaks.definitions import _overlap
from grange.quality.leaks.prediction import SCREEN, _previous, _screen, encode, measures
from grange.quality.leaks.reference import reference
from grange.quality.leaks.training import SAMPLE
from grange.types import DataType
from grange.types.aggregates import Aggregate, Function, Window

PAGE = Path(__file__).parents[3] / "docs/reference/leaks.md"
DAY = 86_400_000_000
HOUR = DAY // 24
EPOCH = 1_767_225_600_000_000  # 2026-01-01, a Thursday

user = gr.Entity("user", join_keys=["user_id"])
merchant = gr.Entity("merchant", join_keys=["merchant_id"])
airport = gr.Entity("airport", join_keys=["airport_id"])
carrier = gr.Entity("carrier", join_keys=["carrier"])
payments = gr.FileSource("payments.parquet", event_time="paid_at")
settled = gr.FileSource("payments.parquet", event_time="settled_at", name="settled")
visits = gr.FileSource("visits.parquet", event_time="seen_at")
flights = gr.FileSource("flights.parquet", event_time="landed_at")
outcomes = gr.FeatureGroup("outcomes", entities=user, source=payments)


# --- definitions -----------------------------------------------------------------------------------------------------


def group(name: str, *aggregations: Any, entity: gr.Entity = user, source: Any = payments) -> gr.FeatureGroup:
    return gr.FeatureGroup(name, entities=entity, source=source, aggregations=aggregations)


def static(*groups: gr.FeatureGroup, features: Sequence[Any], labels: Sequence[str]) -> tuple[Leak, ...]:
    view = gr.FeatureView("model", features=features, labels=labels)
    return check_definitions(Catalog.of([*groups, view]))


def against_outcome(aggregation: Any, **how: Any) -> Callable[[], tuple[Leak, ...]]:
    """A windowed feature of the payments beside the label `outcomes:is_fraud`, a column of the same payments."""
    past = group("past", aggregation, **{key: how[key] for key in ("entity", "source") if key in how})
    options = {key: value for key, value in how.items() if key not in ("entity", "source")}
    return lambda: static(outcomes, past, features=[past.select(**options)], labels=["outcomes:is_fraud"])


def against_window(aggregation: Any, label: Any = None, **how: Any) -> Callable[[], tuple[Leak, ...]]:
    """A windowed feature of the payments beside a label that is the sum of a week's payments."""
    past = group("past", aggregation, **how)
    target = group("target", label or gr.Rolling({"amount": "sum"}, "7d", name="target"))
    name = f"target:{target.features().names[0]}"
    return lambda: static(target, past, features=["past"], labels=[name])


def against_spine(aggregation: Any, label: str = "is_fraud", **options: Any) -> Callable[[], tuple[Leak, ...]]:
    past = group("past", aggregation)
    return lambda: static(past, features=[past.select(**options)], labels=[label])


def same_column_elsewhere() -> tuple[Leak, ...]:
    copy = gr.FeatureGroup("copy", entities=user, source=payments)
    return static(outcomes, copy, features=[copy.select("is_fraud", prefix="copied_")], labels=["outcomes:is_fraud"])


def of_one_group(feature: str, label: str) -> Callable[[], tuple[Leak, ...]]:
    spend = group("spend", gr.Rolling({"amount": ["sum", "mean"], "*": "count"}, ["1d", "7d", "30d"]))
    return lambda: static(spend, features=[f"spend:{feature}"], labels=[f"spend:{label}"])


STATIC_LEAKS: dict[str, tuple[str, Callable[[], tuple[Leak, ...]]]] = {
    "own label, right": ("LEAK-001", against_outcome(gr.Rolling({"is_fraud": "sum"}, "30d"))),
    "own label, both": ("LEAK-001", against_outcome(gr.Rolling({"is_fraud": "mean"}, "30d", closed="both"))),
    "own label, rows": ("LEAK-001", against_outcome(gr.Rolling({"is_fraud": "max"}, "10rows"))),
    "own label, lifetime": ("LEAK-001", against_outcome(gr.Rolling({"is_fraud": "last"}, "lifetime"))),
    "own label, session": ("LEAK-001", against_outcome(gr.Session({"is_fraud": "sum"}, "30m"))),
    "own label by filter": ("LEAK-001", against_outcome(gr.Rolling({"amount": "sum"}, "7d", filter="is_fraud"))),
    "own label counted": ("LEAK-001", against_outcome(gr.Rolling({"*": "count"}, "7d", filter="NOT is_fraud"))),
    "own label by max_by": ("LEAK-001", against_outcome(gr.Rolling({"amount": "max_by(is_fraud)"}, "7d"))),
    "own label of the merchant": (
        "LEAK-001",
        against_outcome(gr.Rolling({"is_fraud": "mean"}, "90d"), entity=merchant),
    ),
    "own label, copied": ("LEAK-001", same_column_elsewhere),
    "week in month": ("LEAK-002", of_one_group("amount__sum__30d", "amount__sum__7d")),
    "day in week": ("LEAK-002", of_one_group("amount__mean__7d", "amount__sum__1d")),
    "month around week": ("LEAK-002", of_one_group("amount__sum__7d", "amount__mean__30d")),
    "counted label": ("LEAK-002", of_one_group("amount__sum__30d", "rows__count__7d")),
    "another group": ("LEAK-002", against_window(gr.Rolling({"amount": "mean"}, "1d"))),
    "left is not enough": ("LEAK-002", against_window(gr.Rolling({"amount": "mean"}, "30d", closed="left"))),
    "rows of the window": ("LEAK-002", against_window(gr.Rolling({"amount": "mean"}, "5rows"))),
    "a short lag": ("LEAK-002", against_window(gr.Lag("amount", "24h"))),
    "yesterday": ("LEAK-002", against_window(gr.Rollup({"amount": "sum"}, "1d"))),
    "boundaries reach back": (
        "LEAK-002",
        against_window(gr.Lag("amount", "169h"), gr.Rolling({"amount": "sum"}, "7d", every="1d", name="target")),
    ),
    "both ends touch": (
        "LEAK-002",
        against_window(gr.Lag("amount", "168h"), gr.Rolling({"amount": "sum"}, "7d", closed="both", name="target")),
    ),
    "another column of the rows": ("LEAK-003", against_outcome(gr.Rolling({"days_late": "max"}, "90d"))),
    "another column of the window": ("LEAK-003", against_window(gr.Rolling({"refund": "sum"}, "30d"))),
    "named like the spine's label": ("LEAK-003", against_spine(gr.Rolling({"is_fraud": "sum"}, "30d"))),
    "filtered by the spine's label": (
        "LEAK-003",
        against_spine(gr.Rolling({"amount": "sum"}, "30d", filter="kind = 'x' AND is_fraud")),
    ),
}

STATIC_CLEAN: dict[str, Callable[[], tuple[Leak, ...]]] = {
    "left": against_outcome(gr.Rolling({"is_fraud": "sum"}, "30d", closed="left")),
    "none": against_outcome(gr.Rolling({"is_fraud": "sum"}, "30d", closed="none")),
    "strictly before": against_outcome(gr.Rolling({"is_fraud": "sum"}, "30d"), exact_matches=False),
    "lag of the label": against_outcome(gr.Lag("is_fraud", "24h")),
    "as of the last midnight": against_outcome(gr.Rolling({"is_fraud": "sum"}, "30d", every="1d")),
    "session before": against_outcome(gr.Session({"is_fraud": "sum"}, "30m", closed="left")),
    "dated by when it was known": against_outcome(gr.Rolling({"is_fraud": "sum"}, "30d"), source=settled),
    "another source": against_outcome(gr.Rolling({"is_fraud": "sum"}, "30d"), source=visits),
    "another entity": against_outcome(gr.Rolling({"is_fraud": "sum"}, "30d"), on={"user_id": "referrer_id"}),
    "the calendar": against_outcome(gr.Calendar(["hour", "weekday"])),
    "that there was an event": against_outcome(gr.Rolling({"*": ["count", "time_since_last"]}, "7d")),
    "a word in a text": against_outcome(gr.Rolling({"*": "count"}, "7d", filter="kind <> 'is_fraud'")),
    "a lag as long as the window": against_window(gr.Lag("amount", "168h")),
    "a longer lag": against_window(gr.Lag("amount", ["169h", "30d"], tolerance="1d")),
    "beyond the boundaries": against_window(
        gr.Lag("amount", "192h"), gr.Rolling({"amount": "sum"}, "7d", every="1d", closed="left", name="target")
    ),
    "other events": against_window(
        gr.Rolling({"amount": "sum"}, "30d", filter="kind = 'a'"),
        gr.Rolling({"amount": "sum"}, "7d", filter="kind = 'b'", name="target"),
    ),
    "window of another source": against_window(gr.Rolling({"amount": "sum"}, "30d"), source=visits),
    "window of another entity": against_window(gr.Rolling({"amount": "sum"}, "30d"), entity=merchant),
    "forecast": against_window(
        gr.Lag("amount", ["1h", "24h"]), gr.Rolling({"amount": "last"}, "lifetime", name="target")
    ),
    "another label": against_spine(gr.Rolling({"amount": ["sum", "mean"]}, ["7d", "30d"])),
    "before the spine's label": against_spine(gr.Rolling({"is_fraud": "sum"}, "30d", closed="left")),
    "strictly before the spine's": against_spine(gr.Rolling({"is_fraud": "sum"}, "30d"), exact_matches=False),
    "the spine's label of another entity": against_spine(
        gr.Rolling({"is_fraud": "sum"}, "30d"), on={"user_id": "referrer_id"}
    ),
    "hour as label name": against_spine(gr.Calendar(["hour"]), "hour_of_failure"),
    "no label": lambda: static(group("past", gr.Rolling({"is_fraud": "sum"}, "7d")), features=["past"], labels=[]),
    "label before, of the same group": lambda: static(
        outcomes,
        features=[outcomes.select("is_fraud", prefix="last_", exact_matches=False), "outcomes:amount"],
        labels=["outcomes:is_fraud"],
    ),
    "amounts are known when paid": against_outcome(gr.Rolling({"amount": ["sum", "max"]}, ["1d", "7d"])),
}


@pytest.mark.parametrize("name", STATIC_LEAKS)
def test_definitions_that_leak(name: str) -> None:
    code, find = STATIC_LEAKS[name]

    assert [leak.code for leak in find()] == [code]


@pytest.mark.parametrize("name", STATIC_CLEAN)
def test_definitions_that_do_not(name: str) -> None:
    asks = name in ("amounts are known when paid", "a word in a text")  # known by then? only the user can tell

    assert [leak.severity for leak in STATIC_CLEAN[name]()] == (["notice"] if asks else [])


def test_one_leak_names_all_features_of_a_group() -> None:
    past = group("past", gr.Rolling({"is_fraud": ["sum", "mean"]}, ["1d", "7d"]))

    (leak,) = static(outcomes, past, features=["past"], labels=["outcomes:is_fraud"])

    assert leak.features == tuple(
        f"past:is_fraud__{function}__{window}" for function in ("sum", "mean") for window in ("1d", "7d")
    )
    assert (leak.view, leak.group, leak.label) == ("model", "past", "outcomes:is_fraud")
    assert leak.message == (
        "feature view 'model': past:is_fraud__sum__1d, past:is_fraud__sum__7d, past:is_fraud__mean__1d and 1 more "
        "count the event that the label outcomes:is_fraud comes from"
    )


def test_views_within_views_and_chosen_views() -> None:
    past = group("past", gr.Rolling({"is_fraud": "sum"}, "7d"))
    inner = gr.FeatureView("inner", features=["past"])
    outer = gr.FeatureView("outer", features=["inner"], labels=["outcomes:is_fraud"])
    catalog = Catalog.of([outcomes, past, inner, outer])

    assert [leak.view for leak in check_definitions(catalog)] == ["outer"]
    assert check_definitions(catalog, ["inner"]) == ()


MICROS = DataType("int64")


@st.composite
def windowed(draw: st.DrawFn) -> Aggregate:
    """Windows whose lengths are even, so that between two different ends there is always a moment."""
    every = draw(st.sampled_from([None, None, 4, 8]))
    return Aggregate(
        "x",
        Function("sum"),
        "amount",
        Window("time", draw(st.sampled_from([2, 4, 8]))),
        MICROS,
        closed=draw(st.sampled_from(["right", "left", "both", "none"])),
        every=every,
        offset=draw(st.sampled_from([0, 2])) if every else 0,
        shift=draw(st.sampled_from([0, 2, 4, 8])),
    )


def events_of(aggregate: Aggregate, exact_matches: bool, moment: int) -> set[int]:
    """The moments whose events count, straight from what `Aggregate` says."""
    boundary = moment
    if aggregate.every is not None:
        boundary = (moment - aggregate.offset) // aggregate.every * aggregate.every + aggregate.offset
    end = boundary - aggregate.shift
    start = end - aggregate.window.size
    found = {event for event in range(start, end + 1) if event <= (boundary if exact_matches else boundary - 1)}
    if aggregate.closed in ("right", "none"):
        found.discard(start)
    if aggregate.closed in ("left", "none"):
        found.discard(end)
    return found


def use(aggregate: Aggregate | None, exact_matches: bool = True, name: str = "x") -> Use:
    return Use("g", name, name, ("file", "x", "t"), (("k", "k"),), aggregate, exact_matches)


@settings(max_examples=200, deadline=None)
@given(windowed(), windowed(), st.booleans())
def test_windows_overlap_when_an_event_can_be_in_both(feature: Aggregate, label: Aggregate, exact: bool) -> None:
    """Exactly; only for two kinds of boundaries may an overlap be seen that no moment has, and never be missed."""
    shared = any(
        events_of(feature, exact, moment) & events_of(label, True, moment) for moment in range(1000, 1000 + 16)
    )
    found = _overlap(use(feature, exact), use(label))

    assert found or not shared
    boundaries = {(item.every, item.offset) for item in (feature, label)}
    if len(boundaries) == 1:
        assert found == shared


@given(windowed(), st.booleans())
def test_own_moment_is_seen_as_windows_say(aggregate: Aggregate, exact: bool) -> None:
    always = all(moment in events_of(aggregate, exact, moment) for moment in range(1000, 1016))

    assert use(aggregate, exact).sees_own_moment == always


def test_a_tolerance_belongs_to_the_lag() -> None:
    """LAG-1: a row exactly as old as the tolerance counts; one at the open end of a window does not."""
    day_ago = Aggregate("x", Function("lag"), "amount", Window("time", DAY), MICROS, shift=DAY)

    assert use(day_ago).span.holds(2 * DAY) and not use(day_ago).span.holds(2 * DAY + 1)
    assert use(day_ago).span.holds(DAY) and not use(day_ago).span.holds(DAY - 1)
    assert not use(window(2 * DAY)).span.holds(2 * DAY)


# --- training data ---------------------------------------------------------------------------------------------------


@dataclass
class Data:
    """Training data in the making: what it is without a leak."""

    seed: int
    rows: int = 600
    entities: int = 120
    label: Any = None
    features: dict[str, Any] = field(default_factory=dict)
    joins: list[Joined] = field(default_factory=list)
    times: Any = None
    naive: bool = False
    as_known: bool = False

    def __post_init__(self) -> None:
        self.random = np.random.default_rng(self.seed)
        self.keys = self.random.integers(0, self.entities, self.rows)
        if self.times is None:
            self.times = EPOCH + self.random.integers(0, 90 * DAY, self.rows)
        if self.label is None:
            self.label = self.random.random(self.rows) < 0.2
        self.noise = self.random.normal(size=self.rows)
        self.features.setdefault("noise", self.noise)

    def check(self) -> tuple[Leak, ...]:
        return check_training(
            Training(
                moments(self.times),
                pl.DataFrame(self.features),
                pl.DataFrame({"y": self.label}),
                pl.DataFrame({"user_id": self.keys}),
                tuple(self.joins),
                self.naive,
                self.as_known,
            )
        )

    def join(self, event_time: Any, aggregate: Aggregate | None = None, created: Any = None, **how: Any) -> Data:
        name = "x" if aggregate is not None else how.pop("column", "amount")
        made = use(aggregate, how.pop("exact_matches", True), name)
        self.joins.append(
            Joined((made,), moments(event_time), None if created is None else moments(created), how.pop("naive", None))
        )
        return self


def moments(micros: Any) -> pl.Series:
    return pl.Series(micros, dtype=pl.Int64).cast(pl.Datetime("us", "UTC"))


def window(size: int = 7 * DAY, *, column: str = "amount", **options: Any) -> Aggregate:
    return Aggregate("x", Function("sum"), column, Window("time", size), MICROS, **options)


def predictor(seed: int, make: Callable[[Data], Any], **options: Any) -> Callable[[], tuple[Leak, ...]]:
    """Training data with one more feature, `f`."""

    def find() -> tuple[Leak, ...]:
        data = Data(seed, **options)
        data.features["f"] = make(data)
        return data.check()

    return find


def number(data: Data) -> Any:
    return np.exp(data.random.normal(3, 1, data.rows))


def classes(data: Data) -> Any:
    return data.random.integers(0, 5, data.rows)


def with_label(make_label: Callable[[Data], Any], make: Callable[[Data], Any]) -> Callable[[Data], Any]:
    def both(data: Data) -> Any:
        data.label = make_label(data)
        return make(data)

    return both


def texts(values: Any, prefix: str = "v") -> list[str]:
    return [f"{prefix}{value}" for value in values]


def nulled(values: Any, where: Any) -> pl.Series:
    return pl.Series([None if gone else value for value, gone in zip(values, where, strict=True)])


PREDICTORS: dict[str, Callable[[Data], Any]] = {
    "the label itself": lambda d: d.label,
    "its opposite": lambda d: ~d.label,
    "as a number": lambda d: d.label * 100.0,
    "as text": lambda d: texts(np.where(d.label, "refunded", "kept")),
    "as reasons": lambda d: texts(np.where(d.label, d.random.integers(0, 4, d.rows), 9)),
    "with noise": lambda d: d.label + d.random.normal(0, 0.15, d.rows),
    "a score of it": lambda d: 1 / (1 + np.exp(-(d.label * 12 - 6 + d.noise))),
    "missing unless": lambda d: nulled(d.noise, ~d.label),
    "text missing if": lambda d: nulled(texts(d.keys), d.label),
    "lists missing if": lambda d: nulled([[1]] * d.rows, d.label),
    "a time missing unless": lambda d: nulled(moments(d.times), ~d.label),
    "rarely known": lambda d: nulled(d.label, d.random.random(d.rows) < 0.8),
    "in the middle": lambda d: np.where(d.label, d.random.uniform(-1, 1, d.rows), d.random.choice([-9, 9], d.rows)),
    "a copied number": with_label(number, lambda d: d.label.copy()),
    "negated number": with_label(number, lambda d: -3 * d.label + 7),
    "its logarithm": with_label(number, lambda d: np.log(d.label)),
    "rounded number": with_label(number, lambda d: np.round(d.label, 1)),
    "a number with noise": with_label(number, lambda d: np.log(d.label) + d.random.normal(0, 0.03, d.rows)),
    "a number as text": with_label(number, lambda d: [str(value) for value in d.label]),
    "a class as number": with_label(lambda d: texts(classes(d)), lambda d: [int(each[1:]) * 7 % 5 for each in d.label]),
    "a class renamed": with_label(lambda d: texts(classes(d)), lambda d: [f"class {text}" for text in d.label]),
    "a class by threshold": with_label(
        lambda d: np.digitize(number(d), [10, 20, 40]), lambda d: d.label + d.random.random(d.rows)
    ),
    "names copied": with_label(lambda d: texts(np.arange(d.rows) // 2), lambda d: list(d.label)),
    "a day before": with_label(
        lambda d: moments(d.times), lambda d: (moments(d.times).dt.offset_by("-1d")).dt.date()
    ),
    "the label per entity": with_label(lambda d: d.keys % 3 == 0, lambda d: d.keys % 3 == 0),
}  # fmt: skip

CLEAN_PREDICTORS: dict[str, Callable[[Data], Any]] = {
    "noise": lambda d: d.random.normal(size=d.rows),
    "constant": lambda d: np.ones(d.rows),
    "all missing": lambda d: pl.Series([None] * d.rows, dtype=pl.Float64),
    "good": lambda d: d.label * 2.0 + d.noise,
    "very good": lambda d: d.label * 3.0 + d.noise,
    "good text": lambda d: texts(np.where(d.random.random(d.rows) < 0.05, ~d.label, d.label)),
    "identifiers": lambda d: texts(d.random.permutation(d.rows)),
    "numbered rows": lambda d: np.arange(d.rows),
    "the entity": lambda d: texts(d.keys),
    "missing at random": lambda d: nulled(d.noise, d.random.random(d.rows) < 0.5),
    "missing more often": lambda d: nulled(d.noise, d.label & (d.random.random(d.rows) < 0.8)),
    "too rarely known to tell": lambda d: nulled(d.label, np.arange(d.rows) >= 40),
    "related number": with_label(number, lambda d: d.label * np.exp(d.random.normal(0, 0.3, d.rows))),
    "number in bands": with_label(number, lambda d: texts(np.digitize(d.label, [10, 20, 40]))),
    "related class": with_label(
        classes, lambda d: np.where(d.random.random(d.rows) < 0.9, d.label, d.random.integers(0, 5, d.rows))
    ),
    "birthday of an entity": with_label(
        lambda d: d.random.random(d.entities)[d.keys] < 0.3, lambda d: d.random.permutation(d.entities)[d.keys]
    ),
    "name of an entity": with_label(
        lambda d: d.random.random(d.entities)[d.keys] < 0.3, lambda d: texts(d.random.permutation(d.entities)[d.keys])
    ),
    "what an entity spends": with_label(
        lambda d: d.random.random(d.entities)[d.keys], lambda d: d.random.random(d.entities)[d.keys]
    ),
    "a rare outcome": with_label(lambda d: np.arange(d.rows) % 200 == 7, lambda d: d.noise),
    "one outcome": with_label(lambda d: np.zeros(d.rows, bool), lambda d: d.noise),
    "lists": lambda d: [[int(flag)] for flag in d.label],
}


def series(seed: int, make: Callable[[np.random.Generator, Any], tuple[Any, Any]]) -> Callable[[], tuple[Leak, ...]]:
    """Hourly values of a few plants: a label, and a feature of it."""

    def find() -> tuple[Leak, ...]:
        plants, hours = 4, 500
        random = np.random.default_rng(seed)
        made = [make(random, np.arange(hours)) for _ in range(plants)]
        data = Data(
            seed,
            rows=plants * hours,
            entities=plants,
            times=np.tile(EPOCH + np.arange(hours) * HOUR, plants),
            label=np.concatenate([label for label, _ in made]),
            features={"f": np.concatenate([feature for _, feature in made])},
        )
        data.keys = np.repeat(np.arange(plants), hours)
        return data.check()

    return find


def lagged(values: Any, by: int = 1) -> Any:
    return np.concatenate([np.full(by, np.nan), values[:-by]])


def walk(random: np.random.Generator, hours: Any) -> Any:
    return np.cumsum(random.normal(size=len(hours))) + random.normal(0, 50)


CLEAN_SERIES = {
    "the price an hour ago": lambda random, hours: (values := walk(random, hours), lagged(values)),
    "a smooth load an hour ago": lambda random, hours: (
        values := np.sin(hours / 40) * 100 + random.normal(0, 0.5, len(hours)), lagged(values)
    ),
    "a meter an hour ago": lambda random, hours: (
        values := np.cumsum(random.exponential(size=len(hours))), lagged(values)
    ),
    "a state that hardly changes": lambda random, hours: (
        values := (hours // 100 % 2).astype(float), lagged(values)
    ),
    "the mean of a day": lambda random, hours: (
        values := walk(random, hours), np.convolve(lagged(values, 1), np.ones(24) / 24)[: len(hours)]
    ),
}  # fmt: skip
LEAKING_SERIES = {
    "the price of the hour": lambda random, hours: (values := walk(random, hours), values + 0.001 * random.normal()),
    "the state itself": lambda random, hours: (values := (hours // 100 % 2).astype(float), 1 - values),
    "the meter in other units": lambda random, hours: (
        values := random.normal(size=len(hours)), values * 3.6 + random.normal(0, 0.01, len(hours))
    ),
}  # fmt: skip


def visible(seed: int, make: Callable[[Data], Data], **options: Any) -> Callable[[], tuple[Leak, ...]]:
    return lambda: make(Data(seed, rows=200, **options)).check()


def midnight(micros: Any) -> Any:
    return micros // DAY * DAY


def some(data: Data, micros: Any, share: float) -> Any:
    """Event times, an hour earlier for all but a share of the rows."""
    return np.where(data.random.random(data.rows) < share, micros, micros - HOUR)


def days(data: Data) -> Any:
    return EPOCH + data.random.integers(0, 90, data.rows) * DAY


def load_time(data: Data) -> Any:
    return EPOCH + 200 * DAY + data.random.integers(0, HOUR, data.rows)


VISIBLE_LEAKS: dict[str, tuple[str, Callable[[Data], Data]]] = {
    "own event in a window": ("LEAK-101", lambda d: d.join(d.times, window(column="y"))),
    "own event, closed both": ("LEAK-101", lambda d: d.join(d.times, window(column="y", closed="both"))),
    "own event, by filter": ("LEAK-101", lambda d: d.join(d.times, window(filter="y = 1"))),
    "own event, most rows": ("LEAK-101", lambda d: d.join(some(d, d.times, 0.7), window(column="y"))),
    "own row": ("LEAK-101", lambda d: d.join(d.times, None, column="y")),
    "own event, another column": ("LEAK-101", lambda d: d.join(d.times, window())),
    "spine without a zone": ("LEAK-102", lambda d: d.join(d.times - HOUR, naive=False)),
    "group without a zone": ("LEAK-102", lambda d: d.join(d.times - HOUR, naive=True)),
    "dates": ("LEAK-103", lambda d: d.join(midnight(d.times))),
    "dates in a window": ("LEAK-103", lambda d: d.join(midnight(d.times), window())),
    "dates, strictly before": ("LEAK-103", lambda d: d.join(midnight(d.times), exact_matches=False)),
    "dates on the grid": ("LEAK-103", lambda d: d.join(midnight(d.times), window(every=DAY))),
    "dates, written at night": (
        "LEAK-103", lambda d: d.join(midnight(d.times), created=midnight(d.times) + 26 * HOUR)
    ),
    "written later": ("LEAK-105", lambda d: d.join(d.times - HOUR, created=d.times + HOUR)),
    "written later, window": ("LEAK-105", lambda d: d.join(d.times - HOUR, window(), created=d.times + DAY)),
    "mostly written later": (
        "LEAK-105", lambda d: d.join(d.times - DAY, created=d.times + d.random.integers(-HOUR, 3 * HOUR, d.rows))
    ),
}  # fmt: skip
VISIBLE_OPTIONS: dict[str, dict[str, Any]] = {
    "dates at midnight, closed left": {"times": EPOCH + np.arange(200) * DAY},
    "one midnight": {"times": EPOCH + np.arange(1, 201) * 60_000_000},
    "spine without a zone": {"naive": True},
    "written at night, as known": {"as_known": True},
    "own event, as known": {"as_known": True},
    "dates, as known": {"as_known": True},
}

VISIBLE_CLEAN: dict[str, Callable[[Data], Data]] = {
    "earlier events": lambda d: d.join(d.times - d.random.integers(1, 9 * DAY, d.rows), window()),
    "closed left": lambda d: d.join(d.times, window(column="y", closed="left")),
    "strictly before": lambda d: d.join(d.times, window(column="y"), exact_matches=False),
    "lag": lambda d: d.join(d.times, window(column="y", shift=HOUR)),
    "grid": lambda d: d.join(d.times, window(column="y", every=HOUR)),
    "some own events": lambda d: d.join(some(d, d.times, 0.3), window(column="y")),
    "own event, as known": lambda d: d.join(d.times, window(column="y"), created=d.times),
    "nothing seen": lambda d: d.join([None] * d.rows, window(column="y")),
    "zones on both sides": lambda d: d.join(d.times - HOUR, naive=False),
    "snapshots at midnight": lambda d: d.join(midnight(d.times), created=midnight(d.times) + 3 * HOUR),
    "old snapshots": lambda d: d.join(midnight(d.times) - d.random.integers(1, 7, d.rows) * DAY),
    "yesterday's dates": lambda d: d.join(midnight(d.times), window(DAY, every=DAY, closed="left")),
    "dates a day ago": lambda d: d.join(midnight(d.times), window(shift=DAY)),
    "dates, as known": lambda d: d.join(midnight(d.times), created=midnight(d.times) + 9 * HOUR),
    "written at once": lambda d: d.join(d.times - HOUR, created=d.times - HOUR + 1000),
    "written at night, as known": lambda d: d.join(d.times - HOUR, created=d.times + HOUR),
    "written later for some": lambda d: d.join(
        d.times - HOUR, created=np.where(d.random.random(d.rows) < 0.3, d.times + HOUR, d.times - 1)
    ),
    "a load of old history": lambda d: d.join(d.times - HOUR, created=load_time(d)),
    "a lag, written at night": lambda d: d.join(d.times - HOUR, window(shift=DAY), created=d.times + HOUR),
    "dates at midnight, closed left": lambda d: d.join(d.times, window(closed="left")),
    "one midnight": lambda d: d.join(np.full(d.rows, EPOCH), exact_matches=False),
    "always true": lambda d: d.join(np.full(d.rows, -62_135_596_800_000_000)),
}


@dataclass(frozen=True)
class Example:
    name: str
    find: Callable[[], tuple[Leak, ...]]
    code: str | None
    """What it has; None is nothing."""


def corpus() -> Iterator[Example]:
    """Seeded leaks and clean examples, of definitions and of data."""
    for name, (code, find) in STATIC_LEAKS.items():
        yield Example(name, find, code)
    for name, find in STATIC_CLEAN.items():
        yield Example(name, find, None)
    for seed, rows in ((1, 600), (2, 3000), (3, 12_000)):
        for name, make in PREDICTORS.items():
            yield Example(f"{name}, {rows}", predictor(seed, make, rows=rows, entities=rows // 5), "LEAK-104")
        for name, make in CLEAN_PREDICTORS.items():
            yield Example(f"{name}, {rows}", predictor(seed, make, rows=rows, entities=rows // 5), None)
        for name, made in LEAKING_SERIES.items():
            yield Example(f"{name}, {seed}", series(seed, made), "LEAK-104")
        for name, made in CLEAN_SERIES.items():
            yield Example(f"{name}, {seed}", series(seed, made), None)
        for name, (code, join) in VISIBLE_LEAKS.items():
            yield Example(f"{name}, {seed}", visible(seed, join, **VISIBLE_OPTIONS.get(name, {})), code)
        for name, join in VISIBLE_CLEAN.items():
            yield Example(f"{name}, {seed}", visible(seed, join, **VISIBLE_OPTIONS.get(name, {})), None)


def test_the_corpus_is_told_apart() -> None:
    """At least 95 % of the leaks are found under their code; at most 5 % of the clean examples have a warning, and at
    most 10 % a notice."""
    leaking = [example for example in corpus() if example.code is not None]
    clean = [example for example in corpus() if example.code is None]
    missed = [each.name for each in leaking if each.code not in {leak.code for leak in each.find()}]
    told = {each.name: {leak.severity for leak in each.find()} for each in clean}
    alarms = [name for name, severities in told.items() if "warning" in severities]
    notices = [name for name, severities in told.items() if severities == {"notice"}]

    assert len(leaking) >= 50 and len(clean) >= 50
    assert {example.code for example in leaking} == set(CODES)
    assert len(missed) <= 0.05 * len(leaking), missed
    assert len(alarms) <= 0.05 * len(clean), alarms
    assert len(notices) <= 0.1 * len(clean), notices


@pytest.mark.parametrize("name", VISIBLE_LEAKS)
def test_what_rows_see(name: str) -> None:
    """Each with its code, once; a row of dates that was written at night is told of twice, for two reasons."""
    code, join = VISIBLE_LEAKS[name]
    also = ["LEAK-105"] if name == "dates, written at night" else []

    assert [leak.code for leak in visible(7, join, **VISIBLE_OPTIONS.get(name, {}))()] == [code, *also]


@pytest.mark.parametrize("name", VISIBLE_CLEAN)
def test_what_rows_may_see(name: str) -> None:
    asks = name == "a load of old history"

    found = visible(7, VISIBLE_CLEAN[name], **VISIBLE_OPTIONS.get(name, {}))()

    assert [leak.severity for leak in found] == (["notice"] if asks else [])


def test_rows_and_features_are_told() -> None:
    data = Data(1, rows=200)
    own = np.arange(200) < 120
    (leak,) = data.join(np.where(own, data.times, data.times - 1), window(column="y")).check()

    assert (leak.group, leak.features, leak.label, leak.rows, leak.of) == ("g", ("x",), "y", 120, 200)
    assert leak.severity == "warning"
    assert leak.message == (
        "120 of 200 rows see an event of feature group 'g' of their very own time, and 'x' reads 'y'"
    )


def test_half_of_the_rows_are_not_most() -> None:
    data = Data(1, rows=200)

    assert data.join(np.where(np.arange(200) < 100, data.times, data.times - 1), window(column="y")).check() == ()


def test_rows_without_a_time_or_an_event_do_not_count() -> None:
    data = Data(1, rows=40)
    data.times = [None if row < 20 else int(time) for row, time in enumerate(data.times)]
    events = [None if row < 5 else time for row, time in enumerate(data.times)]

    (leak,) = data.join(events, window(column="y")).check()

    assert (leak.rows, leak.of) == (20, 20)


def test_too_few_rows_tell_nothing() -> None:
    few = Data(1, rows=9)
    assert few.join(few.times, window(column="y"), created=few.times + 1).check() == ()
    assert predictor(1, lambda data: data.label, rows=49)() == ()
    assert Data(1, rows=0).join([], window(column="y")).check() == ()


def test_a_zone_that_neither_side_has_is_a_notice() -> None:
    data = Data(1, naive=True)

    (leak,) = data.join(data.times - 1, naive=True).check()

    assert (leak.code, leak.severity) == ("LEAK-102", "notice")


def test_a_spine_of_dates_is_a_notice_beside_finer_events() -> None:
    data = Data(1)
    data.times = days(data)
    events = data.times - HOUR * data.random.integers(1, 20, data.rows)

    (leak,) = data.join(events).check()

    assert (leak.code, leak.severity, leak.rows) == ("LEAK-103", "notice", data.rows)


def test_dates_on_both_sides_are_one_leak() -> None:
    """That they are of the row's own time, too, follows from it."""
    data = Data(1)
    data.times = days(data)

    assert [leak.code for leak in data.join(data.times).check()] == ["LEAK-103"]


def test_times_of_any_unit_and_zone_are_one() -> None:
    data = Data(1, rows=100)
    data.times = data.times // 1_000_000 * 1_000_000
    utc = moments(data.times)
    for events in (
        utc.dt.convert_time_zone("Asia/Tokyo"),
        utc.dt.replace_time_zone(None),
        utc.cast(pl.Datetime("ns", "UTC")),
        utc.cast(pl.Datetime("ms", "UTC")),
    ):
        data.joins = [Joined((use(window(column="y")),), events)]

        assert [leak.code for leak in data.check()] == ["LEAK-101"], events.dtype


def test_naive_types() -> None:
    assert is_naive(pl.Datetime("us"))
    assert not any(map(is_naive, [pl.Datetime("us", "Europe/Berlin"), pl.Date(), pl.String(), pl.Int64()]))


# --- predictors ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PREDICTORS)
@pytest.mark.parametrize("order", ["given", "by label"])
def test_predictors_of_the_label(name: str, order: str) -> None:
    """Whatever the order of the spine; and the noise beside them never is one."""
    data = Data(11)
    feature = pl.Series("f", PREDICTORS[name](data))
    label = pl.Series("y", data.label)
    rows = label.arg_sort() if order == "by label" else pl.arange(0, data.rows, eager=True)
    training = Training(
        moments(data.times).gather(rows),
        pl.DataFrame({"noise": data.noise, "f": feature}).select(pl.all().gather(rows)),
        pl.DataFrame({"y": label.gather(rows)}),
        pl.DataFrame({"user_id": data.keys}).select(pl.all().gather(rows)),
    )

    assert [(leak.code, leak.features, leak.label) for leak in check_training(training)] == [("LEAK-104", ("f",), "y")]


@pytest.mark.parametrize("name", CLEAN_PREDICTORS)
def test_features_that_are_no_leak(name: str) -> None:
    data = Data(11)
    feature = pl.Series("f", CLEAN_PREDICTORS[name](data))
    label = pl.Series("y", data.label)
    rows = label.arg_sort()  # the order in which a careless measure of ties finds what is not there
    training = Training(
        moments(data.times).gather(rows),
        pl.DataFrame({"f": feature.gather(rows)}),
        pl.DataFrame({"y": label.gather(rows)}),
        pl.DataFrame({"user_id": data.keys}).select(pl.all().gather(rows)),
    )

    assert check_training(training) == ()


def test_each_label_has_its_own_leaks() -> None:
    data = Data(1, rows=300)
    labels = pl.DataFrame({"late": data.label, "delay": number(data), "nothing": [None] * 300})
    features = pl.DataFrame({"a": data.label, "b": labels["delay"] * 2, "c": data.noise})
    training = Training(moments(data.times), features, labels, pl.DataFrame({"k": data.keys}))

    assert {(leak.label, leak.features[0]) for leak in check_training(training)} == {("late", "a"), ("delay", "b")}


def test_a_leak_names_the_group_of_its_feature() -> None:
    data = Data(1)
    data.features["x"] = data.label

    (leak,) = data.join(data.times - 1, column="x").check()

    assert (leak.code, leak.group, leak.rows, leak.of) == ("LEAK-104", "g", 600, 600)
    assert leak.message == "feature 'x' predicts label 'y' alone: AUC 1.0000 of 600 rows"


def test_rare_outcomes_among_many_rows_are_found() -> None:
    rows = 2 * SAMPLE
    label = np.zeros(rows, bool)
    label[:: rows // 50] = True
    random = np.random.default_rng(3)
    training = Training(
        moments(EPOCH + np.arange(rows)),
        pl.DataFrame({"f": nulled(np.ones(rows), ~label), "noise": random.normal(size=rows)}),
        pl.DataFrame({"y": label}),
        pl.DataFrame({"k": np.arange(rows)}),
    )

    (leak,) = check_training(training)

    assert (leak.features, leak.of) == (("f",), SAMPLE)
    assert check_training(training) == (leak,)


def test_a_feature_that_is_known_for_few_of_many_rows_is_found() -> None:
    rows = 20_000
    label = np.random.default_rng(3).random(rows) < 0.5
    known = np.arange(rows) % 200 == 0
    training = Training(
        moments(EPOCH + np.arange(rows)),
        pl.DataFrame({"f": nulled(label, ~known)}),
        pl.DataFrame({"y": label}),
        pl.DataFrame({"k": np.arange(rows)}),
    )

    assert [leak.rows for leak in check_training(training)] == [known.sum()]


def test_the_first_look_has_as_many_of_each_class() -> None:
    random = np.random.default_rng(3)
    flags = random.random(50_000) < 0.002
    label, numbers = encode(pl.Series(flags)), encode(pl.Series(random.random(50_000)))
    known = np.arange(50_000) % 2 == 0

    screen = _screen(label, known)

    assert known[screen].all() and len(set(screen)) == len(screen)
    assert flags[screen].sum() == (flags & known).sum()
    assert (~flags[screen]).sum() == SCREEN // 2
    assert list(_screen(numbers, known)) == list(range(0, 2 * SCREEN, 2))


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5)), min_size=1, max_size=20))
def test_the_previous_row_is_of_the_same_entity_and_strictly_earlier(rows: list[tuple[int, int]]) -> None:
    found = _previous(moments([time for _, time in rows]), np.array([entity for entity, _ in rows], np.uint64))

    for (entity, time), place in zip(rows, found, strict=True):
        earlier = [other for whose, other in rows if whose == entity and other < time]
        assert (rows[place] if place >= 0 else None) == ((entity, max(earlier)) if earlier else None)


def test_without_labels_nothing_is_predicted() -> None:
    data = Data(1)
    training = Training(
        moments(data.times), pl.DataFrame({"f": data.label}), pl.DataFrame(), pl.DataFrame({"k": data.keys})
    )

    assert check_training(training) == ()


@pytest.mark.parametrize(
    "dtype",
    [pl.Int8, pl.UInt64, pl.Int128, pl.Float32, pl.Decimal(20, 3), pl.Boolean, pl.String, pl.Categorical, pl.Binary,
     pl.Date, pl.Datetime("ns"), pl.Duration, pl.Time, pl.List(pl.Int8), pl.Struct({"a": pl.Int8}), pl.Null],
)  # fmt: skip
def test_any_type_can_be_feature_and_label(dtype: Any) -> None:
    flags = [row % 3 == 0 for row in range(90)]
    values: dict[Any, Any] = {
        pl.String: texts(flags), pl.Categorical: texts(flags), pl.Binary: [str(flag).encode() for flag in flags],
        pl.List(pl.Int8): [[1]] * 90, pl.Struct({"a": pl.Int8}): [{"a": 1}] * 90, pl.Null: [None] * 90,
    }  # fmt: skip
    if dtype in values:
        column = pl.Series(values[dtype], dtype=dtype)
    else:
        column = pl.Series(flags).cast(pl.Int8)
        column = column.cast(pl.Int64).cast(dtype) if dtype != pl.Decimal(20, 3) else column.cast(dtype)
    told = dtype not in (pl.List(pl.Int8), pl.Struct({"a": pl.Int8}), pl.Null)
    for feature, label in ((column, pl.Series(flags)), (pl.Series(flags), column), (column, column)):
        training = Training(
            moments(EPOCH + np.arange(90)), pl.DataFrame({"f": feature}), pl.DataFrame({"y": label}), pl.DataFrame()
        )

        assert bool(check_training(training)) == told


def measured(feature: Any, label: Any) -> dict[str, tuple[float, int]]:
    truth = encode(pl.Series(label))
    found = measures(encode(pl.Series(feature)), truth, truth.codes >= 0)
    return {measure.kind: (measure.score, measure.rows) for measure in found}


SEEDS = st.integers(0, 2**32 - 1)


@settings(max_examples=100, deadline=None)
@given(SEEDS)
def test_auc_is_how_often_a_positive_ranks_above_a_negative(seed: int) -> None:
    random = np.random.default_rng(seed)
    values = random.choice([-3, -1, -0.0, 0, 0.5, 1, 2, 9, np.inf, np.nan], 80)
    flags = random.random(80) < random.uniform(0.1, 0.9)
    feature = nulled(values, random.random(80) < 0.1)
    known = feature.is_not_null().to_numpy() & ~np.isnan(values)
    above, below = values[known & flags], values[known & ~flags]
    found = measured(feature, flags).get("auc")
    if found is None:
        assert known.sum() < 50 or min(len(above), len(below)) < 5
        return
    auc = np.mean((above[:, None] > below).astype(float) + (above[:, None] == below) / 2)

    assert found == (pytest.approx(max(auc, 1 - auc), abs=1e-12), known.sum())


@settings(max_examples=100, deadline=None)
@given(SEEDS)
def test_spearman_is_the_correlation_of_ranks(seed: int) -> None:
    random = np.random.default_rng(seed)
    left, right = random.integers(-5, 5, 80), random.integers(-30, 30, 80)
    ranks = pl.DataFrame({"left": left, "right": right}).select(pl.all().rank())

    score, rows = measured(left, right)["spearman"]

    assert (score, rows) == (pytest.approx(abs(ranks.select(pl.corr("left", "right")).item()), abs=1e-9), 80)


@settings(max_examples=100, deadline=None)
@given(SEEDS)
def test_tau_of_texts_is_how_much_less_two_rows_of_one_text_differ(seed: int) -> None:
    """Two rows of each text, and some that are alone with theirs: those differ like any two."""
    random = np.random.default_rng(seed)
    pairs, alone = int(random.integers(50, 90)), int(random.integers(0, 20))
    feature = np.concatenate([np.repeat(np.arange(pairs), 2), pairs + np.arange(alone)])
    label = random.integers(0, random.integers(2, 6), len(feature))
    label[1 : 2 * pairs : 2] = np.where(random.random(pairs) < 0.5, label[: 2 * pairs : 2], label[1 : 2 * pairs : 2])
    order = random.permutation(len(feature))
    differ = np.mean(label[: 2 * pairs : 2] != label[1 : 2 * pairs : 2])
    any_two = np.mean((label[:, None] != label)[~np.eye(len(label), dtype=bool)])

    score, _ = measured(texts(feature[order]), texts(label[order]))["tau"]

    assert score == pytest.approx((1 - alone / len(feature)) * (1 - differ / any_two), abs=1e-12)


@settings(max_examples=100, deadline=None)
@given(SEEDS)
def test_tau_of_numbers_is_chatterjees_correlation(seed: int) -> None:
    """On a scale where the way from the first rank to the last is 1."""
    random = np.random.default_rng(seed)
    feature = random.permutation(80).astype(float)
    label = random.normal(size=80) + feature * random.uniform(0, 1)
    ranks = label.argsort().argsort()[feature.argsort()]
    excess = np.abs(np.diff(ranks)).sum() - 79

    assert measured(feature, label)["tau"][0] == pytest.approx(1 - excess / (79 * 81 / 3), abs=1e-12)


def test_a_relation_of_any_shape_is_seen_between_neighbours() -> None:
    random = np.random.default_rng(1)
    feature = random.uniform(-1, 1, 4000)

    assert measured(feature, np.cos(4 * feature))["tau"][0] > 0.98
    assert measured(feature, np.abs(feature) > 0.5)["tau"][0] > 0.98
    assert abs(measured(feature, random.normal(size=4000))["tau"][0]) < 0.1
    assert abs(measured(texts(feature > 0), random.normal(size=4000))["tau"][0]) < 0.1


# --- values, policy, page --------------------------------------------------------------------------------------------

WARNING = Leak("LEAK-001", "warning", "told", group="g", features=("g:a",), label="g:y", view="v")
NOTICE = Leak("LEAK-102", "notice", "asked", rows=3, of=5)


def test_a_leak_prints_and_goes_into_json() -> None:
    assert str(NOTICE).splitlines() == [
        "LEAK-102 notice: asked",
        f"  why:  {CODES['LEAK-102'].explanation}",
        f"  fix:  {CODES['LEAK-102'].fix}",
    ]
    assert json.loads(json.dumps(WARNING.to_dict())) == {
        "code": "LEAK-001",
        "severity": "warning",
        "message": "told",
        "explanation": CODES["LEAK-001"].explanation,
        "fix": CODES["LEAK-001"].fix,
        "view": "v",
        "group": "g",
        "features": ["g:a"],
        "label": "g:y",
        "rows": None,
        "of": None,
    }


def test_without_a_policy_leaks_are_returned() -> None:
    assert raise_or_return([WARNING, NOTICE], LeakPolicy()) == (WARNING, NOTICE)


@pytest.mark.parametrize(
    ("policy", "raised"),
    [
        (LeakPolicy.of("all"), ["LEAK-001"]),
        (LeakPolicy.of("LEAK-102"), ["LEAK-102"]),
        (LeakPolicy.of(["all", "LEAK-102"]), ["LEAK-001", "LEAK-102"]),
        (LeakPolicy.of(["LEAK-001", "LEAK-102"], "LEAK-102"), ["LEAK-001"]),
    ],
)
def test_a_policy_makes_leaks_errors(policy: LeakPolicy, raised: list[str]) -> None:
    with pytest.raises(LeakError) as caught:
        raise_or_return([WARNING, NOTICE], policy, asked_by="feature view 'v'")

    assert [leak["code"] for leak in caught.value.details["leaks"]] == raised
    assert caught.value.found == ", ".join(raised)
    assert caught.value.asked_by == "feature view 'v'"
    assert caught.value.message.startswith(f"{raised[0]}: ")


def test_what_is_ignored_is_not_told() -> None:
    assert not LeakPolicy.of("all", "LEAK-001").raises(WARNING)
    assert raise_or_return([WARNING, NOTICE], LeakPolicy.of("all", ["LEAK-001"])) == (NOTICE,)


def test_codes_that_do_not_exist() -> None:
    with pytest.raises(ConfigError) as caught:
        LeakPolicy.of(["LEAK-1O4"])
    assert "LEAK-104" in caught.value.closest
    with pytest.raises(ConfigError, match=r"leaks\.ignore: no code 'all'"):
        LeakPolicy.of(ignore="all")


def test_the_page_is_made_of_the_catalogue() -> None:
    """Made by `python -m grange.quality.leaks.reference > docs/reference/leaks.md`."""
    assert PAGE.read_text(encoding="utf-8") == reference()


@pytest.mark.parametrize("code", CODES)
def test_the_page_shows_code_example_and_fix(code: str) -> None:
    page = PAGE.read_text(encoding="utf-8")

    assert f"### {code}: {CODES[code].title}" in page
    assert CODES[code].example in page
    ast.parse(CODES[code].example)


@pytest.mark.parametrize("code", ["LEAK-001", "LEAK-002", "LEAK-003"])
def test_the_examples_of_definitions_leak(code: str) -> None:
    names: dict[str, Any] = {"gr": gr, "user": user, "carrier": carrier, "payments": payments, "flights": flights}
    exec(CODES[code].example, names)
    groups = [value for value in names.values() if isinstance(value, gr.FeatureGroup)]

    assert {leak.code for leak in check_definitions(Catalog.of([*groups, names["view"]]))} == {code}


def test_definitions_are_checked_without_frames() -> None:
    code = "import sys, grange.quality.leaks as leaks; print('polars' in sys.modules, leaks.__name__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout == "False grange.quality.leaks\n"
