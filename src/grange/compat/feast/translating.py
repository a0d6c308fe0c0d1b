"""Feast's definitions as the text of a Grange definition module, and notes on what does not go over."""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Final

from grange.compat.feast import text
from grange.compat.feast.on_demand import Wrapped, used_inputs, wrapped
from grange.compat.feast.text import literal
from grange.compat.feast.types import CASTS, KEYS, dtype_of
from grange.compat.feast.values import Call, FeastType, Function, Module, Note, Place, Projection
from grange.types import format_duration

SOURCES: Final = "export its rows to Parquet and name the files in a gr.FileSource, or push them"
SERVICE_SUFFIX: Final = "_service"
"""Of a feature service that has a feature view's name; Feast's clients reach it by the old one."""
_FILES: Final = {"ParquetFormat": "parquet", "CsvFormat": "csv", "JsonFormat": "jsonl"}
_ELSEWHERE: Final[Mapping[str, str]] = {
    "Permission": "make keys and policies: grange key create, grange policy create",
    "SavedDataset": "make a training dataset: grange td create",
    "ValidationReference": "say it as expectations of the feature group: expectations={'column': [gr.between(0, 1)]}",
    "LabelView": "labels are columns of the spine or features of a group: gr.FeatureView(..., labels=[...])",
    "LoggingConfig": "served vectors are logged by a setting of the server: serving.log_share",
}
"""What Grange says elsewhere than in definitions."""
_VIEWS: Final = (
    "FeatureView",
    "BatchFeatureView",
    "StreamFeatureView",
    "batch_feature_view",
    "stream_feature_view",
)
_SILENT: Final = frozenset({"Project", "Field", "ParquetFormat", "CsvFormat", "JsonFormat"})
"""What is a part of something else, or says nothing that a project does not."""


@dataclass(slots=True, eq=False)
class _View:
    """A feature view that became a feature group."""

    name: str
    variable: str
    features: dict[str, str | None]
    """By feature, its type; None where it is inferred."""
    is_whole: bool
    """Whether the features are known: a view without a schema has whatever its source has."""
    made: dict[str, str] = field(default_factory=dict)
    """By on-demand feature that was put into it, its function."""


@dataclass(slots=True, eq=False)
class _OnDemand:
    """An on-demand feature view that became a transformation."""

    name: str
    variable: str
    outputs: tuple[str, ...]
    home: _View | None
    """The group that it was put into, when all that it takes is of one."""
    inputs: tuple[tuple[_View, str], ...]


@dataclass(frozen=True, slots=True)
class Translated:
    """A definition module's text."""

    text: str
    notes: tuple[Note, ...]
    counts: Mapping[str, int]
    """How many of each kind were taken over."""


