"""Diff: what applying definitions would change, for people and for the registry."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from grange.definitions.aggregations import feature_names
from grange.types.names import EVENT_TIME

Action = Literal["create", "update", "delete"]
_SIGNS = {"create": "+", "update": "~", "delete": "-"}
_KINDS = {
    "entity": "entity",
    "feature_group": "feature group",
    "feature_view": "feature view",
    "transformation": "transformation",
}


@dataclass(frozen=True, slots=True)
class DefinitionChange:
    """One definition that would be created, updated or deleted, and how."""

    action: Action
    kind: str
    name: str
    lines: tuple[str, ...] = ()
    """What changes inside an update, one line each: `ttl: 30d -> 90d`."""

    def __str__(self) -> str:
        head = f"{_SIGNS[self.action]} {_KINDS.get(self.kind, self.kind)} {self.name}"
        return "\n".join([head, *(f"    {line}" for line in self.lines)])

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"action": self.action, "kind": self.kind, "name": self.name, "lines": list(self.lines)}


def describe(kind: str, data: Mapping[str, Any]) -> tuple[str, ...]:
    """What a created definition holds, in a line or two."""
    match kind:
        case "entity":
            return (f"join keys: {', '.join(data['join_keys'])}",)
        case "feature_group":
            keys = [key for entity in data["entities"] for key in entity["join_keys"]]
            columns = [f"{c['name']} {c['dtype']}" for c in data["schema"] if c["name"] not in (*keys, EVENT_TIME)]
            lines = (f"keys: {', '.join(keys)}", f"columns: {', '.join(columns)}" if columns else "columns: none yet")
            made = [name for item in data.get("aggregations", ()) for name in feature_names(item)]
            return (*lines, f"features: {', '.join(made)}") if made else lines
        case "transformation":
            made = [name for name, _ in data["sql"]] or [column["name"] for column in data["outputs"]]
            return (f"{', '.join(data['inputs'])} -> {', '.join(made)}",)
        case _:
            return (f"features: {', '.join(_show(item) for item in data['features'])}", *_described_view(data))


def _described_view(data: Mapping[str, Any]) -> Iterable[str]:
    """What a view has besides features, one line each."""
    after = {rule["name"]: f" after {rule['after']}" for rule in data.get("label_rules", ())}
    parts: dict[str, list[str]] = {
        "labels": [name + after.get(name, "") for name in data.get("labels", ())],
        "filter": [data["filter"]] if data.get("filter") else [],
        "on-demand": [_step(item) for item in data.get("on_demand", ())],
        "derived": [f"{name} = {text}" for name, text in data.get("derived", {}).items()],
        "transformations": [_step(item) for item in data.get("transformations", ())],
        "training helpers": list(data.get("training_helpers", ())),
        "inference helpers": list(data.get("inference_helpers", ())),
    }
    return (f"{what}: {', '.join(items)}" for what, items in parts.items() if items)


def compare(old: Mapping[str, Any], new: Mapping[str, Any]) -> tuple[str, ...]:
    """What differs between a definition's stored and new data, one line per difference."""
    return tuple(_compare(old, new, ()))


def _compare(old: Any, new: Any, path: tuple[str, ...]) -> Iterable[str]:
    if old == new:
        return
    where = ".".join(path)
    if path == ("schema",):
        yield from _compare_columns(old, new)
    elif path == ("entities",):
        yield from _compare_entities(old, new)
    elif path == ("transform",):
        yield from _compare_transform(old, new)
    elif path in (("code",), ("fit",)):
        if (old or {}).get("code_hash") != (new or {}).get("code_hash"):
            yield f"code of {(new or old)['name']}() changed"
    elif path in (("on_demand",), ("transformations",)):
        before, after = ([_step(item) for item in side or ()] for side in (old, new))
        yield from (f"- {path[0]} {item}" for item in before if item not in after)
        yield from (f"+ {path[0]} {item}" for item in after if item not in before)
        if sorted(before) == sorted(after):
            yield f"{path[0]}: other order" if before != after else f"{path[0]}: other code"
    elif path == ("aggregations",):
        before, after = ([name for item in side or () for name in feature_names(item)] for side in (old, new))
        yield from (f"- feature {name}" for name in before if name not in after)
        yield from (f"+ feature {name}" for name in after if name not in before)
        if sorted(before) == sorted(after):
            yield "aggregations: other order" if before != after else "aggregations: other windows, ends or filters"
    elif path == ("features",):
        before, after = [_show(item) for item in old], [_show(item) for item in new]
        yield from (f"- feature {item}" for item in before if item not in after)
        yield from (f"+ feature {item}" for item in after if item not in before)
        if sorted(before) == sorted(after):
            yield "features: other order"
    elif isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in dict.fromkeys([*old, *new]):
            yield from _compare(old.get(key), new.get(key), (*path, str(key)))
    else:
        yield f"{where}: {_show(old)} -> {_show(new)}"


