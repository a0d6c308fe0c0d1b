"""Versions of feature groups from end to end: how they are numbered, told apart, gone back to, pinned and kept."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from tests.shop import at, shops_group, spend_group, user

import grange as gr
from grange.errors import (
    ColumnTypeError,
    CorruptStoreError,
    InUseError,
    RefusedError,
    RequestError,
    SchemaError,
    StoreUnavailableError,
    UnknownFeatureGroupError,
    UnknownVersionError,
    UnsupportedError,
)
from grange.ports.offline import PUSHED_FROM
from grange.testing.equality import assert_rows_equal
from grange.verbs.versions import pins_of

KEYS = [{"user_id": "u1"}, {"user_id": "u2"}]
BASE = pl.DataFrame({"user_id": ["u1", "u2"], "at": [at(1), at(2)], "a": [1.0, 2.0], "b": [1, 2], "c": ["x", "y"]})


def write(store: gr.FeatureStore, frame: pl.DataFrame) -> None:
    frame.write_parquet(store.project / "data" / "base.parquet")


def base_group(transform: Any = None, **options: Any) -> gr.FeatureGroup:
    source = gr.FileSource("data/base.parquet", event_time="at")
    return gr.FeatureGroup("base", entities=user, source=source, transform=transform, **options)


def taking(*columns: str) -> str:
    return f'SELECT user_id, "at", {", ".join(columns)} FROM source'


def build(store: gr.FeatureStore, group: gr.FeatureGroup, **options: Any) -> str:
    """Apply, check that the forecast holds, materialize; the version."""
    planned = store.plan([group])
    store.apply([group])
    (told,) = store.plan_materialize(group.name, version=options.get("version"))
    assert options or planned.versions in ((told,), ()), "a plan tells what the next build does"
    done = store.materialize(group.name, **options)[0]
    assert done.version in (told.next, *told.if_same, told.if_changed)
    assert store.version(group.name).version == done.version
    return done.version


def summary(store: gr.FeatureStore, group: str = "base") -> dict[str, Any]:
    return dict(store.version(group).change_summary)


@pytest.fixture
def based(store: gr.FeatureStore) -> gr.FeatureStore:
    """`base` 1.0.0 with the columns a, b and c."""
    write(store, BASE)
    assert build(store, base_group(taking("a", "b", "c"))) == "1.0.0"
    return store


class TestNumbers:
    """VER-1 and VER-2, through `materialize`."""

    def test_auto_version_major_bump(self, based: gr.FeatureStore) -> None:
        """Removing a column is MAJOR."""
        assert build(based, base_group(taking("a", "b"))) == "2.0.0"
        assert summary(based) == {"bump_type": "major", "reason": "removed_columns", "details": ["c"]}

    def test_auto_version_minor_bump(self, store: gr.FeatureStore) -> None:
        """Adding one is MINOR."""
        write(store, BASE)
        build(store, base_group(taking("a", "b")))
        assert build(store, base_group(taking("a", "b", "c"))) == "1.1.0"
        assert summary(store) == {"bump_type": "minor", "reason": "added_columns", "details": ["c"]}

    def test_auto_version_patch_bump(self, based: gr.FeatureStore) -> None:
        """New data alone is PATCH."""
        write(based, BASE.with_columns(a=pl.col("a") * 2))
        assert build(based, base_group(taking("a", "b", "c"))) == "1.0.1"
        assert summary(based) == {"bump_type": "patch", "reason": "changed_data", "details": []}

    def test_identical_content_makes_no_version(self, based: gr.FeatureStore) -> None:
        write(based, BASE)
        assert build(based, base_group(taking("a", "b", "c"))) == "1.0.0"
        assert not based.materialize("base")[0].new_version
        assert len(based.versions("base")) == 1

    def test_a_changed_type_is_major_also_beside_a_new_column(self, store: gr.FeatureStore) -> None:
        write(store, BASE)
        build(store, base_group(taking("a", "b")))
        assert build(store, base_group(taking("CAST(a AS BIGINT) AS a", "b", "c"))) == "2.0.0"
        assert summary(store) == {"bump_type": "major", "reason": "changed_types", "details": ["a: float64 -> int64"]}

    def test_a_renamed_column_is_major(self, based: gr.FeatureStore) -> None:
        assert build(based, base_group(taking("a", "b", "c AS d"))) == "2.0.0"
        assert summary(based)["details"] == ["c"]

    def test_code_is_minor_and_its_formatting_nothing(self, based: gr.FeatureStore) -> None:
        assert build(based, base_group('select user_id,"at",a,b,c -- all\nfrom source')) == "1.0.0"
        assert build(based, base_group(taking("a + 0 AS a", "b", "c"))) == "1.1.0"
        assert summary(based)["reason"] == "changed_code"

    def test_code_of_functions(self, store: gr.FeatureStore) -> None:
        """Comments, docstrings and line breaks do not count, what it computes does."""

        def one(df: pl.DataFrame) -> pl.DataFrame:
            return df.select("user_id", "at", pl.col("a") + 1)

        def same(df: pl.DataFrame) -> pl.DataFrame:
            """The same."""
            # really
            return df.select(
                "user_id", "at", pl.col("a") + 1
            )  # fmt: skip

        def other(df: pl.DataFrame) -> pl.DataFrame:
            return df.select("user_id", "at", pl.col("a") * 1 + 1)

        same.__name__ = other.__name__ = "one"
        write(store, BASE)
        assert build(store, base_group(one)) == "1.0.0"
        assert "pl.col" in store.version("base").code
        renamed = base_group(other)
        assert build(store, renamed) == "1.1.0"

    def test_windows_decide_like_columns(self, store: gr.FeatureStore) -> None:
        """A window that is removed is MAJOR, one that is added MINOR; what lies behind a name, MINOR."""

        def windowed(*windows: str, closed: Any = "right") -> gr.FeatureGroup:
            return base_group(
                aggregations=[gr.Rolling({"a": ["sum"]}, windows=list(windows), closed=closed)], ttl="30d"
            )

        write(store, BASE)
        assert build(store, windowed("1d", "7d")) == "1.0.0"
        assert build(store, windowed("7d", "1d")) == "1.0.0"
        assert build(store, windowed("7d")) == "2.0.0"
        assert summary(store) == {"bump_type": "major", "reason": "removed_columns", "details": ["a__sum__1d"]}
        assert build(store, windowed("7d", "14d")) == "2.1.0"
        assert build(store, windowed("7d", "14d", closed="left")) == "2.2.0"
        assert summary(store)["reason"] == "changed_config"
        [change] = [item for item in store.diff("base").config if "14d" in item.field]
        assert (change.before, change.after) == ("right", "left")
        write(store, BASE.with_columns(a=pl.lit(0.0)))
        assert build(store, windowed("7d", "14d", closed="left")) == "2.2.1"

    def test_other_keys_are_minor(self, based: gr.FeatureStore) -> None:
        wide = gr.Entity("pair", join_keys=["user_id", "c"])
        source = gr.FileSource("data/base.parquet", event_time="at")
        group = gr.FeatureGroup("base", entities=wide, source=source, transform=taking("a", "b", "c"))
        assert build(based, group) == "1.1.0"
        [change] = based.diff("base").config
        assert str(change) == "entity_keys: user_id -> user_id, c"

    def test_an_explicit_version_must_be_above_the_highest(self, based: gr.FeatureStore) -> None:
        for asked in ("1.0.0", "0.9.0", "banana", "1.0", "0.0.0", "v2.0.0"):
            for verb in (based.materialize, based.plan_materialize):
                with pytest.raises(RequestError):
                    verb("base", version=asked)
        based.apply([spend_group()])
        for verb in (based.materialize, based.plan_materialize):
            with pytest.raises(RequestError, match="one feature group at a time"):
                verb(["base", "spend"], version="2.0.0")
        assert build(based, base_group(taking("a", "b", "c")), version="3.0.0") == "3.0.0"
        assert summary(based) == {"bump_type": "explicit", "reason": "asked_for", "details": []}
        write(based, BASE.with_columns(b=pl.col("b") + 1))
        assert build(based, base_group(taking("a", "b", "c"))) == "3.0.1", "nothing is bricked"

    def test_versions_are_numbers(self, based: gr.FeatureStore) -> None:
        """1.10.0 comes after 1.9.0."""
        for version in ("1.9.0", "1.10.0"):
            build(based, base_group(taking("a", "b", "c")), version=version)
        assert [meta.version for meta in based.versions("base")] == ["1.0.0", "1.9.0", "1.10.0"]
        assert based.version("base").version == "1.10.0"
        assert (based.diff("base").before, based.diff("base").after) == ("1.9.0", "1.10.0")
        assert based.rollback("base", previous=True).version == "1.9.0"

    def test_the_seeds_fields_are_in_the_metadata(self, store: gr.FeatureStore) -> None:
        write(store, BASE)
        group = base_group(aggregations=[gr.Rolling({"a": ["sum"]}, windows=["7d"])], interval="1d")
        build(store, group)
        data = json.loads((store.project / ".grange/offline/base/1.0.0/.meta.json").read_text())
        assert (data["name"], data["version"], data["entity_keys"], data["timestamp"], data["interval"]) == (
            "base", "1.0.0", ["user_id"], "at", "1d",
        )  # fmt: skip
        for field in ("content_hash", "schema_hash", "config_hash", "created_at", "updated_at"):
            assert isinstance(data[field], str) and data[field]
        assert (data["row_count"], data["columns"][-1]) == (
            2, {"name": "a__sum__7d", "dtype": "float64", "aggregation": "sum", "window": "7d"},
        )  # fmt: skip
        assert data["change_summary"] == {"bump_type": "initial", "reason": "first_build", "details": []}
        assert store.inspect("base@1.0.0")["stored"] | {"file_hashes": data["file_hashes"]} == data


class TestForecasts:
    def test_a_plan_tells_the_versions_of_what_changes(self, based: gr.FeatureStore) -> None:
        """Of created and changed groups; of a group that stays as it is there is nothing to tell."""
        planned = based.plan([base_group(taking("a")), spend_group()])
        told = {each.group: each for each in planned.versions}
        assert set(told) == {"base", "spend"}
        assert (told["spend"].current, told["spend"].next, told["spend"].bump) == (None, "1.0.0", "initial")
        assert (told["base"].current, told["base"].next, told["base"].details) == ("1.0.0", "2.0.0", ("b", "c"))
        assert planned.to_dict()["versions"] == [each.to_dict() for each in planned.versions]
        assert str(told["base"]) == "base 1.0.0 -> 2.0.0 (major: removed columns: b, c)"
        assert based.plan([base_group(taking("a", "b", "c"))]).versions == ()
        described = based.plan([base_group(taking("a", "b", "c"), description="words")])
        assert [(each.next, each.if_same, each.if_changed) for each in described.versions] == [
            (None, ("1.0.0",), "1.0.1")
        ]
        assert based.apply([base_group(taking("a"))]).versions == (told["base"],)

    def test_pushed_rows_are_news(self, store: gr.FeatureStore) -> None:
        store.apply([clicks()])
        push(store, 1)
        store.materialize("clicks")
        (told,) = store.plan_materialize("clicks")
        assert (told.next, told.if_same, told.if_changed) == (None, ("1.0.0",), "1.0.1")
        push(store, 2)
        (told,) = store.plan_materialize()
        assert (told.next, told.reason) == ("1.0.1", "changed_data")
        assert store.materialize("clicks")[0].version == "1.0.1"

    def test_unknown_groups_are_not_forecast(self, based: gr.FeatureStore) -> None:
        with pytest.raises(UnknownFeatureGroupError):
            based.plan_materialize("bse")


class TestDiff:
    def test_columns_code_and_data(self, based: gr.FeatureStore) -> None:
        write(based, pl.concat([BASE, BASE.with_columns(at=pl.lit(at(3)))]))
        build(based, base_group('SELECT user_id, "at", CAST(b AS DOUBLE) AS b, a, 7 AS d FROM source'))
        found = based.diff("base")
        assert (found.group, found.before, found.after) == ("base", "1.0.0", "2.0.0")
        assert found
        assert found.change is not None and (found.change.bump, found.change.reason) == ("major", "removed_columns")
        assert found.schema.to_dict() == {
            "added": [{"name": "d", "dtype": "int32"}],
            "removed": [{"name": "c", "dtype": "string"}],
            "retyped": [{"name": "b", "before": "int64", "after": "float64"}],
            "reordered": ["user_id", "at", "b", "a"],
        }
        assert not found.events
        assert found.code.changed
        assert '-SELECT user_id, "at", a, b, c FROM source' in found.code.diff
        assert '+SELECT user_id, "at", CAST(b AS DOUBLE) AS b, a, 7 AS d FROM source' in found.code.diff
        data = {item.field: (item.before, item.after) for item in found.data}
        assert data["rows"] == (2, 4)
        assert data["max_event_time"] == (at(2), at(3))
        assert {"content_hash", "size_bytes"} <= set(data)
        assert json.loads(json.dumps(found.to_dict()))["data"]
        told = str(found).splitlines()
        assert told[0] == "base 1.0.0 -> 2.0.0: major: removed columns: c"
        for line in (
            "  - c string",
            "  ~ b: int64 -> float64",
            "  order: user_id, at, b, a",
            "  rows: 2 -> 4",
            "  max_event_time: 2026-03-02T00:00:00Z -> 2026-03-03T00:00:00Z",
        ):
            assert line in told

    def test_a_version_beside_a_pinned_group_is_the_second(self, based: gr.FeatureStore) -> None:
        for factor in (2, 3):
            write(based, BASE.with_columns(a=pl.col("a") * factor))
            build(based, base_group(taking("a", "b", "c")))
        for found in (based.diff("base@1.0.0", "1.0.1"), based.diff("base@1.0.0", after="1.0.1")):
            assert (found.before, found.after) == ("1.0.0", "1.0.1")
        assert based.diff("base@1.0.0").after == "1.0.2"
        assert based.diff("base@1.0.0", "1.0.0", "1.0.1").after == "1.0.1"
        with pytest.raises(RequestError, match="two versions"):
            based.diff("base@1.0.0", "1.0.1", "1.0.2")
        assert based.compare_statistics("base@1.0.0", "1.0.1") == based.compare_statistics("base", "1.0.0", "1.0.1")

    def test_either_way_round_and_itself(self, based: gr.FeatureStore) -> None:
        write(based, BASE.with_columns(a=pl.col("a") + 1))
        build(based, base_group(taking("a", "b", "c")))
        back = based.diff("base", "1.0.1", "1.0.0")
        assert (back.before, back.after, bool(back)) == ("1.0.1", "1.0.0", True)
        same = based.diff("base@1.0.1", after="1.0.1")
        assert not same
        assert str(same) == "base 1.0.1 -> 1.0.1: no difference"
        assert based.diff("base", "1.0.0").after == "1.0.1"

    def test_statistics_of_the_columns_that_both_have(self, based: gr.FeatureStore) -> None:
        write(based, BASE.with_columns(a=pl.Series([1.0, None])))
        build(based, base_group(taking("a", "b")))
        assert based.diff("base").statistics is None
        found = based.diff("base", statistics=True).statistics
        assert found is not None
        changes = {(item.column, item.statistic): (item.before, item.after) for item in found}
        assert changes[("a", "null_share")] == (0.0, 0.5)
        assert changes[("a", "mean")] == (1.5, 1.0)
        assert changes[("a", "max")] == (2.0, 1.0)
        assert changes[("a", "distinct")] == (2, 1)
        assert {column for column, _ in changes} == {"a"}

    def test_statistics_of_windows_are_of_their_feature_rows(self, store: gr.FeatureStore) -> None:
        group = base_group(aggregations=[gr.Rolling({"a": ["sum"]}, windows=["7d"])])
        write(store, BASE)
        build(store, group)
        write(store, BASE.with_columns(a=pl.col("a") * 10))
        build(store, group)
        found = store.diff("base", statistics=True)
        assert {(item.column, item.statistic) for item in found.statistics or ()} >= {("a__sum__7d", "mean")}

    def test_code_of_older_releases_was_not_kept(self, based: gr.FeatureStore) -> None:
        meta = based.project / ".grange/offline/base/1.0.0/.meta.json"
        data = json.loads(meta.read_text())
        del data["code"], data["parents"], data["fill_gaps"]
        meta.write_text(json.dumps(data))
        build(based, base_group(taking("a + 0 AS a", "b", "c")))
        found = based.diff("base")
        assert (found.code.changed, found.code.diff) == (True, "not kept")
        assert "  changed; the text of a version was not kept" in str(found).splitlines()

    def test_formatting_is_no_difference(self, based: gr.FeatureStore) -> None:
        build(based, base_group(taking("a", "b", "c").replace(" FROM", "\nFROM")), version="1.1.0")
        found = based.diff("base")
        assert (found.change, found.code.changed, bool(found)) == (None, False, False)

    def test_what_cannot_be_compared(self, based: gr.FeatureStore) -> None:
        with pytest.raises(RequestError, match="no version below"):
            based.diff("base")
        with pytest.raises(UnknownVersionError):
            based.diff("base", "7.0.0")
        with pytest.raises(UnknownFeatureGroupError):
            based.diff("bse")


def clicks() -> gr.FeatureGroup:
    schema = {"user_id": "string", "at": "datetime", "n": "int64"}
    return gr.FeatureGroup("clicks", entities=user, source=gr.PushSource("clicks_in", schema=schema, event_time="at"))


def push(store: gr.FeatureStore, n: int) -> None:
    store.push("clicks", [{"user_id": "u1", "at": at(n), "n": n}])


def served(store: gr.FeatureStore, group: str, *features: str) -> list[Any]:
    """What is served, which must be what history says (ONL-1)."""
    names = [f"{group}:{feature}" for feature in features]
    online = store.get_online_features(names, KEYS, now=at(20)).to_dicts()
    spine = [{**key, "event_time": at(20)} for key in KEYS]
    history = store.get_historical_features(names, spine).to_arrow().to_pylist()
    values = [[row[feature] for feature in features] for row in online]
    assert values == [[row[feature] for feature in features] for row in history]
    return values


class TestRollback:
    @pytest.fixture
    def twice(self, based: gr.FeatureStore) -> gr.FeatureStore:
        """`base` 1.0.0 and 1.0.1."""
        write(based, BASE.with_columns(a=pl.col("a") * 10))
        assert build(based, base_group(taking("a", "b", "c"))) == "1.0.1"
        return based

    def test_both_sides_go_back(self, twice: gr.FeatureStore) -> None:
        assert served(twice, "base", "a") == [[10.0], [20.0]]
        done = twice.rollback("base", "1.0.0")
        assert (done.replaced, done.version, done.rows, done.pending, done.online_rows) == ("1.0.1", "1.0.0", 2, 0, 2)
        assert served(twice, "base", "a") == [[1.0], [2.0]]
        assert twice.read("base").polars["a"].to_list() == [1.0, 2.0]
        assert twice.version("base").version == twice.inspect("base")["latest"] == "1.0.0"
        assert [meta.version for meta in twice.versions("base")] == ["1.0.0", "1.0.1"]
        assert twice.inspect("base")["runs"][0]["verb"] == "rollback"
        assert twice.verify() == ()
        forth = twice.rollback("base", "1.0.1")
        assert (forth.replaced, served(twice, "base", "a")) == ("1.0.0", [[10.0], [20.0]])

    def test_what_is_pinned_online_follows(self, twice: gr.FeatureStore) -> None:
        twice.rollback("base@1.0.0")
        assert twice.get_online_features(["base@1.0.0:a"], KEYS).to_dicts()[0]["a"] == 1.0

    def test_the_next_build_is_above_the_highest(self, twice: gr.FeatureStore) -> None:
        """VER-1; rows that are those of the highest bring it back."""
        twice.rollback("base", previous=True)
        assert twice.materialize("base")[0].version == "1.0.1"
        twice.rollback("base", previous=True)
        write(twice, BASE.with_columns(a=pl.lit(0.0)))
        assert build(twice, base_group(taking("a", "b", "c"))) == "1.0.2"
        assert served(twice, "base", "a") == [[0.0], [0.0]]
        assert [meta.version for meta in twice.versions("base")] == ["1.0.0", "1.0.1", "1.0.2"]

    def test_the_previous_is_the_one_below_the_latest(self, twice: gr.FeatureStore) -> None:
        write(twice, BASE.head(1))
        build(twice, base_group(taking("a", "b", "c")))
        assert twice.rollback("base", previous=True).version == "1.0.1"
        assert twice.rollback("base", previous=True).version == "1.0.0"
        with pytest.raises(UnknownVersionError, match="no version below the latest"):
            twice.rollback("base", previous=True)

    def test_rows_pushed_since_stay_visible(self, store: gr.FeatureStore) -> None:
        store.apply([clicks()])
        for n in (1, 2, 3):
            push(store, n)
            if n < 3:
                store.materialize("clicks")
        done = store.rollback("clicks", "1.0.0")
        assert (done.rows, done.pending) == (1, 2)
        assert store.read("clicks").polars["n"].to_list() == [1, 2, 3]
        assert served(store, "clicks", "n") == [[3], [None]]
        push(store, 4)
        assert served(store, "clicks", "n") == [[4], [None]]
        assert store.materialize("clicks")[0].version == "1.0.2"
        assert store.read("clicks").polars["n"].to_list() == [1, 2, 3, 4]

    def test_windows_go_back_with_their_state(self, store: gr.FeatureStore) -> None:
        group = base_group(aggregations=[gr.Rolling({"a": ["sum", "count"]}, windows=["30d"])])
        for factor in (1.0, 10.0):
            write(store, BASE.with_columns(a=pl.col("a") * factor))
            build(store, group)
        features = ("a__sum__30d", "a__count__30d")
        assert served(store, "base", *features) == [[10.0, 1], [20.0, 1]]
        assert store.rollback("base", previous=True).online_rows == 2
        assert served(store, "base", *features) == [[1.0, 1], [2.0, 1]]

    def test_what_an_older_version_lacks_is_said(self, based: gr.FeatureStore) -> None:
        """Columns that came later, and another key, under which nothing of it can be served."""
        build(based, base_group(taking("a", "b", "c", "a AS d")))
        done = based.rollback("base", "1.0.0")
        assert len(done.warnings) == 1
        assert "has no d, which the group is defined to have" in done.warnings[0]
        assert served(based, "base", "a", "c") == [[1.0, "x"], [2.0, "y"]]
        pair = gr.Entity("pair", join_keys=["user_id", "c"])
        source = gr.FileSource("data/base.parquet", event_time="at")
        based.apply([gr.FeatureGroup("base", entities=pair, source=source, transform=taking("a", "b", "c"))])
        based.materialize("base")
        done = based.rollback("base", "1.1.0")
        assert done.online_rows is None
        assert "nothing is served online" in done.warnings[-1]
        with pytest.raises(UnsupportedError, match="nothing of it was loaded"):
            based.get_online_features(["base:a"], [{"user_id": "u1", "c": "x"}])

    def test_it_says_first_what_it_would_do(self, twice: gr.FeatureStore) -> None:
        planned = twice.plan_rollback("base", previous=True)
        assert (planned.replaced, planned.version, planned.online_rows) == ("1.0.1", "1.0.0", None)
        assert twice.version("base").version == "1.0.1"
        assert twice.rollback("base", previous=True).to_dict() == planned.to_dict() | {"online_rows": 2}

    def test_what_cannot_be_gone_back_to(self, twice: gr.FeatureStore) -> None:
        """Each refusal says what there is, and changes nothing."""
        refused: list[tuple[type[Exception], dict[str, Any]]] = [
            (UnknownVersionError, {"version": "1.0.7"}), (RefusedError, {"version": "1.0.1"}), (RequestError, {}),
            (RequestError, {"version": "1.0.0", "previous": True}), (RequestError, {"version": "banana"}),
        ]  # fmt: skip
        for error, options in refused:
            for verb in (twice.plan_rollback, twice.rollback):
                with pytest.raises(error):
                    verb("base", **options)
        with pytest.raises(RequestError, match="two versions"):
            twice.rollback("base@1.0.0", "1.0.1")
        with pytest.raises(UnknownFeatureGroupError):
            twice.rollback("bse", previous=True)
        twice.apply([spend_group()])
        with pytest.raises(UnknownVersionError):
            twice.rollback("spend", previous=True)
        assert (twice.version("base").version, served(twice, "base", "a")) == ("1.0.1", [[10.0], [20.0]])

    def test_a_damaged_version_is_not_gone_back_to(self, twice: gr.FeatureStore) -> None:
        damaged = twice.project / ".grange/offline/base/1.0.0/data.parquet"
        damaged.write_bytes(damaged.read_bytes()[:-1] + b"?")
        with pytest.raises(CorruptStoreError, match=r"1\.0\.0"):
            twice.rollback("base", "1.0.0")
        assert served(twice, "base", "a") == [[10.0], [20.0]]

    def test_a_damaged_latest_is_gone_back_from(self, twice: gr.FeatureStore) -> None:
        """Whether its rows or its metadata are damaged; the next build is above it all the same."""
        folder = twice.project / ".grange/offline/base/1.0.1"
        (folder / ".meta.json").write_text("{")
        for read in (lambda: twice.read("base"), lambda: twice.version("base")):
            with pytest.raises(CorruptStoreError, match=r"1\.0\.1"):
                read()
        done = twice.rollback("base", previous=True)
        assert (done.replaced, done.version) == ("1.0.1", "1.0.0")
        assert served(twice, "base", "a") == [[1.0], [2.0]]
        assert twice.materialize("base")[0].version == "1.0.2"
        twice.delete("base", version="1.0.1")
        assert twice.verify() == ()

    def test_an_outage_of_the_online_store_can_be_finished(
        self, twice: gr.FeatureStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """History is rolled back already; the same call again loads the online store."""

        def fail(*_: Any) -> int:
            raise StoreUnavailableError("the online store is away")

        with monkeypatch.context() as patch:
            patch.setattr(type(twice._parts.online), "load", fail)
            with pytest.raises(StoreUnavailableError):
                twice.rollback("base", "1.0.0")
        assert twice.version("base").version == "1.0.0"
        assert twice.rollback("base", "1.0.0").online_rows == 2
        assert served(twice, "base", "a") == [[1.0], [2.0]]
        with pytest.raises(RefusedError, match="already"):
            twice.rollback("base", "1.0.0")


class TestPinning:
    @pytest.fixture
    def twice(self, based: gr.FeatureStore) -> gr.FeatureStore:
        write(based, BASE.head(1))
        build(based, base_group(taking("a", "b")))
        return based

    def test_a_group_is_named_with_its_version(self, twice: gr.FeatureStore) -> None:
        assert len(twice.read("base@1.0.0")) == len(twice.read("base", version="1.0.0")) == 2
        assert [item.name for item in twice.statistics("base@1.0.0", columns=["c"])] == ["c"]
        assert twice.inspect("base@1.0.0")["stored"]["version"] == twice.version("base@1.0.0").version == "1.0.0"
        assert [meta.version for meta in twice.versions("base@1.0.0")] == ["1.0.0"]
        assert twice.read("base@2.0.0", version="2.0.0").column_names == ["user_id", "at", "a", "b"]

    def test_two_versions_are_one_too_many(self, twice: gr.FeatureStore) -> None:
        asks: list[Callable[..., Any]] = [twice.read, twice.statistics, twice.inspect, twice.version, twice.delete]
        for ask in asks:
            with pytest.raises(RequestError, match="two versions"):
                ask("base@1.0.0", version="2.0.0")
            for name in ("base@1.0", "base@", "base@latest", "base@1.0.0:a"):
                with pytest.raises(RequestError):
                    ask(name)
        for ask in (twice.read, twice.version, twice.versions, twice.inspect, twice.verify):
            with pytest.raises(UnknownVersionError):
                ask("base@7.0.0")
        assert len(twice.versions("base")) == 2

    def test_only_groups_have_versions(self, twice: gr.FeatureStore) -> None:
        twice.apply([gr.FeatureView("model", features=["base:a"])])
        with pytest.raises(RequestError, match="no feature group"):
            twice.inspect("model@1.0.0")

    def test_a_definition_names_itself(self, twice: gr.FeatureStore) -> None:
        group: Any = twice.catalog.group("base")
        assert len(twice.read(group)) == 1
        assert twice.version(group, "1.0.0").version == "1.0.0"
        assert len(twice.versions(group)) == 2
        assert twice.inspect(group)["name"] == twice.diff(group).group == "base"
        assert len(twice.statistics(group)) > 0
        assert twice.plan_rollback(group, previous=True).version == "1.0.0"
        assert twice.verify(group) == twice.impact(group) == ()
        assert str(twice.lineage(group)) == str(twice.lineage("base"))
        assert twice.explain_materialize(group) == twice.explain_materialize("base")
        assert twice.push(group, [{"user_id": "u1", "at": at(9), "a": 1.0, "b": 1}]).groups == (("base", 1, 1),)
        assert twice.materialize(group)[0].version == "2.0.1"

    @pytest.mark.parametrize("name", [None, 5, Path("base"), 1.5, b"base"], ids=str)
    def test_what_is_no_name_is_refused(self, twice: gr.FeatureStore, name: Any) -> None:
        asks: list[Callable[[Any], Any]] = [
            twice.read, twice.versions, twice.version, twice.inspect, twice.statistics, twice.diff, twice.delete,
            twice.plan_rollback, twice.rollback, twice.lineage, twice.impact, twice.explain_materialize,
            twice.compare_statistics, lambda what: twice.push(what, []), lambda what: twice.materialize([what]),
        ]  # fmt: skip
        if name is not None:
            asks += [twice.verify, lambda what: twice.materialize(what)]
        for ask in asks:
            with pytest.raises(RequestError):
                ask(name)
        version: Any = 5
        for verb in (twice.read, twice.version, twice.inspect, twice.statistics, twice.rollback):
            with pytest.raises(RequestError, match="5"):
                verb(*(["base", version] if verb in (twice.version, twice.rollback) else ["base"]),
                     **({} if verb in (twice.version, twice.rollback) else {"version": version}))  # fmt: skip

    def test_a_version_is_neither_pushed_to_nor_materialized(self, twice: gr.FeatureStore) -> None:
        asks: list[Callable[[Any], Any]] = [
            twice.materialize, lambda what: twice.materialize([what]), twice.plan_materialize,
            twice.explain_materialize, lambda what: twice.push(what, []),
        ]  # fmt: skip
        for ask in asks:
            with pytest.raises(RequestError, match=r"a version cannot be (materialized|pushed to)"):
                ask("base@1.0.0")

    def test_only_a_group_has_versions_to_delete(self, twice: gr.FeatureStore) -> None:
        """A whole definition is never removed where a version was named."""
        doubled = gr.Transformation("doubled", sql={"doubled": "a * 2"}, outputs={"doubled": "float64"})
        twice.apply([gr.FeatureView("model", features=["base:a"]), doubled])
        for kind, name in (("feature view", "model"), ("entity", "user"), ("transformation", "doubled")):
            for words in ({"name": f"{name}@1.0.0"}, {"name": name, "version": "1.0.0"}):
                with pytest.raises(RequestError, match=f"{kind} '{name}' has no versions"):
                    twice.delete(**words)
        assert "model" in twice.catalog.views
        assert "doubled" in twice.catalog.transformations

    def test_one_version_is_deleted_by_its_name(self, twice: gr.FeatureStore) -> None:
        assert twice.delete("base@1.0.0") == ("version 1.0.0 of feature group base",)
        assert [meta.version for meta in twice.versions("base")] == ["2.0.0"]
        assert "base" in twice.catalog.groups

    def test_views_that_pin_a_version_keep_it(self, twice: gr.FeatureStore) -> None:
        """Directly, through another view, as a label; with cascade they go along."""
        inner = gr.FeatureView("inner", features=["base@1.0.0:c"])
        outer = gr.FeatureView("outer", features=["inner", "base:b"])
        label = gr.FeatureView("label", features=["base:b"], labels=["base@1.0.0:a"])
        twice.apply([inner, outer, label])
        with pytest.raises(InUseError) as caught:
            twice.delete("base", version="1.0.0")
        for name in ("inner", "outer", "label"):
            assert f"feature view {name}" in str(caught.value)
        assert caught.value.details["pins"][0] == {"kind": "feature_view", "name": "inner"}
        assert len(twice.read("base@1.0.0")) == 2
        twice.delete("base", version="2.0.0")
        assert twice.version("base").version == "1.0.0"
        removed = twice.delete("base", version="1.0.0", cascade=True)
        assert removed.index("feature view outer") < removed.index("feature view inner")
        assert set(removed) == {f"feature view {name}" for name in ("inner", "outer", "label")} | {
            "version 1.0.0 of feature group base"
        }
        assert not twice.catalog.views

    def test_derived_groups_that_pin_a_version_keep_it(self, twice: gr.FeatureStore) -> None:
        """Cascade removes views, not groups."""
        derived = gr.FeatureGroup("derived", entities=user, source=gr.DerivedSource(["base@1.0.0:b"]))
        twice.apply([derived, gr.FeatureView("model", features=["base@1.0.0:a"])])
        for cascade in (False, True):
            with pytest.raises(InUseError, match="feature group derived"):
                twice.delete("base", version="1.0.0", cascade=cascade)
        assert "model" in twice.catalog.views
        pins = pins_of(twice._parts, twice.catalog, "base", "1.0.0")
        assert sorted(map(str, pins)) == ["feature group derived", "feature view model"]
        assert pins_of(twice._parts, twice.catalog, "base", "2.0.0") == ()
        twice.materialize("derived")
        assert twice.version("derived").parents == (("base", "1.0.0"),)

    def test_a_group_goes_with_nested_views_by_cascade(self, twice: gr.FeatureStore) -> None:
        twice.apply(
            [gr.FeatureView("inner", features=["base:a"]), gr.FeatureView("outer", features=["inner", "base:b"])]
        )
        removed = twice.delete("base", cascade=True)
        assert removed[:3] == ("feature view outer", "feature view inner", "feature group base")

    def test_training_datasets_keep_their_versions(self, twice: gr.FeatureStore) -> None:
        """Cascade does not override what a training dataset was made of (VER-4), nor does pruning."""
        twice.apply([shops_group()])
        pins = [{"group": "base", "version": "1.0.0", "pushed_until": PUSHED_FROM}]
        registry = twice._parts.registry
        now = at(1)
        registry.put("training_datasets", "model#1", {"view": "model", "version": 1, "pins": pins}, now=now)
        for cascade in (False, True):
            with pytest.raises(InUseError, match="training dataset model#1"):
                twice.delete("base", version="1.0.0", cascade=cascade)
            with pytest.raises(InUseError, match="training dataset model#1"):
                twice.delete("base", cascade=cascade)
        with pytest.raises(InUseError, match="training dataset model#1"):
            twice.apply([shops_group()], prune=True)
        with pytest.raises(InUseError, match="training dataset model#1"):
            twice.plan([shops_group()], prune=True)
        assert len(twice.read("base@1.0.0")) == 2
        twice.delete("base", version="2.0.0")
        registry.remove("training_datasets", "model#1")
        assert twice.delete("base", version="1.0.0") == ("version 1.0.0 of feature group base",)


class TestRollbackAcrossDefinitions:
    """ONL-1: online answers what history answers, or refuses."""

    def refused(self, store: gr.FeatureStore, *features: str) -> None:
        with pytest.raises(UnsupportedError, match="grange materialize base"):
            store.get_online_features([f"base:{feature}" for feature in features], KEYS)
        assert [info.group for info in store._parts.online.info()] == []

    def test_a_column_of_another_type_is_not_served(self, store: gr.FeatureStore) -> None:
        write(store, BASE)
        build(store, base_group(taking("a")))
        build(store, base_group(taking("CAST(a AS BIGINT) AS a")))
        done = store.rollback("base", "1.0.0")
        assert done.online_rows is None
        assert "has a as float64 instead of int64: nothing is served online" in done.warnings[-1]
        self.refused(store, "a")
        assert history_of(store, "a") == [[1.0], [2.0]]

    def test_integers_are_served_where_they_are_read_as_they_are(self, store: gr.FeatureStore) -> None:
        write(store, BASE)
        for kind in ("INTEGER", "BIGINT", "SMALLINT"):
            build(store, base_group(taking(f"CAST(b AS {kind}) AS b")))
        done = store.rollback("base", "1.0.0")
        assert "has b as int32 instead of int16" in done.warnings[-1]
        self.refused(store, "b")
        store.apply([base_group(taking("CAST(b AS BIGINT) AS b"))])
        assert store.rollback("base", "2.0.0").warnings == ()
        assert store.rollback("base", "1.0.0").warnings == ()
        assert served(store, "base", "b") == [[1], [2]]

    def test_another_created_time_is_not_served(self, store: gr.FeatureStore) -> None:
        write(store, BASE.with_columns(loaded=pl.col("at")))
        build(store, base_group())
        source = gr.FileSource("data/base.parquet", event_time="at", created_time="loaded")
        build(store, gr.FeatureGroup("base", entities=user, source=source))
        done = store.rollback("base", "1.0.0")
        assert "has no created time, where loaded is defined: nothing is served online" in done.warnings[-1]
        self.refused(store, "a")
        assert history_of(store, "a") == [[1.0], [2.0]]

    def test_windows_and_plain_rows_do_not_stand_for_each_other(self, store: gr.FeatureStore) -> None:
        windows = base_group(aggregations=[gr.Rolling({"a": ["sum"]}, windows=["7d"])])
        write(store, BASE)
        build(store, base_group(taking("a")))
        build(store, windows)
        done = store.rollback("base", "1.0.0")
        assert "has no aggregations: nothing is served online" in done.warnings[-1]
        self.refused(store, "a__sum__7d")
        store.materialize("base")
        build(store, base_group(taking("a")))
        done = store.rollback("base", "2.0.0")
        assert "has aggregations, and the group has none" in done.warnings[-1]
        self.refused(store, "a")

    def test_events_that_lack_what_windows_read_are_not_served(self, store: gr.FeatureStore) -> None:
        def windowed(column: str, kind: str = "DOUBLE") -> gr.FeatureGroup:
            return base_group(
                taking(f"CAST({column} AS {kind}) AS {column}"),
                aggregations=[gr.Rolling({column: ["max"]}, windows=["30d"])],
            )

        write(store, BASE)
        build(store, windowed("a"))
        build(store, windowed("b"))
        assert "lacks columns that the aggregations read" in store.rollback("base", "1.0.0").warnings[-1]
        self.refused(store, "b__max__30d")
        build(store, windowed("a", "BIGINT"))
        assert "has them in other types" in store.rollback("base", "1.0.0").warnings[-1]
        self.refused(store, "a__max__30d")

    def test_columns_that_are_gone_are_said(self, based: gr.FeatureStore) -> None:
        build(based, base_group(taking("a", "b")))
        (warning,) = based.plan_rollback("base", "1.0.0").warnings
        assert "has c, which the group is not defined to have any more" in warning
        assert based.rollback("base", "1.0.0").warnings == (warning,)
        assert served(based, "base", "a", "b") == [[1.0, 1], [2.0, 2]]

    def test_deleting_the_latest_serves_nothing_of_another_kind(self, store: gr.FeatureStore) -> None:
        write(store, BASE)
        build(store, base_group(taking("a")))
        build(store, base_group(taking("CAST(a AS BIGINT) AS a")))
        store.delete("base@2.0.0")
        self.refused(store, "a")

    def test_pushed_rows_that_cannot_lie_beside_it_are_found_before(self, store: gr.FeatureStore) -> None:
        store.apply([clicks()])
        push(store, 1)
        store.materialize("clicks")
        schema = {"user_id": "string", "at": "datetime", "n": "int64", "seen": "datetime"}
        source = gr.PushSource("clicks_in", schema=schema, event_time="at", created_time="seen")
        store.apply([gr.FeatureGroup("clicks", entities=user, source=source)])
        store.materialize("clicks")
        store.push("clicks", [{"user_id": "u1", "at": at(5), "n": 5, "seen": at(5)}])
        for verb in (store.plan_rollback, store.rollback):
            with pytest.raises(SchemaError, match="pushed under another entity key or other time columns"):
                verb("clicks", "1.0.0")
        assert store.version("clicks").version == "1.1.0"
        assert store.read("clicks").polars["n"].to_list() == [1, 5]


def history_of(store: gr.FeatureStore, *features: str) -> list[list[Any]]:
    spine = [{**key, "event_time": at(20)} for key in KEYS]
    rows = store.get_historical_features([f"base:{each}" for each in features], spine).to_arrow().to_pylist()
    return [[row[feature] for feature in features] for row in rows]


class TestPushes:
    """Rows that would make history unreadable are refused, and nothing is written."""

    def refused(self, store: gr.FeatureStore, error: type[Exception], name: str, row: dict[str, Any]) -> None:
        before = store.read(name).arrow.to_pylist()
        held = store._parts.online.info()
        with pytest.raises(error, match=f"grange materialize {name}"):
            store.push(name, [row])
        assert store.read(name).arrow.to_pylist() == before
        assert store._parts.online.info() == held
        assert store.inspect(name)["pending_rows"] == 0

    def test_after_a_rollback_to_another_type(self, store: gr.FeatureStore) -> None:
        write(store, BASE.with_columns(a=pl.Series([1.5, 2.5])))
        build(store, base_group(taking("a")))
        build(store, base_group(taking("CAST(a AS BIGINT) AS a")))
        store.rollback("base", "1.0.0")
        self.refused(store, ColumnTypeError, "base", {"user_id": "u1", "at": at(5), "a": 7})
        store.materialize("base")
        store.push("base", [{"user_id": "u1", "at": at(5), "a": 7}])
        assert len(store.read("base")) == 3

    def test_after_a_type_there_and_back(self, store: gr.FeatureStore) -> None:
        """What was pushed last says nothing once a version contains it."""

        def typed(kind: str) -> gr.FeatureGroup:
            return base_group(taking(f"CAST(a AS {kind}) AS a"))

        write(store, BASE.with_columns(a=pl.Series([1.5, 2.5])))
        build(store, typed("BIGINT"))
        row = {"user_id": "u1", "at": at(5), "a": 7}
        store.push("base", [row])
        build(store, typed("DOUBLE"))
        store.apply([typed("BIGINT")])
        self.refused(store, ColumnTypeError, "base", row)

    def test_before_anything_was_materialized(self, store: gr.FeatureStore) -> None:
        store.apply([clicks()])
        push(store, 1)
        schema = {"user_id": "string", "at": "datetime", "n": "int64", "seen": "datetime"}
        source = gr.PushSource("clicks_in", schema=schema, event_time="at", created_time="seen")
        store.apply([gr.FeatureGroup("clicks", entities=user, source=source)])
        with pytest.raises(SchemaError, match="grange materialize clicks"):
            store.push("clicks", [{"user_id": "u1", "at": at(5), "n": 5, "seen": at(5)}])
        assert store.read("clicks").polars["n"].to_list() == [1]

    def test_where_they_fit_they_are_taken(self, store: gr.FeatureStore) -> None:
        write(store, BASE)
        build(store, base_group(taking("b")))
        store.apply([base_group(taking("CAST(b AS DOUBLE) AS b"))])
        store.push("base", [{"user_id": "u1", "at": at(5), "b": 7}])
        assert store.read("base").polars["b"].to_list() == [1.0, 2.0, 7.0]

    def test_before_a_change_of_times_is_materialized(self, store: gr.FeatureStore) -> None:
        write(store, BASE.with_columns(loaded=pl.col("at")))
        build(store, base_group())
        source = gr.FileSource("data/base.parquet", event_time="at", created_time="loaded")
        store.apply([gr.FeatureGroup("base", entities=user, source=source)])
        row = {"user_id": "u1", "at": at(5), "a": 7.0, "b": 1, "c": "z", "loaded": at(5)}
        self.refused(store, SchemaError, "base", row)
        store.materialize("base")
        store.push("base", [row])
        assert served(store, "base", "a") == [[7.0], [2.0]]

    def test_before_aggregations_are_materialized(self, store: gr.FeatureStore) -> None:
        """History would have plain features, and online windows."""
        write(store, BASE)
        build(store, base_group(taking("a")))
        store.apply([base_group(taking("a"), aggregations=[gr.Rolling({"a": ["sum"]}, windows=["7d"])])])
        self.refused(store, SchemaError, "base", {"user_id": "u1", "at": at(5), "a": 7.0})


class TestWhatIsOnline:
    """Which version was loaded is said, and so is a load that a crash cut off."""

    @pytest.fixture(params=["rows", "windows"])
    def behind(self, store: gr.FeatureStore, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
        """`base` 1.0.1, of which nothing came online: the process died after it was published."""
        windows = [gr.Rolling({"a": ["sum"]}, windows=["30d"])] if request.param == "windows" else []
        write(store, BASE)
        build(store, base_group(taking("a"), aggregations=windows))
        write(store, BASE.with_columns(a=pl.col("a") * 10))

        def die(*_: Any) -> int:
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            for load in ("load", "load_cells"):
                patch.setattr(type(store._parts.online), load, die)
            with pytest.raises(KeyboardInterrupt):
                store.materialize("base")
        return store

    def test_verify_tells_it_until_it_is_loaded(self, behind: gr.FeatureStore) -> None:
        assert behind.version("base").version == "1.0.1"
        assert [state["version"] for state in behind.inspect("base")["online_state"]] == ["1.0.0"]
        for found in (behind.verify(), behind.verify("base", repair=True), behind.verify("base@1.0.0")):
            (finding,) = found
            assert finding.problem == "online has 1.0.0, history 1.0.1: grange materialize base"
            assert not finding.removed
        behind.materialize("base")
        assert behind.verify() == ()
        assert behind.inspect("base")["online_state"][0]["version"] == "1.0.1"

    def test_what_was_asked_for_is_no_finding(self, based: gr.FeatureStore) -> None:
        write(based, BASE.head(1))
        based.materialize("base", online=False)
        assert based.verify() == ()
        assert based.inspect("base")["online_state"][0]["version"] == "1.0.0"

    def test_a_rollback_that_was_cut_off(self, based: gr.FeatureStore, monkeypatch: pytest.MonkeyPatch) -> None:
        write(based, BASE.head(1))
        build(based, base_group(taking("a", "b", "c")))

        def fail(*_: Any) -> int:
            raise StoreUnavailableError("the online store is away")

        with monkeypatch.context() as patch:
            patch.setattr(type(based._parts.online), "load", fail)
            with pytest.raises(StoreUnavailableError):
                based.rollback("base", "1.0.0")
            assert [each.problem for each in based.verify()] == [
                "online has 1.0.1, history 1.0.0: grange rollback base 1.0.0"
            ]
            patch.setattr(type(based._parts.online), "info", fail)
            assert [each.problem for each in based.verify()] == ["the online store is away"]
        based.rollback("base", "1.0.0")
        assert based.verify() == ()


class TestSuccessors:
    """A group that has the name of a deleted one has nothing of it."""

    def test_runs_are_not_inherited(self, based: gr.FeatureStore) -> None:
        based.materialize("base")
        group = based.catalog.group("base")
        based.delete("base")
        based.apply([group])
        assert based.inspect("base")["runs"] == []
        assert based.lineage("base").graph.runs == ()
        based.materialize("base", online=False)
        (run,) = based.inspect("base")["runs"]
        assert run["version"] == "1.0.0"
        assert [each.verb for each in based.lineage("base").graph.runs] == ["materialize"]
        with pytest.raises(UnsupportedError, match="nothing that was loaded"):
            based.get_online_features(["base@1.0.0:a"], KEYS)


class TestSnapshots:
    def test_a_moment_of_a_pushed_group_is_read_again(self, store: gr.FeatureStore) -> None:
        """VER-4, whatever is pushed, materialized or rolled back since."""
        store.apply([clicks()])
        offline = store._parts.offline
        push(store, 1)
        moments = [offline.snapshot("clicks")]
        store.materialize("clicks")
        push(store, 2)
        moments.append(offline.snapshot("clicks"))
        engine = store._parts.engine()
        kept = [engine.run(moment.rows, {}).arrow for moment in moments]
        push(store, 3)
        store.materialize("clicks")
        push(store, 4)
        store.rollback("clicks", previous=True)
        for moment, rows in zip(moments, kept, strict=True):
            again = offline.snapshot("clicks", moment.meta.version, pushed_until=moment.pushed_until)
            assert_rows_equal(engine.run(again.rows, {}).arrow, rows, by=["__sequence"])
        assert [moment.meta.version for moment in moments] == ["0.0.0", "1.0.0"]


class TestManifest:
    def test_it_is_made_again_from_what_is_there(self, based: gr.FeatureStore) -> None:
        path = based.project / ".grange/offline/_metadata/manifest.json"
        before = path.read_text()
        path.write_text("{}")
        assert based.manifest()["base"].latest == "1.0.0"
        assert path.read_text() == "{}"
        found = based.manifest(regenerate=True)
        assert (set(found), path.read_text()) == ({"base"}, before)
        assert found["base"].to_dict() == json.loads(before)["groups"]["base"]


class TestDamage:
    """What is wrong on disk is one clear error, and nothing is lost."""

    @pytest.fixture
    def folder(self, based: gr.FeatureStore) -> Path:
        write(based, BASE.with_columns(a=pl.col("a") * 10))
        build(based, base_group(taking("a", "b", "c")))
        return based.project / ".grange/offline/base/1.0.1"

    @pytest.mark.parametrize(
        "damage",
        [
            lambda folder: (folder / ".meta.json").unlink(),
            lambda folder: (folder / ".meta.json").write_text("{"),
            lambda folder: (folder / ".meta.json").write_text("{}"),
            lambda folder: change(folder, change_summary=[1]),
            lambda folder: change(folder, pushed_through="10"),
            lambda folder: change(folder, files=[5]),
            lambda folder: change(folder, row_count="many"),
            lambda folder: change(folder, timestamp="moment"),
            lambda folder: (folder / ".meta.json").unlink() or (folder / ".meta.json").mkdir(),
            lambda folder: (folder / "data.parquet").unlink(),
            lambda folder: (folder / "data.parquet").write_bytes(b"junk"),
            lambda folder: (folder / "data.parquet").write_bytes((folder / "data.parquet").read_bytes()[:-1] + b"?"),
        ],
        ids=[
            "no metadata",
            "half metadata",
            "other metadata",
            "list",
            "text",
            "number",
            "word",
            "other column",
            "folder",
            "no data",
            "junk",
            "another byte",
        ],
    )
    def test_it_is_named_and_a_build_gets_past_it(
        self, based: gr.FeatureStore, folder: Path, damage: Callable[[Path], object]
    ) -> None:
        damage(folder)
        with pytest.raises(CorruptStoreError, match=r"1\.0\.1"):
            based.read("base")
        assert any("1.0.1" in finding.path for finding in based.verify("base", repair=True))
        assert folder.is_dir(), "published versions are never removed"
        assert based.read("base@1.0.0").polars["a"].to_list() == [1.0, 2.0]
        assert based.materialize("base")[0].version == "1.0.2"
        assert served(based, "base", "a") == [[10.0], [20.0]]
        assert based.diff("base", "1.0.0").after == "1.0.2"
        based.delete("base", version="1.0.1")
        assert based.verify() == ()

    @pytest.mark.parametrize("damaged", [".meta.json", "data.parquet"])
    def test_inspect_shows_the_rest(self, based: gr.FeatureStore, folder: Path, damaged: str) -> None:
        (folder / damaged).write_bytes(b"junk")
        shown = based.inspect("base")
        assert (shown["latest"], shown["features"][0]["name"]) == ("1.0.1", "a")
        assert shown["versions"] == (["1.0.0"] if damaged == ".meta.json" else ["1.0.0", "1.0.1"])
        assert [run["version"] for run in shown["runs"]] == ["1.0.1", "1.0.0"]
        assert "1.0.1" in shown["damage"] and "grange verify base" in shown["damage"]
        assert (shown["stored"] is None) == (damaged == ".meta.json")
        with pytest.raises(CorruptStoreError, match=r"1\.0\.1"):
            based.inspect("base@1.0.1")
        assert "damage" not in based.inspect("base@1.0.0")

    def test_a_file_named_as_a_version_is_none(self, based: gr.FeatureStore, folder: Path) -> None:
        (folder.parent / "9.0.0").touch()
        (folder.parent / "9.1.0").symlink_to("nowhere")
        with pytest.raises(UnknownVersionError):
            based.read("base@9.0.0")
        assert [meta.version for meta in based.versions("base")] == ["1.0.0", "1.0.1"]
        assert served(based, "base", "a") == [[10.0], [20.0]]
        assert sorted(Path(each.path).name for each in based.verify("base", repair=True)) == ["9.0.0", "9.1.0"]
        write(based, BASE)
        assert based.materialize("base")[0].version == "1.0.2"

    def test_a_push_that_is_gone_is_not_forgotten(self, store: gr.FeatureStore) -> None:
        """Its number is not given out again, so that what was pinned is never other rows."""
        store.apply([clicks()])
        push(store, 1)
        store.materialize("clicks")
        push(store, 2)
        offline = store._parts.offline
        pin = offline.snapshot("clicks")
        (newest,) = sorted((store.project / ".grange/offline/clicks/_pushed").iterdir())[1:]
        newest.unlink()
        assert [each.problem for each in store.verify("clicks")] == [
            f"pushed rows {PUSHED_FROM + 1} to {PUSHED_FROM + 1} are not there"
        ]
        for read in (
            lambda: store.read("clicks"),
            lambda: offline.snapshot("clicks", pin.meta.version, pushed_until=pin.pushed_until),
        ):
            with pytest.raises(CorruptStoreError, match=f"pushed rows {PUSHED_FROM + 1} to {PUSHED_FROM + 1}"):
                read()
        assert "damage" in store.inspect("clicks")
        push(store, 3)
        assert offline.next_pushed("clicks") == pin.pushed_until + 1
        with pytest.raises(CorruptStoreError):
            offline.snapshot("clicks", pin.meta.version, pushed_until=pin.pushed_until)
        assert store.materialize("clicks")[0].version == "1.0.1"
        assert store.read("clicks").polars["n"].to_list() == [1, 3]
        (store.project / ".grange/offline/clicks/_reached.json").write_text("[]")
        assert offline.next_pushed("clicks") == pin.pushed_until + 1
        assert any("_reached.json" in each.path for each in store.verify("clicks"))
        push(store, 4)
        assert not any("_reached.json" in each.path for each in store.verify("clicks"))
        assert store.read("clicks").polars["n"].to_list() == [1, 3, 4]


def change(folder: Path, **fields: Any) -> None:
    """Other values for fields of a version's metadata."""
    meta = folder / ".meta.json"
    meta.write_text(json.dumps(json.loads(meta.read_text()) | fields))
