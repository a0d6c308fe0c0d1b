"""What is different between two versions' metadata, told without a store."""

from __future__ import annotations

import dataclasses

import pytest

from grange.ports.offline import VersionMeta
from grange.testing.offline import COUNTED, DAY, RECENT, SPENT, draft, windowed
from grange.types.aggregates import Window
from grange.verbs import diffs


def version(number: str, **changes: object) -> VersionMeta:
    return draft(version=number, content_hash="c" * 64, config_hash="k" * 64, **changes)


def code_of(old: dict[str, str], new: dict[str, str]) -> diffs.CodeDiff:
    return diffs._code_diff(version("1.0.0", **old), version("1.1.0", **new))


def test_code_is_compared_as_text_and_by_hash() -> None:
    """Formatting shows and is no change; a transform that came or went shows whole."""
    spaced = code_of({"code": "a\nb", "code_hash": "1"}, {"code": "a\n\nb", "code_hash": "1"})
    assert (spaced.changed, bool(spaced)) == (False, True)
    assert spaced.diff.splitlines() == ["--- spend 1.0.0", "+++ spend 1.1.0", "@@ -1,2 +1,3 @@", " a", "+", " b"]
    came = code_of({}, {"code": "a", "code_hash": "1"})
    assert (came.changed, came.diff.splitlines()[-1]) == (True, "+a")
    assert not code_of({"code": "a", "code_hash": "1"}, {"code": "a", "code_hash": "1"})


@pytest.mark.parametrize(
    ("old", "new", "changed", "diff"),
    [
        ({"code_hash": "1"}, {"code_hash": "2", "code": "b"}, True, "not kept"),
        ({"code_hash": "1", "code": "a"}, {"code_hash": "2"}, True, "not kept"),
        ({"code_hash": "1"}, {"code_hash": "1", "code": "a"}, False, ""),
    ],
)
def test_code_that_was_not_kept_is_told_by_its_hash(
    old: dict[str, str], new: dict[str, str], changed: bool, diff: str
) -> None:
    assert code_of(old, new) == diffs.CodeDiff(changed, diff)


def config_of(old: VersionMeta, new: VersionMeta) -> list[str]:
    changed = new.with_(config_hash="other")
    return [str(change) for change in diffs._config_changes(old.with_(config_hash="one"), changed)]


def test_configuration_is_told_field_by_field() -> None:
    """Of aggregates the very field, one that came or went whole."""
    old = windowed(SPENT, RECENT, interval=DAY)
    longer = dataclasses.replace(SPENT, window=Window("time", 8 * DAY), closed="left")
    assert config_of(old, windowed(longer, RECENT, interval=2 * DAY, fill_gaps=True, ttl=DAY)) == [
        "interval: 1d -> 2d",
        "fill_gaps: false -> true",
        "ttl: none -> 1d",
        "aggregate amount__sum__7d.window: 7d -> 8d",
        "aggregate amount__sum__7d.closed: right -> left",
    ]
    (came,) = config_of(windowed(SPENT), windowed(SPENT, COUNTED))
    assert came.startswith("aggregate rows__count__30d: none -> function=count")
    assert config_of(draft(), draft(entity_keys=("a", "b"), created_time=None)) == [
        "entity_keys: user_id -> a, b",
        "created_time: loaded_at -> none",
    ]


def test_configuration_that_metadata_does_not_show_is_told_by_its_hash() -> None:
    assert config_of(draft(), draft()) == ["config_hash: one -> other"]
    same = draft(config_hash="one")
    assert list(diffs._config_changes(same, same.with_(fill_gaps=True))) == []


def test_sources_and_parents_are_told_and_decide_nothing() -> None:
    old = draft(config_hash="one", source="files", parents=(("orders", "1.0.0"),))
    new = old.with_(source="more files", parents=(("orders", "1.1.0"), ("users", "1.0.0")))
    assert [str(change) for change in diffs._config_changes(old, new)] == [
        "source: files -> more files",
        "parents: orders@1.0.0 -> orders@1.1.0, users@1.0.0",
    ]
