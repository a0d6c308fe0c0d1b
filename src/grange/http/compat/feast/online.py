"""`POST /get-online-features`: columns of values, statuses and event times, by feature.

    {"features": ["driver_stats:conv_rate"], "entities": {"driver_id": [1001, 1002]}}
    {"metadata": {"feature_names": ["driver_id", "conv_rate"]},
     "results": [{"values": [1001, 1002], "statuses": ["PRESENT", "PRESENT"], "event_timestamps": [...]}, ...]}

Feast's feature view is a feature group here, and its feature service a feature view. `name:feature` may also name an
on-demand transformation of a group and one of its outputs. Statuses are those of Feast's protocol: `NULL_VALUE` for a
stored null, `OUTSIDE_MAX_AGE` for a value past its ttl, which is null. A default that stands in is `PRESENT`, since
Feast's clients take no other value.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import re
from collections import Counter
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import msgspec

from grange.definitions.on_demand import made_on_demand, offered
from grange.errors import (
    GrangeError,
    NameCollisionError,
    RequestError,
    TooLargeError,
    UnknownFeatureError,
    UnknownFeatureGroupError,
    UnknownFeatureViewError,
    closest_names,
)
from grange.http.codecs import Body
from grange.http.compat.entity_keys import as_key, key_types
from grange.http.compat.feast.errors import error_reply
from grange.http.compat.known import Known
from grange.http.hot import ON_THE_LOOP
from grange.http.limits import check_features
from grange.http.messages import Call, Reply, json_reply
from grange.types.time import EPOCH, isoformat

if TYPE_CHECKING:
    from grange.access import Vectors
    from grange.definitions.catalog import Catalog
    from grange.definitions.feature_group import FeatureGroup
    from grange.types import DataType

NO_TIME: Final = isoformat(EPOCH)
SERVICE_SUFFIX: Final = "_service"
"""What is added to a feature service's name where a feature group has it already."""
_AS_THEY_ARE: Final = frozenset({int, float, str, bool, type(None)})
_STATUSES: Final = {
    "PRESENT": "PRESENT",
    "NULL": "NULL_VALUE",
    "NOT_FOUND": "NOT_FOUND",
    "EXPIRED": "OUTSIDE_MAX_AGE",
    "MASKED": "NULL_VALUE",
}


class OnlineRequest(msgspec.Struct):
    """The body. Fields that nobody knows are left alone, as Feast's server does."""

    entities: dict[str, list[Any]]
    feature_service: str | None = None
    features: list[str] = []
    full_feature_names: bool = False
    include_feature_view_version_metadata: bool = False


_BODY: Final = Body(OnlineRequest)


@dataclass(frozen=True, slots=True)
class Wanted:
    """The features that a request names, found."""

    features: str | list[str]
    """For the store: a view, or references."""
    full: bool
    """Whether the store is to name features in full."""
    columns: tuple[tuple[str, str], ...] | None
    """(name in the answer, column of the vectors); None of a view: all its features, as `names` has them."""
    names: Mapping[str, str]
    """Of a view: by column of the vectors, the name in the answer where it is another one."""
    groups: tuple[FeatureGroup, ...]
    types: Mapping[str, DataType]
    """Of join keys."""
    aliases: Mapping[str, str]
    """By the name of an entity, its join key."""


_known: Final[Known[Wanted]] = Known()


def get_online_features(call: Call) -> Reply | Awaitable[Reply]:
    """The hot route. A thread answers large requests."""
    try:
        request = _BODY.json(call.body)
    except GrangeError as error:
        return error_reply(error)
    size = max(map(len, (request.features, *request.entities.values())))
    return asyncio.to_thread(_answered, call, request) if size > ON_THE_LOOP else _answered(call, request)


def _answered(call: Call, request: OnlineRequest) -> Reply:
    try:
        return json_reply(_body(call, request))
    except GrangeError as error:
        return error_reply(error)


