"""API keys: what works, what does not, for how long, and what is told of it (SEC-2, SEC-3)."""

from __future__ import annotations

import datetime as dt
import hmac
import logging
import string
import threading
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.security.parts import DAY, MINUTE, NOW, SECOND, CutOff

from grange.errors import (
    CorruptStoreError,
    GrangeError,
    RefusedError,
    RequestError,
    StoreUnavailableError,
    UnauthenticatedError,
    UnknownKeyError,
)
from grange.ports.registry import Registry
from grange.security import keys as keys_module
from grange.security.key_text import PATTERN, KeyText, looks_like_key, new_key_text, parse_key, project_part
from grange.security.keys import KeyStore, NewKey


@pytest.fixture
def keys(registry: Registry) -> KeyStore:
    return KeyStore(registry, "shop")


def made(keys: KeyStore, name: str = "ranker", **more: Any) -> NewKey:
    return keys.create(name, **{"role": "viewer", "now": NOW, **more})


def refusal(keys: KeyStore, text: str, now: dt.datetime = NOW) -> str:
    with pytest.raises(UnauthenticatedError) as caught:
        keys.authenticate(text, now=now)
    return str(caught.value)


# -- the text


@settings(deadline=None)
@given(st.text(min_size=1, max_size=40))
def test_the_text_of_a_key_is_read_back(project: str) -> None:
    key = new_key_text(project)
    assert parse_key(key.text) == key and PATTERN.fullmatch(key.text) and looks_like_key(key.text)
    assert key.project == project_part(project) and key.text.replace("_", "").isalnum()


@settings(deadline=None)
@given(st.data())
def test_a_mistyped_key_is_told_without_asking_anybody(data: st.DataObject) -> None:
    text = new_key_text("shop").text
    place = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(st.sampled_from(string.ascii_letters + string.digits).filter(lambda c: c != text[place]))
    assert parse_key(text[:place] + other + text[place + 1 :]) is None
    assert parse_key(text[:place] + text[place + 1 :]) is None
    assert parse_key(text[:place] + other + text[place:]) is None


@pytest.mark.parametrize("text", ["", "grange_", "x" * 300, "grange_shop_é", "Bearer grange_shop", "a.b.c", "\ud800"])
def test_what_is_no_key_asks_nobody(text: str, cut_off: CutOff) -> None:
    refusal(KeyStore(cut_off, "shop"), text)
    assert cut_off.asked == []


def test_two_keys_are_never_the_same() -> None:
    made_keys = {new_key_text("shop") for _ in range(1000)}
    assert len({key.secret for key in made_keys}) == len({key.id for key in made_keys}) == 1000


# -- who asks


def test_a_key_says_who_asks(keys: KeyStore) -> None:
    key = made(keys, role="editor", scopes=["serve:churn"], teams=["risk"], created_by="boss")
    who = keys.authenticate(key.text, now=NOW)
    assert (who.id, who.name, who.kind, who.role, who.project) == (key.info.id, "ranker", "key", "editor", "shop")
    assert (who.scopes, who.teams) == ({"serve:churn"}, {"risk"})
    assert keys.get(key.info.id).created_by == "boss"


def test_every_reason_has_the_same_words(keys: KeyStore, registry: Registry) -> None:
    wrong = new_key_text("shop")
    good = made(keys).info
    revoked, expired = made(keys, "b"), made(keys, "c", expires_at=NOW + SECOND)
    keys.revoke(revoked.info.id, now=NOW)
    texts = [
        wrong.text,
        KeyText("shop", good.id, wrong.secret).text,
        revoked.text,
        expired.text,
        made(KeyStore(registry, "other"), "d").text,
        "nonsense",
    ]
    assert len({refusal(keys, text, NOW + MINUTE) for text in texts}) == 1


