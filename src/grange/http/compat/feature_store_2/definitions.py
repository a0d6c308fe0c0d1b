"""A feature set as the definition that it means: one feature group of its name.

    a column, an expression over a raw row      a column of the group's SQL transform
    an aggregation over a window                `Rolling`, over a column that the transform makes
    source_features                             an on-demand transformation in SQL
    validation_rules, allowed_values            expectations
    default_value                               a default (ONL-5)

A set with windows keeps its rows as events; its plain features are then the newest row's, `last` of one row.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from grange.definitions import expectations as checks
from grange.definitions.aggregations import Aggregation, Rolling
from grange.definitions.entity import Entity
from grange.definitions.expectations import Expectation
from grange.definitions.feature_group import FeatureGroup
from grange.definitions.sources import Source
from grange.definitions.transformations import Transformation
from grange.errors import DefinitionError, closest_names
from grange.http.compat.feature_store_2.expressions import (
    Computed,
    Windowed,
    columns_of,
    names_in,
    plain_column,
    quoted,
    read_feature,
)
from grange.http.compat.feature_store_2.sets import Feature, FeatureSet, source_of
from grange.types import DataType, parse_dtype
from grange.types.schema import Column, Schema

SCHEDULE_TAG: Final = "materialization_schedule"
"""Where a set's schedule is said of its group: for people, and for whatever runs materializations."""

_RULES: Final = (
    "min_value", "max_value", "not_null", "required", "nullable", "unique", "pattern", "regex", "allowed_values",
    "min_length", "max_length",
)  # fmt: skip


def group_of(given: FeatureSet, applied: Mapping[str, Entity]) -> FeatureGroup:
    """The feature group of a set that misses nothing.

    Args:
        given: the set.
        applied: the applied entities, whose join keys count where the set says none.

    Raises:
        DefinitionError: SQL that cannot be read, types that do not go together, a rule that is none; and whatever a
            feature group refuses.
    """
    source, entities = source_of(given), entities_of(given, applied)
    keys, meanings = meanings_of(given, applied)
    stored = [feature for feature in given.features if not feature.is_composite]
    windows = any(isinstance(meaning, Windowed) for meaning in meanings.values())
    group = FeatureGroup(
        given.name,
        entities=entities,
        source=source,
        transform=_query(meanings, keys, source),
        schema=_schema(stored, meanings),
        aggregations=_aggregations(meanings) if windows else (),
        defaults={feature.name: _default(feature) for feature in stored if feature.default_value is not None},
        expectations={feature.name: rules for feature in stored if (rules := _expectations(feature, meanings))},
        online=given.online_enabled,
        on_demand=[_composite(feature, given) for feature in _in_order(given)],
        description=given.description,
        owner=given.owner,
        tags=_tags(given),
    )
    _check_aggregated(group, stored, meanings)
    return group


def entities_of(given: FeatureSet, applied: Mapping[str, Entity]) -> list[Entity]:
    """The set's entities: those that are applied, else new ones with join keys as said, else `{name}_id`.

    Raises:
        DefinitionError: an applied entity has other join keys.
    """
    found = []
    for name, keys in given.entities:
        known = applied.get(name)
        if known is not None and keys and known.join_keys != keys:
            raise DefinitionError(
                f"feature set {given.name!r}: entity {name!r} has other join keys",
                found=", ".join(known.join_keys),
                try_=f'"entities": ["{name}"]',
            )
        found.append(known or Entity(name, join_keys=list(keys) or [f"{name}_id"]))
    return found


def meanings_of(
    given: FeatureSet, applied: Mapping[str, Entity]
) -> tuple[tuple[str, ...], dict[str, Computed | Windowed]]:
    """The join keys of a set with a source, and what each of its stored features is computed as.

    Raises as `group_of`.
    """
    source, entities = source_of(given), entities_of(given, applied)
    keys = tuple(dict.fromkeys(key for entity in entities for key in entity.join_keys))
    _check_names(given, keys, source)
    return keys, {
        feature.name: _meaning(feature, given, keys, source) for feature in given.features if not feature.is_composite
    }


