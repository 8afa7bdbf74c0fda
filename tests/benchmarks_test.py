"""Measurements are run by hand, so that what they import is looked at here."""

import importlib
import pathlib

import pytest

FOLDER = pathlib.Path(__file__).parents[1] / "benchmarks"


@pytest.mark.parametrize("name", sorted(p.stem for p in FOLDER.glob("*.py")))
def test_a_measurement_finds_all_that_it_imports(name):
  pytest.importorskip("torch", reason="measures beside torch: install .[test]")
  importlib.import_module(f"benchmarks.{name}")
