"""Sealing: what opens, what does not, and what never repeats (SEC-9)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grange.errors import (
    ConfigError,
    CorruptStoreError,
    GrangeError,
    MissingDependencyError,
    StoreUnavailableError,
    TamperedError,
    UnknownBackendError,
)
from grange.ports import plugins
from grange.ports.plugins import Descriptor
from grange.security.encryption import KeyService, Sealer, sealer_from
from grange.security.encryption.local import DESCRIPTOR, KeyRing, key_ring, parse_keys
from grange.security.encryption.sealer import NONCE, TAG

OLD, NEW = bytes(range(32)), bytes(range(32, 64))
RING = KeyRing({"old": OLD})
HEADER = 2 + len("old") + 40


class Counting:
    """A key service that counts, and can be cut off."""

    name = "counting"

    def __init__(self) -> None:
        self.wrapped = self.unwrapped = 0
        self.is_down = False

    def wrap(self, data_key: bytes) -> bytes:
        self._check()
        self.wrapped += 1
        return RING.wrap(data_key)

    def unwrap(self, wrapped: bytes) -> bytes:
        self._check()
        self.unwrapped += 1
        return RING.unwrap(wrapped)

    def is_current(self, wrapped: bytes) -> bool:
        return RING.is_current(wrapped)

    def _check(self) -> None:
        if self.is_down:
            raise StoreUnavailableError("the key service cannot be reached")


# -- sealing


@settings(deadline=None)
@given(st.binary(max_size=300), st.binary(max_size=50))
def test_what_is_sealed_opens_in_any_process_with_the_keys(plain: bytes, context: bytes) -> None:
    sealed = Sealer(RING).seal(plain, context)
    assert Sealer(KeyRing({"old": OLD})).open(sealed, context) == plain
    assert len(sealed) == HEADER + NONCE + len(plain) + TAG


@settings(deadline=None)
@given(st.binary(min_size=16, max_size=100), st.data())
def test_nothing_opens_that_was_changed_by_a_single_bit(plain: bytes, data: st.DataObject) -> None:
    sealer = Sealer(RING)
    sealed = bytearray(sealer.seal(plain, b"here"))
    bit = data.draw(st.integers(0, len(sealed) * 8 - 1))
    sealed[bit // 8] ^= 1 << bit % 8
    with pytest.raises(CorruptStoreError):  # a changed key's name is one that the ring does not have
        sealer.open(bytes(sealed), b"here")


@settings(deadline=None)
@given(st.binary(max_size=100), st.data())
def test_nothing_opens_that_was_cut_or_grew(plain: bytes, data: st.DataObject) -> None:
    sealer = Sealer(RING)
    sealed = sealer.seal(plain, b"here")
    for other in (sealed[: data.draw(st.integers(0, len(sealed) - 1))], sealed + b"\0", b"\0" + sealed):
        with pytest.raises(TamperedError):
            sealer.open(other, b"here")


@settings(deadline=None)
@given(st.binary(max_size=20), st.binary(max_size=20))
def test_nothing_opens_in_another_place(context: bytes, other: bytes) -> None:
    sealer = Sealer(RING)
    if context != other:
        with pytest.raises(TamperedError):
            sealer.open(sealer.seal(b"plain", context), other)


def test_nothing_opens_for_another_purpose_or_with_other_keys() -> None:
    sealer = Sealer(RING)
    rows, cells = sealer.for_purpose("rows"), sealer.for_purpose("cells")
    sealed = rows.seal(b"plain", b"")
    assert sealer.for_purpose("rows").open(sealed, b"") == Sealer(RING, purpose="rows").open(sealed, b"") == b"plain"
    for other in (cells, sealer, Sealer(KeyRing({"old": NEW}), purpose="rows")):
        with pytest.raises(TamperedError):
            other.open(sealed, b"")


def test_equal_values_are_never_sealed_equally() -> None:
    sealer = Sealer(RING, seals_per_key=1000)
    sealed = [sealer.seal(b"same", b"") for _ in range(20_000)]
    keys_and_nonces = {item[: HEADER + NONCE] for item in sealed}
    assert len(keys_and_nonces) == len({item[HEADER + NONCE :] for item in sealed}) == 20_000
    assert len({item[:HEADER] for item in sealed}) == 20


def test_purposes_share_the_count_of_a_data_key() -> None:
    service = Counting()
    sealer = Sealer(service, seals_per_key=4)
    for purpose in ("a", "b", "c") * 4:
        sealer.for_purpose(purpose).seal(b"", b"")
    assert service.wrapped == 3


def test_a_data_key_seals_for_a_day() -> None:
    service, clock = Counting(), [0.0]
    sealer = Sealer(service, monotonic=lambda: clock[0])
    sealed = []
    for hour in range(0, 72, 6):
        clock[0] = hour * 3600.0
        sealed.append(sealer.seal(b"x", b""))
    assert service.wrapped == len({item[:HEADER] for item in sealed}) == 3
    assert [sealer.open(item, b"") for item in sealed] == [b"x"] * 12


def test_a_data_key_is_unwrapped_once() -> None:
    sealed = [Sealer(RING).seal(b"x", b"") for _ in range(3)]
    service = Counting()
    sealer = Sealer(service)
    for item in sealed * 10:
        sealer.open(item, b"")
    assert service.unwrapped == 3


def test_an_outage_of_the_key_service_is_an_outage_and_known_keys_go_on() -> None:
    service = Counting()
    sealer = Sealer(service)
    known, unknown = sealer.seal(b"x", b""), Sealer(RING).seal(b"x", b"")
    service.is_down = True
    assert sealer.open(known, b"") == b"x" and sealer.open(sealer.seal(b"y", b""), b"") == b"y"
    for call in (lambda: sealer.open(unknown, b""), lambda: Sealer(service).seal(b"", b""), Sealer(service).check):
        with pytest.raises(StoreUnavailableError):
            call()
    service.is_down = False
    Sealer(service).check()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks on this system")
def test_a_child_process_never_seals_with_its_parent_s_key() -> None:
    code = """if True:
        import os, sys
        from grange.security.encryption import Sealer
        from grange.security.encryption.local import KeyRing
        sealer = Sealer(KeyRing({"old": bytes(range(32))}))
        before = sealer.seal(b"parent", b"")
        reader, writer = os.pipe()
        if os.fork() == 0:
            os.write(writer, sealer.seal(b"child", b""))
            os._exit(0)
        os.wait()
        for sealed in (before, os.read(reader, 1000), sealer.seal(b"parent", b"")):
            print(sealed.hex())
    """
    ran = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60)
    before, child, after = map(bytes.fromhex, ran.stdout.split())
    assert [Sealer(RING).open(item, b"") for item in (before, child, after)] == [b"parent", b"child", b"parent"]
    assert before[:HEADER] == after[:HEADER] != child[:HEADER]


# -- rotation


def test_a_new_primary_key_seals_and_the_old_one_still_opens() -> None:
    sealed = Sealer(RING).seal(b"x", b"here")
    rotated = Sealer(KeyRing({"new": NEW, "old": OLD}))
    assert rotated.open(sealed, b"here") == b"x"
    assert rotated.is_outdated(sealed) and not rotated.is_outdated(rotated.seal(b"", b""))
    again = rotated.reseal(sealed, b"here")
    assert rotated.reseal(again, b"here") is again
    without = Sealer(KeyRing({"new": NEW}))
    assert without.open(again, b"here") == b"x"
    with pytest.raises(CorruptStoreError) as caught:
        without.open(sealed, b"here")
    assert "sealed under key 'old'" in str(caught.value) and "keys new" in str(caught.value)


def test_resealing_takes_nothing_that_was_changed() -> None:
    sealed = bytearray(Sealer(RING).seal(b"x", b"here"))
    sealed[-1] ^= 1
    with pytest.raises(TamperedError):
        Sealer(KeyRing({"new": NEW, "old": OLD})).reseal(bytes(sealed), b"here")


# -- key rings


OLD_TEXT = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="


def test_a_key_ring_is_read_of_lines_and_of_lists() -> None:
    text = f"# ours\n2026b:{OLD_TEXT}  # primary\n\n2026a: {OLD_TEXT} , x.y-z:{OLD_TEXT.rstrip('=')}=\n"
    assert list(parse_keys(text).items()) == [("2026b", OLD), ("2026a", OLD), ("x.y-z", OLD)]
    assert parse_keys("a:-_-_" + "A" * 39 + "=") == {"a": b"\xfb\xff\xbf" + bytes(29)}


@pytest.mark.parametrize(
    "text", [OLD_TEXT, "a:", f":{OLD_TEXT}", "a:SHORT", f"a b:{OLD_TEXT}", f"a:{OLD_TEXT}x", f"{'n' * 33}:{OLD_TEXT}",
             f"a:{OLD_TEXT}\na:{OLD_TEXT}", f"a:{OLD_TEXT[:-5]}"]
)  # fmt: skip
def test_what_is_no_key_ring_is_refused_without_showing_it(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_keys(text)
    assert OLD_TEXT[:20] not in str(caught.value) and "SHORT" not in str(caught.value)


def test_a_key_ring_lies_in_a_file_that_only_its_owner_reads(tmp_path: Path) -> None:
    path = tmp_path / "keyring"
    path.write_text(f"old:{OLD_TEXT}\n")
    for mode in (0o644, 0o640, 0o604, 0o620):
        path.chmod(mode)
        with pytest.raises(ConfigError, match="others may read") as caught:
            key_ring("file:keyring", tmp_path)
        assert f"{mode:04o}" in str(caught.value) and "chmod 600" in str(caught.value)
    path.chmod(0o600)
    assert Sealer(key_ring("file:keyring", tmp_path)).open(Sealer(RING).seal(b"x", b""), b"") == b"x"


def test_a_key_ring_may_be_in_the_environment_or_in_both(tmp_path: Path) -> None:
    path = tmp_path / "keyring"
    path.write_text(f"old:{OLD_TEXT}\n")
    path.chmod(0o600)
    environ = {"KEYS": f"new:{'A' * 43}=,old:{OLD_TEXT}"}
    assert key_ring("env:KEYS", environ=environ).primary == "new"
    assert key_ring("env:KEYS, file:keyring", tmp_path, environ).primary == "new"
    assert key_ring("file:keyring,env:KEYS", tmp_path, environ).primary == "old"
    with pytest.raises(ConfigError, match="two keys are called 'old'"):
        key_ring("file:keyring,env:KEYS", tmp_path, {"KEYS": f"old:{'A' * 43}="})


@pytest.mark.parametrize(
    "reference", ["file:none", "env:NONE", "file:", "env:", "keyring", "s3:x", "file:.", "env:EMPTY"]
)
def test_a_key_ring_that_is_not_there(reference: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        key_ring(reference, tmp_path, {"EMPTY": "  "})


def test_keys_are_in_no_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEYS", f"old:{OLD_TEXT}")
    sealer = sealer_from("env:KEYS", tmp_path)
    sealer.seal(b"x", b"")
    data_keys = sealer._keys
    texts = [repr(key_ring("env:KEYS")), repr(sealer), repr(data_keys._current), repr(vars(RING).keys())]
    for text in texts:
        assert OLD_TEXT not in text and repr(OLD) not in text
        assert data_keys._current is not None and repr(data_keys._current.key) not in text


# -- references


def test_a_reference_names_a_key_ring_or_a_service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEYS", f"old:{OLD_TEXT}")
    made: list[dict[str, Any]] = []

    def factory(**options: Any) -> KeyService:
        made.append(options)
        return Counting()

    vault = Descriptor("vault", factory, "", options={"reference": ""})
    known = {"local": DESCRIPTOR, "vault": vault}
    monkeypatch.setattr(plugins, "backends", lambda port: known if port == "key_services" else {})
    sealed = sealer_from("env:KEYS", tmp_path).seal(b"x", b"")
    for reference in ("local:env:KEYS", "vault:secret/data/grange"):
        assert sealer_from(reference, tmp_path).open(sealed, b"") == b"x"
    assert made == [{"root": tmp_path, "reference": "secret/data/grange"}]
    with pytest.raises(UnknownBackendError) as caught:
        sealer_from("valt:x", tmp_path)
    assert caught.value.closest == ("vault",)


@pytest.mark.parametrize("reference", ["", OLD_TEXT, "env:", ":x"])
def test_a_reference_that_is_the_key_itself_is_not_repeated(reference: str) -> None:
    with pytest.raises(GrangeError) as caught:
        sealer_from(reference)
    assert OLD_TEXT not in str(caught.value)


def test_without_the_package_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cryptography", None)
    with pytest.raises(MissingDependencyError, match="cryptography") as caught:
        KeyRing({"old": OLD})
    assert "grange[security]" in str(caught.value)
