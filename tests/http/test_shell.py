"""What is true of every request, whatever it asks for."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.http.conftest import Client

import grange as gr
from grange.config import Config
from grange.http.app import create_app, open_project, project_of
from grange.http.context import Projects
from grange.http.messages import Call, Reply, json_reply

URL = "/api/v1/serving/online"
BODY = {"features": ["spend"], "rows": [{"user_id": "u1"}]}


@pytest.fixture
def serving(store: gr.FeatureStore) -> Any:
    """Makes a client of an application with other settings."""
    opened: list[Client] = []

    def make(routes: dict[tuple[str, str], Any] | None = None, **server: Any) -> Client:
        config = replace(store.config, server=replace(store.config.server, **server))
        project = project_of(store)
        app = create_app(Projects(config, {project.name: project}, project.name), extra_routes=routes)
        opened.append(Client(app))
        return opened[-1]

    yield make
    for client in opened:
        client.close()


Serving = Callable[..., Client]


class TestEveryAnswer:
    def test_has_the_id_of_its_request(self, client: Client) -> None:
        assert client.get("/health/live", headers={"x-request-id": "abc-1"}).headers["x-request-id"] == "abc-1"
        assert client.post(URL, json=BODY, headers={"x-request-id": "abc-2"}).headers["x-request-id"] == "abc-2"
        assert client.get("/nothing", headers={"x-request-id": "abc-3"}).json()["error"]["request_id"] == "abc-3"

    @pytest.mark.parametrize("bad", ["", "x" * 129, "a b", "a\tb", "é", "{}", "<script>"])
    def test_has_another_id_where_that_is_not_sane(self, client: Client, bad: str) -> None:
        given = client.get("/health/live", headers={"x-request-id": bad.encode()}).headers["x-request-id"]
        assert given != bad
        assert given

    def test_ids_are_not_given_twice(self, client: Client) -> None:
        ids = {client.get("/health/live").headers["x-request-id"] for _ in range(50)}
        assert len(ids) == 50

    @pytest.mark.parametrize(("method", "path"), [("GET", "/health/live"), ("GET", "/none"), ("POST", URL)])
    def test_is_what_it_says_it_is_and_names_no_server(self, client: Client, method: str, path: str) -> None:
        headers = client.request(method, path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert "server" not in headers

    @pytest.mark.parametrize(("method", "path", "status", "code"), [
        ("GET", "/nothing", 404, "not_found"),
        ("GET", URL, 404, "not_found"),
        ("DELETE", "/api/v1/search", 405, "method_not_allowed"),
        ("GET", "/../../etc/passwd", 404, "not_found"),
        ("GET", "/%00", 404, "not_found"),
    ])  # fmt: skip
    def test_that_is_an_error_has_the_envelope(
        self, client: Client, method: str, path: str, status: int, code: str
    ) -> None:
        answer = client.request(method, path)
        if path == URL:  # the path is known, the method is not
            assert answer.status_code in (404, 405)
            return
        assert answer.status_code == status, answer.text
        assert answer.json()["error"]["code"] == code
        assert set(answer.json()["error"]) == {"code", "message", "details", "request_id"}


class TestFailures:
    def test_what_nobody_foresaw_is_a_500_that_says_nothing_of_itself(
        self, serving: Serving, caplog: pytest.LogCaptureFixture
    ) -> None:
        def fail(call: Call) -> Reply:
            raise ZeroDivisionError("the secret of the house")

        client = serving({("GET", "/fails"): fail})
        with caplog.at_level(logging.ERROR, "grange.http"):
            answer = client.get("/fails", headers={"x-request-id": "r1"})
        assert answer.status_code == 500
        assert "secret" not in answer.text
        assert answer.json()["error"]["request_id"] == "r1"
        [record] = [record for record in caplog.records if record.exc_info]
        assert record.request["request_id"] == "r1"  # type: ignore[attr-defined]


class TestLimits:
    def test_requests_at_once(self, serving: Serving) -> None:
        """What is over the limit is refused at once, says when to come again, and the others are answered."""

        async def slow(call: Call) -> Reply:
            await asyncio.sleep(0.2)
            return json_reply({})

        client = serving({("GET", "/slow"): slow}, max_in_flight=3)
        answers = client.all_at_once(*[("GET", "/slow", {})] * 8)
        statuses = sorted(answer.status_code for answer in answers)
        assert statuses == [200] * 3 + [429] * 5
        late = next(answer for answer in answers if answer.status_code == 429)
        assert late.headers["retry-after"] == "1"
        assert late.json()["error"]["code"] == "GRANGE-509"
        assert client.get("/slow").status_code == 200

    def test_probes_are_answered_under_overload(self, serving: Serving) -> None:
        async def slow(call: Call) -> Reply:
            await asyncio.sleep(0.2)
            return json_reply({})

        client = serving({("GET", "/slow"): slow}, max_in_flight=1)
        answers = client.all_at_once(("GET", "/slow", {}), ("GET", "/health/live", {}))
        assert [answer.status_code for answer in answers] == [200, 200]

    def test_a_body_that_says_it_is_too_large(self, serving: Serving) -> None:
        client = serving(max_body=1000)
        answer = client.post(URL, content=b"x" * 1001)
        assert answer.status_code == 413
        assert answer.json()["error"]["details"]["limit"] == 1000

    def test_a_body_that_does_not_say_how_large_it_is(self, serving: Serving) -> None:
        client = serving(max_body=1000)
        for path in (URL, "/api/v1/feature-groups"):

            async def body() -> Any:
                for _ in range(20):
                    yield b"x" * 100

            answer = client.post(path, content=body())
            assert answer.status_code == 413, path

    def test_json_that_is_nested_too_deeply(self, client: Client) -> None:
        deep = b'{"a":' * 100 + b"1" + b"}" * 100
        answer = client.post("/api/v1/feature-groups", content=deep, headers={"content-type": "application/json"})
        assert answer.status_code == 413

    def test_brackets_inside_texts_are_no_nesting(self, client: Client) -> None:
        body = {"features": ["spend"], "rows": [{"user_id": "[{" * 100 + '"\\'}]}
        assert client.post(URL, json=body).status_code == 200

    def test_requests_a_second_of_one_caller(self, serving: Serving) -> None:
        client = serving(rate_limit=5.0)
        answers = client.all_at_once(*[("POST", URL, {"json": BODY})] * 12)
        statuses = [answer.status_code for answer in answers]
        assert statuses.count(200) in (5, 6)
        late = next(answer for answer in answers if answer.status_code == 429)
        assert int(late.headers["retry-after"]) >= 1
        assert late.json()["error"]["details"]["retry_after"] <= 0.2

    def test_requests_that_take_too_long(self, serving: Serving) -> None:
        import datetime as dt

        client = serving(request_timeout=dt.timedelta(milliseconds=50))

        async def body() -> Any:
            yield b"{"
            await asyncio.sleep(1)
            yield b"}"

        assert client.post(URL, content=body()).status_code == 429


class TestWhoAsks:
    def test_an_open_server_answers_this_machine_by_name(self, client: Client) -> None:
        for host in ("localhost", "localhost:8002", "127.0.0.1:8002", "[::1]:8002", "127.1.2.3"):
            assert client.post(URL, json=BODY, headers={"host": host}).status_code == 200, host

    @pytest.mark.parametrize(
        "host", ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example:8002", "10.0.0.1"]
    )
    def test_an_open_server_answers_no_other_name(self, client: Client, host: str) -> None:
        """A name of somebody else's that was made to lead here."""
        answer = client.post(URL, json=BODY, headers={"host": host})
        assert answer.status_code == 403
        assert "grange key create" in answer.json()["error"]["details"]["try"]

    @pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://localhost.evil.example"])
    def test_an_open_server_answers_no_page_of_another_site(self, client: Client, origin: str) -> None:
        assert client.post(URL, json=BODY, headers={"origin": origin}).status_code == 403

    def test_a_page_of_this_machine_is_answered(self, client: Client) -> None:
        assert client.post(URL, json=BODY, headers={"origin": "http://localhost:8002"}).status_code == 200

    def test_a_key_closes_the_server_at_once(self, client: Client, store: gr.FeatureStore) -> None:
        made = client.post("/api/v1/keys", json={"name": "ops", "role": "admin"})
        assert made.status_code == 201, made.text
        assert client.post(URL, json=BODY).status_code == 401
        text = made.json()["key"]
        for headers in ({"authorization": f"Bearer {text}"}, {"x-api-key": text}, {"authorization": f"bearer {text}"}):
            assert client.post(URL, json=BODY, headers=headers).status_code == 200

    def test_without_a_key_everything_but_health_is_refused(self, closed: tuple[Client, dict[str, str]]) -> None:
        client, _ = closed
        for path in ("/api/v1/feature-groups", "/api/v1/nothing", "/docs", "/metrics", "/openapi.json"):
            answer = client.get(path)
            assert answer.status_code == 401, path
            assert answer.headers["www-authenticate"].startswith("Bearer")
            assert "spend" not in answer.text
        assert client.get("/health/live").status_code == 200
        assert client.get("/health/ready").status_code == 200

    def test_a_closed_server_answers_any_name(self, closed: tuple[Client, dict[str, str]]) -> None:
        client, keys = closed
        headers = {"x-api-key": keys["viewer"], "host": "features.example", "origin": "https://app.example"}
        assert client.post(URL, json=BODY, headers=headers).status_code == 200

    @pytest.mark.parametrize("header", ["Basic dTpw", "Bearer", "Bearer ", "Bearer x", "Token abc", "Bearer a.b.c"])
    def test_other_credentials_are_nobodys(self, closed: tuple[Client, dict[str, str]], header: str) -> None:
        client, _ = closed
        assert client.post(URL, json=BODY, headers={"authorization": header}).status_code == 401

    def test_a_key_that_is_revoked_here_ends_at_once(self, closed: tuple[Client, dict[str, str]]) -> None:
        client, keys = closed
        admin, viewer = {"x-api-key": keys["admin"]}, {"x-api-key": keys["viewer"]}
        assert client.post(URL, json=BODY, headers=viewer).status_code == 200
        listed = client.get("/api/v1/keys", headers=admin).json()["items"]
        id_ = next(key["id"] for key in listed if key["name"] == "viewer")
        assert client.delete(f"/api/v1/keys/{id_}", headers=admin).status_code < 300
        assert client.post(URL, json=BODY, headers=viewer).status_code == 401

    def test_metrics_need_the_right_to_read_them(self, closed: tuple[Client, dict[str, str]]) -> None:
        client, keys = closed
        assert client.get("/metrics", headers={"x-api-key": keys["serve_only"]}).status_code == 403
        assert client.get("/metrics", headers={"x-api-key": keys["viewer"]}).status_code == 200

    def test_a_scope_that_is_narrower(self, closed: tuple[Client, dict[str, str]]) -> None:
        client, keys = closed
        headers = {"x-api-key": keys["serve_only"]}
        assert client.post(URL, json={"features": "careful", "rows": BODY["rows"]}, headers=headers).status_code == 200
        assert client.post(URL, json=BODY, headers=headers).status_code == 403


