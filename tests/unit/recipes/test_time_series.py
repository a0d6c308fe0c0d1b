"""Recipes are ordinary definitions: what they name, that forecasts see nothing too early, and what comes out."""

from __future__ import annotations

import datetime as dt
import json
import statistics
import subprocess
import sys
import zoneinfo
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import grange as gr
from grange import recipes
from grange.definitions.expressions import expression_dtype
from grange.definitions.serialize import group_from_data, to_data, view_from_data
from grange.errors import DefinitionError, DurationError, NotFoundError
from grange.recipes import RECIPES, Recipe, anomaly_detection, forecast_advanced, forecast_basic, rollups
from grange.types import Schema
from grange.types.schema import Column

meter = gr.Entity("meter", join_keys=["meter_id"])
readings = gr.FileSource("load.parquet", event_time="at")
weather = gr.FeatureGroup(
    "weather",
    entities=gr.Entity("place", join_keys=["place"]),
    source=gr.FileSource("weather.parquet", event_time="measured_at"),
    schema={"place": "string", "measured_at": "datetime", "temperature": "float64"},
)
COLUMNS = {"meter_id": "int64", "at": "datetime", "load": "float64"}
HOUR = dt.timedelta(hours=1)

STATISTICS = [f"load__{kind}__{window}" for kind in ("mean", "std", "min", "max") for window in ("24h", "168h")]
CALENDAR = ["hour", "weekday", "month", "weekend"]
BASIC = ["load__lag__1h", "load__lag__24h", "load__lag__168h", *STATISTICS, *CALENDAR]


def made(name: str, /, **options: Any) -> Recipe:
    return RECIPES[name].make(readings, meter, "load", **options)


def names(group: gr.FeatureGroup) -> list[str]:
    return [aggregate.name for aggregate in group.aggregates()]


def view_of(recipe: Recipe) -> gr.FeatureView:
    assert recipe.view is not None
    return recipe.view


def test_the_basic_forecast_has_lags_statistics_and_the_calendar() -> None:
    recipe = forecast_basic(readings, meter)
    [group] = recipe.groups

    assert names(group) == BASIC
    assert (group.name, view_of(recipe).name) == ("load_forecast_basic_features", "load_forecast_basic")
    assert view_of(recipe).labels == ("load",)
    assert recipe.definitions == (group, recipe.view)


def test_the_advanced_forecast_has_all_of_the_basic_one_and_the_weather() -> None:
    recipe = forecast_advanced(readings, meter, weather=weather)
    group, other = recipe.groups

    assert set(BASIC) < set(names(group))
    assert {"load__lag__336h", "load__median__24h", "load__quantile_0_9__168h", "load__ewma_1d__168h"} < set(
        names(group)
    )
    assert other == weather
    assert [str(item) for item in view_of(recipe).features] == [group.name, "weather strictly before"]
    assert dict(view_of(recipe).derived).keys() == {
        "load__change__24h", "load__change__168h", "load__slope__2h", "load__level__24h",
    }  # fmt: skip


def test_weather_may_be_selected_and_left_out() -> None:
    selected = weather.select("temperature", on={"place": "station"})

    recipe = forecast_advanced(readings, meter, weather=selected)

    assert len(recipe.groups) == 1
    assert view_of(recipe).features[1] == selected
    assert len(view_of(forecast_advanced(readings, meter)).features) == 1
    with pytest.raises(DefinitionError, match="weather is a feature group or a selection") as caught:
        forecast_advanced(readings, meter, weather="weather")  # type: ignore[arg-type]
    assert caught.value.found == "'weather' (str)"


def test_anomaly_detection_compares_a_reading_with_what_was_before_it() -> None:
    recipe = anomaly_detection(readings, meter)
    [group] = recipe.groups

    assert {"load__last", "load__lag__168h", "rows__count__24h", "rows__time_since_last__168h"} < set(names(group))
    assert set(STATISTICS) < set(names(group))
    assert view_of(recipe).labels == ()
    kinds = ("zscore", "deviation", "range", "position")
    compared = {f"load__{kind}__{window}" for kind in kinds for window in ("24h", "168h")}
    assert {name for name, _ in view_of(recipe).derived} == {*compared, "load__change__1h"}


def test_rollups_are_tables_of_whole_intervals_without_gaps() -> None:
    recipe = rollups(readings, meter)

    assert recipe.view is None
    assert recipe.definitions == recipe.groups
    assert [group.name for group in recipe.groups] == ["load_rollup_1h", "load_rollup_1d"]
    assert [group.interval for group in recipe.groups] == [HOUR, 24 * HOUR]
    assert all(group.fill_gaps for group in recipe.groups)
    assert names(recipe.groups[1]) == [f"load__{kind}__rollup_1d" for kind in ("count", "mean", "std", "min", "max")]
    assert [group.name for group in rollups(readings, meter, every="15m", name="quarter").groups] == ["quarter_15m"]
    with pytest.raises(DurationError):
        rollups(readings, meter, every="1mo")


