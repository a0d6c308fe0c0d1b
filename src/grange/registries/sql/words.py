"""Words: what texts and queries are made of, the same for every database. Pure.

A text is a row of identifiers; an identifier is taken apart at underscores and humps, and kept whole as well:

    "userSpend of customers"      user spend userspend of customer(s)

Each database indexes these tokens as they are, so a hit does not depend on how a database takes text apart.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import Final

MAX_TOKEN: Final = 48
"""Characters of a token that count."""
MAX_INDEXED: Final = 200_000
"""Bytes of an entry's field that are indexed, with what a token costs beside its characters: a tsvector holds four
fields and a megabyte."""
_TOKEN_COST: Final = 8
MAX_TERMS: Final = 16
"""Different terms of a query that count; the last ones written are left out."""
MAX_QUERY: Final = 1_000
"""Characters of a query that are looked at."""

_IDENTIFIER: Final = re.compile(r"[^\W_]+(?:_+[^\W_]+)*")
_UNSPACED: Final = "\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_SPACED_OR_SINGLE: Final = re.compile(f"[{_UNSPACED}]|[^\\W_{_UNSPACED}]+")
"""Chinese and Japanese write no spaces: each character is a word."""
_STOP: Final = frozenset(
    ("a", "an", "and", "are", "as", "at", "by", "for", "from", "in", "is", "it", "of", "on", "or", "that", "the", "to")
) | {"what", "which", "with"}
"""Words that a query is better off without, unless it has no others."""


@dataclass(frozen=True, slots=True)
class Identifier:
    """One identifier of a text."""

    start: int
    end: int
    parts: tuple[str, ...]
    """Its words: folded to lower case without accents, and in ASCII (see `_ascii`)."""

    @property
    def joined(self) -> str | None:
        """All its words as one, when there are several."""
        return "".join(self.parts)[:MAX_TOKEN] if len(self.parts) > 1 else None

    @property
    def tokens(self) -> tuple[str, ...]:
        """Everything that it is found by: its words, their stems, and all of them as one."""
        return (*self.parts, *map(stem, self.parts), *filter(None, [self.joined]))


@dataclass(frozen=True, slots=True)
class Word:
    """A word that is looked for."""

    text: str
    prefix: bool
    """Whether it may be unfinished."""

    @property
    def stem(self) -> str:
        """The word without its ending."""
        return stem(self.text)

    def fit(self, tokens: frozenset[str]) -> float:
        """How well it fits the best of the tokens: 1 for the word itself, 0 for none."""
        if self.text in tokens:
            return 1.0
        if self.stem in tokens:
            return 0.9
        return 0.8 if self.prefix and any(token.startswith(self.text) for token in tokens) else 0.0


@dataclass(frozen=True, slots=True)
class Term:
    """One identifier of a query: all its parts, or the whole written as one, must be found."""

    parts: tuple[Word, ...]
    joined: Word | None

    @property
    def words(self) -> tuple[Word, ...]:
        """Its parts and its whole."""
        return (*self.parts, *filter(None, [self.joined]))


def normal(text: str) -> str:
    """The text that positions of `identifiers` are about: accents written one way."""
    return unicodedata.normalize("NFC", text)


def identifiers(text: str) -> Iterator[Identifier]:
    """The identifiers of a `normal` text, in order."""
    for found in _IDENTIFIER.finditer(text):
        parts = _parts(found[0])
        if parts:
            yield Identifier(found.start(), found.end(), parts)


def tokens(texts: Iterable[str]) -> tuple[str, ...]:
    """The different tokens of texts, in the order of their first use, up to `MAX_INDEXED`."""
    found: dict[str, None] = {}
    room = MAX_INDEXED
    for token in (token for text in texts for one in identifiers(normal(text)) for token in one.tokens):
        if token not in found:
            room -= len(token) + _TOKEN_COST
            if room < 0:
                break
            found[token] = None
    return tuple(found)


def parse_query(query: str) -> tuple[Term, ...]:
    """The terms of a query. The last word may be unfinished. None for a query without words."""
    found = list(identifiers(normal(query[:MAX_QUERY])))
    telling = [one for one in found if len(one.parts) > 1 or one.parts[0] not in _STOP] or found
    terms = (
        Term(
            parts=tuple(
                Word(part, prefix=one is telling[-1] and position == len(one.parts) - 1)
                for position, part in enumerate(one.parts)
            ),
            joined=None if one.joined is None else Word(one.joined, prefix=one is telling[-1]),
        )
        for one in telling
    )
    return tuple(islice(dict.fromkeys(terms), MAX_TERMS))


@lru_cache(maxsize=16_384)
def _parts(identifier: str) -> tuple[str, ...]:
    pieces = (hump for piece in identifier.split("_") for hump in _humps(piece))
    words = (word for piece in pieces for word in _SPACED_OR_SINGLE.findall(_fold(piece)))
    return tuple(_ascii(word)[:MAX_TOKEN] for word in words)


def _humps(piece: str) -> Iterator[str]:
    """`userHTTPSpend` is `user`, `HTTP`, `Spend`."""
    start = 0
    for here in range(1, len(piece)):
        rises = piece[here].isupper() and piece[here - 1].islower()
        falls = piece[here].isupper() and piece[here + 1 : here + 2].islower()
        if rises or falls:
            yield piece[start:here]
            start = here
    yield piece[start:]


def _fold(piece: str) -> str:
    """Lower case, compatible characters as one, no accents."""
    apart = unicodedata.normalize("NFKD", piece.casefold())
    return "".join(character for character in apart if not unicodedata.combining(character)).casefold()


def _ascii(word: str) -> str:
    """A word in ASCII, that a database of any encoding holds and no tokenizer takes apart. Prefixes stay prefixes."""
    if word.isascii():
        return word
    return "".join(one if one.isascii() else f"_{ord(one):x}_" for one in word)


# --- word endings ----------------------------------------------------------------------------------------------


@lru_cache(maxsize=16_384)
def stem(word: str) -> str:
    """An English word without the endings of plurals and verbs, after Porter's steps 1 and 5; other words as they are.

    M. F. Porter, An algorithm for suffix stripping, Program 14(3), 1980. What changes a word's kind (`-ment`,
    `-ation`) stays: in names of features it tells things apart.

    >>> [stem(word) for word in ("payments", "purchasing", "purchases", "salaries", "status")]
    ['payment', 'purchas', 'purchas', 'salari', 'status']
    """
    if len(word) < 3 or not (word.isascii() and word.isalpha()):
        return word
    return _without_e(_with_i(_without_verb(_without_plural(word))))


def _without_plural(word: str) -> str:
    if word.endswith("sses") or (word.endswith("ies") and len(word) > 4):
        return word[:-2]
    if word.endswith("s") and not word.endswith(("ss", "us", "is")):
        return word[:-1]
    return word


def _without_verb(word: str) -> str:
    if word.endswith("eed"):
        return word[:-1] if _measure(word[:-3]) > 0 else word
    for ending in ("ed", "ing"):
        rest = word.removesuffix(ending)
        if rest != word and "v" in _shape(rest):
            return _mended(rest)
    return word


def _mended(rest: str) -> str:
    """What a verb is without -ed or -ing: `rat` is `rate`, `runn` is `run`."""
    if rest.endswith(("at", "bl", "iz")):
        return rest + "e"
    if _is_doubled(rest) and rest[-1] not in "lsz" and len(rest) > 3:
        return rest[:-1]
    return rest + "e" if _measure(rest) == 1 and _is_short(rest) else rest


def _with_i(word: str) -> str:
    return word[:-1] + "i" if word.endswith("y") and len(word) > 2 and _shape(word)[-2] == "c" else word


def _without_e(word: str) -> str:
    rest = word.removesuffix("e")
    if rest != word and (_measure(rest) > 1 or (_measure(rest) == 1 and not _is_short(rest))):
        word = rest
    return word[:-1] if word.endswith("ll") and _measure(word) > 1 else word


def _shape(word: str) -> str:
    """A letter per letter: v for vowels, c for consonants; y is a vowel after a consonant."""
    shape = ""
    for letter in word:
        is_vowel = letter in "aeiou" or (letter == "y" and shape.endswith("c"))
        shape += "v" if is_vowel else "c"
    return shape


def _measure(word: str) -> int:
    """How often vowels are followed by consonants."""
    return len(re.findall("v+c+", _shape(word)))


def _is_doubled(word: str) -> bool:
    return len(word) > 1 and word[-1] == word[-2] and _shape(word)[-1] == "c"


def _is_short(word: str) -> bool:
    return _shape(word).endswith("cvc") and word[-1] not in "wxy"
