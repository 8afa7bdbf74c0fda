"""Rows that are held out: the objective's own metrics, nothing learned."""

from collections.abc import Iterator

import jax
import numpy as np

from jaxvlm import metrics
from jaxvlm.data import rows as rows_lib
from jaxvlm.data.rows import Row, Survey
from jaxvlm.sharding import shard_batch
from jaxvlm.study.lab import Lab
from jaxvlm.train import experience
from jaxvlm.train.assemble import Assembly
from jaxvlm.typing import Batch, Params, PyTree


def measure(
  lab: Lab, assembly: Assembly, trained: Params, frozen: PyTree
) -> dict[str, float]:
  """Returns what the objective logs, of every held-out row once.

  Args:
    lab: the rows.
    assembly: the stage, whose objective reads batches of responses.
    trained: its trained part.
    frozen: its frozen trees.
  """
  out = {}
  for name, survey in lab.problems.held_out.items():
    found: metrics.Metrics = {}
    for batch in _batches(lab, survey):
      part = jax.device_get(assembly.measure(trained, frozen, batch))
      found = metrics.add(found, part)
    out |= {
      f"eval/{name}/{key}": float(value)
      for key, value in metrics.values(found).items()
    }
  return out


def _batches(lab: Lab, survey: Survey) -> Iterator[Batch]:
  """Yields every row once; what fills the last batch of a bucket is masked."""
  size, encoder = lab.config.evaluation.prompts, lab.problems.encoder
  places = experience.places(size, lab.mesh)
  for number, bucket in enumerate(encoder.buckets):
    members = np.flatnonzero(survey.buckets == number)
    for start in range(0, len(members), size):
      chosen = members[start : start + size]
      filled = np.resize(chosen, size)[places]
      host = rows_lib.make_batch(
        [survey.row(i) for i in filled], _no_spare, bucket, encoder
      )
      counts = (places < len(chosen))[:, None, None]
      batch = host.batch._replace(mask=host.batch.mask & counts)
      yield shard_batch(lab.mesh, batch)


def _no_spare(_: int) -> Row:
  raise ValueError(
    "a held-out row could not be read again; what is measured must not change:"
    " check the data folder"
  )
