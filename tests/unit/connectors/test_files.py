"""The `files` connector: which files a source's rows are in, and what it says when there are none."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, get_args

import pytest

from grange.connectors.files import paths
from grange.definitions.sources import FileFormat, FileSource, PushSource, TableSource
from grange.errors import SourceError, UnsupportedError
from grange.plan.nodes import Input, Scan
from grange.ports.connector import Connector
from grange.ports.plugins import backend, create
from grange.types import Schema

TREE = [
    "data/b.parquet", "data/a.parquet", "data/a-1.parquet", "data/notes.txt", "data/_SUCCESS", "data/.hidden.parquet",
    "data/_temporary/x.parquet", "data/.cache/x.parquet", "data/2026/c.parquet", "data/2026/deep/d.pq",
    "data/2026/rows.csv", "data/2026/rows.CSV.GZ", "spark.parquet/part-0.parquet", "spark.parquet/_SUCCESS",
    "odd/[x]/a.parquet", "odd/_kept/a.parquet", "empty/readme.md",
]  # fmt: skip


@pytest.fixture
def connector() -> Connector:
    """The connector, by its door."""
    made: Connector = create("connectors", "files", {})
    return made


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with `TREE` in it; the files are empty, since nothing may be read."""
    for name in TREE:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "nothing").mkdir()
    return tmp_path


def scan(connector: Connector, project: Path, path: str, **options: Any) -> Scan:
    """The scan of a file source."""
    node = connector.resolve(FileSource(path, **options), project=project, what="feature group 'g'")
    assert isinstance(node, Scan)
    return node


def names(node: Scan, project: Path) -> list[str]:
    """Its files, relative to the project."""
    return [str(Path(file).relative_to(project)) for file in node.files]


@pytest.mark.parametrize(
    ("path", "options", "files"),
    [
        ("data/a.parquet", {}, ["data/a.parquet"]),
        ("data/.hidden.parquet", {}, ["data/.hidden.parquet"]),
        (
            "data/",
            {},
            ["data/2026/c.parquet", "data/2026/deep/d.pq", "data/a-1.parquet", "data/a.parquet", "data/b.parquet"],
        ),
        ("data", {"format": "csv"}, ["data/2026/rows.CSV.GZ", "data/2026/rows.csv"]),
        ("data/*.parquet", {}, ["data/a-1.parquet", "data/a.parquet", "data/b.parquet"]),
        ("data/[ab].parquet", {}, ["data/a.parquet", "data/b.parquet"]),
        ("data/?.parquet", {}, ["data/a.parquet", "data/b.parquet"]),
        ("data/**/*.pq", {}, ["data/2026/deep/d.pq"]),
        (
            "data/**/*.parquet",
            {},
            ["data/2026/c.parquet", "data/a-1.parquet", "data/a.parquet", "data/b.parquet"],
        ),
        (
            "data/**",
            {},
            ["data/2026/c.parquet", "data/2026/deep/d.pq", "data/a-1.parquet", "data/a.parquet", "data/b.parquet"],
        ),
        ("data/*", {}, ["data/a-1.parquet", "data/a.parquet", "data/b.parquet"]),
        ("data/2*", {"format": "parquet"}, ["data/2026/c.parquet", "data/2026/deep/d.pq"]),
        ("*.parquet", {}, ["spark.parquet/part-0.parquet"]),
        ("spark.parquet", {}, ["spark.parquet/part-0.parquet"]),
        ("odd/[x]/a.parquet", {}, ["odd/[x]/a.parquet"]),
        ("odd/*/a.parquet", {}, ["odd/[x]/a.parquet"]),
        ("odd/_*/a.parquet", {}, ["odd/_kept/a.parquet"]),
        ("data/.h*.parquet", {}, ["data/.hidden.parquet"]),
    ],
)
def test_files_of_a_path(
    connector: Connector, project: Path, path: str, options: dict[str, Any], files: list[str]
) -> None:
    """One file, a glob, a directory; sorted by path; hidden names only when they are said."""
    found = names(scan(connector, project, path, **options), project)
    assert found == files == sorted(found)


def test_a_scan_says_what_the_source_says(connector: Connector, project: Path) -> None:
    """Format, declared raw types, separator; all columns, in no promised order."""
    node = scan(connector, project, "data/2026/rows.csv", schema={"user_id": "string"}, separator=";")
    file = str(project / "data/2026/rows.csv")
    assert node == Scan(files=(file,), format="csv", schema=Schema.of({"user_id": "string"}), separator=";")