def test_every_reason_is_the_same_work(cut_off: CutOff, monkeypatch: pytest.MonkeyPatch) -> None:
    """One question to the registry, one hash of the secret, one comparison in constant time, whatever is wrong."""
    keys = KeyStore(cut_off, "shop")
    wrong = new_key_text("shop")
    right, revoked, expired = made(keys), made(keys, "b"), made(keys, "c", expires_at=NOW + SECOND)
    keys.revoke(revoked.info.id, now=NOW)
    compared: list[tuple[int, int]] = []
    really = hmac.compare_digest

    def compare(left: bytes, right: bytes) -> bool:
        compared.append((len(left), len(right)))
        return really(left, right)

    monkeypatch.setattr(keys_module.hmac, "compare_digest", compare)
    work = []
    for text in (wrong.text, KeyText("shop", right.info.id, wrong.secret).text, revoked.text, expired.text):
        cut_off.asked.clear()
        compared.clear()
        refusal(keys, text, NOW + MINUTE)
        work.append((tuple(cut_off.asked), tuple(compared)))
    assert set(work) == {(("documents",), ((32, 32),))}


def test_a_key_is_of_one_project(registry: Registry) -> None:
    here, there = KeyStore(registry, "shop"), KeyStore(registry, "shop!")  # which their texts write alike
    key = made(here)
    refusal(there, key.text)
    assert there.list() == () and here.authenticate(key.text, now=NOW).project == "shop"
    with pytest.raises(UnknownKeyError):
        there.revoke(key.info.id, now=NOW)


def test_an_expired_key_stops_to_the_microsecond_remembered_or_not(keys: KeyStore) -> None:
    ends = NOW + 2 * SECOND
    key = made(keys, expires_at=ends)
    keys.authenticate(key.text, now=ends - dt.timedelta(microseconds=1))
    refusal(keys, key.text, ends)
    assert keys.get(key.info.id).state(ends) == "expired"


# -- secrets


def test_the_secret_is_nowhere_but_in_the_new_key(keys: KeyStore, registry: Registry) -> None:
    key = made(keys)
    secret = key.text.rpartition("_")[2][:43]
    stored = [str(document.data) for document in registry.documents("api_keys", limit=None)]
    shown = [repr(key), str(key), repr(keys.list()), str(key.info.to_dict(NOW)), repr(parse_key(key.text))]
    keys.authenticate(key.text, now=NOW)
    keys.revoke(key.info.id, now=NOW)
    shown += [refusal(keys, key.text), repr(vars(keys)), repr(vars(keys._remembered))]
    assert not [text for text in (*stored, *shown) if secret in text]


def test_a_key_in_an_error_of_the_registry_is_not_its_text(cut_off: CutOff) -> None:
    keys = KeyStore(cut_off, "shop")
    text = made(keys).text
    cut_off.is_down = True
    with pytest.raises(GrangeError) as caught:
        keys.authenticate(text, now=NOW)
    assert text not in str(caught.value) + str(caught.value.to_dict())


# -- for how long


def test_a_verified_key_is_remembered_for_five_seconds(cut_off: CutOff) -> None:
    keys = KeyStore(cut_off, "shop")
    text = made(keys).text
    keys.authenticate(text, now=NOW)
    cut_off.asked.clear()
    keys.authenticate(text, now=NOW + dt.timedelta(seconds=4, microseconds=999_999))
    assert cut_off.asked == []
    keys.authenticate(text, now=NOW + 5 * SECOND)
    assert cut_off.asked == ["documents"]


def test_a_revoked_key_stops_at_once_here_and_within_five_seconds_elsewhere(registry: Registry) -> None:
    here, elsewhere = KeyStore(registry, "shop"), KeyStore(registry, "shop")
    key = made(here)
    for store in (here, elsewhere):
        store.authenticate(key.text, now=NOW)
    here.revoke(key.info.id, now=NOW)
    refusal(here, key.text, NOW)
    elsewhere.authenticate(key.text, now=NOW + SECOND)
    refusal(elsewhere, key.text, NOW + 5 * SECOND)


