"""Commands on groups whose features are windows: creating them by options and by recipe, and looking at them."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from tests.cli.running import Grange

import grange as gr
from grange.definitions.serialize import to_data

START = dt.datetime(2026, 3, 1)
HOUR = dt.timedelta(hours=1)
PAYMENTS = (
    "--source", "payments.parquet", "--keys", "user_id", "--event-time", "at", "--event-id", "tx_id",
    "--retracted", "gone",
)  # fmt: skip
READINGS = ("--source", "load.parquet", "--keys", "meter_id", "--event-time", "at")
SPEND = (
    "--aggregate", "amount:sum,quantile(0.95):1d,7d", "--aggregate", "*:count:7d:closed=left",
    "--aggregate", "amount:sum:7d:every=1d:filter=country = 'FR'", "--lag", "amount:1h,24h:tolerance=59m",
    "--rollup", "amount:mean,max:1h", "--session", "amount:count:30m", "--calendar", "hour,weekend",
)  # fmt: skip
FEATURES = [
    "amount__sum__1d", "amount__sum__7d", "amount__quantile_0_95__1d", "amount__quantile_0_95__7d", "rows__count__7d",
    "amount_where_country_fr__sum__7d", "amount__lag__1h", "amount__lag__24h", "amount__mean__rollup_1h",
    "amount__max__rollup_1h", "amount__count__session_30m", "hour", "weekend",
]  # fmt: skip


@pytest.fixture
def shop(grange: Grange, tmp_path: Path) -> Grange:
    """Commands in a project of payments, a meter's load and the weather, and no definition module."""
    payments = [
        {"tx_id": f"t{number}", "user_id": "ab"[number % 2], "at": START + number * HOUR, "amount": float(number),
         "country": "FR" if number % 3 else "DE", "gone": number == 7}
        for number in range(60)
    ]  # fmt: skip
    readings = [{"meter_id": "m1", "at": START + hour * HOUR, "load": float(hour % 24)} for hour in range(24 * 5)]
    weather = [{"place": "north", "measured_at": START + hour * HOUR, "temperature": hour / 2} for hour in range(120)]
    for name, rows in (("payments", payments), ("load", readings), ("weather", weather)):
        pl.DataFrame(rows).write_parquet(tmp_path / f"{name}.parquet")
    (tmp_path / "grange.toml").touch()
    return grange


@pytest.fixture
def spend(shop: Grange) -> Grange:
    """The same with a group over payments, materialized."""
    ran = shop("fg", "create", "spend", *PAYMENTS, *SPEND, "--interval", "1d", "--ttl", "90d")
    assert ran.code == 0 and ran.out.endswith("next: grange materialize spend\n"), ran
    assert shop("materialize").code == 0
    return shop


def applied(tmp_path: Path) -> dict[str, Any]:
    with gr.FeatureStore(tmp_path) as store:
        catalog = store.catalog
    return {group.name: to_data(group) for group in catalog.groups.values()}


def test_options_make_what_python_makes(spend: Grange, tmp_path: Path) -> None:
    by_options = applied(tmp_path)["spend"]
    group = gr.FeatureGroup(
        "spend",
        entities=gr.Entity("user", join_keys=["user_id"]),
        source=gr.FileSource("payments.parquet", event_time="at", event_id="tx_id", retracted="gone"),
        aggregations=[
            gr.Rolling({"amount": ["sum", "quantile(0.95)"]}, windows=["1d", "7d"]),
            gr.Rolling({"*": "count"}, windows="7d", closed="left"),
            gr.Rolling({"amount": "sum"}, windows="7d", every="1d", filter="country = 'FR'"),
            gr.Lag("amount", ["1h", "24h"], tolerance="59m"),
            gr.Rollup({"amount": ["mean", "max"]}, every="1h"),
            gr.Session({"amount": "count"}, gap="30m"),
            gr.Calendar(["hour", "weekend"]),
        ],
        interval="1d",
        ttl="90d",
    )
    with gr.FeatureStore(tmp_path) as store:
        assert not store.plan([group]).changes
    assert [item["type"] for item in by_options["aggregations"]] == [
        "rolling", "rolling", "rolling", "lag", "rollup", "session", "calendar",
    ]  # fmt: skip