def test_absolute_home_and_url_paths(connector: Connector, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They do not depend on the project."""
    monkeypatch.setenv("HOME", str(project))
    file = str(project / "data/a.parquet")
    for path in (file, "~/data/a.parquet", Path(file).as_uri()):
        assert scan(connector, Path("/somewhere/else"), path).files == (file,)


def test_relative_projects_give_absolute_files(
    connector: Connector, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that an engine may run anywhere."""
    monkeypatch.chdir(project)
    assert scan(connector, Path("data"), "a.parquet").files == (str(project / "data/a.parquet"),)


def test_links_are_followed_once(connector: Connector, project: Path) -> None:
    """A link to a folder is read; a link back up does not go round for ever."""
    (project / "linked").mkdir()
    (project / "linked/there").symlink_to(project / "data/2026")
    (project / "linked/back").symlink_to(project / "linked")
    found = names(scan(connector, project, "linked/"), project)
    assert found == ["linked/there/c.parquet", "linked/there/deep/d.pq"]


@pytest.mark.parametrize(
    ("path", "closest"),
    [
        ("data/aa.parquet", "data/a.parquet"),
        ("dota/a.parquet", "data"),
        ("data/2062/c.parquet", "data/2026"),
        ("dota/*.parquet", "data"),
    ],
)
def test_nothing_there_names_what_is_near(connector: Connector, project: Path, path: str, closest: str) -> None:
    """A path that does not exist: the first part of it that is missing, and the names like it."""
    with pytest.raises(SourceError, match="feature group 'g'") as caught:
        scan(connector, project, path, format="parquet")
    assert str(project / closest) in caught.value.closest


@pytest.mark.parametrize(
    "path", ["nothing", "empty/", "data/*.pq", "data/**/*.none", "nothing/**", "data/a.parquet/*", "data/x*/y.parquet"]
)
def test_empty_is_an_error(connector: Connector, project: Path, path: str) -> None:
    """A directory without data files, a glob without match."""
    with pytest.raises(SourceError, match="no "):
        scan(connector, project, path, format="parquet")


def test_a_folder_that_cannot_be_listed_is_an_error(
    connector: Connector, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when other folders of the directory or glob can: leaving files out would be silent."""
    real = os.scandir

    def barred(path: Any) -> Any:
        if str(path).endswith("deep"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", barred)
    for path in ("data/", "data/**/*.parquet"):
        with pytest.raises(SourceError, match=r"no permission to read .*deep"):
            scan(connector, project, path)


def test_a_file_that_cannot_be_read_is_an_error(
    connector: Connector, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before any engine starts."""
    monkeypatch.setattr(os, "access", lambda path, mode: not str(path).endswith("b.parquet"))
    with pytest.raises(SourceError, match=r"no permission to read .*b\.parquet"):
        scan(connector, project, "data/")


@pytest.mark.parametrize("path", ["s3://bucket/a.parquet", "https://host/a.csv", "gs://b/*.parquet"])
def test_other_places_are_refused(connector: Connector, project: Path, path: str) -> None:
    """A capability that is not declared is refused before any work."""
    with pytest.raises(UnsupportedError, match=r"reads local paths"):
        scan(connector, project, path)


def test_frames_and_pushes_are_inputs(connector: Connector, project: Path) -> None:
    """The caller hands the rows in, under the source's name."""
    frame = TableSource([{"a": 1}], name="held")
    push = PushSource("clicks", schema={"t": "datetime"}, event_time="t")
    assert connector.resolve(frame, project=project, what="g") == Input("held")
    assert connector.resolve(push, project=project, what="g") == Input("clicks")


def test_a_frame_of_another_process_is_an_error(connector: Connector, project: Path) -> None:
    """The registry keeps no frame."""
    with pytest.raises(SourceError, match="another process"):
        connector.resolve(TableSource(None, name="held"), project=project, what="g")


def test_a_push_source_reads_its_batch_source(connector: Connector, project: Path) -> None:
    """With the raw types that either of them declares."""
    batch = FileSource("data/2026/rows.csv", event_time="t")
    push = PushSource("clicks", schema={"t": "datetime", "user_id": "string"}, event_time="t", batch_source=batch)
    node = connector.resolve(push, project=project, what="g")
    assert isinstance(node, Scan)
    assert node.schema == push.schema
    typed = FileSource("data/2026/rows.csv", event_time="t", schema={"user_id": "int64"})
    push = PushSource("clicks", event_time="t", batch_source=typed)
    assert connector.resolve(push, project=project, what="g") == Scan(
        files=(str(project / "data/2026/rows.csv"),), format="csv", schema=typed.schema
    )


def test_every_suffix_is_that_of_its_format() -> None:
    """A directory's data files are those whose format a single path would be given."""
    table: dict[FileFormat, Iterable[str]] = paths._SUFFIXES
    assert set(table) == set(get_args(FileFormat))
    assert all(FileSource(f"x{suffix}").format == kind for kind, group in table.items() for suffix in group)


def test_the_descriptor_names_what_it_resolves() -> None:
    """The store picks a connector by the class of a source."""
    assert backend("connectors", "files").schemes == ("FileSource", "TableSource", "PushSource")
    assert isinstance(create("connectors", "files", {"root": "."}), Connector)