class Translation:
    """One repository's definitions, turned into text.

    Args:
        repository: its folder, which Feast's relative paths start from.
        project: the folder of the Grange project, which Grange's start from.
    """

    def __init__(self, repository: Path, project: Path) -> None:
        self._repository = repository
        self._project = project
        self._names = text.Names()
        self._notes: list[Note] = []
        self._imports: set[str] = set()
        self._parts: dict[str, list[str]] = {"entity": [], "source": [], "transformation": [], "group": [], "view": []}
        self._entities: dict[str, tuple[Call, str]] = {}
        self._sources: dict[int, str | None] = {}
        self._views: dict[int, _View] = {}
        self._on_demand: dict[int, _OnDemand] = {}

    def of(self, definitions: Sequence[Call | Function]) -> Translated:
        """Translate definitions, in whatever order they come."""
        by_kind: dict[str, list[Any]] = {}
        for definition in definitions:
            kind = definition.kind if isinstance(definition, Call) else definition.decorator.kind
            by_kind.setdefault(kind, []).append(definition)
        for entity in by_kind.pop("Entity", []):
            self._entity(entity)
        groups = [self._group(view) for kind in _VIEWS for view in by_kind.pop(kind, [])]
        functions = [
            each for kind in ("on_demand_feature_view", "OnDemandFeatureView") for each in by_kind.pop(kind, [])
        ]
        for function in functions:
            self._transformation(function)
        self._parts["group"] = [self._group_text(made) for made in groups if made is not None]
        for service in by_kind.pop("FeatureService", []):
            self._service(service)
        self._rest(by_kind)
        return Translated(self._module(), tuple(self._notes), {kind: len(parts) for kind, parts in self._parts.items()})

    # entities and sources

    def _entity(self, entity: Call) -> None:
        name = self._name(entity)
        keys = entity.get("join_keys") or [entity.name]
        if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
            self._note(entity.place, f"entity {name!r} has join keys that cannot be read", "write them out")
            return
        key_type = KEYS.get(str(entity.get("value_type", "")).rpartition(".")[2])
        shown = literal(keys) if key_type is None else text.mapped({key: literal(key_type) for key in keys})
        variable = self._names.take(name, "entity")
        self._entities[entity.name] = (entity, variable)
        made = text.call("gr.Entity", [literal(name)], {"join_keys": shown, **self._about(entity)})
        self._parts["entity"].append(f"{variable} = {made}")

    def _source(self, source: Any, of: Call) -> str | None:
        """The variable of a source; None where it is none that Grange reads."""
        if not isinstance(source, Call):
            self._note(of.place, f"{of.name!r} has no source that can be read", "give it one: gr.FileSource(...)")
            return None
        if id(source) not in self._sources:
            self._sources[id(source)] = self._new_source(source)
        return self._sources[id(source)]

    def _new_source(self, source: Call) -> str | None:
        match source.kind:
            case "FileSource":
                made = self._file_source(source)
            case "PushSource":
                made = self._push_source(source)
            case "KafkaSource" | "KinesisSource":
                made = self._stream_source(source)
            case _:
                self._note(source.place, f"{source.kind} {source.name!r} is no source that Grange reads", SOURCES)
                made = None
        if made is None:
            return None
        variable = self._names.take(source.name or _stem(source), "source")
        self._parts["source"].append(f"{variable} = {made}")
        return variable

    def _file_source(self, source: Call) -> str | None:
        path = source.named.get("path", source.arguments[0] if source.arguments else None)
        if not isinstance(path, str | PurePosixPath):
            self._note(source.place, f"FileSource {source.name!r} has no path that can be read", "write it out")
            return None
        options = self._times(source)
        if options is None:
            return None
        given = source.get("file_format")
        kind = given.kind if isinstance(given, Call) else ""
        if kind and kind not in _FILES:
            self._note(source.place, f"FileSource {source.name!r} is of {kind}, which Grange does not read", SOURCES)
            return None
        where = self._path(str(path), source)
        if kind or "." not in PurePosixPath(where).name:
            options["format"] = literal(_FILES.get(kind, "parquet"))
        if source.get("s3_endpoint_override"):
            self._note(source.place, "s3_endpoint_override is no part of a definition", "copy the files, or mount them")
        return text.call("gr.FileSource", [literal(where)], options)

    def _times(self, source: Call) -> dict[str, str] | None:
        event_time = source.get("timestamp_field") or source.get("event_timestamp_column")
        if not isinstance(event_time, str):
            self._note(
                source.place,
                f"source {source.name or _stem(source)!r} does not say which column is its time: Feast guesses it",
                'say it: timestamp_field="..." here, then import again',
            )
            return None
        created = source.get("created_timestamp_column")
        return {"event_time": literal(event_time)} | ({"created_time": literal(created)} if created else {})

    def _push_source(self, source: Call) -> str | None:
        batch = source.get("batch_source")
        inner = self._source(batch, source) if batch is not None else None
        if inner is None:
            self._note(
                source.place, f"PushSource {source.name!r} has no batch source that Grange reads",
                f"gr.PushSource({source.name!r}, event_time=..., schema={{...}})",
            )  # fmt: skip
            return None
        times = self._times(batch) or {}
        return text.call("gr.PushSource", [literal(self._name(source))], {**times, "batch_source": inner})

    def _stream_source(self, source: Call) -> str | None:
        self._note(
            source.place,
            f"{source.kind} {source.name!r}: Grange takes rows of a stream as they are pushed",
            "push them from a consumer: store.push(...), or POST /push as before",
        )
        return self._push_source(source) if source.get("batch_source") is not None else None

    def _path(self, path: str, source: Call) -> str:
        """A path from the project's folder; what is no local path stays as it is."""
        if "://" in path and not path.startswith("file://"):
            self._note(source.place, f"{path!r} is not on this machine", "Grange reads local files: copy or mount them")
            return path
        whole = self._repository / path.removeprefix("file://")
        return path if Path(path).is_absolute() else Path(os.path.relpath(whole, self._project)).as_posix()

    # feature views

    def _group(self, view: Call | Function) -> tuple[_View, dict[str, str]] | None:
        """A feature group, as its arguments' texts; what is on demand is added later."""
        if isinstance(view, Function):
            self._sources[id(view.decorator.get("source"))] = None
        if isinstance(view, Function) or view.get("aggregations") or view.get("feature_transformation"):
            self._note(
                view.place,
                f"{view.name!r} is computed by code of its own, which Feast's engines run",
                "write it as the transform or the aggregations of a gr.FeatureGroup",
            )
            return None
        given = view.get("source") or view.get("batch_source") or view.get("stream_source")
        if isinstance(given, list) or (isinstance(given, Call) and given.kind.endswith("FeatureView")):
            self._note(view.place, f"{view.name!r} is made of other views", "gr.DerivedSource([...]) says this")
            return None
        entities = self._entities_of(view)
        source = None if entities is None else self._source(given, view)
        if entities is None or source is None:
            return None
        return self._grouped(view, entities, source, given)

    def _grouped(
        self, view: Call, entities: list[tuple[Call, str]], source: str, given: Call
    ) -> tuple[_View, dict[str, str]]:
        name = self._name(view)
        keys = [key for entity, _ in entities for key in entity.get("join_keys") or [entity.name]]
        fields = self._fields(view)
        features = {key: dtype for key, dtype in fields.items() if key not in keys}
        variable = self._names.take(name, "group")
        made = _View(name, variable, features, bool(features))
        self._views[id(view)] = made
        files = given if given.kind == "FileSource" else given.get("batch_source")
        schema = {key: literal(dtype) for key, dtype in fields.items() if dtype is not None}
        options = {
            "entities": text.listed(variable for _, variable in entities),
            "source": source,
            **_transform(keys, features, files),
            **({"schema": text.mapped(schema)} if schema else {}),
            **self._ttl(view),
            **({} if view.get("online", True) else {"online": "False"}),
            **self._about(view),
        }
        return made, options

    def _group_text(self, made: tuple[_View, dict[str, str]]) -> str:
        view, options = made
        steps = [each.variable for each in self._on_demand.values() if each.home is view]
        if steps:
            options = {**options, "on_demand": text.listed(steps)}
        return f"{view.variable} = {text.call('gr.FeatureGroup', [literal(view.name)], options)}"

    def _entities_of(self, view: Call) -> list[tuple[Call, str]] | None:
        given = view.get("entities") or []
        names = [each.name if isinstance(each, Call) else each for each in given]
        found = [self._entities[name] for name in names if name in self._entities]
        if found and len(found) == len(names):
            return found
        self._note(
            view.place,
            f"{view.name!r} has no entities" if not names else f"{view.name!r} has entities that cannot be read",
            "a feature group is keyed by one: add a column that is the same in every row, and an entity of it",
        )
        return None

    def _fields(self, view: Call) -> dict[str, str | None]:
        fields: dict[str, str | None] = {}
        for each in view.get("schema") or view.get("features") or []:
            if not isinstance(each, Call) or each.kind not in ("Field", "Feature"):
                continue
            given = each.named.get("dtype", each.arguments[1] if len(each.arguments) > 1 else None)
            dtype = dtype_of(given)
            if dtype is None and isinstance(given, FeastType):
                self._note(each.place, f"{each.name!r} is of type {given}, which has no equal", "its type is inferred")
            fields[each.name] = dtype
        return fields

    def _ttl(self, view: Call) -> dict[str, str]:
        ttl = view.get("ttl")
        return {"ttl": literal(format_duration(ttl))} if isinstance(ttl, dt.timedelta) and ttl > dt.timedelta(0) else {}

    # on-demand feature views

    def _transformation(self, function: Function | Call) -> None:
        if isinstance(function, Call):
            self._note(
                function.place,
                f"on-demand feature view {function.name!r} is an object around a function",
                "use the decorator @on_demand_feature_view above the function, then import again",
            )
            return
        mode = function.decorator.get("mode", "pandas")
        if mode not in ("pandas", "python"):
            self._note(function.place, f"{function.name!r} is of mode {mode!r}", "write it in Python, or as SQL")
            return
        taken = self._inputs(function)
        outputs = self._fields(function.decorator)
        if taken is None or not outputs or None in outputs.values():
            self._note(
                function.place, f"on-demand feature view {function.name!r} was not taken over",
                "what it takes, or the types of what it makes, cannot be read: write it as a @gr.transformation",
            )  # fmt: skip
            return
        self._wrap(function, *taken, {name: str(dtype) for name, dtype in outputs.items()})

    def _wrap(
        self, function: Function, views: dict[str, tuple[_View, str]], requests: dict[str, str], outputs: dict[str, str]
    ) -> None:
        used = used_inputs(function, [*views, *requests])
        inputs = {column: views[column][1] if column in views else column for column in used}
        made = wrapped(
            function,
            name=text.name_of(function.name),
            inputs=inputs,
            outputs=outputs,
            requests={column: requests[column] for column in used if column in requests},
        )
        self._told(function, made)
        taken = tuple(views[column] for column in used if column in views)
        homes = {id(view): view for view, _ in taken}
        home = next(iter(homes.values())) if len(homes) == 1 else None
        variable = function.node.name
        self._parts["transformation"].append(made.text)
        self._imports.update(made.imports)
        self._on_demand[id(function)] = _OnDemand(
            text.name_of(function.name), variable, tuple(outputs), home, tuple(dict.fromkeys(taken))
        )
        if home is not None:
            home.made |= dict.fromkeys(outputs, function.name)
        elif taken:
            self._note(
                function.place,
                f"{function.name!r} takes features of several views, so it is part of the feature views that use it",
                "ask for it through a feature view (a feature service), not by reference",
            )

    def _told(self, function: Function, made: Wrapped) -> None:
        for target in made.foreign:
            self._note(
                function.place, f"{function.name!r} uses {target}, of another file of the repository",
                "put that function inside of it, or into a package that the project can import",
            )  # fmt: skip

    def _inputs(self, function: Function) -> tuple[dict[str, tuple[_View, str]], dict[str, str]] | None:
        """What an on-demand view may take: features by the names that its function has for them, and request columns
        with their types."""
        given = function.decorator.get("sources") or []
        sources = list(given.values()) if isinstance(given, dict) else list(given)
        views: dict[str, tuple[_View, str]] = {}
        requests: dict[str, str] = {}
        for each in sources:
            projection = each if isinstance(each, Projection) else Projection(each) if _is_view(each) else None
            if isinstance(each, Call) and each.kind == "RequestSource":
                columns = self._fields(each)
                if None in columns.values():
                    return None
                requests |= {name: str(dtype) for name, dtype in columns.items()}
            elif projection is not None and id(projection.of) in self._views:
                view = self._views[id(projection.of)]
                for feature in projection.features or tuple(view.features):
                    views[feature] = view, feature
                    views[f"{projection.alias or view.name}__{feature}"] = view, feature
            else:
                return None
        return views, requests

    # feature services

    def _service(self, service: Call) -> None:
        name = self._name(service)
        if any(view.name == name for view in self._views.values()):
            name += SERVICE_SUFFIX
            self._note(
                service.place, f"feature service {service.name!r} has the name of a feature view",
                f"it is called {name!r}; Feast's clients reach it by both",
            )  # fmt: skip
        items = service.get("features") or []
        projections = [each if isinstance(each, Projection) else Projection(each) for each in items if _is_view(each) or
                       isinstance(each, Projection)]  # fmt: skip
        missing = [each.of.name for each in projections if not self._known(each)]
        if missing or len(projections) != len(items) or not projections:
            what = ", ".join(missing) or "something that cannot be read"
            self._note(service.place, f"feature service {service.name!r} was not taken over", f"it has {what}")
            return
        # what is on demand comes behind the views: what these have already is not taken once more for it
        in_order = sorted(projections, key=lambda each: id(each.of) not in self._views)
        selected, steps, helpers = self._selected(in_order)
        variable = self._names.take(name, "view")
        options = {
            "features": text.listed(selected),
            **({"on_demand": text.listed(steps)} if steps else {}),
            **({"inference_helpers": literal(helpers)} if helpers else {}),
            **self._about(service),
        }
        self._parts["view"].append(f"{variable} = {text.call('gr.FeatureView', [literal(name)], options)}")

    def _known(self, projection: Projection) -> bool:
        return id(projection.of) in self._views or id(projection.of) in self._on_demand

    def _selected(self, projections: Sequence[Projection]) -> tuple[list[str], list[str], list[str]]:
        """What a service takes: selections, on-demand steps of its own, and what is there for those alone."""
        selected: list[str] = []
        steps: list[str] = []
        helpers: list[str] = []
        repeated = [id(each.of) for each in projections]
        for each in projections:
            view = self._views.get(id(each.of))
            if view is not None:
                selected += self._of_view(view, each, is_repeated=repeated.count(id(each.of)) > 1)
                continue
            made = self._on_demand[id(each.of)]
            if made.home is not None:
                selected += [literal(f"{made.home.name}:{output}") for output in each.features or made.outputs]
            else:
                steps.append(made.variable)
                extra = [(view, feature) for view, feature in made.inputs
                         if literal(f"{view.name}:{feature}") not in selected]  # fmt: skip
                selected += [literal(f"{view.name}:{feature}") for view, feature in extra]
                helpers += [feature for _, feature in extra]
        return list(dict.fromkeys(selected)), steps, helpers

    def _of_view(self, view: _View, projection: Projection, *, is_repeated: bool) -> list[str]:
        features = projection.features or (tuple(view.features) if view.is_whole else ())
        if not projection.join_keys and not is_repeated:
            return [literal(f"{view.name}:{feature}") for feature in features] or [literal(view.name)]
        options = {"on": literal(dict(projection.join_keys))} if projection.join_keys else {}
        if is_repeated:
            options["prefix"] = literal(f"{projection.alias or view.name}__")
        return [text.call("gr.select", [literal(view.name), *map(literal, features)], options)]

    # around them

    def _rest(self, by_kind: Mapping[str, list[Any]]) -> None:
        used = set(self._sources)
        for kind, definitions in by_kind.items():
            for each in definitions:
                if kind in _SILENT or kind == "RequestSource" or id(each) in used:
                    continue
                if kind.endswith("Source"):
                    self._note(each.place, f"{kind} {each.name!r} is used by no view", "nothing is lost")
                    continue
                advice = _ELSEWHERE.get(kind, "say in Grange's definitions what it is for")
                self._note(each.place, f"{kind} {each.name!r} was not taken over", advice)

    def _about(self, definition: Call) -> dict[str, str]:
        tags = definition.get("tags") or {}
        plain = {str(key): str(value) for key, value in tags.items()} if isinstance(tags, dict) else {}
        said = {"description": definition.get("description"), "owner": definition.get("owner")}
        return {key: literal(value) for key, value in said.items() if isinstance(value, str) and value} | (
            {"tags": literal(plain)} if plain else {}
        )

    def _name(self, definition: Call) -> str:
        name = text.name_of(definition.name)
        if name != definition.name:
            self._note(definition.place, f"{definition.name!r} is no name in Grange", f"it is called {name!r}")
        return name

    def _note(self, place: Place, problem: str, advice: str) -> None:
        note = Note(place, problem, advice)
        if note not in self._notes:
            self._notes.append(note)

    def _module(self) -> str:
        plain = sorted(each for each in self._imports if each != "import pandas as pd" or self._uses("pd."))
        standard = [each for each in plain if each.split()[1].partition(".")[0] in _standard()]
        others = [each for each in plain if each not in standard]
        blocks = ["\n".join(standard)] if standard else []
        if others:
            blocks.append("\n".join(others))
        blocks.append("import grange as gr")
        head = '"""The definitions of a Feast repository, made by `grange import feast`."""\n\n' + "\n\n".join(blocks)
        functions = self._parts["transformation"]
        plain_parts = ["\n".join(self._parts[kind]) for kind in ("entity", "source") if self._parts[kind]]
        parts = [head, *plain_parts]
        parts += [f"\n{each}" for each in functions]
        tail = [each for kind in ("group", "view") for each in self._parts[kind]]
        if tail and functions:
            tail[0] = f"\n{tail[0]}"
        return "\n\n".join([*parts, *tail]) + "\n"

    def _uses(self, prefix: str) -> bool:
        return any(prefix in each for each in self._parts["transformation"])


