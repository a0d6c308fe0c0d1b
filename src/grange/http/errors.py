"""Errors as HTTP answers: one status per kind of error, one envelope for all."""

from __future__ import annotations

import logging
from typing import Any, Final

from grange.errors import (
    ConfigError,
    ConflictError,
    CorruptStoreError,
    ForbiddenError,
    GrangeError,
    InUseError,
    MissingDependencyError,
    NotFoundError,
    OverloadedError,
    PreconditionError,
    RefusedError,
    StorageFullError,
    StoreUnavailableError,
    TooLargeError,
    UnauthenticatedError,
)
from grange.http.places import told

STATUSES: Final[tuple[tuple[type[GrangeError], int], ...]] = (
    (UnauthenticatedError, 401),
    (ForbiddenError, 403),
    (NotFoundError, 404),
    (ConflictError, 409),
    (PreconditionError, 412),
    (InUseError, 409),
    (TooLargeError, 413),
    (OverloadedError, 429),
    (RefusedError, 409),
    (StorageFullError, 507),
    (StoreUnavailableError, 503),
    (MissingDependencyError, 501),
    (CorruptStoreError, 500),
    (ConfigError, 500),
    (GrangeError, 422),
)
"""The first that fits. What is left is the request's own fault: a definition, a question or rows that contradict
themselves or a law."""

RETRY_AFTER_S: Final = 1
_log: Final = logging.getLogger("grange.http")


def status_of(error: GrangeError) -> int:
    """The HTTP status of an error."""
    return next(status for kind, status in STATUSES if isinstance(error, kind))


def headers_of(error: GrangeError) -> dict[str, str]:
    """What an error's answer has beside its body: when to come again, how to say who one is."""
    if isinstance(error, UnauthenticatedError):
        return {"WWW-Authenticate": 'Bearer realm="grange"'}
    if isinstance(error, OverloadedError | StoreUnavailableError):
        return {"Retry-After": str(max(RETRY_AFTER_S, round(error.details.get("retry_after", RETRY_AFTER_S))))}
    return {}


def envelope(error: GrangeError, request_id: str) -> dict[str, Any]:
    """The body of an error's answer: `{"error": {"code", "message", "details", "request_id"}}`. The server's own places
    are in its log alone."""
    whole = error.to_dict()
    said = told(whole)
    if said != whole:
        _log.info("told without the server's places: %s", error, extra={"request": {"request_id": request_id}})
    details = {**said["details"], "type": said["type"], "retry": said["retry"]}
    return enveloped(said["code"], said["message"], details, request_id)


def enveloped(code: str, message: str, details: dict[str, Any], request_id: str) -> dict[str, Any]:
    """An error that is none of Grange's own, in the same envelope."""
    return {"error": {"code": code, "message": message, "details": details, "request_id": request_id}}
