"""Entries of journals: how they are chained by hashes, and how anybody can verify that none was touched.

A journal is a list of facts that only grows. Its entries are numbered 1, 2, 3 ... without gaps, and each carries the
hash of the one before it, so that a change anywhere breaks the chain from there on.

The hash of an entry is the SHA-256, in lower-case hexadecimal, of the UTF-8 bytes of one JSON object in the canonical
form of RFC 8785, which libraries of many languages write:

    {"at":"1795255200123456","data":{...},"journal":"audit","number":7,"previous_hash":"5f..."}

- `at`: microseconds since 1970-01-01 UTC (TIME-1), as decimal text, for they may be more than JSON numbers hold.
- `data`: the fact.
- `journal`: the journal's name.
- `number`: the entry's number.
- `previous_hash`: the hash of the entry before; 64 zeros for the first.

So with the entries of a journal and nothing of Grange, it can be verified. What a chain alone cannot show is that its
last entries were cut off, or that all of it was made anew: keep an `Anchor` (number and hash of the newest entry) where
whoever can write to the registry cannot, and verify against it.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import math
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from json.encoder import encode_basestring
from typing import TYPE_CHECKING, Any, Final, Literal

from grange.errors import RequestError
from grange.types.time import to_micros, to_utc

if TYPE_CHECKING:
    from grange.ports.registry import Journal

NO_HASH: Final = "0" * 64
"""What the first entry has as the hash of the one before it."""
MAX_INTEGER: Final = 2**53 - 1
"""Beyond it JSON readers do not agree on integers (RFC 8785, 3.2.2.3)."""

Fault = Literal["changed", "replaced", "removed", "inserted", "reordered", "cut_off"]
"""What is wrong at a number: `changed` (the entry is not what its hash says), `replaced` (it is what its hash says, and
not what the next one or an anchor was made after), `removed` (it is not there), `inserted` (its number is there
already), `reordered` (it comes later than it should), `cut_off` (an anchor knows it, and the journal ends before it).
"""


@dataclass(frozen=True, slots=True)
class Entry:
    """One fact of a journal."""

    number: int
    """1, 2, 3 ... in its journal."""
    at: dt.datetime
    """When it was appended, in UTC, as its writer's clock said. Numbers order entries; clocks may disagree."""
    data: dict[str, Any] = field(hash=False)
    """The fact, as JSON."""
    previous_hash: str
    hash: str

    @property
    def anchor(self) -> Anchor:
        """What to keep elsewhere, to find out later that this entry and all before it are what they were."""
        return Anchor(self.number, self.hash)


@dataclass(frozen=True, slots=True)
class Anchor:
    """The number and hash of an entry, as they were once."""

    number: int
    hash: str


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong with a journal."""

    fault: Fault
    first: int
    """The number of the entry that it is about."""
    last: int
    """The same, or of several entries side by side the last one's."""
    message: str


@dataclass(frozen=True, slots=True)
class Verification:
    """What verifying a journal found."""

    entries: int
    """How many were looked at."""
    head: Anchor | None
    """The last entry in order; None where there is none. What to keep as the next anchor, if all is well."""
    findings: tuple[Finding, ...]

    @property
    def is_intact(self) -> bool:
        """Whether nothing is wrong."""
        return not self.findings


def entry_hash(journal: str, number: int, at: dt.datetime, data: Mapping[str, Any], previous_hash: str) -> str:
    """The hash of an entry; the head of this module says of which bytes.

    Raises:
        RequestError: data that has no canonical form.
    """
    return _hash_of(journal, number, to_micros(at), canonical_json(data), previous_hash)


def _hash_of(journal: str, number: int, at: int, canonical: str, previous_hash: str) -> str:
    """The keys are in canonical order as they stand."""
    named, after = canonical_json(journal), canonical_json(previous_hash)
    text = f'{{"at":"{at}","data":{canonical},"journal":{named},"number":{number},"previous_hash":{after}}}'
    return hashlib.sha256(text.encode()).hexdigest()


