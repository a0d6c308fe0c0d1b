"""Leaks through the store: what plan, apply and training data tell of values from the future, and what settings do."""

from __future__ import annotations

import datetime as dt
import random
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest
from tests.cli.running import Grange, Ran

import grange as gr
from grange.cli.main import run
from grange.cli.output import REFUSED, USAGE
from grange.errors import ConfigError, LeakError, LeakWarning
from grange.quality.leaks import CODES, TRAINING_CODES, Leak
from grange.quality.leaks.training import SAMPLE
from grange.verbs.history import HistoricalFeatures

START = dt.datetime(2026, 3, 1, 9, 30, 7, tzinfo=dt.UTC)
HOUR = dt.timedelta(hours=1)
DAY = dt.timedelta(days=1)
ROWS = 240

user = gr.Entity("user", join_keys={"user_id": "int64"})


def payments(seed: int = 5, **columns: Any) -> pl.DataFrame:
    """Payments of some users, a few hours apart."""
    chance = random.Random(seed)
    fraud = [chance.random() < 0.3 for _ in range(ROWS)]
    return pl.DataFrame(
        {
            "user_id": [row % 8 for row in range(ROWS)],
            "at": [START + row * 3 * HOUR + dt.timedelta(seconds=chance.randrange(3000)) for row in range(ROWS)],
            "amount": [chance.uniform(1, 100) for _ in range(ROWS)],
            "is_fraud": fraud,
            **columns,
        }
    )


def source(frame: pl.DataFrame, name: str = "payments", **options: Any) -> gr.TableSource:
    return gr.TableSource(frame, name=name, event_time="at", **options)


def group(name: str, frame: pl.DataFrame, *, created_time: str | None = None, **options: Any) -> gr.FeatureGroup:
    return gr.FeatureGroup(name, entities=user, source=source(frame, created_time=created_time), **options)


def spine(frame: pl.DataFrame, after: dt.timedelta = dt.timedelta(0)) -> pl.DataFrame:
    """A row per payment, with its label, so long after it."""
    return frame.select("user_id", "is_fraud", event_time=pl.col("at") + after)


@dataclass(frozen=True)
class Case:
    """Definitions and a request, once with a leak and once without."""

    definitions: list[Any]
    spine: Any = None
    """Of training data; None where definitions give the leak away."""
    view: str = "model"


def windowed(column: str, **options: Any) -> list[gr.Rolling]:
    return [gr.Rolling({column: ["sum"]}, windows=["7d"], **options)]


def own_label(closed: Any) -> Case:
    frame = payments()
    labels = group("labels", frame, schema={"is_fraud": "boolean"})
    history = group("history", frame, aggregations=windowed("is_fraud", closed=closed))
    return Case([labels, history, gr.FeatureView("model", features=["history"], labels=["labels:is_fraud"])])


def overlapping(feature: str) -> Case:
    aggregations = [gr.Rolling({"amount": ["sum"]}, windows=["7d", "30d"]), gr.Lag("amount", "30d")]
    spend = group("spend", payments(), aggregations=aggregations)
    return Case([spend, gr.FeatureView("model", features=[f"spend:{feature}"], labels=["spend:amount__sum__7d"])])


def named_as_the_label(closed: Any) -> Case:
    history = group("history", payments(), aggregations=windowed("is_fraud", closed=closed))
    return Case([history, gr.FeatureView("model", features=["history"], labels=["is_fraud"])])


def own_events(closed: Any, column: str = "is_fraud") -> Case:
    frame = payments()
    history = group("history", frame, aggregations=windowed(column, closed=closed))
    return Case([history, gr.FeatureView("model", features=["history"], labels=["is_fraud"])], spine(frame))


def without_zone(naive: bool) -> Case:
    frame = payments()
    rows = spine(frame, HOUR)
    if naive:
        rows = rows.with_columns(pl.col("event_time").dt.replace_time_zone(None))
    return Case([group("history", frame), gr.FeatureView("model", features=["history:amount"])], rows)


def dated(at_midnight: bool) -> Case:
    frame = payments()
    daily = frame.with_columns(pl.col("at").dt.truncate("1d")) if at_midnight else frame
    return Case([group("history", daily), gr.FeatureView("model", features=["history:amount"])], spine(frame, HOUR))


