"""Recipe: the definitions that a ready set stands for."""

from __future__ import annotations

from dataclasses import dataclass

from grange.definitions.feature_group import FeatureGroup
from grange.definitions.feature_view import FeatureView


@dataclass(frozen=True, slots=True)
class Recipe:
    """The definitions of a ready set."""

    groups: tuple[FeatureGroup, ...]
    """Those that the recipe makes, and those that were handed to it."""
    view: FeatureView | None = None
    """What a model consumes; None of a recipe that only makes tables."""

    @property
    def definitions(self) -> tuple[FeatureGroup | FeatureView, ...]:
        """All of them, for `FeatureStore.apply`."""
        return self.groups if self.view is None else (*self.groups, self.view)
