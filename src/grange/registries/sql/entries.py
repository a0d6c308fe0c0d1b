"""What of a definition can be found by words: one entry for the whole, one per feature of a feature group. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

from grange.definitions.aggregations import aggregation_from_data
from grange.ports.registry import Kind, Record
from grange.types import Schema

Data = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that can be found."""

    kind: Kind
    name: str
    feature: str = ""
    """The feature of the group `name`; "" for the whole definition."""
    members: tuple[str, ...] = ()
    """Names that a whole definition is made of."""
    dtype: str = ""
    description: str = ""
    owner: str = ""
    tags: tuple[tuple[str, str], ...] = ()

    @property
    def title(self) -> str:
        """What it is called."""
        return self.feature or self.name

    @property
    def tag_texts(self) -> tuple[str, ...]:
        """Each tag as a text."""
        return tuple(f"{key}: {value}" for key, value in self.tags)

    @property
    def about(self) -> tuple[str, ...]:
        """Tags and owner, of a whole definition: a feature is not found by those of its group alone."""
        return () if self.feature else (*self.tag_texts, self.owner)

    @property
    def context(self) -> tuple[str, ...]:
        """What may stand in a query beside words of a feature's own: the name, tags and owner of its group."""
        return (self.name, *self.tag_texts, self.owner) if self.feature else ()

    def to_data(self) -> dict[str, Any]:
        """For JSON, less its kind and name."""
        return {
            "feature": self.feature,
            "members": self.members,
            "dtype": self.dtype,
            "description": self.description,
            "owner": self.owner,
            "tags": self.tags,
        }

    @classmethod
    def from_data(cls, kind: Kind, name: str, data: Data) -> Entry:
        """The inverse of `to_data`."""
        tags = tuple((key, value) for key, value in data["tags"])
        return cls(kind, name, **{**data, "members": tuple(data["members"]), "tags": tags})


def index_entries(record: Record) -> tuple[Entry, ...]:
    """The entries of an applied definition, the whole first; its features in the order that they have.

    Fields that the definition does not have, or has in a form that this code does not know, give no words: whoever
    wrote the definition has checked it, and a registry keeps what it is given.
    """
    data = record.definition
    match record.kind:
        case "feature_group":
            features = tuple(_features(data))
            made = {feature for feature, _, _ in features}
            members = (name for name in _group_members(data) if name not in made)
            return (
                _whole(record, members),
                *(
                    Entry(record.kind, record.name, feature, (), dtype, text, _text(data.get("owner")), _tags(data))
                    for feature, dtype, text in features
                ),
            )
        case "feature_view":
            return (_whole(record, _view_members(data)),)
        case "entity":
            return (_whole(record, _names(data.get("join_keys"))),)
        case "transformation":
            return (_whole(record, _transformation_members(data)),)


def _whole(record: Record, members: Iterable[str]) -> Entry:
    data = record.definition
    return Entry(
        record.kind,
        record.name,
        members=tuple(dict.fromkeys(filter(None, members))),
        description=_text(data.get("description")),
        owner=_text(data.get("owner")),
        tags=_tags(data),
    )


def _features(group: Data) -> Iterator[tuple[str, str, str]]:
    """(name, dtype, description) of each feature, once. A windowed one is described as its column is."""
    columns = {column["name"]: column for column in _columns(group.get("schema"))}
    if "aggregations" in group:
        plain = ((name, "", _described(columns.get(column, {}))) for name, column in _aggregates(group))
    else:
        own = {*_keys(group), *_times(group)}
        plain = (
            (name, _text(column.get("dtype")), _described(column))
            for name, column in columns.items()
            if name not in own
        )
    seen: set[str] = set()
    for feature in (*plain, *_on_demand(group)):
        if feature[0] not in seen:
            seen.add(feature[0])
            yield feature


def _aggregates(group: Data) -> Iterator[tuple[str, str]]:
    """(feature, column) of the windowed features."""
    for item in _items(group.get("aggregations")):
        try:
            found = [(one.name, one.column) for one in aggregation_from_data(item).aggregates(Schema(), what="")]
        except (KeyError, TypeError, ValueError):  # not an aggregation as this code writes them
            continue
        yield from found


