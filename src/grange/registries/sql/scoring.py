"""How well an entry fits a query, where, and what to show of it. Pure.

The database finds the entries and hands over the most likely ones; their order is made here, so that it does not depend
on how a database ranks. The score of a word is that of the best field that it is found in:

    weight of the field x fit of the word (itself 1, its stem 0.9, a beginning 0.8) x how much of the name it covers

and the score of an entry is the mean over the words of the query.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from grange.ports.registry import Hit, HitField
from grange.registries.sql.entries import Entry
from grange.registries.sql.words import Term, Word, identifiers, normal, tokens

EXCERPT: Final = 120
"""Characters of an excerpt, at most."""

_NAME: Final = 1.0
_FEATURE: Final = 0.8
_MEMBERS: Final = 0.6
_ABOUT: Final = 0.4
_TEXT: Final = 0.2
_GROUP: Final = 0.5
_GROUP_ABOUT: Final = 0.2
_COVERED: Final = 0.1
"""The part of a name's weight that is its share of words that the query has."""


@dataclass(frozen=True, slots=True)
class _Place:
    """Where words may be found in an entry."""

    field: HitField
    weight: float
    text: str
    tokens: frozenset[str]


def hit(entry: Entry, terms: tuple[Term, ...]) -> Hit:
    """An entry that has all the terms, as a hit. Without terms its score is 0."""
    if not terms:
        return Hit(entry.kind, entry.name, entry.feature, 0.0, "", _shortened(entry.description, 0))
    own = _places(entry, terms)
    places = own + _places_around(entry)
    scores = [_term_score(term, places) for term in terms]
    words = [word for term in terms for word in term.words]
    best = max(own, key=lambda place: place.weight * max(word.fit(place.tokens) for word in words))
    return Hit(
        kind=entry.kind,
        name=entry.name,
        feature=entry.feature,
        score=round(sum(scores) / len(scores), 6),
        field=best.field,
        # of a name there is no more to show than the hit does already
        excerpt=_shortened(entry.description, 0) if best is own[0] else _excerpt(best, words),
    )


def rank(found: Hit) -> tuple[float, bool, str, str, str]:
    """Sorts hits: best first, then whole definitions before features, then by kind, name and feature."""
    return (-found.score, bool(found.feature), found.kind, found.name, found.feature)


def _places(entry: Entry, terms: tuple[Term, ...]) -> list[_Place]:
    """The fields of an entry, its name first."""
    title: tuple[HitField, float] = ("feature", _FEATURE) if entry.feature else ("name", _NAME)
    named: tuple[tuple[HitField, float, tuple[str, ...]], ...] = (
        (*title, (entry.title,)),
        ("feature", _MEMBERS, entry.members),
        ("tag", _ABOUT, () if entry.feature else entry.tag_texts),
        ("owner", _ABOUT, () if entry.feature else (entry.owner,)),
        ("description", _TEXT, (entry.description,)),
        ("dtype", _TEXT, (entry.dtype,)),
    )
    places = [_Place(field, weight, ", ".join(texts), frozenset(tokens(texts))) for field, weight, texts in named]
    places[0] = _covered(places[0], terms)
    return places


def _places_around(entry: Entry) -> list[_Place]:
    """What a feature is not found by alone: the name of its group, then its tags and owner."""
    weights = (_GROUP, *(_GROUP_ABOUT for _ in entry.context[1:]))
    return [
        _Place("", weight, "", frozenset(tokens((text,)))) for weight, text in zip(weights, entry.context, strict=False)
    ]


def _covered(title: _Place, terms: tuple[Term, ...]) -> _Place:
    """The name with a weight that says how much of it the query has."""
    names = list(identifiers(normal(title.text)))
    words = [word for term in terms for word in term.words]
    if any(word.text == one.joined for word in words for one in names):
        return title
    have = {word.text for term in terms for word in term.parts if word.fit(title.tokens)}
    share = min(len(have) / max(sum(len(one.parts) for one in names), 1), 1.0)
    return replace(title, weight=title.weight * (1 - _COVERED * (1 - share)))


def _term_score(term: Term, places: list[_Place]) -> float:
    """Of its parts, each where it fits best; or of the whole, where that is better."""
    parts = [_word_score(word, places) for word in term.parts]
    apart = sum(parts) / len(parts) if all(parts) else 0.0
    return max(apart, 0.0 if term.joined is None else _word_score(term.joined, places))


def _word_score(word: Word, places: list[_Place]) -> float:
    return max(place.weight * word.fit(place.tokens) for place in places)


def _excerpt(place: _Place, words: list[Word]) -> str:
    """What is around the first word that was found."""
    text = normal(place.text)
    for one in identifiers(text):
        found = frozenset(one.tokens)
        if any(word.fit(found) for word in words):
            return _shortened(text, one.start)
    return _shortened(text, 0)


def _shortened(text: str, position: int) -> str:
    """One printable line of a text, around a position."""
    start = 0 if position < EXCERPT // 2 else position - EXCERPT // 3
    piece = text[start : start + EXCERPT]
    line = " ".join("".join(one if one.isprintable() else " " for one in piece).split())
    before, after = "…" if start else "", "…" if start + EXCERPT < len(text) else ""
    return before + line[: EXCERPT - len(before) - len(after)] + after
