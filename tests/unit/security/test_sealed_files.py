"""Sealed files: any content, any length; nothing changed, cut, swapped or moved opens (SEC-9)."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grange.errors import CorruptStoreError, TamperedError
from grange.security.encryption import Sealer, open_file, open_stream, seal_file, seal_stream
from grange.security.encryption import files as files_module
from grange.security.encryption.files import CHUNK, MAGIC, is_sealed, reseal_file
from grange.security.encryption.local import KeyRing
from grange.security.encryption.sealer import TAG

OLD, NEW = bytes(range(32)), bytes(range(32, 64))
SEALER = Sealer(KeyRing({"old": OLD}))
START = len(MAGIC) + 1 + 2 + len("old") + 40 + 32
"""Where the chunks begin."""
lengths = st.sampled_from([0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 3 * CHUNK + 5])


def content(length: int) -> bytes:
    return bytes(number * 7 % 251 for number in range(length))


def sealed(plain: bytes, context: bytes = b"here", sealer: Sealer = SEALER) -> bytes:
    out = io.BytesIO()
    assert seal_stream(io.BytesIO(plain), out, sealer, context) == len(out.getvalue())
    return out.getvalue()


def opened(data: bytes, context: bytes = b"here", sealer: Sealer = SEALER) -> bytes:
    out = io.BytesIO()
    assert open_stream(io.BytesIO(data), out, sealer, context) == len(out.getvalue())
    return out.getvalue()


class Dripping(io.BytesIO):
    """A pipe that gives a few bytes at a time."""

    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(min(size or 0, 1000))


@pytest.mark.parametrize("length", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 3 * CHUNK + 5])
def test_a_file_of_any_length_comes_back(length: int) -> None:
    plain = content(length)
    data = sealed(plain)
    assert opened(data, sealer=Sealer(KeyRing({"old": OLD}))) == plain
    chunks = max(1, -(-length // CHUNK))
    assert len(data) == START + length + chunks * TAG
    out = io.BytesIO()
    open_stream(Dripping(data), out, SEALER, b"here")
    assert out.getvalue() == plain


@settings(max_examples=60, deadline=None)
@given(lengths, st.data())
def test_no_file_opens_that_was_changed_by_a_single_bit(length: int, data: st.DataObject) -> None:
    changed = bytearray(sealed(content(length)))
    near = st.sampled_from([0, len(MAGIC), START - 1, START, START + CHUNK, START + CHUNK + TAG, len(changed) - 1])
    place = min(data.draw(near | st.integers(0, len(changed) - 1)), len(changed) - 1)
    changed[place] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(CorruptStoreError):
        opened(bytes(changed))


@settings(max_examples=60, deadline=None)
@given(lengths, st.data())
def test_no_file_opens_that_was_cut_anywhere_or_grew(length: int, data: st.DataObject) -> None:
    whole = sealed(content(length))
    ends = range(START + CHUNK + TAG, len(whole), CHUNK + TAG)
    cut = data.draw(st.sampled_from([0, len(MAGIC), START, *ends]) | st.integers(0, len(whole) - 1))
    if cut < len(whole):
        with pytest.raises(TamperedError):
            opened(whole[:cut])
    for more in (b"\0", whole[START:], bytes(CHUNK + TAG)):
        with pytest.raises(TamperedError):
            opened(whole + more)


def chunks_of(data: bytes) -> list[bytes]:
    return [data[place : place + CHUNK + TAG] for place in range(START, len(data), CHUNK + TAG)]


@pytest.mark.parametrize("order", [[1, 0, 2], [0, 2], [0, 0, 2], [0, 1], [1, 2], [2], [0, 1, 2, 2], [0, 1, 1, 2]])
def test_no_file_opens_whose_chunks_were_swapped_repeated_or_left_out(order: list[int]) -> None:
    data = sealed(content(2 * CHUNK + 9))
    chunks = chunks_of(data)
    with pytest.raises(TamperedError):
        opened(data[:START] + b"".join(chunks[place] for place in order))


def test_chunks_of_another_file_do_not_fit() -> None:
    one, other = sealed(content(3 * CHUNK)), sealed(content(3 * CHUNK))
    mixed = chunks_of(one)[:1] + chunks_of(other)[1:]
    for start in (one[:START], other[:START]):
        with pytest.raises(TamperedError):
            opened(start + b"".join(mixed))


@pytest.mark.parametrize(
    "how", [{"context": b"there"}, {"sealer": Sealer(KeyRing({"old": NEW}))}, {"sealer": Sealer(KeyRing({"new": NEW}))}]
)
def test_no_file_opens_in_another_place_or_with_other_keys(how: dict[str, Any]) -> None:
    with pytest.raises(CorruptStoreError):
        opened(sealed(b"content"), **how)


def test_a_sealed_value_is_no_sealed_file_and_the_reverse() -> None:
    with pytest.raises(TamperedError):
        opened(SEALER.seal(b"x", b"here"))
    with pytest.raises(TamperedError):
        SEALER.open(sealed(b"x"), b"here")


def test_equal_files_are_never_sealed_equally() -> None:
    assert len({chunk for _ in range(50) for chunk in chunks_of(sealed(b"same"))}) == 50


def test_files_are_there_whole_or_not_at_all(tmp_path: Path) -> None:
    plain, target, back = tmp_path / "plain", tmp_path / "sealed", tmp_path / "back"
    plain.write_bytes(content(2 * CHUNK))
    seal_file(plain, target, SEALER, b"here")
    assert is_sealed(target) and not is_sealed(plain)
    assert open_file(target, back, SEALER, b"here") == 2 * CHUNK and back.read_bytes() == plain.read_bytes()
    target.write_bytes(target.read_bytes()[:-1])
    with pytest.raises(TamperedError):
        open_file(target, tmp_path / "never", SEALER, b"here")
    with pytest.raises(TamperedError):
        open_file(target, back, SEALER, b"here")
    assert back.read_bytes() == plain.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["back", "plain", "sealed"]


def test_a_file_may_be_sealed_in_its_place(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"content")
    seal_file(path, path, SEALER, b"here")
    assert b"content" not in path.read_bytes()
    open_file(path, path, SEALER, b"here")
    assert path.read_bytes() == b"content"


def test_a_file_is_sealed_again_under_a_new_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    path.write_bytes(sealed(content(CHUNK + 1)))
    rotated = Sealer(KeyRing({"new": NEW, "old": OLD}))
    assert reseal_file(path, rotated, b"here") is True
    assert reseal_file(path, rotated, b"here") is False
    assert opened(path.read_bytes(), sealer=Sealer(KeyRing({"new": NEW}))) == content(CHUNK + 1)
    before = path.read_bytes()
    path.write_bytes(before[:-1])
    with pytest.raises(TamperedError):
        reseal_file(path, Sealer(KeyRing({"newer": OLD, "new": NEW})), b"here")
    assert path.read_bytes() == before[:-1]


def test_memory_does_not_grow_with_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """At most two chunks are held, whatever the length."""
    asked: list[int] = []

    class Endless:
        """Forty chunks, of which none is kept."""

        left = 40 * CHUNK

        def read(self, size: int) -> bytes:
            asked.append(size)
            given = min(size, self.left)
            self.left -= given
            return bytes(given)

    class Nowhere:
        def write(self, data: bytes) -> None:
            asked.append(len(data))

    assert seal_stream(Endless(), Nowhere(), SEALER, b"") > 40 * CHUNK  # type: ignore[arg-type]
    assert max(asked) <= CHUNK + TAG
    assert files_module.CHUNK == CHUNK