def chained(
    journal: str, facts: Sequence[Mapping[str, Any]], *, after: Anchor | None, now: dt.datetime
) -> tuple[Entry, ...]:
    """The entries of facts that are appended after the newest one; None begins a journal.

    Raises:
        RequestError: a fact that has no canonical form; names where.
    """
    at = to_utc(now)
    number, previous = (0, NO_HASH) if after is None else (after.number, after.hash)
    made: list[Entry] = []
    for fact in facts:
        number += 1
        current = _hash_of(journal, number, to_micros(at), canonical_json(fact), previous)
        made.append(Entry(number, at, json.loads(json.dumps(fact)), previous, current))
        previous = current
    return tuple(made)


def every_entry(registry: Journal, journal: str, *, after: int = 0, page: int = 1000) -> Iterator[Entry]:
    """All entries of a journal in order, a page at a time: what `verify_journal` takes.

    Args:
        registry: what has the journal.
        journal: its name.
        after: from the entry after this number on.
        page: how many are asked for at a time.
    """
    while found := registry.entries(journal, after=after, limit=page):
        yield from found
        after = found[-1].number


def verify_journal(
    journal: str, entries: Iterable[Entry], *, anchor: Anchor | None = None, since: Anchor | None = None
) -> Verification:
    """Find out whether entries are those that were appended. Reads nothing but them.

    Args:
        journal: the journal's name, which is part of every hash.
        entries: all entries of it in order, or all after `since`.
        anchor: an entry as it was once, kept elsewhere. Without one a tail that was cut off, or a journal that was made
            anew from somewhere on, cannot be told from a shorter, true one.
        since: an entry that was verified before: only those after it are given.

    Raises:
        RequestError: the anchor lies before `since`, where nothing is looked at.
    """
    if anchor is not None and since is not None and anchor.number < since.number:
        raise RequestError(
            f"an anchor at entry {anchor.number} says nothing about the entries after {since.number}",
            try_="verify from the beginning, or against a newer anchor",
        )
    walk = _Walk(journal, since, anchor)
    count = 0
    for entry in entries:
        count += 1
        walk.meet(entry)
    return Verification(count, walk.last, walk.finish())


class _Walk:
    """One way through the entries of a journal."""

    def __init__(self, journal: str, since: Anchor | None, anchor: Anchor | None) -> None:
        self.last = since
        """The last entry in order."""
        self._journal = journal
        self._anchor = anchor
        self._findings: list[Finding] = []
        self._missing: list[tuple[int, int]] = []
        """First and last of the numbers that were passed over, in order: removed, unless they come later."""
        if since is not None:
            self._compare_with_anchor(since.number, since.hash)

    def meet(self, entry: Entry) -> None:
        """Look at the next entry."""
        is_itself = _is_what_its_hash_says(self._journal, entry)
        if not is_itself:
            self._add("changed", entry.number, "not what its hash says")
        expected = 1 if self.last is None else self.last.number + 1
        if entry.number < expected:
            self._meet_late(entry)
            return
        if entry.number > expected:
            self._missing.append((expected, entry.number - 1))
        elif is_itself:  # what another one says of the entry before it means nothing
            self._check_link(entry)
        self._compare_with_anchor(entry.number, entry.hash)
        self.last = entry.anchor

    def finish(self) -> tuple[Finding, ...]:
        """Everything that is wrong, by number."""
        for first, last in self._missing:
            self._add("removed", first, "not there", last=last)
        end = 0 if self.last is None else self.last.number
        if self._anchor is not None and self._anchor.number > end:
            self._add("cut_off", end + 1, f"not there: it ends at {end}", last=self._anchor.number)
        return tuple(sorted(self._findings, key=lambda finding: finding.first))

    def _meet_late(self, entry: Entry) -> None:
        number = entry.number
        place = bisect_right(self._missing, (number, math.inf)) - 1
        first, last = self._missing[place] if place >= 0 else (0, -1)
        if not first <= number <= last:
            self._add("inserted", number, "a second one of its number")
            return
        around = ((first, number - 1), (number + 1, last))
        self._missing[place : place + 1] = [(start, end) for start, end in around if start <= end]
        self._add("reordered", number, "later than it should be")

    def _check_link(self, entry: Entry) -> None:
        previous = NO_HASH if self.last is None else self.last.hash
        if entry.previous_hash == previous:
            return
        if self.last is None:
            self._add("changed", entry.number, "the first, and was made after another")
        else:
            self._add("replaced", self.last.number, f"not the one that {entry.number} was made after")

    def _compare_with_anchor(self, number: int, found: str) -> None:
        if self._anchor is not None and number == self._anchor.number and found != self._anchor.hash:
            self._add("replaced", number, "not the one that the anchor knows")

    def _add(self, fault: Fault, first: int, what: str, *, last: int | None = None) -> None:
        several = last is not None and last > first
        which = f"entries {first} to {last} of journal {self._journal!r} are" if several else None
        told = f"{which or f'entry {first} of journal {self._journal!r} is'} {what}"
        self._findings.append(Finding(fault, first, first if last is None else last, told))


