"""Row 9 of the bar: what a fresh environment holds after the install: distributions and megabytes."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

COUNT = (
    "import importlib.metadata as m, pathlib, sysconfig\n"
    "own = {'pip', 'setuptools', 'wheel'}\n"
    "found = [d for d in m.distributions() if d.name.lower() not in own]\n"
    "files = {p for d in found for f in d.files or () if (p := pathlib.Path(d.locate_file(f))).is_file()}\n"
    "print(len(found), sum(p.stat().st_size for p in files))"
)


def main(here: Path) -> None:
    """Install each into its own fresh environment and print the table."""
    print("\n## install\n")
    print("| installed | distributions | MB | seconds |")
    print("|---|---:|---:|---:|")
    for what, requirement in (
        ("grange", str(here.parent)),
        ("feast", "feast"),
        ("feast[duckdb,redis]", "feast[duckdb,redis]"),
    ):
        with tempfile.TemporaryDirectory() as folder:
            subprocess.run([sys.executable, "-m", "venv", folder], check=True)
            python = f"{folder}/bin/python"
            start = time.perf_counter()
            subprocess.run(
                [python, "-m", "pip", "install", "--quiet", "--no-compile", "--disable-pip-version-check", requirement],
                check=True,
                stderr=subprocess.DEVNULL,
            )
            seconds = time.perf_counter() - start
            done = subprocess.run([python, "-c", COUNT], capture_output=True, text=True, check=True)
            count, size = done.stdout.split()
            print(f"| {what} | {count} | {int(size) / 1e6:,.0f} | {seconds:.0f} |", flush=True)
