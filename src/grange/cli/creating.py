"""What `grange fg create` makes of its options: one feature group, or the definitions of a recipe."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from typer.core import TyperCommand

from grange.errors import UsageError, closest_names

if TYPE_CHECKING:
    import typer

    from grange.definitions import Catalog, Entity, FeatureGroup, FeatureSelection, FeatureView
    from grange.definitions.sources import FileSource

VALUE: Final = "value"


class CreateCommand(TyperCommand):
    """A command whose help ends in the list of recipes, which is only loaded to be shown."""

    def format_epilog(self, ctx: typer.Context, formatter: Any) -> None:  # type: ignore[override]
        """Write the recipes after the options."""
        with formatter.section("Recipes"):
            formatter.write_dl(recipe_lines())
        super().format_epilog(ctx, formatter)


def recipe_lines() -> list[tuple[str, str]]:
    """Each recipe with its description and the options it takes."""
    from grange.recipes import RECIPES

    return [(name, f"{entry.description} Takes {_flags([VALUE, *entry.takes])}.") for name, entry in RECIPES.items()]


def of_recipe(
    recipe: str,
    name: str,
    source: FileSource,
    entities: Sequence[Entity],
    arguments: Mapping[str, str],
    options: Mapping[str, Any],
    catalog: Catalog,
) -> list[FeatureGroup | FeatureView]:
    """The definitions that a recipe makes; those of its arguments, which are applied already, not among them.

    Args:
        recipe: its name.
        name: what its definitions are called after.
        arguments: its own arguments as text, by name.
        options: further arguments of its feature groups.
        catalog: where the weather's group is applied.

    Raises:
        NotFoundError: no such recipe, with the closest; or no such weather group.
        UsageError: an argument that this recipe does not take.
        DefinitionError: whatever the recipe refuses.
    """
    from grange.recipes import named

    entry = named(recipe)
    takes = (VALUE, *entry.takes)
    for argument in arguments:
        if argument not in takes:
            raise UsageError(
                f"recipe {recipe!r} takes no {_flags([argument])}",
                found=f"it takes {_flags(takes)}",
                closest=[_flags([near]) for near in closest_names(argument, takes)],
            )
    for option in options:
        if option in _BROUGHT or (option in _GRID and "every" in takes):
            raise UsageError(
                f"recipe {recipe!r} brings its own {option.replace('_', ' ')}",
                try_="--every 1h,1d" if option in _GRID else "leave the option out, or --recipe",
            )
    given: dict[str, Any] = {key: _READERS.get(key, _text)(text, catalog) for key, text in arguments.items()}
    made = entry.make(source, list(entities), name=name, **given, **options)
    return [definition for definition in made.definitions if definition is not given.get("weather")]


_BROUGHT: Final = ("aggregations",)
_GRID: Final = ("interval", "fill_gaps")


def _flags(arguments: Sequence[str]) -> str:
    return ", ".join(f"--{argument.replace('_', '-')}" for argument in arguments)


def _text(text: str, catalog: Catalog) -> str:
    return text


def _tolerance(text: str, catalog: Catalog) -> str | None:
    return None if text.strip().lower() == "none" else text


def _every(text: str, catalog: Catalog) -> list[str]:
    lengths = [length.strip() for length in text.split(",")]
    if not all(lengths):
        raise UsageError(f"--every {text!r} has an empty length", try_="--every 1h,1d")
    return lengths


def _weather(text: str, catalog: Catalog) -> FeatureGroup | FeatureSelection:
    """An applied group, or a join of one."""
    from grange.cli.fv import check_joins
    from grange.cli.grammars import parse_join

    if len(text.split()) == 1:
        return catalog.group(text, asked_by=f"--weather {text}")
    check_joins(catalog, [text], option="--weather")
    return parse_join(text)


_READERS: Final[Mapping[str, Callable[[str, Catalog], Any]]] = {
    "tolerance": _tolerance,
    "every": _every,
    "weather": _weather,
}
"""By argument; what is not here goes to the recipe as it was written."""
