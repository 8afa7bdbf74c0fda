"""The stages of one arm, from the base to the endpoint of GRPO."""

import json
import logging
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from jaxvlm import distributed
from jaxvlm.eval import harness
from jaxvlm.rollout import Generate, empty_samples
from jaxvlm.study import inputs, showcase
from jaxvlm.study.config import StageConfig, StudyConfig
from jaxvlm.study.lab import Draws, Lab
from jaxvlm.study.programs import compute_type
from jaxvlm.train import carry as carries
from jaxvlm.train import drift, experience, freeze, loop
from jaxvlm.train.optimizer import make_optimizer, master_params
from jaxvlm.train.step import init_state
from jaxvlm.typing import Params, PyTree


def measure(
  lab: Lab,
  folder: pathlib.Path,
  step: int,
  params: Params,
  generate: Generate,
  policy: str | None = None,
  *,
  show_progress: bool = False,
) -> dict[str, float]:
  """Evaluates a policy on every problem set and files the arrays.

  Args:
    lab: problems and seed.
    folder: of the stage.
    step: of the stage.
    params: the policy.
    generate: sampler of the policy's architecture.
    policy: a name for a policy that ends one stage and starts another; it is
      measured once.
    show_progress: show a bar.
  """
  results = lab.evaluated.get(policy) if policy else None
  if results is None:
    results = [
      harness.evaluate(
        problems,
        experience.everywhere(generate, lab.mesh),
        params,
        lab.key(Draws.EVALUATION),
        decode=lab.problems.chat.decode,
        show_progress=show_progress,
      )
      for problems in lab.problems.evaluation
    ]
  if policy:
    lab.evaluated[policy] = results
  out = {}
  for result in results:
    if distributed.is_writer():
      path = folder / "eval" / f"{result.name}-{step:05d}.npz"
      path.parent.mkdir(parents=True, exist_ok=True)
      partial = path.with_suffix(".partial")
      with partial.open("wb") as file:
        np.savez(file, **result.to_arrays())
      partial.replace(path)
    for name, value in result.summary().items():
      out[f"eval/{result.name}/{name}"] = value
  return out


def run_arm(lab: Lab, arm: str, base: Params) -> None:
  """Runs Stage 1 (if the arm has one) and Stage 2."""
  folder = lab.workdir / arm
  entry = base if arm == "base" else stage1(lab, arm, base, folder / "stage1")
  endpoint = stage2(lab, arm, entry, folder / "grpo")
  samples, end = folder / "grpo" / "samples.json", lab.study.grpo.steps
  if distributed.from_writer(_shown(samples, end)):
    return
  shown = [
    problem | {"endpoint_step": end}
    for problem in showcase.show(lab, {"entry": entry, "endpoint": endpoint})
  ]
  if distributed.is_writer():
    partial = samples.with_suffix(".partial")
    partial.write_text(json.dumps(shown))
    partial.replace(samples)  # a kill leaves no half of it


def _shown(samples: pathlib.Path, end: int) -> bool:
  """Returns whether completions of this endpoint are there, not an older's."""
  if not samples.is_file():
    return False
  return all(
    p.get("endpoint_step") == end for p in json.loads(samples.read_text())
  )


def stage1(lab: Lab, arm: str, base: Params, folder: pathlib.Path) -> Params:
  """Returns the warm start of an arm."""
  stage: StageConfig = getattr(lab.study, arm)
  on_policy = arm == "opd"
  survey = lab.problems.prompts if on_policy else lab.problems.traces
  source = lab.source(survey, stage, Draws.STAGE1)
  return _run(
    lab,
    f"{arm} · stage 1",
    folder,
    base,
    stage,
    lab.programs.steps[arm],
    {"teacher": lab.teacher} if on_policy else None,
    inputs.on_policy(lab, source)
    if on_policy
    else inputs.supervised(lab, source),
    source.row_ids,
    ends=("base", arm),
  )


