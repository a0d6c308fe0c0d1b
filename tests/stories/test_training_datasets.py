"""Training datasets: pinned, split, prepared by what the training part teaches, and the same a year later."""

from __future__ import annotations

import datetime as dt
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from tests.shop import at, user

import grange as gr
from grange.errors import (
    ColumnTypeError,
    CorruptStoreError,
    DefinitionError,
    InUseError,
    MissingColumnError,
    NameCollisionError,
    RequestError,
    SourceError,
    UnknownFeatureError,
    UnknownTrainingDatasetError,
    UnsupportedError,
)

USERS = 60
START = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


def history(rows: int = 600, *, shift: float = 0.0) -> pl.DataFrame:
    numbers = np.arange(rows)
    return pl.DataFrame(
        {
            "user_id": [f"u{number % USERS:02d}" for number in numbers],
            "at": [START + dt.timedelta(hours=int(number)) for number in numbers],
            "amount": (numbers % 17).astype(float) + shift,
            "country": [["FR", "NZ", None][number % 3] for number in numbers],
        }
    )


def spine(rows: int = 300) -> pl.DataFrame:
    numbers = np.arange(rows)
    return pl.DataFrame(
        {
            "user_id": [f"u{number * 7 % USERS:02d}" for number in numbers],
            "event_time": [START + dt.timedelta(hours=int(number) + 100, minutes=30) for number in numbers],
            "churned": numbers % 4 == 0,
        }
    )


def spend() -> gr.FeatureGroup:
    return gr.FeatureGroup("spend", entities=user, source=gr.FileSource("data/history.parquet", event_time="at"))


def view(**options: Any) -> gr.FeatureView:
    return gr.FeatureView("churn", features=["spend"], labels=["churned"], **options)


@pytest.fixture
def loaded(store: gr.FeatureStore, project: Path) -> gr.FeatureStore:
    history().write_parquet(project / "data" / "history.parquet")
    spine().write_parquet(project / "data" / "labels.parquet")
    store.apply([spend(), view()])
    store.materialize("spend")
    return store


SHARES = {"train": 0.7, "validation": 0.15, "test": 0.15}


