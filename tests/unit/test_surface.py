"""The surface: what `import grange` offers and what it costs."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import grange
from grange import errors

DRIVERS = (
    "polars",
    "pyarrow",
    "duckdb",
    "pandas",
    "numpy",
    "lmdb",
    "sqlalchemy",
    "alembic",
    "typer",
    "rich",
    "sqlglot",
)


def loaded_after(code: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys; print(*sys.modules)"], capture_output=True, text=True, check=True
    )
    return set(done.stdout.split()) & set(DRIVERS)


@pytest.mark.parametrize(
    "code",
    [
        "import grange",
        "import grange; grange.Entity; grange.FeatureView; grange.errors",
        "import grange; grange.FeatureGroup('g', entities=grange.Entity('e'), source=grange.FileSource('a.csv'))",
        "import grange.ports.plugins as p; [p.backends(port) for port in ('engines', 'offline_stores', "
        "'online_stores', 'registries', 'connectors')]",
    ],
)
def test_no_driver_is_loaded(code: str) -> None:
    assert loaded_after(code) == set()


def test_every_public_name_is_there_and_nothing_else_shows() -> None:
    assert sorted(grange.__all__) == dir(grange)
    for name in grange.__all__:
        assert getattr(grange, name) is not None


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Featureview'"):
        grange.Featureview  # type: ignore[attr-defined]  # noqa: B018


def error_classes() -> list[type[errors.GrangeError]]:
    return [
        value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, errors.GrangeError)
    ]


def test_every_error_has_its_own_code_and_stands_in_the_tree() -> None:
    codes = [cls.code for cls in error_classes()]

    assert len(set(codes)) == len(codes)
    assert all(cls.__name__ in (errors.__doc__ or "") for cls in error_classes())


def test_an_error_prints_message_hints_and_data() -> None:
    error = errors.UnknownFeatureError(
        "no feature 'x'", asked_by="view v", closest=["y"], try_="look", details={"n": 1}
    )

    assert str(error) == "no feature 'x'\n  asked by:  view v\n  closest:   y\n  try:       look"
    assert error.to_dict()["details"] == {"n": 1, "asked_by": "view v", "closest": ["y"], "try": "look"}
    assert isinstance(error, LookupError)


def test_every_public_class_and_module_says_what_it_is() -> None:
    missing = []
    for path in Path(grange.__file__).parent.rglob("*.py"):
        module = ast.parse(path.read_text(encoding="utf-8"))
        if not ast.get_docstring(module):
            missing.append(str(path))
        for node in module.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_") and not ast.get_docstring(node):
                missing.append(f"{path.name}:{node.name}")
    assert not missing


def test_nothing_below_the_verbs_reads_the_clock() -> None:
    """TIME-3: only the facade, what stands above it, and measured durations do."""
    root = Path(grange.__file__).parent
    # the cache of objects notes when a copy was used, as file systems do
    allowed = ("store.py", "access/", "cli/", "demo/", "http/", "jobs/", "offline/parquet/objects/cache.py")
    culprits = []
    for path in root.rglob("*.py"):
        if str(path.relative_to(root)).startswith(allowed):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and node.attr in ("now", "utcnow", "today", "time_ns"):
                value = node.value
                name = value.attr if isinstance(value, ast.Attribute) else getattr(value, "id", "")
                if name in ("datetime", "date", "dt", "time"):
                    culprits.append(f"{path.relative_to(root)}:{node.lineno}")
    assert not culprits
