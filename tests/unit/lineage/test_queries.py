"""Column lineage of SQL: a table of shapes, and a check of each against the database that runs them."""

from __future__ import annotations

import random
from collections.abc import Iterator

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from grange.lineage.queries import query_columns
from grange.lineage.relations import Known

COLUMNS = ("user_id", "ts", "amount", "fee", "country", "kind", "ok", "tags", "place")
KNOWN = Known(COLUMNS, complete=True)

CASES: dict[str, tuple[str, dict[str, str]]] = {
    "columns as they are": ("SELECT user_id, ts, amount FROM source", {"user_id": "user_id", "amount": "amount"}),
    "alias": ("SELECT user_id AS who FROM source", {"who": "user_id"}),
    "expression": ("SELECT amount * 2 + fee AS total FROM source", {"total": "amount~ fee~"}),
    "cast": ("SELECT amount::VARCHAR AS text FROM source", {"text": "amount~"}),
    "constant": ("SELECT 'x' AS c, user_id FROM source", {"c": "", "user_id": "user_id"}),
    "star": ("SELECT * FROM source", {"amount": "amount", "country": "country"}),
    "from first": ("FROM source", {"amount": "amount"}),
    "star and a column more": (
        "SELECT *, amount - fee AS net FROM source",
        {"amount": "amount", "net": "amount~ fee~"},
    ),
    "star with exclude, replace and rename": (
        "SELECT * EXCLUDE (fee) REPLACE (upper(country) AS country) RENAME (kind AS sort) FROM source",
        {"country": "country~", "sort": "kind", "amount": "amount"},
    ),
    "star of a table": ("SELECT s.* FROM source s", {"amount": "amount"}),
    "schema of the table": ("SELECT main.source.amount FROM main.source", {"amount": "amount"}),
    "names without case": (
        "SELECT Amount AS \"Total\" FROM Source WHERE COUNTRY = 'FR'",
        {"Total": "amount country|filter"},
    ),
    "alias used by a later column": (
        "SELECT amount - fee AS net, net * 2 AS twice FROM source",
        {"twice": "amount~ fee~"},
    ),
    "alias of its own column": (
        "SELECT upper(country) AS country, country || '!' AS loud FROM source",
        {"country": "country~", "loud": "country~"},
    ),
    "case": (
        "SELECT CASE WHEN kind = 'card' THEN amount ELSE fee END AS paid FROM source",
        {"paid": "kind|conditional amount~ fee~"},
    ),
    "if and coalesce": (
        "SELECT if(ok, amount, 0) AS a, coalesce(fee, amount) AS b FROM source",
        {"a": "ok|conditional amount~", "b": "fee~ amount~"},
    ),
    "where": ("SELECT amount FROM source WHERE ok AND country <> 'FR'", {"amount": "amount ok|filter country|filter"}),
    "where with an alias": (
        "SELECT user_id, amount * 2 AS twice FROM source WHERE twice > 10",
        {"user_id": "user_id amount|filter", "twice": "amount~ amount|filter"},
    ),
    "group by": (
        "SELECT user_id, sum(amount) AS total, count(*) AS n FROM source GROUP BY user_id",
        {"user_id": "user_id user_id|group_by", "total": "amount+ user_id|group_by", "n": "user_id|group_by"},
    ),
    "group by position and having": (
        "SELECT country, max(fee) AS most FROM source GROUP BY 1 HAVING count(*) > 0 AND min(amount) > 0",
        {"most": "fee+ country|group_by amount|filter"},
    ),
    "group by all": (
        "SELECT country, kind, avg(amount) AS m FROM source GROUP BY ALL",
        {"m": "amount+ country|group_by kind|group_by"},
    ),
    "aggregates that filter and order": (
        "SELECT sum(amount) FILTER (WHERE ok) AS s, list(kind ORDER BY ts, fee) AS l FROM source GROUP BY user_id",
        {"s": "amount+ ok|filter user_id|group_by", "l": "kind+ ts|sort fee|sort user_id|group_by"},
    ),
    "the value of the newest row": (
        "SELECT user_id, max_by(kind, ts) AS last FROM source GROUP BY user_id",
        {"last": "kind+ ts|conditional user_id|group_by"},
    ),
    "distinct count": ("SELECT count(DISTINCT country) AS n FROM source", {"n": "country+"}),
    "window": (
        "SELECT sum(amount) OVER (PARTITION BY user_id ORDER BY ts, fee) AS running FROM source",
        {"running": "amount+ user_id|window ts|window fee|window"},
    ),
    "named window": (
        "SELECT row_number() OVER w AS n, lag(fee) OVER w AS before FROM source "
        "WINDOW w AS (PARTITION BY user_id ORDER BY ts, amount)",
        {"n": "user_id|window ts|window amount|window", "before": "fee+ user_id|window ts|window amount|window"},
    ),
    "qualify": (
        "SELECT amount FROM source QUALIFY row_number() OVER (PARTITION BY user_id ORDER BY ts, fee, amount) = 1",
        {"amount": "amount user_id|filter ts|filter fee|filter amount|filter"},
    ),
    "common table expression": (
        "WITH paid AS (SELECT user_id AS who, amount - fee AS net FROM source WHERE ok) "
        "SELECT who, net * 2 AS two FROM paid",
        {"who": "user_id ok|filter", "two": "amount~ fee~ ok|filter"},
    ),
    "common table expression with column names": (
        "WITH c(a, b) AS (SELECT user_id, fee FROM source) SELECT b FROM c",
        {"b": "fee"},
    ),
    "chain of common table expressions with stars": (
        "WITH a AS (SELECT * FROM source), b AS (SELECT *, amount + fee AS t FROM a) SELECT t, country FROM b",
        {"t": "amount~ fee~", "country": "country"},
    ),
    "subquery in from": (
        "SELECT x.total FROM (SELECT country, sum(amount) AS total FROM source GROUP BY country) x",
        {"total": "amount+ country|group_by"},
    ),
    "join with itself": (
        "SELECT a.amount, b.fee FROM source a JOIN source b ON a.user_id = b.user_id AND a.kind = b.country",
        {"amount": "amount user_id|join kind|join country|join", "fee": "fee user_id|join kind|join country|join"},
    ),
    "join with using": (
        "WITH t AS (SELECT user_id, sum(amount) AS total FROM source GROUP BY user_id) "
        "SELECT user_id, fee / total AS share FROM source JOIN t USING (user_id)",
        {"share": "fee~ amount+ user_id|group_by user_id|join", "user_id": "user_id user_id|group_by user_id|join"},
    ),
    "as-of join": (
        "SELECT a.user_id, b.fee AS before FROM source a ASOF JOIN source b ON a.user_id = b.user_id AND a.ts > b.ts",
        {"before": "fee user_id|join ts|join"},
    ),
    "semi join": (
        "SELECT amount FROM source SEMI JOIN (SELECT user_id FROM source WHERE ok) b USING (user_id)",
        {"amount": "amount user_id|join ok|filter"},
    ),
    "natural join": (
        "SELECT amount, n FROM source NATURAL JOIN (SELECT country, count(*) AS n FROM source GROUP BY country)",
        {"n": "country|group_by country|join"},
    ),
    "cross join with values": (
        "SELECT amount * v.rate AS a FROM source, (VALUES (2), (3)) v(rate)",
        {"a": "amount~"},
    ),
    "scalar subquery that looks outside": (
        "SELECT user_id, (SELECT max(fee) FROM source b WHERE b.user_id = a.user_id AND b.ok) AS most FROM source a",
        {"user_id": "user_id", "most": "fee+ user_id|filter ok|filter"},
    ),
    "exists and in": (
        "SELECT amount FROM source a WHERE EXISTS (SELECT kind FROM source b WHERE b.fee > a.fee) "
        "AND country IN (SELECT country FROM source WHERE ok)",
        {"amount": "amount fee|filter country|filter ok|filter"},
    ),
    "union all": (
        "SELECT amount AS v FROM source WHERE ok UNION ALL SELECT fee FROM source",
        {"v": "amount fee ok|filter"},
    ),
    "union by name": (
        "SELECT amount AS a, kind AS k FROM source UNION ALL BY NAME SELECT country AS k, fee AS a FROM source",
        {"a": "amount fee", "k": "kind country"},
    ),
    "union": ("SELECT kind FROM source UNION SELECT country FROM source",
              {"kind": "kind country kind|group_by country|group_by"}),
    "except": (
        "SELECT user_id FROM source EXCEPT ALL SELECT user_id FROM source WHERE ok",
        {"user_id": "user_id user_id|filter ok|filter"},
    ),
    "distinct on": (
        "SELECT DISTINCT ON (user_id) user_id, fee FROM source ORDER BY user_id, ts DESC, fee",
        {"fee": "fee user_id|group_by user_id|sort ts|sort fee|sort"},
    ),
    "distinct": ("SELECT DISTINCT country, kind FROM source", {"kind": "kind country|group_by kind|group_by"}),
    "order and limit": (
        "SELECT user_id, amount AS a FROM source ORDER BY a, 1, fee LIMIT 3",
        {"user_id": "user_id amount|sort user_id|sort fee|sort"},
    ),
    "unnested list": (
        "SELECT user_id, t.tag FROM source, unnest(tags) AS t(tag)",
        {"user_id": "user_id tags|join", "tag": "tags~ tags|join"},
    ),
    "unnested list as a column": ("SELECT unnest(tags) AS tag FROM source", {"tag": "tags~"}),
    "lateral": (
        "SELECT l.net FROM source, LATERAL (SELECT source.amount - source.fee AS net) l",
        {"net": "amount~ fee~"},
    ),
    "field of a struct": (
        "SELECT place.city AS city, source.place.zip AS zip FROM source",
        {"city": "place~", "zip": "place~"},
    ),
    "lambda": ("SELECT list_transform(tags, lambda t: t || kind) AS x FROM source", {"x": "tags~ kind~"}),
    "comprehension": (
        "SELECT [t || country FOR t IN tags IF t <> kind] AS x FROM source",
        {"x": "tags~ country~ tags|conditional kind|conditional"},
    ),
    "struct and list made": ("SELECT {'a': amount, 'b': [fee, 1]} AS s FROM source", {"s": "amount~ fee~"}),
    "recursive": (
        "WITH RECURSIVE r(id, v, n) AS (SELECT user_id, amount, 1 FROM source UNION ALL "
        "SELECT id, v * 2, n + 1 FROM r WHERE n < 3) SELECT id, v, n FROM r",
        {"id": "user_id", "v": "amount amount~", "n": ""},
    ),
    "shadowing": (
        "WITH s AS (SELECT fee AS amount, user_id FROM source) SELECT amount FROM s",
        {"amount": "fee"},
    ),
    "quoted names": (
        'SELECT amount AS "größe ""x""", kind AS "a b" FROM source',
        {'größe "x"': "amount", "a b": "kind"},
    ),
    "columns by position in order": ("SELECT kind, fee FROM source ORDER BY 2 DESC", {"kind": "kind fee|sort"}),
    "pivot": ("SELECT * FROM (PIVOT source ON ok USING sum(amount) GROUP BY user_id)", {"true": "*?"}),
    "columns by pattern": ("SELECT COLUMNS('am.*'), kind FROM source", {"amount": "*?", "kind": "kind"}),
    "every column at once": ("SELECT max(COLUMNS(*)), 1 AS one FROM source", {"fee": "*?", "one": ""}),
    "a row as a value": ("SELECT source AS whole, fee FROM source", {"whole": "*?", "fee": "fee"}),
}  # fmt: skip
_HOW = {"~": "transformation", "+": "aggregation", "?": "opaque"}


