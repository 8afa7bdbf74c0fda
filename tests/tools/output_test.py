"""Results as scripts read them."""

import dataclasses
import enum
import json
from typing import NamedTuple

import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver

from jaxvlm.tools import output


class Kind(enum.Enum):
  READY = "ready"


class Interval(NamedTuple):
  mean: float
  kind: Kind = Kind.READY


@dataclasses.dataclass(frozen=True)
class Verdict:
  passed: bool
  intervals: tuple[Interval, ...]


RESULT = {
  3: Verdict(True, (Interval(float("nan")),)),
  "array": np.array([[1.5, np.inf]], np.float32),
  "scalar": np.int64(7),
  "none": None,
}
PLAIN = {
  "3": {"passed": True, "intervals": [{"mean": None, "kind": "ready"}]},
  "array": [[1.5, None]],
  "scalar": 7,
  "none": None,
}


def test_whatever_a_command_finds_becomes_json():
  assert output.plain(RESULT) == PLAIN


@pytest.fixture
def flag():
  """The flag, which the tests of a command may have defined already."""
  with flagsaver.flagsaver():  # takes back what is defined inside
    known = "json" in flags.FLAGS
    yield flags.FLAGS["json"] if known else output.define_json()


@pytest.mark.parametrize("where", ["", "-", "new/result.json"])
def test_it_goes_where_the_flag_says(where, flag, tmp_path, capsys):
  place = f"{tmp_path}/{where}" if "/" in where else where
  flags.FLAGS(["x", f"--json={place}"])
  output.write(flag, RESULT)
  assert output.in_words(flag) is (where != "-")
  printed = capsys.readouterr().out
  assert (json.loads(printed) if where == "-" else printed) == (
    PLAIN if where == "-" else ""
  )
  if "/" in where:
    assert json.loads((tmp_path / where).read_text()) == PLAIN
