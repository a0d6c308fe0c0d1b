"""Reading rows: one command per group and shard, all of them in one trip, all answers decoded at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from grange.online.redis import records
from grange.online.redis.failures import corrupt
from grange.online.redis.records import MARK, ROWS, Name
from grange.online.redis.resp import Call
from grange.online.redis.sets import Sets
from grange.ports.online import StoredRow

SHAPES: Final = 1000
"""How many combinations of groups are remembered."""

Vectors = list[tuple[StoredRow | None, ...]]
"""Per key a row per group."""


class Rows:
    """Reads rows of the sets of a store. Safe for threads.

    Args:
        sets: of the store.
    """

    def __init__(self, sets: Sets) -> None:
        self._sets = sets
        self._names: dict[tuple[str, tuple[str, ...]], tuple[Name, ...]] = {}
        self._heads: dict[tuple[bytes, int], bytes] = {}

    def names(self, key_space: str, groups: Sequence[str]) -> tuple[Name, ...]:
        """The names of the rows of some groups."""
        shape = key_space, tuple(groups)
        names = self._names.get(shape)
        if names is None:
            if len(self._names) >= SHAPES:
                self._names = {}
            names = self._names[shape] = tuple(Name(ROWS, key_space, group) for group in groups)
        return names

    def read(self, names: Sequence[Name], keys: Sequence[bytes], gone: dict[Name, bytes]) -> Vectors | None:
        """One trip: per key the row of each name; None when something has to be asked again.

        Sets that turn out to be read no longer are put into `gone`.

        Raises:
            CorruptStoreError: a row cannot be read back.
            StateLostError: a set is not there any more.
        """
        sets = self._sets
        known = list(map(sets.known, names))
        if sets.servers.atomic and sets.shards == 1 and None not in known:
            return self._plain(names, known, keys, gone)
        parts = list(records.by_shard(keys, sets.shards).items())
        calls = self._calls([current for current in known if current is not None], keys, parts)
        unknown = [name for name, current in zip(names, known, strict=True) if current is None]
        if unknown:
            calls.append(sets.question(unknown))
        answers = sets.servers.run(calls)
        if unknown and self._learnt(unknown, answers.pop(), gone):
            return None
        values = self._values(names, known, len(keys), parts, answers, gone)
        return None if values is None else self._vectors(values, len(names), len(keys))

    def _plain(
        self, names: Sequence[Name], known: Sequence[bytes | None], keys: Sequence[bytes], gone: dict[Name, bytes]
    ) -> Vectors | None:
        """The same where nothing is unknown and all lies on one server: what nearly every read is."""
        fields, begin = records.fields(keys), b"*%d" % (len(keys) + 3)
        heads = [self._head(current, 0) for current in known if current is not None]
        # a command is its beginning, its head, the fields: so between two heads lie these fields and a beginning
        data = b"%b%b%b" % (begin, (fields + begin).join(heads), fields)
        answers = self._sets.servers.run((Call(0, data, len(heads)),))
        for answer in answers:
            if answer[0] is None:
                break
        else:
            if len(keys) == 1:
                return [tuple(self.decoded([value for _, value in answers]))]
            return self._vectors([value for answer in answers for value in answer[1:]], len(names), len(keys))
        for name, current, answer in zip(names, known, answers, strict=True):
            if answer[0] is None and current is not None:
                gone[name] = current
                self._sets.forget(name, current)
        return None

    def decoded(self, values: Sequence[bytes | None]) -> list[StoredRow | None]:
        """Stored rows as they were written.

        Raises:
            CorruptStoreError: something else is stored.
        """
        try:
            return records.rows_of(values)
        except msgspec.MsgspecError as error:
            raise corrupt(str(self._sets.servers), f"a row that is none: {error}") from error

    def _calls(
        self, known: Sequence[bytes], keys: Sequence[bytes], parts: Sequence[tuple[int, Sequence[int]]]
    ) -> list[Call]:
        fields_of = {route: records.fields([keys[at] for at in places]) for route, places in parts}
        return [
            Call(route, b"*%d%b%b" % (len(places) + 3, self._head(current, route), fields_of[route]))
            for current in known
            for route, places in parts
        ]

    def _head(self, current: bytes, route: int) -> bytes:
        """A command up to the fields that are asked for."""
        head = self._heads.get((current, route))
        if head is None:
            if len(self._heads) >= SHAPES * records.CLUSTER_SHARDS:
                self._heads = {}
            head = self._heads[current, route] = records.hmget_head(self._sets.keys.set(route, current), MARK)
        return head

    def _learnt(self, unknown: Sequence[Name], answer: Sequence[bytes | None], gone: dict[Name, bytes]) -> bool:
        """Whether the record named sets that were not known before."""
        self._sets.learn(unknown, answer)
        found = [name for name in unknown if self._sets.known(name) is not None]
        for name in found:
            if name in gone and self._sets.known(name) == gone[name]:  # not swapped: lost
                self._sets.forget(name, gone[name])
                raise self._sets.lost(name)
        return bool(found)

    def _values(
        self,
        names: Sequence[Name],
        known: Sequence[bytes | None],
        count: int,
        parts: Sequence[tuple[int, Sequence[int]]],
        answers: Sequence[list[bytes | None]],
        gone: dict[Name, bytes],
    ) -> list[bytes | None] | None:
        """All stored rows, by name, then by key; None when a set is no longer read."""
        values: list[bytes | None] = []
        whole = True
        at = 0
        for name, current in zip(names, known, strict=True):
            column: list[bytes | None] = [None] * count
            for _, places in parts if current is not None else ():
                mark, *found = answers[at]
                at += 1
                if mark is None and current is not None:
                    gone[name] = current
                    self._sets.forget(name, current)
                    whole = False
                else:
                    for place, value in zip(places, found, strict=True):
                        column[place] = value
            values += column
        return values if whole else None

    def _vectors(self, values: list[bytes | None], names: int, keys: int) -> Vectors:
        rows = self.decoded(values)
        return list(zip(*(rows[keys * at : keys * (at + 1)] for at in range(names)), strict=True))
