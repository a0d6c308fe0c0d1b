"""What a client remembers, and what several who need the same thing ask for once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import pytest

from grange.errors import CorruptStoreError, NotFoundError
from grange.remote.calls.definitions import catalog
from grange.remote.calls.session import LOOKS, Session
from grange.remote.messages import Pause, Request, Response

NOTHING = msgspec.json.encode({"revision": 3, "items": []})


def session() -> Session:
    return Session("https://a.example", clock=lambda: 0.0)


def answer(headers: Mapping[str, str] | None = None, status: int = 200) -> Response:
    return Response(status, headers or {}, NOTHING if status == 200 else b"")


def finish(call: Any, response: Response) -> Any:
    with pytest.raises(StopIteration) as done:
        call.send(response)
    return done.value.value


def test_two_who_need_the_definitions_ask_once() -> None:
    asking = session()
    first, second = catalog(asking), catalog(asking)

    assert isinstance(next(first), Request)
    assert isinstance(next(second), Pause)
    found = finish(first, answer())
    assert finish(second, None) is found  # type: ignore[arg-type]


def test_who_waited_asks_for_themselves_when_the_other_failed_or_never_came_back() -> None:
    asking = session()
    first, second, third = catalog(asking), catalog(asking), catalog(asking)
    next(first)
    next(second)
    with pytest.raises(NotFoundError):
        first.throw(NotFoundError("no"))
    assert isinstance(second.send(None), Request)

    steps = [next(third), *(third.send(None) for _ in range(LOOKS))]
    assert all(isinstance(step, Pause) for step in steps[:-1])
    assert isinstance(steps[-1], Request)


def test_definitions_that_did_not_change_are_not_sent_again() -> None:
    times = iter([0.0, 0.0, 5.0, 5.0, 5.1, 5.1])
    asking = Session("https://a.example", clock=lambda: next(times))
    first = catalog(asking)
    next(first)
    known = finish(first, answer({"etag": '"3"'}))
    again = catalog(asking)

    assert next(again).headers == {"If-None-Match": '"3"'}
    assert finish(again, answer(status=304)) is known


def test_a_definition_that_is_not_understood_is_told_by_name() -> None:
    body = {"revision": 1, "items": [{"kind": "entity", "name": "user", "definition": {"new": "field"}}]}
    asking = catalog(session())
    next(asking)

    with pytest.raises(CorruptStoreError, match="entity 'user' cannot be read here"):
        asking.send(Response(200, {}, msgspec.json.encode(body)))
