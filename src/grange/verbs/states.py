"""Where a group's state lies online: in which key space, and as what."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from grange.definitions.feature_group import FeatureGroup
from grange.ports.online import GroupInfo

Kind = Literal["rows", "windows"]


@dataclass(frozen=True, slots=True)
class OnlineState:
    """One state that an online store can have of a group. A group that gets another entity key, or aggregations, is
    read from another one: what lies in the one before is not what is asked for. So is one that another kind of store
    is configured for."""

    store: str
    key_space: str
    group: str
    kind: Kind

    @classmethod
    def of(cls, group: FeatureGroup, store: str) -> OnlineState:
        """The one that a group is read from as it is defined.

        Args:
            group: the group.
            store: the kind of online store that is configured.
        """
        return cls(store, group.key_space, group.name, "windows" if group.aggregations else "rows")

    @property
    def label(self) -> str:
        """How a run remembers which state of its group it loaded."""
        return f"{self.kind} by {self.key_space} in {self.store}"


def held(infos: Collection[GroupInfo], store: str) -> frozenset[OnlineState]:
    """The states of which an online store has something.

    Args:
        infos: what it says that it has.
        store: which kind it is.
    """
    rows = {OnlineState(store, info.key_space, info.group, "rows") for info in infos if info.rows}
    windows = {OnlineState(store, info.key_space, info.group, "windows") for info in infos if info.cells}
    return frozenset(rows | windows)
