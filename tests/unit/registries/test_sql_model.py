"""The SQL registry against simple models: commits and documents against a dict, search against the words of entries."""

from __future__ import annotations

import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any, get_args

from hypothesis import given, settings
from hypothesis import strategies as st

from grange.errors import ConflictError, RequestError
from grange.ports.registry import Change, Hit, Kind, Record, RegistryState
from grange.registries.sql.backend import SqlRegistry
from grange.registries.sql.entries import index_entries
from grange.registries.sql.scoring import hit, rank
from grange.registries.sql.words import parse_query, tokens
from grange.testing.registry import NOW, created, record

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


@st.composite
def changes(draw: st.DrawFn) -> Change:
    kind, name = draw(st.sampled_from(get_args(Kind))), draw(st.sampled_from(["a", "b", "B"]))
    action = draw(st.sampled_from(["create", "update", "delete"]))
    if action == "delete":
        return Change("delete", kind, name, None)
    definition = draw(st.dictionaries(st.text(max_size=4), JSON, max_size=3))
    return Change(action, kind, name, Record(kind, name, definition, draw(st.text("0123456789abcdef", max_size=4))))


COMMITS = st.lists(st.tuples(st.lists(changes(), max_size=4), st.sampled_from([0, 0, 0, 0, -1, 1])), max_size=8)

Applied = dict[tuple[str, str], Record]


def replayed(applied: Applied, commit: list[Change]) -> Applied | None:
    """What a commit makes of a dict; None when one of its changes does not fit."""
    after = dict(applied)
    for change in commit:
        key: Any = (change.kind, change.name)
        if (key in after) == (change.action == "create"):
            return None
        if change.record is None:
            del after[key]
        else:
            after[key] = change.record
    return after


@settings(max_examples=25, deadline=None)
@given(COMMITS)
def test_it_is_a_dict_with_revisions(commits: list[tuple[list[Change], int]]) -> None:
    """Every commit is taken whole or not at all; stale is told before wrong."""
    with (
        tempfile.TemporaryDirectory() as folder,
        closing(SqlRegistry(f"sqlite:///{Path(folder) / 'r.db'}")) as registry,
    ):
        applied: Applied = {}
        history: list[tuple[tuple[str, str, str], ...]] = []
        for commit, off in commits:
            after = replayed(applied, commit)
            try:
                number = registry.commit(commit, expected_revision=len(history) + off, now=NOW)
            except ConflictError:
                assert off != 0
            except RequestError:
                assert off == 0
                assert after is None
            else:
                assert off == 0
                assert after is not None
                if commit:
                    applied = after
                    history.append(tuple((change.action, change.kind, change.name) for change in commit))
                assert number == len(history)
            expected = tuple(record for _, record in sorted(applied.items()))
            assert registry.state() == RegistryState(len(history), expected)
            assert registry.revision() == len(history)
            assert [one.changes for one in registry.revisions()] == history[::-1]


TEXTS = st.text(st.sampled_from("aAb_%'é数0 "), min_size=1, max_size=3)
VALUES = st.sampled_from([0, 1, -1, True, False, "", "0", "1", "a", None, 1.0, [1], {"a": 1}])
DATA = st.dictionaries(st.sampled_from(["a", "b"]), VALUES, max_size=2)
STEPS = st.one_of(
    st.tuples(st.just("put"), TEXTS, DATA, st.sampled_from(["any", "any", "absent", "present"])),
    st.tuples(st.just("remove"), TEXTS),
    st.tuples(
        st.just("ask"),
        st.just("") | TEXTS,
        st.dictionaries(
            st.sampled_from(["a", "b"]), VALUES.filter(lambda value: isinstance(value, str | int)), max_size=2
        ),
    ),
)


def same(one: Any, other: Any) -> bool:
    """Equal in type and value."""
    return type(one) is type(other) and one == other


@settings(max_examples=40, deadline=None)
@given(st.lists(STEPS, max_size=30))
def test_documents_are_a_dict(steps: list[Any]) -> None:
    with (
        tempfile.TemporaryDirectory() as folder,
        closing(SqlRegistry(f"sqlite:///{Path(folder) / 'r.db'}")) as registry,
    ):
        model: dict[str, Any] = {}
        for step in steps:
            match step:
                case "put", key, data, expected:
                    refused = expected != "any" and (key in model) == (expected == "absent")
                    try:
                        registry.put("c", key, data, now=NOW, expected=expected)
                    except ConflictError:
                        assert refused
                    else:
                        assert not refused
                        model[key] = data
                case "remove", key:
                    assert registry.remove("c", key) == (model.pop(key, None) is not None)
                case "ask", prefix, where:
                    expected_keys = sorted(
                        key
                        for key, data in model.items()
                        if key.startswith(prefix) and all(same(data.get(name), value) for name, value in where.items())
                    )
                    asked = registry.documents("c", prefix=prefix, where=where)
                    assert [(one.key, one.data) for one in asked] == [(key, model[key]) for key in expected_keys]
        assert {one.key: one.data for one in registry.documents("c")} == model


WORDS = st.sampled_from(
    ["user", "users", "user_spend", "spendDaily", "daily", "payments", "paying", "数据", "é", "7d", "'"]
)
DESCRIBED = st.lists(st.tuples(WORDS, st.lists(WORDS, max_size=4), WORDS), max_size=6, unique_by=lambda item: item[0])
QUERIES = st.lists(st.lists(WORDS | st.text(max_size=5), max_size=3).map(" ".join), min_size=1, max_size=10)


def found_by_words(made: list[Record], query: str) -> tuple[Hit, ...]:
    """What the words of entries say: all terms are in it, one word of them in its own."""
    terms = parse_query(query)
    hits = []
    for entry in (entry for one in made for entry in index_entries(one)):
        own = frozenset(tokens([entry.title, *entry.members, *entry.about, entry.description, entry.dtype]))
        every = own | frozenset(tokens(entry.context))
        has_all = all(
            all(word.fit(every) for word in term.parts) or (term.joined is not None and term.joined.fit(every))
            for term in terms
        )
        if has_all and any(word.fit(own) for term in terms for word in term.words):
            hits.append(hit(entry, terms))
    return tuple(sorted(hits, key=rank))


@settings(max_examples=40, deadline=None)
@given(DESCRIBED, QUERIES)
def test_search_finds_what_the_words_say(described: list[tuple[str, list[str], str]], queries: list[str]) -> None:
    made = [
        record(name, kind="feature_group", description=" ".join(words), schema=[{"name": f"{one}_f", "dtype": "int64"}])
        for name, words, one in described
    ]
    with (
        tempfile.TemporaryDirectory() as folder,
        closing(SqlRegistry(f"sqlite:///{Path(folder) / 'r.db'}")) as registry,
    ):
        registry.commit([created(one) for one in made], expected_revision=0, now=NOW)
        for query in queries:
            if parse_query(query):
                assert registry.search(query, limit=100) == found_by_words(made, query)
            else:
                assert len(registry.search(query)) == (0 if query.strip() else 2 * len(made))
