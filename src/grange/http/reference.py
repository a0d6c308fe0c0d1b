"""`/openapi.json` and `/docs`: what there is, as a document for machines and as a page for people.

The document is FastAPI's, with what is the same everywhere added once: the statuses of errors and their envelope, how a
caller says who it is, idempotency keys, entity tags; and with the hot routes, which FastAPI does not know.
"""

from __future__ import annotations

import html
import importlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final

import msgspec
from fastapi import APIRouter, Request, Response
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute

from grange.http.answers import as_json
from grange.http.messages import ARROW, JSON, MSGPACK, TEXT
from grange.http.routing import READS, permission_of
from grange.security.principals import PERMISSIONS, ROLES, Permission

if TYPE_CHECKING:
    from fastapi import FastAPI

router = APIRouter()
ROUTERS: Final = (router,)

ENVELOPE: Final = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["code", "message", "details", "request_id"],
            "properties": {
                "code": {
                    "type": "string",
                    "description": "Stable; what a program looks at.",
                    "examples": ["GRANGE-202"],
                },
                "message": {"type": "string", "description": "One line, for people."},
                "details": {
                    "type": "object",
                    "description": "`found`, `closest`, `try`: what was there instead, the closest valid thing, the "
                    "next step; `retry`: whether the same call may succeed later.",
                },
                "request_id": {"type": "string"},
            },
        }
    },
}
STATUSES: Final[Mapping[str, str]] = {
    "400": "The request cannot be read.",
    "401": "Who asks is not known: no key or token, or none that works.",
    "403": "Who asks is known, and may not: role, scopes or a policy.",
    "404": "Nothing has this name.",
    "405": "The path has no such method.",
    "409": "Understood, and not done: somebody else is at it, it is still used, it is there already.",
    "412": "What is changed is not what the client saw (`If-Match`).",
    "413": "More rows, bytes or nesting than the limits let through.",
    "415": "A body of another type than the route takes.",
    "422": "A definition, a question or rows that contradict themselves or a law.",
    "429": "Too much at once; `Retry-After` says when to come again.",
    "500": "Something stored cannot be read, or the server has a fault.",
    "501": "A package that this needs is not installed at the server.",
    "503": "A store cannot be reached; `Retry-After` says when to come again.",
    "507": "No space is left where rows are written.",
}
_RETRY: Final = {"Retry-After": {"schema": {"type": "integer"}, "description": "Seconds."}}
_WRITES: Final = ("post", "put", "patch", "delete")
_KEY_PARAMETER: Final = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "schema": {"type": "string", "minLength": 1, "maxLength": 255},
    "description": "The same key with the same request gets the first one's answer, for a day.",
}
DESCRIPTION: Final = """Grange over HTTP: everything that the library does.

Say who you are with `Authorization: Bearer <key or token>`, or `X-API-Key`. A server of several projects takes the
project from the key, or from `X-Grange-Project`. Every error is `{"error": {"code", "message", "details",
"request_id"}}`. Lists are `{"items", "next"}`: send `next` as `cursor`. Definitions have an `ETag`: `If-None-Match`
saves an answer, `If-Match` on a write saves somebody else's change. Every write takes an `Idempotency-Key`. Long work
is a job: `202` and its `Location`, or its end within `?wait=` seconds."""


