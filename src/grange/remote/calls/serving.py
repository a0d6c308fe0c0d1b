"""Features of rows: as they were, for training, and as they are, for models."""

from __future__ import annotations

import decimal
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import msgspec

from grange.definitions.catalog import Catalog, Taken
from grange.definitions.references import FeatureSelection
from grange.errors import CorruptStoreError, GrangeError, LeakWarning
from grange.frames import Rows
from grange.remote import answers, bodies
from grange.remote.calls.asked import ROW, features_as_sent, given_spine, requested_rows, selection_from, spine_rows
from grange.remote.calls.jobs import finished
from grange.remote.calls.session import API, Session, asked_packed, shared, told
from grange.remote.history import RemoteHistoricalFeatures, Told, masked_rows
from grange.remote.messages import ARROW, LONG, MSGPACK, QUICK, Call, Request, Response
from grange.remote.online import RemoteOnlineFeatures, Shape
from grange.types.time import Moment
from grange.verbs.spine import Spine

if TYPE_CHECKING:
    from grange.quality.leaks import Leak

SHAPES: Final = 256
"""How many different requests are remembered; a service asks for a handful."""
SHAPE_SECONDS: Final = 30.0
"""How long it is remembered what the columns of an answer are, while their names stay the same."""
ABOUT: Final = b"grange"
"""The metadata of an Arrow answer that says what its columns are."""


def get_online_features(
    session: Session,
    features: Any,
    rows: Any,
    *,
    now: Moment | None = None,
    full_feature_names: bool = False,
    training_dataset: int | None = None,
    transform: bool = True,
) -> Call[RemoteOnlineFeatures]:
    """The latest values of features: one vector per row, in order, in one message each way."""
    request = {
        "features": (yield from features_as_sent(session, features)),
        "full_feature_names": full_feature_names,
        "training_dataset": training_dataset,
        "transform": transform,
    }
    shape = yield from _shape(session, request)
    given = requested_rows(rows)
    how = {
        **request,
        "now": bodies.moment(now, "now"),
        "format": "columns",
        "statuses": session.statuses,
        "event_times": session.statuses,
    }
    found = yield from _read(how, given)
    if found["features"].keys() != shape.types.keys():
        session.shapes.clear()  # definitions changed since: what the columns are is asked again
        shape = yield from _shape(session, request)
    return _vectors(shape, found, given)


def _read(how: Mapping[str, Any], rows: list[Mapping[str, Any]]) -> Call[Any]:
    """The vectors of rows, as plain data. Rows are MessagePack, unless they have decimals, which that does not."""
    if not any(isinstance(value, decimal.Decimal) for row in rows for value in row.values()):
        return (yield from asked_packed("/serving/online", {**how, "rows": rows}, QUICK))
    response: Response = yield Request(
        "POST",
        f"{API}/serving/online",
        bodies.without_none({**how, "features": _in_query(how["features"])}),
        bodies.as_arrow(Rows.of(rows, what="the requested rows").arrow),
        content_type=ARROW,
        accept=MSGPACK,
        patience=QUICK,
    )
    return bodies.from_msgpack(response)


def _in_query(features: str | list[Any]) -> str | list[str]:
    """Features as a query has them: objects as JSON."""
    if isinstance(features, str):
        return features
    if len(features) == 1 and isinstance(features[0], str) and ":" not in features[0]:
        # alone in a query it would be a view by its name, which is more than a list takes of it
        named = selection_from(features[0])
        features = [bodies.without_none({"source": named.source, "version": named.version})]
    return [item if isinstance(item, str) else bodies.as_json(item).decode() for item in features]


def _vectors(shape: Shape, found: Mapping[str, Any], rows: list[Mapping[str, Any]]) -> RemoteOnlineFeatures:
    if found["features"].keys() != shape.types.keys():
        raise CorruptStoreError(
            "the definitions changed while the vectors were read",
            found=", ".join(found["features"]),
            try_="the same again",
        )
    about = found["metadata"]
    return RemoteOnlineFeatures(
        shape,
        found["features"],
        rows,
        statuses=found.get("statuses"),
        event_times=found.get("event_times"),
        degraded=about["degraded"],
        masked=frozenset(about.get("masked") or ()),
    )


def _shape(session: Session, request: Mapping[str, Any]) -> Call[Shape]:
    """What the columns of an answer are."""
    key = bodies.as_msgpack(request)

    def known() -> Shape | None:
        found = session.shapes.get(key)
        return found if found is not None and session.clock() - found.known_at <= SHAPE_SECONDS else None

    # most requests find it at once, and none of this is made
    return known() or (yield from shared(session, key, known, _learned(session, key, request)))


def _learned(session: Session, key: bytes, request: Mapping[str, Any]) -> Call[Shape]:
    """An answer to no rows says what its columns are, with their types."""
    from grange.types.arrow import from_arrow_schema

    response: Response = yield Request(
        "POST",
        f"{API}/serving/online",
        body=bodies.as_msgpack({**request, "rows": []}),
        content_type=MSGPACK,
        accept=ARROW,
        patience=QUICK,
    )
    schema = from_arrow_schema(bodies.from_arrow(response).schema, what="an online answer")
    types = {column.name: column.dtype for column in schema}
    from grange.remote.calls.definitions import catalog

    roles = _roles((yield from catalog(session)), request["features"], list(types))
    if len(session.shapes) >= SHAPES:
        session.shapes.clear()
    session.shapes[key] = shape = Shape.of(types, roles, session.clock())
    return shape