class TestComputing:
    def test_rows_are_those_of_the_point_in_time_join(self, loaded: gr.FeatureStore) -> None:
        dataset = loaded.create_training_dataset("churn", spine())

        expected = loaded.get_historical_features("churn", spine()).to_polars()
        assert dataset.part_names == ("all",)
        assert dataset.to_polars().equals(expected)
        assert (dataset.name, dataset.features, dataset.labels) == ("churn#1", ("amount", "country"), ("churned",))

    def test_parts_are_disjoint_and_complete(self, loaded: gr.FeatureStore) -> None:
        dataset = loaded.create_training_dataset("churn", spine(), split=SHARES)

        parts = [dataset.to_polars(name) for name in ("train", "validation", "test")]
        assert sum(map(len, parts)) == len(dataset) == 300
        assert pl.concat(parts).sort("event_time").equals(dataset.to_polars().sort("event_time"))
        assert len(parts[0]) > 170

    def test_the_order_of_the_spine_does_not_matter_to_a_random_split(self, loaded: gr.FeatureStore) -> None:
        one = loaded.create_training_dataset("churn", spine(), split=SHARES)
        other = loaded.create_training_dataset("churn", spine().sample(fraction=1, shuffle=True, seed=3), split=SHARES)

        for part in SHARES:
            assert one.to_polars(part).sort("event_time").equals(other.to_polars(part).sort("event_time"))

    def test_a_grouped_split_keeps_users_together(self, loaded: gr.FeatureStore) -> None:
        split = gr.GroupedSplit({"train": 0.6, "test": 0.4}, by="user_id")
        dataset = loaded.create_training_dataset("churn", spine(), split=split)

        train, test = (set(dataset.to_polars(part)["user_id"]) for part in ("train", "test"))
        assert train and test and not train & test

    def test_a_stratified_split_has_the_labels_shares(self, loaded: gr.FeatureStore) -> None:
        split = gr.StratifiedSplit({"train": 0.8, "test": 0.2}, by="churned")
        dataset = loaded.create_training_dataset("churn", spine(), split=split)

        assert dataset.to_polars("train")["churned"].sum() == 60
        assert dataset.to_polars("test")["churned"].sum() == 15

    def test_a_split_in_time_leaves_a_gap(self, loaded: gr.FeatureStore) -> None:
        dataset = loaded.create_training_dataset(
            "churn", spine(), split=gr.TimeSplit({"train": 0.8, "test": 0.2}, gap="1d")
        )

        train, test = dataset.to_polars("train"), dataset.to_polars("test")
        assert test["event_time"].min() - train["event_time"].max() > dt.timedelta(days=1)
        assert dataset.meta.left_out == 24

    def test_without_a_spine_start_and_end_make_one(self, loaded: gr.FeatureStore) -> None:
        only = gr.FeatureView("amounts", features=["spend:amount"], labels=["spend:country"])
        loaded.apply(only)
        dataset = loaded.create_training_dataset("amounts", start=START, end=START + dt.timedelta(hours=48))

        assert len(dataset) == 48
        assert loaded.reproduce_training_dataset("amounts").identical

    def test_a_filter_is_added_to_that_of_the_view(self, loaded: gr.FeatureStore) -> None:
        loaded.apply(view(filter="country IS NOT NULL"))
        dataset = loaded.create_training_dataset("churn", spine(), filter="amount > 5")

        rows = dataset.to_polars()
        assert rows["country"].null_count() == 0 and rows["amount"].min() > 5
        assert dataset.meta.left_out == 300 - len(rows)

    def test_immature_labels_are_left_out(self, loaded: gr.FeatureStore) -> None:
        loaded.apply(gr.FeatureView("churn", features=["spend"], labels=[gr.Label("churned", after="30d")]))
        as_of = START + dt.timedelta(days=30, hours=200)
        dataset = loaded.create_training_dataset("churn", spine(), as_of=as_of)

        rows = dataset.to_polars()
        assert len(rows) == 100
        assert rows["event_time"].max() + dt.timedelta(days=30) <= as_of
        assert loaded.reproduce_training_dataset("churn", spine=spine()).identical

    def test_numbers_are_never_used_twice(self, loaded: gr.FeatureStore) -> None:
        loaded.create_training_dataset("churn", spine())
        loaded.create_training_dataset("churn", spine())
        loaded.delete_training_dataset("churn", 2)

        assert loaded.create_training_dataset("churn", spine()).version == 3
        assert [meta.version for meta in loaded.training_datasets("churn")] == [1, 3]


