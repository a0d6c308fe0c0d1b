"""Callers of every role, for tests of the resources: a client that says who it is."""

from __future__ import annotations

import datetime as dt
from typing import Any

import httpx

import grange as gr
from grange.security import Security

ROLES = ("viewer", "editor", "operator", "admin")


def make_keys(store: gr.FeatureStore) -> dict[str, str]:
    """A key of each role, by role. From then on the project is not open."""
    keys = Security(store._parts.registry, store.config.project).keys
    return {role: keys.create(f"{role}_key", role=role, now=dt.datetime.now(dt.UTC)).text for role in ROLES}


class Caller:
    """A client that says who it is with every request."""

    def __init__(self, client: Any, key: str | None) -> None:
        self._client = client
        self._headers = {} if key is None else {"Authorization": f"Bearer {key}"}

    def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        """One request; a path without `/` is under `/api/v1`."""
        options["headers"] = {**self._headers, **options.get("headers", {})}
        path = path if path.startswith("/") else f"/api/v1/{path}"
        response: httpx.Response = self._client.request(method, path, **options)
        return response

    def get(self, path: str, **options: Any) -> httpx.Response:
        return self.request("GET", path, **options)

    def post(self, path: str, json: Any = None, **options: Any) -> httpx.Response:
        return self.request("POST", path, **({"json": json} if json is not None else {}), **options)

    def put(self, path: str, json: Any, **options: Any) -> httpx.Response:
        return self.request("PUT", path, json=json, **options)

    def delete(self, path: str, **options: Any) -> httpx.Response:
        return self.request("DELETE", path, **options)


def error_of(response: httpx.Response) -> dict[str, Any]:
    """The error of an answer, its envelope looked at."""
    body = response.json()
    assert set(body) == {"error"} and set(body["error"]) == {"code", "message", "details", "request_id"}, body
    found: dict[str, Any] = body["error"]
    return found
