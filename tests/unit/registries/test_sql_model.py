"""The SQL registry against a dict: random commits, good, stale and wrong, leave both with the same content."""

from __future__ import annotations

import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any, get_args

from hypothesis import given, settings
from hypothesis import strategies as st

from grange.errors import ConflictError, RequestError
from grange.ports.registry import Change, Kind, Record, RegistryState
from grange.registries.sql.backend import SqlRegistry
from grange.testing.registry import NOW

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
