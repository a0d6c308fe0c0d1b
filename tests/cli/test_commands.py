"""Every command: what it does, the shape of its JSON, its exit code, and what it says to bad input."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from tests.cli.running import Grange

from grange.cli import starter

ORDERS = ("--source", "data/orders.parquet", "--event-time", "ordered_at")


def test_init_writes_the_same_project_each_time(grange: Grange, tmp_path: Path) -> None:
    for name in ("shop_a", "shop_b"):
        ran = grange("init", name, "--json")
        assert ran.code == 0 and ran.json["project"] == str(tmp_path / name)
        assert ran.json["next"] == list(starter.COMMANDS)
    files = sorted(path.relative_to("shop_a") for path in Path("shop_a").rglob("*") if path.is_file())
    assert [str(file) for file in files] == sorted(ran.json["files"])
    for file in files:
        assert (Path("shop_a") / file).read_bytes().replace(b"shop_a", b"shop_b") == (
            Path("shop_b") / file
        ).read_bytes()


def test_init_never_overwrites(grange: Grange) -> None:
    Path("features.py").write_text("mine")
    ran = grange("init")
    assert ran.code == 4 and "features.py" in ran.err
    assert Path("features.py").read_text() == "mine" and [path.name for path in Path().iterdir()] == ["features.py"]


def test_the_commands_that_init_prints_run_as_printed(grange: Grange, monkeypatch: pytest.MonkeyPatch) -> None:
    printed = grange("init", "my shop").out.split("next:\n")[1].splitlines()
    assert printed[0] == "cd 'my shop'" and printed[1:] == list(starter.COMMANDS)
    readme = Path("my shop/README.md").read_text()
    monkeypatch.chdir("my shop")
    for line in printed[1:]:
        assert line in readme
        words = shlex.split(line)
        ran = grange(*words[1:])
        assert ran.code == 0, (line, ran.err)
        assert ran.out


def test_the_starter_project_shows_quarantine_and_defaults(shop: Grange) -> None:
    (profile, order) = shop("materialize", "--json").json
    assert (profile["group"], profile["quarantined"], profile["new_version"]) == ("customer_profile", 0, False)
    assert (order["group"], order["quarantined"], order["rows"]) == ("last_order", 1, 199)


def test_what_the_projects_code_prints_is_not_the_answer(grange: Grange) -> None:
    """Standard output is the command's alone, also where modules and transforms print."""
    grange("init", ".")
    features = Path("features.py").read_text()
    loud = features.replace('ordered last."""', 'ordered last."""\n    print("from the transform")')
    Path("features.py").write_text(f'print("from the module")\n{loud}')
    for words in (
        ["plan"],
        ["apply"],
        ["materialize"],
        ["fg", "list"],
        ["fv", "get", "churn", "--entry", "customer_id=001"],
    ):
        ran = grange(*words, "--json")
        assert ran.code == 0 and ran.json, ran
        assert "from the transform" in ran.err or words != ["materialize"]
    for words in (["plan"], ["materialize"]):
        ran = grange(*words)
        assert "from the module" in ran.err and "from the" not in ran.out


def test_plan_and_apply(grange: Grange) -> None:
    grange("init", ".")
    planned = grange("plan", "--json").json
    assert planned["revision"] == 0
    assert [(change["action"], change["kind"], change["name"]) for change in planned["changes"]] == [
        ("create", "entity", "customer"),
        ("create", "feature_group", "customer_profile"),
        ("create", "feature_group", "last_order"),
        ("create", "feature_view", "churn"),
    ]
    assert "+ feature view churn" in grange("plan").out
    assert grange("apply", "--json").json["revision"] == 1
    again = grange("apply", "--json").json
    assert again["changes"] == [] and again["revision"] == 1
    assert "nothing to change" in grange("plan").out


def test_prune_asks_before_it_deletes(shop: Grange) -> None:
    text = Path("features.py").read_text()
    Path("features.py").write_text(text[: text.index("churn = ")])
    assert "churn" in shop("plan").out
    refused = shop("apply", "--prune")
    assert refused.code == 4 and "--yes" in refused.err
    assert shop("fv", "info", "churn").code == 0
    done = shop("apply", "--prune", "--yes", "--json").json
    assert [(change["action"], change["name"]) for change in done["changes"]] == [("delete", "churn")]
    assert shop("fv", "info", "churn").code == 3


