"""The promises of a store of training datasets as tests: subclass, say how to open a store, inherit them all.

class TestMyDatasets(DatasetStoreContract):
    @pytest.fixture
    def open_store(self, tmp_path):
        return lambda: MyDatasets(tmp_path)
"""

from __future__ import annotations

import datetime as dt
import decimal
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from grange.errors import (
    ColumnTypeError,
    ConflictError,
    CorruptStoreError,
    DefinitionError,
    MissingColumnError,
    RequestError,
    SchemaError,
    UnknownTrainingDatasetError,
    UnsupportedError,
)
from grange.frames import Rows
from grange.ports.datasets import FORMATS, DatasetMeta, DatasetStore, Pin
from grange.testing.equality import assert_rows_equal
from grange.types import Schema
from grange.types.arrow import arrow_schema
from grange.types.time import from_micros

NOW: Final = dt.datetime(2026, 3, 1, tzinfo=dt.UTC)
SCHEMA: Final = Schema.of({"user_id": "string", "event_time": "datetime", "amount": "float64", "churned": "boolean"})
ROLES: Final = {"user_id": "key", "event_time": "event_time", "amount": "feature", "churned": "label"}
PLAIN: Final = Schema.of(
    {
        "user_id": "string", "event_time": "datetime", "i8": "int8", "u64": "uint64", "i64": "int64", "f32": "float32",
        "f64": "float64", "flag": "boolean", "raw": "binary", "id": "uuid", "day": "date", "took": "duration",
        "price": "decimal(12,2)", "tiny": "decimal(38,38)", "a.b, \"c\"": "string",
    }
)  # fmt: skip
"""One column of every kind that every format has."""
EVERYTHING: Final = Schema(
    (*PLAIN, *Schema.of({"vector": "list[float32]", "place": "struct{lat:float64,name:string}"}))
)
LETTERS: Final = (
    "",
    "a,b",
    'say "no"',
    "two\nlines",
    "\r\n",
    "\r",
    " padded ",
    "null",
    "nan",
    "007",
    "é\x00z",
    "#",
    "'",
)
"""Text that a file without types takes for something else."""
FLOATS: Final = (0.1, -0.0, float("nan"), float("inf"), -float("inf"), 5e-324, 1 / 3, 1e16, 1.7976931348623157e308)


def schema_of(format_: str) -> Schema:
    """What a format can hold."""
    return PLAIN if format_ == "csv" else EVERYTHING


def draft(version: int = 1, schema: Schema = SCHEMA, **changes: Any) -> DatasetMeta:
    """What is handed to `publish` for the view `churn`."""
    roles = {column.name: ROLES.get(column.name, "feature") for column in schema}
    meta = DatasetMeta(
        view="churn",
        version=version,
        created_at=from_micros(0),
        as_of=NOW,
        format="parquet",
        schema=schema,
        roles=roles,
    )
    return meta.with_(**changes)


def rows(*amounts: float | None) -> pa.Table:
    """One row a day, of users 0, 1, 2 and so on."""
    numbers = range(len(amounts))
    columns: dict[str, Sequence[Any]] = {
        "user_id": [f"u{number}" for number in numbers],
        "event_time": [NOW + dt.timedelta(days=number) for number in numbers],
        "amount": amounts,
        "churned": [None if number == 1 else number % 2 == 0 for number in numbers],
    }
    return pa.table(columns, schema=arrow_schema(SCHEMA))