@pytest.mark.parametrize("recipe", ["forecast_basic", "forecast_advanced"])
def test_nothing_of_a_forecast_sees_the_moment_itself(recipe: str) -> None:
    view = view_of(made(recipe, **({"weather": weather} if recipe == "forecast_advanced" else {})))
    for aggregate in made(recipe).groups[0].aggregates():
        assert aggregate.function.about.tally == "time" or aggregate.shift > 0 or aggregate.closed == "left"
    assert all(not item.exact_matches for item in view.features if item.source == "weather")


def test_an_outlier_is_not_part_of_what_it_is_compared_with() -> None:
    closed = {
        item.name: item.closed for item in anomaly_detection(readings, meter).groups[0].aggregates() if item.columns
    }

    assert {name for name, end in closed.items() if end == "right"} == {
        "load__last", "load__lag__1h", "load__lag__24h", "load__lag__168h",
    }  # fmt: skip


@pytest.mark.parametrize("name", RECIPES)
def test_definitions_survive_being_stored(name: str) -> None:
    for definition in made(name, name="demand").definitions:
        data = json.loads(json.dumps(to_data(definition)))
        read = group_from_data if isinstance(definition, gr.FeatureGroup) else view_from_data
        assert read(definition.name, data) == definition


@pytest.mark.parametrize("name", RECIPES)
def test_further_arguments_are_those_of_a_group(name: str) -> None:
    for group in made(name, owner="grid", ttl="60d", schema=COLUMNS).groups:
        assert (group.owner, group.ttl) == ("grid", dt.timedelta(days=60))
        assert group.description
    assert made(name, description="Ours.").groups[0].description == "Ours."
    with pytest.raises(TypeError, match="timezon"):
        made(name, timezon="UTC")
    with pytest.raises(DefinitionError, match="no event time"):
        RECIPES[name].make(gr.FileSource("load.parquet"), meter, "load")


@pytest.mark.parametrize("name", ["forecast_advanced", "anomaly_detection"])
@pytest.mark.parametrize("value", ["load", "Load MW", 'the "load"'])
@pytest.mark.parametrize("dtype", ["float64", "int32"])
def test_derived_features_are_of_the_group_s_features(name: str, value: str, dtype: str) -> None:
    recipe = RECIPES[name].make(
        readings, meter, value, name="demand", schema={"meter_id": "int64", "at": "datetime", value: dtype}
    )
    features = recipe.groups[0].aggregates()
    schema = Schema(tuple(Column(aggregate.name, aggregate.dtype) for aggregate in features))
    for derived, expression in view_of(recipe).derived:
        assert derived not in schema
        assert str(expression_dtype(expression, schema)) in ("float64", "int64")


def test_holidays_need_a_country() -> None:
    pytest.importorskip("holidays", reason="needs holidays: pip install 'grange[timeseries]'")
    for make in (forecast_basic, forecast_advanced, anomaly_detection):
        assert names(make(readings, meter, country="DE").groups[0])[-1] == "holiday"
        assert "holiday" not in names(make(readings, meter).groups[0])


def test_the_table_describes_every_recipe_in_a_line() -> None:
    assert list(RECIPES) == ["forecast_basic", "forecast_advanced", "anomaly_detection", "rollups"]
    for name, entry in RECIPES.items():
        assert entry.make.__name__ == name
        assert len(entry.description) < 120
        assert entry.description.endswith(".")


# What comes out of a store.

START = dt.datetime(2026, 3, 20)
SERIES = {START + hour * HOUR: float(37 * hour % 101) for hour in range(24 * 10) if hour not in (100, 101, 191)}
"""Ten days of hourly readings, three of them missing; Berlin's clock goes forward on the tenth day."""


def before(moment: dt.datetime, hours: int) -> list[float]:
    return [value for at, value in SERIES.items() if moment - hours * HOUR <= at < moment]


@pytest.fixture
def store(tmp_path: Path) -> gr.FeatureStore:
    rows = [{"meter_id": 1, "at": at, "load": value} for at, value in SERIES.items()]
    pl.DataFrame(rows).write_parquet(tmp_path / "load.parquet")
    rows = [{"place": "north", "measured_at": at, "temperature": value / 10} for at, value in SERIES.items()]
    pl.DataFrame(rows).write_parquet(tmp_path / "weather.parquet")
    return gr.FeatureStore(tmp_path, engine="polars", online="memory")


def asked(store: gr.FeatureStore, recipe: Recipe, moments: list[dt.datetime], **columns: Any) -> list[dict[str, Any]]:
    store.apply(recipe.definitions)
    store.materialize(list(recipe.groups), online=False)
    spine = pl.DataFrame({"meter_id": 1, "at": moments, **columns})
    return store.get_historical_features(view_of(recipe).name, spine).to_polars().to_dicts()