def telling(copied: bool) -> Case:
    frame = payments()
    chance = random.Random(8)
    reasons = ["damaged" if fraud else None for fraud in frame["is_fraud"]]
    if not copied:
        reasons = ["damaged" if chance.random() < 0.3 else None for _ in range(ROWS)]
    history = group("history", frame.with_columns(reason=pl.Series(reasons)))
    view = gr.FeatureView("model", features=["history:reason", "history:amount"], labels=["is_fraud"])
    return Case([history, view], spine(frame, dt.timedelta(seconds=1)))


def known_later(late: bool) -> Case:
    frame = payments()
    known = frame.with_columns(known=pl.col("at") + (2 * DAY if late else dt.timedelta(seconds=1)))
    history = group("history", known, created_time="known")
    view = gr.FeatureView("model", features=["history:amount"], labels=["is_fraud"])
    return Case([history, view], spine(frame, HOUR))


LEAKS: dict[str, tuple[Case, Case]] = {
    "LEAK-001": (own_label("right"), own_label("left")),
    "LEAK-002": (overlapping("amount__sum__30d"), overlapping("amount__lag__30d")),
    "LEAK-003": (named_as_the_label("right"), named_as_the_label("left")),
    "LEAK-101": (own_events("right"), own_events("left")),
    "LEAK-102": (without_zone(True), without_zone(False)),
    "LEAK-103": (dated(True), dated(False)),
    "LEAK-104": (telling(True), telling(False)),
    "LEAK-105": (known_later(True), known_later(False)),
}
"""By code, a case that has the leak and one that does not."""
NOTICES = ("LEAK-003",)
TRAINING = [code for code, (case, _) in LEAKS.items() if case.spine is not None]
DEFINITIONS = [code for code in LEAKS if code not in TRAINING]


@contextmanager
def materialized(folder: Path, case: Case, **options: Any) -> Iterator[gr.FeatureStore]:
    """A store with a case's definitions, and its history where training data is asked for."""
    folder.mkdir(exist_ok=True)
    with gr.FeatureStore(folder, online="memory", **options) as store:
        store.apply(case.definitions)
        if case.spine is not None:
            store.materialize()
        yield store