def one_of_everything() -> pa.Table:
    """Rows of `EVERYTHING` with what is hard to keep, the last all null but for its key."""
    count = len(LETTERS)
    cycle: Callable[[Sequence[Any]], list[Any]] = lambda values: [  # noqa: E731 - short, and used at once
        *(values[number % len(values)] for number in range(count)), None
    ]  # fmt: skip
    first, last = dt.datetime(1, 1, 1, tzinfo=dt.UTC), dt.datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=dt.UTC)
    exact = decimal.Decimal
    columns: dict[str, list[Any]] = {
        "user_id": [*LETTERS, "last"],
        "event_time": cycle([first, NOW, last, NOW + dt.timedelta(microseconds=1)]),
        "i8": cycle([-128, 127, 0]),
        "u64": cycle([2**64 - 1, 0]),
        "i64": cycle([-(2**63), 2**63 - 1]),
        "f32": cycle([0.1, float("nan"), float("inf"), 1e-45]),
        "f64": cycle(FLOATS),
        "flag": cycle([True, False]),
        "raw": cycle([b"", b"\x00\xff", b'",\n']),
        "id": cycle(["00000000-0000-0000-0000-00000000000a", "ffffffff-ffff-ffff-ffff-ffffffffffff"]),
        "day": cycle([dt.date(1, 1, 1), dt.date(2026, 2, 28)]),
        "took": cycle([dt.timedelta(0), dt.timedelta(days=-1, microseconds=1), dt.timedelta(days=99_999)]),
        "price": cycle([exact("-0.01"), exact("9999999999.99"), exact("0.00")]),
        "tiny": cycle([exact(10) ** -38, exact("0.99999999999999999999999999999999999999")]),
        'a.b, "c"': cycle(LETTERS[::-1]),
        "vector": cycle([[], [1.5, None], [float("nan")]]),
        "place": cycle([{"lat": 1.5, "name": ""}, {"lat": None, "name": "é"}]),
    }
    return pa.table(columns, schema=arrow_schema(EVERYTHING))


def publish(
    store: DatasetStore, meta: DatasetMeta | None = None, parts: Mapping[str, pa.Table] | None = None
) -> DatasetMeta:
    """Publish rows by part; `train` and `test` of four rows without."""
    given = {"train": rows(1.0, 2.0, 3.0), "test": rows(4.0)} if parts is None else parts
    made = {name: Rows(arrow=table) for name, table in given.items()}
    return store.publish(draft() if meta is None else meta, made, now=NOW)