def _is_what_its_hash_says(journal: str, entry: Entry) -> bool:
    try:
        found = entry_hash(journal, entry.number, entry.at, entry.data, entry.previous_hash)
    except RequestError:
        return False  # it cannot have been appended
    return entry.hash == found


def canonical_json(value: Any) -> str:
    """JSON text in the canonical form of RFC 8785: equal values, one text.

    Raises:
        RequestError: something in it is no JSON, or is none that every reader agrees on: an integer beyond
            `MAX_INTEGER`, a number that is none, text that is no Unicode, lists in lists without end. Names where.
    """
    try:
        return _canonical(value, "$")
    except RecursionError as error:
        raise RequestError("a fact of a journal has lists or mappings in each other, too many to write") from error


def _canonical(value: Any, path: str) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case str():
            return encode_basestring(_checked_text(value, path))
        case int() if -MAX_INTEGER <= value <= MAX_INTEGER:
            return str(int(value))
        case float() if math.isfinite(value):
            return _number(value)
        case list() | tuple():
            return f"[{','.join(_canonical(item, f'{path}[{place}]') for place, item in enumerate(value))}]"
        case Mapping() if all(isinstance(key, str) for key in value):
            keys = sorted((_checked_text(key, path) for key in value), key=_utf16)
            members = (f"{encode_basestring(key)}:{_canonical(value[key], f'{path}.{key}')}" for key in keys)
            return f"{{{','.join(members)}}}"
        case _:
            raise RequestError(
                f"a fact of a journal is JSON that every reader agrees on, and at {path} it is not",
                found=f"{value!r:.80} ({type(value).__name__})",
                try_="write it as text",
                details={"path": path},
            )


def _checked_text(value: str, path: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise RequestError(
            f"a fact of a journal has text that is no Unicode at {path}",
            found=ascii(value)[:80],
            details={"path": path},
        ) from error
    return value


def _utf16(key: str) -> bytes:
    """What RFC 8785 sorts by; in code-point order U+10000 would come after U+FFFF."""
    return key.encode("utf-16-be")


def _number(value: float) -> str:
    """A number as ECMAScript writes it: Python has the same digits and puts the point elsewhere."""
    mantissa, _, exponent = repr(abs(value)).partition("e")
    sign = "-" if value < 0 else ""
    power = int(exponent or 0)
    whole, _, fraction = mantissa.partition(".")
    fraction = "" if fraction == "0" else fraction
    if not exponent:
        text = f"{whole}.{fraction}" if fraction else whole
    elif 0 < power < 21:
        text = f"{whole}{fraction.ljust(power, '0')}"
    elif -7 < power < 0:
        text = f"0.{'0' * (-power - 1)}{whole}{fraction}"
    else:
        text = f"{whole}.{fraction}e{power:+d}" if fraction else f"{whole}e{power:+d}"
    return sign + text
