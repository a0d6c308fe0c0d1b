"""The document: whole, true to what is answered, with examples that run; and the page made of it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from tests.http.callers import Caller, make_keys
from tests.http.conftest import Client, make_project

import grange as gr
from grange.http.app import create_app, project_of
from grange.http.context import Projects
from grange.http.reference import STATUSES, every_route, routes_page

OTHERS = {"Feast", "feature sets", "AI Hub features"}
"""Tags of the routes of other systems."""
OTHER_SHAPES = ("/push", "/write-to-online-store", "/materialize", "/materialize-incremental", "/get-online-features")
"""Routes of a system whose errors have another shape."""
FAULTS = (500, 502, 504)
EXAMPLES = 6
"""Requests per operation and kind of caller."""
NAMES = {
    "name": ("spend", "clicks", "shopping", "user", "spend@1.0.0"),
    "view": ("shopping", "careful"),
    "number": ("1", "latest"),
    "version": ("1.0.0", "latest"),
    "id": ("job-00000001", "export-000001", "spend:amount"),
}
"""What there is in the shop: requests about nothing look at little."""


@pytest.fixture
def document(client: Any) -> dict[str, Any]:
    found: dict[str, Any] = client.get("/openapi.json").json()
    return found


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in document["paths"].items():
        for method, operation in item.items():
            yield method, path, operation


def test_every_route_is_in_the_document_and_says_what_it_does(document: dict[str, Any]) -> None:
    told = {(method.upper(), path) for method, path, _ in operations(document)}
    there = {(m, route.path) for route in every_route() if route.include_in_schema for m in route.methods or ()}
    assert there <= told
    hot = {"/api/v1/serving/online", "/api/v1/serving/historical", "/health/live", "/health/ready", "/metrics"}
    assert hot <= set(document["paths"])
    ids = Counter(operation["operationId"] for _, _, operation in operations(document))
    assert [name for name, count in ids.items() if count > 1] == []
    for method, path, operation in operations(document):
        assert operation.get("summary"), f"{method} {path} says nothing"
        probe = path in ("/health/live", "/health/ready", "/metrics", "/health")
        assert probe or len(operation.get("description", "")) > 20, f"{method} {path} does not say what it does"


def test_every_status_is_documented_with_the_envelope(document: dict[str, Any]) -> None:
    for method, path, operation in operations(document):
        assert {"401", "403", "404", "409", "412", "413", "422", "429", "503"} <= set(operation["responses"]), path
        for status in STATUSES:
            answer = operation["responses"][status]
            if "$ref" in answer:
                answer = document["components"]["responses"][answer["$ref"].rpartition("/")[2]]
                assert answer["content"]["application/json"]["schema"]["$ref"].endswith("/Error"), f"{method} {path}"
    assert "Retry-After" in document["components"]["responses"]["Error429"]["headers"]


def test_writes_say_that_they_take_an_idempotency_key(document: dict[str, Any]) -> None:
    for method, path, operation in operations(document):
        takes = any(each["name"] == "Idempotency-Key" for each in operation.get("parameters", ()))
        if "x-permission" in operation:
            assert takes == (method != "get" and not operation["x-permission"].startswith("READ_")), path


def test_nothing_refers_to_what_is_not_there(document: dict[str, Any]) -> None:
    for reference in set(re.findall(r'"\$ref": ?"#/components/(\w+)/([^"]+)"', _text(document))):
        assert reference[1] in document["components"][reference[0]], reference


def _text(document: dict[str, Any]) -> str:
    import json

    return json.dumps(document)


def test_the_page_shows_every_operation_and_loads_nothing_from_elsewhere(client: Any, document: dict[str, Any]) -> None:
    page = client.get("/docs")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert not re.search(r"<script|<iframe|javascript:|\son\w+=", page.text)
    assert set(re.findall(r'(?:src|href)="([^"#]+)"', page.text)) == {"/docs/style.css", "/openapi.json"}
    assert client.get("/docs/style.css").headers["content-type"].startswith("text/css")
    for _, path, operation in operations(document):
        assert path.replace("<", "&lt;") in page.text and operation["operationId"]


def test_the_reference_page_is_current() -> None:
    """Made by `python -m grange.http.reference > docs/reference/rest.md`."""
    page = Path(__file__).parents[2] / "docs" / "reference" / "rest.md"
    assert page.read_text(encoding="utf-8") == routes_page()


# the examples


def test_every_example_in_the_document_runs(client: Any, store: gr.FeatureStore) -> None:
    api = Caller(client, None)
    prepare(api, store)
    document = api.get("/openapi.json").json()
    failed, ran = [], 0
    for method, path, operation in sorted(operations(document), key=lambda each: _order(each[0], each[1])):
        if OTHERS & set(operation["tags"]) or path.startswith("/api/v1/keys/"):
            continue  # systems that have their own tests; keys have ids that nobody chooses
        for request in examples(method, path, operation):
            answer = api.request(**request)
            ran += 1
            if not 200 <= answer.status_code < 300:
                failed.append(f"{method} {path}: {answer.status_code} {answer.text[:300]}")
    assert failed == [] and ran > 90


def prepare(api: Caller, store: gr.FeatureStore) -> None:
    """What the examples speak of: a job with rows, an export, a training dataset, a policy, three versions."""
    store.apply([gr.Transformation("doubled", sql={"doubled": "2 * amount"})])
    assert api.post("feature-groups/spend/materialize?wait=30", {}).json()["id"] == "job-00000001"
    asked = {"features": "careful", "rows": [{"user_id": "u1", "event_time": "2026-03-11T00:00:00Z"}]}
    assert api.post("serving/historical?job=true", asked).json()["id"] == "job-00000002"
    assert api.get("jobs/job-00000002?wait=30").json()["status"] == "succeeded"
    assert (
        api.post("exports?wait=30", {"what": "spend", "destination": "spend.parquet"}).json()["status"] == "succeeded"
    )
    made = api.post("training-datasets?wait=30", {"view": "shopping", "rows": SPINE})
    assert made.json()["status"] == "succeeded"
    mask = {"name": "mask-visits", "effect": "mask", "on": ["feature:spend:visits"], "to": ["role:viewer"]}
    assert api.post("policies", mask).status_code == 201
    row = {"user_id": "u1", "at": "2026-03-20T00:00:00Z", "loaded": "2026-03-20T00:00:00Z", "amount": 1.0, "visits": 1}
    for _ in range(2):
        assert api.post("feature-groups/spend/rows", {"rows": [row]}).status_code == 201
        assert api.post("feature-groups/spend/materialize?wait=30", {}).json()["status"] == "succeeded"


SPINE = [{"user_id": "u1", "shop_id": 1, "event_time": "2026-03-11T00:00:00Z"}]


def _order(method: str, path: str) -> tuple[int, bool, str]:
    """Reading first, then what makes things, then what takes them away again, views before what they take; then what
    others depend on."""
    rank = {"get": 0, "post": 1, "put": 2, "patch": 3, "delete": 4}[method]
    last = path.endswith(("/stop", "/rollback")) or path == "/api/v1/keys"
    return (5 if last else rank, "views" not in path and "datasets" not in path, path)


def examples(method: str, path: str, operation: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The requests that the examples of an operation make."""
    query = {}
    for parameter in operation.get("parameters", ()):
        if "example" in parameter and parameter["in"] == "path":
            path = path.replace("{" + parameter["name"] + "}", str(parameter["example"]))
        elif "example" in parameter and parameter["in"] == "query":
            query[parameter["name"]] = parameter["example"]
    assert "{" not in path, f"{path} has no example of its path"
    body = operation.get("requestBody")
    if body is None:
        yield {"method": method.upper(), "path": path, "params": query}
        return
    content = body["content"].get("application/json", {})
    given = [content["example"]] if "example" in content else content.get("schema", {}).get("examples", [])
    for each in given or [{}]:  # of an operation that needs none
        yield {"method": method.upper(), "path": path, "params": query, "json": each}


