"""Diff: what applying definitions would change, for people and for the registry."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from grange.definitions.aggregations import feature_names

Action = Literal["create", "update", "delete"]
_SIGNS = {"create": "+", "update": "~", "delete": "-"}
_KINDS = {"entity": "entity", "feature_group": "feature group", "feature_view": "feature view"}


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
            columns = [f"{c['name']} {c['dtype']}" for c in data["schema"] if c["name"] not in keys]
            lines = (f"keys: {', '.join(keys)}", f"columns: {', '.join(columns)}" if columns else "columns: none yet")
            made = [name for item in data.get("aggregations", ()) for name in feature_names(item)]
            return (*lines, f"features: {', '.join(made)}") if made else lines
        case _:
            return (f"features: {', '.join(_show(item) for item in data['features'])}",)


def compare(old: Mapping[str, Any], new: Mapping[str, Any]) -> tuple[str, ...]:
    """What differs between a definition's stored and new data, one line per difference."""
    return tuple(_compare(old, new, ()))


def _compare(old: Any, new: Any, path: tuple[str, ...]) -> Iterable[str]:
    if old == new:
        return
    where = ".".join(path)
    if path == ("schema",):
        yield from _compare_columns(old, new)
    elif path == ("transform",):
        yield from _compare_transform(old, new)
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


def _compare_columns(old: list[dict[str, str]], new: list[dict[str, str]]) -> Iterable[str]:
    before, after = ({column["name"]: column["dtype"] for column in columns} for columns in (old, new))
    yield from (f"- column {name} {dtype}" for name, dtype in before.items() if name not in after)
    yield from (f"+ column {name} {dtype}" for name, dtype in after.items() if name not in before)
    for name, dtype in after.items():
        if name in before and before[name] != dtype:
            yield f"~ column {name}: {before[name]} -> {dtype}"
    if before == after:
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
            return f"{source}{version}{':' + ','.join(features) if features else ''}{extra}{prefix}{strict}"
        case {"kind": kind, "arguments": arguments, "policy": policy}:
            return f"{kind}({', '.join(map(str, arguments))}) {policy}"
        case list():
            return "[" + ", ".join(_show(item) for item in value) + "]"
        case dict():
            return "{" + ", ".join(f"{key}: {_show(item)}" for key, item in value.items()) + "}"
        case _:
            return str(value)