def test_materialize_reports_progress_beside_its_result(shop: Grange) -> None:
    ran = shop("materialize", "last_order", "--json")
    assert ran.json[0]["group"] == "last_order" and "[1/1] last_order: reading" in ran.err
    table = shop("build", "last_order").out
    assert table.split()[:3] == ["group", "version", "rows"] and "1.0.0 (unchanged)" in table


def test_materialize_takes_a_range_an_engine_and_no_online(shop: Grange) -> None:
    options = ("--start", "2025-02-01", "--end", "2025-03-01", "--engine", "duckdb", "--no-online", "--json")
    (done,) = shop("materialize", "last_order", *options).json
    assert done["online_rows"] is None and done["rows"] == 199


def test_a_failed_expectation_exits_with_1_and_stores_nothing(shop: Grange) -> None:
    text = Path("features.py").read_text()
    Path("features.py").write_text(text.replace('policy="drop"', 'policy="fail"'))
    assert shop("apply").code == 0
    ran = shop("materialize", "last_order", "--json")
    assert ran.code == 1 and ran.json["error"]["type"] == "ExpectationError"
    assert [item["version"] for item in shop("versions", "last_order", "--json").json] == ["1.0.0"]


def test_versions_inspect_and_config(shop: Grange) -> None:
    (meta,) = shop("versions", "last_order", "--json").json
    assert (meta["version"], meta["row_count"], meta["quarantined"]) == ("1.0.0", 199, 1)
    assert "1.0.0" in shop("versions", "last_order").out
    for name, kind in (("last_order", "feature_group"), ("churn", "feature_view"), ("customer", "entity")):
        assert shop("inspect", name, "--json").json["kind"] == kind
        assert name in shop("inspect", name).out
    assert shop("inspect", "last_order", "--version", "9.9.9").code == 3
    settings = {item["key"]: item for item in shop("config", "show", "--json").json["settings"]}
    assert settings["engine"] == {"key": "engine", "value": "polars", "origin": "grange.toml"}
    assert "grange.toml" in shop("config", "show").out


