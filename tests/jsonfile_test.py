"""JSON files of a model folder: what cannot be read is named."""

import pytest

from jaxvlm import jsonfile


def test_an_object_is_read(tmp_path):
  file = tmp_path / "a.json"
  file.write_text('{"a": [1, "é"]}', encoding="utf-8")
  assert jsonfile.read(file) == {"a": [1, "é"]}


@pytest.mark.parametrize(
  "content, message",
  [
    (b"", "is empty"),
    (b" \n", "is empty"),
    (b'{"a": ', "is not JSON .*line 1 column"),
    (b"<html>", "is not JSON"),
    (b'\xef\xbb\xbf{"a": 1}', "is not JSON .*BOM"),
    (b'{"a": "\xff"}', "is not UTF-8"),
    (b"[]", "holds a list"),
    (b"null", "holds a NoneType"),
    (b"[" * 200_000, "is nested too deep"),
  ],
)
def test_what_is_no_object_is_named(tmp_path, content, message):
  file = tmp_path / "broken.json"
  file.write_bytes(content)
  with pytest.raises(ValueError, match=rf"broken\.json {message}.*expected a"):
    jsonfile.read(file)
  assert file.read_bytes() == content


def test_an_absent_file_is_named(tmp_path):
  with pytest.raises(FileNotFoundError, match=r"nowhere\.json"):
    jsonfile.read(tmp_path / "nowhere.json")
