"""The server's log: a line per request that is worth one, with its id; never a body, never a secret.

Requests to hot routes that were answered well are counted, not written: at their rates a line each would cost more than
the answers. They are in the log at level DEBUG, and at INFO where one took longer than a second.
"""

from __future__ import annotations

import datetime as dt
import json
import logging
import sys
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from grange.http.shell import Request

LOGGER: Final = logging.getLogger("grange.http")
SLOW_S: Final = 1.0
"""A request that took longer is in the log at INFO, whatever it was."""
QUIET: Final = frozenset({"/health/live", "/health/ready", "/metrics", "/health"})
"""Routes that are asked so often, by machines, that good answers are not worth a line."""


def log_request(request: Request, took: float) -> None:
    """One line for one request."""
    level = _level(request, took)
    if not LOGGER.isEnabledFor(level):
        return
    LOGGER.log(
        level,
        "%s %s %d %.1f ms",
        request.method,
        request.path,
        request.status,
        took * 1e3,
        extra={
            "request": {
                "request_id": request.id,
                "method": request.method,
                "path": request.path,
                "route": request.route,
                "status": request.status,
                "latency_ms": round(took * 1e3, 3),
                "project": request.project,
                "principal": request.principal,
                **({"view": request.view} if request.view else {}),
                **({"refused": request.refused} if request.refused else {}),
            }
        },
    )


def log_failure(request: Request, error: BaseException) -> None:
    """What the server did not foresee, with where it happened."""
    LOGGER.error(
        "%s %s failed",
        request.method,
        request.path,
        exc_info=error,
        extra={"request": {"request_id": request.id, "method": request.method, "path": request.path}},
    )


def _level(request: Request, took: float) -> int:
    if request.status >= 500:
        return logging.WARNING
    if took > SLOW_S or request.status >= 400:
        return logging.INFO
    return logging.DEBUG if request.is_hot or request.route in QUIET else logging.INFO


class TextFormatter(logging.Formatter):
    """A line for people: time, level, what, and the request's id."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, and the trace of an exception below it."""
        about = getattr(record, "request", None)
        suffix = f"  [{about['request_id']}]" if about else ""
        text = f"{_time(record)} {record.levelname:<7} {_one_line(record.getMessage())}{suffix}"
        return f"{text}\n{self.formatException(record.exc_info)}" if record.exc_info else text


class JsonFormatter(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """The object; the trace of an exception is its field `trace`."""
        data: dict[str, Any] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "request", {}),
        }
        if record.exc_info:
            data["trace"] = self.formatException(record.exc_info)
        return json.dumps(data, default=str)


def configure_logs(format: str, level: str) -> None:
    """Write the server's log, and that of what it runs on, to standard error.

    Args:
        format: `text` or `json`.
        level: of `logging`, in lower case.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if format == "json" else TextFormatter())
    for name in ("grange", "uvicorn"):
        logger = logging.getLogger(name)
        logger.handlers[:] = [handler]
        logger.setLevel(level.upper())
        logger.propagate = False
    logging.getLogger("uvicorn.error").setLevel(max(logging.WARNING, logging.getLogger("uvicorn").level))


def _time(record: logging.LogRecord) -> str:
    return dt.datetime.fromtimestamp(record.created, dt.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _one_line(text: str) -> str:
    """A message without line breaks or other control characters: what a client sends cannot forge lines."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
