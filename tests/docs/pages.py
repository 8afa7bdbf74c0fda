"""The project's pages, and what stands in them."""

import pathlib
import re

ROOT = pathlib.Path(__file__).parents[2]
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"\[[^\]\n]*\]\(([^)\s]+)\)")
_CODE = re.compile(r"^```.*?^```$|`[^`\n]*`", re.DOTALL | re.MULTILINE)


def names() -> list[str]:
  """Returns all pages, as paths from the root."""
  found = [ROOT / "README.md", ROOT / "WORKSPACE.md"]
  for folder in ("docs", "experiments", "benchmarks/results"):
    found += sorted((ROOT / folder).rglob("*.md"))
  return [str(path.relative_to(ROOT)) for path in found]


def read(name: str) -> str:
  return (ROOT / name).read_text("utf-8")


def blocks(name: str, *languages: str) -> list[tuple[str, str]]:
  """Returns (language, code) of a page's fenced blocks."""
  return [
    found for found in _BLOCK.findall(read(name)) if found[0] in languages
  ]


def links(name: str) -> list[str]:
  """Returns targets of a page's links and pictures, code left out."""
  return _LINK.findall(_CODE.sub("", read(name)))


def anchors(name: str) -> set[str]:
  """Returns the anchors of a page's headings, as they are made of them."""
  found = re.findall(r"^#+ (.*)$", _CODE.sub("", read(name)), re.MULTILINE)
  return {
    re.sub(r"[\s]", "-", re.sub(r"[^\w\s-]", "", title.lower())).strip("-")
    for title in found
  }
