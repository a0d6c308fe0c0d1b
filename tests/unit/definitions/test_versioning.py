"""Version numbers and the hashes behind them (VER-1, VER-2)."""

from __future__ import annotations

import datetime as dt
import itertools
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grange.definitions.versioning import (
    Build,
    Change,
    Stored,
    VersionForecast,
    change_between,
    config_hash,
    forecast,
    is_same,
    next_version,
    schema_hash,
)
from grange.errors import RequestError
from grange.types import DataType, Schema
from grange.types.aggregates import Aggregate, Function, Window
from grange.types.names import parse_version
from grange.types.schema import Column

OLD = Build(Schema.of({"k": "string", "t": "datetime", "a": "int64"}), "content", "config", "code")


def build(columns: dict[str, str] | None = None, content: str = "content", config: str = "config", code: str = "code",
          covers: int = 0) -> Build:  # fmt: skip
    """The old build with some things changed."""
    return Build(OLD.schema if columns is None else Schema.of(columns), content, config, code, covers)


def config(*aggregates: Aggregate, **options: Any) -> str:
    """The config hash of a group with aggregates."""
    return config_hash(entity_keys=["k"], event_time="t", aggregates=aggregates, **options)


@pytest.mark.parametrize(
    ("new", "version", "change"),
    [
        (build({"k": "string", "t": "datetime"}), "2.0.0", Change("major", "removed_columns", ("a",))),
        (build({"k": "string", "t": "datetime", "b": "int64"}), "2.0.0", Change("major", "removed_columns", ("a",))),
        (
            build({"k": "string", "t": "datetime", "a": "float64", "b": "int64"}),
            "2.0.0",
            Change("major", "changed_types", ("a: int64 -> float64",)),
        ),
        (
            build({"k": "string", "t": "datetime", "a": "int64", "b": "int64"}, content="new"),
            "1.5.0",
            Change("minor", "added_columns", ("b",)),
        ),
        (build(config="keys"), "1.5.0", Change("minor", "changed_config")),
        (build(code="new", content="new"), "1.5.0", Change("minor", "changed_code")),
        (build(content="new"), "1.4.3", Change("patch", "changed_data")),
        (build(covers=7), "1.4.3", Change("patch", "changed_data")),
    ],
    ids=["removed", "renamed", "retyped", "added", "config", "code", "data", "reach"],
)
def test_each_change_has_its_bump(new: Build, version: str, change: Change) -> None:
    """VER-1, the weightiest change first; the bump applies to the highest version there is."""
    assert next_version(["1.0.0", "1.4.2", "1.4.1"], OLD, new) == (version, change)
    assert not is_same(OLD, new)


def test_the_first_build_is_1_0_0() -> None:
    """VER-1."""
    assert next_version([], None, OLD) == ("1.0.0", Change("initial", "first_build"))


def test_an_identical_build_has_no_number() -> None:
    """VER-1; the order of columns and their descriptions are no change."""
    described = Schema(tuple(Column(c.name, c.dtype, "words") for c in reversed(OLD.schema.columns)))
    assert next_version(["1.0.0"], OLD, Build(described, "content", "config", "code")) is None


def test_versions_compare_as_numbers() -> None:
    """1.10.0 is above 1.9.0."""
    assert next_version(["1.9.0", "1.10.0"], OLD, build(content="new")) == (
        "1.10.1",
        Change("patch", "changed_data"),
    )


def test_nothing_readable_promises_nothing() -> None:
    """With versions that cannot be read, a build cannot be compared, so it is MAJOR."""
    assert next_version(["1.2.3"], None, OLD) == ("2.0.0", Change("major", "no_readable_version"))


def test_an_explicit_number_is_taken() -> None:
    """VER-2: above the highest, whatever changed."""
    assert next_version(["1.0.0"], OLD, OLD, explicit="1.0.1") == ("1.0.1", Change("explicit", "asked_for"))
    assert next_version([], None, OLD, explicit="0.1.0") == ("0.1.0", Change("explicit", "asked_for"))


@pytest.mark.parametrize("text", ["1.0.0", "0.9.9", "1.0", "01.0.0", "v2.0.0", "2.0.0 ", "2.0.0-rc1"])
def test_an_explicit_number_must_be_a_higher_one(text: str) -> None:
    """VER-2."""
    with pytest.raises(RequestError):
        next_version(["1.0.0", "0.1.0"], OLD, OLD, explicit=text)


