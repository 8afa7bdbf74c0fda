"""docs/file_layouts.md: every example is read as what it stands under."""

import pathlib
import re

import pytest

from jaxvlm.data import own

PAGE = (pathlib.Path(__file__).parents[3] / "docs/file_layouts.md").read_text()
_HEADING_OR_EXAMPLE = re.compile(
  r"^## ([^\n]+)$|^```json\n(.*?)\n```$", re.M | re.S
)


def examples():
  heading = ""
  for match in _HEADING_OR_EXAMPLE.finditer(PAGE):
    heading = match[1] or heading
    if match[2]:
      yield heading, match[2]


def test_every_layout_has_an_example():
  shown = {name for name, _ in examples()}
  assert shown == {layout.name for layout in own.LAYOUTS} - {"mathvista"}


@pytest.mark.parametrize("layout, text", list(examples()))
def test_an_example_is_read(tmp_path, layout, text):
  (tmp_path / "rows.jsonl").write_text(text + "\n")
  (tmp_path / "images").mkdir()
  (tmp_path / "images/a.png").write_bytes(b"")
  fits = {
    own.prompts: True,
    own.problems: '"answer"' in text or "ground_truth" in text,
    own.answered: any(
      key in text for key in ('"assistant"', "completion", "chosen", "response")
    ),
    own.pairs: "rejected" in text,
  }
  for form, expected in fits.items():
    if not expected:
      with pytest.raises(ValueError, match="none of 1 records"):
        own.read(tmp_path / "rows.jsonl", form)
      continue
    table = own.read(tmp_path / "rows.jsonl", form)
    assert table.layout == layout and len(table.rows) == 1
