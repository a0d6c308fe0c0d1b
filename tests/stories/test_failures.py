"""What goes wrong from outside: damaged files, a full disk, two processes, a killed one. Each is one clear error, and
nothing that was stored before is lost."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import polars as pl
import pytest
from tests.shop import SPEND, at, shops_group, spend_group

import grange as gr
from grange.errors import CorruptStoreError, GrangeError, SourceError, StorageFullError

ROW = [{"user_id": "u1", "event_time": at(6)}]


@pytest.fixture
def filled(project: Path) -> Path:
    with gr.FeatureStore(project) as store:
        store.apply([spend_group(), shops_group()])
        store.materialize()
    return project


def amount(store: gr.FeatureStore, reference: str = "spend:amount") -> object:
    return store.get_historical_features([reference], ROW).to_polars()["amount"][0]


def test_a_damaged_data_file_is_named_and_other_versions_are_read(filled: Path) -> None:
    SPEND.head(3).write_parquet(filled / "data" / "spend.parquet")
    with gr.FeatureStore(filled) as store:
        store.materialize("spend")
        damaged = filled / ".grange" / "offline" / "spend" / "1.0.1" / "data.parquet"
        damaged.write_bytes(b"not parquet at all")

        with pytest.raises(CorruptStoreError, match=r"'spend' 1\.0\.1"):
            amount(store)
        assert [Path(finding.path).name for finding in store.verify("spend")] == ["1.0.1"]
        assert amount(store, "spend@1.0.0:amount") == 20.0
        store.materialize("spend")
        assert amount(store) == 20.0


def test_damaged_metadata_is_named(filled: Path) -> None:
    meta = filled / ".grange" / "offline" / "spend" / "1.0.0" / ".meta.json"
    meta.write_text("{")
    with gr.FeatureStore(filled) as store:
        with pytest.raises(GrangeError) as caught:
            amount(store)
        assert "spend" in str(caught.value)
        store.materialize("spend")
        assert amount(store) == 20.0


def test_a_damaged_online_store_is_named_and_can_be_loaded_again(filled: Path) -> None:
    data = filled / ".grange" / "online" / "data.mdb"
    data.write_bytes(b"\x00garbage" * 4096)
    with gr.FeatureStore(filled) as store:
        with pytest.raises(CorruptStoreError) as caught:
            store.get_online_features(["spend"], [{"user_id": "u1"}])
        assert "online" in str(caught.value)
        assert amount(store) == 20.0


def test_a_damaged_registry_is_named(filled: Path) -> None:
    (filled / ".grange" / "registry.db").write_bytes(b"no database, surely" * 200)
    with pytest.raises(CorruptStoreError, match=r"registry\.db"), gr.FeatureStore(filled) as store:
        store.catalog  # noqa: B018


def test_an_unreadable_source_is_named(filled: Path) -> None:
    (filled / "data" / "spend.parquet").write_bytes(b"PAR1 nothing else")
    with gr.FeatureStore(filled) as store:
        with pytest.raises(SourceError, match=r"spend\.parquet"):
            store.materialize("spend")
        assert amount(store) == 20.0


def test_a_full_disk_loses_nothing(filled: Path) -> None:
    """Files may not grow beyond a few kilobytes, as on a full disk; the old version stays."""
    big = pl.concat([SPEND] * 20_000)
    big.write_parquet(filled / "data" / "spend.parquet")
    code = """
        import resource, signal, sys
        import grange as gr
        from grange.errors import StorageFullError

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        with gr.FeatureStore(sys.argv[1]) as store:
            store.catalog
            resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
            try:
                store.materialize("spend", online=False)
            except StorageFullError as error:
                print("full:", error.message)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), str(filled)],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )

    assert "full:" in done.stdout, done.stderr
    with gr.FeatureStore(filled) as store:
        assert amount(store) == 20.0
        assert store.versions("spend")[-1].version == "1.0.0"
    assert issubclass(StorageFullError, GrangeError)
    assert resource.RLIMIT_FSIZE


def test_two_processes_materialize_the_same_group(filled: Path) -> None:
    code = """
        import sys
        import grange as gr
        with gr.FeatureStore(sys.argv[1]) as store:
            for _ in range(3):
                print(store.materialize("spend")[0].version)
    """
    SPEND.head(4).write_parquet(filled / "data" / "spend.parquet")
    both = [
        subprocess.Popen([sys.executable, "-c", textwrap.dedent(code), str(filled)], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    printed = [process.communicate(timeout=120)[0] for process in both]

    assert [process.returncode for process in both] == [0, 0]
    assert {line for text in printed for line in text.split()} == {"1.0.1"}
    with gr.FeatureStore(filled) as store:
        assert [meta.version for meta in store.versions("spend")] == ["1.0.0", "1.0.1"]
        assert len(store.read("spend")) == 4


def test_a_process_killed_in_the_middle_leaves_the_old_version(filled: Path) -> None:
    pl.concat([SPEND] * 50_000).write_parquet(filled / "data" / "spend.parquet")
    code = """
        import sys
        import grange as gr
        with gr.FeatureStore(sys.argv[1]) as store:
            def tell(step):
                print(step.stage, flush=True)
            store.materialize("spend", progress=tell)
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), str(filled)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line.strip() == "write":
            os.kill(process.pid, signal.SIGKILL)
            break
    process.communicate(timeout=60)

    with gr.FeatureStore(filled) as store:
        assert amount(store) == 20.0
        served = store.get_online_features(["spend:amount"], [{"user_id": "u2"}], now=at(9))
        assert served.to_dicts()[0]["amount"] == 9.0
        assert store.materialize("spend")[0].version == "1.0.1"