def test_the_summary_is_what_metadata_keeps() -> None:
    """The seed's three fields."""
    summary = dict(Change("minor", "added_columns", ("b",)).to_summary())
    assert summary == {"bump_type": "minor", "reason": "added_columns", "details": ["b"]}


def test_the_schema_hash_is_of_names_and_types() -> None:
    """VER-2: neither order nor description; every name and type."""
    base = Schema.of({"a": "int64", "b": "list[float32]"})
    assert schema_hash(base) == schema_hash(Schema.of({"b": "list[float32]", "a": "int64"}))
    assert schema_hash(base) == schema_hash(Schema((Column("a", base["a"], "words"), base.columns[1])))
    others = [{"a": "int32", "b": "list[float32]"}, {"c": "int64", "b": "list[float32]"}, {"a": "int64"}]
    assert len({schema_hash(base), *(schema_hash(Schema.of(other)) for other in others)}) == 4


def test_the_config_hash_is_of_keys_times_and_interval() -> None:
    """VER-2: each of them counts, and no two run together."""
    hashes = [
        config_hash(entity_keys=["a", "b"], event_time="t"),
        config_hash(entity_keys=["b", "a"], event_time="t"),
        config_hash(entity_keys=["a,b"], event_time="t"),
        config_hash(entity_keys=["a", "b"], event_time="u"),
        config_hash(entity_keys=["a", "b"], event_time="t", created_time="c"),
        config_hash(entity_keys=["a", "b"], event_time="t", interval=dt.timedelta(days=1)),
    ]
    assert all(one != other for one, other in itertools.combinations(hashes, 2))
    assert hashes[0] == config_hash(entity_keys=("a", "b"), event_time="t", created_time=None)
    # as versions of earlier releases have it, which must not become MINOR changes
    stored = "34b9c88ccd7955784c06bedfd8a26ac6e0f5972d21308adacabb60d0ef05cbc3"
    assert config_hash(entity_keys=["user_id"], event_time="event_time", created_time="loaded_at") == stored


def test_the_config_hash_is_of_what_makes_feature_rows() -> None:
    """VER-2: every part of every aggregate, how events are told apart, the ttl and the grid; not the order."""
    day = dt.timedelta(days=1)
    one = Aggregate("a__sum__7d", Function("sum"), "a", Window("time", 7), DataType("float64"), DataType("float64"))
    two = replace(one, name="b__sum__7d", column="b")
    parts: dict[str, Any] = {
        "window": Window("rows", 7), "function": Function("quantile", (0.5,)), "column": "b", "closed": "left",
        "every": 5, "shift": 5, "filter": "a > 0", "input": DataType("int64"),
    }  # fmt: skip
    hashes = [
        config(),
        config(one),
        config(two),
        config(one, two),
        *(config(replace(one, **{name: value})) for name, value in parts.items()),
        config(replace(one, every=5, offset=1)),
        config(one, event_id="id"),
        config(one, retracted="id"),
        config(one, event_id="id", retracted="back"),
        config(one, ttl=day),
        config(one, interval=day),
        config(one, interval=day, fill_gaps=True),
    ]
    assert len(set(hashes)) == len(hashes)
    assert config(one, two) == config(two, one)


def test_aggregations_are_output_columns() -> None:
    """VER-1 over whole builds: what was said of columns holds of aggregates, and config only of the same names."""
    key, spent = {"k": "string", "t": "datetime"}, {"a__sum__7d": "float64"}
    old = build({**key, **spent})
    assert next_version(["1.0.0"], old, build({**key, **spent, "a__sum__30d": "float64"}, config="new")) == (
        "1.1.0",
        Change("minor", "added_columns", ("a__sum__30d",)),
    )
    assert next_version(["1.0.0"], old, build(key, config="new")) == (
        "2.0.0",
        Change("major", "removed_columns", ("a__sum__7d",)),
    )
    assert next_version(["1.0.0"], old, build({**key, "a__sum__7d": "int64"}, config="new")) == (
        "2.0.0",
        Change("major", "changed_types", ("a__sum__7d: float64 -> int64",)),
    )
    assert next_version(["1.0.0"], old, build({**key, **spent}, config="new")) == (
        "1.1.0",
        Change("minor", "changed_config"),
    )


