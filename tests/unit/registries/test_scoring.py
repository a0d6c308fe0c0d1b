"""How hits are scored and shown."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grange.ports.registry import Hit
from grange.registries.sql.entries import Entry
from grange.registries.sql.scoring import EXCERPT, hit, rank
from grange.registries.sql.words import parse_query


def score(entry: Entry, query: str) -> Hit:
    """The hit of an entry."""
    return hit(entry, parse_query(query))


NAME = Entry("entity", "budget")
FEATURE = Entry("feature_group", "plan", "budget")
MEMBER = Entry("feature_view", "plan", members=("spend:budget",))
TAG = Entry("entity", "plan", tags=(("about", "budget"),))
OWNER = Entry("entity", "plan", owner="budget")
DESCRIPTION = Entry("entity", "plan", description="The budget.")
DTYPE = Entry("feature_group", "plan", "amount", dtype="budget")


def test_fields_weigh_less_the_less_they_tell() -> None:
    entries = [NAME, FEATURE, MEMBER, TAG, OWNER, DESCRIPTION, DTYPE]
    scores = [score(entry, "budget").score for entry in entries]

    assert scores == sorted(scores, reverse=True)
    assert [score(entry, "budget").field for entry in entries] == [
        *("name", "feature", "feature", "tag", "owner", "description", "dtype")
    ]


@pytest.mark.parametrize("entry", [NAME, FEATURE, MEMBER, TAG, OWNER, DESCRIPTION, DTYPE])
def test_the_word_itself_weighs_more_than_its_stem_and_its_beginning(entry: Entry) -> None:
    whole, stem, beginning = (score(entry, query).score for query in ("budget", "budgets", "bud"))

    assert whole > stem > beginning > 0


def test_a_whole_name_weighs_more_than_a_part_of_one() -> None:
    names = ["user_spend", "user_spend_daily", "daily_user_spend_by_card"]
    for query in ("user_spend", "user spend", "userSpend"):
        scores = [score(Entry("entity", name), query).score for name in names]
        assert scores[0] == 1.0
        assert scores == sorted(scores, reverse=True)
        assert len(set(scores)) == 3
    assert score(Entry("entity", "user_spend"), "userspend").score == 1.0


def test_words_are_scored_one_by_one() -> None:
    entry = Entry("entity", "budget", description="of a plan")

    assert score(entry, "plan").score < score(entry, "budget plan").score < score(entry, "budget").score


def test_a_feature_named_with_its_group_comes_before_a_view_that_takes_it() -> None:
    feature = Entry("feature_group", "user_spend", "amount")
    view = Entry("feature_view", "churn", members=("user_spend:amount",))

    assert score(feature, "user_spend amount").score > score(view, "user_spend amount").score


def test_a_name_is_shown_by_the_description() -> None:
    entry = Entry("entity", "budget", description="What is planned.\n  And kept.")

    assert score(entry, "budget").excerpt == "What is planned. And kept."
    assert score(entry, "kept").excerpt == "What is planned. And kept."
    assert hit(entry, ()).excerpt == "What is planned. And kept."


def test_an_excerpt_is_around_the_word() -> None:
    text = "before " * 50 + "needle" + " after" * 50
    excerpt = score(Entry("entity", "x", description=text), "needle").excerpt

    assert excerpt.startswith("…") and excerpt.endswith("…")
    assert "before needle after" in excerpt
    assert len(excerpt) <= EXCERPT


def test_members_and_tags_are_shown_as_they_are_written() -> None:
    assert score(MEMBER, "budget").excerpt == "spend:budget"
    assert score(TAG, "budget").excerpt == "about: budget"
    assert score(OWNER, "budget").excerpt == "budget"


@given(st.text(), st.text(), st.integers(0, 300))
def test_an_excerpt_is_one_short_printable_line(before: str, after: str, many: int) -> None:
    text = f"{before} {'x ' * many}needle{after and ' '}{after}"
    excerpt = score(Entry("entity", "y", description=text), "needle").excerpt

    assert len(excerpt) <= EXCERPT
    assert excerpt.isprintable()


def test_hits_of_one_score_have_one_order() -> None:
    hits = [
        Hit("feature_view", "a", "", 0.5, "name", ""),
        Hit("entity", "b", "", 0.5, "name", ""),
        Hit("feature_group", "a", "z", 0.5, "name", ""),
        Hit("feature_group", "a", "", 0.5, "name", ""),
        Hit("feature_view", "z", "", 0.6, "name", ""),
        Hit("entity", "a", "", 0.5, "name", ""),
    ]

    assert [(one.kind, one.name, one.feature) for one in sorted(hits, key=rank)] == [
        ("feature_view", "z", ""),
        ("entity", "a", ""),
        ("entity", "b", ""),
        ("feature_group", "a", ""),
        ("feature_view", "a", ""),
        ("feature_group", "a", "z"),
    ]
