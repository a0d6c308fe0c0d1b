"""Policies: what speaks, what decides, and what never happens whatever there is (SEC-4, SEC-5)."""

from __future__ import annotations

import datetime as dt
import logging
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.security.parts import MINUTE, NOW, SECOND, CutOff, principal

from grange.errors import (
    ConflictError,
    CorruptStoreError,
    RequestError,
    StoreUnavailableError,
    UnknownPolicyError,
)
from grange.ports.registry import Registry
from grange.security.policies import (
    ACTIONS,
    ALL_ACTIONS,
    VALUE_ACTIONS,
    Action,
    Effect,
    Policies,
    Policy,
    PolicyStore,
    Resource,
    Resources,
)
from grange.security.principals import LOCAL, ROLES, Principal, check_scopes

RANK = {"allow": 0, "mask": 1, "deny": 2}
GROUPS, FEATURES, VIEWS = ["spend", "profile"], ["", "ssn", "age"], [None, "churn"]
ON = ["*", "group:spend", "group:*", "feature:profile:ssn", "feature:*:a*", "tag:pii=true", "tag:*=gold", "view:ch*"]
TO = ["*", "role:viewer", "role:*", "key:ranker", "key:r*", "token:*", "team:risk"]


def policy(effect: Effect = "deny", on: Any = "*", to: Any = "*", name: str = "p", **more: Any) -> Policy:
    return Policy(name=name, effect=effect, on=on, to=to, **more)


effects = st.sampled_from(get_args(Effect))
policies = st.builds(
    lambda name, effect, on, to, actions: Policy(
        name, effect, tuple(on), tuple(to), frozenset(actions) & (VALUE_ACTIONS if effect == "mask" else ALL_ACTIONS)
    ),
    st.from_regex(r"[a-z]{1,3}", fullmatch=True),
    effects,
    st.lists(st.sampled_from(ON), min_size=1, max_size=2),
    st.lists(st.sampled_from(TO), min_size=1, max_size=2),
    st.sets(st.sampled_from(ACTIONS)),
)
sets = st.lists(policies, max_size=6)
people = st.builds(
    lambda role, name, kind, teams, scopes: principal(
        role, name, kind=kind, teams=frozenset(teams), scopes=check_scopes(scopes)
    ),
    st.sampled_from(ROLES),
    st.sampled_from(["ranker", "other"]),
    st.sampled_from(["key", "token"]),
    st.sets(st.sampled_from(["risk", "ads"])),
    st.sampled_from([[], ["serve:churn"], ["read"], ["write:spend"]]),
)
questions = st.fixed_dictionaries(
    {
        "group": st.sampled_from(GROUPS),
        "feature": st.sampled_from(FEATURES),
        "tags": st.sampled_from([{}, {"pii": "true"}, {"tier": "gold"}]),
        "view": st.sampled_from(VIEWS),
    }
)
actions = st.sampled_from(ACTIONS)


def effect(policies: list[Policy], who: Principal, action: Action, question: dict[str, Any]) -> Effect:
    return Policies(policies).decide(who, action, **question).effect


# -- the law


@settings(deadline=None)
@given(sets, people, actions, questions)
def test_a_policy_never_gives_more_than_role_and_scopes(
    given_policies: list[Policy], who: Principal, action: Action, question: dict[str, Any]
) -> None:
    assert RANK[effect(given_policies, who, action, question)] >= RANK[effect([], who, action, question)]


@settings(deadline=None)
@given(sets, policies.filter(lambda item: item.effect != "allow"), people, actions, questions)
def test_a_deny_or_a_mask_that_is_added_opens_nothing(
    given_policies: list[Policy], added: Policy, who: Principal, action: Action, question: dict[str, Any]
) -> None:
    before = effect(given_policies, who, action, question)
    assert RANK[effect([*given_policies, added], who, action, question)] >= RANK[before]


@settings(deadline=None)
@given(sets, people, actions, questions, st.randoms())
def test_order_does_not_matter(
    given_policies: list[Policy], who: Principal, action: Action, question: dict[str, Any], random: Any
) -> None:
    shuffled = random.sample(given_policies, len(given_policies))
    assert effect(shuffled, who, action, question) == effect(given_policies, who, action, question)


@settings(deadline=None)
@given(sets, people, actions, questions)
def test_the_law_read_off_the_page(
    given_policies: list[Policy], who: Principal, action: Action, question: dict[str, Any]
) -> None:
    """SEC-4, one line after the other."""
    resource = Resource(question["group"], question["feature"], question["tags"])
    about = [item for item in given_policies if item.is_about(action, resource, question["view"])]
    named = {item.effect for item in about if item.names(who)}
    expected: Effect = "allow"
    if (
        effect([], who, action, question) == "deny"
        or "deny" in named
        or (any(item.effect == "allow" for item in about) and "allow" not in named)
    ):
        expected = "deny"
    elif "mask" in named:
        expected = "mask"
    assert effect(given_policies, who, action, question) == expected


