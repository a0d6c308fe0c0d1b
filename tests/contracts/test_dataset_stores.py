"""The training datasets of every registered offline store keep every promise."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from grange.ports.datasets import DatasetStore
from grange.ports.plugins import backends, create
from grange.testing.datasets import DatasetStoreContract


class TestDatasetStores(DatasetStoreContract):
    """The contract, for the training datasets of each registered offline store."""

    @pytest.fixture(params=sorted(backends("offline_stores")))
    def open_store(self, request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], DatasetStore]:
        """See `DatasetStoreContract`."""
        return lambda: create("offline_stores", request.param, {"root": str(tmp_path)}).datasets
