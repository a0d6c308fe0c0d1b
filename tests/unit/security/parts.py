"""What the tests of security share."""

from __future__ import annotations

import datetime as dt
from typing import Any

from grange.errors import StoreUnavailableError
from grange.ports.registry import Registry
from grange.security.principals import Principal

NOW = dt.datetime(2026, 11, 21, 10, tzinfo=dt.UTC)
SECOND = dt.timedelta(seconds=1)
MINUTE = dt.timedelta(minutes=1)
DAY = dt.timedelta(days=1)


class CutOff:
    """A registry that can be cut off, and counts what it is asked."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self.is_down = False
        self.asked: list[str] = []

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            self.asked.append(name)
            if self.is_down:
                raise StoreUnavailableError("the registry cannot be reached")
            return getattr(self._registry, name)(*arguments, **options)

        return call


def principal(role: Any = "viewer", name: str = "ranker", **more: Any) -> Principal:
    """Somebody with a key."""
    return Principal(id=f"id-{name}", name=name, kind=more.pop("kind", "key"), role=role, project="shop", **more)
