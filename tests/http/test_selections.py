"""Features as objects in requests: under other names, by other keys, strictly before; what they mean, what they are
refused for, and that no policy is got past by another name."""

from __future__ import annotations

import datetime as dt
import io
import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, urlencode

import msgspec
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.http.conftest import Client

import grange as gr
from grange.definitions import FeatureSelection
from grange.definitions.serialize import to_data
from grange.http import plans
from grange.http.app import create_app, project_of
from grange.http.bodies import SelectionBody
from grange.http.context import Projects
from grange.http.selections import MOST_TIMES, SelectedFeatures
from grange.security.policies import Policy

ONLINE = "/api/v1/serving/online"
HISTORICAL = "/api/v1/serving/historical"
ARROW = "application/vnd.apache.arrow.stream"
MSGPACK = "application/msgpack"
NOW = "2026-03-20T00:00:00Z"
ROWS = [{"user_id": "u1", "shop_id": 1, "buyer": "u2"}, {"user_id": "nobody", "shop_id": 2, "buyer": "u1"}]
SPINE = [
    {"user_id": "u1", "buyer": "u2", "event_time": "2026-03-09T00:00:00Z"},
    {"user_id": "u2", "buyer": "u1", "event_time": "2026-03-06T00:00:00Z"},
]
SELECTIONS: dict[str, list[str | FeatureSelection]] = {
    "another name": [gr.select("spend", "visits", rename={"visits": "times"})],
    "beside the old name": ["spend:visits", gr.select("spend", "visits", rename={"visits": "times"})],
    "a prefix": [gr.select("spend", prefix="own_"), "shops"],
    "several features": [gr.select("spend", "visits", "amount")],
    "another key": ["spend:visits", gr.select("spend", on={"user_id": "buyer"}, prefix="buyer_")],
    "strictly before": [gr.select("spend", exact_matches=False)],
    "a version": [gr.select("spend", "amount", version="1.0.0", rename={"amount": "paid"})],
    "a join": [gr.select("spend", join="inner")],
    "a view": [gr.select("careful"), gr.select("shops", rename={"country": "land"})],
}


def sent(features: list[str | FeatureSelection]) -> list[Any]:
    """As a request has them."""
    return [item if isinstance(item, str) else data_of(item) for item in features]


def data_of(selection: FeatureSelection) -> dict[str, Any]:
    """As a view's definition has it."""
    data: dict[str, Any] = to_data(gr.FeatureView("any", features=[selection]))["features"][0]
    return data


def arrow(rows: list[dict[str, Any]]) -> bytes:
    table = pa.Table.from_pylist(rows)
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def online(client: Client, features: Any, **options: Any) -> Any:
    body = {"features": features, "rows": ROWS, "now": NOW, "statuses": True, "event_times": True}
    return client.post(ONLINE, json=body, **options)


def historical(client: Client, features: Any, **options: Any) -> Any:
    return client.post(HISTORICAL, json={"features": features, "rows": SPINE}, **options)


def table_of(answer: Any) -> pa.Table:
    assert answer.status_code == 200, answer.text
    return pa.ipc.open_stream(answer.content).read_all()


