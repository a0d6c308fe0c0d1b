"""The contract of a registry: subclass it, name the backend, inherit every promise of `grange.ports.registry`.

    class TestMine(RegistryContract):
        @pytest.fixture
        def backend(self) -> str:
            return "mine"                                   # its entry point in `grange.registries`

        @pytest.fixture
        def options(self, tmp_path: Path) -> dict[str, Any]:
            return {"url": f"mine://{tmp_path}"}            # an empty registry, new for each test

Registries are opened by name and options, so that other processes can open the same one.
"""

from __future__ import annotations

import datetime as dt
import itertools
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, get_args

import pytest

from grange.errors import ConflictError, RequestError
from grange.ports.plugins import create
from grange.ports.registry import Change, Document, Hit, Kind, Record, Registry, RegistryState, Run, Use, UseCount
from grange.testing.registry_journals import NOW, JournalContract, is_intact

OpenRegistry = Callable[[], Registry]

ODD_QUERIES = (
    *('"', "'", "''", '""', "'\"", "*", "%", "_", "__", "\\", "(", ")", "()", "{", "}", ":", "^", "-"),
    *("+", "|", "&", "!", "$1", ":x", "?", "user(", ")user", "{user", "user}", "user:*A", "a|b", "a | | b"),
    *("AND", "OR", "NOT", "NEAR", "1e400", "0x10", "' OR 1=1 --", "\x00", "user\x00", "\ud800", "\udfff"),
    *("\u0301", "x\u0345", "\u202euser", "数据", "🚆", "ﷺ", "½", "İ", "ß", "ǅ"),
    " ".join(f"w{number}" for number in range(1_000)),
)
"""What query languages trip over."""
ODD_KEYS = (
    *("a", "a%", "a%b", "a_", "a_b", "ab", "aB", "b", "A", "%", "_", "/", "a/b", "a/b/c", "a b", "a'b", 'a"b', "a\\b"),
    *("a\\%", "ä", "é", "a\ud7fb", "a\uf900", "a\ufffd", "a\U00020000", "a\U0003134a", "数", "🚆", "🚇", "x" * 512),
)
"""Keys that differ by case, by wildcards of LIKE, and by their order in UTF-16 and in code points."""


def record(name: str = "user", *, kind: Kind = "entity", **definition: Any) -> Record:
    """A record whose fingerprint differs when its definition does."""
    data = {"name": name, **definition}
    return Record(kind, name, data, f"fingerprint of {json.dumps(data, sort_keys=True)}")


def created(made: Record) -> Change:
    """The change that creates a record."""
    return Change("create", made.kind, made.name, made)


def updated(made: Record) -> Change:
    """The change that updates a record."""
    return Change("update", made.kind, made.name, made)


def deleted(gone: Record) -> Change:
    """The change that deletes a record."""
    return Change("delete", gone.kind, gone.name, None)


def run(group: str = "spend", *, ended_at: dt.datetime = NOW, **fields: Any) -> Run:
    """A run that took a second."""
    whole = {"version": "1.0.0", "verb": "materialize", "rows": 3, **fields}
    return Run(group=group, started_at=ended_at - dt.timedelta(seconds=1), ended_at=ended_at, **whole)


def group(name: str = "user_spend", *, columns: Sequence[Mapping[str, str]] = (), **definition: Any) -> Record:
    """A record of a feature group of users, with these columns beside its key and times."""
    schema = [{"name": "user_id", "dtype": "string"}, {"name": "event_time", "dtype": "datetime"}, *columns]
    source = {"type": "file", "name": "rows", "event_time": "event_time", "created_time": None}
    entities = [{"name": "user", "join_keys": ["user_id"]}]
    return record(name, kind="feature_group", entities=entities, source=source, schema=schema, **definition)


def column(name: str, dtype: str = "float64", description: str = "") -> dict[str, str]:
    """A column of a group's schema, as a definition's data has it."""
    return {"name": name, "dtype": dtype, "description": description}


def found(hits: Sequence[Hit]) -> list[str]:
    """What was found, in order: `group` or `group:feature`."""
    return [f"{hit.name}:{hit.feature}" if hit.feature else hit.name for hit in hits]


