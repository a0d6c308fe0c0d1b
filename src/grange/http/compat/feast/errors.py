"""Errors as Feast's server answers them: a JSON text that holds the error's class, which its client raises again."""

from __future__ import annotations

import json
from typing import Final

from grange.errors import (
    ForbiddenError,
    GrangeError,
    MissingColumnError,
    NameCollisionError,
    UnknownFeatureError,
    UnknownFeatureGroupError,
    UnknownFeatureViewError,
)
from grange.http.errors import headers_of, status_of
from grange.http.messages import JSON, Reply
from grange.http.places import told

_CLASSES: Final[tuple[tuple[type[GrangeError], str], ...]] = (
    (UnknownFeatureGroupError, "FeatureViewNotFoundException"),
    (UnknownFeatureViewError, "FeatureServiceNotFoundException"),
    (UnknownFeatureError, "FeastObjectNotFoundException"),
    (MissingColumnError, "RequestDataNotFoundInEntityRowsException"),
    (NameCollisionError, "FeatureNameCollisionError"),
    (ForbiddenError, "FeastPermissionError"),
    (GrangeError, "FeastError"),
)
"""The class of Feast's that a client catches. The first that fits."""


class UnknownPushSourceError(UnknownFeatureGroupError):
    """Neither a push source nor a feature group has this name."""


def detail_of(error: GrangeError) -> str:
    """An error's body."""
    name = next(name for kind, name in _CLASSES if isinstance(error, kind))
    if isinstance(error, UnknownPushSourceError):
        name = "PushSourceNotFoundException"
    detail = {"module": "feast.errors", "class": name, "message": told(str(error))}
    return json.dumps(json.dumps(detail))


def error_reply(error: GrangeError) -> Reply:
    """An error's answer, with the status that Grange has for it."""
    status = 422 if isinstance(error, UnknownPushSourceError) else status_of(error)
    return Reply(status, detail_of(error).encode(), JSON, tuple(headers_of(error).items()))