class TestPinning:
    def test_reading_again_gives_the_same_bytes(self, loaded: gr.FeatureStore, project: Path) -> None:
        loaded.create_training_dataset("churn", spine(), split=SHARES)
        folder = project / ".grange" / "offline" / "_training_datasets" / "churn" / "1"
        before = {path.name: path.read_bytes() for path in folder.iterdir()}
        rows = loaded.training_dataset("churn", 1).to_polars()

        history(shift=100).write_parquet(project / "data" / "history.parquet")
        loaded.materialize("spend")

        assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
        assert loaded.training_dataset("churn", 1).to_polars().equals(rows)

    def test_what_it_is_made_of_is_pinned(self, loaded: gr.FeatureStore, project: Path) -> None:
        dataset = loaded.create_training_dataset("churn", spine())
        history(shift=100).write_parquet(project / "data" / "history.parquet")
        loaded.materialize("spend")

        assert [(pin.group, pin.version) for pin in dataset.meta.pins] == [("spend", "1.0.0")]
        with pytest.raises(InUseError, match=r"churn#1"):
            loaded.delete("spend", version="1.0.0")
        with pytest.raises(InUseError, match="churn#1"):
            loaded.delete("spend", cascade=True)
        with pytest.raises(InUseError, match="churn#1"):
            loaded.delete("churn")

    def test_it_is_reproduced_from_what_it_pins(self, loaded: gr.FeatureStore, project: Path) -> None:
        loaded.create_training_dataset("churn", "data/labels.parquet", split=SHARES)
        history(shift=100).write_parquet(project / "data" / "history.parquet")
        loaded.apply([spend().with_(description="other"), view(description="another")])
        loaded.materialize("spend")

        again = loaded.reproduce_training_dataset("churn", 1)

        assert again.identical, again
        assert again.dataset.to_polars("test").equals(loaded.training_dataset("churn", 1).to_polars("test"))

    def test_pushed_rows_are_pinned_too(self, store: gr.FeatureStore, project: Path) -> None:
        clicks = gr.PushSource(
            "clicks", event_time="at", schema={"user_id": "string", "at": "datetime", "amount": "float64"}
        )
        store.apply(
            [gr.FeatureGroup("clicks_of", entities=user, source=clicks), gr.FeatureView("v", features=["clicks_of"])]
        )
        row = {"user_id": "u1", "at": at(1), "amount": 1.0}
        store.push("clicks", [row])
        asked = pl.DataFrame({"user_id": ["u1"], "event_time": [at(9)]})
        store.create_training_dataset("v", asked)

        store.push("clicks", [row | {"at": at(2), "amount": 2.0}])
        store.materialize("clicks_of")

        assert store.get_historical_features("v", asked).to_polars()["amount"].to_list() == [2.0]
        again = store.reproduce_training_dataset("v", 1, spine=asked)
        assert again.identical, again

    def test_another_spine_is_told(self, loaded: gr.FeatureStore) -> None:
        loaded.create_training_dataset("churn", spine(), write=False)

        again = loaded.reproduce_training_dataset("churn", spine=spine(200))

        assert not again.identical
        assert "spine" in str(again)
        with pytest.raises(RequestError, match="polars frame"):
            loaded.reproduce_training_dataset("churn")

    @pytest.mark.parametrize("split", [None, SHARES, gr.TimeSplit("train:0.6,test:0.4", gap="1d"), gr.KFold(3)])
    def test_a_frame_that_was_written_needs_not_be_given_again(self, loaded: gr.FeatureStore, split: Any) -> None:
        loaded.apply(view(transformations=[gr.standard_scaler("amount")], filter="amount > 1"))
        loaded.create_training_dataset("churn", spine(), split=split)
        again = loaded.reproduce_training_dataset("churn")
        assert again.identical, again

    @pytest.mark.parametrize("damage", ["gone", "changed"])
    def test_files_that_are_gone_or_damaged_are_written_again(
        self, loaded: gr.FeatureStore, project: Path, damage: str
    ) -> None:
        rows = loaded.create_training_dataset("churn", "data/labels.parquet", split=SHARES).to_polars()
        with pytest.raises(UnsupportedError, match="as it was"):
            loaded.reproduce_training_dataset("churn", write=True)
        folder = project / ".grange" / "offline" / "_training_datasets" / "churn" / "1"
        if damage == "gone":
            shutil.rmtree(folder)
        else:
            path = folder / "test.parquet"
            path.write_bytes(path.read_bytes()[:-20] + bytes(20))
        with gr.FeatureStore(project) as fresh:
            with pytest.raises(CorruptStoreError):
                fresh.training_dataset("churn").to_polars()
            assert fresh.reproduce_training_dataset("churn", write=True).identical
            assert fresh.training_dataset("churn").to_polars().equals(rows)
            assert fresh.verify() == ()

    def test_one_that_was_not_written_is_written_later(self, loaded: gr.FeatureStore) -> None:
        kept = loaded.create_training_dataset("churn", "data/labels.parquet", write=False)
        with pytest.raises(UnsupportedError, match="not written"):
            loaded.training_dataset("churn")

        assert loaded.reproduce_training_dataset("churn", write=True).identical
        assert loaded.training_dataset("churn").to_polars().equals(kept.to_polars())

    def test_a_damaged_file_is_told(self, loaded: gr.FeatureStore, project: Path) -> None:
        loaded.create_training_dataset("churn", spine())
        (path,) = (project / ".grange" / "offline" / "_training_datasets" / "churn" / "1").glob("*.parquet")
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)

        with gr.FeatureStore(project) as fresh:
            with pytest.raises(CorruptStoreError):
                fresh.training_dataset("churn").to_polars()
            assert any("churn" in finding.path for finding in fresh.verify())

    def test_one_that_was_cut_off_between_files_and_registry_is_entered_again(self, loaded: gr.FeatureStore) -> None:
        rows = loaded.create_training_dataset("churn", spine()).to_polars()
        loaded._parts.registry.remove("training_datasets", "churn#1")
        assert loaded.training_datasets() == ()

        assert [(finding.path, finding.removed) for finding in loaded.verify()] == [("churn#1", False)]
        assert [(finding.path, finding.removed) for finding in loaded.verify(repair=True)] == [("churn#1", True)]

        assert loaded.verify() == ()
        assert loaded.training_dataset("churn").to_polars().equals(rows)

    def test_files_that_are_gone_are_told(self, loaded: gr.FeatureStore, project: Path) -> None:
        loaded.create_training_dataset("churn", spine())
        shutil.rmtree(project / ".grange" / "offline" / "_training_datasets" / "churn" / "1")

        (finding,) = loaded.verify(repair=True)
        assert "gone" in finding.problem and not finding.removed
        assert [meta.version for meta in loaded.training_datasets()] == [1]
        with pytest.raises(CorruptStoreError, match="gone"):
            loaded.training_dataset("churn")
        loaded.delete_training_dataset("churn", 1)
        assert loaded.verify() == ()

    def test_the_difference_of_two(self, loaded: gr.FeatureStore, project: Path) -> None:
        loaded.create_training_dataset("churn", spine(), split=SHARES)
        history(shift=100).write_parquet(project / "data" / "history.parquet")
        loaded.materialize("spend")
        loaded.create_training_dataset("churn", spine(200), split={"train": 0.5, "test": 0.5})

        found = loaded.diff_training_datasets("churn", 1, 2)

        sections = dict(found.sections)
        assert sections["versions"] == ("spend: 1.0.0 -> 1.0.1",)
        assert {"spine", "split", "rows", "statistics"} <= sections.keys()
        assert loaded.diff_training_datasets("churn", 1, 1).identical


