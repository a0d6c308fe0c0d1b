"""Rows inside a query, as column lineage sees them: what each column is made of, and what decides which rows there are.

All names are looked up without regard to case, as DuckDB does, and come out as the source spells them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from grange.lineage.dependence import Dependence, Dependences
from grange.lineage.graph import ANY

NOTHING: Final[Dependences] = frozenset()
OPAQUE: Final[Dependences] = frozenset({Dependence(ANY, "transformation", "opaque")})
"""Of what cannot be looked into."""


class UnknownColumnsError(Exception):
    """Which columns there are, or what they are made of, cannot be told. Never leaves this package."""


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a source's columns."""

    columns: tuple[str, ...] = ()
    complete: bool = False
    """Whether there are no others; then they are in order, too."""
    likely: tuple[str, ...] = ()
    """Spellings of columns that there may be: those of what is made of the source."""

    def spelled(self, name: str) -> str:
        """A column as the source spells it; as what is made of it does, where that is not known; else in lower case, so
        that all who name it mean one column."""
        folded = name.casefold()
        return next((each for each in (*self.columns, *self.likely) if each.casefold() == folded), folded)


@dataclass(frozen=True, slots=True)
class Found:
    """A column that was looked for."""

    made_of: Dependences
    sure: bool = True
    """False where nothing says that there is such a column, and nothing that there is not."""


@dataclass(frozen=True, slots=True)
class Base:
    """The rows of `source`."""

    known: Known
    rows: Dependences = NOTHING

    def find(self, name: str) -> Found | None:
        """A column; None when there is none of this name."""
        column = self.known.spelled(name)
        if column in self.known.columns:
            return Found(frozenset({Dependence(column)}))
        return None if self.known.complete else Found(frozenset({Dependence(column)}), sure=False)

    def ordered(self) -> list[tuple[str, Dependences]]:
        """All columns, in order.

        Raises:
            UnknownColumnsError: not all are known.
        """
        if not self.known.complete:
            raise UnknownColumnsError
        return [(column, frozenset({Dependence(column)})) for column in self.known.columns]

    def everything(self) -> Dependences:
        """What all its columns together are made of."""
        if not self.known.complete:
            return frozenset({Dependence(ANY)})
        return frozenset(map(Dependence, self.known.columns))


@dataclass(frozen=True, slots=True)
class Star:
    """`*`: the columns of other rows, less some, maybe under other names."""

    of: Relation
    hidden: frozenset[str] = frozenset()
    """Names in lower case that it leaves out."""
    renamed: tuple[tuple[str, str], ...] = ()
    """(new name in lower case, old name)."""

    def find(self, name: str) -> Found | None:
        """A column; None when there is none of this name."""
        wanted = dict(self.renamed).get(name.casefold())
        if wanted is None and name.casefold() in self.hidden | {old.casefold() for _, old in self.renamed}:
            return None
        return self.of.find(wanted or name)

    def ordered(self) -> list[tuple[str, Dependences]]:
        """All columns, in order. Raises as `Base.ordered`."""
        names = {old.casefold(): new for new, old in self.renamed}
        return [
            (names.get(name.casefold(), name), made_of)
            for name, made_of in self.of.ordered()
            if name.casefold() not in self.hidden
        ]


@dataclass(frozen=True, slots=True)
class Named:
    """One column that a query names."""

    name: str
    made_of: Dependences


@dataclass(frozen=True, slots=True)
class Made:
    """The rows that a query makes."""

    items: tuple[Named | Star, ...]
    rows: Dependences = NOTHING
    """What has a say in which rows there are, and so in every value."""

    def find(self, name: str) -> Found | None:
        """A column; None when there is none of this name. Of several the first that is sure counts."""
        unsure: list[Found] = []
        for item in self.items:
            if isinstance(item, Named):
                found = Found(item.made_of) if item.name.casefold() == name.casefold() else None
            else:
                found = item.find(name)
            if found is not None and found.sure:
                return found
            unsure += [found] if found is not None else []
        return Found(either(item.made_of for item in unsure), sure=False) if unsure else None

    def ordered(self) -> list[tuple[str, Dependences]]:
        """All columns, in order. Raises as `Base.ordered`."""
        columns: list[tuple[str, Dependences]] = []
        for item in self.items:
            columns += [(item.name, item.made_of)] if isinstance(item, Named) else item.ordered()
        return columns

    def everything(self) -> Dependences:
        """What all its columns together are made of."""
        found: set[Dependence] = set()
        for item in self.items:
            found |= item.made_of if isinstance(item, Named) else item.of.everything()
        return frozenset(found)