class DatasetStoreContract:
    """What every store of training datasets promises."""

    @pytest.fixture
    def open_store(self) -> Callable[[], DatasetStore]:
        """Opens the same store each time it is called."""
        raise NotImplementedError("say how to open the store")

    @pytest.fixture
    def store(self, open_store: Callable[[], DatasetStore]) -> DatasetStore:
        """An empty store."""
        return open_store()

    # finding

    def test_an_empty_store_has_nothing(self, store: DatasetStore) -> None:
        """No views, nothing wrong; asking for a training dataset is an error that names it."""
        assert isinstance(store, DatasetStore)
        assert (store.views(), store.versions("churn"), store.verify(), store.verify("churn")) == ((), (), (), ())
        for ask in (store.meta, store.read, store.files, store.batches, store.delete):
            with pytest.raises(UnknownTrainingDatasetError, match="'churn' has no training dataset 1"):
                ask("churn", 1)

    def test_a_name_never_leads_elsewhere(self, store: DatasetStore) -> None:
        """Views, parts and numbers that could be paths are refused by every call, and nothing is stored."""
        for view in ("../churn", "a/b", "", ".", "_locks", "/etc"):
            for ask in (store.meta, store.read, store.files, store.delete):
                with pytest.raises(DefinitionError):
                    ask(view, 1)
            with pytest.raises(DefinitionError):
                store.versions(view)
            with pytest.raises(DefinitionError):
                publish(store, draft(view=view))
        for number in (0, -1, True, "1", "../1", 1.0):
            with pytest.raises(RequestError):
                store.meta("churn", number)  # type: ignore[arg-type]
            with pytest.raises(RequestError):
                publish(store, draft(version=number))  # type: ignore[arg-type]
        for part in ("../train", "a/b", "", ".meta", "two words"):
            with pytest.raises(DefinitionError):
                publish(store, parts={part: rows(1.0)})
        with pytest.raises(DefinitionError, match="apart from case"):
            publish(store, parts={"train": rows(1.0), "Train": rows(2.0)})
        assert (store.views(), store.verify()) == ((), ())

    def test_views_and_numbers_are_listed(self, store: DatasetStore) -> None:
        """By name, and as numbers: 10 comes after 9."""
        for number in (10, 9, 1):
            publish(store, draft(number))
        publish(store, draft(3, view="basket"))
        assert store.views() == ("basket", "churn")
        assert (store.versions("churn"), store.versions("basket"), store.versions("other")) == ((1, 9, 10), (3,), ())

    def test_an_error_names_what_is_near(self, store: DatasetStore) -> None:
        """The numbers there are, a view like it, the part that was meant, the column that was meant."""
        publish(store)
        with pytest.raises(UnknownTrainingDatasetError) as error:
            store.meta("churn", 2)
        assert error.value.found == "1"
        with pytest.raises(UnknownTrainingDatasetError) as error:
            store.meta("chrun", 1)
        assert error.value.closest == ("churn",)
        with pytest.raises(UnknownTrainingDatasetError, match="no part 'tset'") as error:
            store.read("churn", 1, "tset")
        assert error.value.closest == ("test",)
        with pytest.raises(MissingColumnError, match="no column 'amuont'") as missing:
            store.read("churn", 1, "train", ["amuont"])
        assert missing.value.closest == ("amount",)

    # publishing and reading

    @pytest.mark.parametrize("format_", FORMATS)
    def test_rows_come_back_as_they_were(self, store: DatasetStore, format_: str) -> None:
        """Same rows, same order, same types, nulls apart from empty text, in every format."""
        schema = schema_of(format_)
        table = one_of_everything().select(list(schema.names))
        parts = {"train": table, "test": table.slice(0, 0), "validation": table.slice(2, 3)}
        publish(store, draft(schema=schema, format=format_), parts)
        for name, expected in parts.items():
            assert_rows_equal(store.read("churn", 1, name).arrow, expected)
            for column in ("f32", "f64"):  # equality takes all zeros for equal
                assert _signs(store.read("churn", 1, name).arrow, column) == _signs(expected, column)
        assert store.verify() == ()

    @pytest.mark.parametrize("format_", FORMATS)
    def test_one_column_of_nulls(self, store: DatasetStore, format_: str) -> None:
        """A row without a value is a row."""
        schema = Schema.of({"x": "string"})
        table = pa.table({"x": [None, "", None]}, schema=arrow_schema(schema))
        publish(store, draft(schema=schema, format=format_), {"all": table})
        assert store.read("churn", 1).arrow.column("x").to_pylist() == [None, "", None]

    @pytest.mark.parametrize("format_", FORMATS)
    def test_columns_are_chosen(self, store: DatasetStore, format_: str) -> None:
        """Those asked for, in the order asked for; all of them without; none at all is an error."""
        schema = schema_of(format_)
        table = one_of_everything().select(list(schema.names))
        publish(store, draft(schema=schema, format=format_), {"train": table})
        wanted = ["took", 'a.b, "c"', "raw"]
        assert_rows_equal(store.read("churn", 1, "train", wanted).arrow, table.select(wanted))
        (batch,) = store.batches("churn", 1, "train", wanted)
        assert_rows_equal(pa.Table.from_batches([batch]), table.select(wanted))
        with pytest.raises(RequestError):
            store.read("churn", 1, "train", [])

    def test_without_a_part_all_are_read(self, store: DatasetStore) -> None:
        """One after the other, in their order, which is not that of their names."""
        publish(store)
        assert store.read("churn", 1).arrow.column("amount").to_pylist() == [1.0, 2.0, 3.0, 4.0]
        assert [part.name for part in store.meta("churn", 1).parts] == ["train", "test"]

    @pytest.mark.parametrize("format_", FORMATS)
    @pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 65_536])
    def test_batches_have_the_size_asked_for(self, store: DatasetStore, format_: str, size: int) -> None:
        """Across parts too; the last has what is left; no rows are no batch."""
        publish(store, draft(format=format_))
        batches = list(store.batches("churn", 1, size=size))
        assert [batch.num_rows for batch in batches] == [size] * (4 // size) + ([4 % size] if 4 % size else [])
        assert_rows_equal(pa.Table.from_batches(batches), pa.concat_tables([rows(1.0, 2.0, 3.0), rows(4.0)]))
        publish(store, draft(2, format=format_), {"none": rows()})
        assert list(store.batches("churn", 2, size=size)) == []

    def test_a_batch_has_rows(self, store: DatasetStore) -> None:
        """A size below one is refused before the first batch is asked for."""
        publish(store)
        for size in (0, -1, True, 1.5):
            with pytest.raises(RequestError):
                store.batches("churn", 1, size=size)  # type: ignore[arg-type]

    @pytest.mark.parametrize("format_", FORMATS)
    def test_many_rows(self, store: DatasetStore, format_: str) -> None:
        """More than a row group, and batches that do not fit into one."""
        count = 300_000
        table = pa.table(
            {"n": pa.array(range(count)), "t": pa.array([f"t{n}" for n in range(count)], pa.large_string())}
        )
        schema = Schema.of({"n": "int64", "t": "string"})
        publish(store, draft(schema=schema, format=format_), {"all": table})
        assert store.read("churn", 1).arrow.equals(table)
        batches = list(store.batches("churn", 1, size=70_001))
        assert [batch.num_rows for batch in batches] == [70_001] * 4 + [count - 4 * 70_001]
        assert pa.Table.from_batches(batches).equals(table)

    def test_metadata_says_what_was_stored(self, store: DatasetStore, open_store: Callable[[], DatasetStore]) -> None:
        """The draft's own words, counts, hashes and files; the same from `publish` and `meta`, for whoever opens it."""
        said = draft(
            pins=(Pin("spend", "1.0.0", 7), Pin("age", "0.0.0")),
            spine={"file": "s.parquet"},
            spine_hash="s",
            view_definition={"features": ["spend"]},
            view_fingerprint="f",
            split={"type": "random"},
            filter="amount > 0",
            transformations={"scaler": [0.5, None]},
            code_hashes={"spend": "c"},
            libraries={"polars": "2"},
            left_out=3,
            statistics={"train": {}},
            description="d",
            tags={"tier": "gold"},
            extra={"more": [1]},
        )
        meta = publish(store, said)
        assert meta == store.meta("churn", 1) == open_store().meta("churn", 1)
        assert meta == said.with_(created_at=NOW, parts=meta.parts)
        assert DatasetMeta.from_dict(meta.to_dict()) == meta
        assert [(part.name, part.rows) for part in meta.parts] == [("train", 3), ("test", 1)]
        assert (meta.rows, meta.status, meta.schema) == (4, "written", SCHEMA)
        for part in meta.parts:
            assert part.size_bytes == sum(file.size_bytes for file in part.files) > 0
            assert len(part.content_hash) == len(part.files[0].sha256) == 64
        assert meta.size_bytes == sum(part.size_bytes for part in meta.parts)

    def test_equal_rows_have_equal_hashes(self, store: DatasetStore) -> None:
        """Whatever the format, the chunks and the order of columns; another value, order or null is another hash."""
        table = one_of_everything().select(list(PLAIN.names))
        pieces = pa.concat_tables([table.slice(0, 1), table.slice(1, 2), table.slice(3)])
        turned = pieces.select(list(PLAIN.names[::-1]))
        hashes = set()
        for number, (format_, given) in enumerate([("parquet", table), ("csv", pieces), ("arrow", turned)], start=1):
            meta = publish(store, draft(number, schema=PLAIN, format=format_), {"all": given})
            hashes.add(meta.part("all").content_hash)
        assert hashes == {store.content_hash(Rows(arrow=table), PLAIN)}
        for other in (rows(1.0, None), rows(None, 1.0), rows(1.0), rows(1.0, 2.0)):
            hashes.add(store.content_hash(Rows(arrow=other), SCHEMA))
        assert len(hashes) == 5

    def test_equal_rows_are_equal_bytes(self, store: DatasetStore) -> None:
        """In Parquet, however they came in pieces and whatever bits a NaN has."""
        negative = pa.array([b"\x00\x00\x00\x00\x00\x00\xf8\xff"], pa.binary(8)).view(pa.float64())
        table = pa.concat_tables([rows(1.0, None, 3.0), rows(float("nan"))])
        odd = rows(0.0).set_column(2, "amount", negative)
        whole = publish(store, draft(1), {"all": table.combine_chunks()})
        cut = publish(
            store,
            draft(2),
            {"all": pa.concat_tables([rows(1.0, None, 3.0).slice(0, 2), rows(0.0, 0.0, 3.0).slice(2), odd])},
        )
        bytes_of = [[file.sha256 for part in each.parts for file in part.files] for each in (whole, cut)]
        assert bytes_of[0] == bytes_of[1]
        assert whole.part("all").content_hash == cut.part("all").content_hash

    def test_files_are_for_other_tools(self, store: DatasetStore) -> None:
        """Where each part lies, in order, absolute."""
        publish(store)
        train, test = store.files("churn", 1)
        assert (store.files("churn", 1, "train"), store.files("churn", 1, "test")) == ((train,), (test,))
        assert all("://" in path or Path(path).is_absolute() for path in (train, test))

    def test_a_training_dataset_never_changes(self, store: DatasetStore) -> None:
        """A number that is taken is a conflict, also with the same rows, and nothing changes."""
        meta = publish(store)
        for other in ({"train": rows(9.0)}, None):
            with pytest.raises(ConflictError, match="churn#1"):
                publish(store, parts=other)
        assert store.meta("churn", 1) == meta
        assert store.read("churn", 1, "test").arrow.column("amount").to_pylist() == [4.0]
        assert store.verify() == ()

    def test_rows_that_are_not_of_the_schema_are_refused(self, store: DatasetStore) -> None:
        """A column too few or too many, of another type; no parts at all. Nothing is stored."""
        table = rows(1.0)
        text = table.set_column(2, "amount", pa.array(["a"]))
        refused: list[tuple[type[Exception], Mapping[str, pa.Table]]] = [
            (SchemaError, {"train": table.drop_columns(["amount"])}),
            (SchemaError, {"train": table, "test": table.append_column("more", pa.array([1]))}),
            (ColumnTypeError, {"train": text}),
            (SchemaError, {}),
        ]
        for error, parts in refused:
            with pytest.raises(error, match="churn#1"):
                publish(store, parts=parts)
        with pytest.raises(SchemaError, match="churn#1"):
            publish(store, draft(schema=Schema()), {"train": pa.table({})})
        with pytest.raises(TypeError):
            publish(store, draft(extra={"when": NOW}))
        assert (store.versions("churn"), store.verify()) == ((), ())

    def test_roles_are_those_of_the_columns(self) -> None:
        """A column without a role, a role without a column, an unknown role, format or status."""
        wrong: list[dict[str, Any]] = [
            {"roles": {}}, {"roles": {**ROLES, "more": "feature"}}, {"roles": {**ROLES, "amount": "fature"}},
            {"format": "xls"}, {"status": "lost"},
        ]  # fmt: skip
        for changes in wrong:
            with pytest.raises(SchemaError, match="churn#1"):
                draft(**changes)

    def test_csv_says_what_it_cannot_hold(self, store: DatasetStore) -> None:
        """Lists and structs are refused before anything is written."""
        table = one_of_everything()
        with pytest.raises(UnsupportedError, match="churn#1") as error:
            publish(store, draft(schema=EVERYTHING, format="csv"), {"train": table})
        assert error.value.found == "vector, place"
        assert store.versions("churn") == ()

    def test_one_that_is_declared_has_no_files(self, store: DatasetStore) -> None:
        """Its rows are counted and hashed, so that it can be told whether it was computed again; it cannot be read."""
        written = publish(store)
        meta = publish(store, draft(2, status="declared"))
        assert [(part.name, part.rows, part.content_hash) for part in meta.parts] == [
            (part.name, part.rows, part.content_hash) for part in written.parts
        ]
        assert (meta, meta.size_bytes, store.files("churn", 2), store.verify()) == (store.meta("churn", 2), 0, (), ())
        for ask in (store.read, store.batches):
            with pytest.raises(UnsupportedError, match="churn#2"):
                ask("churn", 2, "train")
        store.delete("churn", 2)
        assert store.versions("churn") == (1,)

    # removing, damage, others at work

    def test_one_is_removed(self, store: DatasetStore, open_store: Callable[[], DatasetStore]) -> None:
        """With all its files, alone; its number may be published anew by whoever says so."""
        for number in (1, 2):
            publish(store, draft(number))
        files = store.files("churn", 1)
        store.delete("churn", 1)
        assert (store.versions("churn"), open_store().versions("churn")) == ((2,), (2,))
        assert not any(Path(path).exists() for path in files)
        with pytest.raises(UnknownTrainingDatasetError):
            store.delete("churn", 1)
        store.delete("churn", 2)
        assert (store.views(), store.verify()) == ((), ())

    @pytest.mark.parametrize("format_", FORMATS)
    def test_damage_is_found(self, open_store: Callable[[], DatasetStore], format_: str) -> None:
        """Changed, shortened or missing files are errors when read and findings of `verify`; other parts are fine."""
        store = open_store()
        publish(store, draft(format=format_))
        (path,) = (Path(name) for name in store.files("churn", 1, "test"))
        sound = path.read_bytes()
        for damaged in (sound[: len(sound) // 2], sound[:-3] + bytes([sound[-3] ^ 1]) + sound[-2:], b"", None):
            if damaged is None:
                path.unlink()
            else:
                path.write_bytes(damaged)
            for ask in (store.read, lambda *at: list(store.batches(*at))):
                with pytest.raises(CorruptStoreError, match="churn#1"):
                    ask("churn", 1, "test")
            (finding,) = store.verify("churn", repair=True)
            assert (finding.removed, "churn#1" in finding.problem) == (False, True)
            assert len(store.read("churn", 1, "train")) == 3
        store.delete("churn", 1)
        assert store.verify() == ()

    def test_the_writers_of_a_view_wait_for_each_other(
        self, store: DatasetStore, open_store: Callable[[], DatasetStore]
    ) -> None:
        """While one thread holds the lock another cannot take it; the same thread may publish; other views go on."""
        other, refused = open_store(), threading.Event()

        def attempt() -> None:
            with pytest.raises(ConflictError, match="churn"), other.lock("churn", timeout=0.05):
                pass
            publish(other, draft(view="basket"))
            refused.set()

        with store.lock("churn", timeout=1):
            thread = threading.Thread(target=attempt)
            thread.start()
            thread.join(timeout=60)
            publish(store)
        assert refused.is_set()
        with other.lock("churn", timeout=1):
            assert store.views() == ("basket", "churn")

    def test_many_publish_at_once(self, open_store: Callable[[], DatasetStore]) -> None:
        """Of threads that want one number one gets it; other numbers are all there."""
        taken: list[int] = []

        def work(number: int) -> None:
            store = open_store()
            publish(store, draft(number + 2))
            try:
                publish(store, parts={"train": rows(float(number))})
            except ConflictError:
                return
            taken.append(number)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=60)
        store = open_store()
        assert (store.versions("churn"), len(taken), store.verify()) == ((1, 2, 3, 4, 5), 1, ())
        assert store.read("churn", 1).arrow.column("amount").to_pylist() == [float(taken[0])]


def _signs(table: pa.Table, column: str) -> list[bool | None]:
    """Which numbers are negative, zeros included."""
    values = pc.divide(pa.scalar(1.0, table.schema.field(column).type), table.column(column))
    return [None if value is None else str(value).startswith("-") for value in values.to_pylist()]