def test_a_forecast_is_of_what_was_before_the_moment(store: gr.FeatureStore) -> None:
    moments = [START + hour * HOUR for hour in (0, 1, 30, 101, 102, 103, 126, 200, 239, 260)]

    found = asked(store, forecast_basic(readings, meter, timezone="Europe/Berlin"), moments, load=-1.0)

    for row, moment in zip(found, moments, strict=True):
        assert row["load"] == -1.0  # the label is the spine's
        for hours in (1, 24, 168):
            assert row[f"load__lag__{hours}h"] == SERIES.get(moment - hours * HOUR)
        for hours in (24, 168):
            values = before(moment, hours)
            assert row[f"load__mean__{hours}h"] == (pytest.approx(statistics.fmean(values)) if values else None)
            assert row[f"load__std__{hours}h"] == (pytest.approx(statistics.stdev(values)) if len(values) > 1 else None)
            assert row[f"load__min__{hours}h"] == min(values, default=None)
            assert row[f"load__max__{hours}h"] == max(values, default=None)
        local = moment.replace(tzinfo=dt.UTC).astimezone(zoneinfo.ZoneInfo("Europe/Berlin"))
        assert (row["hour"], row["weekday"], row["month"]) == (local.hour, local.weekday(), local.month)
        assert row["weekend"] is (local.weekday() >= 5)


def test_an_advanced_forecast_knows_the_weather_before_the_moment(store: gr.FeatureStore) -> None:
    moments = [START + hour * HOUR for hour in (60, 200, 239)]

    found = asked(store, forecast_advanced(readings, meter, weather=weather), moments, place="north")

    for row, moment in zip(found, moments, strict=True):
        newest = max(at for at in SERIES if at < moment)
        assert row["temperature"] == SERIES[newest] / 10
        day, other = (SERIES.get(moment - hours * HOUR) for hours in (24, 48))
        assert row["load__change__24h"] == (None if day is None or other is None else pytest.approx(day - other))
        level = statistics.fmean(before(moment, 24)) / statistics.fmean(before(moment, 168))
        assert row["load__level__24h"] == pytest.approx(level)


def test_an_anomaly_is_far_from_what_was_before_it(store: gr.FeatureStore) -> None:
    moments = [START + hour * HOUR for hour in (0, 1, 102, 150, 191, 200)]

    found = asked(store, anomaly_detection(readings, meter), moments)

    for row, moment in zip(found, moments, strict=True):
        reading, values = SERIES.get(moment), before(moment, 24)
        assert row["load__last"] == reading
        assert row["rows__count__24h"] == len(values)
        gaps = [(moment - at).total_seconds() for at in SERIES if at < moment]
        assert row["rows__time_since_last__168h"] == min(gaps, default=None)
        if reading is None or len(values) < 2:
            assert row["load__zscore__24h"] is None
            continue
        zscore = (reading - statistics.fmean(values)) / statistics.stdev(values)
        assert row["load__zscore__24h"] == pytest.approx(zscore)
        position = (reading - min(values)) / (max(values) - min(values))
        assert row["load__position__24h"] == pytest.approx(position)
        assert row["load__range__24h"] == max(values) - min(values)
        earlier = SERIES.get(moment - HOUR)
        assert row["load__change__1h"] == (None if earlier is None else reading - earlier)


def test_rollups_are_known_when_their_interval_is_over(store: gr.FeatureStore) -> None:
    recipe = rollups(readings, meter)
    store.apply(recipe.definitions)
    store.materialize(list(recipe.groups), online=False)

    spine = pl.DataFrame({"meter_id": 1, "at": [START + 30 * HOUR, START + 102 * HOUR]})
    found = store.get_historical_features(["load_rollup_1h", "load_rollup_1d"], spine).to_polars().to_dicts()

    days = [[SERIES[START + hour * HOUR] for hour in range(day * 24, day * 24 + 24) if START + hour * HOUR in SERIES]
            for day in (0, 3)]  # fmt: skip
    assert [row["load__mean__rollup_1d"] for row in found] == [pytest.approx(statistics.fmean(day)) for day in days]
    assert [row["load__count__rollup_1d"] for row in found] == [24, 24]
    assert [row["load__count__rollup_1h"] for row in found] == [1, 0]
    assert [row["load__max__rollup_1h"] for row in found] == [SERIES[START + 29 * HOUR], None]


def test_recipes_are_found_by_name_and_say_what_they_take() -> None:
    assert {name: recipes.named(name).takes for name in RECIPES} == {
        "forecast_basic": ("timezone", "country", "tolerance"),
        "forecast_advanced": ("timezone", "country", "weather", "tolerance"),
        "anomaly_detection": ("timezone", "country", "tolerance"),
        "rollups": ("every", "offset"),
    }
    with pytest.raises(NotFoundError, match="forcast_basic") as caught:
        recipes.named("forcast_basic")
    assert caught.value.closest[0] == "forecast_basic"


def test_recipes_are_reachable_without_importing_them() -> None:
    assert gr.recipes is recipes
    code = "import sys, grange; assert 'grange.recipes' not in sys.modules; grange.recipes.forecast_basic"
    heavy = "assert not {'polars', 'pyarrow', 'numpy', 'sqlglot'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", f"{code}; {heavy}"], check=True)