# Schemathesis


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The document of a server that nobody needs a key for; it is the same for all."""
    with gr.FeatureStore(make_project(tmp_path_factory.mktemp("told") / "shop", "shop")) as store:
        asking = Client(create_app(served(store)))
        found: dict[str, Any] = asking.get("/openapi.json").json()
        asking.close()
        return found


def served(store: gr.FeatureStore) -> Projects:
    project = project_of(store)
    return Projects(store.config, {project.name: project}, project.name)


@pytest.mark.filterwarnings("ignore:Do not use the `random` module:hypothesis.errors.HypothesisDeprecationWarning")
@pytest.mark.parametrize("who", ["open", "nobody", "admin", "viewer"])
def test_no_request_is_answered_with_a_fault_or_an_undocumented_status(
    who: str, told: dict[str, Any], store: gr.FeatureStore
) -> None:
    key = None if who == "open" else make_keys(store).get(who)
    client = Client(create_app(served(store)))
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    seen: Counter[int] = Counter()
    wrong: list[str] = []
    for result in schemathesis.openapi.from_dict(told).get_all_operations():
        operation = result.ok()
        if who == "open" and operation.path == "/api/v1/keys":
            continue  # which would end that the project is open
        for case, answer in asked(client, operation, headers):
            seen[answer.status_code] += 1
            if problem := judged(answer, operation.definition.raw["responses"], operation.path, who):
                wrong.append(f"{case.method} {operation.path}: {problem} {answer.text[:200]}")
    client.close()
    assert wrong == []
    assert sum(seen.values()) > 500 and (seen[401] > 500) == (who == "nobody") and (seen[200] > 50) == (who != "nobody")


def asked(client: Client, operation: Any, headers: dict[str, str]) -> list[tuple[Any, Any]]:
    """Requests that an operation's schema lets through, and what is answered."""
    answers = []

    @settings(
        max_examples=EXAMPLES, deadline=None, database=None, derandomize=True, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(case=operation.as_strategy(), data=st.data())
    def ask(case: Any, data: Any) -> None:
        for name, value in dict(case.path_parameters or {}).items():
            case.path_parameters[name] = data.draw(st.sampled_from((*NAMES.get(name, ()), value)))
        answers.append((case, send(client, case, headers)))

    ask()
    return answers


def send(client: Client, case: Any, headers: dict[str, str]) -> Any:
    """A case of Schemathesis as a request of this client."""
    kwargs = case.as_transport_kwargs(base_url="http://localhost")
    own = {str(name): str(value) for name, value in (kwargs.get("headers") or {}).items()}
    options: dict[str, Any] = {"params": kwargs.get("params"), "headers": {**own, **headers}}
    if kwargs.get("json") is not None:
        options["json"] = kwargs["json"]
    if kwargs.get("data") is not None:
        options["content"] = kwargs["data"]
    return client.request(kwargs["method"], kwargs["url"], **options)


def judged(answer: Any, documented: dict[str, Any], path: str, who: str) -> str:
    """What is wrong with an answer; nothing when nothing is."""
    if answer.status_code in FAULTS:
        return f"a fault: {answer.status_code}"
    if str(answer.status_code) not in documented:
        return f"undocumented: {answer.status_code}"
    if who == "nobody" and answer.status_code != 401 and not path.startswith("/health"):
        return f"let a stranger in: {answer.status_code}"
    if answer.status_code >= 400 and set(answer.json()) != {"error"} and path not in OTHER_SHAPES:
        return "another envelope"
    return ""
