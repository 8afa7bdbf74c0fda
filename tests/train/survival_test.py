"""Killed at any instant and started again, a run ends as if nothing had been.

Parameters, optimizer state, guard, carry, log and the list of skipped batches
are compared to the bit; every step is saved, so that kills hit saves too.
"""

import pathlib
import random

import pytest

from tests.train import runs

# One batch that the guard refuses, so that its history has to survive as well.
OPTIONS = {"save": 1, "bad": [3]}


@pytest.fixture(scope="module")
def nursery(tmp_path_factory):
  nursery = runs.Nursery(tmp_path_factory.mktemp("cache"))
  yield nursery
  nursery.close()


def outcome(reply: dict, folder: pathlib.Path):
  """Returns all that must be equal to the bit."""
  assert reply["codes"] == [0], reply["outputs"]
  digest = reply["outputs"][0].split("digest ")[1].strip()
  return digest, runs.records(folder), (folder / "skipped.jsonl").read_text()


def check(nursery, tmp_path, kind: str, kills: int, seed: int) -> None:
  rng = random.Random(seed)
  expected = outcome(
    nursery(kind, tmp_path / "undisturbed", **OPTIONS), tmp_path / "undisturbed"
  )
  assert '"step": 4' in expected[2] and "3-0" in expected[2]
  done, trial, window = 0, 0, 2.0
  while done < kills:
    folder = tmp_path / f"killed-{trial}"
    # Killed up to three times before it may end.
    for _ in range(min(3, kills - done)):
      reply = nursery(kind, folder, kill_s=rng.uniform(0, window), **OPTIONS)
      if reply["codes"] != [-9]:
        window *= 0.7  # it was faster than that
        break
      done += 1
    assert outcome(nursery(kind, folder, **OPTIONS), folder) == expected
    trial += 1


# All kinds, and more often, in the slow suite; GRPO has all that must survive.
@pytest.mark.parametrize("kind", ["grpo"])
def test_killed_at_random_instants(nursery, tmp_path, kind):
  check(nursery, tmp_path, kind, 1, seed=runs.KINDS.index(kind))


@pytest.mark.slow
@pytest.mark.parametrize("kind", runs.KINDS)
def test_killed_at_many_random_instants(nursery, tmp_path, kind):
  check(nursery, tmp_path, kind, 25, seed=10 + runs.KINDS.index(kind))
