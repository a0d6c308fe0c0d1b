"""Going through a group's rows page by page, by HSCAN of the set's own hashes: never through the server's keys.

The server's cursor is not a key, so the store remembers where each page ended; a page that was lost can be asked again.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Final, NamedTuple

from grange.errors import ConflictError, RequestError
from grange.online.redis import records
from grange.online.redis.records import MARK, Name
from grange.online.redis.resp import call
from grange.online.redis.sets import Sets

REMEMBERED: Final = 1000
"""Ends of pages that are kept; the oldest are forgotten."""

WIDTH: Final = 32
"""Shards that are asked in one trip."""

Item = tuple[bytes, bytes]
"""An entity key and its row as it is stored."""


class Place(NamedTuple):
    """Where a walk stands."""

    current: bytes
    """The set that it goes through."""
    route: int | None
    """The shard; None after the last."""
    cursor: bytes
    waiting: tuple[Item, ...]
    """Rows that were read and did not fit the last page."""


class Walks:
    """The walks through the rows of a store. Safe for threads.

    Args:
        sets: of the store.
    """

    def __init__(self, sets: Sets) -> None:
        self._sets = sets
        self._lock = threading.Lock()
        self._ends: OrderedDict[tuple[Name, bytes], Place] = OrderedDict()

    def page(self, name: Name, after: bytes | None, limit: int) -> list[Item]:
        """The next rows, at most `limit`.

        Raises:
            RequestError: no page ended with `after`, or long ago.
            ConflictError: the rows were replaced since the first page.
        """
        place = self._begin(name) if after is None else self._end(name, after)
        if place is None:
            return []
        items = list(place.waiting)
        if items:
            self._check_read(name, place)
        while len(items) < limit and place.route is not None:
            found, place = self._scan(name, place, limit)
            items += found
        page = items[:limit]
        if page:
            self._remember(name, page[-1][0], place._replace(waiting=tuple(items[limit:])))
        return page

    def _begin(self, name: Name) -> Place | None:
        # what is remembered may have been replaced: ask the record
        (answer,) = self._sets.servers.run([self._sets.question([name])])
        self._sets.learn([name], answer)
        current = answer[1]
        return None if current is None else Place(current, 0, b"0", ())

    def _end(self, name: Name, after: bytes) -> Place:
        with self._lock:
            place = self._ends.get((name, after))
        if place is None:
            raise RequestError(
                f"no page of the rows of group {name.group!r} ended with the key {after!r}",
                try_="read pages one after another with one store, `after` being the last key of the page before",
            )
        return place

    def _scan(self, name: Name, place: Place, limit: int) -> tuple[list[Item], Place]:
        """Some rows, and where the walk stands after them. Takes several shards at a time, as each has few."""
        assert place.route is not None
        routes = records.routes_of(place.current, self._sets.shards)[place.route : place.route + WIDTH]
        asked = []
        for route in routes:
            key = self._sets.keys.set(route, place.current)
            cursor = place.cursor if route == place.route else b"0"
            asked += [
                call(route, b"HSCAN", key, cursor, b"COUNT", b"%d" % limit),
                call(route, b"HEXISTS", key, MARK),
            ]
        answers = self._sets.servers.run(asked)
        if not all(answers[1::2]):
            raise self._replaced(name, place)
        items: list[Item] = []
        for route, (cursor, found) in zip(routes, answers[::2], strict=True):
            items += [(field[1:], row) for field, row in zip(found[::2], found[1::2], strict=True) if field[:1] == b"k"]
            if cursor != b"0":
                return items, place._replace(route=route, cursor=cursor)
        last = routes[-1] + 1
        return items, place._replace(route=last if last < self._sets.shards else None, cursor=b"0")

    def _check_read(self, name: Name, place: Place) -> None:
        """See that rows which wait for their page are still those that are read."""
        route = place.route or 0
        (marked,) = self._sets.servers.run([call(route, b"HEXISTS", self._sets.keys.set(route, place.current), MARK)])
        if not marked:
            raise self._replaced(name, place)

    def _replaced(self, name: Name, place: Place) -> Exception:
        self._sets.forget(name, place.current)
        if self._sets.find(name) == place.current:
            return self._sets.lost(name)
        return ConflictError(f"the rows of group {name.group!r} were replaced while they were read", try_="begin again")

    def _remember(self, name: Name, last: bytes, place: Place) -> None:
        with self._lock:
            self._ends[name, last] = place
            self._ends.move_to_end((name, last))
            while len(self._ends) > REMEMBERED:
                self._ends.popitem(last=False)