class TestPreparing:
    @pytest.fixture
    def prepared(self, loaded: gr.FeatureStore) -> gr.FeatureStore:
        steps = [gr.impute("country", strategy="constant", value="?"), gr.one_hot_encoder("country")]
        loaded.apply(view(transformations=[gr.standard_scaler("amount"), *steps]))
        return loaded

    def test_they_learn_from_the_training_part_alone(self, prepared: gr.FeatureStore) -> None:
        raw = prepared.get_historical_features("churn", spine(), transform=False).to_polars()
        dataset = prepared.create_training_dataset("churn", spine(), split=gr.TimeSplit({"train": 0.5, "test": 0.5}))

        train, test = dataset.to_polars("train"), dataset.to_polars("test")
        learned = raw.head(len(train))["amount"]
        assert train["amount"].to_numpy() == pytest.approx(
            ((learned - learned.mean()) / learned.std(ddof=0)).to_numpy(), rel=1e-12, nan_ok=True
        )
        assert abs(train["amount"].mean() or 0) < 1e-9 < abs(test["amount"].mean() or 0)
        assert "country__FR" in dataset.features and "country" not in dataset.features

    def test_vectors_are_prepared_by_what_was_learned(self, prepared: gr.FeatureStore) -> None:
        prepared.create_training_dataset("churn", spine(), split=SHARES)
        now = START + dt.timedelta(days=300)
        keys = [{"user_id": "u03"}, {"user_id": "u10"}, {"user_id": "nobody"}]

        served = prepared.get_online_features("churn", keys, now=now, training_dataset=1)
        asked = pl.DataFrame({"user_id": [key["user_id"] for key in keys], "event_time": [now] * 3})
        trained = prepared.get_historical_features("churn", asked, training_dataset=1)

        assert served.to_dicts() == trained.to_polars().drop("event_time").to_dicts()
        assert served.to_arrow().to_pylist() == served.to_dicts()
        assert "country__FR" in served.column_names

    def test_raw_values_are_there_when_asked_for(self, prepared: gr.FeatureStore) -> None:
        assert prepared.get_online_features("churn", [{"user_id": "u03"}], transform=False).to_dicts()[0]["country"]

    @pytest.mark.parametrize("ask", ["online", "offline"])
    def test_asking_before_training_is_an_error(self, prepared: gr.FeatureStore, ask: str) -> None:
        with pytest.raises(RequestError, match="training_dataset"):
            if ask == "online":
                prepared.get_online_features("churn", [{"user_id": "u03"}])
            else:
                prepared.get_historical_features("churn", spine())
        with pytest.raises(UnknownTrainingDatasetError):
            prepared.get_online_features("churn", [{"user_id": "u03"}], training_dataset=1)

    @pytest.mark.parametrize("name", ["churned", "user_id", "event_time"])
    def test_they_overwrite_nothing_but_features(self, loaded: gr.FeatureStore, name: str) -> None:
        with pytest.raises(NameCollisionError, match=name):
            loaded.apply(view(transformations=[gr.standard_scaler("amount", outputs=[name])]))
            loaded.create_training_dataset("churn", spine())
        assert loaded.training_datasets() == ()

    def test_what_was_learned_of_another_feature_is_not_used(self, prepared: gr.FeatureStore) -> None:
        prepared.create_training_dataset("churn", spine(), split=SHARES)
        steps = prepared.catalog.view("churn").transformations
        swapped = gr.FeatureView(
            "churn",
            features=["spend:country"],
            derived={"amount": "length(country)"},
            labels=["churned"],
            transformations=steps,
        )
        prepared.apply(swapped)
        for ask in (
            lambda: prepared.get_online_features("churn", [{"user_id": "u03"}], training_dataset=1),
            lambda: prepared.get_historical_features("churn", spine(), training_dataset=1),
        ):
            with pytest.raises(RequestError, match=r"amount.*churn#1"):
                ask()

    def test_they_are_reproduced(self, prepared: gr.FeatureStore) -> None:
        prepared.create_training_dataset("churn", spine(), split=SHARES)
        again = prepared.reproduce_training_dataset("churn", spine=spine())
        assert again.identical, again

    def test_each_fold_learns_for_itself(self, prepared: gr.FeatureStore) -> None:
        prepared.create_training_dataset("churn", spine(), split=gr.KFold(4, time=True))
        dataset = prepared.training_dataset("churn")

        assert dataset.folds == 4
        encoded = ["country___", "country__FR", "country__NZ"]  # what stands for null is no letter, so it is a line
        sizes = []
        for number in range(4):
            x, y, held_x, held_y = dataset.fold(number, frame="polars")
            assert abs(x["amount"].mean()) < 1e-9
            assert len(x) == len(y) and len(held_x) == len(held_y)
            assert x.columns == held_x.columns == ["amount", *encoded]
            sizes.append(len(x))
        assert sizes == sorted(sizes) and sizes[0] > 0

    def test_statistics_are_of_what_was_there_before(self, prepared: gr.FeatureStore) -> None:
        prepared.create_training_dataset("churn", spine(), split=SHARES)

        kept = prepared.training_dataset_statistics("churn", columns=["amount"])

        assert set(kept) == set(SHARES)
        assert kept["train"]["amount"]["max"] == 16.0
        with pytest.raises(UnknownFeatureError):
            prepared.training_dataset_statistics("churn", columns=["amuont"])