def _body(call: Call, request: OnlineRequest) -> dict[str, Any]:
    store = call.caller.project.store
    catalog = store.catalog
    key = (request.feature_service, tuple(request.features), request.full_feature_names)
    wanted = _known.get(catalog, key, lambda: wanted_of(catalog, request), size=len(request.features))
    rows = rows_of(request.entities, wanted, most=store.config.server.max_rows)
    vectors = call.caller.access.vectors(wanted.features, full_feature_names=wanted.full)(rows)
    body = answer(wanted, vectors)
    if request.include_feature_view_version_metadata:
        body["metadata"]["feature_view_metadata"] = [{"name": group.name} for group in wanted.groups]
    return body


def wanted_of(catalog: Catalog, request: OnlineRequest) -> Wanted:
    """What the names of a request mean.

    Raises:
        UnknownFeatureViewError, UnknownFeatureGroupError, UnknownFeatureError: nothing has this name.
        NameCollisionError: two features would have one name.
        RequestError: no features are named.
    """
    if request.feature_service is not None:
        return _service(catalog, request.feature_service, full=request.full_feature_names)
    if not request.features:
        raise RequestError("no features are named", try_='"features": ["view:feature"], or "feature_service"')
    check_features(len(request.features))
    found = [_found(catalog, reference) for reference in request.features]
    columns = tuple(
        (asked if request.full_feature_names else feature, f"{group.name}__{feature}")
        for asked, group, feature in found
    )
    _refuse_twice([name for name, _ in columns])
    groups = tuple({group.name: group for _, group, _ in found}.values())
    references = list(dict.fromkeys(f"{group.name}:{feature}" for _, group, feature in found))
    return Wanted(references, True, columns, {}, groups, key_types(groups), _aliases(groups))


def rows_of(entities: Mapping[str, Sequence[Any]], wanted: Wanted, *, most: int) -> list[dict[str, Any]]:
    """A request's columns as rows. An entity may be named instead of its join key.

    Raises:
        RequestError: columns of unequal length.
        TooLargeError: more than `most` rows; 0 is no limit.
    """
    columns = {wanted.aliases.get(name, name): values for name, values in entities.items()}
    lengths = {len(values) for values in columns.values()}
    if len(lengths) > 1:
        raise RequestError(
            "the columns of entities are of equal length",
            found=", ".join(f"{name}: {len(values)}" for name, values in columns.items()),
        )
    if most and lengths and max(lengths) > most:
        raise TooLargeError(
            f"one request may ask for {most:,} vectors", found=f"{max(lengths):,}", details={"limit": most}
        )
    typed = [[as_key(value, wanted.types.get(name)) for value in values] for name, values in columns.items()]
    return [dict(zip(columns, values, strict=True)) for values in zip(*typed, strict=True)]


def answer(wanted: Wanted, vectors: Vectors) -> dict[str, Any]:
    """Vectors by column, with statuses and event times."""
    values, statuses, times = vectors.to_dicts(), vectors.statuses(), vectors.event_times()
    roles = vectors.found.roles
    keys = [name for name, role in roles.items() if role == "key"]
    columns = wanted.columns
    if columns is None:
        columns = tuple((wanted.names.get(name, name), name) for name, role in roles.items() if role == "feature")
    results = [_key_column([row[name] for row in values]) for name in keys]
    for _, column in columns:
        plain = [_plain(row[column]) for row in values]
        results.append(
            {
                "values": plain,
                "statuses": [_status(row.get(column), value) for row, value in zip(statuses, plain, strict=True)],
                "event_timestamps": [_time(row.get(column)) for row in times],
            }
        )
    return {"results": results, "metadata": {"feature_names": [*keys, *(name for name, _ in columns)]}}


