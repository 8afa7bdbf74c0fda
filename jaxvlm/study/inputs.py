"""What a step of each kind of stage is given: first step -> `loop.Inputs`."""

import functools

import jax

from jaxvlm.data import pipeline
from jaxvlm.sharding import shard_batch
from jaxvlm.study.lab import Draws, Lab
from jaxvlm.train import carry as carries
from jaxvlm.train import experience, loop, objectives
from jaxvlm.typing import Batch


def supervised(lab: Lab, source: pipeline.BatchSource):
  def make_inputs(start: int) -> loop.Inputs:
    stream = lab.stream(source, start)

    def inputs(step, params, carry):
      batch = next(stream).batch
      count = experience.count_tokens(batch)
      return batch, carry, {"batch/tokens": count}

    return inputs

  return make_inputs


def on_policy(lab: Lab, source: pipeline.BatchSource):
  """Inputs of OPD: the student's own completions."""
  generate, key = lab.programs.rollouts["opd"], lab.key(Draws.STAGE1)

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


def reinforced(lab: Lab, source: pipeline.BatchSource):
  """Inputs of GRPO: graded groups of the policy's completions."""
  stage = lab.study.grpo
  decode = lab.problems.chat.decode
  drawing = _carried if stage.carry else _in_one_go

  def make_inputs(start: int) -> loop.Inputs:
    draw = drawing(lab, source, start)

    def inputs(step, params, carry):
      host, batch, samples, drawn, carry, logged = draw(step, params, carry)
      graded = experience.grade(
        samples,
        host,
        decode=decode,
        task=lab.problems.task,
        mesh=lab.mesh,
      )
      data, metrics = experience.group_experience(
        batch,
        samples,
        graded["reward"],
        normalize_std=stage.normalize_std,
        mesh=lab.mesh,
      )
      metrics = {
        **metrics,
        **{
          f"reward/{name}": float(values.mean())
          for name, values in graded.items()
          if name != "reward"  # its mean is among `metrics`
        },
        **logged,
      }
      if stage.minibatches > 1:
        drawn = experience.drawn_by_the_first(
          batch.mask if drawn is None else drawn, stage.minibatches
        )
      return data._replace(drawn=drawn), carry, metrics

    return inputs

  return make_inputs


def _in_one_go(lab: Lab, source: pipeline.BatchSource, start: int):
  """Completions that begin and end within their step."""
  stream = lab.stream(source, start)
  generate, key = lab.programs.rollouts["grpo"], lab.key(Draws.GRPO)

  def draw(step, params, carry):
    host, at = next(stream), jax.random.fold_in(key, step)
    batch, samples = experience.sample(generate, params, host, at, lab.mesh)
    logged = experience.rollout_metrics(samples)
    return host, batch, samples, None, carry, logged

  return draw


def _carried(lab: Lab, source: pipeline.BatchSource, start: int):
  """Completions of which the longest go on in the next step."""
  refill, key = lab.programs.rollouts["grpo"], lab.key(Draws.GRPO)
  load = functools.lru_cache(8)(source.__getitem__)

  def draw(step, params, carry):
    out = carries.roll_out(refill, params, load, carry, step, key)
    shown = shard_batch(lab.mesh, out.host.batch.prompts)
    batch = Batch(shown, out.samples.tokens, out.samples.mask)
    logged = experience.rollout_metrics(out.samples, out.tokens)
    return out.host, batch, out.samples, out.drawn, out.carry, logged

  return draw
