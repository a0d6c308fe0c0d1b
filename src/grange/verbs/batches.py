"""Stored rows in batches: as they lie by event time, one stretch of time after another, so that few are in memory."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from grange.errors import RequestError, UnknownFeatureError, closest_names
from grange.frames import Rows
from grange.plan.nodes import Between, Node, Order, Scan
from grange.ports.engine import Engine
from grange.ports.offline import Snapshot
from grange.types import Schema
from grange.types.names import RESERVED_PREFIX

BATCH = 1_000_000
"""Rows of a batch, about: rows of one time stay together."""


@dataclass(frozen=True, slots=True)
class StoredRows:
    """The rows of a version of a group, or of the latest with what was pushed since."""

    snapshot: Snapshot
    events: bool
    """Of a group with aggregations: its events, instead of its feature rows."""

    @classmethod
    def of(cls, snapshot: Snapshot, *, events: bool = False) -> StoredRows:
        """A snapshot's rows.

        Raises:
            RequestError: events of a group without aggregations.
        """
        if events and not snapshot.meta.aggregates:
            raise RequestError(
                f"feature group {snapshot.meta.name!r} has no aggregations, so its rows are its features",
                try_="leave events=True out",
            )
        return cls(snapshot, events)

    @property
    def features(self) -> Node | None:
        """The table of feature rows, where these are meant and the group has one."""
        return self.snapshot.features if self.snapshot.meta.aggregates and not self.events else None

    @property
    def schema(self) -> Schema:
        """The columns, without the sequence."""
        meta = self.snapshot.meta
        return meta.schema if self.features is None else meta.feature_schema

    @property
    def told(self) -> list[str]:
        """The columns that people know of: of rows without a time of their own, not the one that stands for it."""
        return [name for name in self.schema.names if not name.startswith(RESERVED_PREFIX)]

    @property
    def pending(self) -> int:
        """How many pushed rows are among them that no version has."""
        return self.snapshot.pending if self.features is None else 0

    def chosen(self, columns: Sequence[str] | None) -> list[str]:
        """The columns asked for; all without.

        Raises:
            UnknownFeatureError: there is no such one; carries the closest.
        """
        meta, stored = self.snapshot.meta, self.schema.names
        wanted = list(stored if columns is None else columns)
        for column in wanted:
            if column not in stored:
                raise UnknownFeatureError(
                    f"feature group {meta.name!r} version {meta.version} has no column {column!r}",
                    found=", ".join(stored),
                    closest=closest_names(column, stored),
                    try_=f"grange fg features {meta.name}",
                )
        return wanted

    def node(self, start: int | None = None, end: int | None = None) -> Node:
        """The rows of a stretch of time, in order. Times are as the version has them, whatever the definition of today
        says."""
        meta = self.snapshot.meta
        node = self.snapshot.rows if self.features is None else self.features
        if start is not None or end is not None:
            node = Between(node, meta.event_time, start, end)
        return Order(node, meta.event_time, meta.created_time) if self.pending else node

    def batches(
        self,
        engine: Engine,
        columns: Sequence[str],
        *,
        start: int | None = None,
        end: int | None = None,
        size: int = BATCH,
    ) -> Iterator[Rows]:
        """The rows of some columns, in order, at least one batch.

        Rows that only one scan of files has come batch by batch. Others, and rows without a time, come at once.

        Args:
            engine: what reads.
            columns: which.
            start: microseconds UTC, inclusive.
            end: exclusive.
            size: rows of a batch, about.
        """
        own = self._narrowed(columns)
        for low, high in own._stretches(engine, start, end, size):
            yield engine.run(own.node(low, high), {}).select(columns)

    def _narrowed(self, columns: Sequence[str]) -> StoredRows:
        """With no more columns read than needed, where files are read and nothing is done on them."""
        needed = tuple(dict.fromkeys([*columns, self.snapshot.meta.event_time]))
        rows, features = self.snapshot.rows, self.snapshot.features
        if self.features is not None:
            return replace(self, snapshot=replace(self.snapshot, features=_of_columns(features, needed)))
        return replace(self, snapshot=replace(self.snapshot, rows=_of_columns(rows, needed)))

    def _stretches(
        self, engine: Engine, start: int | None, end: int | None, size: int
    ) -> list[tuple[int | None, int | None]]:
        """Stretches of time that follow each other, of about so many rows each."""
        node = self.node()
        meta = self.snapshot.meta
        if not isinstance(node, Scan) or max(meta.row_count, meta.feature_rows) <= size:
            return [(start, end)]
        import pyarrow as pa

        moments = engine.run(_of_columns(node, (meta.event_time,)), {}).arrow.column(meta.event_time)
        if moments.null_count:
            return [(start, end)]
        firsts = moments.take(pa.array(range(size, len(moments), size), pa.int64())).cast(pa.int64()).to_pylist()
        inside = [at for at in firsts if (start is None or at > start) and (end is None or at < end)]
        cuts = [start, *dict.fromkeys(inside), end]
        return list(itertools.pairwise(cuts))


def _of_columns(node: Node | None, columns: tuple[str, ...]) -> Node:
    assert node is not None, "there is a table"
    return replace(node, columns=columns) if isinstance(node, Scan) else node


__all__ = ["BATCH", "StoredRows"]