def _meaning(feature: Feature, given: FeatureSet, keys: Sequence[str], source: Source) -> Computed | Windowed:
    """What a feature of raw rows is computed as. Raises as `read_feature`."""
    what, dtype = _what(given, feature), _dtype(feature)
    if not feature.transformation:
        if feature.window_size is not None:
            raise DefinitionError(f"{what} has a window_size and no transformation", try_='"transformation": "SUM(x)"')
        return plain_column(feature.name, dtype)
    return read_feature(
        feature.transformation,
        what=what,
        dtype=dtype,
        keys=keys,
        event_time=source.event_time,
        window_size=feature.window_size,
    )


def _what(given: FeatureSet, feature: Feature) -> str:
    return f"feature {feature.name!r} of feature set {given.name!r}"


def _dtype(feature: Feature) -> DataType:
    return parse_dtype(feature.data_type)


def _check_names(given: FeatureSet, keys: Sequence[str], source: Source) -> None:
    taken = {*keys, *filter(None, [source.event_time, source.created_time, source.event_id, source.retracted])}
    for feature in given.features:
        if feature.name in taken:
            raise DefinitionError(f"{_what(given, feature)} has the name of a key or time column", try_="another name")


def _query(meanings: Mapping[str, Computed | Windowed], keys: Sequence[str], source: Source) -> str:
    """The transform: keys and times as they are, then a column per feature."""
    kept = dict.fromkeys(
        [*keys, *filter(None, [source.event_time, source.created_time, source.event_id, source.retracted])]
    )
    items = [quoted(name) for name in kept]
    made = columns_of((name, meaning.sql) for name, meaning in meanings.items())
    return f"SELECT {', '.join(items)}, {made} FROM source"  # noqa: S608 - names are quoted, SQL is the parser's own


def _schema(stored: Sequence[Feature], meanings: Mapping[str, Computed | Windowed]) -> Schema:
    """The declared types. What a window takes has whatever type its SQL has; what it gives is checked afterwards."""
    return Schema(
        tuple(
            Column(feature.name, _dtype(feature), feature.description)
            for feature in stored
            if isinstance(meanings[feature.name], Computed)
        )
    )


def _aggregations(meanings: Mapping[str, Computed | Windowed]) -> list[Aggregation]:
    """A `Rolling` per feature, each over the column of its name."""
    made: list[Aggregation] = []
    for name, meaning in meanings.items():
        match meaning:
            case Windowed(_, function, window, closed):
                made.append(Rolling({name: function}, windows=window, closed=closed, name="{column}"))
            case Computed():
                made.append(Rolling({name: "last"}, windows="1rows", name="{column}"))
    return made


def _check_aggregated(
    group: FeatureGroup, stored: Sequence[Feature], meanings: Mapping[str, Computed | Windowed]
) -> None:
    """That what a window counts is declared as the integer that it is. Other types show when the group is applied."""
    for feature in stored:
        meaning, dtype = meanings[feature.name], _dtype(feature)
        if not isinstance(meaning, Windowed):
            continue
        counts = meaning.function in ("count", "count_distinct")
        floats = meaning.function.startswith(("mean", "std", "var", "median", "quantile"))
        if (counts and str(dtype) != "int64") or (floats and str(dtype) != "float64"):
            raise DefinitionError(
                f"feature {feature.name!r} of feature set {group.name!r} is declared {feature.data_type!r}, and "
                f"{meaning.function} gives another type",
                found="int64" if counts else "float64",
                try_=f'"data_type": "{"int" if counts else "float"}"',
            )


def _in_order(given: FeatureSet) -> list[Feature]:
    """The composite features, each after those it is made of.

    Raises:
        DefinitionError: some are made of each other.
    """
    left = {feature.name: feature for feature in given.features if feature.is_composite}
    ordered: list[Feature] = []
    while left:
        ready = [feature for feature in left.values() if left.keys().isdisjoint(feature.source_features)]
        if not ready:
            raise DefinitionError(f"feature set {given.name!r}: features are made of each other: {', '.join(left)}")
        ordered += ready
        for feature in ready:
            del left[feature.name]
    return ordered


