"""Digests of files: every byte counts, what is kept is not believed blindly."""

import hashlib
import json
import os
import time

import pytest

from jaxvlm import digests

PIECE = 16 * 2**20
OLD_NS = 10**18  # long ago


def written(file, content: bytes, mtime_ns: int = OLD_NS):
  file.write_bytes(content)
  os.utime(file, ns=(mtime_ns, mtime_ns))
  return file


def expected(content: bytes) -> str:
  pieces = (content[i : i + PIECE] for i in range(0, len(content), PIECE))
  inner = b"".join(hashlib.sha256(piece).digest() for piece in pieces)
  return hashlib.sha256(inner).hexdigest()


@pytest.fixture
def reads(monkeypatch):
  """Names of the files of which a piece was read."""
  seen, read = [], digests._piece

  def counted(file, start):
    seen.append(file.name)
    return read(file, start)

  monkeypatch.setattr(digests, "_piece", counted)
  digests._remembered.cache_clear()
  return seen


@pytest.mark.parametrize("size", [0, 1, PIECE, PIECE + 1])
def test_it_is_the_digest_of_the_pieces_digests(tmp_path, size):
  content = bytes(size - 1) + b"x" if size else b""
  file = written(tmp_path / "a", content)
  assert digests.of_file(file) == expected(content)
  assert [f.name for f in tmp_path.iterdir()] == ["a"]  # too small to keep


def test_a_second_look_reads_nothing(tmp_path, reads):
  files = [written(tmp_path / name, name.encode()) for name in "ab"]
  first = [digests.of_file(file, keep_from=1) for file in files]
  digests._remembered.cache_clear()  # as another process would find it
  assert [digests.of_file(file, keep_from=1) for file in files] == first
  assert reads == ["a", "b"] and len(set(first)) == 2
  assert {f.name for f in tmp_path.iterdir()} == {"a", "b", digests.CACHE}


@pytest.mark.parametrize(
  "content, mtime_ns", [(b"new", OLD_NS + 1), (b"longer", OLD_NS)]
)
def test_another_size_or_time_is_read_again(tmp_path, content, mtime_ns):
  file = written(tmp_path / "a", b"old")
  digests.of_file(file, keep_from=1)
  written(file, content, mtime_ns)
  assert digests.of_file(file, keep_from=1) == expected(content)


@pytest.mark.parametrize(
  "kept",
  [
    b"",
    b"{",
    b"[]",
    b"\xff",
    b'{"a": 3}',
    b'{"a": [3, %d]}' % OLD_NS,
    b'{"a": [3, %d, "short"]}' % OLD_NS,
    b'{"a": [3, %d, null]}' % OLD_NS,
  ],
)
def test_a_damaged_note_is_ignored_and_replaced(tmp_path, reads, kept):
  file = written(tmp_path / "a", b"abc")
  (tmp_path / digests.CACHE).write_bytes(kept)
  assert digests.of_file(file, keep_from=1) == expected(b"abc")
  note = json.loads((tmp_path / digests.CACHE).read_text())
  assert note["a"] == [3, OLD_NS, expected(b"abc")]


def test_a_folder_that_cannot_be_written_is_remembered(tmp_path, reads):
  file = written(tmp_path / "a", b"abc")
  (tmp_path / digests.CACHE).mkdir()  # nothing can be put in its place
  for _ in range(2):
    assert digests.of_file(file, keep_from=1) == expected(b"abc")
  assert reads == ["a"]
  assert {f.name for f in tmp_path.iterdir()} == {"a", digests.CACHE}


def test_a_file_of_this_moment_is_not_noted(tmp_path, reads):
  later_ns = time.time_ns() + 10**12
  for content in (b"one", b"two"):  # within one tick of the clock
    file = written(tmp_path / "a", content, later_ns)
    assert digests.of_file(file, keep_from=1) == expected(content)
  assert not (tmp_path / digests.CACHE).exists()


def test_a_file_that_grows_meanwhile_is_refused(tmp_path, monkeypatch):
  file = written(tmp_path / "a", b"abc")
  read = digests._piece

  def grows(file, start):
    found = read(file, start)
    file.write_bytes(b"abcd")
    return found

  monkeypatch.setattr(digests, "_piece", grows)
  with pytest.raises(ValueError, match="a changed while it was read"):
    digests.of_file(file)
