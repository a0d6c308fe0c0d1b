"""Error answers become the errors that the embedded store raises."""

from __future__ import annotations

import msgspec
import pytest

from grange import errors
from grange.errors import GrangeError
from grange.http.errors import envelope, status_of
from grange.remote.failures import error_of
from grange.remote.messages import Response

URL = "https://a.example"
CLASSES = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, GrangeError)]


def sent(error: GrangeError) -> Response:
    body = msgspec.json.encode(envelope(error, "request-7"))
    return Response(status_of(error), {"content-type": "application/json"}, body)


@pytest.mark.parametrize("kind", CLASSES)
def test_an_error_comes_back_as_it_was_raised(kind: type[GrangeError]) -> None:
    raised = kind(
        "no feature 'x'", asked_by="view v", found="y, z", closest=["y", "z"], try_="look", details={"n": [1, None]}
    )
    back = error_of(sent(raised), URL)

    assert type(back) is kind
    assert (str(back), back.to_dict(), back.retry) == (str(raised), raised.to_dict(), raised.retry)
    assert back.__notes__ == [f"request request-7 to {URL}"]


def test_an_error_without_hints_has_none() -> None:
    assert error_of(sent(GrangeError("no")), URL).hints() == []


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, errors.UnauthenticatedError),
        (403, errors.ForbiddenError),
        (404, errors.NotFoundError),
        (413, errors.TooLargeError),
        (422, errors.RequestError),
        (429, errors.OverloadedError),
        (503, errors.StoreUnavailableError),
        (500, GrangeError),
    ],
)
def test_a_code_that_is_not_known_here_is_told_by_its_status(status: int, kind: type[GrangeError]) -> None:
    body = msgspec.json.encode({"error": {"code": "invalid", "message": "no", "details": {}, "request_id": "r"}})
    error = error_of(Response(status, {}, body), URL)

    assert type(error) is kind
    assert error.details["code"] == "invalid"


@pytest.mark.parametrize("body", [b"<html>Bad gateway</html>", b"", b"{}", b'{"error": "no"}', b"\xff\xfe", b"[1"])
def test_what_is_no_envelope_is_told_apart(body: bytes) -> None:
    error = error_of(Response(502, {}, body), URL)

    assert type(error) is errors.StoreUnavailableError
    assert "not as a Grange server does" in error.message


def test_a_redirect_is_not_followed_and_says_where_to() -> None:
    error = error_of(Response(308, {"location": "https://b.example/"}, b""), URL)

    assert "https://b.example/" in str(error)
