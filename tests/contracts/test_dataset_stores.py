"""The training datasets of every registered offline store keep every promise."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import obstore
import pytest
from tests.contracts.objects import backend_options, on_objects
from tests.servers.s3 import BUCKET, S3Server

from grange.errors import CorruptStoreError
from grange.ports.datasets import DatasetStore
from grange.ports.plugins import backends, create
from grange.testing.datasets import DatasetStoreContract, draft, publish


class TestDatasetStores(DatasetStoreContract):
    """The contract, for the training datasets of each registered offline store."""

    @pytest.fixture(params=sorted(backends("offline_stores")))
    def open_store(self, request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], DatasetStore]:
        """See `DatasetStoreContract`."""
        return lambda: create("offline_stores", request.param, {"root": str(tmp_path)}).datasets


class TestDatasetStoresOnObjects(DatasetStoreContract):
    """The contract, for those that lie in object stores as well."""

    @pytest.fixture(params=on_objects())
    def open_store(self, request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], DatasetStore]:
        """See `DatasetStoreContract`."""
        name, options = backend_options(request, tmp_path)
        return lambda: create("offline_stores", name, options).datasets

    @pytest.fixture
    def elsewhere(self, open_store: Callable[[], DatasetStore], tmp_path: Path) -> Callable[[], DatasetStore]:
        """The store, opened on a machine that has no copies yet."""

        def opened() -> DatasetStore:
            for copy in (tmp_path / ".grange/cache/objects/objects").iterdir():
                copy.unlink()
            return open_store()

        return opened

    @pytest.mark.parametrize("format_", ["parquet", "csv", "arrow"])
    def test_damage_is_found(
        self, open_store: Callable[[], DatasetStore], elsewhere: Callable[[], DatasetStore], s3: S3Server, format_: str
    ) -> None:
        """Changed, shortened or missing objects are errors where they are read first, and findings of `verify`; sound
        copies still serve, and other parts are fine."""
        publish(open_store(), draft(format=format_))
        (url,) = open_store().files("churn", 1, "test")
        key = url.removeprefix(f"s3://{BUCKET}/")
        sound = bytes(obstore.get(s3.client(), key).bytes())
        for damaged in (sound[: len(sound) // 2], sound[:-3] + bytes([sound[-3] ^ 1]) + sound[-2:], b"", None):
            if damaged is None:
                obstore.delete(s3.client(), key)
            else:
                obstore.put(s3.client(), key, damaged)
            store = elsewhere()
            for ask in (store.read, lambda *at, store=store: list(store.batches(*at))):
                with pytest.raises(CorruptStoreError, match="churn#1"):
                    ask("churn", 1, "test")
            (finding,) = store.verify("churn", repair=True)
            assert (finding.removed, "churn#1" in finding.problem) == (False, True)
            assert len(store.read("churn", 1, "train")) == 3
        store.delete("churn", 1)
        assert store.verify() == ()
        assert not obstore.list(s3.client(), key.rpartition("/")[0]).collect()
