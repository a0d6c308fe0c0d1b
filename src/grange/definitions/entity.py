"""Entity: the thing features describe."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from grange.definitions.values import freeze_tags
from grange.errors import DefinitionError
from grange.types import DataType, as_dtype
from grange.types.names import check_column, check_name


@dataclass(frozen=True, slots=True, init=False)
class Entity:
    """The thing features describe, and the columns that identify one of it.

    >>> Entity("user", join_keys=["user_id"]).join_keys
    ('user_id',)
    >>> Entity("seat", join_keys={"venue": "string", "number": "int64"}).dtypes["number"]
    DataType('int64')

    Raises:
        DefinitionError: a name that is not one, a join key twice, or a type that cannot be a key (PIT-4).
    """

    name: str
    join_keys: tuple[str, ...]
    """The columns that identify one of it, in order; several make a composite key."""
    key_types: tuple[tuple[str, DataType], ...] = ()
    """Declared types of join keys; the others are inferred from the group's source, then fixed."""
    description: str = ""
    owner: str = ""
    tags: tuple[tuple[str, str], ...] = field(default=())

    def __init__(
        self,
        name: str,
        join_keys: Sequence[str] | Mapping[str, Any] | str | None = None,
        *,
        description: str = "",
        owner: str = "",
        tags: Mapping[str, str] | None = None,
    ) -> None:
        keys = name if join_keys is None else join_keys
        keys = [keys] if isinstance(keys, str) else keys
        if not isinstance(keys, Iterable):
            raise DefinitionError(
                f"entity {name!r}: join_keys must be column names",
                found=f"{keys!r} ({type(keys).__name__})",
                try_=f"gr.Entity({name!r}, join_keys=['user_id'])",
            )
        types = tuple((key, as_dtype(dtype)) for key, dtype in keys.items()) if isinstance(keys, Mapping) else ()
        what = f"entity {name!r}"
        set_ = object.__setattr__
        set_(self, "name", check_name(name, what="entity"))
        set_(self, "join_keys", tuple(check_column(key, what=what) for key in keys))
        set_(self, "key_types", types)
        set_(self, "description", description)
        set_(self, "owner", owner)
        set_(self, "tags", freeze_tags(tags, what=what))
        if not self.join_keys:
            raise DefinitionError(f"{what} needs at least one join key")
        if len(set(self.join_keys)) != len(self.join_keys):
            raise DefinitionError(f"{what} names a join key twice: {', '.join(self.join_keys)}")
        for key, dtype in types:
            if dtype.key_family is None:
                raise DefinitionError(
                    f"{what}: join key {key!r} cannot be of type {dtype}, which has no dependable equality",
                    try_="use an integer, string, uuid, boolean, date, datetime, binary or decimal key",
                )

    @property
    def dtypes(self) -> dict[str, DataType]:
        """Declared types by join key."""
        return dict(self.key_types)
