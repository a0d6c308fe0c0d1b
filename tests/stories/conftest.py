"""A project of the shop, in a folder of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.shop import SHOPS, SPEND

import grange as gr


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    SPEND.write_parquet(tmp_path / "data" / "spend.parquet")
    SHOPS.write_csv(tmp_path / "data" / "shops.csv")
    (tmp_path / "grange.toml").write_text('project = "shop"\n')
    return tmp_path


@pytest.fixture(params=["lmdb", "memory"])
def store(project: Path, request: pytest.FixtureRequest) -> Iterator[gr.FeatureStore]:
    with gr.FeatureStore(project, online=request.param) as opened:
        yield opened
