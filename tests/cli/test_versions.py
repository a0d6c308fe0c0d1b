"""The commands about versions: forecasts, diff, rollback, manifest, and groups that are named with a version."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.cli.running import Grange

DEFINITIONS = """
import grange as gr

user = gr.Entity("user", join_keys=["user_id"])
rows = gr.FileSource("rows.csv", event_time="at")
spend = gr.FeatureGroup("spend", entities=user, source=rows, transform={transform!r})
"""
ALL = 'SELECT user_id, "at", amount, visits FROM source'
LESS = 'SELECT user_id, "at", amount FROM source'
TWICE = 'SELECT user_id, "at", amount * 2 AS amount, visits FROM source'


def define(transform: str) -> None:
    Path("features.py").write_text(DEFINITIONS.format(transform=transform))


def rows(*amounts: int) -> None:
    lines = [f"u{number},2026-03-0{number + 1},{amount},{number}" for number, amount in enumerate(amounts)]
    Path("rows.csv").write_text("\n".join(["user_id,at,amount,visits", *lines]) + "\n")


@pytest.fixture
def spend(grange: Grange) -> Grange:
    """A project with `spend` 1.0.0 (two rows) and 1.0.1 (three rows)."""
    Path("grange.toml").write_text('project = "shop"\n')
    define(ALL)
    rows(1, 2)
    assert grange("apply").code == 0
    assert grange("materialize").code == 0
    rows(1, 2, 3)
    assert grange("materialize").code == 0
    return grange


def latest(grange: Grange) -> str:
    (found,) = [item["version"] for item in grange("versions", "spend", "--json").json if item["latest"]]
    return str(found)


def test_plan_and_apply_tell_the_next_version(grange: Grange, spend: Grange) -> None:
    define(LESS)
    planned = spend("plan")
    assert planned.code == 0
    assert planned.out.splitlines()[-2].split() == ["next", "materialize", "now", "then", "why"]
    assert planned.out.splitlines()[-1].split(maxsplit=3) == [
        "spend",
        "1.0.1",
        "2.0.0",
        "major: removed columns: visits",
    ]
    told = {
        "group": "spend", "current": "1.0.1", "next": "2.0.0", "bump": "major", "reason": "removed_columns",
        "details": ["visits"], "if_same": [], "if_changed": None,
    }  # fmt: skip
    assert spend("plan", "--json").json["versions"] == [told]
    applied = spend("apply")
    assert "applied as revision 2" in applied.out
    assert "2.0.0" in applied.out
    assert spend("apply", "--json").json["versions"] == []
    assert spend("materialize", "--json").json[0]["version"] == "2.0.0"


def test_a_dry_run_tells_versions_and_makes_none(spend: Grange) -> None:
    """Of data alone both numbers; an explicit one is checked."""
    ran = spend("materialize", "--dry-run")
    assert ran.code == 0
    assert ran.err == ""
    assert ran.out.splitlines()[1].split(maxsplit=5) == [
        "spend", "1.0.1", "1.0.1", "or", "1.0.2", "patch if its rows changed",
    ]  # fmt: skip
    (told,) = spend("build", "spend", "--dry-run", "--json").json
    assert (told["next"], told["if_same"], told["if_changed"]) == (None, ["1.0.1"], "1.0.2")
    assert spend("materialize", "--dry-run", "--version", "3.0.0", "--json").json[0]["next"] == "3.0.0"
    assert spend("materialize", "--dry-run", "--version", "1.0.1").code == 2
    assert spend("materialize", "--dry-run", "--version", "banana").code == 2
    assert spend("materialize", "spnd", "--dry-run").code == 3
    assert len(spend("versions", "spend", "--json").json) == 2


def test_diff(spend: Grange) -> None:
    """The default is the latest against the one below; --exit-code tells scripts."""
    ran = spend("diff", "spend")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.splitlines()[0] == "spend 1.0.0 -> 1.0.1: patch: changed data"
    assert "  rows: 2 -> 3" in ran.out.splitlines()
    assert "statistics" not in ran.out
    assert spend("diff", "spend", "--exit-code").code == 1
    assert spend("diff", "spend", "1.0.1", "1.0.1", "--exit-code").code == 0
    assert spend("diff", "spend@1.0.0", "--json", "--exit-code").code == 1
    pair = spend("diff", "spend@1.0.1", "1.0.0", "--json").json
    assert (pair["before"], pair["after"]) == ("1.0.1", "1.0.0")
    data = spend("diff", "spend", "1.0.0", "1.0.1", "--statistics", "--json").json
    assert (data["differs"], data["change"]["bump_type"]) == (True, "patch")
    mean = next(item for item in data["statistics"] if (item["column"], item["statistic"]) == ("amount", "mean"))
    assert (mean["before"], mean["after"]) == (1.5, 2.0)
    shown = spend("diff", "spend", "--statistics").out
    assert ["amount", "mean", "1.5", "2"] in [line.split() for line in shown.splitlines()]


def test_diff_shows_code(spend: Grange) -> None:
    define(TWICE)
    spend("apply")
    spend("materialize")
    told = spend("diff", "spend").out.splitlines()
    assert told[0] == "spend 1.0.1 -> 1.1.0: minor: changed code"
    assert f"  -{ALL}" in told
    assert f"  +{TWICE}" in told


@pytest.mark.parametrize(
    ("words", "code"),
    [(["spnd"], 3), (["spend", "9.9.9"], 3), (["spend", "banana"], 2), (["spend@1.0.0", "1.0.1", "1.0.1"], 2)],
)
def test_diff_of_what_is_not_there(spend: Grange, words: list[str], code: int) -> None:
    ran = spend("diff", *words, "--json")
    assert (ran.code, "error" in ran.json) == (code, True)


def test_rollback_asks_and_goes_back(spend: Grange) -> None:
    dry = spend("rollback", "spend", "--previous", "--dry-run")
    assert (dry.code, dry.out) == (0, "spend: 1.0.0 would become the latest, instead of 1.0.1; 2 rows\n")
    refused = spend("rollback", "spend", "1.0.0")
    assert (refused.code, latest(spend)) == (4, "1.0.1")
    assert "--yes" in refused.err
    done = spend("rollback", "spend", "1.0.0", "--yes")
    assert done.code == 0
    assert done.out.splitlines() == [
        "spend: 1.0.0 is now the latest, instead of 1.0.1; 2 rows", "2 entity keys loaded online",
    ]  # fmt: skip
    assert latest(spend) == "1.0.0"
    assert spend("versions", "spend").out.splitlines()[-1] == "the latest is 1.0.0"
    assert [item["version"] for item in spend("fg", "list", "--json").json] == ["1.0.0"]
    assert spend("inspect", "spend", "--json").json["latest"] == "1.0.0"
    rows(9)
    assert spend("materialize", "--json").json[0]["version"] == "1.0.2"


def test_rollback_warns_of_what_is_not_served(spend: Grange) -> None:
    define('SELECT user_id, "at", CAST(amount AS VARCHAR) AS amount, visits FROM source')
    spend("apply")
    spend("materialize")
    for how in ("--dry-run", "--yes"):
        ran = spend("rollback", "spend", "1.0.1", how)
        assert (ran.code, "has amount as int64 instead of string" in ran.err) == (0, True)
    assert "loaded online" not in ran.out


def test_a_version_of_a_view_is_not_deleted(spend: Grange) -> None:
    spend("fv", "create", "model", "--features", "spend:amount")
    ran = spend("fv", "delete", "model@1.0.0", "--yes", "--json")
    assert "error" in ran.json
    assert [each["name"] for each in spend("fv", "list", "--json").json] == ["model"]


def test_rollback_tells_of_rows_pushed_since(spend: Grange) -> None:
    Path("more.csv").write_text("user_id,at,amount,visits\nu9,2026-03-09,9,9\n")
    assert spend("fg", "insert", "spend", "--file", "more.csv").code == 0
    done = spend("rollback", "spend@1.0.0", "--yes", "--json").json
    assert (done["version"], done["replaced"], done["pending"], done["online_rows"]) == ("1.0.0", "1.0.1", 1, 3)


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["spend"], 2), (["spend", "1.0.0", "--previous"], 2), (["spend", "7.0.0"], 3), (["spend", "1.0.1"], 4),
        (["spnd", "--previous"], 3), (["spend@1.0.0", "1.0.1"], 2), (["spend", "banana"], 2),
    ],
)  # fmt: skip
def test_rollback_refuses(spend: Grange, words: list[str], code: int) -> None:
    for how in ("--yes", "--dry-run"):
        ran = spend("rollback", *words, how, "--json")
        assert (ran.code, "error" in ran.json) == (code, True)
    assert latest(spend) == "1.0.1"


def test_manifest(spend: Grange) -> None:
    ran = spend("manifest")
    assert ran.code == 0
    headers, row = ran.out.splitlines()
    assert headers.split()[:4] == ["group", "latest", "versions", "rows"]
    assert row.split()[:4] == ["spend", "1.0.1", "2", "3"]
    path = Path(".grange/offline/_metadata/manifest.json")
    before = path.read_text()
    path.unlink()
    data = spend("manifest", "--regenerate", "--json").json
    assert path.read_text() == before
    assert (data["spend"]["versions"], data["spend"]["latest"]) == (["1.0.0", "1.0.1"], "1.0.1")


def test_a_manifest_of_nothing(grange: Grange) -> None:
    Path("grange.toml").write_text('project = "shop"\n')
    assert grange("manifest").out == "no versions yet: grange materialize\n"
    assert grange("manifest", "--regenerate", "--json").json == {}


def test_groups_are_named_with_their_version(spend: Grange) -> None:
    assert len(spend("fg", "preview", "spend@1.0.0", "--json").json) == 2
    assert len(spend("fg", "preview", "spend", "--version", "1.0.0", "--json").json) == 2
    assert spend("fg", "info", "spend@1.0.0", "--json").json["stored"]["row_count"] == 2
    assert [item["name"] for item in spend("fg", "features", "spend@1.0.0", "--json").json][:2] == ["user_id", "at"]
    counts = {item["count"] for item in spend("fg", "stats", "spend@1.0.0", "--json").json}
    assert counts == {2}
    assert spend("inspect", "spend@1.0.0", "--json").json["stored"]["version"] == "1.0.0"
    assert [item["version"] for item in spend("versions", "spend@1.0.0", "--json").json] == ["1.0.0"]


@pytest.mark.parametrize(
    "words",
    [["fg", "preview"], ["fg", "info"], ["fg", "features"], ["fg", "stats"], ["inspect"], ["fg", "delete", "--yes"]],
)
def test_two_versions_are_wrong_usage(spend: Grange, words: list[str]) -> None:
    assert spend(*words, "spend@1.0.0", "--version", "1.0.1", "--json").code == 2
    assert spend(*words, "spend@9.0.0", "--json").code == 3
    assert spend(*words, "spend@new", "--json").code == 2
    assert len(spend("versions", "spend", "--json").json) == 2


def test_delete_says_what_pins_a_version(spend: Grange) -> None:
    spend("fv", "create", "model", "--features", "spend@1.0.0:amount")
    assert spend("fv", "list", "--json").json[0]["name"] == "model"
    refused = spend("fg", "delete", "spend@1.0.0", "--yes")
    assert (refused.code, "feature view model" in refused.err) == (4, True)
    done = spend("fg", "delete", "spend@1.0.0", "--cascade", "--yes")
    assert done.out.splitlines() == ["deleted feature view model", "deleted version 1.0.0 of feature group spend"]


def test_inspect_shows_code_once_and_versions_what_cannot_be_read(spend: Grange) -> None:
    shown = spend("inspect", "spend").out
    assert shown.count("SELECT") == 1
    assert "code" in spend("inspect", "spend", "--json").json["stored"]
    define(TWICE)
    spend("apply")
    assert spend("inspect", "spend").out.count("SELECT") == 2, "what is stored was made by other code"
    Path(".grange/offline/spend/1.0.1/.meta.json").write_text("{")
    ran = spend("versions", "spend", "--json")
    assert (ran.code, [item["version"] for item in ran.json]) == (0, ["1.0.0"])
    assert "1.0.1" in ran.err and "grange verify spend" in ran.err
    shown = spend("inspect", "spend")
    assert (shown.code, "1.0.0" in shown.out, "1.0.1" in shown.err) == (0, True, True)
    assert spend("fg", "list", "--json").json[0]["version"] is None
    assert spend("rollback", "spend", "--previous", "--yes").code == 0
    assert spend("fg", "delete", "spend@1.0.1", "--yes").code == 0
    assert spend("verify").code == 0
