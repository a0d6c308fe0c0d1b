"""`grange verify`: fine when all is as it was written, 1 when something is not."""

from __future__ import annotations

from pathlib import Path

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