def test_config_says_that_a_variable_won(shop: Grange, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRANGE_ENGINE", "duckdb")
    settings = {item["key"]: item for item in shop("config", "show", "--json").json["settings"]}
    assert settings["engine"]["value"] == "duckdb" and settings["engine"]["origin"] == "environment GRANGE_ENGINE"


def test_fg_list_info_and_features(shop: Grange) -> None:
    groups = shop("fg", "list", "--json").json
    assert [(group["name"], group["version"], group["rows"]) for group in groups] == [
        ("customer_profile", "1.0.0", 30),
        ("last_order", "1.0.0", 199),
    ]
    assert "last_order" in shop("fg", "list").out
    assert shop("fg", "info", "last_order", "--json").json["name"] == "last_order"
    shown = shop("fg", "info", "last_order").out
    assert "greater_than(0) drop" in shown and "customer_id" in shown and "churn" in shown
    columns = shop("fg", "features", "last_order", "--json").json
    assert [(column["name"], column["dtype"], column["role"]) for column in columns] == [
        ("customer_id", "string", "join key"),
        ("ordered_at", "datetime", "event time"),
        ("loaded_at", "datetime", "created time"),
        ("amount", "float64", "feature"),
        ("amount_per_item", "float64", "feature"),
    ]
    assert shop("fg", "features", "last_order", "--version", "1.0.0", "--json").json[0]["name"] == "customer_id"


def test_fg_preview(shop: Grange) -> None:
    rows = shop("fg", "preview", "last_order", "--n", "3", "--columns", "customer_id,ordered_at", "--json").json
    assert len(rows) == 3 and list(rows[0]) == ["customer_id", "ordered_at"]
    assert [row["ordered_at"] for row in rows] == sorted(row["ordered_at"] for row in rows)
    march = shop("fg", "preview", "last_order", "--start", "2025-03-01", "--n", "1", "--json").json
    assert march[0]["ordered_at"] >= "2025-03-01T00:00:00Z"
    assert max(map(len, shop("fg", "preview", "last_order").out.splitlines())) <= 80
    assert shop("fg", "preview", "last_order", "--n", "-1").code == 2


def test_fg_stats(shop: Grange) -> None:
    found = shop("fg", "stats", "last_order", "--features", "amount", "--json").json
    assert [(item["name"], item["count"]) for item in found] == [("amount", 199)]
    assert "amount_per_item" in shop("fg", "stats", "last_order").out
    missing = shop("fg", "stats", "last_order", "--features", "amuont", "--json")
    assert missing.code == 3 and missing.json["error"]["details"]["closest"][0] == "amount"


def test_fg_create_over_a_file_with_everything(shop: Grange) -> None:
    ran = shop(
        "fg", "create", "spend", *ORDERS, "--keys", "customer_id", "--created-time", "loaded_at",
        "--sql", "SELECT customer_id, ordered_at, loaded_at, amount AS spent FROM source",
        "--features", "spent:float64:what was spent", "--ttl", "90d", "--default", "spent=0",
        "--expect", "spent:greater_than(0):drop", "--description", "Spending", "--owner", "sales", "--tag", "tier=gold",
        "--no-online", "--json",
    )  # fmt: skip
    assert ran.code == 0, ran.out
    assert [(change["action"], change["name"]) for change in ran.json["changes"]] == [("create", "spend")]
    data = shop("inspect", "spend", "--json").json
    assert data["ttl"] == "90d" and data["online"] is False and data["tags"] == {"tier": "gold"}
    assert [entity["name"] for entity in data["entities"]] == ["customer"]  # the applied one of the same key
    assert data["defaults"] == {"spent": 0.0}
    (done,) = shop("materialize", "spend", "--json").json
    assert done["quarantined"] == 1 and done["online_rows"] is None


def test_fg_create_makes_an_entity_of_new_keys(shop: Grange) -> None:
    Path("data/seats.csv").write_text("hall_id,number,at,taken\n007,1,2025-01-01T00:00:00Z,true\n")
    options = ("--keys", "hall_id:string,number:int32", "--source", "data/seats.csv", "--event-time", "at")
    assert shop("fg", "create", "seats", *options).code == 0
    assert shop("inspect", "hall_number", "--json").json["join_keys"] == ["hall_id", "number"]
    columns = {item["name"]: item["dtype"] for item in shop("fg", "features", "seats", "--json").json}
    assert columns == {"hall_id": "string", "number": "int32", "at": "datetime", "taken": "boolean"}
    assert shop("fg", "preview", "seats", "--json").code == 3  # applied, not materialized
    assert shop("materialize", "seats").code == 0
    assert shop("fg", "preview", "seats", "--json").json[0]["hall_id"] == "007"


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        ((), 2, "--keys"),
        (("--keys", "customer_id", "--ttl", "3mo"), 2, "90d"),
        (("--keys", "customer_id", "--ttl", "0d"), 2, "at least one microsecond"),
        (("--keys", "customer_id", "--expect", "amount:bigger(1)"), 2, "bigger"),
        (("--keys", "customer_id", "--features", "amount:flot"), 2, "float"),
        (("--keys", "customer_id", "--sql", "DROP TABLE x"), 2, "SELECT"),
        (("--keys", "customer_id:int64"), 2, "string"),
        (("--keys", "other_id", "--entity", "customer"), 2, "customer_id"),
        (("--entity", "custmer"), 3, "customer"),
        (("--keys", "nothing"), 1, "nothing"),
    ],
)
def test_fg_create_refuses_what_cannot_be(shop: Grange, options: tuple[str, ...], code: int, said: str) -> None:
    ran = shop("fg", "create", "spend", *ORDERS, *options)
    assert ran.code == code and said in ran.err, ran.err
    assert shop("fg", "info", "spend").code == 3


