"""Answers of a file as exact text."""

import json

import pytest

from jaxvlm.data.sources.records import answer_text, records


def read(tmp_path, text: str):
  file = tmp_path / "file.jsonl"
  file.write_text(text)
  ((_, value),) = records(file)
  return value


@pytest.mark.parametrize(
  "written, text",
  [
    ("47", "47"),
    ("-47", "-47"),
    ("47.0", "47"),
    ("2.50", "2.5"),
    ("0.1", "0.1"),
    ("-0.0", "0"),
    ("1e3", "1000"),
    ("1.5e-3", "0.0015"),
    ("100.0", "100"),
    ("123456789012345678901234567890", "123456789012345678901234567890"),
    ("0.1234567890123456789012345678901", "0.1234567890123456789012345678901"),
    ('"47"', "47"),
    ('" 2.50 "', " 2.50 "),
    ('["2\\\\sqrt{3}"]', "2\\sqrt{3}"),
    ("[2.50]", "2.5"),
    ("null", ""),
    ("[null]", ""),
  ],
)
def test_an_answer_keeps_its_digits(tmp_path, written, text):
  assert answer_text(read(tmp_path, written)) == text


@pytest.mark.parametrize(
  "written",
  [
    "true",
    "[false]",
    "NaN",
    "-Infinity",
    "[NaN]",
    "{}",
    '[{"value": 1}]',
    "[]",
    "[1, 2]",
    "[[1]]",
    "1e999999999",
    "1e-999999999",
  ],
)
def test_what_is_no_answer_is_refused(tmp_path, written):
  with pytest.raises(TypeError, match="answer is .*, expected a text"):
    answer_text(read(tmp_path, written))


@pytest.mark.parametrize(
  "line",
  [b"{", b"\xff", b"[" * 100_000, b"7" * 5000],
  ids=["cut", "no UTF-8", "deep", "long"],
)
def test_a_line_that_is_no_json_is_named(tmp_path, line):
  file = tmp_path / "file.jsonl"
  good = json.dumps(["\u2028 is no line end"], ensure_ascii=False).encode()
  file.write_bytes(good + b"\n\n" + line)
  with pytest.raises(ValueError, match=r"file\.jsonl, line 3: .*expected a"):
    list(records(file))
