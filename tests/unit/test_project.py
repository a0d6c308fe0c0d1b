"""Loading definition modules: what is found, in which order, and what a broken one says."""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path

import pytest

from grange.config import Config
from grange.definitions import Catalog
from grange.definitions.transforms import PythonTransform
from grange.errors import DefinitionError, DefinitionLoadError, DurationError
from grange.project import load_definitions

HEAD = """
from grange.definitions import Entity, FeatureGroup, FeatureView, FileSource, feature_group
"""
USER = 'user = Entity("user", ["user_id"])\n'
GROUP = 'spend = FeatureGroup("spend", entities=[user], source=FileSource("spend.parquet", event_time="at"))\n'


def write(root: Path, name: str, text: str) -> Path:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(text))
    return path


def load(root: Path, *definitions: str) -> list[str]:
    return [item.name for item in load_definitions(config(root, *definitions), root)]


def config(root: Path, *definitions: str) -> Config:
    overrides = {"definitions": list(definitions)} if definitions else None
    return Config.load(root, overrides, {})


def test_definitions_come_in_the_order_they_are_written(tmp_path: Path) -> None:
    write(tmp_path, "features.py", HEAD + USER + GROUP + 'view = FeatureView("view", features=["spend"])\n')
    assert load(tmp_path) == ["user", "spend", "view"]


def test_lists_and_tuples_of_definitions_are_looked_into(tmp_path: Path) -> None:
    text = HEAD + 'entities = [Entity("a"), (Entity("b"), Entity("c"))]\nnumbers = [1, "x"]\n'
    write(tmp_path, "features.py", text)
    assert load(tmp_path) == ["a", "b", "c"]


def test_a_definition_imported_by_two_modules_counts_once(tmp_path: Path) -> None:
    write(tmp_path, "shared.py", HEAD + USER)
    write(tmp_path, "features.py", HEAD + "from shared import user\n" + GROUP)
    view = 'v = FeatureView("v", features=["spend"])\n'
    write(tmp_path, "views.py", HEAD + "from shared import user\nimport features\n" + view)
    assert load(tmp_path, "features.py", "views.py") == ["user", "spend", "v"]


def test_a_file_that_a_sibling_imports_runs_once(tmp_path: Path) -> None:
    """Whichever of the two is listed first."""
    write(tmp_path, "runs.py", "count = []\n")
    write(tmp_path, "a.py", HEAD + "import runs\nruns.count.append('a')\n" + USER)
    write(tmp_path, "b.py", HEAD + 'from a import user\nfrom runs import count\nruns = Entity("r" + str(len(count)))\n')
    assert load(tmp_path, "a.py", "b.py") == ["user", "r1"]
    assert load(tmp_path, "b.py", "a.py") == ["user", "r1"]


def test_globs_are_read_in_sorted_order_and_their_folder_is_importable(tmp_path: Path) -> None:
    write(tmp_path, "teams/helpers.py", "NAME = 'z'\n")
    write(tmp_path, "teams/b_features.py", HEAD + "from helpers import NAME\nz = Entity(NAME)\n")
    write(tmp_path, "teams/a_features.py", HEAD + 'a = Entity("a")\n')
    assert load(tmp_path, "teams/*_features.py") == ["a", "z"]


def test_modules_are_found_by_name_from_the_projects_folder(tmp_path: Path) -> None:
    write(tmp_path, "mine/__init__.py", "")
    write(tmp_path, "mine/users.py", HEAD + "from .keys import KEY\n" + 'user = Entity("user", [KEY])\n')
    write(tmp_path, "mine/keys.py", "KEY = 'user_id'\n")
    assert load(tmp_path, "mine.users") == ["user"]


def test_nothing_stays_importable_afterwards(tmp_path: Path) -> None:
    """Neither the path nor the siblings of one project reach the next one."""
    path, modules = list(sys.path), set(sys.modules)
    for name in ("one", "two"):
        write(tmp_path, f"{name}/shared.py", f"NAME = '{name}'\n")
        write(tmp_path, f"{name}/features.py", HEAD + "from shared import NAME\nentity = Entity(NAME)\n")
    assert [load(tmp_path / name) for name in ("one", "two", "one")] == [["one"], ["two"], ["one"]]
    assert sys.path == path
    assert not {"shared", "features"} & (set(sys.modules) - modules)
    assert not list(tmp_path.rglob("__pycache__"))


