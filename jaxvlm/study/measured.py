"""measured.npz: what a study's runs measured, small enough to be committed.

Evaluations hold every token, and checkpoints every parameter; a report needs a
number for each problem and metric. They stand here for all runs, with what the
steps logged, so that a page can be written and a study be continued where
nothing but this file and config.json has survived.
"""

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxvlm import wholefile
from jaxvlm.study.design import Point
from jaxvlm.study.results import Results, Scores

FILE = "measured.npz"
# Beginnings of logged names that no report reads: how long things took, and
# the evaluations, which stand here problem by problem.
_NOT_KEPT = ("time/", "guard/", "batch/", "eval/")

# problem set -> point -> seed -> scores
_Scores = dict[str, dict[Point, dict[int, Scores]]]
# (arm, stage) -> seed -> records
_Journals = dict[tuple[str, str], dict[int, list[dict[str, Any]]]]


@dataclasses.dataclass(frozen=True)
class Measured:
  """What the file holds.

  Attributes:
    scores: problem set -> point -> seed -> scores.
    journals: (arm, stage) -> seed -> records.
  """

  scores: _Scores = dataclasses.field(default_factory=dict)
  journals: _Journals = dataclasses.field(default_factory=dict)

  @property
  def seeds(self) -> set[int]:
    """Seeds of which anything was measured."""
    by_seed = (of for points in self.scores.values() for of in points.values())
    return {seed for of in by_seed for seed in of}

  def finished(self, arm: str, seed: int, stage: str, step: int) -> bool:
    """Returns whether a run was measured after the step of a stage.

    On every problem set that any run was measured on at this step.
    """
    asked = [
      points
      for points in self.scores.values()
      if any((p.stage, p.step) == (stage, step) for p in points)
    ]
    point = Point(arm, stage, step)
    return bool(asked) and all(seed in of.get(point, {}) for of in asked)


def write(workdir: pathlib.Path, results: Results) -> pathlib.Path:
  """Writes all scores of the results, and what their steps logged.

  Numbers are rounded to float32.

  Args:
    workdir: the study's folder.
    results: what was measured (`read.load`).

  Returns:
    The path of the file.
  """
  arrays = _tables(results.scores) | _logged(results.journals)
  path = workdir / FILE
  with wholefile.writing(path) as file:
    np.savez_compressed(file, **arrays)
  return path


def read(workdir: pathlib.Path) -> Measured:
  """Returns what the file of a study's folder holds; nothing without a file.

  Raises:
    ValueError: the file cannot be read; names it.
  """
  path = workdir / FILE
  if not path.is_file():
    return Measured()
  try:
    with np.load(path, allow_pickle=False) as file:
      arrays = dict(file)
    return Measured(_scores(arrays), _journals(arrays))
  except Exception as error:
    raise ValueError(
      f"{path} cannot be read ({error}), expected what a report wrote: take it"
      " from the repository again, or delete it"
    ) from error


def _tables(
  scores: Mapping[str, Mapping[Point, Mapping[int, Scores]]],
) -> dict[str, np.ndarray]:
  """Returns arrays: for each problem set its rows, and f32[R, P] by metric."""
  out = {}
  for name, points in scores.items():
    rows = [
      (point, seed, of)
      for point, by_seed in sorted(points.items())
      for seed, of in sorted(by_seed.items())
    ]
    if not rows:
      continue
    out[f"rows/{name}"] = np.array([[*map(str, p), str(s)] for p, s, _ in rows])
    missing = np.full(len(next(iter(rows[0][2].values()))), np.nan)
    for metric in sorted({metric for *_, of in rows for metric in of}):
      found = [of.get(metric, missing) for *_, of in rows]
      out[f"scores/{name}/{metric}"] = np.array(found, np.float32)
  return out


def _scores(arrays: Mapping[str, np.ndarray]) -> _Scores:
  out: _Scores = {}
  for name, rows in _below("rows/", arrays).items():
    tables = _below(f"scores/{name}/", arrays)
    for i, (arm, stage, step, seed) in enumerate(rows.tolist()):
      found = {
        metric: table[i].astype(np.float64)
        for metric, table in tables.items()
        if not np.isnan(table[i]).all()
      }
      point = Point(arm, stage, int(step))
      out.setdefault(name, {}).setdefault(point, {})[int(seed)] = found
  return out


def _logged(
  journals: Mapping[tuple[str, str], Mapping[int, list[dict[str, Any]]]],
) -> dict[str, np.ndarray]:
  """Returns arrays: the logged rows, and f32[rows, keys] of all of them."""
  rows = [
    ((arm, stage, str(record["step"]), str(seed)), record)
    for (arm, stage), by_seed in sorted(journals.items())
    for seed, records in sorted(by_seed.items())
    for record in records
  ]
  keys = sorted(
    {
      key
      for _, record in rows
      for key, value in record.items()
      if key != "step"
      and not key.startswith(_NOT_KEPT)
      and isinstance(value, int | float)
    }
  )
  if not keys:
    return {}
  values = [[record.get(key, np.nan) for key in keys] for _, record in rows]
  return {
    "logged": np.array([where for where, _ in rows]),
    "logged_keys": np.array(keys),
    "logged_values": np.array(values, np.float32),
  }


def _journals(arrays: Mapping[str, np.ndarray]) -> _Journals:
  out: _Journals = {}
  if "logged" not in arrays:
    return out
  keys = arrays["logged_keys"].tolist()
  values = arrays["logged_values"].astype(np.float64)
  for where, of in zip(arrays["logged"].tolist(), values, strict=True):
    arm, stage, step, seed = where
    known = zip(keys, of.tolist(), strict=True)
    record = {key: value for key, value in known if value == value}  # no NaN
    by_seed = out.setdefault((arm, stage), {})
    by_seed.setdefault(int(seed), []).append({"step": int(step), **record})
  return out


def _below(prefix: str, arrays: Mapping[str, np.ndarray]):
  """Returns the arrays whose names begin so, by the rest of their names."""
  return {
    name.removeprefix(prefix): array
    for name, array in arrays.items()
    if name.startswith(prefix)
  }