class TestMeaning:
    @pytest.mark.parametrize("name", SELECTIONS)
    def test_vectors_are_what_the_library_says(self, client: Client, store: gr.FeatureStore, name: str) -> None:
        features = SELECTIONS[name]
        expected = store.get_online_features(features, ROWS, now=NOW)
        answer = online(client, sent(features))
        assert answer.status_code == 200, answer.text
        assert answer.json()["features"] == expected.to_dicts()
        assert answer.json()["statuses"] == expected.statuses
        again = online(client, sent(features), headers={"accept": ARROW})
        assert table_of(again).equals(expected.to_arrow())

    @pytest.mark.parametrize("name", SELECTIONS)
    def test_history_is_what_the_library_says(self, client: Client, store: gr.FeatureStore, name: str) -> None:
        features = [item for item in SELECTIONS[name] if "shops" not in str(item)]
        expected = store.get_historical_features(features, SPINE).to_arrow()
        options = quote(json.dumps({"features": sent(features)}))
        found = client.post(
            HISTORICAL, content=arrow(SPINE), headers={"content-type": ARROW, "x-grange-options": options}
        )
        assert table_of(found).drop_columns("event_time").to_pylist() == expected.drop_columns("event_time").to_pylist()
        assert historical(client, sent(features)).json()["columns"] == expected.column_names

    def test_messagepack(self, client: Client) -> None:
        body = msgspec.msgpack.encode({"features": sent(SELECTIONS["another name"]), "rows": ROWS, "now": NOW})
        answer = client.post(ONLINE, content=body, headers={"content-type": MSGPACK})
        assert [row["times"] for row in msgspec.msgpack.decode(answer.content)["features"]] == [3, None]

    @pytest.mark.parametrize("name", ["another name", "beside the old name", "a version"])
    def test_in_a_query_they_are_json(self, client: Client, store: gr.FeatureStore, name: str) -> None:
        features = [item if isinstance(item, str) else json.dumps(item) for item in sent(SELECTIONS[name])]
        query = urlencode({"features": features, "now": NOW}, doseq=True)
        headers = {"content-type": ARROW, "accept": ARROW}
        found = client.post(f"{ONLINE}?{query}", content=arrow([{"user_id": "u1"}]), headers=headers)
        expected = store.get_online_features(SELECTIONS[name], [{"user_id": "u1"}], now=NOW)
        assert table_of(found).equals(expected.to_arrow())

    def test_what_is_left_out_is_as_in_a_definition(self, client: Client) -> None:
        answer = online(client, [{"source": "spend"}])
        assert answer.json()["features"] == online(client, ["spend"]).json()["features"]

    def test_it_may_be_a_job(self, client: Client) -> None:
        features = ["spend:amount", {"source": "spend", "features": ["visits"], "rename": {"visits": "times"}}]
        answer = client.post(f"{HISTORICAL}?job=true", json={"features": features, "rows": SPINE})
        job = client.get(answer.headers["location"] + "?wait=30").json()
        assert job["status"] == "succeeded", job
        assert job["what"] == "spend:amount, spend:visits as visits=times"
        assert job["request"]["features"] == features
        assert [row["times"] for row in client.get(job["rows_url"]).json()["rows"]] == [3, 1]

    def test_every_field_is_that_of_a_definition(self) -> None:
        assert set(SelectedFeatures.__struct_fields__) == set(SelectionBody.model_fields)
        assert set(SelectedFeatures.__struct_fields__) == set(FeatureSelection.__dataclass_fields__)

    def test_the_document_has_them(self, client: Client) -> None:
        schemas = client.get("/openapi.json").json()["components"]["schemas"]
        assert set(schemas["SelectedFeatures"]["properties"]) == set(SelectedFeatures.__struct_fields__)
        for name in ("OnlineRequest", "HistoricalOptions"):
            assert "#/components/schemas/SelectedFeatures" in str(schemas[name]["properties"]["features"])

    @given(st.data())
    def test_any_selection_arrives_as_it_is(self, data: st.DataObject) -> None:
        """And two that are equal have one hash, whatever the order of their fields."""
        columns = st.text("abcé .:-", min_size=1, max_size=5).filter(str.strip)
        named = tuple(data.draw(st.lists(columns, max_size=3, unique=True)))
        selection = gr.select(
            "group",
            *named,
            version=data.draw(st.sampled_from([None, "1.2.3"])),
            on=data.draw(st.dictionaries(columns, columns, max_size=2)),
            rename={name: data.draw(columns) for name in named[:2]},
            prefix=data.draw(st.sampled_from(["", "a_"])),
            exact_matches=data.draw(st.booleans()),
            join=data.draw(st.sampled_from(["left", "inner", "right", "full", "asof"])),
        )
        plain = data_of(selection)
        other = plain | {name: dict(reversed(plain[name].items())) for name in ("on", "rename")}
        found, turned = (msgspec.convert(each, SelectedFeatures) for each in (plain, other))
        assert found.selection() == selection
        assert (found, hash(found)) == (turned, hash(turned))