@dataclass(frozen=True, slots=True)
class Call:
    """The rows that a table function makes: each of its columns is made of its arguments."""

    made_of: Dependences
    columns: tuple[str, ...] = ()
    rows: Dependences = NOTHING

    def find(self, name: str) -> Found | None:
        """A column; where the query names none, the function's own ones are not known."""
        if not self.columns:
            return Found(self.made_of, sure=False)
        return Found(self.made_of) if name.casefold() in {column.casefold() for column in self.columns} else None

    def ordered(self) -> list[tuple[str, Dependences]]:
        """The columns that are named. Raises as `Base.ordered` when none is."""
        if not self.columns:
            raise UnknownColumnsError
        return [(column, self.made_of) for column in self.columns]

    def everything(self) -> Dependences:
        """What all its columns together are made of."""
        return self.made_of


Relation = Base | Made | Call


def renamed(relation: Relation, names: Iterable[str]) -> Relation:
    """Rows with their first columns under other names: `source AS s(a, b)`.

    Raises:
        UnknownColumnsError: which columns come first is not known.
    """
    wanted = list(names)
    if not wanted:
        return relation
    if isinstance(relation, Call):
        return replace(relation, columns=tuple(wanted))
    columns = relation.ordered()
    own = wanted + [name for name, _ in columns[len(wanted) :]]
    made = (Named(name, made_of) for name, (_, made_of) in zip(own, columns, strict=False))
    return Made(tuple(made), relation.rows)


def either(options: Iterable[Dependences]) -> Dependences:
    """What a value depends on that is one of several things, when it cannot be told which."""
    different = list(dict.fromkeys(options))
    if len(different) <= 1:
        return different[0] if different else NOTHING
    return frozenset(item.through("identity", "maybe") for option in different for item in option)


@dataclass(slots=True)
class Scope:
    """The names that can be used at one place of a query."""

    names: Mapping[str, Relation] = field(default_factory=dict)
    """By name in lower case, what FROM can name."""
    outer: Scope | None = None
    tables: dict[str, Relation] = field(default_factory=dict)
    """By alias in lower case."""
    using: set[str] = field(default_factory=set)
    """Columns in lower case that joins put together."""
    aliases: dict[str, Dependences] = field(default_factory=dict)
    """By name in lower case, what the query's own columns are made of, as far as they are read."""
    self_named: set[str] = field(default_factory=set)
    """Of `aliases`, those that are made of a column of their own name: there is such a column, and it is meant."""
    windows: dict[str, Any] = field(default_factory=dict)
    """By name in lower case, the expressions of named windows."""

    def table(self, name: str) -> Relation | None:
        """The rows of an alias, here or further out."""
        if name.casefold() in self.tables:
            return self.tables[name.casefold()]
        return None if self.outer is None else self.outer.table(name)

    def column(self, name: str) -> Dependences:
        """What a column without a table's name is made of: first of the rows here, then of the query's own columns,
        then of the query around it.

        Raises:
            UnknownColumnsError: there is none.
        """
        here = [found for table in self.tables.values() if (found := table.find(name)) is not None]
        sure = [found.made_of for found in here if found.sure]
        if sure:
            return frozenset().union(*sure) if name.casefold() in self.using else sure[0]
        options = [found.made_of for found in here]
        own = self.aliases.get(name.casefold())
        if own is not None and not (options and name.casefold() in self.self_named):
            options.append(own)
        if not options or (self.outer is not None and self.outer.is_sure_of(name)):
            options += [] if self.outer is None else [self.outer.column(name)]
        if not options:
            raise UnknownColumnsError
        return either(options)

    def is_sure_of(self, name: str) -> bool:
        """Whether the query around has such a column beyond doubt."""
        found = (table.find(name) for table in self.tables.values())
        if any(each is not None and each.sure for each in found):
            return True
        return self.outer is not None and self.outer.is_sure_of(name)