class TestHandingOver:
    def test_features_and_labels(self, loaded: gr.FeatureStore) -> None:
        dataset = loaded.create_training_dataset("churn", spine(), split=SHARES)

        x, y = dataset.xy("train")
        assert list(x.columns) == ["amount", "country"] and y.name == "churned"
        assert len(x) == len(y) == len(dataset.to_polars("train"))

    def test_batches_and_samples(self, loaded: gr.FeatureStore) -> None:
        loaded.apply(gr.FeatureView("churn", features=["spend:amount"], labels=["churned"]))
        loaded.create_training_dataset("churn", spine(), split=SHARES)
        dataset = loaded.training_dataset("churn")

        batches = list(dataset.batches("train", size=64))
        assert [set(batch) for batch in batches] == [{"amount", "churned"}] * len(batches)
        assert sum(len(batch["churned"]) for batch in batches) == len(dataset.to_polars("train"))
        samples = dataset.samples("train")
        features, label = samples[0]
        assert features.dtype == np.float32 and features.shape == (1,)
        assert bool(label) == dataset.to_polars("train")["churned"][0]
        assert len(samples) == len(dataset.to_polars("train"))

    def test_scikit_learn_takes_it(self, loaded: gr.FeatureStore) -> None:
        linear = pytest.importorskip("sklearn.linear_model")
        loaded.apply(
            gr.FeatureView(
                "churn", features=["spend:amount"], labels=["churned"], transformations=[gr.impute("amount")]
            )
        )
        dataset = loaded.create_training_dataset("churn", spine(), split=SHARES)
        model = linear.LogisticRegression().fit(*dataset.xy("train"))
        assert 0 <= model.score(*dataset.xy("test")) <= 1

    def test_batches_have_one_type_throughout(self, loaded: gr.FeatureStore, project: Path) -> None:
        frame = history().with_columns(
            count=pl.when(pl.col("at") < pl.col("at").max()).then(pl.col("amount").cast(pl.Int64)),
        )
        frame.write_parquet(project / "data" / "counts.parquet")
        source = gr.FileSource("data/counts.parquet", event_time="at")
        group = gr.FeatureGroup("counted", entities=user, source=source)
        loaded.apply([group, gr.FeatureView("counts", features=["counted:count"], labels=["counted:country"])])
        loaded.materialize("counted")
        dataset = loaded.create_training_dataset("counts")

        types = {str(batch["count"].dtype) for batch in dataset.batches(size=100)}
        assert types == {"float64"}

    def test_a_spine_of_texts_is_as_good_as_one_of_times(self, loaded: gr.FeatureStore, project: Path) -> None:
        spine().write_csv(project / "data" / "labels.csv")
        one = loaded.create_training_dataset("churn", spine(), split=gr.TimeSplit("train:0.5,test:0.5"))
        other = loaded.create_training_dataset("churn", "data/labels.csv", split=gr.TimeSplit("train:0.5,test:0.5"))
        random = [loaded.create_training_dataset("churn", s, split=SHARES) for s in (spine(), "data/labels.csv")]

        assert one.to_polars("test").equals(other.to_polars("test"))
        assert random[0].to_polars("test").equals(random[1].to_polars("test"))


