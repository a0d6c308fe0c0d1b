"""A line that fails between a client and a real server: what is asked for happens once, or is told not to have."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from tests.remote.conftest import Both
from tests.remote.servers import cuts, passes, playing, says

import grange as gr
from grange.errors import StoreUnavailableError

CLICK = [{"user_id": "u7", "at": "2026-03-12T00:00:00Z", "page": "help", "n": 4}]


def clicks_of(both: Both, user: str) -> int:
    return both.embedded.read("clicks").polars.filter(user_id=user).height


def test_a_push_whose_answer_is_lost_is_stored_once(both: Both) -> None:
    lost, back = passes(both.url, back=False), passes(both.url)
    with playing(lost, lost, back) as line, gr.FeatureStore(line.url) as store:
        told = store.push("clicks", CLICK)

    assert told.groups == (("clicks", 1, 1),)
    assert clicks_of(both, "u7") == 1
    assert len(line.requests) == 3


def test_a_push_of_which_nothing_is_known_in_the_end_says_so(both: Both) -> None:
    lost = passes(both.url, back=False)
    with (
        playing(lost) as line,
        gr.FeatureStore(line.url, retries=1) as store,
        pytest.raises(StoreUnavailableError, match="did not answer"),
    ):
        store.push("clicks", CLICK)

    assert clicks_of(both, "u7") == 1


def test_a_push_that_never_arrived_is_not_stored(both: Both) -> None:
    with playing(cuts) as line, gr.FeatureStore(line.url, retries=1) as store, pytest.raises(StoreUnavailableError):
        store.push("clicks", CLICK)

    assert clicks_of(both, "u7") == 0


@pytest.mark.parametrize("bad", [says(503), says(429, retry_after="0"), cuts])
def test_a_push_goes_on_where_the_line_comes_back(both: Both, bad: Any) -> None:
    with playing(bad, bad, passes(both.url)) as line, gr.FeatureStore(line.url) as store:
        store.push("clicks", CLICK)

    assert clicks_of(both, "u7") == 1


def test_a_job_whose_beginning_is_lost_is_begun_once(both: Both) -> None:
    back = passes(both.url)
    with playing(passes(both.url, back=False), back) as line, gr.FeatureStore(line.url) as store:
        done = store.materialize("spend", version="2.0.0")

    assert [item.version for item in done] == ["2.0.0"]
    assert len(httpx.get(f"{both.url}/api/v1/jobs", params={"kind": "materialize"}).json()["items"]) == 1


def test_a_deletion_whose_answer_is_lost_is_told_as_it_happened(both: Both) -> None:
    with playing(passes(both.url, back=False), passes(both.url)) as line, gr.FeatureStore(line.url) as store:
        assert store.delete("careful") == ("feature view careful",)


def test_rows_that_break_off_are_asked_for_again(both: Both) -> None:
    def half(played: Any, connection: Any, request: bytes) -> bool:
        return passes(both.url)(played, _Half(connection), request)

    with playing(half, passes(both.url)) as line, gr.FeatureStore(line.url) as store:
        found = store.read("spend").arrow

    assert found.equals(both.embedded.read("spend").arrow)
    assert len(line.requests) == 2


class _Half:
    """A connection that carries half of what it is given."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def sendall(self, data: bytes) -> None:
        self._connection.sendall(data[: len(data) // 2])
