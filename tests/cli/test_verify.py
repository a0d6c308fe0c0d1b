"""`grange verify`: fine when all is as it was written, 1 when something is not."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pyarrow.parquet as pq
from tests.cli.running import Grange


def test_verify_finds_damage_and_clears_leftovers(grange: Grange, tmp_path: Path) -> None:
    grange("init", "shop")
    for words in (("apply",), ("materialize",)):
        assert grange(*words, "--project", "shop").code == 0
    assert grange("verify", "--project", "shop").code == 0

    history = tmp_path / "shop" / ".grange" / "offline"
    (history / "last_order" / ".building-0").mkdir()
    found = grange("verify", "--project", "shop", "--json")
    assert found.code == 1
    assert [finding["state"] for finding in found.json["findings"]] == ["found"]
    assert grange("verify", "--repair", "--project", "shop").code == 0
    assert grange("verify", "--project", "shop").code == 0

    data = history / "last_order" / "1.0.0" / "data.parquet"
    data.write_bytes(data.read_bytes()[:-1] + b"?")
    assert grange("verify", "last_order", "--repair", "--project", "shop").code == 1
    assert data.exists()
    assert grange("verify", "lst_order", "--project", "shop").code == 3


def test_verify_clears_what_it_may_and_still_tells_the_rest(shop: Grange) -> None:
    """Leftovers go, damage stays and decides the exit code; each finding says which it is."""
    history = Path(".grange/offline")
    (history / "last_order" / ".temp-0").write_text("half")
    (history / "_metadata" / "manifest.json").write_text("{}")
    data = history / "last_order" / "1.0.0" / "data.parquet"
    content = data.read_bytes()
    data.write_bytes(content[:100] + b"?" + content[101:])
    ran = shop("verify", "--repair", "--json")
    assert ran.code == 1
    states = {Path(finding["path"]).name: finding["state"] for finding in ran.json["findings"]}
    assert states == {".temp-0": "cleared", "manifest.json": "cleared", "data.parquet": "found", "1.0.0": "found"}
    data.write_bytes(content)
    assert shop("verify").out == "everything is as it was written\n"


def test_verify_finds_rows_that_are_not_those_of_the_hash(shop: Grange) -> None:
    """The content hash is computed from the rows again: a file that was written anew, whole and well, does not fit."""
    folder = Path(".grange/offline/last_order/1.0.0")
    table = pq.ParquetFile(folder / "data.parquet").read()
    pq.write_table(table.slice(0, table.num_rows - 1), folder / "data.parquet")
    meta = json.loads((folder / ".meta.json").read_text())
    content = (folder / "data.parquet").read_bytes()
    fitting = {"size_bytes": len(content), "row_count": table.num_rows - 1}
    fitting["file_hashes"] = {"data.parquet": hashlib.sha256(content).hexdigest()}
    (folder / ".meta.json").write_text(json.dumps(meta | fitting))
    ran = shop("verify", "last_order")
    assert ran.code == 1
    assert "content hash" in " ".join(ran.out.split())


def test_verify_finds_changed_pushed_rows(shop: Grange) -> None:
    Path("rows.csv").write_text("customer_id,changed_at,country,plan\n007,2025-06-01,NZ,pro\n")
    assert shop("fg", "insert", "customer_profile", "--file", "rows.csv").code == 0
    assert shop("verify").code == 0
    (pushed,) = Path(".grange/offline/customer_profile/_pushed").iterdir()
    pushed.write_bytes(pushed.read_bytes().replace(b"NZ", b"ZN"))
    assert shop("verify", "--repair").code == 1
    assert pushed.exists()
