"""One read's answer, and each request's part of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

    from grange.access import Vectors


class Answer:
    """What one read found, worked out once however many requests it is for."""

    __slots__ = ("_dicts", "_records", "_statuses", "_table", "_times", "found")

    def __init__(self, found: Vectors) -> None:
        self.found = found
        self._dicts: list[dict[str, Any]] | None = None
        self._records: list[Any] | None = None
        self._statuses: list[dict[str, str]] | None = None
        self._times: list[dict[str, Any]] | None = None
        self._table: pa.Table | None = None

    def part(self, start: int, end: int) -> Part:
        """The vectors from `start` on, before `end`."""
        return Part(self, start, end)

    def to_dicts(self) -> list[dict[str, Any]]:
        """Every vector as a dict."""
        if self._dicts is None:
            self._dicts = self.found.to_dicts()
        return self._dicts

    def to_records(self) -> list[Any]:
        """Every vector as encoders take it."""
        if self._records is None:
            self._records = self.found.to_records()
        return self._records

    def statuses(self) -> list[dict[str, str]]:
        """Per vector the status of each feature."""
        if self._statuses is None:
            self._statuses = self.found.statuses()
        return self._statuses

    def event_times(self) -> list[dict[str, Any]]:
        """Per vector the event time of each feature's row."""
        if self._times is None:
            self._times = self.found.event_times()
        return self._times

    def to_arrow(self) -> pa.Table:
        """Every vector, as a table."""
        if self._table is None:
            self._table = self.found.to_arrow()
        return self._table


@dataclass(slots=True)
class Part:
    """One request's vectors of an answer."""

    answer: Answer
    start: int
    end: int

    def to_dicts(self) -> list[dict[str, Any]]:
        """As `Vectors.to_dicts`."""
        return self.answer.to_dicts()[self.start : self.end]

    def to_records(self) -> list[Any]:
        """As `Vectors.to_records`."""
        return self.answer.to_records()[self.start : self.end]

    def statuses(self) -> list[dict[str, str]]:
        """As `Vectors.statuses`."""
        return self.answer.statuses()[self.start : self.end]

    def event_times(self) -> list[dict[str, Any]]:
        """As `Vectors.event_times`."""
        return self.answer.event_times()[self.start : self.end]

    def to_arrow(self) -> pa.Table:
        """As `Vectors.to_arrow`."""
        return self.answer.to_arrow().slice(self.start, self.end - self.start)