def _on_demand(group: Data) -> Iterator[tuple[str, str, str]]:
    """The features that are made when they are asked for."""
    for step in _items(group.get("on_demand")):
        made = step.get("transformation")
        own: Data = made if isinstance(made, Mapping) else {}
        outputs = _outputs(own)
        # a step may give its function's outputs other names, one for one
        for name, declared in zip(_names(step.get("outputs")) or outputs, outputs, strict=False):
            yield name, outputs[declared], _text(own.get("description"))


def _outputs(transformation: Data) -> dict[str, str]:
    """Type by output, in order; SQL need not declare types."""
    declared = {column["name"]: _text(column.get("dtype")) for column in _columns(transformation.get("outputs"))}
    pairs = transformation.get("sql")
    sql = pairs if isinstance(pairs, list | tuple) else ()
    names = [pair[0] for pair in sql if isinstance(pair, list | tuple) and pair and isinstance(pair[0], str)]
    return {name: declared.get(name, "") for name in names or declared}


def _group_members(group: Data) -> Iterator[str]:
    """Entities, columns that are no features, the source, what transforms it."""
    yield from (_text(entity.get("name")) for entity in _items(group.get("entities")))
    yield from (*_keys(group), *_times(group))
    yield from (column["name"] for column in _columns(group.get("schema")))
    for part in ("source", "transform"):
        whole = group.get(part)
        if isinstance(whole, Mapping):
            yield _text(whole.get("name"))
            yield from _selected(whole.get("features"))
    yield from (_text(step.get("function")) for step in _items(group.get("on_demand")))


def _view_members(view: Data) -> Iterator[str]:
    """What a view takes and makes: selections, labels, request columns, derived features, steps, helpers."""
    yield from _selected(view.get("features"))
    yield from _names(view.get("labels"))
    yield from _names(view.get("derived"))
    for request in _items(view.get("requests")):
        yield _text(request.get("name"))
        yield from _names(request.get("schema"))
    for steps in ("on_demand", "transformations"):
        for step in _items(view.get(steps)):
            yield _text(step.get("function"))
            made = step.get("transformation")
            yield from _names(step.get("outputs")) or _outputs(made if isinstance(made, Mapping) else {})
    for helpers in ("training_helpers", "inference_helpers"):
        yield from _names(view.get(helpers))


def _selected(selections: Any) -> Iterator[str]:
    """`group:feature` of what selections take, and what they call it."""
    for item in _items(selections):
        source = _text(item.get("source"))
        features = _names(item.get("features"))
        yield from (f"{source}:{feature}" for feature in features)
        if not features:
            yield source
        renamed = item.get("rename")
        yield from (_text(name) for name in (renamed.values() if isinstance(renamed, Mapping) else ()))
        yield _text(item.get("prefix"))


def _transformation_members(transformation: Data) -> Iterator[str]:
    yield from _names(transformation.get("inputs"))
    yield from _outputs(transformation)


def _keys(group: Data) -> Iterator[str]:
    for entity in _items(group.get("entities")):
        yield from _names(entity.get("join_keys"))


def _times(group: Data) -> Iterator[str]:
    source = group.get("source")
    if isinstance(source, Mapping):
        yield from filter(None, (_text(source.get(time)) for time in ("event_time", "created_time")))


def _tags(data: Data) -> tuple[tuple[str, str], ...]:
    tags = data.get("tags")
    pairs = tags.items() if isinstance(tags, Mapping) else ()
    return tuple(sorted((key, value) for key, value in pairs if isinstance(value, str)))


def _described(column: Data) -> str:
    return _text(column.get("description"))


def _columns(schema: Any) -> list[Data]:
    """The columns of a schema's list."""
    return [column for column in _items(schema) if isinstance(column.get("name"), str)]


def _names(value: Any) -> tuple[str, ...]:
    """Names from a list of them, a schema's list, or the keys of a mapping."""
    if isinstance(value, Mapping):
        return tuple(value)
    if not isinstance(value, list | tuple):
        return ()
    named = (item.get("name") if isinstance(item, Mapping) else item for item in value)
    return tuple(name for name in named if isinstance(name, str))


def _items(value: Any) -> list[Data]:
    return [cast(Data, item) for item in value if isinstance(item, Mapping)] if isinstance(value, list | tuple) else []


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