def test_fg_create_of_an_existing_name_is_refused(shop: Grange) -> None:
    ran = shop("fg", "create", "last_order", *ORDERS, "--keys", "customer_id")
    assert ran.code == 4 and "exists already" in ran.err


def test_fg_insert_stores_rows_in_history_and_online(shop: Grange) -> None:
    row = {"customer_id": "007", "changed_at": "2025-06-01T00:00:00Z", "country": "NZ", "plan": "pro"}
    Path("rows.jsonl").write_text(json.dumps(row) + "\n")
    pushed = shop("fg", "insert", "customer_profile", "--file", "rows.jsonl", "--json").json
    assert pushed["groups"] == [{"group": "customer_profile", "rows": 1, "online_rows": 1}]
    got = shop("fv", "get", "churn", "--entry", "customer_id=007", "--json").json["rows"][0]
    assert got["values"]["country"] == "NZ" and got["event_times"]["country"] == "2025-06-01T00:00:00Z"
    history = shop("fg", "preview", "customer_profile", "--start", "2025-06-01", "--json").json
    assert [item["country"] for item in history] == ["NZ"]


def test_fg_insert_of_a_csv_keeps_keys_as_text(shop: Grange) -> None:
    Path("rows.csv").write_text("customer_id,changed_at,country,plan\n007,2025-06-01,NZ,pro\n")
    ran = shop("fg", "insert", "customer_profile", "--file", "rows.csv")
    assert ran.code == 0 and "customer_profile" in ran.out
    assert shop("fv", "get", "churn", "--entry", "customer_id=007", "--json").json["rows"][0]["values"]["plan"] == "pro"


@pytest.mark.parametrize(
    ("file", "text", "code"),
    [
        ("missing.csv", None, 1),
        ("rows.xlsx", "x", 2),
        ("rows.parquet", "not parquet", 1),
        ("rows.jsonl", "{broken", 1),
        ("rows.csv", "customer_id,country\n007,NZ\n", 1),
    ],
)
def test_fg_insert_says_what_is_wrong_with_a_file(shop: Grange, file: str, text: str | None, code: int) -> None:
    if text is not None:
        Path(file).write_text(text)
    ran = shop("fg", "insert", "customer_profile", "--file", file, "--json")
    assert ran.code == code and ran.json["error"]["code"].startswith("GRANGE-")
    assert len(shop("fg", "preview", "customer_profile", "--n", "100", "--json").json) == 30


def test_fg_delete_asks_and_is_refused_while_a_view_uses_it(shop: Grange) -> None:
    unasked = shop("fg", "delete", "last_order")
    assert unasked.code == 4 and "--yes" in unasked.err
    assert shop("fg", "delete", "last_order", "--json").code == 4  # --json is no yes
    used = shop("fg", "delete", "last_order", "--yes", "--json")
    assert used.code == 4 and used.json["error"]["type"] == "InUseError"
    gone = shop("fg", "delete", "last_order", "--yes", "--cascade", "--json").json
    assert any("churn" in item for item in gone["removed"]) and any("last_order" in item for item in gone["removed"])
    assert shop("fg", "info", "last_order").code == 3 and shop("fv", "info", "churn").code == 3


def test_fg_delete_of_a_version(shop: Grange) -> None:
    assert shop("fg", "delete", "last_order", "--version", "3.0.0", "--yes").code == 3
    assert shop("fg", "delete", "last_order", "--version", "1.0.0", "--yes").code == 0
    assert shop("versions", "last_order", "--json").json == []


def test_fv_list_and_info(shop: Grange) -> None:
    (view,) = shop("fv", "list", "--json").json
    assert view["name"] == "churn" and view["labels"] == ["churned"]
    assert "churn" in shop("fv", "list").out
    info = shop("fv", "info", "churn", "--json").json
    assert info["request"] == [{"column": "customer_id", "dtype": "string"}]
    assert "last_order" in shop("fv", "info", "churn").out


