"""Everything of one project together: who asks is told by what they show."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.unit.security.parts import NOW, principal

from grange.errors import UnauthenticatedError
from grange.ports.registry import Registry
from grange.security import LOCAL, Permission, Principal, Security
from grange.security.audit import Event
from grange.security.policies import Policy
from grange.store import FeatureStore


class Tokens:
    """Takes every token, as somebody else's."""

    def authenticate(self, token: str, *, now: object) -> Principal:
        return principal("editor", token, kind="token")


@pytest.fixture
def security(registry: Registry) -> Iterator[Security]:
    made = Security(registry, "shop", Tokens())  # type: ignore[arg-type]
    yield made
    made.close()


def test_a_key_is_told_from_a_token(security: Security) -> None:
    key = security.keys.create("ranker", role="viewer", now=NOW)
    assert security.authenticate(key.text, now=NOW).kind == "key"
    assert security.authenticate("eyJ.x.y", now=NOW).kind == "token"
    with pytest.raises(UnauthenticatedError):
        security.authenticate(key.text[:-1], now=NOW)


def test_without_tokens_everything_is_a_key(registry: Registry) -> None:
    with pytest.raises(UnauthenticatedError):
        Security(registry, "shop").authenticate("eyJ.x.y", now=NOW)


def test_a_project_is_open_until_there_is_somebody_to_tell_apart(registry: Registry) -> None:
    security = Security(registry, "shop")
    assert security.is_open() and not Security(registry, "shop", Tokens()).is_open()  # type: ignore[arg-type]
    key = security.keys.create("ranker", role="viewer", now=NOW)
    security.keys.revoke(key.info.id, now=NOW)
    assert not security.is_open() and not Security(registry, "shop").is_open()


def test_closing_writes_what_was_denied(registry: Registry) -> None:
    security = Security(registry, "shop")
    security.audit.denied(Event(NOW, None, "read online", "x", "denied"))
    security.close()
    assert security.audit.entries()[0].data["outcome"] == "denied"


def test_a_store_has_the_security_of_its_project(tmp_path: Path) -> None:
    with FeatureStore(tmp_path) as store:
        key = store.security.keys.create("ranker", role="viewer", now=NOW)
        store.security.policies.create(Policy("p", "deny", ("*",), ("*",)), now=NOW)
        assert store.security is store.security
    with FeatureStore(tmp_path) as store:
        who = store.security.authenticate(key.text, now=NOW)
        decided = store.security.policies.current(now=NOW).decide(who, "online", group="x")
        assert who.allows(Permission.READ_FEATURES) and decided.effect == "deny"
        assert LOCAL.role == "admin"