def read(text: str) -> set[tuple[str, str]]:
    """`amount` is amount as it is, `amount~` computed from it, `amount+` aggregated, `amount|filter` filtered by it."""
    found = set()
    for word in text.split():
        column, _, how = word.partition("|")
        last = column[-1]
        found.add((column, how) if how else (column[:-1], _HOW[last]) if last in _HOW else (column, "identity"))
    return found


def lineage_of(query: str, outputs: tuple[str, ...], known: Known = KNOWN) -> dict[str, set[tuple[str, str]]]:
    found = query_columns(query, outputs, known)
    return {
        name: {(item.column, item.how if item.certainty == "certain" else item.certainty) for item in made_of}
        for name, made_of in found.items()
    }


@pytest.mark.parametrize("name", CASES)
def test_a_shape_of_sql(name: str) -> None:
    query, expected = CASES[name]
    assert lineage_of(query, tuple(expected)) == {column: read(text) for column, text in expected.items()}


# the same shapes, asked of the database: what a column is not made of does not change it

TYPES = {
    "user_id": "VARCHAR", "ts": "TIMESTAMP", "amount": "INTEGER", "fee": "INTEGER", "country": "VARCHAR",
    "kind": "VARCHAR", "ok": "BOOLEAN", "tags": "VARCHAR[]", "place": "STRUCT(city VARCHAR, zip INTEGER)",
}  # fmt: skip