def trained(store: gr.FeatureStore, case: Case, **how: Any) -> HistoricalFeatures:
    """Training data, where nobody minds warnings."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LeakWarning)
        return store.get_historical_features(case.view, case.spine, **how)


def found(folder: Path, case: Case, **how: Any) -> tuple[Leak, ...]:
    """The leaks that a case is told of, without settings."""
    with materialized(folder, case) as store:
        return store.plan(case.definitions).leaks if case.spine is None else trained(store, case, **how).leaks


# --- codes -----------------------------------------------------------------------------------------------------------


def test_every_code_is_told_here() -> None:
    assert LEAKS.keys() == CODES.keys()


@pytest.mark.parametrize("code", LEAKS)
def test_a_leak_is_told(tmp_path: Path, code: str) -> None:
    (leak,) = found(tmp_path, LEAKS[code][0])

    assert (leak.code, leak.view) == (code, "model")
    assert leak.severity == ("notice" if code in NOTICES else "warning")


@pytest.mark.parametrize("code", LEAKS)
def test_what_is_clean_is_not(tmp_path: Path, code: str) -> None:
    assert found(tmp_path, LEAKS[code][1]) == ()


@pytest.mark.parametrize("code", TRAINING)
def test_every_engine_sees_the_same(tmp_path: Path, code: str, engine_name: str) -> None:
    leaking, clean = LEAKS[code]

    with materialized(tmp_path / "leaking", leaking) as store:
        assert [leak.code for leak in trained(store, leaking, engine=engine_name).leaks] == [code]
    with materialized(tmp_path / "clean", clean) as store:
        assert trained(store, clean, engine=engine_name).leaks == ()


# --- definitions -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", DEFINITIONS)
def test_plan_and_apply_tell_of_definitions(tmp_path: Path, code: str) -> None:
    case = LEAKS[code][0]
    with gr.FeatureStore(tmp_path, online="memory") as store:
        planned = store.plan(case.definitions)
        applied = store.apply(case.definitions)
        again = store.apply(case.definitions)

    assert [leak.code for leak in planned.leaks] == [code]
    assert planned.leaks == applied.leaks == again.leaks
    assert not again.changes
    assert planned.to_dict()["leaks"] == [leak.to_dict() for leak in planned.leaks]


def test_a_view_is_looked_at_when_what_it_takes_from_changes(tmp_path: Path) -> None:
    """Whether it is given again or not; views that nothing happens to are not told of again."""
    clean = own_label("left").definitions
    leaking = own_label("right").definitions[1]
    outer = gr.FeatureView("outer", features=["model"], labels=["labels:is_fraud"])
    other = group("other", payments())
    with gr.FeatureStore(tmp_path, online="memory") as store:
        assert store.apply([*clean, outer]).leaks == ()

        changed = store.apply([leaking])
        apart = store.apply([other])
        mended = store.apply([clean[1]])

    assert [(leak.code, leak.view) for leak in changed.leaks] == [("LEAK-001", "model"), ("LEAK-001", "outer")]
    assert apart.changes and apart.leaks == ()
    assert mended.leaks == ()


@pytest.mark.parametrize("errors", ["all", ["LEAK-001"]])
def test_an_error_of_definitions_changes_nothing(tmp_path: Path, errors: Any) -> None:
    case = LEAKS["LEAK-001"][0]
    with gr.FeatureStore(tmp_path, online="memory", leaks={"errors": errors}) as store:
        for verb in (store.plan, store.apply):
            with pytest.raises(LeakError, match="LEAK-001") as caught:
                verb(case.definitions)

        assert [leak["code"] for leak in caught.value.details["leaks"]] == ["LEAK-001"]
        assert not store.catalog.views
        assert not store.catalog.groups


def test_a_notice_is_an_error_only_by_its_code(tmp_path: Path) -> None:
    case = LEAKS["LEAK-003"][0]
    with gr.FeatureStore(tmp_path, online="memory", leaks={"errors": "all"}) as store:
        assert [leak.code for leak in store.apply(case.definitions).leaks] == ["LEAK-003"]
    with (
        gr.FeatureStore(tmp_path, online="memory", leaks={"errors": ["LEAK-003"]}) as store,
        pytest.raises(LeakError, match="LEAK-003"),
    ):
        store.plan(case.definitions)


# --- training data ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", TRAINING)
def test_training_data_warns_where_it_was_asked_for(tmp_path: Path, code: str) -> None:
    case = LEAKS[code][0]
    with materialized(tmp_path, case) as store, pytest.warns(LeakWarning, match=code) as caught:
        got = store.get_historical_features(case.view, case.spine)

    assert [warning.filename for warning in caught] == [__file__]
    assert str(caught[0].message) == str(got.leaks[0])


@pytest.mark.parametrize("code", TRAINING)
def test_an_error_is_raised_before_anything_is_returned(tmp_path: Path, code: str) -> None:
    case = LEAKS[code][0]
    for errors in ("all", [code]):
        with (
            materialized(tmp_path, case, leaks={"errors": errors}) as store,
            pytest.raises(LeakError, match=code) as caught,
        ):
            store.get_historical_features(case.view, case.spine)
        assert caught.value.asked_by == "feature view 'model'"


@pytest.mark.parametrize("code", LEAKS)
def test_what_is_ignored_is_not_told(tmp_path: Path, code: str) -> None:
    """Not even where it is an error, too. Here no warning is caught: one would fail."""
    case = LEAKS[code][0]
    with materialized(tmp_path, case, leaks={"ignore": [code], "errors": "all"}) as store:
        assert code not in [leak.code for leak in store.plan(case.definitions).leaks]
        if case.spine is not None:
            assert store.get_historical_features(case.view, case.spine).leaks == ()


def test_who_ignores_everything_pays_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine runs the plan as it is, and nobody looks at what it gives."""
    case = LEAKS["LEAK-104"][0]
    monkeypatch.delattr("grange.verbs.history.watched")
    monkeypatch.delattr("grange.verbs.history.check_history")
    with materialized(tmp_path, case, leaks={"ignore": sorted(TRAINING_CODES)}) as store:
        got = store.get_historical_features(case.view, case.spine)

    assert got.leaks == ()
    assert len(got) == ROWS


