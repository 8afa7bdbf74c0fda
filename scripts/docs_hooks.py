"""Brings what stands outside of docs/ into the site, and mends links to it.

Pages link to studies, results and sources by their place in the tree, where
people read them, too. `mkdocs` knows docs/ alone: what is linked to becomes a
page or a picture of the site at its own path, sources as code.
"""

import pathlib
import posixpath
import re

from mkdocs.structure.files import File

ROOT = pathlib.Path(__file__).parents[1]
_DOCS = "docs"
# Pages of the site that none of docs/ need link to.
_BEGIN = ("WORKSPACE.md", "experiments/nano/README.md")
# A target, but for addresses and headings of the same page.
_LINK = re.compile(r"(\]\()(?![a-z]+:|#)([^)\s#]+)")
_FENCE = re.compile(r"(^```.*?^```$|`[^`\n]*`)", re.DOTALL | re.MULTILINE)
_PICTURES = {".png", ".svg", ".jpg"}
_LANGUAGES = {".py": "python", ".sh": "bash", ".json": "json"}


def on_files(files, config):
  """Adds what pages link to, and what that links to."""
  waiting = [
    f"{_DOCS}/{file.src_uri}" for file in files if file.src_uri.endswith(".md")
  ]
  waiting += _BEGIN
  seen = set()
  while waiting:
    place = waiting.pop()
    if place in seen:
      continue
    seen.add(place)
    if not place.startswith(f"{_DOCS}/"):
      files.append(_file(place, config))
    if place.endswith(".md"):
      waiting += [t for t in _targets(place) if (ROOT / t).is_file()]
  return files


def on_page_markdown(markdown, *, page, config, files):
  """Writes links as the site has them."""
  inside = page.file.src_uri
  place = inside if page.file.generated_by else f"{_DOCS}/{inside}"
  if place.endswith(tuple(f"{ending}.md" for ending in _LANGUAGES)):
    return markdown

  def mended(match):
    target = _resolved(place, match[2])
    if (ROOT / target).is_dir():
      target = f"{target}/README.md"
    relative = posixpath.relpath(_uri(target), posixpath.dirname(inside))
    return match[1] + relative

  parts = _FENCE.split(markdown)
  return "".join(
    part if number % 2 else _LINK.sub(mended, part)
    for number, part in enumerate(parts)
  )


def _targets(place):
  text = _FENCE.sub("", (ROOT / place).read_text("utf-8"))
  for _, target in _LINK.findall(text):
    found = _resolved(place, target)
    if not found.startswith(f"{_DOCS}/"):
      yield f"{found}/README.md" if (ROOT / found).is_dir() else found


def _resolved(place, target):
  return posixpath.normpath(posixpath.join(posixpath.dirname(place), target))


def _uri(place):
  """Returns where the site has a file of the tree."""
  if place.startswith(f"{_DOCS}/"):
    return place.removeprefix(f"{_DOCS}/")
  if pathlib.PurePath(place).suffix in {".md", *_PICTURES}:
    return place
  return f"{place}.md"


def _file(place, config):
  ending = pathlib.PurePath(place).suffix
  if ending == ".md":
    content = (ROOT / place).read_text("utf-8")
  elif ending in _PICTURES:
    content = (ROOT / place).read_bytes()
  else:
    text = (ROOT / place).read_text("utf-8").rstrip()
    language = _LANGUAGES.get(ending, "text")
    content = f"# {place}\n\n````{language}\n{text}\n````\n"
  return File.generated(config, _uri(place), content=content)
