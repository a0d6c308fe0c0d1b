"""The small languages of windowed features, as pure functions from text to aggregations.

    aggregate   amount:sum,quantile(0.95):7d,30d[:closed=left][:every=1d][:offset=6h][:filter=SQL][:name=TEXT]
    lag         load:1h,24h[:tolerance=59m][:filter=SQL][:name=TEXT]
    rollup      load:mean,max:1h[:offset=6h][:filter=SQL][:name=TEXT]
    session     amount:sum,count:30m[:closed=left][:filter=SQL][:name=TEXT]
    calendar    hour,weekday[:timezone=Europe/Berlin][:country=DE][:prefix=TEXT]

Commas and colons in parentheses or quotes do not separate. What cannot be read is a `UsageError` that repeats the
grammar; what a function, a length or an option is, is said by `grange.definitions.aggregations`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from grange.definitions.aggregations import Aggregation, Calendar, Lag, Rolling, Rollup, Session
from grange.errors import DefinitionError, UsageError, closest_names


@dataclass(frozen=True, slots=True)
class Grammar:
    """How one kind of aggregation is written."""

    option: str
    """Its command-line option, without dashes."""
    text: str
    """The grammar, as errors and the reference repeat it."""
    parts: int
    """How many parts there are before the options."""
    options: tuple[str, ...]
    """The names of its options."""


AGGREGATE: Final = Grammar(
    "aggregate",
    '"column:function,...:window,...[:closed=|every=|offset=|filter=|name=]..."',
    3,
    ("closed", "every", "offset", "filter", "name"),
)
LAG: Final = Grammar("lag", '"column:length,...[:tolerance=|filter=|name=]..."', 2, ("tolerance", "filter", "name"))
ROLLUP: Final = Grammar(
    "rollup", '"column:function,...:length,...[:offset=|filter=|name=]..."', 3, ("offset", "filter", "name")
)
SESSION: Final = Grammar(
    "session", '"column:function,...:gap,...[:closed=|filter=|name=]..."', 3, ("closed", "filter", "name")
)
CALENDAR: Final = Grammar(
    "calendar", '"field,...[:timezone=|country=|prefix=]..."', 1, ("timezone", "country", "prefix")
)
GRAMMARS: Final = (AGGREGATE, LAG, ROLLUP, SESSION, CALENDAR)


def parse_aggregate(text: str) -> Rolling:
    """`amount:sum,mean:7d,30d:closed=left`: functions of a column, or of rows (`*`), in windows.

    Raises:
        UsageError: not this grammar, or a function, window or option that is none, with the closest.
    """
    with _reading(AGGREGATE, text):
        (column, functions, windows), options = _parts(AGGREGATE, text)
        return Rolling({_plain(column): _items(functions)}, _items(windows), **options)


def parse_lag(text: str) -> Lag:
    """`load:1h,24h:tolerance=59m`: what a column was some time ago. Raises as `parse_aggregate`."""
    with _reading(LAG, text):
        (columns, lags), options = _parts(LAG, text)
        return Lag([_plain(column) for column in _items(columns)], _items(lags), **options)


def parse_rollup(text: str) -> list[Rollup]:
    """`load:mean,max:1h,1d`: functions of whole intervals, a `Rollup` per length. Raises as `parse_aggregate`."""
    with _reading(ROLLUP, text):
        (column, functions, lengths), options = _parts(ROLLUP, text)
        return [Rollup({_plain(column): _items(functions)}, length, **options) for length in _items(lengths)]


def parse_session(text: str) -> list[Session]:
    """`amount:sum,count:30m`: functions of the session that is going on, one `Session` per gap.

    Raises as `parse_aggregate`.
    """
    with _reading(SESSION, text):
        (column, functions, gaps), options = _parts(SESSION, text)
        return [Session({_plain(column): _items(functions)}, gap, **options) for gap in _items(gaps)]


def parse_calendar(text: str) -> Calendar:
    """`hour,holiday:timezone=Europe/Berlin:country=DE`: features of the moment. Raises as `parse_aggregate`."""
    with _reading(CALENDAR, text):
        (fields,), options = _parts(CALENDAR, text)
        return Calendar(_items(fields), **options)


def parse_aggregations(
    *,
    aggregates: Sequence[str] = (),
    lags: Sequence[str] = (),
    rollups: Sequence[str] = (),
    sessions: Sequence[str] = (),
    calendars: Sequence[str] = (),
) -> list[Aggregation]:
    """All that a command line names, kind by kind."""
    return [
        *(parse_aggregate(text) for text in aggregates),
        *(parse_lag(text) for text in lags),
        *(item for text in rollups for item in parse_rollup(text)),
        *(item for text in sessions for item in parse_session(text)),
        *(parse_calendar(text) for text in calendars),
    ]


def _parts(grammar: Grammar, text: str) -> tuple[list[str], dict[str, Any]]:
    """The parts before the options, and the options by name."""
    found = _split(text, ":")
    head, tail = found[: grammar.parts], found[grammar.parts :]
    if len(head) < grammar.parts or not all(head):
        missing = "an empty part" if not all(head) else f"{len(head)} of {grammar.parts} parts"
        raise UsageError(f"it needs {_needs(grammar)}", found=missing, try_=f"write {grammar.text}")
    options: dict[str, Any] = {}
    for item in tail:
        name, equals, value = (part.strip() for part in item.partition("="))
        if not equals or name not in grammar.options:
            raise UsageError(
                f"{item!r} is no option",
                found=f"options: {', '.join(f'{option}=' for option in grammar.options)}",
                closest=[f"{near}=" for near in closest_names(name, grammar.options)],
                try_="put a value with a colon into parentheses or quotes",
            )
        if name in options:
            raise UsageError(f"{name}= is given twice")
        options[name] = _plain(value)
    return head, options


def _needs(grammar: Grammar) -> str:
    """`column, functions and windows`, read off the grammar."""
    names = [part.replace(",...", "s") for part in grammar.text.strip('"').partition("[")[0].split(":")]
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def _items(text: str) -> list[str]:
    items = _split(text, ",")
    if not all(items):
        raise UsageError(f"{text!r} has an empty item")
    return items


def _split(text: str, separator: str) -> list[str]:
    """Items between separators that are outside of parentheses and quotes."""
    items, depth, quote, start = [], 0, "", 0
    for index, character in enumerate(text):
        if quote:
            quote = "" if character == quote else quote
        elif character in "\"'":
            quote = character
        elif character in "()":
            depth += 1 if character == "(" else -1
        elif character == separator and depth <= 0:
            items.append(text[start:index])
            start = index + 1
    if quote or depth > 0:
        raise UsageError("a quote is not closed" if quote else "a parenthesis is not closed")
    return [item.strip() for item in [*items, text[start:]]]


def _plain(text: str) -> str:
    """Text without the double quotes around all of it."""
    quoted = re.fullmatch(r'"((?:[^"]|"")*)"', text.strip())
    return quoted[1].replace('""', '"') if quoted else text.strip()


_CLASS: Final = re.compile(r"(?:Rolling|Lag|Rollup|Session|Calendar)\b(?: of '[^']*')?:? ?")
"""How the definitions' own messages begin; on the command line the text itself stands there."""


@contextmanager
def _reading(grammar: Grammar, text: str) -> Iterator[None]:
    """Errors say which text was read, in the words of the command line."""
    try:
        yield
    except (UsageError, DefinitionError) as error:
        python = error.try_ is not None and "gr." in error.try_
        raise UsageError(
            f"{grammar.option} {text!r}: {_CLASS.sub('', error.message, count=1)}",
            found=error.found,
            closest=error.closest,
            try_=f"write {grammar.text}" if error.try_ is None or python else error.try_,
        ) from error
