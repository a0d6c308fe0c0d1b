"""The port of a connector: it says where a source's rows are, in a node that engines can run."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol, runtime_checkable

from grange.definitions.sources import Source
from grange.plan.nodes import Node


@runtime_checkable
class Connector(Protocol):
    """Resolves sources of the kinds that its descriptor lists. Reads no rows: engines do."""

    name: str

    def resolve(self, source: Source, *, project: Path, what: str) -> Node:
        """The node of a source's raw rows; `project` is what relative paths are relative to.

        Raises:
            SourceError: there is nothing to read; says what was looked for and what is near.
        """
        ...