@pytest.fixture
def closed(store: gr.FeatureStore) -> Any:
    """A client of a server with keys, and the keys by name."""
    import datetime as dt

    now = dt.datetime.now(dt.UTC)
    keys = store.security.keys
    made = {
        "admin": keys.create("admin", role="admin", now=now).text,
        "viewer": keys.create("viewer", role="viewer", now=now).text,
        "serve_only": keys.create("serve_only", role="viewer", scopes=["serve:careful"], now=now).text,
    }
    project = project_of(store)
    assert not project.is_open
    client = Client(create_app(Projects(store.config, {project.name: project}, project.name)))
    yield client, made
    client.close()


def test_two_projects_share_nothing(tmp_path: Path) -> None:
    """Each is asked for by name or by its key; a key of one opens nothing of the other."""
    import datetime as dt

    from tests.http.conftest import load, make_project

    now = dt.datetime.now(dt.UTC)
    opened = []
    keys = {}
    for name in ("shop", "rides"):
        with gr.FeatureStore(make_project(tmp_path / name, name)) as store:
            load(store)
            keys[name] = store.security.keys.create("app", role="viewer", now=now).text
        opened.append(open_project(Config.load(tmp_path / name), takes_tokens=False))
    projects = Projects(opened[0].store.config, {project.name: project for project in opened}, "shop")
    client = Client(create_app(projects))
    try:
        for name, key in keys.items():
            assert client.post(URL, json=BODY, headers={"x-api-key": key}).status_code == 200
            own = {"x-api-key": key, "x-grange-project": name}
            assert client.post(URL, json=BODY, headers=own).status_code == 200
            other = {"x-api-key": key, "x-grange-project": "rides" if name == "shop" else "shop"}
            assert client.post(URL, json=BODY, headers=other).status_code in (401, 403)
            nowhere = {"x-api-key": key, "x-grange-project": "nothing"}
            assert client.post(URL, json=BODY, headers=nowhere).status_code in (401, 403)
    finally:
        client.close()
        for project in opened:
            project.store.close()


class _Tokens:
    """Takes one token; what it says of a project is the claim."""

    def __init__(self, project: str) -> None:
        self._project = project

    def authenticate(self, token: str, *, now: Any) -> Any:
        from grange.errors import UnauthenticatedError
        from grange.security.principals import Principal

        if token != "a.good.token":
            raise UnauthenticatedError("who asks is not known")
        return Principal("sub-1", "ann", "token", "viewer", self._project)


@pytest.mark.parametrize(("project", "status"), [("shop", 200), ("", 200), ("elsewhere", 403)])
def test_a_token_says_who_asks_and_of_which_project(store: gr.FeatureStore, project: str, status: int) -> None:
    own = project_of(store, takes_tokens=True)
    app = create_app(Projects(store.config, {own.name: own}, own.name), tokens=_Tokens(project))  # type: ignore[arg-type]
    client = Client(app)
    assert client.post(URL, json=BODY).status_code == 401
    assert client.post(URL, json=BODY, headers={"authorization": "Bearer a.bad.token"}).status_code == 401
    good = {"authorization": "Bearer a.good.token"}
    assert client.post(URL, json=BODY, headers=good).status_code == status
    client.close()
