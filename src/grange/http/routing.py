"""Routes: each says what its caller must be allowed to do, and answers a repeated write with the first one's answer.

    router = resources("/feature-groups", tag="feature groups")

    @router.get("/{name}", dependencies=needs(Permission.READ_DEFINITIONS, "name"))

A route without `needs(...)` among its dependencies is a mistake, and a test finds it.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Final

from fastapi import APIRouter, Depends, Request, Response
from fastapi.routing import APIRoute

from grange.errors import GrangeError
from grange.http.answers import failure
from grange.http.idempotency import HEADER, once
from grange.security.principals import Permission

if TYPE_CHECKING:
    from grange.http.context import Caller

PREFIX: Final = "/api/v1"
READS: Final = frozenset(
    {
        Permission.READ_DEFINITIONS,
        Permission.READ_FEATURES,
        Permission.READ_HISTORY,
        Permission.READ_METRICS,
        Permission.READ_AUDIT,
    }
)
"""What changes nothing: repeating it needs no key."""


class Needs:
    """What the caller of a route must be allowed to do: role and scopes, before anything of the request is looked at.

    Args:
        permission: what.
        of: the path parameter that names the feature group or view; "" where none does. Then it is enough that there
            is something that they may do this to: the verb asks again, with what the body names.
    """

    def __init__(self, permission: Permission, of: str = "") -> None:
        self.permission = permission
        self.of = of

    def __call__(self, request: Request) -> None:
        asking: Caller = request.scope["state"]["caller"]
        if self.of:
            asking.access.check(self.permission, request.path_params[self.of])
        elif not asking.principal.reaches(self.permission):
            asking.access.check(self.permission)


def needs(permission: Permission, of: str = "") -> list[Any]:
    """The `dependencies` of a route: see `Needs`."""
    return [Depends(Needs(permission, of))]


def permission_of(route: APIRoute) -> Permission | None:
    """What a route asks for; None where it forgot to."""
    for dependency in route.dependencies:
        if isinstance(dependency.dependency, Needs):
            return dependency.dependency.permission
    return None


class ResourceRoute(APIRoute):
    """A route whose writes may be repeated with an `Idempotency-Key`, and whose errors are answers."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The route's handler."""
        handle = super().get_route_handler()
        writes = permission_of(self) not in READS

        async def answered(request: Request) -> Response:
            caller: Caller = request.scope["state"]["caller"]
            try:
                return await handle(request)
            except GrangeError as error:
                return failure(error, caller.request_id)

        async def handler(request: Request) -> Response:
            if writes and HEADER in request.headers:
                caller: Caller = request.scope["state"]["caller"]
                try:
                    return await once(request, caller, lambda: answered(request))
                except GrangeError as error:
                    return failure(error, caller.request_id)
            return await answered(request)

        return handler


def resources(path: str, *, tag: str, prefix: str = PREFIX) -> APIRouter:
    """A router for one noun."""
    return APIRouter(prefix=prefix + path, tags=[tag], route_class=ResourceRoute)