def value(column: str, chance: random.Random) -> str:
    word = f"'{chance.choice('abc')}'"
    match TYPES[column]:
        case "INTEGER":
            return str(chance.randint(1, 9))
        case "BOOLEAN":
            return chance.choice(["true", "false"])
        case "TIMESTAMP":
            return f"TIMESTAMP '2026-03-0{chance.randint(1, 9)}'"
        case "VARCHAR[]":
            return f"[{word}, '{chance.choice('abc')}']"
        case "VARCHAR":
            return word
        case _:
            return f"{{'city': {word}, 'zip': {chance.randint(1, 9)}}}"


def table(chance: random.Random) -> dict[str, list[str]]:
    return {column: [value(column, chance) for _ in range(8)] for column in COLUMNS}


@pytest.fixture(scope="module")
def database() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect(":memory:", config={"threads": "1"}) as connection:
        yield connection


def answers(database: duckdb.DuckDBPyConnection, query: str, columns: dict[str, list[str]]) -> dict[str, list[str]]:
    """By output column, its values as text, in any order of rows."""
    rows = ", ".join(f"({', '.join(row)})" for row in zip(*columns.values(), strict=True))
    cast = ", ".join(f"{name}::{TYPES[name]} AS {name}" for name in columns)
    database.execute(f"CREATE OR REPLACE TABLE source AS SELECT {cast} FROM (VALUES {rows}) v({', '.join(columns)})")
    relation = database.sql(query)
    found = relation.fetchall()
    return {name: sorted(repr(row[index]) for row in found) for index, name in enumerate(relation.columns)}


