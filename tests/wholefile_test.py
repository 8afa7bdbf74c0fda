"""A file is the old one or the new one, never half of either."""

import os

import pytest

from jaxvlm import wholefile


def test_what_raises_leaves_what_was_there_and_nothing_else(tmp_path):
  path = tmp_path / "name.json"
  wholefile.write_text(path, "old")
  with pytest.raises(KeyboardInterrupt):
    with wholefile.writing(path) as file:
      file.write(b"half")
      file.flush()
      assert path.read_text() == "old"
      raise KeyboardInterrupt
  assert path.read_text() == "old"
  assert os.listdir(tmp_path) == ["name.json"]
  wholefile.write_text(path, "π")
  assert path.read_bytes() == "π".encode()
