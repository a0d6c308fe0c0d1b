"""Recipes for time series: one value per entity and moment, such as the load of a meter.

Features of a forecast are known before the moment that it is for. Their windows leave out that moment (WIN-1,
`closed="left"`), and lags lie before it (LAG-1), so a spine row may carry the value itself as its label.

Names follow WIN-5: `load__mean__24h`, `load__lag__168h`; derived features likewise: `load__zscore__24h`.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

from grange.definitions.aggregations import Aggregation, Calendar, Duration, Lag, Rolling, Rollup
from grange.definitions.entity import Entity
from grange.definitions.expression_nodes import Column, write
from grange.definitions.feature_group import FeatureGroup
from grange.definitions.feature_view import FeatureView
from grange.definitions.references import FeatureSelection
from grange.definitions.sources import Source
from grange.errors import DefinitionError
from grange.recipes.recipe import Recipe
from grange.types.aggregates import ROWS

DAY_AND_WEEK: Final = ("24h", "168h")
"""The windows of every set: load, traffic and sales repeat themselves daily and weekly."""
TOLERANCE: Final = "59m"
"""How much older than asked a lagged reading may be: under an hour, so that the reading of the hour before never stands
in for one that is missing."""


def forecast_basic(
    source: Source,
    entity: Entity | Sequence[Entity],
    value: str = "load",
    *,
    name: str | None = None,
    timezone: str = "UTC",
    country: str | None = None,
    tolerance: Duration | None = TOLERANCE,
    **options: Any,
) -> Recipe:
    """What a first forecasting model needs: lags, statistics of the last day and week, the calendar.

    Features, of a value `load`:
        `load__lag__1h`, `24h`, `168h`; `load__mean__24h`, `168h`, likewise `std`, `min` and `max`; `hour`, `weekday`,
        `month`, `weekend`, and `holiday` where there is a country.

    Time:
        A spine row's time is the moment to forecast, and every feature is known just before it: one step ahead.
        To forecast further ahead, ask as of the moment at which the forecast is made, and bring the later value as
        the label. Windows are `[t - w, t)`.

    Args:
        source: where the readings come from; needs an event time.
        entity: whose they are.
        value: the column of the reading, a number. It is the view's label, which a spine may bring.
        name: of the view; the group is called the same with `_features` added. `load_forecast_basic` when left out.
        timezone: where the clock of the calendar hangs; an IANA name.
        country: whose holidays: `DE`, or with a subdivision `US-CA`.
        tolerance: how much older than asked a lagged reading may be; None is any age.
        options: further arguments of the `FeatureGroup`: `owner`, `ttl`, `transform` …

    Raises:
        DefinitionError: a name, time zone or country that is none; a source without event time.
        MissingDependencyError: a country, without the package that knows holidays.
    """
    name = f"{value}_forecast_basic" if name is None else name
    group = FeatureGroup(
        f"{name}_features",
        entities=entity,
        source=source,
        aggregations=[
            Lag(value, ["1h", "24h", "168h"], tolerance=tolerance),
            Rolling({value: ["mean", "std", "min", "max"]}, windows=DAY_AND_WEEK, closed="left"),
            _calendar(timezone, country),
        ],
        **_described(options, f"What is known of {value} just before a moment."),
    )
    view = FeatureView(name, features=[group], labels=[value], description=f"To forecast {value}, one step ahead.")
    return Recipe((group,), view)


def forecast_advanced(
    source: Source,
    entity: Entity | Sequence[Entity],
    value: str = "load",
    *,
    name: str | None = None,
    timezone: str = "UTC",
    country: str | None = None,
    weather: FeatureGroup | FeatureSelection | None = None,
    tolerance: Duration | None = TOLERANCE,
    **options: Any,
) -> Recipe:
    """What `forecast_basic` has, with more lags, medians and quantiles, trends, and the weather of the place.

    Features, of a value `load`, besides those of `forecast_basic`:
        `load__lag__2h`, `3h`, `48h`, `336h`; `load__median__24h`, `168h`, likewise `quantile_0_1` and `quantile_0_9`;
        `load__ewma_1d__168h`, the mean of the week in which a day halves the weight; of the weather, everything that
        is selected. Derived: `load__change__24h` and `168h`, by how much the same hour changed from one day, or week,
        to the next; `load__slope__2h`, the change per hour between 3 hours and 1 hour ago; `load__level__24h`, the
        mean of the day by that of the week.

    Time:
        As of `forecast_basic`. Weather that comes as a group is the newest one measured before the moment; a weather
        forecast for the moment itself is `weather=group.select()`.

    Args:
        source, entity, value, timezone, country, tolerance, options: as of `forecast_basic`.
        name: likewise; `load_forecast_advanced` when left out.
        weather: a feature group keyed by place, or `group.select(...)` for some of its features, another key column
            (`on={"place": "station"}`) or other names. Spines and requests then bring the place.

    Raises:
        As `forecast_basic`.
    """
    name = f"{value}_forecast_advanced" if name is None else name
    group = FeatureGroup(
        f"{name}_features",
        entities=entity,
        source=source,
        aggregations=[
            Lag(value, ["1h", "2h", "3h", "24h", "48h", "168h", "336h"], tolerance=tolerance),
            Rolling(
                {value: ["mean", "std", "min", "max", "median", "quantile(0.1)", "quantile(0.9)"]},
                windows=DAY_AND_WEEK,
                closed="left",
            ),
            Rolling({value: "ewma(1d)"}, windows="168h", closed="left"),
            _calendar(timezone, country),
        ],
        **_described(options, f"What is known of {value} just before a moment."),
    )
    feature = partial(_feature, value)
    view = FeatureView(
        name,
        features=[group, *_weather(weather, name)],
        labels=[value],
        derived={
            f"{value}__change__24h": f"{feature('lag', '24h')} - {feature('lag', '48h')}",
            f"{value}__change__168h": f"{feature('lag', '168h')} - {feature('lag', '336h')}",
            f"{value}__slope__2h": f"({feature('lag', '1h')} - {feature('lag', '3h')}) / 2",
            f"{value}__level__24h": f"{feature('mean', '24h')} / NULLIF({feature('mean', '168h')}, 0)",
        },
        description=f"To forecast {value}, one step ahead, by its history and the weather.",
    )
    return Recipe((group, weather) if isinstance(weather, FeatureGroup) else (group,), view)


def anomaly_detection(
    source: Source,
    entity: Entity | Sequence[Entity],
    value: str = "load",
    *,
    name: str | None = None,
    timezone: str = "UTC",
    country: str | None = None,
    tolerance: Duration | None = TOLERANCE,
    **options: Any,
) -> Recipe:
    """How unusual a reading is, against its own day and week.

    Features, of a value `load`:
        `load__last`, the reading itself; of the readings before it `load__mean__24h`, `168h`, likewise `std`, `min`,
        `max`, and `rows__count__24h`, `168h`; `load__lag__1h`, `24h`, `168h`; `rows__time_since_last__168h`, the
        seconds since the reading before; the calendar as of `forecast_basic`. Derived: `load__zscore__24h`, `168h`;
        `load__deviation__24h`, `168h`, from the same hour a day and a week ago; `load__change__1h`, from an hour
        ago; `load__range__24h`, `168h`, max - min; `load__position__24h`, `168h`, which is 0 at the minimum, 1 at
        the maximum, and beyond them for a reading beyond them.

    Time:
        A spine row's time is that of a reading, which the row sees. What the reading is compared with ends before it
        (`[t - w, t)`), so that an outlier does not hide in its own mean.

    Args:
        source, entity, value, timezone, country, options: as of `forecast_basic`; the value is no label here.
        name: likewise; `load_anomaly_detection` when left out.
        tolerance: how old the reading may be, and a lagged one older than asked; None is any age.

    Raises:
        As `forecast_basic`.
    """
    name = f"{value}_anomaly_detection" if name is None else name
    group = FeatureGroup(
        f"{name}_features",
        entities=entity,
        source=source,
        aggregations=[
            Rolling(
                {value: "last"}, windows="lifetime" if tolerance is None else tolerance, name="{column}__{function}"
            ),
            Lag(value, ["1h", "24h", "168h"], tolerance=tolerance),
            Rolling({value: ["mean", "std", "min", "max"], ROWS: "count"}, windows=DAY_AND_WEEK, closed="left"),
            Rolling({ROWS: "time_since_last"}, windows="168h", closed="left"),
            _calendar(timezone, country),
        ],
        **_described(options, f"A reading of {value}, and what was before it."),
    )
    feature, reading = partial(_feature, value), write(Column(f"{value}__last"))
    view = FeatureView(
        name,
        features=[group],
        derived={
            f"{value}__{kind}__{window}": text
            for window in DAY_AND_WEEK
            for kind, text in _deviations(feature, reading, window).items()
        }
        | {f"{value}__change__1h": f"{reading} - {feature('lag', '1h')}"},
        description=f"How unusual a reading of {value} is.",
    )
    return Recipe((group,), view)


def rollups(
    source: Source,
    entity: Entity | Sequence[Entity],
    value: str = "load",
    *,
    name: str | None = None,
    every: Sequence[Duration] | Duration = ("1h", "1d"),
    offset: Duration | None = None,
    **options: Any,
) -> Recipe:
    """Hourly and daily tables of a series: count, mean, std, min and max of whole intervals, gaps filled.

    Features, of a value `load` in the hourly group:
        `load__count__rollup_1h`, likewise `mean`, `std`, `min`, `max`. An interval without readings counts 0 and is
        otherwise null (WIN-4).

    Time:
        The row of an interval `[b - every, b)` has the event time `b`: nobody knows it earlier (WIN-3). Boundaries are
        of UTC; days of a zone with summer time have no fixed length (TIME-2).

    Args:
        source, entity, value, options: as of `forecast_basic`.
        name: what the groups' names begin with; `load_rollup` when left out: `load_rollup_1h`, `load_rollup_1d`.
        every: the intervals, a group each.
        offset: moves the boundaries; shorter than every interval.

    Raises:
        DefinitionError, DurationError: a name or length that is none; a source without event time.
    """
    lengths = [every] if isinstance(every, str | dt.timedelta) else list(every)
    prefix = f"{value}_rollup" if name is None else name
    rolled = [
        Rollup({value: ["count", "mean", "std", "min", "max"]}, every=length, offset=offset) for length in lengths
    ]
    groups = tuple(
        FeatureGroup(
            f"{prefix}_{rollup.every.label}",
            entities=entity,
            source=source,
            aggregations=[rollup],
            interval=length,
            fill_gaps=True,
            **_described(options, f"{value} by intervals of {rollup.every.label}."),
        )
        for rollup, length in zip(rolled, lengths, strict=True)
    )
    return Recipe(groups)


def _feature(value: str, function: str, window: str) -> str:
    """The name of a feature (WIN-5), as text of an expression."""
    return write(Column(f"{value}__{function}__{window}"))


def _deviations(feature: Callable[[str, str], str], reading: str, window: str) -> dict[str, str]:
    low, high = feature("min", window), feature("max", window)
    return {
        "zscore": f"({reading} - {feature('mean', window)}) / NULLIF({feature('std', window)}, 0)",
        "deviation": f"{reading} - {feature('lag', window)}",
        "range": f"{high} - {low}",
        "position": f"({reading} - {low}) / NULLIF({high} - {low}, 0)",
    }


def _calendar(timezone: str, country: str | None) -> Aggregation:
    fields = ["hour", "weekday", "month", "weekend", *(["holiday"] if country is not None else [])]
    return Calendar(fields, timezone=timezone, country=country)


def _weather(weather: FeatureGroup | FeatureSelection | None, name: str) -> list[FeatureSelection]:
    match weather:
        case None:
            return []
        case FeatureSelection():
            return [weather]
        case FeatureGroup():
            # a measurement of the moment itself is not known before it
            return [weather.select(exact_matches=False)]
        case _:
            raise DefinitionError(
                f"recipe {name!r}: weather is a feature group or a selection of one",
                found=f"{weather!r:.80} ({type(weather).__name__})",
                try_='weather=gr.FeatureGroup("weather", entities=place, source=...)',
            )


def _described(options: dict[str, Any], description: str) -> dict[str, Any]:
    """A group's further arguments, with a description unless there is one."""
    return {"description": description} | options