@pytest.mark.parametrize("name", CASES)
def test_what_a_column_is_not_made_of_does_not_change_it(name: str, database: duckdb.DuckDBPyConnection) -> None:
    query, expected = CASES[name]
    chance = random.Random(name)
    columns = table(chance)
    before = answers(database, query, columns)
    assert set(expected) <= set(before)
    found = query_columns(query, tuple(expected), KNOWN)
    for column in COLUMNS:
        unaffected = [out for out, made_of in found.items() if not {column, "*"} & {item.column for item in made_of}]
        for _ in range(2 if unaffected else 0):
            after = answers(database, query, columns | {column: [value(column, chance) for _ in range(8)]})
            assert {out: after[out] for out in unaffected} == {out: before[out] for out in unaffected}


def test_what_a_column_is_made_of_changes_it_in_most_shapes(database: duckdb.DuckDBPyConnection) -> None:
    """The check above would hold for a lineage that names every column."""
    chance = random.Random(1)
    named = changed = 0
    for query, expected in CASES.values():
        found = query_columns(query, tuple(expected), KNOWN)
        columns = table(chance)
        before = answers(database, query, columns)
        for column in sorted({item.column for made_of in found.values() for item in made_of} - {"*"}):
            outs = [out for out, made_of in found.items() if column in {item.column for item in made_of}]
            others = [columns | {column: [value(column, chance) for _ in range(8)]} for _ in range(3)]
            after = [answers(database, query, other) for other in others]
            named += len(outs)
            changed += sum(any(answer[out] != before[out] for answer in after) for out in outs)
    assert named > 120
    assert changed > 0.8 * named


