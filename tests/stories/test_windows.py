"""Windows through the store: what was served online is what a point-in-time join as known then says (ONL-1, WIN-2).

Events arrive in an order of their own: late, twice under one id, taken back. Whatever is read in between, at any
moment, must be the answer that history gives for that moment with `as_known=True`.
"""

from __future__ import annotations

import datetime as dt
import math
import random
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import grange as gr

START = dt.datetime(2026, 3, 1, tzinfo=dt.UTC)
MINUTE = dt.timedelta(minutes=1)
FUNCTIONS = [
    "count", "sum", "mean", "min", "max", "std", "var", "range", "median", "quantile(0.9)", "count_distinct", "mode",
    "top_n(2)", "first", "last", "first_n(3)", "last_n(3)", "min_by(weight)", "max_by(weight)", "decayed_sum(2h)",
    "ewma(2h)", "time_since_last",
]  # fmt: skip
WINDOWS = ["1ms", "30m", "6h", "5rows", "lifetime"]
AGGREGATIONS = [
    gr.Rolling({"amount": FUNCTIONS, "*": ["count", "time_since_last"]}, windows=WINDOWS),
    *(
        gr.Rolling({"amount": ["sum", "max", "last"]}, windows=["2h", "3rows"], closed=closed, name=f"{closed}_ended")
        for closed in ("left", "both", "none")
    ),
    gr.Rolling({"amount": ["sum", "min"]}, "3h", every="1h", offset="15m", name="hourly"),
    gr.Rolling({"amount": ["sum", "count", "last"]}, windows=["6h", "2rows"], filter="kind = 'b'"),
    gr.Lag("amount", ["10m", "2h"], tolerance="1h"),
    gr.Lag("kind", "1h"),
    gr.Rollup({"amount": ["mean", "sum"]}, every="1h"),
    gr.Session({"amount": ["sum", "count", "first"]}, gap="20m"),
    gr.Calendar(["hour", "weekday"], timezone="Asia/Kolkata"),
]  # fmt: skip
SCHEMA = {
    "user_id": "string", "at": "datetime", "known": "datetime", "tx": "string", "gone": "boolean",
    "amount": "float64", "weight": "int64", "kind": "string",
}  # fmt: skip


POLARS = {
    "user_id": pl.String, "at": pl.Datetime("us", "UTC"), "known": pl.Datetime("us", "UTC"), "tx": pl.String,
    "gone": pl.Boolean, "amount": pl.Float64, "weight": pl.Int64, "kind": pl.String,
}  # fmt: skip


def definitions(**options: Any) -> list[Any]:
    source = gr.PushSource(
        "payments", schema=SCHEMA, event_time="at", created_time="known", event_id="tx", retracted="gone"
    )
    user = gr.Entity("user", join_keys=["user_id"])
    spend = gr.FeatureGroup("spend", entities=user, source=source, aggregations=AGGREGATIONS, **options)
    return [spend, gr.FeatureView("model", features=["spend"])]


def arrivals(chance: random.Random, count: int) -> list[dict[str, Any]]:
    """Events in the order in which they become known: some late by hours, some corrections, some taken back."""
    events = []
    for number in range(count):
        known = START + number * MINUTE
        late = chance.choice([0, 0, 0, 1, 5, 90, 400]) * MINUTE
        events.append(
            {
                "user_id": chance.choice(["a", "a", "a", "b", "c"]),
                "at": known - late - chance.choice([0, 0, 30, 59]) * dt.timedelta(seconds=1),
                "known": known,
                "tx": f"tx{chance.randrange(count)}" if chance.random() < 0.7 else None,
                "gone": chance.random() < 0.08,
                "amount": chance.choice([None, 0.1, -2.5, 1e9, 1e-9, chance.uniform(-10, 10)]),
                "weight": chance.choice([None, 1, 2, 3]),
                "kind": chance.choice(["a", "b", None]),
            }
        )
    return events


def same(one: Any, other: Any) -> bool:
    """Equal as ONL-1 has it: floats within 1e-9 relative, everything else exactly."""
    if isinstance(one, float) and isinstance(other, float):
        return (math.isnan(one) and math.isnan(other)) or math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-12)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other) and type(one) is type(other)


