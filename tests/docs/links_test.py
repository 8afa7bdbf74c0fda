"""Pages point at what is there, and the front page stays short."""

import posixpath

import pytest

from tests.docs import pages


@pytest.mark.parametrize("name", pages.names())
def test_every_link_has_a_target(name):
  for target in pages.links(name):
    if target.startswith(("http://", "https://", "mailto:")):
      continue
    path, _, anchor = target.partition("#")
    place = posixpath.normpath(posixpath.join(posixpath.dirname(name), path))
    page = place if path else name
    assert (pages.ROOT / page).exists(), f"{name}: no {target}"
    if anchor:
      assert anchor in pages.anchors(page), f"{name}: no heading {target}"


def test_a_missing_heading_is_noticed():
  assert "what-it-takes" in pages.anchors("README.md")
  assert "what-it-gives" not in pages.anchors("README.md")


def test_the_front_page_is_short():
  assert len(pages.read("README.md").encode()) <= 6000
