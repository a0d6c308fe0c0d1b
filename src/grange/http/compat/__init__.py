"""The routes of other systems, over Grange's resources: their words and shapes, thin.

`ROUTERS` and `HOT_ROUTES` are loaded when they are asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fastapi import APIRouter

    from grange.http.messages import Handler

    ROUTERS: Sequence[APIRouter]
    HOT_ROUTES: Mapping[tuple[str, str], Handler]


def __getattr__(name: str) -> Any:
    if name == "ROUTERS":
        from grange.http.compat import ai_hub
        from grange.http.compat.feast import routes as feast
        from grange.http.compat.feature_store_2 import routes as feature_store_2

        return (*feature_store_2.ROUTERS, *ai_hub.ROUTERS, *feast.ROUTERS)
    if name == "HOT_ROUTES":
        from grange.http.compat.feast.online import get_online_features

        return {("POST", "/get-online-features"): get_online_features}
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = ["HOT_ROUTES", "ROUTERS"]
