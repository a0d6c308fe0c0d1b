"""Serving by the names of features: which references a request means, and the answer in its shape.

    {"feature_sets": ["user_profile"], "entities": {"user": ["u1", "u2"]}, "features": ["user_age"]}
    {"features": {"u1": {"user_age": 28}, "u2": {"user_age": 35}}, "metadata": {...}}

A feature is looked for in the sets that are named, in every feature group without. An entity is named by itself or by
its join key; its values are ids, or lists of the values of its join keys where there are several. Several entities are
read side by side: the first user with the first shop.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from grange.definitions.feature_group import FeatureGroup
from grange.definitions.on_demand import offered
from grange.errors import (
    NameCollisionError,
    RequestError,
    TooLargeError,
    UnknownEntityError,
    UnknownFeatureError,
    closest_names,
)
from grange.http.compat.entity_keys import as_key, key_types
from grange.http.compat.known import Known
from grange.http.limits import check_features
from grange.http.messages import Call, Reply, json_reply

if TYPE_CHECKING:
    import pyarrow as pa

    from grange.definitions.catalog import Catalog
    from grange.http.hot import OnlineRequest
    from grange.types import DataType


@dataclass(frozen=True, slots=True)
class Wanted:
    """The features that a request names, found."""

    references: tuple[str, ...]
    """`group:feature`, for the store."""
    columns: tuple[tuple[str, str], ...]
    """(name as it was asked, column of the answer with full feature names)."""
    groups: tuple[FeatureGroup, ...]


@dataclass(frozen=True, slots=True)
class Asked:
    """The rows of a request: entity keys, and what each is called in the answer."""

    rows: list[dict[str, Any]]
    ids: list[str]


_known: Final[Known[Wanted]] = Known()


def serve_online(call: Call, request: OnlineRequest) -> Reply:
    """The answer to `POST /api/v1/serving/online` in this shape.

    Raises:
        RequestError, NotFoundError: nothing has such a name; a name in several sets; entities of unequal number.
        and what `Access.vectors` does.
    """
    started = time.perf_counter()
    store = call.caller.project.store
    catalog = store.catalog
    sets, names = request.feature_sets, _names(request.features)
    question = (None if sets is None else tuple(sets), None if names is None else tuple(names))
    found = _known.get(catalog, question, lambda: wanted(catalog, sets, names), size=len(names or ()))
    asked = asked_rows(catalog, request.entities or {}, found.groups)
    limit = store.config.server.max_rows
    if limit and len(asked.rows) > limit:
        raise TooLargeError(
            f"one request may ask for {limit:,} vectors",
            found=f"{len(asked.rows):,}",
            try_="ask for fewer at a time",
            details={"limit": limit},
        )
    vectors = call.caller.access.vectors(list(found.references), full_feature_names=True)(asked.rows, request.now)
    body = answer(found, asked, vectors.to_dicts())
    body["metadata"] = {
        "latency_ms": round((time.perf_counter() - started) * 1e3, 3),
        "cache_hit": False,
        "degraded": vectors.degraded,
        "request_id": call.caller.request_id,
    }
    return json_reply(body)


@dataclass(frozen=True, slots=True)
class HistoricalQuestion:
    """What a request for history means."""

    features: list[str]
    """References; they are to be asked for with full feature names."""
    spine: list[dict[str, Any]]
    columns: tuple[str, ...]
    """The columns of the request's table, in its order."""
    wanted: Wanted


