"""Copies of objects on the disk, and the options of object stores."""

from __future__ import annotations

import copy
import gc
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from grange.errors import ConfigError, MissingDependencyError
from grange.offline.parquet import disk
from grange.offline.parquet.files import LocalFile
from grange.offline.parquet.objects.bucket import BucketOptions
from grange.offline.parquet.objects.cache import Cache, copy_name
from grange.ports.plugins import create


class Store:
    """Objects by URL, and how often each was downloaded."""

    def __init__(self, folder: Path, *, most: int = 1000, check_bytes: int = 1000) -> None:
        self.folder = folder
        self.cache = Cache(folder, most=most, check_bytes=check_bytes)
        self.asked: list[str] = []

    def get(self, url: str, **options: Any) -> LocalFile:
        """An object of 100 bytes, of which each is the last letter of its URL."""

        def download(asked: str, path: Path) -> None:
            self.asked.append(asked)
            path.write_bytes(asked[-1:].encode() * 100)

        digest = disk.sha256(_written(self.folder.parent / "expected", url[-1:].encode() * 100))
        (file,) = self.cache.get([(url, digest)], download, **options)
        return file

    def copies(self) -> set[str]:
        """The letters of the objects that have copies."""
        there = {path.name for path in (self.folder / "objects").iterdir()}  # their names: reading them is using them
        return {letter for letter in "abcde" if copy_name(f"s3://b/{letter}") in there}


def _written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def test_an_object_is_downloaded_once(tmp_path: Path) -> None:
    """By whichever store and process has the folder; unless a new copy is asked for."""
    first, second = Store(tmp_path / "c"), Store(tmp_path / "c")
    assert first.get("s3://b/a").path == second.get("s3://b/a").path
    assert first.get("s3://b/a").path.read_bytes() == b"a" * 100
    assert (first.asked, second.asked) == (["s3://b/a"], [])
    first.get("s3://b/a", fresh=True)
    assert len(first.asked) == 2


def test_a_damaged_copy_is_made_again(tmp_path: Path) -> None:
    """When a process first uses it, as far as copies are checked."""
    store = Store(tmp_path / "c")
    path = store.get("s3://b/a").path
    for damaged in (b"x" * 100, b"a"):
        path.write_bytes(damaged)
        os.utime(path, ns=(0, 0))
        assert store.get("s3://b/a").path.read_bytes() == b"a" * 100
    assert len(store.asked) == 3
    careless = Store(tmp_path / "c", check_bytes=0)
    path.write_bytes(b"x" * 100)
    assert careless.get("s3://b/a").path.read_bytes() == b"x" * 100


def test_what_was_used_longest_ago_goes(tmp_path: Path) -> None:
    """Only when there is no room, and only as much as is needed."""
    store = Store(tmp_path / "c", most=300)
    for letter in "abc":
        store.get(f"s3://b/{letter}")
    store.get("s3://b/a")
    assert store.copies() == {"a", "b", "c"}
    store.get("s3://b/d")
    assert store.copies() == {"a", "c", "d"}
    store.get("s3://b/b")
    assert store.asked == [f"s3://b/{letter}" for letter in "abcdb"]


def test_what_is_read_stays(tmp_path: Path) -> None:
    """As long as the file or its name lives, whichever store asks for room; copies of the name keep nothing."""
    store, other = Store(tmp_path / "c", most=200), Store(tmp_path / "c", most=200)
    held = store.get("s3://b/a")
    name = held.text
    del held
    for letter in "bcd":
        other.get(f"s3://b/{letter}")
    assert "a" in store.copies()
    assert (copy.deepcopy(name), type(copy.deepcopy(name))) == (name, str)
    del name
    gc.collect()
    other.get("s3://b/e")
    assert store.copies() == {"d", "e"}


def test_what_another_process_reads_stays_until_it_ends(tmp_path: Path) -> None:
    """Also when it was killed, and could not say so; what it left of its own is gone then."""
    program = """
        import sys
        from pathlib import Path
        from tests.unit.offline.test_objects import Store

        store = Store(Path(sys.argv[1]), most=200)
        held = store.get("s3://b/a")
        store.cache.staging().write_bytes(b"half")
        print("reading", flush=True)
        sys.stdin.read()
    """
    command = [sys.executable, "-c", textwrap.dedent(program), str(tmp_path / "c")]
    root = Path(__file__).parents[3]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=root) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "reading\n"
        store = Store(tmp_path / "c", most=200)
        for letter in "bcd":
            store.get(f"s3://b/{letter}")
        assert "a" in store.copies()
        process.kill()
        process.wait(60)
    store.get("s3://b/e")
    assert store.copies() == {"d", "e"}
    assert len(list((tmp_path / "c" / "users").iterdir())) == 2, "this process's own folder and lock"


