"""A release says one version everywhere, and packs what it needs."""

import pathlib
import re
import runpy
import sys
import types

import jaxvlm

ROOT = pathlib.Path(__file__).parents[1]


def read(name):
  return (ROOT / name).read_text()


def packed(monkeypatch):
  """Returns what setup.py tells setuptools, which need not be here."""
  told = {}
  stand_in = types.SimpleNamespace(
    setup=told.update, find_packages=lambda include: include
  )
  monkeypatch.setitem(sys.modules, "setuptools", stand_in)
  runpy.run_path(str(ROOT / "setup.py"))
  return told


def test_one_version(monkeypatch):
  said = jaxvlm.__version__
  assert re.fullmatch(r"\d+\.\d+\.\d+", said)
  assert packed(monkeypatch)["version"] == said
  heading = re.search(r"^## (\S+) \((\S+)\)$", read("CHANGELOG.md"), re.M)
  newest, date = heading.groups()
  assert newest == said
  citation = read("CITATION.cff")
  assert f"\nversion: {said}\n" in citation
  assert f"\ndate-released: {date}\n" in citation


def test_requirements_have_one_source(monkeypatch):
  told = packed(monkeypatch)
  listed = re.findall(r"^\w\S+$", read("requirements.txt"), re.M)
  assert told["install_requires"] == listed and len(listed) >= 10
  # An archive without it could not be built.
  assert "requirements.txt" in read("MANIFEST.in").split()


def test_types_and_models_are_packed(monkeypatch):
  told = packed(monkeypatch)
  assert told["package_data"]["jaxvlm"] == ["py.typed", "assets/**/*"]
  assert (ROOT / "jaxvlm" / "py.typed").is_file()
  supported = [line for line in told["classifiers"] if " :: 3." in line]
  assert len(supported) == 3 and told["python_requires"] == ">=3.11,<3.14"