def _service(catalog: Catalog, name: str, *, full: bool) -> Wanted:
    found = next((each for each in _called(name) if each in catalog.views), None)
    if found is None:
        raise UnknownFeatureViewError(
            f"no feature view {name!r}", closest=closest_names(name, catalog.views), try_="grange fv list"
        )
    view = catalog.views[found]
    groups = tuple(dict.fromkeys(item.source for item in view.features if item.source in catalog.groups))
    chosen = tuple(catalog.group(group) for group in groups)
    names: dict[str, str] = {}
    if full:
        for group in chosen:
            for feature, step in made_on_demand(group).items():
                names[f"{group.name}__{feature}"] = f"{step.function}__{feature}"
        names |= {output: f"{step.function}__{output}" for step in view.on_demand for output in step.output_names}
    return Wanted(found, full, None, names, chosen, key_types(chosen), _aliases(chosen))


def _found(catalog: Catalog, reference: str) -> tuple[str, FeatureGroup, str]:
    """(full name as it was asked, group, feature) of `name:feature`."""
    name, colon, feature = reference.partition(":")
    name = name.partition("@")[0]
    if not colon or not feature:
        raise RequestError(f"{reference!r} is no feature reference", try_="view:feature")
    group = catalog.groups.get(_name_here(name)) or _made_by(catalog, name, feature)
    if group is None:
        raise UnknownFeatureGroupError(
            f"no feature group {name!r}", closest=closest_names(name, catalog.groups), try_="grange fg list"
        )
    known = offered(group).names
    if feature not in known:
        raise UnknownFeatureError(
            f"no feature {feature!r} in feature group {name!r}",
            closest=closest_names(feature, known),
            try_=f"grange fg features {name}",
        )
    return f"{name}__{feature}", group, feature


def _made_by(catalog: Catalog, function: str, feature: str) -> FeatureGroup | None:
    """The group one of whose on-demand transformations has this name and makes this feature."""
    for group in catalog.groups.values():
        step = made_on_demand(group).get(feature)
        if step is not None and step.function == _name_here(function):
            return group
    return None


def _called(service: str) -> tuple[str, ...]:
    """What the feature view of a service may be called."""
    return service, _name_here(service), f"{_name_here(service)}{SERVICE_SUFFIX}"


def _name_here(name: str) -> str:
    """A name as definitions have it that were made of Feast's: in those only letters, digits and underscores stay."""
    return re.sub(r"\W+", "_", name, flags=re.ASCII).strip("_")


def _aliases(groups: Sequence[FeatureGroup]) -> dict[str, str]:
    entities = {entity.name: entity for group in groups for entity in group.entities}
    keys = {key for group in groups for key in group.join_keys}
    return {
        name: entity.join_keys[0]
        for name, entity in entities.items()
        if len(entity.join_keys) == 1 and name not in keys
    }


def _refuse_twice(names: Sequence[str]) -> None:
    twice = sorted(name for name, count in Counter(names).items() if count > 1)
    if twice:
        raise NameCollisionError(
            f"two features would be called {twice[0]!r}", try_='"full_feature_names": true, or another selection'
        )


def _key_column(values: list[Any]) -> dict[str, list[Any]]:
    count = len(values)
    return {
        "values": [_plain(value) for value in values],
        "statuses": ["PRESENT"] * count,
        "event_timestamps": [NO_TIME] * count,
    }


def _status(found: str | None, value: Any) -> str:
    if value is not None:
        return "PRESENT"
    return _STATUSES[found] if found is not None and found != "PRESENT" else "NULL_VALUE"


def _time(time: dt.datetime | None) -> dt.datetime | str:
    """A time, which is encoded as ISO 8601."""
    return NO_TIME if time is None else time


def _plain(value: Any) -> Any:
    """A value as Feast's JSON has it: times are whole seconds since 1970."""
    if type(value) in _AS_THEY_ARE:
        return value
    match value:
        case dt.datetime():
            return (value - EPOCH) // dt.timedelta(seconds=1)
        case dt.date():
            return value.isoformat()
        case dt.timedelta():
            return value.total_seconds()
        case list() | tuple():
            return [_plain(item) for item in value]
        case _:
            return value