def stage2(lab: Lab, arm: str, entry: Params, folder: pathlib.Path) -> Params:
  """Returns the endpoint of GRPO from a warm start."""
  stage = lab.study.grpo
  source = lab.source(lab.problems.prompts, stage, Draws.GRPO, stage.carry)
  carry = ()
  if stage.carry:
    shape = (stage.carry, stage.group)
    unfinished = empty_samples(shape, lab.study.data.max_new_tokens)
    # A restored state lies where this one does: on all devices, as parameters.
    whole = NamedSharding(lab.mesh, PartitionSpec())
    carry = jax.device_put(carries.begin(unfinished), whole)
  return _run(
    lab,
    f"{arm} · GRPO",
    folder,
    entry,
    stage,
    lab.programs.steps["grpo"],
    {"reference": _reference(lab.study, entry)} if stage.kl_coef else None,
    inputs.reinforced(lab, source),
    # With a carry, the rows of a step are what was complete, not the plan's.
    None if stage.carry else source.row_ids,
    ends=(arm, None),
    carry=carry,
  )


def _reference(study: StudyConfig, entry: Params) -> Params:
  """Returns the policy that enters RL, as far as RL trains it.

  From this one the KL term counts. With adapters it has those of Stage 1:
  their bare base would pull every arm back over its warm start.
  """
  if study.frozen:
    entry, _ = freeze.split_params(entry, study.frozen)
  return freeze.stored_as(entry, compute_type(study))


def _run(
  lab: Lab,
  name: str,
  folder: pathlib.Path,
  params: Params,
  stage: StageConfig,
  step: Callable,
  frozen: Any,
  make_inputs: Callable[[int], loop.Inputs],
  row_ids: loop.RowIds | None,
  *,
  ends: tuple[str | None, str | None],
  carry: PyTree = (),
) -> Params:
  """Trains one stage; `ends` name its first and last policy.

  Takes and returns whole parameters, whatever part of them is trained.
  """
  named = {0: ends[0], stage.steps: ends[1]}
  best = f"eval/in_domain/{lab.problems.task.metrics[0]}"
  rest: Params = {}
  if lab.study.frozen:
    params, rest = freeze.split_params(params, lab.study.frozen)
    rest = freeze.stored_as(rest, compute_type(lab.study))
    frozen = {**(frozen or {}), "base": rest}

  def make_whole_inputs(start: int) -> loop.Inputs:
    give = make_inputs(start)
    return lambda step, part, carry: give(
      step, freeze.merge_params(part, rest), carry
    )

  # Accelerators multiply float32 in a lower precision unless told otherwise.
  exact = not lab.study.bfloat16 and jax.default_backend() == "cpu"
  final = loop.run(
    folder,
    f"seed {lab.seed} · {name}",
    init_state(
      master_params(stage.optimizer, params),
      make_optimizer(stage.optimizer),
      rules=lab.programs.rules,
    )._replace(carry=carry),
    step,
    frozen,
    make_whole_inputs,
    loop.Schedule(
      steps=stage.steps,
      evaluate_every=stage.evaluate_every or lab.study.evaluation.every,
      checkpoint_every=lab.study.checkpoint_every,
      keep=lab.study.keep_checkpoints,
      keep_best=lab.study.keep_best,
    ),
    identity=lab.identity,
    evaluate=lambda step, part: measure(
      lab,
      folder,
      step,
      freeze.merge_params(part, rest),
      lab.programs.evaluate,
      named.get(step),
    ),
    drift_bounds=drift.FLOAT32 if exact else drift.LOW_PRECISION,
    row_ids=row_ids,
    score=lambda record: record.get(best),
  )
  return freeze.merge_params(final.trainable, rest)


def measure_teacher(lab: Lab) -> None:
  """Scores the teacher once, beside the arms."""
  folder = lab.workdir / "teacher"
  names = [problems.name for problems in lab.problems.evaluation]
  found = [(folder / "eval" / f"{n}-00000.npz").is_file() for n in names]
  if distributed.from_writer(all(found)):
    return
  scores = measure(
    lab,
    folder,
    0,
    lab.teacher,
    lab.programs.evaluate_teacher,
    show_progress=distributed.is_writer(),
  )
  for name in names:
    logging.info(
      "teacher, %s: accuracy %.1f %%, entropy %.3f nats",
      name,
      100 * scores[f"eval/{name}/accuracy"],
      scores[f"eval/{name}/entropy"],
    )
