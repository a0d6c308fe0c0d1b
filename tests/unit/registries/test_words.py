"""Words of texts and queries."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grange.registries.sql.words import (
    MAX_INDEXED,
    MAX_TERMS,
    MAX_TOKEN,
    Term,
    Word,
    identifiers,
    normal,
    parse_query,
    stem,
    tokens,
)

NAMES = st.text(string.ascii_lowercase + string.digits, min_size=1, max_size=12)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("user_spend", ["user", "spend"]),
        ("__user__spend__7d__", ["user", "spend", "7d"]),
        ("userSpend", ["user", "spend"]),
        ("HTTPServerError", ["http", "server", "error"]),
        ("userID", ["user", "id"]),
        ("ID", ["id"]),
        ("id2Name", ["id2", "name"]),
        ("30D", ["30d"]),
        ("float64", ["float64"]),
        ("größe", ["grosse"]),
        ("CAFE\u0301", ["cafe"]),
        ("付款abc", ["_4ed8_", "_6b3e_", "abc"]),
        ("½", ["1", "2"]),
    ],
)
def test_an_identifier_is_taken_apart(text: str, parts: list[str]) -> None:
    [one] = identifiers(normal(text))

    assert list(one.parts) == parts
    assert one.joined == ("".join(parts) if len(parts) > 1 else None)


@pytest.mark.parametrize("text", ["", "_", " -:,.", "🚆", "\x00", "\ud800", "\u0301"])
def test_what_has_no_letters_has_no_words(text: str) -> None:
    assert list(identifiers(normal(text))) == []
    assert tokens([text]) == ()
    assert parse_query(text) == ()


@given(st.text())
def test_tokens_are_ascii_and_what_no_tokenizer_takes_apart(text: str) -> None:
    """Letters, digits and underscores: nothing that SQL, FTS5 or tsquery could read."""
    allowed = set(string.ascii_lowercase + string.digits + "_")
    words = [one.text for term in parse_query(text) for one in term.words]
    for token in [*tokens([text]), *words]:
        assert token and set(token) <= allowed
        assert len(token) <= MAX_TOKEN


@given(st.text())
def test_positions_are_those_of_the_text(text: str) -> None:
    whole = normal(text)
    ends = 0
    for one in identifiers(whole):
        assert ends <= one.start < one.end <= len(whole)
        assert whole[one.start].isalnum() and whole[one.end - 1].isalnum()
        ends = one.end


@given(st.lists(NAMES, min_size=1, max_size=4), st.data())
def test_a_name_is_found_by_itself_and_by_any_beginning_of_a_part(parts: list[str], data: st.DataObject) -> None:
    indexed = frozenset(tokens(["_".join(parts)]))
    part = data.draw(st.sampled_from(parts))
    beginning = part[: data.draw(st.integers(1, len(part)))]

    for query in ("_".join(parts), " ".join(parts), "".join(parts), beginning):
        for term in parse_query(query):
            apart = all(word.fit(indexed) for word in term.parts)
            assert apart or (term.joined is not None and term.joined.fit(indexed))


def test_the_last_word_alone_may_be_unfinished() -> None:
    assert parse_query("user_sp amo") == (
        Term((Word("user", False), Word("sp", False)), Word("usersp", False)),
        Term((Word("amo", True),), None),
    )
    assert parse_query("user_sp") == (Term((Word("user", False), Word("sp", True)), Word("usersp", True)),)


def test_words_that_mean_nothing_are_left_out_unless_there_are_no_others() -> None:
    assert [term.parts[0].text for term in parse_query("what is the spend of a user")] == ["spend", "user"]
    assert [term.parts[0].text for term in parse_query("what is the")] == ["what", "is", "the"]
    assert [word.text for term in parse_query("is_fraud") for word in term.parts] == ["is", "fraud"]


def test_long_queries_and_texts_are_cut() -> None:
    assert len(parse_query(" ".join(f"w{number}" for number in range(500)))) == MAX_TERMS
    assert parse_query("a" * 900)[0].parts[0].text == "a" * MAX_TOKEN
    assert tokens(["a" * 900]) == ("a" * MAX_TOKEN,)
    several = tokens([" ".join(str(number) for number in range(100_000, 200_000))])
    assert 10_000 < len(several) < 100_000
    assert sum(map(len, several)) < MAX_INDEXED


@pytest.mark.parametrize(
    "alike",
    [
        "payment payments",
        "purchase purchases purchased purchasing",
        "category categories",
        "salary salaries",
        "day days",
        "tie ties",
        "rate rates rated rating",
        "run runs running",
        "control controls controlled controlling",
        "address addresses addressed",
        "class classes",
        "add adds added adding",
        "use uses used using",
        "feature features",
        "average averages averaged averaging",
        "transaction transactions",
        "status statuses",
        "agree agrees agreed",
    ],
)
def test_forms_of_a_word_have_one_stem(alike: str) -> None:
    assert len({stem(word) for word in alike.split()}) == 1


@pytest.mark.parametrize(
    "apart", ["rate ratio", "class click", "payment pay", "status state", "sing string", "user use", "id is", "bus buy"]
)
def test_other_words_have_other_stems(apart: str) -> None:
    assert len({stem(word) for word in apart.split()}) == 2


@pytest.mark.parametrize("word", ["", "is", "7d", "float64", "_4ed8_", "x1s"])
def test_what_is_no_english_word_stays(word: str) -> None:
    assert stem(word) == word


@given(NAMES)
def test_a_stem_is_never_empty(word: str) -> None:
    assert stem(word)


def test_how_well_a_word_fits() -> None:
    indexed = frozenset(tokens(["payments of users"]))

    assert Word("payments", False).fit(indexed) == 1.0
    assert Word("payment", False).fit(indexed) == 1.0
    assert Word("using", False).fit(indexed) == 0.0
    assert Word("paying", True).fit(indexed) == 0.0
    assert Word("pay", True).fit(indexed) == 0.8
    assert Word("pay", False).fit(indexed) == 0.0
    assert Word("user", True).fit(indexed) == 1.0
