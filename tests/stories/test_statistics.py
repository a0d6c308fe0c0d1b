"""Statistics of versions: computed once, kept as long as the version is there, given back as they were."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from tests.shop import SPEND, at, shops_group, spend_group, user

import grange as gr
from grange.errors import RequestError, StoreUnavailableError, UnknownFeatureError, UnknownVersionError
from grange.frames import Rows
from grange.quality.statistics import profile
from grange.verbs import batches


@pytest.fixture
def shopping(project: Path) -> Iterator[gr.FeatureStore]:
    with gr.FeatureStore(project, online="memory") as store:
        store.apply([spend_group(), shops_group()])
        store.materialize()
        yield store


def documents(store: gr.FeatureStore) -> list[str]:
    return [item.key for item in store._parts.registry.documents("statistics")]


class Reads:
    """How often rows are read."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.columns: list[tuple[str, ...]] = []
        own = batches.StoredRows.batches

        def counted(rows: Any, engine: Any, columns: Any, **options: Any) -> Any:
            self.columns.append(tuple(columns))
            return own(rows, engine, columns, **options)

        monkeypatch.setattr(batches.StoredRows, "batches", counted)


def test_what_was_computed_is_kept_and_given_back(shopping: gr.FeatureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    reads = Reads(monkeypatch)
    first = shopping.statistics("spend")
    again = shopping.statistics("spend@1.0.0")
    assert not first.kept and again.kept and len(reads.columns) == 1
    assert again == first and again.to_dict() == first.to_dict()
    assert documents(shopping) == ["spend@1.0.0"]
    assert [column.name for column in first] == ["user_id", "at", "loaded", "amount", "visits"]
    assert (first.group, first.version, first.rows, first.pending) == ("spend", "1.0.0", 5, 0)
    assert first.column("amount").mean == pytest.approx(46.5 / 4)
    assert first.columns == profile(Rows(polars=shopping.read("spend").polars)).columns


def test_they_outlive_the_process(shopping: gr.FeatureStore, project: Path) -> None:
    first = shopping.statistics("spend", correlations=True)
    with gr.FeatureStore(project) as other:
        again = other.statistics("spend", correlations=True)
    assert again.kept and again == first


def test_only_columns_that_are_not_kept_are_read(shopping: gr.FeatureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    reads = Reads(monkeypatch)
    assert [column.name for column in shopping.statistics("spend", columns=["visits"])] == ["visits"]
    both = shopping.statistics("spend", columns=["visits", "amount"])
    assert [column.name for column in both] == ["visits", "amount"]
    assert shopping.statistics("spend", columns=["amount"]).kept
    shopping.statistics("spend")
    assert reads.columns == [("visits",), ("amount",), ("user_id", "at", "loaded")]
    assert shopping.statistics("spend", compute=True).columns == shopping.statistics("spend").columns
    assert len(reads.columns) == 4


def test_correlations_are_kept_and_parts_of_them_given(shopping: gr.FeatureStore) -> None:
    assert shopping.statistics("spend").correlations is None
    found = shopping.statistics("spend", correlations=True)
    assert not found.kept and found.correlations is not None
    expected = np.corrcoef([10.0, 20.0, 7.5], [1, 2, 1])[0, 1]
    assert found.correlations.between("amount", "visits") == pytest.approx(expected)
    part = shopping.statistics("spend", columns=["visits"], correlations=True)
    assert part.kept and part.correlations is not None and part.correlations.names == ("visits",)
    assert shopping.statistics("spend").correlations is None  # they are not asked for
    assert "correlations" in found.to_dict() and "correlations" not in shopping.statistics("spend").to_dict()


def test_rows_pushed_since_are_described_and_not_kept(project: Path) -> None:
    batch = gr.FileSource("data/spend.parquet", event_time="at")
    source = gr.PushSource("pushed", event_time="at", batch_source=batch)
    with gr.FeatureStore(project, online="memory") as store:
        store.apply(gr.FeatureGroup("spend", entities=user, source=source))
        store.materialize()
        row = SPEND.head(1).with_columns(at=pl.lit(at(15)).cast(pl.Datetime("us", "UTC")), amount=pl.lit(99.0))
        store.push("pushed", row)
        now = store.statistics("spend")
        assert (now.rows, now.pending, now.column("amount").max) == (6, 1, 99.0)
        assert not documents(store) and not store.statistics("spend").kept
        version = store.statistics("spend@1.0.0")
        assert (version.rows, version.pending, version.column("amount").max) == (5, 0, 20.0)
        assert store.statistics("spend@1.0.0").kept


def test_a_group_with_aggregations_is_described_by_its_feature_rows(project: Path) -> None:
    with gr.FeatureStore(project, online="memory") as store:
        store.apply(spend_group(aggregations=[gr.Rolling({"amount": ["sum"]}, windows=["7d"])]))
        store.materialize()
        found = store.statistics("spend")
        assert [column.name for column in found] == ["user_id", "at", "amount__sum__7d"]
        assert found.rows == len(store.read("spend")) and store.statistics("spend").kept


def test_rows_without_a_time_have_no_column_of_times(shopping: gr.FeatureStore) -> None:
    assert [column.name for column in shopping.statistics("shops")] == ["shop_id", "country"]


def test_deleting_a_version_or_a_group_deletes_its_statistics(shopping: gr.FeatureStore, project: Path) -> None:
    SPEND.head(4).write_parquet(project / "data" / "spend.parquet")
    shopping.materialize("spend")
    for name in ("spend@1.0.0", "spend@1.0.1", "shops"):
        shopping.statistics(name)
    shopping.delete("spend@1.0.0")
    assert documents(shopping) == ["shops@1.0.0", "spend@1.0.1"]
    shopping.delete("spend")
    assert documents(shopping) == ["shops@1.0.0"]
    shopping.apply([], prune=True)
    assert documents(shopping) == []


def test_a_group_made_again_does_not_get_the_statistics_of_the_old_one(
    shopping: gr.FeatureStore, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shopping.statistics("spend")

    def away(*_: Any) -> None:
        raise StoreUnavailableError("the registry is away")

    with monkeypatch.context() as patch:  # a crash between deleting rows and deleting what is known of them
        patch.setattr(type(shopping._parts.registry), "remove", away)
        shopping.delete("spend")
    assert documents(shopping) == ["spend@1.0.0"]
    SPEND.head(2).write_parquet(project / "data" / "spend.parquet")
    shopping.apply(spend_group())
    shopping.materialize("spend")
    assert shopping.statistics("spend").rows == 2


def test_what_another_release_kept_is_computed_again(shopping: gr.FeatureStore) -> None:
    first = shopping.statistics("spend")
    registry = shopping._parts.registry
    (document,) = registry.documents("statistics")
    data = document.data | {"profile": {"layout": 99}}
    registry.put("statistics", document.key, data, now=document.created_at)
    again = shopping.statistics("spend")
    assert not again.kept and again.columns == first.columns


def test_a_registry_that_cannot_be_written_withholds_nothing(
    shopping: gr.FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: Any, **__: Any) -> None:
        raise StoreUnavailableError("the registry is away")

    monkeypatch.setattr(type(shopping._parts.registry), "put", away)
    assert shopping.statistics("spend").rows == 5


def test_versions_are_compared(shopping: gr.FeatureStore, project: Path) -> None:
    with pytest.raises(RequestError, match="nothing below version"):
        shopping.compare_statistics("spend")
    SPEND.with_columns(amount=pl.col("amount") * 2).write_parquet(project / "data" / "spend.parquet")
    shopping.materialize("spend")
    found = shopping.compare_statistics("spend")
    changed = {column.name: column for column in found.columns if column.status != "same"}
    assert set(changed) == {"amount"} and found.changed
    mean = next(change for change in changed["amount"].changes if change.statistic == "mean")
    assert mean.after == pytest.approx(2 * mean.before)
    assert shopping.compare_statistics("spend", "1.0.1", "1.0.0").changed
    assert not shopping.compare_statistics("spend", "1.0.0", "1.0.0").changed
    assert sorted(documents(shopping)) == ["spend@1.0.0", "spend@1.0.1"]


def test_what_is_not_there_is_not_found(shopping: gr.FeatureStore) -> None:
    with pytest.raises(UnknownFeatureError) as error:
        shopping.statistics("spend", columns=["amuont"])
    assert error.value.closest[0] == "amount"
    with pytest.raises(UnknownVersionError):
        shopping.statistics("spend@9.0.0")
    with pytest.raises(RequestError, match="no column was named"):
        shopping.statistics("spend", columns=[])


# rows in batches


@pytest.mark.parametrize("engine", ["polars", "duckdb", "reference"])
def test_batches_are_the_rows_in_order_whatever_their_size(project: Path, engine: str) -> None:
    frame = pl.DataFrame(
        {
            "user_id": [f"u{n % 7}" for n in range(200)],
            "at": [at(1 + n // 30, (n // 3) % 24) for n in range(200)],
            "amount": [float(n) for n in range(200)],
        }
    )
    frame.write_parquet(project / "data" / "many.parquet")
    source = gr.FileSource("data/many.parquet", event_time="at")
    with gr.FeatureStore(project, online="memory", engine=engine) as store:
        store.apply(gr.FeatureGroup("many", entities=user, source=source))
        store.materialize()
        stored = batches.StoredRows.of(store._parts.offline.snapshot("many"))
        whole = store.read("many", columns=["amount", "at"]).polars
        for size in (1, 7, 100, 1000):
            parts = list(stored.batches(store._parts.engine(), ["amount", "at"], size=size))
            assert len(parts) == 1 if size == 1000 else len(parts) > 1
            assert pl.concat([part.polars for part in parts]).equals(whole)
        start, end = 1_772_500_000_000_000, 1_772_700_000_000_000
        some = list(stored.batches(store._parts.engine(), ["amount"], start=start, end=end, size=9))
        times = whole["at"].to_physical()
        assert pl.concat([part.polars for part in some])["amount"].equals(
            whole.filter((times >= start) & (times < end))["amount"]
        )


def test_rows_described_in_batches_are_described_as_those_at_once(shopping: gr.FeatureStore) -> None:
    whole = shopping.statistics("spend", compute=True).columns
    stored = batches.StoredRows.of(shopping._parts.offline.snapshot("spend"))
    parts = list(stored.batches(shopping._parts.engine(), ["amount", "visits"], size=2))
    assert len(parts) > 1
    found = profile(iter(parts), ["amount", "visits"])
    assert found.columns == tuple(column for column in whole if column.name in ("amount", "visits"))


def test_reading_and_describing_see_the_same_columns(shopping: gr.FeatureStore) -> None:
    assert shopping.read("spend").column_names == [column.name for column in shopping.statistics("spend")]