def check(online: list[dict[str, Any]], offline: list[dict[str, Any]], what: str) -> None:
    for served, trained in zip(online, offline, strict=True):
        wrong = {name: (value, trained[name]) for name, value in served.items() if not same(value, trained[name])}
        assert not wrong, f"{what}: (online, offline) differ: {wrong}"


@pytest.mark.parametrize("store", ["memory", "lmdb"])
@pytest.mark.parametrize("seed", [1, 2])
def test_replay(store: str, seed: int, tmp_path: Path) -> None:
    """Read while events arrive in random order, with a restart in the middle; then ask history what was right."""
    chance = random.Random(seed)
    events = arrivals(chance, 300)
    project = gr.FeatureStore(tmp_path, online=store)
    project.apply(definitions())
    asked: list[tuple[str, dt.datetime]] = []
    served: list[dict[str, Any]] = []
    place, restarted = 0, False
    while place < len(events):
        batch = events[place : place + chance.choice([1, 1, 2, 10])]
        place += len(batch)
        project.push("payments", batch)
        for _ in range(chance.randrange(5)):
            # any moment from the last arrival until just before the next
            moment = batch[-1]["known"] + dt.timedelta(microseconds=chance.randrange(60_000_000))
            user = chance.choice(["a", "b", "c", "nobody"])
            asked.append((user, moment))
            served += project.get_online_features("model", [{"user_id": user}], now=moment).to_dicts()
        if place > len(events) // 2 and not restarted:
            restarted = True
            project.close()
            project = gr.FeatureStore(tmp_path, online=store)
            if store == "memory":  # which forgets; history does not
                project.materialize("spend")
    spine = pl.DataFrame({"user_id": [user for user, _ in asked], "event_time": [moment for _, moment in asked]})
    assert len(asked) > 100
    for engine in ("polars", "duckdb"):
        known = project.get_historical_features("model", spine, as_known=True, engine=engine)
        check(served, known.to_polars().drop("event_time").to_dicts(), f"{engine}, seed {seed}")
    project.close()


@pytest.mark.parametrize("store", ["memory", "lmdb"])
def test_loading_and_then_pushing_is_rebuilding(store: str, tmp_path: Path) -> None:
    chance = random.Random(7)
    events = arrivals(chance, 240)
    now = events[-1]["known"] + dt.timedelta(hours=1)
    users = [{"user_id": user} for user in ("a", "b", "c")]
    for name in ("mixed", "rebuilt"):
        (tmp_path / name).mkdir()
    mixed, rebuilt = (gr.FeatureStore(tmp_path / name, online=store) for name in ("mixed", "rebuilt"))
    for project in (mixed, rebuilt):
        project.apply(definitions())
    mixed.push("payments", events[:120])
    mixed.materialize("spend")
    mixed.push("payments", events[120:])
    rebuilt.push("payments", events)
    rebuilt.materialize("spend")
    for moment in (now, now - dt.timedelta(hours=3), now + dt.timedelta(days=400)):
        one, other = (project.get_online_features("model", users, now=moment) for project in (mixed, rebuilt))
        check(one.to_dicts(), other.to_dicts(), str(moment))
    mixed.close()
    rebuilt.close()


@pytest.fixture
def spending(tmp_path: Path) -> Any:
    project = gr.FeatureStore(tmp_path, online="memory")
    yield project
    project.close()


def event(at: dt.datetime, amount: float = 1.0, **fields: Any) -> dict[str, Any]:
    base = {"user_id": "a", "known": at, "tx": None, "gone": False, "weight": None, "kind": None}
    return {**base, "at": at, "amount": amount, **fields}


