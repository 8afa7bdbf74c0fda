"""Python in the pages runs, one page after another in a folder of its own."""

import json

import pytest

from tests.docs import pages

# Pages with a test of their own, which says more of them.
ELSEWHERE = {
  "WORKSPACE.md",  # recipes: tests/recipes_test.py
  "docs/code.md",
  "docs/graders.md",
  "docs/own_rows.md",
}
SLOW = {"docs/rollouts.md"}
# A page may read `rows.jsonl`.
ROW = {"question": "What is 1 and 1?", "response": "2", "answer": "2"}


def shown():
  names = [n for n in pages.names() if pages.blocks(n, "python")]
  for name in names:
    if name not in ELSEWHERE:
      marks = (pytest.mark.slow,) if name in SLOW else ()
      yield pytest.param(name, marks=marks)


@pytest.mark.parametrize("name", list(shown()))
def test_the_code_of_a_page_runs(name, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  (tmp_path / "rows.jsonl").write_text(json.dumps(ROW) + "\n")
  known = {}
  for _, code in pages.blocks(name, "python"):
    exec(compile(code, name, "exec"), known)