_numbers = st.integers(0, 30)
_versions = st.lists(st.builds("{}.{}.{}".format, _numbers, _numbers, _numbers), min_size=1)
_builds = st.builds(
    build,
    columns=st.dictionaries(st.sampled_from(["a", "b", "c"]), st.sampled_from(["int64", "float64"])),
    content=st.sampled_from("xy"),
    config=st.sampled_from("xy"),
    code=st.sampled_from("xy"),
)


@given(_versions, _builds, _builds)
def test_a_number_is_new_and_above_all(previous: list[str], old: Build, new: Build) -> None:
    """Whatever changed, the number is above every version there is; without a change there is none."""
    numbered = next_version(previous, old, new)
    assert (numbered is None) == is_same(old, new) == is_same(new, old)
    if numbered is not None:
        assert all((parse_version(numbered[0]) or ()) > (parse_version(text) or ()) for text in previous)


@given(_versions, _builds, _builds, _builds, st.sampled_from("xyz"))
def test_a_forecast_is_what_happens(
    previous: list[str], latest: Build, highest: Build, new: Build, content: str
) -> None:
    """Without looking at the rows it tells the number, or the two that the rows decide between; then the same rows
    as a version's bring that version back, and others get the other number."""
    stored = Stored("0.0.1", latest), Stored("0.0.2", highest)
    told = forecast("g", previous, *stored, new)
    assert told == forecast("g", previous, *stored, replace(new, content_hash="not looked at"))
    built = replace(new, content_hash=content)
    same = next((each for each in stored if is_same(each.build, built)), None)
    numbered = next_version(previous, latest, built)
    if same is not None:
        assert told.next is None
        assert same.version in told.if_same
    else:
        assert numbered is not None
        assert numbered[0] == (told.next or told.if_changed)
        assert told.next is None or (told.bump, told.reason, told.details) == (
            numbered[1].bump, numbered[1].reason, numbered[1].details,
        )  # fmt: skip


@pytest.mark.parametrize(
    ("previous", "latest", "explicit", "expected"),
    [
        ([], None, "", VersionForecast("g", None, "1.0.0", "initial", "first_build")),
        (["1.3.0"], None, "", VersionForecast("g", None, "2.0.0", "major", "no_readable_version")),
        (["1.3.0"], OLD, "4.0.0", VersionForecast("g", "1.3.0", "4.0.0", "explicit", "asked_for")),
        (["1.3.0"], OLD, "", VersionForecast("g", "1.3.0", None, "patch", "changed_data", (), ("1.3.0",), "1.3.1")),
        (
            ["1.3.0", "2.0.0"],
            build({"k": "string", "t": "datetime", "a": "int64", "b": "int64"}),
            "",
            VersionForecast("g", "1.3.0", "3.0.0", "major", "removed_columns", ("b",)),
        ),
    ],
)
def test_forecasts(previous: list[str], latest: Build | None, explicit: str, expected: VersionForecast) -> None:
    known = None if latest is None else Stored("1.3.0", latest)
    assert forecast("g", previous, known, known, OLD, explicit=explicit) == expected


def test_forecasts_in_words() -> None:
    def told(*previous: str, latest: Build = OLD, explicit: str = "") -> str:
        stored = Stored(previous[-1], latest) if previous else None
        return str(forecast("g", previous, stored, stored, OLD, explicit=explicit))

    assert told() == "g has no version -> 1.0.0 (initial: first build)"
    assert told("1.0.0") == "g 1.0.0 -> 1.0.1 if its rows changed, else 1.0.0 (patch: changed data)"
    assert told("1.0.0", latest=build(code="new")) == "g 1.0.0 -> 1.1.0 (minor: changed code)"
    lost = build({"k": "string", "t": "datetime", "a": "int64", "b": "int64", "c": "int64"})
    assert told("1.0.0", latest=lost) == "g 1.0.0 -> 2.0.0 (major: removed columns: b, c)"
    assert str(change_between(lost, OLD)) == "major: removed columns: b, c"


@pytest.mark.parametrize("text", ["1.4.0", "banana", "1.4", "0.0.0"])
def test_a_forecast_refuses_what_a_build_refuses(text: str) -> None:
    stored = Stored("1.4.0", OLD)
    with pytest.raises(RequestError):
        forecast("g", ["1.4.0"], stored, stored, OLD, explicit=text)
    with pytest.raises(RequestError, match=r"0\.0\.0"):
        next_version([], None, OLD, explicit="0.0.0")
