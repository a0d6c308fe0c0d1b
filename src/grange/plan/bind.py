"""Binding: from what a request names to columns of stored schemas. Pure; what is bound cannot be wrong."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from grange.definitions.catalog import Catalog, Computed, Taken, computed_names, computed_text
from grange.definitions.feature_group import FeatureGroup
from grange.definitions.feature_view import FeatureView
from grange.definitions.labels import Label
from grange.definitions.on_demand import made_on_demand
from grange.definitions.references import FeatureSelection, as_selection
from grange.errors import ColumnTypeError, DefinitionError, NameCollisionError, RequestError, UnknownFeatureError
from grange.plan.bound import Bound, BoundFeature, BoundSelection, Layout, Role
from grange.plan.columns import Columns
from grange.plan.uses import check_condition, check_helpers, check_outputs, check_steps
from grange.types import DataType, Schema

_LIST = "request"
"""What asks when references are listed."""
_TIME = "event_time"
"""The column of a row's time, where no spine calls it otherwise."""


@dataclass(frozen=True, slots=True)
class Request:
    """Which features are asked for, views expanded to selections of groups."""

    name: str
    """What asks, for messages: `feature view 'churn'` or `request`."""
    taken: tuple[Taken, ...]
    labels: tuple[Label, ...] = ()
    """What a model predicts: features are joined into training data, columns of the spine stay there; never served."""
    requests: Schema = Schema()  # noqa: RUF009 - an immutable value
    """Columns that every spine and request must bring."""
    on_error: str = "raise"
    computed: tuple[Computed, ...] = ()
    """What is made of the features and request columns, each may use those before it."""
    filter: str = ""
    """A SQL condition on rows of history; empty is none."""
    training_helpers: tuple[str, ...] = ()
    inference_helpers: tuple[str, ...] = ()

    @property
    def selections(self) -> tuple[FeatureSelection, ...]:
        """What is taken of groups, in order."""
        return tuple(item.selection for item in self.taken)

    @property
    def label_features(self) -> tuple[FeatureSelection, ...]:
        """The labels that are features of groups."""
        return tuple(selection for label in self.labels if (selection := label.selection) is not None)


def resolve(catalog: Catalog, features: Any) -> Request:
    """What a caller named: a view (or its name), or a list of references.

    A view that is handed in is taken as it is, whatever is applied under its name.

    Raises:
        UnknownFeatureGroupError, UnknownFeatureViewError, UnknownFeatureError, CyclicDefinitionError, DefinitionError.
        RequestError: nothing is named, or something that is no reference.
        NameCollisionError: request columns of one name and different types.
    """
    if isinstance(features, str) and ":" not in features and "@" not in features and features not in catalog.groups:
        features = catalog.view(features)
    if isinstance(features, FeatureView):
        request = Request(
            f"feature view {features.name!r}",
            catalog.taken_by(features),
            features.label_rules,
            catalog.requests(features),
            features.on_error,
            catalog.computed(features),
            features.filter,
            features.training_helpers,
            features.inference_helpers,
        )
    else:
        request = _listed(catalog, _items(features))
    for selection in (*request.selections, *request.label_features):
        catalog.check_selection(selection, asked_by=request.name)
    return request


def bind(
    catalog: Catalog,
    request: Request,
    stored: Mapping[tuple[str, str | None], Layout],
    *,
    labels: bool,
    full_feature_names: bool,
) -> Bound:
    """What a request comes to: its features in the order asked for, each once, then labels, then what it computes.

    Args:
        catalog: the applied definitions.
        request: what is asked for.
        stored: by (group, pinned version or None), what is stored; a group that is not in it is as it is defined.
        labels: whether labels and training helpers are taken too: they are for training, and never served.
        full_feature_names: name outputs `group__feature`, unless they are renamed. Names in expressions stay those
            that features have in the view.

    Raises:
        UnknownFeatureError: a feature that the stored version does not have.
        NameCollisionError: two different columns under one name, or a feature under the name of a key or request
            column.
        DefinitionError: what is computed takes something that is no feature before it and no request column; a helper
            that is nothing.
    """
    columns = Columns(request.name, request.requests, full_feature_names=full_feature_names)
    selections = [_selection(catalog, request, taken, None, stored) for taken in request.taken]
    for taken, selection in zip(request.taken, selections, strict=True):
        columns.take(selection, _names(catalog, request, taken, selection))
    for label in request.labels if labels else ():
        if label.selection is not None:
            taken = Taken(label.selection)
            selection = _selection(catalog, request, taken, label, stored)
            columns.take(selection, _names(catalog, request, taken, selection))
    columns.check_brought()
    columns.make_on_demand()
    for item in request.computed:
        columns.compute(item)
    return columns.bound(
        selections, training=request.training_helpers, inference=request.inference_helpers, served=not labels
    )