def test_notices_do_not_warn(tmp_path: Path) -> None:
    case = own_events("right", column="amount")
    with materialized(tmp_path, case) as store:
        got = store.get_historical_features(case.view, case.spine)

    assert [(leak.code, leak.severity) for leak in got.leaks] == [("LEAK-101", "notice")]


@pytest.mark.parametrize("code", TRAINING)
def test_the_check_leaves_no_trace_in_the_answer(tmp_path: Path, code: str, engine_name: str) -> None:
    """Columns, values and the plan that is explained are those of a request that ignores all leaks."""
    case = LEAKS[code][0]
    with materialized(tmp_path, case) as store:
        looked = trained(store, case, engine=engine_name)
    with materialized(tmp_path, case, leaks={"ignore": sorted(TRAINING_CODES)}) as store:
        unseen = store.get_historical_features(case.view, case.spine, engine=engine_name)

    assert looked.feature_names == unseen.feature_names
    assert looked.explain() == unseen.explain()
    assert "__seen" not in looked.explain()
    assert looked.to_arrow().equals(unseen.to_arrow())
    assert looked.to_polars().equals(unseen.to_polars())


def test_a_spine_that_is_made_of_a_group_is_of_its_events(tmp_path: Path) -> None:
    """PIT-8: that says nothing. Of another group it does."""
    frame = payments()
    own = group("own", frame)
    other = group("other", frame, aggregations=windowed("amount"))
    with materialized(tmp_path, Case([own, other], spine=())) as store:
        assert store.get_historical_features(["own"]).leaks == ()
        (leak,) = store.get_historical_features(["own", "other"]).leaks

    assert (leak.code, leak.severity, leak.group) == ("LEAK-101", "notice", "other")


def test_groups_without_times_are_not_looked_at(tmp_path: Path) -> None:
    shops = pl.DataFrame({"user_id": [0, 1], "country": ["FR", "NZ"]})
    always = gr.FeatureGroup("always", entities=user, source=gr.TableSource(shops, name="shops"))
    with materialized(tmp_path, Case([always], spine=())) as store:
        assert store.get_historical_features(["always"], spine(payments())).leaks == ()


def test_labels_may_be_features_of_a_group(tmp_path: Path) -> None:
    """They are predicted, not looked at as features are: a label is of its own time."""
    frame = payments()
    labels = group("labels", frame, schema={"is_fraud": "boolean"})
    copied = frame.select("user_id", pl.col("at") - HOUR, score=pl.col("is_fraud").cast(pl.Float64))
    scores = gr.FeatureGroup("scores", entities=user, source=source(copied, "scores"))
    view = gr.FeatureView("model", features=["scores"], labels=["labels:is_fraud"])
    case = Case([labels, scores, view], frame.select("user_id", event_time="at"))
    for full in (False, True):
        with materialized(tmp_path, case) as store:
            (leak,) = trained(store, case, full_feature_names=full).leaks

        assert (leak.code, leak.group) == ("LEAK-104", "scores")
        assert leak.label == ("labels__is_fraud" if full else "is_fraud")