class TestChronon:
    """The weak points of windows that round, each a promise here."""

    DAY = dt.timedelta(days=1)

    def served(self, project: gr.FeatureStore, name: str, now: dt.datetime) -> Any:
        return project.get_online_features("model", [{"user_id": "a"}], now=now).to_dicts()[0][name]

    def trained(self, project: gr.FeatureStore, name: str, now: dt.datetime, **how: Any) -> Any:
        spine = pl.DataFrame({"user_id": ["a"], "event_time": [now]})
        return project.get_historical_features("model", spine, **how).to_polars()[name].item()

    def both(self, project: gr.FeatureStore, name: str, now: dt.datetime) -> Any:
        served, trained = self.served(project, name, now), self.trained(project, name, now)
        assert served == trained
        return served

    def make(self, project: gr.FeatureStore, *windows: str, events: list[dict[str, Any]], **how: Any) -> None:
        [spend, view] = definitions()
        rolling = gr.Rolling({"amount": ["sum", "count"]}, windows=windows, **how)
        project.apply([spend.with_(aggregations=(rolling,)), view])
        project.push("payments", events)
        project.materialize("spend")

    def test_1_an_event_on_the_tail_boundary_is_the_same_online_and_offline(self, spending: gr.FeatureStore) -> None:
        self.make(spending, "7d", events=[event(START), event(START + 7 * self.DAY)])
        assert self.both(spending, "amount__count__7d", START + 7 * self.DAY) == 1
        assert self.both(spending, "amount__count__7d", START + 7 * self.DAY - dt.timedelta(microseconds=1)) == 1

    def test_2_a_window_that_is_no_multiple_of_anything(self, spending: gr.FeatureStore) -> None:
        hour = dt.timedelta(hours=1)
        self.make(spending, "300h", events=[event(START + hour * number) for number in range(400)])
        for number in (380, 399, 420, 699, 700):
            at = START + hour * number + dt.timedelta(minutes=17)
            expected = sum(1 for k in range(400) if at - 300 * hour < START + hour * k <= at)
            assert self.both(spending, "amount__count__300h", at) == expected

    def test_3_a_read_as_of_the_past_sees_no_later_event(self, spending: gr.FeatureStore) -> None:
        second = dt.timedelta(seconds=1)
        self.make(spending, "1h", events=[event(START + second * number) for number in range(3600)])
        assert self.both(spending, "amount__count__1h", START + 100 * second) == 101
        assert self.both(spending, "amount__count__1h", START + 100.5 * second) == 101

    def test_4_late_events_are_applied_not_counted(self, spending: gr.FeatureStore) -> None:
        self.make(spending, "7d", events=[event(START + 6 * self.DAY)])
        late = event(START, 5.0, known=START + 6 * self.DAY)
        spending.push("payments", [late])
        assert self.both(spending, "amount__sum__7d", START + 6 * self.DAY) == 6.0
        assert self.both(spending, "amount__sum__7d", START + 7 * self.DAY) == 1.0

    def test_5_training_can_ask_what_was_known(self, spending: gr.FeatureStore) -> None:
        at = START + self.DAY
        self.make(spending, "7d", events=[event(START), event(START, 10.0, known=at + self.DAY)])
        assert self.trained(spending, "amount__sum__7d", at) == 11.0
        assert self.trained(spending, "amount__sum__7d", at, as_known=True) == 1.0

    def test_6_nothing_counts_0_and_reads_go_back_in_time(self, spending: gr.FeatureStore) -> None:
        self.make(spending, "1h", events=[event(START), event(START + self.DAY)])
        assert self.both(spending, "amount__count__1h", START + self.DAY / 2) == 0
        assert self.both(spending, "amount__sum__1h", START + self.DAY / 2) is None
        assert self.both(spending, "amount__count__1h", START + dt.timedelta(minutes=30)) == 1

    def test_7_types_keep_their_width_and_ties_their_order(self, spending: gr.FeatureStore) -> None:
        [spend, view] = definitions()
        rolling = gr.Rolling({"weight": ["sum", "max", "median", "last"], "tx": "count_distinct"}, windows="7d")
        spending.apply([spend.with_(aggregations=(rolling,)), view])
        big = 2**53 + 1  # a float64 cannot hold it
        first = event(START, weight=big, tx="one")
        second = event(START, weight=3, tx="two")
        spending.push("payments", [first, second])
        assert self.both(spending, "weight__sum__7d", START) == big + 3
        assert self.both(spending, "weight__max__7d", START) == big
        assert self.both(spending, "weight__last__7d", START) == 3  # the row written last
        assert self.both(spending, "tx__count_distinct__7d", START) == 2