def test_fv_create_of_groups_features_and_joins(shop: Grange) -> None:
    ran = shop(
        "fv", "create", "risk", "--feature-group", "last_order", "--features", "amount,customer_profile:plan",
        "--join", "customer_profile ASOF buyer=customer_id buyer_", "--label", "bad,last_order:amount_per_item",
        "--description", "Risk", "--tag", "tier=gold", "--json",
    )  # fmt: skip
    assert ran.code == 0, ran.out
    data = shop("fv", "info", "risk", "--json").json
    assert data["selections"] == [
        "last_order:amount",
        "customer_profile:plan",
        "customer_profile on customer_id=buyer prefix buyer_",
    ]
    assert data["labels"] == ["bad", "last_order:amount_per_item"]
    assert [item["column"] for item in data["request"]] == ["customer_id", "buyer"]
    got = shop("fv", "get", "risk", "--entry", "customer_id=001,buyer=007", "--json").json["rows"][0]
    assert set(got["values"]) == {"amount", "plan", "buyer_country", "buyer_plan"}


def test_fv_create_of_everything_that_a_view_can_be(shop: Grange) -> None:
    ran = shop(
        "fv", "create", "risk", "--feature-group", "last_order", "--join", "customer_profile INNER customer_id",
        "--label", "bad after 30d", "--derived", "twice=amount * 2", "--filter", "twice > 0 AND bad IS NULL",
        "--training-helper", "country,note", "--inference-helper", "customer_profile:plan",
    )  # fmt: skip
    assert ran.code == 0, ran.err
    info = shop("fv", "info", "risk").out
    for shown in ("bad after 30d", "twice > 0 AND bad IS NULL", "country, note", "customer_profile:plan", "inner"):
        assert shown in info
    data = shop("fv", "info", "risk", "--json").json
    assert data["derived"] == {"twice": "amount * 2"}
    values = shop("fv", "get", "risk", "--entry", "customer_id=001", "--json").json["rows"][0]["values"]
    assert set(values) == {"amount", "amount_per_item", "plan", "twice"}, "training helpers are not served"


def test_fv_read_says_what_columns_are_for_and_which_rows_are_left_out(shop: Grange, tmp_path: Path) -> None:
    spine = tmp_path / "spine.csv"
    spine.write_text("customer_id,event_time,bad\n001,2026-01-01,1\nnobody,2026-01-01,0\n")
    joined = ("--join", "customer_profile INNER customer_id", "--label", "bad")
    assert shop("fv", "create", "known", "--feature-group", "last_order", *joined).code == 0
    ran = shop("fv", "read", "known", "--spine", str(spine), "--json").json
    assert (ran["rows"], ran["rows_left_out"]) == (1, 1)
    assert ran["roles"]["customer_id"] == "key" and ran["roles"]["bad"] == "label"
    assert ran["roles"]["amount"] == "feature" and ran["roles"]["event_time"] == "event_time"
    assert "1 row left out" in shop("fv", "read", "known", "--spine", str(spine)).out


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        ((), 2, "--feature-group"),
        (("--join", "customer_profile OUTER customer_id"), 2, "INNER"),
        (("--feature-group", "last_order", "--label", "bad after soon"), 2, "after"),
        (("--feature-group", "last_order", "--filter", "amount >"), 2, "filter"),
        (("--feature-group", "last_order", "--filter", "amount > 'x'"), 1, "amount"),
        (("--feature-group", "last_order", "--derived", "twice=amuont * 2"), 1, "amount"),
        (("--feature-group", "last_order", "--inference-helper", "amuont"), 1, "amount"),
        (("--feature-group", "last_order", "--training-helper", "last_order:amuont"), 1, "last_order:amount"),
        (("--join", "customer_profle LEFT customer_id"), 3, "customer_profile"),
        (("--join", "customer_profile LEFT customer"), 2, "customer_id"),
        (("--features", "last_order:amuont"), 3, "last_order:amount"),
        (("--feature-group", "last_ordr"), 3, "last_order"),
        (("--feature-group", "last_order", "--on-error", "shrug"), 2, "shrug"),
        (("--feature-group", "last_order", "--tag", "gold"), 2, "gold"),
    ],
)
def test_fv_create_refuses_what_cannot_be(shop: Grange, options: tuple[str, ...], code: int, said: str) -> None:
    ran = shop("fv", "create", "risk", *options)
    assert ran.code == code and said in ran.err, ran.err
    assert shop("fv", "info", "risk").code == 3


