"""On-policy distillation."""

from jaxvlm import losses, metrics
from jaxvlm.rollout import statistics
from jaxvlm.train import drift
from jaxvlm.train.objectives.inputs import (
  Counts,
  Experience,
  batch_of,
  frozen_params,
  policy_metrics,
)
from jaxvlm.train.step import Objective
from jaxvlm.typing import Batch, Model, Params, PyTree


def opd(
  model: Model, teacher: Model, *, vocab_size: int, temperature: float = 1.0
) -> Objective:
  """Returns on-policy distillation by exact reverse KL.

  The completions are the student's own samples; `frozen["teacher"]` holds the
  teacher's parameters. The sampled estimate of the same divergence is logged
  beside the exact one; with an `Experience`, how far the sampler's
  log-probabilities are from the trainer's.
  """

  def objective(
    params: Params, frozen: PyTree, inputs: Batch | Experience, total: Counts
  ):
    batch = batch_of(inputs)
    taught = frozen_params(frozen, "teacher", "opd")
    stats = statistics(
      model,
      params,
      batch,
      vocab_size=vocab_size,
      temperature=temperature,
      teacher=(teacher, taught),
    )
    loss, out = losses.opd_loss(
      stats.reverse_kl, batch.mask, normalizer=total.tokens
    )
    sampled = stats.logprobs - stats.teacher_logprobs
    out = {
      **out,
      "policy/kl_teacher_sampled": metrics.masked_mean(sampled, batch.mask),
      **policy_metrics(stats, batch),
    }
    if isinstance(inputs, Experience):
      out |= drift.figures(stats.logprobs, inputs.old_logprobs, inputs.current)
    return loss, out

  return objective
