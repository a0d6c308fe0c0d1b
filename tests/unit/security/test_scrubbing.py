"""What is written down has no secrets in it, and is strict JSON."""

from __future__ import annotations

import datetime as dt
import decimal
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grange.ports.journal import canonical_json
from grange.security.key_text import KeyText
from grange.security.scrubbing import scrubbed, scrubbed_text

KEY = KeyText("shop", "abcdefghij", "k" * 43)


@pytest.mark.parametrize(
    "text",
    [
        f"key {KEY.text} used",
        f"Authorization: Bearer {KEY.text}",
        "bearer SECRET.x-y_z",
        "postgresql://user:SECRET@host/db",
        "redis://:SECRET@host and more",
        "https://u:a/SECRET@host",
        "password=SECRET&x=1",
        "api_key: SECRET",
        "token = SECRET",
        "aws_secret_access_key=SECRET",
        "eyJhbGciOiJub25lIn0.eyJzdWIiOiJTRUNSRVQifQ.SECRET",
    ],
)
def test_a_secret_in_a_text_is_masked(text: str) -> None:
    clean = scrubbed_text(text)
    assert "SECRET" not in clean and KEY.secret not in clean and "***" in clean


def test_a_key_s_id_stays_to_be_found() -> None:
    assert KEY.id in scrubbed_text(KEY.text)


@pytest.mark.parametrize(
    "text", ["feature_group:user_spend", "rows=3", "a tokenless text", "view:churn@1.0.0", "http://host/path?x=1"]
)
def test_other_texts_stay(text: str) -> None:
    assert scrubbed_text(text) == text


@pytest.mark.parametrize("name", ["password", "apiKey", "client_secret", "Authorization", "access_token", "Cookie"])
def test_what_is_named_like_a_secret_is_masked_however_deep(name: str) -> None:
    found = scrubbed({"options": [{"deep": {name: ["SECRET"]}}], name: "SECRET", "rows": 3})
    assert "SECRET" not in json.dumps(found) and found["rows"] == 3


anything = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.binary(), st.datetimes(), st.decimals()
    ),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.sets(st.text()),
    max_leaves=20,
)


@settings(deadline=None, max_examples=50)
@given(st.dictionaries(st.text(), anything))
def test_whatever_is_left_is_json_that_a_journal_takes(details: dict[str, Any]) -> None:
    canonical_json(scrubbed(details))


def test_what_is_long_or_deep_is_cut_and_says_so() -> None:
    deep: Any = "x"
    for _ in range(50):
        deep = [deep]
    found = scrubbed({"long": "x" * 5000, "deep": deep, "many": list(range(500)), "bytes": b"12345"})
    assert found["long"].endswith("(5000 characters)") and "(too deep)" in json.dumps(found["deep"])
    assert len(found["many"]) == 100 and found["bytes"] == "(5 bytes)"


def test_times_and_decimals_are_text() -> None:
    moment = dt.datetime(2026, 11, 21, tzinfo=dt.UTC)
    found = scrubbed({"at": moment, "price": decimal.Decimal("1.10"), "nan": float("nan"), "big": 2**60})
    assert found == {"at": "2026-11-21T00:00:00Z", "price": "1.10", "nan": "nan", "big": str(2**60)}


@pytest.mark.parametrize("piece", ["eyJaaaaa-", "://", "a", "password", "bearer ", "grange_a_", "a_key="])
def test_a_long_text_is_searched_quickly_and_cut(piece: str) -> None:
    """Endless for a search that begins anew at every character."""
    assert len(scrubbed_text(piece * 200_000)) < 1100