def test_fv_get_prints_values_with_their_status(shop: Grange) -> None:
    ran = shop("fv", "get", "churn", "--entry", "customer_id=007", "--entry", "customer_id=nobody", "--json")
    first, second = ran.json["rows"]
    assert ran.json["degraded"] is False
    assert first["entry"] == {"customer_id": "007"} and set(first["statuses"].values()) == {"PRESENT"}
    assert second["statuses"]["plan"] == "NOT_FOUND" and second["values"]["plan"] == "free"  # ONL-5
    assert second["values"]["amount"] is None and second["event_times"]["amount"] is None
    shown = shop("fv", "get", "churn", "--entry", "customer_id=007").out
    assert "PRESENT" in shown and "amount_per_item" in shown
    early = shop("fv", "get", "churn", "--entry", "customer_id=007", "--now", "2024-01-01", "--json").json["rows"][0]
    assert set(early["statuses"].values()) == {"NOT_FOUND"}


@pytest.mark.parametrize("entry", ["customer_id", "custmer_id=1", "customer_id=1,x=2"])
def test_fv_get_refuses_entries_that_are_none(shop: Grange, entry: str) -> None:
    assert shop("fv", "get", "churn", "--entry", entry).code == 2


def test_fv_get_online_equals_read_offline(shop: Grange) -> None:
    """ONL-1, through the command line."""
    Path("now.csv").write_text("customer_id,event_time\n001,2026-01-01\n007,2026-01-01\n")
    offline = shop("fv", "read", "churn", "--spine", "now.csv", "--json").json["data"]
    entries = [word for key in ("001", "007") for word in ("--entry", f"customer_id={key}")]
    online = shop("fv", "get", "churn", *entries, "--now", "2026-01-01", "--json").json["rows"]
    for row, vector in zip(offline, online, strict=True):
        assert {name: row[name] for name in vector["values"]} == vector["values"]


def test_fv_read_of_a_spine_keeps_its_rows_and_types(shop: Grange) -> None:
    ran = shop("fv", "read", "churn", "--spine", "data/labels.csv", "--n", "2", "--json").json
    assert (ran["rows"], len(ran["data"])) == (12, 2)
    assert ran["columns"] == ["customer_id", "event_time", "churned", "country", "plan", "amount", "amount_per_item"]
    assert ran["versions"] == {"customer_profile": "1.0.0", "last_order": "1.0.0"}
    spine = Path("data/labels.csv").read_text().splitlines()
    assert ran["data"][0]["customer_id"] == spine[1].split(",")[0]
    assert "2 of 12 rows" in shop("fv", "read", "churn", "--spine", "data/labels.csv", "--n", "2").out


@pytest.mark.parametrize("engine", ["reference", "polars", "duckdb"])
def test_fv_read_is_the_same_on_every_engine(shop: Grange, engine: str) -> None:
    spine = ("--spine", "data/labels.csv", "--n", "99", "--json")
    usual = shop("fv", "read", "churn", *spine).json
    assert shop("fv", "read", "churn", *spine, "--engine", engine).json == usual


def test_fv_read_without_a_spine_takes_the_groups_own_times(shop: Grange) -> None:
    ran = shop("fv", "read", "churn", "--start", "2025-01-02", "--end", "2025-04-01", "--json").json
    assert ran["rows"] == 10 and ran["columns"][:2] == ["customer_id", "changed_at"]


def test_fv_read_as_known_hides_what_came_later(shop: Grange) -> None:
    """Orders are loaded the night after: at the day's end the model had not seen the day's orders (PIT-5)."""

    def amounts(*options: str) -> list[Any]:
        Path("spine.csv").write_text(
            "customer_id,event_time\n"
            + "\n".join(f"{number:03},2025-02-{day:02}T23:59:00" for number in range(1, 21) for day in (10, 17, 24))
        )
        ran = shop("fv", "read", "churn", "--spine", "spine.csv", "--n", "99", "--json", *options)
        return [row["amount"] for row in ran.json["data"]]

    assert amounts() != amounts("--as-known")