def _compare_entities(old: list[dict[str, Any]], new: list[dict[str, Any]]) -> Iterable[str]:
    before, after = ({item["name"]: item for item in items} for items in (old, new))
    yield from (f"- entity {_entity(item)}" for name, item in before.items() if name not in after)
    yield from (f"+ entity {_entity(item)}" for name, item in after.items() if name not in before)
    for name in (name for name in after if name in before):
        if _entity(before[name]) != _entity(after[name]):
            yield f"~ entity {_entity(before[name])} -> {_entity(after[name])}"
        elif before[name] != after[name]:
            yield f"entity {name}: other description"
    if list(before) != list(after) and before.keys() == after.keys():
        yield "entities: other order"


def _entity(data: Mapping[str, Any]) -> str:
    """An entity with its join keys: `user (user_id string)`."""
    types = data.get("key_types", {})
    keys = (f"{key} {types.get(key, '')}".rstrip() for key in data["join_keys"])
    return f"{data['name']} ({', '.join(keys)})"


def _compare_columns(old: list[dict[str, str]], new: list[dict[str, str]]) -> Iterable[str]:
    before, after = (
        {column["name"]: column["dtype"] for column in columns if column["name"] != EVENT_TIME}
        for columns in (old, new)
    )
    yield from (f"- column {name} {dtype}" for name, dtype in before.items() if name not in after)
    yield from (f"+ column {name} {dtype}" for name, dtype in after.items() if name not in before)
    for name, dtype in after.items():
        if name in before and before[name] != dtype:
            yield f"~ column {name}: {before[name]} -> {dtype}"
    if before == after and len(old) == len(new):
        yield "schema: other order of columns" if list(before) != list(after) else "schema: other descriptions"


def _compare_transform(old: dict[str, Any] | None, new: dict[str, Any] | None) -> Iterable[str]:
    if old is None or new is None:
        yield f"transform: {_transform(old)} -> {_transform(new)}"
    elif old["code_hash"] != new["code_hash"]:
        yield f"transform: code of {_transform(new)} changed"
    elif _transform(old) != _transform(new):
        yield f"transform: {_transform(old)} -> {_transform(new)}"


def _transform(data: dict[str, Any] | None) -> str:
    return "none" if data is None else f"{data['name']}()" if data["type"] == "python" else "SQL"


def _step(data: Mapping[str, Any]) -> str:
    made = f" -> {', '.join(data['outputs'])}" if data["outputs"] else ""
    given = "".join(f", {name}={_show(value)}" for name, value in data.get("parameters", {}).items())
    return f"{data['function']}({', '.join(data['inputs'])}{given}){made}"


def _pairs(word: str, pairs: Any) -> str:
    return f" {word} " + ", ".join(f"{a}={b}" for a, b in pairs.items()) if pairs else ""


def _show(value: Any) -> str:
    match value:
        case None | "":
            return "none"
        case {"source": source, "features": features, **rest}:
            version = f"@{rest['version']}" if rest.get("version") else ""
            extra = _pairs("on", rest.get("on")) + _pairs("rename", rest.get("rename"))
            prefix = f" prefix {rest['prefix']}" if rest.get("prefix") else ""
            strict = "" if rest.get("exact_matches", True) else " strictly before"
            join = f" {rest['join']} join" if rest.get("join") else ""
            return f"{source}{version}{':' + ','.join(features) if features else ''}{extra}{prefix}{strict}{join}"
        case {"kind": kind, "arguments": arguments, "policy": policy}:
            return f"{kind}({', '.join(map(str, arguments))}) {policy}"
        case list():
            return "[" + ", ".join(_show(item) for item in value) + "]"
        case dict():
            return "{" + ", ".join(f"{key}: {_show(item)}" for key, item in value.items()) + "}"
        case _:
            return str(value)