def test_while_the_registry_is_gone_known_keys_go_on_for_a_quarter_of_an_hour(cut_off: CutOff) -> None:
    keys = KeyStore(cut_off, "shop")
    known, unknown = made(keys), made(keys, "other")
    brief = made(keys, "brief", expires_at=NOW + 2 * MINUTE)
    for key in (known, brief):
        keys.authenticate(key.text, now=NOW)
    cut_off.is_down = True
    assert keys.authenticate(known.text, now=NOW + MINUTE).name == "ranker"
    cut_off.asked.clear()
    keys.authenticate(known.text, now=NOW + MINUTE + SECOND)
    assert cut_off.asked == [], "it is not asked again for every request"
    for key, moment in ((unknown, NOW), (brief, NOW + 2 * MINUTE), (known, NOW + 15 * MINUTE)):
        with pytest.raises(StoreUnavailableError):
            keys.authenticate(key.text, now=moment)
    cut_off.is_down = False
    assert keys.authenticate(known.text, now=NOW + 20 * MINUTE).name == "ranker"


def test_a_clock_that_was_put_back_proves_nothing(cut_off: CutOff) -> None:
    keys = KeyStore(cut_off, "shop")
    text = made(keys).text
    keys.authenticate(text, now=NOW + DAY)
    cut_off.asked.clear()
    keys.authenticate(text, now=NOW)
    assert cut_off.asked[:1] == ["documents"]


def test_what_is_remembered_is_bounded(keys: KeyStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys._remembered, "_most", 3)
    for number in range(5):
        keys.authenticate(made(keys, f"k{number}").text, now=NOW)
    assert len(keys._remembered._proven) == 3


def test_the_last_use_is_noted_once_an_hour(cut_off: CutOff) -> None:
    keys = KeyStore(cut_off, "shop")
    key = made(keys)
    assert keys.get(key.info.id).last_used_at is None
    for minutes in range(0, 121, 10):
        keys.authenticate(key.text, now=NOW + minutes * MINUTE)
    assert cut_off.asked.count("put") == 1 + 3
    assert keys.get(key.info.id).last_used_at == NOW + 120 * MINUTE


