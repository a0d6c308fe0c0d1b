"""Historical features that a server joined, beside the spine as the caller holds it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

from grange.errors import UnsupportedError
from grange.frames import Rows
from grange.verbs.history import HistoricalFeatures

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from grange.plan.bind import Role
    from grange.quality.leaks import Leak
    from grange.verbs.spine import Spine


@dataclass(frozen=True, slots=True)
class Told:
    """What is known of an answer besides its rows."""

    event_time: str
    roles: Mapping[str, Role]
    pins: Sequence[tuple[str, str, int]]
    leaks: tuple[Leak, ...]
    rows_left_out: int
    explained: str
    """The plan, as text."""


class RemoteHistoricalFeatures(HistoricalFeatures):
    """As `HistoricalFeatures`. The plan is the server's: here is its text alone."""

    __slots__ = ("_explained",)

    def __init__(self, spine: Spine, features: Rows, told: Told, immature: NDArray[np.bool_] | None) -> None:
        self._spine = spine
        self._features = features
        self._explained = told.explained
        self.event_time = told.event_time
        self.feature_names = tuple(features.column_names)
        self.roles = told.roles
        self.pins = tuple(told.pins)
        self.versions = {group: version for group, version, _ in told.pins}
        self.leaks = told.leaks
        self.rows_left_out = told.rows_left_out
        self.immature = immature

    @property
    def plan(self) -> NoReturn:  # type: ignore[override]
        """The plan stays with the server.

        Raises:
            UnsupportedError: always.
        """
        raise UnsupportedError("the plan of a remote request stays with the server", try_="explain() is its text")

    def with_beside(self, features: Rows, roles: Mapping[str, Role]) -> RemoteHistoricalFeatures:
        """The same rows with other columns beside the spine, as many rows in the same order."""
        told = Told(self.event_time, roles, self.pins, self.leaks, self.rows_left_out, self._explained)
        return RemoteHistoricalFeatures(self._spine, features, told, self.immature)

    def explain(self) -> str:
        """What was done, as an indented tree."""
        return self._explained


def masked_rows(places: Any, length: int) -> Any:
    """By row of a spine, whether it is among those that came back."""
    import numpy as np

    mask = np.zeros(length, dtype=bool)
    mask[places] = True
    return mask
