"""What a step of each kind of stage is given: first step -> `loop.Inputs`.

Supervised stages read batches as they are; pairs (DPO) are rows with two
responses, chosen and rejected, and come by the same way.
"""

import functools
import time
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxvlm.data import pipeline
from jaxvlm.data.rows import HostBatch
from jaxvlm.rollout import Generate, Score
from jaxvlm.sampling import Samples
from jaxvlm.sharding import shard_batch
from jaxvlm.study.config import GRPOConfig
from jaxvlm.study.lab import Lab
from jaxvlm.tasks import Task
from jaxvlm.train import carry as carries
from jaxvlm.train import experience, loop, objectives, pairing
from jaxvlm.typing import Batch, PyTree

MakeInputs = Callable[[int], loop.Inputs]
# first step -> batches
Stream = Callable[[int], Iterator[HostBatch]]


def supervised(stream: Stream) -> MakeInputs:
  """Inputs of SFT and of DPO: rows with responses."""

  def make_inputs(start: int) -> loop.Inputs:
    batches = stream(start)

    def inputs(step, params, carry):
      host = next(batches)
      count = experience.count_tokens(host.batch)
      logged = {"batch/tokens": count, **pairing.shares(host.rows)}
      return host.batch, carry, logged

    return inputs

  return make_inputs


def paired(
  lab: Lab,
  source: pipeline.BatchSource,
  generate: Generate,
  key: jax.Array,
  *,
  fraction: float,
  task: Task | None = None,
) -> MakeInputs:
  """Inputs of pairs: negatives sampled from the policy, and those of rows.

  Args:
    lab: mesh and tokenizer.
    source: rows with a chosen response, and for a mixture a rejected one.
    generate: samples of the policy; of several a step takes the first that may
      be a negative (`train.pairing.pair`).
    key: of the stage.
    fraction: share of rows whose negative is sampled, drawn anew every step.
    task: takes only what it finds worse than the chosen text; None takes all.

  Raises:
    ValueError: a share outside [0, 1].
  """
  if not 0 <= fraction <= 1:
    raise ValueError(
      f"the fraction of sampled negatives is {fraction}, expected 0 to 1"
    )

  def make_inputs(start: int) -> loop.Inputs:
    stream = lab.stream(source, start)

    def inputs(step, params, carry):
      host, at = next(stream), jax.random.fold_in(key, step)
      _, samples = experience.sample(generate, params, host, at, lab.mesh)
      count = len(host.batch.prompts.tokens)
      # Another key than the samples', which fold in a prompt's number.
      draws = jax.random.uniform(jax.random.fold_in(at, count), (count,))
      batch, shares = pairing.pair(
        host,
        samples,
        jax.device_get(draws) < fraction,
        decode=lab.problems.chat.decode,
        task=task,
        mesh=lab.mesh,
      )
      logged = experience.rollout_metrics(samples)
      logged["batch/tokens"] = experience.count_tokens(batch)
      return batch, carry, logged | shares

    return inputs

  return make_inputs


def constrained(
  lab: Lab,
  source: pipeline.BatchSource,
  score: Score,
  *,
  floor: float,
  rate: float,
) -> MakeInputs:
  """Inputs of SFT under a hard constraint: pairs, and λ after dual ascent.

  λ is what a run carries from step to step; it begins at 0.

  Args:
    lab: mesh.
    source: rows with a chosen and a rejected response.
    score: statistics of completions under the policy.
    floor: C, the mean NLL that negatives must keep, nats per token.
    rate: ρ of the ascent.
  """

  def make_inputs(start: int) -> loop.Inputs:
    batches = lab.stream(source, start)

    def inputs(step, params, carry):
      host = next(batches)
      negatives = host.batch._replace(
        tokens=host.batch.tokens[:, 1:], mask=host.batch.mask[:, 1:]
      )
      stats, mask = score(params, negatives), negatives.mask
      total = jnp.sum(jnp.where(mask, stats.logprobs, 0.0))
      nll = -total / jnp.maximum(jnp.sum(mask), 1)
      carry = objectives.ascend(carry, nll, floor=floor, rate=rate)
      count = experience.count_tokens(host.batch)
      logged = {"batch/tokens": count, **pairing.shares(host.rows)}
      # The step is given its state, and λ in it, to keep: inputs need a copy.
      return objectives.Multiplied(host.batch, carry.copy()), carry, logged

    return inputs

  return make_inputs


