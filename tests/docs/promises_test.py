"""Tests that pages name as evidence are there."""

import ast
import re

import pytest

from tests.docs import pages

_TEST = re.compile(r"`(tests/[\w/]+\.py)(?:::(\w+))?`")


def named():
  return {
    (name, *found)
    for name in pages.names()
    for found in _TEST.findall(pages.read(name))
  }


def functions(path):
  tree = ast.parse(pages.read(path))
  return {n.name for n in tree.body if isinstance(n, ast.FunctionDef)}


def test_every_test_that_is_named_exists():
  for page, path, function in named():
    assert (pages.ROOT / path).is_file(), (page, path)
    assert not function or function in functions(path), (page, path, function)


def test_every_promise_names_a_test_and_says_where_it_is_slow():
  rows = [
    line
    for line in pages.read("docs/reliability.md").splitlines()
    if line.startswith("| ") and not line.startswith("| promise")
  ]
  assert len(rows) > 25
  for row in rows:
    assert _TEST.search(row), row


@pytest.mark.parametrize("page", ["docs/reliability.md", "docs/security.md"])
def test_a_page_of_promises_is_found(page):
  assert sum(found[0] == page for found in named()) >= 8
