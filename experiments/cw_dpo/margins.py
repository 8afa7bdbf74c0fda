"""Which part of a pair's gradient is the winner's: measured at a policy.

The gradients of both log-probabilities are measured once; what a loss makes of
them (`diagnostics.preference.split`) is arithmetic, done by the report.
"""

import pathlib
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from experiments.cw_dpo.config import PreferenceConfig
from jaxvlm import distributed, losses, wholefile
from jaxvlm.diagnostics import preference
from jaxvlm.diagnostics.preference import Binned
from jaxvlm.rollout import statistics
from jaxvlm.train.step import split
from jaxvlm.typing import Batch, Model, Params

# Of the preference a; the last three are the paper's "vulnerable region".
EDGES = (0.0, 0.2, 0.4, 0.6, 0.8, 0.9, 0.99, 1.0)
# (policy, reference, pairs) -> arrays
Measure = Callable[[Params, Params, Batch], dict[str, jax.Array]]


def make_measure(model: Model, *, vocab_size: int) -> Measure:
  """Returns a jitted function that measures pairs at a policy.

  It returns f32[N]: `chosen`, `rejected` (Σ log π), the same of the reference
  with `ref_`, `rejected_mean` (l̄), and the norms `grad_chosen` and
  `grad_rejected` of ∇ log π with their `cosine`.
  """

  def sums(params: Params, batch: Batch):
    stats = statistics(model, params, batch, vocab_size=vocab_size)
    return losses.sequence_logprobs(stats.logprobs, batch.mask)

  @jax.jit
  def measure(params: Params, reference: Params, batch: Batch):
    own, mean = sums(params, batch)
    before, _ = sums(reference, batch)
    found = preference.pair_gradients(
      lambda p, pair: sums(p, pair)[0][0], params, split(batch, len(own))
    )
    return {
      "chosen": own[:, 0],
      "rejected": own[:, 1],
      "ref_chosen": before[:, 0],
      "ref_rejected": before[:, 1],
      "rejected_mean": mean[:, 1],
      "grad_chosen": found.chosen,
      "grad_rejected": found.rejected,
      "cosine": found.cosine,
    }

  return measure


def write(path: pathlib.Path, make: Callable[[], dict[str, Any]]) -> None:
  """Files the arrays that `make` gives, unless they are there."""
  if distributed.from_writer(path.is_file()):
    return
  arrays = jax.device_get(make())
  if distributed.is_writer():
    with wholefile.writing(path) as file:
      np.savez(file, **arrays)


def binned(
  arrays: dict[str, np.ndarray], stage: PreferenceConfig, *, cooled: bool
) -> Binned:
  """Returns the mean parts of DPO's or CW-DPO's gradient by the margin."""
  policy = arrays["chosen"], arrays["rejected"]
  reference = arrays["ref_chosen"], arrays["ref_rejected"]
  gradients = preference.PairGradients(
    arrays["grad_chosen"], arrays["grad_rejected"], arrays["cosine"]
  )

  def loss(chosen, rejected):
    common = {"beta": stage.beta, "normalizer": 1.0}
    if not cooled:
      return losses.dpo_loss(chosen, rejected, *reference, **common)[0]
    return losses.cw_dpo_loss(
      chosen,
      rejected,
      *reference,
      arrays["rejected_mean"],
      floor=stage.floor,
      tau=stage.tau,
      **common,
    )[0]

  won, lost = (p - r for p, r in zip(policy, reference, strict=True))
  a = jax.nn.sigmoid(stage.beta * (won - lost))
  parts = preference.split(loss, *policy, gradients)
  return preference.by_margin(a, parts, np.array(EDGES, np.float32))
