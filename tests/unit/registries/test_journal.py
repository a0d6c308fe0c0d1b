"""How entries are chained, and that nothing which is done to them behind Grange's back goes unseen."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grange.errors import RequestError
from grange.ports.journal import NO_HASH, Anchor, Entry, canonical_json, chained, verify_journal

NOW = dt.datetime(2026, 11, 21, 10, 0, 0, 123456, tzinfo=dt.UTC)
NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
NUMBERS = st.integers(-(2**53) + 1, 2**53 - 1) | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | NAMES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=8,
)


def journal(length: int) -> list[Entry]:
    """A journal, appended in two steps."""
    first = chained("audit", [{"n": n} for n in range(length // 2)], after=None, now=NOW)
    after = first[-1].anchor if first else None
    rest = [{"n": n} for n in range(length // 2, length)]
    return [*first, *chained("audit", rest, after=after, now=NOW + dt.timedelta(seconds=1))]


def faults(entries: list[Entry], **known: Any) -> list[tuple[str, int, int]]:
    """What is wrong: (fault, first, last)."""
    found = verify_journal("audit", entries, **known)
    assert found.entries == len(entries)
    return [(finding.fault, finding.first, finding.last) for finding in found.findings]


# --- the canonical form --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"b": [1, 2.0, None, True], "a": {}}, '{"a":{},"b":[1,2,null,true]}'),
        # RFC 8785, 3.2.3: by UTF-16 code units, so that what is written with two of them comes before U+FFFD
        ({"\ufffd": 1, "\U0001f680": 2, "é": 3, "a": 4, "": 5}, '{"":5,"a":4,"é":3,"\U0001f680":2,"\ufffd":1}'),
        ('"\\/\b\f\n\r\t\x00\x1f\x7f\u2028é', '"\\"\\\\/\\b\\f\\n\\r\\t\\u0000\\u001f\x7f\u2028é"'),
        ((1, (2,)), "[1,[2]]"),
        (2**53 - 1, "9007199254740991"),
    ],
)
def test_the_canonical_form(value: Any, text: str) -> None:
    assert canonical_json(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        *((0.0, "0"), (-0.0, "0"), (1.0, "1"), (-1.5, "-1.5"), (0.1, "0.1"), (4.35, "4.35")),
        *((1e16, "10000000000000000"), (1e20, "100000000000000000000"), (1e21, "1e+21"), (1.5e22, "1.5e+22")),
        *((123456789012345680000.0, "123456789012345680000"), (999999999999999900000.0, "999999999999999900000")),
        *((1e-6, "0.000001"), (1.5e-6, "0.0000015"), (1e-7, "1e-7"), (-1.5e-7, "-1.5e-7"), (0.00012, "0.00012")),
        (5e-324, "5e-324"),
        *((1.7976931348623157e308, "1.7976931348623157e+308"), (333333333.3333333, "333333333.3333333")),
    ],
)  # fmt: skip
def test_numbers_are_written_as_ecmascript_writes_them(value: float, text: str) -> None:
    assert canonical_json(value) == text


@given(VALUES)
def test_the_canonical_form_is_read_as_the_same_value(value: Any) -> None:
    def number(text: str) -> float:
        """As readers do that have one kind of number."""
        return int(text) if abs(int(text)) < 2**53 else float(text)

    text = canonical_json(value)
    read = json.loads(text, parse_int=number)
    assert read == value
    assert canonical_json(read) == text


@pytest.mark.parametrize("value", [2**53, -(2**53), float("nan"), float("-inf"), b"", {1}, {1: 2}, "\ud800", NOW])
def test_what_readers_do_not_agree_on_is_refused_and_named(value: Any) -> None:
    with pytest.raises(RequestError) as caught:
        canonical_json({"a": [0, value]})
    assert caught.value.details["path"] == "$.a[1]"


def test_the_hash_of_an_entry_is_of_the_documented_bytes() -> None:
    """With nothing but SHA-256: who verifies a journal elsewhere depends on every byte."""
    (first, second) = chained("audit", [{"who": "é", "n": 1.0}, {}], after=None, now=NOW)
    zeros = "0" * 64
    text = (
        '{"at":"1795255200123456","data":{"n":1,"who":"é"},"journal":"audit","number":1,'
        f'"previous_hash":"{zeros}"}}'
    )  # fmt: skip
    assert first.hash == hashlib.sha256(text.encode()).hexdigest()
    assert first.hash == "d9dc14b9bfbb6bab3ec07fb517df6c3a943c463a0e2480092c865f8246607ee9"
    text = f'{{"at":"1795255200123456","data":{{}},"journal":"audit","number":2,"previous_hash":"{first.hash}"}}'
    assert second.hash == hashlib.sha256(text.encode()).hexdigest()


# --- verifying -----------------------------------------------------------------------------------------------


def test_what_nobody_touched_is_intact() -> None:
    entries = journal(10)

    assert faults(entries) == []
    assert faults(entries, anchor=entries[-1].anchor) == []
    assert faults(entries, anchor=entries[3].anchor) == []
    assert faults([]) == []
    found = verify_journal("audit", entries)
    assert (found.entries, found.head, found.is_intact) == (10, entries[-1].anchor, True)
    assert verify_journal("audit", []).head is None


def test_a_part_is_verified_from_what_was_verified_before() -> None:
    entries = journal(10)
    since = entries[3].anchor

    assert faults(entries[4:], since=since) == []
    assert faults(entries[4:], since=since, anchor=entries[9].anchor) == []
    assert faults(entries[4:], since=since, anchor=since) == []
    assert faults([], since=since, anchor=since) == []
    assert faults([], since=since, anchor=entries[5].anchor) == [("cut_off", 5, 6)]
    assert faults(entries[5:], since=since) == [("removed", 5, 5)]
    assert faults(entries[4:], since=Anchor(4, "f" * 64)) == [("replaced", 4, 4)]
    with pytest.raises(RequestError):
        verify_journal("audit", entries[4:], since=since, anchor=entries[0].anchor)


@pytest.mark.parametrize(
    "change",
    [
        {"data": {"n": 99}},
        {"data": {"n": 4, "more": None}},
        {"data": {}},
        {"at": NOW + dt.timedelta(microseconds=1)},
        {"previous_hash": NO_HASH},
        {"hash": "0" * 64},
    ],
)
def test_a_changed_entry_is_found(change: dict[str, Any]) -> None:
    entries = journal(10)
    entries[4] = replace(entries[4], **change)

    assert ("changed", 5, 5) in faults(entries)
    assert {first for _, first, _ in faults(entries)} <= {4, 5}


def test_entries_of_another_journal_are_found() -> None:
    assert faults(list(chained("other", [{"n": 1}], after=None, now=NOW))) == [("changed", 1, 1)]


def test_a_changed_entry_with_a_new_hash_is_found() -> None:
    entries = journal(10)
    (entries[4],) = chained("audit", [{"n": 99}], after=entries[3].anchor, now=NOW)

    assert faults(entries) == [("replaced", 5, 5)]


def test_a_journal_that_was_made_anew_from_somewhere_on_is_found_by_an_anchor() -> None:
    entries = journal(10)
    anew = [*entries[:4], *chained("audit", [{"n": 99}] * 6, after=entries[3].anchor, now=NOW)]

    assert faults(anew) == []
    assert faults(anew, anchor=entries[9].anchor) == [("replaced", 10, 10)]
    assert faults(anew, anchor=entries[6].anchor) == [("replaced", 7, 7)]
    assert faults(anew, anchor=entries[3].anchor) == []


def test_removed_entries_are_found() -> None:
    entries = journal(10)

    assert faults(entries[:3] + entries[4:]) == [("removed", 4, 4)]
    assert faults(entries[2:]) == [("removed", 1, 2)]
    assert faults(entries[:3] + entries[5:7] + entries[9:]) == [("removed", 4, 5), ("removed", 8, 9)]


def test_removed_entries_whose_numbers_others_took_are_found() -> None:
    entries = journal(10)
    closed = [*entries[:3], *(replace(entry, number=entry.number - 1) for entry in entries[4:])]

    assert set(faults(closed)) >= {("changed", number, number) for number in range(4, 10)}


def test_a_tail_that_was_cut_off_is_found_by_an_anchor() -> None:
    entries = journal(10)

    assert faults(entries[:7]) == []
    assert faults(entries[:7], anchor=entries[9].anchor) == [("cut_off", 8, 10)]
    assert faults([], anchor=entries[1].anchor) == [("cut_off", 1, 2)]


def test_inserted_entries_are_found() -> None:
    entries = journal(10)
    (second_fifth,) = chained("audit", [{"n": 99}], after=entries[3].anchor, now=NOW)

    assert faults([*entries[:5], second_fifth, *entries[5:]]) == [("inserted", 5, 5)]
    assert faults([*entries, entries[2]]) == [("inserted", 3, 3)]
    shifted = [*entries[:4], second_fifth, *(replace(entry, number=entry.number + 1) for entry in entries[4:])]
    assert ("changed", 6, 6) in faults(shifted)


def test_reordered_entries_are_found() -> None:
    entries = journal(10)
    swapped = [*entries[:3], entries[4], entries[3], *entries[5:]]

    assert faults(swapped) == [("reordered", 4, 4)]
    late = [*entries[:2], *entries[6:], *entries[2:6]]
    assert faults(late) == [("reordered", number, number) for number in range(3, 7)]
    contents = [*entries[:3], replace(entries[4], number=4), replace(entries[3], number=5), *entries[5:]]
    assert {("changed", 4, 4), ("changed", 5, 5)} <= set(faults(contents))


def test_a_number_beyond_all_bounds_costs_nothing() -> None:
    entries = journal(3)
    entries[2] = replace(entries[2], number=2**62)

    assert faults(entries) == [("removed", 3, 2**62 - 1), ("changed", 2**62, 2**62)]


@pytest.mark.parametrize("change", [{"data": {"n": 2**53}}, {"data": {"n": "\ud800"}}, {"previous_hash": "\ud800"}])
def test_what_cannot_have_been_appended_is_found(change: dict[str, Any]) -> None:
    entries = journal(3)
    entries[1] = replace(entries[1], **change)

    assert faults(entries) == [("changed", 2, 2)]


def test_a_fact_that_is_nested_without_end_is_refused() -> None:
    endless: list[Any] = []
    endless.append(endless)

    with pytest.raises(RequestError, match="too many"):
        canonical_json({"n": endless})


def tamper(entries: list[Entry], data: st.DataObject) -> list[Entry]:
    """The entries after one step of somebody who can write where they are kept."""
    place = data.draw(st.integers(0, len(entries) - 1))
    other = data.draw(st.integers(0, len(entries) - 1))
    match data.draw(st.sampled_from(["remove", "repeat", "move", "change", "cut", "renumber", "make anew"])):
        case "remove":
            return [*entries[:place], *entries[place + 1 :]] if len(entries) > 1 else entries
        case "repeat":
            return [*entries[:place], entries[other], *entries[place:]]
        case "move":
            rest = [*entries[:other], *entries[other + 1 :]]
            return [*rest[:place], entries[other], *rest[place:]]
        case "change":
            changed = replace(entries[place], data={"n": data.draw(st.integers(0, 9))})
            return [*entries[:place], changed, *entries[place + 1 :]]
        case "cut":
            return entries[: place + 1]
        case "renumber":
            return [replace(entry, number=number) for number, entry in enumerate(entries, start=1)]
        case _:
            kept = entries[:place]
            facts = [entry.data for entry in entries[place:]]
            return [*kept, *chained("audit", facts, after=kept[-1].anchor if kept else None, now=entries[place].at)]


def is_appended(added: list[Entry], last: Entry) -> bool:
    """Whether entries are what appending their facts after the last one makes."""
    for entry in added:
        if (entry,) != chained("audit", [entry.data], after=last.anchor, now=entry.at):
            return False
        last = entry
    return True


@given(st.data(), st.integers(1, 8))
def test_no_other_list_of_entries_passes_for_the_journal(data: st.DataObject, length: int) -> None:
    """With an anchor at its end only the journal itself is intact, and what was rightly appended to it since."""
    entries = journal(length)
    tampered = entries
    for _ in range(data.draw(st.integers(0, 4))):
        tampered = tamper(tampered, data)

    found = verify_journal("audit", tampered, anchor=entries[-1].anchor)
    assert found.is_intact == (tampered[:length] == entries and is_appended(tampered[length:], entries[-1]))