@pytest.mark.parametrize(
    "query, column, expected",
    [
        ("SELECT * FROM source", "amount", "amount"),
        ("SELECT amount + fee AS t FROM source", "t", "amount~ fee~"),
        ("WITH c AS (SELECT * FROM source) SELECT amount FROM c JOIN c d USING (id)", "amount", "amount id|join"),
        ("SELECT s.*, t.n FROM source s JOIN (SELECT id, count(*) AS n FROM source GROUP BY id) t ON s.id = t.id",
         "n", "id|group_by id|join"),
        ("SELECT DISTINCT * FROM source", "amount", "amount *|group_by"),
    ],
)  # fmt: skip
def test_columns_of_the_source_need_not_be_known(query: str, column: str, expected: str) -> None:
    assert lineage_of(query, (column,), Known()) == {column: read(expected)}


def test_a_name_that_may_be_a_column_or_an_alias_is_both_perhaps() -> None:
    query = "SELECT amount * 2 AS twice, twice + 1 AS more FROM source"

    assert lineage_of(query, ("more",), Known()) == {"more": {("amount", "maybe"), ("twice", "maybe")}}
    assert lineage_of(query, ("more",), Known(("amount",), complete=True)) == {"more": {("amount", "transformation")}}
    assert lineage_of(query, ("more",), Known(("amount", "twice"))) == {"more": {("twice", "transformation")}}


def test_names_come_out_as_the_source_spells_them() -> None:
    assert lineage_of("SELECT AMOUNT AS a FROM source", ("a",), Known(("Amount",))) == {"a": {("Amount", "identity")}}
    assert lineage_of('SELECT "AMOUNT" AS a FROM source', ("a",), Known(("Amount",))) == {"a": {("Amount", "identity")}}
    likely = Known(likely=("Amount",))
    assert lineage_of("SELECT AMOUNT AS a FROM SOURCE", ("A",), likely) == {"A": {("Amount", "identity")}}
    assert lineage_of('SELECT "AMOUNT" AS a FROM source', ("a",), Known()) == {"a": {("amount", "identity")}}
    query = "WITH s AS (SELECT Amount AS Net FROM source WHERE PAID) SELECT S.NET AS a FROM S"
    assert lineage_of(query, ("a",), Known()) == {"a": {("amount", "identity"), ("paid", "filter")}}


@pytest.mark.parametrize(
    "query", ["SELEC nonsense", "SELECT a FROM other", "SELECT * FROM source NATURAL JOIN source b"]
)
def test_what_cannot_be_read_is_opaque(query: str) -> None:
    assert lineage_of(query, ("a",), Known()) == {"a": {("*", "opaque")}}


def test_a_condition_of_many_parts_is_one_list() -> None:
    condition = " OR ".join(f"amount = {number}" for number in range(2000))
    assert lineage_of(f"SELECT fee FROM source WHERE {condition}", ("fee",)) == {"fee": read("fee amount|filter")}


def test_one_opaque_column_leaves_the_others_alone() -> None:
    found = lineage_of("SELECT max(COLUMNS(*)) AS m, fee FROM source WHERE ok", ("m", "fee"))
    assert found["fee"] == read("fee ok|filter")


@given(st.text(min_size=1).filter(lambda text: text.isprintable() and text.strip() and not text.startswith("__")))
def test_odd_names_of_columns(name: str) -> None:
    quoted = '"' + name.replace('"', '""') + '"'
    found = query_columns(
        f"SELECT {quoted}, {quoted} || 'x' AS y FROM source", (name, "y"), Known((name,), complete=True)
    )
    if name.casefold() != "y":
        assert {item.column for made_of in found.values() for item in made_of} == {name}
