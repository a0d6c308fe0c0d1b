"""What was served: vectors that models were given, kept beside the history that they learned from.

They lie in the offline store as pushed rows of `served__<view>`, which is no feature group: lists do not have it, and
no request can name it. A view changes and its log does not, so features, keys and statuses are JSON, each row with the
fingerprint of the view and the versions of the groups that it was made of.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from grange.definitions.catalog import Catalog
from grange.definitions.serialize import fingerprint, to_data
from grange.errors import ConflictError, StoreUnavailableError, UnknownVersionError
from grange.frames import Rows
from grange.plan.nodes import Between, Order
from grange.ports.offline import VersionMeta
from grange.types import Schema, parse_dtype
from grange.types.time import to_utc
from grange.verbs.parts import Parts
from grange.verbs.versions import online_version

PREFIX: Final = "served__"
_LONGEST: Final = 128
SCHEMA: Final = Schema.of(
    {
        "request_id": parse_dtype("string"),
        "place": parse_dtype("int64"),
        "served_at": parse_dtype("datetime"),
        "view": parse_dtype("string"),
        "fingerprint": parse_dtype("string"),
        "versions": parse_dtype("string"),
        "features": parse_dtype("string"),
        "statuses": parse_dtype("string"),
        "degraded": parse_dtype("boolean"),
    }
)
"""The columns of the log: `place` counts the vectors of a request from 0; `features` has the entity key and the request
columns too; `versions`, `features` and `statuses` are JSON objects."""


@dataclass(frozen=True, slots=True)
class ServedVector:
    """One vector as it was served."""

    request_id: str
    place: int
    """Among the vectors of its request, from 0."""
    at: dt.datetime
    """When, UTC."""
    values: Mapping[str, Any]
    """By column: entity key, request columns, features. What was masked is not there."""
    statuses: Mapping[str, str]
    degraded: bool


def history_of(view: str) -> str:
    """The name under which a view's served vectors lie."""
    name = PREFIX + view
    if len(name) <= _LONGEST:
        return name
    return f"{name[: _LONGEST - 17]}_{hashlib.sha256(view.encode()).hexdigest()[:16]}"


def log_served(parts: Parts, catalog: Catalog, view: str, vectors: Sequence[ServedVector]) -> int:
    """Keep vectors that were served; returns how many.

    Raises:
        UnknownFeatureViewError: there is no such view any more.
        ConflictError: a feature group has the name under which they would lie; or another writer does not let go.
        StorageFullError, StoreUnavailableError: nothing was kept.
    """
    definition = catalog.view(view)
    name = history_of(view)
    if name in catalog.groups:
        raise ConflictError(
            f"served vectors of {view!r} would lie where feature group {name!r} does", try_="rename the feature group"
        )
    if not vectors:
        return 0
    made_of = _versions(parts, catalog, view)
    said = {"view": view, "fingerprint": fingerprint(to_data(definition)), "versions": _json(made_of)}
    rows = Rows.of([_row(vector, said) for vector in vectors])
    with parts.offline.lock(name, timeout=parts.lock_timeout):
        parts.offline.append(_draft(name), rows)
    return len(vectors)


def served(parts: Parts, catalog: Catalog, view: str, *, start: int | None, end: int | None) -> Rows:
    """A view's served vectors in the order of their time. See `FeatureStore.served`."""
    catalog.view(view)
    from grange.types.arrow import empty

    node = parts.offline.pushed(history_of(view))
    if node is None:
        return Rows(arrow=empty(SCHEMA))
    if start is not None or end is not None:
        node = Between(node, "served_at", start, end)
    return parts.engine().run(Order(node, "served_at", None), {}).select(SCHEMA.names)


def forget_served(parts: Parts, view: str) -> None:
    """Remove a view's served vectors; nothing happens when there are none."""
    name = history_of(view)
    if parts.offline.pushed(name) is None:
        return
    with parts.offline.lock(name, timeout=parts.lock_timeout):
        parts.offline.delete(name)


def _versions(parts: Parts, catalog: Catalog, view: str) -> dict[str, str | None]:
    """By feature group of a view, the version that is served; None where only pushed rows are, or nobody can say."""
    groups = dict.fromkeys(taken.selection.source for taken in catalog.taken_by(catalog.view(view)))
    found: dict[str, str | None] = {}
    for group in groups:
        try:
            found[group] = online_version(parts, catalog.group(group))
        except (StoreUnavailableError, UnknownVersionError):
            found[group] = None
    return found


def _row(vector: ServedVector, said: Mapping[str, str]) -> dict[str, Any]:
    return {
        "request_id": vector.request_id,
        "place": vector.place,
        "served_at": to_utc(vector.at),
        **said,
        "features": _json(vector.values),
        "statuses": _json(vector.statuses),
        "degraded": vector.degraded,
    }


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _draft(name: str) -> VersionMeta:
    return VersionMeta(
        name=name,
        version="",
        schema=SCHEMA,
        entity_keys=("request_id", "place"),
        event_time="served_at",
        created_time=None,
        source="served",
    )