class RegistryContract(JournalContract):
    """What every registry promises."""

    @pytest.fixture
    def backend(self) -> str:
        """The registry's name among the entry points of `grange.registries`."""
        raise NotImplementedError

    @pytest.fixture
    def options(self) -> dict[str, Any]:
        """JSON-able options of an empty registry that nobody else uses."""
        raise NotImplementedError

    @pytest.fixture
    def open_registry(self, backend: str, options: dict[str, Any]) -> Iterator[OpenRegistry]:
        """Opens the registry under test; each call is another handle on the same one."""
        opened: list[Registry] = []

        def open_one() -> Registry:
            opened.append(create("registries", backend, options))
            return opened[-1]

        yield open_one
        for registry in opened:
            registry.close()

    @pytest.fixture
    def registry(self, open_registry: OpenRegistry) -> Registry:
        """One handle on the registry under test."""
        return open_registry()

    # --- what is applied -------------------------------------------------------------------------------------

    def test_is_a_registry_of_its_name(self, registry: Registry, backend: str) -> None:
        assert isinstance(registry, Registry)
        assert registry.name == backend

    def test_an_empty_registry_is_at_revision_zero(self, registry: Registry) -> None:
        assert registry.revision() == 0
        assert registry.state() == RegistryState(0, ())
        assert registry.revisions() == ()
        assert registry.runs() == ()
        assert registry.search("") == ()
        assert registry.documents("exports") == ()
        assert registry.uses() == ()

    def test_a_commit_is_one_revision_however_many_changes(self, registry: Registry) -> None:
        user, seat = record("user"), record("seat")

        assert registry.commit([created(user), created(seat)], expected_revision=0, now=NOW) == 1
        assert registry.revision() == 1
        assert registry.state() == RegistryState(1, (seat, user))

    def test_revisions_grow_by_one(self, registry: Registry) -> None:
        numbers = [registry.commit([created(record(f"e{n}"))], expected_revision=n, now=NOW) for n in range(5)]

        assert numbers == [1, 2, 3, 4, 5]

    def test_records_come_by_kind_then_name_in_code_point_order(self, registry: Registry) -> None:
        names = ["b", "B", "a10", "a2", "a_1", "ab"]
        made = [record(name, kind=kind) for kind in reversed(get_args(Kind)) for name in names]
        registry.commit([created(one) for one in made], expected_revision=0, now=NOW)

        assert registry.state().records == tuple(sorted(made, key=lambda one: (one.kind, one.name)))

    def test_one_name_may_be_of_several_kinds(self, registry: Registry) -> None:
        entity, group = record("user", kind="entity"), record("user", kind="feature_group", n=2)
        registry.commit([created(entity), created(group)], expected_revision=0, now=NOW)
        registry.commit([deleted(entity)], expected_revision=1, now=NOW)

        assert registry.state() == RegistryState(2, (group,))

    def test_names_differ_by_case(self, registry: Registry) -> None:
        registry.commit([created(record("User")), created(record("user"))], expected_revision=0, now=NOW)

        assert [one.name for one in registry.state().records] == ["User", "user"]

    def test_an_update_replaces_and_a_delete_removes(self, registry: Registry) -> None:
        old, new, other = record("user", n=1), record("user", n=2), record("seat")
        registry.commit([created(old), created(other)], expected_revision=0, now=NOW)

        registry.commit([updated(new)], expected_revision=1, now=NOW)
        assert registry.state() == RegistryState(2, (other, new))

        registry.commit([deleted(new)], expected_revision=2, now=NOW)
        assert registry.state() == RegistryState(3, (other,))

    def test_changes_of_a_commit_happen_in_order(self, registry: Registry) -> None:
        first, second = record("user", n=1), record("user", n=2)
        passing = record("passing")
        registry.commit(
            [created(first), deleted(first), created(second), created(passing), deleted(passing)],
            expected_revision=0,
            now=NOW,
        )

        assert registry.state() == RegistryState(1, (second,))

    def test_what_was_deleted_can_be_created_again(self, registry: Registry) -> None:
        user = record("user")
        for expected, change in enumerate([created(user), deleted(user), created(user)]):
            registry.commit([change], expected_revision=expected, now=NOW)

        assert registry.state() == RegistryState(3, (user,))

    @pytest.mark.parametrize(
        "value",
        [
            "",
            "größer 数 🚆",
            "quote ' \" \\ % {} \r\n\t",
            "nul \x00 and half a pair \ud800",
            "x" * 1_000_000,
            2**63,
            -(2**100),
            0.1,
            1e308,
            -0.0,
            True,
            None,
            [],
            {},
            [1, [None, {"deep": [[], "1"]}]],
            {"": 1, "ключ": {"a.b": 2}},
        ],
        ids=lambda value: repr(value)[:24].encode("ascii", "backslashreplace").decode(),
    )
    def test_a_definition_reads_back_as_it_was(self, registry: Registry, value: Any) -> None:
        made = record("user", value=value)
        registry.commit([created(made)], expected_revision=0, now=NOW)

        (found,) = registry.state().records
        assert found == made
        assert type(found.definition["value"]) is type(value)

    @pytest.mark.parametrize(
        "value",
        [float("nan"), float("inf"), b"bytes", {1: "a"}, {"s"}, NOW, object(), [{"deep": (1, {2: 3})}]],
        ids=lambda value: type(value).__name__,
    )
    def test_a_definition_that_is_no_json_is_refused(self, registry: Registry, value: Any) -> None:
        """JSON has no NaN, no bytes and no integer keys; what would read back otherwise is not written."""
        bad = Record("entity", "user", {"value": value}, "f")

        with pytest.raises(RequestError, match=r"\$\.value"):
            registry.commit([created(record("seat")), created(bad)], expected_revision=0, now=NOW)
        assert registry.state() == RegistryState(0, ())

    def test_changing_what_was_read_changes_nothing_stored(self, registry: Registry) -> None:
        registry.commit([created(record("user", keys=["a"]))], expected_revision=0, now=NOW)

        registry.state().records[0].definition["keys"].append("b")
        assert registry.state().records == (record("user", keys=["a"]),)

    # --- compare and swap ------------------------------------------------------------------------------------

    def test_no_changes_make_no_revision(self, registry: Registry) -> None:
        assert registry.commit([], expected_revision=0, now=NOW) == 0
        registry.commit([created(record())], expected_revision=0, now=NOW)

        assert registry.commit([], expected_revision=1, now=NOW) == 1
        assert registry.revision() == 1
        assert len(registry.revisions()) == 1

    @pytest.mark.parametrize("expected", [-1, 0, 2, 100])
    def test_another_revision_than_expected_is_a_conflict(self, registry: Registry, expected: int) -> None:
        """Whatever the changes: even none were worked out from another state."""
        registry.commit([created(record("user"))], expected_revision=0, now=NOW)
        before = registry.state(), registry.revisions()

        for changes in ([], [created(record("seat"))], [deleted(record("user"))]):
            with pytest.raises(ConflictError) as caught:
                registry.commit(changes, expected_revision=expected, now=NOW)
            assert caught.value.retry
        assert (registry.state(), registry.revisions()) == before

    @pytest.mark.parametrize(
        "bad",
        [
            created(record("user", n=9)),
            updated(record("nobody")),
            deleted(record("nobody")),
            Change("create", "entity", "seat", None),
            Change("update", "entity", "user", None),
            Change("create", "entity", "seat", record("table")),
            Change("create", "feature_view", "seat", record("seat", kind="entity")),
            Change("delete", "entity", "user", record("user")),
        ],
        ids=lambda change: f"{change.action}-{change.name}-{change.record.name if change.record else None}",
    )
    def test_a_change_that_does_not_fit_is_refused_with_the_whole_commit(self, registry: Registry, bad: Change) -> None:
        registry.commit([created(record("user"))], expected_revision=0, now=NOW)
        before = registry.state(), registry.revisions()

        with pytest.raises(RequestError):
            registry.commit([created(record("good")), bad, created(record("late"))], expected_revision=1, now=NOW)
        assert (registry.state(), registry.revisions()) == before
        assert registry.commit([created(record("good"))], expected_revision=1, now=NOW) == 2

    # --- history ---------------------------------------------------------------------------------------------

    def test_revisions_tell_what_was_done_newest_first(self, registry: Registry) -> None:
        user, group = record("user"), record("spend", kind="feature_group")
        registry.commit([created(user), created(group)], expected_revision=0, now=NOW)
        registry.commit([deleted(group), updated(record("user", n=2))], expected_revision=1, now=NOW)

        second, first = registry.revisions()
        assert (second.number, first.number) == (2, 1)
        assert first.changes == (("create", "entity", "user"), ("create", "feature_group", "spend"))
        assert second.changes == (("delete", "feature_group", "spend"), ("update", "entity", "user"))

    def test_revisions_are_limited(self, registry: Registry) -> None:
        for number in range(4):
            registry.commit([created(record(f"e{number}"))], expected_revision=number, now=NOW)

        assert [one.number for one in registry.revisions(limit=2)] == [4, 3]
        assert [one.changes[0][2] for one in registry.revisions(limit=2)] == ["e3", "e2"]
        assert registry.revisions(limit=0) == ()
        with pytest.raises(RequestError):
            registry.revisions(limit=-1)

    @pytest.mark.parametrize(
        ("given", "kept"),
        [
            (NOW, NOW),
            (NOW.replace(tzinfo=None), NOW),
            (NOW.astimezone(dt.timezone(dt.timedelta(hours=5, minutes=45))), NOW),
            (dt.datetime(1, 1, 1, tzinfo=dt.UTC), dt.datetime(1, 1, 1, tzinfo=dt.UTC)),
            (dt.datetime.max.replace(tzinfo=dt.UTC), dt.datetime.max.replace(tzinfo=dt.UTC)),
        ],
        ids=["utc", "naive", "zone", "first", "last"],
    )
    def test_times_are_utc_to_the_microsecond(self, registry: Registry, given: dt.datetime, kept: dt.datetime) -> None:
        """TIME-1: naive is read as UTC, other zones are converted."""
        registry.commit([created(record())], expected_revision=0, now=given)
        registry.record_run(Run("spend", "1.0.0", "materialize", given, given, 0))

        (revision,) = registry.revisions()
        (made,) = registry.runs()
        assert [revision.at, made.started_at, made.ended_at] == [kept, kept, kept]
        assert {time.utcoffset() for time in (revision.at, made.started_at, made.ended_at)} == {dt.timedelta(0)}

    # --- runs ------------------------------------------------------------------------------------------------

    def test_runs_come_newest_end_first_then_last_recorded(self, registry: Registry) -> None:
        late, early = NOW + dt.timedelta(microseconds=1), NOW - dt.timedelta(days=1)
        recorded = [run(rows=1), run(rows=2, ended_at=late), run(rows=3, ended_at=early), run(rows=4)]
        for one in recorded:
            registry.record_run(one)

        assert [one.rows for one in registry.runs()] == [2, 4, 1, 3]

    def test_a_run_reads_back_as_it_was(self, registry: Registry) -> None:
        recorded = run("spend", version="1.2.3", verb="backfill", rows=2**40, details={"from": ["a", None], "ü": 0.5})
        registry.record_run(recorded)

        assert registry.runs() == (recorded,)
        assert registry.runs()[0].details == recorded.details

    def test_runs_of_one_group(self, registry: Registry) -> None:
        for group in ("spend", "profile", "spend"):
            registry.record_run(run(group))

        assert [one.group for one in registry.runs("spend")] == ["spend", "spend"]
        assert registry.runs("nobody") == ()
        assert len(registry.runs("spend", limit=1)) == 1
        assert registry.runs(limit=0) == ()
        with pytest.raises(RequestError):
            registry.runs(limit=-1)

    def test_runs_make_no_revision(self, registry: Registry) -> None:
        registry.record_run(run())

        assert registry.revision() == 0

    def test_details_that_are_no_json_are_refused(self, registry: Registry) -> None:
        with pytest.raises(RequestError):
            registry.record_run(run(details={"when": NOW}))
        assert registry.runs() == ()

    # --- search ----------------------------------------------------------------------------------------------

    @pytest.fixture
    def shop(self, registry: Registry) -> Registry:
        """A registry of a small shop: an entity, two groups, a view, a transformation."""
        amount = column("amount", description="Payment in euros, as the bank booked it")
        spend = group(
            columns=[amount, column("cardType", "string")],
            description="What a user spends.",
            owner="payments",
            tags={"tier": "gold", "domain": "money"},
        )
        rolling = {"type": "rolling", "columns": [["visits", ["sum"]]], "windows": ["7d"]}
        visits = group(
            "site_visits",
            columns=[column("visits", "int64", "Clicks on the site")],
            aggregations=[{**rolling, "closed": "right", "every": None, "offset": None, "filter": None, "name": None}],
            tags={"tier": "silver"},
        )
        selections = [{"source": "user_spend", "features": ["amount"], "rename": {"amount": "spent"}, "prefix": ""}]
        churn = record(
            "churn", kind="feature_view", features=selections, labels=["left_us"], derived={"ratio": "spent / 2"}
        )
        scaled = record("scaled", kind="transformation", inputs=["raw"], outputs=[column("standardised")])
        user = record("user", join_keys=["user_id"], description="A customer", owner="crm")
        made = [user, scaled, spend, visits, churn]
        registry.commit([created(one) for one in made], expected_revision=0, now=NOW)
        return registry

    @pytest.mark.parametrize(
        ("query", "expected"),
        [
            ("user_spend", ["user_spend", "churn"]),
            ("spend", ["user_spend", "churn"]),
            ("user", ["user", "user_spend", "site_visits", "churn"]),
            ("user_sp", ["user_spend", "churn"]),
            ("UserSpend", ["user_spend", "churn"]),
            ("userspend", ["user_spend", "churn"]),
            ("  Spend   USER ", ["user_spend", "churn"]),
            ("payment", ["user_spend", "user_spend:amount"]),
            ("payments", ["user_spend", "user_spend:amount"]),
            ("card type", ["user_spend:cardType"]),
            ("card_ty", ["user_spend:cardType"]),
            ("spending amounts", ["user_spend:amount", "churn"]),
            ("gold", ["user_spend"]),
            ("domain: money", ["user_spend"]),
            ("crm", ["user"]),
            ("int64", []),
            ("string", ["user_spend:cardType"]),
            ("visits__sum__7d", ["site_visits:visits__sum__7d"]),
            ("sum 7d", ["site_visits:visits__sum__7d"]),
            ("clicks", ["site_visits:visits__sum__7d"]),
            ("left", ["churn"]),
            ("ratio", ["churn"]),
            ("standardized", []),
            ("standardising", ["scaled"]),
            ("raw", ["scaled"]),
            ("what a user spends", ["user_spend", "churn"]),
            ("spend nonsense", []),
            ("end", []),
        ],
    )
    def test_words_find_what_has_all_of_them(self, shop: Registry, query: str, expected: list[str]) -> None:
        """Names before features, features before tags and owners, those before descriptions."""
        assert found(shop.search(query)) == expected

    def test_a_hit_says_where_and_what(self, shop: Registry) -> None:
        by_name, by_owner, by_text = shop.search("site"), shop.search("payments"), shop.search("bank")

        assert by_name[0].field == "name"
        assert [(hit.field, hit.excerpt) for hit in by_owner] == [
            ("owner", "payments"),
            ("description", "Payment in euros, as the bank booked it"),
        ]
        assert by_text[0] == Hit(
            kind="feature_group",
            name="user_spend",
            feature="amount",
            score=by_text[0].score,
            field="description",
            excerpt="Payment in euros, as the bank booked it",
        )

    def test_scores_fall_and_lie_between_zero_and_one(self, shop: Registry) -> None:
        for query in ("user", "spend", "payments", "gold"):
            scores = [hit.score for hit in shop.search(query)]
            assert scores == sorted(scores, reverse=True)
            assert all(0 < score <= 1 for score in scores)
        assert shop.search("user")[0].score == 1.0

    def test_a_match_in_a_name_comes_before_all_others(self, registry: Registry) -> None:
        """Each has the word once, however much text stands around it."""
        much = " ".join(f"other{number}" for number in range(300))
        made = [
            record("d", description="budget"),
            record("c", description=much, owner="budget"),
            record("b", description=much, tags={"kind": "budget"}),
            group("a_group", columns=[column("budget", description=much)]),
            record("budget", kind="feature_view", description=much),
        ]
        registry.commit([created(one) for one in made], expected_revision=0, now=NOW)

        assert found(registry.search("budget")) == ["budget", "a_group:budget", "b", "c", "d"]

    def test_a_word_of_the_group_alone_does_not_find_its_features(self, shop: Registry) -> None:
        assert "user_spend:amount" not in found(shop.search("user_spend"))
        assert "user_spend:amount" in found(shop.search("user_spend amount"))
        assert "user_spend:amount" in found(shop.search("gold amount"))

    @pytest.mark.parametrize(
        ("filters", "expected"),
        [
            ({"kinds": ["entity"]}, ["user"]),
            ({"kinds": ["entity", "transformation"]}, ["user", "scaled"]),
            ({"kinds": ["feature_view"], "tags": {"tier": "gold"}}, []),
            ({"tags": {"tier": "gold"}}, ["user_spend", "user_spend:amount", "user_spend:cardType"]),
            ({"tags": {"tier": "gold", "domain": "money"}}, ["user_spend", "user_spend:amount", "user_spend:cardType"]),
            ({"tags": {"tier": "gold", "domain": "other"}}, []),
            ({"tags": {"tier": "Gold"}}, []),
            ({"tags": {"tier": ""}}, []),
            ({"owner": "crm"}, ["user"]),
            ({"owner": "pay"}, []),
            ({"owner": "payments", "limit": 1}, ["user_spend"]),
        ],
    )
    def test_a_blank_query_lists_what_the_filters_let_through(
        self, shop: Registry, filters: dict[str, Any], expected: list[str]
    ) -> None:
        hits = shop.search("", **filters)

        assert found(hits) == expected
        assert found(shop.search(" \t\n", **filters)) == expected
        assert {(hit.score, hit.field) for hit in hits} <= {(0.0, "")}

    def test_a_blank_query_lists_whole_definitions_first(self, shop: Registry) -> None:
        assert found(shop.search("")) == [
            *("user", "site_visits", "user_spend", "churn", "scaled"),
            *("site_visits:visits__sum__7d", "user_spend:amount", "user_spend:cardType"),
        ]

    def test_filters_narrow_a_query(self, shop: Registry) -> None:
        assert found(shop.search("user", kinds=["feature_group"])) == ["user_spend", "site_visits"]
        assert found(shop.search("amount", tags={"tier": "gold"})) == ["user_spend:amount"]
        assert found(shop.search("amount", tags={"tier": "silver"})) == []
        assert found(shop.search("user", owner="payments")) == ["user_spend"]

    def test_hits_are_limited(self, shop: Registry) -> None:
        assert found(shop.search("user", limit=2)) == ["user", "user_spend"]
        assert shop.search("user", limit=0) == ()
        assert shop.search("", limit=0) == ()
        with pytest.raises(RequestError):
            shop.search("user", limit=-1)

    def test_a_kind_that_is_none_is_refused_with_the_closest(self, shop: Registry) -> None:
        kind: Any = "feature_groups"
        with pytest.raises(RequestError) as caught:
            shop.search("user", kinds=[kind])
        assert caught.value.closest[0] == "feature_group"

    @pytest.mark.parametrize(
        ("query", "means"),
        [
            ("user*", "user"),
            ("+user -spend", "user spend"),
            ("user & !spend", "user spend"),
            ("'user':A | {spend}", "user a spend"),
            ("^user <-> spend:*", "user spend"),
            ('"user', "user"),
            ("user OR spend", "user spend"),
            ("title:user", "title user"),
            ("user AND", "user and"),
            ("NOT user", "not user"),
            ("NEAR(user, 2)", "near user 2"),
            ("user; DROP TABLE runs; --", "user drop table runs"),
            ("user " * 10_000, "user"),
        ],
        ids=lambda text: text[:20],
    )
    def test_there_is_no_query_language(self, shop: Registry, query: str, means: str) -> None:
        """Words mean themselves, and what is no word means nothing."""
        assert found(shop.search(query)) == found(shop.search(means))

    @pytest.mark.parametrize("query", [*ODD_QUERIES, "é" * 300, "x" * 100_000, "a_" * 5_000, "\t" * 2_000 + "user"])
    def test_no_query_is_an_error(self, shop: Registry, query: str) -> None:
        before = shop.state()

        assert set(shop.search(query)) <= set(shop.search(query, limit=1_000))
        assert shop.state() == before

    def test_words_of_other_languages(self, registry: Registry) -> None:
        made = [
            record("a", description="Größe der Bestellung"),
            record("b", description="le café crème"),
            record("c", description="用户的付款数据"),
            record("d", description="возраст пользователя"),
        ]
        registry.commit([created(one) for one in made], expected_revision=0, now=NOW)

        for query, name in [
            *(("größe", "a"), ("GRÖSSE", "a"), ("grosse", "a"), ("bestell", "a")),
            *(("cafe", "b"), ("CAFÉ", "b"), ("cafe\u0301", "b"), ("付款", "c"), ("数", "c"), ("Возраст", "d")),
        ]:
            assert found(registry.search(query)) == [name], query

    def test_search_knows_each_commit_and_no_other(self, registry: Registry) -> None:
        first, second = group(columns=[column("amount")]), group(columns=[column("price")])
        registry.commit([created(first)], expected_revision=0, now=NOW)
        assert found(registry.search("amount")) == ["user_spend:amount"]

        registry.commit([updated(second)], expected_revision=1, now=NOW)
        assert found(registry.search("amount")) == []
        assert found(registry.search("price")) == ["user_spend:price"]

        with pytest.raises(RequestError):
            registry.commit([created(record("seat")), created(second)], expected_revision=2, now=NOW)
        assert found(registry.search("seat")) == []

        registry.commit([deleted(second)], expected_revision=2, now=NOW)
        assert found(registry.search("price")) == []
        assert registry.search("") == ()

    def test_only_the_last_word_of_a_commit_is_found(self, registry: Registry) -> None:
        first, second, passing = record("user", note="x"), record("user", description="kept"), record("passing")
        registry.commit(
            [created(first), deleted(first), created(second), created(passing), deleted(passing)],
            expected_revision=0,
            now=NOW,
        )

        assert found(registry.search("")) == ["user"]
        assert found(registry.search("kept")) == ["user"]

    def test_a_large_definition_is_found_by_its_first_and_last_feature(self, registry: Registry) -> None:
        columns = [column(f"signal_{number}", description="measured " * 20) for number in range(1_500)]
        view = record("wide", kind="feature_view", labels=[f"label_{number}" for number in range(3_000)])
        registry.commit([created(group("many", columns=columns)), created(view)], expected_revision=0, now=NOW)

        assert found(registry.search("signal_0")) == ["many:signal_0"]
        assert found(registry.search("signal_1499")) == ["many:signal_1499"]
        assert found(registry.search("label_2999")) == ["wide"]
        assert len(registry.search("signal", limit=2_000)) == 1_500

    def test_a_very_long_description_is_found_by_its_beginning(self, registry: Registry) -> None:
        words = [f"{number:x}" for number in range(0x100000, 0x100000 + 300_000, 3)]
        many = {f"{word}": word for word in words[:50_000]}
        long = record("long", kind="feature_view", description=" ".join(words), tags=many, labels=words)
        registry.commit([created(long)], expected_revision=0, now=NOW)

        assert found(registry.search(f"{words[0]} {words[5_000]}")) == ["long"]
        assert found(registry.search("long", tags={words[49_999]: words[49_999]})) == ["long"]

    @pytest.mark.parametrize("kind", get_args(Kind))
    def test_a_definition_of_another_form_is_found_by_its_name(self, registry: Registry, kind: Kind) -> None:
        """A registry keeps what it is given."""
        odd: dict[str, Any] = {
            name: value
            for value in (5, "text", ["a", 1, None, [], {"name": 3}], {"name": ["x"], "type": "rolling"}, None)
            for name in ("schema", "entities", "source", "aggregations", "features", "labels", "tags", "on_demand")
        }
        broken = {"type": "rolling", "columns": 5}
        several = [
            record("odd_one", kind=kind, **odd),
            record("odd_two", kind=kind, aggregations=[broken], sql=[[], [1], "x"], outputs=7, description=["x"]),
            record(
                "odd_three", kind=kind, schema=5, tags=["x"], owner=None, features="x", derived=[1], inputs={"in": 1}
            ),
        ]
        registry.commit([created(one) for one in several], expected_revision=0, now=NOW)

        assert sorted(found(registry.search("odd"))) == ["odd_one", "odd_three", "odd_two"]

    # --- documents -------------------------------------------------------------------------------------------

    def test_a_document_reads_back_as_it_was(self, registry: Registry) -> None:
        data = {"n": 2**80, "text": "nul \x00 and half a pair \ud800", "list": [1.5, None, {"ü": True}], "": ""}
        registry.put("exports", "e1", data, now=NOW)

        expected = Document("exports", "e1", data, NOW, NOW)
        read = registry.get("exports", "e1")
        assert read == expected
        assert read is not None and read.data == data
        assert registry.documents("exports") == (expected,)
        assert registry.get("exports", "e2") is None
        assert registry.get("pins", "e1") is None

    def test_a_replaced_document_keeps_its_creation(self, registry: Registry) -> None:
        later = NOW + dt.timedelta(hours=1)
        registry.put("exports", "e1", {"a": 1, "b": 2}, now=NOW)
        registry.put("exports", "e1", {"a": 3}, now=later)

        assert registry.get("exports", "e1") == Document("exports", "e1", {"a": 3}, NOW, later)
        assert registry.documents("exports", where={"b": 2}) == ()
        assert registry.documents("exports", where={"a": 1}) == ()
        assert len(registry.documents("exports", where={"a": 3})) == 1

    def test_documents_make_no_revision(self, registry: Registry) -> None:
        registry.put("exports", "e1", {}, now=NOW)

        assert (registry.revision(), registry.state(), registry.search("")) == (0, RegistryState(0, ()), ())

    def test_what_is_expected_must_hold(self, registry: Registry) -> None:
        with pytest.raises(ConflictError, match="e1"):
            registry.put("exports", "e1", {"n": 1}, now=NOW, expected="present")
        assert registry.get("exports", "e1") is None

        registry.put("exports", "e1", {"n": 2}, now=NOW, expected="absent")
        with pytest.raises(ConflictError, match="e1"):
            registry.put("exports", "e1", {"n": 3}, now=NOW, expected="absent")
        assert [one.data for one in registry.documents("exports", where={"n": 2})] == [{"n": 2}]
        assert registry.documents("exports", where={"n": 3}) == ()

        registry.put("exports", "e1", {"n": 4}, now=NOW, expected="present")
        assert [one.data for one in registry.documents("exports")] == [{"n": 4}]

    def test_a_removed_document_is_gone_and_may_come_again(self, registry: Registry) -> None:
        registry.put("exports", "e1", {"n": 1}, now=NOW)

        assert registry.remove("exports", "e1") is True
        assert registry.remove("exports", "e1") is False
        assert registry.get("exports", "e1") is None
        assert registry.documents("exports", where={"n": 1}) == ()
        later = NOW + dt.timedelta(days=1)
        registry.put("exports", "e1", {"n": 1}, now=later, expected="absent")
        assert registry.get("exports", "e1") == Document("exports", "e1", {"n": 1}, later, later)

    def test_a_put_that_is_refused_changes_nothing(self, registry: Registry) -> None:
        registry.put("exports", "e1", {"n": 1}, now=NOW)

        for data in ({"n": float("nan")}, {"n": b"bytes"}, {"n": {1: 2}}, {"n": NOW}):
            with pytest.raises(RequestError, match=r"\$\.n"):
                registry.put("exports", "e1", data, now=NOW)
        assert [one.data for one in registry.documents("exports", where={"n": 1})] == [{"n": 1}]

    @pytest.mark.parametrize("prefix", [*ODD_KEYS, "", "a/", "zz", "x" * 500], ids=lambda prefix: ascii(prefix[:8]))
    def test_documents_by_prefix_in_code_point_order(self, registry: Registry, prefix: str) -> None:
        for key in ODD_KEYS:
            registry.put("pins", key, {}, now=NOW)
        registry.put("pins_2", "a", {}, now=NOW)

        expected = sorted(key for key in ODD_KEYS if key.startswith(prefix))
        assert [one.key for one in registry.documents("pins", prefix=prefix)] == expected

    def test_documents_newest_first(self, registry: Registry) -> None:
        for number, key in enumerate(["b", "a", "d", "c"]):
            registry.put("exports", key, {}, now=NOW + dt.timedelta(microseconds=number // 2))
        assert [one.key for one in registry.documents("exports", newest_first=True)] == ["c", "d", "a", "b"]

        registry.put("exports", "a", {}, now=NOW + dt.timedelta(days=1))
        assert [one.key for one in registry.documents("exports", newest_first=True, limit=3)] == ["a", "c", "d"]

    def test_documents_are_limited(self, registry: Registry) -> None:
        for number in range(5):
            registry.put("exports", f"e{number}", {"n": number % 2}, now=NOW)

        assert [one.key for one in registry.documents("exports", limit=2)] == ["e0", "e1"]
        assert [one.key for one in registry.documents("exports", where={"n": 1}, limit=2)] == ["e1", "e3"]
        assert len(registry.documents("exports", limit=None)) == 5
        assert registry.documents("exports", limit=0) == ()
        with pytest.raises(RequestError):
            registry.documents("exports", limit=-1)

    def test_without_a_limit_all_documents_come(self, registry: Registry) -> None:
        for number in range(1_005):
            registry.put("exports", f"{number:04}", {}, now=NOW)

        assert len(registry.documents("exports")) == 1_000
        assert [one.key for one in registry.documents("exports", limit=None)] == [f"{n:04}" for n in range(1_005)]

    @pytest.mark.parametrize(
        ("where", "keys"),
        [
            ({"a": 1}, ["int"]),
            ({"a": True}, ["bool"]),
            ({"a": "1"}, ["text"]),
            ({"a": 2**70}, ["large"]),
            ({"a": ""}, ["empty"]),
            ({"a": "nul \x00 \ud800 % _ '"}, ["odd"]),
            ({"a": "x" * 100_000}, ["long"]),
            ({"a": 0}, []),
            ({"a": False}, []),
            ({"b": 1}, ["int", "other"]),
            ({"a": 1, "b": 1}, ["int"]),
            ({"a": 1, "b": 2}, []),
            ({"$.a": 1}, []),
            ({"c.d": 1}, []),
            ({"": 1}, ["other"]),
            ({}, ["bool", "empty", "float", "int", "large", "long", "nested", "none", "odd", "other", "text"]),
        ],
        ids=lambda value: f"{value!r:.30}",
    )
    def test_documents_by_fields(self, registry: Registry, where: dict[str, Any], keys: list[str]) -> None:
        """Top-level fields, equal in type and value."""
        data: dict[str, dict[str, Any]] = {
            "int": {"a": 1, "b": 1},
            "bool": {"a": True},
            "text": {"a": "1"},
            "float": {"a": 1.0},
            "none": {"a": None},
            "large": {"a": 2**70},
            "empty": {"a": ""},
            "odd": {"a": "nul \x00 \ud800 % _ '"},
            "long": {"a": "x" * 100_000},
            "nested": {"a": [1], "c": {"d": 1}},
            "other": {"b": 1, "": 1},
        }
        for key, fields in data.items():
            registry.put("exports", key, fields, now=NOW)
            registry.put("statistics", f"other {key}", fields, now=NOW)

        assert [one.key for one in registry.documents("exports", where=where)] == keys

    @pytest.mark.parametrize("value", [1.0, None, [1], {"a": 1}, b"x"], ids=lambda value: type(value).__name__)
    def test_fields_of_other_types_cannot_be_asked_for(self, registry: Registry, value: Any) -> None:
        with pytest.raises(RequestError, match="'a'"):
            registry.documents("exports", where={"a": value})

    @pytest.mark.parametrize("key", ["", "x" * 513, "line\nbreak", "\x00", "\ud800", "\u200b", None, 1])
    def test_keys_that_are_none_are_refused(self, registry: Registry, key: Any) -> None:
        for ask in (
            lambda: registry.put("exports", key, {}, now=NOW),
            lambda: registry.get("exports", key),
            lambda: registry.remove("exports", key),
            lambda: registry.next_number(key),
        ):
            with pytest.raises(RequestError):
                ask()

    @pytest.mark.parametrize("collection", ["", "a b", "a-b", "a/b", "é", "x" * 513, "a\n", None])
    def test_collections_that_are_none_are_refused(self, registry: Registry, collection: Any) -> None:
        for ask in (
            lambda: registry.put(collection, "k", {}, now=NOW),
            lambda: registry.get(collection, "k"),
            lambda: registry.documents(collection),
            lambda: registry.remove(collection, "k"),
        ):
            with pytest.raises(RequestError):
                ask()

    def test_of_racing_threads_exactly_one_puts_what_was_absent(self, open_registry: OpenRegistry) -> None:
        """Half of the threads share a handle, half bring their own; all race for several keys."""
        shared = open_registry()
        handles = [shared, open_registry(), shared, open_registry()]
        start = threading.Barrier(len(handles))

        def race(worker: int) -> list[str]:
            start.wait()
            return [key for key in map(str, range(10)) if _put_if_absent(handles[worker], key, worker)]

        with ThreadPoolExecutor(len(handles)) as pool:
            won = list(pool.map(race, range(len(handles))))
        assert sorted(key for keys in won for key in keys) == sorted(map(str, range(10)))
        for worker, keys in enumerate(won):
            assert {one.key for one in shared.documents("exports", where={"worker": worker})} == set(keys)

    def test_threads_that_put_and_remove_leave_fields_that_are_true(self, open_registry: OpenRegistry) -> None:
        handles = [open_registry() for _ in range(4)]

        def work(worker: int) -> None:
            for number in range(15):
                handles[worker].put("exports", str(number % 3), {"n": number, "worker": worker}, now=NOW)
                if number % 5 == worker:
                    handles[worker].remove("exports", str(number % 3))

        with ThreadPoolExecutor(len(handles)) as pool:
            list(pool.map(work, range(len(handles))))
        left = handles[0].documents("exports")
        for worker in range(4):
            for number in range(15):
                where = {"n": number, "worker": worker}
                assert handles[0].documents("exports", where=where) == tuple(one for one in left if one.data == where)

    # --- numbers ---------------------------------------------------------------------------------------------

    def test_numbers_count_up_from_one_in_each_sequence(self, registry: Registry) -> None:
        assert [registry.next_number("churn") for _ in range(3)] == [1, 2, 3]
        assert [registry.next_number(name) for name in ("other", "Churn", "churn ", "churn")] == [1, 1, 1, 4]

    def test_numbers_outlive_the_handle(self, open_registry: OpenRegistry) -> None:
        first = open_registry()
        assert [first.next_number("churn"), first.next_number("churn")] == [1, 2]
        first.close()

        assert open_registry().next_number("churn") == 3

    def test_threads_never_get_one_number_twice(self, open_registry: OpenRegistry) -> None:
        shared = open_registry()
        handles = [shared, open_registry(), shared, open_registry()]

        def take(worker: int) -> list[int]:
            return [handles[worker].next_number("churn") for _ in range(25)]

        with ThreadPoolExecutor(len(handles)) as pool:
            taken = list(pool.map(take, range(len(handles))))
        assert sorted(number for numbers in taken for number in numbers) == list(range(1, 101))
        assert all(numbers == sorted(numbers) for numbers in taken)

    def test_processes_never_get_one_number_or_key_twice(
        self, backend: str, options: dict[str, Any], open_registry: OpenRegistry
    ) -> None:
        """They also meet at the first use of an empty registry."""
        answers = in_processes(3, backend, options, "number")

        assert sorted(number for answer in answers for number in answer["numbers"]) == list(range(1, 3 * _COUNTS + 1))
        assert sorted(key for answer in answers for key in answer["keys"]) == sorted(map(str, range(_COUNTS)))
        assert len(open_registry().documents("exports")) == _COUNTS

    # --- uses ------------------------------------------------------------------------------------------------

    def test_uses_add_up_by_day(self, registry: Registry) -> None:
        whole, feature = (
            Use("feature_view", "churn", "", "online"),
            Use("feature_group", "spend", "amount", "online", 3),
        )
        registry.count_uses([whole, feature, whole], now=NOW)
        registry.count_uses([feature], now=NOW)
        registry.count_uses([whole], now=NOW + dt.timedelta(days=1))

        today, tomorrow = NOW.date(), NOW.date() + dt.timedelta(days=1)
        assert registry.uses() == (
            UseCount("feature_group", "spend", "amount", "online", today, 6),
            UseCount("feature_view", "churn", "", "online", today, 2),
            UseCount("feature_view", "churn", "", "online", tomorrow, 1),
        )

    def test_uses_of_one_name_since_a_day(self, registry: Registry) -> None:
        for days in range(3):
            uses = [Use("feature_group", name, "", "history", days + 1) for name in ("spend", "profile")]
            registry.count_uses(uses, now=NOW + dt.timedelta(days=days))

        day = NOW.date() + dt.timedelta(days=1)
        assert [one.count for one in registry.uses("spend")] == [1, 2, 3]
        assert [one.count for one in registry.uses("spend", since=day)] == [2, 3]
        assert [(one.name, one.count) for one in registry.uses(since=day + dt.timedelta(days=1))] == [
            ("profile", 3),
            ("spend", 3),
        ]
        assert registry.uses("nobody") == ()
        assert registry.uses(since=day + dt.timedelta(days=2)) == ()

    @pytest.mark.parametrize(
        ("given", "day"),
        [
            (dt.datetime(2026, 1, 1, tzinfo=dt.UTC), dt.date(2026, 1, 1)),
            (dt.datetime(2025, 12, 31, 23, 59, 59, 999999, tzinfo=dt.UTC), dt.date(2025, 12, 31)),
            (dt.datetime(2026, 1, 1, 0, 30, tzinfo=dt.timezone(dt.timedelta(hours=2))), dt.date(2025, 12, 31)),
            (dt.datetime(2026, 1, 1), dt.date(2026, 1, 1)),  # noqa: DTZ001 - what is naive is UTC
            (dt.datetime(1969, 12, 31, 12, tzinfo=dt.UTC), dt.date(1969, 12, 31)),
        ],
    )
    def test_days_are_utc(self, registry: Registry, given: dt.datetime, day: dt.date) -> None:
        """TIME-1."""
        registry.count_uses([Use("entity", "user", "", "read")], now=given)

        assert [one.day for one in registry.uses()] == [day]
        assert len(registry.uses(since=day)) == 1
        assert registry.uses(since=day + dt.timedelta(days=1)) == ()

    def test_uses_that_cannot_be_counted_are_refused_with_the_batch(self, registry: Registry) -> None:
        good = Use("feature_group", "spend", "", "online")
        for bad in (
            Use("feature_group", "spend", "", "online", -1),
            Use("feature_group", "", "", "online"),
            Use("feature_group", "spend", "a\x00b", "online"),
            Use("", "spend", "", "online"),
            Use("feature_group", "spend", "", "x" * 513),
        ):
            with pytest.raises(RequestError):
                registry.count_uses([good, bad], now=NOW)
        registry.count_uses([], now=NOW)
        registry.count_uses([Use("feature_group", "spend", "", "online", 0)], now=NOW)
        assert registry.uses() == ()

    def test_large_batches_and_long_names_are_counted(self, registry: Registry) -> None:
        uses = [Use("feature_group", "spend", f"{number:04}" + "特" * 2_000, "online", 2**40) for number in range(500)]
        registry.count_uses(uses, now=NOW)
        registry.count_uses(uses, now=NOW)

        assert [(one.feature, one.count) for one in registry.uses()] == [(use.feature, 2**41) for use in uses]

    def test_threads_lose_no_count(self, open_registry: OpenRegistry) -> None:
        """Each counts the same things in another order."""
        handles = [open_registry() for _ in range(4)]
        uses = [Use("feature_group", "spend", f"f{number}", "online") for number in range(10)]

        def count(worker: int) -> None:
            for turn in range(10):
                handles[worker].count_uses(uses[turn:] + uses[:turn], now=NOW)

        with ThreadPoolExecutor(len(handles)) as pool:
            list(pool.map(count, range(len(handles))))
        assert [one.count for one in handles[0].uses()] == [40] * 10

    def test_processes_lose_no_count(self, backend: str, options: dict[str, Any], open_registry: OpenRegistry) -> None:
        """Servers count the same things on their own, and the registry adds them up."""
        in_processes(3, backend, options, "use")

        assert [one.count for one in open_registry().uses()] == [3 * _COUNTS * (number + 1) for number in range(10)]

    # --- journals --------------------------------------------------------------------------------------------

    def test_processes_append_one_after_another(
        self, backend: str, options: dict[str, Any], open_registry: OpenRegistry
    ) -> None:
        """They also meet at the first use of an empty registry."""
        answers = in_processes(3, backend, options, "append")

        registry = open_registry()
        taken = sorted(number for answer in answers for number in answer["numbers"])
        assert taken == [entry.number for entry in registry.entries("audit")] == list(range(1, 3 * 4 * _COUNTS + 1))
        assert is_intact(registry, "audit")
        for answer in answers:
            mine = registry.entries("audit", where={"worker": answer["worker"]})
            assert [entry.number for entry in mine] == answer["numbers"]

    @pytest.mark.parametrize(("steps", "wait_ms"), [(1, 0), (2, 4), (5, 9), (6, 15), (9, 2)])
    def test_a_killed_process_leaves_whole_batches(
        self, backend: str, options: dict[str, Any], open_registry: OpenRegistry, steps: int, wait_ms: int
    ) -> None:
        killed_after(steps, wait_ms, backend, options, "append_on")

        registry = open_registry()
        head = registry.head("audit")
        count = 0 if head is None else head.number
        assert count % _WIDE == 0 and count // _WIDE >= steps - 1
        assert is_intact(registry, "audit")
        assert len(registry.entries("audit", where={"kept": True}, limit=100_000)) == count
        assert registry.append("audit", [{"n": 0}], now=NOW)[0].number == count + 1

    # --- a process that is killed ----------------------------------------------------------------------------

    @pytest.mark.parametrize(("steps", "wait_ms"), [(1, 0), (13, 3), (17, 6), (18, 15), (26, 40), (27, 2), (40, 1)])
    def test_a_killed_process_leaves_nothing_half_done(
        self, backend: str, options: dict[str, Any], open_registry: OpenRegistry, steps: int, wait_ms: int
    ) -> None:
        """It writes without end, in turns of four steps, and is killed while it is at one of them."""
        open_registry().commit([created(_wide_group(0))], expected_revision=0, now=NOW)
        open_registry().put("exports", "e", _wide_data(0), now=NOW)
        killed_after(steps, wait_ms, backend, options, "write")

        registry = open_registry()
        turns = (steps - 1) // 4
        document, applied = registry.get("exports", "e"), registry.state()
        assert document is not None
        written, committed = document.data["n"], applied.revision - 1
        assert turns <= committed <= written <= committed + 1
        assert document.data == _wide_data(written)
        assert applied.records == (_wide_group(committed),)
        for number in range(written + 2):
            for name in ("n", f"n{_WIDE - 1}"):
                assert registry.documents("exports", where={name: number}) == (document,) * (number == written)
            assert len(registry.search(f"word{number}x", limit=1_000)) == (_WIDE + 1) * (number == committed)
        counts = [one.count for one in registry.uses()]
        assert len(counts) in (0, _WIDE) and len(set(counts)) <= 1
        assert sum(counts) >= _WIDE * turns
        assert registry.next_number("exports") > turns
        registry.put("exports", "e", {"n": 0}, now=NOW, expected="present")

    # --- several handles, threads and processes --------------------------------------------------------------

    def test_what_was_committed_outlives_the_handle(self, open_registry: OpenRegistry) -> None:
        first = open_registry()
        first.commit([created(record())], expected_revision=0, now=NOW)
        first.record_run(run())
        first.close()
        first.close()

        second = open_registry()
        assert second.state() == RegistryState(1, (record(),))
        assert [one.number for one in second.revisions()] == [1]
        assert second.runs() == (run(),)

    def test_a_commit_is_seen_by_every_handle_at_once(self, open_registry: OpenRegistry) -> None:
        writer, reader = open_registry(), open_registry()
        assert (reader.revision(), reader.state().records) == (0, ())

        for number in range(1, 4):
            writer.commit([created(record(f"e{number}"))], expected_revision=number - 1, now=NOW)
            assert reader.revision() == number
            assert reader.state() == writer.state()

    def test_closing_one_handle_leaves_the_others_open(self, open_registry: OpenRegistry) -> None:
        first, second = open_registry(), open_registry()
        first.commit([created(record())], expected_revision=0, now=NOW)
        assert second.revision() == 1
        first.close()

        assert second.commit([deleted(record())], expected_revision=1, now=NOW) == 2

    def test_of_racing_threads_exactly_one_wins(self, open_registry: OpenRegistry) -> None:
        """Half of the threads share a handle, half bring their own."""
        shared = open_registry()
        handles = [shared, open_registry(), shared, open_registry(), shared, open_registry()]
        start = threading.Barrier(len(handles))

        def race(number: int) -> bool:
            start.wait()
            try:
                handles[number].commit([created(record(f"e{number}"))], expected_revision=0, now=NOW)
            except ConflictError:
                return False
            return True

        with ThreadPoolExecutor(len(handles)) as pool:
            won = list(pool.map(race, range(len(handles))))
        assert sum(won) == 1
        assert shared.state() == RegistryState(1, (record(f"e{won.index(True)}"),))
        assert len(shared.revisions()) == 1

    def test_a_reader_never_sees_half_a_commit(self, open_registry: OpenRegistry) -> None:
        """Each commit writes its number into every record, so a mixture would show."""
        writer, reader = open_registry(), open_registry()
        names = [f"e{position}" for position in range(8)]
        writer.commit([created(record(name, at=1)) for name in names], expected_revision=0, now=NOW)
        done = threading.Event()
        seen: list[tuple[int, set[int]]] = []

        def read() -> None:
            while not done.is_set():
                state = reader.state()
                seen.append((state.revision, {one.definition["at"] for one in state.records}))

        with ThreadPoolExecutor(1) as pool:
            reading = pool.submit(read)
            for number in range(2, 40):
                writer.commit(
                    [updated(record(name, at=number)) for name in names], expected_revision=number - 1, now=NOW
                )
            done.set()
            reading.result()
        assert seen
        assert [state for state in seen if state[1] != {state[0]}] == []

    def test_of_racing_processes_exactly_one_wins(
        self, backend: str, options: dict[str, Any], open_registry: OpenRegistry
    ) -> None:
        """They also meet at the first use of an empty registry, so all of them make it."""
        answers = in_processes(3, backend, options, "race")

        winners = [answer["worker"] for answer in answers if answer["won"]]
        assert len(winners) == 1
        assert open_registry().state() == RegistryState(1, (record(f"e{winners[0]}"),))
        assert len(open_registry().revisions()) == 1

    def test_processes_that_retry_lose_no_commit(
        self, backend: str, options: dict[str, Any], open_registry: OpenRegistry
    ) -> None:
        """Each adds to one counter and records a run; a lost update or a torn commit would show in the sum."""
        open_registry().commit([created(record("counter", n=0))], expected_revision=0, now=NOW)
        answers = in_processes(3, backend, options, "count")

        commits = sum(answer["commits"] for answer in answers)
        registry = open_registry()
        assert commits == 3 * _COUNTS
        assert registry.revision() == commits + 1
        assert registry.state().records == (record("counter", n=commits),)
        assert [one.number for one in registry.revisions(limit=1000)] == list(range(commits + 1, 0, -1))
        assert len(registry.runs(limit=1000)) == commits


_COUNTS = 15
"""Commits of each process of the counting test."""


def in_processes(count: int, backend: str, options: Mapping[str, Any], action: str) -> list[dict[str, Any]]:
    """Run an action of this module in so many new processes, which start it together; their answers."""
    command = [sys.executable, "-c", "from grange.testing.registry import child; child()"]
    started = [
        subprocess.Popen(
            [*command, json.dumps({"backend": backend, "options": dict(options), "action": action, "worker": worker})],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for worker in range(count)
    ]
    try:
        for process in started:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in started:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        answers = [process.communicate(timeout=120)[0] for process in started]
    finally:
        for process in started:
            process.kill()
            process.wait()
    assert [process.returncode for process in started] == [0] * count
    return [json.loads(answer) for answer in answers]


def killed_after(steps: int, wait_ms: int, backend: str, options: Mapping[str, Any], action: str) -> None:
    """Run an action of this module in a new process, which says a line before each step; kill it in this one."""
    task = {"backend": backend, "options": dict(options), "action": action, "worker": 0}
    process = subprocess.Popen(
        [sys.executable, "-c", "from grange.testing.registry import child; child()", json.dumps(task)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write("go\n")
        process.stdin.flush()
        for _ in range(steps + 1):  # "ready" is the first
            assert process.stdout.readline()
        time.sleep(wait_ms / 1000)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode < 0


def child() -> None:
    """What a process of `in_processes` or `killed_after` runs."""
    task = json.loads(sys.argv[1])
    registry: Registry = create("registries", task["backend"], task["options"])
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
    actions = {
        "race": _race,
        "count": _count,
        "number": _number,
        "use": _use,
        "write": _write,
        "append": _append,
        "append_on": _append_on,
    }
    answer = actions[task["action"]](registry, task["worker"])
    sys.stdout.write(json.dumps({"worker": task["worker"], **answer}))
    registry.close()


def _race(registry: Registry, worker: int) -> dict[str, Any]:
    try:
        registry.commit([created(record(f"e{worker}"))], expected_revision=0, now=NOW)
    except ConflictError:
        return {"won": False}
    return {"won": True}


def _count(registry: Registry, worker: int) -> dict[str, Any]:
    commits = conflicts = 0
    while commits < _COUNTS:
        state = registry.state()
        number = state.records[0].definition["n"] + 1
        changes: Sequence[Change] = [updated(record("counter", n=number))]
        try:
            registry.commit(changes, expected_revision=state.revision, now=NOW)
        except ConflictError:
            conflicts += 1
            continue
        registry.record_run(run(f"worker{worker}", rows=number))
        commits += 1
    return {"commits": commits, "conflicts": conflicts}


def _put_if_absent(registry: Registry, key: str, worker: int) -> bool:
    try:
        registry.put("exports", key, {"worker": worker}, now=NOW, expected="absent")
    except ConflictError:
        return False
    return True


def _number(registry: Registry, worker: int) -> dict[str, Any]:
    numbers = [registry.next_number("exports") for _ in range(_COUNTS)]
    return {
        "numbers": numbers,
        "keys": [key for key in map(str, range(_COUNTS)) if _put_if_absent(registry, key, worker)],
    }


def _write(registry: Registry, _: int) -> dict[str, Any]:
    """Goes on until the process is killed; says a line before each step."""
    uses = [Use("feature_group", "wide", f"f{part}", "read") for part in range(_WIDE)]
    for number in itertools.count(1):
        _say(registry.put, "exports", "e", _wide_data(number), now=NOW)
        _say(registry.commit, [updated(_wide_group(number))], expected_revision=number, now=NOW)
        _say(registry.count_uses, uses, now=NOW)
        _say(registry.next_number, "exports")
    raise AssertionError("unreachable")


def _use(registry: Registry, worker: int) -> dict[str, Any]:
    """Counts things in an order of its own: number 0 once, number 1 twice, and so on."""
    uses = [Use("feature_group", "spend", f"f{number}", "online", number + 1) for number in range(10)]
    for _ in range(_COUNTS):
        registry.count_uses(uses[worker:] + uses[:worker], now=NOW)
    return {}


def _append(registry: Registry, worker: int) -> dict[str, Any]:
    made = [registry.append("audit", [{"worker": worker, "n": n} for n in range(4)], now=NOW) for _ in range(_COUNTS)]
    return {"numbers": [entry.number for entries in made for entry in entries]}


def _append_on(registry: Registry, _: int) -> dict[str, Any]:
    """Goes on until the process is killed; says a line before each step."""
    while True:
        _say(registry.append, "audit", [{"n": number, "kept": True} for number in range(_WIDE)], now=NOW)


_WIDE = 300
"""Rows of one write: many, so that a kill at its beginning comes before its end."""


def _wide_data(number: int) -> dict[str, Any]:
    return {"n": number, **{f"n{part}": number for part in range(_WIDE)}}


def _wide_group(number: int) -> Record:
    columns = [column(f"f{part}", description=f"word{number}x") for part in range(_WIDE)]
    return group("wide", columns=columns, description=f"word{number}x")


def _say(step: Callable[..., object], *arguments: Any, **options: Any) -> None:
    sys.stdout.write(f"{step}\n")
    sys.stdout.flush()
    step(*arguments, **options)