def test_features_say_what_each_is_and_apart_from_them_the_event_columns(spend: Grange) -> None:
    columns = spend("fg", "features", "spend", "--json").json
    features = [column for column in columns if column["role"] == "feature"]
    assert [column["name"] for column in features] == FEATURES
    assert {key: features[5][key] for key in ("function", "column", "window", "closed", "every", "lag", "filter")} == {
        "function": "sum", "column": "amount", "window": "7d", "closed": "right", "every": "1d", "lag": None,
        "filter": "country = 'FR'",
    }  # fmt: skip
    events = [(column["name"], column["role"]) for column in columns if column["role"] != "feature"]
    assert events == [
        ("tx_id", "event id"), ("user_id", "join key"), ("at", "event time"), ("amount", "event column"),
        ("country", "event column"), ("gone", "retraction"),
    ]  # fmt: skip
    assert spend("fg", "features", "spend", "--version", "1.0.0", "--json").json == columns
    assert spend("fg", "features", "spend", "--version", "2.0.0").code == 3

    shown = spend("fg", "features", "spend").out
    made, stored = shown.split("columns of its events:")
    assert "sum of amount over 7d, every 1d" in made and "count of rows over 7d, closed left" in made
    assert "event id" in stored and "amount__" not in stored


@pytest.mark.parametrize(
    "words",
    [("fg", "features", "spend"), ("fg", "info", "spend"), ("inspect", "spend"), ("fg", "preview", "spend"),
     ("fg", "preview", "spend", "--events"), ("fg", "stats", "spend"), ("fg", "list"), ("versions", "spend")],
)  # fmt: skip
def test_tables_fit_80_columns_and_names_stay_whole(spend: Grange, words: tuple[str, ...]) -> None:
    ran = spend(*words)
    assert ran.code == 0, ran.err
    lines = [line for line in ran.out.splitlines() if not line.startswith("and ")]  # the names of hidden columns
    assert max(map(len, lines)) <= 80
    if words in (("fg", "features", "spend"), ("fg", "info", "spend"), ("inspect", "spend"), ("fg", "stats", "spend")):
        assert {line.split("  ")[0] for line in lines} >= set(FEATURES) - ({"weekend"} & {words[1]})


def test_info_and_inspect_show_features_and_state_readably(spend: Grange) -> None:
    for words in (("fg", "info", "spend"), ("inspect", "spend")):
        shown = spend(*words).out
        assert "KiB" in shown and "the largest" in shown and "events are kept for" in shown
        assert "lag of amount by 1d, tolerance 59m" in shown and "columns of its events:" in shown
        assert "{" not in shown.replace(shown[shown.find("stored.change_summary") :], "")  # nothing nested
    info = spend("fg", "info", "spend").out
    values = {line.split("  ")[0]: line.split("  ")[-1].strip() for line in info.splitlines()}
    assert (values["events"], values["event id"], values["interval"]) == ("60", "tx_id", "1d")
    data = spend("inspect", "spend", "--json").json
    assert [item["name"] for item in data["aggregates"]] == FEATURES
    assert data["online_state"][0]["rows"] == 2


def test_inspect_of_a_group_without_aggregations_shows_its_columns(shop: Grange) -> None:
    assert shop("fg", "create", "payments", *PAYMENTS[:6]).code == 0
    for _ in range(2):  # applied alone, then stored
        shown = shop("inspect", "payments").out
        assert "columns:\nname" in shown and "datetime" in shown and "features:\nname" in shown
        assert shop("materialize").code == 0
    assert "feature rows" not in shop("versions", "payments").out


def test_list_and_versions_count_features_and_both_kinds_of_rows(spend: Grange) -> None:
    [group] = spend("fg", "list", "--json").json
    assert (len(group["features"]), group["rows"]) == (len(FEATURES), 60)
    assert 0 < group["feature_rows"] < 60
    assert spend("fg", "list").out.splitlines()[1].split()[:5] == ["spend", "user_id", "13", "1.0.0", "60"]
    headers, row = spend("versions", "spend").out.splitlines()
    assert "events" in headers and "feature rows" in headers
    assert row.split()[3:5] == ["60", str(group["feature_rows"])]


def test_preview_shows_feature_rows_or_events(spend: Grange) -> None:
    rows = spend("fg", "preview", "spend", "--n", "100", "--json").json
    assert list(rows[0]) == ["user_id", "at", *FEATURES]
    assert {row["at"][11:] for row in rows} == {"00:00:00Z"}
    events = spend("fg", "preview", "spend", "--events", "--n", "100", "--columns", "tx_id,amount", "--json").json
    assert events == [{"tx_id": f"t{number}", "amount": float(number)} for number in range(60)]
    wrong = spend("fg", "preview", "spend", "--columns", "amount", "--json")
    assert wrong.code == 3 and wrong.json["error"]["type"] == "UnknownFeatureError"


