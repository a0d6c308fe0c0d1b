"""A served shop, and two stores over it: one that holds the files, one that asks the server."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.http.conftest import Served, load, make_project

import grange as gr
from grange.remote.stores import RemoteFeatureStore


@dataclass(frozen=True)
class Both:
    """The same project, reached both ways."""

    embedded: gr.FeatureStore
    remote: RemoteFeatureStore
    url: str
    folder: Path


def served_both(folder: Path) -> Iterator[Both]:
    """A new shop with rows, served by a process, for as long as it is iterated over."""
    make_project(folder, "shop")
    with gr.FeatureStore(folder) as store:
        load(store)
    served = Served(folder)
    try:
        with gr.FeatureStore(folder) as embedded, RemoteFeatureStore(served.url) as remote:
            yield Both(embedded, remote, served.url, folder)
    finally:
        served.stop(signal.SIGKILL)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    """One for all tests of a module that change nothing."""
    yield from served_both(tmp_path_factory.mktemp("remote") / "shop")


@pytest.fixture
def both(tmp_path: Path) -> Iterator[Both]:
    """One for a test that changes something."""
    yield from served_both(tmp_path / "shop")