def test_labels_of_any_kind_stay_in_the_spine(tmp_path: Path) -> None:
    """A label that cannot be compared with anything is no reason to refuse the join (PIT-1)."""
    frame = payments()
    view = gr.FeatureView("model", features=["history:amount"], labels=["is_fraud"])
    given = spine(frame, HOUR).drop("is_fraud")
    mixed = [1, "one", None, {}] * (ROWS // 4)
    maps = pa.array([[("a", 1)]] * ROWS, pa.map_(pa.string(), pa.int64()))
    with materialized(tmp_path, Case([group("history", frame), view], given)) as store:
        for asked in (
            given.to_pandas().assign(is_fraud=mixed),
            given.to_arrow().append_column("is_fraud", maps),
            given.to_arrow().append_column("is_fraud", pa.nulls(ROWS)),
            given.with_columns(is_fraud=pl.Series(mixed, dtype=pl.Object)),
        ):
            got = store.get_historical_features("model", asked)

            assert got.leaks == ()
            assert got.feature_names == ("amount",)


@pytest.mark.parametrize("kind", ["polars", "arrow", "pandas", "dicts"])
def test_times_without_zone_are_seen_in_any_frame(tmp_path: Path, kind: str) -> None:
    case = without_zone(naive=True)
    convert: dict[str, Callable[[pl.DataFrame], Any]] = {
        "polars": lambda frame: frame,
        "arrow": pl.DataFrame.to_arrow,
        "pandas": pl.DataFrame.to_pandas,
        "dicts": pl.DataFrame.to_dicts,
    }
    with materialized(tmp_path, case) as store:
        with pytest.warns(LeakWarning, match="LEAK-102"):
            store.get_historical_features("model", convert[kind](case.spine))
        texts = case.spine.with_columns(pl.col("event_time").dt.to_string("iso"))
        dates = case.spine.with_columns(pl.col("event_time").dt.date())
        for said in [texts] if kind == "pandas" else [texts, dates]:  # pandas has no dates
            got = store.get_historical_features("model", convert[kind](said))

            assert "LEAK-102" not in [leak.code for leak in got.leaks]


def test_a_source_without_zone_is_seen_beside_a_spine_with_one(tmp_path: Path) -> None:
    frame = payments()
    naive = frame.with_columns(pl.col("at").dt.replace_time_zone(None))
    case = Case([group("history", naive), gr.FeatureView("model", features=["history:amount"])], spine(frame, HOUR))
    with materialized(tmp_path, case) as store:
        (leak,) = trained(store, case).leaks
        made = store.get_historical_features("model")

    assert (leak.code, leak.severity, leak.group) == ("LEAK-102", "warning", "history")
    assert made.leaks == ()


def test_of_many_rows_a_sample_is_looked_at(tmp_path: Path) -> None:
    """Whatever engine and frame they come in; the answer has all of them."""
    case = own_events("right")
    many = pl.concat([case.spine] * (SAMPLE // ROWS + 50))
    with materialized(tmp_path, case) as store, warnings.catch_warnings():
        warnings.simplefilter("ignore", LeakWarning)
        for engine, rows in (("polars", many), ("polars", many.to_arrow()), ("duckdb", many.to_pandas())):
            got = store.get_historical_features("model", rows, engine=engine)

            assert [(leak.code, leak.rows, leak.of) for leak in got.leaks] == [("LEAK-101", SAMPLE, SAMPLE)]
            assert len(got) == len(many) > SAMPLE


def test_without_labels_created_times_are_not_held_against_anybody(tmp_path: Path) -> None:
    """A state as of midnight, known an hour later, is no day's sum; only created times tell, which are not read."""
    frame = payments().with_columns(pl.col("at").dt.truncate("1d"))
    known = frame.with_columns(known=pl.col("at") + HOUR)
    states = group("states", known, created_time="known")
    view = gr.FeatureView("model", features=["states:amount"], labels=["is_fraud"])
    with materialized(tmp_path, Case([states, view], spine=())) as store:
        asked = spine(payments(), 2 * HOUR)

        assert store.get_historical_features(["states:amount"], asked).leaks == ()
        assert store.get_historical_features("model", asked).leaks == ()


# --- settings --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("setting", ["errors", "ignore"])
def test_a_code_that_does_not_exist_is_refused_when_the_store_is_made(tmp_path: Path, setting: str) -> None:
    with pytest.raises(ConfigError, match=f"leaks.{setting}: no code 'LEAK-100'") as caught:
        gr.FeatureStore(tmp_path, leaks={setting: ["LEAK-100"]})

    assert set(caught.value.closest) & CODES.keys()


def test_settings_come_from_the_file_and_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case = LEAKS["LEAK-001"][0]
    (tmp_path / "grange.toml").write_text('[leaks]\nerrors = "all"\n')
    with gr.FeatureStore(tmp_path, online="memory") as store, pytest.raises(LeakError):
        store.plan(case.definitions)
    monkeypatch.setenv("GRANGE_LEAKS__IGNORE", "LEAK-001, LEAK-102")
    with gr.FeatureStore(tmp_path, online="memory") as store:
        assert store.plan(case.definitions).leaks == ()


# --- the command line ------------------------------------------------------------------------------------------------


DEFINED = """
import grange as gr

user = gr.Entity("user", join_keys={"user_id": "int64"})
payments = gr.FileSource("payments.parquet", event_time="at")
labels = gr.FeatureGroup("labels", entities=user, source=payments, schema={"is_fraud": "boolean"})
history = gr.FeatureGroup(
    "history", entities=user, source=payments,
    aggregations=[gr.Rolling({"is_fraud": ["sum"], "amount": ["sum"]}, windows=["7d"])],
)
model = gr.FeatureView("model", features=["history"], labels=["labels:is_fraud"])
brought = gr.FeatureView("brought", features=["history"], labels=["is_fraud"])
"""


@pytest.fixture
def grange(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Grange:
    """Commands in a project that leaks."""
    monkeypatch.chdir(tmp_path)
    payments().write_parquet("payments.parquet")
    spine(payments()).write_parquet("spine.parquet")
    Path("features.py").write_text(DEFINED)
    Path("grange.toml").write_text("")

    def call(*arguments: str) -> Ran:
        capsys.readouterr()
        code = run(arguments)
        said = capsys.readouterr()
        return Ran(code, said.out, said.err)

    return call


@pytest.mark.parametrize("verb", ["plan", "apply"])
def test_plan_and_apply_warn_on_standard_error(grange: Grange, verb: str) -> None:
    ran = grange(verb)

    assert ran.code == 0
    assert ran.err.startswith("warning: LEAK-001: feature view 'model': history:is_fraud__sum__7d counts the event")
    assert f"fix:       {CODES['LEAK-001'].fix}" in ran.err
    assert "LEAK" not in ran.out
    assert "2 notices of possible leaks: --json shows them" in ran.out


@pytest.mark.parametrize("verb", ["plan", "apply"])
def test_json_has_notices_too(grange: Grange, verb: str) -> None:
    ran = grange(verb, "--json")

    told = [(leak["code"], leak["severity"], leak["view"]) for leak in ran.json["leaks"]]
    assert sorted(told) == [
        ("LEAK-001", "warning", "model"),
        ("LEAK-003", "notice", "brought"),
        ("LEAK-003", "notice", "model"),
    ]
    assert ran.err.count("LEAK-") == 1


def test_an_error_ends_the_command(grange: Grange, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRANGE_LEAKS__ERRORS", "all")

    ran = grange("apply", "--json")

    assert ran.code == REFUSED
    assert ran.json["error"]["code"] == LeakError.code
    assert [leak["code"] for leak in ran.json["error"]["details"]["leaks"]] == ["LEAK-001"]
    monkeypatch.delenv("GRANGE_LEAKS__ERRORS")
    assert grange("fv", "list", "--json").json == []


def test_a_wrong_code_is_wrong_usage(grange: Grange, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRANGE_LEAKS__IGNORE", "LEAK-01")

    ran = grange("plan")

    assert ran.code == USAGE
    assert "LEAK-001" in ran.err


def test_reading_a_view_warns_on_standard_error(grange: Grange) -> None:
    assert grange("apply").code == 0
    assert grange("materialize").code == 0

    ran = grange("fv", "read", "brought", "--spine", "spine.parquet", "--n", "1")
    said = grange("fv", "read", "brought", "--spine", "spine.parquet", "--n", "1", "--json")

    assert ran.code == 0
    assert ran.err.startswith("warning: LEAK-101: 240 of 240 rows see an event of feature group 'history'")
    assert "LeakWarning" not in ran.err + said.err
    assert [leak["code"] for leak in said.json["leaks"]] == ["LEAK-101"]
    assert said.json["columns"] == ["user_id", "is_fraud", "event_time", "is_fraud__sum__7d", "amount__sum__7d"]


def test_creating_a_view_warns_on_standard_error(grange: Grange) -> None:
    assert grange("apply").code == 0

    ran = grange("fv", "create", "made", "--feature-group", "history", "--label", "labels:is_fraud")

    assert ran.code == 0
    assert ran.err.startswith("warning: LEAK-001: feature view 'made'")
    assert "1 notice of possible leaks" in ran.out