@settings(deadline=None)
@given(sets, people, actions, st.lists(questions, max_size=5), st.sampled_from(VIEWS))
def test_many_are_decided_as_each_is(
    given_policies: list[Policy], who: Principal, action: Action, asked: list[dict[str, Any]], view: str | None
) -> None:
    compiled = Policies(given_policies)
    resources = Resources((Resource(item["group"], item["feature"], item["tags"]) for item in asked), view=view)
    found = compiled.decide_many(who, action, resources)
    assert list(found.each) == [compiled.decide(who, action, **{**item, "view": view}) for item in asked]
    effects = [item.effect for item in found.each]
    assert [effects[place] for place in found.denied] == ["deny"] * effects.count("deny")
    assert [effects[place] for place in found.masked] == ["mask"] * effects.count("mask")
    assert found.open == (set(effects) <= {"allow"})
    assert compiled.decide_many(who, action, resources) is found


@settings(deadline=None)
@given(sets, actions, questions)
def test_whoever_has_the_files_is_asked_nothing(
    given_policies: list[Policy], action: Action, question: dict[str, Any]
) -> None:
    assert effect(given_policies, LOCAL, action, question) == "allow"


def test_an_admin_is_bound_by_policies_too() -> None:
    assert effect([policy()], principal("admin"), "online", {"group": "spend"}) == "deny"


def test_an_allow_closes_to_everybody_else() -> None:
    closed = [policy("allow", "feature:profile:ssn", "team:risk", "risk-only", reason="personal data")]
    insider, outsider = principal(teams=frozenset({"risk"})), principal("admin")
    ssn, age = {"group": "profile", "feature": "ssn"}, {"group": "profile", "feature": "age"}
    assert effect(closed, insider, "online", ssn) == "allow"
    decided = Policies(closed).decide(outsider, "online", **ssn)
    assert (decided.effect, decided.policy, decided.reason) == ("deny", "risk-only", "personal data")
    assert effect(closed, outsider, "online", age) == "allow"
    masked = [*closed, policy("mask", "feature:profile:ssn", "*", "mask")]
    assert effect(masked, outsider, "online", ssn) == "deny", "a mask does not open what is closed"
    assert effect(masked, insider, "online", ssn) == "mask"


def test_a_deny_holds_however_specific_an_allow_is() -> None:
    given_policies = [
        policy("deny", "tag:pii=*", "role:*", "no-pii"),
        policy("allow", "feature:profile:ssn", "key:ranker", "but-ranker", actions=frozenset({"online"})),
    ]
    decided = Policies(given_policies).decide(
        principal(), "online", group="profile", feature="ssn", tags={"pii": "true"}
    )
    assert (decided.effect, decided.policy) == ("deny", "no-pii")
    assert decided.to_dict() == {"effect": "deny", "policy": "no-pii", "reason": "policy no-pii"}


@pytest.mark.parametrize(
    ("on", "described", "not_described"),
    [
        ("group:user_*", {"group": "user_spend"}, {"group": "spend"}),
        ("feature:profile:*", {"group": "profile", "feature": "a:b"}, {"group": "profile"}),
        ("feature:*:ssn", {"group": "x", "feature": "ssn"}, {"group": "x", "feature": "ssn2"}),
        ("tag:pii=tr*", {"group": "x", "tags": {"pii": "true"}}, {"group": "x", "tags": {"pii": "false"}}),
        ("tag:a=b=c", {"group": "x", "tags": {"a": "b=c"}}, {"group": "x", "tags": {"a": "b"}}),
        ("view:churn", {"group": "x", "view": "churn"}, {"group": "churn"}),
        ("*", {"group": "x"}, None),
    ],
)
def test_what_a_pattern_describes(on: str, described: dict[str, Any], not_described: dict[str, Any] | None) -> None:
    assert effect([policy(on=on)], principal(), "online", described) == "deny"
    if not_described is not None:
        assert effect([policy(on=on)], principal(), "online", not_described) == "allow"


