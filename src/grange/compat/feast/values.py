"""What a Feast repository says, as read from its text. Nothing of it was run."""

from __future__ import annotations

import ast
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Place:
    """Where something is said."""

    file: str
    """Relative to the repository."""
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(frozen=True, slots=True)
class Note:
    """Something that was not taken over, or not as it stands, and what to do about it."""

    place: Place
    problem: str
    advice: str

    def __str__(self) -> str:
        return f"{self.place}: {self.problem}\n    {self.advice}"

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"file": self.place.file, "line": self.place.line, "problem": self.problem, "advice": self.advice}


@dataclass(frozen=True, slots=True, eq=False)
class Call:
    """A call of one of Feast's classes, with its arguments read. Two calls are never the same thing."""

    kind: str
    """The class: `Entity`, `FileSource`, `FeatureView` ..."""
    arguments: tuple[Any, ...]
    named: dict[str, Any]
    place: Place

    def get(self, name: str, default: Any = None) -> Any:
        """A keyword argument."""
        value = self.named.get(name, default)
        return default if value is None else value

    @property
    def name(self) -> str:
        """Its own name, where it has one."""
        given = self.named.get("name", self.arguments[0] if self.arguments else "")
        return given if isinstance(given, str) else ""


@dataclass(frozen=True, slots=True, eq=False)
class Function:
    """A decorated function: an on-demand feature view."""

    decorator: Call
    node: ast.FunctionDef
    module: Module

    @property
    def name(self) -> str:
        """Its own name, else the function's."""
        return self.decorator.name or self.node.name

    @property
    def place(self) -> Place:
        """Where it is."""
        return self.decorator.place


@dataclass(frozen=True, slots=True)
class Projection:
    """Some features of a view, perhaps under another name and by other key columns."""

    of: Call | Function
    features: tuple[str, ...] = ()
    """All of them without."""
    alias: str = ""
    join_keys: tuple[tuple[str, str], ...] = ()
    """By the view's join key, the column that stands for it."""


@dataclass(frozen=True, slots=True)
class FeastType:
    """One of Feast's types: `Int64`, `Array(Float32)`."""

    name: str
    item: FeastType | None = None

    def __str__(self) -> str:
        return self.name if self.item is None else f"{self.name}({self.item})"


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A value that only running the code would tell."""

    reason: str
    place: Place


@dataclass(slots=True, eq=False)
class Module:
    """One Python file of the repository."""

    file: str
    dotted: str
    tree: ast.Module
    text: str
    imports: dict[str, str] = field(default_factory=dict)
    """By the name that it has here, what was imported: `feast.Entity`, `numpy`."""
    values: dict[str, Any] = field(default_factory=dict)
    """By global name, in the order of definition."""
    siblings: frozenset[str] = frozenset()
    """The dotted names of the repository's files."""


__all__ = ["Call", "FeastType", "Function", "Module", "Note", "Place", "Projection", "Unreadable"]
