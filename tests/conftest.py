"""Every registered engine is put to the contract; `--engines=duckdb,polars` narrows."""

from __future__ import annotations

import pytest

from grange.ports.plugins import backend, backends


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--engines", default="", help="only these engines, separated by commas; all when left out")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "engine_name" in metafunc.fixturenames:
        # the option is unknown when this file is found only during collection, as in a bare `pytest`
        asked = [name for name in (metafunc.config.getoption("--engines", default="") or "").split(",") if name]
        names = [backend("engines", name).name for name in asked] or list(backends("engines"))
        metafunc.parametrize("engine_name", names)
