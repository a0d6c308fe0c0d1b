"""Online answers as a caller may see them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import pyarrow as pa

    from grange.serving.prepared import PreparedFeatures
    from grange.serving.reader import OnlineFeatures

MASKED: Final = "MASKED"
"""The status of a value that a policy masks. It is no status of the store's (ONL-3): nothing is said of the value."""


@dataclass(frozen=True, slots=True)
class Vectors:
    """An online answer, with what a policy masks made null: one vector per requested row, in order (ONL-4)."""

    found: OnlineFeatures | PreparedFeatures
    masked: frozenset[str]
    """The columns that are masked."""

    def __len__(self) -> int:
        return len(self.found)

    @property
    def degraded(self) -> bool:
        """Whether the store could not be reached and defaults stand in (ONL-6)."""
        return self.found.degraded

    @property
    def column_names(self) -> tuple[str, ...]:
        """The columns, in order: keys, request columns, features."""
        return self.found.column_names

    def to_dicts(self) -> list[dict[str, Any]]:
        """One dict per row. Raises what `OnlineFeatures.to_dicts` does."""
        rows = self.found.to_dicts()
        if self.masked:
            hidden = dict.fromkeys(self.masked)
            for row in rows:
                row.update(hidden)
        return rows

    def to_records(self) -> list[Any]:
        """Per row what encoders write as its dict. Raises what `to_dicts` does."""
        return self.to_dicts() if self.masked else self.found.to_records()

    def statuses(self) -> list[dict[str, str]]:
        """Per row, the status of each feature (ONL-3), or `MASKED`."""
        return [
            {name: MASKED if name in self.masked else status.value for name, status in row.items()}
            for row in self.found.statuses
        ]

    def event_times(self) -> list[dict[str, Any]]:
        """Per row, the event time of each feature's stored row; None where nothing was found, and where masked."""
        return [
            {name: None if name in self.masked else time for name, time in row.items()}
            for row in self.found.event_times
        ]

    def to_arrow(self) -> pa.Table:
        """An Arrow table, in the declared types."""
        return masked_table(self.found.to_arrow(), self.masked)


def masked_batches(
    schema: pa.Schema, batches: Iterable[pa.RecordBatch], masked: frozenset[str]
) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    """`masked_table`, a few rows at a time."""
    import pyarrow as pa

    def each() -> Iterator[pa.RecordBatch]:
        for batch in batches:
            yield from masked_table(pa.Table.from_batches([batch]), masked).to_batches()

    return masked_table(schema.empty_table(), masked).schema, each()


def masked_table(table: pa.Table, masked: frozenset[str]) -> pa.Table:
    """A table with some of its columns null throughout, in their types."""
    import pyarrow as pa

    for place, field in enumerate(table.schema):
        if field.name in masked:
            table = table.set_column(place, field.with_nullable(True), pa.nulls(table.num_rows, field.type))
    return table