def test_a_module_of_another_place_steps_aside_and_comes_back(tmp_path: Path) -> None:
    elsewhere = type(sys)("shared_by_app")
    sys.modules["shared_by_app"] = elsewhere
    try:
        write(tmp_path, "shared_by_app.py", "NAME = 'mine'\n")
        write(tmp_path, "features.py", HEAD + "from shared_by_app import NAME\nentity = Entity(NAME)\n")
        assert load(tmp_path) == ["mine"]
        assert sys.modules["shared_by_app"] is elsewhere
    finally:
        del sys.modules["shared_by_app"]


def test_an_edited_file_is_read_again(tmp_path: Path) -> None:
    """Even within the same second and of the same size."""
    write(tmp_path, "features.py", HEAD + 'e = Entity("one")\n')
    assert load(tmp_path) == ["one"]
    write(tmp_path, "features.py", HEAD + 'e = Entity("two")\n')
    assert load(tmp_path) == ["two"]


def test_decorated_functions_keep_their_source_and_run(tmp_path: Path) -> None:
    write(
        tmp_path,
        "features.py",
        HEAD
        + USER
        + '@feature_group(entities=[user], source=FileSource("x.parquet", event_time="at"))\n'
        + "def spend(df):\n    return [helper(row) for row in df]\n\ndef helper(row):\n    return row + 1\n",
    )
    (_, group) = load_definitions(config(tmp_path), tmp_path)
    transform = Catalog.of([group]).group("spend").transform
    assert isinstance(transform, PythonTransform) and "def spend(df)" in transform.source_text
    assert transform.module == "features"
    assert transform.function is not None and transform.function([1, 2]) == [2, 3]


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("x = 1\n\nraise RuntimeError('no luck\\nat all')\n", 3, "RuntimeError: no luck"),
        ("def broken(:\n", 1, "SyntaxError"),
        ("import nowhere_to_be_found\n", 1, "ModuleNotFoundError: No module named 'nowhere_to_be_found'"),
        ("import sys\nsys.exit(3)\n", 2, "SystemExit"),
    ],
)
def test_a_module_that_raises_says_file_line_and_message(tmp_path: Path, text: str, line: int, said: str) -> None:
    path = write(tmp_path, "features.py", text)
    with pytest.raises(DefinitionLoadError) as caught:
        load(tmp_path)
    assert f"{path}:{line}: {said}" in caught.value.message
    assert caught.value.details["file"] == str(path) and caught.value.details["line"] == line
    assert caught.value.__cause__ is not None


def test_the_line_is_the_siblings_when_a_sibling_raises(tmp_path: Path) -> None:
    sibling = write(tmp_path, "helpers.py", "\n1 / 0\n")
    write(tmp_path, "features.py", "import helpers\n")
    with pytest.raises(DefinitionLoadError) as caught:
        load(tmp_path)
    assert f"{sibling}:2: ZeroDivisionError" in caught.value.message


def test_a_definition_that_breaks_a_law_keeps_its_advice(tmp_path: Path) -> None:
    text = HEAD + USER + GROUP.replace('event_time="at")', 'event_time="at"), ttl="3mo"')
    path = write(tmp_path, "features.py", text)
    with pytest.raises(DefinitionLoadError) as caught:
        load(tmp_path)
    assert str(path) in caught.value.message and caught.value.try_ == "say days: 90d"
    assert isinstance(caught.value.__cause__, DurationError)


def test_a_module_that_raised_can_be_loaded_once_it_is_mended(tmp_path: Path) -> None:
    write(tmp_path, "features.py", "1 / 0\n")
    with pytest.raises(DefinitionLoadError):
        load(tmp_path)
    write(tmp_path, "features.py", HEAD + USER)
    assert load(tmp_path) == ["user"]


def test_no_definitions_says_what_to_write(tmp_path: Path) -> None:
    write(tmp_path, "features.py", HEAD)
    with pytest.raises(DefinitionError, match="defines nothing") as caught:
        load(tmp_path)
    assert "FeatureGroup(" in (caught.value.try_ or "")


@pytest.mark.parametrize("entry", ["featrues.py", "nothing/*.py"])
def test_a_file_that_is_not_there_is_named(tmp_path: Path, entry: str) -> None:
    write(tmp_path, "features.py", HEAD + USER)
    with pytest.raises(DefinitionLoadError) as caught:
        load(tmp_path, entry)
    assert entry in caught.value.message and "features.py" in str(caught.value)


def test_a_module_name_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DefinitionLoadError, match="nowhere_at_all"):
        load(tmp_path, "nowhere_at_all")
