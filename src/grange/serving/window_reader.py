"""Windows read online: one entity key's state, as of the moment of the read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from grange.plan.nodes import ReadGroup, ReadWindows
from grange.ports.online import Cells
from grange.serving.defaults import default_of
from grange.serving.doubted import ReadableStore
from grange.serving.keys import row_encoder
from grange.serving.status import Status
from grange.serving.values import decoder
from grange.serving.windows import Reader, Reading, StateSpec


class _NoCells:
    """The state of an entity key that has none."""

    def get(self, key: bytes) -> bytes | None:
        return None

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        return [None] * len(keys)


_NOTHING: Final = _NoCells()


def spec_of(windows: ReadWindows, ttl: int | None) -> StateSpec:
    """What the online state of a group keeps. Reads and writes make the same of the same definition."""
    return StateSpec.of(
        windows.aggregates,
        schema=windows.schema,
        event_id=windows.event_id,
        retracted=windows.retracted,
        created=windows.created_time is not None,
        ttl=ttl,
    )


class WindowReader:
    """What a request takes of one group with aggregations. Safe for several threads."""

    def __init__(self, group: ReadGroup, store: ReadableStore) -> None:
        assert group.windows is not None
        self.columns = group.columns
        self.names = tuple(column.name for column in group.columns)
        self._store = store
        self._key_space, self._group = group.key_space, group.group
        self._encode = row_encoder(tuple((column, dtype) for column, _, dtype in group.keys))
        by_name = {aggregate.name: aggregate for aggregate in group.windows.aggregates}
        asked = [by_name[column.column] for column in group.columns]
        self._reader = Reader(spec_of(group.windows, group.ttl), asked)
        self._exact_matches = group.exact_matches
        self._defaults = tuple(default_of(column) for column in group.columns)
        converters = ((place, decoder(column.dtype)) for place, column in enumerate(group.columns))
        self._converters = tuple((place, convert) for place, convert in converters if convert is not None)

    def read(self, rows: Sequence[Any], now: int) -> Sequence[Reading | None]:
        """The windows of each requested row as of `now`, microseconds UTC.

        Raises:
            StoreUnavailableError: the store cannot be reached, or lost the group.
            IncompleteStateError: events that the windows reach may be gone.
            StateLayoutError: the state was made for other aggregations.
        """
        keys = [self._encode(row) for row in rows]
        known = [key for key in keys if key is not None]

        def visit(cells: Cells) -> list[Reading]:
            return self._reader.read_many(cells, known, now=now, exact_matches=self._exact_matches)

        found = self._store.read_cells(self._key_space, self._group, visit) if known else []
        if len(known) == len(keys):
            return found
        # a null key is nobody's: its windows are empty (PIT-4, WIN-4)
        [nobody] = self._reader.read_many(_NOTHING, [b""], now=now, exact_matches=self._exact_matches)
        answers = iter(found)
        return [nobody if key is None else next(answers) for key in keys]

    def vectors(self, found: Sequence[Any], now: int) -> list[Sequence[Any]]:
        """The group's values for each row, a `Reading`, defaults included. None is a row that could not be read."""
        return [self.vector(row, now) for row in found]

    def vector(self, row: Any, now: int) -> Sequence[Any]:
        """`vectors` of one row."""
        return self._defaults if row is None else self._finish(row.values)

    def statuses(self, row: Any, now: int) -> tuple[Status, ...]:
        """The status of each of the group's columns: an empty count is a value, 0 (WIN-4)."""
        if row is None:
            return (Status.NOT_FOUND,) * len(self.columns)
        absent = Status.NULL if row.found else Status.NOT_FOUND
        return tuple(absent if value is None else Status.PRESENT for value in row.values)

    def _finish(self, values: Sequence[Any]) -> list[Any]:
        finished = list(values)
        for place, convert in self._converters:
            if finished[place] is not None:
                finished[place] = convert(finished[place])
        if None in finished:
            defaults = zip(finished, self._defaults, strict=True)
            return [default if value is None else value for value, default in defaults]
        return finished


__all__ = ["WindowReader", "spec_of"]