def historical_question(body: Mapping[str, Any], catalog: Catalog) -> HistoricalQuestion:
    """The question of `{"feature_sets", "features", "entity_df": {"columns", "data"}}`.

    Raises:
        RequestError: a table whose rows are not as long as its columns are many; two columns of one name.
        and what `wanted` does.
    """
    table = body.get("entity_df")
    columns, data = (table.get("columns"), table.get("data")) if isinstance(table, Mapping) else (None, None)
    if not isinstance(columns, list) or not isinstance(data, list):
        raise RequestError(
            "entity_df is a table", try_='"entity_df": {"columns": ["user_id", "event_timestamp"], "data": [[...]]}'
        )
    if len(set(map(str, columns))) != len(columns):
        raise RequestError("two columns of entity_df have one name", found=", ".join(map(str, columns)))
    for place, row in enumerate(data):
        if not isinstance(row, list) or len(row) != len(columns):
            raise RequestError(f"row {place} of entity_df has not {len(columns)} values", found=f"{row!r:.100}")
    found = wanted(catalog, _names(body.get("feature_sets")), _names(body.get("features")))
    types = key_types(found.groups)
    spine = [{name: as_key(value, types.get(name)) for name, value in zip(columns, row, strict=True)} for row in data]
    return HistoricalQuestion(list(found.references), spine, tuple(columns), found)


def historical_answer(question: HistoricalQuestion, table: pa.Table) -> dict[str, Any]:
    """The joined rows in the shape of the request: columns and rows, features under the names that were asked for."""
    shown = [(name, name) for name in question.columns] + list(question.wanted.columns)
    data = table.select([column for _, column in shown]).to_pylist()
    return {
        "columns": [name for name, _ in shown],
        "data": [[row[column] for _, column in shown] for row in data],
    }