def test_events_are_of_groups_with_aggregations(shop: Grange) -> None:
    assert shop("fg", "create", "payments", *PAYMENTS[:6]).code == 0
    ran = shop("fg", "preview", "payments", "--events")
    assert ran.code == 2 and "leave --events out" in ran.err
    assert shop("fg", "preview", "paymnts", "--events").code == 3


def test_stats_are_of_feature_rows(spend: Grange) -> None:
    [feature_rows] = [group["feature_rows"] for group in spend("fg", "list", "--json").json]
    found = spend("fg", "stats", "spend", "--json").json
    assert {item["name"] for item in found} == {"user_id", "at", *FEATURES}
    assert {item["count"] + item["nulls"] for item in found} >= {feature_rows}
    assert spend("fg", "stats", "spend", "--features", "amount").code == 3
    assert "std" not in spend("fg", "stats", "spend").out.splitlines()[0]  # for want of room
    assert "std" in spend("fg", "stats", "spend", "--features", "hour").out.splitlines()[0]


def test_changed_aggregations_are_a_new_version_that_says_why(spend: Grange, tmp_path: Path) -> None:
    with gr.FeatureStore(tmp_path) as store:
        group = store.catalog.group("spend")
        more = group.with_(aggregations=(*group.aggregations, gr.Rolling({"amount": "max"}, windows="7d")))
        assert [line for change in store.apply([more]).changes for line in change.lines] == [
            "+ feature amount__max__7d"
        ]
    assert spend("materialize").code == 0
    assert [meta["version"] for meta in spend("versions", "spend", "--json").json] == ["1.1.0", "1.0.0"]
    before = spend("fg", "features", "spend", "--version", "1.0.0", "--json").json
    after = spend("fg", "features", "spend", "--json").json
    assert {item["name"] for item in after} - {item["name"] for item in before} == {"amount__max__7d"}


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (("--aggregate", "amount:summ:7d"), 2, "sum"),
        (("--aggregate", "amuont:sum:7d"), 1, "amount"),
        (("--aggregate", "country:sum:7d"), 1, "needs numbers"),
        (("--aggregate", "amount:sum:7d", "--aggregate", "amount:sum:7d"), 2, "same one twice"),
        (("--aggregate", "amount:sum:7d", "--fill-gaps"), 2, "--interval"),
        (("--aggregate", "amount:sum:7d", "--interval", "1mo"), 2, "months"),
        (("--interval", "1d"), 2, "aggregations"),
        ((), 2, "event_id"),
        (("--lag", "amount"), 2, "lengths"),
        (("--timezone", "UTC"), 2, "--recipe forecast_basic"),
        (("--every", "1h"), 2, "--recipe rollups"),
        (("--value", "amount"), 2, "--recipe"),
        (("--recipe", "forcast_basic"), 3, "forecast_basic"),
        (("--recipe", "rollups", "--timezone", "UTC"), 2, "--every"),
        (("--recipe", "rollups", "--interval", "1h"), 2, "--every 1h,1d"),
        (("--recipe", "rollups", "--every", "1h,,1d"), 2, "empty length"),
        (("--recipe", "forecast_basic", "--aggregate", "amount:sum:7d"), 2, "its own aggregations"),
        (("--recipe", "forecast_basic", "--value", "amuont"), 1, "amount"),
        (("--recipe", "forecast_basic", "--value", "amount", "--timezone", "Europe/Berln"), 2, "Europe/Berlin"),
        (("--recipe", "forecast_advanced", "--value", "amount", "--weather", "wether"), 3, "--weather"),
        (("--recipe", "forecast_advanced", "--value", "amount", "--weather", "wether LEFT a"), 3, "--weather"),
    ],
)
def test_create_refuses_what_cannot_be(shop: Grange, options: tuple[str, ...], code: int, said: str) -> None:
    ran = shop("fg", "create", "spend", *PAYMENTS, *options)
    assert ran.code == code and said in ran.err, ran.err
    assert shop("fg", "list", "--json").json == [] and shop("fv", "list", "--json").json == []


@pytest.mark.parametrize("options", [("--aggregate", "load:sum:7d"), ("--recipe", "rollups")])
def test_windows_need_an_event_time(shop: Grange, options: tuple[str, ...]) -> None:
    ran = shop("fg", "create", "load", *READINGS[:4], *options)
    assert ran.code == 2 and "--event-time" in ran.err


def test_help_lists_the_recipes(grange: Grange) -> None:
    shown = " ".join(grange("fg", "create", "--help").out.split())
    for name, entry in gr.recipes.RECIPES.items():
        assert f"{name} {entry.description}" in shown
    assert "Takes --value, --every, --offset." in shown


METER = gr.Entity("meter", join_keys=["meter_id"])
LOAD = gr.FileSource("load.parquet", event_time="at")


