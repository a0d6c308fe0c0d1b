"""A way to run commands, as the command line's own tests have it; Feast's environment, where it was built."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.cli.conftest import grange

__all__ = ["Feast", "feast", "grange"]

PYTHON = Path(__file__).parents[3] / "benchmarks" / ".peers" / "feast" / "bin" / "python"
Feast = Callable[..., Any]
"""Runs a script of `scripts/` in Feast's environment; gives the JSON on the last line that it prints."""


@pytest.fixture
def feast() -> Feast:
    if not PYTHON.exists():
        pytest.skip("Feast's environment is not there: benchmarks/setup.sh builds it")

    def call(script: str, *arguments: str) -> Any:
        file = Path(__file__).parent / "scripts" / script
        command = [str(PYTHON), "-W", "ignore", str(file), *arguments]
        ran = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
        assert ran.returncode == 0, ran.stderr[-4000:]
        return json.loads(ran.stdout.strip().splitlines()[-1])

    return call