def test_poison_is_set_aside_with_its_reason_and_the_rest_is_applied(tmp_path: Path) -> None:
    project = gr.FeatureStore(tmp_path, online="memory")
    project.apply(definitions())
    ahead = dt.datetime.now(dt.UTC) + dt.timedelta(days=30)
    pushed = project.push(
        "payments",
        [
            event(START, 2.0),
            event(START, user_id=None),
            event(ahead),
            {**event(START), "amount": "a lot"},
            {**event(START), "at": None},
            event(START, 3.0),
        ],
    )
    assert (pushed.groups, pushed.quarantined) == ((("spend", 2, 2),), 4)
    [row] = project.get_online_features("model", [{"user_id": "a"}], now=START).to_dicts()
    assert (row["amount__sum__lifetime"], row["rows__count__lifetime"]) == (5.0, 2)
    aside = [pl.read_parquet(path) for path in (tmp_path / ".grange").rglob("_quarantine/*.parquet")]
    reasons = " | ".join(reason for frame in aside for row in frame["__reasons"].to_list() for reason in row)
    for expected in ("wrong type", "no 'user_id'", "no 'at'", "ahead of"):
        assert expected in reasons
    project.close()


def test_when_nothing_fits_the_push_is_refused(tmp_path: Path) -> None:
    project = gr.FeatureStore(tmp_path, online="memory")
    project.apply(definitions())
    with pytest.raises(gr.GrangeError):
        project.push("payments", [{**event(START), "amount": "a lot"}])
    assert project.inspect("spend")["pending_rows"] == 0
    project.close()


def test_a_changed_aggregation_is_served_after_the_next_push(tmp_path: Path) -> None:
    """The state was made for other aggregations: it is built again from history, not read wrongly."""
    project = gr.FeatureStore(tmp_path, online="memory")
    [spend, view] = definitions()
    project.apply([spend.with_(aggregations=(gr.Rolling({"amount": "sum"}, windows="7d"),)), view])
    project.push("payments", [event(START, 2.0)])
    project.apply([spend.with_(aggregations=(gr.Rolling({"weight": "sum"}, windows="7d"),)), view])
    project.push("payments", [event(START, 2.0, weight=5)])
    [row] = project.get_online_features("model", [{"user_id": "a"}], now=START).to_dicts()
    assert row["weight__sum__7d"] == 5
    project.close()


def test_the_calendar_needs_no_events(tmp_path: Path) -> None:
    """Of a state whose old events are gone, what the clock says is still known."""
    project = gr.FeatureStore(tmp_path, online="lmdb")
    [spend, view] = definitions()
    bounded = (gr.Rolling({"amount": "sum"}, windows="1d"), gr.Calendar("hour"))
    project.apply([spend.with_(aggregations=bounded), view])
    hour = dt.timedelta(hours=1)
    project.push("payments", [event(START + number * hour) for number in range(400)])
    project.materialize("spend")
    now = START + 400 * hour
    [row] = project.get_online_features("model", [{"user_id": "a"}], now=now).to_dicts()
    assert (row["amount__sum__1d"], row["hour"]) == (23.0, 16)
    with pytest.raises(gr.GrangeError, match="holds every event from"):
        project.get_online_features("model", [{"user_id": "a"}], now=START + 100 * hour)
    project.close()


def test_inspect_says_how_large_the_state_is(tmp_path: Path) -> None:
    project = gr.FeatureStore(tmp_path, online="lmdb")
    project.apply(definitions(ttl="30d"))
    project.push("payments", [event(START, float(number), user_id=f"u{number % 4}") for number in range(40)])
    [state] = project.inspect("spend")["online_state"]
    assert state["rows"] == 4
    assert 0 < state["bytes_per_key"] <= state["largest_key_bytes"]
    assert state["events_are_kept_for"].startswith("31d")
    project.close()


