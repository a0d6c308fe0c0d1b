"""Ready feature sets: functions that return ordinary definitions, to apply as they are or to start from.

    recipe = gr.recipes.forecast_basic(readings, meter, "load", timezone="Europe/Berlin")
    store.apply(recipe.definitions)
    store.get_historical_features(recipe.view, spine)

A recipe holds nothing that `gr.FeatureGroup` and `gr.FeatureView` could not say. Write your own where it does not fit.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from grange.errors import NotFoundError, closest_names
from grange.recipes.recipe import Recipe
from grange.recipes.time_series import anomaly_detection, forecast_advanced, forecast_basic, rollups


@dataclass(frozen=True, slots=True)
class Entry:
    """A recipe in the table of them."""

    make: Callable[..., Recipe]
    """Takes a source, an entity and the name of the value column; its further arguments go by keyword."""
    description: str
    """One line, for listings."""

    @property
    def takes(self) -> tuple[str, ...]:
        """The names of its own arguments that go by keyword, besides `name`; those of `FeatureGroup` not among them."""
        parameters = inspect.signature(self.make).parameters.values()
        own = [item.name for item in parameters if item.kind is inspect.Parameter.KEYWORD_ONLY]
        return tuple(name for name in own if name != "name")


RECIPES: Final[Mapping[str, Entry]] = {
    "forecast_basic": Entry(
        forecast_basic,
        "Forecast a series: its value 1, 24 and 168 hours ago, statistics of the last day and week, the calendar.",
    ),
    "forecast_advanced": Entry(
        forecast_advanced,
        "The same with more lags, medians and quantiles, trends, and the weather of the place.",
    ),
    "anomaly_detection": Entry(
        anomaly_detection,
        "How unusual a reading is: z-scores, deviation from the same hour a day and a week ago, rate of change, gaps.",
    ),
    "rollups": Entry(
        rollups,
        "Hourly and daily tables of a series, gaps filled.",
    ),
}
"""Every recipe, by name."""


def named(name: str) -> Entry:
    """The recipe of a name.

    Raises:
        NotFoundError: there is none; carries the closest names.
    """
    if name not in RECIPES:
        raise NotFoundError(
            f"no recipe is called {name!r}",
            found=f"recipes: {', '.join(RECIPES)}",
            closest=closest_names(name, RECIPES),
            try_="grange fg create --help says what each is",
        )
    return RECIPES[name]


__all__ = ["RECIPES", "Entry", "Recipe", "anomaly_detection", "forecast_advanced", "forecast_basic", "named", "rollups"]