class TestRefusals:
    def test_what_is_no_view_or_no_text(self, loaded: gr.FeatureStore) -> None:
        assert loaded.create_training_dataset(loaded.catalog.view("churn"), spine()).version == 1
        for wrong in (["churn"], 5, None):
            with pytest.raises(RequestError):
                loaded.create_training_dataset(wrong, spine())  # type: ignore[arg-type]
        with pytest.raises(RequestError, match="description"):
            loaded.create_training_dataset("churn", spine(), description=5)  # type: ignore[arg-type]
        with pytest.raises(DefinitionError, match="tags"):
            loaded.create_training_dataset("churn", spine(), tags={"a": 1})  # type: ignore[dict-item]
        with pytest.raises(RequestError, match="frame"):
            loaded.training_dataset("churn").xy(frame="tensor")  # type: ignore[arg-type]

    def test_a_label_that_is_not_brought(self, loaded: gr.FeatureStore) -> None:
        with pytest.raises(MissingColumnError, match="churned"):
            loaded.create_training_dataset("churn", spine().drop("churned"))
        with pytest.raises(MissingColumnError, match="churned"):
            loaded.create_training_dataset("churn")

    def test_a_moment_that_is_to_come(self, loaded: gr.FeatureStore) -> None:
        with pytest.raises(RequestError, match="as_of"):
            loaded.create_training_dataset("churn", spine(), as_of="2999-01-01")

    def test_a_column_that_cannot_be_kept_is_named(self, loaded: gr.FeatureStore) -> None:
        with pytest.raises(ColumnTypeError, match="lunch"):
            loaded.create_training_dataset("churn", spine().with_columns(lunch=pl.lit(dt.time(12))))

    def test_shares_that_do_not_sum_to_one(self, loaded: gr.FeatureStore) -> None:
        with pytest.raises(DefinitionError, match=r"0\.9"):
            loaded.create_training_dataset("churn", spine(), split={"train": 0.7, "test": 0.2})
        assert loaded.training_datasets() == ()

    def test_nothing_left(self, loaded: gr.FeatureStore) -> None:
        with pytest.raises(SourceError, match="no rows"):
            loaded.create_training_dataset("churn", spine(), filter="amount > 1000")
        with pytest.raises(SourceError, match="validation"):
            loaded.create_training_dataset("churn", spine(1), split=SHARES)
        assert loaded.training_datasets() == ()

    def test_what_is_not_there(self, loaded: gr.FeatureStore) -> None:
        dataset = loaded.create_training_dataset("churn", spine(), split=SHARES)
        with pytest.raises(UnknownTrainingDatasetError, match="7"):
            loaded.training_dataset("churn", 7)
        with pytest.raises(UnknownTrainingDatasetError):
            loaded.training_dataset("chrun")
        with pytest.raises(RequestError, match="trian"):
            dataset.read("trian")
        with pytest.raises(UnknownFeatureError):
            dataset.read("train", ["amuont"])
        with pytest.raises(UnsupportedError, match="folds"):
            dataset.fold(0)