class TestRefusals:
    @pytest.mark.parametrize(
        ("item", "status", "said"),
        [
            ({}, 422, "source"),
            ({"source": "spend", "rname": {}}, 422, "rname"),
            ({"source": "../spend"}, 422, "source"),
            ({"source": "spend@1.0.0"}, 422, "source"),
            ({"source": "spend", "features": "visits"}, 422, "features"),
            ({"source": "spend", "features": [""]}, 422, "features"),
            ({"source": "spend", "features": ["visit"]}, 404, "spend:visits"),
            ({"source": "spent"}, 404, "spend"),
            ({"source": "spend", "version": "latest"}, 422, "latest"),
            ({"source": "spend", "version": "9.0.0"}, 404, "9.0.0"),
            ({"source": "spend", "version": f"1.0.{'9' * 5000}"}, 422, "29"),
            ({"source": "spend", "on": {"user": "buyer"}}, 422, "join key"),
            ({"source": "spend", "features": ["visits"], "rename": {"amount": "paid"}}, 422, "does not select it"),
            ({"source": "spend", "rename": {"visits": "user_id"}}, 422, "user_id"),
            ({"source": "spend", "rename": {"visits": "amount"}}, 422, "amount"),
            ({"source": "spend", "rename": {"visits": "__row"}}, 422, "__row"),
            ({"source": "spend", "rename": {"visits": "x" * 257}}, 422, "256"),
            ({"source": "spend", "prefix": "__"}, 422, "__"),
            ({"source": "spend", "prefix": "\0"}, 422, "printable"),
            ({"source": "spend", "join": "cross"}, 422, "cross"),
            ({"source": "spend", "exact_matches": "no"}, 422, "exact_matches"),
            ({"source": "careful", "prefix": "own_"}, 422, "whole"),
            (["spend", "1.0.0"], 422, "features[0]"),
            (1, 422, "features[0]"),
        ],
    )
    @pytest.mark.parametrize("ask", [online, historical])
    def test_what_is_wrong_is_said(self, client: Client, ask: Any, item: Any, status: int, said: str) -> None:
        answer = ask(client, [item])
        assert answer.status_code == status, answer.text
        error = answer.json()["error"]
        assert said in f"{error['message']} {error['details']}"

    @pytest.mark.parametrize("text", ["{", '{"source": 1}', '{"source": "spend", "x": 1}', "{}"])
    def test_a_query_that_is_no_selection(self, client: Client, text: str) -> None:
        query = urlencode({"features": text})
        answer = client.post(f"{ONLINE}?{query}", content=arrow(ROWS), headers={"content-type": ARROW})
        assert answer.status_code == 422, answer.text
        assert "query" in answer.json()["error"]["message"]

    def test_the_older_shape_takes_names_alone(self, client: Client) -> None:
        body: dict[str, Any] = {"features": [{"source": "spend"}], "entities": {"user": ["u1"]}}
        assert client.post(ONLINE, json=body).status_code == 422
        table = {"columns": ["user_id", "event_timestamp"], "data": [["u1", "2026-03-09"]]}
        for odd in ({"features": [{"source": "spend"}]}, {"features": 1}, {"feature_sets": [{"source": "spend"}]}):
            answer = client.post(HISTORICAL, json={**odd, "entity_df": table})
            assert answer.status_code == 422, answer.text
            assert "lists of names" in answer.json()["error"]["message"]