def test_an_emptied_folder_is_filled_again(tmp_path: Path) -> None:
    """By the process that has it open: what it reads is copied again, and what it held is noted again."""
    store, other = Store(tmp_path / "c", most=200), Store(tmp_path / "c", most=200)
    held = store.get("s3://b/a")
    shutil.rmtree(tmp_path / "c")

    assert store.get("s3://b/b").path.read_bytes() == b"b" * 100
    assert store.get("s3://b/a").path.read_bytes() == b"a" * 100
    gc.collect()
    for letter in "cd":
        other.get(f"s3://b/{letter}")
    assert "a" in other.copies()
    assert held.path.read_bytes() == b"a" * 100
    assert len(list((tmp_path / "c" / "users").iterdir())) == 4, "a folder and a lock of each store"


def test_a_folder_that_is_emptied_while_a_file_is_stored_lacks_its_copy(tmp_path: Path) -> None:
    store = Store(tmp_path / "c")
    staged = _written(store.cache.staging(), b"a" * 100)
    shutil.rmtree(tmp_path / "c")

    store.cache.adopt(staged, "s3://b/a")
    assert store.get("s3://b/a").path.read_bytes() == b"a" * 100
    assert store.asked == ["s3://b/a"]


def test_a_download_that_fails_leaves_nothing(tmp_path: Path) -> None:
    """And the next one is made as if there had been none."""
    store = Store(tmp_path / "c")

    def failing(url: str, path: Path) -> None:
        del url
        path.write_bytes(b"half")
        raise ConnectionError("gone")

    with pytest.raises(ConnectionError):
        store.cache.get([("s3://b/a", "")], failing)
    assert store.get("s3://b/a").path.read_bytes() == b"a" * 100
    assert [path.name for path in (tmp_path / "c").rglob(".temp-*")] == []


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"path": "ftp://host/x"}, "ftp"),
        ({"path": "s3://"}, "s3://"),
        ({"path": "s3://bucket", "retries": -1}, "retries"),
        ({"path": "s3://bucket", "timeout": 0}, "timeout"),
        ({"path": "s3://bucket", "cache_bytes": 1.5}, "cache_bytes"),
        ({"path": "s3://bucket", "allow_http": "yes"}, "allow_http"),
        ({"path": "s3://bucket", "cache": 7}, "cache"),
        ({"path": "s3://bucket", "secret_access_key": 12345678}, "secret_access_key"),
        ({"path": "here", "endpoint": "http://127.0.0.1"}, "endpoint"),
    ],
)
def test_options_that_cannot_be(tmp_path: Path, options: dict[str, Any], said: str) -> None:
    """Refused before anything is asked, and a secret is not shown."""
    with pytest.raises(ConfigError, match=said) as error:
        create("offline_stores", "parquet", {"root": str(tmp_path), **options})
    assert "12345678" not in str(error.value)


def test_secrets_are_not_shown() -> None:
    """Neither by `repr` nor by `str`."""
    options = BucketOptions("s3://b", access_key_id="AKIA-1", secret_access_key="s3cr3t", session_token="t0k3n")
    assert not any(secret in f"{options!r} {options}" for secret in ("AKIA-1", "s3cr3t", "t0k3n"))
    assert {"AKIA-1", "s3cr3t", "t0k3n"} <= set(options.secrets)


def test_names_of_azure() -> None:
    """Its account and key go under the same two options."""
    options = BucketOptions("az://container/x", access_key_id="account", secret_access_key="key", region="r")
    assert options.config == {"account_name": "account", "account_key": "key"}


def test_the_client_may_be_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then its install command is said."""
    monkeypatch.setitem(sys.modules, "obstore", None)
    with pytest.raises(MissingDependencyError) as error:
        create("offline_stores", "parquet", {"root": str(tmp_path), "path": "s3://bucket/x"})
    assert error.value.try_ == "pip install 'grange[objectstores]'"


def test_no_client_is_loaded_for_a_folder(tmp_path: Path) -> None:
    """A store on the disk needs none."""
    program = (
        "import sys\nfrom grange.ports.plugins import create\n"
        f"create('offline_stores', 'parquet', {{'root': {str(tmp_path)!r}}})\n"
        "sys.exit('obstore' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
