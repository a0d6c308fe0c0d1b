"""What an answer was made of, kept beside answers that outlive their request, to ask about it again (SEC-3)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from grange.verbs.origins import MadeOf


@dataclass(frozen=True, slots=True)
class Reading:
    """What was read for an answer."""

    what: str
    """What was asked for, for messages."""
    view: str | None
    """The feature view that was asked for."""
    groups: tuple[str, ...]
    """The feature groups that were asked for themselves."""
    made_of: MadeOf
    """By column, what it is made of; under "" what is read and not shown."""
    is_prepared: bool = False
    """Whether transformations made other columns of these, so that none can be masked."""

    @classmethod
    def of(
        cls, what: str, made_of: MadeOf, *, view: str | None, groups: tuple[str, ...], is_prepared: bool = False
    ) -> Reading:
        """Of the columns of an answer, as `grange.verbs.origins` has them."""
        shown = {name: origins for name, origins in made_of.items() if not name.startswith("\0")}
        unseen = dict.fromkeys(
            origin for name, origins in made_of.items() if name.startswith("\0") for origin in origins
        )
        return cls(what, view, groups, {**shown, **({"": tuple(unseen)} if unseen else {})}, is_prepared)

    def to_dict(self) -> dict[str, Any]:
        """For JSON; `from_dict` reads it back."""
        return {
            "what": self.what,
            "view": self.view,
            "groups": list(self.groups),
            "made_of": {name: [list(origin) for origin in origins] for name, origins in self.made_of.items()},
            "is_prepared": self.is_prepared,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Reading:
        """The inverse of `to_dict`. KeyError, TypeError or ValueError for anything else."""
        made_of = {
            name: tuple((group, feature) for group, feature in origins) for name, origins in data["made_of"].items()
        }
        return cls(data["what"], data["view"], tuple(data["groups"]), made_of, data["is_prepared"])
