"""What route functions take besides their body: who asks, the server's jobs and metrics."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import Depends, Request

if TYPE_CHECKING:
    from grange.http.context import Caller
    from grange.jobs import JobRunner
    from grange.store import FeatureStore


def caller(request: Request) -> Caller:
    """Who asks, as the shell found out."""
    found: Caller = request.scope["state"]["caller"]
    return found


def runner(request: Request) -> JobRunner:
    """What runs the server's jobs."""
    found: JobRunner = request.app.state.jobs
    return found


def now() -> dt.datetime:
    """The clock, read once per request (TIME-3)."""
    return dt.datetime.now(dt.UTC)


Asking = Annotated[Any, Depends(caller)]
"""The `Caller` of a request."""
Jobs = Annotated[Any, Depends(runner)]
"""The `JobRunner` of the server."""
Now = Annotated[dt.datetime, Depends(now)]


def project_store(who: Caller) -> FeatureStore:
    """The store of the caller's project, for what `access` has checked already."""
    return who.project.store
