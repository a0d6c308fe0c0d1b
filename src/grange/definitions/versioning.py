"""Version numbers: what changed since the last build, and what that makes of its number (VER-1, VER-2).

Pure: schemas and hashes in, a number and its reason out. Four hashes describe a build: content (its rows),
schema (names and types of its output columns), config (entity key, time columns, and what decides the feature rows
of a group with aggregations) and code (its transform). What is only read by, such as a default, changes no stored
row and so no version.

What VER-1 makes of aggregations: the output columns of a group that has some are its entity key, its times and one
column per aggregate. So an aggregation removed or renamed, or of another output type, is MAJOR; one added is MINOR;
another window, filter, interval or event id behind the same name leaves the columns alone and is config, so MINOR.
The other columns of its events are no outputs: they count as content, a PATCH, as no reader of features sees them.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from grange.errors import RequestError
from grange.types import Schema
from grange.types.aggregates import Aggregate
from grange.types.durations import to_micros
from grange.types.names import EVENT_TIME, parse_version

Bump = Literal["initial", "major", "minor", "patch", "explicit"]

FIRST: Final = "1.0.0"


@dataclass(frozen=True, slots=True)
class Build:
    """What decides a version's number."""

    schema: Schema
    """The output columns: all stored ones; with aggregations entity key, times and the aggregates."""
    content_hash: str
    config_hash: str
    code_hash: str
    covers: int = 0
    """How far the build reaches into rows that arrive beside its source (pushed ones). Reaching further is new
    data, even when the rows came out the same, for example because an expectation dropped all new ones."""


@dataclass(frozen=True, slots=True)
class Change:
    """Why a version has its number."""

    bump: Bump
    reason: str
    """`first_build`, `removed_columns`, `changed_types`, `added_columns`, `changed_config`, `changed_code`,
    `changed_data`, `damaged_files` (the same rows as a version that cannot be read any more),
    `no_readable_version`, or `asked_for` of an explicit version."""
    details: tuple[str, ...] = ()
    """The output columns it is about, when it is about columns."""

    def to_summary(self) -> tuple[tuple[str, Any], ...]:
        """As the `change_summary` of a version's metadata has it."""
        return ("bump_type", self.bump), ("reason", self.reason), ("details", list(self.details))

    def __str__(self) -> str:
        return f"{self.bump}: {_words(self.reason, self.details)}"


@dataclass(frozen=True, slots=True)
class Stored:
    """A version that is there, as a build is compared with it."""

    version: str
    build: Build


@dataclass(frozen=True, slots=True)
class VersionForecast:
    """The number that a group's next build gets, as far as that can be told before its rows are computed."""

    group: str
    current: str | None
    """The version that is the latest now; None when there is none that can be read."""
    next: str | None
    """The number; None when the rows decide."""
    bump: Bump
    """With `next` None that of `if_changed`."""
    reason: str
    """As in `Change`."""
    details: tuple[str, ...] = ()
    """The output columns it is about, when it is about columns."""
    if_same: tuple[str, ...] = ()
    """Versions of which the one that has these very rows is the latest afterwards, instead of a new one: `current`,
    and the highest when that was rolled back. Empty where rows do not decide."""
    if_changed: str | None = None
    """The number if no version has the rows; None where they do not decide."""

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "group": self.group,
            "current": self.current,
            "next": self.next,
            "bump": self.bump,
            "reason": self.reason,
            "details": list(self.details),
            "if_same": list(self.if_same),
            "if_changed": self.if_changed,
        }

    @property
    def outcome(self) -> str:
        """The number in words: `1.1.0`, or `1.0.1 if its rows changed, else 1.0.0`."""
        if self.next is not None:
            return self.next
        return f"{self.if_changed} if its rows changed, else {' or '.join(self.if_same)}"

    @property
    def why(self) -> str:
        """The reason in words: `major: removed columns: amount`."""
        return f"{self.bump}: {_words(self.reason, self.details)}"

    def __str__(self) -> str:
        return f"{self.group} {self.current or 'has no version'} -> {self.outcome} ({self.why})"