def answer(found: Wanted, asked: Asked, vectors: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Vectors by id, under the names that were asked for."""
    return {
        "features": {
            id_: {name: vector[column] for name, column in found.columns}
            for id_, vector in zip(asked.ids, vectors, strict=True)
        }
    }


def wanted(catalog: Catalog, sets: Sequence[str] | None, names: Sequence[str] | None) -> Wanted:
    """The references that names of features mean.

    Args:
        catalog: the definitions.
        sets: feature sets to look in, by name; every feature group without.
        names: names of features, or `set:feature`; every feature of the sets without.

    Raises:
        UnknownFeatureGroupError, UnknownFeatureError: nothing has this name; carries the closest.
        NameCollisionError: several of the sets have it.
        RequestError: neither sets nor features are named.
    """
    check_features(len(sets or ()) + len(names or ()))
    if not sets and not names:
        raise RequestError("a request names feature_sets, features or both", found="neither")
    groups = [catalog.group(name) for name in sets] if sets else list(catalog.groups.values())
    offers = {group.name: offered(group).names for group in groups}
    if not names:
        pairs = [(group, feature) for group, features in offers.items() for feature in features]
        called = [feature for _, feature in pairs]
    else:
        having = _having(offers)
        pairs = [_found(catalog, name, offers, having) for name in names]
        called = list(names)
    _refuse_twice(called)
    used = tuple(dict.fromkeys(group for group, _ in pairs))
    return Wanted(
        tuple(dict.fromkeys(f"{group}:{feature}" for group, feature in pairs)),
        tuple((name, f"{group}__{feature}") for name, (group, feature) in zip(called, pairs, strict=True)),
        tuple(catalog.group(name) for name in used),
    )


def asked_rows(catalog: Catalog, entities: Mapping[str, Sequence[Any]], groups: Sequence[FeatureGroup]) -> Asked:
    """The rows that entities mean. See the module.

    Raises:
        UnknownEntityError: no entity or join key of this name.
        RequestError: entities of unequal number; an id that has not one value per join key.
    """
    if not entities:
        raise RequestError("a request names entities", found="none", try_='"entities": {"user": ["u1", "u2"]}')
    counts = {name: len(ids) for name, ids in entities.items()}
    if len(set(counts.values())) > 1:
        raise RequestError(
            "several entities are read side by side, so there are equally many of each",
            found=", ".join(f"{name}: {count}" for name, count in counts.items()),
        )
    types = key_types(groups)
    keys = {name: _join_keys(catalog, name) for name in entities}
    rows: list[dict[str, Any]] = []
    ids: list[str] = []
    for values in zip(*entities.values(), strict=True):
        row: dict[str, Any] = {}
        for name, value in zip(entities, values, strict=True):
            row |= _keyed(name, value, keys[name], types)
        rows.append(row)
        ids.append(",".join(_text(value) for value in values))
    return Asked(rows, ids)


def _names(given: object) -> list[str] | None:
    """Names as they are given: one, a list, or none.

    Raises:
        RequestError: something else is among them.
    """
    if given is None or isinstance(given, str):
        return None if given is None else [given]
    names = [name for name in given if isinstance(name, str)] if isinstance(given, list) else []
    if not isinstance(given, list) or len(names) < len(given):
        raise RequestError(
            "features and feature_sets are lists of names here",
            found=f"{given!r:.100}",
            try_='"rows" instead of feature_sets, entities and entity_df takes features as objects, too',
        )
    return names


def _having(offers: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """By feature, the sets that have one of this name."""
    having: dict[str, list[str]] = {}
    for group, features in offers.items():
        for feature in features:
            having.setdefault(feature, []).append(group)
    return having


def _found(
    catalog: Catalog, name: str, offers: Mapping[str, Sequence[str]], having_by_name: Mapping[str, list[str]]
) -> tuple[str, str]:
    """The group and feature of a name."""
    group, colon, feature = name.partition(":")
    if colon:
        features = offered(catalog.group(group))
        if feature in features:
            return group, feature
        having = []
    else:
        having = having_by_name.get(name, [])
    if len(having) == 1:
        return having[0], name
    if having:
        raise NameCollisionError(
            f"several feature sets have a feature {name!r}",
            found=", ".join(having),
            try_=f'"features": ["{having[0]}:{name}"]',
        )
    known = [f"{group}:{each}" for each in features.names] if colon else list(having_by_name)
    raise UnknownFeatureError(
        f"no feature {name!r} in the feature sets that were named",
        found=f"{len(known)} features in {', '.join(offers) or 'no sets'}",
        closest=closest_names(name, known),
        try_="GET /api/v1/feature-sets",
    )


def _refuse_twice(names: Sequence[str]) -> None:
    twice = sorted(name for name, count in Counter(names).items() if count > 1)
    if twice:
        raise NameCollisionError(
            f"the answer would have {twice[0]!r} twice", try_='name features as "set:feature", each once'
        )


def _join_keys(catalog: Catalog, name: str) -> tuple[str, ...]:
    entity = catalog.entities.get(name)
    if entity is not None:
        return entity.join_keys
    keys = {key for each in catalog.entities.values() for key in each.join_keys}
    if name in keys:
        return (name,)
    raise UnknownEntityError(
        f"no entity {name!r}",
        found=", ".join(catalog.entities) or "none",
        closest=closest_names(name, [*catalog.entities, *keys]),
    )


def _keyed(name: str, value: Any, keys: Sequence[str], types: Mapping[str, DataType]) -> dict[str, Any]:
    if isinstance(value, Mapping):
        parts = [value.get(key) for key in keys]
    else:
        parts = value if isinstance(value, list) and len(keys) > 1 else [value]
    if len(parts) != len(keys):
        raise RequestError(
            f"an id of entity {name!r} has {len(keys)} values: {', '.join(keys)}",
            found=repr(value),
            try_=f'"entities": {{"{name}": [[{", ".join("..." for _ in keys)}]]}}',
        )
    return {key: as_key(part, types.get(key)) for key, part in zip(keys, parts, strict=True)}


def _text(value: Any) -> str:
    match value:
        case Mapping():
            return ",".join(_text(item) for item in value.values())
        case list():
            return ",".join(_text(item) for item in value)
        case _:
            return str(value)


__all__ = [
    "Asked",
    "HistoricalQuestion",
    "Wanted",
    "answer",
    "asked_rows",
    "historical_answer",
    "historical_question",
    "serve_online",
    "wanted",
]
