"""A feature group as people read it: its columns and windowed features, its online state. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Self

from grange.cli.output import Table, cell, count, size

if TYPE_CHECKING:
    from grange.definitions import FeatureGroup
    from grange.ports.offline import VersionMeta
    from grange.types import Schema
    from grange.types.aggregates import Aggregate
    from grange.types.schema import Column

FEATURE: Final = "feature"
EVENT: Final = "event column"
ON_DEMAND: Final = "on-demand feature"


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns of a group: of its rows, and, with aggregations, the features that are functions of these."""

    rows: Schema
    roles: Mapping[str, str]
    """Of the row columns that are no features, by name: `join key`, `event time` …"""
    aggregates: tuple[Aggregate, ...]
    """Empty where the row columns are the features."""
    on_demand: tuple[Column, ...] = ()
    """Features that are made when they are asked for."""

    @classmethod
    def of_group(cls, group: FeatureGroup) -> Self:
        """As the group is applied."""
        roles = _roles(group.join_keys, group.event_time, group.created_time, group.event_id, group.retracted)
        from grange.definitions.on_demand import on_demand_schema

        made = on_demand_schema(group, group.features()).columns if group.on_demand else ()
        return cls(group.schema, roles, group.aggregates(), made)

    @classmethod
    def of_version(cls, meta: VersionMeta) -> Self:
        """As a version has them."""
        roles = _roles(meta.entity_keys, meta.event_time, meta.created_time, meta.event_id, meta.retracted)
        return cls(meta.schema, roles, meta.aggregates)

    def records(self, defaults: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Plain data, a record per column: first the features of aggregations, then the columns of the rows. Features
        that are made on demand follow the others."""
        made = [
            {
                "name": item.name,
                "dtype": str(item.dtype),
                "role": FEATURE,
                "default": defaults.get(item.name),
                "description": aggregate_text(item),
                **aggregate_record(item),
            }
            for item in self.aggregates
        ]
        other = EVENT if self.aggregates else FEATURE
        stored = [
            {
                "name": column.name,
                "dtype": str(column.dtype),
                "role": self.roles.get(column.name, other),
                "default": None if self.aggregates else defaults.get(column.name),
                "description": column.description,
            }
            for column in self.rows
        ]
        on_demand = [
            {
                "name": column.name,
                "dtype": str(column.dtype),
                "role": ON_DEMAND,
                "default": None,
                "description": column.description,
            }
            for column in self.on_demand
        ]
        return made + on_demand + stored if self.aggregates else stored + on_demand


def _roles(
    keys: Sequence[str], event_time: str, created_time: str | None, event_id: str | None, retracted: str | None
) -> dict[str, str]:
    """What columns are for; a key that is also the event id stays a key."""
    named = {event_time: "event time", created_time: "created time", event_id: "event id", retracted: "retraction"}
    return {name: role for name, role in named.items() if name is not None} | dict.fromkeys(keys, "join key")


def aggregate_record(aggregate: Aggregate) -> dict[str, Any]:
    """A windowed feature in the words in which it is declared; None for what does not apply.

    Of a lag, `lag` says how long ago, and the window is its tolerance.
    """
    of_moment = aggregate.function.about.tally == "time"
    return {
        "function": str(aggregate.function),
        "column": None if of_moment else aggregate.column,
        "window": None if of_moment else str(aggregate.window),
        "closed": None if of_moment else aggregate.closed,
        "every": _length(aggregate.every),
        "offset": _length(aggregate.offset or None),
        "lag": _length(aggregate.shift or None),
        "filter": aggregate.filter,
    }


def aggregate_text(aggregate: Aggregate) -> str:
    """A windowed feature in a line: `sum of amount over 7d, closed left, every 1d, where country = 'FR'`."""
    function = aggregate.function
    if function.about.tally == "time":
        return str(function)
    of = f"{function} of {'rows' if aggregate.column == '*' else aggregate.column}"
    if function.about.tally == "point":
        tolerance = f"tolerance {aggregate.window}" if aggregate.window.kind == "time" else None
        parts = [f"{of} by {_length(aggregate.shift)}", tolerance]
    else:
        parts = [f"{of} over {aggregate.window}", None if aggregate.closed == "right" else f"closed {aggregate.closed}"]
    if aggregate.every is not None:
        parts.append(f"every {_length(aggregate.every)}")
        parts.append(f"offset {_length(aggregate.offset)}" if aggregate.offset else None)
    parts.append(f"where {aggregate.filter}" if aggregate.filter else None)
    return ", ".join(filter(None, parts))


def _length(micros: int | None) -> str | None:
    from grange.types.aggregates import Window

    return None if micros is None else str(Window("time", micros))


def group_summary(data: Mapping[str, Any]) -> dict[str, Any]:
    """What `info` shows of a feature group on a terminal: no hashes, no column twice.

    Args:
        data: of `FeatureStore.inspect`.
    """
    stored = data.get("stored") or {}
    source = data.get("source") or {}
    transform = data.get("transform") or {}
    windowed = bool(data.get("aggregates"))
    return {
        "name": data["name"],
        "description": data.get("description"),
        "entities": [entity["name"] for entity in data.get("entities", [])],
        "join keys": data.get("join_keys"),
        "event time": data.get("event_time"),
        "created time": data.get("created_time"),
        **{name.replace("_", " "): source[name] for name in ("event_id", "retracted") if source.get(name)},
        "source": f"{source.get('type', '')} {source.get('path') or source.get('name', '')}".strip(),
        "transform": transform.get("query") or transform.get("name"),
        "ttl": data.get("ttl"),
        **({"interval": _interval(data)} if windowed else {}),
        "online": data.get("online"),
        "owner": data.get("owner"),
        "tags": data.get("tags"),
        "feature views": data.get("feature_views"),
        **({"uses": data["uses"]} if data.get("uses") else {}),
        "version": stored.get("version"),
        "events" if windowed else "rows": stored.get("row_count"),
        **({"feature rows": stored.get("feature_rows")} if windowed else {}),
        "pushed since": data.get("pending_rows"),
        "from": stored.get("min_event_time"),
        "to": stored.get("max_event_time"),
        **({"online state": _online_state(data["online_state"])} if windowed and data.get("online_state") else {}),
        **_column_tables(data),
    }


def _interval(data: Mapping[str, Any]) -> str:
    """On which grid feature rows lie."""
    if data.get("interval") is None:
        return "as of every event"
    from grange.types.durations import parse_duration, to_micros

    length = _length(to_micros(parse_duration(data["interval"])))
    return f"{length}, gaps filled" if data.get("fill_gaps") else str(length)


def _column_tables(data: Mapping[str, Any]) -> dict[str, list[dict[str, str]]]:
    """The features; of a group with aggregations what each is of, and apart from them the columns of its events."""
    from grange.types.aggregates import Aggregate

    defaults = data.get("defaults") or {}
    checks = {column: [_check(item) for item in items] for column, items in (data.get("expectations") or {}).items()}
    aggregates = [Aggregate.from_data(item) for item in data.get("aggregates", ())]
    if not aggregates:
        return {"features": column_rows(data.get("features", []), defaults, checks)}
    features = [
        {"name": item.name, "dtype": str(item.dtype), "description": aggregate_text(item)} for item in aggregates
    ]
    features += [item for item in data["features"] if item["name"] not in {each.name for each in aggregates}]
    return {
        "features": column_rows(features, defaults, checks),
        "columns of its events": column_rows(data["schema"], checks=checks),
    }


def _check(check: dict[str, Any]) -> str:
    from grange.definitions.expectations import Expectation

    return f"{Expectation.from_dict(check)} {check['policy']}"


def group_details(data: Mapping[str, Any]) -> dict[str, Any]:
    """What `inspect` shows of a feature group on a terminal: all there is, each column once.

    Args:
        data: of `FeatureStore.inspect`.
    """
    left_out = ("features", "schema", "aggregations", "aggregates", "online_state", "versions", "stored", "runs")
    shown = {key: value for key, value in data.items() if key not in left_out}
    stored = data["stored"]
    if stored is not None:
        listed = [key for key in ("columns", "event_columns") if stored.get(key)]
        names = {key: [item["name"] for item in stored[key]] for key in listed}
        shown["versions"] = data["versions"]
        shown["stored"] = {key: value for key, value in stored.items() if key != "aggregates"} | names
    if data["online_state"]:
        shown["online state"] = _online_state(data["online_state"])
    tables = _column_tables(data)
    if not data.get("aggregates"):
        tables = {"columns": column_rows(data["schema"])} | tables
    return shown | tables | {"runs": data["runs"]}


def _online_state(states: Sequence[Mapping[str, Any]]) -> list[dict[str, str]] | dict[str, str]:
    """What the online store holds of a group, one mapping per key space; of the usual single one that mapping."""
    shown = []
    for state in states:
        read = {"key space": str(state["key_space"]), "entity keys": count(state["rows"]), "size": size(state["bytes"])}
        if state["version"] is not None:
            read["loaded from version"] = str(state["version"])
        if "bytes_per_key" in state:
            largest = size(state["largest_key_bytes"])
            read["per entity key"] = f"{size(state['bytes_per_key'])}, the largest {largest}"
            read["cells"] = count(state["cells"])
            read["events are kept for"] = str(state["events_are_kept_for"])
        shown.append(read)
    return shown[0] if len(shown) == 1 else shown


def column_rows(
    columns: Sequence[Mapping[str, Any]],
    defaults: Mapping[str, Any] = MappingProxyType({}),
    checks: Mapping[str, Sequence[str]] = MappingProxyType({}),
) -> list[dict[str, str]]:
    """Columns as rows of a table: name, type, what it is, default and expectations, as far as any column has one.

    Args:
        columns: records with name, dtype, and perhaps role and description.
        defaults: by column.
        checks: the texts of its expectations, by column.
    """
    rows = [
        {
            "name": str(column["name"]),
            "type": str(column["dtype"]),
            "role": str(column.get("role") or ""),
            "what it is": str(column.get("description") or ""),
            "default": cell(defaults[column["name"]]) if column["name"] in defaults else "",
            "expectations": ", ".join(checks.get(str(column["name"]), ())),
        }
        for column in columns
    ]
    used = [header for header in rows[0] if any(row[header] for row in rows)] if rows else []
    return [{header: row[header] for header in used} for row in rows]


def column_table(columns: Sequence[Mapping[str, Any]], defaults: Mapping[str, Any] = MappingProxyType({})) -> Table:
    """The same as a table."""
    rows = column_rows(columns, defaults)
    return Table(list(rows[0]) if rows else ["name"], [list(row.values()) for row in rows])