def on_policy(
  lab: Lab, source: pipeline.BatchSource, generate: Generate, key: jax.Array
) -> MakeInputs:
  """Inputs of OPD: the student's own completions."""

  def make_inputs(start: int) -> loop.Inputs:
    stream = lab.stream(source, start)

    def inputs(step, params, carry):
      at = jax.random.fold_in(key, step)
      batch, samples = experience.sample(
        generate, params, next(stream), at, lab.mesh
      )
      data = objectives.Experience(batch, samples.logprobs)
      return data, carry, experience.rollout_metrics(samples)

    return inputs

  return make_inputs


class Drawn(NamedTuple):
  """Completions of one step, before they are graded.

  Attributes:
    host: prompts and their rows.
    batch: prompts and completions on the devices.
    samples: the completions with their statistics.
    current: bool[N, G, T] tokens of the policy at hand; None: all.
    carry: for the next step.
    metrics: to log.
  """

  host: HostBatch
  batch: Batch
  samples: Samples
  current: jax.Array | None
  carry: PyTree
  metrics: Mapping[str, float]


def reinforced(
  lab: Lab,
  source: pipeline.BatchSource,
  stage: GRPOConfig,
  generate: Generate,
  key: jax.Array,
) -> MakeInputs:
  """Inputs of GRPO: graded groups of the policy's completions."""
  decode = lab.problems.chat.decode
  drawing = _carried if stage.carry else _in_one_go

  def make_inputs(start: int) -> loop.Inputs:
    draw = drawing(lab, source, generate, key, start)

    def inputs(step, params, carry):
      drawn = draw(step, params, carry)
      began = time.perf_counter()
      graded = experience.grade(
        drawn.samples,
        drawn.host,
        decode=decode,
        task=lab.problems.task,
        mesh=lab.mesh,
      )
      grading = time.perf_counter() - began
      data, metrics = experience.group_experience(
        drawn.batch,
        drawn.samples,
        graded["reward"],
        normalize_std=stage.normalize_std,
        drop_degenerate=stage.drop_degenerate,
        mask_overlong=stage.mask_overlong,
        mesh=lab.mesh,
      )
      metrics = {
        **metrics,
        **{
          f"reward/{name}": float(values.mean())
          for name, values in graded.items()
          if name != "reward"  # its mean is among `metrics`
        },
        **drawn.metrics,
        "time/grade_s": grading,
      }
      current = drawn.current
      if stage.minibatches > 1:
        current = experience.drawn_by_the_first(
          drawn.batch.mask if current is None else current, stage.minibatches
        )
      return data._replace(drawn=current), drawn.carry, metrics

    return inputs

  return make_inputs


def _in_one_go(lab, source, generate, key, start):
  """Completions that begin and end within their step."""
  stream = lab.stream(source, start)

  def draw(step, params, carry) -> Drawn:
    host, at = next(stream), jax.random.fold_in(key, step)
    batch, samples = experience.sample(generate, params, host, at, lab.mesh)
    logged = experience.rollout_metrics(samples)
    return Drawn(host, batch, samples, None, carry, logged)

  return draw


def _carried(lab, source, refill, key, start):
  """Completions of which the longest go on in the next step."""
  load = functools.lru_cache(8)(source.__getitem__)

  def draw(step, params, carry) -> Drawn:
    out = carries.roll_out(refill, params, load, carry, step, key)
    shown = shard_batch(lab.mesh, out.host.batch.prompts)
    batch = Batch(shown, out.samples.tokens, out.samples.mask)
    logged = experience.rollout_metrics(out.samples, out.tokens)
    return Drawn(out.host, batch, out.samples, out.drawn, out.carry, logged)

  return draw
