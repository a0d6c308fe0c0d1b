"""The full-text search of each database, over tokens that are made in `words.py`.

Both keep five texts of an entry: its title, its members, what is about it, its description, and its context. An entry
is found when all terms are in it, at least one word of them outside its context.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from sqlalchemy import Connection, Select, column, delete, insert, literal_column, table
from sqlalchemy.dialects.postgresql import ARRAY, REAL, TSQUERY, TSVECTOR
from sqlalchemy.sql import cast, func

from grange.registries.sql.entries import Entry
from grange.registries.sql.tables import SEARCH_ENTRIES, SEARCH_WORDS
from grange.registries.sql.words import Term, Word, tokens

_OWN: Final = ("title", "members", "about", "description")
_WEIGHTS: Final = (10.0, 5.0, 3.0, 1.0)


class FullText(ABC):
    """What a database's full-text search must do."""

    @abstractmethod
    def add(self, connection: Connection, entries: Sequence[tuple[int, Entry]]) -> None:
        """Index entries, by their number. At least one."""

    @abstractmethod
    def remove(self, connection: Connection, numbers: Select[int]) -> None:
        """Forget the entries of these numbers."""

    @abstractmethod
    def narrowed(self, query: Select[str, str, str], terms: Sequence[Term]) -> Select[str, str, str]:
        """A query over `search_entries`, of those that have the terms alone, the most likely ones first."""


class Fts5(FullText):
    """SQLite's FTS5, ranked by bm25. Its tokenizer cuts at the spaces between tokens alone."""

    _TABLE: Final = table(SEARCH_WORDS, column("rowid"), *map(column, (*_OWN, "context")))
    _RANK: Final = f"bm25({SEARCH_WORDS}, {', '.join(map(str, _WEIGHTS))}, 0.1)"

    def add(self, connection: Connection, entries: Sequence[tuple[int, Entry]]) -> None:
        """As `FullText.add`."""
        rows = [
            {"rowid": number, **{field: " ".join(tokens(texts)) for field, texts in _texts(entry).items()}}
            for number, entry in entries
        ]
        connection.execute(insert(self._TABLE), rows)

    def remove(self, connection: Connection, numbers: Select[int]) -> None:
        """As `FullText.remove`."""
        connection.execute(delete(self._TABLE).where(self._TABLE.c.rowid.in_(numbers)))

    def narrowed(self, query: Select[str, str, str], terms: Sequence[Term]) -> Select[str, str, str]:
        """As `FullText.narrowed`."""
        every = _all(terms, self._word, " AND ", " OR ")
        own = _any(terms, self._word, " OR ")
        return (
            query.join(self._TABLE, self._TABLE.c.rowid == SEARCH_ENTRIES.c.id)
            .where(literal_column(SEARCH_WORDS).op("MATCH")(f"({every}) AND {{{' '.join(_OWN)}}} : ({own})"))
            .order_by(literal_column(self._RANK))
        )

    @staticmethod
    def _word(word: Word) -> str:
        return f'("{word.text}"* OR "{word.stem}")' if word.prefix else f'"{word.stem}"'


class Tsvector(FullText):
    """PostgreSQL's tsvectors, made of tokens as they are, with a GIN index over an entry's own; ranked by ts_rank."""

    _TABLE: Final = table(SEARCH_WORDS, column("entry"), column("own", TSVECTOR()), column("context", TSVECTOR()))
    _WEIGHT: Final = dict(zip(_OWN, "ABCD", strict=True))
    _RANK_WEIGHTS: Final = [weight / max(_WEIGHTS) for weight in reversed(_WEIGHTS)]

    def add(self, connection: Connection, entries: Sequence[tuple[int, Entry]]) -> None:
        """As `FullText.add`."""
        rows = []
        for number, entry in entries:
            texts = _texts(entry)
            rows.append({"entry": number, "own": self._own(texts), "context": " ".join(tokens(texts["context"]))})
        connection.execute(insert(self._TABLE), rows)

    def remove(self, connection: Connection, numbers: Select[int]) -> None:
        """As `FullText.remove`."""
        connection.execute(delete(self._TABLE).where(self._TABLE.c.entry.in_(numbers)))

    def narrowed(self, query: Select[str, str, str], terms: Sequence[Term]) -> Select[str, str, str]:
        """As `FullText.narrowed`."""
        columns = self._TABLE.c
        every = cast(_all(terms, self._word, " & ", " | "), TSQUERY)
        own = cast(_any(terms, self._word, " | "), TSQUERY)
        return (
            query.join(self._TABLE, columns.entry == SEARCH_ENTRIES.c.id)
            .where(columns.own.op("@@")(own), columns.own.concat(columns.context).op("@@")(every))
            .order_by(func.ts_rank(cast(self._RANK_WEIGHTS, ARRAY(REAL)), columns.own, own).desc())
        )

    def _own(self, texts: dict[str, tuple[str, ...]]) -> str:
        """The text of a tsvector: each token once, with a position for each field that it is in."""
        positions: dict[str, list[str]] = {}
        for position, (field, weight) in enumerate(self._WEIGHT.items(), start=1):
            for token in tokens(texts[field]):
                positions.setdefault(token, []).append(f"{position}{weight}")
        return " ".join(f"{token}:{','.join(found)}" for token, found in positions.items())

    @staticmethod
    def _word(word: Word) -> str:
        return f"({word.text}:* | {word.stem})" if word.prefix else word.stem


FULL_TEXT: Final[dict[str, FullText]] = {"sqlite": Fts5(), "postgresql": Tsvector()}
"""By SQLAlchemy's name of the dialect."""


def _texts(entry: Entry) -> dict[str, tuple[str, ...]]:
    return {
        "title": (entry.title,),
        "members": entry.members,
        "about": entry.about,
        "description": (entry.description, entry.dtype),
        "context": entry.context,
    }


def _all(terms: Sequence[Term], word: Callable[[Word], str], both: str, either: str) -> str:
    """An expression that holds where each term is: all its parts, or the whole as one word."""

    def one(term: Term) -> str:
        parts = f"({both.join(map(word, term.parts))})"
        return parts if term.joined is None else f"({parts}{either}{word(term.joined)})"

    return both.join(map(one, terms))


def _any(terms: Iterable[Term], word: Callable[[Word], str], either: str) -> str:
    """An expression that holds where any word of the terms is."""
    return either.join(dict.fromkeys(word(one) for term in terms for one in term.words))
