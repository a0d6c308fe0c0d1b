"""What is sent again, when, and for how long: decided by a generator, without a network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from grange.errors import GrangeError, OverloadedError, StateLostError, StoreUnavailableError
from grange.remote.messages import Failure, Pause, Request, Response, Send
from grange.remote.retrying import Policy, exchange

READ = Request("GET", "/x", patience=10.0)
WRITE = Request("POST", "/x", patience=10.0, changes=True)
ONCE = Request("POST", "/x", patience=10.0, repeatable=False)
OK = Response(200, {}, b"{}")
CUT = Failure("the connection was cut")
REFUSED = Failure("connection refused", unsent=True)


def answered(status: int, *, code: str = "", retry_after: str = "", **headers: str) -> Response:
    body = msgspec.json.encode({"error": {"code": code, "message": "no", "details": {}, "request_id": "r"}})
    said = {"retry-after": retry_after} if retry_after else {}
    return Response(
        status, {**said, **{name.replace("_", "-"): text for name, text in headers.items()}}, body if code else b""
    )


class Played:
    """Runs an exchange against results that are known beforehand, on a clock of its own."""

    def __init__(
        self, request: Request, results: Sequence[Response | Failure], *, retries: int = 4, **options: Any
    ) -> None:
        self.now = 0.0
        self.sent: list[Send] = []
        self.pauses: list[float] = []
        self.results = list(results)
        policy = Policy(retries, clock=lambda: self.now, draw=lambda low, high: high, **options)
        self.steps = exchange(request, policy, "https://a.example")

    def run(self, *, takes: float = 0.0) -> Response:
        """The answer; each try takes so many seconds."""
        try:
            step = next(self.steps)
            while True:
                if isinstance(step, Pause):
                    self.pauses.append(step.seconds)
                    self.now += step.seconds
                    step = self.steps.send(None)
                else:
                    self.sent.append(step)
                    self.now += takes
                    step = self.steps.send(self.results.pop(0))
        except StopIteration as done:
            answer: Response = done.value
            return answer


@pytest.mark.parametrize("request_", [READ, WRITE])
@pytest.mark.parametrize("first", [CUT, REFUSED, answered(429), answered(502), answered(503), answered(504)])
def test_what_may_be_repeated_is(request_: Request, first: Response | Failure) -> None:
    played = Played(request_, [first, first, OK])

    assert played.run() == OK
    assert len(played.sent) == 3


def test_what_may_not_be_repeated_is_sent_again_only_when_nothing_was_sent() -> None:
    assert Played(ONCE, [REFUSED, OK]).run() == OK
    with pytest.raises(StoreUnavailableError, match="did not answer"):
        Played(ONCE, [CUT, OK]).run()
    with pytest.raises(StoreUnavailableError):
        Played(ONCE, [answered(503), OK]).run()


def test_a_write_that_is_answered_with_an_outage_of_a_store_is_not_sent_again() -> None:
    outage = answered(503, code="GRANGE-600")

    with pytest.raises(StoreUnavailableError):
        Played(WRITE, [outage, OK]).run()
    assert Played(READ, [outage, OK]).run() == OK


def test_rows_that_are_lost_are_not_waited_for() -> None:
    """Until somebody loads them the answer is the same."""
    played = Played(READ, [answered(503, code=StateLostError.code, retry_after="5"), OK])

    with pytest.raises(StateLostError):
        played.run()
    assert played.pauses == []


def test_a_write_that_is_being_worked_on_is_asked_for_until_it_is_done() -> None:
    assert Played(WRITE, [answered(409, code="GRANGE-501", retry_after="1"), OK]).run() == OK
    with pytest.raises(GrangeError):
        Played(WRITE, [answered(409, code="GRANGE-501"), OK]).run()


def test_a_kept_answer_is_taken_as_it_is() -> None:
    with pytest.raises(StoreUnavailableError):
        Played(WRITE, [answered(503, idempotency_replayed="true"), OK]).run()


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 413, 422, 500, 501, 507])
def test_what_would_come_out_the_same_is_not_asked_again(status: int) -> None:
    played = Played(READ, [answered(status), OK])

    with pytest.raises(GrangeError):
        played.run()
    assert len(played.sent) == 1


def test_waits_grow_up_to_a_cap_and_are_drawn_at_random() -> None:
    played = Played(READ, [CUT] * 8 + [OK], retries=8, base=0.1, cap=0.5)
    played.run()

    assert played.pauses == pytest.approx([0.1, 0.2, 0.4, 0.5, 0.5, 0.5, 0.5, 0.5])
    drawn = Played(READ, [CUT, CUT, OK])
    drawn.steps = exchange(READ, Policy(2, clock=lambda: 0.0, draw=lambda low, high: low), "")
    drawn.run()
    assert drawn.pauses == [0.0, 0.0]


def test_retry_after_is_waited_for() -> None:
    played = Played(READ, [answered(429, retry_after="3"), OK])
    played.run()

    assert played.pauses == [3.0]


def test_nobody_waits_longer_than_they_have() -> None:
    played = Played(READ, [answered(429, code="GRANGE-509", retry_after="30"), OK])

    with pytest.raises(OverloadedError):
        played.run()
    assert played.pauses == []


def test_all_tries_share_one_deadline() -> None:
    played = Played(READ, [CUT, CUT, CUT, CUT, CUT], base=0.0)

    with pytest.raises(StoreUnavailableError, match="in 3 tries"):
        played.run(takes=4.0)
    assert [send.timeout for send in played.sent] == [10.0, 6.0, 2.0]


def test_the_stores_timeout_takes_the_place_of_the_requests_own() -> None:
    played = Played(READ, [OK], timeout=2.5)
    played.run()

    assert played.sent[0].timeout == 2.5


def test_a_certificate_that_is_not_trusted_is_said_at_once() -> None:
    played = Played(READ, [Failure("self-signed certificate", unsent=True, permanent=True), OK])

    with pytest.raises(StoreUnavailableError, match="did not answer") as failed:
        played.run()
    assert "certificate" in str(failed.value)
    assert not failed.value.retry