class TestHistoryAndStateGoTogether:
    """Whatever happened between a push and the next, online says what history says (ONL-1)."""

    WEEK = gr.Rolling({"amount": "sum"}, windows="7d")

    def project(self, tmp_path: Path, *events: dict[str, Any], store: str = "lmdb") -> gr.FeatureStore:
        pl.DataFrame(list(events), schema=POLARS).write_parquet(tmp_path / "events.parquet")
        project = gr.FeatureStore(tmp_path, online=store)
        project.apply(self.made())
        return project

    def made(self, *aggregations: Any, **options: Any) -> list[Any]:
        source = gr.FileSource("events.parquet", event_time="at", created_time="known", event_id="tx", retracted="gone")
        user = gr.Entity("user", join_keys=["user_id"])
        chosen = aggregations or (self.WEEK,)
        spend = gr.FeatureGroup("spend", entities=user, source=source, aggregations=list(chosen), **options)
        return [spend, gr.FeatureView("model", features=["spend"])]

    def both(self, project: gr.FeatureStore, now: dt.datetime = START) -> Any:
        [online] = project.get_online_features("model", [{"user_id": "a"}], now=now).to_dicts()
        spine = pl.DataFrame({"user_id": ["a"], "event_time": [now]})
        [offline] = project.get_historical_features("model", spine).to_polars().drop("event_time").to_dicts()
        assert online == offline
        return online["amount__sum__7d"]

    def test_a_push_after_history_was_not_loaded(self, tmp_path: Path) -> None:
        with self.project(tmp_path, event(START, 3.0)) as project:
            project.materialize("spend", online=False)
            project.push("spend", [event(START, 100.0)])
            assert self.both(project) == 103.0

    def test_a_push_after_a_version_was_not_loaded(self, tmp_path: Path) -> None:
        with self.project(tmp_path, event(START, 3.0)) as project:
            project.materialize("spend")
            more = [event(START, 3.0), event(START, 7.0)]
            pl.DataFrame(more, schema=POLARS).write_parquet(tmp_path / "events.parquet")
            project.materialize("spend", online=False)
            project.push("spend", [event(START, 100.0)])
            assert self.both(project) == 110.0

    def test_pushes_while_it_was_not_served(self, tmp_path: Path) -> None:
        with self.project(tmp_path, event(START, 3.0)) as project:
            project.materialize("spend")
            project.apply(self.made(online=False))
            project.push("spend", [event(START, 100.0)])
            project.apply(self.made(online=True))
            with pytest.raises(gr.GrangeError, match="lacks a part"):
                self.both(project)
            project.push("spend", [event(START, 1000.0)])
            assert self.both(project) == 1103.0

    def test_a_process_that_died_between_the_two_writes(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        from grange.verbs import push

        def die(*_: Any, **__: Any) -> int:
            raise KeyboardInterrupt

        with self.project(tmp_path, event(START, 3.0)) as project:
            project.materialize("spend")
            with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
                patched.setattr(push, "write_windows", die)
                project.push("spend", [event(START, 10.0)])
        with gr.FeatureStore(tmp_path) as project:
            with pytest.raises(gr.GrangeError, match="lacks a part"):
                self.both(project)
            project.push("spend", [event(START, 100.0)])
            assert self.both(project) == 113.0

    @pytest.mark.parametrize(
        "changed",
        [
            gr.Rolling({"amount": "sum"}, windows="7d", closed="left"),
            gr.Rolling({"amount": "sum"}, windows="7d", every="1d"),
            gr.Rolling({"amount": "sum"}, windows="7d", filter="amount > 2", name="amount"),
        ],
        ids=["closed", "every", "filter"],
    )
    def test_a_changed_definition_holds_on_both_sides_or_on_none(self, tmp_path: Path, changed: Any) -> None:
        noon = START + dt.timedelta(hours=12)
        with self.project(tmp_path, event(START, 3.0), event(noon, 1.0)) as project:
            project.materialize("spend")
            project.apply(self.made(changed))
            try:
                self.both(project, noon)
            except gr.GrangeError as refused:
                assert "materialize" in str(refused)
            project.push("spend", [event(noon, 0.5)])
            self.both(project, noon)

    def test_a_pinned_version_keeps_the_ttl_it_was_built_with(self, tmp_path: Path) -> None:
        with self.project(tmp_path, event(START, 3.0)) as project:
            project.materialize("spend")
            project.apply(self.made(ttl="1h"))
            spine = pl.DataFrame({"user_id": ["a"], "event_time": [START + dt.timedelta(days=1)]})
            pinned = project.get_historical_features(["spend@1.0.0"], spine).to_polars()
            latest = project.get_historical_features(["spend"], spine).to_polars()
            assert pinned["amount__sum__7d"].to_list() == [3.0]
            assert latest["amount__sum__7d"].to_list() == [None]

    def test_a_retraction_that_comes_long_before_its_event(self, tmp_path: Path) -> None:
        hour, day = dt.timedelta(hours=1), dt.timedelta(days=1)
        now = START + 40 * day
        with self.project(tmp_path, event(now - hour, 100.0, tx="0")) as project:
            project.materialize("spend")
            project.push("spend", [event(now - 30 * day, gone=True, tx="1", known=now)])
            project.push("spend", [event(now - 2 * hour, 7.0, tx="1", known=now - 5 * hour)])
            assert self.both(project, now) == 100.0

    @pytest.mark.parametrize("ending", ["parquet", "csv"])
    def test_what_identifies_events_does_not_depend_on_the_format(self, tmp_path: Path, ending: str) -> None:
        rows = [
            event(START, 1.0, tx="1"),
            event(START, 5.0, tx="1"),
            event(START, 9.0, tx="2"),
            event(START, tx="2", gone=True),
        ]
        known = [START + dt.timedelta(seconds=place) for place in range(4)]
        frame = pl.DataFrame([row | {"known": at} for row, at in zip(rows, known, strict=True)], schema=POLARS)
        project = gr.FeatureStore(tmp_path, online="memory")
        path = tmp_path / f"events.{ending}"
        frame.write_csv(path) if ending == "csv" else frame.write_parquet(path)
        source = gr.FileSource(
            path, event_time="at", created_time="known", event_id="tx", retracted="gone", schema={"tx": "string"}
        )
        user = gr.Entity("user", join_keys=["user_id"])
        counted = gr.Rolling({"amount": ["sum"], "*": "count"}, windows="7d")
        spend = gr.FeatureGroup("spend", entities=user, source=source, aggregations=[counted])
        project.apply([spend, gr.FeatureView("model", features=["spend"])])
        project.materialize("spend")
        assert self.both(project, known[-1] + dt.timedelta(seconds=1)) == 5.0
        project.close()


def test_a_grid_that_a_stray_event_makes_endless_is_refused(tmp_path: Path) -> None:
    project = gr.FeatureStore(tmp_path, online="memory")
    [spend, view] = definitions(interval="1s", fill_gaps=True, online=False)
    project.apply([spend, view])
    project.push("payments", [event(dt.datetime(1970, 1, 1, tzinfo=dt.UTC)), event(START)])
    with pytest.raises(gr.GrangeError, match="with gaps filled would have"):
        project.materialize("spend")
    project.close()


def test_poison_for_a_transform_is_told_in_a_bounded_number_of_runs(tmp_path: Path) -> None:
    project = gr.FeatureStore(tmp_path, online="memory")
    source = gr.PushSource("raw", schema={"user_id": "string", "at": "datetime", "text": "string"}, event_time="at")
    user = gr.Entity("user", join_keys=["user_id"])
    spend = gr.FeatureGroup(
        "spend",
        entities=user,
        source=source,
        transform='SELECT user_id, "at", CAST(text AS DOUBLE) AS amount FROM source',
        aggregations=[gr.Rolling({"amount": "sum"}, windows="7d")],
    )
    project.apply([spend])
    rows = [{"user_id": "a", "at": START, "text": "1.5"} for _ in range(200)]
    pushed = project.push("raw", [*rows, {"user_id": "a", "at": START, "text": "none"}])
    assert (pushed.groups, pushed.quarantined) == ((("spend", 200, 200),), 1)
    with pytest.raises(gr.GrangeError):
        project.push("raw", [{**row, "text": "none"} for row in rows])
    project.close()


@pytest.mark.parametrize(("closed", "boundary"), [("right", START), ("left", START + dt.timedelta(days=1))])
def test_a_grid_of_counted_rows_follows_their_closed_end(tmp_path: Path, closed: Any, boundary: dt.datetime) -> None:
    project = gr.FeatureStore(tmp_path, online="memory")
    [spend, view] = definitions(interval="1d", online=False)
    counted = (gr.Rolling({"*": "count"}, windows="1d", closed=closed), gr.Calendar("hour"))
    project.apply([spend.with_(aggregations=counted), view])
    project.push("payments", [event(START)])
    project.materialize("spend")
    rows = project.read("spend").polars
    assert rows.select("at", "rows__count__1d").rows() == [(boundary, 1)]
    project.close()
