"""Whom a feature group made on the command line describes; and whether its name is free."""

from __future__ import annotations

from typing import TYPE_CHECKING

from grange.cli.session import from_command_line
from grange.errors import RefusedError, UsageError

if TYPE_CHECKING:
    from grange.definitions import Catalog, Entity
    from grange.types import DataType


def refuse_existing(catalog: Catalog, *, group: str | None = None, view: str | None = None) -> None:
    """Raises RefusedError when a group or view of the name is applied already."""
    if group in catalog.groups:
        raise RefusedError(
            f"feature group {group!r} exists already",
            try_=f"grange fg delete {group}, or change it in a definition module",
        )
    if view in catalog.views:
        raise RefusedError(
            f"feature view {view!r} exists already",
            try_=f"grange fv delete {view}, or change it in a definition module",
        )


def entities_of(catalog: Catalog, keys_text: str | None, names: list[str]) -> list[Entity]:
    """The entities of --entity and --keys: applied ones by name or by equal keys, else a new one."""
    from grange.cli.grammars import parse_keys
    from grange.definitions import Entity

    if keys_text is None:
        if not names:
            raise UsageError("a feature group needs its keys", try_="--keys user_id, or --entity of an applied entity")
        return [catalog.entity(name) for name in names]
    if len(names) > 1:
        raise UsageError("--keys make one entity", try_="name applied entities with --entity, and leave --keys out")
    keys = parse_keys(keys_text)
    applied = [entity for entity in catalog.entities.values() if entity.join_keys == tuple(keys)]
    name = names[0] if names else (applied[0].name if applied else _entity_name(list(keys)))
    known = catalog.entities.get(name)
    if known is not None:
        return [_agreeing(known, keys)]
    with from_command_line():
        entity = Entity(name, list(keys))
        types = {key: dtype for key, dtype in keys.items() if dtype is not None}
        return [_with_types(entity, types) if types else entity]


def _entity_name(keys: list[str]) -> str:
    """`user_id` is a user; several keys are joined by underscores."""
    return "_".join(key.removesuffix("_id") or key for key in keys)


def _agreeing(entity: Entity, keys: dict[str, DataType | None]) -> Entity:
    """An applied entity that the keys of the command line do not contradict."""
    if entity.join_keys != tuple(keys):
        raise UsageError(
            f"entity {entity.name!r} has join keys {', '.join(entity.join_keys)}, not {', '.join(keys)}",
            try_="name another entity with --entity",
        )
    for key, dtype in keys.items():
        declared = entity.dtypes.get(key)
        if dtype is not None and declared not in (None, dtype):
            raise UsageError(f"join key {key!r} of entity {entity.name!r} is {declared}, not {dtype}")
    return entity


def _with_types(entity: Entity, types: dict[str, DataType]) -> Entity:
    """The entity with types for some of its keys; all of them go through the constructor's checks."""
    from grange.definitions import Entity
    from grange.definitions.serialize import entity_from_data, to_data

    Entity(entity.name, types)
    return entity_from_data(entity.name, {**to_data(entity), "key_types": {k: str(t) for k, t in types.items()}})