class TestBounds:
    """Names come to no more columns than there are. Objects could come to any number."""

    @pytest.mark.parametrize("ask", [online, historical])
    def test_a_feature_is_taken_a_few_times_only(self, client: Client, ask: Any) -> None:
        most = [{"source": "spend", "features": ["visits"], "prefix": f"p{place}_"} for place in range(MOST_TIMES)]
        assert ask(client, most).status_code == 200
        assert ask(client, most * 100).status_code == 200  # the same again is no more
        for one in ({"source": "spend", "prefix": "q_"}, {"source": "spend", "rename": {"visits": "q"}}):
            answer = ask(client, [*most, one])
            assert answer.status_code == 413, answer.text
            assert answer.json()["error"]["details"]["found"] == f"spend:visits {MOST_TIMES + 1} times"

    @pytest.mark.parametrize("ask", [online, historical])
    def test_many_features_need_a_view(self, client: Client, ask: Any) -> None:
        objects = [{"source": "spend", "prefix": f"p{place}_"} for place in range(501)]
        answer = ask(client, objects)
        assert answer.status_code == 413
        assert "feature view" in answer.json()["error"]["details"]["try"]

    def test_more_items_than_any_request_has(self, client: Client) -> None:
        for ask in (online, historical):
            assert ask(client, [{"source": "spend"}] * 10_001).status_code == 413

    def test_what_is_remembered_of_them_is_bounded(self, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(plans, "_MOST_NAMES", 50)
        kept = []
        clear, made = plans.Plans, plans.Plans.make

        def make(self: Any, *args: Any) -> Any:
            plan = made(self, *args)
            kept.append((len(self._known), self._names))
            return plan

        monkeypatch.setattr(clear, "make", make)
        for place in range(30):
            assert online(client, [{"source": "spend", "prefix": f"p{place}_"}]).status_code == 200
        assert len(kept) == 30
        assert max(names for _, names in kept) <= 50
        assert max(count for count, _ in kept) == 16  # three names each: the object, and two features

    def test_a_request_is_known_again(self, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
        made = []
        make = plans.Plans.make
        monkeypatch.setattr(plans.Plans, "make", lambda self, *args: made.append(1) or make(self, *args))
        first = {"source": "spend", "rename": {"visits": "v", "amount": "a"}}
        same = {"rename": {"amount": "a", "visits": "v"}, "source": "spend", "join": "left"}
        answers = [online(client, [item]).json()["features"] for item in (first, first, same)]
        assert answers[0] == answers[1] == answers[2]
        assert len(made) == 1


MASKED = [
    *SELECTIONS.values(),
    [gr.select("paced", "pace", rename={"pace": "speed"})],
    ["spend:amount", gr.select("spend:visits", rename={"visits": "note"})],
]


class Guarded:
    """A shop with a viewer, of whose features some are hidden from viewers."""

    def __init__(self, store: gr.FeatureStore, effect: Any) -> None:
        now = dt.datetime.now(dt.UTC)
        halved = gr.Transformation(
            "halved", sql={"pace": "visits / 2.0"}, inputs=["visits"], outputs={"pace": "float64"}
        )
        paced = gr.FeatureGroup(
            "paced",
            entities=gr.Entity("user", join_keys=["user_id"]),
            source=gr.FileSource("data/spend.parquet", event_time="at", created_time="loaded"),
            on_demand=[halved],
        )
        store.apply([paced])
        store.materialize("paced")
        on = ("feature:spend:visits", "feature:paced:visits")
        store.security.policies.create(Policy("hidden", effect, to=("role:viewer",), on=on), now=now)
        keys = store.security.keys
        self.keys = {
            "admin": keys.create("admin", role="admin", now=now).text,
            "viewer": keys.create("viewer", role="viewer", now=now).text,
            "narrow": keys.create("narrow", role="viewer", scopes=("serve:shops", "read:shops"), now=now).text,
        }
        project = project_of(store)
        self.client = Client(create_app(Projects(store.config, {project.name: project}, project.name)))

    def headers(self, who: str, **more: str) -> dict[str, str]:
        return {"authorization": f"Bearer {self.keys[who]}", **more}


@pytest.fixture
def masking(store: gr.FeatureStore) -> Iterator[Guarded]:
    guarded = Guarded(store, "mask")
    yield guarded
    guarded.client.close()


@pytest.fixture
def denying(store: gr.FeatureStore) -> Iterator[Guarded]:
    guarded = Guarded(store, "deny")
    yield guarded
    guarded.client.close()


def hidden_columns(features: list[str | FeatureSelection]) -> set[str]:
    """The columns of an answer that `visits` is in."""
    found = set()
    for item in features:
        selection = gr.select(item) if isinstance(item, str) else item
        if selection.source in ("spend", "careful") and (not selection.features or "visits" in selection.features):
            found.add(selection.output_name("visits"))
        if selection.source == "paced":
            found.add(selection.output_name("pace"))
    return found


class TestPolicies:
    @pytest.mark.parametrize("features", MASKED, ids=str)
    def test_another_name_shows_no_masked_value(self, masking: Guarded, features: Any) -> None:
        names = hidden_columns(features)
        seen = online(masking.client, sent(features), headers=masking.headers("admin")).json()
        answer = online(masking.client, sent(features), headers=masking.headers("viewer"))
        assert answer.status_code == 200, answer.text
        found = answer.json()
        for row, whole in zip(found["features"], seen["features"], strict=True):
            assert {name: row[name] for name in whole} == whole | dict.fromkeys(names)
        assert found["statuses"] == [row | dict.fromkeys(names, "MASKED") for row in seen["statuses"]]
        assert found["event_times"] == [
            {name: None if name in names else time for name, time in row.items()} for row in seen["event_times"]
        ]
        assert names <= set(found["metadata"]["masked"])
        assert any(row[name] is not None for row in seen["features"] for name in names) or not names
        table = table_of(online(masking.client, sent(features), headers=masking.headers("viewer", accept=ARROW)))
        assert all(table[name].null_count == len(ROWS) for name in names)

    @pytest.mark.parametrize("features", MASKED, ids=str)
    def test_nor_does_history(self, masking: Guarded, features: Any) -> None:
        features = [item for item in features if "shops" not in str(item)]
        names = hidden_columns(features)
        seen = historical(masking.client, sent(features), headers=masking.headers("admin")).json()
        answer = historical(masking.client, sent(features), headers=masking.headers("viewer"))
        assert answer.status_code == 200, answer.text
        assert answer.json()["rows"] == [row | dict.fromkeys(names) for row in seen["rows"]]
        table = table_of(historical(masking.client, sent(features), headers=masking.headers("viewer", accept=ARROW)))
        assert all(table[name].null_count == len(table) for name in names)
        job = masking.client.post(
            f"{HISTORICAL}?job=true",
            json={"features": sent(features), "rows": SPINE},
            headers=masking.headers("viewer"),
        )
        done = masking.client.get(job.headers["location"] + "?wait=30", headers=masking.headers("viewer")).json()
        rows = masking.client.get(done["rows_url"], headers=masking.headers("viewer")).json()["rows"]
        assert rows == answer.json()["rows"]

    @pytest.mark.parametrize("features", MASKED, ids=str)
    def test_it_is_what_a_view_of_them_is_answered(
        self, masking: Guarded, store: gr.FeatureStore, features: Any
    ) -> None:
        store.apply(gr.FeatureView("of_them", features=features))
        for ask, part in ((online, "features"), (online, "statuses"), (online, "event_times"), (historical, "rows")):
            if ask is historical and "shops" in str(features):
                continue
            listed = ask(masking.client, sent(features), headers=masking.headers("viewer"))
            view = ask(masking.client, "of_them", headers=masking.headers("viewer"))
            assert (listed.status_code, view.status_code) == (200, 200), (listed.text, view.text)
            assert listed.json()[part] == view.json()[part]

    @pytest.mark.parametrize("features", [each for each in MASKED if hidden_columns(each)], ids=str)
    @pytest.mark.parametrize("ask", [online, historical])
    def test_another_name_gets_past_no_denial(self, denying: Guarded, ask: Any, features: Any) -> None:
        answer = ask(denying.client, sent(features), headers=denying.headers("viewer"))
        assert answer.status_code == 403, answer.text
        assert "visits" in answer.json()["error"]["message"]
        shown = ask(denying.client, [{"source": "spend", "features": ["amount"]}], headers=denying.headers("viewer"))
        assert shown.status_code == 200

    @pytest.mark.parametrize("ask", [online, historical])
    def test_scopes_count(self, masking: Guarded, ask: Any) -> None:
        objects = [{"source": "spend", "features": ["amount"], "rename": {"amount": "country"}}]
        assert ask(masking.client, objects, headers=masking.headers("narrow")).status_code == 403