@pytest.mark.parametrize(
    ("to", "named", "not_named"),
    [
        ("role:viewer", principal("viewer"), principal("editor")),
        ("key:rank*", principal(name="ranker"), principal(name="ranker", kind="token")),
        ("token:id-ana", principal(name="ana", kind="token"), principal(name="ana")),
        ("team:risk", principal(teams=frozenset({"ads", "risk"})), principal(teams=frozenset({"ads"}))),
    ],
)
def test_whom_a_pattern_names(to: str, named: Principal, not_named: Principal) -> None:
    assert policy(to=to).names(named) and not policy(to=to).names(not_named)


@pytest.mark.parametrize("action", ACTIONS)
def test_a_policy_is_about_its_actions_alone(action: Action) -> None:
    only = policy(actions=frozenset({action}))
    for other in ACTIONS:
        found = effect([only], principal("editor"), other, {"group": "spend"})
        assert found == ("deny" if other == action else "allow")


# -- the grammar


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": ""},
        {"name": "a b"},
        {"name": "../x"},
        {"effect": "block"},
        {"on": ()},
        {"on": "spend"},
        {"on": "feature:ssn"},
        {"on": "feature::ssn"},
        {"on": "tag:pii"},
        {"on": "group:"},
        {"on": "group:a:b"},
        {"on": "*:x"},
        {"on": "project:x"},
        {"to": ()},
        {"to": "viewer"},
        {"to": "role:boss"},
        {"to": "key:"},
        {"to": "*:x"},
        {"on": "group:a\nb"},
        {"actions": frozenset({"read"})},
        {"effect": "mask", "actions": frozenset({"write"})},
        {"effect": "mask", "actions": frozenset({"online", "search"})},
        {"reason": "two\nlines"},
    ],
)
def test_what_the_grammar_does_not_have_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(RequestError):
        policy(**wrong)


def test_all_actions_are_those_of_the_effect() -> None:
    assert policy("deny").actions == policy("allow", actions=frozenset({"all"})).actions == ALL_ACTIONS  # type: ignore[arg-type]
    assert policy("mask").actions == VALUE_ACTIONS


@settings(deadline=None)
@given(policies)
def test_a_policy_is_read_back(item: Policy) -> None:
    assert Policy.from_dict(item.to_dict()) == item


# -- keeping them


def test_policies_are_kept(registry: Registry) -> None:
    store = PolicyStore(registry)
    first, second = policy("mask", "feature:a:b", "role:viewer", "one", reason="why"), policy(name="two")
    for item in (second, first):
        store.create(item, now=NOW)
    assert store.list() == (first, second) and store.get("one") == first
    with pytest.raises(ConflictError, match="there is a policy 'one'"):
        store.create(policy(name="one"), now=NOW)
    store.create(policy(name="one"), replace=True, now=NOW)
    assert store.get("one").effect == "deny"
    store.delete("one")
    with pytest.raises(UnknownPolicyError) as caught:
        store.delete("one")
    assert "found:     two" in str(caught.value)
    with pytest.raises(UnknownPolicyError):
        store.get("../x")


def test_a_new_policy_holds_at_once_here_and_within_five_seconds_elsewhere(registry: Registry) -> None:
    here, elsewhere = PolicyStore(registry), PolicyStore(registry)
    assert not here.current(now=NOW).policies and not elsewhere.current(now=NOW).policies
    here.create(policy(), now=NOW)
    assert len(here.current(now=NOW).policies) == 1
    assert not elsewhere.current(now=NOW + 4 * SECOND).policies
    assert len(elsewhere.current(now=NOW + 5 * SECOND).policies) == 1


def test_unchanged_policies_stay_the_same_value(registry: Registry) -> None:
    store = PolicyStore(registry)
    store.create(policy(), now=NOW)
    assert store.current(now=NOW) is store.current(now=NOW + MINUTE)


def test_known_policies_go_on_while_the_registry_is_gone_and_unknown_ones_let_nobody_through(
    cut_off: CutOff, caplog: pytest.LogCaptureFixture
) -> None:
    known, unknown = PolicyStore(cut_off), PolicyStore(cut_off)
    known.create(policy(), now=NOW)
    known.current(now=NOW)
    cut_off.is_down = True
    with caplog.at_level(logging.WARNING):
        assert len(known.current(now=NOW + dt.timedelta(days=1)).policies) == 1
    assert "go on as they are" in caplog.text
    with pytest.raises(StoreUnavailableError):
        unknown.current(now=NOW)


def test_a_policy_that_cannot_be_read_lets_nobody_through_and_can_be_deleted(registry: Registry) -> None:
    store = PolicyStore(registry)
    registry.put("policies", "odd", {**policy(name="odd").to_dict(), "effect": "maybe"}, now=NOW)
    with pytest.raises(CorruptStoreError):
        store.current(now=NOW)
    store.delete("odd")
    assert not store.current(now=NOW).policies
