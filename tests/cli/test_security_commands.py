"""`grange key`, `grange policy`, `grange audit`."""

from __future__ import annotations

import datetime as dt
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from tests.cli.running import Grange

from grange.security.key_text import parse_key
from grange.store import FeatureStore


def audited(grange: Grange) -> list[tuple[str, str, str]]:
    """(action, resource, outcome), oldest first."""
    entries = grange("audit", "--json").json
    return [tuple(entry["data"][key] for key in ("action", "resource", "outcome")) for entry in reversed(entries)]


def works(text: str) -> bool:
    from grange.errors import UnauthenticatedError

    with FeatureStore() as store:
        try:
            store.security.authenticate(text, now=dt.datetime.now(dt.UTC))
        except UnauthenticatedError:
            return False
    return True


# -- keys


def test_a_key_is_shown_once_and_alone_on_standard_output(grange: Grange) -> None:
    ran = grange("key", "create", "ranker", "--role", "viewer", "--scope", "serve:churn", "--expires", "90d")
    assert ran.code == 0 and parse_key(ran.out.strip()) and "never shown again" in ran.err
    assert works(ran.out.strip())
    secret = ran.out.strip().rpartition("_")[2]
    for words in (["key", "list"], ["key", "info", "ranker"], ["audit", "--lines"], ["key", "list", "--json"]):
        assert secret not in grange(*words).out
    assert audited(grange) == [("key create", "key:ranker", "accepted")]


def test_a_key_as_json_has_its_text_once(grange: Grange) -> None:
    made = grange("key", "create", "etl", "--role", "editor", "--team", "data", "--json").json
    assert works(made.pop("key"))
    known = grange("key", "info", made["id"], "--json").json
    assert {**known, "last_used_at": None} == made
    assert (known["role"], known["teams"], known["scopes"], known["expires_at"]) == ("editor", ["data"], ["*"], None)


def test_keys_are_listed_and_those_that_work_no_longer_with_all(grange: Grange) -> None:
    assert "no keys" in grange("key", "list").out
    for name in ("one", "two"):
        grange("key", "create", name, "--role", "viewer")
    grange("key", "revoke", "one", "--yes")
    assert [key["name"] for key in grange("key", "list", "--json").json] == ["two"]
    assert [key["state"] for key in grange("key", "list", "--all", "--json").json] == ["revoked", "active"]
    assert "two" in grange("key", "list").out


def test_a_revoked_key_works_no_longer(grange: Grange) -> None:
    text = grange("key", "create", "ranker", "--role", "viewer").out.strip()
    ran = grange("key", "revoke", "ranker")
    assert ran.code == 4 and works(text), "it asks first"
    assert grange("key", "revoke", "ranker", "--yes").code == 0 and not works(text)
    assert audited(grange)[-1] == ("key revoke", "key:ranker", "accepted")


def test_a_rotated_key_takes_the_other_s_place(grange: Grange) -> None:
    old = grange("key", "create", "ranker", "--role", "viewer").out.strip()
    assert grange("key", "rotate", "ranker").code == 4, "without grace it asks first"
    new = grange("key", "rotate", "ranker", "--grace", "1d").out.strip()
    assert works(old) and works(new) and old != new
    third = grange("key", "rotate", "ranker", "--yes", "--json").json
    assert not works(new) and works(third["key"]) and third["replaces"] == parse_key(new).id  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["create", "x"], 2),
        (["create", "x", "--role", "boss"], 2),
        (["create", "x", "--role", "viewer", "--scope", "reed"], 2),
        (["create", "x", "--role", "viewer", "--expires", "3mo"], 2),
        (["create", "x", "--role", "viewer", "--expires", "2001-01-01"], 2),
        (["create", "there", "--role", "viewer"], 4),
        (["rotate", "there", "--grace", "soon"], 2),
        (["info", "nope"], 3),
        (["revoke", "nope", "--yes"], 3),
        (["rotate", "nope", "--yes"], 3),
    ],
)
def test_what_makes_no_sense_is_told_by_the_exit_code(grange: Grange, words: list[str], code: int) -> None:
    grange("key", "create", "there", "--role", "viewer")
    assert grange("key", *words).code == code
    assert len(grange("key", "list", "--all", "--json").json) == 1


def test_a_change_that_is_refused_is_in_the_audit_log(grange: Grange) -> None:
    for _ in range(2):
        grange("key", "create", "there", "--role", "viewer")
    assert [outcome for _, _, outcome in audited(grange)] == ["accepted", "accepted", "failed"]