def _selection(
    catalog: Catalog,
    request: Request,
    taken: Taken,
    label: Label | None,
    stored: Mapping[tuple[str, str | None], Layout],
) -> BoundSelection:
    selection = taken.selection
    group = catalog.group(selection.source, asked_by=request.name)
    layout = stored.get((group.name, selection.version)) or group.remembered("layout", lambda: Layout.of(group))
    return BoundSelection(group, layout, selection, label)


def _names(catalog: Catalog, request: Request, taken: Taken, selection: BoundSelection) -> tuple[str, ...]:
    """The features that a selection takes of its group, in order.

    Raises:
        UnknownFeatureError: one that the rows that are read do not have; with the closest.
    """
    group, there = selection.group, selection.layout.features
    made = made_on_demand(group)
    names = taken.features_of(group, there.names)
    for name in names:
        if name in made:
            continue
        if name not in there and name in group.features() and selection.selection.version is None:
            raise UnknownFeatureError(
                f'"{group.name}:{name}" is defined, and what is stored of {group.name!r} does not have it yet',
                asked_by=request.name,
                found=", ".join(there.names),
                try_=f"grange materialize {group.name}",
            )
        catalog.check_feature(group, (*there.names, *made), name, asked_by=request.name)
    return names


def check_view(catalog: Catalog, view: FeatureView) -> None:
    """Check that a view's columns have one name each, and that what names them names something. Pinned versions have
    columns of their own; those are looked at when they are read.

    Raises:
        NameCollisionError: two features, or a feature and a key, request column or label, under one name; or what a
            transformation makes and any of these but a feature.
        DefinitionError: nothing but labels is left of its features; what is computed, the filter, a helper or a
            transformation takes what is not there or of another type; a column has two roles; a label is the name of a
            feature group.
    """
    request = resolve(catalog, view)
    _check_spine_labels(catalog, request, view)
    latest = replace(
        request,
        taken=tuple(item for item in request.taken if item.selection.version is None),
        labels=tuple(item for item in request.labels if item.selection is None or item.selection.version is None),
    )
    if not all(catalog.group(item.source).schema for item in (*latest.selections, *latest.label_features)):
        return  # looked at when it is applied, where every schema is known
    whole = len(latest.taken) == len(request.taken)
    if not whole:
        latest = replace(latest, computed=(), training_helpers=(), inference_helpers=())
    served = bind(catalog, latest, {}, labels=False, full_feature_names=False)
    if whole and not served.columns:
        without = "labels and training helpers" if view.training_helpers else "labels"
        raise DefinitionError(f"{request.name} has no features besides its {without}", found=", ".join(view.labels))
    every = bind(catalog, latest, {}, labels=True, full_feature_names=False)
    for name in every.columns:
        if name in view.spine_labels:
            raise NameCollisionError(
                f"a feature and a label that the spine brings would both be called {name!r}",
                asked_by=request.name,
                found=name,
                try_="take the feature under another name: gr.select(..., prefix='...')",
            )
    keys = key_columns((*every.features, *every.selections))
    check_outputs(request.name, view.transformations, _other_columns(request, view, every, keys))
    if whole:
        training, inference = (_helpers(catalog, latest, kind) for kind in ("training_helper", "inference_helper"))
        check_helpers(request.name, training, inference, keys)
        check_condition(request.name, request.filter, every)
        check_steps(request.name, view.transformations, every)


def _check_spine_labels(catalog: Catalog, request: Request, view: FeatureView) -> None:
    """Check that a label that the spine brings is not meant to be a feature.

    Raises:
        DefinitionError: a feature group has its name.
    """
    for label in view.spine_labels:
        if label in catalog.groups:
            raise DefinitionError(
                f"label {label!r} is a column of the spine, and feature group {label!r} has the same name",
                asked_by=request.name,
                found=", ".join(catalog.groups[label].features().names),
                try_=f'labels=["{label}:..."] for a feature of the group, or another name for the column of the spine',
            )


def _helpers(catalog: Catalog, request: Request, kind: Literal["training_helper", "inference_helper"]) -> list[str]:
    """The columns that are one kind of helper, whatever else they are."""
    alone = (
        replace(request, inference_helpers=()) if kind == "training_helper" else replace(request, training_helpers=())
    )
    bound = bind(catalog, alone, {}, labels=True, full_feature_names=False)
    return [name for name, role in {**bound.columns, **bound.helpers}.items() if role == kind]