@pytest.mark.parametrize(
    ("recipe", "options", "arguments"),
    [
        ("forecast_basic", (), {}),
        (
            "forecast_basic",
            ("--value", "load", "--timezone", "Europe/Berlin", "--tolerance", "none", "--owner", "me", "--ttl", "60d"),
            {"value": "load", "timezone": "Europe/Berlin", "tolerance": None, "owner": "me", "ttl": "60d"},
        ),
        ("forecast_basic", ("--interval", "1h", "--fill-gaps"), {"interval": "1h", "fill_gaps": True}),
        ("anomaly_detection", ("--tolerance", "2h", "--no-online"), {"tolerance": "2h", "online": False}),
        ("forecast_advanced", (), {}),
        ("rollups", ("--every", "6h,1d", "--offset", "1h"), {"every": ["6h", "1d"], "offset": "1h"}),
        ("rollups", ("--description", "Ours."), {"description": "Ours."}),
    ],
)
def test_a_recipe_makes_what_its_function_makes(
    shop: Grange, tmp_path: Path, recipe: str, options: tuple[str, ...], arguments: dict[str, Any]
) -> None:
    ran = shop("fg", "create", "demand", *READINGS, "--recipe", recipe, *options, "--json")
    assert ran.code == 0, ran.out
    made = gr.recipes.RECIPES[recipe].make(LOAD, METER, name="demand", **arguments)
    names = {definition.name for definition in made.definitions}
    assert {change["name"] for change in ran.json["changes"] if change["kind"] != "entity"} == names
    with gr.FeatureStore(tmp_path) as store:
        assert not store.plan(made.definitions).changes  # equal to what is applied

    assert {done["group"] for done in shop("materialize", "--json").json} == {group.name for group in made.groups}
    for group in made.groups:
        rows = shop("fg", "preview", group.name, "--n", "1", "--json").json
        assert set(group.features().names) < set(rows[0])
    again = shop("fg", "create", "demand", *READINGS, "--recipe", recipe, *options)
    assert again.code == 4 and made.groups[0].name in again.err


def test_a_recipe_takes_the_weather_of_an_applied_group(shop: Grange, tmp_path: Path) -> None:
    wx = ("--source", "weather.parquet", "--keys", "place", "--event-time", "measured_at")
    assert shop("fg", "create", "weather", *wx).code == 0
    for name, weather in (("near", "weather"), ("far", "weather LEFT site=place w_")):
        advanced = ("--recipe", "forecast_advanced", "--weather", weather)
        ran = shop("fg", "create", name, *READINGS, *advanced)
        assert ran.code == 0 and ran.out.endswith(f"next: grange materialize {name}_features\n"), ran
    with gr.FeatureStore(tmp_path) as store:
        group = store.catalog.group("weather")
        for name, chosen in (("near", group), ("far", group.select(on={"place": "site"}, prefix="w_"))):
            made = gr.recipes.forecast_advanced(LOAD, METER, name=name, weather=chosen)
            assert not store.plan(made.definitions).changes
    wrong = shop("fg", "create", "x", *READINGS, "--recipe", "forecast_advanced", "--weather", "weather LEFT site")
    assert wrong.code == 2 and "keyed by place" in wrong.err

    assert shop("materialize").code == 0
    info = shop("fv", "info", "near")
    assert "derived:" in info.out and "load__change__24h" in info.out
    entry = ("--entry", "meter_id=m1,place=north", "--now", "2026-03-06")
    shown = shop("fv", "get", "near", *entry)
    assert shown.code == 0 and "load__change__24h" in shown.out
    vector = shop("fv", "get", "near", *entry, "--json").json["rows"][0]
    assert vector["values"]["load__lag__24h"] == 0.0 and vector["values"]["temperature"] == 119 / 2
    assert vector["values"]["load__change__24h"] == 0.0


def test_what_was_inserted_counts_online_and_shows_among_the_events(spend: Grange) -> None:
    assert spend("fv", "create", "model", "--feature-group", "spend").code == 0
    Path("more.csv").write_text("tx_id,user_id,at,amount,country,gone\nt99,a,2026-03-03T12:00:00,1000,FR,false\n")
    assert spend("fg", "insert", "spend", "--file", "more.csv").code == 0
    got = spend("fv", "get", "model", "--entry", "user_id=a", "--now", "2026-03-03T12:00:00", "--json").json["rows"][0]
    assert got["values"]["amount__sum__7d"] == sum(range(0, 60, 2)) + 1000
    events = spend("fg", "preview", "spend", "--events", "--n", "100", "--json").json
    assert [event["tx_id"] for event in events][-1] == "t99"