def _transform(keys: Iterable[str], features: Iterable[str], files: Any) -> dict[str, str]:
    """The SQL that takes a view's columns out of its source; none where the view says no columns."""
    mapping = files.get("field_mapping") if isinstance(files, Call) else None
    raw = {new: old for old, new in mapping.items()} if isinstance(mapping, dict) else {}
    if not isinstance(files, Call) or (not features and not raw):
        return {}
    if not features:
        renamed = ", ".join(f"{_quoted(old)} AS {_quoted(new)}" for new, old in raw.items())
        return {"transform": text.query(f"SELECT * RENAME ({renamed}) FROM source")}  # noqa: S608 - text of a definition
    times = [files.get("timestamp_field") or files.get("event_timestamp_column"), files.get("created_timestamp_column")]
    kept = [*keys, *filter(None, times), *features]
    types = dict(features) if isinstance(features, Mapping) else {}
    items = [_selected_column(name, raw.get(name, name), types.get(name)) for name in dict.fromkeys(kept)]
    line = f"SELECT {', '.join(items)} FROM source"  # noqa: S608 - text of a definition
    if len(line) > text.WIDTH - 20:
        line = "SELECT\n" + ",\n".join(f"    {item}" for item in items) + "\nFROM source"
    return {"transform": text.query(line) if "\n" not in line else f'"""\n{line}\n"""'}


def _selected_column(name: str, raw: str, dtype: str | None) -> str:
    cast = CASTS.get(dtype or "")
    if cast is not None:
        return f"CAST({_quoted(raw)} AS {cast}) AS {_quoted(name)}"
    return _quoted(raw) if raw == name else f"{_quoted(raw)} AS {_quoted(name)}"


def _quoted(name: str) -> str:
    """Always in quotes: which names an engine keeps for itself changes with its versions."""
    return '"' + name.replace('"', '""') + '"'


def _is_view(value: Any) -> bool:
    return isinstance(value, Function) or (isinstance(value, Call) and value.kind.endswith("FeatureView"))


def _stem(source: Call) -> str:
    path = source.named.get("path", source.arguments[0] if source.arguments else "")
    return PurePosixPath(str(path)).stem or "rows"


def _standard() -> frozenset[str]:
    import sys

    return frozenset(sys.stdlib_module_names)


def unread(modules: Iterable[Module]) -> bool:
    """Whether nothing of Feast's was found anywhere."""
    return not any(target.startswith("feast") for module in modules for target in module.imports.values())


__all__ = ["Translated", "Translation", "unread"]