def schema_hash(schema: Schema) -> str:
    """SHA-256 of the output columns' names and types. Neither their order nor their descriptions count (VER-2)."""
    return _sha256(sorted([column.name, str(column.dtype)] for column in schema))


def config_hash(
    *,
    entity_keys: Sequence[str],
    event_time: str,
    created_time: str | None = None,
    interval: dt.timedelta | None = None,
    aggregates: Iterable[Aggregate] = (),
    event_id: str | None = None,
    retracted: str | None = None,
    ttl: dt.timedelta | None = None,
    fill_gaps: bool = False,
) -> str:
    """SHA-256 of how a group's rows are keyed and timed, and of what makes feature rows of them (VER-2).

    The order of the keys counts, that of the aggregates does not. Groups without aggregations have keys and times
    alone.

    Args:
        interval: the grid on which the feature rows lie; None when they are as of every event.
        aggregates: the windowed features.
        event_id: the column that identifies an event (WIN-6).
        retracted: the column that says that an event is taken back.
        ttl: how old an event may be to count in a window; not the ttl of a group without aggregations, which changes
            no stored row.
        fill_gaps: whether the grid has every boundary between a key's first and last.
    """
    keyed: list[object] = [list(entity_keys), event_time, created_time, _micros(interval)]
    windowed = sorted((aggregate.to_data() for aggregate in aggregates), key=lambda data: str(data["name"]))
    made: list[object] = [windowed, event_id, retracted, _micros(ttl), fill_gaps]
    # groups without aggregations keep the hash that their stored versions have
    return _sha256([*keyed, *made] if any(made) else keyed)


def _micros(length: dt.timedelta | None) -> int | None:
    return None if length is None else to_micros(length)


def next_version(
    previous: Iterable[str], latest: Build | None, build: Build, *, explicit: str = ""
) -> tuple[str, Change] | None:
    """The number of a build, and why; None when it is identical to the latest, so that there is no new version.

    Output columns removed or renamed, or of another type: MAJOR. Some added, config or code changed: MINOR.
    New data alone: PATCH. The bump applies to the highest existing version, so that a build after a rollback
    does not collide with what was rolled back (VER-1).

    Args:
        previous: every version there is, readable or not, in any order.
        latest: the version to compare with; None when there is none, or none that can be read.
        build: the one to number.
        explicit: the number asked for; it is taken even if nothing changed.

    Raises:
        RequestError: `explicit` is no version, or not above the highest existing one (VER-2).
    """
    highest = max((parsed for text in previous if (parsed := parse_version(text))), default=None)
    if explicit:
        return _check_explicit(explicit, highest), Change("explicit", "asked_for")
    if highest is None:
        return FIRST, Change("initial", "first_build")
    if latest is None:
        # nothing to compare with: promise nothing
        return _bumped(highest, "major"), Change("major", "no_readable_version")
    change = change_between(latest, build)
    return None if change is None else (_bumped(highest, change.bump), change)


def repaired_version(previous: Iterable[str], damaged: str) -> tuple[str, Change]:
    """The number of a build that repeats a version whose files are damaged: a PATCH, since versions never change.

    Args:
        previous: every version there is.
        damaged: the one that is repeated.
    """
    highest = max(parsed for text in (*previous, damaged) if (parsed := parse_version(text)))
    return _bumped(highest, "patch"), Change("patch", "damaged_files", (damaged,))


