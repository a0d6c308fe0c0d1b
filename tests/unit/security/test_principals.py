"""Roles are a ladder, and scopes narrow them (SEC-1)."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.security.parts import principal

from grange.errors import ForbiddenError, RequestError
from grange.security.globs import matches
from grange.security.principals import LOCAL, PERMISSIONS, ROLES, Permission, Principal, check_role, check_scopes

VERBS = ("read", "serve", "write", "operate", "administer")
scopes = st.lists(
    st.one_of(
        st.sampled_from(["*", *VERBS]),
        st.builds("{}:{}".format, st.sampled_from(VERBS), st.sampled_from(["spend", "sp*", "*", "churn"])),
    ),
    max_size=4,
)


def test_each_role_has_all_that_the_one_below_it_has_and_more() -> None:
    for lower, higher in itertools.pairwise(ROLES):
        assert PERMISSIONS[lower] < PERMISSIONS[higher]
    assert PERMISSIONS["admin"] == frozenset(Permission)


@pytest.mark.parametrize(
    ("role", "may", "may_not"),
    [
        ("viewer", Permission.READ_HISTORY, Permission.WRITE_FEATURES),
        ("editor", Permission.WRITE_DEFINITIONS, Permission.MATERIALIZE),
        ("operator", Permission.DELETE, Permission.DELETE_DEFINITIONS),
        ("operator", Permission.MANAGE_JOBS, Permission.MANAGE_SECURITY),
    ],
)
def test_where_roles_end(role: str, may: Permission, may_not: Permission) -> None:
    who = principal(role)
    assert who.allows(may) and not who.allows(may_not)
    assert who.reaches(may) and not who.reaches(may_not)


@pytest.mark.parametrize("role", ROLES)
@settings(deadline=None)
@given(given_scopes=scopes, name=st.sampled_from(["spend", "churn", "other", None]))
def test_scopes_never_widen_a_role(role: str, given_scopes: list[str], name: str | None) -> None:
    narrowed, free = principal(role, scopes=frozenset(given_scopes)), principal(role)
    for permission in Permission:
        assert not narrowed.allows(permission, name) or free.allows(permission, name)
        assert not narrowed.allows(permission, name) or narrowed.reaches(permission)


def test_a_scope_with_a_name_is_about_that_name_alone() -> None:
    who = principal("editor", scopes=check_scopes(["serve:churn", "write:user_*"]))
    assert who.allows(Permission.READ_FEATURES, "churn")
    assert not who.allows(Permission.READ_FEATURES, "churn2")
    assert not who.allows(Permission.READ_FEATURES)
    assert not who.allows(Permission.READ_HISTORY, "churn")
    assert who.allows(Permission.WRITE_FEATURES, "user_spend") and not who.allows(Permission.WRITE_FEATURES, "spend")
    assert who.reaches(Permission.READ_FEATURES) and not who.reaches(Permission.READ_METRICS)


def test_no_scopes_at_all_let_nothing_through_and_none_given_narrow_nothing() -> None:
    assert not any(principal("admin", scopes=frozenset()).allows(permission) for permission in Permission)
    assert all(principal("admin", scopes=check_scopes([])).allows(permission) for permission in Permission)


@pytest.mark.parametrize("scope", ["", "reed", "read:", "read:a b", "READ", "read:a:b", "read:../x", "*:a", "read\n"])
def test_a_scope_that_is_none_is_refused(scope: str) -> None:
    with pytest.raises(RequestError, match="no scope"):
        check_scopes([scope])


def test_a_refusal_says_which_role_would_do() -> None:
    with pytest.raises(ForbiddenError) as caught:
        principal("viewer").require(Permission.MATERIALIZE, "spend")
    assert "may not materialize ('spend')" in str(caught.value) and "operator" in str(caught.value)
    with pytest.raises(ForbiddenError) as caught:
        principal("operator", scopes=check_scopes(["read"])).require(Permission.MATERIALIZE)
    assert "scopes read" in str(caught.value)
    principal("operator").require(Permission.MATERIALIZE, "spend")


def test_whoever_has_the_files_may_do_everything() -> None:
    assert all(LOCAL.allows(permission) for permission in Permission)


def test_roles_that_are_none() -> None:
    with pytest.raises(RequestError) as caught:
        check_role("editr")
    assert caught.value.closest == ("editor",)


@settings(deadline=None)
@given(st.text(alphabet="a*[]?.^", max_size=6), st.text(alphabet="ab[]?.^", max_size=6))
def test_a_star_is_any_characters_and_all_others_are_themselves(pattern: str, text: str) -> None:
    def slowly(pattern: str, text: str) -> bool:
        if not pattern:
            return not text
        if pattern[0] == "*":
            return any(slowly(pattern[1:], text[cut:]) for cut in range(len(text) + 1))
        return bool(text) and text[0] == pattern[0] and slowly(pattern[1:], text[1:])

    assert matches(pattern, text) == slowly(pattern, text)


def test_many_stars_are_refused_quickly() -> None:
    assert not matches("a*" * 60 + "b", "a" * 5000)


@pytest.mark.parametrize(
    ("own", "role", "scopes", "is_covered"),
    [
        (("admin", "*"), "admin", ["*"], True),
        (("admin", "*"), "viewer", ["serve:churn"], True),
        (("admin", "administer"), "admin", ["*"], False),
        (("admin", "administer"), "viewer", ["*"], False),
        (("admin", "administer"), "admin", ["administer:spend"], True),
        (("admin", "administer", "read"), "viewer", ["serve:spend"], True),
        (("admin", "administer", "serve"), "viewer", ["read"], False),
        (("admin", "administer", "read:user_*"), "viewer", ["read:user_a*"], True),
        (("admin", "administer", "read:user_*"), "viewer", ["read:*"], False),
        (("operator", "*"), "admin", ["*"], False),
        (("operator", "*"), "editor", ["*"], True),
    ],
)
def test_nobody_hands_on_what_they_have_not(own: Any, role: Any, scopes: list[str], is_covered: bool) -> None:
    somebody = Principal("k", "ann", "key", own[0], "shop", frozenset(own[1:]))
    assert somebody.covers(role, scopes) is is_covered
