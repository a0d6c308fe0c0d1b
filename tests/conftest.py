"""Every registered engine is put to the contract; `--engines=duckdb,polars` narrows."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings

from grange.ports.plugins import backend, backends

# The same examples on every machine, so that a change fails for what it changes; `make fuzz` looks for new ones.
SLOW = [
    HealthCheck.too_slow
]  # how fast examples are drawn says something of the machine, and nothing of what is tested
settings.register_profile("grange", derandomize=True, deadline=None, suppress_health_check=SLOW)
settings.register_profile("fuzz", derandomize=False, deadline=None, suppress_health_check=SLOW, print_blob=True)
settings.load_profile("fuzz" if os.environ.get("GRANGE_FUZZ") else "grange")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--engines", default="", help="only these engines, separated by commas; all when left out")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "engine_name" in metafunc.fixturenames:
        # the option is unknown when this file is found only during collection, as in a bare `pytest`
        asked = [name for name in (metafunc.config.getoption("--engines", default="") or "").split(",") if name]
        names = [backend("engines", name).name for name in asked] or list(backends("engines"))
        metafunc.parametrize("engine_name", names)
