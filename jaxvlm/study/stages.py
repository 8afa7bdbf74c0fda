"""One trained stage of an arm, and how policies are measured on the way.

A paper calls `train` for each stage of an arm, one after the other. A stage
that was finished returns at once, and one that was cut off goes on: the loop
(`jaxvlm.train.loop`) finds in the stage's folder how far it came.
"""

import logging
import pathlib
from typing import NamedTuple

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from jaxvlm import distributed, wholefile
from jaxvlm.eval import harness
from jaxvlm.rollout import Generate, empty_samples
from jaxvlm.study import held_out
from jaxvlm.study.config import GRPOConfig, StageConfig
from jaxvlm.study.inputs import MakeInputs
from jaxvlm.study.lab import Lab
from jaxvlm.study.probing import ProbeSet
from jaxvlm.train import carry as carries
from jaxvlm.train import drift, experience, loop
from jaxvlm.train.assemble import Assembly
from jaxvlm.typing import Params, PyTree


class Stage(NamedTuple):
  """What one stage of one arm trains.

  Attributes:
    folder: below the seed's: arm/stage.
    title: what the progress bar says.
    config: settings.
    assembly: its train step, and what the step is given.
    inputs: what the steps are given of data.
    teacher: the parameters that its objective learns from, if any.
    row_ids: names the rows of a step; None where they are not planned ahead.
    first: a name for the policy that it begins with; None names none. A named
      policy is measured once in a study.
    last: a name for the policy that it ends with.
    carry: what the first step is given of completions under way.
    probes: looks at completions that the stage does not see; None: nothing.
  """

  folder: str
  title: str
  config: StageConfig
  assembly: Assembly
  inputs: MakeInputs
  teacher: Params | None = None
  row_ids: loop.RowIds | None = None
  first: str | None = None
  last: str | None = None
  carry: PyTree = ()
  probes: ProbeSet | None = None


def train(lab: Lab, stage: Stage, params: Params) -> Params:
  """Trains a stage, or what is left of it.

  Args:
    lab: what arms share.
    stage: what is trained.
    params: whole parameters, whatever part of them is trained.

  Returns:
    The whole parameters at its end.
  """
  config, settings, assembly = lab.config, stage.config, stage.assembly
  folder = lab.workdir / stage.folder
  named = {0: stage.first, settings.steps: stage.last}
  frozen = assembly.frozen(params, stage.teacher)

  def make_inputs(start: int) -> loop.Inputs:
    give = stage.inputs(start)
    return lambda step, part, carry: give(
      step, assembly.whole(part, frozen), carry
    )

  def evaluate(step: int, part: Params) -> dict[str, float]:
    whole = assembly.whole(part, frozen)
    return {
      **held_out.measure(lab, assembly, part, frozen),
      **measure(lab, folder, step, whole, lab.evaluate, named.get(step)),
    }

  watched = None
  if stage.probes is not None:
    watched = stage.probes.watch(
      lab, folder, params, lambda part: assembly.whole(part, frozen)
    )
  # Accelerators multiply float32 in a lower precision unless told otherwise.
  exact = not config.bfloat16 and jax.default_backend() == "cpu"
  measured = lab.problems.evaluation
  ranked_by = [f"eval/{p.name}/{p.task.metrics[0]}" for p in measured][:1]
  final = loop.run(
    folder,
    f"seed {lab.seed} · {stage.title}",
    assembly.state(params)._replace(carry=stage.carry),
    assembly.step,
    frozen,
    make_inputs,
    loop.Schedule(
      steps=settings.steps,
      evaluate_every=settings.evaluate_every or config.evaluation.every,
      checkpoint_every=config.checkpoint_every,
      keep=config.keep_checkpoints,
      keep_best=config.keep_best,
    ),
    identity=lab.identity,
    evaluate=evaluate,
    drift_bounds=drift.FLOAT32 if exact else drift.LOW_PRECISION,
    row_ids=stage.row_ids,
    score=lambda record: next(map(record.get, ranked_by), None),
    probes=watched,
    watching=settings.watching,
    board=lab.board,
  )
  return assembly.whole(final.trainable, frozen)


def begin_carry(lab: Lab, stage: GRPOConfig) -> PyTree:
  """Returns the completions under way before the first step of GRPO."""
  if not stage.carry:
    return ()
  unfinished = empty_samples(
    (stage.carry, stage.group), lab.config.data.max_new_tokens
  )
  return on_all_devices(lab, carries.begin(unfinished))


def on_all_devices(lab: Lab, carry: PyTree) -> PyTree:
  """Returns a carry that lies as parameters do, so that a restored one does."""
  whole = NamedSharding(lab.mesh, PartitionSpec())
  return jax.device_put(carry, whole)


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
    lab: problems and keys.
    folder: of the stage.
    step: of the stage.
    params: the policy.
    generate: sampler of the policy's architecture.
    policy: a name for a policy that ends one stage and starts another; it is
      measured once.
    show_progress: show a bar.

  Returns:
    Means over problems, for the journal.
  """
  results = lab.evaluated.get(policy) if policy else None
  if results is None:
    results = [
      harness.evaluate(
        problems,
        experience.everywhere(generate, lab.mesh),
        params,
        lab.evaluation_key,
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
      with wholefile.writing(path) as file:
        np.savez(file, **result.to_arrays())
    for name, value in result.summary().items():
      out[f"eval/{result.name}/{name}"] = value
  return out


def measure_beside(
  lab: Lab, name: str, params: Params, generate: Generate
) -> None:
  """Measures what no arm trains, such as a teacher, once."""
  folder = lab.workdir / name
  sets = [problems.name for problems in lab.problems.evaluation]
  found = [(folder / "eval" / f"{s}-00000.npz").is_file() for s in sets]
  if distributed.from_writer(all(found)):
    return
  scores = measure(
    lab, folder, 0, params, generate, show_progress=distributed.is_writer()
  )
  for problems in lab.problems.evaluation:
    headline = problems.task.metrics[0]
    logging.info(
      "%s, %s: %s %.3f, entropy %.3f nats",
      name,
      problems.name,
      headline,
      scores[f"eval/{problems.name}/{headline}"],
      scores[f"eval/{problems.name}/entropy"],
    )
