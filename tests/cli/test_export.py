"""`grange export`: create, list, info."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from tests.cli.running import Grange


def test_create_list_and_info(shop: Grange, tmp_path: Path) -> None:
    ran = shop("export", "create", "last_order", "out/orders.parquet")
    assert ran.code == 0 and ran.out.startswith("export-000001: 199 rows of last_order in out/orders.parquet, ")
    assert "writing, 199 rows" in ran.err
    assert len(pl.read_parquet(tmp_path / "out/orders.parquet")) == 199
    listed = shop("export", "list")
    assert "last_order@1.0.0" in listed.out and "succeeded" in listed.out
    assert max(map(len, listed.out.splitlines())) <= 80
    info = shop("export", "info", "export-000001")
    assert "orders.parquet" in info.out and "made of:" in info.out
    data = shop("export", "info", "export-000001", "--json").json
    assert data == shop("export", "list", "--json").json[0]
    assert data["rows"] == 199 and data["status"] == "succeeded"


def test_options_of_groups(shop: Grange, tmp_path: Path) -> None:
    ran = shop(
        "export", "create", "last_order@1.0.0", "march", "--format", "csv", "--columns", "customer_id,amount",
        "--start", "2025-03-01", "--compression", "gzip", "--json",
    )  # fmt: skip
    assert [file["name"] for file in ran.json["files"]] == ["part-00001.csv.gz"]
    assert ran.json["columns"] == ["customer_id", "amount"] and ran.json["min_event_time"] >= "2025-03-01"
    assert (tmp_path / "march/part-00001.csv.gz").is_file()
    assert shop("export", "create", "last_order", "march", "--format", "csv").code == 4
    assert shop("export", "create", "last_order", "march", "--format", "csv", "--overwrite").code == 0


def test_options_of_views(shop: Grange, tmp_path: Path) -> None:
    spine = pl.DataFrame({"customer_id": ["001", "002"], "event_time": ["2025-03-01", "2025-03-02"]})
    spine.with_columns(pl.col("event_time").str.to_datetime("%Y-%m-%d")).write_parquet(tmp_path / "spine.parquet")
    ran = shop(
        "export", "create", "churn", "churn.parquet", "--spine", "spine.parquet", "--raw", "--as-known", "--json"
    )
    assert ran.code == 0 and ran.json["rows"] == 2
    assert {pin["group"] for pin in ran.json["pins"]} == {"last_order", "customer_profile"}
    assert pl.read_parquet(tmp_path / "churn.parquet")["customer_id"].to_list() == ["001", "002"]


def test_a_failed_export_is_listed_with_its_error(shop: Grange) -> None:
    assert shop("export", "create", "churn", "x.parquet", "--columns", "nothing").code == 3
    (failed,) = shop("export", "list", "--status", "failed", "--json").json
    assert failed["error"]["type"] == "UnknownFeatureError"
    assert "UnknownFeatureError" in shop("export", "info", failed["id"]).out
    assert shop("export", "list", "--status", "succeeded").out == "no exports yet: grange export create WHAT DEST\n"


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("create", "last_ordr", "x.parquet"), 3),
        (("create", "last_order", "x.xml"), 2),
        (("create", "last_order", "x.parquet", "--columns", "a,,b"), 2),
        (("create", "last_order", "x.parquet", "--spine", "x.csv"), 2),
        (("create", "last_order", "s3://key:secret@bucket/x.parquet"), 2),
        (("info", "export-000009"), 3),
        (("list", "--status", "done"), 2),
    ],
)
def test_what_cannot_be_asked(shop: Grange, arguments: tuple[str, ...], code: int) -> None:
    ran = shop("export", *arguments)
    assert ran.code == code and "secret" not in ran.err + ran.out
