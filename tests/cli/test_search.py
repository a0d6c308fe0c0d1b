"""`grange search`: words, likeness, keywords."""

from __future__ import annotations

import pytest
from tests.cli.running import Grange


def test_words_find_definitions_and_features(shop: Grange) -> None:
    ran = shop("search", "amount")
    assert ran.code == 0 and "last_order:amount" in ran.out
    assert max(map(len, ran.out.splitlines())) <= 80
    data = shop("search", "amount", "--json").json
    assert data["query"] == "amount" and data["hits"][0]["feature"] == "amount"
    assert set(data["hits"][0]) == {"kind", "name", "feature", "score", "field", "excerpt", "description", "uses"}


def test_filters_go_together(shop: Grange) -> None:
    names = {hit["name"] for hit in shop("search", "--kind", "feature_view", "--json").json["hits"]}
    assert names == {"churn"}
    assert shop("search", "--tag", "tier=gold", "--kind", "feature_group", "--json").json["hits"]
    assert shop("search", "--owner", "nobody").out == "nothing is applied that fits\n"
    assert shop("search", "zebra").out == "nothing has 'zebra'\n"
    assert len(shop("search", "--limit", "1", "--json").json["hits"]) == 1


def test_uses_are_counted_over_commands(shop: Grange) -> None:
    for _ in range(2):
        assert shop("fv", "get", "churn", "--entry", "customer_id=001").code == 0
    (hit,) = [hit for hit in shop("search", "churn", "--json").json["hits"] if hit["name"] == "churn"]
    assert hit["uses"] == 2
    assert "get_online_features" in shop("fv", "info", "churn").out
    assert "get_online_features" in shop("fg", "info", "last_order").out
    assert shop("fg", "info", "last_order", "--json").json["uses"] == {"get_online_features": 2}


def test_features_like_another(shop: Grange) -> None:
    found = shop("search", "--similar-to", "last_order:amount", "--json").json
    assert found[0]["feature"] == "amount_per_item" and found[0]["values"] is None
    computed = shop("search", "--similar-to", "last_order:amount", "--compute", "--limit", "1", "--json").json
    assert len(computed) == 1 and 0 < computed[0]["values"] < 1
    assert "values" in shop("search", "--similar-to", "last_order:amount").out  # kept by now


def test_keywords(shop: Grange) -> None:
    assert shop("search", "--keywords", "--json").json == {
        "tags": [{"tag": "tier", "value": "gold", "definitions": 1}], "owners": [],
    }  # fmt: skip
    assert "tier=gold" in shop("search", "--keywords").out


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("x", "--keywords"), 2),
        (("x", "--similar-to", "last_order:amount"), 2),
        (("x", "--compute"), 2),
        (("x", "--kind", "group"), 2),
        (("x", "--tag", "gold"), 2),
        (("--similar-to", "last_order"), 2),
        (("--similar-to", "last_order:nothing"), 3),
    ],
)
def test_what_cannot_be_asked(shop: Grange, arguments: tuple[str, ...], code: int) -> None:
    assert shop("search", *arguments).code == code
