"""Lower bounds become versions, one for each requirement."""

import pathlib
import runpy

ROOT = pathlib.Path(__file__).parents[2]


def test_every_requirement_has_a_lowest_version():
  script = runpy.run_path(str(ROOT / "scripts" / "versions.py"))
  found = list(script["lowest"]())
  lines = (ROOT / "requirements.txt").read_text().splitlines()
  asked = [line for line in lines if line and not line.startswith("#")]
  assert found == [line.replace(">=", "==") for line in asked]