# -- policies


MASK = ["policy", "create", "no-country", "--mask", "--on", "feature:customer_profile:country", "--to", "role:viewer"]


def test_policies_are_made_listed_and_deleted(shop: Grange) -> None:
    assert "no policies" in shop("policy", "list").out
    made = shop(*MASK, "--action", "online", "--reason", "personal", "--json").json
    assert made == {
        "name": "no-country",
        "effect": "mask",
        "on": ["feature:customer_profile:country"],
        "to": ["role:viewer"],
        "actions": ["online"],
        "reason": "personal",
    }
    assert shop("policy", "list", "--json").json == [made] and "no-country" in shop("policy", "list").out
    assert shop(*MASK).code == 4 and shop(*MASK, "--replace").code == 0
    assert shop("policy", "delete", "no-country").code == 4
    assert shop("policy", "delete", "no-country", "--yes", "--json").json == {"deleted": "no-country"}
    assert shop("policy", "delete", "no-country", "--yes").code == 3
    assert audited(shop)[-1] == ("policy delete", "policy:no-country", "accepted")


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--deny", "--allow"],
        ["--deny", "--on", "country"],
        ["--deny", "--to", "boss"],
        ["--deny", "--action", "look"],
        ["--mask", "--action", "write"],
    ],
)
def test_a_policy_that_makes_no_sense_is_wrong_usage(grange: Grange, words: list[str]) -> None:
    assert grange("policy", "create", "p", "--on", "*", "--to", "*", *words).code == 2
    assert grange("policy", "list", "--json").json == []


def effects(ran: Any) -> dict[tuple[str, str], tuple[str, str | None]]:
    return {(row["feature"], row["action"]): (row["effect"], row["policy"]) for row in ran.json["decisions"]}


def test_a_check_says_what_somebody_may_have_and_which_policy_decides(shop: Grange) -> None:
    shop(*MASK)
    found = effects(shop("policy", "check", "customer_profile", "--role", "viewer", "--json"))
    assert found["customer_profile:country", "online"] == ("mask", "no-country")
    assert found["customer_profile:country", "search"] == ("allow", None)
    assert found["customer_profile:plan", "online"] == ("allow", None)
    assert found["customer_profile:plan", "write"] == ("deny", None)
    only = effects(
        shop("policy", "check", "customer_profile:country", "--role", "editor", "--action", "online", "--json")
    )
    assert only == {("customer_profile:country", "online"): ("allow", None)}


def test_a_check_of_a_view_goes_by_the_features_that_it_is_made_of(shop: Grange) -> None:
    shop(*MASK)
    shop("key", "create", "ranker", "--role", "viewer", "--scope", "serve:churn")
    shop("key", "create", "other", "--role", "viewer", "--scope", "serve:elsewhere")
    found = effects(shop("policy", "check", "churn", "--key", "ranker", "--action", "online", "--json"))
    assert found["customer_profile:country", "online"] == ("mask", "no-country")
    assert {effect for effect, _ in found.values()} == {"mask", "allow"}
    found = effects(shop("policy", "check", "churn", "--key", "other", "--action", "online", "--json"))
    assert {effect for effect, _ in found.values()} == {"deny"}
    assert "no-country" in shop("policy", "check", "churn", "--key", "ranker").out


def test_a_check_knows_teams(shop: Grange) -> None:
    shop(
        "policy", "create", "p", "--allow", "--on", "group:customer_profile", "--to", "team:risk", "--action", "online"
    )
    words = ("policy", "check", "customer_profile:plan", "--role", "viewer", "--action", "online", "--json")
    assert effects(shop(*words)) == {("customer_profile:plan", "online"): ("deny", "p")}
    assert effects(shop(*words, "--team", "risk")) == {("customer_profile:plan", "online"): ("allow", "p")}


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["churn"], 2),
        (["churn", "--role", "boss"], 2),
        (["churn", "--key", "x", "--role", "viewer"], 2),
        (["churn", "--key", "x", "--team", "t"], 2),
        (["churn", "--key", "nope"], 3),
        (["nope", "--role", "viewer"], 3),
        (["churn", "--role", "viewer", "--action", "look"], 2),
    ],
)
def test_a_check_of_nothing_or_of_nobody(shop: Grange, words: list[str], code: int) -> None:
    assert shop("policy", "check", *words).code == code


# -- the audit log