def _other_columns(request: Request, view: FeatureView, bound: Bound, keys: Iterable[str]) -> dict[str, str]:
    """By name, what the columns of training data and vectors are that no model takes, in words."""
    roles = {**bound.columns, **bound.helpers}
    found = {_TIME: "the time of the rows"}
    found |= dict.fromkeys(request.requests.names, "a request column")
    found |= dict.fromkeys(keys, "a join key")
    found |= dict.fromkeys(view.helpers, "a helper")
    found |= {name: "a helper" for name, role in roles.items() if role.endswith("_helper")}
    found |= {name: "a label" for name, role in roles.items() if role == "label"}
    return found | dict.fromkeys(view.spine_labels, "a label")


def key_columns(features: Iterable[BoundSelection]) -> dict[str, dict[str, DataType]]:
    """By column of the spine, the types that its groups' join keys have, by group name."""
    columns: dict[str, dict[str, DataType]] = {}
    for feature in features:
        for column, key in feature.keys:
            columns.setdefault(column, {})[feature.group.name] = feature.layout.schema[key]
    return columns


def check_defaults(group: FeatureGroup) -> None:
    """Check that defaults name features and fit their types.

    Raises:
        UnknownFeatureError, ColumnTypeError.
    """
    import pyarrow as pa

    from grange.types.arrow import conform_column
    from grange.types.schema import Column

    features = group.features()
    for name, value in group.defaults:
        if name in made_on_demand(group):
            raise DefinitionError(
                f"feature group {group.name!r}: {name!r} is made on demand, and defaults are of what is stored",
                try_="let its function give the default: nulls='pass', or COALESCE in SQL",
            )
        Catalog.check_feature(group, features.names, name, asked_by=f"defaults of feature group {group.name!r}")
        try:
            values = pa.chunked_array([pa.array([value])])
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise ColumnTypeError(f"default {value!r} of {group.name}:{name} has no type Grange knows") from error
        conform_column(values, Column(name, features[name]), what=f"default of feature group {group.name!r}")


def _items(features: Any) -> list[Any]:
    """What was named, as a list.

    Raises:
        RequestError: nothing, or something that is neither a reference nor a list of them.
    """
    if isinstance(features, str | FeatureSelection | FeatureGroup) or is_pinned(features):
        return [features]
    if isinstance(features, Sequence) and not isinstance(features, bytes | bytearray) and len(features):
        return list(features)
    raise RequestError(
        "no features were named",
        found=repr(features) if features is None or isinstance(features, Sequence) else f"a {type(features).__name__}",
        try_='a feature view or its name, or a list like ["group", "group:feature", ("group", "1.0.0")]',
    )


def _listed(catalog: Catalog, items: Iterable[Any]) -> Request:
    """A request of references and views, one after another; the views' labels, filters and helpers are left out."""
    taken: list[Taken] = []
    requests: dict[str, DataType] = {}
    computed: dict[str, Computed] = {}
    for item in items:
        view = item if isinstance(item, FeatureView) else None
        if view is None:
            selection = as_selection(item)
            own = catalog.taken([selection], asked_by=_LIST)
            view = catalog.views.get(selection.source)
        else:
            own = catalog.taken_by(view)
        taken += own
        for part in catalog.computed(view) if view is not None else ():
            _add_computed(computed, part)
        for column in catalog.requests(view) if view is not None else catalog.requests_of(own, asked_by=_LIST):
            if requests.setdefault(column.name, column.dtype) != column.dtype:
                raise NameCollisionError(
                    f"request column {column.name!r} has two types",
                    asked_by=_LIST,
                    found=f"{requests[column.name]} and {column.dtype}",
                    try_="ask for the feature views one by one",
                )
    return Request(_LIST, tuple(taken), requests=Schema.of(requests), computed=tuple(dict.fromkeys(computed.values())))


def _add_computed(known: dict[str, Computed], item: Computed) -> None:
    for name in computed_names(item):
        if known.setdefault(name, item) != item:
            raise NameCollisionError(
                f"two computed features are called {name!r}",
                asked_by=_LIST,
                found=f"{computed_text(known[name])} and {computed_text(item)}",
                try_="ask for the feature views one by one",
            )


def is_pinned(value: Any) -> bool:
    """Whether a value is `("group", "1.0.0")`, and no tuple of two references."""
    return isinstance(value, tuple) and len(value) == 2 and isinstance(value[1], str) and value[1][:1].isdigit()


__all__ = [
    "Bound",
    "BoundFeature",
    "BoundSelection",
    "Layout",
    "Request",
    "Role",
    "bind",
    "check_defaults",
    "check_view",
    "is_pinned",
    "key_columns",
    "resolve",
]