def document(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document of an application; made once."""
    known: dict[str, Any] | None = getattr(app.state, "document", None)
    if known is None:
        known = app.state.document = _made(app)
    return known


def _made(app: FastAPI) -> dict[str, Any]:
    made: dict[str, Any] = get_openapi(
        title="Grange", version=version("grange"), description=DESCRIPTION, routes=app.routes
    )
    components = made.setdefault("components", {})
    components["securitySchemes"] = {
        "bearer": {"type": "http", "scheme": "bearer", "description": "An API key, or a token (JWT)."},
        "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    }
    components["responses"] = {
        f"Error{status}": _error_response(status, description) for status, description in STATUSES.items()
    }
    schemas = components.setdefault("schemas", {})
    schemas["Error"] = ENVELOPE
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    _add_hot(made, schemas)
    permissions = dict(_permissions())
    for path, item in made["paths"].items():
        for method, operation in item.items():
            _complete(operation, method, permissions.get((method.upper(), path)))
            _add_example(operation, schemas)
    made["security"] = [{"bearer": []}, {"key": []}, {}]
    return made


def _permissions() -> Iterator[tuple[tuple[str, str], Any]]:
    """(method, path) and permission of every route that asks for one."""
    from grange.http.historical import HISTORICAL
    from grange.http.hot import ONLINE

    yield ("POST", ONLINE), Permission.READ_FEATURES
    yield ("POST", HISTORICAL), Permission.READ_HISTORY
    yield ("GET", "/metrics"), Permission.READ_METRICS
    for route in every_route():
        for method in route.methods or ():
            yield (method, route.path), permission_of(route)


def every_route() -> Iterator[APIRoute]:
    """The routes of all resources and of other systems' routers."""
    for each in _routers():
        yield from (route for route in each.routes if isinstance(route, APIRoute))


def _routers() -> Iterator[APIRouter]:
    for module in ("grange.http.resources", "grange.http.compat"):
        yield from importlib.import_module(module).ROUTERS


def _complete(operation: dict[str, Any], method: str, permission: Any) -> None:
    """Add to an operation what all have: errors, idempotency keys, who may; and put examples where they belong."""
    examples = operation.pop("x-examples", {})
    for parameter in operation.get("parameters", ()):
        if parameter["name"] in examples:
            parameter["example"] = examples[parameter["name"]]
    responses = operation.setdefault("responses", {})
    if "HTTPValidationError" in str(responses.get("422")):
        del responses["422"]
    for status in STATUSES:
        responses.setdefault(status, {"$ref": f"#/components/responses/Error{status}"})
    if method in _WRITES and permission not in READS and permission is not None:
        operation.setdefault("parameters", []).append(_KEY_PARAMETER)
    if permission is not None:
        least = next(role for role in ROLES if permission in PERMISSIONS[role])
        operation["x-permission"] = permission.name
        operation["description"] = f"{operation.get('description', '')}\n\nNeeds role `{least}`.".strip()


def _add_example(operation: dict[str, Any], schemas: Mapping[str, Any]) -> None:
    """Give a body without an example one, made of its fields' examples."""
    content = operation.get("requestBody", {}).get("content", {}).get(JSON)
    if content is None or "example" in content or "examples" in content.get("schema", {}):
        return
    for name in _names(content.get("schema", {})):
        fields = schemas[name].get("properties", {})
        content["example"] = {field: each["examples"][0] for field, each in fields.items() if each.get("examples")}


def _error_response(status: str, description: str) -> dict[str, Any]:
    answer: dict[str, Any] = {
        "description": description,
        "content": {JSON: {"schema": {"$ref": "#/components/schemas/Error"}}},
    }
    return answer | ({"headers": _RETRY} if status in ("429", "503") else {})


@dataclass(frozen=True, slots=True)
class _Hot:
    """A route that FastAPI does not know, as the document tells of it."""

    path: str
    summary: str
    description: str
    request: type[Any]
    example: Mapping[str, Any]
    query: Sequence[Mapping[str, Any]] = ()
    answers: Mapping[str, str] = field(default_factory=lambda: {"200": "The answer."})


def _hot() -> tuple[_Hot, ...]:
    from grange.http.historical import HISTORICAL, HistoricalOptions
    from grange.http.hot import ONLINE, OnlineRequest

    rows = [{"user_id": "u1", "shop_id": 1}]
    spine = [{"user_id": "u1", "shop_id": 1, "event_time": "2026-03-11T00:00:00Z"}]
    job = {"name": "job", "in": "query", "required": False, "schema": {"type": "boolean"},
           "description": "Whether it runs as a job; a large one does without."}  # fmt: skip
    return (
        _Hot(ONLINE, "Read vectors", "The latest values of features: one vector per row, in order.",
             OnlineRequest,
             {"features": "shopping", "rows": rows, "statuses": True}),
        _Hot(HISTORICAL, "Read history",
             "Features as they were, beside the rows that are asked for (PIT-1). With Arrow or Parquet, options are "
             "JSON in the header `X-Grange-Options`.", HistoricalOptions,
             {"features": "shopping", "rows": spine}, (job,),
             {"200": "The rows.", "202": "It runs as a job; `Location` says where to look."}),
    )  # fmt: skip


def _add_hot(made: dict[str, Any], schemas: dict[str, Any]) -> None:
    """Add the routes that features are read by."""
    for each in _hot():
        template = "#/components/schemas/{name}"
        [reference], parts = msgspec.json.schema_components([each.request], ref_template=template)
        if "rows" in each.example and "rows" not in str(parts[each.request.__name__]["properties"].keys()):
            parts[each.request.__name__] = _with_rows(parts[each.request.__name__])
        schemas |= parts
        content = {JSON: {"schema": reference, "example": each.example}, MSGPACK: {"schema": reference}}
        answers = {status: {"description": text, "content": _ANSWER} for status, text in each.answers.items()}
        made["paths"].setdefault(each.path, {})["post"] = {
            "summary": each.summary,
            "description": each.description,
            "operationId": each.summary.lower().replace(" ", "_"),
            "tags": ["serving"],
            "parameters": list(each.query),
            "requestBody": {"required": True, "content": {**content, ARROW: _BINARY}},
            "responses": answers,
        }
    for path, summary in _PROBES.items():
        kind = TEXT if path == "/metrics" else JSON
        made["paths"].setdefault(path, {})["get"] = {
            "summary": summary,
            "operationId": summary.lower().replace(" ", "_"),
            "tags": ["operations"],
            "responses": {"200": {"description": summary, "content": {kind: {"schema": {}}}}},
        }


_BINARY: Final = {"schema": {"type": "string", "format": "binary"}}
_ANSWER: Final = {JSON: {"schema": {"type": "object"}}, MSGPACK: _BINARY, ARROW: _BINARY}
_PROBES: Final = {
    "/health/live": "Whether the server runs",
    "/health/ready": "Whether all its parts answer",
    "/metrics": "Numbers for Prometheus",
}


def _with_rows(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema of options, with the rows that they are beside of."""
    rows = {"type": "array", "items": {"type": "object"}, "description": "One object per row."}
    columns = {"type": "object", "description": "The same as lists by column, instead of rows."}
    return {**schema, "properties": {"rows": rows, "columns": columns, **schema["properties"]}}


@router.get("/openapi.json", include_in_schema=False)
def openapi(request: Request) -> Response:
    """The document."""
    return Response(as_json(document(request.app)), media_type=JSON)


_POLICY: Final = (
    "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""The page loads one style sheet of its own, and nothing else from anywhere."""


@router.get("/docs", include_in_schema=False)
def docs(request: Request) -> Response:
    """The page. It is plain HTML: nothing in it runs, and nothing is loaded from another host."""
    page = _page(document(request.app))
    return Response(page, media_type="text/html; charset=utf-8", headers={"Content-Security-Policy": _POLICY})


@router.get("/docs/style.css", include_in_schema=False)
def style() -> Response:
    """The page's style."""
    return Response(_STYLE, media_type="text/css; charset=utf-8")


def _page(made: Mapping[str, Any]) -> str:
    by_tag: dict[str, list[tuple[str, str, dict[str, Any]]]] = {}
    for path, item in made["paths"].items():
        for method, operation in item.items():
            by_tag.setdefault((operation.get("tags") or ["other"])[0], []).append((method, path, operation))
    links = " ".join(f'<a href="#{_id(tag)}">{html.escape(tag)}</a>' for tag in by_tag)
    sections = "".join(
        f'<section id="{_id(tag)}"><h2>{html.escape(tag)}</h2>'
        + "".join(_operation(*each, made["components"]["schemas"]) for each in found)
        + "</section>"
        for tag, found in by_tag.items()
    )
    intro = "".join(f"<p>{_text(part)}</p>" for part in str(made["info"]["description"]).split("\n\n"))
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Grange: REST</title>'
        '<meta name="viewport" content="width=device-width"><link rel="stylesheet" href="/docs/style.css"></head><body>'
        f"<header><h1>Grange <small>{html.escape(made['info']['version'])}</small></h1>{intro}"
        f'<p><a href="/openapi.json">openapi.json</a></p><nav>{links}</nav></header>'
        f"<main>{sections}</main></body></html>"
    )


def _id(tag: str) -> str:
    return tag.replace(" ", "-")


def _text(text: str) -> str:
    """Text with `code` in backticks."""
    parts = html.escape(text).split("`")
    return "".join(f"<code>{part}</code>" if place % 2 else part for place, part in enumerate(parts))


def _operation(method: str, path: str, operation: Mapping[str, Any], schemas: Mapping[str, Any]) -> str:
    parameters = "".join(
        f"<tr><td><code>{html.escape(each['name'])}</code></td><td>{each['in']}</td>"
        f"<td>{_type(each.get('schema', {}))}</td><td>{_text(each.get('description', ''))}</td></tr>"
        for each in operation.get("parameters", ())
    )
    told = "".join(f"<p>{_text(part)}</p>" for part in operation.get("description", "").split("\n\n") if part)
    table = (
        f"<table><tr><th>parameter</th><th>in</th><th>type</th><th></th></tr>{parameters}</table>" if parameters else ""
    )
    statuses = ", ".join(f"<code>{status}</code>" for status in operation["responses"])
    return (
        f'<details><summary><b class="{method}">{method.upper()}</b> <code>{html.escape(path)}</code> '
        f"{html.escape(operation.get('summary', ''))}</summary>{told}{table}"
        f"{_body(operation, schemas)}<p>Answers: {statuses}</p></details>"
    )


def _body(operation: Mapping[str, Any], schemas: Mapping[str, Any]) -> str:
    content = operation.get("requestBody", {}).get("content", {})
    shown = content.get(JSON)
    if shown is None:
        return ""
    schema = shown.get("schema", {})
    named = [name for name in _names(schema) if name in schemas]
    fields = "".join(_fields(schemas[name]) for name in named[:1])
    example = shown.get("example") or next(iter(shown.get("examples", schema.get("examples", ()))), None)
    sample = "" if example is None else f"<pre>{html.escape(_pretty(example))}</pre>"
    return f"<p>Body: {', '.join(f'<code>{html.escape(each)}</code>' for each in content)}</p>{fields}{sample}"


def _pretty(example: Any) -> str:
    return msgspec.json.format(msgspec.json.encode(example), indent=2).decode()


def _names(schema: Mapping[str, Any]) -> Iterator[str]:
    if "$ref" in schema:
        yield str(schema["$ref"]).rpartition("/")[2]
    for each in (*schema.get("anyOf", ()), *schema.get("allOf", ())):
        yield from _names(each)


def _fields(schema: Mapping[str, Any]) -> str:
    required = schema.get("required", ())
    rows = "".join(
        f"<tr><td><code>{html.escape(name)}</code></td><td>{'required' if name in required else ''}</td>"
        f"<td>{_type(each)}</td><td>{_text(each.get('description', ''))}</td></tr>"
        for name, each in schema.get("properties", {}).items()
    )
    return f"<table><tr><th>field</th><th></th><th>type</th><th></th></tr>{rows}</table>"


def _type(schema: Mapping[str, Any]) -> str:
    if "$ref" in schema:
        return html.escape(next(_names(schema)))
    if "enum" in schema:
        return html.escape(" | ".join(map(str, schema["enum"])))
    if "anyOf" in schema or "oneOf" in schema:
        return " | ".join(dict.fromkeys(_type(each) for each in schema.get("anyOf", schema.get("oneOf", ()))))
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items', {}))}"
    return html.escape(str(schema.get("const", schema.get("type", "any"))))


_STYLE: Final = """
:root { color-scheme: light dark; font: 15px/1.5 system-ui, sans-serif }
body { max-width: 62rem; margin: 2rem auto; padding: 0 1rem }
h1 small { font-weight: normal; opacity: .6 }
h2 { margin-top: 2.5rem; text-transform: capitalize }
nav a { display: inline-block; margin: 0 .8rem .3rem 0 }
details { border: 1px solid #8884; border-radius: .4rem; padding: .5rem .8rem; margin: .4rem 0 }
summary { cursor: pointer }
summary b { display: inline-block; min-width: 4.2rem; font-family: ui-monospace, monospace }
.get { color: #2a7 } .post { color: #47c } .put { color: #b80 } .delete { color: #c44 }
table { border-collapse: collapse; width: 100%; margin: .6rem 0 }
td, th { text-align: left; vertical-align: top; padding: .2rem .8rem .2rem 0; border-bottom: 1px solid #8883 }
pre { overflow-x: auto; padding: .8rem; background: #8881; border-radius: .4rem }
code { font: .92em ui-monospace, monospace }
"""


_INTRODUCTION: Final = """# REST

Made by `python -m grange.http.reference`; a running server has the same at `/docs`, with fields and examples, and for
machines at `/openapi.json`. How to use it: [how-to/rest.md](../how-to/rest.md).

Each route names the least [role](../semantics/security.md) that may ask it. Scopes and policies may narrow that; a
server whose project never had a key asks nobody.
"""


def routes_page() -> str:
    """All routes as a page of the documentation."""
    from fastapi import FastAPI

    app = FastAPI()
    for each in _routers():
        app.include_router(each)
    by_tag: dict[str, list[str]] = {}
    for path, item in document(app)["paths"].items():
        for method, operation in item.items():
            permission = operation.get("x-permission")
            least = next((role for role in ROLES if permission in {each.name for each in PERMISSIONS[role]}), "")
            line = f"| `{method.upper()}` | `{path}` | {operation['summary']} | {least} |"
            by_tag.setdefault((operation.get("tags") or ["other"])[0], []).append(line)
    head = "|  | path | what it does | role |\n|---|---|---|---|\n"
    sections = [f"## {tag[0].upper()}{tag[1:]}\n\n{head}" + "\n".join(lines) for tag, lines in sorted(by_tag.items())]
    errors = "\n".join(f"| {status} | {told} |" for status, told in STATUSES.items())
    statuses = f"## Errors\n\n| status | when |\n|---|---|\n{errors}"
    return "\n".join((_INTRODUCTION, "\n\n".join((*sections, statuses)))) + "\n"


if __name__ == "__main__":
    sys.stdout.write(routes_page())