def _composite(feature: Feature, given: FeatureSet) -> Transformation:
    what = _what(given, feature)
    if not feature.transformation:
        raise DefinitionError(f"{what} has source_features and no transformation", try_='"transformation": "a / b"')
    if feature.window_size is not None or feature.allowed_values or feature.validation_rules:
        raise DefinitionError(
            f"{what} is made when it is asked for: windows and rules are of what is stored",
            try_="put the rules on its source features",
        )
    for name in names_in(feature.transformation, what=what):
        if name not in feature.source_features:
            raise DefinitionError(
                f"{what} names {name!r}, which is not among its source_features",
                found=", ".join(feature.source_features),
                closest=closest_names(name, feature.source_features),
            )
    text = feature.transformation
    if feature.default_value is not None:
        text = f"COALESCE({text}, {_literal(feature.default_value)})"
    return Transformation(
        f"{given.name}_{feature.name}",
        sql={feature.name: text},
        outputs={feature.name: _dtype(feature)},
        description=feature.description,
    )


def _literal(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).upper()
    if isinstance(value, int | float):
        return repr(value)
    return "'" + str(value).replace("'", "''") + "'"


def _default(feature: Feature) -> Any:
    """A default in its declared type: JSON does not tell 0 from 0.0."""
    value = feature.default_value
    whole = isinstance(value, int) and not isinstance(value, bool)
    return float(value) if whole and _dtype(feature).is_float else value


def _expectations(feature: Feature, meanings: Mapping[str, Computed | Windowed]) -> list[Expectation]:
    rules = dict(feature.validation_rules)
    what = f"feature {feature.name!r}"
    if feature.allowed_values:
        rules["allowed_values"] = list(feature.allowed_values)
    if rules and isinstance(meanings[feature.name], Windowed):
        raise DefinitionError(
            f"{what} is computed when it is asked for: rules are of what is stored",
            found=", ".join(rules),
            try_="put the rules on a feature of the raw column",
        )
    for rule in rules:
        if rule not in _RULES:
            raise DefinitionError(
                f"{what}: no validation rule {rule!r}",
                found=f"rules: {', '.join(_RULES)}",
                closest=closest_names(rule, _RULES),
            )
    return [*_bounds(rules, _dtype(feature)), *_lengths(rules), *_others(rules)]


def _bounds(rules: Mapping[str, Any], dtype: DataType) -> Iterable[Expectation]:
    low, high = (_bound(rules.get(rule), dtype) for rule in ("min_value", "max_value"))
    if low is not None and high is not None:
        yield checks.between(low, high)
    elif low is not None:
        yield checks.greater_than_or_equal(low)
    elif high is not None:
        yield checks.less_than_or_equal(high)


def _bound(value: Any, dtype: DataType) -> Any:
    if isinstance(value, int) and not isinstance(value, bool) and dtype.is_float:
        return float(value)
    return value


def _lengths(rules: Mapping[str, Any]) -> Iterable[Expectation]:
    if "min_length" in rules or "max_length" in rules:
        yield checks.length_between(rules.get("min_length", 0), rules.get("max_length", 2**31 - 1))


def _others(rules: Mapping[str, Any]) -> Iterable[Expectation]:
    if rules.get("not_null") or rules.get("required") or rules.get("nullable") is False:
        yield checks.not_null()
    if rules.get("unique"):
        yield checks.unique()
    pattern = rules.get("pattern") or rules.get("regex")
    if pattern:
        yield checks.matches(pattern)
    if "allowed_values" in rules:
        yield checks.one_of(rules["allowed_values"])


def _tags(given: FeatureSet) -> dict[str, str]:
    schedule = given.materialization_schedule
    return dict(given.tags) | ({} if schedule is None else {SCHEDULE_TAG: schedule})