def forecast(
    group: str,
    previous: Iterable[str],
    latest: Stored | None,
    highest: Stored | None,
    build: Build,
    *,
    explicit: str = "",
) -> VersionForecast:
    """What `next_version` will say of a build whose rows are not computed yet: its content does not count.

    Args:
        group: the feature group.
        previous: every version there is, readable or not, in any order.
        latest: the version that the build will be compared with; None when none can be read.
        highest: the highest version that can be read. The latest is another one after a rollback; rows that are
            those of the highest make it the latest again.
        build: the one to number, with any content.
        explicit: the number asked for; it is taken even if nothing changed.

    Raises:
        RequestError: `explicit` is no version, or not above the highest existing one (VER-2).
    """
    versions = tuple(previous)
    current = None if latest is None else latest.version
    known = dict.fromkeys(each for each in (latest, highest) if each is not None and not explicit)
    same = tuple(each.version for each in known if _may_be(each, build))
    other = replace(build, content_hash="")  # no stored rows have this hash
    numbered = next_version(versions, None if latest is None else latest.build, other, explicit=explicit)
    assert numbered is not None, "rows that nobody has are new"
    number, change = numbered
    told, otherwise = (None, number) if same else (number, None)
    return VersionForecast(
        group, current, told, change.bump, change.reason, change.details, if_same=same, if_changed=otherwise
    )


def _may_be(stored: Stored, build: Build) -> bool:
    """Whether only rows can tell a build from a stored version."""
    return is_same(stored.build, replace(build, content_hash=stored.build.content_hash))


def is_same(one: Build, other: Build) -> bool:
    """Whether two builds are identical in rows, schema, config, code and reach (VER-1)."""
    return change_between(one, other) is None


def change_between(old: Build, new: Build) -> Change | None:
    """The weightiest difference between two builds; None when there is none (VER-1)."""
    removed = [name for name in old.schema.names if name not in new.schema]
    retyped = [
        f"{column.name}: {column.dtype} -> {new.schema[column.name]}"
        for column in old.schema
        if new.schema.get(column.name) not in (None, column.dtype)
    ]
    added = [name for name in new.schema.names if name not in old.schema]
    if removed:
        return Change("major", "removed_columns", tuple(map(_told, removed)))
    if retyped:
        return Change("major", "changed_types", tuple(map(_told, retyped)))
    if added:
        return Change("minor", "added_columns", tuple(map(_told, added)))
    if old.config_hash != new.config_hash:
        return Change("minor", "changed_config")
    if old.code_hash != new.code_hash:
        return Change("minor", "changed_code")
    if (old.content_hash, old.covers) != (new.content_hash, new.covers):
        return Change("patch", "changed_data")
    return None


def _bumped(version: tuple[int, int, int], bump: Bump) -> str:
    major, minor, patch = version
    match bump:
        case "major":
            return f"{major + 1}.0.0"
        case "minor":
            return f"{major}.{minor + 1}.0"
        case _:
            return f"{major}.{minor}.{patch + 1}"


def _check_explicit(text: str, highest: tuple[int, int, int] | None) -> str:
    parsed = parse_version(text)
    if parsed is None:
        raise RequestError(f"version {text!r} is not MAJOR.MINOR.PATCH", try_="for example 1.0.0")
    if parsed == (0, 0, 0):
        raise RequestError("version 0.0.0 stands for pushed rows without a version", try_="for example 1.0.0")
    if highest is not None and parsed <= highest:
        raise RequestError(
            f"version {text} is not above the versions there are",
            found=f"highest is {'.'.join(map(str, highest))}",
            try_=f"{_bumped(highest, 'patch')}, or leave the version out to have it numbered",
        )
    return text


def _words(reason: str, details: Sequence[str]) -> str:
    """A reason for people: `removed columns: amount`."""
    return ": ".join(filter(None, (reason.replace("_", " "), ", ".join(details))))


def _told(detail: str) -> str:
    """A detail without the name that only Grange has for a column."""
    return detail.replace(EVENT_TIME, "the time of its rows")


def _sha256(value: object) -> str:
    return hashlib.sha256(json.dumps(value, ensure_ascii=False).encode()).hexdigest()


__all__ = [
    "FIRST",
    "Build",
    "Bump",
    "Change",
    "Stored",
    "VersionForecast",
    "change_between",
    "config_hash",
    "forecast",
    "is_same",
    "next_version",
    "repaired_version",
    "schema_hash",
]
