"""A caller's own SQL: one SELECT over files, with no way to anything else of the process."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from grange.errors import RequestError
from grange.transforming import query_sql


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a file, which is not the working directory."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    (tmp_path / "labels.csv").write_text("user_id,churned\n1,true\n2,false\n")
    return tmp_path


@pytest.mark.parametrize(
    "query",
    [
        "SELECT * FROM 'labels.csv' ORDER BY user_id",
        "FROM 'labels.csv' ORDER BY user_id;",
        "WITH l AS (SELECT * FROM read_csv('labels.csv')) SELECT * FROM l ORDER BY user_id -- all",
    ],
)
def test_files_are_relative_to_the_project(query: str, project: Path) -> None:
    rows = query_sql(query, project=project)
    assert rows.polars.rows() == [(1, True), (2, False)]


@pytest.mark.parametrize(
    "query",
    [
        "SELECT 1; COPY (SELECT 1) TO 'stolen.csv'; SELECT 2",
        "SELECT 1; SELECT 2",
        "COPY (SELECT 1) TO 'stolen.csv'",
        "CREATE TABLE t AS SELECT 1",
        "ATTACH 'stolen.db'",
        "INSTALL httpfs",
        "SET threads = 1",
        "-- nothing",
        "",
    ],
)
def test_anything_but_one_select_is_refused_before_it_runs(query: str, project: Path) -> None:
    before = sorted(project.rglob("*"))
    with pytest.raises(RequestError, match="exactly one SELECT"):
        query_sql(query, project=project)
    assert sorted(project.rglob("*")) == before


def test_variables_of_the_process_are_no_tables(project: Path) -> None:
    frame = pl.DataFrame({"secret": [1]})
    with pytest.raises(RequestError, match="frame"):
        query_sql("SELECT * FROM frame", project=project)
    assert frame.height == 1


@pytest.mark.parametrize("query", ["SELEC 1", "SELECT * FROM 'nowhere.csv'", "SELECT nothing"])
def test_a_query_that_fails_is_the_callers(query: str, project: Path) -> None:
    with pytest.raises(RequestError):
        query_sql(query, project=project)