def _roles(catalog: Catalog, features: str | list[Any], names: list[str]) -> dict[str, str]:
    """What each column is for."""
    view = catalog.views.get(features) if isinstance(features, str) else None
    roles: dict[str, str] = {}
    if view is not None:
        selections = [taken.selection for taken in catalog.taken_by(view)]
        roles |= dict.fromkeys(view.inference_helpers, "inference_helper")
        roles |= dict.fromkeys(catalog.requests(view).names, "request")
    else:
        selections = [selection_from(item) for item in ([features] if isinstance(features, str) else features)]
        roles |= {name: "request" for selection in selections for name in _request_columns(catalog, selection)}
    roles |= {column: "key" for selection in selections for column in _key_columns(catalog, selection)}
    return {name: roles.get(name, "feature") for name in names}


def _request_columns(catalog: Catalog, selection: FeatureSelection) -> tuple[str, ...]:
    if selection.source in catalog.views:
        return catalog.requests(catalog.views[selection.source]).names
    known = [Taken(selection)] if selection.source in catalog.groups else []
    return catalog.requests_of(known, asked_by="request").names


def _key_columns(catalog: Catalog, selection: FeatureSelection) -> list[str]:
    group, on = catalog.groups.get(selection.source), dict(selection.on)
    if group is not None:
        return [on.get(key, key) for key in group.join_keys]
    view = catalog.views.get(selection.source)
    return [] if view is None else [k for t in catalog.taken_by(view) for k in _key_columns(catalog, t.selection)]


# history


def get_historical_features(
    session: Session,
    features: Any,
    spine: Any = None,
    *,
    event_time: str | None = None,
    start: Moment | None = None,
    end: Moment | None = None,
    as_known: bool = False,
    engine: str | None = None,
    full_feature_names: bool = False,
    now: Moment | None = None,
    training_dataset: int | None = None,
    transform: bool = True,
) -> Call[RemoteHistoricalFeatures]:
    """The values that features had, point-in-time correct, beside the rows that are asked for."""
    sent = yield from features_as_sent(session, features)
    options = {
        "features": sent,
        "event_time": event_time,
        "start": bodies.moment(start, "start"),
        "end": bodies.moment(end, "end"),
        "as_known": as_known,
        "engine": engine,
        "full_feature_names": full_feature_names,
        "now": bodies.moment(now, "now"),
        "training_dataset": training_dataset,
        "transform": transform,
    }
    given = None if spine is None else (yield from given_spine(session, spine, sent))
    try:
        table = yield from _joined(session, bodies.without_none(options), given)
    except GrangeError as error:
        if error.found is not None:  # the caller's spine has no such column
            error.found = error.found.replace(f", {ROW}", "")
        raise
    found = _beside(table, given)
    warn_of(found.leaks)
    return found


def _joined(session: Session, options: Mapping[str, Any], spine: Spine | None) -> Call[Any]:
    """The table that came back, also of a request that became a job."""
    body = b"" if spine is None else bodies.as_arrow(spine_rows(spine).arrow)
    response: Response = yield Request(
        "POST",
        f"{API}/serving/historical",
        body=body,
        content_type=ARROW,
        accept=ARROW,
        headers=told(options),
        patience=LONG,
    )
    if response.status == 202:
        job = yield from finished(session, response)
        response = yield Request("GET", f"{API}/jobs/{job['id']}/rows", accept=ARROW, patience=LONG)
    return bodies.from_arrow(response)


def _beside(table: Any, given: Spine | None) -> RemoteHistoricalFeatures:
    """An answer's columns beside the spine as the caller gave it: its index, its types."""
    said = msgspec.json.decode((table.schema.metadata or {}).get(ABOUT, b"{}"))
    if not said:
        raise CorruptStoreError("the server's answer does not say what its columns are")
    told_ = Told(
        event_time=said["event_time"],
        roles={name: role for name, role in said["roles"].items() if name != ROW},
        pins=[(group, version, until) for group, version, until in said["pins"]],
        leaks=tuple(map(answers.leak, said["leaks"])),
        rows_left_out=said["rows_left_out"],
        explained=said["explain"],
    )
    table = table.replace_schema_metadata(None)
    unknown = said.get("immature")
    immature = None if unknown is None else table.column(unknown).to_numpy()
    features = Rows(arrow=table.select(said["feature_names"]))
    if given is None:
        beside = {*said["feature_names"], unknown}
        spine = Spine(Rows(arrow=table.select([name for name in table.column_names if name not in beside])))
    else:
        places = table.column(ROW).to_numpy()
        spine = given if len(places) == len(given) else given.where(masked_rows(places, len(given)))
    return RemoteHistoricalFeatures(spine, features, told_, immature)


def warn_of(leaks: tuple[Leak, ...]) -> None:
    """Warn of leaks that the server's settings make warnings."""
    for leak in leaks:
        if leak.severity == "warning":
            warnings.warn(str(leak), LeakWarning, stacklevel=2)
