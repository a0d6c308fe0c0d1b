"""Rows that are set aside, sealed: they come back as they were, and nobody else's (SEC-9)."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from grange.errors import CorruptStoreError, TamperedError
from grange.frames import Rows
from grange.security.encryption import Sealer, open_rows, reseal_rows, seal_rows
from grange.security.encryption import rows as rows_module
from grange.security.encryption.local import KeyRing

SEALER = Sealer(KeyRing({"one": bytes(range(32))}))
TABLE = pa.table(
    {
        "user_id": ["u1", None, "SECRET"],
        "at": pa.array([dt.datetime(2026, 11, 21, tzinfo=dt.UTC)] * 3, pa.timestamp("us", "UTC")),
        "__reasons": [["no 'user_id'"], [], ["wrong type"]],
    }
)


@pytest.mark.parametrize("table", [TABLE, TABLE.slice(0, 0), pa.table({})])
def test_rows_come_back_as_they_were(table: pa.Table, tmp_path: Path) -> None:
    sealed = seal_rows(Rows(arrow=table), SEALER, group="spend")
    assert sealed.column_names == ["__sealed"]
    pq.write_table(sealed.arrow, tmp_path / "quarantine.parquet")
    assert b"SECRET" not in (tmp_path / "quarantine.parquet").read_bytes()
    read = Rows(arrow=pq.read_table(tmp_path / "quarantine.parquet"))
    assert open_rows(read, SEALER, group="spend").arrow.equals(table)


def test_rows_in_clear_stay_as_they_are() -> None:
    assert open_rows(Rows(arrow=TABLE), SEALER, group="spend").arrow is TABLE


def test_rows_of_another_group_or_in_another_order_do_not_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows_module, "PIECE", 100)
    sealed = seal_rows(Rows(arrow=TABLE), SEALER, group="spend")
    assert len(sealed) > 3 and open_rows(sealed, SEALER, group="spend").arrow.equals(TABLE)
    with pytest.raises(TamperedError):
        open_rows(sealed, SEALER, group="profile")
    whole = sealed.arrow
    for order in ([1, 0, *range(2, len(sealed))], range(1, len(sealed)), range(len(sealed) - 1)):
        with pytest.raises(TamperedError):
            open_rows(Rows(arrow=whole.take(list(order))), SEALER, group="spend")
    emptied = pa.table({"__sealed": pa.array([None], pa.large_binary())})
    with pytest.raises(TamperedError):
        open_rows(Rows(arrow=emptied), SEALER, group="spend")


ROTATED = Sealer(KeyRing({"two": bytes(32), "one": bytes(range(32))}))
ALONE = Sealer(KeyRing({"two": bytes(32)}))


@pytest.mark.parametrize("piece", [100, rows_module.PIECE])
def test_rows_sealed_anew_open_with_the_new_key_alone(monkeypatch: pytest.MonkeyPatch, piece: int) -> None:
    monkeypatch.setattr(rows_module, "PIECE", piece)
    old = seal_rows(Rows(arrow=TABLE), SEALER, group="spend")
    new = reseal_rows(old, ROTATED, group="spend")
    assert new is not None and open_rows(new, ALONE, group="spend").arrow.equals(TABLE)
    assert reseal_rows(new, ROTATED, group="spend") is None, "there is nothing more to do"
    with pytest.raises(CorruptStoreError, match="key 'one'"):
        open_rows(old, ALONE, group="spend")


def test_rows_in_clear_are_sealed_with_the_others() -> None:
    new = reseal_rows(Rows(arrow=TABLE), ROTATED, group="spend")
    assert new is not None and new.column_names == ["__sealed"]
    assert open_rows(new, ALONE, group="spend").arrow.equals(TABLE)


def test_rows_that_were_changed_are_not_sealed_anew() -> None:
    old = seal_rows(Rows(arrow=TABLE), SEALER, group="spend").arrow.column(0).to_pylist()[0]
    changed = Rows(arrow=pa.table({"__sealed": pa.array([old[:-1] + bytes([old[-1] ^ 1])], pa.large_binary())}))
    with pytest.raises(TamperedError):
        reseal_rows(changed, ROTATED, group="spend")
    with pytest.raises(TamperedError):
        reseal_rows(Rows(arrow=pa.table({"__sealed": pa.array([old], pa.large_binary())})), ROTATED, group="profile")
