"""The port of an engine: it runs a plan's nodes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from grange.frames import Rows
from grange.plan.nodes import Node


@runtime_checkable
class Engine(Protocol):
    """Runs plans. Holds no state between runs; safe to call from several threads.

    Every engine gives the same rows, in the same order, in the same types, for the same node: cell for cell
    what `reference` gives. `grange.testing.EngineContract` proves it.
    """

    name: str

    def run(self, node: Node, inputs: Mapping[str, Rows]) -> Rows:
        """The rows of a node; `inputs` holds those of its `Input` nodes by name.

        Columns have the canonical types of `grange.types.arrow` once converted to Arrow wherever a `Conform`,
        `PointInTimeJoin`, `Latest` or `EntityTimes` made them.

        Raises:
            SourceError: a file cannot be read as its format.
            TransformError: a transform raised, or returned no frame.
            ColumnTypeError, SchemaError: rows do not fit what they were declared to be.
            UnsupportedError: this engine does not run such a node; raised before any work.
        """
        ...


@runtime_checkable
class RequestEngines(Protocol):
    """An engine that reads once what several runs of one request have in common."""

    def for_one_request(self) -> Engine:
        """An engine for the runs of one request, which may hold state between them."""
        ...