@pytest.mark.parametrize("ending", ["parquet", "csv", "jsonl"])
def test_fv_read_writes_files(shop: Grange, ending: str) -> None:
    ran = shop("fv", "read", "churn", "--spine", "data/labels.csv", "--output", f"train.{ending}", "--json")
    assert ran.code == 0 and ran.json["output"] == f"train.{ending}" and "data" not in ran.json
    read: Any = {"parquet": pl.read_parquet, "csv": pl.read_csv, "jsonl": pl.read_ndjson}[ending]
    assert read(f"train.{ending}").height == 12
    assert not list(Path().glob(".train*"))


def test_fv_read_explains(shop: Grange) -> None:
    ran = shop("fv", "read", "churn", "--spine", "data/labels.csv", "--explain")
    assert ran.code == 0 and "last_order" in ran.out.split("rows (")[-1]


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (("--spine", "missing.csv"), 1, "missing.csv"),
        (("--spine", "data/labels.csv", "--output", "train.xlsx"), 2, ".parquet"),
        (("--spine", "data/labels.csv", "--output", "nowhere/train.csv"), 2, "nowhere"),
        (("--spine", "data/labels.csv", "--engine", "polras"), 3, "polars"),
        (("--spine", "data/labels.csv", "--start", "2025-01-01"), 2, "spine"),
        (("--spine", "nokey.csv"), 2, "customer_id"),
        (("--start", "yesterday"), 2, "ISO 8601"),
    ],
)
def test_fv_read_says_what_is_wrong(shop: Grange, options: tuple[str, ...], code: int, said: str) -> None:
    Path("nokey.csv").write_text("customer,event_time\n1,2025-01-01\n")
    ran = shop("fv", "read", "churn", *options)
    assert ran.code == code and said in ran.err, ran.err


def test_fv_delete(shop: Grange) -> None:
    assert shop("fv", "delete", "churn").code == 4
    assert shop("fv", "delete", "chrn", "--yes").code == 3
    assert shop("fv", "delete", "churn", "--yes", "--json").json == {"removed": ["feature view churn"]}
    assert shop("fv", "list").out == "no feature views yet: grange apply\n"
    assert shop("fg", "delete", "last_order", "--yes").code == 0


def test_a_definition_module_that_raises_is_one_clear_error(shop: Grange) -> None:
    Path("features.py").write_text("x = 1\nraise RuntimeError('no luck')\n")
    ran = shop("plan", "--json")
    error = ran.json["error"]
    assert ran.code == 1 and error["type"] == "DefinitionLoadError"
    assert error["details"]["line"] == 2 and "no luck" in error["message"]
    assert shop("fg", "list").code == 0  # what was applied is as it was


def test_another_folders_project(shop: Grange, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert len(shop("fg", "list", "--project", str(tmp_path), "--json").json) == 2
    assert len(shop("--json", "--project", str(tmp_path), "fg", "list").json) == 2
    assert len(shop("fg", "list", "--json").json) == 2  # found upwards
    assert shop("fg", "list", "--project", "nowhere").code == 2


def test_quarantine_shows_what_was_kept_out_and_why(shop: Grange) -> None:
    ran = shop("fg", "quarantine", "last_order")
    assert ran.code == 0
    assert "__reasons" in ran.out
    assert len(shop("fg", "quarantine", "last_order", "--json").json) == 1
    assert shop("fg", "quarantine", "customer_profile").out == "nothing of customer_profile is in quarantine\n"
    assert shop("fg", "quarantine", "nobody").code == 3


def test_verify_online_compares_what_is_served(shop: Grange) -> None:
    ran = shop("verify", "online")
    assert ran.code == 0
    assert "equal" in ran.out
    data = shop("verify", "online", "last_order", "--all", "--json").json
    assert [(group["group"], group["holds"]) for group in data["groups"]] == [("last_order", True)]
    assert shop("verify", "last_order", "customer_profile").code == 2