def test_a_use_that_cannot_be_noted_is_told_and_lets_the_caller_through(
    registry: Registry, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    keys = KeyStore(registry, "shop")
    text = made(keys).text

    def fail(*_: Any, **__: Any) -> None:
        raise StoreUnavailableError("read-only")

    monkeypatch.setattr(registry, "put", fail)
    with caplog.at_level(logging.WARNING):
        assert keys.authenticate(text, now=NOW).name == "ranker"
    assert "could not be noted" in caplog.text and text not in caplog.text


# -- making, rotating, revoking


@pytest.mark.parametrize(
    "wrong",
    [
        {"role": "boss"},
        {"scopes": ["reed"]},
        {"expires_at": NOW},
        {"name": ""},
        {"name": "a\nb"},
        {"name": " a"},
        {"teams": [""]},
    ],
)
def test_a_key_that_makes_no_sense_is_refused_and_not_made(keys: KeyStore, wrong: dict[str, Any]) -> None:
    with pytest.raises(RequestError):
        made(keys, wrong.pop("name", "ranker"), **wrong)
    assert keys.list() == () and not keys.any_ever()


def test_two_keys_that_work_never_have_one_name(keys: KeyStore) -> None:
    key = made(keys)
    with pytest.raises(RefusedError, match="there is a key 'ranker'"):
        made(keys)
    keys.revoke(key.info.id, now=NOW)
    second = made(keys)
    assert [info.state(NOW) for info in keys.list()].count("active") == 1
    assert keys.named("ranker", now=NOW).id == second.info.id
    assert keys.named(key.info.id, now=NOW).id == key.info.id


def test_a_rotated_key_goes_on_until_the_grace_ends(keys: KeyStore) -> None:
    old = made(keys, role="editor", scopes=["serve"], teams=["t"], expires_at=NOW + 10 * DAY)
    new = keys.rotate(old.info.id, grace=DAY, now=NOW + DAY)
    both = NOW + 2 * DAY - SECOND
    assert {keys.authenticate(text, now=both).id for text in (old.text, new.text)} == {old.info.id, new.info.id}
    refusal(keys, old.text, NOW + 2 * DAY)
    info = keys.get(old.info.id)
    assert (info.rotated_to, info.expires_at) == (new.info.id, NOW + 2 * DAY)
    assert (new.info.name, new.info.role, new.info.scopes, new.info.teams) == ("ranker", "editor", {"serve"}, {"t"})
    assert new.info.expires_at == NOW + 11 * DAY
    with pytest.raises(RefusedError, match="was rotated to"):
        keys.rotate(old.info.id, now=NOW + DAY)


def test_without_grace_the_old_key_stops_at_once(keys: KeyStore) -> None:
    old = made(keys)
    keys.authenticate(old.text, now=NOW)
    new = keys.rotate(old.info.id, now=NOW)
    refusal(keys, old.text)
    assert keys.authenticate(new.text, now=NOW).name == "ranker"


def test_grace_never_prolongs_a_key(keys: KeyStore) -> None:
    old = made(keys, expires_at=NOW + DAY)
    keys.rotate(old.info.id, grace=5 * DAY, now=NOW)
    assert keys.get(old.info.id).expires_at == NOW + DAY
    with pytest.raises(RequestError, match="negative"):
        keys.rotate(old.info.id, grace=-DAY, now=NOW)


def test_nothing_undoes_a_revocation(keys: KeyStore) -> None:
    key = made(keys)
    assert keys.revoke(key.info.id, now=NOW).revoked_at == NOW
    assert keys.revoke(key.info.id, now=NOW + DAY).revoked_at == NOW
    with pytest.raises(RefusedError, match="it is revoked"):
        keys.rotate(key.info.id, grace=DAY, now=NOW)
    refusal(keys, key.text, NOW + MINUTE)


def test_of_two_that_rotate_at_once_one_wins_and_one_new_key_works(registry: Registry) -> None:
    old = made(KeyStore(registry, "shop"))
    won: list[NewKey] = []
    lost: list[RefusedError] = []

    def rotate() -> None:
        try:
            won.append(KeyStore(registry, "shop").rotate(old.info.id, grace=DAY, now=NOW))
        except RefusedError as error:
            lost.append(error)

    threads = [threading.Thread(target=rotate) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    keys = KeyStore(registry, "shop")
    assert (len(won), len(lost)) == (1, 3)
    assert {info.id for info in keys.list() if info.state(NOW) == "active"} == {old.info.id, won[0].info.id}


@pytest.mark.parametrize("id", ["", "nope", "a" * 10, "../x", "%", "a_b"])
def test_a_key_that_there_is_not(keys: KeyStore, id: str) -> None:
    key = made(keys)
    for call in (lambda: keys.get(id), lambda: keys.revoke(id, now=NOW), lambda: keys.get(key.info.id[:5])):
        with pytest.raises(UnknownKeyError):
            call()
    with pytest.raises(UnknownKeyError) as caught:
        keys.get("ranker")
    assert caught.value.closest == (key.info.id,)


def test_a_key_is_found_by_its_text_which_no_error_repeats(keys: KeyStore) -> None:
    key, other = made(keys), new_key_text("shop")
    assert keys.named(key.text, now=NOW).id == key.info.id
    for call in (lambda: keys.named(other.text, now=NOW), lambda: keys.get(other.text)):
        with pytest.raises(UnknownKeyError) as caught:
            call()
        assert other.id in str(caught.value) and other.secret not in str(caught.value)


def test_whether_a_key_was_ever_made(keys: KeyStore) -> None:
    assert not keys.any_ever()
    key = made(keys)
    keys.revoke(key.info.id, now=NOW)
    assert keys.any_ever()


def test_a_record_that_cannot_be_read_is_no_way_in(keys: KeyStore, registry: Registry) -> None:
    key = made(keys)
    document = registry.get("api_keys", key.info.id)
    assert document is not None
    registry.put("api_keys", key.info.id, {**document.data, "role": "emperor"}, now=NOW)
    with pytest.raises(CorruptStoreError):
        keys.authenticate(key.text, now=NOW)