@pytest.fixture
def busy(grange: Grange) -> Grange:
    for name in ("one", "two"):
        grange("key", "create", name, "--role", "viewer")
    grange("key", "revoke", "one", "--yes")
    return grange


def test_the_log_is_read_newest_first_and_filtered(busy: Grange) -> None:
    def numbers(*words: str) -> list[int]:
        return [entry["number"] for entry in busy("audit", *words, "--json").json]

    assert numbers() == [3, 2, 1] and numbers("--limit", "1") == [3]
    assert numbers("--action", "key create") == [2, 1]
    assert numbers("--principal", "local") == [3, 2, 1] and numbers("--principal", "boss") == []
    assert (
        numbers("--denied") == [] and numbers("--since", "1h") == [3, 2, 1] and numbers("--since", "2100-01-01") == []
    )
    assert "key revoke" in busy("audit").out and "nothing that fits" in busy("audit", "--denied").out


def test_an_empty_log_is_no_error(grange: Grange) -> None:
    assert "nothing that fits" in grange("audit").out
    assert grange("audit", "--anchor").out == "the audit log is empty\n"
    assert grange("audit", "--verify").out == "0 entries, as they were written\n"


def test_a_log_that_was_cut_shows_against_an_anchor(busy: Grange, tmp_path: Path) -> None:
    anchor = busy("audit", "--anchor").out.strip()
    assert busy("audit", "--verify", "--against", anchor).out == "3 entries, as they were written\n"
    assert busy("audit", "--anchor", "--json").json == {"anchor": anchor}
    with sqlite3.connect(tmp_path / ".grange" / "registry.db") as database:
        for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            database.execute(f"DROP TRIGGER {name}")
        database.execute("DELETE FROM journal_entries WHERE number = 3")
    database.close()
    assert busy("audit", "--verify").code == 0, "a chain that is only shorter is whole"
    ran = busy("audit", "--verify", "--against", anchor)
    assert ran.code == 1 and "cut off" in ran.out
    found = busy("audit", "--verify", "--against", anchor, "--json").json
    assert (found["is_intact"], found["findings"][0]["fault"]) == (False, "cut_off")


def test_the_log_is_exported_as_json_lines(busy: Grange) -> None:
    import json

    lines = [json.loads(line) for line in busy("audit", "--lines").out.splitlines()]
    assert [line["number"] for line in lines] == [1, 2, 3]
    assert [line["previous_hash"] for line in lines[1:]] == [line["hash"] for line in lines[:-1]]


@pytest.mark.parametrize("words", [["--verify", "--anchor"], ["--against", "1:x"], ["--verify", "--against", "x"],
                                   ["--since", "later"]])  # fmt: skip
def test_questions_that_do_not_go_together(grange: Grange, words: list[str]) -> None:
    assert grange("audit", *words).code == 2


# -- resealing


def test_reseal_says_what_it_did_and_is_in_the_audit_log(shop: Grange) -> None:
    pytest.importorskip("cryptography", reason="pip install 'grange[security]'")
    ring = Path("keyring")
    ring.touch(mode=0o600)
    ring.write_text("2026a:" + "A" * 43 + "=\n")
    with Path("grange.toml").open("a") as settings:
        settings.write('\n[security]\nencryption_key = "file:keyring"\n')
    Path(".grange/offline/last_order/_quarantine").rename("clear")
    for name in ("last_order", "customer_profile"):
        assert shop("materialize", name).code == 0  # sealed, from here on
    Path("clear").rename(".grange/offline/last_order/_quarantine")
    ring.write_text("2026b:" + "B" * 43 + "=\n" + ring.read_text())
    said = {each["group"]: each for each in shop("reseal", "--json").json}
    assert set(said) == {"customer_profile", "last_order"}
    assert said["last_order"]["quarantine"] == 1 and said["last_order"]["online_rows"] == 20
    assert said["last_order"]["left"] == []
    assert audited(shop)[-1] == ("reseal", "*", "accepted")
    again = shop("reseal", "last_order")
    assert again.code == 0 and again.out.split()[-4:] == ["last_order", "0", "0", "0"]
    ring.write_text(ring.read_text().splitlines()[0] + "\n")
    assert len(shop("fg", "quarantine", "last_order", "--json").json) == 1
    assert shop("verify", "online").code == 0
    ring.write_text("2026c:" + "C" * 42 + "E=\n")
    lost = shop("reseal", "--json")
    assert lost.code == 1 and "'2026b'" in lost.json["error"]["message"]
    assert audited(shop)[-1] == ("reseal", "*", "failed")
